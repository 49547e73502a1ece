/** What can be done to an agent, and who would feel it. */
import { plural } from '~/format'
import type { Agent } from '~/state/model'
import { frameworks, tasks } from '~/state/store'
import type { Act } from './act'
import { openCancelDrain } from './cancelDrain'
import { openDeactivate } from './deactivate'
import { openDrain } from './drain'
import { openGone } from './gone'
import { openReactivate } from './reactivate'

/** Affected is who would feel that something happens to an agent. */
export interface Affected {
  tasks: number
  frameworks: string[]
}

/** affected counts the tasks that hold resources of an agent, and names their frameworks. */
export function affected(agentId: string): Affected {
  const of = new Set<string>()
  let n = 0
  for (const t of tasks.values()) {
    if (t.agent !== agentId || !t.active) continue
    n++
    of.add(t.framework)
  }
  return { tasks: n, frameworks: [...of].map((id) => frameworks.peek(id)?.name ?? id).sort() }
}

/** WhoIsAffected says it in a sentence. */
export function WhoIsAffected({ of }: { of: Affected }) {
  if (of.tasks === 0) return <>No task runs there.</>
  const some = of.frameworks.slice(0, 4)
  const more = of.frameworks.length - some.length
  return (
    <>
      <strong>{plural(of.tasks, 'task')}</strong> of <strong>{plural(of.frameworks.length, 'framework')}</strong> {of.tasks === 1 ? 'runs' : 'run'} there (
      {some.join(', ')}
      {more > 0 && ` and ${more} more`}).
    </>
  )
}

const draining = (a: Agent): boolean => a.state === 'DRAINING' || a.state === 'DRAINED'

/** agentActs are what can be done to an agent; see menuItems in act.ts. */
export const agentActs: readonly Act<Agent>[] = [
  { title: 'Drain…', icon: 'drain', needs: 'DRAIN_AGENT', for: (a) => !draining(a), open: openDrain },
  { title: 'Cancel draining…', icon: 'close', needs: 'CANCEL_DRAIN', for: (a) => a.state === 'DRAINING', open: openCancelDrain },
  { title: 'Deactivate…', icon: 'pause', needs: 'DEACTIVATE_AGENT', for: (a) => a.state !== 'DEACTIVATED' && !draining(a), open: openDeactivate },
  { title: 'Reactivate…', icon: 'play', needs: 'REACTIVATE_AGENT', for: (a) => a.state === 'DEACTIVATED' || a.state === 'DRAINED', open: openReactivate },
  { title: 'Mark gone…', icon: 'trash', danger: true, needs: 'MARK_AGENT_GONE', open: openGone },
]
