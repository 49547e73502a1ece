/** The time of day as a signal, so that relative times stay true without a timer each. */
import { signal } from '@preact/signals'

/** now is the time in seconds; it moves every five seconds while the tab is shown. */
export const now = signal(Date.now() / 1000)

/** second is the time in seconds; it moves every second while the tab is shown. For countdowns. */
export const second = signal(Math.floor(Date.now() / 1000))

let n = 0
setInterval(() => {
  if (document.visibilityState !== 'visible') return
  second.value = Math.floor(Date.now() / 1000)
  if (n++ % 5 === 0) now.value = Date.now() / 1000
}, 1000)
