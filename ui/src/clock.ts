/** The time of day as a signal, so that relative times stay true without a timer each. */
import { signal } from '@preact/signals'

/** now is the time in seconds; it moves every five seconds while the tab is shown. */
export const now = signal(Date.now() / 1000)

/** second is the time in seconds; it moves every second while the tab is shown. For countdowns. */
export const second = signal(Math.floor(Date.now() / 1000))

function tick(n: number): void {
  if (document.visibilityState === 'visible') {
    second.value = Math.floor(Date.now() / 1000)
    if (n % 5 === 0) now.value = Date.now() / 1000
  }
  setTimeout(() => tick(n + 1), 1000)
}

if (typeof document !== 'undefined') tick(1) // not in tests
