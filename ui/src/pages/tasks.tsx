/** Tasks: all that the cluster knows of, by state. */
import { useComputed } from '@preact/signals'
import { mayKill, openKill } from '~/actions/killTask'
import { Empty, Note, StateBadge, Time, toneOf } from '~/components/basic'
import { Chip } from '~/components/Form'
import { Menu } from '~/components/Menu'
import { Page } from '~/components/Page'
import { quantity } from '~/components/ResourceBar'
import { Table, type Column } from '~/components/Table'
import { plural, stateName } from '~/format'
import { href, route, setQuery, useRoute } from '~/router'
import { taskKey, type Task } from '~/state/model'
import { agents, counts, frameworks, ready, tasks } from '~/state/store'
import { hostOf, sandboxHref, taskHref } from './task/links'
import '../style/pages/tasks.css'

/** taskColumns are those of every table of tasks; leave out what the page says already. */
export function taskColumns(without: readonly string[] = []): Column<Task>[] {
  const all: Column<Task>[] = [
    {
      key: 'task', title: 'Task', value: (t) => (t.name === t.id || t.name === '' ? t.id : t.name + ' ' + t.id), width: 'minmax(10rem, 2fr)', cell: 'text',
      render: (t) => (
        <a class="task-name" href={taskHref(t)} title={t.id}>
          {t.name !== '' && t.name !== t.id && <span>{t.name}</span>} <span class={t.name !== '' && t.name !== t.id ? 'muted mono' : 'mono'}>{t.id}</span>
        </a>
      ),
    },
    { key: 'state', title: 'State', value: (t) => stateName(t.state), width: '8rem', cell: 'fits', render: (t) => <StateBadge state={t.state} /> },
    { key: 'health', title: 'Health', value: (t) => (t.healthy === undefined ? '' : t.healthy ? 'healthy' : 'unhealthy'), width: '6.5rem', cell: 'fits', hide: 'medium', render: (t) => <Health task={t} /> },
    { key: 'framework', title: 'Framework', value: frameworkName, width: 'minmax(7rem, 1fr)', cell: 'text', hide: 'narrow', render: (t) => <a href={href('framework', { framework_id: t.framework })} title={t.framework}>{frameworkName(t)}</a> },
    { key: 'role', title: 'Role', value: (t) => t.role, width: '6rem', hide: 'wide' },
    { key: 'host', title: 'Host', value: (t) => hostOf(t.agent), width: 'minmax(7rem, 1fr)', cell: 'text', hide: 'narrow', render: (t) => <a href={href('agent', { agent_id: t.agent })} title={t.agent}>{hostOf(t.agent)}</a> },
    { key: 'cpus', title: 'CPUs', value: (t) => t.cpus, width: '5rem', align: 'end', cell: 'fits', hide: 'medium', render: (t) => quantity('cpus', t.cpus) },
    { key: 'mem', title: 'Memory', value: (t) => t.mem, width: '6rem', align: 'end', cell: 'fits', hide: 'medium', render: (t) => quantity('mem', t.mem) },
    { key: 'started', title: 'Started', value: (t) => t.started, width: '7.5rem', cell: 'fits', hide: 'narrow', render: (t) => <Time at={t.started} /> },
    { key: 'updated', title: 'Last update', value: (t) => t.updated, width: '7.5rem', cell: 'fits', hide: 'wide', render: (t) => <Time at={t.updated} /> },
    {
      key: 'acts', title: <span class="sr">Actions</span>, name: 'Actions', width: '3rem', align: 'end', cell: 'fits',
      render: (t) => (
        <Menu
          label={`Actions on ${t.name || t.id}`}
          class="menu-row"
          items={() => [
            { title: 'Output', icon: 'file', href: taskHref(t, 'output') },
            { title: 'Sandbox', icon: 'files', href: sandboxHref(t) },
            mayKill(t) && { title: 'Kill…', icon: 'stop', danger: true, run: () => openKill(t) },
          ]}
        />
      ),
    },
  ]
  return all.filter((c) => !without.includes(c.key))
}

function frameworkName(t: Task): string {
  return frameworks.peek(t.framework)?.name ?? t.framework
}

/** Health is what the health checks of a task say. */
export function Health({ task }: { task: { healthy: boolean | undefined } }) {
  if (task.healthy === undefined) return <span class="muted">–</span>
  return <StateBadge state="" tone={task.healthy ? 'good' : 'bad'} label={task.healthy ? 'healthy' : 'unhealthy'} />
}

const columns = taskColumns()

/** order is how states are listed: what needs attention and what runs first. */
const order = ['TASK_RUNNING', 'TASK_STAGING', 'TASK_STARTING', 'TASK_KILLING', 'TASK_UNREACHABLE', 'TASK_FAILED', 'TASK_ERROR', 'TASK_LOST', 'TASK_DROPPED', 'TASK_GONE', 'TASK_GONE_BY_OPERATOR', 'TASK_KILLED', 'TASK_FINISHED']

export default function Tasks() {
  const { query } = useRoute()
  const wanted = (query['state'] ?? '').split(',').filter((s) => s !== '')
  const shown = useComputed(() => {
    const states = (route.value.query['state'] ?? '').split(',').filter((s) => s !== '')
    if (states.length === 0) return tasks.all
    const set = new Set(states)
    return tasks.all.filter((t) => set.has(t.state))
  })
  const have = counts.value as Record<string, number | undefined>
  const states = [...new Set([...order, ...Object.keys(have)])].filter((s) => (have[s] ?? 0) > 0 || wanted.includes(s))
  const toggle = (s: string, on: boolean): void => setQuery({ state: (on ? [...wanted, s] : wanted.filter((w) => w !== s)).join(',') })
  const chips = (
    <div class="chips" role="group" aria-label="States">
      {states.map((s) => (
        <Chip key={s} on={wanted.includes(s)} count={have[s] ?? 0} tone={toneOf(s)} onChange={(on) => toggle(s, on)}>
          {stateName(s)}
        </Chip>
      ))}
    </div>
  )
  // Names of hosts and frameworks are part of what one filters by.
  void agents.size
  void frameworks.size
  const away = agents.all.reduce((n, a) => n + (a.state === 'RECOVERED' ? 1 : 0), 0)
  return (
    <Page title="Tasks" sub={ready.value && plural(tasks.size, 'task')} fill>
      {away > 0 && (
        <Note tone="warn">
          {plural(away, 'agent')} {away === 1 ? 'has' : 'have'} not come back since the leader changed: tasks there are not listed yet.
        </Note>
      )}
      <Table
        label="Tasks"
        columns={columns}
        rows={shown}
        rowKey={(t) => taskKey(t.framework, t.id)}
        href={(t) => taskHref(t)}
        defaultSort="-started"
        placeholder="Filter: name, host:web-3, role:prod…"
        loading={!ready.value}
        fill
        tools={chips}
        empty={
          <Empty title={wanted.length > 0 ? 'No tasks in these states' : 'No tasks'} icon="tasks">
            <p>
              Try one: <code>clusterd run --master={location.host} -- echo hello</code>
            </p>
          </Empty>
        }
      />
    </Page>
  )
}
