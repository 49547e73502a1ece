import assert from 'node:assert/strict'
import test from 'node:test'
import { ago, amount, bytes, clock, count, duration, exact, iso, megabytes, percent, plural, short, stamp, stateName } from '../src/format'

test('sizes', () => {
  assert.equal(bytes(0), '0 B')
  assert.equal(bytes(1023), '1023 B')
  assert.equal(bytes(1536), '1.5 KiB')
  assert.equal(bytes(10 * 1024 ** 3), '10 GiB')
  assert.equal(bytes(150 * 1024 ** 2), '150 MiB')
  assert.equal(bytes(-2048), '-2 KiB')
  assert.equal(bytes(undefined), '–')
  assert.equal(bytes(NaN), '–')
  assert.equal(megabytes(0), '0')
  assert.equal(megabytes(23081), '22.5 GiB')
})

test('numbers', () => {
  assert.equal(amount(0.1), '0.1')
  assert.equal(amount(2), '2')
  assert.equal(amount(0.30000000000000004), '0.3')
  assert.equal(amount(1234.56), '1234.6')
  assert.equal(amount(123456), '123,456')
  assert.equal(count(1234567), '1,234,567')
  assert.equal(short(999), '999')
  assert.equal(short(12345), '12.3k')
  assert.equal(short(1.5e6), '1.5M')
  assert.equal(percent(0.004), '<1 %')
  assert.equal(percent(0), '0 %')
  assert.equal(percent(1 / 0), '–')
  assert.equal(plural(1, 'task'), '1 task')
  assert.equal(plural(0, 'task'), '0 tasks')
})

test('times', () => {
  assert.equal(duration(0.25), '250ms')
  assert.equal(duration(3725), '1h 2m')
  assert.equal(duration(3600), '1h')
  assert.equal(duration(90061), '1d 1h')
  assert.equal(duration(-65), '-1m 5s')
  assert.equal(ago(100, 102), 'just now')
  assert.equal(ago(0, 300), '5m ago')
  assert.equal(ago(7200, 0), 'in 2h')
  assert.match(exact(1795417793.991), /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.991 [+-]\d\d:\d\d$/)
  assert.equal(exact(NaN), '–')
  // Executors say when something was, and may say anything.
  for (const t of [NaN, Infinity, 1e300, -1e300]) {
    assert.equal(iso(t), undefined)
    assert.equal(exact(t), '–')
    assert.equal(stamp(t), '–')
    assert.equal(clock(t), '–')
  }
  assert.equal(iso(0.5), '1970-01-01T00:00:00.500Z')
})

test('states', () => {
  assert.equal(stateName('TASK_GONE_BY_OPERATOR'), 'gone by operator')
  assert.equal(stateName('DRAINING'), 'draining')
})
