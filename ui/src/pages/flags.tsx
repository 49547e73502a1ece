/** Flags: what the leading master, or an agent, runs with, what was changed, and what each flag does. */
import { useSignal } from '@preact/signals'
import { agentPath, own } from '~/api/client'
import { useLive } from '~/api/live'
import { Copy, Empty, ErrorNote, Note, Panel, Skeleton, Tag } from '~/components/basic'
import { Segments } from '~/components/Form'
import { Page } from '~/components/Page'
import { SourceSelect, sourceName } from '~/pages/parts/SourceSelect'
import { Counted } from '~/pages/parts/Counted'
import { FilterBox } from '~/components/Table'
import { count } from '~/format'
import { setQuery, useRoute } from '~/router'
import { trouble } from '~/pages/parts/trouble'
import '~/style/pages/cluster.css'

interface Flag {
  name: string
  value?: string
  default?: string
  type: string
  help: string
  note?: string
  source?: string
  changed: boolean
  secret?: boolean
}

type Show = 'all' | 'changed' | 'given'

/** shown says whether a flag is in the choice and has all words of the search. */
function shown(f: Flag, show: Show, words: string[]): boolean {
  if (show === 'changed' && !f.changed) return false
  if (show === 'given' && f.source === undefined) return false
  const text = (f.name + ' ' + (f.value ?? '') + ' ' + f.help).toLowerCase()
  return words.every((w) => text.includes(w) || text.includes(w.replace(/^--/, '').replaceAll('-', '_')))
}

export default function Flags() {
  const route = useRoute()
  const agent = route.query['agent'] ?? ''
  const live = useLive<{ flags: Flag[] }>(agent === '' ? own + '/flags' : agentPath(agent, own + '/flags'), { interval: 10_000 })
  const show = (route.query['show'] ?? 'all') as Show
  const text = route.query['q'] ?? ''
  const words = text.toLowerCase().split(/\s+/).filter((w) => w !== '')
  const all = live.value.data?.flags
  const list = all?.filter((f) => shown(f, show, words))
  return (
    <Page title="Flags" sub={sourceName(agent)}>
      <div class="filters">
        <FilterBox value={text} onChange={(q) => setQuery({ q })} label="Search names, values and help" placeholder="Search names, values and help" />
        <Segments
          label="Which flags"
          value={show}
          onChange={(v) => setQuery({ show: v === 'all' ? '' : v })}
          options={[
            { value: 'all', title: <Counted text="All" n={all?.length} /> },
            { value: 'changed', title: <Counted text="Changed" n={all?.filter((f) => f.changed).length} /> },
            { value: 'given', title: <Counted text="Given" n={all?.filter((f) => f.source !== undefined).length} /> },
          ]}
        />
        <SourceSelect what="Flags" agent={agent} />
      </div>
      <ErrorNote error={trouble(live.value)} title="The flags cannot be read." />
      {list === undefined && live.value.error === undefined && <Skeleton lines={12} />}
      {list !== undefined && list.length === 0 && (
        <Empty title="No flag like that" icon="flags">
          {show === 'all' ? 'Try fewer words.' : 'Look at all flags, not only those that were ' + show + '.'}
        </Empty>
      )}
      {list !== undefined && list.length > 0 && (
        <Panel flush>
          <ul class="flags" aria-label={count(list.length) + ' flags'}>
            {list.map((f) => (
              <FlagRow key={f.name} flag={f} />
            ))}
          </ul>
        </Panel>
      )}
      {list !== undefined && (
        <Note>
          Every flag can also be given as an environment variable: <code>CLUSTERD_NAME</code> or <code>MESOS_NAME</code>. Values of secrets are not shown.
        </Note>
      )}
    </Page>
  )
}

/** Long values are cut; a click shows all. */
const most = 160

function FlagRow({ flag: f }: { flag: Flag }) {
  const open = useSignal(false)
  const value = f.value ?? ''
  const long = value.length > most
  return (
    <li class={f.changed ? 'flag flag-changed' : 'flag'} id={'flag-' + f.name}>
      <div class="flag-name">
        <code>--{f.name}</code>
        <Copy text={f.value === undefined || f.secret === true ? '--' + f.name : `--${f.name}=${f.value}`} what="flag" />
        <span class="flag-type muted">{f.type}</span>
      </div>
      <div class="flag-value">
        {f.value === undefined ? (
          <span class="muted">not set</span>
        ) : f.value === '' ? (
          <span class="muted">empty</span>
        ) : (
          <code>{long && !open.value ? value.slice(0, most) + '…' : value}</code>
        )}
        {long && (
          <button type="button" class="linkish" onClick={() => (open.value = !open.value)} aria-expanded={open.value}>
            {open.value ? 'less' : 'all ' + count(value.length) + ' characters'}
          </button>
        )}
        {f.changed && <Tag title={f.source === undefined ? undefined : 'given by ' + f.source}>changed</Tag>}
        {f.changed && f.default !== undefined && (
          <span class="muted">
            default <code>{f.default === '' ? 'empty' : f.default}</code>
          </span>
        )}
        {f.source !== undefined && <span class="muted flag-source">by {f.source}</span>}
      </div>
      <p class="flag-help">
        {f.help} {f.note !== undefined && <span class="muted">{f.note}</span>}
      </p>
    </li>
  )
}
