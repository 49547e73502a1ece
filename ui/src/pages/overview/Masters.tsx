/** Who leads, whether the masters agree, and how many may fail. */
import { own } from '../../api/client'
import { useLive } from '../../api/live'
import { Facts, Icon, Note, Panel, Skeleton, StateBadge, Time } from '../../components'
import { plural } from '../../format'
import { href } from '../../router'
import { can } from '../../session'
import { leader } from '../../state/store'
import type { RegistryState } from './wire'

export function Masters() {
  const l = leader.value
  const registry = useLive<RegistryState>(can('VIEW_REGISTRY') ? own + '/registry' : undefined, { interval: 3000 }).value.data
  return (
    <Panel title="Masters" actions={<a href={href('registry')}>Registry</a>}>
      {l === undefined ? (
        <Skeleton lines={6} />
      ) : (
        <div class="stack">
          {registry !== undefined && <Quorum of={registry} />}
          <Facts
            items={[
              ['Leader', <span class="num">{l.hostname + ':' + l.port}</span>],
              ['Elected', <Time at={l.elected} />],
              ['Started', <Time at={l.started} />],
              ['Term', registry === undefined ? undefined : <span class="num">{registry.term}</span>],
              ['Version', <span title={l.commit === '' ? undefined : l.commit}>{'clusterd ' + l.build + (l.commit === '' ? '' : ' (' + l.commit.slice(0, 10) + ')')}</span>],
              ['Speaks', 'Mesos ' + l.version],
            ]}
          />
        </div>
      )}
    </Panel>
  )
}

function Quorum({ of }: { of: RegistryState }) {
  const voters = of.members.filter((m) => m.voter)
  const alive = voters.filter((m) => m.alive)
  const well = alive.length === voters.length && (of.autopilot ?? []).every((a) => a.healthy)
  return (
    <>
      <ul class="masters">
        {of.members.map((m) => (
          <li key={m.id} class="master" title={m.id}>
            <Icon name={m.leads === true ? 'leader' : 'registry'} />
            <span class="num">{m.http ?? m.address}</span>
            <StateBadge state={m.alive ? 'UP' : 'DOWN'} label={!m.alive ? 'down' : m.leads === true ? 'leads' : m.voter ? 'follows' : 'learns'} />
          </li>
        ))}
      </ul>
      {voters.length === 1 ? (
        <Note tone="warn">One master only: if it fails, nobody leads. Three would go on.</Note>
      ) : well ? (
        <Note tone="good">
          All {plural(voters.length, 'voter')} are well; {of.tolerates === 0 ? 'none' : plural(of.tolerates, 'master')} may fail.
        </Note>
      ) : (
        <Note tone="bad">
          {alive.length} of {plural(voters.length, 'voter')} answer; {of.tolerates <= 0 ? 'no other may fail' : plural(of.tolerates, 'more') + ' may fail'}.
        </Note>
      )}
    </>
  )
}
