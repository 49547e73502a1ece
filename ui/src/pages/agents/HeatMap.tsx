/** Agents as cells of a plane, drawn on a canvas: ten thousand of them are one element. */
import { useComputed, useSignal, type ReadonlySignal } from '@preact/signals'
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'
import { amount, megabytes, percent, plural, stateName } from '~/format'
import { go, href } from '~/router'
import type { Agent } from '~/state/model'
import '../../style/pages/heat.css'
import { cellAt, grouped, layout, moved, share, step, STEPS, TITLE, type By, type Layout } from './heat'

export interface HeatMapProps {
  agents: ReadonlySignal<readonly Agent[]>
  by: By
  group: string
}

export function HeatMap({ agents, by, group }: HeatMapProps) {
  const box = useRef<HTMLDivElement>(null)
  const canvas = useRef<HTMLCanvasElement>(null)
  const width = useSignal(0)
  const at = useSignal(-1)
  const tip = useSignal<{ x: number; y: number } | undefined>(undefined)
  const repaint = useSignal(0)
  const options = useSignal({ by, group })
  if (options.peek().by !== by || options.peek().group !== group) options.value = { by, group }
  const plan = useComputed<Layout>(() => layout(grouped(agents.value, options.value.group), Math.max(40, width.value), options.value.group !== ''))

  useLayoutEffect(() => {
    const el = box.current
    if (el === null) return
    const watch = new ResizeObserver(() => (width.value = el.clientWidth))
    watch.observe(el)
    width.value = el.clientWidth
    const again = (): void => void repaint.value++
    const themed = new MutationObserver(again)
    themed.observe(document.documentElement, { attributes: true })
    const scheme = matchMedia('(prefers-color-scheme: dark)')
    scheme.addEventListener('change', again)
    return () => {
      watch.disconnect()
      themed.disconnect()
      scheme.removeEventListener('change', again)
    }
  }, [])

  const l = plan.value
  const cursor = at.value
  useEffect(() => {
    if (canvas.current !== null) paint(canvas.current, l, Math.max(40, width.peek()), by)
  }, [l, by, repaint.value, width.value])

  const cell = l.cells[cursor]
  const onMove = (e: MouseEvent): void => {
    const r = canvas.current?.getBoundingClientRect()
    if (r === undefined) return
    const i = cellAt(l, e.clientX - r.left, e.clientY - r.top)
    at.value = i
    tip.value = i < 0 ? undefined : { x: e.clientX - r.left, y: e.clientY - r.top }
  }
  const onKey = (e: KeyboardEvent): void => {
    if (e.key === 'Enter' && cell !== undefined) {
      go(href('agent', { agent_id: cell.agent.id }))
      return
    }
    if (!/^(Arrow(Left|Right|Up|Down)|Home|End)$/.test(e.key)) return
    e.preventDefault()
    e.stopPropagation()
    at.value = moved(l, cursor, e.key)
    const c = l.cells[at.peek()]
    tip.value = c === undefined ? undefined : { x: c.x + l.size, y: c.y + l.size }
  }
  const text = cell === undefined ? '' : describe(cell.agent)
  return (
    <div class="heat" ref={box}>
      <div
        class="heat-plane"
        role="application"
        aria-roledescription="heat map"
        aria-label={`${plural(l.cells.length, 'agent')} by what is allocated. Arrow keys move, Enter opens an agent.`}
        tabIndex={0}
        onMouseMove={onMove}
        onMouseLeave={() => {
          at.value = -1
          tip.value = undefined
        }}
        onClick={() => cell !== undefined && go(href('agent', { agent_id: cell.agent.id }))}
        onKeyDown={onKey}
        onBlur={() => (tip.value = undefined)}
      >
        <canvas ref={canvas} aria-hidden="true" />
        {cell !== undefined && <span class="heat-cursor" style={{ transform: `translate(${cell.x - 2}px, ${cell.y - 2}px)`, width: l.size + 4 + 'px', height: l.size + 4 + 'px' }} />}
        {tip.value !== undefined && cell !== undefined && <Tip agent={cell.agent} at={tip.value} width={width.value} />}
      </div>
      <span class="offscreen" role="status">
        {tip.value !== undefined ? text : ''}
      </span>
      <Legend />
    </div>
  )
}

function Tip({ agent, at, width }: { agent: Agent; at: { x: number; y: number }; width: number }) {
  const ref = useRef<HTMLDivElement>(null)
  useLayoutEffect(() => {
    const el = ref.current
    if (el === null) return
    const x = Math.min(at.x + 14, Math.max(0, width - el.offsetWidth - 4))
    el.style.transform = `translate(${x}px, ${at.y + 16}px)`
  })
  return (
    <div class="heat-tip" ref={ref} aria-hidden="true">
      <strong>{agent.hostname}</strong> <span class="muted">{stateName(agent.state)}</span>
      <table>
        <tbody>
          {(['cpus', 'mem', 'disk', 'gpus'] as const).map((n) => {
            const s = share(agent, n)
            if (s === undefined) return null
            const show = n === 'cpus' || n === 'gpus' ? amount : megabytes
            return (
              <tr key={n}>
                <th scope="row">{n}</th>
                <td>{percent(s)}</td>
                <td class="muted">
                  {show(agent.allocated[n])} of {show(agent.total[n])}
                </td>
              </tr>
            )
          })}
        </tbody>
      </table>
    </div>
  )
}

function describe(a: Agent): string {
  const parts = (['cpus', 'mem', 'disk', 'gpus'] as const).flatMap((n) => {
    const s = share(a, n)
    return s === undefined ? [] : [`${n} ${percent(s)}`]
  })
  return `${a.hostname}, ${stateName(a.state)}, ${parts.join(', ')}`
}

function Legend() {
  return (
    <p class="heat-legend" aria-hidden="true">
      <span>free</span>
      {Array.from({ length: STEPS }, (_, i) => (
        <span key={i} class={'heat-swatch heat-' + i} />
      ))}
      <span>full</span>
      <span class="heat-swatch heat-out" />
      <span>takes no tasks</span>
    </p>
  )
}

/** paint draws cells in the colours of the theme. Who takes no tasks has a line through it, too. */
function paint(canvas: HTMLCanvasElement, l: Layout, width: number, by: By): void {
  const ratio = window.devicePixelRatio || 1
  canvas.width = Math.round(width * ratio)
  canvas.height = Math.round(l.height * ratio)
  canvas.style.width = width + 'px'
  canvas.style.height = l.height + 'px'
  const g = canvas.getContext('2d')
  if (g === null) return
  const style = getComputedStyle(canvas)
  const color = (name: string): string => style.getPropertyValue(name).trim()
  const heat = Array.from({ length: STEPS }, (_, i) => color('--heat-' + i))
  const none = color('--heat-none')
  const line = color('--heat-line')
  g.scale(ratio, ratio)
  g.clearRect(0, 0, width, l.height)
  g.font = '600 12px ' + style.fontFamily
  g.textBaseline = 'middle'
  const text = color('--heat-text')
  const muted = color('--heat-muted')
  for (const b of l.blocks) {
    if (b.top === b.y) continue
    const name = clipped(g, stateTitle(b.name), b.columns * l.pitch - 40)
    g.fillStyle = text
    g.fillText(name, b.x, b.y + TITLE / 2 - 2)
    g.fillStyle = muted
    g.fillText(String(b.count), b.x + g.measureText(name).width + 8, b.y + TITLE / 2 - 2)
  }
  for (const c of l.cells) {
    const s = share(c.agent, by)
    g.fillStyle = s === undefined ? none : (heat[step(s)] ?? none)
    g.fillRect(c.x, c.y, l.size, l.size)
    if (c.agent.state !== 'ACTIVE') {
      g.strokeStyle = line
      g.lineWidth = l.size > 14 ? 2 : 1
      g.beginPath()
      g.moveTo(c.x + 1, c.y + l.size - 1)
      g.lineTo(c.x + l.size - 1, c.y + 1)
      g.stroke()
    }
  }
}

/** clipped is a title that fits. */
function clipped(g: CanvasRenderingContext2D, text: string, width: number): string {
  let t = text
  while (t.length > 3 && g.measureText(t).width > width) t = t.slice(0, -2)
  return t === text ? t : t + '…'
}

function stateTitle(name: string): string {
  return /^[A-Z_]+$/.test(name) && name.length > 3 ? stateName(name) : name
}
