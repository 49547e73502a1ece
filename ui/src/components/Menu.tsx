/** A button that opens a list of things to do. */
import { useSignal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useEffect, useId, useRef } from 'preact/hooks'
import { cx } from './basic'
import { Icon, type IconName } from './Icon'

export interface MenuItem {
  title: string
  icon?: IconName
  danger?: boolean
  disabled?: boolean
  checked?: boolean
  /** Either it goes somewhere or it does something. */
  href?: string
  run?: () => void
}

type Items = readonly (MenuItem | undefined | false)[]

export interface MenuProps {
  label: string
  /** What the button shows; the icon of "more" without. */
  children?: ComponentChildren
  icon?: IconName
  /** A function is called when the menu opens: then it must have at least one item. */
  items: Items | (() => Items)
  align?: 'start' | 'end'
  class?: string
  up?: boolean
}

/** place puts the list beside its button, above everything: nothing that scrolls may cut it off. */
function place(box: HTMLElement | null, up: boolean, start: boolean): void {
  const list = box?.querySelector<HTMLElement>('.menu-list')
  const button = box?.querySelector<HTMLElement>('.menu-button')
  if (!list || !button) return
  list.showPopover?.()
  const b = button.getBoundingClientRect()
  const { offsetWidth: w, offsetHeight: h } = list
  const above = (up && b.top - 4 - h >= 0) || b.bottom + 4 + h > innerHeight
  const x = start ? b.left : b.right - w
  list.style.left = Math.max(8, Math.min(x, innerWidth - w - 8)) + 'px'
  list.style.top = Math.max(8, above ? b.top - 4 - h : b.bottom + 4) + 'px'
}

/** Menu shows nothing when there is nothing to do. */
export function Menu(p: MenuProps) {
  const open = useSignal(false)
  const uid = useId()
  const box = useRef<HTMLDivElement>(null)
  const given = typeof p.items !== 'function' ? p.items : open.value ? p.items() : undefined
  const items = given?.filter((i): i is MenuItem => i !== undefined && i !== false)
  useEffect(() => {
    if (!open.value) return
    place(box.current, p.up === true, p.align === 'start')
    box.current?.querySelector<HTMLElement>('[role^=menuitem]')?.focus({ preventScroll: true })
    const outside = (e: Event) => {
      if (!box.current?.contains(e.target as Node)) open.value = false
    }
    addEventListener('pointerdown', outside)
    addEventListener('hashchange', close)
    addEventListener('scroll', close, true)
    addEventListener('resize', close)
    function close() {
      open.value = false
    }
    return () => {
      removeEventListener('pointerdown', outside)
      removeEventListener('hashchange', close)
      removeEventListener('scroll', close, true)
      removeEventListener('resize', close)
    }
  }, [open.value])
  if (items?.length === 0) return null
  const shut = () => {
    open.value = false
    box.current?.querySelector<HTMLElement>('.menu-button')?.focus()
  }
  const keyed = (e: KeyboardEvent) => {
    if (!open.value) return
    const all = [...(box.current?.querySelectorAll<HTMLElement>('[role^=menuitem]:not([disabled])') ?? [])]
    const i = all.indexOf(document.activeElement as HTMLElement)
    if (e.key === 'Escape') shut()
    else if (e.key === 'ArrowDown') all[(i + 1) % all.length]?.focus()
    else if (e.key === 'ArrowUp') all[(i - 1 + all.length) % all.length]?.focus()
    else if (e.key === 'Home') all[0]?.focus()
    else if (e.key === 'End') all.at(-1)?.focus()
    else if (e.key === 'Tab') {
      open.value = false
      return
    } else return
    e.preventDefault()
    e.stopPropagation()
  }
  return (
    <div class={cx('menu', p.class)} ref={box} onKeyDown={keyed}>
      <button
        type="button"
        class={cx('menu-button', 'button', 'button-plain', p.children === undefined && 'button-icon')}
        aria-haspopup="menu"
        aria-expanded={open.value}
        aria-controls={uid}
        aria-label={p.children === undefined ? p.label : undefined}
        title={p.label}
        onClick={() => (open.value = !open.value)}
      >
        {p.children ?? <Icon name={p.icon ?? 'more'} />}
        {p.children !== undefined && <Icon name="down" size={12} />}
      </button>
      {open.value && (
        <div class="menu-list" id={uid} role="menu" aria-label={p.label} popover="manual">
          {items?.map((i) => {
            const inner = (
              <>
                {i.icon !== undefined ? <Icon name={i.icon} /> : <span class="menu-gap" />}
                <span>{i.title}</span>
                {i.checked === true && <Icon name="check" class="menu-check" />}
              </>
            )
            const role = i.checked === undefined ? 'menuitem' : 'menuitemradio'
            return i.href !== undefined ? (
              <a key={i.title} class="menu-item" role="menuitem" tabIndex={-1} href={i.href}>
                {inner}
              </a>
            ) : (
              <button
                key={i.title}
                type="button"
                class={cx('menu-item', i.danger && 'menu-danger')}
                role={role}
                aria-checked={i.checked}
                tabIndex={-1}
                disabled={i.disabled}
                onClick={() => {
                  shut()
                  i.run?.()
                }}
              >
                {inner}
              </button>
            )
          })}
        </div>
      )}
    </div>
  )
}
