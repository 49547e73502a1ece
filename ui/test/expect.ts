/** The few words of expectations that the tests use, on Node's own runner: a test framework of its own would be larger than the UI. */
import assert from 'node:assert/strict'
import nodeTest, { beforeEach as nodeBeforeEach, describe as nodeDescribe } from 'node:test'

type Body = () => void | Promise<void>

interface Each {
  <T extends unknown[] | [unknown]>(rows: readonly T[]): (name: string, body: (...row: T) => void | Promise<void>) => void
  <T>(rows: readonly T[]): (name: string, body: (row: T) => void | Promise<void>) => void
}

/** each runs a test for every row; %s and %j in its name are the row's values. */
const each = ((rows: readonly unknown[]) => (name: string, body: (...row: unknown[]) => void | Promise<void>) => {
  for (const row of rows) {
    const args = Array.isArray(row) ? (row as unknown[]) : [row]
    let i = 0
    nodeTest(
      name.replace(/%[sjdio]/g, () => show(args[i++])),
      () => body(...args),
    )
  }
}) as Each

export const test = Object.assign((name: string, body: Body) => nodeTest(name, body), { each })
export const describe = nodeDescribe
export const beforeEach = nodeBeforeEach

class Expectation {
  constructor(
    private readonly got: unknown,
    private readonly negated = false,
  ) {}

  get not(): Expectation {
    return new Expectation(this.got, !this.negated)
  }

  /** rejects expects a promise that fails. */
  get rejects(): { toThrow: (want?: string | RegExp) => Promise<void> } {
    return { toThrow: async (want) => assert.rejects(async () => this.got as Promise<unknown>, matcher(want)) }
  }

  toBe(want: unknown): void {
    this.check(Object.is(this.got, want), want, 'be')
  }

  /** toEqual compares by content; members that are undefined count as absent. */
  toEqual(want: unknown): void {
    if (this.negated) assert.notDeepEqual(bare(this.got), bare(want))
    else assert.deepEqual(bare(this.got), bare(want))
  }

  toBeUndefined(): void {
    this.check(this.got === undefined, undefined, 'be')
  }

  toBeGreaterThan(want: number): void {
    this.check((this.got as number) > want, want, 'be greater than')
  }

  toBeGreaterThanOrEqual(want: number): void {
    this.check((this.got as number) >= want, want, 'be at least')
  }

  toBeLessThan(want: number): void {
    this.check((this.got as number) < want, want, 'be less than')
  }

  toBeLessThanOrEqual(want: number): void {
    this.check((this.got as number) <= want, want, 'be at most')
  }

  toBeCloseTo(want: number, digits = 2): void {
    this.check(Math.abs((this.got as number) - want) < 10 ** -digits / 2, want, 'be close to')
  }

  toContain(want: unknown): void {
    const has = typeof this.got === 'string' ? this.got.includes(String(want)) : [...(this.got as Iterable<unknown>)].includes(want)
    this.check(has, want, 'contain')
  }

  toHaveLength(want: number): void {
    this.check((this.got as { length: number }).length === want, want, 'have the length')
  }

  toMatch(want: RegExp | string): void {
    this.check(typeof want === 'string' ? String(this.got).includes(want) : want.test(String(this.got)), want, 'match')
  }

  toThrow(want?: string | RegExp): void {
    if (this.negated) (this.got as () => unknown)()
    else assert.throws(this.got as () => unknown, matcher(want))
  }

  private check(ok: boolean, want: unknown, verb: string): void {
    if (ok === this.negated) assert.fail(`got ${show(this.got)}, want it ${this.negated ? 'not ' : ''}to ${verb} ${show(want)}`)
  }
}

export function expect(got: unknown): Expectation {
  return new Expectation(got)
}

function matcher(want: string | RegExp | undefined): (err: unknown) => boolean {
  return (err) => {
    const text = err instanceof Error ? err.message : String(err)
    return want === undefined || (typeof want === 'string' ? text.includes(want) : want.test(text))
  }
}

function bare(v: unknown): unknown {
  if (Array.isArray(v)) return v.map(bare)
  if (v instanceof Map) return new Map([...v].map(([k, x]) => [k, bare(x)]))
  if (v !== null && typeof v === 'object' && [Object.prototype, null].includes(Object.getPrototypeOf(v) as object | null))
    return Object.fromEntries(
      Object.entries(v)
        .filter(([, x]) => x !== undefined)
        .map(([k, x]) => [k, bare(x)]),
    )
  return v
}

function show(v: unknown): string {
  return v instanceof RegExp ? String(v) : (JSON.stringify(v) ?? String(v))
}
