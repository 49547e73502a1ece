/** An agent: what it is and has, what runs there and what that uses. */
import { useComputed } from '@preact/signals'
import { menuItems } from '~/actions/act'
import { agentActs } from '~/actions/agentActs'
import { useLive } from '~/api/live'
import type { Resource } from '~/api/types'
import { Copy, Empty, ErrorNote, Facts, Id, Note, Panel, Skeleton, Stat, StateBadge, Tag, Time } from '~/components/basic'
import { Menu } from '~/components/Menu'
import { Page } from '~/components/Page'
import { Table } from '~/components/Table'
import { Tabs } from '~/components/Tabs'
import { count, stateName } from '~/format'
import { LogViewer } from '~/logs/LogViewer'
import { href, useRoute } from '~/router'
import { useKept } from '~/state/kept'
import { taskKey, type Agent as AgentModel } from '~/state/model'
import { agents, ready, tallyOfAgent, tasks } from '~/state/store'
import { useUsage, type Usage } from '~/usage/useUsage'
import { ContainerTable } from './agent/ContainerTable'
import { DrainBox } from './agent/DrainBox'
import { Executors } from './agent/Executors'
import { Reservations } from './agent/Reservations'
import { ResourcesPanel } from './agent/ResourcesPanel'
import { hasLog, statePath, type AgentState } from './agent/state'
import { UsageCharts } from './agent/UsageCharts'
import { taskHref } from './task/links'
import { taskColumns } from './tasks'
import '../style/pages/agent.css'

/** Slave is an element of the master's /slaves, as far as it tells more than the summary. */
interface Slave {
  id: string
  capabilities?: string[]
  reserved_resources_full?: Record<string, Resource[]>
  unreserved_resources_full?: Resource[]
  used_resources_full?: Resource[]
}

const columns = taskColumns(['host'])

export default function Agent() {
  const id = useRoute().params['agent_id'] ?? ''
  const { value: agent, old } = useKept(agents.get(id), id)
  const reach = agent !== undefined && !old && agent.connected
  const state = useLive<AgentState>(reach ? statePath(id) : undefined, { interval: 3000 })
  const slave = useLive<{ slaves: Slave[] }>(agent === undefined || old ? undefined : '/slaves?slave_id=' + encodeURIComponent(id), { interval: 3000 })
  const usage = useUsage(reach ? id : undefined)
  const crumbs = [{ text: 'Agents', href: href('agents') }]
  if (agent === undefined) {
    return (
      <Page title="Agent" crumbs={crumbs} heading={id}>
        {ready.value ? <Unknown id={id} /> : <Skeleton lines={10} />}
      </Page>
    )
  }
  const said = state.value
  const full = slave.value.data?.slaves.find((s) => s.id === id)
  const tally = tallyOfAgent(id)
  return (
    <Page
      title={agent.hostname}
      crumbs={crumbs}
      sub={
        <>
          <StateBadge state={agent.state} /> <Id id={id} />
        </>
      }
      actions={
        !old && (
          <Menu label="Actions" items={menuItems(agentActs, agent)}>
            Actions
          </Menu>
        )
      }
    >
      {old && ready.value && (
        <Note tone="warn">
          <strong>No such agent is registered.</strong> It may not be back with a new leader yet, be unreachable, or have been marked gone. What is shown is what was known last.
        </Note>
      )}
      <DrainBox agent={agent} tasks={tally.active} />
      {reach && said.error !== undefined && <ErrorNote error={said.error} title="The agent does not answer: what is shown of it may be old." />}
      <Tabs
        label="About this agent"
        tabs={[
          { key: 'overview', title: 'Overview', render: () => <Overview agent={agent} state={said.data} usage={usage.value} /> },
          { key: 'tasks', title: 'Tasks', count: tally.active, render: () => <AgentTasks id={id} /> },
          { key: 'containers', title: 'Containers', count: usage.value.ready ? usage.value.nodes.length : undefined, render: () => <ContainerTable agent={id} usage={usage.value} reach={reach} framed /> },
          { key: 'frameworks', title: 'Executors', render: () => <Executors agent={id} state={said.data} usage={usage.value} reach={reach} /> },
          { key: 'reservations', title: 'Reservations and volumes', render: () => <Reservations agent={agent} resources={all(full)} used={full?.used_resources_full ?? []} loading={full === undefined} /> },
          { key: 'log', title: 'Log', render: () => <AgentLog id={id} state={said.data} reach={reach} /> },
        ]}
      />
    </Page>
  )
}

function all(s: Slave | undefined): Resource[] {
  return s === undefined ? [] : Object.values(s.reserved_resources_full ?? {}).flat().concat(s.unreserved_resources_full ?? [])
}

function Unknown({ id }: { id: string }) {
  return (
    <Empty title="No such agent is registered" icon="agents">
      <p>
        It may be unreachable, have been marked gone, or have registered again under another id. <Copy text={id} what="id" />
      </p>
      <p>
        <a href={href('agents')}>All agents</a> · <a href={href('tasks', {}, { q: id })}>Tasks that ran there</a>
      </p>
    </Empty>
  )
}

function Overview({ agent, state, usage }: { agent: AgentModel; state: AgentState | undefined; usage: Usage }) {
  const tally = tallyOfAgent(agent.id)
  const attributes = Object.entries(agent.attributes)
  const build = state === undefined ? '' : [state.git_sha?.slice(0, 12), state.build_date, state.build_user].filter((x) => x !== undefined && x !== '').join(' · ')
  return (
    <div class="agent-grid">
      <div class="agent-main">
        <div class="stats">
          {['TASK_STAGING', 'TASK_STARTING', 'TASK_RUNNING', 'TASK_KILLING', 'TASK_FINISHED', 'TASK_KILLED', 'TASK_FAILED', 'TASK_LOST'].map((s) => {
            const n = (tally.states as Record<string, number | undefined>)[s] ?? 0
            return <Stat key={s} label={stateName(s)} value={count(n)} {...(n > 0 && s === 'TASK_FAILED' ? { tone: 'bad' as const } : {})} href={href('agent', { agent_id: agent.id }, { tab: 'tasks', q: 'state:' + stateName(s) })} />
          })}
        </div>
        <ResourcesPanel agent={agent} used={usage.total.at(-1)} />
        <UsageCharts samples={usage.total} cpus={agent.allocated.cpus} mem={agent.allocated.mem * 1024 * 1024} line="Allocated" what="containers of this agent" />
      </div>
      <div class="agent-side">
        <Panel title="Identity">
          <Facts
            items={[
              ['Id', <Id id={agent.id} key="id" full />],
              ['Host', agent.hostname],
              ['Address', <code key="a">{agent.pid.replace(/^.*@/, '')}</code>],
              ['Version', agent.version],
              ['Build', build],
              ['Started', state === undefined ? undefined : <Time at={state.start_time} key="s" />],
              ['Registered', <Time at={agent.registered} key="r" />],
              ['Reregistered', agent.reregistered === undefined ? undefined : <Time at={agent.reregistered} key="rr" />],
              ['Master', state?.master_hostname],
              ['Region', agent.region],
              ['Zone', agent.zone],
            ]}
          />
        </Panel>
        {attributes.length > 0 && (
          <Panel title="Attributes">
            <Facts items={attributes.map(([k, v]) => [k, <code key={k}>{v}</code>])} />
          </Panel>
        )}
        {state !== undefined && state.capabilities.length > 0 && (
          <Panel title="Capabilities">
            <p class="tags">
              {state.capabilities.map((c) => (
                <Tag key={c}>{c.toLowerCase().replaceAll('_', ' ')}</Tag>
              ))}
            </p>
          </Panel>
        )}
        {(state?.resource_providers?.length ?? 0) > 0 && (
          <Panel title="Resource providers">
            <Facts
              items={(state?.resource_providers ?? []).map((p) => [
                p.resource_provider_info?.name ?? 'unnamed',
                <span key="p">
                  {p.resource_provider_info?.type} <Id id={p.resource_provider_info?.id?.value ?? ''} />
                </span>,
              ])}
            />
          </Panel>
        )}
      </div>
    </div>
  )
}

function AgentTasks({ id }: { id: string }) {
  const rows = useComputed(() => tasks.all.filter((t) => t.agent === id))
  return (
    <Table
      label="Tasks of this agent"
      columns={columns}
      rows={rows}
      rowKey={(t) => taskKey(t.framework, t.id)}
      href={(t) => taskHref(t)}
      defaultSort="-started"
      maxRows={18}
      loading={!ready.value}
      empty={<Empty title="No tasks here" icon="tasks" />}
    />
  )
}

function AgentLog({ id, state, reach }: { id: string; state: AgentState | undefined; reach: boolean }) {
  if (!reach) return <Empty title="The agent is not connected" icon="agents" />
  if (state === undefined) return <Skeleton lines={8} />
  if (!hasLog(state)) {
    return (
      <Empty title="The agent writes no log file" icon="file">
        <p>
          It logs to its standard error, which ends up in the journal of its service. Start it with <code>--log_dir</code>, or say with <code>--external_log_file</code> where somebody else writes the log, to read it here.
        </p>
      </Empty>
    )
  }
  return (
    <div class="log-frame">
      <LogViewer file={{ agent: id, path: '/slave/log' }} />
    </div>
  )
}
