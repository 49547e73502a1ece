/** Why a framework gets offers or not, in the words of the master's allocator. */
import { own } from '~/api/client'
import { useLive } from '~/api/live'
import type { Resources } from '~/api/types'
import { phrase } from '~/actions/quota'
import { ErrorNote, Facts, Id, Skeleton, StateBadge, Tag, Time } from '~/components/basic'
import { amount, count, percent, plural } from '~/format'
import { href } from '~/router'
import { agents } from '~/state/store'
import { fine, wordsOf, type Explained, type ExplainedRole, type Reason } from './reasons'

/** amounts is all of several resources: "2 CPUs, 1 GiB of memory". */
export function amounts(all: Record<string, number> | Partial<Resources>): string {
  const parts = Object.entries(all)
    .filter(([, n]) => n !== undefined && n !== 0)
    .map(([name, n]) => phrase(name, n))
  return parts.length === 0 ? 'nothing' : parts.join(', ')
}

export function Explain({ frameworkId }: { frameworkId: string }) {
  const live = useLive<Explained>(own + '/explain?framework_id=' + encodeURIComponent(frameworkId), { interval: 5000 })
  const e = live.value.data
  if (e === undefined) {
    if (live.value.error !== undefined) return <ErrorNote error={live.value.error} title="Nobody can say why." />
    return <Skeleton lines={6} />
  }
  return (
    <div class="explain">
      <p class="explain-hint">{e.hint}</p>
      <Bar e={e} />
      <ul class="explain-reasons">
        {(e.agents.reasons ?? []).map((r, i) => (
          <ReasonRow key={r.reason} reason={r} index={i} />
        ))}
      </ul>
      {(e.roles ?? []).length > 0 && (
        <div class="explain-roles">
          <h3>Its roles</h3>
          {(e.roles ?? []).map((r) => (
            <RoleRow key={r.role} role={r} />
          ))}
        </div>
      )}
    </div>
  )
}

/** colorOf tells reasons apart; what is no obstacle has a colour of its own. */
function colorOf(reason: string, index: number): string {
  return fine(reason) ? (reason === 'OFFERED' ? 'fill-offered' : 'fill-good') : 'fill-reason-' + (index % 6)
}

/** Bar shows the agents by what is the matter with them. */
function Bar({ e }: { e: Explained }) {
  const parts = [...(e.agents.reasons ?? [])]
  const total = Math.max(e.agents.total, 1)
  const text = [`${count(e.agents.eligible)} of ${plural(e.agents.total, 'agent')} can be offered`, ...parts.map((r) => `${count(r.agents)}: ${wordsOf(r.reason).title}`)].join('; ')
  let x = 0
  return (
    <svg class="explain-bar" viewBox="0 0 100 4" preserveAspectRatio="none" role="img" aria-label={text}>
      <rect width={100} height={4} class="explain-rest" />
      {parts.map((r, i) => {
        const w = (r.agents / total) * 100
        const at = x
        x += w
        return (
          <rect key={r.reason} x={at} width={w} height={4} class={colorOf(r.reason, i)}>
            <title>{wordsOf(r.reason).title}</title>
          </rect>
        )
      })}
    </svg>
  )
}

function ReasonRow({ reason: r, index }: { reason: Reason; index: number }) {
  const w = wordsOf(r.reason)
  const examples = r.examples ?? []
  return (
    <li>
      <span class={'explain-key ' + colorOf(r.reason, index)} />
      <div>
        <strong>{w.title}</strong> <span class="muted">{plural(r.agents, 'agent')}</span>
        {r.until !== undefined && r.until > 0 && (
          <span class="muted">
            , ends <Time at={r.until} />
          </span>
        )}
        <p class="muted">{w.text}</p>
        {examples.length > 0 && (
          <p class="explain-examples">
            {examples.slice(0, 4).map((id) => (
              <a key={id} href={href('agent', { agent_id: id })} title={id}>
                {agents.get(id)?.hostname ?? id}
              </a>
            ))}
            {r.agents > Math.min(examples.length, 4) && <span class="muted">and {count(r.agents - Math.min(examples.length, 4))} more</span>}
          </p>
        )}
      </div>
    </li>
  )
}

function RoleRow({ role: r }: { role: ExplainedRole }) {
  const limits = r.quota?.limit ?? {}
  return (
    <div class="explain-role">
      <div class="explain-role-head">
        <a href={href('roles', {}, { q: r.role })}>{r.role}</a>
        {r.suppressed && <StateBadge state="SUPPRESSED" tone="warn" label="suppressed" />}
        {(r.limited_by ?? []).map((l) => (
          <Tag key={l} title="Its quota leaves no more to offer">
            {l === r.role ? 'at its limit' : `${l} is at its limit`}
          </Tag>
        ))}
      </div>
      <Facts
        items={[
          ['Has of the cluster', percent(r.share, 1)],
          ['This framework', r.framework_share === undefined ? undefined : percent(r.framework_share, 1)],
          ['Weight', amount(r.weight)],
          [r.quota?.role !== undefined && r.quota.role !== r.role ? `Quota of ${r.quota.role} consumed` : 'Quota consumed', r.quota?.consumed === undefined ? undefined : amounts(r.quota.consumed)],
          ['Quota limit', Object.keys(limits).length === 0 ? undefined : amounts(limits)],
        ]}
      />
    </div>
  )
}

/** FrameworkLink is a framework by name and id. */
export function FrameworkLink({ id, name }: { id: string; name: string | undefined }) {
  return name === undefined || name === '' ? <Id id={id} href={href('framework', { framework_id: id })} /> : <a href={href('framework', { framework_id: id })}>{name}</a>
}
