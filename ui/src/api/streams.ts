/**
 * The one connection on which a tab has all its streams: a websocket that carries them side by side
 * (docs: `streams`). Each stream would otherwise keep one of the six connections that a browser
 * opens to a host, all windows together. It is opened with the first stream, and by itself closed
 * after the last.
 */

/** Refusal is an answer that is no stream. */
export interface Refusal {
  status: number
  body: string
  /** Seconds after which the server asks us to come again; 0: it does not say. */
  retryAfter: number
}

/** Follower is told what becomes of a stream. Exactly one of onRefused, onEnd and onLost comes, and then nothing more. */
export interface Follower {
  onOpen(): void
  onData(data: Uint8Array): void
  onRefused(r: Refusal): void
  /** It is over: in order, or it broke off. */
  onEnd(broken: boolean): void
  /** The connection is gone, or could not be made; why is what the server said, if anything. */
  onLost(opened: boolean, why: string): void
}

/** What is used of a WebSocket, so that tests can bring their own. */
export type Socket = Pick<WebSocket, 'send' | 'close' | 'readyState' | 'binaryType' | 'onopen' | 'onmessage' | 'onclose'>

interface Control {
  id?: number
  status?: number
  body?: string
  retry_after?: string
  end?: boolean
  error?: string
}

/** After the last stream the connection is kept for so long: pages that change close one and open the next. */
const linger = 5000

const connecting = 0
const isOpen = 1

/** Line is a connection and what it carries. */
class Line {
  private readonly followers = new Map<number, Follower>()
  private readonly waiting: string[] = []
  private opened = false
  private timer: ReturnType<typeof setTimeout> | undefined
  /** When something came last, as of performance.now(). */
  heard = performance.now()

  constructor(
    private readonly socket: Socket,
    /** Told when no more streams can be opened here. */
    private readonly onGone: (l: Line) => void,
  ) {
    socket.binaryType = 'arraybuffer'
    socket.onopen = () => {
      this.opened = true
      this.heard = performance.now()
      for (const m of this.waiting.splice(0)) socket.send(m)
    }
    socket.onmessage = (e) => this.take(e.data as string | ArrayBuffer)
    socket.onclose = (e) => this.lose(e.reason)
  }

  open(id: number, path: string, f: Follower): void {
    clearTimeout(this.timer)
    this.followers.set(id, f)
    this.say({ open: id, path })
  }

  /** drop ends a stream of which nothing more is wanted. */
  drop(id: number): void {
    if (!this.followers.delete(id)) return
    this.say({ close: id })
    this.rest()
  }

  /** retire has the connection close with its last stream; new ones go elsewhere. */
  retire(): void {
    this.onGone(this)
    this.rest()
  }

  /** lose gives the connection up. */
  lose(why: string): void {
    this.onGone(this)
    clearTimeout(this.timer)
    const socket = this.socket
    socket.onmessage = socket.onclose = null
    // One that is not open yet cannot be closed without the browser complaining.
    if (socket.readyState === connecting) socket.onopen = () => socket.close()
    else socket.close()
    const all = [...this.followers.values()]
    this.followers.clear()
    for (const f of all) f.onLost(this.opened, why)
  }

  private say(m: { open: number; path: string } | { close: number }): void {
    const text = JSON.stringify(m)
    if (this.socket.readyState === connecting) this.waiting.push(text)
    else if (this.socket.readyState === isOpen) this.socket.send(text)
    // Else it is closing, and says so in a moment.
  }

  private rest(): void {
    if (this.followers.size > 0) return
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.lose(''), current === this ? linger : 0)
  }

  private take(data: string | ArrayBuffer): void {
    this.heard = performance.now()
    if (typeof data !== 'string') {
      // What was under way when its stream was dropped is for nobody.
      this.followers.get(new DataView(data).getUint32(0))?.onData(new Uint8Array(data, 4))
      return
    }
    const m = JSON.parse(data) as Control
    const id = m.id ?? 0
    const f = this.followers.get(id)
    if (f === undefined) return
    if (m.end !== true && m.status === 200) {
      f.onOpen()
      return
    }
    this.followers.delete(id)
    this.rest()
    if (m.end === true) f.onEnd(m.error !== undefined)
    else f.onRefused({ status: m.status ?? 0, body: m.body ?? '', retryAfter: Number(m.retry_after ?? 0) || 0 })
  }
}

/** current is the connection for new streams. */
let current: Line | undefined
let last = 0

/** follow opens a stream of a path of the master that served this page. What it returns ends it. */
export function follow(path: string, f: Follower, connect: () => Socket): Stream {
  current ??= new Line(connect(), (l) => {
    if (current === l) current = undefined
  })
  const line = current
  const id = ++last
  line.open(id, path, f)
  return {
    drop: () => line.drop(id),
    suspect: (silence) => {
      if (performance.now() - line.heard >= silence) line.lose('')
      else line.drop(id)
    },
  }
}

/** Stream is one that was opened. */
export interface Stream {
  drop(): void
  /** It has been silent for so many milliseconds: it is dropped, and the connection too if nothing else came by it either. */
  suspect(silence: number): void
}

/**
 * renewLine has the streams that begin from now on use another connection: a connection is for whoever
 * was logged in when it was opened. Those that go on are left to end.
 */
export function renewLine(): void {
  current?.retire()
}
