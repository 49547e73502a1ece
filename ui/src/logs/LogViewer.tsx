/**
 * The log viewer: a file of any size, of which it loads what is looked at. It follows the end,
 * pages back, searches what is loaded and then the rest, shows colours and, for files that are
 * no text, bytes.
 */
import { useComputed, useSignal, useSignalEffect } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useEffect, useMemo, useRef } from 'preact/hooks'
import '../style/pages/log.css'
import { watch } from '../api/live'
import { bytes, count } from '../format'
import { LogController } from './controller'
import { LogLines } from './LogLines'
import { findAll, matcher, scan, type Matcher } from './search'
import { baseName, downloadHref, readRange, readTail, sizePath, type FileRef } from './source'

export interface LogViewerProps {
  file: FileRef
  /** Where to begin; otherwise at the end. */
  offset?: number | undefined
  /** Remembers a place in the link. */
  onPlace?: ((offset: number | undefined) => void) | undefined
  /** What to show when there is no such file. */
  missing?: ComponentChildren
  /** Before the search: what else can be shown here. */
  tools?: ComponentChildren
}

const wrapKey = 'clusterd.log.wrap'

export function LogViewer({ file, offset, onPlace, missing, tools }: LogViewerProps) {
  const log = useMemo(
    () =>
      new LogController({
        range: (from, to, s) => readRange(file, from, to, s),
        tail: (n, s) => readTail(file, n, s),
      }),
    [file.agent, file.path],
  )
  useEffect(() => {
    if (offset === undefined) void log.toEnd()
    else void log.toOffset(offset)
    return () => log.close()
  }, [log])
  const away = useSignal<string | undefined>(undefined)
  // The server says when the file has grown; nothing is asked for otherwise.
  useEffect(() => {
    const w = watch<{ offset: number }>(sizePath(file), 500)
    const stop = w.value.subscribe((v) => {
      away.value = v.error?.message
      if (v.error === undefined && v.data !== undefined) void log.grown(v.data.offset)
    })
    return () => {
      stop()
      w.stop()
    }
  }, [log])

  const wrap = useSignal(remembered())
  const setWrap = (on: boolean): void => {
    wrap.value = on
    try {
      localStorage.setItem(wrapKey, on ? '1' : '0')
    } catch {
      // Private windows forget: so be it.
    }
  }
  const search = useSearch(log, file)
  const input = useRef<HTMLInputElement>(null)
  const keys = (e: KeyboardEvent): void => {
    if (e.ctrlKey || e.metaKey || e.altKey || (e.target as HTMLElement).tagName === 'INPUT') return
    const act: Record<string, () => void> = {
      Home: () => void log.toStart(),
      End: () => void log.toEnd(),
      G: () => void log.toEnd(),
      n: () => search.step(1),
      N: () => search.step(-1),
      w: () => setWrap(!wrap.peek()),
      f: () => (log.following.peek() ? (log.following.value = false) : void log.toEnd()),
    }
    const what = act[e.key]
    if (what === undefined) return
    e.preventDefault()
    e.stopPropagation()
    what()
  }
  const name = baseName(file.path)
  const error = log.error.value
  if (error?.status === 404 && missing !== undefined && !log.opened.value) return <>{missing}</>
  return (
    <div class="log" onKeyDown={keys}>
      <div class="log-bar" role="toolbar" aria-label="Log">
        {tools}
        <SearchBox search={search} input={input} />
        <span class="log-gap" />
        <button type="button" class="log-button" onClick={() => void log.toStart()} title="To the start (Home)">
          Start
        </button>
        <button type="button" class="log-button" onClick={() => void log.toEnd()} title="To the end (End)">
          End
        </button>
        <button type="button" class="log-button" aria-pressed={log.following.value} onClick={() => (log.following.peek() ? (log.following.value = false) : void log.toEnd())} title="Show what is added (f)">
          <span class={'log-dot' + (log.following.value ? ' log-dot-on' : '')} aria-hidden="true" />
          Follow
        </button>
        <button type="button" class="log-button" aria-pressed={wrap.value} onClick={() => setWrap(!wrap.value)} title="Wrap long lines (w)">
          Wrap
        </button>
        {(log.binary.value || log.format.value === 'hex') && (
          <button type="button" class="log-button" aria-pressed={log.format.value === 'hex'} onClick={() => void log.as(log.format.value === 'hex' ? 'text' : 'hex')}>
            Bytes
          </button>
        )}
        <a class="log-button" href={downloadHref(file)} download={name}>
          Download
        </a>
      </div>
      {log.notice.value !== '' && (
        <p class="log-note" role="status">
          {log.notice.value}{' '}
          <button type="button" class="log-link" onClick={() => (log.notice.value = '')}>
            Dismiss
          </button>
        </p>
      )}
      {error !== undefined && (
        <p class="log-note log-error" role="alert">
          {error.status === 404 ? `${name} is not there: it was removed, or never written.` : error.message}{' '}
          <button type="button" class="log-link" onClick={() => void log.toEnd()}>
            Try again
          </button>
        </p>
      )}
      <LogLines log={log} wrap={wrap.value} matches={search.matches.value} current={search.current.value} label={`Contents of ${name}`} onPick={(at) => onPlace?.(at)} />
      {log.opened.value && log.size.value === 0 && error === undefined && <p class="log-empty">{name} is empty. What is written to it appears here.</p>}
      <Foot log={log} away={error === undefined ? away.value : undefined} />
    </div>
  )
}

function remembered(): boolean {
  try {
    return localStorage.getItem(wrapKey) !== '0'
  } catch {
    return true
  }
}

/** Foot says where in the file one is. */
function Foot({ log, away }: { log: LogController; away: string | undefined }) {
  void log.version.value
  const { start, end } = log.win
  const size = log.size.value
  const more = size - end
  return (
    <div class="log-foot">
      <span>
        {bytes(size)}
        {size > 0 && (start > 0 || more > 0) && (
          <>
            {' '}
            · showing {bytes(end - start)} from {bytes(start)} on
          </>
        )}
        {log.format.value === 'text' && log.opened.value && <> · {count(log.win.lines.length)} lines loaded</>}
      </span>
      <span role="status">{away !== undefined && log.opened.value ? 'Not followed: ' + away : log.loading.value !== '' ? 'Loading…' : more > 0 && !log.following.value ? `${bytes(more)} more below` : log.following.value ? 'Following' : ''}</span>
    </div>
  )
}

type Search = ReturnType<typeof useSearch>

/** useSearch finds in what is loaded at once, and further by reading the file. */
function useSearch(log: LogController, file: FileRef) {
  const query = useSignal('')
  const current = useSignal(-1)
  const scanning = useSignal<{ done: number; total: number } | undefined>(undefined)
  const said = useSignal('')
  const abort = useRef<AbortController | undefined>(undefined)
  const find = useComputed<Matcher | undefined | Error>(() => {
    try {
      return matcher(query.value)
    } catch (err) {
      return err instanceof Error ? err : new Error(String(err))
    }
  })
  const matches = useComputed(() => {
    void log.version.value
    const f = find.value
    return typeof f === 'function' ? findAll(log.win.lines, f) : []
  })
  // What is looked at stays the same line when lines come and go.
  const at = useRef(-1)
  useSignalEffect(() => {
    const list = matches.value
    if (list.length === 0) current.value = -1
    else if (at.current >= 0) {
      const i = list.findIndex((m) => (log.win.lines[m.line]?.at ?? -1) >= at.current)
      current.value = i >= 0 ? i : list.length - 1
    } else if (current.peek() >= list.length) current.value = list.length - 1
  })
  useEffect(() => () => abort.current?.abort(), [])

  const show = (i: number): void => {
    current.value = i
    at.current = log.win.lines[matches.peek()[i]?.line ?? -1]?.at ?? -1
    log.following.value = false
  }
  const further = async (backward: boolean): Promise<void> => {
    const f = find.peek()
    if (typeof f !== 'function' || scanning.peek() !== undefined) return
    const from = backward ? log.win.start : log.win.end
    if (backward ? from === 0 : log.atEnd) {
      said.value = matches.peek().length === 0 ? 'Not found' : backward ? 'That was the first' : 'That was the last'
      return
    }
    const mine = (abort.current = new AbortController())
    scanning.value = { done: 0, total: 1 }
    try {
      const found = await scan(async (a, b, s) => (await readRange(file, a, b, s)).bytes, f, {
        from,
        size: log.size.peek(),
        backward,
        signal: mine.signal,
        progress: (done, total) => (scanning.value = { done, total }),
      })
      if (found === undefined) said.value = backward ? 'Not found before' : 'Not found after'
      else {
        at.current = found
        await log.toOffset(found)
        at.current = found
        const i = matches.peek().findIndex((m) => (log.win.lines[m.line]?.at ?? -1) >= found)
        if (i >= 0) show(i)
      }
    } catch (err) {
      said.value = mine.signal.aborted ? 'Search ended' : err instanceof Error ? err.message : String(err)
    } finally {
      scanning.value = undefined
    }
  }
  const step = (by: 1 | -1): void => {
    said.value = ''
    const n = matches.peek().length
    if (typeof find.peek() !== 'function') return
    if (n === 0) {
      // Backward, but from the start of the file.
      void further(by < 0 ? log.win.start > 0 : log.atEnd)
      return
    }
    let next: number
    if (current.peek() < 0) next = log.following.peek() ? n - 1 : 0
    else next = current.peek() + by
    if (next < 0 || next >= n) void further(next < 0)
    else show(next)
  }
  const type = (text: string): void => {
    query.value = text
    current.value = -1
    at.current = -1
    said.value = ''
    abort.current?.abort()
  }
  return { query, find, matches, current, scanning, said, step, type, cancel: () => abort.current?.abort() }
}

function SearchBox({ search, input }: { search: Search; input: { current: HTMLInputElement | null } }) {
  const { query, find, matches, current, scanning, said } = search
  const bad = find.value instanceof Error ? find.value.message : undefined
  const n = matches.value.length
  const s = scanning.value
  return (
    <div class="log-search" role="search">
      <input
        ref={input}
        type="search"
        value={query.value}
        placeholder="Search, or /expression/"
        aria-label="Search in the file"
        spellcheck={false}
        autocomplete="off"
        aria-invalid={bad !== undefined}
        onInput={(e) => search.type(e.currentTarget.value)}
        onKeyDown={(e) => {
          if (e.key === 'Enter') {
            e.preventDefault()
            search.step(e.shiftKey ? 1 : -1)
          } else if (e.key === 'Escape' && s !== undefined) {
            e.stopPropagation()
            search.cancel()
          }
        }}
      />
      <button type="button" class="log-button" aria-label="Previous match" title="Previous match (Enter, N)" disabled={query.value === ''} onClick={() => search.step(-1)}>
        ↑
      </button>
      <button type="button" class="log-button" aria-label="Next match" title="Next match (Shift+Enter, n)" disabled={query.value === ''} onClick={() => search.step(1)}>
        ↓
      </button>
      <span class="log-found" role="status">
        {bad !== undefined ? (
          'Not an expression'
        ) : s !== undefined ? (
          <>
            <progress max={s.total} value={s.done} aria-label="Searching the file" /> {bytes(s.done)} of {bytes(s.total)}{' '}
            <button type="button" class="log-link" onClick={search.cancel}>
              Cancel
            </button>
          </>
        ) : query.value === '' ? (
          ''
        ) : (
          [n > 0 ? (current.value >= 0 ? `${count(current.value + 1)} of ${count(n)}` : count(n) + ' here') : 'None here', said.value].filter((x) => x !== '').join(' · ')
        )}
      </span>
    </div>
  )
}
