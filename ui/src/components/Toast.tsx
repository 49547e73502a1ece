/** Short messages at the edge of the window: what was done, or what went wrong meanwhile. */
import { signal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { Icon, type IconName } from './Icon'

export interface ToastOptions {
  kind?: 'good' | 'bad' | 'info' | 'warn'
  /** Milliseconds it stays; 0: until it is closed. */
  stay?: number
}

interface Shown {
  id: number
  kind: NonNullable<ToastOptions['kind']>
  text: ComponentChildren
}

const shown = signal<Shown[]>([])
let last = 0

/** toast shows a message. Bad ones stay longer. */
export function toast(text: ComponentChildren, opts: ToastOptions = {}): () => void {
  const id = ++last
  const kind = opts.kind ?? 'good'
  const close = () => (shown.value = shown.peek().filter((t) => t.id !== id))
  shown.value = [...shown.peek().slice(-4), { id, kind, text }]
  const stay = opts.stay ?? (kind === 'bad' ? 12_000 : 6_000)
  if (stay > 0) setTimeout(close, stay)
  return close
}

const icons: Record<Shown['kind'], IconName> = { good: 'check', bad: 'error', info: 'info', warn: 'warning' }

/** Toasts draws them; the shell has one. */
export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {shown.value.map((t) => (
        <div key={t.id} class={'toast toast-' + t.kind}>
          <Icon name={icons[t.kind]} size={18} />
          <div class="toast-text">{t.text}</div>
          <button type="button" class="copy" aria-label="Dismiss" onClick={() => (shown.value = shown.peek().filter((x) => x.id !== t.id))}>
            <Icon name="close" size={14} />
          </button>
        </div>
      ))}
    </div>
  )
}
