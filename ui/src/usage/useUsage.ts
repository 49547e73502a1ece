/** What containers of an agent use, live, with the last ten minutes of it. */
import { useSignal, type ReadonlySignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { agentPath, own, type ApiError } from '~/api/client'
import { watch } from '~/api/live'
import { flat, keyOf, measuredTogether, tree, type Container, type Node } from './containers'
import { Series, sum, type Sample } from './usage'

export interface Usage {
  /** All containers of the agent, or those below one. */
  nodes: readonly Node[]
  series: ReadonlyMap<string, Series>
  /** Containers that are measured together with the one around them. */
  shared: ReadonlySet<string>
  /** The sum over executors' and standalone containers; nested ones are part of them. */
  total: readonly Sample[]
  error: ApiError | undefined
  ready: boolean
}

const nothing: Usage = { nodes: [], series: new Map(), shared: new Set(), total: [], error: undefined, ready: false }

/** useUsage watches the containers of an agent; root narrows it to those below one. */
export function useUsage(agent: string | undefined, root?: string, interval = 2000): ReadonlySignal<Usage> {
  const out = useSignal<Usage>(nothing)
  useEffect(() => {
    if (agent === undefined || agent === '') return
    const series = new Map<string, Series>()
    const shared = new Set<string>()
    let total: Sample[] = []
    const path = agentPath(agent, own + '/containers' + (root === undefined ? '' : '?container_id=' + encodeURIComponent(root)))
    const w = watch<{ containers: Container[] }>(path, interval)
    const stop = w.value.subscribe(({ data, error }) => {
      if (data === undefined) {
        if (error !== undefined) out.value = { ...out.peek(), error, ready: true }
        return
      }
      const nodes = flat(tree(data.containers))
      const there = new Set<string>()
      for (const n of nodes) {
        const key = keyOf(n.container.container_id)
        there.add(key)
        let s = series.get(key)
        if (s === undefined) series.set(key, (s = new Series()))
        if (n.container.resource_statistics !== undefined) s.add(n.container.resource_statistics)
      }
      const byKey = new Map(nodes.map((n) => [n.key, n]))
      for (const n of nodes) {
        const parent = n.container.container_id.parent
        const around = parent === undefined ? undefined : byKey.get(keyOf(parent))
        if (measuredTogether(n.container.resource_statistics, around?.container.resource_statistics)) shared.add(n.key)
      }
      for (const key of series.keys()) if (!there.has(key)) series.delete(key)
      const now = sum(nodes.filter((n) => n.depth === 0).map((n) => series.get(n.key)?.latest))
      if (now.at > (total.at(-1)?.at ?? 0)) total = [...total.slice(-599), now]
      out.value = { nodes, series: new Map(series), shared: new Set(shared), total, error, ready: true }
    })
    return () => {
      stop()
      w.stop()
    }
  }, [agent, root, interval])
  return out
}

