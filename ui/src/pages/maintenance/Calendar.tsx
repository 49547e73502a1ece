/** Windows as bars on an axis of time, one line a machine. */
import { cx } from '~/components/basic'
import { clock, exact, stamp } from '~/format'
import { viewport } from '~/viewport'
import { at, axisOf, machineKey, machineName, ticksOf, type Axis, type MachineID, type MachineMode, type Window } from './windows'

/** More machines than these are not drawn one by one. */
const most = 60

interface Line {
  machine: MachineID
  windows: Window[]
}

export function Calendar({ windows, modes, now }: { windows: readonly Window[]; modes: ReadonlyMap<string, MachineMode>; now: number }) {
  const axis = axisOf(windows, now)
  const lines = new Map<string, Line>()
  for (const w of windows) {
    for (const m of w.machines) {
      const k = machineKey(m)
      const line = lines.get(k)
      if (line === undefined) lines.set(k, { machine: m, windows: [w] })
      else line.windows.push(w)
    }
  }
  const all = [...lines.values()]
  const ticks = ticksOf(axis, viewport.value === 'narrow' ? 2 : 7, -new Date(now * 1000).getTimezoneOffset() * 60)
  return (
    <div class="calendar">
      <div class="calendar-axis" aria-hidden="true">
        <span class="calendar-name" />
        <div class="calendar-track">
          {ticks.map((t) => (
            <span key={t} class="calendar-tick" style={{ left: at(axis, t) + '%' }} title={exact(t)}>
              {tickText(t, axis)}
            </span>
          ))}
        </div>
      </div>
      <ul class="calendar-lines">
        {all.slice(0, most).map((l) => (
          <li key={machineKey(l.machine)} class="calendar-line">
            <span class="calendar-name" title={machineName(l.machine)}>
              {machineName(l.machine)}
            </span>
            <div class="calendar-track">
              {ticks.map((t) => (
                <span key={t} class="calendar-grid" style={{ left: at(axis, t) + '%' }} aria-hidden="true" />
              ))}
              {l.windows.map((w, i) => (
                <Bar key={i} window={w} axis={axis} mode={modes.get(machineKey(l.machine)) ?? 'UP'} now={now} />
              ))}
              <span class="calendar-now" style={{ left: at(axis, now) + '%' }} aria-hidden="true" />
            </div>
          </li>
        ))}
      </ul>
      {all.length > most && <p class="muted">and {all.length - most} more machines</p>}
      <ul class="legend">
        <li>
          <span class="legend-dot fill-busy" /> scheduled
        </li>
        <li>
          <span class="legend-dot fill-bad" /> down
        </li>
        <li>
          <span class="legend-dot calendar-now-key" /> now
        </li>
      </ul>
    </div>
  )
}

function Bar({ window: w, axis, mode, now }: { window: Window; axis: Axis; mode: MachineMode; now: number }) {
  const left = at(axis, w.start)
  const right = w.end === undefined ? 100 : at(axis, w.end)
  const over = w.end !== undefined && now >= w.end
  const text = `${stamp(w.start)} to ${w.end === undefined ? 'an open end' : stamp(w.end)}, ${mode === 'DOWN' ? 'down' : over ? 'over' : 'scheduled'}`
  return (
    <span
      class={cx('calendar-bar', mode === 'DOWN' ? 'fill-bad' : over ? 'fill-quiet' : 'fill-busy', w.end === undefined && 'calendar-open')}
      style={{ left: left + '%', width: Math.max(0.6, right - left) + '%' }}
      role="img"
      aria-label={text}
      title={text}
    />
  )
}

/** tickText is a time on the axis: the time of day within days, the day where days pass. */
function tickText(t: number, axis: Axis): string {
  const d = new Date(t * 1000)
  const day = d.toLocaleDateString(undefined, { weekday: 'short', day: 'numeric', month: 'short' })
  if (axis.to - axis.from > 8 * 86400) return day
  return d.getHours() === 0 && d.getMinutes() === 0 ? day : clock(t).slice(0, 5)
}
