/** Reactivating an agent that was deactivated or drained. */
import { call } from '~/api/client'
import { confirmAct } from '~/components/Dialog'
import { quantity } from '~/components/ResourceBar'
import { toast } from '~/components/Toast'
import { plus, type Agent } from '~/state/model'

/** openReactivate confirms, and reactivates. */
export function openReactivate(a: Agent): void {
  const free = plus(a.total, a.allocated, -1)
  confirmAct({
    title: `Reactivate ${a.hostname}`,
    confirm: 'Reactivate',
    children: (
      <p>
        What is free there ({quantity('cpus', free.cpus)} CPUs, {quantity('mem', free.mem)} of memory) is offered to frameworks again, at once.
      </p>
    ),
    run: async () => {
      await call('REACTIVATE_AGENT', { agent_id: { value: a.id } })
      toast(`${a.hostname} is active again.`)
    },
  })
}
