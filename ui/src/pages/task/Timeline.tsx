/** What happened to a task, status by status. */
import type { TaskStatus } from '~/api/types'
import { StateBadge, toneOf } from '~/components/basic'
import { second } from '~/clock'
import { clock, duration, exact, iso, stamp } from '~/format'

/** Step is one status, with how long the task stayed in it. */
export interface Step {
  status: TaskStatus
  /** Seconds until the next status, or until now if it is the last of a task that goes on. */
  stayed: number | undefined
  /** The day is another than that of the step before. */
  newDay: boolean
}

/**
 * isCheck says whether a status tells of a check only. Masters keep one status of each state, the
 * latest: the time of such a one is not when the task came into its state.
 */
export function isCheck(s: TaskStatus): boolean {
  return s.reason === 'REASON_TASK_HEALTH_CHECK_STATUS_UPDATED' || s.reason === 'REASON_TASK_CHECK_STATUS_UPDATED'
}

/** startedAt is when a task began to run, as far as its statuses tell. */
export function startedAt(statuses: readonly TaskStatus[]): number | undefined {
  const running = statuses.find((s) => s.state === 'TASK_RUNNING')
  return running !== undefined && !isCheck(running) ? running.timestamp : statuses[0] !== undefined && !isCheck(statuses[0]) ? statuses[0].timestamp : undefined
}

/** steps are the statuses of a task in order. */
export function steps(statuses: readonly TaskStatus[], active: boolean, now: number): Step[] {
  return statuses.map((status, i) => {
    const at = status.timestamp
    const after = statuses[i + 1]
    const next = (after !== undefined && isCheck(after)) || isCheck(status) ? undefined : after?.timestamp ?? (active && i === statuses.length - 1 ? now : undefined)
    const before = statuses[i - 1]?.timestamp
    return {
      status,
      stayed: at === undefined || next === undefined ? undefined : Math.max(0, next - at),
      newDay: at !== undefined && (before === undefined || new Date(at * 1000).toDateString() !== new Date(before * 1000).toDateString()),
    }
  })
}

/** sourceName is who sent a status, for people. */
export function sourceName(source: string | undefined): string {
  return source === undefined ? '' : 'from the ' + source.replace(/^SOURCE_/, '').replaceAll('_', ' ').toLowerCase().replace('slave', 'agent')
}

/** reasonName is why, for people: REASON_CONTAINER_LIMITATION_MEMORY is "container limitation memory". */
export function reasonName(reason: string | undefined): string {
  return reason === undefined ? '' : reason.replace(/^REASON_/, '').replaceAll('_', ' ').toLowerCase()
}

export function Timeline({ statuses, active }: { statuses: readonly TaskStatus[]; active: boolean }) {
  if (statuses.length === 0) return <p class="muted">It was sent to its agent; no status has come yet.</p>
  const list = steps(statuses, active, active ? second.value : 0)
  return (
    <ol class="timeline">
      {list.map(({ status: s, stayed, newDay }, i) => (
        <li key={i} class={'timeline-step timeline-' + toneOf(s.state)}>
          <span class="timeline-dot" aria-hidden="true" />
          <div class="timeline-head">
            <StateBadge state={s.state} />
            {s.timestamp !== undefined && (
              <time class="timeline-time num" dateTime={iso(s.timestamp)} title={exact(s.timestamp)}>
                {(newDay ? stamp : clock)(s.timestamp)}
                <span class="faint">{millis(s.timestamp)}</span>
              </time>
            )}
            {isCheck(s) && <span class="muted">when last checked</span>}
            {stayed !== undefined && (
              <span class="muted">
                {i === list.length - 1 ? 'for ' : ''}
                {duration(i === list.length - 1 ? Math.floor(stayed) : stayed)}
              </span>
            )}
            {s.healthy !== undefined && <StateBadge state="" tone={s.healthy ? 'good' : 'bad'} label={s.healthy ? 'healthy' : 'unhealthy'} />}
            <CheckResult status={s} />
          </div>
          {(s.message ?? '') !== '' && <p class="timeline-message">{s.message}</p>}
          <p class="timeline-why muted">
            {[reasonName(s.reason), sourceName(s.source)].filter((x) => x !== '').map((x, n) => (
              <span key={n} title={n === 0 ? s.reason : s.source}>
                {x}
              </span>
            ))}
          </p>
        </li>
      ))}
    </ol>
  )
}

/** millis are the thousandths of a time: what happens to a task may happen within one second. */
function millis(time: number): string {
  return '.' + String(new Date(time * 1000).getMilliseconds()).padStart(3, '0')
}

/** CheckResult is what a check of the task found. */
function CheckResult({ status }: { status: TaskStatus }) {
  const text = checkText(status)
  return text === '' ? null : <span class="tag">{text}</span>
}

/** checkText is a check's result in words. */
export function checkText(status: TaskStatus): string {
  const c = status.check_status
  if (c === undefined) return ''
  if (c.command?.exit_code !== undefined) return `check: exit status ${c.command.exit_code}`
  if (c.http?.status_code !== undefined) return `check: HTTP ${c.http.status_code}`
  if (c.tcp?.succeeded !== undefined) return c.tcp.succeeded ? 'check: connected' : 'check: no connection'
  return 'check: no result yet'
}

