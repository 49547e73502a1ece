/** Reads `summary`: the whole cluster at once, tasks by columns so that 100,000 of them are small (docs/http-api.md). */
import type { Resources, TaskState } from '../api/types'
import { isActive, zero, type Agent, type Framework, type Task } from './model'
import type { Leader } from './reducer'

/** Summary is the answer of GET /api/clusterd/v1/summary. */
export interface Summary {
  token: string
  /** When the master made this, in seconds. */
  taken?: number
  leader: { id: string; hostname: string; port: number; pid: string; version: string; region?: string; zone?: string }
  cluster?: string
  start_time?: number
  elected_time?: number
  build?: { clusterd?: string; version?: string; git_sha?: string; git_branch?: string; build_date?: string; build_time?: number; build_user?: string }
  states: TaskState[]
  agents: SummaryAgent[]
  frameworks: SummaryFramework[]
  tasks: TaskTable
}

/** A value for each task, or the one of all. */
export type Column<T> = readonly T[] | T

/** A text, or the number of one that stands before: the n-th that is written out. */
export type CodedText = string | number

export interface TaskTable {
  rows: number
  /** Seconds that started counts from. */
  since: number
  columns: {
    task_id?: Column<string>
    /** null: it is the task's id. */
    name?: Column<CodedText | null>
    framework?: Column<number>
    agent?: Column<number>
    executor_id?: Column<CodedText>
    state?: Column<number>
    role?: Column<CodedText>
    cpus?: Column<number>
    mem?: Column<number>
    disk?: Column<number>
    gpus?: Column<number>
    healthy?: Column<boolean | null>
    /** Milliseconds. */
    started?: Column<number | null>
    /** Milliseconds after started, or after since. */
    updated?: Column<number | null>
  }
}

export interface SummaryAgent {
  id: string
  /** Absent for one that is not registered. */
  hostname?: string
  port?: number
  version?: string
  pid?: string
  active?: boolean
  connected?: boolean
  state?: string
  /** It has not been registered since. */
  since?: number
  drain?: { state?: string; mark_gone?: boolean; max_grace?: number; started?: number }
  registered?: number
  reregistered?: number
  total?: Partial<Resources>
  allocated?: Partial<Resources>
  offered?: Partial<Resources>
  reserved?: Partial<Resources>
  attributes?: Record<string, unknown>
  region?: string
  zone?: string
}

export interface SummaryFramework {
  id: string
  name?: string
  user?: string
  principal?: string
  hostname?: string
  webui_url?: string
  roles?: string[]
  suppressed?: string[]
  capabilities?: string[]
  active?: boolean
  connected?: boolean
  completed?: boolean
  registered?: number
  reregistered?: number
  unregistered?: number
  allocated?: Partial<Resources>
  offered?: Partial<Resources>
}

/** readSummary makes the light objects of it. */
export function readSummary(s: Summary): { leader: Leader; agents: Agent[]; frameworks: Framework[]; tasks: Task[] } {
  return {
    leader: {
      id: s.leader?.id ?? '',
      hostname: s.leader?.hostname ?? '',
      port: s.leader?.port ?? 0,
      pid: s.leader?.pid ?? '',
      version: s.leader?.version ?? '',
      cluster: s.cluster ?? '',
      started: s.start_time,
      elected: s.elected_time,
      build: s.build?.clusterd ?? '',
      commit: s.build?.git_sha ?? '',
    },
    agents: s.agents.filter((a) => a.state !== 'REMOVED' && a.state !== 'GONE').map(agent),
    frameworks: s.frameworks.map(framework),
    tasks: tasks(s),
  }
}

function scalars(r: Partial<Resources> | undefined): Resources {
  return r === undefined ? zero : { cpus: r.cpus ?? 0, mem: r.mem ?? 0, disk: r.disk ?? 0, gpus: r.gpus ?? 0 }
}

function agent(a: SummaryAgent): Agent {
  const connected = a.connected === true
  return {
    id: a.id,
    hostname: a.hostname ?? '',
    port: a.port ?? 5051,
    version: a.version ?? '',
    pid: a.pid ?? '',
    active: a.active === true,
    connected,
    state: a.state ?? (connected ? 'ACTIVE' : 'DISCONNECTED'),
    drain:
      a.drain === undefined
        ? undefined
        : { state: a.drain.state ?? 'UNKNOWN', mark_gone: a.drain.mark_gone === true, max_grace: a.drain.max_grace, started: a.drain.started },
    registered: a.registered,
    reregistered: a.reregistered,
    total: scalars(a.total),
    allocated: scalars(a.allocated),
    offered: scalars(a.offered),
    reserved: scalars(a.reserved),
    attributes: attributes(a.attributes),
    region: a.region,
    zone: a.zone,
    since: a.since,
  }
}

function attributes(of: SummaryAgent['attributes']): Record<string, string> {
  if (of === undefined) return {}
  return Object.fromEntries(Object.entries(of).map(([k, v]) => [k, typeof v === 'string' ? v : JSON.stringify(v)]))
}

function framework(f: SummaryFramework): Framework {
  return {
    id: f.id,
    name: f.name ?? '',
    user: f.user ?? '',
    principal: f.principal ?? '',
    hostname: f.hostname ?? '',
    webui_url: f.webui_url ?? '',
    roles: f.roles ?? [],
    suppressed: f.suppressed ?? [],
    capabilities: f.capabilities ?? [],
    active: f.active === true,
    connected: f.connected === true,
    completed: f.completed === true,
    registered: f.registered,
    reregistered: f.reregistered,
    unregistered: f.unregistered,
    allocated: scalars(f.allocated),
    offered: scalars(f.offered),
  }
}

function tasks(s: Summary): Task[] {
  const c = s.tasks.columns
  const id = values(c.task_id, '')
  const name = values(written(c.name), null)
  const framework = values(c.framework, -1)
  const agent = values(c.agent, -1)
  const executor = values(written(c.executor_id), '')
  const state = values(c.state, -1)
  const role = values(written(c.role), '')
  const cpus = values(c.cpus, 0)
  const mem = values(c.mem, 0)
  const disk = values(c.disk, 0)
  const gpus = values(c.gpus, 0)
  const healthy = values(c.healthy, null)
  const started = values(c.started, null)
  const updated = values(c.updated, null)
  const list: Task[] = []
  for (let i = 0; i < s.tasks.rows; i++) {
    const is = s.states[state(i)] ?? 'TASK_UNKNOWN'
    const began = started(i)
    const from = s.tasks.since + (began ?? 0) / 1000
    const last = updated(i)
    list.push({
      id: id(i),
      name: name(i) ?? id(i),
      framework: s.frameworks[framework(i)]?.id ?? '',
      agent: s.agents[agent(i)]?.id ?? '',
      executor: executor(i) ?? '',
      state: is,
      role: role(i) || '*',
      cpus: cpus(i),
      mem: mem(i),
      disk: disk(i),
      gpus: gpus(i),
      healthy: healthy(i) ?? undefined,
      started: began === null ? undefined : from,
      updated: last === null ? undefined : from + last / 1000,
      active: isActive(is),
    })
  }
  return list
}

/** values reads a column; what is missing is as the other. */
function values<T extends string | number | boolean | null>(c: Column<T> | undefined, other: T): (i: number) => T {
  if (c === undefined) return () => other
  if (isList(c)) return (i) => c[i] ?? other
  return () => c
}

function isList<T>(c: Column<T>): c is readonly T[] {
  return Array.isArray(c)
}

/** written has the texts themselves for the numbers that stand for them. */
function written(c: Column<CodedText | null> | undefined): Column<string | null> | undefined {
  if (c === undefined || c === null || typeof c === 'string') return c
  if (!isList(c)) return ''
  const texts: string[] = []
  return c.map((v) => {
    if (typeof v === 'number') return texts[v] ?? ''
    if (v !== null) texts.push(v)
    return v
  })
}
