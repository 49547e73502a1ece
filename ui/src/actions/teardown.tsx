/** Tearing down a framework: all its tasks are killed, and it may not come back. */
import { call } from '~/api/client'
import { confirmAct } from '~/components/Dialog'
import { toast } from '~/components/Toast'
import { plural } from '~/format'
import { can } from '~/session'
import type { Framework } from '~/state/model'
import { tasks } from '~/state/store'

/** mayTeardown says whether a framework can be torn down, and the reader may do so. */
export function mayTeardown(f: Framework): boolean {
  return can('TEARDOWN_FRAMEWORK') && !f.completed
}

/** Held is what a framework has running, and where. */
export interface Held {
  tasks: number
  agents: number
}

/** heldBy counts the tasks of a framework that hold resources, and the agents they are on. */
export function heldBy(frameworkId: string): Held {
  const on = new Set<string>()
  let n = 0
  for (const t of tasks.values()) {
    if (t.framework !== frameworkId || !t.active) continue
    n++
    on.add(t.agent)
  }
  return { tasks: n, agents: on.size }
}

/** openTeardown asks, and tears down. The name must be typed when something runs. */
export function openTeardown(f: Framework): void {
  const held = heldBy(f.id)
  const name = f.name || f.id
  confirmAct({
    title: `Tear down ${name}`,
    confirm: held.tasks === 0 ? 'Tear down' : `Tear down, kill ${plural(held.tasks, 'task')}`,
    danger: true,
    ...(held.tasks > 0 ? { typed: name } : {}),
    children: (
      <>
        <p>
          {held.tasks === 0 ? (
            'It has no task running.'
          ) : (
            <>
              <strong>
                {plural(held.tasks, 'task')} on {plural(held.agents, 'agent')} will be killed
              </strong>
              , at once and without their framework being asked.
            </>
          )}
        </p>
        <p>
          The framework is disconnected and may not register again with its id <code>{f.id}</code>. What it has reserved and its volumes stay. This cannot be undone.
        </p>
      </>
    ),
    run: async () => {
      await call('TEARDOWN', { framework_id: { value: f.id } })
      toast(`${name} was torn down.`)
    },
  })
}
