/** An executor on its agent, or all executors of a framework there: Mesos's deep links lead here. */
import { Empty, ErrorNote, Facts, Id, Panel, shorten, Skeleton, StateBadge, Tag } from '~/components/basic'
import { Page, type Crumb } from '~/components/Page'
import { quantity } from '~/components/ResourceBar'
import { useLive } from '~/api/live'
import { href, useRoute } from '~/router'
import { agents, frameworks, ready } from '~/state/store'
import { useUsage } from '~/usage/useUsage'
import { Executors } from './agent/Executors'
import { findExecutor, statePath, type AgentState, type AgentTask, type Found } from './agent/state'
import { UsageCharts } from './agent/UsageCharts'
import { Health } from './tasks'
import '../style/pages/agent.css'
import { Scrolls } from './agent/Scrolls'

export default function Executor() {
  const { params } = useRoute()
  const agentId = params['agent_id'] ?? ''
  const frameworkId = params['framework_id'] ?? ''
  const executorId = params['executor_id']
  const agent = agents.get(agentId)
  const live = useLive<AgentState>(agentId === '' ? undefined : statePath(agentId), { interval: 3000 })
  const { data, error } = live.value
  const framework = data === undefined ? undefined : [...data.frameworks, ...data.completed_frameworks].find((f) => f.id === frameworkId)
  const name = framework?.name ?? frameworks.get(frameworkId)?.name ?? shorten(frameworkId)
  const crumbs: Crumb[] = [
    { text: 'Agents', href: href('agents') },
    { text: agent?.hostname ?? shorten(agentId), href: href('agent', { agent_id: agentId }) },
  ]
  if (executorId === undefined) {
    return (
      <Page title={name} crumbs={crumbs} heading={name} sub={<Id id={frameworkId} href={href('framework', { framework_id: frameworkId })} />}>
        {error !== undefined && <ErrorNote error={error} />}
        <OfFramework agent={agentId} framework={frameworkId} state={data} />
      </Page>
    )
  }
  crumbs.push({ text: name, href: href('agentFramework', { agent_id: agentId, framework_id: frameworkId }) })
  const found = data === undefined ? undefined : findExecutor(data, frameworkId, executorId)
  return (
    <Page
      title={executorId}
      crumbs={crumbs}
      heading={shorten(executorId, 48)}
      sub={found !== undefined && <StateBadge state={found.completed ? 'COMPLETED' : 'ACTIVE'} tone={found.completed ? 'quiet' : 'good'} label={found.completed ? 'ended' : 'running'} />}
      actions={
        found !== undefined && (
          <a class="button button-plain" href={href('files', { agent_id: agentId }, { path: found.executor.directory })}>
            Sandbox
          </a>
        )
      }
    >
      {error !== undefined && <ErrorNote error={error} title={agent === undefined && ready.value ? 'No such agent is registered.' : 'The agent does not answer.'} />}
      {data === undefined ? error === undefined && <Skeleton lines={8} /> : found === undefined ? <Empty title="The agent knows no such executor" icon="frameworks"><p>It has ended long ago, or never ran there.</p></Empty> : <About agent={agentId} found={found} />}
    </Page>
  )
}

function OfFramework({ agent, framework, state }: { agent: string; framework: string; state: AgentState | undefined }) {
  const usage = useUsage(agent)
  return <Executors agent={agent} state={state} usage={usage.value} reach only={framework} />
}

function About({ agent, found }: { agent: string; found: Found }) {
  const { executor: e, framework: f, completed } = found
  const usage = useUsage(completed ? undefined : agent, e.container)
  const samples = usage.value.series.get(e.container)?.samples ?? []
  const labels = e.labels ?? []
  return (
    <>
      <Panel title="Executor">
        <Facts
          items={[
            ['Id', <Id id={e.id} full key="i" />],
            ['Name', e.name],
            ['Source', e.source === e.id ? undefined : e.source],
            ['Kind', e.type?.toLowerCase()],
            ['Role', <Tag key="r">{e.role ?? '*'}</Tag>],
            ['Framework', <a key="f" href={href('framework', { framework_id: f.id })}>{f.name}</a>],
            ['Container', <Id id={e.container} full key="c" />],
            ['CPUs', quantity('cpus', e.resources.cpus)],
            ['Memory', quantity('mem', e.resources.mem)],
            ['Disk', quantity('disk', e.resources.disk)],
            ['GPUs', (e.resources.gpus ?? 0) > 0 ? quantity('gpus', e.resources.gpus) : undefined],
            ['Labels', labels.length === 0 ? undefined : labels.map((l) => <Tag key={l.key}>{l.key + (l.value === undefined ? '' : ':' + l.value)}</Tag>)],
          ]}
        />
      </Panel>
      {!completed && <UsageCharts samples={samples} what={`the executor ${e.id}`} />}
      <TaskTable title="Queued tasks" agent={agent} executor={e.id} framework={f.id} tasks={e.queued_tasks} />
      <TaskTable title="Tasks" agent={agent} executor={e.id} framework={f.id} tasks={e.tasks} always={!completed} />
      <TaskTable title="Completed tasks" agent={agent} executor={e.id} framework={f.id} tasks={e.completed_tasks} />
    </>
  )
}

function TaskTable(p: { title: string; agent: string; executor: string; framework: string; tasks: readonly AgentTask[]; always?: boolean }) {
  if (p.tasks.length === 0 && p.always !== true) return null
  return (
    <Panel title={p.title}>
      {p.tasks.length === 0 ? (
        <Empty title="None" icon="tasks" />
      ) : (
        <Scrolls label={p.title}>
          <table class="plain">
            <thead>
              <tr>
                <th scope="col">Task</th>
                <th scope="col">Name</th>
                <th scope="col">State</th>
                <th scope="col" class="hide-narrow">Health</th>
                <th scope="col" class="hide-narrow">Role</th>
                <th scope="col" class="end">CPUs</th>
                <th scope="col" class="end hide-narrow">CPU limit</th>
                <th scope="col" class="end">Memory</th>
                <th scope="col" class="end hide-narrow">Memory limit</th>
                <th scope="col" class="end hide-narrow">Disk</th>
                <th scope="col" class="end hide-narrow">GPUs</th>
                <th scope="col">
                  <span class="offscreen">Sandbox</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {p.tasks.map((t) => (
                <tr key={t.id}>
                  <td class="mono">
                    <a href={href('task', { framework_id: p.framework, task_id: t.id })}>{t.id}</a>
                  </td>
                  <td>{t.name}</td>
                  <td>{t.state === undefined ? <span class="muted">queued</span> : <StateBadge state={t.state} />}</td>
                  <td class="hide-narrow">
                    <Health task={{ healthy: t.statuses?.at(-1)?.healthy }} />
                  </td>
                  <td class="hide-narrow">{t.role ?? '*'}</td>
                  <td class="end num">{quantity('cpus', t.resources.cpus)}</td>
                  <td class="end num hide-narrow">{limit('cpus', t.limits?.cpus)}</td>
                  <td class="end num">{quantity('mem', t.resources.mem)}</td>
                  <td class="end num hide-narrow">{limit('mem', t.limits?.mem)}</td>
                  <td class="end num hide-narrow">{quantity('disk', t.resources.disk)}</td>
                  <td class="end num hide-narrow">{quantity('gpus', t.resources.gpus)}</td>
                  <td class="end">
                    <a href={href('taskBrowse', { agent_id: p.agent, framework_id: p.framework, executor_id: p.executor, task_id: t.id })}>Sandbox</a>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </Scrolls>
      )}
    </Panel>
  )
}

/** limit is what a task may use beyond what it was given; there may be none ("Infinity"). */
function limit(name: 'cpus' | 'mem', n: number | string | undefined): string {
  if (n === undefined) return '–'
  const v = Number(n)
  return Number.isFinite(v) ? quantity(name, v) : 'none'
}
