/** Adding and removing masters. Gossip usually does both; these are for where it cannot. */
import { useSignal } from '@preact/signals'
import { own, post } from '~/api/client'
import { Note } from '~/components/basic'
import { ConfirmDialog, openDialog } from '~/components/Dialog'
import { CheckField, TextField } from '~/components/Form'
import { toast } from '~/components/Toast'
import { plural } from '~/format'
import { memberState, type Member, type RegistryStatus } from '~/pages/registry/wire'

/** openAddMaster adds a master to those that decide. */
export function openAddMaster(id = '', address = ''): void {
  openDialog((close) => <AddDialog id={id} address={address} onClose={close} />)
}

function AddDialog(p: { id: string; address: string; onClose: () => void }) {
  const id = useSignal(p.id)
  const address = useSignal(p.address)
  const force = useSignal(false)
  const ok = id.value.trim() !== '' && /:\d+$/.test(address.value.trim())
  const run = async (): Promise<void> => {
    await post(own + '/registry/add' + (force.value ? '?force=true' : ''), { id: id.value.trim(), address: address.value.trim() })
    toast(`${id.value.trim()} is a member. It votes once it has caught up.`)
  }
  return (
    <ConfirmDialog title="Add a master" confirm="Add the master" disabled={!ok} run={run} onClose={p.onClose}>
      <p>
        Start it first, with an empty work directory and <code>--join</code> of another master. Where gossip works the leader takes it in by itself, and nothing needs to be done here.
      </p>
      <TextField label="Id" value={id} autofocus mono hint="Its --node_id, or the id that it says at its start." />
      <TextField label="Address of its Raft port" value={address} mono placeholder="10.0.0.4:5052" hint="host:port, by which the other masters reach it" />
      <CheckField label="Add it even if it does not answer" value={force} />
    </ConfirmDialog>
  )
}

/** removalMeans says what becomes of the majority when a member is removed. */
export function removalMeans(m: Member, st: RegistryStatus): { voters: number; alive: number; lives: boolean; danger: boolean } {
  const rest = st.members.filter((x) => x.voter && x.id !== m.id)
  const answers = (x: Member) => memberState(x, st.autopilot?.find((a) => a.id === x.id)).tone !== 'bad'
  const alive = rest.filter(answers).length
  return { voters: rest.length, alive, lives: answers(m), danger: m.voter && (rest.length === 0 || alive * 2 <= rest.length) }
}

/** openRemoveMaster removes a master from those that decide. */
export function openRemoveMaster(m: Member, st: RegistryStatus): void {
  openDialog((close) => <RemoveDialog member={m} status={st} onClose={close} />)
}

function RemoveDialog({ member, status, onClose }: { member: Member; status: RegistryStatus; onClose: () => void }) {
  const force = useSignal(false)
  const means = removalMeans(member, status)
  const mayFail = Math.max(0, means.alive - Math.floor(means.voters / 2) - 1)
  const run = async (): Promise<void> => {
    await post(own + '/registry/remove' + (force.value ? '?force=true' : ''), { id: member.id })
    toast(`${member.id} is no longer a member.`)
  }
  return (
    <ConfirmDialog title={`Remove ${member.id}`} confirm={`Remove ${member.id}`} danger {...(means.danger || force.value ? { typed: member.id } : {})} run={run} onClose={onClose}>
      <p>
        <strong>{plural(means.voters, 'voting master')}</strong> will be left, of which {means.alive} {means.alive === 1 ? 'answers' : 'answer'}. {plural(mayFail, 'of them', 'of them')} may then fail.
      </p>
      {means.danger && <Note tone="bad">That is no majority that lives: nobody could lead, and it could not be taken back.</Note>}
      {means.lives && <Note tone="warn">{member.id} runs. It would be taken in again, so stop it first; the leader refuses otherwise.</Note>}
      {(means.danger || means.lives) && <CheckField label="Remove it all the same" value={force} />}
    </ConfirmDialog>
  )
}
