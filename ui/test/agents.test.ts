import { describe, expect, test } from './expect'
import { cellAt, grouped, groupings, layout, moved, share, step, STEPS } from '../src/pages/agents/heat'
import { zero, type Agent } from '../src/state/model'

function agent(n: number, change: Partial<Agent> = {}): Agent {
  return {
    id: 'S' + n, hostname: 'h' + n, port: 5051, version: '1', pid: '', active: true, connected: true, state: 'ACTIVE', drain: undefined,
    registered: 1, reregistered: undefined, total: { cpus: 4, mem: 100, disk: 0, gpus: 0 }, allocated: zero, offered: zero, reserved: zero,
    attributes: {}, region: undefined, zone: undefined, ...change,
  } as Agent
}

test('share is what is allocated of what there is', () => {
  const a = agent(1, { allocated: { cpus: 1, mem: 80, disk: 0, gpus: 0 } })
  expect([share(a, 'cpus'), share(a, 'mem'), share(a, 'disk'), share(a, 'fullest')]).toEqual([0.25, 0.8, undefined, 0.8])
})

test('step has a colour of its own for nothing and for all', () => {
  expect([step(0), step(0.001), step(0.5), step(0.999), step(1)]).toEqual([0, 1, 4, STEPS - 1, STEPS - 1])
})

describe('groups', () => {
  const all = [agent(10, { attributes: { rack: 'r2' } }), agent(9, { attributes: { rack: 'r10' } }), agent(1)]
  test('are offered for what agents have', () => {
    expect(groupings(all).map((g) => g.key)).toEqual(['', 'state', 'attribute:rack'])
    expect(groupings([agent(1, { region: 'eu', zone: 'a' }), agent(2, { version: '2' })]).map((g) => g.key)).toEqual(['', 'state', 'region', 'zone', 'version'])
  })
  test('stand in the order that people expect', () => {
    expect(grouped(all, 'attribute:rack').map((g) => g.name)).toEqual(['none', 'r2', 'r10'])
    expect(grouped(all, '')[0]?.agents.map((a) => a.hostname)).toEqual(['h1', 'h9', 'h10'])
  })
})

describe('layout', () => {
  const many = Array.from({ length: 1000 }, (_, i) => agent(i, { attributes: { rack: 'r' + (i % 3) } }))
  const l = layout(grouped(many, 'attribute:rack'), 800, true)
  test('places each once, inside, and finds it again', () => {
    expect(l.cells.length).toBe(1000)
    expect(new Set(l.cells.map((c) => c.agent.id)).size).toBe(1000)
    l.cells.forEach((c, i) => {
      expect(c.x + l.size).toBeLessThanOrEqual(800)
      expect(c.y + l.size).toBeLessThanOrEqual(l.height)
      expect(cellAt(l, c.x + 1, c.y + 1)).toBe(i)
    })
    expect(cellAt(l, 1, 1)).toBe(-1) // a title
    expect(cellAt(l, 799, l.height + 50)).toBe(-1)
  })
  test('arrows lead through all there is and back', () => {
    let at = 0
    let steps = 0
    for (let next = moved(l, at, 'ArrowDown'); next !== at; next = moved(l, at, 'ArrowDown')) {
      expect(l.cells[next]?.y).toBeGreaterThan(l.cells[at]?.y ?? 0)
      at = next
      steps++
    }
    expect(steps).toBeGreaterThan(5)
    for (let i = 0; i < 1000; i++) at = moved(l, at, 'ArrowUp')
    expect(l.cells[at]?.y).toBe(l.cells[0]?.y ?? -1)
    expect([moved(l, 0, 'ArrowLeft'), moved(l, 0, 'End'), moved(l, 999, 'ArrowRight'), moved(l, -1, 'ArrowRight')]).toEqual([0, 999, 999, 0])
  })
  test('groups do not overlap', () => {
    for (const [i, a] of l.blocks.entries()) {
      for (const b of l.blocks.slice(i + 1)) {
        const beside = a.x + a.columns * l.pitch <= b.x || b.x + b.columns * l.pitch <= a.x
        const below = a.y + 22 + Math.ceil(a.count / a.columns) * l.pitch <= b.y
        expect(beside || below).toBe(true)
      }
    }
  })
  test('ten thousand fit on a few screens', () => {
    const big = layout(grouped(Array.from({ length: 10_000 }, (_, i) => agent(i)), ''), 1200, false)
    expect(big.height).toBeLessThan(1200)
    expect(layout([], 800, false).cells).toEqual([])
  })
})
