/** What /api/clusterd/v1/offers answers. */
import type { Resources } from '~/api/types'

export interface Offer {
  offer_id: string
  framework_id: string
  agent_id: string
  hostname: string
  role: string
  resources: Partial<Resources>
  resources_text: string
  /** Seconds since 1970. */
  since: number
  /** It asks for the agent back, for maintenance. */
  inverse?: boolean
}

/** offersOf reads the list, which may be bare or in an object. */
export function offersOf(data: Offer[] | { offers?: Offer[] | null } | undefined): Offer[] | undefined {
  if (data === undefined) return undefined
  return Array.isArray(data) ? data : (data.offers ?? [])
}
