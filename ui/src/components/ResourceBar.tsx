/** Bars that show parts of a whole. Colours carry no meaning alone: the parts are named on hover and for the screen reader. */
import type { ResourceName } from '../api/types'
import { amount, megabytes, percent } from '../format'
import { cx } from './basic'

export interface Part {
  name: string
  value: number
  /** A colour of tokens.css: 'used', 'offered', 'reserved', 'free', 'c1' ... 'c8'. */
  color: string
}

/** quantity is an amount of a resource in its unit. */
export function quantity(name: ResourceName, n: number | undefined): string {
  return name === 'mem' || name === 'disk' ? megabytes(n) : amount(n)
}

/** PartsBar is a bar of several parts of total; what is left is the track. */
export function PartsBar({ parts, total, text, label, thin = false }: { parts: readonly Part[]; total: number; text?: (n: number) => string; label: string; thin?: boolean }) {
  const say = text ?? ((n: number) => String(n))
  const named = parts.filter((p) => p.value > 0)
  const title = named.map((p) => `${p.name}: ${say(p.value)}${total > 0 ? ' (' + percent(p.value / total) + ')' : ''}`).join('\n')
  return (
    <div class={cx('bar', thin && 'bar-thin')} role="img" aria-label={label + ': ' + (title.replaceAll('\n', ', ') || 'nothing')} title={title}>
      {named.map((p) => (
        <span key={p.name} class={'bar-part fill-' + p.color} style={{ width: (total > 0 ? Math.min(1, p.value / total) : 0) * 100 + '%' }} />
      ))}
    </div>
  )
}

/** ResourceBar is how much of a resource is used, as a bar with its numbers. */
export function ResourceBar({ name, used, total, compact = false, label }: { name: ResourceName; used: number; total: number; compact?: boolean; label?: string }) {
  const share = total > 0 ? used / total : 0
  const tone = share > 0.95 ? 'bad' : share > 0.8 ? 'warn' : 'used'
  const text = quantity(name, used) + ' / ' + quantity(name, total)
  return (
    <span class={cx('resource', compact && 'resource-compact')} title={`${label ?? name}: ${text} (${total > 0 ? percent(share) : 'none'})`}>
      <span class={'gauge gauge-' + tone} style={{ backgroundSize: Math.min(1, share) * 100 + '% 100%' }} aria-hidden="true" />
      <span class="resource-text num">{compact ? (total > 0 ? percent(share) : '–') : text}</span>
    </span>
  )
}

/** Legend names the colours of a bar or a chart. */
export function Legend({ parts }: { parts: readonly { name: string; color: string; text?: string }[] }) {
  return (
    <ul class="legend">
      {parts.map((p) => (
        <li key={p.name}>
          <span class={'legend-dot fill-' + p.color} />
          {p.name}
          {p.text !== undefined && <span class="legend-text num">{p.text}</span>}
        </li>
      ))}
    </ul>
  )
}
