/** Deactivating an agent: its tasks go on, nothing new comes to it. */
import { call } from '~/api/client'
import { confirmAct } from '~/components/Dialog'
import { toast } from '~/components/Toast'
import type { Agent } from '~/state/model'
import { affected, WhoIsAffected } from './agentActs'

/** openDeactivate confirms, and deactivates. */
export function openDeactivate(a: Agent): void {
  const of = affected(a.id)
  confirmAct({
    title: `Deactivate ${a.hostname}`,
    confirm: 'Deactivate',
    children: (
      <>
        <p>
          <WhoIsAffected of={of} /> {of.tasks > 0 && (of.tasks === 1 ? 'It goes on.' : 'They go on.')}
        </p>
        <p>Offers of this agent are taken back, and it is offered to nobody until it is reactivated.</p>
      </>
    ),
    run: async () => {
      await call('DEACTIVATE_AGENT', { agent_id: { value: a.id } })
      toast(`${a.hostname} is deactivated.`)
    },
  })
}
