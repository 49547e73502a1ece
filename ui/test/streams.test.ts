import assert from 'node:assert/strict'
import test from 'node:test'
import { ApiError, unauthorized } from '../src/api/client'
import { stream, type ServerEvent } from '../src/api/sse'
import { renewLine } from '../src/api/streams'
import { session } from '../src/session'
import { FakeSocket, inBrowser, until } from './fake'

const version = (path: string) =>
  Response.json(path.endsWith('/session') ? { principal: null, authenticated: false, required: false, schemes: [], actions: {} } : {})

interface Followed {
  events: ServerEvent[]
  ids: string[]
  opened: number
  end: Promise<unknown>
  abort: AbortController
}

/** follow follows a path; end is what it ended with: undefined in order, else the error. */
function follow(path: string, silence?: number): Followed {
  const f: Followed = { events: [], ids: [], opened: 0, end: Promise.resolve(), abort: new AbortController() }
  f.end = stream(path, {
    signal: f.abort.signal,
    onOpen: () => void f.opened++,
    onEvents: (e) => {
      f.events.push(...e)
      return !e.some((x) => x.data === 'enough')
    },
    onId: (id) => f.ids.push(id),
    ...(silence === undefined ? {} : { silence }),
  }).then(
    () => undefined,
    (err: unknown) => err,
  )
  return f
}

/** browser runs a test whose streams have a connection of their own. */
function browser(body: () => Promise<void>, answer: (path: string) => Response | Promise<Response> = version): () => Promise<void> {
  return () => {
    renewLine()
    return inBrowser(answer, body)
  }
}

test(
  'streams of a tab share one connection',
  browser(async () => {
    const a = follow('/a')
    const b = follow('/b?x=1')
    assert.equal(FakeSocket.all.length, 1)
    const s = FakeSocket.last
    assert.equal(s.url, 'ws://master:5050/api/clusterd/v1/streams')
    assert.deepEqual(s.sent, [])
    s.accept()
    const [x, y] = s.opened
    assert.ok(x && y)
    assert.deepEqual([x.path, y.path], ['/api/clusterd/v1/proxy/leader/a', '/api/clusterd/v1/proxy/leader/b?x=1'])
    s.tells({ id: x.id, status: 200 })
    s.tells({ id: y.id, status: 200 })
    s.streams(y.id, 'data: y\n\n')
    s.streams(x.id, 'id: 1\ndata: x')
    assert.deepEqual([a.opened, b.opened, a.events.length, b.events[0]?.data], [1, 1, 0, 'y'])
    s.streams(x.id, '1\n\n')
    assert.deepEqual([a.events[0]?.data, a.ids], ['x1', ['1']])

    // One ends, the other goes on.
    s.tells({ id: y.id, end: true })
    assert.equal(await b.end, undefined)
    s.streams(x.id, 'data: enough\n\nid: 9\ndata: more\n\n')
    assert.equal(await a.end, undefined)
    assert.deepEqual(a.ids, ['1'], 'who has enough does not go on')
    assert.deepEqual(s.sent.at(-1), { close: x.id })
    assert.equal(s.closed, false, 'the connection is kept for the next page')
    s.streams(x.id, 'data: late\n\n')

    const c = follow('/c')
    assert.equal(FakeSocket.all.length, 1)
    c.abort.abort()
    assert.equal(await c.end, undefined)
    assert.deepEqual(s.sent.at(-1), { close: s.opened[2]?.id })
  }),
)

test(
  'letters that come in two pieces',
  browser(async () => {
    const a = follow('/a')
    const s = FakeSocket.last.accept()
    const id = s.opened[0]?.id ?? 0
    s.tells({ id, status: 200 })
    const bytes = new TextEncoder().encode('data: ö\n\n')
    for (const b of bytes) {
      const frame = new Uint8Array(5)
      new DataView(frame.buffer).setUint32(0, id)
      frame[4] = b
      s.onmessage?.({ data: frame.buffer })
    }
    assert.equal(a.events[0]?.data, 'ö')
    a.abort.abort()
  }),
)

test(
  'what is refused says why',
  browser(async () => {
    const a = follow('/a')
    const b = follow('/b')
    const s = FakeSocket.last.accept()
    const [x, y] = s.opened
    s.tells({ id: x?.id, status: 503, body: '{"error":{"status":503,"message":"No leader elected"}}', retry_after: '3' })
    const err = await a.end
    assert.ok(err instanceof ApiError)
    assert.deepEqual([err.status, err.message, err.retryAfter], [503, 'No leader elected', 3])
    s.tells({ id: y?.id, status: 200 })
    s.tells({ id: y?.id, end: true, error: 'The stream broke off.' })
    const broke = await b.end
    assert.ok(broke instanceof ApiError)
    assert.equal(broke.status, 0)
  }),
)

test(
  'who is not known comes again on another connection',
  browser(async () => {
    const before = unauthorized.peek()
    const a = follow('/a')
    const b = follow('/b')
    const s = FakeSocket.last.accept()
    s.tells({ id: s.opened[0]?.id, status: 401, body: '401 Unauthorized.' })
    const err = await a.end
    assert.ok(err instanceof ApiError && err.status === 401)
    assert.equal(unauthorized.peek(), before + 1)
    assert.equal(s.closed, false, 'the other stream goes on')
    const c = follow('/c')
    assert.equal(FakeSocket.all.length, 2)
    b.abort.abort()
    await until('the old connection is closed', () => s.closed)
    FakeSocket.last.accept()
    c.abort.abort()
    await until('it is asked who we are', () => session.peek() !== undefined)
    session.value = undefined
  }),
)

test(
  'the connection breaks',
  browser(async () => {
    const a = follow('/a')
    const b = follow('/b')
    const s = FakeSocket.last.accept()
    s.tells({ id: s.opened[0]?.id, status: 200 })
    s.breaks('The server is shutting down')
    for (const f of [a, b]) {
      const err = await f.end
      assert.ok(err instanceof ApiError)
      assert.deepEqual([err.status, err.message], [0, 'The server is shutting down'])
    }
    const c = follow('/c')
    assert.equal(FakeSocket.all.length, 2)
    c.abort.abort()
    const socket = FakeSocket.last // it was not open yet: it is closed once it is
    renewLine()
    await new Promise((done) => setTimeout(done, 5))
    socket.accept()
    assert.equal(socket.closed, true)
    assert.deepEqual(socket.sent, [])
  }),
)

test(
  'a proxy that knows no websockets is named',
  browser(async () => {
    const a = follow('/a')
    FakeSocket.last.breaks()
    const err = await a.end
    assert.ok(err instanceof ApiError)
    assert.match(err.message, /answers, but not to websockets/)
  }),
)

test(
  'a master that does not answer at all',
  browser(
    async () => {
      const a = follow('/a')
      FakeSocket.last.breaks()
      const err = await a.end
      assert.ok(err instanceof ApiError)
      assert.equal(err.message, 'The master at master:5050 does not answer.')
    },
    () => {
      throw new TypeError('fetch failed')
    },
  ),
)

test(
  'silence: of one stream ends that, of the connection ends it',
  browser(async () => {
    const a = follow('/a', 60)
    const b = follow('/b')
    const s = FakeSocket.last.accept()
    const [x, y] = s.opened
    s.tells({ id: x?.id, status: 200 })
    s.tells({ id: y?.id, status: 200 })
    const talk = setInterval(() => s.streams(y?.id ?? 0, ':\n\n'), 5)
    const err = await a.end
    clearInterval(talk)
    assert.ok(err instanceof ApiError)
    assert.match(err.message, /silent/)
    assert.equal(s.closed, false)
    assert.deepEqual(s.sent.at(-1), { close: x?.id })

    const c = follow('/c', 60)
    await c.end
    assert.equal(s.closed, true)
    assert.ok((await b.end) instanceof ApiError)
  }),
)
