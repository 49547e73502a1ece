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
}

/** Block is a group on the plane: a title, below it its cells in rows. */
export interface Block {
  name: string
  count: number
  x: number
  y: number
  /** Where its cells begin, below the title. */
  top: number
  columns: number
  /** The index of its first cell. */
  first: number
}

export interface Layout {
  cells: Cell[]
  blocks: Block[]
  size: number
  /** pitch is from one cell to the next. */
  pitch: number
  height: number
}

/** How high a title is, and how far groups stand apart. */
export const TITLE = 22
const GUTTER = 18
/** A group is as wide as its title at least. */
const NARROWEST = 84

/** cellSize is the edge of a cell so that so many of them make a picture, not a wall. */
export function cellSize(count: number, width: number): number {
  const fit = Math.sqrt((width * 320) / Math.max(1, count))
  return Math.max(7, Math.min(28, Math.floor(fit)))
}

/** layout places groups side by side, as racks stand in a room; without titles there is one that fills the width. */
export function layout(groups: readonly Group[], width: number, titled: boolean): Layout {
  const count = groups.reduce((n, g) => n + g.agents.length, 0)
  const size = cellSize(count, width)
  const pitch = size + (size > 14 ? 3 : 1)
  const most = Math.max(1, Math.floor((width + pitch - size) / pitch))
  const l: Layout = { cells: [], blocks: [], size, pitch, height: size }
  let x = 0
  let y = 0
  let tallest = 0
  for (const g of groups) {
    const n = g.agents.length
    const columns = titled ? Math.min(most, Math.max(Math.ceil(Math.sqrt(n * 1.6)), Math.ceil(NARROWEST / pitch))) : most
    const across = columns * pitch
    if (x > 0 && x + across > width) {
      x = 0
      y += tallest + GUTTER
      tallest = 0
    }
    const top = y + (titled ? TITLE : 0)
    l.blocks.push({ name: g.name, count: n, x, y, top, columns, first: l.cells.length })
    g.agents.forEach((agent, i) => {
      l.cells.push({ agent, x: x + (i % columns) * pitch, y: top + Math.floor(i / columns) * pitch })
    })
    tallest = Math.max(tallest, top - y + Math.ceil(n / columns) * pitch)
    l.height = Math.max(l.height, y + tallest)
    x += across + GUTTER
  }
  return l
}

/** cellAt is the index of the cell at a point; -1: none. */
export function cellAt(l: Layout, x: number, y: number): number {
  for (const b of l.blocks) {
    const dx = x - b.x
    const dy = y - b.top
    if (dx < 0 || dy < 0 || dx >= b.columns * l.pitch) continue
    const i = Math.floor(dy / l.pitch) * b.columns + Math.floor(dx / l.pitch)
    if (i >= b.count) continue
    return dx % l.pitch <= l.size && dy % l.pitch <= l.size ? b.first + i : -1
  }
  return -1
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

/** nextRow is the nearest cell above or below; what stands straight counts most. */
function nextRow(l: Layout, from: number, cell: Cell, by: 1 | -1): number {
  let best = from
  let least = Infinity
  l.cells.forEach((c, i) => {
    const dy = (c.y - cell.y) * by
    if (dy <= 0) return
    const score = dy + 3 * Math.abs(c.x - cell.x)
    if (score < least) {
      least = score
      best = i
    }
  })
  return best
}
