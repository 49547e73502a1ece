/** Server-sent events of the leader, all on the tab's one connection (streams.ts). */
import { ApiError, leaderPath, local, own, refusal, socketHere } from './client'
import { follow, renewLine } from './streams'

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
  /** The id of the last event, or of a comment after it that had one: all before it has been told. */
  lastId = ''

  push(text: string): ServerEvent[] {
    const found: ServerEvent[] = []
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/)
    this.rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') {
        if (this.data.length > 0) found.push({ id: this.id, event: this.event || 'message', data: this.data.join('\n') })
        this.lastId = this.id
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
  /** Told where the stream stands, after onEvents has had all events up to there. */
  onId?: (id: string) => void
  /** Milliseconds without a byte after which the stream counts as dead. */
  silence?: number
}

/** stream reads server-sent events of a path of the leader until they end or are aborted; it throws when it is refused or breaks. */
export function stream(path: string, opts: StreamOptions): Promise<void> {
  if (opts.signal.aborted) return Promise.resolve()
  return new Promise((resolve, reject) => {
    const parser = new SseParser()
    const decoder = new TextDecoder()
    let id = ''
    let over = false
    let timer: ReturnType<typeof setTimeout> | undefined
    const finish = (err?: unknown) => {
      if (over) return
      over = true
      clearTimeout(timer)
      opts.signal.removeEventListener('abort', stop)
      if (err === undefined) resolve()
      else reject(err instanceof Error ? err : new Error(String(err)))
    }
    const alive = () => {
      const silence = opts.silence
      if (silence === undefined) return
      clearTimeout(timer)
      timer = setTimeout(() => {
        finish(new ApiError(0, 'The master has been silent for too long.', path))
        s.suspect(silence)
      }, silence)
    }
    const stop = () => {
      finish()
      s.drop()
    }
    const s = follow(
      leaderPath(path),
      {
        onOpen: () => {
          alive()
          opts.onOpen?.()
        },
        onData: (data) => {
          if (over) return
          alive()
          try {
            const events = parser.push(decoder.decode(data, { stream: true }))
            if (events.length > 0 && opts.onEvents(events) === false) return stop()
            if (parser.lastId !== id) opts.onId?.((id = parser.lastId))
          } catch (err) {
            finish(err)
            s.drop()
          }
        },
        onRefused: (r) => {
          // The connection is of whoever was logged in when it was opened: that may be long ago.
          if (r.status === 401) renewLine()
          finish(refusal(r.status, r.body, r.retryAfter, path))
        },
        onEnd: (broken) => finish(broken ? new ApiError(0, 'The connection broke off.', path) : undefined),
        onLost: (opened, why) => {
          if (over) return
          if (opened || why !== '') finish(new ApiError(0, why || 'The connection broke off.', path))
          else void unreachable(path).then(finish)
        },
      },
      connect,
    )
    opts.signal.addEventListener('abort', stop)
    alive()
  })
}

function connect(): WebSocket {
  return new WebSocket(socketHere(own + '/streams'))
}

/** unreachable says why there is no websocket: browsers do not tell. */
async function unreachable(path: string): Promise<ApiError> {
  const master = 'The master at ' + location.host
  try {
    const res = await fetch(local('/version'), { cache: 'no-store', credentials: 'same-origin' })
    if (res.ok) return new ApiError(0, master + ' answers, but not to websockets: what is between must pass them on, and keep the Host header.', path)
  } catch {
    // It does not answer at all.
  }
  return new ApiError(0, master + ' does not answer.', path)
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
