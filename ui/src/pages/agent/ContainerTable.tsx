/** The containers of an agent as a tree, with what each uses now. */
import { Button, Empty, ErrorNote, Id, Panel, Skeleton } from '~/components/basic'
import { Sparkline } from '~/components/Chart'
import { Icon } from '~/components/Icon'
import { bytes, percent } from '~/format'
import { go, href } from '~/router'
import { can } from '~/session'
import type { Node } from '~/usage/containers'
import type { Usage } from '~/usage/useUsage'
import { Scrolls } from './Scrolls'

export function ContainerTable({ agent, usage, reach, framed = false }: { agent: string; usage: Usage; reach: boolean; framed?: boolean }) {
  if (!reach) return <Empty title="The agent is not connected" icon="agents" />
  if (!usage.ready) return <Skeleton lines={6} />
  if (usage.error !== undefined && usage.nodes.length === 0) return <ErrorNote error={usage.error} />
  if (usage.nodes.length === 0) return <Empty title="No containers" icon="agents" />
  const table = (
    <Scrolls label="Containers">
      <table class="plain containers">
        <thead>
          <tr>
            <th scope="col">Container</th>
            <th scope="col">Executor</th>
            <th scope="col" class="end">
              CPUs
            </th>
            <th scope="col" class="hide-narrow">
              <span class="offscreen">CPUs over time</span>
            </th>
            <th scope="col" class="end">
              Memory
            </th>
            <th scope="col" class="end hide-narrow">
              Throttled
            </th>
            <th scope="col" class="end hide-narrow">
              Processes
            </th>
            <th scope="col">Address</th>
            <th scope="col">
              <span class="offscreen">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {usage.nodes.map((n) => (
            <Row key={n.key} agent={agent} node={n} usage={usage} />
          ))}
        </tbody>
      </table>
    </Scrolls>
  )
  return framed ? <Panel>{table}</Panel> : table
}

/** addressesOf are the addresses of a container. */
export function addressesOf(n: Node): string[] {
  return (n.container.container_status?.network_infos ?? []).flatMap((i) => (i.ip_addresses ?? []).map((a) => a.ip_address ?? '')).filter((a) => a !== '')
}

function Row({ agent, node, usage }: { agent: string; node: Node; usage: Usage }) {
  const c = node.container
  const s = usage.series.get(node.key)
  // What is measured for the whole says nothing about a part of it.
  const together = usage.shared.has(node.key)
  const now = together ? undefined : s?.latest
  const framework = c.framework_id?.value
  const executor = c.executor_id?.value
  const standalone = framework === undefined && node.depth === 0
  return (
    <tr>
      <td>
        <span class={'container-id container-depth-' + Math.min(4, node.depth)}>
          {node.depth > 0 && <Icon name="right" size={12} />}
          <Id id={c.container_id.value} />
          {standalone && <span class="muted"> standalone</span>}
        </span>
      </td>
      <td>
        {framework !== undefined && executor !== undefined ? (
          <a class="mono" href={href('executor', { agent_id: agent, framework_id: framework, executor_id: executor })} title={c.executor_name}>
            {executor}
          </a>
        ) : (
          <span class="muted">{node.depth > 0 ? 'nested' : '–'}</span>
        )}
      </td>
      <td class="end num">
        {together ? (
          <span class="muted" title="It has no cgroups of its own: what it uses is counted for the container around it.">
            counted above
          </span>
        ) : now?.cpus === undefined ? (
          '–'
        ) : (
          now.cpus.toFixed(2)
        )}
        {now?.cpusLimit !== undefined && <span class="muted"> / {Number(now.cpusLimit.toFixed(2))}</span>}
      </td>
      <td class="hide-narrow">{!together && (s?.samples.length ?? 0) > 1 && <Sparkline label="CPUs over time" width={90} height={22} values={(s?.samples ?? []).slice(-60).map((x) => x.cpus)} {...(now?.cpusLimit === undefined ? {} : { max: now.cpusLimit })} />}</td>
      <td class="end num">
        {bytes(now?.mem)}
        {now?.memLimit !== undefined && <span class="muted"> / {bytes(now.memLimit)}</span>}
      </td>
      <td class="end num hide-narrow">{now?.throttled === undefined ? '–' : percent(now.throttled)}</td>
      <td class="end num hide-narrow">{now?.processes ?? '–'}</td>
      <td class="mono">{addressesOf(node).join(' ') || <span class="muted">–</span>}</td>
      <td class="end">
        {can('LAUNCH_NESTED_CONTAINER_SESSION') && (
          <Button small kind="ghost" icon="terminal" label={'Terminal in ' + c.container_id.value} onClick={() => go(href('terminal', { agent_id: agent, container_id: node.key }))} />
        )}
      </td>
    </tr>
  )
}
