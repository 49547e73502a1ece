// Containers as the tree that they are: nested ones below what they are nested in.

import type { Statistics } from './usage'

/** ContainerID is mesos.ContainerID. */
export interface ContainerID {
  value: string
  parent?: ContainerID
}

/** Container is an entry of GET_CONTAINERS. */
export interface Container {
  framework_id?: { value: string }
  executor_id?: { value: string }
  executor_name?: string
  container_id: ContainerID
  container_status?: ContainerStatus
  resource_statistics?: Statistics
}

export interface ContainerStatus {
  container_id?: ContainerID
  executor_pid?: number
  network_infos?: NetworkInfo[]
  cgroup_info?: { net_cls?: { classid?: number } }
}

export interface NetworkInfo {
  name?: string
  ip_addresses?: { protocol?: string; ip_address?: string }[]
  port_mappings?: { host_port: number; container_port: number; protocol?: string }[]
}

/** Node is a container and what is nested in it. */
export interface Node {
  key: string
  container: Container
  children: Node[]
  depth: number
}

/** keyOf is a container id as text: outermost first, with dots between. */
export function keyOf(id: ContainerID): string {
  return id.parent ? `${keyOf(id.parent)}.${id.value}` : id.value
}

/** parseKey is the way back. */
export function parseKey(key: string): ContainerID {
  const parts = key.split('.')
  let id: ContainerID = { value: parts[0]! }
  for (const value of parts.slice(1)) id = { value, parent: id }
  return id
}

/** tree makes trees of containers, in order of their ids. What misses its parent stands alone. */
export function tree(containers: readonly Container[]): Node[] {
  const nodes = new Map<string, Node>()
  for (const container of containers) {
    const key = keyOf(container.container_id)
    nodes.set(key, { key, container, children: [], depth: 0 })
  }
  const roots: Node[] = []
  for (const node of nodes.values()) {
    const parent = node.container.container_id.parent
    const above = parent && nodes.get(keyOf(parent))
    if (above) above.children.push(node)
    else roots.push(node)
  }
  const order = (list: Node[], depth: number): void => {
    list.sort((a, b) => (a.key < b.key ? -1 : 1))
    for (const n of list) {
      n.depth = depth
      order(n.children, depth + 1)
    }
  }
  order(roots, 0)
  return roots
}

/** flat lists trees as rows: each node, then what is below it. */
export function flat(nodes: readonly Node[]): Node[] {
  return nodes.flatMap((n) => [n, ...flat(n.children)])
}

/**
 * measuredTogether says whether two containers have the same cgroups: nested ones do unless they
 * ask for their own, and are then reported with the use of the whole, but with limits of their own.
 * Nothing says so; but counters that have run are never the same by chance.
 */
export function measuredTogether(a: Statistics | undefined, b: Statistics | undefined): boolean {
  if (a === undefined || b === undefined) return false
  const time = (s: Statistics): number => (s.cpus_user_time_secs ?? 0) + (s.cpus_system_time_secs ?? 0)
  return time(a) > 0 && a.cpus_user_time_secs === b.cpus_user_time_secs && a.cpus_system_time_secs === b.cpus_system_time_secs && a.mem_rss_bytes === b.mem_rss_bytes
}
