/** Dialogs: the browser's own <dialog>, which keeps the focus inside and gives it back. */
import { signal, useSignal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useEffect, useId, useRef } from 'preact/hooks'
import { Button, cx, ErrorNote } from './basic'

type Render = (close: () => void) => ComponentChildren

const open = signal<{ id: number; render: Render }[]>([])
let last = 0

/** openDialog shows what render draws (a Dialog) until close is called. */
export function openDialog(render: Render): () => void {
  const id = ++last
  const close = () => (open.value = open.peek().filter((d) => d.id !== id))
  open.value = [...open.peek(), { id, render }]
  return close
}

/** Dialogs draws what is open; the shell has one. */
export function Dialogs() {
  return (
    <>
      {open.value.map((d) => (
        <Held key={d.id} id={d.id} render={d.render} />
      ))}
    </>
  )
}

function Held({ id, render }: { id: number; render: Render }) {
  return <>{render(() => (open.value = open.peek().filter((d) => d.id !== id)))}</>
}

export interface DialogProps {
  title: ComponentChildren
  children?: ComponentChildren
  /** The buttons, the first the one that does it. */
  footer?: ComponentChildren
  onClose: () => void
  wide?: boolean
  class?: string
  /** No title is shown, label names it. */
  label?: string
  /** Called when the form inside is submitted (Enter). */
  onSubmit?: () => void
}

/** Dialog is a window above the page. Escape and a click beside it close it. */
export function Dialog(p: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null)
  const titleId = useId()
  useEffect(() => {
    const el = ref.current
    const before = document.activeElement
    el?.showModal()
    el?.querySelector<HTMLElement>('[data-autofocus]')?.focus()
    return () => {
      el?.close()
      if (before instanceof HTMLElement && before.isConnected) before.focus()
    }
  }, [])
  return (
    <dialog
      ref={ref}
      class={cx('dialog', p.wide && 'dialog-wide', p.class)}
      aria-labelledby={p.label === undefined ? titleId : undefined}
      aria-label={p.label}
      onCancel={(e) => {
        e.preventDefault()
        p.onClose()
      }}
      onMouseDown={(e) => {
        if (e.target === e.currentTarget) p.onClose()
      }}
    >
      <form
        class="dialog-box"
        method="dialog"
        onSubmit={(e) => {
          e.preventDefault()
          p.onSubmit?.()
        }}
      >
        {p.label === undefined && (
          <header class="dialog-head">
            <h2 id={titleId}>{p.title}</h2>
            <Button kind="ghost" icon="close" label="Close" onClick={p.onClose} />
          </header>
        )}
        <div class="dialog-body">{p.children}</div>
        {p.footer !== undefined && <footer class="dialog-foot">{p.footer}</footer>}
      </form>
    </dialog>
  )
}

export interface ConfirmProps {
  title: string
  /** What will happen, with numbers. A function is drawn with signals of its own. */
  children?: ComponentChildren
  /** What the button says: "Kill 12 tasks". */
  confirm: string
  danger?: boolean
  /** What must be typed first: for what cannot be undone. */
  typed?: string
  /** Does it; an error is shown as the server said it, and the dialog stays. */
  run: () => Promise<void>
  onClose: () => void
  disabled?: boolean
  wide?: boolean
}

/** ConfirmDialog says what will happen and does it. */
export function ConfirmDialog(p: ConfirmProps) {
  const busy = useSignal(false)
  const error = useSignal<unknown>(undefined)
  const word = useSignal('')
  const alive = useRef(true)
  useEffect(() => () => void (alive.current = false), [])
  const ok = (p.typed === undefined || word.value.trim() === p.typed) && p.disabled !== true
  const run = () => {
    if (!ok || busy.value) return
    busy.value = true
    error.value = undefined
    p.run().then(
      () => {
        if (alive.current) p.onClose()
      },
      (err: unknown) => {
        if (!alive.current) return
        busy.value = false
        error.value = err
      },
    )
  }
  return (
    <Dialog
      title={p.title}
      onClose={p.onClose}
      onSubmit={run}
      {...(p.wide === true ? { wide: true } : {})}
      footer={
        <>
          <Button kind="plain" onClick={p.onClose} autofocus={p.danger === true && p.typed === undefined}>
            Cancel
          </Button>
          <Button kind={p.danger === true ? 'danger' : 'primary'} type="submit" disabled={!ok} busy={busy.value}>
            {p.confirm}
          </Button>
        </>
      }
    >
      {p.children}
      {p.typed !== undefined && (
        <label class="field">
          <span class="field-label">
            Type <code>{p.typed}</code> to confirm
          </span>
          <input type="text" value={word.value} autocomplete="off" spellcheck={false} data-autofocus onInput={(e) => (word.value = e.currentTarget.value)} />
        </label>
      )}
      <ErrorNote error={error.value} />
    </Dialog>
  )
}

/** confirmAct opens a ConfirmDialog: confirmAct({title, children, confirm, danger, run}). */
export function confirmAct(p: Omit<ConfirmProps, 'onClose'>): void {
  openDialog((close) => <ConfirmDialog {...p} onClose={close} />)
}
