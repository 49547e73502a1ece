/**
 * What goes over the WebSocket of a terminal: binary frames whose first byte says which stream
 * the rest belongs to, and text frames with JSON for all else.
 */

export const STDIN = 0
export const STDOUT = 1
export const STDERR = 2

/** Control is what the agent says besides output. */
export interface Control {
  exit?: { status?: number; signal?: number; message?: string }
  error?: string | { message?: string }
}

/** input is a frame with what was typed. */
export function input(text: string): Uint8Array<ArrayBuffer> {
  return inputBytes(new TextEncoder().encode(text))
}

/** inputBytes is a frame with what was typed, as bytes. */
export function inputBytes(data: Uint8Array): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(data.length + 1)
  frame[0] = STDIN
  frame.set(data, 1)
  return frame
}

/** resize is a frame that tells how large the window is. */
export function resize(rows: number, columns: number): string {
  return JSON.stringify({ resize: { rows, columns } })
}

/** output takes a binary frame apart; undefined: it is none of ours. */
export function output(frame: ArrayBuffer): { stream: number; data: Uint8Array } | undefined {
  const all = new Uint8Array(frame)
  const stream = all[0]
  if (stream !== STDOUT && stream !== STDERR) return undefined
  return { stream, data: all.subarray(1) }
}

/** control reads a text frame; what is not understood says nothing. */
export function control(text: string): Control {
  try {
    const v: unknown = JSON.parse(text)
    return typeof v === 'object' && v !== null ? (v as Control) : {}
  } catch {
    return {}
  }
}

/** ended says how a command ended, in words. */
export function ended(exit: NonNullable<Control['exit']>): string {
  const why = exit.message === undefined || exit.message === '' ? '' : ' ' + exit.message
  if (exit.signal !== undefined && exit.signal !== 0) return `It was ended by signal ${exit.signal}.${why}`
  if (exit.status === undefined) return 'It has ended; how is not known.' + why
  return (exit.status === 0 ? 'It has ended well (status 0).' : `It has ended with status ${exit.status}.`) + why
}

/** Target is what is to run in a container; argv[0] is the program. */
export interface Target {
  container: string
  argv: string[]
  user: string
  /** Joins the terminal that the task has, rather than starting something. */
  attach: boolean
  /** Only looks on. */
  silent?: boolean
}

/** terminalQuery is the query of the agent's endpoint `terminal`. */
export function terminalQuery(t: Target, rows: number, columns: number): string {
  const q = new URLSearchParams({ container_id: t.container, rows: String(rows), cols: String(columns) })
  if (!t.attach) {
    q.set('tty', '1')
    q.set('term', 'xterm-256color')
    q.set('cmd', t.argv[0] ?? 'sh')
    for (const a of t.argv.slice(1)) q.append('arg', a)
    if (t.user !== '') q.set('user', t.user)
  } else if (t.silent === true) q.set('input', '0')
  return q.toString()
}

/** words splits a command line as a shell would, without doing what a shell does: quotes and backslashes only. */
export function words(line: string): string[] {
  const out: string[] = []
  let word: string | undefined
  let quote = ''
  for (let i = 0; i < line.length; i++) {
    const c = line[i] ?? ''
    if (c === '\\' && quote !== "'" && i + 1 < line.length) {
      const next = line[i + 1] ?? ''
      // Within double quotes a backslash is one, but before what it can protect.
      word = (word ?? '') + (quote === '"' && next !== '"' && next !== '\\' ? c + next : next)
      i++
    } else if (quote !== '') {
      if (c === quote) quote = ''
      else word = (word ?? '') + c
    } else if (c === '"' || c === "'") {
      quote = c
      word ??= ''
    } else if (c === ' ' || c === '\t') {
      if (word !== undefined) out.push(word)
      word = undefined
    } else word = (word ?? '') + c
  }
  if (quote !== '') throw new Error(`A quote (${quote}) is not closed.`)
  if (word !== undefined) out.push(word)
  return out
}
