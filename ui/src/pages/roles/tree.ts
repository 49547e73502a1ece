/** The tree of roles, and what a role's share and quota come to. Pure; tested in test/roles.test.ts. */
import type { Resources } from '~/api/types'

export type Amounts = Record<string, number>

/** WireRole is an element of /roles. What a role holds includes what the roles below it hold. */
export interface WireRole {
  name: string
  weight: number
  frameworks: string[]
  resources: Amounts
  allocated: Amounts
  offered: Amounts
  reserved: Amounts
  quota?: { guarantee?: Amounts; limit?: Amounts; consumed?: Amounts }
}

export interface RoleNode {
  name: string
  /** The last part of the name. */
  leaf: string
  depth: number
  /** undefined: the role is not shown to the reader, or known by its children alone. */
  role: WireRole | undefined
  parent: RoleNode | undefined
  children: RoleNode[]
}

/** treeOf makes the tree, sorted by name; roots are roles without a slash. */
export function treeOf(roles: readonly WireRole[]): RoleNode[] {
  const nodes = new Map<string, RoleNode>()
  const roots: RoleNode[] = []
  const node = (name: string): RoleNode => {
    let n = nodes.get(name)
    if (n !== undefined) return n
    const at = name.lastIndexOf('/')
    const parent = at < 0 ? undefined : node(name.slice(0, at))
    n = { name, leaf: name.slice(at + 1), depth: parent === undefined ? 0 : parent.depth + 1, role: undefined, parent, children: [] }
    nodes.set(name, n)
    ;(parent?.children ?? roots).push(n)
    return n
  }
  for (const r of roles) node(r.name).role = r
  const sort = (list: RoleNode[]) => {
    list.sort((a, b) => (a.leaf < b.leaf ? -1 : a.leaf > b.leaf ? 1 : 0))
    for (const n of list) sort(n.children)
  }
  sort(roots)
  return roots
}

/** flatten lists the nodes as they are shown, those below a closed one left out. */
export function flatten(nodes: readonly RoleNode[], open: (name: string) => boolean): RoleNode[] {
  const out: RoleNode[] = []
  const walk = (list: readonly RoleNode[]) => {
    for (const n of list) {
      out.push(n)
      if (n.children.length > 0 && open(n.name)) walk(n.children)
    }
  }
  walk(nodes)
  return out
}

/** matching are the nodes whose name contains the text, with those above them. */
export function matching(nodes: readonly RoleNode[], text: string): Set<string> {
  const found = new Set<string>()
  const want = text.toLowerCase()
  const walk = (list: readonly RoleNode[]): boolean => {
    let any = false
    for (const n of list) {
      const below = walk(n.children)
      if (below || n.name.toLowerCase().includes(want)) {
        found.add(n.name)
        any = true
      }
    }
    return any
  }
  walk(nodes)
  return found
}

export interface Share {
  /** Of the whole cluster, by the resource that the role has most of: 0 to 1. */
  share: number
  /** That resource; empty if it has nothing. */
  by: string
}

/** dominantShare is what the allocator sorts by, without the weight (DRF). */
export function dominantShare(held: Amounts, total: Resources): Share {
  let best: Share = { share: 0, by: '' }
  for (const [name, n] of Object.entries(held)) {
    const all = total[name as keyof Resources]
    if (all === undefined || all <= 0) continue
    if (n / all > best.share) best = { share: n / all, by: name }
  }
  return best
}

/**
 * fairPart is the part of its parent's (or the cluster's) resources that a role would have if all
 * its siblings that want something took what their weight gives them.
 */
export function fairPart(node: RoleNode, siblings: readonly RoleNode[]): number {
  let all = 0
  for (const s of siblings) if (wants(s)) all += s.role?.weight ?? 1
  return all > 0 && wants(node) ? (node.role?.weight ?? 1) / all : 0
}

/** wants says whether a role counts in the sharing: it, or one below it, has a framework. */
export function wants(node: RoleNode): boolean {
  return (node.role?.frameworks.length ?? 0) > 0 || node.children.some(wants)
}

/** hasQuota says whether a role has a guarantee or a limit. */
export function hasQuota(r: WireRole | undefined): boolean {
  return Object.keys(r?.quota?.guarantee ?? {}).length > 0 || Object.keys(r?.quota?.limit ?? {}).length > 0
}

/** frameworksBelow are the ids of frameworks in a role and in those below it, each once. */
export function frameworksBelow(node: RoleNode, into = new Set<string>()): Set<string> {
  for (const f of node.role?.frameworks ?? []) into.add(f)
  for (const c of node.children) frameworksBelow(c, into)
  return into
}

export interface QuotaWish {
  role: string
  guarantee: Amounts
  /** A resource that is not named has no limit. */
  limit: Amounts
}

export interface Meaning {
  /** 'force': the master refuses it unless it is forced. 'wrong': it refuses in any case. */
  grade: 'plain' | 'warn' | 'force' | 'wrong'
  text: string
}

/**
 * quotaMeaning says what a quota will do: against what the role consumes now, what the roles around
 * it are promised, and what the cluster has. The rules are those of UPDATE_QUOTA, whose word is the last.
 */
export function quotaMeaning(wish: QuotaWish, roles: readonly WireRole[], total: Resources, show: (name: string, n: number) => string): Meaning[] {
  const out: Meaning[] = []
  const byName = new Map(roles.map((r) => [r.name, r]))
  const consumed = byName.get(wish.role)?.quota?.consumed ?? {}
  for (const name of [...new Set([...Object.keys(wish.guarantee), ...Object.keys(wish.limit)])].sort()) {
    const guarantee = wish.guarantee[name] ?? 0
    const limit = wish.limit[name]
    const has = consumed[name] ?? 0
    if (limit !== undefined && guarantee > limit) {
      out.push({ grade: 'wrong', text: `The guarantee of ${show(name, guarantee)} is more than the limit of ${show(name, limit)}.` })
      continue
    }
    if (limit !== undefined) {
      const bound = tightest(wish.role, name, byName)
      if (bound !== undefined && limit > bound.limit)
        out.push({ grade: 'wrong', text: `${bound.role} above it has a limit of ${show(name, bound.limit)}.` })
      out.push(
        has > limit
          ? {
              grade: 'force',
              text: `${wish.role} has ${show(name, has)} now, more than the limit of ${show(name, limit)}. Nothing is taken away, but it is offered no more of it until it has less.`,
            }
          : { grade: 'plain', text: `${wish.role} has ${show(name, has)} now and may come to have ${show(name, limit - has)} more.` },
      )
    }
    out.push(...promises(wish, name, guarantee, roles, total, show))
    if (guarantee > has) out.push({ grade: 'plain', text: `${show(name, guarantee - has)} that ${wish.role} does not use yet will be kept free for it.` })
  }
  return out
}

/** tightest is the least limit among the roles above. */
function tightest(role: string, name: string, byName: Map<string, WireRole>): { role: string; limit: number } | undefined {
  let best: { role: string; limit: number } | undefined
  for (let at = role.lastIndexOf('/'); at > 0; at = role.lastIndexOf('/', at - 1)) {
    const above = role.slice(0, at)
    const limit = byName.get(above)?.quota?.limit?.[name]
    if (limit !== undefined && (best === undefined || limit < best.limit)) best = { role: above, limit }
  }
  return best
}

/** promises compares a guarantee with those beside, below and above it. */
function promises(wish: QuotaWish, name: string, guarantee: number, roles: readonly WireRole[], total: Resources, show: (name: string, n: number) => string): Meaning[] {
  const out: Meaning[] = []
  const at = wish.role.lastIndexOf('/')
  const parent = at < 0 ? '' : wish.role.slice(0, at)
  let siblings = guarantee
  let below = 0
  for (const r of roles) {
    const g = r.quota?.guarantee?.[name] ?? 0
    const cut = r.name.lastIndexOf('/')
    const up = cut < 0 ? '' : r.name.slice(0, cut)
    if (r.name !== wish.role && up === parent) siblings += g
    if (up === wish.role) below += g
  }
  if (below > guarantee)
    out.push({ grade: 'wrong', text: `The roles below ${wish.role} are guaranteed ${show(name, below)} together.` })
  if (guarantee === 0) return out
  if (parent !== '') {
    const has = roles.find((r) => r.name === parent)?.quota?.guarantee?.[name] ?? 0
    if (siblings > has)
      out.push({
        grade: 'wrong',
        text: `${parent} is guaranteed ${show(name, has)}, and the roles below it would be guaranteed ${show(name, siblings)} together.`,
      })
    return out
  }
  const all = total[name as keyof Resources] ?? 0
  if (siblings > all)
    out.push({ grade: 'force', text: `All guarantees together would be ${show(name, siblings)}, and the cluster has ${show(name, all)}.` })
  return out
}
