import assert from 'node:assert/strict'
import test from 'node:test'
import { treemap } from '../src/pages/overview/treemap'

test('tiles have the areas that were asked for, fill the rectangle and do not overlap', () => {
  for (const [sizes, w, h] of [
    [[6, 6, 4, 3, 2, 2, 1], 600, 400],
    [[1], 100, 50],
    [[1000, 1, 1, 1], 300, 900],
    [Array.from({ length: 200 }, (_, i) => 1 + (i % 7)), 1000, 300],
  ] as const) {
    const tiles = treemap(sizes, (n) => n, w, h)
    const sum = sizes.reduce((a: number, b) => a + b, 0)
    assert.equal(tiles.length, sizes.length)
    for (const t of tiles) {
      assert.ok(Math.abs(t.w * t.h - (t.item / sum) * w * h) < 1e-6 * w * h)
      assert.ok(t.x >= -1e-6 && t.y >= -1e-6 && t.x + t.w <= w + 1e-6 && t.y + t.h <= h + 1e-6)
    }
    for (const [i, a] of tiles.entries())
      for (const b of tiles.slice(i + 1))
        assert.ok(Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x) < 1e-6 || Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y) < 1e-6)
  }
})

test('nothing gives nothing', () => {
  assert.deepEqual(treemap([], (n) => n, 10, 10), [])
  assert.deepEqual(treemap([0, 0], (n) => n, 10, 10), [])
})
