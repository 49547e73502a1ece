/** Marking an agent gone: for machines that will never return. */
import { call } from '~/api/client'
import { Note } from '~/components/basic'
import { confirmAct } from '~/components/Dialog'
import { quantity } from '~/components/ResourceBar'
import { toast } from '~/components/Toast'
import type { Agent } from '~/state/model'
import { affected, WhoIsAffected } from './agentActs'

/** openGone has the host name typed, and marks the agent gone. */
export function openGone(a: Agent): void {
  const of = affected(a.id)
  const reserved = a.reserved.cpus + a.reserved.mem + a.reserved.disk + a.reserved.gpus > 0
  confirmAct({
    title: `Mark ${a.hostname} gone`,
    confirm: 'Mark gone for ever',
    danger: true,
    typed: a.hostname,
    children: (
      <>
        <Note tone="bad">This cannot be undone: this agent can never register again.</Note>
        <p>
          <WhoIsAffected of={of} /> {of.tasks > 0 && 'They are reported to their frameworks as gone by the operator, whether or not they still run. If the agent is alive it is told to end.'}
        </p>
        {reserved && (
          <p>
            What is reserved or held in volumes there ({quantity('cpus', a.reserved.cpus)} CPUs, {quantity('mem', a.reserved.mem)} of memory, {quantity('disk', a.reserved.disk)} of disk) is given up.
          </p>
        )}
        <p>For a machine that comes back, drain or deactivate it instead.</p>
      </>
    ),
    run: async () => {
      await call('MARK_AGENT_GONE', { agent_id: { value: a.id } })
      toast(`${a.hostname} is marked gone.`)
    },
  })
}
