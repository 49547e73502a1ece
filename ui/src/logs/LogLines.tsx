/**
 * The lines of a log that are on the screen, of the thousands that are loaded. Their heights are
 * guessed and then measured, so that wrapped lines scroll as well as others.
 */
import { batch, useSignal } from '@preact/signals'
import { useEffect, useLayoutEffect, useMemo, useRef } from 'preact/hooks'
import { dark } from '../prefs'
import type { Changed, LogController } from './controller'
import { Heights } from './heights'
import { segments, type Mark } from './segments'
import type { Match } from './search'
import type { Line } from './window'

/** Lines that are drawn beyond the edges of the screen. */
const OVERSCAN = 20
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
  const heights = useMemo(() => new Heights(() => 18), [])
  const top = useSignal(0)
  const height = useSignal(600)
  const redraw = useSignal(0)
  const version = log.version.value
  void redraw.value
  const lines = log.win.lines
  const pinned = log.following.value && log.atEnd

  const guess = (i: number): number => {
    const line = log.win.lines[i]
    if (!wrap || line === undefined) return size.current.line
    return size.current.line * Math.max(1, Math.ceil(line.text.length / size.current.cols))
  }

  // Changes of the window move what is on the screen; what one reads stays where it is.
  const jump = useRef<number | 'end' | undefined>('end')
  const moved = useRef(0)
  useEffect(() => {
    const before = log.onChange
    log.onChange = (c: Changed) => {
      if (c.kind === 'reset') {
        heights.reset(log.win.lines.length, guess)
        jump.current = c.top
        moved.current = 0
        return
      }
      let delta = 0
      if (c.droppedTop > 0) delta -= heights.top(c.droppedTop)
      heights.shift(c.prepended - c.droppedTop, log.win.lines.length)
      if (c.prepended > 0) delta += heights.top(c.prepended)
      moved.current += delta
    }
    return () => void (log.onChange = before)
  })

  const measure = (): void => {
    const el = scroller.current
    const p = probe.current
    if (el === null || p === null) return
    const box = p.getBoundingClientRect()
    const line = box.height || 18
    const char = box.width / 100 || 7.2
    const gutter = 16
    const cols = Math.max(10, Math.floor((el.clientWidth - gutter - 20) / char))
    if (line !== size.current.line || cols !== size.current.cols || char !== size.current.char) {
      size.current = { line, char, cols }
      keepPlace(() => heights.reset(log.win.lines.length, guess))
    }
    if (height.peek() !== el.clientHeight) height.value = el.clientHeight
  }

  /** keepPlace changes heights without moving the line at the top. */
  const keepPlace = (change: () => void): void => {
    const el = scroller.current
    const i = heights.at(top.peek())
    const into = top.peek() - heights.top(i)
    change()
    if (el !== null && !(log.following.peek() && log.atEnd)) {
      el.scrollTop = heights.top(i) + into
      top.value = el.scrollTop
    }
    redraw.value++
  }

  useLayoutEffect(() => {
    measure()
    const el = scroller.current
    if (el === null) return
    const watch = new ResizeObserver(measure)
    watch.observe(el)
    return () => watch.disconnect()
  }, [])
  useLayoutEffect(() => {
    measure()
    keepPlace(() => heights.reset(log.win.lines.length, guess))
  }, [wrap])

  const first = Math.max(0, heights.at(top.value) - OVERSCAN)
  const last = Math.min(lines.length, heights.at(top.value + height.value) + OVERSCAN + 1)

  // After drawing: correct heights, then put the scroller where it belongs. That draws again; what
  // does not settle in some turns goes on in the next frame, or the page would stand still.
  const turns = useRef(0)
  useLayoutEffect(() => {
    const el = scroller.current
    const b = body.current
    if (el === null || b === null) return
    if (turns.current++ === 0) requestAnimationFrame(() => (turns.current = 0))
    if (turns.current > 10) return
    let above = 0
    if (wrap) {
      const line = heights.at(top.peek())
      let n = first
      for (const child of b.children) {
        const was = heights.height(n)
        const is = child.getBoundingClientRect().height
        if (heights.measure(n, is) && n < line) above += is - was
        n++
      }
    }
    let want: number | undefined
    if (jump.current !== undefined && lines.length > 0) {
      want = jump.current === 'end' ? heights.total() : heights.top(log.win.indexAt(jump.current))
      if (jump.current !== 'end' && jump.current > 0) want = Math.max(0, want - height.peek() / 3)
      jump.current = undefined
    } else if (pinned) want = heights.total()
    else if (moved.current !== 0 || above !== 0) want = el.scrollTop + moved.current + above
    moved.current = 0
    const total = heights.total() + 'px'
    const room = el.firstElementChild as HTMLElement
    if (room.style.height !== total) room.style.height = total
    b.style.transform = `translateY(${heights.top(first)}px)`
    if (want !== undefined && Math.abs(want - el.scrollTop) > 0.5) {
      el.scrollTop = want
      if (Math.abs(top.peek() - el.scrollTop) > 0.5) top.value = el.scrollTop
    }
    nearEdge()
  }, [version, redraw.value, top.value, height.value, wrap, first, last])

  // The match that is looked at is brought onto the screen.
  useLayoutEffect(() => {
    const m = matches[current]
    const el = scroller.current
    if (m === undefined || el === null) return
    const y = heights.top(m.line)
    if (y < el.scrollTop + 20 || y > el.scrollTop + el.clientHeight - 40) {
      el.scrollTop = Math.max(0, y - el.clientHeight / 3)
      top.value = el.scrollTop
    }
    if (!wrap) {
      const x = m.from * size.current.char
      if (x < el.scrollLeft || x > el.scrollLeft + el.clientWidth - 80) el.scrollLeft = Math.max(0, x - el.clientWidth / 2)
    }
  }, [current, matches])

  const nearEdge = (): void => {
    const el = scroller.current
    if (el === null || !log.opened.peek()) return
    if (el.scrollTop < NEAR && log.win.start > 0 && !log.following.peek()) void log.older()
    else if (el.scrollTop + el.clientHeight > heights.total() - NEAR && !log.atEnd) void log.newer()
  }

  const onScroll = (): void => {
    const el = scroller.current
    if (el === null) return
    batch(() => {
      // Who scrolls up wants to read; who comes back to the end wants to follow.
      const up = el.scrollTop < top.peek() - 1
      const atBottom = el.scrollTop + el.clientHeight >= heights.total() - 4
      if (up && !atBottom && log.following.peek()) log.following.value = false
      // While a jump is under way, what is on the screen is not where one wants to be.
      else if (!up && atBottom && log.atEnd && !log.following.peek() && log.loading.peek() !== 'jump') log.following.value = true
      top.value = el.scrollTop
    })
    nearEdge()
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
