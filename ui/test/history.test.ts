import assert from 'node:assert/strict'
import test from 'node:test'
import { joined, perMinute } from '../src/pages/overview/history'
import { shares } from '../src/pages/overview/RoleMap'
import type { History } from '../src/pages/overview/wire'

const base: History = { interval: 5, times: [0, 5, 10], tasks: { TASK_RUNNING: [1, 2, 3] }, ended: {}, recent: [] }

test('samples are joined once', () => {
  const next: History = { interval: 5, times: [10, 15], tasks: { TASK_RUNNING: [3, 4], TASK_STAGING: [0, 1] }, ended: {}, recent: [{ time: 1, type: 'X', text: 'x' }] }
  const got = joined(base, next)
  assert.deepEqual(got.times, [0, 5, 10, 15])
  assert.deepEqual(got.tasks.TASK_RUNNING, [1, 2, 3, 4])
  assert.deepEqual(got.tasks.TASK_STAGING, [0, 0, 0, 1])
  assert.deepEqual(joined(got, next).times, [0, 5, 10, 15])
  assert.equal(got.recent.length, 1)
})

test('the history is bounded', () => {
  const times = Array.from({ length: 720 }, (_, i) => i * 5)
  const got = joined({ ...base, times, tasks: { TASK_RUNNING: times } }, { ...base, times: [3600], tasks: { TASK_RUNNING: [7] } })
  assert.equal(got.times.length, 720)
  assert.equal(got.times.at(-1), 3600)
  assert.equal(got.tasks.TASK_RUNNING?.at(-1), 7)
  assert.equal(got.tasks.TASK_RUNNING?.[0], 5)
})

test('rates a minute, also when the sums begin anew', () => {
  assert.deepEqual(perMinute([0, 5, 10], [0, 60, 120], 1), [0, 5, 5])
  assert.deepEqual(perMinute([10, 0], [0, 60], 1), [0, 0])
  assert.deepEqual(perMinute(undefined, [0, 1]), [0, 0])
  // Of less than a minute nothing is made up.
  assert.deepEqual(perMinute([0, 3], [0, 5], 12), [0, 3])
})

test('shares of roles do not count those below twice', () => {
  const got = shares(
    [
      { name: 'a', weight: 1, frameworks: 0, allocated: { cpus: 6 } },
      { name: 'a/b', weight: 1, frameworks: 1, allocated: { cpus: 4 } },
      { name: 'a/b/c', weight: 1, frameworks: 1, allocated: { cpus: 3 } },
      { name: 'z', weight: 1, frameworks: 1, allocated: {} },
    ],
    'cpus',
  )
  assert.deepEqual(
    got.map((s) => [s.role, s.value]),
    [
      ['a', 2],
      ['a/b', 1],
      ['a/b/c', 3],
    ],
  )
})
