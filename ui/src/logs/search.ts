// Searching: within what is loaded, and further through the file page by page.

import { splitLines, type Line } from './window'

/** Matcher finds in a text, from an index on: [from, to), or undefined. */
export type Matcher = (text: string, from: number) => [number, number] | undefined

/** Match is a place in a line. */
export interface Match {
  line: number
  from: number
  to: number
}

/** MAX_MATCHES is how many are counted and marked in what is loaded. */
export const MAX_MATCHES = 10_000

/** matcher makes one of what a reader typed: `/expression/` is a regular expression, all else
 * is looked for as it is; capitals count if there are any. */
export function matcher(query: string): Matcher | undefined {
  if (query === '') return undefined
  const expression = /^\/(.+)\/(i?)$/.exec(query)
  if (expression) {
    const re = new RegExp(expression[1]!, 'gm' + expression[2]!); // throws if it is none: shown
    return (text, from) => {
      re.lastIndex = from
      const m = re.exec(text)
      return m && m[0].length > 0 ? [m.index, m.index + m[0].length] : undefined
    }
  }
  const exact = query !== query.toLowerCase()
  const wanted = exact ? query : query.toLowerCase()
  return (text, from) => {
    const i = (exact ? text : text.toLowerCase()).indexOf(wanted, from)
    return i < 0 ? undefined : [i, i + wanted.length]
  }
}

/** findAll lists the matches in lines, up to MAX_MATCHES. */
export function findAll(lines: readonly Line[], find: Matcher): Match[] {
  const out: Match[] = []
  for (let line = 0; line < lines.length; line++) {
    const { text } = lines[line]!
    for (let from = 0; from < text.length; ) {
      const hit = find(text, from)
      if (!hit) break
      out.push({ line, from: hit[0], to: hit[1] })
      if (out.length >= MAX_MATCHES) return out
      from = hit[1]
    }
  }
  return out
}

/** Reader reads bytes [from, to) of a file. */
export type Reader = (from: number, to: number, signal?: AbortSignal) => Promise<Uint8Array>

export interface ScanOptions {
  /** from is where to begin: forward behind it, backward before it. */
  from: number
  size: number
  backward: boolean
  page?: number
  signal?: AbortSignal
  progress?: (done: number, total: number) => void
}

/** OVERLAP is how much of a page is read again with the next, so that a line on the border is
 * seen whole. It is as long as a line may be. */
const OVERLAP = 8192

const decoder = new TextDecoder('utf-8')

// eslint-disable-next-line no-control-regex -- what lines are changed by when they are shown
const escapes = /[\u0008\r\u001b\u009b]/

/** scan looks through a file page by page and returns the offset of the first line that
 * matches, or undefined. */
export async function scan(read: Reader, find: Matcher, o: ScanOptions): Promise<number | undefined> {
  const page = o.page ?? 2 << 20
  const total = o.backward ? o.from : o.size - o.from
  for (let done = 0; done < total; done += page) {
    o.signal?.throwIfAborted()
    o.progress?.(done, total)
    const near = o.backward ? o.from - done : o.from + done
    const from = o.backward ? Math.max(0, near - page - OVERLAP) : Math.max(o.from, near - OVERLAP)
    const to = o.backward ? near : Math.min(o.size, near + page)
    const bytes = await read(from, to, o.signal)
    // A look at the whole page is many times faster than line by line, but sees escapes.
    const text = decoder.decode(bytes)
    if (!escapes.test(text) && !find(text, 0)) continue
    const lines = splitLines(bytes, from)
    if (o.backward) lines.reverse()
    for (const line of lines) {
      if (find(line.text, 0)) return line.at
    }
  }
  o.progress?.(total, total)
  return undefined
}
