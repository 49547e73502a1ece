/** Plots over time (uPlot, loaded when the first one is shown) and small ones (drawn here). */
import type uPlot from 'uplot'
import { useEffect, useRef } from 'preact/hooks'
import { clock, short } from '../format'
import { dark } from '../prefs'

export interface Series {
  name: string
  /** A colour of tokens.css: 'c1' ... 'c8', 'used', 'bad' ... */
  color: string
  /** undefined and null are gaps. */
  values: readonly (number | null | undefined)[]
  /** Filled below the line. */
  fill?: boolean
  dash?: boolean
}

export interface ChartProps {
  /** Names what is plotted, for the screen reader. */
  label: string
  /** In seconds, rising. */
  times: readonly number[]
  series: readonly Series[]
  height?: number
  /** How numbers are written on the axis and below the cursor. */
  format?: (n: number) => string
  /** Series lie on top of each other. */
  stacked?: boolean
  /** The scale goes at least so far. */
  max?: number
  /** No legend below. */
  bare?: boolean
}

/** At least so many seconds are shown: of less there is nothing to see, and the axis would name the same second again and again. */
const leastSpan = 5

/** The axis of time has a line at every so many seconds: never less than one, for it is labelled in seconds. */
const minute = 60
const hour = 60 * minute
const day = 24 * hour
const steps = [1, 2, 5, 10, 15, 30, minute, 2 * minute, 5 * minute, 10 * minute, 15 * minute, 30 * minute, hour, 2 * hour, 3 * hour, 6 * hour, 12 * hour, day]

/** timeRange is what the axis of time shows of data from first to last. */
export function timeRange(first: number | null, last: number | null): [number, number] {
  if (first === null || last === null) return [0, leastSpan]
  return [Math.min(first, last - leastSpan), last]
}

/** timeLabels are what stands at the lines of the axis of time: seconds are named only where they differ. */
export function timeLabels(at: readonly number[]): string[] {
  const length = at.length > 1 && (at[1] ?? 0) - (at[0] ?? 0) < minute ? 8 : 5
  return at.map((t) => clock(t).slice(0, length))
}

let library: Promise<typeof import('../lib/uplot')> | undefined

/** Chart plots series over time; it follows the width of its place, the theme and the data. */
export function Chart(p: ChartProps) {
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | undefined>(undefined)
  const latest = useRef(p)
  latest.current = p
  const isDark = dark.value
  const enough = p.times.length >= 2 // a line has two points
  const shape = enough + p.series.map((s) => s.name + s.color + (s.fill === true) + (s.dash === true)).join() + (p.stacked === true) + (p.height ?? 180) + isDark

  useEffect(() => {
    if (!enough) return
    let gone = false
    let watch: ResizeObserver | undefined
    library ??= import('../lib/uplot')
    void library.then(({ default: UPlot }) => {
      const el = box.current
      if (gone || el === null) return
      const make = () => new UPlot(options(latest, el), data(latest.current), el)
      plot.current = make()
      watch = new ResizeObserver(() => {
        const width = el.clientWidth
        if (width > 0 && plot.current !== undefined && width !== plot.current.width) plot.current.setSize({ width, height: latest.current.height ?? 180 })
      })
      watch.observe(el)
    })
    return () => {
      gone = true
      watch?.disconnect()
      plot.current?.destroy()
      plot.current = undefined
    }
  }, [shape])
  useEffect(() => {
    plot.current?.setData(data(p))
  }, [p.times, p.series])

  const last = p.series.map((s) => `${s.name}: ${say(p, s.values.findLast((v) => v !== null && v !== undefined) ?? undefined)}`).join(', ')
  return (
    <div class="chart" role="img" aria-label={`${p.label}. Now: ${last}`}>
      <div ref={box} class="chart-plot" style={{ minHeight: (p.height ?? 180) + 'px' }}>
        {p.times.length < 2 && <p class="chart-wait muted">Measuring …</p>}
      </div>
      {p.bare !== true && (
        <ul class="legend" aria-hidden="true">
          {p.series.map((s) => (
            <li key={s.name}>
              <span class={'legend-dot fill-' + s.color} />
              {s.name}
              <span class="legend-text num">{say(p, s.values.findLast((v) => v !== null && v !== undefined) ?? undefined)}</span>
            </li>
          ))}
        </ul>
      )}
    </div>
  )
}

function say(p: ChartProps, v: number | undefined): string {
  return v === undefined ? '–' : (p.format ?? short)(v)
}

/** data is what uPlot draws: stacked series are sums, the topmost drawn first. */
function data(p: ChartProps): uPlot.AlignedData {
  const columns = p.series.map((s) => p.times.map((_, i) => s.values[i] ?? null))
  if (p.stacked === true) {
    for (let c = 1; c < columns.length; c++) {
      const below = columns[c - 1] ?? []
      columns[c] = (columns[c] ?? []).map((v, i) => (v === null && below[i] === null ? null : (v ?? 0) + (below[i] ?? 0)))
    }
    columns.reverse()
  }
  return [p.times as number[], ...columns] as uPlot.AlignedData
}

function options(of: { current: ChartProps }, el: HTMLElement): uPlot.Options {
  const p = of.current
  const style = getComputedStyle(el)
  const color = (name: string) => style.getPropertyValue('--' + (/^c\d$/.test(name) ? 'chart-' + name.slice(1) : 'fill-' + name)).trim() || 'gray'
  const faint = style.getPropertyValue('--line').trim()
  const ink = style.getPropertyValue('--ink-2').trim()
  const font = '11px ' + style.fontFamily
  const axis: uPlot.Axis = { stroke: ink, font, grid: { stroke: faint, width: 1 }, ticks: { show: false } }
  const series = p.stacked === true ? [...p.series].reverse() : p.series
  return {
    width: Math.max(50, el.clientWidth),
    height: p.height ?? 180,
    padding: [8, 20, 0, 0],
    legend: { show: false },
    cursor: { points: { show: false }, drag: { x: false, y: false } },
    plugins: [tip(of)],
    scales: { x: { time: true, range: (_u, min, max) => timeRange(min, max) }, y: { range: (_u, _min, max) => [0, Math.max(of.current.max ?? 0, (max ?? 0) * 1.08, Number.MIN_VALUE) || 1] } },
    axes: [
      { ...axis, size: 26, space: 64, incrs: steps, values: (_u, at) => timeLabels(at) },
      { ...axis, size: 56, values: (_u, at) => at.map((v) => (of.current.format ?? short)(v)) },
    ],
    series: [
      {},
      ...series.map((s): uPlot.Series => ({
        label: s.name,
        stroke: color(s.color),
        width: 1.5,
        ...(s.dash === true ? { dash: [4, 4] } : {}),
        ...(s.fill === true || p.stacked === true ? { fill: translucent(color(s.color), p.stacked === true ? 0.55 : 0.16) } : {}),
        points: { show: false },
      })),
    ],
  }
}

/** translucent is a hex colour with an opacity; uPlot draws on a canvas, which knows no custom properties. */
function translucent(hex: string, alpha: number): string {
  const m = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(hex)
  if (m === null) return hex
  return `rgb(${parseInt(m[1] ?? '0', 16)} ${parseInt(m[2] ?? '0', 16)} ${parseInt(m[3] ?? '0', 16)} / ${alpha})`
}

/** tip shows the values below the cursor. */
function tip(of: { current: ChartProps }): uPlot.Plugin {
  let el: HTMLDivElement
  return {
    hooks: {
      init: (u) => {
        el = document.createElement('div')
        el.className = 'chart-tip'
        el.hidden = true
        u.over.append(el)
        u.over.addEventListener('mouseleave', () => (el.hidden = true))
      },
      setCursor: (u) => {
        const i = u.cursor.idx
        const left = u.cursor.left ?? -1
        if (i === null || i === undefined || left < 0) {
          el.hidden = true
          return
        }
        const p = of.current
        const rows = p.series.map((s) => {
          const row = document.createElement('div')
          const dot = document.createElement('span')
          dot.className = 'legend-dot fill-' + s.color
          row.append(dot, s.name + ' ', say(p, s.values[i] ?? undefined))
          return row
        })
        const head = document.createElement('div')
        head.className = 'muted'
        head.textContent = clock(p.times[i] ?? 0)
        el.replaceChildren(head, ...rows)
        el.hidden = false
        const flip = left > u.over.clientWidth / 2
        el.style.left = flip ? '' : left + 12 + 'px'
        el.style.right = flip ? u.over.clientWidth - left + 12 + 'px' : ''
      },
    },
  }
}

/** Sparkline is a line as small as a word. */
export function Sparkline({ values, width = 120, height = 28, color = 'c1', label, max }: { values: readonly (number | null | undefined)[]; width?: number; height?: number; color?: string; label: string; max?: number }) {
  const known = values.filter((v): v is number => typeof v === 'number' && Number.isFinite(v))
  const top = Math.max(max ?? 0, ...known, 0)
  const bottom = Math.min(0, ...known)
  const span = top - bottom || 1
  const step = values.length > 1 ? width / (values.length - 1) : 0
  let d = ''
  let pen = false
  values.forEach((v, i) => {
    if (typeof v !== 'number' || !Number.isFinite(v)) {
      pen = false
      return
    }
    d += (pen ? 'L' : 'M') + (i * step).toFixed(1) + ' ' + (height - 2 - ((v - bottom) / span) * (height - 4)).toFixed(1)
    pen = true
  })
  return (
    <svg class={'spark stroke-' + color} viewBox={`0 0 ${width} ${height}`} width={width} height={height} preserveAspectRatio="none" role="img" aria-label={label}>
      <path d={d} />
    </svg>
  )
}
