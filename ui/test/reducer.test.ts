import assert from 'node:assert/strict'
import test from 'node:test'
import type { OperatorEvent, TaskState } from '../src/api/types'
import { Reducer } from '../src/state/reducer'
import type { Summary } from '../src/state/summary'
import { taskKey } from '../src/state/model'

const states: TaskState[] = ['TASK_STARTING', 'TASK_RUNNING', 'TASK_FINISHED', 'TASK_FAILED', 'TASK_KILLED', 'TASK_LOST', 'TASK_STAGING']

function summary(tasks: unknown[][] = []): Summary {
  return {
    token: 'm1:7',
    leader: { id: 'm1', hostname: 'one', port: 5050, pid: 'master@1', version: '1.12.0' },
    cluster: 'test',
    states,
    agents: [
      { id: 'S0', state: 'ACTIVE', hostname: 'a', active: true, connected: true, total: { cpus: 4, mem: 100, disk: 0, gpus: 0 }, allocated: { cpus: 1, mem: 10, disk: 0, gpus: 0 } },
      { id: 'S1', state: 'GONE' },
      { id: 'S2', state: 'UNREACHABLE', since: 5 },
    ],
    frameworks: [{ id: 'F0', name: 'f', roles: ['r'], active: true, connected: true, allocated: { cpus: 1, mem: 10, disk: 0, gpus: 0 } }],
    tasks: { rows: tasks.length, since: 0, columns: Object.fromEntries(columns.map((name, i) => [name, tasks.map((t) => t[i])])) },
  }
}

const columns = ['task_id', 'name', 'framework', 'agent', 'executor_id', 'state', 'role', 'cpus', 'mem', 'disk', 'gpus', 'healthy', 'started', 'updated']
const running = ['t0', 'web', 0, 0, '', 1, 'r', 1, 10, 0, 0, null, 100_000, 1000]
const onGone = ['t1', 'old', 0, 1, '', 2, 'r', 2, 20, 0, 0, null, 50_000, 10_000]

function loaded(...tasks: unknown[][]): Reducer {
  const r = new Reducer()
  r.load(summary(tasks))
  return r
}

function added(id: string, cpus = 0.1, state: TaskState = 'TASK_STAGING'): OperatorEvent {
  return {
    type: 'TASK_ADDED',
    task_added: {
      task: {
        name: id,
        task_id: { value: id },
        framework_id: { value: 'F0' },
        agent_id: { value: 'S0' },
        state,
        resources: [{ name: 'cpus', type: 'SCALAR', scalar: { value: cpus }, allocation_info: { role: 'r' } }],
      },
    },
  }
}

function updated(id: string, state: TaskState, extra: object = {}): OperatorEvent {
  return {
    type: 'TASK_UPDATED',
    task_updated: { framework_id: { value: 'F0' }, state, status: { task_id: { value: id }, state, timestamp: 200, ...extra } },
  }
}

test('the summary', () => {
  const r = loaded(running, onGone)
  assert.deepEqual([...r.agents.values()].map((a) => [a.id, a.state, a.hostname]), [
    ['S0', 'ACTIVE', 'a'],
    ['S2', 'UNREACHABLE', ''],
  ])
  const t = r.tasks.get(taskKey('F0', 't0'))
  assert.ok(t)
  assert.equal(t.state, 'TASK_RUNNING')
  assert.equal(t.agent, 'S0')
  assert.equal(t.active, true)
  assert.equal(r.tasks.get(taskKey('F0', 't1'))?.agent, 'S1') // gone agents keep their ids
  assert.deepEqual(r.total.states, { TASK_RUNNING: 1, TASK_FINISHED: 1 })
  assert.equal(r.tallyOfAgent('S0').used.cpus, 1)
  assert.equal(r.tallyOfFramework('none').active, 0)
})

test('an agent is lost and comes back, all told at once', () => {
  for (const taskFirst of [true, false]) {
    const r = loaded()
    r.apply(added('t1', 2, 'TASK_RUNNING'), 100)
    r.commit()
    assert.equal(r.agents.get('S0')?.allocated.cpus, 3)
    r.apply({ type: 'AGENT_UPDATED', agent_updated: { connected: false, agent: { agent_info: { id: { value: 'S0' }, hostname: 'a' } } } }, 110)
    const events: OperatorEvent[] = [updated('t1', 'TASK_UNREACHABLE'), { type: 'AGENT_REMOVED', agent_removed: { agent_id: { value: 'S0' } } }]
    for (const e of taskFirst ? events : events.reverse()) r.apply(e, 120)
    r.commit()
    assert.deepEqual([r.agents.get('S0')?.state, r.agents.get('S0')?.allocated.cpus], ['UNREACHABLE', 0])
    r.apply({ type: 'AGENT_ADDED', agent_added: { agent: { active: true, agent_info: { id: { value: 'S0' }, hostname: 'a' } } } }, 130)
    r.apply(added('t1', 2, 'TASK_RUNNING'), 130)
    r.commit()
    assert.deepEqual([r.agents.get('S0')?.state, r.agents.get('S0')?.allocated.cpus], ['ACTIVE', 2])
  }
})

test('columns in short', () => {
  const s: Summary = {
    ...summary(),
    tasks: {
      rows: 4,
      since: 1000,
      columns: {
        task_id: ['a', 'b', 'c', 'd'],
        name: ['x', null, 'y', 0],
        framework: 0,
        agent: [0, 0, 2, 1],
        executor_id: '',
        state: [1, 1, 2, 0],
        role: ['r', 0, 's', 1],
        cpus: [0.5, 1, 2, 3],
        mem: 10,
        healthy: [null, true, false, null],
        started: [500, 0, null, 2000],
        updated: [0, -250, 3000, null],
      },
    },
  }
  const r = new Reducer()
  r.load(s)
  assert.deepEqual(
    r.tasks.all.map((t) => [t.id, t.name, t.framework, t.agent, t.executor, t.state, t.role, t.cpus, t.mem, t.disk, t.healthy, t.started, t.updated, t.active]),
    [
      ['a', 'x', 'F0', 'S0', '', 'TASK_RUNNING', 'r', 0.5, 10, 0, undefined, 1000.5, 1000.5, true],
      ['b', 'b', 'F0', 'S0', '', 'TASK_RUNNING', 'r', 1, 10, 0, true, 1000, 999.75, true],
      ['c', 'y', 'F0', 'S2', '', 'TASK_FINISHED', 's', 2, 10, 0, false, undefined, 1003, false],
      ['d', 'x', 'F0', 'S1', '', 'TASK_STARTING', 's', 3, 10, 0, undefined, 1002, undefined, true],
    ],
  )
  // One for all: the name too.
  r.load({ ...s, tasks: { rows: 2, since: 0, columns: { task_id: ['a', 'b'], name: 'same', framework: 0, agent: 0, state: 1, role: 'r', executor_id: 'e' } } })
  assert.deepEqual(
    r.tasks.all.map((t) => [t.id, t.name, t.executor, t.role]),
    [
      ['a', 'same', 'e', 'r'],
      ['b', 'same', 'e', 'r'],
    ],
  )
  r.load({ ...s, tasks: { rows: 2, since: 0, columns: { task_id: ['a', 'b'], name: null, framework: 0, agent: 0, state: 1, role: 'r', executor_id: '' } } })
  assert.deepEqual(
    r.tasks.all.map((t) => t.name),
    ['a', 'b'],
  )
})

test('a task from its first to its last state', () => {
  const r = loaded(running)
  r.apply(added('t2', 0.5), 150)
  r.apply(updated('t2', 'TASK_RUNNING', { healthy: true }), 150)
  r.commit()
  let t = r.tasks.get(taskKey('F0', 't2'))
  assert.equal(t?.healthy, true)
  assert.equal(t?.started, 200)
  assert.equal(r.agents.get('S0')?.allocated.cpus, 1.5)
  assert.equal(r.frameworks.get('F0')?.allocated.cpus, 1.5)
  r.apply(updated('t2', 'TASK_FAILED', { message: 'exit 1', timestamp: 300 }), 150)
  r.commit()
  t = r.tasks.get(taskKey('F0', 't2'))
  assert.equal(t?.active, false)
  assert.equal(r.agents.get('S0')?.allocated.cpus, 1)
  assert.deepEqual(r.total.states, { TASK_RUNNING: 1, TASK_FAILED: 1 })
  assert.equal(r.recent.value[0]?.text, 'Task t2 is failed: exit 1')
})

test('the same event twice changes nothing more', () => {
  const r = loaded()
  r.apply(added('t', 1), 1)
  r.apply(added('t', 1), 1)
  r.apply(updated('t', 'TASK_KILLED'), 1)
  r.apply(updated('t', 'TASK_KILLED'), 1)
  r.commit()
  assert.equal(r.agents.get('S0')?.allocated.cpus, 1) // what executors hold stays
  assert.deepEqual(r.total.states, { TASK_KILLED: 1 })
  assert.equal(r.total.active, 0)
})

test('an update of a task that is not known is left alone', () => {
  const r = loaded()
  r.apply(updated('nobody', 'TASK_RUNNING'), 1)
  r.commit()
  assert.equal(r.tasks.size, 0)
})

test('readers see changes after commit, and only then', () => {
  const r = loaded(running)
  const before = r.tasks.all
  r.apply(added('t9'), 1)
  assert.equal(r.tasks.all, before)
  r.commit()
  assert.notEqual(r.tasks.all, before)
  assert.equal(r.tasks.all.length, 2)
  r.commit()
  assert.equal(r.tasks.all.length, 2)
})

test('a framework that is removed takes its tasks along', () => {
  const r = loaded(running)
  r.apply({ type: 'FRAMEWORK_REMOVED', framework_removed: { framework_info: { id: { value: 'F0' }, name: 'f' } } }, 500)
  r.commit()
  assert.equal(r.frameworks.get('F0')?.completed, true)
  assert.equal(r.frameworks.get('F0')?.unregistered, 500)
  assert.equal(r.tasks.get(taskKey('F0', 't0'))?.state, 'TASK_KILLED')
  assert.equal(r.agents.get('S0')?.allocated.cpus, 0)
})

test('agents come, change and go', () => {
  const r = loaded()
  const agent = (over: object) => ({ agent_info: { id: { value: 'S3' }, hostname: 'c', domain: { fault_domain: { region: { name: 'eu' }, zone: { name: 'b' } } } }, active: true, ...over })
  r.apply({ type: 'AGENT_ADDED', agent_added: { agent: agent({}) } }, 1)
  r.commit()
  assert.equal(r.agents.get('S3')?.state, 'ACTIVE')
  assert.equal(r.agents.get('S3')?.zone, 'b')
  r.apply({ type: 'AGENT_UPDATED', agent_updated: { agent: agent({ deactivated: true, drain_info: { state: 'DRAINING', config: { mark_gone: true, max_grace_period: { nanoseconds: 5e9 } } } }), connected: true } }, 2)
  r.commit()
  assert.equal(r.agents.get('S3')?.state, 'DRAINING')
  assert.equal(r.agents.get('S3')?.drain?.max_grace, 5)
  r.apply({ type: 'AGENT_REMOVED', agent_removed: { agent_id: { value: 'S3' } } }, 3)
  r.commit()
  assert.equal(r.agents.has('S3'), false)
  // One that was lost before it was removed is unreachable, and holds nothing.
  r.apply({ type: 'AGENT_UPDATED', agent_updated: { agent: { agent_info: { id: { value: 'S0' }, hostname: 'a' } }, connected: false } }, 4)
  r.apply({ type: 'AGENT_REMOVED', agent_removed: { agent_id: { value: 'S0' } } }, 5)
  r.commit()
  assert.equal(r.agents.get('S0')?.state, 'UNREACHABLE')
  assert.equal(r.agents.get('S0')?.total.cpus, 0)
  assert.equal(r.agents.get('S0')?.since, 5)
})

test('a new summary forgets the old one', () => {
  const r = loaded(running, onGone)
  const l = r.load({ ...summary([]), leader: { id: 'm2', hostname: 'two', port: 1, pid: '', version: '' } })
  assert.equal(l.id, 'm2')
  assert.equal(r.tasks.size, 0)
  assert.deepEqual(r.total.states, {})
  assert.equal(r.tallyOfAgent('S0').active, 0)
})

test('completed tasks are bounded', () => {
  const r = loaded()
  for (let i = 0; i < 2500; i++) {
    r.apply(added('t' + i), 1)
    r.apply(updated('t' + i, 'TASK_FINISHED'), 1)
  }
  r.commit()
  assert.equal(r.tasks.size, 1000)
  assert.ok(r.tasks.has(taskKey('F0', 't2499')))
  assert.deepEqual(r.total.states, { TASK_FINISHED: 1000 })
})

test('100,000 tasks load, and 1,000 events apply, in no time', () => {
  const rows = Array.from({ length: 100_000 }, (_, i) => ['t' + i, 'n', 0, 0, '', 1, 'r', 0.1, 10, 0, 0, null, 1, 1])
  const r = loaded(...rows)
  assert.equal(r.tasks.size, 100_000)
  assert.equal(r.total.states.TASK_RUNNING, 100_000)
  for (let i = 0; i < 1000; i++) r.apply(updated('t' + i, 'TASK_FINISHED'), 1)
  r.commit()
  assert.equal(r.total.states.TASK_FINISHED, 1000)
})
