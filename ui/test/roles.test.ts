import assert from 'node:assert/strict'
import test from 'node:test'
import { dominantShare, fairPart, flatten, frameworksBelow, matching, quotaMeaning, treeOf, type WireRole } from '../src/pages/roles/tree'

function role(name: string, more: Partial<WireRole> = {}): WireRole {
  return { name, weight: 1, frameworks: [], resources: {}, allocated: {}, offered: {}, reserved: {}, ...more }
}

const total = { cpus: 100, mem: 1000, disk: 0, gpus: 0 }

test('the tree has roles below their parents, also where the parent is not told of', () => {
  const roots = treeOf([role('ops'), role('eng/web/front'), role('eng', { frameworks: ['f1'] }), role('eng/batch', { frameworks: ['f1', 'f2'] })])
  const names = flatten(roots, () => true).map((n) => n.name + ':' + n.depth)
  assert.deepEqual(names, ['eng:0', 'eng/batch:1', 'eng/web:1', 'eng/web/front:2', 'ops:0'])
  assert.deepEqual(flatten(roots, (n) => n !== 'eng').map((n) => n.name), ['eng', 'ops'])
  assert.equal(roots[0]?.children[1]?.role, undefined)
  assert.deepEqual([...frameworksBelow(roots[0]!)], ['f1', 'f2'])
})

test('a role sorts before those below it and after its siblings by name', () => {
  const roots = treeOf([role('a-b'), role('a/b'), role('a')])
  assert.deepEqual(flatten(roots, () => true).map((n) => n.name), ['a', 'a/b', 'a-b'])
})

test('a search keeps those above what it finds', () => {
  const roots = treeOf([role('eng/web'), role('eng/batch'), role('ops')])
  assert.deepEqual([...matching(roots, 'WEB')].sort(), ['eng', 'eng/web'])
})

test('the dominant share is that of the resource of which most is held', () => {
  assert.deepEqual(dominantShare({ cpus: 10, mem: 500 }, total), { share: 0.5, by: 'mem' })
  assert.deepEqual(dominantShare({ disk: 5, ports: 7 }, total), { share: 0, by: '' })
})

test('what is due by weight counts only roles with frameworks', () => {
  const roots = treeOf([role('a', { weight: 3, frameworks: ['f'] }), role('b/c', { frameworks: ['f'] }), role('idle', { weight: 100 })])
  assert.deepEqual(roots.map((r) => fairPart(r, roots)), [0.75, 0.25, 0])
})

const show = (name: string, n: number) => `${n} ${name}`
const meaning = (wish: Parameters<typeof quotaMeaning>[0], roles: WireRole[]) => quotaMeaning(wish, roles, total, show).map((m) => `${m.grade}: ${m.text}`)

test('a limit above what is consumed leaves room, one below must be forced', () => {
  const roles = [role('eng', { quota: { consumed: { cpus: 30 } } })]
  assert.deepEqual(meaning({ role: 'eng', guarantee: {}, limit: { cpus: 40 } }, roles), ['plain: eng has 30 cpus now and may come to have 10 cpus more.'])
  assert.deepEqual(meaning({ role: 'eng', guarantee: {}, limit: { cpus: 20 } }, roles), [
    'force: eng has 30 cpus now, more than the limit of 20 cpus. Nothing is taken away, but it is offered no more of it until it has less.',
  ])
  assert.deepEqual(meaning({ role: 'eng', guarantee: {}, limit: { cpus: 0 } }, []), ['plain: eng has 0 cpus now and may come to have 0 cpus more.'])
})

test('guarantees may not be more than limits, and all together not more than there is', () => {
  const roles = [role('ops', { quota: { guarantee: { cpus: 70 } } }), role('ops/db', { quota: { guarantee: { cpus: 60 } } })]
  assert.deepEqual(meaning({ role: 'eng', guarantee: { cpus: 5 }, limit: { cpus: 4 } }, roles), ['wrong: The guarantee of 5 cpus is more than the limit of 4 cpus.'])
  assert.deepEqual(meaning({ role: 'eng', guarantee: { cpus: 40 }, limit: {} }, roles), [
    'force: All guarantees together would be 110 cpus, and the cluster has 100 cpus.',
    'plain: 40 cpus that eng does not use yet will be kept free for it.',
  ])
})

test('quotas of nested roles lie within those above and around them', () => {
  const roles = [role('ops', { quota: { guarantee: { cpus: 70 }, limit: { cpus: 80 } } }), role('ops/db', { quota: { guarantee: { cpus: 60 } } })]
  assert.deepEqual(meaning({ role: 'ops/web', guarantee: { cpus: 20 }, limit: { cpus: 90 } }, roles), [
    'wrong: ops above it has a limit of 80 cpus.',
    'plain: ops/web has 0 cpus now and may come to have 90 cpus more.',
    'wrong: ops is guaranteed 70 cpus, and the roles below it would be guaranteed 80 cpus together.',
    'plain: 20 cpus that ops/web does not use yet will be kept free for it.',
  ])
  assert.equal(meaning({ role: 'ops', guarantee: { cpus: 50 }, limit: {} }, roles)[0], 'wrong: The roles below ops are guaranteed 60 cpus together.')
})
