/**
 * The rows of a table that are in sight. Scrolling must cost little, for a frame lasts 16 ms: rows that
 * leave give their elements to rows that come (only texts change then), a row that stays is not looked
 * at, and the table around them is not drawn again.
 */
import { useSignal, type ReadonlySignal, type Signal } from '@preact/signals'
import type { VNode } from 'preact'
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'
import { cx } from './basic'
import type { Column, TableProps } from './Table'
import { Slots, windowOf } from './tableModel'

/** rowHeight is that of table.css. */
export const rowHeight = 38

/** So long (in milliseconds) after the last step of scrolling the rows are put into order. */
const settled = 200

export interface TableRowsProps<T extends object> {
  table: TableProps<T>
  rows: readonly T[]
  columns: readonly Column<T>[]
  /** What ids of rows begin with. */
  uid: string
  top: ReadonlySignal<number>
  height: ReadonlySignal<number>
  /** The key of the row that the keyboard is at. */
  active: Signal<string | undefined>
  scroller: { readonly current: HTMLElement | null }
}

/** Drawn is what was drawn last: what has not changed is not compared again. */
interface Drawn<T extends object> {
  table: TableProps<T> | undefined
  columns: number
  rows: Map<string, { row: T; slot: number; cells: VNode; node: VNode; i: number; on: boolean }>
}

export function TableRows<T extends object>({ table: p, rows, columns, uid, top, height, active, scroller }: TableRowsProps<T>) {
  const slots = useRef(new Slots())
  const drawn = useRef<Drawn<T>>({ table: undefined, columns: 0, rows: new Map() })
  const at = active.value
  const moving = useMoving(top)
  const { from, to } = windowOf(top.value, height.value, rowHeight, rows.length)
  const shown = rows.slice(from, to)
  const keys = shown.map(p.rowKey)
  const focused = focusIn(scroller.current)
  const held = slotOf(focused)
  const own = slots.current.assign(keys, (slot) => slot === held)
  // A page that was drawn anew may mean other things by the same columns; while the reader
  // scrolls it is not.
  const old = drawn.current
  const before = old.table === p && old.columns === columns.length ? old.rows : undefined
  const now: Drawn<T>['rows'] = new Map()
  const clickable = p.href !== undefined || p.onOpen !== undefined
  const nodes = new Map<number, VNode>()
  shown.forEach((row, k) => {
    const i = from + k
    const key = keys[k] as string
    const slot = own[k] as number
    const on = key === at
    const was = before?.get(key)
    const same = was !== undefined && was.row === row && was.slot === slot
    const cells = same ? was.cells : <Cells row={row} columns={columns} />
    const node =
      same && was.i === i && was.on === on ? (
        was.node
      ) : (
        <div
          key={slot}
          id={on ? uid + i : undefined}
          class={cx('tr', on && 'tr-active', clickable && 'tr-link', p.rowClass?.(row))}
          role="row"
          aria-rowindex={i + 2}
          aria-selected={on}
          data-slot={slot}
          style={{ transform: `translateY(${i * rowHeight}px)` }}
        >
          {cells}
        </div>
      )
    now.set(key, { row, slot, cells, node, i, on })
    nodes.set(slot, node)
  })
  drawn.current = { table: p, columns: columns.length, rows: now }

  const activeAt = at === undefined ? -1 : keys.indexOf(at)
  useLayoutEffect(() => {
    const el = scroller.current
    if (el === null) return
    if (activeAt < 0) el.removeAttribute('aria-activedescendant')
    else el.setAttribute('aria-activedescendant', uid + (from + activeAt))
    // What had the focus may have been moved, which takes it away, or have scrolled out of sight: then
    // the table keeps it, so that the keyboard goes on here.
    if (focused !== null && document.activeElement === document.body) (focused.isConnected ? focused : el).focus({ preventScroll: true })
  })

  return <>{slots.current.sequence(own, !moving.value).map((slot) => nodes.get(slot))}</>
}

/** useMoving is true while the reader scrolls. */
function useMoving(top: ReadonlySignal<number>): ReadonlySignal<boolean> {
  const moving = useSignal(false)
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined
    let first = true
    const stop = top.subscribe(() => {
      if (first) {
        first = false
        return
      }
      moving.value = true
      clearTimeout(timer)
      timer = setTimeout(() => (moving.value = false), settled)
    })
    return () => {
      stop()
      clearTimeout(timer)
    }
  }, [top])
  return moving
}

/** focusIn is what has the focus inside of the table. Its row is not given to another: people act on what they see. */
function focusIn(table: HTMLElement | null): HTMLElement | null {
  const focus = document.activeElement
  return table !== null && focus instanceof HTMLElement && focus !== table && table.contains(focus) ? focus : null
}

function slotOf(el: Element | null): number | undefined {
  const slot = el?.closest('.tr')?.getAttribute('data-slot')
  return slot === undefined || slot === null ? undefined : Number(slot)
}

/** Cells are those of one row; they are drawn again when what they show changes. */
function Cells<T extends object>({ row, columns }: { row: T; columns: readonly Column<T>[] }) {
  return (
    <>
      {columns.map((c) => {
        const kind = c.cell ?? (c.render === undefined ? 'text' : undefined)
        return (
          <div key={c.key} class={cx('td', kind !== undefined && 'td-' + kind, c.align !== undefined && 'align-' + c.align)} role="gridcell">
            {c.render !== undefined ? c.render(row) : String(c.value?.(row) ?? '')}
          </div>
        )
      })}
    </>
  )
}
