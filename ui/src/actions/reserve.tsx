/** Reserving resources of an agent for a role, and giving reservations up. */
import { useSignal, type Signal } from '@preact/signals'
import { call } from '~/api/client'
import type { Resource } from '~/api/types'
import { ConfirmDialog, openDialog } from '~/components/Dialog'
import { NumberField, SelectField, TextField } from '~/components/Form'
import { toast } from '~/components/Toast'
import { can, session } from '~/session'
import { plus, resourceNames, type Agent } from '~/state/model'
import { agents } from '~/state/store'
import { amountText, phrase, titleOf } from './quota'

/** resourceText is a resource for people: "2 CPUs", "1 GiB of disk (volume pg-data)". */
export function resourceText(r: Resource): string {
  const id = r.disk?.persistence?.id
  const amount =
    r.scalar !== undefined
      ? phrase(r.name, r.scalar.value)
      : r.name + ' ' + (r.ranges !== undefined ? (r.ranges.range ?? []).map((x) => `${x.begin}-${x.end}`).join(', ') : (r.set?.item ?? []).join(', '))
  return amount + (id === undefined ? '' : ` (volume ${id})`)
}

/** reservationRole is the role that a resource is reserved for; undefined: none. */
export function reservationRole(r: Resource): string | undefined {
  return r.reservations?.at(-1)?.role ?? (r.role !== undefined && r.role !== '*' ? r.role : undefined)
}

/** isDynamic says whether a reservation can be given up: one that the agent was started with cannot. */
export function isDynamic(r: Resource): boolean {
  return r.reservations?.at(-1)?.type === 'DYNAMIC'
}

/** bare is a resource as calls want it: in the new form, and without its allocation. */
export function bare(r: Resource): Resource {
  const out: Resource = { name: r.name, type: r.type }
  if (r.scalar !== undefined) out.scalar = r.scalar
  if (r.ranges !== undefined) out.ranges = r.ranges
  if (r.set !== undefined) out.set = r.set
  if (r.reservations !== undefined) out.reservations = r.reservations
  if (r.disk !== undefined) out.disk = r.disk
  if (r.shared !== undefined) out.shared = r.shared
  if (r.revocable !== undefined) out.revocable = r.revocable
  if (r.provider_id !== undefined) out.provider_id = r.provider_id
  return out
}

/** me is the principal that reservations and volumes are marked with. */
export function me(): { principal?: string } {
  const value = session.peek()?.principal?.value
  return value === undefined ? {} : { principal: value }
}

/** mayReserve says whether the reader may reserve something. */
export function mayReserve(): boolean {
  return can('RESERVE_RESOURCES')
}

/** openReserve reserves resources of an agent; without one it is chosen first. */
export function openReserve(agent?: Agent, role = ''): void {
  openDialog((close) => <ReserveDialog agent={agent} role={role} onClose={close} />)
}

function ReserveDialog(p: { agent: Agent | undefined; role: string; onClose: () => void }) {
  const host = useSignal(p.agent?.id ?? [...agents.values()][0]?.id ?? '')
  const role = useSignal(p.role)
  const wanted: Record<string, Signal<number>> = {}
  // resourceNames never changes, so that the hooks are called in the same order every time.
  for (const r of resourceNames) wanted[r] = useSignal(NaN)
  const agent = agents.get(host.value)
  const free = agent === undefined ? undefined : plus(agent.total, agent.reserved, -1)
  const chosen = resourceNames.filter((r) => (wanted[r]?.value ?? 0) > 0)
  const tooMuch = chosen.filter((r) => free !== undefined && (wanted[r]?.value ?? 0) > free[r])
  const name = role.value.trim()
  const ok = agent !== undefined && name !== '' && name !== '*' && chosen.length > 0 && tooMuch.length === 0
  const text = chosen.map((r) => phrase(r, wanted[r]?.value ?? 0)).join(', ')
  const run = async (): Promise<void> => {
    const reservations = [{ type: 'DYNAMIC', role: name, ...me() }]
    await call('RESERVE_RESOURCES', {
      agent_id: { value: host.value },
      resources: chosen.map((r) => ({ name: r, type: 'SCALAR', scalar: { value: wanted[r]?.value ?? 0 }, reservations })),
    })
    toast(`${text} of ${agent?.hostname ?? host.value} are reserved for ${name}.`)
  }
  return (
    <ConfirmDialog title={p.agent === undefined ? 'Reserve resources' : `Reserve resources of ${p.agent.hostname}`} confirm="Reserve" disabled={!ok} run={run} onClose={p.onClose}>
      {p.agent === undefined && (
        <SelectField
          label="Agent"
          value={host}
          options={[...agents.values()].map((a) => ({ value: a.id, title: a.hostname }))}
        />
      )}
      <TextField label="Role" value={role} mono autofocus error={name === '*' ? 'Nothing can be reserved for everybody' : undefined} />
      {resourceNames.map((r) =>
        free !== undefined && free[r] > 0 ? (
          <NumberField
            key={r}
            label={titleOf(r)}
            value={wanted[r] as Signal<number>}
            min={0}
            max={free[r]}
            placeholder="none"
            hint={`${amountText(r, free[r])} of ${amountText(r, agent?.total[r] ?? 0)} are not reserved`}
            error={tooMuch.includes(r) ? `Only ${amountText(r, free[r])} are not reserved` : undefined}
          />
        ) : null,
      )}
      {ok && (
        <p>
          <strong>{text}</strong> of {agent?.hostname} will be offered to <strong>{name}</strong>, and roles below it, alone. Offers that hold it are rescinded. What tasks use stays theirs; if too little is free, the master says so.
        </p>
      )}
    </ConfirmDialog>
  )
}

/** openUnreserve gives a reservation up, or a part of it. */
export function openUnreserve(agent: Agent, r: Resource): void {
  openDialog((close) => <UnreserveDialog agent={agent} resource={r} onClose={close} />)
}

function UnreserveDialog({ agent, resource: r, onClose }: { agent: Agent; resource: Resource; onClose: () => void }) {
  const most = r.scalar?.value ?? 0
  const amount = useSignal(most)
  // A disk that is mounted is given as a whole.
  const parts = r.scalar !== undefined && r.disk?.source === undefined
  const bad = parts && !(amount.value > 0 && amount.value <= most)
  const part: Resource = parts ? { ...r, scalar: { value: amount.value } } : r
  const run = async (): Promise<void> => {
    await call('UNRESERVE_RESOURCES', { agent_id: { value: agent.id }, resources: [bare(part)] })
    toast(`${resourceText(part)} of ${agent.hostname} are no longer reserved.`)
  }
  return (
    <ConfirmDialog title={`Unreserve ${resourceText(r)}`} confirm="Unreserve" danger disabled={bad} run={run} onClose={onClose}>
      {parts && <NumberField label={titleOf(r.name)} value={amount} min={0} max={most} hint={`${amountText(r.name, most)} are reserved`} error={bad ? `More than 0, and at most ${amountText(r.name, most)}` : undefined} />}
      {!bad && (
        <p>
          <strong>{resourceText(part)}</strong> of {agent.hostname} will no longer be reserved for <strong>{reservationRole(r) ?? ''}</strong>, and be offered to all roles. What a task uses cannot be unreserved; the master says so then.
        </p>
      )}
    </ConfirmDialog>
  )
}
