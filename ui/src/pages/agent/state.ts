/** What an agent says of itself at /state, as far as the pages read it, and how to find things in it. */
import { agentPath, get } from '~/api/client'
import type { Labels, Resource, Resources } from '~/api/types'

export interface AgentTask {
  id: string
  name: string
  framework_id?: string
  executor_id: string
  slave_id: string
  state?: string
  resources: Partial<Resources>
  limits?: { cpus?: number; mem?: number }
  role?: string
  user?: string
  labels?: Labels['labels']
  statuses?: { state: string; timestamp: number; healthy?: boolean; container_status?: { container_id?: { value: string } } }[]
}

export interface AgentExecutor {
  id: string
  name: string
  source: string
  container: string
  directory: string
  resources: Partial<Resources>
  role?: string
  type?: string
  labels?: Labels['labels']
  tasks: AgentTask[]
  queued_tasks: AgentTask[]
  completed_tasks: AgentTask[]
}

export interface AgentFramework {
  id: string
  name: string
  user: string
  hostname: string
  principal?: string
  role?: string
  roles?: string[]
  checkpoint: boolean
  failover_timeout: number
  executors: AgentExecutor[]
  completed_executors: AgentExecutor[]
}

export interface AgentState {
  id: string
  hostname: string
  version: string
  git_sha?: string
  build_date?: string
  build_time?: number
  build_user?: string
  start_time: number
  pid: string
  capabilities: string[]
  master_hostname?: string
  log_dir?: string
  external_log_file?: string
  flags?: Record<string, string>
  attributes: Record<string, string | number>
  resources: Partial<Resources> & Record<string, unknown>
  reserved_resources: Record<string, Partial<Resources> & Record<string, unknown>>
  unreserved_resources: Partial<Resources> & Record<string, unknown>
  reserved_resources_full: Record<string, Resource[]>
  reserved_resources_allocated: Record<string, Partial<Resources> & Record<string, unknown>>
  unreserved_resources_allocated: Partial<Resources> & Record<string, unknown>
  drain_config?: { max_grace_period?: { nanoseconds: number }; mark_gone?: boolean }
  estimated_drain_start_time_seconds?: number
  resource_providers?: { resource_provider_info?: { id?: { value: string }; type?: string; name?: string }; total_resources?: Resource[] }[]
  frameworks: AgentFramework[]
  completed_frameworks: AgentFramework[]
}

/** statePath is what to watch for an agent's state. */
export function statePath(agent: string): string {
  return agentPath(agent, '/state')
}

/** hasLog says whether an agent writes a log that can be read at /slave/log. */
export function hasLog(s: AgentState): boolean {
  return (s.log_dir ?? '') !== '' || (s.external_log_file ?? '') !== ''
}

/** Found is an executor in an agent's state. */
export interface Found {
  framework: AgentFramework
  executor: AgentExecutor
  completed: boolean
}

/** findExecutor finds an executor that runs, or else the last of that id that ran. */
export function findExecutor(s: AgentState, framework: string, executor: string): Found | undefined {
  for (const f of [...s.frameworks, ...s.completed_frameworks]) {
    if (f.id !== framework) continue
    const running = f.executors.find((e) => e.id === executor)
    if (running !== undefined) return { framework: f, executor: running, completed: false }
    const ended = f.completed_executors.findLast((e) => e.id === executor)
    if (ended !== undefined) return { framework: f, executor: ended, completed: true }
  }
  return undefined
}

/** executorWith finds the executor that a task runs in, whatever that is. */
export function executorWith(s: AgentState, framework: string, task: string): Found | undefined {
  const holds = (e: AgentExecutor): boolean => [e.tasks, e.queued_tasks, e.completed_tasks].some((l) => l.some((t) => t.id === task))
  for (const f of [...s.frameworks, ...s.completed_frameworks]) {
    if (f.id !== framework) continue
    const running = f.executors.find(holds)
    if (running !== undefined) return { framework: f, executor: running, completed: false }
    const ended = f.completed_executors.findLast(holds)
    if (ended !== undefined) return { framework: f, executor: ended, completed: true }
  }
  return undefined
}

/** readState asks an agent. */
export function readState(agent: string, signal?: AbortSignal): Promise<AgentState> {
  return get<AgentState>(statePath(agent), signal === undefined ? undefined : { signal })
}
