/** A framework: who it is, what it has, its tasks, and why it gets offers or none. */
import { useComputed } from '@preact/signals'
import { useMemo } from 'preact/hooks'
import { call, own } from '~/api/client'
import { useLive } from '~/api/live'
import type { Label, OperatorFramework, Resources } from '~/api/types'
import { mayTeardown, openTeardown } from '~/actions/teardown'
import { Button, Empty, Facts, Id, Note, Panel, Skeleton, Stat, StateBadge, Tag, Time } from '~/components/basic'
import { Page } from '~/components/Page'
import { PartsBar, quantity } from '~/components/ResourceBar'
import { Tabs } from '~/components/Tabs'
import { amount, count, duration, percent, plural, stateName } from '~/format'
import { again } from '~/pages/frameworks'
import { frameworkState, maxShare } from '~/pages/frameworks/facts'
import { TaskTable } from '~/pages/framework/TaskTable'
import { useLoaded } from '~/pages/framework/loaded'
import { Explain } from '~/pages/offers/Explain'
import { AskedBack, OfferTable } from '~/pages/offers/OfferTable'
import { offersOf, type Offer } from '~/pages/offers/wire'
import { href, useRoute } from '~/router'
import { useKept } from '~/state/kept'
import { plus, resourceNames, zero, type Framework as Known } from '~/state/model'
import { agents, frameworks, ready, tallyOfFramework, tasks } from '~/state/store'
import '~/style/pages/cluster.css'

export default function Framework() {
  const id = useRoute().params['framework_id'] ?? ''
  const { value: f, old } = useKept(frameworks.get(id), id)
  const crumbs = [{ text: 'Frameworks', href: href('frameworks') }]
  if (f === undefined) {
    return (
      <Page title="Framework" crumbs={crumbs}>
        {ready.value ? (
          <Empty title="This framework is not known" icon="frameworks">
            <code>{id}</code>
            <p>It never registered, you may not see it, or it ended so long ago that the master has forgotten it.</p>
          </Empty>
        ) : (
          <Skeleton lines={10} />
        )}
      </Page>
    )
  }
  return <Body key={id} f={f} old={old && ready.value} crumbs={crumbs} />
}

/** The states that are counted, as Mesos counts them. */
const counted = [
  'TASK_STAGING',
  'TASK_STARTING',
  'TASK_RUNNING',
  'TASK_KILLING',
  'TASK_UNREACHABLE',
  'TASK_FINISHED',
  'TASK_KILLED',
  'TASK_FAILED',
  'TASK_LOST',
] as const

/** rare states are shown only when there is something to show. */
const rare = ['TASK_ERROR', 'TASK_DROPPED', 'TASK_GONE', 'TASK_GONE_BY_OPERATOR', 'TASK_UNKNOWN'] as const

function Body({ f, old, crumbs }: { f: Known; old: boolean; crumbs: { text: string; href: string }[] }) {
  const mine = useComputed(() => tasks.all.filter((t) => t.framework === f.id))
  const active = useComputed(() => mine.value.filter((t) => t.active))
  const unreachable = useComputed(() => mine.value.filter((t) => t.state === 'TASK_UNREACHABLE'))
  const completed = useComputed(() => mine.value.filter((t) => !t.active && t.state !== 'TASK_UNREACHABLE'))
  const live = useLive<Offer[] | { offers?: Offer[] }>(f.completed || old ? undefined : own + '/offers?framework_id=' + encodeURIComponent(f.id), { interval: 1000 })
  const both = useMemo(() => offersOf(live.value.data), [live.value.data])
  const offers = both?.offered
  const back = both?.askedBack ?? []
  const tally = tallyOfFramework(f.id)
  return (
    <Page
      title={f.name || f.id}
      crumbs={crumbs}
      sub={
        <>
          <StateBadge state={frameworkState(f)} /> <Id id={f.id} />
        </>
      }
      actions={
        <>
          {/^https?:/i.test(f.webui_url) && (
            <a class="button button-plain" href={f.webui_url} rel="noreferrer" target="_blank" title={f.webui_url}>
              Its own page
            </a>
          )}
          {!old && mayTeardown(f) && (
            <Button kind="danger" icon="trash" onClick={() => openTeardown(f)}>
              Tear down
            </Button>
          )}
        </>
      }
    >
      {old && (
        <Note tone="warn">
          <strong>The leader does not know this framework.</strong> It may have ended before this leader led. What is shown is what was known last.
        </Note>
      )}
      <Panel>
        <div class="stats framework-stats">
          {counted.map((s) => (
            <Stat key={s} label={stateName(s)} value={count(tally.states[s] ?? 0)} />
          ))}
          {rare.map((s) => ((tally.states[s] ?? 0) > 0 ? <Stat key={s} label={stateName(s)} value={count(tally.states[s] ?? 0)} tone="bad" /> : null))}
        </div>
      </Panel>
      <div class="grid">
        <div class="col-5 stack">
          <Holdings f={f} />
        </div>
        <div class="col-7 stack">
          <Identity f={f} />
        </div>
      </div>
      <Tabs
        label="About the framework"
        tabs={[
          { key: 'active', title: 'Active tasks', count: active.value.length, render: () => <TaskTable id="active" label="Active tasks" tasks={active} empty={<NoTask f={f} />} /> },
          { key: 'unreachable', title: 'Unreachable', count: unreachable.value.length, render: () => <TaskTable id="unreachable" label="Unreachable tasks" tasks={unreachable} empty={<Empty title="All agents of its tasks are reachable" icon="check" />} /> },
          { key: 'completed', title: 'Completed', count: completed.value.length, render: () => <TaskTable id="completed" label="Completed tasks" tasks={completed} ended empty={<Empty title="No task has ended yet" icon="tasks" />} /> },
          {
            key: 'offers',
            title: 'Offers',
            count: offers?.length,
            render: () =>
              f.completed ? (
                <Empty title="The framework has ended" icon="offers" />
              ) : (
                <div class="stack">
                  <Panel title="Why does it get offers, or none?">
                    <Explain frameworkId={f.id} />
                  </Panel>
                  <OfferTable offers={offers ?? []} without={['framework']} loading={offers === undefined && live.value.error === undefined} />
                  {back.length > 0 && (
                    <>
                      <h2>Agents it is asked to leave</h2>
                      <AskedBack offers={back} without={['framework']} />
                    </>
                  )}
                </div>
              ),
          },
        ]}
      />
    </Page>
  )
}

function NoTask({ f }: { f: Known }) {
  return (
    <Empty title="No task is active" icon="tasks">
      {!f.completed && <a href={href('framework', { framework_id: f.id }, { tab: 'offers' })}>Why does it get offers, or none?</a>}
    </Empty>
  )
}

/** Holdings are what it has, beside what the cluster has. */
function Holdings({ f }: { f: Known }) {
  const total = useComputed(() => agents.all.reduce<Resources>((sum, a) => plus(sum, a.total), zero)).value
  return (
    <Panel title="Resources" actions={<span class="muted">max share {percent(maxShare(f.allocated, total), 1)}</span>}>
      <table class="plain holdings">
        <thead>
          <tr>
            <th scope="col">
              <span class="sr">Resource</span>
            </th>
            <th scope="col" class="right">
              Allocated
            </th>
            <th scope="col" class="right">
              Offered
            </th>
            <th scope="col">Of the cluster</th>
          </tr>
        </thead>
        <tbody>
          {resourceNames.map((r) => (
            <tr key={r}>
              <th scope="row">{{ cpus: 'CPUs', mem: 'Memory', disk: 'Disk', gpus: 'GPUs' }[r]}</th>
              <td class="right num">{quantity(r, f.allocated[r])}</td>
              <td class="right num">{quantity(r, f.offered[r])}</td>
              <td>
                <PartsBar
                  label={r}
                  total={total[r]}
                  text={(n) => quantity(r, n)}
                  parts={[
                    { name: 'allocated', value: f.allocated[r], color: 'allocated' },
                    { name: 'offered', value: f.offered[r], color: 'offered' },
                  ]}
                />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Panel>
  )
}

/** What the events do not carry: asked once, and again when the framework changes. */
function Identity({ f }: { f: Known }) {
  const more = useLoaded(
    async (signal) => {
      const all = await call<{ frameworks?: OperatorFramework[]; completed_frameworks?: OperatorFramework[] }>('GET_FRAMEWORKS', undefined, { signal })
      return [...(all.frameworks ?? []), ...(all.completed_frameworks ?? [])].find((x) => x.framework_info.id?.value === f.id)
    },
    `${f.id} ${f.reregistered ?? 0} ${f.roles.join()} ${f.active}`,
  )
  const info = more.value?.framework_info
  const labels: Label[] = info?.labels?.labels ?? []
  return (
    <Panel title="About it">
      <Facts
        items={[
          ['User', f.user],
          ['Principal', f.principal],
          ['Host', f.hostname],
          ['Registered', <Time at={f.registered} />],
          ['Registered again', again(f) === undefined ? undefined : <Time at={again(f)} />],
          ['Ended', f.unregistered === undefined ? undefined : <Time at={f.unregistered} />],
          ['Failover timeout', info === undefined ? undefined : <FailoverTimeout seconds={info.failover_timeout ?? 0} />],
          ['Checkpoints', info === undefined ? undefined : info.checkpoint === true ? 'yes: its tasks survive restarts of agents' : 'no'],
        ]}
      />
      <Tags title={plural(f.roles.length, 'role')} list={f.roles.map((r) => ({ text: r + (f.suppressed.includes(r) ? ' (offers suppressed)' : ''), href: href('roles', {}, { q: r }) }))} />
      <Tags title={f.capabilities.length === 0 ? 'No capabilities' : plural(f.capabilities.length, 'capability', 'capabilities')} list={f.capabilities.map((c) => ({ text: c }))} />
      {labels.length > 0 && <Tags title={plural(labels.length, 'label')} list={labels.map((l) => ({ text: l.value === undefined ? l.key : `${l.key}=${l.value}` }))} />}
    </Panel>
  )
}

function FailoverTimeout({ seconds }: { seconds: number }) {
  if (seconds === 0) return <span title="Its tasks are killed as soon as it disconnects.">none</span>
  if (seconds > 10 * 365 * 86400) return <span title={amount(seconds) + ' seconds'}>for ever</span>
  return <span title={`Its tasks run on for so long without it, then they are killed. ${amount(seconds)} seconds`}>{duration(seconds)}</span>
}

function Tags({ title, list }: { title: string; list: { text: string; href?: string }[] }) {
  return (
    <div class="tag-list">
      <span class="muted">{title}</span>
      <span class="tags">
        {[...list]
          .sort((a, b) => (a.text < b.text ? -1 : 1))
          .map((t) =>
            t.href === undefined ? (
              <Tag key={t.text} title={t.text}>
                {t.text}
              </Tag>
            ) : (
              <a key={t.text} class="tag" href={t.href} title={t.text}>
                {t.text}
              </a>
            ),
          )}
      </span>
    </div>
  )
}
