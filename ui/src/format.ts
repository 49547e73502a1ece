/** Numbers, sizes and times as people read them. Pure functions; tested in test/format.test.ts. */

const binary = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB']

/** bytes is a size with a binary unit: 1536 is "1.5 KiB". */
export function bytes(n: number | null | undefined): string {
  if (n === undefined || n === null || !Number.isFinite(n)) return '–'
  let unit = 0
  let v = Math.abs(n)
  while (v >= 1024 && unit < binary.length - 1) {
    v /= 1024
    unit++
  }
  return (n < 0 ? '-' : '') + trim(v, unit === 0 ? 0 : v >= 100 ? 0 : v >= 10 ? 1 : 2) + ' ' + binary[unit]
}

/** megabytes is a size given in MiB, as Mesos counts mem and disk. */
export function megabytes(mb: number | null | undefined): string {
  if (mb === undefined || mb === null) return '–'
  if (mb === 0) return '0'
  return bytes(mb * 1024 * 1024)
}

/** amount is a number of CPUs or GPUs, with at most three decimals as Mesos counts. */
export function amount(n: number | null | undefined): string {
  if (n === undefined || n === null || !Number.isFinite(n)) return '–'
  if (Math.abs(n) >= 10000) return count(Math.round(n))
  return trim(n, Math.abs(n) >= 100 ? 1 : 3)
}

const grouped = new Intl.NumberFormat('en', { useGrouping: true, maximumFractionDigits: 0 })

/** count is a whole number with its thousands apart: 12,345. */
export function count(n: number | null | undefined): string {
  return n === undefined || n === null || !Number.isFinite(n) ? '–' : grouped.format(n)
}

/** short is a count for small places: 12.3k. */
export function short(n: number): string {
  for (const [at, unit] of [
    [1e9, 'G'],
    [1e6, 'M'],
    [1e4, 'k'],
  ] as const) {
    if (Math.abs(n) >= at) {
      const by = unit === 'k' ? 1e3 : at
      return trim(n / by, n / by >= 100 ? 0 : 1) + unit
    }
  }
  return Number.isInteger(n) ? String(n) : trim(n, 2)
}

/** percent is a share between 0 and 1: "42 %". */
export function percent(share: number, digits = 0): string {
  if (!Number.isFinite(share)) return '–'
  const p = share * 100
  if (p > 0 && p < 1 && digits === 0) return '<1 %'
  return trim(p, digits) + ' %'
}

/** duration is seconds in at most two units: 3725 is "1h 2m". */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '–'
  const sign = seconds < 0 ? '-' : ''
  let s = Math.abs(seconds)
  if (s < 1) return sign + Math.round(s * 1000) + 'ms'
  if (s < 10) return sign + trim(s, 1) + 's'
  s = Math.round(s)
  const parts: string[] = []
  for (const [name, of] of [
    ['d', 86400],
    ['h', 3600],
    ['m', 60],
    ['s', 1],
  ] as const) {
    const n = Math.floor(s / of)
    s -= n * of
    if (n > 0) parts.push(n + name)
    else if (parts.length > 0) break
    if (parts.length === 2) break
  }
  return sign + parts.join(' ')
}

/** ago is how long a time (in seconds) lies back: "just now", "5m ago", "in 2h". */
export function ago(time: number, now: number): string {
  const d = now - time
  if (Math.abs(d) < 5) return 'just now'
  const text = duration(coarse(Math.abs(d)))
  return d > 0 ? text + ' ago' : 'in ' + text
}

/** coarse drops what nobody reads: seconds after minutes, minutes after hours. */
function coarse(s: number): number {
  for (const unit of [86400, 3600, 60]) {
    if (s >= unit * 10) return Math.floor(s / unit) * unit
  }
  return Math.floor(s)
}

/** exact is a time (in seconds) in the reader's zone, to the millisecond, with the zone. */
export function exact(time: number): string {
  const d = new Date(time * 1000)
  if (Number.isNaN(d.getTime())) return '–'
  const off = -d.getTimezoneOffset()
  const zone = (off < 0 ? '-' : '+') + two(Math.floor(Math.abs(off) / 60)) + ':' + two(Math.abs(off) % 60)
  return (
    d.getFullYear() + '-' + two(d.getMonth() + 1) + '-' + two(d.getDate()) + ' ' + clock(time) + '.' + String(d.getMilliseconds()).padStart(3, '0') + ' ' + zone
  )
}

/** iso is a time (in seconds) for machines; undefined for what is no time: programs of others say when something was. */
export function iso(time: number): string | undefined {
  const d = new Date(time * 1000)
  return Number.isNaN(d.getTime()) ? undefined : d.toISOString()
}

/** stamp is a time (in seconds) in the reader's zone, to the second. */
export function stamp(time: number): string {
  const d = new Date(time * 1000)
  if (Number.isNaN(d.getTime())) return '–'
  return d.getFullYear() + '-' + two(d.getMonth() + 1) + '-' + two(d.getDate()) + ' ' + clock(time)
}

/** clock is the time of day of a time (in seconds). */
export function clock(time: number): string {
  const d = new Date(time * 1000)
  if (Number.isNaN(d.getTime())) return '–'
  return two(d.getHours()) + ':' + two(d.getMinutes()) + ':' + two(d.getSeconds())
}

/** stateName is a state of a task or an agent for people: TASK_KILLING is "killing". */
export function stateName(state: string): string {
  return state.replace(/^(TASK|OPERATION|DRAIN)_/, '').replaceAll('_', ' ').toLowerCase()
}

/** plural is a count with its noun: 1 task, 2 tasks, 3 agencies by plural(3, 'agency', 'agencies'). */
export function plural(n: number, one: string, many = one + 's'): string {
  return count(n) + ' ' + (n === 1 ? one : many)
}

function two(n: number): string {
  return String(n).padStart(2, '0')
}

/** trim is a number with at most so many decimals, and no zeros at the end. */
export function trim(n: number, digits: number): string {
  const s = n.toFixed(digits)
  return digits > 0 ? s.replace(/\.?0+$/, '') : s
}
