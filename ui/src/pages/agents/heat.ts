/** The heat map of agents: how full each is, in groups, as cells on a plane. Pure. */
import type { ResourceName } from '~/api/types'
import type { Agent } from '~/state/model'

/** By is what colours a cell: the share that is allocated of a resource, or of the fullest one. */
export type By = ResourceName | 'fullest'

/** share is how full an agent is, 0 to 1; undefined: it has nothing of it. */
export function share(a: Agent, by: By): number | undefined {
  if (by !== 'fullest') return a.total[by] > 0 ? Math.min(1, a.allocated[by] / a.total[by]) : undefined
  let most: number | undefined
  for (const n of ['cpus', 'mem', 'disk', 'gpus'] as const) {
    const s = share(a, n)
    if (s !== undefined && (most === undefined || s > most)) most = s
  }
  return most
}

/** STEPS is how many colours there are; the last is for what is full. */
export const STEPS = 8

/** step is the colour of a share. */
export function step(share: number): number {
  if (share <= 0) return 0
  return Math.min(STEPS - 1, 1 + Math.floor(share * (STEPS - 1)))
}

/** What agents can be grouped by: their state, place, or one of their attributes. */
export function groupings(agents: readonly Agent[]): { key: string; title: string }[] {
  const out = [
    { key: '', title: 'Nothing' },
    { key: 'state', title: 'State' },
  ]
  if (agents.some((a) => a.region !== undefined)) out.push({ key: 'region', title: 'Region' })
  if (agents.some((a) => a.zone !== undefined)) out.push({ key: 'zone', title: 'Zone' })
  if (new Set(agents.map((a) => a.version)).size > 1) out.push({ key: 'version', title: 'Version' })
  const names = new Set<string>()
  for (const a of agents) for (const n of Object.keys(a.attributes)) names.add(n)
  for (const n of [...names].sort()) out.push({ key: 'attribute:' + n, title: n })
  return out
}

/** groupOf is the group of an agent. */
export function groupOf(a: Agent, key: string): string {
  if (key === '') return ''
  if (key === 'state') return a.state
  if (key === 'region') return a.region ?? 'none'
  if (key === 'zone') return a.zone === undefined ? 'none' : a.region === undefined ? a.zone : a.region + ' / ' + a.zone
  if (key === 'version') return a.version === '' ? 'unknown' : a.version
  return a.attributes[key.slice('attribute:'.length)] ?? 'none'
}

export interface Group {
  name: string
  agents: Agent[]
}

/** grouped puts agents into groups by name, within each by host name. */
export function grouped(agents: readonly Agent[], key: string): Group[] {
  const groups = new Map<string, Agent[]>()
  for (const a of agents) {
    const name = groupOf(a, key)
    const list = groups.get(name)
    if (list === undefined) groups.set(name, [a])
    else list.push(a)
  }
  const compare = new Intl.Collator('en', { numeric: true }).compare
  const out = [...groups].map(([name, list]) => ({ name, agents: list }))
  for (const g of out) {
    const keys = new Map(g.agents.map((a) => [a, a.hostname]))
    g.agents.sort((a, b) => compare(keys.get(a) ?? '', keys.get(b) ?? '') || (a.id < b.id ? -1 : 1))
  }
  return out.sort((a, b) => compare(a.name, b.name))
}

/** Cell is where an agent stands. */
export interface Cell {
  agent: Agent
  x: number
  y: number
  group: number
}

export interface Layout {
  cells: Cell[]
  size: number
  gap: number
  columns: number
  height: number
  /** Where the titles of the groups stand. */
  titles: { name: string; count: number; y: number }[]
}

export const TITLE = 24

/** cellSize is the edge of a cell so that so many of them make a picture, not a wall. */
export function cellSize(count: number, width: number): number {
  const fit = Math.sqrt((width * 320) / Math.max(1, count))
  return Math.max(7, Math.min(28, Math.floor(fit)))
}

/** layout places the cells of groups one below the other. */
export function layout(groups: readonly Group[], width: number, titled: boolean): Layout {
  const count = groups.reduce((n, g) => n + g.agents.length, 0)
  const size = cellSize(count, width)
  const gap = size > 14 ? 3 : 1
  const columns = Math.max(1, Math.floor((width + gap) / (size + gap)))
  const cells: Cell[] = []
  const titles: Layout['titles'] = []
  let y = 0
  groups.forEach((g, group) => {
    if (titled) {
      titles.push({ name: g.name, count: g.agents.length, y })
      y += TITLE
    }
    g.agents.forEach((agent, i) => {
      cells.push({ agent, group, x: (i % columns) * (size + gap), y: y + Math.floor(i / columns) * (size + gap) })
    })
    y += Math.ceil(g.agents.length / columns) * (size + gap) + (titled ? 8 : 0)
  })
  return { cells, size, gap, columns, height: Math.max(size, y), titles }
}

/** cellAt is the index of the cell at a point; -1: none. Cells are in reading order. */
export function cellAt(l: Layout, x: number, y: number): number {
  // The first cell of the row at y, by bisection, then the column.
  let lo = 0
  let hi = l.cells.length
  while (lo < hi) {
    const mid = (lo + hi) >> 1
    if ((l.cells[mid]?.y ?? 0) + l.size < y) lo = mid + 1
    else hi = mid
  }
  const row = l.cells[lo]
  if (row === undefined || y < row.y) return -1
  const i = lo + Math.floor(x / (l.size + l.gap))
  const cell = l.cells[i]
  if (cell === undefined || cell.y !== row.y || x < cell.x || x > cell.x + l.size) return -1
  return i
}

/** moved is the cell that an arrow key leads to. */
export function moved(l: Layout, from: number, key: string): number {
  const last = l.cells.length - 1
  const cell = l.cells[from]
  if (cell === undefined) return last < 0 ? -1 : 0
  switch (key) {
    case 'ArrowRight':
      return Math.min(last, from + 1)
    case 'ArrowLeft':
      return Math.max(0, from - 1)
    case 'Home':
      return 0
    case 'End':
      return last
    case 'ArrowDown':
    case 'ArrowUp':
      return nextRow(l, from, cell, key === 'ArrowDown' ? 1 : -1)
    default:
      return from
  }
}

function nextRow(l: Layout, from: number, cell: Cell, by: 1 | -1): number {
  let i = from
  while (l.cells[i]?.y === cell.y) i += by
  const row = l.cells[i]
  if (row === undefined) return from
  let best = i
  for (; l.cells[i]?.y === row.y; i += by) {
    const c = l.cells[i]
    if (c !== undefined && Math.abs(c.x - cell.x) < Math.abs((l.cells[best]?.x ?? 0) - cell.x)) best = i
  }
  return best
}
