/** Server-sent events by fetch: unlike EventSource it tells the status of a refusal and can be ended at once. */
import { failure, leader, ApiError } from './client'

export interface ServerEvent {
  id: string
  event: string
  data: string
}

/**
 * SseParser turns pieces of a stream into events (the format of the HTML standard). It keeps what
 * is not a whole line yet.
 */
export class SseParser {
  private rest = ''
  private event = ''
  private data: string[] = []
  private id = ''

  push(text: string): ServerEvent[] {
    const found: ServerEvent[] = []
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/)
    this.rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') {
        if (this.data.length > 0) found.push({ id: this.id, event: this.event || 'message', data: this.data.join('\n') })
        this.event = ''
        this.data = []
        continue
      }
      const at = line.indexOf(':')
      if (at === 0) continue
      const field = at < 0 ? line : line.slice(0, at)
      let value = at < 0 ? '' : line.slice(at + 1)
      if (value.startsWith(' ')) value = value.slice(1)
      if (field === 'event') this.event = value
      else if (field === 'data') this.data.push(value)
      else if (field === 'id') this.id = value
    }
    return found
  }
}

export interface StreamOptions {
  signal: AbortSignal
  onOpen?: () => void
  /** false ends the stream. */
  onEvents: (events: ServerEvent[]) => void | boolean
  /** Milliseconds without a byte after which the stream counts as dead. */
  silence?: number
}

/** stream reads server-sent events of a path of the leader until they end; it throws when it is refused or breaks. */
export async function stream(path: string, opts: StreamOptions): Promise<void> {
  const dead = new AbortController()
  const stop = () => dead.abort()
  if (opts.signal.aborted) return
  opts.signal.addEventListener('abort', stop)
  let timer: ReturnType<typeof setTimeout> | undefined
  const alive = () => {
    clearTimeout(timer)
    if (opts.silence !== undefined) timer = setTimeout(stop, opts.silence)
  }
  try {
    alive()
    const res = await fetch(leader(path), {
      headers: { Accept: 'text/event-stream' },
      credentials: 'same-origin',
      cache: 'no-store',
      signal: dead.signal,
    }).catch((err: unknown) => {
      if (opts.signal.aborted) throw err
      throw new ApiError(0, 'The master at ' + location.host + ' does not answer.', path)
    })
    if (!res.ok) throw await failure(res, path)
    if (res.body === null || !(res.headers.get('Content-Type') ?? '').startsWith('text/event-stream'))
      throw new ApiError(502, 'The answer is no stream of events.', path)
    opts.onOpen?.()
    const parser = new SseParser()
    const decoder = new TextDecoder()
    const reader = res.body.getReader()
    for (;;) {
      const { done, value } = await reader.read().catch((err: unknown) => {
        if (opts.signal.aborted) throw err
        throw new ApiError(0, dead.signal.aborted ? 'The master has been silent for too long.' : 'The connection broke off.', path)
      })
      if (done) return
      alive()
      const events = parser.push(decoder.decode(value, { stream: true }))
      if (events.length > 0 && opts.onEvents(events) === false) {
        dead.abort()
        return
      }
    }
  } finally {
    clearTimeout(timer)
    opts.signal.removeEventListener('abort', stop)
  }
}

/** wait is a pause that ends early when the signal is aborted. */
export function wait(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
  })
}

/** backoff is how long to wait before attempt n (from 0), in milliseconds: half a second doubling to 15 s, with a jitter. */
export function backoff(n: number, random = Math.random): number {
  const most = Math.min(15_000, 500 * 2 ** Math.min(n, 10))
  return most / 2 + (random() * most) / 2
}
