/** What the cluster has, and where it is: a card a resource. */
import type { ResourceName, Resources } from '../../api/types'
import { Legend, PartsBar, quantity, Skeleton, type Part } from '../../components'
import { percent } from '../../format'
import { href } from '../../router'
import { reducer } from '../../state/store'
import type { Totals } from './wire'

const titles: Record<ResourceName, string> = { cpus: 'CPUs', mem: 'Memory', disk: 'Disk', gpus: 'GPUs' }

export const legend = [
  { name: 'by tasks', color: 'used' },
  { name: 'by executors', color: 'c7' },
  { name: 'offered', color: 'offered' },
  { name: 'free', color: 'free' },
]

export function Capacity({ totals }: { totals: Totals | undefined }) {
  return (
    <section class="panel capacity" aria-label="Capacity">
      <div class="capacity-cards">
        {(['cpus', 'mem', 'disk', 'gpus'] as const).map((name) => (
          <Card key={name} name={name} resources={totals?.totals.resources} />
        ))}
      </div>
      <div class="capacity-foot">
        <Legend parts={legend} />
        <span class="muted">The thin bar is what is reserved for roles.</span>
      </div>
    </section>
  )
}

function Card({ name, resources }: { name: ResourceName; resources: Record<'total' | 'allocated' | 'offered' | 'reserved', Resources> | undefined }) {
  if (resources === undefined) {
    return (
      <div class="capacity-card">
        <h2>{titles[name]}</h2>
        <Skeleton lines={3} />
      </div>
    )
  }
  const total = resources.total[name]
  const allocated = resources.allocated[name]
  const tasks = Math.min(allocated, Math.max(0, reducer.total.used[name]))
  const offered = resources.offered[name]
  const reserved = resources.reserved[name]
  const free = Math.max(0, total - allocated - offered)
  const parts: Part[] = [
    { name: 'by tasks', value: tasks, color: 'used' },
    { name: 'by executors', value: allocated - tasks, color: 'c7' },
    { name: 'offered', value: offered, color: 'offered' },
  ]
  const say = (n: number) => quantity(name, n)
  return (
    <a class="capacity-card" href={href('agents', {}, { sort: '-' + name })}>
      <h2>{titles[name]}</h2>
      <div class="capacity-share">
        <strong class="num">{total > 0 ? percent(allocated / total) : 'none'}</strong>
        {total > 0 && (
          <span class="muted num">
            {say(allocated)} of {say(total)} allocated
          </span>
        )}
      </div>
      <PartsBar parts={parts} total={total} text={say} label={titles[name]} />
      <PartsBar thin parts={[{ name: 'reserved', value: reserved, color: 'reserved' }]} total={total} text={say} label={titles[name] + ', reserved'} />
      <div class="capacity-parts muted num">
        <span>{say(free)} free</span>
        {offered > 0 && <span>{say(offered)} offered</span>}
        {reserved > 0 && <span>{say(reserved)} reserved</span>}
      </div>
    </a>
  )
}
