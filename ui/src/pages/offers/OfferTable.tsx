/** Offers that nobody has answered yet. */
import { Cpus, Empty, Id, Megabytes, Tag, Time } from '~/components/basic'
import { Table, type Column } from '~/components/Table'
import { duration, exact } from '~/format'
import { second } from '~/clock'
import { href } from '~/router'
import { FrameworkLink } from './Explain'
import type { Offer } from './wire'

/** An offer that is held so long is worth a look: most frameworks answer within a second. */
const long = 30

function Held({ since }: { since: number }) {
  const s = Math.max(0, second.value - since)
  return (
    <span class={s >= long ? 'num tone-warn' : 'num'} title={'since ' + exact(since) + (s >= long ? '; the framework holds it and keeps it from others' : '')}>
      {duration(Math.round(s))}
    </span>
  )
}

const columns: Column<Offer>[] = [
  { key: 'framework', title: 'Framework', value: (o) => o.framework ?? o.framework_id, width: 'minmax(7rem, 1.4fr)', render: (o) => <FrameworkLink id={o.framework_id} name={o.framework} /> },
  { key: 'role', title: 'Role', value: (o) => o.role, render: (o) => <Tag>{o.role}</Tag> },
  { key: 'host', title: 'Agent', value: (o) => o.hostname, width: 'minmax(7rem, 1.4fr)', render: (o) => <a href={href('agent', { agent_id: o.agent_id })}>{o.hostname || o.agent_id}</a> },
  { key: 'held', title: 'Held for', value: (o) => -(o.since ?? 0), align: 'end', width: '6rem', render: (o) => (o.since === undefined ? '–' : <Held since={o.since} />) },
  { key: 'cpus', title: 'CPUs', value: (o) => o.resources?.cpus ?? 0, align: 'end', width: '5rem', render: (o) => <Cpus n={o.resources?.cpus ?? 0} /> },
  { key: 'gpus', title: 'GPUs', value: (o) => o.resources?.gpus ?? 0, align: 'end', width: '4.5rem', hide: 'medium', render: (o) => <Cpus n={o.resources?.gpus ?? 0} /> },
  { key: 'mem', title: 'Memory', value: (o) => o.resources?.mem ?? 0, align: 'end', width: '6rem', hide: 'narrow', render: (o) => <Megabytes n={o.resources?.mem ?? 0} /> },
  { key: 'disk', title: 'Disk', value: (o) => o.resources?.disk ?? 0, align: 'end', width: '6rem', hide: 'narrow', render: (o) => <Megabytes n={o.resources?.disk ?? 0} /> },
  { key: 'resources', title: 'All resources', value: (o) => o.resources_text, width: 'minmax(8rem, 1.6fr)', hide: 'medium', render: (o) => <span class="muted mono" title={o.resources_text}>{o.resources_text}</span> },
  { key: 'id', title: 'Offer', value: (o) => o.offer_id, width: 'minmax(9rem, 1fr)', hide: 'medium', render: (o) => <Id id={o.offer_id} most={16} /> },
]

export function OfferTable({ offers, without = [], loading, fill = false }: { offers: readonly Offer[]; without?: string[]; loading: boolean; fill?: boolean }) {
  return (
    <Table
      id="offers"
      label="Offers"
      columns={columns.filter((c) => !without.includes(c.key))}
      rows={offers}
      rowKey={(o) => o.offer_id}
      defaultSort="-held"
      loading={loading}
      {...(fill ? { fill: true } : { maxRows: 12 })}
      empty={<Empty title="No offer is outstanding" icon="offers">Frameworks have answered all offers, by launching tasks or by declining.</Empty>}
    />
  )
}

const backColumns: Column<Offer>[] = [
  { key: 'framework', title: 'Framework', value: (o) => o.framework ?? o.framework_id, width: 'minmax(7rem, 1.4fr)', render: (o) => <FrameworkLink id={o.framework_id} name={o.framework} /> },
  { key: 'host', title: 'Agent', value: (o) => o.hostname, width: 'minmax(7rem, 1.4fr)', render: (o) => <a href={href('agent', { agent_id: o.agent_id })}>{o.hostname || o.agent_id}</a> },
  { key: 'begins', title: 'Away from', value: (o) => o.unavailability?.start?.nanoseconds, width: '9rem', render: (o) => <Time at={(o.unavailability?.start?.nanoseconds ?? 0) / 1e9} /> },
  { key: 'lasts', title: 'For', value: (o) => o.unavailability?.duration?.nanoseconds, width: '7rem', render: (o) => (o.unavailability?.duration === undefined ? 'ever' : duration(o.unavailability.duration.nanoseconds / 1e9)) },
  { key: 'id', title: 'Inverse offer', value: (o) => o.offer_id, width: 'minmax(9rem, 1fr)', hide: 'medium', render: (o) => <Id id={o.offer_id} most={16} /> },
]

/** AskedBack lists inverse offers: agents that frameworks are asked to leave, and have not answered for. */
export function AskedBack({ offers, without = [] }: { offers: readonly Offer[]; without?: string[] }) {
  return (
    <Table
      id="back"
      label="Agents asked back"
      columns={backColumns.filter((c) => !without.includes(c.key))}
      rows={offers}
      rowKey={(o) => o.offer_id}
      defaultSort="begins"
      maxRows={12}
      empty={<Empty title="No agent is asked back" icon="maintenance">Before maintenance, frameworks are asked to leave the machines.</Empty>}
    />
  )
}
