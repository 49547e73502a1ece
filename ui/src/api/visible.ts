/** Whether anybody looks: streams are closed while the tab has been hidden for half a minute. */
import { signal } from '@preact/signals'

const patience = 30_000

/** awake is false once the tab has been hidden for half a minute, and true again when it is shown. */
export const awake = signal(true)

let timer: ReturnType<typeof setTimeout> | undefined

if (typeof document !== 'undefined') {
  document.addEventListener('visibilitychange', () => {
    clearTimeout(timer)
    if (document.visibilityState === 'visible') awake.value = true
    else timer = setTimeout(() => (awake.value = false), patience)
  })
  // A page that is left may be kept for the way back, with its streams: browsers open no more than
  // six connections to a server without TLS, and the next page needs them.
  addEventListener('pagehide', () => {
    clearTimeout(timer)
    awake.value = false
  })
  addEventListener('pageshow', () => (awake.value = true))
}
