/** The registry: what masters agree on, who they are, and how far each has come. */
import { own } from '~/api/client'
import { useLive } from '~/api/live'
import { openAddMaster } from '~/actions/member'
import { MemberActs } from '~/pages/registry/MemberActs'
import { Button, Empty, ErrorNote, Facts, Id, Note, Num, Panel, Skeleton, Stat, StateBadge, Tag, Time, type Tone } from '~/components/basic'
import { Page } from '~/components/Page'
import { count, duration, plural } from '~/format'
import { can } from '~/session'
import type { Autopilot, Gossip, Member, RegistryStatus } from '~/pages/registry/wire'
import { memberState } from '~/pages/registry/wire'
import { trouble } from '~/pages/parts/trouble'
import '~/style/pages/cluster.css'

export default function Registry() {
  const live = useLive<RegistryStatus>(own + '/registry', { interval: 1000 })
  const st = live.value.data
  return (
    <Page
      title="Registry"
      sub="what masters agree on"
      actions={
        can('ADD_MASTER') && (
          <Button icon="plus" onClick={() => openAddMaster()}>
            Add a master
          </Button>
        )
      }
    >
      <ErrorNote error={trouble(live.value)} title="The registry cannot be read." />
      {st === undefined ? live.value.error === undefined && <Skeleton lines={10} /> : <Body st={st} />}
    </Page>
  )
}

/** health says in a sentence how safe the cluster is. */
function health(st: RegistryStatus): { tone: 'good' | 'warn' | 'bad'; text: string } {
  const voters = st.members.filter((m) => m.voter)
  const down = voters.filter((m) => memberState(m, autopilotOf(st, m.id)).tone === 'bad')
  if (down.length > 0 && st.tolerates === 0)
    return { tone: 'bad', text: `${down.map((m) => m.id).join(', ')} ${down.length === 1 ? 'does' : 'do'} not answer, and no other master may fail: without a majority nobody leads.` }
  if (down.length > 0) return { tone: 'warn', text: `${down.map((m) => m.id).join(', ')} ${down.length === 1 ? 'does' : 'do'} not answer. ${plural(st.tolerates, 'more master')} may fail.` }
  if (voters.length === 1) return { tone: 'warn', text: 'One master alone: if it fails, nobody leads until it is back. Three masters survive the loss of any one.' }
  return { tone: 'good', text: `All ${count(voters.length)} voting masters answer. ${plural(st.tolerates, 'of them')} may fail.`.replace('of thems', 'of them') }
}

function autopilotOf(st: RegistryStatus, id: string): Autopilot | undefined {
  return st.autopilot?.find((a) => a.id === id)
}

function Body({ st }: { st: RegistryStatus }) {
  const h = health(st)
  return (
    <>
      <Note tone={h.tone}>{h.text}</Note>
      <div class="stats registry-stats">
        <Stat label="Leader" value={st.leader_address || 'none'} sub={<Id id={st.leader} copy={false} />} {...(st.leader === '' ? { tone: 'bad' as const } : {})} />
        <Stat label="May fail" value={count(st.tolerates)} sub={`of ${plural(st.members.filter((m) => m.voter).length, 'voter')}`} {...(st.tolerates === 0 ? { tone: 'warn' as const } : {})} />
        <Stat label="Term" value={count(st.term)} sub={`epoch ${count(st.epoch)}`} />
        <Stat label="Log index" value={count(st.commit_index)} sub={st.last_index === st.commit_index ? 'all committed' : `${count(st.last_index - st.commit_index)} not yet committed`} />
        <Stat label="Snapshot at" value={st.snapshot_index === 0 ? 'none' : count(st.snapshot_index)} sub={st.snapshot_index === 0 ? 'the log is short' : `${count(st.applied_index - st.snapshot_index)} entries since`} />
        <Stat label="Waiting to be written" value={count(st.queued)} sub={`format ${st.format}`} />
      </div>
      <Panel title="Members" flush>
        <Members st={st} />
      </Panel>
      {(st.others ?? []).length > 0 && (
        <Panel title="Other masters" flush>
          <p class="panel-text muted">Gossip knows them, and they are no members. The leader takes a new one in by itself once it has caught up.</p>
          <Others list={st.others ?? []} />
        </Panel>
      )}
      <div class="columns">
        <Panel title="What is written down">
          <Facts
            items={[
              ['Cluster', <Id id={st.cluster_id} />],
              ['Agents', <Num n={st.counts['agents']} />],
              ['Unreachable agents', <Num n={st.counts['unreachable_agents']} />],
              ['Gone agents', <Num n={st.counts['gone_agents']} />],
              ['Frameworks', <Num n={st.counts['frameworks']} />],
              ['Removed frameworks', <Num n={st.counts['removed_frameworks']} />],
              ['Quotas', <Num n={st.counts['quotas']} />],
              ['Weights', <Num n={st.counts['weights']} />],
              ['Maintenance windows', <Num n={st.counts['maintenance_windows']} />],
              ['Machines in maintenance', <Num n={st.counts['machines']} />],
            ]}
          />
          <p class="muted">Tasks and offers are not in it: agents report them to each new leader. Back it up with</p>
          <code class="block">clusterd registry save FILE</code>
        </Panel>
        <Panel title="Gossip">{st.gossip === undefined ? <Empty title="No gossip here">The leader was started without --join; agents are given the addresses of masters.</Empty> : <GossipFacts g={st.gossip} />}</Panel>
      </div>
    </>
  )
}

function Badge({ s }: { s: { tone: Tone; text: string } }) {
  return <StateBadge state={s.text} tone={s.tone} label={s.text} />
}

/** unheard says that a member has not answered this leader yet. */
function unheard(a: Autopilot): boolean {
  return a.last_index === 0
}

function Members({ st }: { st: RegistryStatus }) {
  return (
    <div class="scroll-x" tabIndex={0} role="region" aria-label="Members">
      <table class="plain">
        <thead>
          <tr>
            <th scope="col">Id</th>
            <th scope="col">Role</th>
            <th scope="col">State</th>
            <th scope="col">Raft</th>
            <th scope="col">HTTP</th>
            <th scope="col" class="right">
              Answered
            </th>
            <th scope="col" class="right">
              Log index
            </th>
            <th scope="col" class="right">
              Behind
            </th>
            <th scope="col">Stable since</th>
            <th scope="col">Version</th>
            <th scope="col">
              <span class="sr">Acts</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {st.members.map((m) => {
            const a = autopilotOf(st, m.id)
            return (
              <tr key={m.id}>
                <th scope="row">
                  <Id id={m.id} />
                </th>
                <td>{m.leads ? <Tag>leader</Tag> : m.voter ? 'voter' : 'catching up'}</td>
                <td>
                  <Badge s={memberState(m, a)} />
                </td>
                <td class="mono">{m.address}</td>
                <td class="mono">{m.http ?? '–'}</td>
                <td class="right">{m.leads ? <span class="muted">itself</span> : a === undefined || a.last_contact_ms < 0 || unheard(a) ? '–' : duration(a.last_contact_ms / 1000) + ' ago'}</td>
                <td class="right">
                  <Num n={m.leads ? st.last_index : a === undefined || unheard(a) ? undefined : a.last_index} />
                </td>
                <td class="right">{m.leads || a === undefined || unheard(a) ? '–' : count(Math.max(0, st.last_index - a.last_index))}</td>
                <td>
                  <Time at={a?.since} />
                </td>
                <td>{m.build ?? '–'}</td>
                <td class="acts">
                  <MemberActs member={m} status={st} />
                </td>
              </tr>
            )
          })}
        </tbody>
      </table>
    </div>
  )
}

function Others({ list }: { list: Member[] }) {
  return (
    <div class="scroll-x" tabIndex={0} role="region" aria-label="Other masters">
      <table class="plain">
        <thead>
          <tr>
            <th scope="col">Id</th>
            <th scope="col">State</th>
            <th scope="col">Raft</th>
            <th scope="col">HTTP</th>
            <th scope="col">Version</th>
            <th scope="col">
              <span class="sr">Acts</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {list.map((m) => (
            <tr key={m.id}>
              <th scope="row">
                <Id id={m.id} />
              </th>
              <td>
                <Badge s={m.alive ? { tone: 'good', text: 'alive' } : { tone: 'bad', text: 'does not answer' }} />
              </td>
              <td class="mono">{m.address}</td>
              <td class="mono">{m.http ?? '–'}</td>
              <td>{m.build ?? '–'}</td>
              <td class="acts">
                {can('ADD_MASTER') && m.address !== '' && (
                  <Button small onClick={() => openAddMaster(m.id, m.address)}>
                    Add
                  </Button>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

function GossipFacts({ g }: { g: Gossip }) {
  return (
    <>
      <Facts
        items={[
          ['This master gossips at', <span class="mono">{g.address}</span>],
          ['Masters alive', <Num n={g.masters} />],
          ['Agents alive', <Num n={g.agents} />],
          ['Dead masters remembered', <Num n={g.dead_masters} />],
          ['Nodes of other clusters met', <Num n={g.refused} />],
          ['Names borne twice', <Num n={g.duplicates} />],
          ['Keeps up', g.score === 0 ? 'yes' : `no, score ${g.score}: its machine or network is slow`],
        ]}
      />
      <ul class="gossip-nodes" aria-label="Nodes in gossip">
        {g.nodes.map((n) => (
          <li key={n.role + n.name} title={`${n.name}, since ${new Date((n.since ?? 0) * 1000).toLocaleString()}`}>
            <Badge s={n.alive ? { tone: 'good', text: n.role } : { tone: 'bad', text: n.role + ' dead' }} />
            <span class="mono">{n.http ?? n.address}</span>
            <span class="muted">{[n.zone, n.build].filter(Boolean).join(' · ')}</span>
          </li>
        ))}
      </ul>
      {g.left_out !== undefined && g.left_out > 0 && <p class="muted">and {plural(g.left_out, 'more node')}</p>}
    </>
  )
}
