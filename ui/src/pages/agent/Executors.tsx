/** Frameworks of an agent, their executors, and those that have ended. */
import { Empty, Panel, Skeleton, Tag } from '~/components/basic'
import { quantity } from '~/components/ResourceBar'
import { bytes, count } from '~/format'
import { href } from '~/router'
import type { Usage } from '~/usage/useUsage'
import type { AgentExecutor, AgentFramework, AgentState } from './state'
import { Scrolls } from './Scrolls'

export function Executors({ agent, state, usage, reach, only }: { agent: string; state: AgentState | undefined; usage: Usage; reach: boolean; only?: string }) {
  if (!reach) return <Empty title="The agent is not connected" icon="agents" />
  if (state === undefined) return <Skeleton lines={6} />
  const wanted = (f: AgentFramework): boolean => only === undefined || f.id === only
  const running = state.frameworks.filter((f) => wanted(f) && f.executors.length > 0)
  const ended = [...state.frameworks, ...state.completed_frameworks].filter((f) => wanted(f) && f.completed_executors.length > 0)
  return (
    <>
      {running.length === 0 && <Empty title="No executors run here" icon="frameworks" />}
      {running.map((f) => (
        <Panel key={f.id} title={<FrameworkTitle agent={agent} f={f} />}>
          <ExecutorTable agent={agent} framework={f} executors={f.executors} usage={usage} />
        </Panel>
      ))}
      {ended.length > 0 && <h2 class="agent-past">Ended</h2>}
      {ended.map((f) => (
        <Panel key={f.id} title={<FrameworkTitle agent={agent} f={f} />}>
          <ExecutorTable agent={agent} framework={f} executors={f.completed_executors} />
        </Panel>
      ))}
    </>
  )
}

function FrameworkTitle({ agent, f }: { agent: string; f: AgentFramework }) {
  return (
    <>
      <a href={href('framework', { framework_id: f.id })}>{f.name || f.id}</a> <span class="muted">as {f.user}</span> {(f.roles ?? [f.role ?? '*']).map((r) => <Tag key={r}>{r}</Tag>)}{' '}
      <a class="agent-only" href={href('agentFramework', { agent_id: agent, framework_id: f.id })} title={f.id}>
        on this agent
      </a>
    </>
  )
}

function ExecutorTable({ agent, framework, executors, usage }: { agent: string; framework: AgentFramework; executors: readonly AgentExecutor[]; usage?: Usage }) {
  return (
    <Scrolls label="Executors">
      <table class="plain">
        <thead>
          <tr>
            <th scope="col">Executor</th>
            <th scope="col" class="hide-narrow">
              Name
            </th>
            <th scope="col" class="hide-narrow">
              Role
            </th>
            <th scope="col" class="end">
              {usage === undefined ? 'Tasks' : 'Active tasks'}
            </th>
            {usage !== undefined && (
              <>
                <th scope="col" class="end hide-narrow">
                  Queued
                </th>
                <th scope="col" class="end">
                  CPUs used / allocated
                </th>
                <th scope="col" class="end">
                  Memory used / allocated
                </th>
                <th scope="col" class="end hide-narrow">
                  Disk
                </th>
              </>
            )}
            <th scope="col">
              <span class="offscreen">Sandbox</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {executors.map((e) => {
            const now = usage?.series.get(e.container)?.latest
            return (
              <tr key={e.container + e.id}>
                <td class="mono">
                  <a href={href('executor', { agent_id: agent, framework_id: framework.id, executor_id: e.id })}>{e.id}</a>
                </td>
                <td class="hide-narrow">
                  <span class="ellipsis" title={e.name}>
                    {e.name}
                  </span>
                </td>
                <td class="hide-narrow">{e.role ?? '*'}</td>
                <td class="end num">{count(usage === undefined ? e.completed_tasks.length : e.tasks.length)}</td>
                {usage !== undefined && (
                  <>
                    <td class="end num hide-narrow">{count(e.queued_tasks.length)}</td>
                    <td class="end num">
                      {now?.cpus === undefined ? '–' : now.cpus.toFixed(2)} <span class="muted">/ {quantity('cpus', e.resources.cpus)}</span>
                    </td>
                    <td class="end num">
                      {bytes(now?.mem)} <span class="muted">/ {quantity('mem', e.resources.mem)}</span>
                    </td>
                    <td class="end num hide-narrow">{quantity('disk', e.resources.disk)}</td>
                  </>
                )}
                <td class="end">
                  <a href={href('files', { agent_id: agent }, { path: e.directory })}>Sandbox</a>
                </td>
              </tr>
            )
          })}
        </tbody>
      </table>
    </Scrolls>
  )
}
