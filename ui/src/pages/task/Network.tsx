/** Where a task can be reached: its addresses, its ports, and how it wants to be found. */
import type { ComponentChildren } from 'preact'
import type { Task } from '~/api/types'
import { Copy, Facts, Panel, Tag } from '~/components/basic'
import { hostOf } from './links'

interface NetworkInfo {
  name?: string
  ip_addresses?: { ip_address?: string }[]
  port_mappings?: { host_port: number; container_port: number; protocol?: string }[]
}

/** addresses are the addresses of a task's container. */
export function addresses(t: Task): { network: string; ip: string }[] {
  const infos = (t.statuses?.findLast((s) => s.container_status?.network_infos !== undefined)?.container_status?.network_infos ?? []) as NetworkInfo[]
  return infos.flatMap((i) => (i.ip_addresses ?? []).map((a) => ({ network: i.name ?? 'host', ip: a.ip_address ?? '' }))).filter((a) => a.ip !== '')
}

export function Network({ task }: { task: Task }) {
  const all = addresses(task)
  const d = task.discovery
  const ports = d?.ports?.ports ?? []
  const infos = (task.statuses?.at(-1)?.container_status?.network_infos ?? []) as NetworkInfo[]
  const mappings = infos.flatMap((i) => i.port_mappings ?? [])
  if (all.length === 0 && d === undefined && mappings.length === 0) return null
  const host = hostOf(task.agent_id.value)
  return (
    <Panel title="Network">
      <Facts
        items={[
          ...all.map((a): [string, ComponentChildren] => [
            a.network === 'host' ? 'Address' : a.network,
            <span key={a.ip}>
              <code>{a.ip}</code> <Copy text={a.ip} what="address" />
            </span>,
          ]),
          ...mappings.map((m): [string, ComponentChildren] => [
            'Port',
            <code key={m.host_port}>
              {host}:{m.host_port} → {m.container_port}
              {m.protocol === undefined ? '' : '/' + m.protocol}
            </code>,
          ]),
          ['Known as', d?.name],
          ['Visible', d?.visibility?.toLowerCase()],
          ['Environment', d?.environment],
          ['Location', d?.location],
          ['Version', d?.version],
          ...ports.map((p): [string, ComponentChildren] => [
            p.name ?? 'Port',
            <span key={p.number}>
              <code>
                {host}:{p.number}
                {p.protocol === undefined ? '' : '/' + p.protocol}
              </code>{' '}
              {(p.labels?.labels ?? []).map((l) => (
                <Tag key={l.key}>{l.key + (l.value === undefined ? '' : ':' + l.value)}</Tag>
              ))}
            </span>,
          ]),
        ]}
      />
    </Panel>
  )
}
