/**
 * The lines of a log that are on the screen, of the thousands that are loaded. Their heights are
 * guessed and then measured, so that wrapped lines scroll as well as others.
 */
import { useSignal } from '@preact/signals'
import { useLayoutEffect, useMemo, useRef } from 'preact/hooks'
import { dark } from '../prefs'
import type { LogController } from './controller'
import { Place } from './place'
import { segments, type Mark } from './segments'
import type { Match } from './search'
import type { Line } from './window'

/** Nearer to an edge than this, in pixels, more is loaded. */
const NEAR = 600

export interface LogLinesProps {
  log: LogController
  wrap: boolean
  matches: readonly Match[]
  /** The match that is looked at, as an index. */
  current: number
  /** Says where somebody wants to link to. */
  onPick: (offset: number) => void
  label: string
}

export function LogLines({ log, wrap, matches, current, onPick, label }: LogLinesProps) {
  const scroller = useRef<HTMLDivElement>(null)
  const body = useRef<HTMLDivElement>(null)
  const probe = useRef<HTMLSpanElement>(null)
  const size = useRef({ line: 18, char: 7.2, cols: 100 })
  const wrapped = useRef(wrap)
  wrapped.current = wrap
  const guess = useMemo(
    () => (i: number) => {
      const line = log.win.lines[i]
      if (!wrapped.current || line === undefined) return size.current.line
      return size.current.line * Math.max(1, Math.ceil(line.text.length / size.current.cols))
    },
    [log],
  )
  const place = useMemo(() => new Place(guess), [log])
  const redraw = useSignal(0)
  void log.version.value
  void redraw.value
  const lines = log.win.lines
  if (log.following.value && log.atEnd) place.toEnd()
  const { first, last } = place.window()

  /**
   * told is where the browser says it is since we told it where to be: what differs is the reader's
   * doing. Without a top it is to be told anew.
   */
  const told = useRef<{ dom: number; top: number | undefined }>({ dom: 0, top: undefined })

  useLayoutEffect(() => {
    const before = log.onChange
    log.onChange = (c) => {
      if (c.kind === 'lines') place.changed(c, log.win.lines.length)
      else {
        place.reset(log.win.lines.length, guess, c.top === 'end' ? 'end' : c.top === 0 ? 0 : log.win.indexAt(c.top))
        told.current.top = undefined
      }
    }
    return () => void (log.onChange = before)
  }, [log])

  // How much room there is depends on the window alone: scrollbars are there always or take no room.
  useLayoutEffect(() => {
    const el = scroller.current
    const p = probe.current
    if (el === null || p === null) return
    const measure = (): void => {
      const box = p.getBoundingClientRect()
      const line = box.height || 18
      const char = box.width / 100 || 7.2
      const cols = Math.max(10, Math.floor((el.clientWidth - 16 - 20) / char))
      const height = el.clientHeight
      const same = line === size.current.line && cols === size.current.cols && char === size.current.char
      if (same && height === place.height) return
      place.height = height
      size.current = { line, char, cols }
      if (!same) place.reflow(log.win.lines.length, guess)
      redraw.value++
    }
    const watch = new ResizeObserver(measure)
    watch.observe(el)
    measure()
    place.reflow(log.win.lines.length, guess)
    redraw.value++
    return () => watch.disconnect()
  }, [wrap, place])

  // After drawing: take the heights of what was drawn, tell the scroller where it belongs, and draw again
  // if other lines are to be seen then. That ends, because a line's height is news only once, and
  // nothing else that the browser says has a part in it (see Place).
  useLayoutEffect(() => {
    const el = scroller.current
    const b = body.current
    if (el === null || b === null) return
    if (wrap) place.measured(first, Array.from(b.children, (child) => child.getBoundingClientRect().height))
    const pinned = log.following.peek() && log.atEnd
    if (pinned) place.toEnd()
    const total = place.heights.total() + 'px'
    const room = el.firstElementChild as HTMLElement
    if (room.style.height !== total) room.style.height = total
    b.style.transform = `translateY(${place.heights.top(first)}px)`
    const was = told.current.top
    if (pinned) el.scrollTop = place.heights.total()
    else if (was === undefined) el.scrollTop = place.top
    else if (Math.abs(place.top - was) >= 0.5) el.scrollTop += place.top - was // the reader may be scrolling right now
    told.current = { dom: el.scrollTop, top: place.top }
    const now = place.window()
    if (now.first !== first || now.last !== last) redraw.value++
    nearEdge()
  })

  // The match that is looked at is brought onto the screen.
  useLayoutEffect(() => {
    const m = matches[current]
    const el = scroller.current
    if (m === undefined || el === null) return
    const y = place.heights.top(m.line)
    if (y < place.top + 20 || y > place.top + place.height - 40) {
      place.scrolled(y - place.height / 3)
      told.current.top = undefined
      redraw.value++
    }
    if (!wrap) {
      const x = m.from * size.current.char
      if (x < el.scrollLeft || x > el.scrollLeft + el.clientWidth - 80) el.scrollLeft = Math.max(0, x - el.clientWidth / 2)
    }
  }, [current, matches])

  const nearEdge = (): void => {
    if (!log.opened.peek()) return
    if (place.top < NEAR && log.win.start > 0 && !log.following.peek()) void log.older()
    else if (place.top + place.height > place.heights.total() - NEAR && !log.atEnd) void log.newer()
  }

  const onScroll = (): void => {
    const el = scroller.current
    if (el === null) return
    const at = el.scrollTop
    const by = at - told.current.dom
    if (Math.abs(by) < 0.5) return // that was us
    // Who scrolls up wants to read; who comes back to the end wants to follow.
    const atBottom = place.atBottom(at)
    if (by < -1 && !atBottom && log.following.peek()) log.following.value = false
    // While a jump is under way, what is on the screen is not where one wants to be.
    else if (by > 0 && atBottom && log.atEnd && !log.following.peek() && log.loading.peek() !== 'jump') log.following.value = true
    place.scrolled(at)
    told.current = { dom: at, top: place.top }
    redraw.value++
  }

  const marks = new Map<number, Mark[]>()
  for (let i = lowerBound(matches, first); i < matches.length; i++) {
    const m = matches[i]
    if (m === undefined || m.line >= last) break
    const list = marks.get(m.line) ?? []
    list.push({ from: m.from, to: m.to, current: i === current })
    marks.set(m.line, list)
  }
  return (
    <div class={'log-scroll' + (wrap ? ' log-wrap' : '')} ref={scroller} onScroll={onScroll} tabIndex={0} role="region" aria-label={label}>
      <div class="log-room">
        <div class="log-body" ref={body}>
          {lines.slice(first, last).map((line, i) => (
            <LogLine key={line.at} line={line} marks={marks.get(first + i)} onPick={onPick} />
          ))}
        </div>
      </div>
      <span class="log-probe" ref={probe} aria-hidden="true">
        {'0'.repeat(100)}
      </span>
    </div>
  )
}

function LogLine({ line, marks, onPick }: { line: Line; marks: Mark[] | undefined; onPick: (offset: number) => void }) {
  return (
    <div class={'log-line' + (line.cut ? ' log-cut' : '')} onDblClick={() => onPick(line.at)}>
      {segments(line.text, line.spans, marks, dark.value).map((s, i) =>
        s.cls === '' && s.fg === undefined && s.bg === undefined ? (
          s.text
        ) : (
          <span key={i} class={s.cls} style={colours(s.fg, s.bg)}>
            {s.text}
          </span>
        ),
      )}
    </div>
  )
}

/** colours of 256 or 24 bits are set as properties, which the content security policy permits. */
function colours(fg: string | undefined, bg: string | undefined): Record<string, string> {
  const out: Record<string, string> = {}
  if (fg !== undefined) out['color'] = fg
  if (bg !== undefined) out['backgroundColor'] = bg
  return out
}

function lowerBound(matches: readonly Match[], line: number): number {
  let lo = 0
  let hi = matches.length
  while (lo < hi) {
    const mid = (lo + hi) >> 1
    if ((matches[mid]?.line ?? 0) < line) lo = mid + 1
    else hi = mid
  }
  return lo
}
