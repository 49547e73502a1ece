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
  const n = rows.length
  const texts: (string | undefined)[] = []
  const numbers = new Float64Array(n) // NaN: missing
  let texted = 0
  let missing = 0
  for (let i = 0; i < n; i++) {
    const v = value(rows[i] as T)
    if (typeof v === 'string') {
      if (v !== '') texts[i] = v
      else missing++
      texted++
      numbers[i] = NaN
    } else {
      numbers[i] = v === undefined || v === null ? NaN : Number(v)
      if (Number.isNaN(numbers[i])) missing++
    }
  }
  // Places are sorted, not objects: a hundred thousand of those are too much to make each second.
  const places = new Uint32Array(n)
  let front = 0
  let back = n - missing
  for (let i = 0; i < n; i++) {
    const has = texted > 0 ? texts[i] !== undefined || !Number.isNaN(numbers[i]) : !Number.isNaN(numbers[i])
    places[has ? front++ : back++] = i
  }
  const known = places.subarray(0, front)
  const sign = down ? -1 : 1
  if (texted > 0) {
    // The collator takes a microsecond a time, which is too much for very many rows.
    const compare = n <= 5000 ? natural.compare : (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
    const text = (i: number) => texts[i] ?? String(numbers[i])
    known.sort((a, b) => sign * compare(text(a), text(b)) || a - b)
  } else sortNumbers(known, numbers, down)
  return Array.from(places, (i) => rows[i] as T)
}

/**
 * sortNumbers sorts places by their numbers, equal ones as they stand. The numbers alone are sorted first,
 * which the engine does without calling back; each place then finds where its number begins.
 */
function sortNumbers(places: Uint32Array, numbers: Float64Array, down: boolean): void {
  const n = places.length
  const ordered = Float64Array.from(places, (i) => numbers[i] as number).sort()
  const begins = new Uint32Array(n)
  const many = new Uint32Array(n)
  for (let i = 0; i < n; i++) {
    const v = numbers[places[i] as number] as number
    let low = 0
    let high = n
    while (low < high) {
      const mid = (low + high) >>> 1
      if ((ordered[mid] as number) < v) low = mid + 1
      else high = mid
    }
    begins[i] = low
    many[low] = (many[low] as number) + 1
  }
  const out = new Uint32Array(n)
  const taken = new Uint32Array(n)
  for (let i = 0; i < n; i++) {
    const at = begins[i] as number
    const first = down ? n - at - (many[at] as number) : at
    out[first + (taken[at] as number)] = places[i] as number
    taken[at] = (taken[at] as number) + 1
  }
  places.set(out)
}

/** Window is which rows are drawn. */
export function windowOf(top: number, height: number, row: number, count: number, over = 8): { from: number; to: number } {
  const from = Math.max(0, Math.floor(top / row) - over)
  return { from: Math.min(from, Math.max(0, count - 1)), to: Math.min(count, Math.ceil((top + height) / row) + over) }
}

/**
 * Slots are the elements that rows are drawn in. A row keeps its slot for as long as it is in sight; one
 * that comes takes the slot of one that went, so that scrolling makes and removes no elements.
 */
export class Slots {
  private of = new Map<string, number>()
  private order: number[] = []
  private next = 0

  /** assign gives each key a slot of its own. Slots that are held are given to nobody else: they go with their row. */
  assign(keys: readonly string[], held: (slot: number) => boolean = () => false): number[] {
    const now = new Map<string, number>()
    const out = new Array<number>(keys.length)
    const waiting: number[] = []
    for (const [k, key] of keys.entries()) {
      const slot = this.of.get(key)
      // Keys should differ; a second row of the same key gets a slot too, for two elements cannot share one.
      if (slot === undefined || now.has(key)) waiting.push(k)
      else {
        now.set(key, slot)
        out[k] = slot
      }
    }
    const free: number[] = []
    for (const [key, slot] of this.of) if (!now.has(key) && !held(slot)) free.push(slot)
    for (const k of waiting) {
      const slot = free.shift() ?? this.next++
      out[k] = slot
      const key = keys[k] as string
      if (!now.has(key)) now.set(key, slot)
    }
    this.of = now
    return out
  }
  /**
   * sequence is how elements follow each other in the document. In order it is that of the rows, which
   * readers of the screen and the Tab key go by; otherwise they stay where they are, for an element
   * that moves in the document is laid out from scratch, which takes longer than all else.
   */
  sequence(slots: readonly number[], inOrder: boolean): readonly number[] {
    if (inOrder) this.order = [...slots]
    else {
      const here = new Set(slots)
      this.order = this.order.filter((s) => here.delete(s)).concat([...here])
    }
    return this.order
  }
}

/** For so long (in milliseconds) a reader is taken back: who is left elsewhere for longer reads there. */
const takenBack = 60_000

/**
 * ReadingPlace is how far a reader has scrolled. What is scrolled gets shorter when rows go, and the
 * browser moves the reader up then; when they come back, as with a new leader, the reader is taken back
 * too, unless they have gone elsewhere meanwhile. Times are in milliseconds.
 */
export class ReadingPlace {
  private place = 0
  private most = 0
  private movedAt: number | undefined

  /** scrolled is told of every step: where it led, and how far one could go. */
  scrolled(top: number, most: number, now: number): void {
    // At the end of what has become shorter: that was the browser.
    if (most < this.most && most < this.place && top >= most - 1) {
      this.movedAt ??= now
      return
    }
    this.place = top
    this.most = most
    this.movedAt = undefined
  }

  /** changed is told when rows have come or gone; it returns where to scroll to, if anywhere. */
  changed(top: number, most: number, now: number): number | undefined {
    if (this.movedAt !== undefined && now - this.movedAt > takenBack) {
      this.place = top
      this.most = most
      this.movedAt = undefined
    }
    return top >= this.place || most < this.place ? undefined : this.place
  }
}
