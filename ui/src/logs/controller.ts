/**
 * What a reader does with a file, without the screen: open it at its end or somewhere, page back
 * and forth, follow it as it grows, notice that it was cut or replaced.
 */
import { signal } from '@preact/signals'
import { ApiError } from '../api/client'
import type { Piece } from './source'
import { looksBinary, LogWindow, type Change, type Limits } from './window'

/** Reads is how pieces come in. */
export interface Reads {
  range(from: number, to: number, signal: AbortSignal): Promise<Piece>
  tail(length: number, signal: AbortSignal): Promise<Piece>
}

/** PAGE is how much is read at a time when somebody scrolls; a TAIL at first. */
export const PAGE = 128 << 10
export const TAIL = 64 << 10
/** Of a file that grew by more than LEAP since we looked, a follower sees the end only. */
export const LEAP = 1 << 20

export type Changed = { kind: 'reset'; top: number | 'end' } | ({ kind: 'lines' } & Change)

export type Format = 'text' | 'hex'

export class LogController {
  /** version changes with the lines. */
  readonly version = signal(0)
  readonly size = signal(0)
  readonly loading = signal<'' | 'older' | 'newer' | 'jump'>('jump')
  readonly error = signal<ApiError | undefined>(undefined)
  /** notice is what happened to the file that the reader should know. */
  readonly notice = signal('')
  readonly following = signal(true)
  readonly format = signal<Format>('text')
  readonly binary = signal(false)
  /** opened is true once something has been read. */
  readonly opened = signal(false)
  win: LogWindow
  /** onChange is told of each change before version changes. */
  onChange: (c: Changed) => void = () => {}
  private abort = new AbortController()
  private forced = false

  constructor(
    private readonly reads: Reads,
    private readonly limits?: Limits,
  ) {
    this.win = this.fresh()
  }

  private fresh(): LogWindow {
    return new LogWindow(this.format.peek() === 'hex', this.limits)
  }

  close(): void {
    this.abort.abort()
  }

  /** atEnd says whether all up to the end is loaded. */
  get atEnd(): boolean {
    return this.win.end >= this.size.peek()
  }

  /** toEnd shows the end, and follows it. */
  async toEnd(): Promise<void> {
    this.following.value = true
    await this.jump((s) => this.reads.tail(TAIL, s), 'end')
  }

  /** toStart shows the start. */
  async toStart(): Promise<void> {
    this.following.value = false
    await this.jump((s) => this.reads.range(0, PAGE, s), 0)
  }

  /** toOffset shows what is around an offset. */
  async toOffset(offset: number): Promise<void> {
    this.following.value = false
    const from = Math.max(0, offset - PAGE / 2)
    await this.jump((s) => this.reads.range(from, offset + PAGE / 2, s), offset)
  }

  /** as shows the file as text or as bytes. */
  async as(format: Format): Promise<void> {
    this.forced = true
    const at = this.win.start
    const following = this.following.peek()
    this.format.value = format
    if (following) await this.toEnd()
    else await this.toOffset(at)
  }

  private async jump(read: (s: AbortSignal) => Promise<Piece>, top: number | 'end'): Promise<void> {
    this.abort.abort()
    const abort = (this.abort = new AbortController())
    this.loading.value = 'jump'
    try {
      const p = await read(abort.signal)
      if (abort.signal.aborted) return
      this.opened.value = true
      this.binary.value = looksBinary(p.bytes.subarray(0, 8192))
      if (!this.forced && this.binary.value) this.format.value = 'hex'
      this.win = this.fresh()
      this.win.reset(p.at, p.bytes, top)
      this.size.value = Math.max(p.size, this.win.end)
      this.error.value = undefined
      this.onChange({ kind: 'reset', top })
      this.version.value++
    } catch (err) {
      if (!abort.signal.aborted) this.error.value = asError(err)
    } finally {
      if (this.abort === abort) this.loading.value = ''
    }
  }

  /** older loads what comes before. */
  async older(): Promise<void> {
    if (this.loading.peek() !== '' || this.win.start === 0) return
    await this.more('older', async (s) => {
      const to = this.win.start
      const from = Math.max(0, to - PAGE)
      const p = await this.reads.range(from, to, s)
      if (s.aborted || this.win.start !== to) return undefined
      if (p.bytes.length < to - from) {
        this.cut(p.size)
        return undefined
      }
      return this.win.prepend(from, p.bytes)
    })
  }

  /** newer loads what comes after. */
  async newer(): Promise<void> {
    if (this.loading.peek() !== '' || this.atEnd) return
    await this.more('newer', async (s) => {
      const from = this.win.end
      const p = await this.reads.range(from, Math.min(this.size.peek(), from + (this.following.peek() ? LEAP : PAGE)), s)
      if (s.aborted || this.win.end !== from) return undefined
      if (p.size < from) {
        this.cut(p.size)
        return undefined
      }
      this.size.value = p.size
      // Nothing where there should be something: who tells of it would be asked for it again at once.
      return p.bytes.length === 0 ? undefined : this.win.append(p.bytes)
    })
  }

  private async more(what: 'older' | 'newer', load: (s: AbortSignal) => Promise<Change | undefined>): Promise<void> {
    const abort = this.abort
    this.loading.value = what
    let change: Change | undefined
    try {
      change = await load(abort.signal)
      this.error.value = undefined
    } catch (err) {
      if (!abort.signal.aborted) this.error.value = asError(err)
    } finally {
      if (this.abort === abort && this.loading.peek() === what) this.loading.value = ''
    }
    if (change === undefined || abort.signal.aborted) return
    this.onChange({ kind: 'lines', ...change })
    this.version.value++
  }

  /** grown is told how large the file is now. */
  async grown(size: number): Promise<void> {
    if (!this.opened.peek() || this.loading.peek() === 'jump') return
    if (size < this.size.peek()) {
      this.cut(size)
      return
    }
    this.size.value = size
    if (!this.following.peek()) return
    if (size - this.win.end > LEAP) await this.toEnd()
    else await this.newer()
  }

  /** cut: the file is smaller than what we have seen of it. */
  private cut(size: number): void {
    this.notice.value = 'The file became smaller: it was truncated or replaced, and is shown anew.'
    this.size.value = size
    void (this.following.peek() ? this.toEnd() : this.toStart())
  }
}

function asError(err: unknown): ApiError {
  return err instanceof ApiError ? err : new ApiError(0, err instanceof Error ? err.message : String(err), '')
}
