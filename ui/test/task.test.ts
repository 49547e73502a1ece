import { describe, expect, test } from './expect'
import { crumbsOf, placeOf, sorted } from '../src/pages/files/sandbox'
import { checkedHow } from '../src/pages/task/Checks'
import { checkText, reasonName, sourceName, startedAt, steps } from '../src/pages/task/Timeline'
import { control, ended, input, output, resize, terminalQuery, words } from '../src/term/wire'

describe('history', () => {
  test('tells how long each state lasted', () => {
    const got = steps([{ state: 'TASK_STARTING', timestamp: 10 }, { state: 'TASK_RUNNING', timestamp: 12 }], true, 20)
    expect(got.map((s) => s.stayed)).toEqual([2, 8])
    expect(got.map((s) => s.newDay)).toEqual([true, false])
  })
  test('of a task at its end the last one lasts no time', () => {
    expect(steps([{ state: 'TASK_FINISHED', timestamp: 10 }], false, 20)[0]?.stayed).toBeUndefined()
  })
  test('a check does not tell when the state began', () => {
    const running = { state: 'TASK_RUNNING', timestamp: 500, reason: 'REASON_TASK_CHECK_STATUS_UPDATED' } as const
    const got = steps([{ state: 'TASK_STARTING', timestamp: 10 }, running], true, 510)
    expect(got.map((s) => s.stayed)).toEqual([undefined, undefined])
    expect(startedAt([{ state: 'TASK_STARTING', timestamp: 10 }, running])).toBe(10)
    expect(startedAt([{ state: 'TASK_STARTING', timestamp: 10 }, { state: 'TASK_RUNNING', timestamp: 12 }])).toBe(12)
    expect(startedAt([running])).toBeUndefined()
  })
  test('words', () => {
    expect(reasonName('REASON_CONTAINER_LIMITATION_MEMORY')).toBe('container limitation memory')
    expect(sourceName('SOURCE_AGENT')).toBe('from the agent')
    expect(checkText({ state: 'TASK_RUNNING', check_status: { http: { status_code: 503 } } })).toBe('check: HTTP 503')
    expect(checkedHow({ http: { port: 8080, path: '/health' } })).toBe('GET http://…:8080/health')
    expect(checkedHow({ tcp: { port: 6379 } })).toBe('TCP port 6379')
    expect(checkedHow({ command: { command: { value: 'true' } } })).toBe('true')
  })
})

describe('sandbox', () => {
  const path = '/var/lib/c/slaves/S1/frameworks/F-1/executors/web.1/runs/9f-2/sub/dir'
  test('crumbs begin at the sandbox', () => {
    expect(crumbsOf(path).map((c) => c.name)).toEqual(['sandbox', 'sub', 'dir'])
    expect(crumbsOf(path)[1]?.path).toBe(path.replace('/dir', ''))
    expect(crumbsOf('/var/log/x/').map((c) => c.path)).toEqual(['/var', '/var/log', '/var/log/x'])
  })
  test('the path tells whose it is', () => {
    expect(placeOf(path)).toEqual({ framework: 'F-1', executor: 'web.1', container: '9f-2' })
    expect(placeOf('/var/log')).toBeUndefined()
  })
  test('directories first, then names as people count', () => {
    const e = (p: string, mode: string) => ({ path: p, mode, nlink: 1, uid: '', gid: '', size: 0, mtime: 0 })
    expect(sorted([e('/a10', '-rw'), e('/a9', '-rw'), e('/z', 'drwx')]).map((x) => x.path)).toEqual(['/z', '/a9', '/a10'])
  })
})

describe('terminal', () => {
  test('frames', () => {
    expect([...input('é')]).toEqual([0, 0xc3, 0xa9])
    expect(output(Uint8Array.of(2, 65).buffer)).toEqual({ stream: 2, data: Uint8Array.of(65) })
    expect(output(Uint8Array.of(0, 65).buffer)).toBeUndefined()
    expect(output(new ArrayBuffer(0))).toBeUndefined()
    expect(resize(24, 80)).toBe('{"resize":{"rows":24,"columns":80}}')
    expect(control('{"exit":{"status":3}}')).toEqual({ exit: { status: 3 } })
    expect(control('nonsense')).toEqual({})
  })
  test('ends', () => {
    expect(ended({ status: 0 })).toContain('well')
    expect(ended({ status: 3 })).toContain('status 3')
    expect(ended({ status: 137, signal: 9 })).toContain('signal 9')
    expect(ended({})).toContain('not known')
  })
  test('what is asked for', () => {
    const run = new URLSearchParams(terminalQuery({ container: 'a.b', argv: ['ls', '-l', 'x y'], user: 'bob', attach: false }, 24, 80))
    expect([run.get('container_id'), run.get('cmd'), run.getAll('arg'), run.get('tty'), run.get('user'), run.get('rows'), run.get('cols')]).toEqual(['a.b', 'ls', ['-l', 'x y'], '1', 'bob', '24', '80'])
    const attach = new URLSearchParams(terminalQuery({ container: 'a', argv: ['sh'], user: 'bob', attach: true, silent: true }, 1, 2))
    expect([attach.has('cmd'), attach.has('user'), attach.get('input')]).toEqual([false, false, '0'])
  })
  test.each([
    ['plain', 'ls -l  /tmp', ['ls', '-l', '/tmp']],
    ['quotes', `sh -c 'echo "a b"' ""`, ['sh', '-c', 'echo "a b"', '']],
    ['backslashes', String.raw`a\ b "c\"d" "e\f"`, ['a b', 'c"d', String.raw`e\f`]],
    ['joined', `a'b'"c"`, ['abc']],
    ['nothing', '   ', []],
  ])('words: %s', (_, line, want) => expect(words(line)).toEqual(want))
  test('an open quote is said', () => expect(() => words(`a 'b`)).toThrow())
})
