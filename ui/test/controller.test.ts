import { beforeEach, describe, expect, test } from './expect'
import { LogController, PAGE, TAIL, type Reads } from '../src/logs/controller'

/** disk is a file that grows and is cut, as agents' files do. */
let disk: Uint8Array
const reads: Reads = {
  range: (from, to) => Promise.resolve({ at: from, bytes: disk.slice(from, to), size: disk.length }),
  tail: (n) => {
    const at = Math.max(0, disk.length - n)
    return Promise.resolve({ at, bytes: disk.slice(at), size: disk.length })
  },
}

const lines = (from: number, to: number): string => Array.from({ length: to - from }, (_, i) => `line ${from + i}\n`).join('')
const write = (text: string): void => {
  disk = new TextEncoder().encode(text)
}
const last = (log: LogController): string | undefined => log.win.lines.at(-1)?.text
const settle = (): Promise<void> => new Promise((done) => setTimeout(done))

describe('a log', () => {
  beforeEach(() => write(lines(0, 100_000)))

  test('opens at its end without reading it all', async () => {
    const log = new LogController(reads)
    await log.toEnd()
    expect(last(log)).toBe('line 99999')
    expect(log.win.start).toBeGreaterThan(disk.length - TAIL - 1)
    expect(log.size.value).toBe(disk.length)
    expect([log.atEnd, log.following.value, log.binary.value]).toEqual([true, true, false])
  })

  test('pages back to its start', async () => {
    const log = new LogController(reads)
    await log.toEnd()
    log.following.value = false
    for (let i = 0; i < 1000 && log.win.start > 0; i++) await log.older()
    expect(log.win.lines[0]?.text).toBe('line 0')
    expect(log.win.lines.length).toBeLessThanOrEqual(20_000)
  })

  test('is followed as it grows', async () => {
    const log = new LogController(reads)
    await log.toEnd()
    const changes: string[] = []
    log.onChange = (c) => changes.push(c.kind === 'lines' ? '+' + c.appended : c.kind)
    write(lines(0, 100_003))
    await log.grown(disk.length)
    expect(last(log)).toBe('line 100002')
    expect(changes).toEqual(['+3'])
  })

  test('is not read on by who scrolled up', async () => {
    const log = new LogController(reads)
    await log.toEnd()
    log.following.value = false
    write(lines(0, 100_003))
    await log.grown(disk.length)
    expect(last(log)).toBe('line 99999')
    expect(log.atEnd).toBe(false)
    await log.newer()
    expect(last(log)).toBe('line 100002')
  })

  test('that grew by much is shown at its end, not read through', async () => {
    const log = new LogController(reads)
    await log.toEnd()
    write(lines(0, 400_000))
    await log.grown(disk.length)
    expect(last(log)).toBe('line 399999')
    expect(log.win.start).toBeGreaterThan(disk.length - TAIL - 1)
  })

  test('that was cut is shown anew, with a word about it', async () => {
    const log = new LogController(reads)
    await log.toEnd()
    write('new\n')
    await log.grown(disk.length)
    await settle()
    expect(log.win.lines.map((l) => l.text)).toEqual(['new'])
    expect(log.notice.value).toContain('smaller')
  })

  test('that was cut while one reads back is shown from its start', async () => {
    const log = new LogController(reads)
    await log.toOffset(500_000)
    write(lines(0, 10))
    await log.older()
    await settle()
    expect(log.win.lines[0]?.text).toBe('line 0')
  })

  test('opens in its middle', async () => {
    const log = new LogController(reads)
    await log.toOffset(500_000)
    const i = log.win.indexAt(500_000)
    expect(log.win.lines[i]?.at).toBeLessThanOrEqual(500_000)
    expect(log.win.lines[i]?.end).toBeGreaterThan(500_000)
    expect(log.win.end - log.win.start).toBeLessThanOrEqual(PAGE)
    expect(log.following.value).toBe(false)
  })

  test('that is no text is shown as bytes, unless the reader wants text', async () => {
    disk = Uint8Array.from({ length: 5000 }, (_, i) => i % 256)
    const log = new LogController(reads)
    await log.toEnd()
    expect([log.binary.value, log.format.value]).toEqual([true, 'hex'])
    await log.as('text')
    expect(log.format.value).toBe('text')
  })

  test('that cannot be read says why, and can be tried again', async () => {
    let broken = true
    const log = new LogController({ ...reads, tail: (n, s) => (broken ? Promise.reject(new Error('gone')) : reads.tail(n, s)) })
    await log.toEnd()
    expect(log.error.value?.message).toBe('gone')
    expect(log.opened.value).toBe(false)
    broken = false
    await log.toEnd()
    expect(log.error.value).toBeUndefined()
    expect(last(log)).toBe('line 99999')
  })

  test('an answer that comes after another question is not shown', async () => {
    let answer: (() => void) | undefined
    const slow: Reads = { ...reads, tail: (n, s) => new Promise((done) => (answer = () => void reads.tail(n, s).then(done))) }
    const log = new LogController(slow)
    const first = log.toEnd()
    await log.toStart()
    answer?.()
    await first
    expect(log.win.start).toBe(0)
    expect(log.loading.value).toBe('')
  })
})
