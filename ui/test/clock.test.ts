import assert from 'node:assert/strict'
import test from 'node:test'
import { clusterTime, compareClocks, now } from '../src/clock'

const date = (seconds: number) => new Date(seconds * 1000).toUTCString() // cut to the second, as in an answer

test('the clock of the cluster', () => {
  const here = Date.now() / 1000
  const off = () => clusterTime() - Date.now() / 1000
  const about = (want: number, within: number) => assert.ok(Math.abs(off() - want) <= within, `off by ${off()}, want ${want}`)

  // What fits with what is known changes nothing.
  compareClocks(date(here), here, here)
  compareClocks(date(here), here - 5, here + 1)
  compareClocks('no date', here, here)
  compareClocks(null, here, here)
  about(0, 0.001)
  // A slow answer says little, a quick one says much.
  compareClocks(date(here + 300), here - 400, here + 400)
  about(0, 0.001)
  compareClocks(date(here + 300), here, here + 0.1)
  about(299.5, 1.1)
  assert.ok(now.peek() > here + 297, 'who looks sees it at once')
  for (let i = 0; i < 10; i++) compareClocks(date(here + i / 7 + 300.5), here + i / 7, here + i / 7 + 0.01)
  about(300.5, 0.2)
  // The clock here was put right.
  compareClocks(date(here), here, here + 0.01)
  about(0, 1.1)
})
