import assert from 'node:assert/strict'
import test from 'node:test'
import { timeLabels, timeRange } from '../src/components/Chart'

test('the axis of time shows some seconds at least', () => {
  assert.deepEqual(timeRange(null, null), [0, 5])
  assert.deepEqual(timeRange(100, 100.4), [95.4, 100.4])
  assert.deepEqual(timeRange(100, 160), [100, 160])
})

test('labels of the axis of time differ', () => {
  for (const step of [1, 2, 5, 15, 30, 60, 300, 3600]) {
    const labels = timeLabels([0, 1, 2, 3, 4].map((i) => 1_700_000_040 + i * step))
    assert.equal(new Set(labels).size, 5, labels.join())
  }
})
