/** Reads `summary`: the whole cluster at once, tasks by columns so that 100,000 of them are small. */
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
  tasks: { columns: string[]; rows: unknown[][] }
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
    tasks: rows(s),
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

function rows(s: Summary): Task[] {
  const at = new Map(s.tasks.columns.map((c, i) => [c, i]))
  const col = (name: string) => at.get(name) ?? -1
  const c = {
    id: col('task_id'),
    name: col('name'),
    framework: col('framework'),
    agent: col('agent'),
    executor: col('executor_id'),
    state: col('state'),
    role: col('role'),
    cpus: col('cpus'),
    mem: col('mem'),
    disk: col('disk'),
    gpus: col('gpus'),
    healthy: col('healthy'),
    started: col('started'),
    updated: col('updated'),
    active: col('active'),
    container: col('container_id'),
  }
  return s.tasks.rows.map((r) => {
    const state = s.states[r[c.state] as number] ?? 'TASK_UNKNOWN'
    return {
      id: text(r[c.id]),
      name: text(r[c.name]),
      framework: named(r[c.framework], s.frameworks),
      agent: named(r[c.agent], s.agents),
      executor: text(r[c.executor]),
      state,
      role: text(r[c.role]) || '*',
      cpus: number(r[c.cpus]) ?? 0,
      mem: number(r[c.mem]) ?? 0,
      disk: number(r[c.disk]) ?? 0,
      gpus: number(r[c.gpus]) ?? 0,
      healthy: typeof r[c.healthy] === 'boolean' ? (r[c.healthy] as boolean) : undefined,
      started: number(r[c.started]) || undefined,
      updated: number(r[c.updated]) || undefined,
      active: isActive(state),
      container: text(r[c.container]),
    }
  })
}

function text(v: unknown): string {
  return typeof v === 'string' ? v : ''
}

function number(v: unknown): number | undefined {
  return typeof v === 'number' ? v : undefined
}

/** named is the id behind an index; an agent that is not there any more comes as its id. */
function named(v: unknown, list: readonly { id: string }[]): string {
  if (typeof v === 'string') return v
  return typeof v === 'number' ? (list[v]?.id ?? '') : ''
}
