/** Tasks over the last hour: how many there are by state, or how many end. */
import { Chart, Panel, Segments, Skeleton, type Series } from '../../components'
import { short, stateName } from '../../format'
import { remembered } from '../../prefs'
import type { TaskState } from '../../api/types'
import { perMinute } from './history'
import type { History } from './wire'

type View = 'states' | 'ended'
const view = remembered<View>('overview.chart', 'states')

const living: [TaskState, string][] = [
  ['TASK_RUNNING', 'good'],
  ['TASK_STAGING', 'busy'],
  ['TASK_STARTING', 'c7'],
  ['TASK_KILLING', 'warn'],
  ['TASK_UNREACHABLE', 'bad'],
]

const ending: [TaskState, string][] = [
  ['TASK_FINISHED', 'good'],
  ['TASK_KILLED', 'quiet'],
  ['TASK_FAILED', 'bad'],
  ['TASK_ERROR', 'c5'],
  ['TASK_LOST', 'warn'],
  ['TASK_DROPPED', 'c3'],
  ['TASK_GONE', 'c4'],
  ['TASK_GONE_BY_OPERATOR', 'c8'],
]

export function TaskChart({ history }: { history: History | undefined }) {
  const v = view.value
  return (
    <Panel
      title={v === 'states' ? 'Tasks by state, last hour' : 'Tasks ended a minute, last hour'}
      actions={
        <Segments<View>
          label="What is plotted"
          value={v}
          options={[
            { value: 'states', title: 'By state' },
            { value: 'ended', title: 'Ended' },
          ]}
          onChange={(x) => (view.value = x)}
        />
      }
    >
      {history === undefined ? (
        <div class="chart-room">
          <Skeleton block />
        </div>
      ) : (
        <Chart key={v} label={v === 'states' ? 'Tasks by state' : 'Tasks ended a minute'} times={history.times} series={v === 'states' ? states(history) : ended(history)} height={220} stacked={v === 'states'} format={short} />
      )}
    </Panel>
  )
}

function states(h: History): Series[] {
  return living
    .filter(([s]) => s === 'TASK_RUNNING' || (h.tasks[s] ?? []).some((n) => n > 0))
    .map(([s, color]) => ({ name: stateName(s), color, values: h.tasks[s] ?? h.times.map(() => 0) }))
}

function ended(h: History): Series[] {
  return ending
    .filter(([s]) => s === 'TASK_FINISHED' || s === 'TASK_FAILED' || (h.ended[s] ?? []).some((n) => n > 0))
    .map(([s, color]) => ({ name: stateName(s), color, values: perMinute(h.ended[s], h.times), fill: true }))
}
