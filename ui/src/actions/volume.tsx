/** Persistent volumes: made from disk that is reserved, and destroyed with what is in them. */
import { useSignal } from '@preact/signals'
import { call } from '~/api/client'
import type { Resource } from '~/api/types'
import { ConfirmDialog, confirmAct, openDialog } from '~/components/Dialog'
import { CheckField, NumberField, TextField } from '~/components/Form'
import { toast } from '~/components/Toast'
import { megabytes } from '~/format'
import { can } from '~/session'
import type { Agent } from '~/state/model'
import { bare, me, reservationRole } from './reserve'

/** mayCreateVolume says whether a volume can be made of a resource, and the reader may do so. */
export function mayCreateVolume(r: Resource): boolean {
  return can('CREATE_VOLUME') && r.name === 'disk' && reservationRole(r) !== undefined && r.disk?.persistence === undefined
}

/** openCreateVolume makes a volume of an agent's reserved disk. */
export function openCreateVolume(agent: Agent, from: Resource): void {
  openDialog((close) => <VolumeDialog agent={agent} from={from} onClose={close} />)
}

function VolumeDialog({ agent, from, onClose }: { agent: Agent; from: Resource; onClose: () => void }) {
  const most = from.scalar?.value ?? 0
  // A disk that is mounted or a block device is given as a whole.
  const whole = from.disk?.source?.type === 'MOUNT' || from.disk?.source?.type === 'BLOCK'
  const id = useSignal('')
  const path = useSignal('data')
  const size = useSignal(most)
  const shared = useSignal(false)
  const role = reservationRole(from) ?? ''
  const badId = id.value !== '' && !/^[^\s/\\\0]+$/.test(id.value)
  const badPath = path.value.startsWith('/') || path.value.split('/').includes('..')
  const ok = id.value !== '' && !badId && path.value !== '' && !badPath && size.value > 0 && size.value <= most
  const run = async (): Promise<void> => {
    const volume: Resource = {
      ...bare(from),
      scalar: { value: size.value },
      disk: { ...from.disk, persistence: { id: id.value, ...me() }, volume: { container_path: path.value, mode: 'RW' } },
      ...(shared.value ? { shared: {} } : {}),
    }
    await call('CREATE_VOLUMES', { agent_id: { value: agent.id }, volumes: [volume] })
    toast(`The volume ${id.value} was created on ${agent.hostname}.`)
  }
  return (
    <ConfirmDialog title={`Create a volume on ${agent.hostname}`} confirm="Create the volume" disabled={!ok} run={run} onClose={onClose}>
      <p>
        Of the <strong>{megabytes(most)}</strong> of disk that are reserved for <strong>{role}</strong>. A task of that role finds the same data in it again, however often it is restarted on this agent.
      </p>
      <TextField label="Id" value={id} mono autofocus hint="Unique for the role on this agent" error={badId ? 'Neither blanks nor slashes' : undefined} />
      <TextField label="Path in the container" value={path} mono error={badPath ? 'Relative to the sandbox, and inside it' : undefined} hint="Relative to the sandbox; tasks can choose another" />
      <NumberField label="Size (MB)" value={size} min={1} max={most} disabled={whole} {...(whole ? { hint: 'This disk can only be had as a whole.' } : {})} error={size.value > most ? `Only ${megabytes(most)} are reserved` : undefined} />
      <CheckField label="Shared" hint="Several tasks may use it at the same time." value={shared} />
    </ConfirmDialog>
  )
}

/** openDestroyVolume destroys a volume with what is in it. */
export function openDestroyVolume(agent: Agent, volume: Resource): void {
  const id = volume.disk?.persistence?.id ?? ''
  confirmAct({
    title: `Destroy the volume ${id}`,
    confirm: 'Destroy the volume and its data',
    danger: true,
    typed: id,
    children: (
      <>
        <p>
          <strong>All data in it is deleted</strong>, on {agent.hostname}: {megabytes(volume.scalar?.value ?? 0)} of {reservationRole(volume) ?? 'nobody'}. This cannot be undone.
        </p>
        <p class="muted">The disk stays reserved. A volume that a task uses cannot be destroyed; the master says so then.</p>
      </>
    ),
    run: async () => {
      await call('DESTROY_VOLUMES', { agent_id: { value: agent.id }, volumes: [bare(volume)] })
      toast(`The volume ${id} was destroyed.`)
    },
  })
}
