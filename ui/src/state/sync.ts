/** Keeps the store true: the summary once, then events; after a failover or a long sleep the summary again. */
import { effect, untracked } from '@preact/signals'
import { ApiError, get, own } from '../api/client'
import { backoff, stream, wait, type ServerEvent } from '../api/sse'
import type { OperatorEvent } from '../api/types'
import { awake } from '../api/visible'
import { clusterTime } from '../clock'
import { can, generation, loginNeeded } from '../session'
import { connection, leader, masters, ready, reducer, trouble } from './store'
import type { Summary } from './summary'

/** For so long the banner says who leads now. */
const failoverShown = 8000

/** With more tasks than these the pages are told four times a second, not every frame; with very many, twice. */
const manyTasks = 5000
const veryManyTasks = 50_000

let queue: OperatorEvent[] = []
let scheduled = false

/** token is where the stream goes on; '': the summary is needed first. */
let token = ''

function flush(): void {
  scheduled = false
  const events = queue
  queue = []
  const now = clusterTime()
  for (const e of events) reducer.apply(e, now)
  reducer.commit()
}

function schedule(): void {
  if (scheduled) return
  scheduled = true
  // A hidden tab is given no frames.
  if (document.visibilityState === 'visible' && reducer.taskCount < manyTasks) requestAnimationFrame(flush)
  else setTimeout(flush, reducer.taskCount < veryManyTasks ? 250 : 500)
}

/** take queues events; it returns false when the master does not go on where we stand. */
function take(events: readonly ServerEvent[]): boolean {
  for (const e of events) {
    const v = JSON.parse(e.data) as OperatorEvent
    if (v.type === 'SUBSCRIBED' && v.subscribed?.resumed !== true) return false
    if (v.type !== 'HEARTBEAT' && v.type !== 'SUBSCRIBED') queue.push(v)
  }
  if (queue.length > 0) schedule()
  return true
}

async function follow(abort: AbortSignal): Promise<void> {
  let refused = 0
  for (let n = 0; !abort.aborted; n++) {
    try {
      if (token === '') await load(abort)
      if (abort.aborted) return
      let goesOn = true
      await stream(own + '/events?snapshot=false&resume=' + encodeURIComponent(token), {
        signal: abort,
        silence: 45_000, // three heartbeats
        onOpen: found,
        onEvents: (events) => {
          goesOn = take(events)
          if (goesOn) n = refused = 0
          return goesOn
        },
        // Heartbeats move it on too: events that this reader is not shown pass by.
        onId: (id) => (token = id),
      })
      if (abort.aborted) return
      if (!goesOn) {
        token = ''
        // The summary is large: one whose token is refused at once, as while the leader changes, is not asked
        // for again and again without a pause.
        if (refused++ > 0) await wait(backoff(refused), abort)
        continue
      }
      await wait(backoff(0), abort) // it was ended by the master: it steps down, or we were too slow
    } catch (err) {
      if (abort.aborted) return
      if (err instanceof ApiError && err.status === 401) {
        loginNeeded.value = true
        return
      }
      const delay = err instanceof ApiError && err.retryAfter !== undefined ? Math.min(15_000, err.retryAfter * 1000) : backoff(n)
      connection.value = ready.peek() ? 'lost' : 'connecting'
      trouble.value = { message: err instanceof Error ? err.message : String(err), retryAt: clusterTime() + delay / 1000 }
      await wait(delay, abort)
    }
  }
}

async function load(abort: AbortSignal): Promise<void> {
  const before = leader.peek()?.id
  const s = await get<Summary>(own + '/summary', { signal: abort })
  if (abort.aborted) return // it is for another reader by now
  queue = []
  leader.value = reducer.load(s)
  token = s.token
  ready.value = true
  if (before !== undefined && before !== s.leader.id) failedOver()
  else found()
  void loadMasters(abort)
}

/** loadMasters remembers where else the UI is served, for when this master is gone. */
async function loadMasters(abort: AbortSignal): Promise<void> {
  if (!can('VIEW_REGISTRY')) return
  try {
    const r = await get<{ members?: { http?: string }[] }>(own + '/registry', { signal: abort })
    masters.value = (r.members ?? []).flatMap((m) => (m.http === undefined ? [] : [m.http]))
  } catch {
    // Then there are no links to them; that is all.
  }
}

function found(): void {
  trouble.value = undefined
  if (connection.peek() !== 'failover') connection.value = 'live'
}

let shown: ReturnType<typeof setTimeout> | undefined

function failedOver(): void {
  trouble.value = undefined
  connection.value = 'failover'
  clearTimeout(shown)
  shown = setTimeout(() => {
    if (connection.peek() === 'failover') connection.value = 'live'
  }, failoverShown)
}

/** forget lets nothing be seen that was shown to somebody else. */
function forget(): void {
  token = ''
  queue = []
  reducer.forget()
  ready.value = false
  leader.value = undefined
  masters.value = []
  connection.value = 'connecting'
}

/** startSync keeps the store true from now on, for whoever is logged in, until the returned function is called. */
export function startSync(): () => void {
  let reader = generation.peek()
  return effect(() => {
    if (generation.value !== reader) {
      reader = generation.value
      untracked(forget) // another reader may see other things
    }
    if (!awake.value || loginNeeded.value) return
    const abort = new AbortController()
    void follow(abort.signal)
    return () => abort.abort()
  })
}
