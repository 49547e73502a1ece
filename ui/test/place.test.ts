import { describe, expect, test } from './expect'
import { Place } from '../src/logs/place'

const none = { prepended: 0, appended: 0, droppedTop: 0, droppedBottom: 0 }

/** draw does what a page does until nothing more is to be drawn; it returns how many turns that took. */
function draw(p: Place, measure: (line: number, turn: number) => number, follow: boolean): number {
  for (let turn = 1; turn <= 1000; turn++) {
    if (follow) p.toEnd()
    const { first, last } = p.window()
    p.measured(
      first,
      Array.from({ length: last - first }, (_, i) => measure(first + i, turn)),
    )
    if (follow) p.toEnd()
    const now = p.window()
    if (now.first === first && now.last === last) return turn
  }
  throw new Error('it never ends')
}

describe('a place in a log', () => {
  test('at the end stays at the end', () => {
    const p = new Place(() => 18)
    p.height = 400
    p.reset(1000, () => 18, 'end')
    expect(p.top).toBe(18_000 - 400)
    p.changed({ ...none, appended: 5 }, 1005)
    p.toEnd()
    expect(p.top).toBe(1005 * 18 - 400)
    expect(p.window()).toEqual({ first: Math.floor(p.top / 18) - 20, last: 1005 })
  })

  test('drawing ends whatever is measured: heights that waver, or depend on what is drawn', () => {
    for (const seed of [1, 2, 3, 4, 5]) {
      let n = seed
      const random = (): number => (n = (n * 1103515245 + 12345) % 2147483648) / 2147483648
      for (const follow of [true, false]) {
        const p = new Place(() => 18)
        p.height = 405
        p.reset(3000, () => 18, follow ? 'end' : 1500)
        // As many turns as lines come into sight, and not many do.
        expect(draw(p, (line, turn) => 18 + ((line + turn) % 2) * 10.4, follow)).toBeLessThan(50)
        p.reset(3000, () => 18, follow ? 'end' : 1500)
        expect(draw(p, () => Math.floor(random() * 5) * 18.4, follow)).toBeLessThan(50)
      }
    }
  })

  test('measuring moves what is above the screen, not what is on it', () => {
    const p = new Place(() => 10, 5)
    p.height = 100
    p.reset(200, () => 10, 0)
    p.scrolled(1005)
    const into = p.top - p.heights.top(100)
    const { first, last } = p.window()
    p.measured(
      first,
      Array.from({ length: last - first }, () => 30),
    )
    expect(p.heights.at(p.top)).toBe(100)
    expect(p.top - p.heights.top(100)).toBe(into)
    expect(p.top).toBe(1005 + 5 * 20)
  })

  test('a height counts once, until the lines are laid out anew', () => {
    const p = new Place(() => 10)
    p.reset(50, () => 10, 0)
    expect([p.measured(3, [20]), p.measured(3, [30]), p.heights.height(3)]).toEqual([true, false, 20])
    p.reflow(50, () => 10)
    expect([p.measured(3, [30]), p.heights.height(3)]).toEqual([true, 30])
    // The last line may have grown.
    p.measured(49, [10])
    p.changed({ ...none, appended: 1 }, 51)
    expect(p.measured(49, [20])).toBe(true)
  })

  test('what one reads stays when lines come and go above', () => {
    const p = new Place(() => 10)
    p.height = 100
    p.reset(100, () => 10, 0)
    p.scrolled(500)
    p.changed({ ...none, prepended: 30 }, 130)
    expect(p.top).toBe(800)
    p.changed({ ...none, appended: 20, droppedTop: 10 }, 140)
    expect(p.top).toBe(700)
    p.changed({ ...none, droppedTop: 130 }, 10)
    expect([p.top, p.window()]).toEqual([0, { first: 0, last: 10 }])
  })

  test('a line is shown a third down, and nothing lies beyond the ends', () => {
    const p = new Place(() => 10)
    p.height = 300
    p.reset(1000, () => 10, 500)
    expect(p.top).toBe(4900)
    p.reset(1000, () => 10, 2)
    expect(p.top).toBe(0)
    p.reset(1000, () => 10, 999)
    expect(p.top).toBe(9700)
    p.scrolled(99_999)
    expect([p.top, p.atBottom(9697), p.atBottom(9690)]).toEqual([9700, true, false])
    p.reset(0, () => 10, 'end')
    expect([p.top, p.window()]).toEqual([0, { first: 0, last: 0 }])
  })
})
