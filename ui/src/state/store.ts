/**
 * The cluster as the pages see it. Reading any of these while drawing subscribes the component:
 * `agents.all`, `agents.get(id)`, `tasks.all`, `tallyOfAgent(id).active`, `leader.value` ...
 */
import { computed, signal } from '@preact/signals'
import { Reducer, type Leader, type Tally } from './reducer'
import { taskKey, type Task } from './model'

export const reducer = new Reducer()

/** agents by id; removed ones are not there. */
export const agents = reducer.agents
/** frameworks by id: active, inactive and the last completed ones. */
export const frameworks = reducer.frameworks
/** tasks by taskKey(framework, task): all that hold resources, unreachable ones, the last completed ones. */
export const tasks = reducer.tasks
/** recent is what happened since the page was opened, the newest first. */
export const recent = reducer.recent

/** findTask is one task. */
export function findTask(framework: string, id: string): Task | undefined {
  return tasks.get(taskKey(framework, id))
}

export function tallyOfAgent(id: string): Tally {
  return reducer.tallyOfAgent(id)
}

export function tallyOfFramework(id: string): Tally {
  return reducer.tallyOfFramework(id)
}

/** counts are all tasks by state. */
export const counts = computed(() => ({ ...reducer.total.states }))

export const leader = signal<Leader | undefined>(undefined)

/** ready is true once the cluster is known; until then pages show skeletons. */
export const ready = signal(false)

export type Connection = 'connecting' | 'live' | 'lost' | 'failover'

export const connection = signal<Connection>('connecting')

/** masters are the addresses of all masters, as far as the reader may know them: others answer when this one does not. */
export const masters = signal<readonly string[]>([])

/** trouble is why the connection is lost, and when (in seconds) it is tried again. */
export const trouble = signal<{ message: string; retryAt: number } | undefined>(undefined)
