/**
 * What is known of the cluster, and how events change it. No I/O and no clock: state/sync.ts feeds
 * it, state/store.ts holds the one that the pages look at. Tested in test/reducer.test.ts.
 */
import { signal } from '@preact/signals'
import type { OperatorEvent, Resources, Task as WireTask, TaskState } from '../api/types'
import { Collection } from './collection'
import {
  agentOf,
  frameworkOf,
  isActive,
  isTerminal,
  plus,
  taskKey,
  taskOf,
  zero,
  type Agent,
  type Framework,
  type Task,
} from './model'
import { readSummary, type Summary } from './summary'

/** Tally counts the tasks of an agent, of a framework or of all. */
export interface Tally {
  states: Partial<Record<TaskState, number>>
  /** Tasks that hold resources, and what they hold. */
  active: number
  used: Resources
}

/** Notable is something that happened, for people. */
export interface Notable {
  time: number
  type: string
  text: string
  agent_id?: string
  framework_id?: string
  task_id?: string
  state?: string
}

/** Leader is the master that leads. */
export interface Leader {
  id: string
  hostname: string
  port: number
  pid: string
  version: string
  cluster: string
  started: number | undefined
  elected: number | undefined
  build: string
  commit: string
}

const emptyTally: Tally = Object.freeze({ states: Object.freeze({}), active: 0, used: zero })

/** As many tasks at their end are kept for a framework; masters keep as many by default. */
const maxCompletedTasks = 1000
const maxCompletedFrameworks = 50
const maxRecent = 200

export class Reducer {
  readonly agents = new Collection<Agent>()
  readonly frameworks = new Collection<Framework>()
  /** By taskKey(framework, task). */
  readonly tasks = new Collection<Task>()
  /** What happened since the page was opened, the newest first. */
  readonly recent = signal<readonly Notable[]>([])

  private byAgent = new Map<string, Tally>()
  private byFramework = new Map<string, Tally>()
  private overall: Tally = fresh()
  private readonly tallies = signal(0)
  private talliesChanged = false
  /** What tasks took or gave back since the last commit, by agent and by framework. */
  private readonly owedAgents = new Map<string, Resources>()
  private readonly owedFrameworks = new Map<string, Resources>()
  private readonly ended = new Map<string, string[]>()
  private news: Notable[] = []

  /** tallyOfAgent counts the tasks of an agent. */
  tallyOfAgent(id: string): Tally {
    void this.tallies.value
    return this.byAgent.get(id) ?? emptyTally
  }

  /** tallyOfFramework counts the tasks of a framework. */
  tallyOfFramework(id: string): Tally {
    void this.tallies.value
    return this.byFramework.get(id) ?? emptyTally
  }

  /** total counts all tasks. */
  get total(): Tally {
    void this.tallies.value
    return this.overall
  }

  /** taskCount is how many tasks are known, without being told of changes. */
  get taskCount(): number {
    return this.tasks.count
  }

  /** load replaces all that is known. */
  load(s: Summary): Leader {
    this.reset()
    const read = readSummary(s)
    for (const a of read.agents) this.agents.set(a.id, a)
    for (const f of read.frameworks) this.frameworks.set(f.id, f)
    for (const t of read.tasks) this.put(t, false)
    this.commit()
    return read.leader
  }

  /** commit tells the pages what has changed. */
  commit(): void {
    for (const [id, r] of this.owedAgents) {
      const a = this.agents.peek(id)
      if (a !== undefined) this.agents.set(id, { ...a, allocated: plus(a.allocated, r) })
    }
    for (const [id, r] of this.owedFrameworks) {
      const f = this.frameworks.peek(id)
      if (f !== undefined) this.frameworks.set(id, { ...f, allocated: plus(f.allocated, r) })
    }
    this.owedAgents.clear()
    this.owedFrameworks.clear()
    this.agents.commit()
    this.frameworks.commit()
    this.tasks.commit()
    if (this.talliesChanged) {
      this.talliesChanged = false
      this.tallies.value++
    }
    if (this.news.length > 0) {
      this.recent.value = [...this.news.reverse(), ...this.recent.peek()].slice(0, maxRecent)
      this.news = []
    }
  }

  /** apply changes what is known by one event; readers see it after commit. now is in seconds. */
  apply(e: OperatorEvent, now: number): void {
    switch (e.type) {
      case 'SUBSCRIBED':
        if (e.subscribed?.get_state !== undefined) this.loadState(e.subscribed.get_state)
        return
      case 'TASK_ADDED':
        if (e.task_added !== undefined) this.put(taskOf(e.task_added.task), true)
        return
      case 'TASK_UPDATED':
        if (e.task_updated !== undefined) this.updateTask(e.task_updated, now)
        return
      case 'AGENT_ADDED':
        if (e.agent_added !== undefined) {
          const a = agentOf(e.agent_added.agent, true, this.agents.peek(e.agent_added.agent.agent_info.id?.value ?? ''))
          if (this.agents.peek(a.id) === undefined) this.say({ time: now, type: e.type, text: `Agent ${a.hostname} joined`, agent_id: a.id })
          this.agents.set(a.id, a)
        }
        return
      case 'AGENT_UPDATED':
        if (e.agent_updated !== undefined) {
          const before = this.agents.peek(e.agent_updated.agent.agent_info.id?.value ?? '')
          const a = agentOf(e.agent_updated.agent, e.agent_updated.connected === true, before)
          this.agents.set(a.id, a)
          if (before !== undefined && before.state !== a.state)
            this.say({ time: now, type: e.type, text: `Agent ${a.hostname} is ${a.state.toLowerCase()}`, agent_id: a.id, state: a.state })
        }
        return
      case 'AGENT_REMOVED':
        if (e.agent_removed !== undefined) {
          this.removeAgent(e.agent_removed.agent_id.value, now)
        }
        return
      case 'FRAMEWORK_ADDED':
      case 'FRAMEWORK_UPDATED': {
        const wire = (e.framework_added ?? e.framework_updated)?.framework
        if (wire === undefined) return
        const before = this.frameworks.peek(wire.framework_info.id?.value ?? '')
        const f = frameworkOf(wire, false, before)
        this.frameworks.set(f.id, f)
        if (before === undefined) this.say({ time: now, type: e.type, text: `Framework ${f.name} registered`, framework_id: f.id })
        else if (before.connected !== f.connected)
          this.say({ time: now, type: e.type, text: `Framework ${f.name} ${f.connected ? 'came back' : 'disconnected'}`, framework_id: f.id })
        return
      }
      case 'FRAMEWORK_REMOVED':
        if (e.framework_removed !== undefined) this.removeFramework(e.framework_removed.framework_info.id?.value ?? '', e.framework_removed.framework_info.name, now)
        return
    }
  }

  /** forget knows nothing any more, nor what has happened. */
  forget(): void {
    this.reset()
    this.news = []
    this.recent.value = []
    this.commit()
  }

  private reset(): void {
    this.agents.clear()
    this.frameworks.clear()
    this.tasks.clear()
    this.byAgent = new Map()
    this.byFramework = new Map()
    this.overall = fresh()
    this.talliesChanged = true
    this.owedAgents.clear()
    this.owedFrameworks.clear()
    this.ended.clear()
  }

  /** loadState replaces all by what SUBSCRIBED carries. */
  private loadState(s: NonNullable<NonNullable<OperatorEvent['subscribed']>['get_state']>): void {
    this.reset()
    for (const a of s.get_agents?.agents ?? []) {
      const agent = agentOf(a, a.active === true)
      this.agents.set(agent.id, agent)
    }
    for (const f of s.get_frameworks?.completed_frameworks ?? []) {
      const fw = frameworkOf(f, true)
      this.frameworks.set(fw.id, fw)
    }
    for (const f of s.get_frameworks?.frameworks ?? []) {
      const fw = frameworkOf(f, false)
      this.frameworks.set(fw.id, fw)
    }
    const put = (list: readonly WireTask[] | undefined) => {
      for (const t of list ?? []) this.put(taskOf(t), false)
    }
    put(s.get_tasks?.completed_tasks)
    put(s.get_tasks?.unreachable_tasks)
    put(s.get_tasks?.tasks)
  }

  private updateTask(u: NonNullable<OperatorEvent['task_updated']>, now: number): void {
    const id = u.status.task_id?.value ?? ''
    const key = taskKey(u.framework_id.value, id)
    const before = this.tasks.peek(key)
    if (before === undefined) return
    const state = u.state ?? u.status.state
    const t: Task = {
      ...before,
      state,
      active: isActive(state),
      healthy: u.status.healthy ?? before.healthy,
      updated: u.status.timestamp ?? now,
    }
    if (state === 'TASK_RUNNING' && before.state !== 'TASK_RUNNING' && before.state !== 'TASK_UNREACHABLE') t.started = u.status.timestamp ?? now
    this.put(t, true)
    if (state !== before.state && notableStates.has(state))
      this.say({
        time: t.updated ?? now,
        type: 'TASK_UPDATED',
        text: `Task ${t.name || t.id} is ${state.slice(5).toLowerCase().replaceAll('_', ' ')}` + (u.status.message ? ': ' + u.status.message : ''),
        agent_id: t.agent,
        framework_id: t.framework,
        task_id: t.id,
        state,
      })
  }

  /** removeAgent keeps an agent that was given up as unreachable; the event does not tell it from one that has left. */
  private removeAgent(id: string, now: number): void {
    const a = this.agents.peek(id)
    if (a === undefined) return
    const name = a.hostname || id
    this.owedAgents.delete(id) // what its tasks gave back is in the zero below
    const gone = (this.byAgent.get(id)?.states.TASK_GONE_BY_OPERATOR ?? 0) > 0
    if (a.connected || gone || a.drain?.mark_gone === true) {
      this.agents.delete(id)
      this.say({ time: now, type: 'AGENT_REMOVED', text: `Agent ${name} was removed`, agent_id: id })
      return
    }
    this.agents.set(id, { ...a, state: 'UNREACHABLE', active: false, connected: false, total: zero, allocated: zero, offered: zero, reserved: zero, since: now })
    this.say({ time: now, type: 'AGENT_REMOVED', text: `Agent ${name} is unreachable`, agent_id: id, state: 'UNREACHABLE' })
  }

  private removeFramework(id: string, name: string, now: number): void {
    const f = this.frameworks.peek(id)
    if (f === undefined) return
    // What still ran when its framework was removed was killed.
    for (const t of this.tasks.values()) {
      if (t.framework === id && !isTerminal(t.state)) this.put({ ...t, state: 'TASK_KILLED', active: false, updated: now }, true)
    }
    this.frameworks.delete(id) // so that it comes last
    this.frameworks.set(id, { ...f, active: false, connected: false, completed: true, unregistered: now, offered: zero })
    this.say({ time: now, type: 'FRAMEWORK_REMOVED', text: `Framework ${name} is gone`, framework_id: id })
    const done = [...this.frameworks.values()].filter((x) => x.completed)
    for (const old of done.slice(0, Math.max(0, done.length - maxCompletedFrameworks))) {
      this.frameworks.delete(old.id)
      for (const t of [...this.tasks.values()]) if (t.framework === old.id) this.drop(t)
    }
  }

  /** put adds or replaces a task. owe: it takes or gives back resources that agents count. */
  private put(t: Task, owe: boolean): void {
    const key = taskKey(t.framework, t.id)
    const before = this.tasks.peek(key)
    if (before !== undefined) this.count(before, -1, owe)
    this.tasks.set(key, t)
    this.count(t, 1, owe)
    if (isTerminal(t.state) && (before === undefined || !isTerminal(before.state))) {
      const q = this.ended.get(t.framework) ?? []
      q.push(key)
      this.ended.set(t.framework, q)
      if (q.length > maxCompletedTasks) {
        const old = this.tasks.peek(q.shift() ?? '')
        if (old !== undefined && isTerminal(old.state)) this.drop(old)
      }
    }
  }

  private drop(t: Task): void {
    this.count(t, -1, false)
    this.tasks.delete(taskKey(t.framework, t.id))
  }

  private count(t: Task, sign: 1 | -1, owe: boolean): void {
    add(this.overall, t, sign)
    add(tallyIn(this.byAgent, t.agent), t, sign)
    add(tallyIn(this.byFramework, t.framework), t, sign)
    this.talliesChanged = true
    if (owe && t.active) {
      if (this.agents.peek(t.agent)?.state !== 'UNREACHABLE') this.owedAgents.set(t.agent, plus(this.owedAgents.get(t.agent) ?? zero, t, sign))
      this.owedFrameworks.set(t.framework, plus(this.owedFrameworks.get(t.framework) ?? zero, t, sign))
    }
  }

  private say(n: Notable): void {
    this.news.push(n)
  }
}

const notableStates = new Set<string>([
  'TASK_FAILED',
  'TASK_ERROR',
  'TASK_LOST',
  'TASK_DROPPED',
  'TASK_UNREACHABLE',
  'TASK_GONE',
  'TASK_GONE_BY_OPERATOR',
  'TASK_KILLED',
])

function fresh(): Tally {
  return { states: {}, active: 0, used: { ...zero } }
}

function tallyIn(map: Map<string, Tally>, key: string): Tally {
  let t = map.get(key)
  if (t === undefined) {
    t = fresh()
    map.set(key, t)
  }
  return t
}

/** add counts a task in place: a tally is read through a version, never by identity. */
function add(into: Tally, t: Task, sign: 1 | -1): void {
  const n = (into.states[t.state] ?? 0) + sign
  if (n === 0) delete into.states[t.state]
  else into.states[t.state] = n
  if (t.active) {
    into.active += sign
    into.used.cpus += sign * t.cpus
    into.used.mem += sign * t.mem
    into.used.disk += sign * t.disk
    into.used.gpus += sign * t.gpus
  }
}

