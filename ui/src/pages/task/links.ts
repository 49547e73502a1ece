/** Where the pages about a task are. */
import { href } from '~/router'
import type { Task } from '~/state/model'
import { agents } from '~/state/store'

/** taskHref is the page of a task, at a tab of it. */
export function taskHref(t: { framework: string; id: string }, tab = ''): string {
  return href('task', { framework_id: t.framework, task_id: t.id }, { tab })
}

/** executorOf is the executor of a task: a task without one has the command executor, of the task's own id. */
export function executorOf(t: Pick<Task, 'id' | 'executor'>): string {
  return t.executor !== '' ? t.executor : t.id
}

/** sandboxHref leads to the sandbox of a task, whichever directory that is. */
export function sandboxHref(t: Pick<Task, 'id' | 'executor' | 'framework' | 'agent'>): string {
  return href('taskBrowse', { agent_id: t.agent, framework_id: t.framework, executor_id: executorOf(t), task_id: t.id })
}

/** hostOf is the host name of an agent, or its id if it is not known (any more). */
export function hostOf(agent: string): string {
  return agents.peek(agent)?.hostname ?? agent
}
