/** Quotas of roles: what a role is guaranteed, and what it may have at most. */
import { useSignal, type Signal } from '@preact/signals'
import { call } from '~/api/client'
import type { Resources } from '~/api/types'
import { Note } from '~/components/basic'
import { ConfirmDialog, confirmAct, openDialog } from '~/components/Dialog'
import { CheckField, NumberField, TextField } from '~/components/Form'
import { quantity } from '~/components/ResourceBar'
import { toast } from '~/components/Toast'
import { hasQuota, quotaMeaning, type Amounts, type WireRole } from '~/pages/roles/tree'
import { resourceNames } from '~/state/model'

/** amountText is an amount of a resource, whatever its name. */
export function amountText(name: string, n: number): string {
  return quantity(name as keyof Resources, n)
}

/** phrase is an amount with what it is of: "4 CPUs", "2 GiB of memory". */
export function phrase(name: string, n: number): string {
  const noun = { cpus: n === 1 ? ' CPU' : ' CPUs', gpus: n === 1 ? ' GPU' : ' GPUs', mem: ' of memory', disk: ' of disk' }[name] ?? ' ' + name
  return amountText(name, n) + noun
}

/** titleOf is a resource's name on forms, with its unit. */
export function titleOf(name: string): string {
  return { cpus: 'CPUs', mem: 'Memory (MB)', disk: 'Disk (MB)', gpus: 'GPUs' }[name] ?? name
}

/** openQuota sets or edits the quota of a role; undefined: the reader names it. */
export function openQuota(role: string | undefined, roles: readonly WireRole[], total: Resources): void {
  openDialog((close) => <QuotaDialog role={role} roles={roles} total={total} onClose={close} />)
}

interface Fields {
  guarantee: Signal<number>
  limit: Signal<number>
}

function QuotaDialog({ role, roles, total, onClose }: { role: string | undefined; roles: readonly WireRole[]; total: Resources; onClose: () => void }) {
  const name = useSignal(role ?? '')
  const force = useSignal(false)
  const before = roles.find((r) => r.name === role)?.quota
  const fields = new Map<string, Fields>()
  // resourceNames never changes, so that the hooks are called in the same order every time.
  for (const r of resourceNames) fields.set(r, { guarantee: useSignal(before?.guarantee?.[r] ?? NaN), limit: useSignal(before?.limit?.[r] ?? NaN) })
  const wish = { role: name.value.trim(), guarantee: amountsOf(fields, 'guarantee'), limit: amountsOf(fields, 'limit') }
  const empty = Object.keys(wish.guarantee).length + Object.keys(wish.limit).length === 0
  const meanings = wish.role === '' ? [] : quotaMeaning(wish, roles, total, phrase)
  const forced = meanings.some((m) => m.grade === 'force')
  const wrong = wish.role === '' || empty || meanings.some((m) => m.grade === 'wrong') || (forced && !force.value)
  const run = async (): Promise<void> => {
    await call('UPDATE_QUOTA', {
      force: forced && force.value,
      quota_configs: [{ role: wish.role, guarantees: scalars(wish.guarantee), limits: scalars(wish.limit) }],
    })
    toast(`${wish.role} has a new quota.`)
  }
  return (
    <ConfirmDialog title={role === undefined ? 'Set a quota' : `Quota of ${role}`} confirm={forced ? 'Set it all the same' : 'Set the quota'} danger={forced} disabled={wrong} run={run} onClose={onClose} wide>
      {role === undefined && (
        <>
          <TextField label="Role" value={name} list="quota-roles" mono autofocus hint="It need not have a framework yet." />
          <datalist id="quota-roles">
            {roles.map((r) => (
              <option key={r.name} value={r.name} />
            ))}
          </datalist>
        </>
      )}
      <p class="muted">
        A guarantee keeps resources free for the role, as far as there are any. A limit is the most that the role, with the roles below it, is given. What is left empty is not guaranteed, and not limited.
      </p>
      <div class="quota-grid" role="group" aria-label="Amounts">
        {resourceNames.map((r) => {
          const f = fields.get(r) as Fields
          return (
            <div key={r} class="fields">
              <NumberField label={`${titleOf(r)}: guarantee`} value={f.guarantee} min={0} autofocus={role !== undefined && r === 'cpus'} placeholder="none" />
              <NumberField label={`${titleOf(r)}: limit`} value={f.limit} min={0} placeholder="none" />
            </div>
          )
        })}
      </div>
      {empty && hasQuota(roles.find((r) => r.name === wish.role)) && <Note>To take a quota away, remove it.</Note>}
      {meanings.length > 0 && (
        <div class="meanings" role="status">
          {meanings.map((m) => (
            <Note key={m.text} tone={m.grade === 'wrong' ? 'bad' : m.grade === 'plain' ? 'info' : 'warn'}>
              {m.text}
            </Note>
          ))}
        </div>
      )}
      {forced && <CheckField label="Set it all the same" hint="The master refuses it otherwise." value={force} />}
    </ConfirmDialog>
  )
}

function amountsOf(fields: Map<string, Fields>, which: keyof Fields): Amounts {
  const out: Amounts = {}
  for (const [name, f] of fields) if (Number.isFinite(f[which].value)) out[name] = f[which].value
  return out
}

function scalars(a: Amounts): Record<string, { value: number }> {
  return Object.fromEntries(Object.entries(a).map(([name, value]) => [name, { value }]))
}

/** openRemoveQuota takes the quota of a role away. */
export function openRemoveQuota(r: WireRole): void {
  const list = (a: Amounts | undefined): string =>
    Object.entries(a ?? {})
      .map(([name, n]) => phrase(name, n))
      .join(', ')
  const guarantee = list(r.quota?.guarantee)
  const limit = list(r.quota?.limit)
  confirmAct({
    title: `Remove the quota of ${r.name}`,
    confirm: 'Remove the quota',
    danger: guarantee !== '',
    children: (
      <>
        {guarantee !== '' && (
          <p>
            It is <strong>guaranteed {guarantee}</strong>. What of that it does not use will be offered to all roles.
          </p>
        )}
        {limit !== '' && (
          <p>
            It is <strong>limited to {limit}</strong>. Without the limit it is offered as much as its fair share and the other roles leave.
          </p>
        )}
        <p class="muted">No task is killed.</p>
      </>
    ),
    run: async () => {
      await call('UPDATE_QUOTA', { force: false, quota_configs: [{ role: r.name, guarantees: {}, limits: {} }] })
      toast(`${r.name} has no quota any more.`)
    },
  })
}
