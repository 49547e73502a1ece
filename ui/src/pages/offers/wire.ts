/** What /api/clusterd/v1/offers answers. */
import type { DurationInfo, Resources, TimeInfo } from '~/api/types'

export interface Offer {
  offer_id: string
  framework_id: string
  /** The framework's name. */
  framework?: string
  agent_id: string
  hostname: string
  role?: string
  resources?: Partial<Resources>
  resources_text?: string
  /** Seconds since 1970. */
  since?: number
  /** It asks for the agent back, for maintenance. */
  inverse?: boolean
  unavailability?: { start?: TimeInfo; duration?: DurationInfo }
}

/** offersOf reads the list, which may be bare or in an object, as two: what is offered, and what is asked back. */
export function offersOf(data: Offer[] | { offers?: Offer[] | null } | undefined): { offered: Offer[]; askedBack: Offer[] } | undefined {
  if (data === undefined) return undefined
  const all = Array.isArray(data) ? data : (data.offers ?? [])
  return { offered: all.filter((o) => o.inverse !== true), askedBack: all.filter((o) => o.inverse === true) }
}
