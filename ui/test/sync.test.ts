import assert from 'node:assert/strict'
import test from 'node:test'
import { renewLine } from '../src/api/streams'
import { generation, loginNeeded, session } from '../src/session'
import { connection, leader, ready, recent, tasks } from '../src/state/store'
import { startSync } from '../src/state/sync'
import { FakeSocket, inBrowser, until } from './fake'

const base = '/api/clusterd/v1/proxy/leader/api/clusterd/v1/events?snapshot=false&resume='

/** master is what answers: its id, and how often the summary was asked for. */
const master = { id: 'm1', serial: 7, summaries: 0 }

function answer(path: string): Response {
  if (path.endsWith('/session')) return Response.json({ principal: null, authenticated: false, required: true, schemes: ['basic'], actions: {} })
  if (!path.endsWith('/summary')) return Response.json({})
  master.summaries++
  return Response.json({
    token: master.id + ':' + master.serial,
    leader: { id: master.id, hostname: 'one', port: 5050, pid: '', version: '' },
    states: [],
    agents: [],
    frameworks: [],
    tasks: { rows: 0, since: 0, columns: {} },
  })
}

/** asked waits until the events are asked for, for the nth time on the last connection. */
async function asked(n = 1): Promise<{ id: number; resume: string; socket: FakeSocket }> {
  await until('the events are asked for', () => {
    const s = FakeSocket.all.at(-1)
    if (s?.readyState === 0) s.accept()
    return s !== undefined && !s.closed && s.opened.length >= n
  })
  const o = FakeSocket.last.opened[n - 1]
  assert.ok(o !== undefined && o.path.startsWith(base), o?.path)
  return { id: o.id, resume: decodeURIComponent(o.path.slice(base.length)), socket: FakeSocket.last }
}

function record(token: string, event: object): string {
  return `id: ${token}\ndata: ${JSON.stringify({ token, ...event })}\n\n`
}

const subscribed = (token: string, resumed: boolean) => record(token, { type: 'SUBSCRIBED', subscribed: { resumed, reason: resumed ? '' : 'no' } })

const added = (token: string, id: string) =>
  record(token, { type: 'TASK_ADDED', task_added: { task: { task_id: { value: id }, framework_id: { value: 'F' }, agent_id: { value: 'A' }, state: 'TASK_RUNNING' } } })

test('the cluster is followed through all that happens to the connection', () =>
  inBrowser(answer, async () => {
    renewLine()
    const stop = startSync()
    try {
      await story()
    } finally {
      stop()
      loginNeeded.value = false
      session.value = undefined
    }
  }))

async function story(): Promise<void> {
  // The summary, and what comes after it.
  let s = await asked()
  assert.equal(s.resume, 'm1:7')
  s.socket.tells({ id: s.id, status: 200 })
  s.socket.streams(s.id, subscribed('m1:7', true) + added('m1:8', 't1'))
  await until('the task is there', () => tasks.count === 1)
  assert.equal(connection.peek(), 'live')
  assert.equal(leader.peek()?.id, 'm1')

  // It goes on where it stood: after what was told, not after what was only begun; heartbeats count.
  s.socket.streams(s.id, ': heartbeat\nid: m1:20\n\nid: m1:21\ndata: {"type":')
  s.socket.breaks()
  await until('it is lost', () => connection.peek() === 'lost')
  s = await asked()
  assert.equal(s.resume, 'm1:20')
  assert.equal(master.summaries, 1)
  s.socket.tells({ id: s.id, status: 200 })
  await until('it is live again', () => connection.peek() === 'live')

  // It has missed too much: the summary comes again, and with it nothing of before.
  master.serial = 90000
  s.socket.streams(s.id, subscribed('m1:90000', false) + added('m1:90001', 'not for us'))
  s = await asked(2)
  assert.equal(s.resume, 'm1:90000')
  assert.deepEqual([master.summaries, tasks.count], [2, 0])
  assert.deepEqual(s.socket.sent.filter((m) => m.close !== undefined).length, 1)
  s.socket.tells({ id: s.id, status: 200 })
  s.socket.streams(s.id, subscribed('m1:90000', true))
  assert.equal(connection.peek(), 'live')

  // Another leads: nobody does for a while, then the token is refused. What was under way counts no more.
  s.socket.streams(s.id, added('m1:90001', 'of before'))
  s.socket.tells({ id: s.id, end: true })
  s = await asked(3)
  s.socket.tells({ id: s.id, status: 503, body: 'No leader elected', retry_after: '0.01' })
  await until('it is lost', () => connection.peek() === 'lost')
  master.id = 'm2'
  master.serial = 3
  s = await asked(4)
  assert.equal(s.resume, 'm1:90001')
  s.socket.tells({ id: s.id, status: 200 })
  s.socket.streams(s.id, subscribed('m2:5', false))
  s = await asked(5)
  assert.equal(s.resume, 'm2:3')
  assert.equal(connection.peek(), 'failover')
  assert.deepEqual([leader.peek()?.id, tasks.count], ['m2', 0])
  s.socket.tells({ id: s.id, status: 200 })
  s.socket.streams(s.id, subscribed('m2:3', true) + added('m2:4', 't2'))
  await until('the task is there', () => tasks.count === 1)

  // A summary whose own token is refused, again and again, is not fetched as fast as it can be.
  const before = master.summaries
  s.socket.streams(s.id, subscribed('m2:9', false))
  for (let n = 6; n < 8; n++) {
    s = await asked(n)
    s.socket.tells({ id: s.id, status: 200 })
    s.socket.streams(s.id, subscribed('m2:9', false))
  }
  await new Promise((done) => setTimeout(done, 100))
  assert.ok(master.summaries <= before + 2, `${master.summaries - before} summaries`)
  s = await asked(8)
  s.socket.tells({ id: s.id, status: 200 })
  s.socket.streams(s.id, subscribed('m2:3', true) + added('m2:10', 't3'))
  await until('the task is there', () => tasks.count === 1)

  // Somebody else logs in: nothing of before is seen, and another connection is opened.
  s.socket.streams(s.id, added('m2:11', 't4'))
  master.serial = 50
  renewLine()
  generation.value++
  assert.deepEqual([tasks.count, ready.peek(), leader.peek(), recent.peek().length], [0, false, undefined, 0])
  const old = s.socket
  await until('the old connection is closed', () => old.closed)
  s = await asked()
  assert.notEqual(s.socket, old)
  assert.equal(s.resume, 'm2:50')
  assert.equal(tasks.count, 0)
  s.socket.tells({ id: s.id, status: 200 })
  s.socket.streams(s.id, subscribed('m2:50', true))
  await until('it is live', () => connection.peek() === 'live')

  // Nobody is logged in any more: it stops, and asks no more.
  s.socket.tells({ id: s.id, status: 401, body: 'no' })
  await until('it is asked who we are', () => session.peek() !== undefined)
  assert.equal(loginNeeded.peek(), true)
  await until('the connection is closed', () => s.socket.closed)
  assert.equal(FakeSocket.last, s.socket)
}
