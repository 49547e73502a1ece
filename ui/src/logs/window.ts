// A window onto a file: the contiguous bytes that are loaded of it, as lines. The file may be
// of any size; the window is not, what is farthest from the reader is let go. Pure: whoever
// uses it reads the bytes (see source.ts).

import { parseLine, PLAIN, type Span, type Style } from './ansi'

/** Line is a line of the window, and where it stands in the file. */
export interface Line {
  /** at is the offset of its first byte, end that behind its last, newline included. */
  at: number
  end: number
  text: string
  spans: Span[]
  /** next is the style that what follows starts with. */
  next: Style
  /** open lines have not ended yet, or were cut because they are too long. */
  open: boolean
  cut: boolean
}

/** MAX_LINE is the longest line that is shown as one; longer ones go on in the next. */
export const MAX_LINE = 8192

/** Limits of a window: who is loaded more lets go at the other end. */
export interface Limits {
  lines: number
  bytes: number
}

export const LIMITS: Limits = { lines: 20_000, bytes: 4 << 20 }

/** HEX is how many bytes a line of a binary file shows. */
export const HEX = 16

const decoder = new TextDecoder('utf-8')

/** looksBinary says whether bytes are no text: a NUL, or much that is not UTF-8 or is control. */
export function looksBinary(bytes: Uint8Array): boolean {
  if (bytes.length === 0) return false
  if (bytes.indexOf(0) >= 0) return true
  const text = decoder.decode(bytes)
  let bad = 0
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === 0xfffd || (c < 0x20 && c !== 0x09 && c !== 0x0a && c !== 0x0d && c !== 0x1b && c !== 0x08 && c !== 0x07 && c !== 0x0c)) bad++
  }
  // The ends may split a character; a short text may do no more than that.
  return bad > 6 && bad * 10 > text.length
}

/** splitLines makes lines of bytes that start at an offset. The last may be open. */
export function splitLines(bytes: Uint8Array, at: number, style: Style = PLAIN): Line[] {
  const lines: Line[] = []
  let carried = style
  for (let from = 0; from < bytes.length; ) {
    let to = bytes.indexOf(10, from)
    let open = false
    let cut = false
    if (to < 0) {
      to = bytes.length
      open = true
    }
    let end = open ? to : to + 1
    if (to - from > MAX_LINE) {
      to = from + wholeUTF8(bytes, from, MAX_LINE)
      end = to
      open = false
      cut = true
    }
    let stop = to
    if (!cut && stop > from && bytes[stop - 1] === 13) stop--; // CRLF
    const raw = decoder.decode(bytes.subarray(from, stop))
    const parsed = parseLine(raw, carried)
    carried = parsed.next
    lines.push({ at: at + from, end: at + end, text: parsed.text, spans: parsed.spans, next: carried, open, cut })
    from = end
  }
  return lines
}

/** wholeUTF8 is how many of the next n bytes to take so that no character is split. */
function wholeUTF8(bytes: Uint8Array, from: number, n: number): number {
  let to = from + n
  for (let i = 0; i < 4 && to > from && ((bytes[to] ?? 0) & 0xc0) === 0x80; i++) to--
  return to > from ? to - from : n
}

/** hexLines shows bytes as numbers and characters, HEX a line. */
export function hexLines(bytes: Uint8Array, at: number): Line[] {
  const lines: Line[] = []
  // Lines begin at multiples of HEX, so that pages fit together.
  for (let from = 0; from < bytes.length; ) {
    const to = Math.min(bytes.length, from + HEX - ((at + from) % HEX))
    let hex = ''
    let text = ''
    for (let i = 0; i < HEX; i++) {
      const b = from + i < to ? bytes[from + i]! : -1
      hex += (b < 0 ? '  ' : b.toString(16).padStart(2, '0')) + (i === 7 ? '  ' : ' ')
      if (b >= 0) text += b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : '\u00b7'
    }
    const offset = (at + from).toString(16).padStart(8, '0')
    const last = to === bytes.length && (at + to) % HEX !== 0
    lines.push({
      at: at + from, end: at + to, text: `${offset}  ${hex} ${text}`,
      spans: [{ from: 0, to: offset.length, style: { fg: 8, bg: -1, flags: 0 } }],
      next: PLAIN, open: last, cut: false,
    })
    from = to
  }
  return lines
}

/** Change tells how a window changed: lines that came and went at either end. */
export interface Change {
  prepended: number
  appended: number
  droppedTop: number
  droppedBottom: number
}

/** LogWindow holds what is loaded of a file. */
export class LogWindow {
  lines: Line[] = []
  /** start and end are the bytes that are loaded. */
  start = 0
  end = 0
  /** tail are the bytes of the last line as long as it is open. */
  private tail = new Uint8Array(0)

  constructor(readonly hex = false, private readonly limits: Limits = LIMITS) {}

  /** reset forgets everything and shows bytes from an offset on; if they are too many, those around keep. */
  reset(at: number, bytes: Uint8Array, keep: number | 'end' = 'end'): void {
    this.lines = []
    const skip = this.hex ? 0 : at === 0 ? 0 : firstLine(bytes)
    this.start = at + skip
    this.end = this.start
    this.tail = new Uint8Array(0)
    this.add(bytes.subarray(skip))
    if (keep !== 'end') {
      this.cutTop(Math.max(0, this.indexAt(keep) - (this.limits.lines >> 1)))
      this.dropBottom()
    } else this.dropTop()
  }

  /** append adds the bytes that follow. */
  append(bytes: Uint8Array): Change {
    const change = this.add(bytes)
    change.droppedTop = this.dropTop()
    return change
  }

  private add(bytes: Uint8Array): Change {
    const change: Change = { prepended: 0, appended: 0, droppedTop: 0, droppedBottom: 0 }
    if (bytes.length === 0) return change
    const from = this.end - this.tail.length
    const all = this.tail.length === 0 ? bytes : joined(this.tail, bytes)
    if (this.tail.length > 0) {
      this.lines.pop()
      change.appended--
    }
    const before = this.lines[this.lines.length - 1]
    const more = this.hex ? hexLines(all, from) : splitLines(all, from, before?.next ?? PLAIN)
    for (const line of more) this.lines.push(line)
    change.appended += more.length
    this.end += bytes.length
    const last = more[more.length - 1]!
    this.tail = last.open ? all.slice(last.at - from) : new Uint8Array(0)
    return change
  }

  /** prepend adds the bytes before the window; what is not a whole line at their start is left out. */
  prepend(at: number, bytes: Uint8Array): Change {
    const change: Change = { prepended: 0, appended: 0, droppedTop: 0, droppedBottom: 0 }
    if (at + bytes.length !== this.start || bytes.length === 0) return change
    const skip = this.hex || at === 0 ? 0 : firstLine(bytes)
    const part = skip >= bytes.length ? bytes : bytes.subarray(skip)
    const first = at + (bytes.length - part.length)
    const more = this.hex ? hexLines(part, first) : splitLines(part, first)
    // What precedes ends where the window starts, whether by a newline or by a cut.
    for (const line of more) line.open = false
    this.lines = more.concat(this.lines)
    this.start = first
    change.prepended = more.length
    change.droppedBottom = this.dropBottom()
    return change
  }

  private dropTop(): number {
    let n = Math.max(0, this.lines.length - this.limits.lines)
    while (n < this.lines.length - 1 && this.end - this.lines[n]!.at > this.limits.bytes) n++
    this.cutTop(n)
    return n
  }

  private cutTop(n: number): void {
    if (n === 0) return
    this.lines = this.lines.slice(n)
    this.start = this.lines[0]!.at
  }

  private dropBottom(): number {
    let keep = Math.min(this.lines.length, this.limits.lines)
    while (keep > 1 && this.lines[keep - 1]!.end - this.start > this.limits.bytes) keep--
    const n = this.lines.length - keep
    if (n > 0) {
      this.lines.length = keep
      const last = this.lines[keep - 1]!
      this.end = last.end
      this.tail = new Uint8Array(0)
      last.open = false
    }
    return n
  }

  /** indexAt is the line that holds the byte at an offset; the nearest if none does. */
  indexAt(offset: number): number {
    let lo = 0
    let hi = this.lines.length - 1
    while (lo < hi) {
      const mid = (lo + hi + 1) >> 1
      if (this.lines[mid]!.at <= offset) lo = mid
      else hi = mid - 1
    }
    return Math.max(0, lo)
  }
}

/** firstLine is where the first whole line starts in bytes from the middle of a file: behind
 * the first newline, unless that is farther than a line may be long. */
function firstLine(bytes: Uint8Array): number {
  const newline = bytes.subarray(0, MAX_LINE).indexOf(10)
  if (newline >= 0) return newline + 1
  let skip = 0; // do not begin inside of a character
  while (skip < 3 && skip < bytes.length && (bytes[skip]! & 0xc0) === 0x80) skip++
  return skip
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const out = new Uint8Array(a.length + b.length)
  out.set(a)
  out.set(b, a.length)
  return out
}
