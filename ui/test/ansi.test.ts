import { describe, expect, test } from './expect'
import { applySGR, BOLD, classes, cssColor, inkOn, INVERSE, NONE, parseLine, PLAIN, readable, RGB, UNDERLINE, type Span } from '../src/logs/ansi'
import { segments } from '../src/logs/segments'

/** look is a line's text with its spans as {fg,flags}text. */
function look(raw: string): string {
  const p = parseLine(raw)
  let out = ''
  let at = 0
  for (const s of p.spans) {
    out += p.text.slice(at, s.from) + `{${s.style.fg},${s.style.bg},${s.style.flags}:${p.text.slice(s.from, s.to)}}`
    at = s.to
  }
  return out + p.text.slice(at)
}

describe('parseLine', () => {
  const rows: [string, string, string][] = [
    ['plain', 'hello', 'hello'],
    ['colour', '\x1b[31mred\x1b[0m rest', '{1,-1,0:red} rest'],
    ['empty reset', '\x1b[1mbold\x1b[m', `{-1,-1,${BOLD}:bold}`],
    ['bright and background', '\x1b[91;44mx', '{9,4,0:x}'],
    ['256', '\x1b[38;5;208mx', '{208,-1,0:x}'],
    ['24 bits', '\x1b[38;2;1;2;3mx', `{${RGB | 0x010203},-1,0:x}`],
    ['24 bits with colons and colour space', '\x1b[38:2::1:2:3mx', `{${RGB | 0x010203},-1,0:x}`],
    ['256 with colons, and more', '\x1b[38:5:9;1mx', `{9,-1,${BOLD}:x}`],
    ['colour out of range is ignored', '\x1b[38;5;999mx', 'x'],
    ['sequence cut off', 'x\x1b[31', 'x'],
    ['escape at the end', 'x\x1b', 'x'],
    ['cursor movements are taken out', 'a\x1b[2Jb\x1b[10;20Hc\x1b[?25l', 'abc'],
    ['title is taken out', '\x1b]0;evil\x07ok', 'ok'],
    ['link keeps its text alone', '\x1b]8;;http://evil/\x1b\\click\x1b]8;;\x1b\\ me', 'click me'],
    ['device control is taken out', 'a\x1bPq#0;2;0;0;0\x1b\\b', 'ab'],
    ['unended string swallows the line only', 'a\x1b]0;x', 'a'],
    ['character set', '\x1b(Bx', 'x'],
    ['CSI of one byte', '\x9b32mx', '{2,-1,0:x}'],
    ['not a sequence', '\x1b[\x01x', '␁x'],
    ['carriage return overwrites', 'progress 10%\rprogress 99%', 'progress 99%'],
    ['carriage return keeps what is longer', 'abcdef\rXY', 'XYcdef'],
    ['erase to the end', 'abcdef\rXY\x1b[K', 'XY'],
    ['backspace', 'ab\bc', 'ac'],
    ['bell', 'a\x07b', 'ab'],
    ['controls are shown', 'a\x00b\x7f', 'a␀b␡'],
    ['direction is not turned', 'a\u202eb', 'a\ufffdb'],
    ['markup is text', '<img src=x onerror=alert(1)>', '<img src=x onerror=alert(1)>'],
    ['tab stays', 'a\tb', 'a\tb'],
    ['emoji stay whole', '\x1b[32m🚀\x1b[0m', '{2,-1,0:🚀}'],
  ]
  test.each(rows)('%s', (_, raw, want) => expect(look(raw)).toBe(want))

  test('a style goes on in the next line', () => {
    const first = parseLine('\x1b[31mred')
    const second = parseLine('still', first.next)
    expect(second.spans).toEqual([{ from: 0, to: 5, style: { fg: 1, bg: NONE, flags: 0 } }])
    expect(parseLine('\x1b[0m', second.next).next).toEqual(PLAIN)
  })

  test('spans never leave the text and never overlap, whatever comes', () => {
    const parts = ['\x1b[31m', '\x1b[0m', '\x1b[38;5;', '\r', '\b', 'ab', '🚀', '\x1b]8;;', '\x07', '\x1b[K', '\x1b', '\x9b', '1;4m', '\t', '\u202e']
    let seed = 7
    const next = (n: number): number => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % n
    for (let i = 0; i < 3000; i++) {
      let raw = ''
      for (let k = next(12); k >= 0; k--) raw += parts[next(parts.length)]
      const p = parseLine(raw)
      let at = 0
      for (const s of p.spans) {
        expect(s.from).toBeGreaterThanOrEqual(at)
        expect(s.to).toBeGreaterThan(s.from)
        at = s.to
      }
      expect(at).toBeLessThanOrEqual(p.text.length)
      // eslint-disable-next-line no-control-regex -- none may be left
      expect(p.text).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/)
    }
  })
})

test('applySGR turns off what it turned on', () => {
  const on = applySGR(PLAIN, '1;4;31;42')
  expect(on).toEqual({ fg: 1, bg: 2, flags: BOLD | UNDERLINE })
  expect(applySGR(on, '22;24;39;49')).toEqual(PLAIN)
  expect(applySGR(on, '4:0').flags).toBe(BOLD)
})

test('classes and colours', () => {
  expect(classes({ fg: 1, bg: NONE, flags: BOLD })).toBe('ansi-fg-1 ansi-bold')
  expect(classes({ fg: 1, bg: NONE, flags: INVERSE })).toBe('ansi-bg-1 ansi-fg-inverse')
  expect(cssColor(9)).toBeUndefined()
  expect(cssColor(NONE)).toBeUndefined()
  expect(cssColor(16)).toBe('rgb(0 0 0)')
  expect(cssColor(231)).toBe('rgb(255 255 255)')
  expect(cssColor(232)).toBe('rgb(8 8 8)')
  expect(cssColor(RGB | 0xff8000)).toBe('rgb(255 128 0)')
})

test('segments cut where style and matches begin and end', () => {
  const span: Span = { from: 2, to: 6, style: { fg: 1, bg: NONE, flags: 0 } }
  const got = segments('abcdefgh', [span], [{ from: 4, to: 8, current: true }])
  expect(got.map((s) => [s.text, s.cls])).toEqual([
    ['ab', ''],
    ['cd', 'ansi-fg-1'],
    ['ef', 'ansi-fg-1 log-hit log-hit-now'],
    ['gh', 'log-hit log-hit-now'],
  ])
  expect(got.map((s) => s.text).join('')).toBe('abcdefgh')
  expect(segments('', [])).toEqual([])
})

test('colours are made readable, and no more than that', () => {
  const orange = RGB | 0xff8700
  expect(readable(orange, true)).toBe('rgb(255 135 0)')
  expect(readable(orange, false)).not.toBe('rgb(255 135 0)')
  expect(readable(RGB | 0x000080, false)).toBe('rgb(0 0 128)')
  expect(readable(RGB | 0x000080, true)).not.toBe('rgb(0 0 128)')
  expect(readable(1, true)).toBeUndefined()
  expect(inkOn(RGB | 0xffff00)).toBe('rgb(0 0 0)')
  expect(inkOn(RGB | 0x000080)).toBe('rgb(255 255 255)')
  const plain = segments('x', [{ from: 0, to: 1, style: { fg: orange, bg: RGB | 0x000080, flags: 0 } }])
  expect([plain[0]?.fg, plain[0]?.bg]).toEqual(['rgb(255 255 255)', 'rgb(0 0 128)'])
})
