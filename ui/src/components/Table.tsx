/**
 * The table of every page: only the rows in sight are drawn, so that 100,000 scroll smoothly. It
 * filters, sorts (both remembered in the link), and is worked by keyboard: arrows or j and k move,
 * Enter opens, / goes to the filter.
 */
import { useSignal, type ReadonlySignal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useEffect, useId, useLayoutEffect, useMemo, useRef } from 'preact/hooks'
import { count } from '../format'
import { go, setQuery, useRoute } from '../router'
import { roomy, viewport } from '../viewport'
import { cx, Empty } from './basic'
import { Icon } from './Icon'
import { Filter, ReadingPlace, sortRows, type ColumnModel } from './tableModel'
import { rowHeight, TableRows } from './TableRows'

export interface Column<T> extends ColumnModel<T> {
  key: string
  title: ComponentChildren
  /** Names a column without a title for the screen reader. */
  name?: string
  render?: (row: T) => ComponentChildren
  /** What it sorts and filters by; without it the column does neither. */
  value?: (row: T) => string | number | boolean | undefined | null
  /** false: it filters but does not sort. */
  sort?: boolean
  align?: 'start' | 'end' | 'center'
  /**
   * What a cell holds, which is cheaper to draw than the default of several things beside each other:
   * 'text' that is cut off where the column ends (and links), or 'fits', something that never is longer.
   * Without render it is text.
   */
  cell?: 'text' | 'fits'
  /** A track of a grid: '8rem', 'minmax(10rem, 2fr)'. Default 'minmax(6rem, 1fr)'. */
  width?: string
  /** 'narrow': not shown on telephones; 'medium': only on wide screens; 'wide': only on very wide ones. */
  hide?: 'narrow' | 'medium' | 'wide'
}

export interface TableProps<T extends object> {
  /** Distinguishes tables of one page in the link. Empty for the only one. */
  id?: string
  /** What the rows are, for the screen reader: "Agents". */
  label: string
  columns: readonly Column<T>[]
  rows: readonly T[] | ReadonlySignal<readonly T[]>
  rowKey: (row: T) => string
  /** Where Enter or a click on the row leads. */
  href?: ((row: T) => string | undefined) | undefined
  onOpen?: (row: T) => void
  rowClass?: (row: T) => string | undefined
  /** '-cpus': by cpus, largest first. */
  defaultSort?: string
  /** false: no box to filter. */
  filter?: boolean
  /** The filter box's placeholder. */
  placeholder?: string
  /** Beside the filter: chips, buttons. */
  tools?: ComponentChildren
  empty?: ComponentChildren
  /** Still loading: rows that are not there are drawn grey. */
  loading?: boolean
  /** Takes what height the page has left; else it grows up to maxRows. */
  fill?: boolean
  maxRows?: number
}

/** Above so many rows the table is sorted anew at most once a second. */
const manyRows = 20_000

/** Nor is it while the reader scrolls. */
const scrolling = 300

function useRows<T>(rows: readonly T[] | ReadonlySignal<readonly T[]>, scrolled: { current: number }): readonly T[] {
  const list = Array.isArray(rows) ? (rows as readonly T[]) : (rows as ReadonlySignal<readonly T[]>).value
  const shown = useRef(list)
  const at = useRef(0)
  const tick = useSignal(0)
  void tick.value
  const now = performance.now()
  const wait = shown.current === list || list.length < manyRows ? 0 : Math.max(at.current + 1000, scrolled.current + scrolling) - now
  useEffect(() => {
    if (wait <= 0) return
    const timer = setTimeout(() => tick.value++, wait)
    return () => clearTimeout(timer)
  }, [list, wait])
  if (wait <= 0 && shown.current !== list) {
    shown.current = list
    at.current = now
  }
  return shown.current
}

export function Table<T extends object>(p: TableProps<T>) {
  const uid = useId()
  const query = useRoute().query
  const prefix = p.id === undefined || p.id === '' ? '' : p.id + '.'
  const sort = query[prefix + 'sort'] ?? p.defaultSort ?? ''
  const text = query[prefix + 'q'] ?? ''
  const columns = p.columns.filter(
    (c) => !(c.hide === 'narrow' && viewport.value === 'narrow') && !(c.hide === 'medium' && viewport.value !== 'wide') && !(c.hide === 'wide' && !roomy.value),
  )
  const scrolled = useRef(-Infinity)
  const rows = useRows(p.rows, scrolled)
  const columnKeys = p.columns.map((c) => c.key).join()
  const filter = useMemo(() => new Filter<T>(p.columns.filter((c) => c.value !== undefined)), [columnKeys])
  const cut = useMemo(() => filter.apply(rows, text), [filter, rows, text])
  const sorted = useMemo(() => {
    const by = p.columns.find((c) => c.key === sort.replace(/^-/, ''))
    return by?.value === undefined ? cut : sortRows(cut, by.value, sort.startsWith('-'))
  }, [cut, sort, columnKeys])

  const scroller = useRef<HTMLDivElement>(null)
  const top = useSignal(0)
  const height = useSignal(600)
  const active = useSignal<string | undefined>(undefined)
  useLayoutEffect(() => {
    const el = scroller.current
    if (el === null) return
    const look = () => (height.value = el.clientHeight)
    const watch = new ResizeObserver(look)
    watch.observe(el)
    look()
    return () => watch.disconnect()
  }, [])
  const n = sorted.length
  const reading = useRef(new ReadingPlace())
  // A new order or filter starts at the top again.
  useLayoutEffect(() => {
    reading.current = new ReadingPlace()
    if (scroller.current !== null) scroller.current.scrollTop = 0
  }, [sort, text])
  // Rows that are gone for a moment, as with a new leader, do not take the reader away for good.
  useLayoutEffect(() => {
    const el = scroller.current
    const back = el === null ? undefined : reading.current.changed(el.scrollTop, el.scrollHeight - el.clientHeight, performance.now())
    if (el !== null && back !== undefined) el.scrollTop = back
  }, [n])

  const widths = columns.map((c) => c.width ?? 'minmax(6rem, 1fr)')

  const move = (to: number) => {
    const i = Math.max(0, Math.min(n - 1, to))
    const row = sorted[i]
    const el = scroller.current
    if (row === undefined || el === null) return
    active.value = p.rowKey(row)
    const head = el.querySelector<HTMLElement>('.table-head')?.offsetHeight ?? 0
    if (i * rowHeight < el.scrollTop) el.scrollTop = i * rowHeight
    else if ((i + 1) * rowHeight + head > el.scrollTop + el.clientHeight) el.scrollTop = (i + 1) * rowHeight + head - el.clientHeight
    top.value = el.scrollTop
  }
  const keyed = (e: KeyboardEvent) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target !== e.currentTarget) return
    const key = active.peek()
    const at = key === undefined ? -1 : sorted.findIndex((r) => p.rowKey(r) === key)
    const page = Math.max(1, Math.floor(height.value / rowHeight) - 2)
    const steps: Record<string, number> = {
      ArrowDown: at + 1,
      j: at + 1,
      ArrowUp: at < 0 ? n - 1 : at - 1,
      k: at < 0 ? n - 1 : at - 1,
      PageDown: at + page,
      PageUp: at - page,
      Home: 0,
      End: n - 1,
    }
    const to = steps[e.key]
    if (to !== undefined) move(to)
    else if (e.key === 'Enter') open(p, sorted[at])
    else return
    e.preventDefault()
  }
  const clicked = (e: MouseEvent) => {
    const target = e.target as Element
    const row = sorted[Number(target.closest('.tr')?.getAttribute('aria-rowindex')) - 2]
    if (row === undefined) return
    active.value = p.rowKey(row)
    if (!target.closest('a,button,input,time,label,.no-open') && getSelection()?.isCollapsed !== false) open(p, row)
  }
  const toggle = (key: string) => {
    const next = sort === key ? '-' + key : sort === '-' + key ? '' : key
    setQuery({ [prefix + 'sort']: next === p.defaultSort ? '' : next })
  }

  const body = p.loading === true && n === 0 ? Math.min(p.maxRows ?? 8, 8) : n
  return (
    <div class={cx('table', p.fill && 'table-fill')}>
      {(p.filter !== false || p.tools !== undefined) && (
        <div class="table-tools">
          {p.filter !== false && (
            <FilterBox
              value={text}
              label={'Filter ' + p.label}
              placeholder={p.placeholder ?? 'Filter'}
              onChange={(q) => setQuery({ [prefix + 'q']: q })}
              onDown={() => {
                scroller.current?.focus()
                move(0)
              }}
            />
          )}
          {p.tools}
          <span class="table-count" role="status">
            {text !== '' && rows.length !== n ? `${count(n)} of ${count(rows.length)}` : p.loading === true && n === 0 ? '' : count(n)}
          </span>
        </div>
      )}
      <div
        class="table-scroll"
        role="grid"
        aria-label={p.label}
        aria-rowcount={n + 1}
        aria-colcount={columns.length}
        aria-busy={p.loading}
        tabIndex={0}
        data-keys="table"
        ref={scroller}
        style={{ '--table-columns': widths.join(' '), '--table-width': leastWidth(widths), maxHeight: p.fill === true ? undefined : (p.maxRows ?? 14) * rowHeight + 40 + 'px' }}
        onScroll={(e) => {
          const el = e.currentTarget
          scrolled.current = performance.now()
          reading.current.scrolled(el.scrollTop, el.scrollHeight - el.clientHeight, scrolled.current)
          // In steps, so that not every pixel draws.
          top.value = Math.floor(el.scrollTop / (4 * rowHeight)) * 4 * rowHeight
        }}
        onKeyDown={keyed}
      >
        <div class="table-head" role="row" aria-rowindex={1}>
          {columns.map((c) => {
            const sorts = c.value !== undefined && c.sort !== false
            const dir = sort === c.key ? 'ascending' : sort === '-' + c.key ? 'descending' : undefined
            return (
              <div key={c.key} class={cx('th', c.align !== undefined && 'align-' + c.align)} role="columnheader" aria-sort={dir ?? (sorts ? 'none' : undefined)}>
                {sorts ? (
                  <button type="button" class="th-button" onClick={() => toggle(c.key)}>
                    {c.title}
                    <Icon name={dir === 'descending' ? 'down' : 'up'} size={12} class={dir === undefined ? 'faint' : ''} />
                  </button>
                ) : (
                  <>
                    {c.title}
                    {c.name !== undefined && <span class="sr">{c.name}</span>}
                  </>
                )}
              </div>
            )
          })}
        </div>
        <div class="table-body" role="rowgroup" style={{ height: body * rowHeight + 'px' }} onClick={clicked}>
          {p.loading === true && n === 0 && Array.from({ length: body }, (_, i) => <GhostRow key={i} i={i} columns={columns.length} />)}
          <TableRows table={p} rows={sorted} columns={columns} uid={uid} top={top} height={height} active={active} scroller={scroller} />
        </div>
        {n === 0 && p.loading !== true && (
          <div class="table-empty">
            {text !== '' && rows.length > 0 ? (
              <Empty title="Nothing matches the filter" icon="search">
                <button type="button" class="link" onClick={() => setQuery({ [prefix + 'q']: '' })}>
                  Show all {count(rows.length)}
                </button>
              </Empty>
            ) : (
              (p.empty ?? <Empty title={'No ' + p.label.toLowerCase()} />)
            )}
          </div>
        )}
      </div>
    </div>
  )
}

function open<T extends object>(p: TableProps<T>, row: T | undefined): void {
  if (row === undefined) return
  const to = p.href?.(row)
  if (to !== undefined) go(to)
  else p.onOpen?.(row)
}

/** leastWidth is what the columns need at least, as CSS: rows are laid out without looking into them. */
export function leastWidth(widths: readonly string[]): string {
  return 'calc(' + widths.map((w) => /\d*\.?\d+(?:rem|px|em|ch)/.exec(w)?.[0] ?? '4rem').join(' + ') + ')'
}

function GhostRow({ i, columns }: { i: number; columns: number }) {
  return (
    <div class="tr" aria-hidden="true" style={{ transform: `translateY(${i * rowHeight}px)` }}>
      {Array.from({ length: columns }, (_, c) => (
        <div key={c} class="td">
          <div class={'skeleton skeleton-line w' + ((i * 7 + c * 3) % 5)} />
        </div>
      ))}
    </div>
  )
}

/** FilterBox is an input that tells what was typed a moment after; / focuses it, Escape empties it. */
export function FilterBox(p: { value: string; label: string; placeholder?: string; onChange: (text: string) => void; onDown?: () => void }) {
  const typed = useSignal(p.value)
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined)
  const told = useRef(p.value)
  if (p.value !== told.current) {
    told.current = p.value
    typed.value = p.value
  }
  const tell = (text: string) => {
    typed.value = text
    clearTimeout(timer.current)
    timer.current = setTimeout(() => {
      told.current = text
      p.onChange(text)
    }, 120)
  }
  return (
    <div class="filter">
      <Icon name="search" />
      <input
        type="search"
        aria-label={p.label}
        placeholder={p.placeholder}
        value={typed.value}
        data-keys="filter"
        spellcheck={false}
        autocomplete="off"
        onInput={(e) => tell(e.currentTarget.value)}
        onKeyDown={(e) => {
          if (e.key === 'Escape') {
            if (typed.value === '') e.currentTarget.blur()
            tell('')
          } else if (e.key === 'ArrowDown' || e.key === 'Enter') p.onDown?.()
          else return
          e.preventDefault()
        }}
      />
      <kbd aria-hidden="true">/</kbd>
    </div>
  )
}
