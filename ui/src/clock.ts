/**
 * The time of day as a signal, so that relative times stay true without a timer each. It is the
 * cluster's: what happens there is dated by its clocks, and that of whoever looks may be minutes off.
 */
import { signal } from '@preact/signals'

/** How far the cluster's clock is ahead of ours, in seconds. */
let ahead = 0

/** clusterTime is the time by the cluster's clock, in seconds. */
export function clusterTime(): number {
  return Date.now() / 1000 + ahead
}

/**
 * compareClocks learns from the Date of an answer, which was true (to the second, cut off) at some moment
 * between two times of ours. What is known already is corrected only as far as that says it is wrong.
 */
export function compareClocks(date: string | null, sent: number, received: number): void {
  const said = Date.parse(date ?? '') / 1000
  if (Number.isNaN(said) || received < sent) return
  const before = ahead
  ahead = Math.min(Math.max(ahead, said - received), said + 1 - sent)
  if (Math.abs(ahead - before) > 1) move()
}

/** now is the time in seconds; it moves every five seconds while the tab is shown. */
export const now = signal(clusterTime())

/** second is the time in seconds; it moves every second while the tab is shown. For countdowns. */
export const second = signal(Math.floor(clusterTime()))

function move(): void {
  second.value = Math.floor(clusterTime())
  now.value = clusterTime()
}

function tick(n: number): void {
  if (document.visibilityState === 'visible') {
    second.value = Math.floor(clusterTime())
    if (n % 5 === 0) now.value = clusterTime()
  }
  setTimeout(() => tick(n + 1), 1000)
}

if (typeof document !== 'undefined') tick(1) // not in tests
