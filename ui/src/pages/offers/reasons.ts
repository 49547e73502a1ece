/** Why a framework is not offered something, in words. Pure. */

export interface ExplainedRole {
  role: string
  suppressed: boolean
  weight: number
  share: number
  quota: { guarantee?: Record<string, number>; limit?: Record<string, number>; consumed?: Record<string, number> } | null
  limited_by: string[] | null
}

export interface Reason {
  reason: string
  agents: number
  examples?: string[] | null
  /** Seconds since 1970. */
  until?: number
}

/** Explained is what /api/clusterd/v1/explain answers. */
export interface Explained {
  framework_id: string
  active: boolean
  connected: boolean
  suppressed_roles: string[] | null
  roles: ExplainedRole[] | null
  agents: { total: number; eligible: number; reasons: Reason[] | null }
  hint: string
}

/** A reason's name for people, what is behind it, and what helps. */
export interface Words {
  title: string
  text: string
}

const words: Record<string, Words> = {
  FILTERED: {
    title: 'Declined by the framework',
    text: 'It declined what these agents have and asked not to be offered it again for a while. The filter ends by itself, or when the framework revives offers.',
  },
  SUPPRESSED: { title: 'Suppressed by the framework', text: 'It asked for no offers in its roles until it revives them. Idle frameworks do so.' },
  QUOTA_LIMIT: { title: 'At the limit of the quota', text: 'Its roles have as much as their quota allows. Raise the limit, or end some of their tasks.' },
  QUOTA_HEADROOM: { title: 'Kept for guarantees of others', text: 'What is free is kept for the guaranteed quota of other roles.' },
  CONSTRAINTS: { title: "Against the framework's constraints", text: 'Its offer constraints leave these agents out.' },
  NO_RESOURCES: { title: 'Nothing free', text: 'All that these agents have is allocated or offered to somebody.' },
  RESERVED_FOR_OTHERS: { title: 'Reserved for other roles', text: 'What is free is reserved for roles that it is not in.' },
  BELOW_MIN_ALLOCATABLE: { title: 'Too little free', text: 'What is free is less than the least that is ever offered (--min_allocatable_resources).' },
  DEACTIVATED: { title: 'Agent not offered', text: 'The agent is deactivated, draining or disconnected.' },
  DRAINING: { title: 'Agent draining', text: 'The agent is draining and offered to nobody.' },
  DISCONNECTED: { title: 'Agent disconnected', text: 'The agent is not connected to the master.' },
  MAINTENANCE: { title: 'In maintenance', text: 'The machine is scheduled for maintenance, and it declined to be offered it for now.' },
  REGION: { title: 'Another region', text: 'The agent is in another region, and the framework does not say that it can use that (REGION_AWARE).' },
  GPU: { title: 'Has GPUs', text: 'The agent has GPUs, and the framework does not say that it uses them (GPU_RESOURCES).' },
  WHITELIST: { title: 'Not on the whitelist', text: 'The agent is not on the whitelist of the master (--whitelist).' },
  CAPABILITY: { title: 'Missing capability', text: 'The agent has what the framework does not say it can use.' },
  OFFERED: { title: 'Offered to it now', text: 'The framework holds an offer of these agents and has not answered yet.' },
  OFFERED_TO_OTHERS: { title: 'Offered to others now', text: 'Another framework holds an offer of what is free there.' },
}

/** wordsOf explains a reason; one that this build does not know is shown by its name. */
export function wordsOf(reason: string): Words {
  return words[reason] ?? { title: reason.replaceAll('_', ' ').toLowerCase().replace(/^./, (c) => c.toUpperCase()), text: '' }
}
