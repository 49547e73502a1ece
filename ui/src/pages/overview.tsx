/** The overview: how the cluster is, at a glance. */
import '../style/pages/overview.css'
import { own } from '../api/client'
import { useLive } from '../api/live'
import type { TaskState } from '../api/types'
import { ErrorNote, Note, Page, Panel, Skeleton, Stat, type Tone } from '../components'
import { count, plural, stateName } from '../format'
import { href } from '../router'
import { leader, ready, reducer } from '../state/store'
import { Capacity } from './overview/Capacity'
import { useHistory } from './overview/history'
import { Masters } from './overview/Masters'
import { Recent } from './overview/Recent'
import { RoleMap } from './overview/RoleMap'
import { TaskChart } from './overview/TaskChart'
import type { Totals } from './overview/wire'

export default function Overview() {
  const live = useLive<Totals>(own + '/totals', { interval: 1000 }).value
  const totals = live.data
  const history = useHistory().value
  return (
    <Page title="Overview" heading={leader.value?.cluster ? leader.value.cluster : 'Overview'}>
      {totals === undefined && live.error !== undefined && <ErrorNote error={live.error} />}
      {totals !== undefined && totals.totals.agents.total === 0 && ready.value && (
        <Note>
          No agent has joined yet. Start one with <code>clusterd agent --master={leader.value?.hostname}:{leader.value?.port} --work_dir=DIRECTORY</code>.
        </Note>
      )}
      <Capacity totals={totals} />
      <div class="grid">
        <div class="col-8 overview-plot">
          <TaskChart history={history} />
        </div>
        <div class="col-4 overview-now">
          <Counts totals={totals} />
        </div>
        <div class="col-8 overview-map">
          <RoleMap totals={totals} />
        </div>
        <div class="col-4 overview-masters">
          <Masters />
        </div>
        <div class="col-12 overview-recent">
          <Recent history={history} />
        </div>
      </div>
    </Page>
  )
}

const shown: { state: TaskState; tone?: Tone }[] = [
  { state: 'TASK_RUNNING', tone: 'good' },
  { state: 'TASK_STAGING' },
  { state: 'TASK_STARTING' },
  { state: 'TASK_KILLING' },
  { state: 'TASK_UNREACHABLE', tone: 'warn' },
  { state: 'TASK_FAILED', tone: 'bad' },
  { state: 'TASK_LOST', tone: 'bad' },
  { state: 'TASK_FINISHED' },
  { state: 'TASK_KILLED' },
]

function Counts({ totals }: { totals: Totals | undefined }) {
  const states = reducer.total.states
  const a = totals?.totals.agents
  const f = totals?.totals.frameworks
  return (
    <Panel title="Now">
      {a === undefined || f === undefined ? (
        <Skeleton lines={8} />
      ) : (
        <div class="stack">
          <div class="stats stats-3">
            <Stat label="Agents" value={count(a.total)} sub={a.total === 0 ? 'none' : a.total === a.active ? 'all active' : count(a.active) + ' active'} href={href('agents')} />
            <Stat label="Frameworks" value={count(f.total)} sub={f.total === 0 ? 'none' : f.total === f.active ? 'all active' : count(f.active) + ' active'} href={href('frameworks')} />
            <Stat label="Offers" value={count(totals?.totals.offers)} sub="outstanding" href={href('offers')} />
          </div>
          {(a.unreachable > 0 || a.draining + a.drained > 0 || a.deactivated > 0 || a.disconnected > 0 || a.recovered > 0) && (
            <p class="overview-agents">
              {[
                [a.unreachable, 'unreachable'],
                [a.disconnected, 'disconnected'],
                [a.recovered, 'expected back'],
                [a.draining, 'draining'],
                [a.drained, 'drained'],
                [a.deactivated, 'deactivated'],
              ]
                .filter(([n]) => (n as number) > 0)
                .map(([n, what]) => count(n as number) + ' ' + String(what))
                .join(', ')
                .replace(/^(\S+)/, (n) => plural(Number(n.replaceAll(',', '')), 'agent') + ' ')}
            </p>
          )}
          <h3>Tasks</h3>
          <ul class="counts">
            {shown.map(({ state, tone }) => {
              const n = states[state] ?? 0
              return (
                <li key={state}>
                  <a href={href('tasks', {}, { state })}>
                    <span>{stateName(state)}</span>
                    <strong class={'num' + (n > 0 && tone !== undefined ? ' tone-' + tone : '')}>{count(n)}</strong>
                  </a>
                </li>
              )
            })}
          </ul>
        </div>
      )}
    </Panel>
  )
}
