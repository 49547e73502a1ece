// What programs write to their output is text with ANSI escape sequences. This turns a line of
// it into plain text and spans of style, and nothing else: no sequence can make an element, a
// link or a request, whatever a task prints. Only SGR (colours, bold ...) has an effect; all
// others are taken out. Carriage returns and backspaces act as on a terminal, within the line,
// so that progress bars show their last state.

/** Style is how a piece of text looks. Colours are an index of the 256 or a packed RGB. */
export interface Style {
  readonly fg: number
  readonly bg: number
  readonly flags: number
}

export const BOLD = 1
export const DIM = 2
export const ITALIC = 4
export const UNDERLINE = 8
export const INVERSE = 16
export const STRIKE = 32
export const HIDDEN = 64

/** NONE is no colour of its own; colours of 24 bits have RGB set. */
export const NONE = -1
export const RGB = 1 << 24

/** PLAIN is the style that a line starts with if nothing is carried over. */
export const PLAIN: Style = { fg: NONE, bg: NONE, flags: 0 }

/** Span is a piece of a line's plain text, from and up to an index, that is not plain. */
export interface Span {
  from: number
  to: number
  style: Style
}

/** Parsed is a line: its text as one reads it, what is styled of it, and the style it ends with. */
export interface Parsed {
  text: string
  spans: Span[]
  next: Style
}

const ESC = 0x1b

// What needs more than to be shown: controls, and the characters that turn the direction of
// text, with which a log could show something else than what it holds.
// eslint-disable-next-line no-control-regex -- controls are what this is about
const special = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/

/** parseLine parses a line without its newline. */
export function parseLine(raw: string, start: Style = PLAIN): Parsed {
  if (!special.test(raw)) {
    return { text: raw, spans: plainSpan(start, raw.length), next: start }
  }
  return new Parser(start).run(raw)
}

function plainSpan(style: Style, length: number): Span[] {
  return isPlain(style) || length === 0 ? [] : [{ from: 0, to: length, style }]
}

/** isPlain says whether a style changes nothing. */
export function isPlain(s: Style): boolean {
  return s.fg === NONE && s.bg === NONE && s.flags === 0
}

class Parser {
  private chars: string[] = []
  private styles: Style[] = []
  private column = 0

  constructor(private style: Style) {}

  run(raw: string): Parsed {
    for (let i = 0; i < raw.length; ) {
      const code = raw.charCodeAt(i)
      if (code === ESC) {
        i = this.escape(raw, i + 1)
      } else if (code === 0x9b) {
        i = this.control(raw, i + 1)
      } else if (code === 0x0d) {
        this.column = 0
        i++
      } else if (code === 0x08) {
        this.column = Math.max(0, this.column - 1)
        i++
      } else if (code === 0x07) {
        i++; // a bell is heard, not seen
      } else {
        const point = raw.codePointAt(i)!
        this.put(visible(point))
        i += point > 0xffff ? 2 : 1
      }
    }
    return this.result()
  }

  private put(char: string): void {
    this.chars[this.column] = char
    this.styles[this.column] = this.style
    this.column++
  }

  private result(): Parsed {
    const spans: Span[] = []
    let text = ''
    for (let i = 0; i < this.chars.length; i++) {
      const from = text.length
      text += this.chars[i]
      const style = this.styles[i]!
      if (isPlain(style)) continue
      const last = spans[spans.length - 1]
      if (last && last.to === from && last.style === style) last.to = text.length
      else spans.push({ from, to: text.length, style })
    }
    return { text, spans, next: this.style }
  }

  /** escape handles what follows ESC and returns where the text goes on. */
  private escape(raw: string, i: number): number {
    const c = raw[i]
    if (c === '[') return this.control(raw, i + 1)
    // Strings (OSC, DCS, APC, PM, SOS): titles, links, images. None of it is shown.
    if (c !== undefined && ']PX^_'.includes(c)) return skipString(raw, i + 1)
    // Others: intermediates, then one final character.
    while (i < raw.length && raw.charCodeAt(i) >= 0x20 && raw.charCodeAt(i) <= 0x2f) i++
    return Math.min(raw.length, i + 1)
  }

  /** control handles what follows CSI. */
  private control(raw: string, i: number): number {
    const from = i
    while (i < raw.length && raw.charCodeAt(i) >= 0x20 && raw.charCodeAt(i) <= 0x3f) i++
    if (i >= raw.length) return raw.length; // cut off
    const final = raw.charCodeAt(i)
    if (final < 0x40 || final > 0x7e) return i; // not a sequence: show what follows
    const parameters = raw.slice(from, i)
    if (final === 0x6d && !/[^0-9;:]/.test(parameters)) this.style = applySGR(this.style, parameters)
    else if (final === 0x4b) this.erase(parameters)
    return i + 1
  }

  /** erase is EL: with 0 or nothing up to the end of the line, with 2 all of it. */
  private erase(parameters: string): void {
    if (parameters === '' || parameters === '0') {
      this.chars.length = Math.min(this.chars.length, this.column)
    } else if (parameters === '2') {
      this.chars.length = 0
      this.column = 0
    }
    this.styles.length = this.chars.length
  }
}

function skipString(raw: string, i: number): number {
  for (; i < raw.length; i++) {
    const code = raw.charCodeAt(i)
    if (code === 0x07 || code === 0x9c) return i + 1
    if (code === ESC && raw[i + 1] === '\\') return i + 2
  }
  return raw.length
}

/** visible is a character as it is shown: controls as their pictures. */
function visible(point: number): string {
  if (point === 0x09) return '\t'
  if (point < 0x20) return String.fromCharCode(0x2400 + point)
  if (point === 0x7f) return '\u2421'
  if (point >= 0x80 && point < 0xa0) return '\ufffd'
  if (point === 0x200e || point === 0x200f || (point >= 0x202a && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069)) {
    return '\ufffd'
  }
  return String.fromCodePoint(point)
}

const flagsOf: Record<number, number> = {
  1: BOLD, 2: DIM, 3: ITALIC, 4: UNDERLINE, 7: INVERSE, 8: HIDDEN, 9: STRIKE, 21: UNDERLINE,
}
const flagsOff: Record<number, number> = {
  22: BOLD | DIM, 23: ITALIC, 24: UNDERLINE, 27: INVERSE, 28: HIDDEN, 29: STRIKE,
}

/** applySGR is a style after `ESC [ parameters m`. */
export function applySGR(style: Style, parameters: string): Style {
  let { fg, bg, flags } = style
  // Each parameter may have parts of its own (`4:3`, `38:2::r:g:b`).
  const all = parameters.split(';').map((p) => p.split(':').map((n) => (n === '' ? 0 : Number(n))))
  for (let i = 0; i < all.length; i++) {
    const parts = all[i]!
    const n = parts[0]!
    if (n === 0) {
      fg = NONE
      bg = NONE
      flags = 0
    } else if (n === 4 && parts[1] === 0) {
      flags &= ~UNDERLINE
    } else if (flagsOf[n] !== undefined) {
      flags |= flagsOf[n]!
    } else if (flagsOff[n] !== undefined) {
      flags &= ~flagsOff[n]!
    } else if (n >= 30 && n <= 37) {
      fg = n - 30
    } else if (n >= 90 && n <= 97) {
      fg = n - 90 + 8
    } else if (n >= 40 && n <= 47) {
      bg = n - 40
    } else if (n >= 100 && n <= 107) {
      bg = n - 100 + 8
    } else if (n === 39) {
      fg = NONE
    } else if (n === 49) {
      bg = NONE
    } else if (n === 38 || n === 48) {
      const [color, used] = extended(parts, all, i)
      i += used
      if (color !== undefined) {
        if (n === 38) fg = color
        else bg = color
      }
    }
  }
  return { fg, bg, flags }
}

/** extended reads the colour of 38 or 48, and tells how many further parameters it took. */
function extended(parts: number[], all: number[][], i: number): [number | undefined, number] {
  const inline = parts.length > 1
  const at = (k: number): number | undefined => (inline ? parts[k] : all[i + k]?.[0])
  if (at(1) === 5) return [byte(at(2)), inline ? 0 : 2]
  if (at(1) === 2) {
    // With colons there may be a colour space before the three.
    const first = inline && parts.length >= 6 ? 3 : 2
    const r = byte(at(first))
    const g = byte(at(first + 1))
    const b = byte(at(first + 2))
    const whole = r !== undefined && g !== undefined && b !== undefined
    return [whole ? RGB | (r << 16) | (g << 8) | b : undefined, inline ? 0 : 4]
  }
  return [undefined, inline ? 0 : 1]
}

function byte(n: number | undefined): number | undefined {
  return n !== undefined && n >= 0 && n <= 255 ? n : undefined
}

const steps = [0, 95, 135, 175, 215, 255]

/** cssColor is a colour for CSS; undefined for the first 16, which are the theme's. */
export function cssColor(color: number): string | undefined {
  if (color < 16) return undefined
  if (color & RGB) return `rgb(${(color >> 16) & 255} ${(color >> 8) & 255} ${color & 255})`
  if (color >= 232) {
    const v = 8 + (color - 232) * 10
    return `rgb(${v} ${v} ${v})`
  }
  const c = color - 16
  return `rgb(${steps[Math.floor(c / 36)]} ${steps[Math.floor(c / 6) % 6]} ${steps[c % 6]})`
}

/** rgbOf is a colour's red, green and blue; undefined for those of the theme. */
function rgbOf(color: number): [number, number, number] | undefined {
  const m = /^rgb\((\d+) (\d+) (\d+)\)$/.exec(cssColor(color) ?? '')
  return m === null ? undefined : [Number(m[1]), Number(m[2]), Number(m[3])]
}

/** luminance of a colour, as WCAG has it. */
function luminance([r, g, b]: readonly [number, number, number]): number {
  const part = (v: number): number => (v <= 10.31475 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4)
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b)
}

/** contrast of two luminances. */
function contrast(a: number, b: number): number {
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
}

const readableCache = new Map<number, string>()

/**
 * readable is a colour for text on the page: programs choose theirs for black or for white, and
 * who reads has the other. It is mixed with black or white until it can be read.
 */
export function readable(color: number, dark: boolean): string | undefined {
  const key = color * 2 + (dark ? 1 : 0)
  const known = readableCache.get(key)
  if (known !== undefined) return known
  let c = rgbOf(color)
  if (c === undefined) return undefined
  const page = dark ? 0.0103 : 1
  for (let i = 0; i < 20 && contrast(luminance(c), page) < 4.6; i++) {
    c = c.map((v) => Math.round(dark ? v + (255 - v) * 0.12 : v * 0.9)) as [number, number, number]
  }
  const css = `rgb(${c.join(' ')})`
  if (readableCache.size < 10_000) readableCache.set(key, css)
  return css
}

/** inkOn is black or white, whichever can be read on a background of 256 or 24 bits. */
export function inkOn(background: number): string | undefined {
  const c = rgbOf(background)
  return c === undefined ? undefined : luminance(c) > 0.18 ? 'rgb(0 0 0)' : 'rgb(255 255 255)'
}

/** classes are the CSS classes of a style; colours of the theme are among them. */
export function classes(style: Style): string {
  const { flags } = style
  const inverse = (flags & INVERSE) !== 0
  const fg = inverse ? style.bg : style.fg
  const bg = inverse ? style.fg : style.bg
  const out: string[] = []
  if (fg >= 0 && fg < 16) out.push(`ansi-fg-${fg}`)
  if (bg >= 0 && bg < 16) out.push(`ansi-bg-${bg}`)
  if (inverse && fg === NONE) out.push('ansi-fg-inverse')
  if (inverse && bg === NONE) out.push('ansi-bg-inverse')
  if (flags & BOLD) out.push('ansi-bold')
  if (flags & DIM) out.push('ansi-dim')
  if (flags & ITALIC) out.push('ansi-italic')
  if (flags & UNDERLINE) out.push('ansi-underline')
  if (flags & STRIKE) out.push('ansi-strike')
  if (flags & HIDDEN) out.push('ansi-hidden')
  return out.join(' ')
}
