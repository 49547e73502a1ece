/** A line as pieces that each look one way: by its colours, and by what a search found in it. */
import { classes, cssColor, inkOn, INVERSE, NONE, readable, type Span } from './ansi'

export interface Segment {
  text: string
  cls: string
  fg: string | undefined
  bg: string | undefined
}

/** Mark is a match in the line: [from, to), current or not. */
export interface Mark {
  from: number
  to: number
  current: boolean
}

/** segments cuts a text where its style changes or a match begins or ends. */
export function segments(text: string, spans: readonly Span[], marks: readonly Mark[] = [], dark = false): Segment[] {
  if (spans.length === 0 && marks.length === 0) return text === '' ? [] : [{ text, cls: '', fg: undefined, bg: undefined }]
  const cuts = new Set([0, text.length])
  for (const s of [...spans, ...marks]) {
    cuts.add(Math.min(text.length, s.from))
    cuts.add(Math.min(text.length, s.to))
  }
  const at = [...cuts].sort((a, b) => a - b)
  const out: Segment[] = []
  let span = 0
  let mark = 0
  for (let i = 0; i + 1 < at.length; i++) {
    const from = at[i] ?? 0
    const to = at[i + 1] ?? 0
    while (span < spans.length && (spans[span]?.to ?? 0) <= from) span++
    while (mark < marks.length && (marks[mark]?.to ?? 0) <= from) mark++
    const s = spans[span]
    const m = marks[mark]
    const style = s !== undefined && s.from <= from ? s.style : undefined
    const found = m !== undefined && m.from <= from ? (m.current ? 'log-hit log-hit-now' : 'log-hit') : ''
    const inverse = style !== undefined && (style.flags & INVERSE) !== 0
    const fg = style === undefined ? NONE : inverse ? style.bg : style.fg
    const bg = style === undefined ? NONE : inverse ? style.fg : style.bg
    out.push({
      text: text.slice(from, to),
      cls: [style === undefined ? '' : classes(style), found].filter((c) => c !== '').join(' '),
      // On a colour of its own text is black or white; what stands on the page must suit that.
      fg: bg >= 16 ? inkOn(bg) : bg === NONE && !inverse ? readable(fg, dark) : undefined,
      bg: cssColor(bg),
    })
  }
  return out
}
