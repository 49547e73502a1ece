/** What /api/clusterd/v1/registry answers (internal/registryapi). */
import type { Tone } from '~/components/basic'

export interface Member {
  id: string
  address: string
  http?: string
  known: boolean
  alive: boolean
  format?: number
  build?: string
  health?: 'healthy' | 'unhealthy' | ''
  voter: boolean
  leads: boolean
}

export interface Autopilot {
  id: string
  healthy: boolean
  since?: number
  last_contact_ms: number
  last_index: number
}

export interface GossipNode {
  name: string
  role: 'master' | 'agent'
  address: string
  http?: string
  alive: boolean
  since?: number
  build?: string
  region?: string
  zone?: string
}

export interface Gossip {
  address: string
  masters: number
  agents: number
  dead_masters: number
  refused: number
  duplicates: number
  score: number
  nodes: GossipNode[]
  left_out?: number
}

export interface RegistryStatus {
  id: string
  address: string
  cluster_id: string
  state: string
  leads: boolean
  leader: string
  leader_address: string
  epoch: number
  term: number
  last_contact_ms: number
  last_index: number
  commit_index: number
  applied_index: number
  snapshot_index: number
  snapshot_term: number
  queued: number
  format: number
  build: string
  tolerates: number
  members: Member[]
  others?: Member[]
  autopilot?: Autopilot[]
  gossip?: Gossip
  counts: Record<string, number>
}

/** memberState is how a member is, by what the leader finds, or else by gossip. */
export function memberState(m: Member, a: Autopilot | undefined): { tone: Tone; text: string } {
  if (m.leads) return { tone: 'good', text: 'leads' }
  if (m.health === 'unhealthy') return { tone: 'bad', text: 'does not answer' }
  if (m.health === 'healthy') return a !== undefined && !a.healthy ? { tone: 'warn', text: 'lags behind' } : { tone: 'good', text: 'healthy' }
  if (m.known) return m.alive ? { tone: 'good', text: 'alive' } : { tone: 'bad', text: 'dead' }
  return { tone: 'quiet', text: 'unknown' }
}
