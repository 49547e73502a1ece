import { describe, expect, test } from './expect'
import { Heights } from '../src/logs/heights'
import { findAll, matcher, scan } from '../src/logs/search'
import { hexLines, LogWindow, looksBinary, MAX_LINE, splitLines } from '../src/logs/window'

const bytes = (s: string): Uint8Array => new TextEncoder().encode(s)
const texts = (w: { lines: { text: string }[] }): string[] => w.lines.map((l) => l.text)

describe('splitLines', () => {
  test('knows where each line stands', () => {
    const got = splitLines(bytes('ab\nc\r\n\nd'), 100)
    expect(got.map((l) => [l.text, l.at, l.end, l.open])).toEqual([
      ['ab', 100, 103, false],
      ['c', 103, 106, false],
      ['', 106, 107, false],
      ['d', 107, 108, true],
    ])
  })
  test('counts bytes, not characters', () => {
    expect(splitLines(bytes('äö\nx'), 0).map((l) => l.at)).toEqual([0, 5])
  })
  test('cuts lines that are too long, never inside of a character', () => {
    const got = splitLines(bytes('ä'.repeat(MAX_LINE) + '\nx\n'), 0)
    expect(got.length).toBeGreaterThan(2)
    expect(got[0]?.cut).toBe(true)
    expect(got.map((l) => l.text).join('')).toBe('ä'.repeat(MAX_LINE) + 'x')
    expect(got.some((l) => l.text.includes('\ufffd'))).toBe(false)
  })
})

/** file is a text whose bytes are read in pieces of any size. */
function file(lines: number): Uint8Array {
  return bytes(Array.from({ length: lines }, (_, i) => `line ${i} ${'x'.repeat((i * 7) % 40)}${i % 9 === 0 ? ' äöü🚀' : ''}`).join('\n') + '\n')
}

describe('LogWindow', () => {
  test('pieces make the same lines as the whole, whichever way they come', () => {
    const all = file(400)
    const whole = splitLines(all, 0).map((l) => l.text)
    for (const piece of [1, 7, 64, 1000, 100_000]) {
      const w = new LogWindow()
      w.reset(0, all.subarray(0, piece))
      while (w.end < all.length) w.append(all.subarray(w.end, w.end + piece))
      expect(texts(w)).toEqual(whole)
      expect(w.lines.at(-1)?.end).toBe(all.length)
    }
  })
  test('paging back gives the same lines', () => {
    const all = file(400)
    const w = new LogWindow()
    w.reset(all.length - 500, all.subarray(all.length - 500))
    expect(w.start).toBeGreaterThan(all.length - 500)
    while (w.start > 0) {
      const from = Math.max(0, w.start - 700)
      const before = w.lines.length
      const c = w.prepend(from, all.subarray(from, w.start))
      expect(w.lines.length).toBe(before + c.prepended)
    }
    expect(texts(w)).toEqual(splitLines(all, 0).map((l) => l.text))
    expect(w.lines.map((l) => l.at)).toEqual(splitLines(all, 0).map((l) => l.at))
  })
  test('lets go at the other end', () => {
    const w = new LogWindow(false, { lines: 50, bytes: 1 << 20 })
    const all = file(400)
    w.reset(0, all.subarray(0, 2000))
    while (w.end < all.length) w.append(all.subarray(w.end, w.end + 2000))
    expect(w.lines.length).toBe(50)
    expect(texts(w)).toEqual(splitLines(all, 0).map((l) => l.text).slice(-50))
    expect(w.start).toBe(w.lines[0]?.at)
    const from = w.start - 1000
    const c = w.prepend(from, all.subarray(from, w.start))
    expect(c.droppedBottom).toBe(c.prepended)
    expect(w.lines.length).toBe(50)
    expect(w.end).toBe(w.lines.at(-1)?.end)
    // What was let go comes back as it was.
    w.append(all.subarray(w.end, w.end + 300))
    const at = w.lines[0]?.at ?? 0
    expect(texts(w).join('\n')).toBe(new TextDecoder().decode(all.subarray(at, w.end)).replace(/\n$/, ''))
  })
  test('an open line grows in place', () => {
    const w = new LogWindow()
    w.reset(0, bytes('a\nb'))
    expect(w.append(bytes('c')).appended).toBe(0)
    expect(texts(w)).toEqual(['a', 'bc'])
    expect(w.append(bytes('\nd')).appended).toBe(1)
    expect(texts(w)).toEqual(['a', 'bc', 'd'])
  })
  test('colours go on over lines and pieces', () => {
    const w = new LogWindow()
    w.reset(0, bytes('\x1b[31mred\n'))
    w.append(bytes('more\n'))
    expect(w.lines[1]?.spans[0]?.style.fg).toBe(1)
  })
  test('bytes that do not meet the window are refused', () => {
    const w = new LogWindow()
    w.reset(100, bytes('x\ny\n'))
    expect(w.prepend(0, bytes('z\n')).prepended).toBe(0)
    expect(texts(w)).toEqual(['y'])
  })
  test('keeps what is asked for of more lines than it holds', () => {
    const all = bytes(Array.from({ length: 100 }, (_, i) => String(1000 + i)).join('\n') + '\n')
    const w = new LogWindow(false, { lines: 10, bytes: 1 << 20 })
    w.reset(0, all, 0)
    expect([w.start, w.end, texts(w)[0]]).toEqual([0, 50, '1000'])
    w.reset(0, all, 250)
    expect([w.start, w.end, texts(w)[5]]).toEqual([225, 275, '1050'])
    w.reset(0, all)
    expect([w.start, w.end, texts(w)[9]]).toEqual([450, 500, '1099'])
  })
  test('finds the line at an offset', () => {
    const w = new LogWindow()
    w.reset(0, bytes('aaa\nbbb\nccc\n'))
    expect([0, 3, 4, 9, 99].map((n) => w.indexAt(n))).toEqual([0, 0, 1, 2, 2])
  })
})

test('hexLines line up whatever the pieces', () => {
  const all = Uint8Array.from({ length: 50 }, (_, i) => i)
  expect(hexLines(all, 0)[0]?.text).toBe('00000000  00 01 02 03 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f  ················')
  const w = new LogWindow(true)
  w.reset(0, all.subarray(0, 20))
  w.append(all.subarray(20))
  expect(texts(w)).toEqual(hexLines(all, 0).map((l) => l.text))
})

test.each([
  ['text', bytes('hello\nworld\n'), false],
  ['colours', bytes('\x1b[31mx\x1b[0m\n'.repeat(50)), false],
  ['other alphabets', bytes('привет мир\n日本語\n'), false],
  ['empty', new Uint8Array(0), false],
  ['a NUL', Uint8Array.of(65, 0, 66), true],
  ['noise', Uint8Array.from({ length: 200 }, (_, i) => 128 + ((i * 37) % 128)), true],
])('looksBinary: %s', (_, b, want) => expect(looksBinary(b)).toBe(want))

describe('search', () => {
  test('small letters match all, capitals only themselves', () => {
    const lines = splitLines(bytes('Error\nerror ERROR\n'), 0)
    expect(findAll(lines, matcher('error')!).length).toBe(3)
    expect(findAll(lines, matcher('ERROR')!)).toEqual([{ line: 1, from: 6, to: 11 }])
  })
  test('expressions', () => {
    const lines = splitLines(bytes('took 12ms\ntook 7ms\n'), 0)
    expect(findAll(lines, matcher('/\\d+ms/')!).map((m) => [m.from, m.to])).toEqual([
      [5, 9],
      [5, 8],
    ])
    expect(() => matcher('/(/')).toThrow()
    expect(findAll(lines, matcher('/x*/')!)).toEqual([])
    expect(matcher('')).toBeUndefined()
  })
  test('colours do not hide what they colour', () => {
    const lines = splitLines(bytes('\x1b[31mer\x1b[1mror\x1b[0m\n'), 0)
    expect(findAll(lines, matcher('error')!).length).toBe(1)
  })

  const all = bytes(Array.from({ length: 3000 }, (_, i) => (i === 100 || i === 2500 ? 'needle ' : 'hay ') + i).join('\n') + '\n')
  const read = (from: number, to: number): Promise<Uint8Array> => Promise.resolve(all.subarray(from, to))
  const lineAt = (at: number | undefined): string => (at === undefined ? 'none' : new TextDecoder().decode(all.subarray(at, all.indexOf(10, at))))
  test.each([100, 1000, 1 << 20])('scan forward and backward by pages of %i', async (page) => {
    const find = matcher('needle')!
    expect(lineAt(await scan(read, find, { from: 0, size: all.length, backward: false, page }))).toBe('needle 100')
    expect(lineAt(await scan(read, find, { from: 5000, size: all.length, backward: false, page }))).toBe('needle 2500')
    expect(lineAt(await scan(read, find, { from: all.length, size: all.length, backward: true, page }))).toBe('needle 2500')
    expect(lineAt(await scan(read, find, { from: 20_000, size: all.length, backward: true, page }))).toBe('needle 100')
    expect(lineAt(await scan(read, matcher('nothing')!, { from: 0, size: all.length, backward: false, page }))).toBe('none')
  })
  test('scan can be ended', async () => {
    const abort = new AbortController()
    let pages = 0
    const found = scan(
      async (from, to) => {
        if (++pages === 3) abort.abort()
        return read(from, to)
      },
      matcher('nothing')!,
      { from: 0, size: all.length, backward: false, page: 1000, signal: abort.signal },
    )
    await expect(found).rejects.toThrow()
    expect(pages).toBe(3)
  })
})

describe('Heights', () => {
  test('guesses, measures, and finds', () => {
    const h = new Heights(() => 10)
    h.reset(100, () => 10)
    expect(h.total()).toBe(1000)
    expect(h.measure(5, 30)).toBe(true)
    expect(h.measure(5, 30)).toBe(false)
    expect(h.total()).toBe(1020)
    expect([h.top(5), h.top(6), h.at(49), h.at(50), h.at(79), h.at(80), h.at(9999)]).toEqual([50, 80, 4, 5, 5, 6, 99])
  })
  test('follows lines that come and go at the top', () => {
    const h = new Heights(() => 10)
    h.reset(10, () => 10)
    h.measure(2, 50)
    h.shift(3, 13)
    expect([h.top(5), h.top(6), h.total()]).toEqual([50, 100, 170])
    h.shift(-4, 9)
    expect([h.top(1), h.top(2), h.total()]).toEqual([10, 60, 130])
    h.shift(-2, 7)
    expect(h.total()).toBe(70)
  })
})
