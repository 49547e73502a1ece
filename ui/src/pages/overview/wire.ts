/** What the overview reads beside the store. */
import type { Resources, TaskState } from '../../api/types'
import type { Notable } from '../../state/reducer'

/** Totals is GET /api/clusterd/v1/totals. */
export interface Totals {
  taken: number
  totals: {
    agents: Record<'total' | 'active' | 'inactive' | 'connected' | 'disconnected' | 'unreachable' | 'recovered' | 'gone' | 'draining' | 'drained' | 'deactivated', number>
    resources: Record<'total' | 'allocated' | 'offered' | 'reserved' | 'revocable', Resources>
    frameworks: Record<'total' | 'active' | 'inactive' | 'connected' | 'disconnected' | 'recovered' | 'completed', number>
    offers: number
    tasks: Partial<Record<TaskState, number>>
  }
  roles: RoleTotals[]
}

export interface RoleTotals {
  name: string
  weight: number
  frameworks: number
  /** With those of the roles below it. */
  allocated: Partial<Resources>
}

/** History is GET /api/clusterd/v1/history. */
export interface History {
  interval: number
  times: number[]
  tasks: Partial<Record<TaskState, number[]>>
  ended: Partial<Record<TaskState, number[]>>
  recent: Notable[]
}

/** RegistryState is what the overview reads of GET /api/clusterd/v1/registry. */
export interface RegistryState {
  epoch: number
  term: number
  tolerates: number
  commit_index: number
  applied_index: number
  members: { id: string; http?: string; address: string; alive: boolean; voter: boolean; leads?: boolean; health?: string }[]
  autopilot?: { id: string; healthy: boolean; last_contact_ms: number }[]
}
