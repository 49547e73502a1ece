/** The main navigation: its pages, their icons and the keys that open them after g. */
import type { IconName } from '../components/Icon'
import type { RouteName } from '../router'
import type { Action } from '../session'

export interface NavItem {
  route: RouteName
  title: string
  icon: IconName
  /** g and this letter open it. */
  key: string
  /** Routes that belong to it. */
  within: readonly RouteName[]
  /** Shown to who may do this only. */
  needs?: Action
  /** It has a place at the bottom of a telephone's screen. */
  first?: boolean
}

export const groups: readonly { title: string; items: readonly NavItem[] }[] = [
  {
    title: 'Cluster',
    items: [
      { route: 'overview', title: 'Overview', icon: 'overview', key: 'o', within: [], first: true },
      { route: 'agents', title: 'Agents', icon: 'agents', key: 'a', within: ['agent', 'agentFramework', 'executor', 'files', 'executorBrowse', 'taskBrowse', 'containers', 'terminal'], first: true },
      { route: 'frameworks', title: 'Frameworks', icon: 'frameworks', key: 'f', within: ['framework'], first: true },
      { route: 'tasks', title: 'Tasks', icon: 'tasks', key: 't', within: ['task'], first: true },
    ],
  },
  {
    title: 'Sharing',
    items: [
      { route: 'roles', title: 'Roles and quota', icon: 'roles', key: 'r', within: [] },
      { route: 'offers', title: 'Offers', icon: 'offers', key: 'e', within: [] },
      { route: 'maintenance', title: 'Maintenance', icon: 'maintenance', key: 'm', within: [] },
    ],
  },
  {
    title: 'Masters',
    items: [
      { route: 'registry', needs: 'VIEW_REGISTRY', title: 'Registry', icon: 'registry', key: 'y', within: [] },
      { route: 'metrics', needs: 'VIEW_METRICS', title: 'Metrics', icon: 'metrics', key: 'x', within: [] },
      { route: 'flags', needs: 'VIEW_FLAGS', title: 'Flags', icon: 'flags', key: 'l', within: [] },
      { route: 'masterFiles', needs: 'ACCESS_MESOS_LOG', title: 'Logs', icon: 'files', key: 'b', within: [] },
    ],
  },
]

export const items = groups.flatMap((g) => g.items)
