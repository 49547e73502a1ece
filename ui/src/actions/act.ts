/** What can be done. Each act has a file beside this one. */
import type { IconName } from '../components/Icon'
import { can, type Action } from '../session'

/** Act is something that can be done to T; it is offered only to who may do it. */
export interface Act<T> {
  title: string
  icon?: IconName
  danger?: boolean
  /** What the session must permit. */
  needs: Action
  /** Whether it makes sense for this one; without it, always. */
  for?: (of: T) => boolean
  /** Opens the dialog that says what will happen, and does it. */
  open: (of: T) => void
}

/** offered says whether the act is shown for an object. */
export function offered<T>(act: Act<T>, of: T): boolean {
  return can(act.needs) && (act.for === undefined || act.for(of))
}

/** menuItems are the acts that may be done to an object, for a Menu. */
export function menuItems<T>(acts: readonly Act<T>[], of: T): { title: string; icon?: IconName; danger?: boolean; run: () => void }[] {
  return acts
    .filter((a) => offered(a, of))
    .map((a) => ({ title: a.title, ...(a.icon ? { icon: a.icon } : {}), ...(a.danger ? { danger: true } : {}), run: () => a.open(of) }))
}
