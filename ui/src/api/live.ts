/**
 * Documents that stay fresh: one stream carries all that the components on the screen look at, and
 * the server sends a document when it has changed (docs: `live`). Nothing is polled.
 */
import { effect, signal, useSignal, type ReadonlySignal, type Signal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { clusterTime } from '../clock'
import { ApiError, own } from './client'
import { backoff, stream, wait } from './sse'
import { awake } from './visible'

/** Live is a document as it is now. */
export interface Live<T> {
  data: T | undefined
  /** Why there is none, or why what is shown is old. */
  error: ApiError | undefined
  /** When data came, in seconds; 0: never. */
  at: number
}

const none: Live<never> = { data: undefined, error: undefined, at: 0 }

interface Watch {
  value: Signal<Live<unknown>>
  users: Map<object, number>
}

const watches = new Map<string, Watch>()
const wanted = signal('')

/** refresh tells the stream which documents are looked at now; changes within one turn make one request. */
let pending = false
function refresh(): void {
  if (pending) return
  pending = true
  setTimeout(() => {
    pending = false
    wanted.value = query()
  }, 20)
}

function query(): string {
  if (watches.size === 0) return ''
  let least = Infinity
  const q = new URLSearchParams()
  for (const path of [...watches.keys()].sort()) {
    q.append('path', path)
    for (const i of watches.get(path)?.users.values() ?? []) least = Math.min(least, i)
  }
  q.set('interval', Math.max(500, least) + 'ms')
  return q.toString()
}

function arrived(path: string, data: string): void {
  const w = watches.get(path)
  if (w === undefined) return
  try {
    const v = JSON.parse(data) as { error?: { status?: number; message?: string } }
    if (v !== null && typeof v === 'object' && v.error !== undefined && typeof v.error === 'object' && typeof v.error.status === 'number')
      w.value.value = { ...w.value.peek(), error: new ApiError(v.error.status, v.error.message ?? '', path) }
    else w.value.value = { data: v, error: undefined, at: clusterTime() }
  } catch {
    w.value.value = { ...w.value.peek(), error: new ApiError(502, 'The answer is not JSON.', path) }
  }
}

function broken(err: unknown): void {
  const e = err instanceof ApiError ? err : new ApiError(0, 'The master does not answer.', '')
  for (const w of watches.values()) w.value.value = { ...w.value.peek(), error: e }
}

async function follow(q: string, abort: AbortSignal): Promise<void> {
  for (let n = 0; !abort.aborted; n++) {
    try {
      await stream(own + '/live?' + q, {
        signal: abort,
        silence: 60_000,
        onEvents: (events) => {
          n = 0
          for (const e of events) arrived(e.event, e.data)
        },
      })
    } catch (err) {
      if (abort.aborted) return
      broken(err)
      if (err instanceof ApiError && err.status === 401) return
    }
    await wait(backoff(n), abort)
  }
}

let started = false
function start(): void {
  if (started) return
  started = true
  effect(() => {
    const q = wanted.value
    if (q === '' || !awake.value) return
    const abort = new AbortController()
    void follow(q, abort.signal)
    return () => abort.abort()
  })
}

/** restartLive asks for all documents anew, as after a login. */
export function restartLive(): void {
  const q = wanted.peek()
  wanted.value = ''
  wanted.value = q
}

/** watch keeps a document fresh until the returned function is called. */
export function watch<T>(path: string, interval = 2000): { value: ReadonlySignal<Live<T>>; stop: () => void } {
  start()
  let w = watches.get(path)
  if (w === undefined) {
    w = { value: signal<Live<unknown>>(none), users: new Map() }
    watches.set(path, w)
  }
  const mine = w
  const user = {}
  mine.users.set(user, interval)
  refresh()
  return {
    value: mine.value as ReadonlySignal<Live<T>>,
    stop: () => {
      mine.users.delete(user)
      if (mine.users.size === 0 && watches.get(path) === mine) watches.delete(path)
      refresh()
    },
  }
}

/**
 * useLive is a document of the leader, fresh as long as the component is shown:
 * `const stats = useLive<Stats>(agentPath(id, '/monitor/statistics'), {interval: 1000})`, then `stats.value.data`.
 * Without a path it is empty.
 */
export function useLive<T>(path: string | undefined, opts: { interval?: number } = {}): ReadonlySignal<Live<T>> {
  const value = useSignal<Live<T>>(none)
  const interval = opts.interval ?? 2000
  useEffect(() => {
    if (path === undefined) return
    const w = watch<T>(path, interval)
    const stop = effect(() => {
      value.value = w.value.value
    })
    return () => {
      stop()
      w.stop()
    }
  }, [path, interval])
  return value
}
