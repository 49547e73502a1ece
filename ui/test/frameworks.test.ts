import assert from 'node:assert/strict'
import test from 'node:test'
import { byRole, frameworkState, maxShare } from '../src/pages/frameworks/facts'
import type { Framework } from '../src/state/model'

const zero = { cpus: 0, mem: 0, disk: 0, gpus: 0 }

function framework(id: string, roles: string[], more: Partial<Framework> = {}): Framework {
  return {
    id, name: id, user: '', principal: '', hostname: '', webui_url: '', roles, suppressed: [], capabilities: [], active: true, connected: true, completed: false,
    registered: 0, reregistered: 0, unregistered: undefined, allocated: zero, offered: zero, ...more,
  }
}

test('a framework has one state', () => {
  assert.deepEqual([
    frameworkState(framework('a', [])),
    frameworkState(framework('a', [], { active: false })),
    frameworkState(framework('a', [], { active: false, connected: false })),
    frameworkState(framework('a', [], { active: false, connected: false, completed: true })),
  ], ['ACTIVE', 'INACTIVE', 'DISCONNECTED', 'COMPLETED'])
})

test('the max share is of the resource of which it has the largest part', () => {
  assert.equal(maxShare({ cpus: 1, mem: 50, disk: 1, gpus: 0 }, { cpus: 10, mem: 100, disk: 0, gpus: 0 }), 0.5)
})

test('frameworks are grouped below their roles', () => {
  const groups = byRole([framework('a', ['eng/web', 'eng/batch']), framework('b', ['eng-2']), framework('c', ['eng'])])
  assert.deepEqual(groups.map((g) => [g.role, g.depth, g.leaf, g.frameworks.map((f) => f.id).join(), g.below]), [
    ['eng', 0, 'eng', 'c', 2],
    ['eng/batch', 1, 'batch', 'a', 1],
    ['eng/web', 1, 'web', 'a', 1],
    ['eng-2', 0, 'eng-2', 'b', 1],
  ])
})
