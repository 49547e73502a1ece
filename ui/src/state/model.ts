/** What the UI knows of agents, frameworks and tasks: light objects, made from the summary or from events. */
import type {
  Attribute,
  DomainInfo,
  OperatorAgent,
  OperatorFramework,
  Resource,
  Resources,
  Task as WireTask,
  TaskState,
  TimeInfo,
} from '../api/types'

export type AgentState = 'ACTIVE' | 'DRAINING' | 'DRAINED' | 'DEACTIVATED' | 'DISCONNECTED' | 'UNREACHABLE' | 'RECOVERED' | string

export interface Agent {
  id: string
  /** '' for one that is not registered: nothing but its id is known. */
  hostname: string
  port: number
  version: string
  pid: string
  active: boolean
  connected: boolean
  state: AgentState
  drain: Drain | undefined
  registered: number | undefined
  reregistered: number | undefined
  total: Resources
  allocated: Resources
  offered: Resources
  /** Reserved for some role, allocated or not. */
  reserved: Resources
  attributes: Record<string, string>
  region: string | undefined
  zone: string | undefined
  /** Since when it is unreachable, if it is. */
  since: number | undefined
}

export interface Drain {
  state: string
  mark_gone: boolean
  /** Seconds that tasks are given at most; undefined: what they ask for. */
  max_grace: number | undefined
  /** When draining began, in seconds. */
  started: number | undefined
}

export interface Framework {
  id: string
  name: string
  user: string
  principal: string
  hostname: string
  webui_url: string
  roles: string[]
  /** Roles for which it wants no offers now; as of when the page was loaded. */
  suppressed: string[]
  capabilities: string[]
  active: boolean
  connected: boolean
  /** Torn down, or it failed for good. */
  completed: boolean
  registered: number | undefined
  reregistered: number | undefined
  unregistered: number | undefined
  allocated: Resources
  offered: Resources
}

export interface Task extends Resources {
  id: string
  name: string
  framework: string
  agent: string
  executor: string
  state: TaskState
  role: string
  /** false: a health check failed; undefined: there is none. */
  healthy: boolean | undefined
  started: number | undefined
  updated: number | undefined
  /** It is not at its end, and not unreachable. */
  active: boolean
}

export const zero: Resources = Object.freeze({ cpus: 0, mem: 0, disk: 0, gpus: 0 })

/** names are the four scalars in the order they are shown. */
export const resourceNames = ['cpus', 'mem', 'disk', 'gpus'] as const

/** sum adds up the scalars of resources; keep chooses which. */
export function sum(resources: readonly Resource[] | undefined, keep?: (r: Resource) => boolean): Resources {
  const out: Resources = { cpus: 0, mem: 0, disk: 0, gpus: 0 }
  for (const r of resources ?? []) {
    if (r.type !== 'SCALAR' || (keep !== undefined && !keep(r))) continue
    if (r.name in out) out[r.name as keyof Resources] += r.scalar?.value ?? 0
  }
  return out
}

/** plus is a + sign·b. */
export function plus(a: Resources, b: Resources, sign = 1): Resources {
  return {
    cpus: tidy(a.cpus + sign * b.cpus),
    mem: tidy(a.mem + sign * b.mem),
    disk: tidy(a.disk + sign * b.disk),
    gpus: tidy(a.gpus + sign * b.gpus),
  }
}

/** tidy rounds to a thousandth, as Mesos counts scalars. */
export function tidy(n: number): number {
  return Math.round(n * 1000) / 1000
}

/** isReserved says whether a resource is reserved for a role, in the old form or the new. */
export function isReserved(r: Resource): boolean {
  return (r.reservations?.length ?? 0) > 0 || (r.role !== undefined && r.role !== '*')
}

/** seconds of a TimeInfo. */
export function seconds(t: TimeInfo | undefined): number | undefined {
  return t === undefined ? undefined : t.nanoseconds / 1e9
}

const terminal = new Set<string>([
  'TASK_FINISHED',
  'TASK_FAILED',
  'TASK_KILLED',
  'TASK_ERROR',
  'TASK_LOST',
  'TASK_DROPPED',
  'TASK_GONE',
  'TASK_GONE_BY_OPERATOR',
])

/** isTerminal says whether a task in this state is at its end. */
export function isTerminal(state: string): boolean {
  return terminal.has(state)
}

/** isActive says whether a task in this state holds resources. */
export function isActive(state: string): boolean {
  return !terminal.has(state) && state !== 'TASK_UNREACHABLE'
}

/** agentStateOf is an agent's state in one word. */
export function agentStateOf(a: OperatorAgent, connected: boolean): AgentState {
  const drain = a.drain_info?.state
  if (drain === 'DRAINED') return 'DRAINED'
  if (drain === 'DRAINING') return 'DRAINING'
  if (a.deactivated === true) return 'DEACTIVATED'
  if (!connected) return 'DISCONNECTED'
  return 'ACTIVE'
}

/** agentOf is an agent of GET_AGENTS or of an event; before is what was known of it. */
export function agentOf(a: OperatorAgent, connected: boolean, before?: Agent): Agent {
  const grace = a.drain_info?.config?.max_grace_period?.nanoseconds
  return {
    id: a.agent_info.id?.value ?? '',
    hostname: a.agent_info.hostname,
    port: a.agent_info.port ?? 5051,
    version: a.version ?? '',
    pid: a.pid ?? '',
    active: a.active === true,
    connected,
    state: agentStateOf(a, connected),
    drain:
      a.drain_info === undefined
        ? undefined
        : {
            state: a.drain_info.state ?? 'UNKNOWN',
            mark_gone: a.drain_info.config?.mark_gone === true,
            max_grace: grace === undefined ? undefined : grace / 1e9,
            started: seconds(a.estimated_drain_start_time),
          },
    registered: seconds(a.registered_time),
    reregistered: seconds(a.reregistered_time),
    total: sum(a.total_resources),
    allocated: a.allocated_resources !== undefined ? sum(a.allocated_resources) : (before?.allocated ?? zero),
    offered: a.offered_resources !== undefined ? sum(a.offered_resources) : (before?.offered ?? zero),
    reserved: sum(a.total_resources, isReserved),
    attributes: Object.fromEntries((a.agent_info.attributes ?? []).map((x) => [x.name, attributeText(x)])),
    region: regionOf(a.agent_info.domain),
    zone: a.agent_info.domain?.fault_domain?.zone?.name,
    since: undefined,
  }
}

function regionOf(d: DomainInfo | undefined): string | undefined {
  return d?.fault_domain?.region?.name
}

/** attributeText is an attribute's value as text. */
export function attributeText(a: Attribute): string {
  if (a.text !== undefined) return a.text.value
  if (a.scalar !== undefined) return String(a.scalar.value)
  if (a.ranges !== undefined) return '[' + (a.ranges.range ?? []).map((r) => r.begin + '-' + r.end).join(', ') + ']'
  if (a.set !== undefined) return '{' + (a.set.item ?? []).join(', ') + '}'
  return ''
}

/** frameworkOf is a framework of GET_FRAMEWORKS or of an event. */
export function frameworkOf(f: OperatorFramework, completed: boolean, before?: Framework): Framework {
  const info = f.framework_info
  const roles = info.roles !== undefined && info.roles.length > 0 ? info.roles : [info.role ?? '*']
  return {
    id: info.id?.value ?? '',
    name: info.name,
    user: info.user ?? '',
    principal: info.principal ?? '',
    hostname: info.hostname ?? '',
    webui_url: info.webui_url ?? '',
    roles,
    suppressed: before?.suppressed ?? [],
    capabilities: (info.capabilities ?? []).map((c) => c.type),
    active: f.active === true,
    connected: f.connected === true,
    completed,
    registered: seconds(f.registered_time),
    reregistered: seconds(f.reregistered_time),
    unregistered: seconds(f.unregistered_time),
    allocated: f.allocated_resources !== undefined ? sum(f.allocated_resources) : (before?.allocated ?? zero),
    offered: f.offered_resources !== undefined ? sum(f.offered_resources) : (before?.offered ?? zero),
  }
}

/** taskOf is a task of GET_TASKS or of an event. */
export function taskOf(t: WireTask): Task {
  const last = t.statuses?.at(-1)
  return {
    id: t.task_id.value,
    name: t.name ?? '',
    framework: t.framework_id.value,
    agent: t.agent_id.value,
    executor: t.executor_id?.value ?? '',
    state: t.state,
    role: t.resources?.[0]?.allocation_info?.role ?? '*',
    ...sum(t.resources),
    healthy: last?.healthy,
    started: t.statuses?.find((s) => s.state === 'TASK_RUNNING')?.timestamp ?? t.statuses?.[0]?.timestamp,
    updated: last?.timestamp,
    active: isActive(t.state),
  }
}

/** taskKey is a task's key: ids of tasks are unique within a framework only. */
export function taskKey(framework: string, id: string): string {
  return framework + '\n' + id
}
