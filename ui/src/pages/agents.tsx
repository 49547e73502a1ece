/** Agents: a table of all of them, or a map of how full they are. */
import { useComputed, type ReadonlySignal } from '@preact/signals'
import { useMemo } from 'preact/hooks'
import { menuItems, offered } from '~/actions/act'
import { agentActs } from '~/actions/agentActs'
import { Empty, Id, StateBadge, Time } from '~/components/basic'
import { Chip, Segments } from '~/components/Form'
import { Menu } from '~/components/Menu'
import { Page } from '~/components/Page'
import { ResourceBar } from '~/components/ResourceBar'
import { Table, type Column } from '~/components/Table'
import { count, plural, stateName } from '~/format'
import { href, route, setQuery, useRoute } from '~/router'
import type { Agent } from '~/state/model'
import { agents, ready, tallyOfAgent } from '~/state/store'
import { HeatMap } from './agents/HeatMap'
import { groupings, type By } from './agents/heat'
import '../style/pages/agents.css'

const allColumns: Column<Agent>[] = [
  { key: 'hostname', title: 'Host', value: (a) => a.hostname, width: 'minmax(9rem, 1.4fr)', cell: 'text', render: (a) => <a href={href('agent', { agent_id: a.id })}>{a.hostname}</a> },
  { key: 'id', title: 'Agent', value: (a) => a.id, width: '9.5rem', cell: 'fits', hide: 'medium', render: (a) => <Id id={a.id} most={14} href={href('agent', { agent_id: a.id })} /> },
  { key: 'state', title: 'State', value: (a) => a.state, width: '7.5rem', cell: 'fits', render: (a) => <StateBadge state={a.state} /> },
  { key: 'tasks', title: 'Tasks', value: (a) => tallyOfAgent(a.id).active, width: '5rem', cell: 'fits', align: 'end', hide: 'narrow', render: (a) => count(tallyOfAgent(a.id).active) },
  { key: 'cpus', title: 'CPUs', value: (a) => (a.total.cpus > 0 ? a.allocated.cpus / a.total.cpus : 0), width: 'minmax(7rem, 0.8fr)', cell: 'text', hide: 'narrow', render: (a) => <ResourceBar name="cpus" used={a.allocated.cpus} total={a.total.cpus} /> },
  { key: 'mem', title: 'Memory', value: (a) => (a.total.mem > 0 ? a.allocated.mem / a.total.mem : 0), width: 'minmax(10rem, 1fr)', cell: 'text', hide: 'narrow', render: (a) => <ResourceBar name="mem" used={a.allocated.mem} total={a.total.mem} /> },
  { key: 'disk', title: 'Disk', value: (a) => (a.total.disk > 0 ? a.allocated.disk / a.total.disk : 0), width: 'minmax(10rem, 1fr)', cell: 'text', hide: 'medium', render: (a) => <ResourceBar name="disk" used={a.allocated.disk} total={a.total.disk} /> },
  { key: 'gpus', title: 'GPUs', value: (a) => a.total.gpus, width: '6.5rem', cell: 'text', hide: 'medium', render: (a) => (a.total.gpus > 0 ? <ResourceBar name="gpus" used={a.allocated.gpus} total={a.total.gpus} /> : <span class="muted">–</span>) },
  { key: 'place', title: 'Zone', value: placeOf, width: '7rem', cell: 'text', hide: 'medium', render: (a) => placeOf(a) || <span class="muted">–</span> },
  { key: 'attributes', title: 'Attributes', value: (a) => attributes(a), width: 'minmax(6rem, 1fr)', cell: 'text', hide: 'medium', render: (a) => <span title={attributes(a)}>{attributes(a)}</span> },
  { key: 'registered', title: 'Registered', value: (a) => a.reregistered ?? a.registered, width: '6.5rem', cell: 'fits', hide: 'medium', render: (a) => <Time at={a.reregistered ?? a.registered} /> },
  {
    key: 'acts', title: <span class="sr">Actions</span>, name: 'Actions', width: '3rem', align: 'end', cell: 'fits',
    render: (a) => agentActs.some((act) => offered(act, a)) && <Menu label={`Actions on ${a.hostname}`} items={() => menuItems(agentActs, a)} class="menu-row" />,
  },
]

function placeOf(a: Agent): string {
  return [a.region, a.zone].filter((x) => x !== undefined).join(' / ')
}

function attributes(a: Agent): string {
  return Object.entries(a.attributes)
    .map(([k, v]) => `${k}:${v}`)
    .join('; ')
}

/** columnsFor leaves out what no agent has. */
function columnsFor(gpus: boolean, places: boolean): Column<Agent>[] {
  return allColumns.filter((c) => (gpus || c.key !== 'gpus') && (places || c.key !== 'place'))
}

export default function Agents() {
  const { query } = useRoute()
  const state = query['state'] ?? ''
  const map = query['view'] === 'map'
  const shown = useComputed(() => {
    const want = route.value.query['state'] ?? ''
    return want === '' ? agents.all : agents.all.filter((a) => a.state === want)
  })
  const gpus = useComputed(() => agents.all.some((a) => a.total.gpus > 0)).value
  const places = useComputed(() => agents.all.some((a) => placeOf(a) !== '')).value
  const columns = useMemo(() => columnsFor(gpus, places), [gpus, places])
  const states = new Map<string, number>()
  for (const a of agents.all) states.set(a.state, (states.get(a.state) ?? 0) + 1)
  const chips = (states.size > 1 || state !== '') && (
    <div class="chips">
      {[...states].sort().map(([s, n]) => (
        <Chip key={s} on={state === s} count={n} onChange={(on) => setQuery({ state: on ? s : '' })}>
          {stateName(s)}
        </Chip>
      ))}
    </div>
  )
  const views = (
    <Segments
      label="View"
      value={map ? 'map' : 'table'}
      options={[
        { value: 'table', title: 'Table' },
        { value: 'map', title: 'Heat map' },
      ]}
      onChange={(v) => setQuery({ view: v === 'map' ? 'map' : '' })}
    />
  )
  const none = (
    <Empty title="No agents have registered" icon="agents">
      <p>
        Start one on a machine with <code>clusterd agent --master={location.host} --work_dir=/var/lib/clusterd</code>
      </p>
    </Empty>
  )
  return (
    <Page title="Agents" sub={ready.value && plural(agents.size, 'agent')} actions={views} fill={!map}>
      {map ? (
        <>
          {chips}
          {shown.value.length === 0 ? none : <MapView agents={shown.value} rows={shown} />}
        </>
      ) : (
        <Table label="Agents" columns={columns} rows={shown} rowKey={(a) => a.id} href={(a) => href('agent', { agent_id: a.id })} defaultSort="hostname" placeholder="Filter: host, state:draining, rack…" loading={!ready.value} fill tools={chips} empty={none} />
      )}
    </Page>
  )
}

function MapView({ agents: list, rows }: { agents: readonly Agent[]; rows: ReadonlySignal<readonly Agent[]> }) {
  const { query } = useRoute()
  const by = (query['by'] ?? 'fullest') as By
  const group = query['group'] ?? ''
  const gpus = list.some((a) => a.total.gpus > 0)
  const options: { value: By; title: string }[] = [
    { value: 'fullest', title: 'Fullest' },
    { value: 'cpus', title: 'CPUs' },
    { value: 'mem', title: 'Memory' },
    { value: 'disk', title: 'Disk' },
    ...(gpus ? [{ value: 'gpus' as const, title: 'GPUs' }] : []),
  ]
  const groups = groupings(list)
  return (
    <>
      <div class="heat-tools">
        <span class="heat-tool">
          Colour by
          <Segments label="Colour by" value={by} options={options} onChange={(v) => setQuery({ by: v === 'fullest' ? '' : v })} />
        </span>
        <label class="heat-tool">
          Group by
          <select value={group} onChange={(e) => setQuery({ group: e.currentTarget.value })}>
            {groups.map((g) => (
              <option key={g.key} value={g.key} selected={g.key === group}>
                {g.title}
              </option>
            ))}
          </select>
        </label>
      </div>
      <HeatMap agents={rows} by={by} group={groups.some((g) => g.key === group) ? group : ''} />
    </>
  )
}
