import assert from 'node:assert/strict'
import test from 'node:test'
import { leastWidth } from '../src/components/Table'
import { Filter, parseFilter, ReadingPlace, Slots, sortRows, windowOf } from '../src/components/tableModel'

interface Row {
  name: string
  state: string
  n: number | undefined
}

const rows: Row[] = [
  { name: 'web 10', state: 'running', n: 2 },
  { name: 'web 9', state: 'failed', n: undefined },
  { name: 'Api', state: 'running', n: 10 },
]
const columns = [
  { key: 'name', value: (r: Row) => r.name },
  { key: 'state', value: (r: Row) => r.state },
]

test('terms', () => {
  assert.deepEqual(parseFilter('a -b state:Run "x y" http://h', ['state']), [
    { key: undefined, word: 'a', not: false },
    { key: undefined, word: 'b', not: true },
    { key: 'state', word: 'run', not: false },
    { key: undefined, word: 'x y', not: false },
    { key: undefined, word: 'http://h', not: false },
  ])
})

test('filter', () => {
  const f = new Filter(columns)
  const names = (text: string) => f.apply(rows, text).map((r) => r.name)
  assert.equal(f.apply(rows, '  '), rows)
  assert.deepEqual(names('WEB'), ['web 10', 'web 9'])
  assert.deepEqual(names('web run'), ['web 10'])
  assert.deepEqual(names('-web'), ['Api'])
  assert.deepEqual(names('state:fail'), ['web 9'])
  assert.deepEqual(names('-state:fail'), ['web 10', 'Api'])
  assert.deepEqual(names('name:running'), [])
  assert.deepEqual(names('"web 1"'), ['web 10'])
})

test('sort', () => {
  const by = (v: (r: Row) => string | number | undefined, down: boolean) => sortRows(rows, v, down).map((r) => r.name)
  assert.deepEqual(by((r) => r.name, false), ['Api', 'web 9', 'web 10'])
  assert.deepEqual(by((r) => r.name, true), ['web 10', 'web 9', 'Api'])
  // What is missing comes last, up and down.
  assert.deepEqual(by((r) => r.n, false), ['web 10', 'Api', 'web 9'])
  assert.deepEqual(by((r) => r.n, true), ['Api', 'web 10', 'web 9'])
})

test('window', () => {
  assert.deepEqual(windowOf(0, 380, 38, 100_000, 5), { from: 0, to: 15 })
  assert.deepEqual(windowOf(38_000, 380, 38, 100_000, 5), { from: 995, to: 1015 })
  assert.deepEqual(windowOf(0, 380, 38, 3, 5), { from: 0, to: 3 })
  assert.deepEqual(windowOf(0, 380, 38, 0, 5), { from: 0, to: 0 })
  // Rows have gone while the reader was far below.
  const w = windowOf(38_000, 380, 38, 10, 5)
  assert.ok(w.from >= 0 && w.to <= 10)
})

test('what a table needs at least', () => {
  assert.equal(leastWidth(['8rem', 'minmax(10rem, 2fr)', '40px', 'auto', '.5em']), 'calc(8rem + 10rem + 40px + 4rem + .5em)')
})

test('mixed values sort without losing any', () => {
  const mixed = [{ v: 'b' }, { v: 3 }, { v: undefined }, { v: 'a' }, { v: '' }, { v: 1 }]
  assert.deepEqual(
    sortRows(mixed, (r) => r.v, false).map((r) => r.v),
    [1, 3, 'a', 'b', undefined, ''],
  )
  assert.deepEqual(sortRows([{ v: true }, { v: false }], (r) => r.v, false).map((r) => r.v), [false, true])
})

test('many numbers sort as a comparison would, equal ones as they stand', () => {
  let seed = 7
  const many = Array.from({ length: 3000 }, (_, i) => {
    seed = (seed * 1103515245 + 12345) % 2147483648
    return { i, n: seed % 10 === 0 ? undefined : (seed % 97) - 48.5 }
  })
  for (const down of [false, true]) {
    const want = [...many].sort((a, b) => {
      if (a.n === undefined || b.n === undefined) return Number(a.n === undefined) - Number(b.n === undefined) || a.i - b.i
      return (down ? b.n - a.n : a.n - b.n) || a.i - b.i
    })
    assert.deepEqual(sortRows(many, (r) => r.n, down), want)
  }
})

test('rows keep their slots, and those that come take the slots of those that went', () => {
  const s = new Slots()
  assert.deepEqual(s.assign(['a', 'b', 'c']), [0, 1, 2])
  assert.deepEqual(s.sequence([0, 1, 2], true), [0, 1, 2])
  assert.deepEqual(s.assign(['b', 'c', 'd']), [1, 2, 0])
  // While the reader scrolls no element moves; then they stand as the rows do.
  assert.deepEqual(s.sequence([1, 2, 0], false), [0, 1, 2])
  assert.deepEqual(s.sequence([1, 2, 0], true), [1, 2, 0])
  // More rows than before: new elements, behind all others until there is time to order them.
  assert.deepEqual(s.assign(['z', 'b', 'c', 'd', 'e']), [3, 1, 2, 0, 4])
  assert.deepEqual(s.sequence([3, 1, 2, 0, 4], false), [1, 2, 0, 3, 4])
  // A far jump: all take what is there.
  assert.deepEqual([...s.assign(['k', 'l', 'm', 'n', 'o'])].sort(), [0, 1, 2, 3, 4])
})

test('a slot that is held goes with its row', () => {
  const s = new Slots()
  s.assign(['a', 'b'])
  assert.deepEqual(s.assign(['b', 'c'], (slot) => slot === 0), [1, 2])
  // It does not come back.
  assert.deepEqual(s.assign(['c', 'd']), [2, 1])
})

test('rows of one key have slots of their own', () => {
  const s = new Slots()
  for (let n = 0; n < 3; n++) {
    const slots = s.assign(['a', 'a', 'b'])
    assert.equal(new Set(slots).size, 3)
    assert.equal(s.sequence(slots, false).length, 3)
  }
})

test('the place of a reader', () => {
  const p = new ReadingPlace()
  p.scrolled(1000, 2000, 0)
  assert.equal(p.changed(1000, 2000, 1), undefined)
  // All rows go, and half of them: the browser moves to the end.
  p.scrolled(0, 0, 10)
  assert.equal(p.changed(0, 0, 10), undefined)
  p.scrolled(500, 500, 20)
  assert.equal(p.changed(500, 500, 20), undefined)
  // They come back.
  assert.equal(p.changed(500, 1800, 30), 1000)
  p.scrolled(1000, 1800, 31)
  assert.equal(p.changed(1000, 2000, 32), undefined)
  // Who scrolls meanwhile stays there.
  p.scrolled(700, 700, 40)
  p.scrolled(300, 700, 50)
  assert.equal(p.changed(300, 2000, 60), undefined)
  // Who is left elsewhere for long has got used to it.
  p.scrolled(1000, 2000, 70)
  p.scrolled(500, 500, 80)
  assert.equal(p.changed(500, 2000, 100_000), undefined)
  assert.equal(p.changed(500, 3000, 100_001), undefined)
})
