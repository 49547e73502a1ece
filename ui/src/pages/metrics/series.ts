/** The recent past of metrics, kept by the page while it is open. Pure; tested in test/metrics.test.ts. */

export type Snapshot = Record<string, number>

/** Described is an element of /api/clusterd/v1/metrics. */
export interface Described {
  name: string
  kind: 'gauge' | 'counter' | 'timer'
  promql?: string
  help?: string
  unit?: string
}

/** History keeps the last samples of every metric: one array of times, and per metric one of values. */
export class History {
  readonly times: number[] = []
  private readonly values = new Map<string, (number | undefined)[]>()

  constructor(private readonly most = 300) {}

  add(time: number, s: Snapshot): void {
    if (this.times.length > 0 && time <= (this.times.at(-1) ?? 0)) return
    this.times.push(time)
    for (const [name, v] of Object.entries(s)) {
      let list = this.values.get(name)
      if (list === undefined) {
        list = new Array<number | undefined>(this.times.length - 1).fill(undefined)
        this.values.set(name, list)
      }
      list.push(v)
    }
    for (const [name, list] of this.values) {
      if (list.length < this.times.length) list.push(undefined)
      if (list.length > this.most) list.splice(0, list.length - this.most)
      if (list.at(-1) === undefined && list.every((v) => v === undefined)) this.values.delete(name)
    }
    if (this.times.length > this.most) this.times.splice(0, this.times.length - this.most)
  }

  /** of is a metric's values beside times; undefined where there was none. */
  of(name: string): readonly (number | undefined)[] {
    return this.values.get(name) ?? []
  }

  /** changed says whether a metric has had more than one value. */
  changed(name: string): boolean {
    const list = this.of(name).filter((v) => v !== undefined)
    return list.some((v) => v !== list[0])
  }

  /** rate is how much a counter grew a second over what is kept; undefined if that cannot be said. */
  rate(name: string): number | undefined {
    const list = this.of(name)
    const first = list.findIndex((v) => v !== undefined)
    const last = list.length - 1
    if (first < 0 || first >= last) return undefined
    const grown = (list[last] ?? NaN) - (list[first] ?? NaN)
    const took = (this.times[last] ?? NaN) - (this.times[first] ?? NaN)
    return Number.isFinite(grown / took) && grown >= 0 ? grown / took : undefined
  }
}

/** search finds metrics: every word must be in the name, the help or the query; those of which the name has all come first. */
export function search(names: readonly string[], text: string, describe: (name: string) => Described | undefined): string[] {
  const words = text.toLowerCase().split(/\s+/).filter((w) => w !== '')
  if (words.length === 0) return [...names]
  const byName: string[] = []
  const others: string[] = []
  for (const n of names) {
    const d = describe(n)
    const name = n.toLowerCase()
    const all = (name + ' ' + (d?.help ?? '') + ' ' + (d?.promql ?? '')).toLowerCase()
    if (words.every((w) => name.includes(w))) byName.push(n)
    else if (words.every((w) => all.includes(w))) others.push(n)
  }
  return [...byName, ...others]
}

/** groupOf is the part of a name before the second slash, by which metrics are put together. */
export function groupOf(name: string): string {
  const parts = name.split('/')
  return parts.length > 2 ? parts.slice(0, 2).join('/') : (parts[0] ?? '')
}
