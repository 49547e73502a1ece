import assert from 'node:assert/strict'
import test from 'node:test'
import { href, parse, patterns } from '../src/router'

test('every route leads back to itself', () => {
  for (const [name, pattern] of Object.entries(patterns)) {
    const params: Record<string, string> = {}
    for (const [i, p] of pattern.split('/').entries()) if (p.startsWith(':')) params[p.slice(1)] = `a/ä ?#%${i}`
    const got = parse(href(name as keyof typeof patterns, params, { q: 'x & y', empty: '' }))
    assert.equal(got.name, name)
    assert.deepEqual(got.params, params)
    assert.deepEqual(got.query, { q: 'x & y' })
  }
})

test("Mesos's links", () => {
  const deep = parse('#/agents/S1/frameworks/F1/executors/E1/browse')
  assert.equal(deep.name, 'executorBrowse')
  assert.deepEqual(deep.params, { agent_id: 'S1', framework_id: 'F1', executor_id: 'E1' })
  assert.equal(parse('#/slaves/S1').name, 'agent')
  assert.equal(parse('#/slaves').name, 'agents')
  assert.equal(parse('#/agents/S1/browse?path=%2Ftmp%2Fx').query['path'], '/tmp/x')
})

test('odd links', () => {
  for (const [hash, name] of [
    ['', 'overview'],
    ['#', 'overview'],
    ['#/', 'overview'],
    ['#/tasks/', 'tasks'],
    ['#tasks', 'tasks'],
    ['#/nowhere', 'none'],
    ['#/agents//browse', 'none'],
    ['#/agents/%zz', 'agent'],
  ] as const)
    assert.equal(parse(hash).name, name, hash)
  assert.equal(parse('#/agents/%zz').params['agent_id'], '%zz')
})
