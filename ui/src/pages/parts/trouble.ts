/** Which errors a page shows of a live document. */
import type { ApiError } from '~/api/client'
import type { Live } from '~/api/live'

/** trouble leaves out a lost connection as long as there is something to show: the banner of the shell tells of it. */
export function trouble(live: Live<unknown>): ApiError | undefined {
  return live.error !== undefined && live.error.status === 0 && live.data !== undefined ? undefined : live.error
}
