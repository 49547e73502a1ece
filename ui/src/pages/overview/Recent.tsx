/** What happened lately, with links to what it happened to. */
import { Empty, Icon, Panel, Skeleton, Time, toneOf, type IconName } from '../../components'
import { href } from '../../router'
import type { Notable } from '../../state/reducer'
import type { History } from './wire'

export function Recent({ history }: { history: History | undefined }) {
  return (
    <Panel title="Recent events" flush class="recent">
      {history === undefined ? (
        <div class="recent-room">
          <Skeleton lines={8} />
        </div>
      ) : history.recent.length === 0 ? (
        <Empty title="Nothing has happened yet" icon="clock" />
      ) : (
        <ol class="recent-list" tabIndex={0} aria-label="Recent events, the newest first">
          {history.recent.slice(0, 60).map((n) => (
            <Line key={n.time + n.type + (n.task_id ?? '') + n.text} of={n} />
          ))}
        </ol>
      )}
    </Panel>
  )
}

function Line({ of }: { of: Notable }) {
  const to = link(of)
  return (
    <li class="recent-line">
      <Icon name={icon(of)} class={'tone-' + tone(of)} />
      {to === undefined ? <span class="recent-text">{of.text}</span> : (
        <a class="recent-text" href={to} title={of.text}>
          {of.text}
        </a>
      )}
      <span class="muted">
        <Time at={of.time} />
      </span>
    </li>
  )
}

function link(n: Notable): string | undefined {
  if (n.task_id !== undefined && n.framework_id !== undefined) return href('task', { framework_id: n.framework_id, task_id: n.task_id })
  if (n.framework_id !== undefined) return href('framework', { framework_id: n.framework_id })
  if (n.agent_id !== undefined) return href('agent', { agent_id: n.agent_id })
  if (n.type.includes('QUOTA') || n.type.includes('WEIGHT')) return href('roles')
  if (n.type.includes('MAINTENANCE')) return href('maintenance')
  if (n.type.startsWith('LEADER')) return href('registry')
  return undefined
}

function icon(n: Notable): IconName {
  if (n.task_id !== undefined) return 'tasks'
  if (n.framework_id !== undefined) return 'frameworks'
  if (n.agent_id !== undefined) return 'agents'
  if (n.type.startsWith('LEADER')) return 'leader'
  if (n.type.includes('MAINTENANCE')) return 'maintenance'
  return 'info'
}

function tone(n: Notable): string {
  if (n.state !== undefined) return toneOf(n.state)
  if (/REMOVED|UNREACHABLE|LOST/.test(n.type)) return 'warn'
  return 'quiet'
}
