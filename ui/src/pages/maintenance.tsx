/** Maintenance: which machines will be away when, on an axis of time, and what is made of them now. */
import { useLive } from '~/api/live'
import { openCancelWindow, openDown, openSchedule, openUp, written } from '~/actions/maintenance'
import { now } from '~/clock'
import { Button, Empty, ErrorNote, Note, Panel, Skeleton, StateBadge, Time, type Tone } from '~/components/basic'
import { Menu } from '~/components/Menu'
import { Page } from '~/components/Page'
import { duration, exact, plural, stamp } from '~/format'
import { Calendar } from '~/pages/maintenance/Calendar'
import { machineKey, machineName, modesOf, windowsOf, type MachineID, type MachineMode, type Window, type WireSchedule, type WireStatus } from '~/pages/maintenance/windows'
import { machineOf } from '~/pages/maintenance/machines'
import { href } from '~/router'
import { can } from '~/session'
import { agents, frameworks, tallyOfAgent } from '~/state/store'
import { trouble } from '~/pages/parts/trouble'
import '~/style/pages/cluster.css'

type Statuses = NonNullable<NonNullable<WireStatus['draining_machines']>[number]['statuses']>

export default function Maintenance() {
  const schedule = useLive<WireSchedule>('/maintenance/schedule', { interval: 2000 })
  const status = useLive<WireStatus>('/maintenance/status', { interval: 2000 })
  const loaded = schedule.value.data !== undefined
  const ours = written.value
  // Not for long: what others have written back to what it was is not sent again.
  const windows = ours !== undefined && ours.at > schedule.value.at && now.value - ours.at < 10 ? ours.windows : windowsOf(schedule.value.data)
  const modes = modesOf(status.value.data)
  const answers = new Map<string, Statuses>((status.value.data?.draining_machines ?? []).map((d) => [machineKey(d.id), d.statuses ?? []]))
  return (
    <Page
      title="Maintenance"
      sub={loaded && windows.length > 0 ? plural(windows.length, 'window') : undefined}
      actions={
        can('UPDATE_MAINTENANCE_SCHEDULE') && (
          <Button kind="primary" icon="plus" disabled={!loaded} onClick={() => openSchedule(windows, undefined)}>
            Schedule maintenance
          </Button>
        )
      }
    >
      <ErrorNote error={trouble(schedule.value) ?? trouble(status.value)} title="The schedule cannot be read." />
      {!loaded && schedule.value.error === undefined && <Skeleton lines={8} />}
      {loaded && windows.length === 0 && (
        <Panel>
          <Empty title="No maintenance is scheduled" icon="maintenance">
            <p>When a machine is scheduled, frameworks are asked to give back what they have there, and offers of it say when it will be away.</p>
            <p>To empty a machine now, drain its agent instead.</p>
          </Empty>
        </Panel>
      )}
      {windows.length > 0 && (
        <>
          <Panel title="Calendar">
            <Calendar windows={windows} modes={modes} now={now.value} />
          </Panel>
          {windows.map((w, i) => (
            <WindowPanel key={i} window={w} index={i} windows={windows} modes={modes} answers={answers} />
          ))}
        </>
      )}
    </Page>
  )
}

/** phase is how a window stands to now. */
function phase(w: Window, time: number): { text: string; tone: Tone } {
  if (time < w.start) return { text: 'begins in ' + duration(Math.floor((w.start - time) / 60) * 60 || 60), tone: 'info' }
  if (w.end !== undefined && time >= w.end) return { text: 'is over', tone: 'quiet' }
  return { text: w.end === undefined ? 'now, without an end' : 'now', tone: 'warn' }
}

interface WindowProps {
  window: Window
  index: number
  windows: readonly Window[]
  modes: ReadonlyMap<string, MachineMode>
  answers: ReadonlyMap<string, Statuses>
}

function WindowPanel({ window: w, index, windows, modes, answers }: WindowProps) {
  const p = phase(w, now.value)
  const mode = (m: MachineID): MachineMode => modes.get(machineKey(m)) ?? 'UP'
  const draining = w.machines.filter((m) => mode(m) === 'DRAINING')
  const down = w.machines.filter((m) => mode(m) === 'DOWN')
  return (
    <Panel
      flush
      title={
        <span class="window-when">
          <span title={exact(w.start)}>
            <Time at={w.start} exact />
          </span>
          <span class="muted">to</span> {w.end === undefined ? <span class="muted">an open end</span> : <Time at={w.end} exact />}
          <StateBadge state={p.text} tone={p.tone} label={p.text} />
        </span>
      }
      actions={
        <>
          {can('START_MAINTENANCE') && draining.length > 0 && (
            <Button small icon="stop" onClick={() => openDown(draining)}>
              Take {draining.length === 1 ? 'it' : 'all'} down
            </Button>
          )}
          {can('STOP_MAINTENANCE') && down.length > 0 && (
            <Button small icon="play" onClick={() => openUp(down)}>
              Bring {down.length === 1 ? 'it' : 'all'} up
            </Button>
          )}
          {can('UPDATE_MAINTENANCE_SCHEDULE') && (
            <>
              <Button small icon="edit" onClick={() => openSchedule(windows, index)}>
                Edit
              </Button>
              <Button small icon="trash" onClick={() => openCancelWindow(windows, index, down)}>
                Cancel
              </Button>
            </>
          )}
        </>
      }
    >
      {w.end !== undefined && now.value >= w.end && down.length > 0 && (
        <div class="panel-text">
          <Note tone="warn">
            The time is over and {plural(down.length, 'machine')} {down.length === 1 ? 'is' : 'are'} still down. Machines come up when they are told to, or by themselves with <code>--automatic_maintenance</code>.
          </Note>
        </div>
      )}
      <div class="scroll-x" tabIndex={0} role="region" aria-label={`Machines of the window of ${stamp(w.start)}`}>
        <table class="plain">
          <thead>
            <tr>
              <th scope="col">Machine</th>
              <th scope="col">Address</th>
              <th scope="col">State</th>
              <th scope="col" class="right">
                Tasks
              </th>
              <th scope="col">What frameworks say</th>
              <th scope="col">
                <span class="sr">Acts</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {w.machines.map((m) => (
              <MachineRow key={machineKey(m)} machine={m} mode={mode(m)} statuses={answers.get(machineKey(m)) ?? []} />
            ))}
          </tbody>
        </table>
      </div>
    </Panel>
  )
}

function MachineRow({ machine: m, mode, statuses }: { machine: MachineID; mode: MachineMode; statuses: Statuses }) {
  const here = agents.all.filter((a) => machineKey(machineOf(a)) === machineKey(m))
  const tasks = here.reduce((n, a) => n + tallyOfAgent(a.id).active, 0)
  const first = here[0]
  return (
    <tr>
      <th scope="row">{first === undefined ? machineName(m) : <a href={href('agent', { agent_id: first.id })}>{machineName(m)}</a>}</th>
      <td class="mono">{m.ip ?? '–'}</td>
      <td>
        <StateBadge state={mode} tone={mode === 'DOWN' ? 'bad' : mode === 'DRAINING' ? 'busy' : 'good'} label={mode === 'DRAINING' ? 'to be drained' : mode.toLowerCase()} />
      </td>
      <td class="right num">{here.length === 0 ? <span class="muted">no agent</span> : tasks}</td>
      <td>
        {statuses.length === 0 ? (
          <span class="muted">nothing yet</span>
        ) : (
          <span class="tags">
            {statuses.map((s) => {
              const name = frameworks.get(s.framework_id.value)?.name ?? s.framework_id.value
              const tone: Tone = s.status === 'ACCEPT' ? 'good' : s.status === 'DECLINE' ? 'bad' : 'quiet'
              const said = s.status === 'ACCEPT' ? 'agrees' : s.status === 'DECLINE' ? 'declines' : 'has not answered'
              return <StateBadge key={s.framework_id.value} state={s.status} tone={tone} label={`${name} ${said}`} />
            })}
          </span>
        )}
      </td>
      <td class="acts">
        <Menu
          label={'Acts on ' + machineName(m)}
          class="menu-row"
          items={[
            mode === 'DRAINING' && can('START_MAINTENANCE') && { title: 'Take it down…', icon: 'stop', danger: true, run: () => openDown([m]) },
            mode === 'DOWN' && can('STOP_MAINTENANCE') && { title: 'Bring it up…', icon: 'play', run: () => openUp([m]) },
          ]}
        />
      </td>
    </tr>
  )
}
