import assert from 'node:assert/strict'
import test from 'node:test'
import { backoff, SseParser } from '../src/api/sse'

const text = 'retry: 2000\n\n: comment\nid: m:1\nevent: A\ndata: {"x":\ndata: 1}\n\nid: m:2\r\ndata:no space\r\n\r\ndata: ö\n\n'

test('events whole and in pieces of every size', () => {
  const want = new SseParser().push(text)
  assert.deepEqual(want, [
    { id: 'm:1', event: 'A', data: '{"x":\n1}' },
    { id: 'm:2', event: 'message', data: 'no space' },
    { id: 'm:2', event: 'message', data: 'ö' },
  ])
  for (let size = 1; size < text.length; size++) {
    const p = new SseParser()
    const got = []
    for (let at = 0; at < text.length; at += size) got.push(...p.push(text.slice(at, at + size)))
    assert.deepEqual(got, want, 'in pieces of ' + size)
  }
})

test('an event is told only when it is complete', () => {
  const p = new SseParser()
  assert.deepEqual(p.push('data: a\n'), [])
  assert.equal(p.push('\n').length, 1)
})

test('the pause grows and is bounded', () => {
  assert.equal(backoff(0, () => 1), 500)
  assert.equal(backoff(3, () => 0), 2000)
  assert.equal(backoff(1000, () => 1), 15_000)
})
