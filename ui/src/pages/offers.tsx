/** Offers: who was offered what and how long they hold it, and why a framework is offered nothing. */
import { own } from '~/api/client'
import { useLive } from '~/api/live'
import { Empty, ErrorNote, Panel } from '~/components/basic'
import { Page } from '~/components/Page'
import { Tabs } from '~/components/Tabs'
import { plural } from '~/format'
import { Explain } from '~/pages/offers/Explain'
import { AskedBack, OfferTable } from '~/pages/offers/OfferTable'
import { offersOf, type Offer } from '~/pages/offers/wire'
import { href, setQuery, useRoute } from '~/router'
import { frameworks, ready } from '~/state/store'
import { trouble } from '~/pages/parts/trouble'
import '~/style/pages/cluster.css'

export default function Offers() {
  const live = useLive<Offer[] | { offers?: Offer[] }>(own + '/offers', { interval: 2000 })
  const both = offersOf(live.value.data)
  const offers = both?.offered
  const holders = new Set((offers ?? []).map((o) => o.framework_id))
  return (
    <Page title="Offers" sub={offers === undefined || offers.length === 0 ? undefined : `${plural(offers.length, 'offer')} held by ${plural(holders.size, 'framework')}`}>
      <ErrorNote error={trouble(live.value)} title="The offers cannot be read." />
      {(both !== undefined || live.value.error === undefined) && (
        <Tabs
          label="Offers"
          tabs={[
            { key: 'outstanding', title: 'Outstanding', count: offers?.length, render: () => <OfferTable offers={offers ?? []} loading={offers === undefined && live.value.error === undefined} /> },
            { key: 'back', title: 'Asked back', count: both?.askedBack.length, render: () => <AskedBack offers={both?.askedBack ?? []} /> },
            { key: 'why', title: 'Why does a framework get none?', render: () => <Why holders={holders} /> },
          ]}
        />
      )}
    </Page>
  )
}

function Why({ holders }: { holders: ReadonlySet<string> }) {
  const all = frameworks.all.filter((f) => !f.completed).sort((a, b) => Number(holders.has(a.id)) - Number(holders.has(b.id)) || (a.name < b.name ? -1 : 1))
  const wanted = useRoute().query['framework']
  const chosen = all.find((f) => f.id === wanted) ?? all[0]
  if (chosen === undefined) {
    return ready.value ? <Empty title="There is no framework" icon="frameworks">Offers are made to frameworks; none has registered.</Empty> : null
  }
  return (
    <Panel
      title={
        <label class="select">
          <span>Why does</span>{' '}
          <select value={chosen.id} onChange={(e) => setQuery({ framework: e.currentTarget.value })} aria-label="Framework">
            {all.map((f) => (
              <option key={f.id} value={f.id} selected={f.id === chosen.id}>
                {f.name || f.id}
                {holders.has(f.id) ? ' (holds offers)' : ''}
              </option>
            ))}
          </select>{' '}
          <span>get offers, or none?</span>
        </label>
      }
      actions={<a href={href('framework', { framework_id: chosen.id })}>Its page</a>}
    >
      <Explain key={chosen.id} frameworkId={chosen.id} />
    </Panel>
  )
}
