import assert from 'node:assert/strict'
import test from 'node:test'
import { groupOf, History, search, type Described } from '../src/pages/metrics/series'
import { points } from '../src/pages/metrics/Trend'

test('the history keeps values beside their times, with gaps', () => {
  const h = new History(3)
  h.add(1, { a: 1, b: 5 })
  h.add(1, { a: 9 }) // the same moment again counts once
  h.add(2, { a: 2 })
  h.add(3, { a: 4, c: 7 })
  assert.deepEqual([...h.of('a')], [1, 2, 4])
  assert.deepEqual([...h.of('b')], [5, undefined, undefined])
  assert.deepEqual([...h.of('c')], [undefined, undefined, 7])
  h.add(4, { a: 8 })
  assert.deepEqual([...h.times], [2, 3, 4])
  assert.deepEqual([...h.of('a')], [2, 4, 8])
  assert.deepEqual([...h.of('b')], []) // nothing of it is left
})

test('rates are of what is kept, and none of a counter that began anew', () => {
  const h = new History()
  h.add(10, { n: 100, m: 5 })
  assert.equal(h.rate('n'), undefined)
  h.add(14, { n: 120, m: 1 })
  assert.equal(h.rate('n'), 5)
  assert.equal(h.rate('m'), undefined)
  assert.equal(h.rate('none'), undefined)
  assert.deepEqual([h.changed('n'), h.changed('none')], [true, false])
})

test('a search looks at names, help and queries', () => {
  const about = new Map<string, Described>([['master/tasks_running', { name: '', kind: 'gauge', help: 'Tasks by state', promql: 'clusterd_master_tasks{state="TASK_RUNNING"}' }]])
  const names = ['master/tasks_running', 'master/uptime_secs']
  const find = (text: string) => search(names, text, (n) => about.get(n))
  assert.deepEqual(find(''), names)
  assert.deepEqual(find('clusterd_ RUNNING'), ['master/tasks_running'])
  assert.deepEqual(find('state running x'), [])
  about.set('a/x', { name: '', kind: 'gauge', help: 'Of tasks' })
  assert.deepEqual(search(['a/x', ...names], 'tasks', (n) => about.get(n)), ['master/tasks_running', 'a/x'])
})

test('metrics are grouped by the beginning of their names', () => {
  assert.deepEqual(['master/uptime_secs', 'master/frameworks/a/b', 'x', 'allocator/mesos/y'].map(groupOf), ['master', 'master/frameworks', 'x', 'allocator/mesos'])
})

test('trends have a scale of their own', () => {
  assert.equal(points([1, 1]), 'M0.0 14.0L120.0 14.0')
  assert.equal(points([0, 10]), 'M0.0 25.0L120.0 3.0')
  assert.equal(points([0, undefined, 10]), 'M0.0 25.0M120.0 3.0')
  assert.equal(points([1]), '')
})
