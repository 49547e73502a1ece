/** A browser's surroundings and a master at the other end of its connections, for what cannot be tried without them. */

/** FakeSocket is a WebSocket whose other end is the test. */
export class FakeSocket {
  static all: FakeSocket[] = []
  readyState = 0
  binaryType: BinaryType = 'blob'
  onopen: (() => void) | null = null
  onmessage: ((e: { data: unknown }) => void) | null = null
  onclose: ((e: { reason: string }) => void) | null = null
  /** What the page has said, as objects. */
  sent: { open?: number; path?: string; close?: number }[] = []
  closed = false

  constructor(readonly url: string) {
    FakeSocket.all.push(this)
  }

  static get last(): FakeSocket {
    const s = FakeSocket.all.at(-1)
    if (s === undefined) throw new Error('no websocket was opened')
    return s
  }

  accept(): this {
    this.readyState = 1
    this.onopen?.()
    return this
  }

  send(text: string): void {
    if (this.readyState !== 1) throw new Error('it is not open')
    this.sent.push(JSON.parse(text) as { open?: number; path?: string; close?: number })
  }

  close(): void {
    if (this.readyState === 0) throw new Error('a browser complains of this')
    this.closed = true
    this.readyState = 3
  }

  /** breaks has the connection end from the other side. */
  breaks(reason = ''): void {
    this.closed = true
    this.readyState = 3
    this.onclose?.({ reason })
  }

  tells(m: object): void {
    this.onmessage?.({ data: JSON.stringify(m) })
  }

  streams(id: number, text: string): void {
    const bytes = new TextEncoder().encode(text)
    const all = new Uint8Array(4 + bytes.length)
    new DataView(all.buffer).setUint32(0, id)
    all.set(bytes, 4)
    this.onmessage?.({ data: all.buffer })
  }

  /** opened are the streams that were asked for, in order. */
  get opened(): { id: number; path: string }[] {
    return this.sent.flatMap((m) => (m.open === undefined ? [] : [{ id: m.open, path: m.path ?? '' }]))
  }
}

/** inBrowser runs a test with what a browser has. fetch answers what is asked for by HTTP. */
export async function inBrowser(answer: (path: string) => Response | Promise<Response>, body: () => Promise<void>): Promise<void> {
  const g = globalThis as Record<string, unknown>
  const fakes: Record<string, unknown> = {
    document: { baseURI: 'http://master:5050/', visibilityState: 'visible' },
    location: { href: 'http://master:5050/#/', host: 'master:5050' },
    WebSocket: FakeSocket,
    fetch: async (path: string) => answer(path),
    requestAnimationFrame: (f: () => void) => setTimeout(f, 1),
  }
  const was = Object.fromEntries(Object.keys(fakes).map((k) => [k, Object.getOwnPropertyDescriptor(g, k)]))
  for (const [k, value] of Object.entries(fakes)) Object.defineProperty(g, k, { value, configurable: true, writable: true })
  FakeSocket.all = []
  try {
    await body()
  } finally {
    for (const [k, d] of Object.entries(was)) {
      if (d === undefined) delete g[k]
      else Object.defineProperty(g, k, d)
    }
  }
}

/** until waits until something is so. */
export async function until(what: string, so: () => boolean): Promise<void> {
  for (const end = Date.now() + 20_000; !so(); await new Promise((done) => setTimeout(done, 2)))
    if (Date.now() > end) throw new Error('waited in vain until ' + what)
}
