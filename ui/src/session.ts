/** Who the reader is and what they may do. Buttons of acts that are not permitted are not shown. */
import { effect, signal } from '@preact/signals'
import { ApiError, get, local, own, send, unauthorized } from './api/client'
import { restartLive } from './api/live'
import { renewLine } from './api/streams'

/** Action is a name of the endpoint `session`: Mesos's authorizer's names, and ours. */
export type Action =
  | 'TEARDOWN_FRAMEWORK'
  | 'KILL_TASK'
  | 'DRAIN_AGENT'
  | 'CANCEL_DRAIN'
  | 'DEACTIVATE_AGENT'
  | 'REACTIVATE_AGENT'
  | 'MARK_AGENT_GONE'
  | 'UPDATE_QUOTA'
  | 'UPDATE_WEIGHT'
  | 'RESERVE_RESOURCES'
  | 'UNRESERVE_RESOURCES'
  | 'CREATE_VOLUME'
  | 'DESTROY_VOLUME'
  | 'RESIZE_VOLUME'
  | 'UPDATE_MAINTENANCE_SCHEDULE'
  | 'START_MAINTENANCE'
  | 'STOP_MAINTENANCE'
  | 'SET_LOG_LEVEL'
  | 'LAUNCH_NESTED_CONTAINER'
  | 'LAUNCH_NESTED_CONTAINER_SESSION'
  | 'ATTACH_CONTAINER_INPUT'
  | 'ATTACH_CONTAINER_OUTPUT'
  | 'KILL_NESTED_CONTAINER'
  | 'REMOVE_NESTED_CONTAINER'
  | 'LAUNCH_STANDALONE_CONTAINER'
  | 'KILL_STANDALONE_CONTAINER'
  | 'PRUNE_IMAGES'
  | 'ADD_MASTER'
  | 'REMOVE_MASTER'
  | 'TRANSFER_LEADERSHIP'
  | 'SNAPSHOT_REGISTRY'
  | 'VIEW_REGISTRY'
  | 'VIEW_FRAMEWORK'
  | 'VIEW_TASK'
  | 'VIEW_EXECUTOR'
  | 'VIEW_CONTAINER'
  | 'VIEW_ROLE'
  | 'GET_QUOTA'
  | 'GET_MAINTENANCE_SCHEDULE'
  | 'GET_MAINTENANCE_STATUS'
  | 'VIEW_FLAGS'
  | 'VIEW_METRICS'
  | 'ACCESS_SANDBOX'
  | 'ACCESS_MESOS_LOG'

export interface Session {
  principal: { value: string; claims?: Record<string, string> } | null
  authenticated: boolean
  /** Nothing can be read without a login. */
  required: boolean
  /** There is something that needs a login. */
  login?: boolean
  failure?: string
  schemes: string[]
  actions: Record<string, 'all' | 'some' | 'none'>
  cluster?: string
  master_id?: string
}

/** session is undefined until the master has said who we are. */
export const session = signal<Session | undefined>(undefined)

/** loginNeeded is true when a request was refused because nobody, or no longer anybody, is logged in. */
export const loginNeeded = signal(false)

/** generation grows with every login and logout; what belongs to one reader starts anew then. */
export const generation = signal(0)

/**
 * can says whether an act may be offered. 'some' is enough unless all is asked for: the server has
 * the last word about the object. Before the session is known nothing is offered.
 */
export function can(action: Action, how: 'some' | 'all' = 'some'): boolean {
  const may = session.value?.actions[action]
  return how === 'all' ? may === 'all' : may === 'all' || may === 'some'
}

/** loadSession asks the master who we are. */
export async function loadSession(): Promise<void> {
  const s = await get<Session>(own + '/session', { here: true })
  session.value = s
  loginNeeded.value = s.required && !s.authenticated
}

/** login shows a credential; it throws the ApiError of a refusal. */
export async function login(how: { scheme: 'basic'; username: string; password: string } | { scheme: 'token'; token: string }): Promise<void> {
  await send('POST', own + '/session', how, { here: true })
  await changed()
}

/** logout forgets the credential. */
export async function logout(): Promise<void> {
  await send('DELETE', own + '/session', undefined, { here: true })
  await changed()
}

/** oidcAddress is where the login by OpenID Connect begins; it comes back to the route. */
export function oidcAddress(to: string): string {
  return local(own + '/session/oidc?to=' + encodeURIComponent(to))
}

async function changed(): Promise<void> {
  await loadSession()
  startAnew()
  tell()
}

/** startAnew forgets what was shown to somebody else: streams go on in the name they were opened with. */
function startAnew(): void {
  renewLine()
  generation.value++
  restartLive()
}

function who(): string | undefined {
  return session.peek()?.principal?.value
}

/** renew asks who we are, when others may have changed it: the cookie is one for all tabs. */
async function renew(): Promise<void> {
  const before = who()
  await loadSession()
  if (who() !== before) startAnew()
}

/** Other tabs of this master. */
let others: BroadcastChannel | undefined

function tell(): void {
  others?.postMessage(who() ?? '')
}

/** startSession asks who we are, and from then on keeps all tabs of the same mind. */
export async function startSession(): Promise<void> {
  if (typeof BroadcastChannel !== 'undefined') {
    others = new BroadcastChannel('clusterd-session')
    others.onmessage = (e) => {
      if (e.data !== (who() ?? '')) void renew().catch(() => undefined)
    }
  }
  await loadSession()
  tell() // who comes back from a provider has just logged in
}

/** A refusal is not asked about again at once: what is refused in spite of a good session would be without end. */
const pause = 2000

// A refusal anywhere: ask once more who we are, and show the login if we are nobody.
let asking = false
let asked = -Infinity
effect(() => {
  if (unauthorized.value === 0 || asking) return
  asking = true
  setTimeout(
    () => {
      asked = performance.now()
      const before = who()
      renew()
        .then(() => {
          const s = session.peek()
          if (s !== undefined && !s.authenticated && s.schemes.length > 0) loginNeeded.value = true
          else if (who() === before) restartLive() // it was another who was refused: the one of an older cookie
        })
        .catch((err: unknown) => {
          if (!(err instanceof ApiError)) throw err
        })
        .finally(() => (asking = false))
    },
    Math.max(0, asked + pause - performance.now()),
  )
})
