/** A task: what happened to it, what it has and uses, where it runs; its output and a terminal into it. */
import { useMemo } from 'preact/hooks'
import { mayKill, openKill } from '~/actions/killTask'
import { own } from '~/api/client'
import { useLive } from '~/api/live'
import type { Task as WireTask } from '~/api/types'
import { Button, Copy, Empty, ErrorNote, Facts, Id, Note, Panel, shorten, Skeleton, StateBadge, Tag, Time } from '~/components/basic'
import { Page } from '~/components/Page'
import { quantity } from '~/components/ResourceBar'
import { Tabs } from '~/components/Tabs'
import { duration } from '~/format'
import { href, useRoute } from '~/router'
import { can } from '~/session'
import { useKept } from '~/state/kept'
import { taskKey, taskOf, type Task as TaskModel } from '~/state/model'
import { agents, findTask, frameworks, ready } from '~/state/store'
import { TerminalPanel } from '~/term/TerminalPanel'
import { keyOf, type ContainerID } from '~/usage/containers'
import { useUsage } from '~/usage/useUsage'
import { ContainerTable } from './agent/ContainerTable'
import { UsageCharts } from './agent/UsageCharts'
import { Checks } from './task/Checks'
import { executorOf, hostOf, sandboxHref } from './task/links'
import { Network } from './task/Network'
import { Output } from './task/Output'
import { startedAt, Timeline } from './task/Timeline'
import '../style/pages/task.css'
import '../style/pages/terminal.css'

/** containerOf is the container of a task, as its statuses tell it. */
export function containerOf(t: WireTask): ContainerID | undefined {
  return t.statuses?.findLast((s) => s.container_status?.container_id !== undefined)?.container_status?.container_id
}

/** rootOf is the outermost container. */
function rootOf(id: ContainerID): ContainerID {
  return id.parent === undefined ? id : rootOf(id.parent)
}

/** hasTerminal says whether the command of a task was given a terminal. */
function hasTerminal(t: WireTask | undefined): boolean {
  return t?.container?.['tty_info'] !== undefined
}

export default function Task() {
  const { params } = useRoute()
  const frameworkId = params['framework_id'] ?? ''
  const taskId = params['task_id'] ?? ''
  const q = new URLSearchParams({ task_id: taskId, framework_id: frameworkId })
  const live = useLive<{ tasks: WireTask[] }>(own + '/task?' + q.toString(), { interval: 1000 })
  const { data, error } = live.value
  // Newest last: an id may have been used again.
  const now = data?.tasks.at(-1)
  const known = findTask(frameworkId, taskId)
  const key = taskKey(frameworkId, taskId)
  const { value: wire } = useKept(now, key)
  const { value: task, old } = useKept(useMemo(() => (now === undefined ? undefined : taskOf(now)), [now]) ?? known, key)
  const framework = frameworks.get(frameworkId)
  const crumbs = [
    { text: 'Tasks', href: href('tasks') },
    { text: framework?.name ?? shorten(frameworkId), href: href('framework', { framework_id: frameworkId }) },
  ]
  if (task === undefined) {
    return (
      <Page title="Task" crumbs={crumbs} heading={taskId}>
        {error !== undefined && <ErrorNote error={error} />}
        {error === undefined && (data === undefined || !ready.value) ? (
          <Skeleton lines={10} />
        ) : (
          <Empty title="The cluster knows no such task" icon="tasks">
            <p>It may have ended long ago: masters remember the last ones of each framework only (--max_completed_tasks_per_framework).</p>
          </Empty>
        )}
      </Page>
    )
  }
  return <TaskPage task={task} wire={wire} old={old && ready.value} crumbs={crumbs} />
}

function TaskPage({ task, wire, old, crumbs }: { task: TaskModel; wire: WireTask | undefined; old: boolean; crumbs: { text: string; href: string }[] }) {
  const agent = agents.get(task.agent)
  const reach = agent?.connected === true
  const container = wire === undefined ? undefined : containerOf(wire)
  const running = task.active && reach
  const usage = useUsage(running && container !== undefined ? task.agent : undefined, container === undefined ? undefined : rootOf(container).value, 1000)
  const tty = hasTerminal(wire)
  const terminal = running && container !== undefined && (can('LAUNCH_NESTED_CONTAINER_SESSION') || (tty && can('ATTACH_CONTAINER_OUTPUT')))
  // Who has it open reads on what it showed, and why it ended: also when the task has, or its agent is away.
  const opened = useKept(terminal || undefined, taskKey(task.framework, task.id)).value === true && useRoute().query['tab'] === 'terminal'
  const name = task.name === '' ? task.id : task.name
  return (
    <Page
      title={name}
      crumbs={crumbs}
      heading={shorten(name, 60)}
      sub={
        <>
          <StateBadge state={task.state} />
          {task.healthy !== undefined && <StateBadge state="" tone={task.healthy ? 'good' : 'bad'} label={task.healthy ? 'healthy' : 'unhealthy'} />} <Id id={task.id} />
        </>
      }
      actions={
        <>
          <a class="button button-plain" href={sandboxHref(task)}>
            Sandbox
          </a>
          {!old && mayKill(task) && (
            <Button kind="danger" icon="stop" onClick={() => openKill(task)}>
              Kill
            </Button>
          )}
        </>
      }
    >
      {old && <Note tone="warn">The leader does not know this task: its agent is not back yet, or it ended long ago. What is shown is what was known last.</Note>}
      {task.state === 'TASK_UNREACHABLE' && <ErrorNote error="Its agent does not answer; whether it runs is not known. It is taken up again when the agent returns." title="Unreachable." />}
      <Tabs
        label="About this task"
        tabs={[
          { key: 'overview', title: 'Overview', render: () => <Overview task={task} wire={wire} container={container} usage={usage.value} running={running} /> },
          { key: 'output', title: 'Output', render: () => <Output task={task} reach={reach} /> },
          ...((terminal || opened) && container !== undefined ? [{ key: 'terminal', title: 'Terminal', render: () => <TerminalPanel agent={task.agent} container={keyOf(container)} tty={tty} /> }] : []),
          { key: 'json', title: 'JSON', render: () => <Raw wire={wire} /> },
        ]}
      />
    </Page>
  )
}

type UsageValue = ReturnType<typeof useUsage>['value']

function Overview({ task, wire, container, usage, running }: { task: TaskModel; wire: WireTask | undefined; container: ContainerID | undefined; usage: UsageValue; running: boolean }) {
  const key = container === undefined ? undefined : keyOf(container)
  // What a task of a group uses may be counted for its whole executor only.
  const own = key === undefined || usage.shared.has(key) ? undefined : usage.series.get(key)
  const measured = own !== undefined && own.samples.length > 0 ? own : container === undefined ? undefined : usage.series.get(rootOf(container).value)
  const ofGroup = measured !== undefined && measured !== own
  const limits = wire?.limits ?? {}
  return (
    <div class="agent-grid">
      <div class="agent-main">
        <Panel title="History">{wire === undefined ? <Skeleton lines={4} /> : <Timeline statuses={wire.statuses ?? []} active={task.active} />}</Panel>
        {running && container !== undefined && (
          <>
            {ofGroup && <p class="muted task-note">What is plotted is used by its whole executor: this task has no cgroups of its own, and is not measured alone.</p>}
            <UsageCharts samples={measured?.samples ?? []} what={'the task ' + task.id} />
          </>
        )}
        {running && usage.nodes.length > 0 && (
          <Panel title="Containers">
            <ContainerTable agent={task.agent} usage={usage} reach />
          </Panel>
        )}
      </div>
      <div class="agent-side">
        <Panel title="Task">
          <Facts
            items={[
              ['Id', <Id id={task.id} full key="id" />],
              ['Framework', <a key="f" href={href('framework', { framework_id: task.framework })}>{frameworks.get(task.framework)?.name ?? task.framework}</a>],
              ['Agent', <a key="a" href={href('agent', { agent_id: task.agent })}>{hostOf(task.agent)}</a>],
              ['Executor', <a key="e" class="mono" href={href('executor', { agent_id: task.agent, framework_id: task.framework, executor_id: executorOf(task) })}>{task.executor === '' ? 'its own' : task.executor}</a>],
              ['Container', key === undefined ? undefined : <Id key="c" id={key} />],
              ['Role', <Tag key="r">{task.role}</Tag>],
              ['User', wire?.user],
              ['Image', imageOf(wire)],
              ['Started', <Time key="s" at={wire === undefined ? task.started : startedAt(wire.statuses ?? [])} />],
              ['Grace period', grace(wire)],
            ]}
          />
        </Panel>
        <Panel title="Resources">
          <Facts
            items={[
              ['CPUs', amountWithLimit('cpus', task.cpus, limits['cpus']?.value)],
              ['Memory', amountWithLimit('mem', task.mem, limits['mem']?.value)],
              ['Disk', task.disk > 0 ? quantity('disk', task.disk) : undefined],
              ['GPUs', task.gpus > 0 ? quantity('gpus', task.gpus) : undefined],
              ...others(wire),
            ]}
          />
        </Panel>
        {wire !== undefined && <Checks task={wire} />}
        {wire !== undefined && <Network task={wire} />}
        {(wire?.labels?.labels?.length ?? 0) > 0 && (
          <Panel title="Labels">
            <Facts items={(wire?.labels?.labels ?? []).map((l) => [l.key, <code key={l.key}>{l.value ?? ''}</code>])} />
          </Panel>
        )}
      </div>
    </div>
  )
}

/** imageOf is the image that a task runs from. */
function imageOf(t: WireTask | undefined): string | undefined {
  const c = t?.container as { mesos?: { image?: { docker?: { name?: string }; appc?: { name?: string } } }; docker?: { image?: string } } | undefined
  return c?.docker?.image ?? c?.mesos?.image?.docker?.name ?? c?.mesos?.image?.appc?.name
}

function grace(t: WireTask | undefined): string | undefined {
  const ns = t?.kill_policy?.grace_period?.nanoseconds
  return ns === undefined ? undefined : duration(ns / 1e9)
}

function amountWithLimit(name: 'cpus' | 'mem', n: number, limit: number | string | undefined): string {
  const text = quantity(name, n)
  if (limit === undefined) return text
  const v = Number(limit)
  return text + (Number.isFinite(v) ? `, up to ${quantity(name, v)}` : ', without a limit')
}

/** others are resources besides the four scalars: ports, and what agents call their own. */
function others(t: WireTask | undefined): [string, string][] {
  return (t?.resources ?? [])
    .filter((r) => r.type !== 'SCALAR' || !['cpus', 'mem', 'disk', 'gpus'].includes(r.name))
    .map((r) => [
      r.name,
      r.ranges !== undefined
        ? (r.ranges.range ?? []).map((x) => (x.begin === x.end ? String(x.begin) : `${x.begin}–${x.end}`)).join(', ')
        : r.scalar !== undefined
          ? String(r.scalar.value)
          : (r.set?.item ?? []).join(', '),
    ])
}

function Raw({ wire }: { wire: WireTask | undefined }) {
  if (wire === undefined) return <Skeleton lines={8} />
  const text = JSON.stringify(wire, null, 2)
  return (
    <div class="raw">
      <Copy text={text} what="JSON" />
      <pre tabIndex={0} role="region" aria-label="The task as JSON">
        {text}
      </pre>
    </div>
  )
}
