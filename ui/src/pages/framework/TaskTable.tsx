/** The tasks of a framework. */
import type { ReadonlySignal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { mayKill, openKill } from '~/actions/killTask'
import { Cpus, Id, Megabytes, StateBadge, Time } from '~/components/basic'
import { Menu, type MenuItem } from '~/components/Menu'
import { Table, type Column } from '~/components/Table'
import { href } from '~/router'
import { taskKey, type Task } from '~/state/model'
import { agents } from '~/state/store'

function to(t: Task): string {
  return href('task', { framework_id: t.framework, task_id: t.id })
}

function host(t: Task): string | undefined {
  return agents.peek(t.agent)?.hostname
}

function Health({ healthy }: { healthy: boolean | undefined }) {
  if (healthy === undefined) return <span class="muted">–</span>
  return <StateBadge state={healthy ? 'healthy' : 'unhealthy'} tone={healthy ? 'good' : 'bad'} label={healthy ? 'healthy' : 'unhealthy'} />
}

/** sandboxOf leads to the task's files; they go with the agent. */
function sandboxOf(t: Task): string | undefined {
  if (!agents.has(t.agent)) return undefined
  return href('taskBrowse', { agent_id: t.agent, framework_id: t.framework, executor_id: t.executor || t.id, task_id: t.id })
}

function actsOn(t: Task): (MenuItem | false)[] {
  const sandbox = sandboxOf(t)
  return [
    sandbox !== undefined && { title: 'Sandbox', icon: 'files', href: sandbox },
    mayKill(t) && { title: 'Kill…', icon: 'stop', danger: true, run: () => openKill(t) },
  ]
}

function columnsOf(ended: boolean): Column<Task>[] {
  return [
    { key: 'name', cell: 'text', title: 'Name', value: (t) => t.name, width: 'minmax(8rem, 1.4fr)', render: (t) => <a href={to(t)}>{t.name || t.id}</a> },
    { key: 'id', cell: 'fits', title: 'Id', value: (t) => t.id, width: 'minmax(9rem, 1.4fr)', hide: 'medium', render: (t) => <Id id={t.id} /> },
    { key: 'role', title: 'Role', value: (t) => t.role, hide: 'medium' },
    { key: 'state', cell: 'fits', title: 'State', value: (t) => t.state, width: '8rem', render: (t) => <StateBadge state={t.state} /> },
    { key: 'health', cell: 'fits', title: 'Health', value: (t) => (t.healthy === undefined ? undefined : t.healthy ? 'healthy' : 'unhealthy'), width: '7rem', hide: 'medium', render: (t) => <Health healthy={t.healthy} /> },
    { key: 'cpus', cell: 'fits', title: 'CPUs', value: (t) => t.cpus, align: 'end', width: '4.5rem', hide: 'narrow', render: (t) => <Cpus n={t.cpus} /> },
    { key: 'mem', cell: 'fits', title: 'Memory', value: (t) => t.mem, align: 'end', width: '6rem', hide: 'narrow', render: (t) => <Megabytes n={t.mem} /> },
    { key: 'started', cell: 'fits', title: 'Started', value: (t) => t.started, width: '7rem', hide: 'narrow', render: (t) => <Time at={t.started} /> },
    ...(ended ? [{ key: 'stopped', cell: 'fits' as const, title: 'Stopped', value: (t: Task) => t.updated, width: '7rem', render: (t: Task) => <Time at={t.updated} /> }] : []),
    {
      key: 'host',
      title: 'Host',
      value: (t) => host(t) ?? t.agent,
      cell: 'text',
      render: (t) => (agents.get(t.agent) === undefined ? <span class="muted" title={t.agent}>agent offline</span> : <a href={href('agent', { agent_id: t.agent })}>{host(t)}</a>),
    },
    {
      key: 'acts',
      title: '',
      name: 'Acts',
      width: '3.4rem',
      align: 'end',
      cell: 'fits',
      render: (t) => (sandboxOf(t) !== undefined || mayKill(t)) && <Menu label={'Acts on ' + (t.name || t.id)} class="menu-row" items={() => actsOn(t)} />,
    },
  ]
}

export function TaskTable({ id, label, tasks, ended = false, empty }: { id: string; label: string; tasks: ReadonlySignal<readonly Task[]>; ended?: boolean; empty: ComponentChildren }) {
  return (
    <Table
      id={id}
      label={label}
      columns={columnsOf(ended)}
      rows={tasks}
      rowKey={(t) => taskKey(t.framework, t.id)}
      href={to}
      defaultSort={ended ? '-stopped' : '-started'}
      placeholder="Filter tasks"
      maxRows={15}
      empty={empty}
    />
  )
}
