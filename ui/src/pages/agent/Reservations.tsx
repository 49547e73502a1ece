/** What of an agent is reserved, for whom and by whom, and its volumes. */
import type { Resource, ResourceName } from '~/api/types'
import { isDynamic, mayReserve, openReserve, openUnreserve } from '~/actions/reserve'
import { mayCreateVolume, openCreateVolume, openDestroyVolume } from '~/actions/volume'
import { Button, Empty, Panel, Skeleton, Tag } from '~/components/basic'
import { Menu } from '~/components/Menu'
import { quantity } from '~/components/ResourceBar'
import { can } from '~/session'
import type { Agent } from '~/state/model'
import { Scrolls } from './Scrolls'

export function Reservations({ agent, resources, used, loading }: { agent: Agent; resources: readonly Resource[]; used: readonly Resource[]; loading: boolean }) {
  if (loading) return <Skeleton lines={5} />
  const reserved = resources.filter((r) => reservationOf(r) !== undefined && r.disk?.persistence === undefined)
  const volumes = resources.filter((r) => r.disk?.persistence !== undefined)
  const inUse = new Set(used.map((r) => r.disk?.persistence?.id).filter((x) => x !== undefined))
  return (
    <>
      <Panel
        title="Reservations"
        actions={
          mayReserve() && (
            <Button small icon="plus" onClick={() => openReserve(agent)}>
              Reserve
            </Button>
          )
        }
      >
        {reserved.length === 0 ? (
          <Empty title="Nothing is reserved here" icon="roles" />
        ) : (
          <Scrolls label="Reservations">
            <table class="plain">
              <thead>
                <tr>
                  <th scope="col">Role</th>
                  <th scope="col">Resource</th>
                  <th scope="col" class="end">
                    Amount
                  </th>
                  <th scope="col">Kind</th>
                  <th scope="col">By</th>
                  <th scope="col">Labels</th>
                  <th scope="col">
                    <span class="offscreen">Actions</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {reserved.map((r, i) => {
                  const at = reservationOf(r)
                  return (
                    <tr key={i}>
                      <td>
                        <Tag>{at?.role}</Tag>
                      </td>
                      <td>
                        {r.name}
                        {diskText(r) !== '' && <span class="muted"> {diskText(r)}</span>}
                      </td>
                      <td class="end num">{amountOf(r)}</td>
                      <td>{at?.dynamic === true ? 'dynamic' : 'static'}</td>
                      <td>{at?.principal ?? <span class="muted">–</span>}</td>
                      <td>{(at?.labels ?? []).join(' ') || <span class="muted">–</span>}</td>
                      <td class="end">
                        <Menu
                          label={`Actions on ${amountOf(r)} ${r.name} of ${at?.role ?? ''}`}
                          class="menu-row"
                          items={[
                            mayCreateVolume(r) && { title: 'Create volume…', icon: 'plus', run: () => openCreateVolume(agent, r) },
                            isDynamic(r) && can('UNRESERVE_RESOURCES') && { title: 'Unreserve…', icon: 'trash', danger: true, run: () => openUnreserve(agent, r) },
                          ]}
                        />
                      </td>
                    </tr>
                  )
                })}
              </tbody>
            </table>
          </Scrolls>
        )}
      </Panel>
      <Panel title="Volumes">
        {volumes.length === 0 ? (
          <Empty title="No persistent volumes" icon="files" />
        ) : (
          <Scrolls label="Volumes">
            <table class="plain">
              <thead>
                <tr>
                  <th scope="col">Volume</th>
                  <th scope="col">Role</th>
                  <th scope="col" class="end">
                    Size
                  </th>
                  <th scope="col">Where</th>
                  <th scope="col">By</th>
                  <th scope="col">State</th>
                  <th scope="col">
                    <span class="offscreen">Actions</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {volumes.map((v, i) => (
                  <tr key={i}>
                    <td class="mono">{v.disk?.persistence?.id}</td>
                    <td>
                      <Tag>{reservationOf(v)?.role ?? v.role ?? '*'}</Tag>
                    </td>
                    <td class="end num">{amountOf(v)}</td>
                    <td class="mono">{[v.disk?.volume?.container_path, diskText(v)].filter((x) => x !== undefined && x !== '').join(' ')}</td>
                    <td>{v.disk?.persistence?.principal ?? <span class="muted">–</span>}</td>
                    <td>
                      {inUse.has(v.disk?.persistence?.id ?? '') ? 'in use' : 'free'}
                      {v.shared !== undefined && ', shared'}
                    </td>
                    <td class="end">
                      <Menu label={`Actions on volume ${v.disk?.persistence?.id ?? ''}`} class="menu-row" items={[can('DESTROY_VOLUME') && { title: 'Destroy…', icon: 'trash', danger: true, disabled: inUse.has(v.disk?.persistence?.id ?? ''), run: () => openDestroyVolume(agent, v) }]} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </Scrolls>
        )}
      </Panel>
    </>
  )
}

/** reservationOf is the innermost reservation of a resource, in either of Mesos's forms. */
export function reservationOf(r: Resource): { role: string; dynamic: boolean; principal: string | undefined; labels: string[] } | undefined {
  const last = r.reservations?.at(-1)
  if (last !== undefined) {
    return {
      role: last.role ?? '',
      dynamic: last.type !== 'STATIC',
      principal: last.principal,
      labels: (last.labels?.labels ?? []).map((l) => l.key + (l.value === undefined ? '' : ':' + l.value)),
    }
  }
  if (r.role !== undefined && r.role !== '*') return { role: r.role, dynamic: false, principal: undefined, labels: [] }
  return undefined
}

/** amountOf is how much of a resource there is, as text. */
export function amountOf(r: Resource): string {
  if (r.scalar !== undefined) return quantity(r.name as ResourceName, r.scalar.value)
  if (r.ranges !== undefined) return (r.ranges.range ?? []).map((x) => (x.begin === x.end ? String(x.begin) : `${x.begin}–${x.end}`)).join(', ')
  return (r.set?.item ?? []).join(', ')
}

function diskText(r: Resource): string {
  const s = r.disk?.source
  if (s === undefined) return ''
  return [s.type?.toLowerCase(), s.path?.root ?? s.mount?.root ?? s.id, s.profile].filter((x) => x !== undefined).join(' ')
}
