/** Every metric of the leading master: searched, watched as it changes, pinned, named as Prometheus does. */
import { useComputed, useSignal, useSignalEffect } from '@preact/signals'
import { useMemo, useRef } from 'preact/hooks'
import { agentPath, own } from '~/api/client'
import { useLive } from '~/api/live'
import { Button, Copy, Empty, ErrorNote, Panel, Skeleton, Tag } from '~/components/basic'
import { Segments } from '~/components/Form'
import { Page } from '~/components/Page'
import { SourceSelect, sourceName } from '~/pages/parts/SourceSelect'
import { Counted } from '~/pages/parts/Counted'
import { FilterBox } from '~/components/Table'
import { bytes, count, duration, megabytes, percent, trim } from '~/format'
import { remembered } from '~/prefs'
import { Trend } from '~/pages/metrics/Trend'
import { groupOf, History, search, type Described, type Snapshot } from '~/pages/metrics/series'
import { setQuery, useRoute } from '~/router'
import { trouble } from '~/pages/parts/trouble'
import '~/style/pages/cluster.css'

/** pinned are names of metrics that are shown first, remembered in this browser. */
const pinned = remembered<string[]>('metrics.pinned', ['master/tasks_running', 'master/cpus_percent', 'master/mem_percent', 'registrar/state_store_ms/p99'])

/** Groups are shown closed beyond as many metrics, unless there is a search. */
const most = 400

/** valueText is a value with its unit. */
export function valueText(v: number | undefined, unit: string | undefined): string {
  if (v === undefined || Number.isNaN(v)) return '–'
  switch (unit) {
    case 'bytes':
      return bytes(v)
    case 'MB':
      return megabytes(v)
    case 'ratio':
      return percent(v, 1)
    case 's':
      return duration(v)
    case 'ms':
      return v >= 1000 ? duration(v / 1000) : trim(v, v < 1 ? 4 : 2) + ' ms'
    default:
      return Number.isInteger(v) ? count(v) : trim(v, 3)
  }
}

export default function Metrics() {
  const route = useRoute()
  const agent = route.query['agent'] ?? ''
  return <Explorer key={agent} agent={agent} />
}

function Explorer({ agent }: { agent: string }) {
  const route = useRoute()
  const path = (p: string) => (agent === '' ? p : agentPath(agent, p))
  const live = useLive<Snapshot>(path('/metrics/snapshot'), { interval: 2000 })
  const described = useLive<{ metrics: Described[] }>(path(own + '/metrics'), { interval: 60_000 })
  const history = useRef(new History())
  const tick = useSignal(0)
  useSignalEffect(() => {
    const { data, at } = live.value
    if (data === undefined) return
    history.current.add(at, data)
    tick.value = at
  })
  const byName = useComputed(() => new Map((described.value.data?.metrics ?? []).map((d) => [d.name, d])))
  const text = route.query['q'] ?? ''
  const show = (route.query['show'] ?? 'all') as 'all' | 'changing' | 'pinned'
  const data = live.value.data
  const names = useMemo(() => Object.keys(data ?? {}).sort(), [data === undefined ? '' : Object.keys(data).length])
  const found = search(names, text, (n) => byName.value.get(n)).filter(
    (n) => show === 'all' || (show === 'pinned' ? pinned.value.includes(n) : history.current.changed(n)),
  )
  const pins = text === '' && show === 'all' ? found.filter((n) => pinned.value.includes(n)) : []
  const groups = new Map<string, string[]>()
  for (const n of found) {
    const g = groupOf(n)
    const list = groups.get(g)
    if (list === undefined) groups.set(g, [n])
    else list.push(n)
  }
  const at = tick.value
  const row = (n: string) => <MetricRow key={n} name={n} value={data?.[n]} history={history.current} at={at} about={byName.value.get(n)} />
  return (
    <Page title="Metrics" sub={sourceName(agent)}>
      <div class="filters">
        <FilterBox value={text} onChange={(q) => setQuery({ q })} label="Search names, meanings and PromQL" placeholder="Search names, meanings and PromQL" />
        <Segments
          label="Which metrics"
          value={show}
          onChange={(v) => setQuery({ show: v === 'all' ? '' : v })}
          options={[
            { value: 'all', title: <Counted text="All" n={data === undefined ? undefined : names.length} /> },
            { value: 'changing', title: 'Changing' },
            { value: 'pinned', title: <Counted text="Pinned" n={data === undefined ? undefined : pinned.value.filter((p) => names.includes(p)).length} /> },
          ]}
        />
        <SourceSelect what="Metrics" agent={agent} />
      </div>
      <ErrorNote error={trouble(live.value)} title="The metrics cannot be read." />
      {data === undefined && live.value.error === undefined && <Skeleton lines={12} />}
      {data !== undefined && found.length === 0 && (
        <Empty title="No metric like that" icon="metrics">
          {show === 'changing' ? 'Nothing has changed since this page was opened.' : show === 'pinned' ? 'Pin metrics to see them here.' : 'Try fewer words.'}
        </Empty>
      )}
      {pins.length > 0 && (
        <div class="metric-cards" role="list" aria-label="Pinned metrics">
          {pins.map((n) => (
            <PinCard key={n} name={n} value={data?.[n]} history={history.current} at={at} about={byName.value.get(n)} />
          ))}
        </div>
      )}
      {[...groups].map(([g, list]) => (
        <Group key={g} name={g} size={list.length} open={text !== '' || show !== 'all' || found.length <= most || list.length < 40 || g === 'master'}>
          {() => list.map(row)}
        </Group>
      ))}
    </Page>
  )
}

function Group({ name, size, open, children }: { name: string; size: number; open: boolean; children: () => preact.ComponentChildren }) {
  const shut = useSignal<boolean | undefined>(undefined)
  const isOpen = shut.value === undefined ? open : !shut.value
  return (
    <Panel
      flush
      title={
        <button type="button" class="group-toggle" aria-expanded={isOpen} onClick={() => (shut.value = isOpen)}>
          {name} <span class="muted">{count(size)}</span>
        </button>
      }
    >
      {isOpen && <ul class="metrics">{children()}</ul>}
    </Panel>
  )
}

interface RowProps {
  name: string
  value: number | undefined
  history: History
  /** When the history grew last: a component is drawn again only if something given to it changes. */
  at: number
  about: Described | undefined
}

function pin(name: string): void {
  pinned.value = pinned.value.includes(name) ? pinned.value.filter((p) => p !== name) : [...pinned.value, name]
}

function MetricRow({ name, value, history, about }: RowProps) {
  const isPinned = pinned.value.includes(name)
  const rate = about?.kind === 'counter' ? history.rate(name) : undefined
  return (
    <li class="metric">
      <div class="metric-name">
        <code title={name}>{name}</code>
        {about !== undefined && about.kind !== 'gauge' && <Tag>{about.kind}</Tag>}
        {about?.help !== undefined && about.help !== '' && <span class="metric-help muted">{about.help}</span>}
      </div>
      <Trend values={history.of(name)} label={`${name} since this page was opened`} />
      <div class="metric-value num" title={value === undefined ? undefined : String(value)}>
        {valueText(value, about?.unit)}
        {rate !== undefined && rate > 0 && <span class="muted metric-rate">{trim(rate, rate < 10 ? 2 : 0)}/s</span>}
      </div>
      <div class="metric-acts">
        {about?.promql !== undefined && about.promql !== '' ? <Copy text={about.promql} what="PromQL" /> : <span class="copy-none" />}
        <Button small kind="ghost" icon="pin" pressed={isPinned} label={(isPinned ? 'Unpin ' : 'Pin ') + name} onClick={() => pin(name)} />
      </div>
    </li>
  )
}

function PinCard({ name, value, history, about }: RowProps) {
  return (
    <div class="metric-card" role="listitem">
      <div class="metric-card-head">
        <code title={about?.help ?? name}>{name}</code>
        <Button small kind="ghost" icon="close" label={'Unpin ' + name} onClick={() => pin(name)} />
      </div>
      <div class="metric-card-value num">{valueText(value, about?.unit)}</div>
      <Trend values={history.of(name)} label={`${name} since this page was opened`} />
    </div>
  )
}
