/** Killing a task. Mesos leaves this to frameworks; operators need it at three in the morning. */
import { useSignal } from '@preact/signals'
import { own, post } from '~/api/client'
import { Note } from '~/components/basic'
import { ConfirmDialog, openDialog } from '~/components/Dialog'
import { CheckField, NumberField } from '~/components/Form'
import { toast } from '~/components/Toast'
import { can } from '~/session'
import type { Task } from '~/state/model'
import { agents, frameworks } from '~/state/store'

/** mayKill says whether a task can be killed, and the reader may do so. */
export function mayKill(t: Task): boolean {
  return can('KILL_TASK') && t.active
}

/** openKill asks how, and kills. */
export function openKill(t: Task): void {
  openDialog((close) => <KillDialog task={t} onClose={close} />)
}

function KillDialog({ task, onClose }: { task: Task; onClose: () => void }) {
  // Who kills what is being killed wants it to end sooner; a later kill never gives it more time.
  const again = task.state === 'TASK_KILLING'
  const own_ = useSignal(again)
  const grace = useSignal(again ? 0 : 5)
  const bad = own_.value && !(grace.value >= 0)
  const host = agents.peek(task.agent)?.hostname ?? task.agent
  const framework = frameworks.peek(task.framework)?.name ?? task.framework
  const run = async (): Promise<void> => {
    await post(own + '/tasks/kill', {
      framework_id: { value: task.framework },
      task_id: { value: task.id },
      ...(own_.value ? { kill_policy: { grace_period: { nanoseconds: Math.round(grace.value * 1e9) } } } : {}),
    })
    toast(`${task.name || task.id} is asked to end.`)
  }
  return (
    <ConfirmDialog title={`Kill ${task.name || task.id}`} confirm="Kill 1 task" danger disabled={bad} run={run} onClose={onClose}>
      {again && <Note>It was asked to end already, and has its grace period to do so. That can be shortened.</Note>}
      <p>
        The task <code>{task.id}</code> on <strong>{host}</strong> is asked to end, and killed when its grace period is over. Tasks of the same group end with it if their executor says so.
      </p>
      <p>
        Its framework, <strong>{framework}</strong>, is told that it was killed, and <strong>may start it again</strong>: to end the work for good, end it there.
      </p>
      <CheckField label="Give it another grace period than it asked for" value={own_} />
      {own_.value && <NumberField label="Seconds" value={grace} min={0} hint="0 kills it at once." error={bad ? 'A number that is not negative' : undefined} />}
    </ConfirmDialog>
  )
}
