/** Frameworks: who asks for resources, in which roles, and what each has. */
import { useComputed, type ReadonlySignal } from '@preact/signals'
import type { Resources } from '~/api/types'
import { mayTeardown, openTeardown } from '~/actions/teardown'
import { Cpus, Empty, Id, Megabytes, Num, Panel, StateBadge, Tag, Time } from '~/components/basic'
import { Segments } from '~/components/Form'
import { Menu } from '~/components/Menu'
import { Page } from '~/components/Page'
import { Sparkbar } from '~/pages/parts/Sparkbar'
import { Table, type Column } from '~/components/Table'
import { count, percent, plural } from '~/format'
import { byRole, frameworkState, maxShare, type RoleGroup } from '~/pages/frameworks/facts'
import { Counted } from '~/pages/parts/Counted'
import { RoleTags } from '~/pages/parts/RoleTags'
import { href, setQuery, useRoute } from '~/router'
import { plus, zero, type Framework } from '~/state/model'
import { agents, frameworks, ready, tallyOfFramework } from '~/state/store'
import '~/style/pages/cluster.css'

type Show = 'active' | 'inactive' | 'completed'

function showOf(f: Framework): Show {
  const s = frameworkState(f)
  return s === 'COMPLETED' ? 'completed' : s === 'ACTIVE' ? 'active' : 'inactive'
}

export default function Frameworks() {
  const query = useRoute().query
  const show = (query['show'] ?? 'active') as Show
  const as = query['as'] ?? 'list'
  const total = useComputed(() => agents.all.reduce<Resources>((sum, a) => plus(sum, a.total), zero))
  const all = frameworks.all
  const rows = all.filter((f) => showOf(f) === show)
  const counted = (s: Show, text: string) => ({ value: s, title: <Counted text={text} n={all.filter((f) => showOf(f) === s).length} /> })
  const tools = (
    <>
      <Segments
        label="Which frameworks"
        value={show}
        onChange={(v) => setQuery({ show: v === 'active' ? '' : v })}
        options={[counted('active', 'Active'), counted('inactive', 'Inactive'), counted('completed', 'Completed')]}
      />
      <Segments
        label="How they are shown"
        value={as}
        onChange={(v) => setQuery({ as: v === 'list' ? '' : v })}
        options={[
          { value: 'list', title: 'List' },
          { value: 'roles', title: 'By role' },
        ]}
      />
    </>
  )
  return (
    <Page title="Frameworks" fill={as === 'list'}>
      {as === 'list' ? (
        <Table
          label="Frameworks"
          columns={show === 'completed' ? completedColumns : columnsOf(total, show)}
          rows={rows}
          rowKey={(f) => f.id}
          href={(f) => href('framework', { framework_id: f.id })}
          defaultSort={show === 'completed' ? '-unregistered' : 'name'}
          placeholder="Filter frameworks"
          tools={tools}
          loading={!ready.value}
          fill
          empty={<None show={show} />}
        />
      ) : (
        <>
          <div class="filters">{tools}</div>
          {rows.length === 0 ? <None show={show} /> : <Tree groups={byRole(rows)} />}
        </>
      )}
    </Page>
  )
}

function None({ show }: { show: Show }) {
  if (show === 'completed') return <Empty title="No framework has ended yet" icon="frameworks" />
  if (show === 'inactive') return <Empty title="All frameworks are active" icon="check" />
  return (
    <Empty title="No framework is active" icon="frameworks">
      <p>A framework asks for resources and runs tasks on them. This one runs a command:</p>
      <code class="block">clusterd run -- echo hello</code>
    </Empty>
  )
}

const identity: Column<Framework>[] = [
  {
    key: 'name',
    title: 'Name',
    value: (f) => f.name,
    width: 'minmax(9rem, 2fr)',
    render: (f) => (
      <a class="strong" href={href('framework', { framework_id: f.id })}>
        {f.name || f.id}
      </a>
    ),
  },
  { key: 'id', title: 'Id', value: (f) => f.id, width: 'minmax(8.5rem, 1fr)', hide: 'wide', render: (f) => <Id id={f.id} most={15} /> },
  { key: 'roles', title: 'Roles', value: (f) => f.roles.join(' '), width: 'minmax(6rem, 1.2fr)', hide: 'narrow', render: (f) => <RoleTags roles={f.roles} /> },
]

const whoAndWhere: Column<Framework>[] = [
  {
    key: 'host',
    title: 'Host',
    value: (f) => f.hostname,
    width: 'minmax(5rem, 1fr)',
    hide: 'medium',
    render: (f) =>
      /^https?:/i.test(f.webui_url) ? (
        <a href={f.webui_url} rel="noreferrer" target="_blank" title={'Its own page: ' + f.webui_url}>
          {f.hostname}
        </a>
      ) : (
        f.hostname
      ),
  },
  { key: 'user', title: 'User', value: (f) => f.user, width: 'minmax(3.5rem, .5fr)', hide: 'wide' },
  { key: 'principal', title: 'Principal', value: (f) => f.principal, width: 'minmax(4.8rem, .7fr)', hide: 'wide' },
]

/** gpus is shown in clusters that have some. */
const gpus: Column<Framework> = { key: 'gpus', title: 'GPUs', value: (f) => f.allocated.gpus, align: 'end', width: '4rem', hide: 'medium', render: (f) => <Cpus n={f.allocated.gpus} /> }

function columnsOf(total: ReadonlySignal<Resources>, show: Show): Column<Framework>[] {
  const state: Column<Framework>[] =
    show === 'inactive' ? [{ key: 'state', title: 'State', value: (f) => frameworkState(f), width: '8rem', render: (f) => <StateBadge state={frameworkState(f)} /> }] : []
  return [
    ...identity,
    ...state,
    ...whoAndWhere,
    { key: 'tasks', title: 'Tasks', value: (f) => tallyOfFramework(f.id).active, align: 'end', width: '4.2rem', render: (f) => <Num n={tallyOfFramework(f.id).active} /> },
    { key: 'cpus', title: 'CPUs', value: (f) => f.allocated.cpus, align: 'end', width: '4rem', hide: 'narrow', render: (f) => <Cpus n={f.allocated.cpus} /> },
    ...(total.value.gpus > 0 ? [gpus] : []),
    { key: 'mem', title: 'Memory', value: (f) => f.allocated.mem, align: 'end', width: '5.4rem', hide: 'narrow', render: (f) => <Megabytes n={f.allocated.mem} /> },
    { key: 'disk', title: 'Disk', value: (f) => f.allocated.disk, align: 'end', width: '4.6rem', hide: 'wide', render: (f) => <Megabytes n={f.allocated.disk} /> },
    {
      key: 'share',
      title: 'Max share',
      value: (f) => maxShare(f.allocated, total.value),
      width: '7.4rem',
      hide: 'narrow',
      render: (f) => {
        const s = maxShare(f.allocated, total.value)
        return <Sparkbar share={s} text={percent(s, 1)} label={`Max share of ${f.name}`} />
      },
    },
    { key: 'registered', title: 'Registered', value: (f) => f.registered, width: '6.2rem', hide: 'narrow', render: (f) => <Time at={f.registered} /> },
    { key: 'reregistered', title: 'Again', name: 'Registered again', value: (f) => again(f), width: '5.4rem', hide: 'wide', render: (f) => <Time at={again(f)} /> },
    { key: 'acts', title: '', name: 'Acts', width: '3.4rem', align: 'end', render: (f) => <FrameworkMenu framework={f} /> },
  ]
}

/** again is when a framework registered anew; masters say the first time if it never did. */
export function again(f: Framework): number | undefined {
  return f.reregistered === f.registered ? undefined : f.reregistered
}

const completedColumns: Column<Framework>[] = [
  ...identity,
  ...whoAndWhere,
  { key: 'registered', title: 'Registered', value: (f) => f.registered, width: '8rem', hide: 'narrow', render: (f) => <Time at={f.registered} /> },
  { key: 'unregistered', title: 'Ended', value: (f) => f.unregistered, width: '8rem', render: (f) => <Time at={f.unregistered} /> },
]

/** FrameworkMenu is what can be done to a framework. */
export function FrameworkMenu({ framework: f }: { framework: Framework }) {
  return (
    <Menu
      label={'Acts on ' + (f.name || f.id)}
      class="menu-row"
      items={[
        !f.completed && { title: 'Why does it get offers, or none?', icon: 'help', href: href('framework', { framework_id: f.id }, { tab: 'offers' }) },
        mayTeardown(f) && { title: 'Tear down…', icon: 'trash', danger: true, run: () => openTeardown(f) },
      ]}
    />
  )
}

/** Tree shows the frameworks below the roles that they are in. */
function Tree({ groups }: { groups: RoleGroup[] }) {
  return (
    <Panel flush>
      <ul class="role-groups">
        {groups.map((g) => (
          <li key={g.role} class={'role-group depth-' + Math.min(g.depth, 8)}>
            <div class="role-group-head">
              <a class="mono strong" href={href('roles', {}, { q: g.role })} title={g.role}>
                {g.leaf}
              </a>
              <span class="muted">{plural(g.below, 'framework')}</span>
            </div>
            {g.frameworks.length > 0 && (
              <ul class="role-frameworks">
                {g.frameworks.map((f) => (
                  <li key={f.id}>
                    <a href={href('framework', { framework_id: f.id })}>{f.name || f.id}</a>
                    {frameworkState(f) !== 'ACTIVE' && <StateBadge state={frameworkState(f)} />}
                    <span class="muted">
                      {count(tallyOfFramework(f.id).active)} tasks, {percentText(f)}
                    </span>
                    {f.roles.length > 1 && <Tag title={f.roles.join('\n')}>{plural(f.roles.length, 'role')}</Tag>}
                  </li>
                ))}
              </ul>
            )}
          </li>
        ))}
      </ul>
    </Panel>
  )
}

function percentText(f: Framework) {
  return (
    <>
      <Cpus n={f.allocated.cpus} /> CPUs, <Megabytes n={f.allocated.mem} />
    </>
  )
}
