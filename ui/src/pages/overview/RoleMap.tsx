/** Who has how much: a tile a role, as large as what is allocated to it; what is free is a tile too. */
import { useSignal } from '@preact/signals'
import { useLayoutEffect, useRef } from 'preact/hooks'
import type { ResourceName } from '../../api/types'
import { cx, Empty, Panel, quantity, Segments, Skeleton } from '../../components'
import { percent } from '../../format'
import { remembered } from '../../prefs'
import { href } from '../../router'
import { treemap } from './treemap'
import type { RoleTotals, Totals } from './wire'

const which = remembered<ResourceName>('overview.map', 'cpus')

interface Share {
  role: string
  value: number
  color: string
}

/** shares are the parts of roles without those of the roles below them. */
export function shares(roles: readonly RoleTotals[], name: ResourceName): Share[] {
  const tops: string[] = []
  const out: Share[] = []
  for (const r of roles) {
    const top = r.name.split('/')[0] ?? r.name
    if (!tops.includes(top)) tops.push(top)
    const below = roles.filter((c) => c.name.startsWith(r.name + '/') && !c.name.slice(r.name.length + 1).includes('/'))
    const value = (r.allocated[name] ?? 0) - below.reduce((n, c) => n + (c.allocated[name] ?? 0), 0)
    if (value > 0.0005) out.push({ role: r.name, value, color: 'c' + ((tops.indexOf(top) % 8) + 1) })
  }
  return out
}

export function RoleMap({ totals }: { totals: Totals | undefined }) {
  const box = useRef<HTMLDivElement>(null)
  const size = useSignal({ w: 600, h: 260 })
  useLayoutEffect(() => {
    const el = box.current
    if (el === null) return
    const look = () => {
      if (el.clientWidth > 0) size.value = { w: el.clientWidth, h: el.clientHeight }
    }
    const watch = new ResizeObserver(look)
    watch.observe(el)
    look()
    return () => watch.disconnect()
  }, [])
  const name = which.value
  const total = totals?.totals.resources.total[name] ?? 0
  const parts = totals === undefined ? [] : shares(totals.roles, name)
  const used = parts.reduce((n, p) => n + p.value, 0)
  const free: Share[] = total - used > total * 0.001 ? [{ role: '', value: total - used, color: 'free' }] : []
  const tiles = treemap([...parts, ...free], (p) => p.value, size.value.w, size.value.h)
  return (
    <Panel
      title="Allocation by role"
      actions={
        <Segments<ResourceName>
          label="Resource"
          value={name}
          options={[
            { value: 'cpus', title: 'CPUs' },
            { value: 'mem', title: 'Memory' },
            { value: 'disk', title: 'Disk' },
            { value: 'gpus', title: 'GPUs' },
          ]}
          onChange={(v) => (which.value = v)}
        />
      }
    >
      <div class="rolemap" ref={box}>
        {totals === undefined && <Skeleton block />}
        {totals !== undefined && total === 0 && <Empty title={'The cluster has no ' + (name === 'mem' ? 'memory' : name)} icon="roles" />}
        {tiles.map((t) => {
          const share = total > 0 ? t.item.value / total : 0
          const text = (t.item.role || 'not allocated') + ': ' + quantity(name, t.item.value) + ', ' + percent(share)
          const style = { left: t.x + 'px', top: t.y + 'px', width: t.w + 'px', height: t.h + 'px' }
          const inner = t.w > 56 && t.h > 34 && (
            <>
              <span class="rolemap-name">{t.item.role || 'free'}</span>
              <span class="rolemap-value num">
                {quantity(name, t.item.value)}
                {t.w > 110 && ' · ' + percent(share)}
              </span>
            </>
          )
          return t.item.role === '' ? (
            <div key="" class="rolemap-tile rolemap-free" style={style} title={text}>
              {inner}
            </div>
          ) : (
            <a key={t.item.role} class={cx('rolemap-tile', 'tint-' + t.item.color)} style={style} title={text} aria-label={inner === false ? text : undefined} href={href('roles', {}, { q: t.item.role })}>
              {inner}
            </a>
          )
        })}
      </div>
    </Panel>
  )
}
