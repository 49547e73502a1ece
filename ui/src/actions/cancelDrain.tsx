/** Taking back a drain that is under way. */
import { own, post } from '~/api/client'
import { confirmAct } from '~/components/Dialog'
import { toast } from '~/components/Toast'
import { plural } from '~/format'
import type { Agent } from '~/state/model'
import { affected } from './agentActs'

/** openCancelDrain confirms, and takes the drain back. */
export function openCancelDrain(a: Agent): void {
  const left = affected(a.id).tasks
  confirmAct({
    title: `Cancel draining ${a.hostname}`,
    confirm: 'Cancel draining',
    children: (
      <p>
        {left > 0 ? `${plural(left, 'task')} of it still ${left === 1 ? 'runs' : 'run'}; those that were asked to end already will end all the same. ` : 'No task runs there any more. '}
        The agent is offered again at once.
      </p>
    ),
    run: async () => {
      await post(own + '/agents/cancel_drain', { agent_id: { value: a.id } })
      toast(`${a.hostname} drains no longer.`)
    },
  })
}
