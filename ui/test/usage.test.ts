import { describe, expect, test } from './expect'
import { flat, keyOf, measuredTogether, parseKey, tree, type Container } from '../src/usage/containers'
import { sample, Series, sum } from '../src/usage/usage'

describe('usage', () => {
  const first = { timestamp: 100, cpus_user_time_secs: 10, cpus_system_time_secs: 2, cpus_nr_periods: 100, cpus_nr_throttled: 10, mem_rss_bytes: 5, mem_limit_bytes: 50, net_rx_bytes: 1000 }
  const then = { ...first, timestamp: 102, cpus_user_time_secs: 11, cpus_system_time_secs: 2.5, cpus_nr_periods: 120, cpus_nr_throttled: 15, net_rx_bytes: 3000 }
  test('rates are differences by time', () => {
    const s = sample(then, first)
    expect([s.cpus, s.throttled, s.rx, s.mem, s.memLimit]).toEqual([0.75, 0.25, 1000, 5, 50])
  })
  test('the first sample has no rates', () => {
    const s = sample(first)
    expect([s.cpus, s.throttled, s.rx]).toEqual([undefined, undefined, undefined])
    expect(s.mem).toBe(5)
  })
  test('a counter that went back is no rate', () => {
    expect(sample({ ...then, cpus_user_time_secs: 0, cpus_system_time_secs: 0 }, first).cpus).toBeUndefined()
  })
  test('an idle scheduler throttles nobody', () => {
    expect(sample({ ...first, timestamp: 101 }, first).throttled).toBe(0)
  })
  test('a series keeps so many, and each measurement once', () => {
    const s = new Series(3)
    for (let i = 0; i < 5; i++) {
      expect(s.add({ timestamp: i, cpus_user_time_secs: i })).toBe(true)
      expect(s.add({ timestamp: i, cpus_user_time_secs: i })).toBe(false)
    }
    expect(s.samples.map((x) => x.at)).toEqual([2, 3, 4])
    expect(s.latest?.cpus).toBe(1)
  })
  test('sums leave out what is unknown', () => {
    expect(sum([{ at: 1, cpus: 1 }, undefined, { at: 2, cpus: 2, mem: 3 }])).toEqual({ at: 2, cpus: 3, mem: 3 })
  })
})

describe('containers', () => {
  const c = (key: string): Container => ({ container_id: parseKey(key) })
  test('keys lead both ways', () => {
    expect(parseKey('a.b.c')).toEqual({ value: 'c', parent: { value: 'b', parent: { value: 'a' } } })
    expect(keyOf(parseKey('a.b.c'))).toBe('a.b.c')
  })
  test('nested ones stand below what they are nested in', () => {
    const rows = flat(tree([c('b'), c('a.y.z'), c('a.y'), c('a'), c('a.x'), c('lost.child')]))
    expect(rows.map((n) => [n.key, n.depth])).toEqual([
      ['a', 0],
      ['a.x', 1],
      ['a.y', 1],
      ['a.y.z', 2],
      ['b', 0],
      ['lost.child', 0],
    ])
  })
})

test('containers that share cgroups are told by their counters', () => {
  const a = { timestamp: 1, cpus_user_time_secs: 1, cpus_system_time_secs: 2, mem_rss_bytes: 3 }
  expect(measuredTogether(a, { ...a, timestamp: 1.1, mem_limit_bytes: 9 })).toBe(true)
  expect(measuredTogether(a, { ...a, cpus_user_time_secs: 0.5 })).toBe(false)
  expect(measuredTogether(a, undefined)).toBe(false)
  const idle = { timestamp: 1, cpus_user_time_secs: 0, cpus_system_time_secs: 0, mem_rss_bytes: 3 }
  expect(measuredTogether(idle, idle)).toBe(false)
})
