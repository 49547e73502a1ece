/** Which module draws which route. Pages are loaded when they are opened, and once the first page is drawn, ahead. */
import { signal } from '@preact/signals'
import type { ComponentChildren, ComponentType } from 'preact'
import { useEffect, useErrorBoundary } from 'preact/hooks'
import { Button, Empty, ErrorNote, Page, Skeleton } from '../components'
import { Login } from '../pages/login'
import { href, useRoute, type RouteName } from '../router'

type Module = { default: ComponentType }

const pages: Record<RouteName, () => Promise<Module>> = {
  overview: () => import('../pages/overview'),
  frameworks: () => import('../pages/frameworks'),
  framework: () => import('../pages/framework'),
  roles: () => import('../pages/roles'),
  offers: () => import('../pages/offers'),
  agents: () => import('../pages/agents'),
  agent: () => import('../pages/agent'),
  agentFramework: () => import('../pages/executor'),
  executor: () => import('../pages/executor'),
  executorBrowse: () => import('../pages/files'),
  taskBrowse: () => import('../pages/files'),
  files: () => import('../pages/files'),
  masterFiles: () => import('../pages/files'),
  containers: () => import('../pages/containers'),
  terminal: () => import('../pages/terminal'),
  tasks: () => import('../pages/tasks'),
  task: () => import('../pages/task'),
  maintenance: () => import('../pages/maintenance'),
  registry: () => import('../pages/registry'),
  flags: () => import('../pages/flags'),
  metrics: () => import('../pages/metrics'),
  login: async () => ({ default: Login }),
}

interface Loaded {
  component?: ComponentType
  error?: unknown
}

/** The same module may draw several routes: it is kept by its loader's result. */
const loaded = new Map<RouteName, ReturnType<typeof signal<Loaded>>>()

function load(name: RouteName): ReturnType<typeof signal<Loaded>> {
  let s = loaded.get(name)
  if (s === undefined) {
    const fresh = signal<Loaded | undefined>({})
    s = fresh
    loaded.set(name, s)
    pages[name]().then(
      (m) => (fresh.value = { component: m.default }),
      (error: unknown) => {
        fresh.value = { error }
        // So that a later visit tries again; not at once, or drawing the error would.
        setTimeout(() => loaded.delete(name), 3000)
      },
    )
  }
  return s
}

/** Outlet draws the page of the route. */
export function Outlet() {
  const route = useRoute()
  const name = route.name
  useEffect(() => {
    const timer = setTimeout(() => {
      for (const n of ['agents', 'frameworks', 'tasks', 'task', 'agent', 'framework'] as const) load(n)
    }, 1500)
    return () => clearTimeout(timer)
  }, [])
  if (name === 'none') {
    return (
      <Page title="Not found">
        <Empty title="There is no such page" icon="search">
          <code>#{route.path}</code>
          <p>
            <a href={href('overview')}>Go to the overview</a>
          </p>
        </Empty>
      </Page>
    )
  }
  const l = load(name).value
  if (l?.error !== undefined) {
    return (
      <Page title="This page could not be loaded">
        <ErrorNote error={l.error} title="The master may have been upgraded." />
        <p>
          <Button icon="refresh" kind="primary" onClick={() => location.reload()}>
            Load the UI again
          </Button>
        </p>
      </Page>
    )
  }
  const C = l?.component
  if (C === undefined) {
    return (
      <div class="page" aria-busy="true">
        <div class="page-head">
          <div class="skeleton skeleton-title" />
        </div>
        <Skeleton lines={8} />
      </div>
    )
  }
  // The page of another object starts anew; another query does not.
  return (
    <Guard key={name + route.path}>
      <C />
    </Guard>
  )
}

/** Guard keeps a page that cannot be drawn from taking everything else with it. */
function Guard({ children }: { children: ComponentChildren }) {
  const [error, again] = useErrorBoundary((err) => console.error(err))
  if (error === undefined) return <>{children}</>
  return (
    <Page title="This page cannot be shown">
      <ErrorNote error={error} title="It has a fault, or the cluster says something that it does not understand." />
      <p>
        <Button icon="refresh" kind="primary" onClick={again}>
          Try again
        </Button>
      </p>
    </Page>
  )
}
