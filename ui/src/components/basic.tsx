/** Small things that every page is made of. */
import { useSignal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { now } from '../clock'
import * as format from '../format'
import { exactTimes } from '../prefs'
import { Icon, type IconName } from './Icon'

/** cx joins the names of classes that are there. */
export function cx(...names: (string | false | undefined | null)[]): string {
  return names.filter(Boolean).join(' ')
}

/** Time is a moment (in seconds): relative, exact on hover; a click on any shows all exactly. */
export function Time({ at, exact = false }: { at: number | undefined | null; exact?: boolean }) {
  if (at === undefined || at === null || at === 0) return <span class="muted">–</span>
  const text = exact || exactTimes.value ? format.stamp(at) : format.ago(at, now.value)
  return (
    <time class="time" dateTime={format.iso(at)} title={format.exact(at)} onClick={() => (exactTimes.value = !exactTimes.value)}>
      {text}
    </time>
  )
}

/** Duration is a span of seconds; exact on hover. */
export function Duration({ seconds }: { seconds: number | undefined }) {
  if (seconds === undefined) return <span class="muted">–</span>
  return <span title={seconds.toLocaleString('en') + ' seconds'}>{format.duration(seconds)}</span>
}

/** Bytes is a size in bytes; exact on hover. */
export function Bytes({ n }: { n: number | undefined }) {
  return <span class="num" title={n === undefined ? undefined : n.toLocaleString('en') + ' bytes'}>{format.bytes(n)}</span>
}

/** Megabytes is a size in MiB, as Mesos counts mem and disk. */
export function Megabytes({ n }: { n: number | undefined }) {
  return <span class="num" title={n === undefined ? undefined : n.toLocaleString('en') + ' MB'}>{format.megabytes(n)}</span>
}

/** Cpus is a number of CPUs (or GPUs). */
export function Cpus({ n }: { n: number | undefined }) {
  return <span class="num">{format.amount(n)}</span>
}

/** Num is a whole number. */
export function Num({ n }: { n: number | undefined }) {
  return <span class="num">{format.count(n)}</span>
}

/** shorten keeps the telling ends of an id. */
export function shorten(id: string, most = 22): string {
  if (id.length <= most) return id
  const tail = Math.ceil((most - 1) * 0.6)
  return id.slice(0, most - 1 - tail) + '…' + id.slice(-tail)
}

/** Id is an id: shortened, whole on hover, with a button that copies it. href makes it a link. */
export function Id({ id, href, full = false, copy = true, most }: { id: string; href?: string | undefined; full?: boolean; copy?: boolean; most?: number }) {
  if (id === '') return <span class="muted">–</span>
  const text = full ? id : shorten(id, most)
  return (
    <span class="id">
      {href === undefined ? (
        <span class="id-text" title={id}>
          {text}
        </span>
      ) : (
        <a class="id-text" href={href} title={id}>
          {text}
        </a>
      )}
      {copy && <Copy text={id} what="id" />}
    </span>
  )
}

/** Copy is a button that copies a text. */
export function Copy({ text, what = 'text' }: { text: string; what?: string }) {
  const done = useSignal(false)
  return (
    <button
      type="button"
      class="copy"
      title={done.value ? 'Copied' : 'Copy ' + what}
      aria-label={'Copy ' + what + ' ' + shorten(text, 40)}
      onClick={(e) => {
        e.preventDefault()
        e.stopPropagation()
        void toClipboard(text).then((ok) => {
          done.value = ok
          setTimeout(() => (done.value = false), 1500)
        })
      }}
    >
      <Icon name={done.value ? 'check' : 'copy'} size={13} />
    </button>
  )
}

/** toClipboard copies a text, also on pages without TLS, where browsers have no clipboard to offer. */
export async function toClipboard(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    const area = document.createElement('textarea')
    area.value = text
    area.className = 'offscreen'
    ;(document.querySelector('dialog[open]') ?? document.body).append(area)
    area.select()
    const ok = document.execCommand('copy')
    area.remove()
    return ok
  }
}

export type Tone = 'good' | 'busy' | 'warn' | 'bad' | 'quiet' | 'info'

const tones: Record<string, Tone> = {
  TASK_RUNNING: 'good',
  TASK_STAGING: 'busy',
  TASK_STARTING: 'busy',
  TASK_KILLING: 'warn',
  TASK_FINISHED: 'quiet',
  TASK_KILLED: 'quiet',
  TASK_FAILED: 'bad',
  TASK_ERROR: 'bad',
  TASK_LOST: 'bad',
  TASK_DROPPED: 'bad',
  TASK_UNREACHABLE: 'warn',
  TASK_GONE: 'bad',
  TASK_GONE_BY_OPERATOR: 'bad',
  TASK_UNKNOWN: 'quiet',
  ACTIVE: 'good',
  DRAINING: 'busy',
  DRAINED: 'info',
  DEACTIVATED: 'warn',
  DISCONNECTED: 'bad',
  UNREACHABLE: 'bad',
  RECOVERED: 'busy',
  INACTIVE: 'warn',
  COMPLETED: 'quiet',
  UP: 'good',
  DOWN: 'bad',
}

/** toneOf is the tone of a state of a task, an agent, a machine or a framework. */
export function toneOf(state: string): Tone {
  return tones[state] ?? 'quiet'
}

/** StateBadge is a state by colour, by shape and by word. */
export function StateBadge({ state, tone = toneOf(state), label = format.stateName(state) }: { state: string; tone?: Tone; label?: string }) {
  return (
    <span class={'badge badge-' + tone}>
      <span class="dot" />
      {label}
    </span>
  )
}

/** Tag is a small word in a box: a role, a capability, a label. */
export function Tag({ children, title }: { children: ComponentChildren; title?: string }) {
  return (
    <span class="tag" title={title}>
      {children}
    </span>
  )
}

export interface ButtonProps {
  children?: ComponentChildren
  onClick?: (e: MouseEvent) => void
  kind?: 'primary' | 'danger' | 'plain' | 'ghost'
  icon?: IconName
  type?: 'button' | 'submit'
  disabled?: boolean
  busy?: boolean
  title?: string
  /** The name for who cannot see the icon; needed without children. */
  label?: string
  small?: boolean
  pressed?: boolean
  autofocus?: boolean
}

/** Button does something; a link goes somewhere. */
export function Button(p: ButtonProps) {
  const ref = useRef<HTMLButtonElement>(null)
  useEffect(() => {
    if (p.autofocus === true) ref.current?.focus()
  }, [])
  return (
    <button
      ref={ref}
      type={p.type ?? 'button'}
      class={cx('button', 'button-' + (p.kind ?? 'plain'), p.small && 'button-small', p.children === undefined && 'button-icon')}
      disabled={p.disabled === true || p.busy === true}
      aria-busy={p.busy}
      aria-label={p.label}
      aria-pressed={p.pressed}
      title={p.title ?? (p.children === undefined ? p.label : undefined)}
      onClick={p.onClick}
    >
      {p.busy === true ? <span class="spinner" /> : p.icon !== undefined && <Icon name={p.icon} />}
      {p.children !== undefined && <span>{p.children}</span>}
    </button>
  )
}

/** Empty says why there is nothing, and what to do. */
export function Empty({ title, children, icon = 'info' }: { title: string; children?: ComponentChildren; icon?: IconName }) {
  return (
    <div class="empty">
      <Icon name={icon} size={28} />
      <p class="empty-title">{title}</p>
      {children !== undefined && <div class="empty-text">{children}</div>}
    </div>
  )
}

/** ErrorNote is what went wrong, in the server's words. */
export function ErrorNote({ error, title, retry }: { error: unknown; title?: string; retry?: () => void }) {
  if (error === undefined || error === null) return null
  const text = error instanceof Error ? error.message : String(error)
  return (
    <div class="note note-bad" role="alert">
      <Icon name="error" size={18} />
      <div>
        {title !== undefined && <strong>{title} </strong>}
        <span class="pre">{text}</span>
      </div>
      {retry !== undefined && (
        <Button small onClick={retry} icon="refresh">
          Try again
        </Button>
      )}
    </div>
  )
}

/** Note is something that the reader should know. */
export function Note({ tone = 'info', children }: { tone?: 'info' | 'warn' | 'bad' | 'good'; children: ComponentChildren }) {
  return (
    <div class={'note note-' + tone}>
      <Icon name={tone === 'info' ? 'info' : tone === 'good' ? 'check' : 'warning'} size={18} />
      <div>{children}</div>
    </div>
  )
}

/** Skeleton keeps the room of what is still loading. */
export function Skeleton({ lines = 3, block = false }: { lines?: number; block?: boolean }) {
  if (block) return <div class="skeleton skeleton-block" aria-hidden="true" />
  return (
    <div class="skeletons" aria-hidden="true">
      {Array.from({ length: lines }, (_, i) => (
        <div key={i} class={'skeleton skeleton-line w' + ((i * 37) % 5)} />
      ))}
    </div>
  )
}

/** Panel is a part of a page with a title. */
export function Panel(p: { title?: ComponentChildren; actions?: ComponentChildren; children?: ComponentChildren; class?: string; flush?: boolean; id?: string }) {
  return (
    <section class={cx('panel', p.flush && 'panel-flush', p.class)} id={p.id}>
      {(p.title !== undefined || p.actions !== undefined) && (
        <header class="panel-head">
          <h2>{p.title}</h2>
          {p.actions !== undefined && <div class="panel-actions">{p.actions}</div>}
        </header>
      )}
      <div class="panel-body">{p.children}</div>
    </section>
  )
}

/** Facts is a list of names and values. What is undefined is left out. */
export function Facts({ items }: { items: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {items
        .filter(([, v]) => v !== undefined && v !== null && v !== '')
        .map(([k, v]) => (
          <div key={k}>
            <dt>{k}</dt>
            <dd>{v}</dd>
          </div>
        ))}
    </dl>
  )
}

/** Stat is a number with its name, large. */
export function Stat({ label, value, sub, href, tone }: { label: string; value: ComponentChildren; sub?: ComponentChildren; href?: string; tone?: Tone }) {
  const inner = (
    <>
      <span class="stat-label">{label}</span>
      <span class={cx('stat-value', tone !== undefined && 'tone-' + tone)}>{value}</span>
      {sub !== undefined && <span class="stat-sub">{sub}</span>}
    </>
  )
  return href === undefined ? (
    <div class="stat">{inner}</div>
  ) : (
    <a class="stat stat-link" href={href}>
      {inner}
    </a>
  )
}
