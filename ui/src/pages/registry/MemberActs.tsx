/** What can be done to a master. */
import { openRemoveMaster } from '~/actions/member'
import { openTransfer } from '~/actions/transfer'
import { Menu } from '~/components/Menu'
import { can } from '~/session'
import type { Member, RegistryStatus } from './wire'

export function MemberActs({ member: m, status: st }: { member: Member; status: RegistryStatus }) {
  const voters = st.members.filter((x) => x.voter).length
  return (
    <Menu
      label={'Acts on ' + m.id}
      class="menu-row"
      items={[
        can('TRANSFER_LEADERSHIP') && !m.leads && m.voter && { title: 'Let it lead…', icon: 'leader', run: () => openTransfer(m.id, st.leader) },
        can('TRANSFER_LEADERSHIP') && m.leads && voters > 1 && { title: 'Hand over the leadership…', icon: 'leader', run: () => openTransfer(undefined, m.id) },
        can('REMOVE_MASTER') && st.members.length > 1 && { title: 'Remove…', icon: 'trash', danger: true, run: () => openRemoveMaster(m, st) },
      ]}
    />
  )
}
