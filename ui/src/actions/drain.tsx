/** Draining an agent: its tasks are killed with grace, and it is offered to nobody. */
import { useSignal } from '@preact/signals'
import { call } from '~/api/client'
import { ConfirmDialog, openDialog } from '~/components/Dialog'
import { CheckField, NumberField, SelectField } from '~/components/Form'
import { toast } from '~/components/Toast'
import { plural } from '~/format'
import type { Agent } from '~/state/model'
import { affected, WhoIsAffected } from './agentActs'

/** openDrain asks how, and drains. */
export function openDrain(a: Agent): void {
  openDialog((close) => <DrainDialog agent={a} onClose={close} />)
}

const units = [
  { value: '1', title: 'seconds' },
  { value: '60', title: 'minutes' },
  { value: '3600', title: 'hours' },
]

function DrainDialog({ agent, onClose }: { agent: Agent; onClose: () => void }) {
  const limited = useSignal(false)
  const grace = useSignal(10)
  const unit = useSignal('60')
  const gone = useSignal(false)
  const of = affected(agent.id)
  const seconds = Math.round(grace.value * Number(unit.value))
  const bad = limited.value && !(seconds >= 0)
  const run = async (): Promise<void> => {
    await call('DRAIN_AGENT', {
      agent_id: { value: agent.id },
      ...(limited.value ? { max_grace_period: { seconds } } : {}),
      mark_gone: gone.value,
    })
    toast(`${agent.hostname} is draining.`)
  }
  return (
    <ConfirmDialog title={`Drain ${agent.hostname}`} confirm={of.tasks === 0 ? 'Drain' : `Drain, kill ${plural(of.tasks, 'task')}`} danger={of.tasks > 0} disabled={bad} run={run} onClose={onClose}>
      <p>
        <WhoIsAffected of={of} /> {of.tasks > 0 && 'They are asked to end, and killed when their grace period is over. Their frameworks may start them again elsewhere.'}
      </p>
      <p>The agent is offered to nobody any more, until it is reactivated.</p>
      <CheckField label="Limit the grace period" hint="Otherwise each task has as long as it asked for." value={limited} />
      {limited.value && (
        <div class="field-row">
          <NumberField label="At most" value={grace} min={0} error={bad ? 'A number that is not negative' : undefined} />
          <SelectField label="Unit" value={unit} options={units} />
        </div>
      )}
      <CheckField label="Mark it gone when it is drained" hint="For a machine that will not come back: its volumes and reservations are given up, and the agent may never register again. This cannot be undone." value={gone} />
    </ConfirmDialog>
  )
}
