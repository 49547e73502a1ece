import assert from 'node:assert/strict'
import test from 'node:test'
import { at, axisOf, clash, fromInput, inputTime, machineKey, modesOf, parseDuration, scheduleOf, ticksOf, windowsOf, sameWindow } from '../src/pages/maintenance/windows'

test('a schedule is read by begin and written as it was', () => {
  const wire = {
    windows: [
      { machine_ids: [{ hostname: 'b', ip: '10.0.0.2' }], unavailability: { start: { nanoseconds: 1795419000123000000 } } },
      { machine_ids: [{ hostname: 'a' }], unavailability: { start: { nanoseconds: 1795400000000000000 }, duration: { nanoseconds: 7200e9 } } },
    ],
  }
  const windows = windowsOf(wire)
  assert.deepEqual(windows.map((w) => w.machines[0]?.hostname), ['a', 'b'])
  assert.equal(windows[0]?.end, 1795407200)
  assert.equal(windows[1]?.end, undefined)
  // As text, for that is what counts: such numbers are beyond what a double holds exactly.
  assert.equal(JSON.stringify(scheduleOf(windows)), JSON.stringify({ windows: [wire.windows[1], wire.windows[0]] }))
  assert.ok(JSON.stringify(scheduleOf(windows)).includes('1795419000123000000'))
  assert.deepEqual(windowsOf({}), [])
})

test('machines are told apart without regard to case, and by address', () => {
  assert.equal(machineKey({ hostname: 'Node1', ip: '10.0.0.1' }), machineKey({ hostname: 'node1', ip: '10.0.0.1' }))
  assert.notEqual(machineKey({ hostname: 'node1' }), machineKey({ hostname: 'node1', ip: '10.0.0.1' }))
  const modes = modesOf({ draining_machines: [{ id: { hostname: 'a' } }], down_machines: [{ hostname: 'B' }] })
  assert.deepEqual([modes.get(machineKey({ hostname: 'a' })), modes.get(machineKey({ hostname: 'b' }))], ['DRAINING', 'DOWN'])
})

test('a machine in two windows is found', () => {
  const w = (hostname: string) => ({ machines: [{ hostname }], start: 0, end: 1 })
  assert.equal(clash([w('a'), w('b'), w('A')])?.hostname, 'A')
  assert.equal(clash([w('a'), w('b')]), undefined)
})

test('the axis shows now and every window', () => {
  const now = 1_000_000
  const axis = axisOf([{ machines: [], start: now + 86400 * 3, end: undefined }, { machines: [], start: now - 3600, end: now - 60 }], now)
  assert.ok(axis.from < now - 3600)
  assert.ok(axis.to > now + 86400 * 4)
  assert.equal(at(axis, axis.from), 0)
  assert.equal(at(axis, axis.to + 1e9), 100)
})

test('ticks are few and lie on round times of the zone', () => {
  const ticks = ticksOf({ from: 0, to: 86400 }, 7, 3600)
  assert.ok(ticks.length <= 7)
  for (const t of ticks) assert.equal((t + 3600) % 14400 === 0 || (t + 3600) % 21600 === 0, true)
})

test('times of inputs go there and back', () => {
  const t = Math.floor(Date.now() / 60_000) * 60
  assert.equal(fromInput(inputTime(t)), t)
  assert.equal(fromInput(''), undefined)
  assert.equal(fromInput('x'), undefined)
})

test('durations are read as people write them', () => {
  assert.deepEqual(['2h', '1d 12h', '90m', '45 min', '1.5h', '1h30m', ' 3 HRS '].map(parseDuration), [7200, 129600, 5400, 2700, 5400, 5400, 10800])
  assert.deepEqual(['', '0h', 'h', '5', '2x', '-1h', '2h bad'].map(parseDuration), [undefined, undefined, undefined, undefined, undefined, undefined, undefined])
})

test('windows are the same whatever the order of their machines', () => {
  const w = { machines: [{ hostname: 'A', ip: '1' }, { hostname: 'b' }], start: 1.5, end: undefined }
  assert.equal(sameWindow(w, { ...w, machines: [{ hostname: 'b' }, { hostname: 'a', ip: '1' }] }), true)
  assert.equal(sameWindow(w, { ...w, end: 2 }), false)
  assert.equal(sameWindow(w, { ...w, machines: [{ hostname: 'b' }] }), false)
})
