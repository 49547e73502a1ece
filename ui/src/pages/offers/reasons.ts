/** Why a framework is not offered something, in words. Pure. */

export interface ExplainedRole {
  role: string
  suppressed: boolean
  weight: number
  share: number
  /** The framework's own part in it. */
  framework_share?: number
  quota: { role?: string; guarantee?: Record<string, number>; limit?: Record<string, number>; consumed?: Record<string, number> } | null
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
  /** Offers that it holds. */
  offers?: number
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
  ELIGIBLE: { title: 'Can be offered', text: 'Nothing stands in the way: what is free goes to whoever is furthest below its fair share, this framework among them.' },
  OFFERED: { title: 'Offered to it now', text: 'It holds an offer of them and has not answered yet.' },
  OFFERED_TO_OTHERS: { title: 'Offered to others now', text: 'Others have a smaller share and come first. What they decline is offered to this one.' },
  FRAMEWORK_INACTIVE: { title: 'Framework not active', text: 'It is disconnected or was deactivated.' },
  NO_ROLES: { title: 'Without a role', text: 'It is subscribed to no role.' },
  SUPPRESSED: { title: 'Suppressed by the framework', text: 'It asked for no offers in its roles until it revives them. Frameworks without work do so.' },
  DEACTIVATED: { title: 'Agent deactivated', text: 'The agent is offered to nobody.' },
  DRAINING: { title: 'Agent draining', text: 'The agent is draining or drained, and offered to nobody.' },
  DISCONNECTED: { title: 'Agent disconnected', text: 'The agent is not connected to the master.' },
  WHITELIST: { title: 'Not on the whitelist', text: 'The agent is not on the whitelist of the master (--whitelist).' },
  NO_RESOURCES: { title: 'Nothing free', text: 'All that these agents have is in use.' },
  RESERVED_FOR_OTHERS: { title: 'Reserved for other roles', text: 'What is free is reserved for roles that it is not in.' },
  CAPABILITIES: { title: 'Missing capability', text: 'The framework cannot use what is left, or the agent cannot serve its role: one is too old for the other.' },
  RECOVERING: { title: 'Waiting for agents', text: 'A new leader waits for agents to come back. Until then nothing that counts towards a quota is offered.' },
  QUOTA_LIMIT: { title: 'At the limit of the quota', text: 'Its roles have as much as their quota allows. Raise the limit, or end some of their tasks.' },
  GUARANTEES_OF_OTHERS: { title: 'Kept for guarantees of others', text: 'What is free is kept for roles whose guaranteed quota is not met yet.' },
  BELOW_MIN_ALLOCATABLE: { title: 'Too little free', text: 'What is free is less than the least that is ever offered (--min_allocatable_resources).' },
  AGENT_TOO_SMALL: { title: 'Agent too small', text: 'Even all that these agents have is less than the least that it wants in an offer, or that is ever offered.' },
  FILTERED: { title: 'Declined by the framework', text: 'It declined what is free there and asked not to be offered it again for a while. That ends by itself, or when it revives offers.' },
  GPU: { title: 'Has GPUs', text: 'These agents are kept for frameworks that say they use GPUs (GPU_RESOURCES).' },
  REGION: { title: 'Another region', text: 'The agent is in another region, and the framework does not say that it can use that (REGION_AWARE).' },
  CONSTRAINTS: { title: "Against the framework's constraints", text: 'Its own offer constraints leave these agents out.' },
  MAINTENANCE: { title: 'In maintenance', text: 'The machine is scheduled for maintenance, and it declined to be offered it for now.' },
}

/** fine says whether a reason is no obstacle. */
export function fine(reason: string): boolean {
  return reason === 'ELIGIBLE' || reason === 'OFFERED'
}

/** wordsOf explains a reason; one that this build does not know is shown by its name. */
export function wordsOf(reason: string): Words {
  return words[reason] ?? { title: reason.replaceAll('_', ' ').toLowerCase().replace(/^./, (c) => c.toUpperCase()), text: '' }
}
