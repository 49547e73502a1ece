/** How far an agent has got with draining. */
import { Note, Time } from '~/components/basic'
import { second } from '~/clock'
import { duration, plural } from '~/format'
import type { Agent } from '~/state/model'

/** drainEnd is when the last task must have ended, if its grace is limited; in seconds. */
export function drainEnd(a: Agent): number | undefined {
  if (a.drain?.started === undefined || a.drain.max_grace === undefined) return undefined
  return a.drain.started + a.drain.max_grace
}

export function DrainBox({ agent, tasks }: { agent: Agent; tasks: number }) {
  const d = agent.drain
  if (d === undefined) {
    if (agent.state !== 'DEACTIVATED') return null
    return (
      <Note tone="warn">
        <strong>Deactivated.</strong> Its tasks go on; it is offered to nobody until it is reactivated.
      </Note>
    )
  }
  const end = drainEnd(agent)
  const left = end === undefined ? undefined : end - second.value
  return (
    <Note tone={d.state === 'DRAINED' ? 'good' : 'warn'}>
      <strong>{d.state === 'DRAINED' ? 'Drained.' : 'Draining.'}</strong>{' '}
      {d.state === 'DRAINED' ? 'No task runs here any more; it is offered to nobody until it is reactivated.' : `${plural(tasks, 'task')} still ${tasks === 1 ? 'runs' : 'run'}.`}{' '}
      {d.started !== undefined && d.started > 0 && (
        <>
          Began <Time at={d.started} />.{' '}
        </>
      )}
      {d.state !== 'DRAINED' &&
        (d.max_grace === undefined ? (
          'Tasks have as long as they asked for to end.'
        ) : (
          <>
            Tasks have at most {duration(d.max_grace)}
            {left !== undefined && (left > 0 ? <>; it should be done in {duration(left)}</> : <>; that is over, and the last of them are being killed</>)}.
          </>
        ))}{' '}
      {d.mark_gone && (d.state === 'DRAINED' ? 'It is being marked gone.' : 'It will be marked gone then, and can never register again.')}
    </Note>
  )
}
