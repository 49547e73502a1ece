/** Roles as a tree: what each is promised, has and may have, and how fairly the cluster is shared. */
import { useComputed, useSignal } from '@preact/signals'
import { useMemo } from 'preact/hooks'
import { useLive } from '~/api/live'
import type { ResourceName, Resources } from '~/api/types'
import { openQuota, openRemoveQuota } from '~/actions/quota'
import { mayReserve, openReserve } from '~/actions/reserve'
import { openWeight } from '~/actions/weight'
import { Button, cx, Empty, ErrorNote, Panel, Skeleton } from '~/components/basic'
import { Icon } from '~/components/Icon'
import { Segments } from '~/components/Form'
import { Menu } from '~/components/Menu'
import { Page } from '~/components/Page'
import { FilterBox } from '~/components/Table'
import { amount, count, megabytes, percent, plural } from '~/format'
import { dominantShare, fairPart, flatten, frameworksBelow, hasQuota, matching, treeOf, type RoleNode, type WireRole } from '~/pages/roles/tree'
import { href, setQuery, useRoute } from '~/router'
import { can } from '~/session'
import { agents, frameworks } from '~/state/store'
import { plus, zero } from '~/state/model'
import { trouble } from '~/pages/parts/trouble'
import '~/style/pages/cluster.css'

/** More rows are not drawn: the search finds the others. */
const most = 500

type Lens = ResourceName

/** show is so much of a resource. */
export function show(name: string, n: number): string {
  return name === 'mem' || name === 'disk' ? megabytes(n) : amount(n)
}

export default function Roles() {
  const route = useRoute()
  const live = useLive<{ roles: WireRole[] }>('/roles', { interval: 2000 })
  const closed = useSignal<ReadonlySet<string>>(new Set())
  const total = useComputed(() => agents.all.reduce<Resources>((sum, a) => plus(sum, a.total), zero))
  const text = route.query['q'] ?? ''
  const lens = (route.query['of'] ?? 'cpus') as Lens
  const roles = live.value.data?.roles
  const roots = useMemo(() => treeOf(roles ?? []), [roles])
  const found = text === '' ? undefined : matching(roots, text)
  const rows = flatten(roots, (name) => found !== undefined || !closed.value.has(name)).filter((n) => found === undefined || found.has(n.name))
  const toggle = (name: string) => {
    const next = new Set(closed.value)
    if (!next.delete(name)) next.add(name)
    closed.value = next
  }
  return (
    <Page
      title="Roles"
      sub={roles === undefined ? undefined : plural(roles.length, 'role')}
      actions={
        can('UPDATE_QUOTA') && (
          <Button icon="plus" onClick={() => openQuota(undefined, roles ?? [], total.value)}>
            Set a quota
          </Button>
        )
      }
    >
      <div class="filters">
        <FilterBox value={text} onChange={(q) => setQuery({ q })} label="Find a role" placeholder="Find a role" />
        <Segments
          label="Which resource is shown"
          value={lens}
          onChange={(v) => setQuery({ of: v === 'cpus' ? '' : v })}
          options={[
            { value: 'cpus', title: 'CPUs' },
            { value: 'mem', title: 'Memory' },
            { value: 'disk', title: 'Disk' },
            { value: 'gpus', title: 'GPUs' },
          ]}
        />
      </div>
      <ErrorNote error={trouble(live.value)} title="The roles cannot be read." />
      {roles === undefined && live.value.error === undefined && <Skeleton lines={8} />}
      {roles !== undefined && roles.length === 0 && (
        <Empty title="No roles yet" icon="roles">
          A role appears with the first framework in it, or when it is given a weight, a quota or a reservation.
        </Empty>
      )}
      {roles !== undefined && roles.length > 0 && rows.length === 0 && <Empty title="No role like that" icon="roles" />}
      {rows.length > 0 && (
        <Panel flush>
          <Key lens={lens} />
          <div class="scroll-x" tabIndex={0} role="region" aria-label="Roles">
            <table class="plain roles">
              <thead>
                <tr>
                  <th scope="col">Role</th>
                  <th scope="col" class="right wide-only">
                    Weight
                  </th>
                  <th scope="col" class="right wide-only">
                    Frameworks
                  </th>
                  <th scope="col" class="wide-only">Fair share</th>
                  <th scope="col" class="roles-use">
                    {lens === 'cpus' ? 'CPUs' : lens === 'gpus' ? 'GPUs' : lens === 'mem' ? 'Memory' : 'Disk'}: allocation and quota
                  </th>
                  <th scope="col" class="right">
                    Guarantee
                  </th>
                  <th scope="col" class="right">
                    Limit
                  </th>
                  <th scope="col">
                    <span class="sr">Acts</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {rows.slice(0, most).map((n) => (
                  <RoleRow
                    key={n.name}
                    node={n}
                    roots={roots}
                    roles={roles ?? []}
                    lens={lens}
                    total={total.value}
                    open={found !== undefined || !closed.value.has(n.name)}
                    toggle={() => toggle(n.name)}
                  />
                ))}
              </tbody>
            </table>
          </div>
          {rows.length > most && <p class="panel-text muted">and {count(rows.length - most)} more: search to see them</p>}
        </Panel>
      )}
    </Page>
  )
}

function Key({ lens }: { lens: Lens }) {
  return (
    <ul class="legend roles-legend">
      {[
        ['fill-allocated', 'allocated'],
        ['fill-offered', 'offered'],
        ['fill-reserved', 'reserved, not in use'],
        ['key-guarantee', 'guaranteed'],
        ['key-mark', 'limit; due by weight'],
      ].map(([c, text]) => (
        <li key={c}>
          <span class={'legend-dot ' + c} />
          {text}
        </li>
      ))}
      <li class="muted">of {lens === 'cpus' ? 'all CPUs' : lens === 'gpus' ? 'all GPUs' : lens === 'mem' ? 'all memory' : 'all disk'}; a role has what the roles below it have</li>
    </ul>
  )
}

interface RowProps {
  node: RoleNode
  roots: readonly RoleNode[]
  roles: readonly WireRole[]
  lens: Lens
  total: Resources
  open: boolean
  toggle: () => void
}

function RoleRow({ node: n, roots, roles, lens, total, open, toggle }: RowProps) {
  const r = n.role
  const ids = [...frameworksBelow(n)]
  const guarantee = r?.quota?.guarantee?.[lens]
  const limit = r?.quota?.limit?.[lens]
  return (
    <tr>
      <th scope="row">
        <span class={'tree-cell depth-' + Math.min(n.depth, 8)}>
          {n.children.length > 0 ? (
            <button type="button" class="tree-toggle" aria-label={(open ? 'Close ' : 'Open ') + n.name} aria-expanded={open} onClick={toggle}>
              <Icon name={open ? 'down' : 'right'} size={14} />
            </button>
          ) : (
            <span class="tree-toggle" />
          )}
          <span title={n.name} class="mono">
            {n.parent !== undefined && <span class="sr">{n.parent.name}/</span>}
            {n.leaf}
          </span>
        </span>
      </th>
      <td class="right wide-only">
        {can('UPDATE_WEIGHT') ? (
          <button type="button" class="linkish" title={'Change the weight of ' + n.name} onClick={() => openWeight(n, n.parent?.children ?? roots)}>
            {amount(r?.weight ?? 1)}
          </button>
        ) : (
          amount(r?.weight ?? 1)
        )}
      </td>
      <td class="right wide-only">
        {ids.length === 0 ? (
          <span class="muted">0</span>
        ) : (
          <a href={href('frameworks', {}, { q: n.name })} title={ids.map((id) => frameworks.get(id)?.name ?? id).join(', ')}>
            {count(ids.length)}
          </a>
        )}
      </td>
      <td class="wide-only">
        <Share node={n} siblings={n.parent?.children ?? roots} total={total} />
      </td>
      <td>
        <Use role={r} lens={lens} total={total[lens]} />
      </td>
      <td class="right num">{guarantee === undefined ? <span class="muted">–</span> : show(lens, guarantee)}</td>
      <td class="right num">{limit === undefined ? <span class="muted">–</span> : show(lens, limit)}</td>
      <td class="acts">
        <Menu
          label={'Acts on ' + n.name}
          class="menu-row"
          items={[
            can('UPDATE_QUOTA') && n.name !== '*' && { title: hasQuota(r) ? 'Edit the quota…' : 'Set a quota…', icon: 'edit', run: () => openQuota(n.name, roles, total) },
            can('UPDATE_QUOTA') && hasQuota(r) && r !== undefined && { title: 'Remove the quota…', icon: 'trash', run: () => openRemoveQuota(r) },
            can('UPDATE_WEIGHT') && { title: 'Change the weight…', icon: 'roles', run: () => openWeight(n, n.parent?.children ?? roots) },
            mayReserve() && n.name !== '*' && { title: 'Reserve resources…', icon: 'pin', run: () => openReserve(undefined, n.name) },
          ]}
        />
      </td>
    </tr>
  )
}

/** Share is the role's dominant share, against what its weight entitles it to among its siblings. */
function Share({ node: n, siblings, total }: { node: RoleNode; siblings: readonly RoleNode[]; total: Resources }) {
  if (n.role === undefined) return <span class="muted">–</span>
  const s = dominantShare(n.role.resources, total)
  const fair = fairPart(n, siblings) * (n.parent?.role === undefined ? 1 : dominantShare(n.parent.role.resources, total).share)
  const text = `${percent(s.share, 1)}${s.by === '' ? '' : ` of all ${s.by}`}` + (fair > 0 ? `; by weight its part${n.parent === undefined ? ' of the cluster' : ` of what ${n.parent.name} has`} is ${percent(fair, 1)}` : '')
  return (
    <span class="share" title={text}>
      <svg class="meter" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label={'Dominant share ' + text}>
        <rect width={100} height={8} class="meter-back" />
        <rect width={s.share * 100} height={8} class={cx('meter-fill', fair > 0 && s.share > fair * 1.05 && 'meter-over')} />
        {fair > 0 && <rect x={Math.min(99, fair * 100 - 0.5)} width={1} height={8} class="meter-mark" />}
      </svg>
      <span class="num">{percent(s.share)}</span>
    </span>
  )
}

/** Use is what a role has of one resource, its guarantee and its limit, on the scale of the cluster. */
function Use({ role: r, lens, total }: { role: WireRole | undefined; lens: Lens; total: number }) {
  if (r === undefined) return <span class="muted">–</span>
  const allocated = r.allocated[lens] ?? 0
  const offered = r.offered[lens] ?? 0
  const consumed = r.quota?.consumed?.[lens] ?? allocated
  const idle = Math.max(0, consumed - allocated)
  const guarantee = r.quota?.guarantee?.[lens]
  const limit = r.quota?.limit?.[lens]
  const all = Math.max(total, limit ?? 0, 1e-9)
  const x = (n: number) => Math.min(100, (n / all) * 100)
  const text = [
    `${show(lens, allocated)} allocated`,
    offered > 0 && `${show(lens, offered)} offered`,
    idle > 0 && `${show(lens, idle)} reserved and not in use`,
    limit !== undefined && `${show(lens, consumed)} of ${show(lens, limit)} quota consumed`,
  ]
    .filter(Boolean)
    .join(', ')
  return (
    <span class="use" title={text}>
      <svg class="meter" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label={text}>
        <rect width={100} height={10} class="meter-back" />
        <rect width={x(allocated)} height={10} class={cx('meter-allocated', limit !== undefined && consumed > limit && 'meter-over')} />
        <rect x={x(allocated)} width={x(offered)} height={10} class="meter-offered" />
        <rect x={x(allocated + offered)} width={x(idle)} height={10} class="meter-reserved" />
        {guarantee !== undefined && <rect y={7.5} width={x(guarantee)} height={2.5} class="meter-guarantee" />}
        {limit !== undefined && <rect x={Math.min(99.2, x(limit) - 0.4)} width={0.8} height={10} class="meter-limit" />}
      </svg>
      <span class="num">{show(lens, allocated)}</span>
    </span>
  )
}
