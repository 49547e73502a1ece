/** What a table shows: filtering and sorting without anything of the page. Tested in test/table.test.ts. */

export interface ColumnModel<T> {
  key: string
  /** What the column sorts and filters by. */
  value?: (row: T) => string | number | boolean | undefined | null
}

/** Term is a part of a filter: a word, or a word in one column (state:running), perhaps negated (-state:running). */
export interface Term {
  key: string | undefined
  word: string
  not: boolean
}

/** parseFilter splits a filter into its terms; all must hold. "two words" stay together in quotes. */
export function parseFilter(text: string, keys: readonly string[]): Term[] {
  const terms: Term[] = []
  for (const m of text.toLowerCase().matchAll(/(-?)(?:([a-z_]+):)?(?:"([^"]*)"?|(\S+))/g)) {
    const [whole, minus, key, quoted, bare] = m
    const word = quoted ?? bare ?? ''
    if (word === '') continue
    if (key !== undefined && !keys.includes(key)) terms.push({ key: undefined, word: whole.replace(/^-/, '').replaceAll('"', ''), not: minus === '-' })
    else terms.push({ key, word, not: minus === '-' && (key !== undefined || word.length > 0) })
  }
  return terms
}

/** Rows cut by a filter. Texts of rows are kept, for rows are never changed but replaced. */
export class Filter<T extends object> {
  private readonly texts = new WeakMap<T, string>()

  constructor(private readonly columns: readonly ColumnModel<T>[]) {}

  apply(rows: readonly T[], text: string): readonly T[] {
    const terms = parseFilter(
      text,
      this.columns.map((c) => c.key),
    )
    if (terms.length === 0) return rows
    const byKey = new Map(this.columns.map((c) => [c.key, c]))
    return rows.filter((row) =>
      terms.every((t) => {
        const column = t.key === undefined ? undefined : byKey.get(t.key)
        const hay = column === undefined ? this.text(row) : String(column.value?.(row) ?? '').toLowerCase()
        return hay.includes(t.word) !== t.not
      }),
    )
  }

  private text(row: T): string {
    let s = this.texts.get(row)
    if (s === undefined) {
      s = this.columns
        .map((c) => c.value?.(row) ?? '')
        .join('\n')
        .toLowerCase()
      this.texts.set(row, s)
    }
    return s
  }
}

const natural = new Intl.Collator('en', { numeric: true })

/** sortRows sorts by a column: numbers by size, texts as people do (S9 before S10); what is missing comes last. */
export function sortRows<T>(rows: readonly T[], value: (row: T) => string | number | boolean | undefined | null, down: boolean): readonly T[] {
  const sign = down ? -1 : 1
  const keyed = rows.map((row, i) => ({ row, i, v: value(row) }))
  // The collator takes a microsecond a time, which is too much for very many rows.
  const texts = rows.length <= 5000 ? natural.compare : (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
  keyed.sort((a, b) => {
    const missing = Number(a.v === undefined || a.v === null || a.v === '') - Number(b.v === undefined || b.v === null || b.v === '')
    if (missing !== 0) return missing
    if (typeof a.v === 'string' && typeof b.v === 'string') return sign * texts(a.v, b.v) || a.i - b.i
    const d = Number(a.v ?? 0) - Number(b.v ?? 0)
    return sign * d || a.i - b.i
  })
  return keyed.map((k) => k.row)
}

/** Window is which rows are drawn. */
export function windowOf(top: number, height: number, row: number, count: number, over = 8): { from: number; to: number } {
  const from = Math.max(0, Math.floor(top / row) - over)
  return { from: Math.min(from, Math.max(0, count - 1)), to: Math.min(count, Math.ceil((top + height) / row) + over) }
}
