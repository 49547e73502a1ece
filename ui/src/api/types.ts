/**
 * What comes over the wire. Names are those of Mesos's messages, only fields that the UI reads
 * are listed. Times are seconds since 1970 unless they are a TimeInfo.
 */

/** The four scalars that people plan with. mem and disk in MiB. */
export interface Resources {
  cpus: number
  mem: number
  disk: number
  gpus: number
}

export type ResourceName = keyof Resources

export interface Value<T = string> {
  value: T
}

export interface TimeInfo {
  nanoseconds: number
}

export interface DurationInfo {
  nanoseconds: number
}

export interface Label {
  key: string
  value?: string
}

export interface Labels {
  labels?: Label[]
}

/** Resource is Mesos's Resource message (mesos.proto). */
export interface Resource {
  name: string
  type: 'SCALAR' | 'RANGES' | 'SET' | string
  scalar?: Value<number>
  ranges?: { range?: { begin: number; end: number }[] }
  set?: { item?: string[] }
  role?: string
  allocation_info?: { role?: string }
  reservations?: { type?: string; role?: string; principal?: string; labels?: Labels }[]
  disk?: {
    persistence?: { id: string; principal?: string }
    volume?: { container_path: string; mode?: string }
    source?: { type?: string; path?: { root?: string }; mount?: { root?: string }; id?: string; profile?: string }
  }
  revocable?: object
  shared?: object
  provider_id?: Value
}

export interface Attribute {
  name: string
  type: string
  scalar?: Value<number>
  text?: Value
  ranges?: { range?: { begin: number; end: number }[] }
  set?: { item?: string[] }
}

export interface DomainInfo {
  fault_domain?: { region?: { name?: string }; zone?: { name?: string } }
}

export type TaskState =
  | 'TASK_STAGING'
  | 'TASK_STARTING'
  | 'TASK_RUNNING'
  | 'TASK_KILLING'
  | 'TASK_FINISHED'
  | 'TASK_FAILED'
  | 'TASK_KILLED'
  | 'TASK_ERROR'
  | 'TASK_LOST'
  | 'TASK_DROPPED'
  | 'TASK_UNREACHABLE'
  | 'TASK_GONE'
  | 'TASK_GONE_BY_OPERATOR'
  | 'TASK_UNKNOWN'

export interface ContainerID {
  value: string
  parent?: ContainerID
}

export interface TaskStatus {
  task_id?: Value
  state: TaskState
  message?: string
  source?: string
  reason?: string
  agent_id?: Value
  executor_id?: Value
  timestamp?: number
  healthy?: boolean
  labels?: Labels
  check_status?: { type?: string; command?: { exit_code?: number }; http?: { status_code?: number }; tcp?: { succeeded?: boolean } }
  container_status?: {
    container_id?: ContainerID
    network_infos?: { name?: string; ip_addresses?: { protocol?: string; ip_address?: string }[] }[]
    executor_pid?: number
  }
  unreachable_time?: TimeInfo
}

/** Task is Mesos's Task message: what GET_TASKS and events carry. */
export interface Task {
  name?: string
  task_id: Value
  framework_id: Value
  executor_id?: Value
  agent_id: Value
  state: TaskState
  resources?: Resource[]
  limits?: Record<string, Value<number>>
  statuses?: TaskStatus[]
  status_update_state?: TaskState
  labels?: Labels
  discovery?: {
    visibility?: string
    name?: string
    environment?: string
    location?: string
    version?: string
    ports?: { ports?: { number: number; name?: string; protocol?: string; visibility?: string; labels?: Labels }[] }
    labels?: Labels
  }
  container?: Record<string, unknown>
  health_check?: Record<string, unknown>
  check?: Record<string, unknown>
  kill_policy?: { grace_period?: DurationInfo }
  user?: string
}

export interface FrameworkInfo {
  id?: Value
  name: string
  user?: string
  principal?: string
  hostname?: string
  webui_url?: string
  role?: string
  roles?: string[]
  failover_timeout?: number
  checkpoint?: boolean
  capabilities?: { type: string }[]
  labels?: Labels
}

/** OperatorFramework is an element of GET_FRAMEWORKS. */
export interface OperatorFramework {
  framework_info: FrameworkInfo
  active?: boolean
  connected?: boolean
  recovered?: boolean
  registered_time?: TimeInfo
  reregistered_time?: TimeInfo
  unregistered_time?: TimeInfo
  allocated_resources?: Resource[]
  offered_resources?: Resource[]
  offers?: Record<string, unknown>[]
}

export interface AgentInfo {
  id?: Value
  hostname: string
  port?: number
  resources?: Resource[]
  attributes?: Attribute[]
  domain?: DomainInfo
}

export interface DrainInfo {
  state?: string
  config?: { max_grace_period?: DurationInfo; mark_gone?: boolean }
}

/** OperatorAgent is an element of GET_AGENTS. */
export interface OperatorAgent {
  agent_info: AgentInfo
  active?: boolean
  deactivated?: boolean
  version?: string
  pid?: string
  registered_time?: TimeInfo
  reregistered_time?: TimeInfo
  total_resources?: Resource[]
  allocated_resources?: Resource[]
  offered_resources?: Resource[]
  capabilities?: { type: string }[]
  drain_info?: DrainInfo
  estimated_drain_start_time?: TimeInfo
}

/** OperatorEvent is a record of /api/clusterd/v1/events (docs/events.md). */
export interface OperatorEvent {
  type: string
  token?: string
  subscribed?: {
    resumed?: boolean
    reason?: string
    heartbeat_interval_seconds?: number
    get_state?: {
      get_tasks?: { tasks?: Task[]; pending_tasks?: unknown[]; unreachable_tasks?: Task[]; completed_tasks?: Task[]; orphan_tasks?: Task[] }
      get_frameworks?: { frameworks?: OperatorFramework[]; completed_frameworks?: OperatorFramework[] }
      get_agents?: { agents?: OperatorAgent[]; recovered_agents?: AgentInfo[] }
    }
  }
  task_added?: { task: Task }
  task_updated?: { framework_id: Value; status: TaskStatus; state?: TaskState }
  agent_added?: { agent: OperatorAgent }
  agent_removed?: { agent_id: Value }
  agent_updated?: { agent: OperatorAgent; connected?: boolean }
  framework_added?: { framework: OperatorFramework }
  framework_updated?: { framework: OperatorFramework }
  framework_removed?: { framework_info: FrameworkInfo }
  quotas_updated?: unknown
  weights_updated?: unknown
  maintenance_updated?: unknown
}
