/** Maintenance: schedule, change and cancel windows, take machines down and bring them up. */
import { signal, useSignal } from '@preact/signals'
import { call, get } from '~/api/client'
import { clusterTime } from '~/clock'
import { Note } from '~/components/basic'
import { ConfirmDialog, confirmAct, openDialog } from '~/components/Dialog'
import { TextField } from '~/components/Form'
import { toast } from '~/components/Toast'
import { duration, plural, stamp } from '~/format'
import { clash, fromInput, inputTime, machineKey, machineName, parseDuration, sameWindow, scheduleOf, windowsOf, type MachineID, type Window, type WireSchedule } from '~/pages/maintenance/windows'
import { machineOf } from '~/pages/maintenance/machines'
import { MachinePicker } from '~/pages/maintenance/MachinePicker'
import { agents, tasks } from '~/state/store'

/**
 * update changes the schedule as the master has it now: only the whole of it can be written, and
 * what is on the screen may be older than what others, or we ourselves, have just scheduled. The
 * window `old`, if any, is replaced by `fresh`, if any.
 */
async function update(old: Window | undefined, fresh: Window | undefined): Promise<void> {
  const now = windowsOf(await get<WireSchedule>('/maintenance/schedule'))
  const at = old === undefined ? -1 : now.findIndex((w) => sameWindow(w, old))
  if (old !== undefined && at < 0) throw new Error('Somebody else has changed this window meanwhile. Close this, and look at it again.')
  const rest = now.filter((_, i) => i !== at)
  const next = fresh === undefined ? rest : [...rest, fresh]
  const twice = clash(next)
  if (twice !== undefined) throw new Error(`${machineName(twice)} is in another window already.`)
  await call('UPDATE_MAINTENANCE_SCHEDULE', { schedule: scheduleOf(next) })
  written.value = { windows: windowsOf(scheduleOf(next)), at: clusterTime() }
}

/**
 * written is the schedule that we wrote last. Pages show it until they hear from the master, so
 * that who acts at once on a window that they have just changed does not act on the old one.
 */
export const written = signal<{ windows: readonly Window[]; at: number } | undefined>(undefined)

/** tasksOn counts the tasks that hold resources on machines, and the agents there. */
export function tasksOn(machines: readonly MachineID[]): { tasks: number; agents: number } {
  const keys = new Set(machines.map(machineKey))
  const ids = new Set<string>()
  for (const a of agents.values()) if (keys.has(machineKey(machineOf(a)))) ids.add(a.id)
  let n = 0
  for (const t of tasks.values()) if (t.active && ids.has(t.agent)) n++
  return { tasks: n, agents: ids.size }
}

/** openSchedule makes a window, or changes the one with the index. */
export function openSchedule(windows: readonly Window[], index: number | undefined, machines: readonly MachineID[] = []): void {
  openDialog((close) => <ScheduleDialog windows={windows} index={index} machines={machines} onClose={close} />)
}

interface ScheduleProps {
  windows: readonly Window[]
  index: number | undefined
  machines: readonly MachineID[]
  onClose: () => void
}

function ScheduleDialog({ windows, index, machines, onClose }: ScheduleProps) {
  const old = index === undefined ? undefined : windows[index]
  const chosen = useSignal<readonly MachineID[]>(old?.machines ?? machines)
  const start = useSignal(inputTime(old?.start ?? Math.ceil(Date.now() / 3_600_000) * 3600 + 3600))
  const lasts = useSignal(old === undefined ? '2h' : old.end === undefined ? '' : duration(old.end - old.start))
  const at = fromInput(start.value)
  const length = lasts.value.trim() === '' ? undefined : parseDuration(lasts.value)
  const badLength = lasts.value.trim() !== '' && length === undefined
  // What the fields cannot show, seconds, stays as it was while nobody changes them.
  const begin = old !== undefined && start.value === inputTime(old.start) ? old.start : at
  const end = begin === undefined || length === undefined ? undefined : old?.end !== undefined && begin === old.start && lasts.value === duration(old.end - old.start) ? old.end : begin + length
  const rest = windows.filter((_, i) => i !== index)
  const fresh = begin === undefined ? undefined : { machines: [...chosen.value], start: begin, end }
  const twice = clash(fresh === undefined ? rest : [...rest, fresh])
  const of = tasksOn(chosen.value)
  const ok = begin !== undefined && !badLength && chosen.value.length > 0 && twice === undefined
  const run = async (): Promise<void> => {
    await update(old, fresh)
    toast(`Maintenance of ${plural(chosen.value.length, 'machine')} is scheduled.`)
  }
  return (
    <ConfirmDialog title={old === undefined ? 'Schedule maintenance' : 'Change a maintenance window'} confirm={old === undefined ? 'Schedule' : 'Change'} disabled={!ok} run={run} onClose={onClose} wide>
      <div class="fields">
        <TextField label="Begins" type="datetime-local" value={start} autofocus error={at === undefined ? 'A date and a time' : undefined} hint="In your time zone" />
        <TextField label="Lasts" value={lasts} placeholder="without an end" hint="2h, 1d 12h, 90m; empty: without an end" error={badLength ? 'A duration such as 2h' : undefined} />
      </div>
      <MachinePicker value={chosen} />
      {twice !== undefined && <Note tone="bad">{machineName(twice)} is in another window already. A machine can be in one at a time.</Note>}
      {ok && (
        <p>
          From <strong>{stamp(begin)}</strong> {end === undefined ? 'on' : <>to <strong>{stamp(end)}</strong></>}, {plural(chosen.value.length, 'machine')} will be away. Frameworks with something there ({plural(of.tasks, 'task')} on {plural(of.agents, 'agent')}) are asked to give it back, and offers of these agents are made anew and say when they will be away. <strong>Nothing is killed</strong> until the machines are taken down.
        </p>
      )}
    </ConfirmDialog>
  )
}

/** openCancelWindow takes a window out of the schedule; machines that are down must be brought up first. */
export function openCancelWindow(windows: readonly Window[], index: number, down: readonly MachineID[]): void {
  const w = windows[index]
  if (w === undefined) return
  confirmAct({
    title: 'Cancel the maintenance',
    confirm: 'Cancel the maintenance',
    disabled: down.length > 0,
    children: (
      <>
        <p>
          The window of <strong>{stamp(w.start)}</strong> with {plural(w.machines.length, 'machine')} ({names(w.machines)}) is taken out of the schedule. Frameworks are offered the machines as before.
        </p>
        {down.length > 0 && <Note tone="warn">{names(down)} {down.length === 1 ? 'is' : 'are'} down. Bring {down.length === 1 ? 'it' : 'them'} up first.</Note>}
      </>
    ),
    run: async () => {
      await update(w, undefined)
      toast('The maintenance is cancelled.')
    },
  })
}

function names(machines: readonly MachineID[]): string {
  const some = machines.slice(0, 5).map(machineName).join(', ')
  return machines.length > 5 ? `${some} and ${machines.length - 5} more` : some
}

/** openDown takes machines down: what runs there is ended. */
export function openDown(machines: readonly MachineID[]): void {
  const of = tasksOn(machines)
  const what = machines.length === 1 && machines[0] !== undefined ? machineName(machines[0]) : plural(machines.length, 'machine')
  confirmAct({
    title: `Take ${what} down`,
    confirm: of.tasks === 0 ? 'Take down' : `Take down, kill ${plural(of.tasks, 'task')}`,
    danger: true,
    children: (
      <>
        <p>
          {of.agents === 0 ? (
            'No agent runs there.'
          ) : (
            <>
              <strong>
                {plural(of.agents, 'agent')} with {plural(of.tasks, 'task')} {of.agents === 1 ? 'is' : 'are'} shut down
              </strong>
              , and the tasks are lost.
            </>
          )}{' '}
          {names(machines)} {machines.length === 1 ? 'is' : 'are'} refused until brought up again.
        </p>
        <p class="muted">To let tasks end in time, drain the agents first.</p>
      </>
    ),
    run: async () => {
      await call('START_MAINTENANCE', { machines })
      toast(`${what} ${machines.length === 1 ? 'is' : 'are'} down.`)
    },
  })
}

/** openUp brings machines up, and takes them out of the schedule. */
export function openUp(machines: readonly MachineID[]): void {
  const what = machines.length === 1 && machines[0] !== undefined ? machineName(machines[0]) : plural(machines.length, 'machine')
  confirmAct({
    title: `Bring ${what} up`,
    confirm: 'Bring up',
    children: (
      <p>
        {names(machines)} {machines.length === 1 ? 'leaves' : 'leave'} the schedule, and agents there may register again. An agent that was shut down must be started; its tasks do not come back by themselves.
      </p>
    ),
    run: async () => {
      await call('STOP_MAINTENANCE', { machines })
      toast(`${what} may be used again.`)
    },
  })
}
