/** What is said of frameworks beyond what they say themselves. Pure. */
import type { Resources } from '~/api/types'
import { resourceNames, type Framework } from '~/state/model'

/** FrameworkState is a framework's state in one word. */
export function frameworkState(f: Framework): 'ACTIVE' | 'INACTIVE' | 'DISCONNECTED' | 'COMPLETED' {
  if (f.completed) return 'COMPLETED'
  if (!f.connected) return 'DISCONNECTED'
  return f.active ? 'ACTIVE' : 'INACTIVE'
}

/** maxShare is the largest part that a framework has of any resource of the cluster (Mesos: max share). */
export function maxShare(allocated: Resources, total: Resources): number {
  let most = 0
  for (const r of resourceNames) if (total[r] > 0) most = Math.max(most, allocated[r] / total[r])
  return most
}

export interface RoleGroup {
  role: string
  /** The depth in the tree of roles, and the last part of the name. */
  depth: number
  leaf: string
  frameworks: Framework[]
  /** Frameworks here and below, each once. */
  below: number
}

/** byRole lists roles as a tree, flattened, with the frameworks of each; roles above are there even if they have none. */
export function byRole(frameworks: readonly Framework[]): RoleGroup[] {
  const own = new Map<string, Framework[]>()
  const below = new Map<string, Set<string>>()
  for (const f of frameworks) {
    for (const role of new Set(f.roles)) {
      const list = own.get(role)
      if (list === undefined) own.set(role, [f])
      else list.push(f)
      for (let name = role; name !== ''; name = name.includes('/') ? name.slice(0, name.lastIndexOf('/')) : '') {
        const ids = below.get(name)
        if (ids === undefined) below.set(name, new Set([f.id]))
        else ids.add(f.id)
      }
    }
  }
  // A role sorts before those below it, and they before its next sibling.
  const names = [...below.keys()].sort((a, b) => (a.replaceAll('/', '\0') < b.replaceAll('/', '\0') ? -1 : 1))
  return names.map((role) => ({
    role,
    depth: role.split('/').length - 1,
    leaf: role.slice(role.lastIndexOf('/') + 1),
    frameworks: own.get(role) ?? [],
    below: below.get(role)?.size ?? 0,
  }))
}
