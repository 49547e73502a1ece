/**
 * Routes live behind the '#', as Mesos's do, so that its deep links work and any server can serve
 * the page: `#/agents/S1?sort=-cpus`. The query belongs to the page (filters, sorting, tabs).
 */
import { computed, signal, type ReadonlySignal } from '@preact/signals'

/** patterns are all routes by name. Names of parameters are those of Mesos. */
export const patterns = {
  overview: '/',
  frameworks: '/frameworks',
  framework: '/frameworks/:framework_id',
  roles: '/roles',
  offers: '/offers',
  agents: '/agents',
  agent: '/agents/:agent_id',
  agentFramework: '/agents/:agent_id/frameworks/:framework_id',
  executor: '/agents/:agent_id/frameworks/:framework_id/executors/:executor_id',
  executorBrowse: '/agents/:agent_id/frameworks/:framework_id/executors/:executor_id/browse',
  taskBrowse: '/agents/:agent_id/frameworks/:framework_id/executors/:executor_id/tasks/:task_id/browse',
  files: '/agents/:agent_id/browse',
  containers: '/agents/:agent_id/containers',
  terminal: '/agents/:agent_id/containers/:container_id/terminal',
  tasks: '/tasks',
  task: '/tasks/:framework_id/:task_id',
  maintenance: '/maintenance',
  registry: '/registry',
  flags: '/flags',
  metrics: '/metrics',
  masterFiles: '/browse',
  login: '/login',
} as const

export type RouteName = keyof typeof patterns

export type Query = Record<string, string>

export interface Route {
  /** 'none': there is no such page. */
  name: RouteName | 'none'
  params: Record<string, string>
  query: Query
  /** What is behind the '#', without the query. */
  path: string
}

/** parse finds the route of a location's hash; old names lead to new ones. */
export function parse(hash: string): Route {
  const text = hash.replace(/^#/, '') || '/'
  const at = text.indexOf('?')
  let path = at < 0 ? text : text.slice(0, at)
  if (!path.startsWith('/')) path = '/' + path
  if (path.length > 1) path = path.replace(/\/+$/, '')
  path = path.replace(/^\/slaves(?=\/|$)/, '/agents')
  const query = Object.fromEntries(new URLSearchParams(at < 0 ? '' : text.slice(at + 1)))
  const parts = path.split('/')
  for (const [name, pattern] of Object.entries(patterns)) {
    const params = match(pattern.split('/'), parts)
    if (params !== undefined) return { name: name as RouteName, params, query, path }
  }
  return { name: 'none', params: {}, query, path }
}

function match(pattern: string[], parts: string[]): Record<string, string> | undefined {
  if (pattern.length !== parts.length) return undefined
  const params: Record<string, string> = {}
  for (const [i, p] of pattern.entries()) {
    const part = parts[i] ?? ''
    if (p.startsWith(':')) {
      if (part === '') return undefined
      params[p.slice(1)] = decode(part)
    } else if (p !== part) return undefined
  }
  return params
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

/** href is the link to a page: href('agent', {agent_id: id}, {tab: 'containers'}). */
export function href(name: RouteName, params: Record<string, string> = {}, query: Query = {}): string {
  const path = patterns[name]
    .split('/')
    .map((p) => (p.startsWith(':') ? encodeURIComponent(params[p.slice(1)] ?? '') : p))
    .join('/')
  return '#' + path + encode(query)
}

function encode(query: Query): string {
  const q = new URLSearchParams(Object.entries(query).filter(([, v]) => v !== '')).toString()
  return q === '' ? '' : '?' + q
}

const current = signal<Route>(parse(typeof location === 'undefined' ? '' : location.hash))

/** route is where we are. */
export const route: ReadonlySignal<Route> = current

/** place is the path alone: it does not change with the query. */
export const place: ReadonlySignal<string> = computed(() => current.value.path)

if (typeof window !== 'undefined') {
  window.addEventListener('hashchange', () => (current.value = parse(location.hash)))
}

/** useRoute is where we are; a component that calls it is drawn again when that changes. */
export function useRoute(): Route {
  return current.value
}

/** go opens a page. */
export function go(to: string, opts: { replace?: boolean } = {}): void {
  const hash = to.startsWith('#') ? to : '#' + to
  if (opts.replace === true) {
    history.replaceState(null, '', hash)
    current.value = parse(hash)
  } else location.hash = hash
}

/** setQuery changes what the page remembers in its link, without a new entry in the history; '' removes. */
export function setQuery(changes: Query): void {
  const r = current.peek()
  const query = { ...r.query, ...changes }
  for (const [k, v] of Object.entries(query)) if (v === '') delete query[k]
  go('#' + r.path + encode(query), { replace: true })
}
