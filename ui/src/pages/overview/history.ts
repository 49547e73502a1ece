/** The last hour of the cluster: asked for once, then a sample at a time. */
import { useSignal, type ReadonlySignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { get, own } from '../../api/client'
import { useLive } from '../../api/live'
import type { TaskState } from '../../api/types'
import { generation } from '../../session'
import { leader } from '../../state/store'
import type { History } from './wire'

const most = 720

/** useHistory is the history, growing while the page is shown. */
export function useHistory(): ReadonlySignal<History | undefined> {
  const kept = useSignal<History | undefined>(undefined)
  const who = leader.value?.id
  const reader = generation.value
  useEffect(() => {
    if (who === undefined) return
    const abort = new AbortController()
    get<History>(own + '/history', { signal: abort.signal }).then(
      (h) => (kept.value = h),
      () => undefined, // live tells what is wrong
    )
    return () => abort.abort()
  }, [who, reader])
  const latest = useLive<History>(own + '/history?samples=1&recent=100', { interval: 5000 }).value.data
  useEffect(() => {
    if (latest !== undefined) kept.value = kept.peek() === undefined ? undefined : joined(kept.peek() as History, latest)
  }, [latest])
  return kept
}

/** joined is a history with the samples of another that are newer. */
export function joined(a: History, b: History): History {
  const last = a.times.at(-1) ?? 0
  const from = b.times.findIndex((t) => t > last)
  if (from < 0) return { ...a, recent: b.recent }
  const cut = Math.max(0, a.times.length + b.times.length - from - most)
  return {
    interval: b.interval,
    times: [...a.times, ...b.times.slice(from)].slice(cut),
    tasks: columns(a.tasks, b.tasks, a.times.length, from, cut),
    ended: columns(a.ended, b.ended, a.times.length, from, cut),
    recent: b.recent,
  }
}

type Columns = Partial<Record<TaskState, number[]>>

function columns(a: Columns, b: Columns, length: number, from: number, cut: number): Columns {
  const out: Columns = {}
  const added = Math.max(...Object.values(b).map((c) => c.length - from), 1)
  for (const state of new Set([...Object.keys(a), ...Object.keys(b)]) as Set<TaskState>) {
    const before = a[state] ?? Array.from({ length }, () => 0)
    const after = b[state]?.slice(from) ?? Array.from({ length: added }, () => before.at(-1) ?? 0)
    out[state] = [...before, ...after].slice(cut)
  }
  return out
}

/** perMinute is how many tasks ended in the minute before each sample, of sums that only grow but begin anew with another master. */
export function perMinute(sums: readonly number[] | undefined, times: readonly number[], over = 12): (number | null)[] {
  return times.map((t, i) => {
    const j = Math.max(0, i - over)
    const then = times[j]
    if (sums === undefined || i === 0 || then === undefined || t <= then) return sums === undefined || i === 0 ? 0 : null
    return (Math.max(0, (sums[i] ?? 0) - (sums[j] ?? 0)) / Math.max(60, t - then)) * 60
  })
}
