/** Windows of maintenance on an axis of time. Pure; tested in test/maintenance.test.ts. */
import type { DurationInfo, TimeInfo } from '~/api/types'

export interface MachineID {
  hostname?: string
  ip?: string
}

/** WireSchedule is /maintenance/schedule. */
export interface WireSchedule {
  windows?: { machine_ids?: MachineID[]; unavailability: { start: TimeInfo; duration?: DurationInfo } }[]
}

/** WireStatus is /maintenance/status. */
export interface WireStatus {
  draining_machines?: { id: MachineID; statuses?: { status: string; framework_id: { value: string }; timestamp?: TimeInfo }[] }[]
  down_machines?: MachineID[]
}

export interface Window {
  machines: MachineID[]
  /** Seconds. */
  start: number
  /** undefined: for ever. */
  end: number | undefined
}

/** windowsOf reads a schedule, sorted by begin. */
export function windowsOf(s: WireSchedule | undefined): Window[] {
  const all = (s?.windows ?? []).map((w) => {
    const start = w.unavailability.start.nanoseconds / 1e9
    const d = w.unavailability.duration?.nanoseconds
    return { machines: w.machine_ids ?? [], start, end: d === undefined ? undefined : start + d / 1e9 }
  })
  return all.sort((a, b) => a.start - b.start)
}

/** scheduleOf is the other way round. Whole milliseconds: nanoseconds since 1970 are too large for a number to hold exactly. */
export function scheduleOf(windows: readonly Window[]): WireSchedule {
  return {
    windows: windows.map((w) => ({
      machine_ids: w.machines.map((m) => ({ ...(m.hostname ? { hostname: m.hostname } : {}), ...(m.ip ? { ip: m.ip } : {}) })),
      unavailability: {
        start: { nanoseconds: Math.round(w.start * 1000) * 1e6 },
        ...(w.end === undefined ? {} : { duration: { nanoseconds: Math.round((w.end - w.start) * 1000) * 1e6 } }),
      },
    })),
  }
}

/** machineKey tells machines apart as the master does: hostnames without regard to case. */
export function machineKey(m: MachineID): string {
  return (m.hostname ?? '').toLowerCase() + '\n' + (m.ip ?? '')
}

/** sameWindow says whether two windows are the same: their machines, and their times to the millisecond. */
export function sameWindow(a: Window, b: Window): boolean {
  const text = (w: Window): string => JSON.stringify([Math.round(w.start * 1000), w.end === undefined ? null : Math.round(w.end * 1000), w.machines.map(machineKey).sort()])
  return text(a) === text(b)
}

export function machineName(m: MachineID): string {
  return m.hostname || m.ip || '–'
}

export type MachineMode = 'UP' | 'DRAINING' | 'DOWN'

/** modesOf is what is made of each machine of the schedule. */
export function modesOf(s: WireStatus | undefined): Map<string, MachineMode> {
  const modes = new Map<string, MachineMode>()
  for (const d of s?.draining_machines ?? []) modes.set(machineKey(d.id), 'DRAINING')
  for (const d of s?.down_machines ?? []) modes.set(machineKey(d), 'DOWN')
  return modes
}

export interface Axis {
  from: number
  to: number
}

/** axisOf shows now and all windows, with room at both ends; at least a day. */
export function axisOf(windows: readonly Window[], now: number): Axis {
  let from = now
  let to = now + 86400
  for (const w of windows) {
    from = Math.min(from, w.start)
    to = Math.max(to, w.end ?? w.start + 86400)
  }
  const room = (to - from) * 0.04
  return { from: from - room, to: to + room }
}

/** at is where a time lies on the axis, from 0 to 100. */
export function at(axis: Axis, time: number): number {
  return Math.max(0, Math.min(100, ((time - axis.from) / (axis.to - axis.from)) * 100))
}

const steps = [900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 2 * 86400, 7 * 86400, 14 * 86400, 30 * 86400, 90 * 86400, 365 * 86400]

/** ticksOf are at most n times on the axis that people like; offset is the zone's in seconds. */
export function ticksOf(axis: Axis, n: number, offset: number): number[] {
  const step = steps.find((s) => (axis.to - axis.from) / s <= n) ?? (axis.to - axis.from) / n
  const ticks: number[] = []
  for (let t = Math.ceil((axis.from + offset) / step) * step - offset; t <= axis.to; t += step) ticks.push(t)
  return ticks
}

/** inputTime is a time as <input type=datetime-local> writes it, in the reader's zone. */
export function inputTime(seconds: number): string {
  const d = new Date(seconds * 1000)
  const p = (n: number) => String(n).padStart(2, '0')
  return `${d.getFullYear()}-${p(d.getMonth() + 1)}-${p(d.getDate())}T${p(d.getHours())}:${p(d.getMinutes())}`
}

/** fromInput is the other way round; undefined if it is no time. */
export function fromInput(text: string): number | undefined {
  const t = text === '' ? NaN : new Date(text).getTime()
  return Number.isNaN(t) ? undefined : t / 1000
}

/** parseDuration reads "2h", "1d 12h", "90m", "45 min"; undefined if it is none. */
export function parseDuration(text: string): number | undefined {
  const units: Record<string, number> = { s: 1, sec: 1, secs: 1, m: 60, min: 60, mins: 60, h: 3600, hour: 3600, hours: 3600, hrs: 3600, d: 86400, day: 86400, days: 86400, w: 604800, week: 604800, weeks: 604800 }
  let sum = 0
  const rest = text
    .trim()
    .toLowerCase()
    .replace(/(\d+(?:\.\d+)?)\s*([a-z]+)\s*/g, (all: string, n: string, unit: string) => {
      const u = units[unit]
      if (u === undefined) return all
      sum += Number(n) * u
      return ''
    })
  return rest === '' && sum > 0 ? sum : undefined
}

/** clash is a machine that two windows have: the master wants each only once. */
export function clash(windows: readonly Window[]): MachineID | undefined {
  const seen = new Set<string>()
  for (const w of windows) {
    for (const m of w.machines) {
      const k = machineKey(m)
      if (seen.has(k)) return m
      seen.add(k)
    }
  }
  return undefined
}
