/** Which errors a page shows of a live document. */
import { ApiError } from '~/api/client'
import type { Live } from '~/api/live'

/**
 * trouble leaves out that the leader is away as long as there is something to show: the banner of
 * the shell tells of it. A refusal without a reason is said in words.
 */
export function trouble(live: Live<unknown>): ApiError | undefined {
  const e = live.error
  const away = e !== undefined && (e.status === 0 || (e.status >= 502 && e.status <= 504))
  if (e === undefined || (away && live.data !== undefined)) return undefined
  if (e.status === 403 && /^(403 )?forbidden\.?$/i.test(e.message.trim())) return new ApiError(403, 'You are not permitted to see this.', e.path)
  return e
}
