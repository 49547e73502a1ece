/**
 * Acts in the palette: "tear down spark", "drain node1", "schedule maintenance". Those on one
 * object are offered once a word of the act is typed. What an act needs is loaded when it is run.
 */
import { get, own } from '~/api/client'
import { addCommands, matches, type Command } from '~/commands'
import type { IconName } from '~/components/Icon'
import { toast } from '~/components/Toast'
import { can, type Action } from '~/session'
import { plus, zero, type Agent, type Framework, type Task } from '~/state/model'
import { agents, frameworks, tasks } from '~/state/store'

/** As many objects are offered for an act. */
const most = 6

interface Act<T> {
  verb: string
  icon: IconName
  action: Action
  /** Whether it makes sense for the object as it is. */
  when?: (x: T) => boolean
  open: (x: T) => Promise<void>
}

const frameworkActs: Act<Framework>[] = [
  { verb: 'Tear down', icon: 'trash', action: 'TEARDOWN_FRAMEWORK', when: (f) => !f.completed, open: async (f) => (await import('./teardown')).openTeardown(f) },
]

const draining = (a: Agent) => a.state === 'DRAINING' || a.state === 'DRAINED'

const agentActs: Act<Agent>[] = [
  { verb: 'Drain', icon: 'drain', action: 'DRAIN_AGENT', when: (a) => !draining(a), open: async (a) => (await import('./drain')).openDrain(a) },
  { verb: 'Cancel draining', icon: 'close', action: 'CANCEL_DRAIN', when: (a) => a.state === 'DRAINING', open: async (a) => (await import('./cancelDrain')).openCancelDrain(a) },
  { verb: 'Deactivate', icon: 'pause', action: 'DEACTIVATE_AGENT', when: (a) => !draining(a) && a.state !== 'DEACTIVATED', open: async (a) => (await import('./deactivate')).openDeactivate(a) },
  { verb: 'Reactivate', icon: 'play', action: 'REACTIVATE_AGENT', when: (a) => a.state === 'DEACTIVATED' || a.state === 'DRAINED', open: async (a) => (await import('./reactivate')).openReactivate(a) },
  { verb: 'Mark gone', icon: 'trash', action: 'MARK_AGENT_GONE', open: async (a) => (await import('./gone')).openGone(a) },
  { verb: 'Reserve resources of', icon: 'pin', action: 'RESERVE_RESOURCES', open: async (a) => (await import('./reserve')).openReserve(a) },
]

const taskActs: Act<Task>[] = [
  { verb: 'Kill', icon: 'stop', action: 'KILL_TASK', when: (t) => t.active, open: async (t) => (await import('./killTask')).openKill(t) },
]

interface Plain {
  title: string
  icon: IconName
  action: Action
  open: () => Promise<void>
}

const plain: Plain[] = [
  {
    title: 'Set a quota…',
    icon: 'roles',
    action: 'UPDATE_QUOTA',
    open: async () => {
      const [{ openQuota }, { roles }] = await Promise.all([import('./quota'), get<{ roles: import('~/pages/roles/tree').WireRole[] }>('/roles')])
      openQuota(undefined, roles, [...agents.values()].reduce((sum, a) => plus(sum, a.total), zero))
    },
  },
  {
    title: 'Schedule maintenance…',
    icon: 'maintenance',
    action: 'UPDATE_MAINTENANCE_SCHEDULE',
    open: async () => {
      const [{ openSchedule }, { windowsOf }, schedule] = await Promise.all([
        import('./maintenance'),
        import('~/pages/maintenance/windows'),
        get<import('~/pages/maintenance/windows').WireSchedule>('/maintenance/schedule'),
      ])
      openSchedule(windowsOf(schedule), undefined)
    },
  },
  {
    title: 'Hand over the leadership…',
    icon: 'leader',
    action: 'TRANSFER_LEADERSHIP',
    open: async () => {
      const [{ openTransfer }, status] = await Promise.all([import('./transfer'), get<{ leader: string }>(own + '/registry')])
      openTransfer(undefined, status.leader)
    },
  },
  { title: 'Add a master…', icon: 'registry', action: 'ADD_MASTER', open: async () => (await import('./member')).openAddMaster() },
  { title: 'Reserve resources…', icon: 'pin', action: 'RESERVE_RESOURCES', open: async () => (await import('./reserve')).openReserve() },
]

/** run opens an act and says so if it cannot. */
function run(open: () => Promise<void>): () => void {
  return () => {
    open().catch((err: unknown) => toast(err instanceof Error ? err.message : String(err), { kind: 'bad' }))
  }
}

/** named says whether one of the typed words begins a word of the verb. */
export function named(words: string, verb: string): boolean {
  const parts = verb.toLowerCase().split(' ')
  return words.split(/\s+/).some((w) => w.length >= 2 && parts.some((p) => p.startsWith(w)))
}

function offer<T>(words: string, acts: readonly Act<T>[], all: Iterable<T>, name: (x: T) => string, id: (x: T) => string): Command[] {
  const found: Command[] = []
  for (const act of acts) {
    if (!can(act.action) || !named(words, act.verb)) continue
    let n = 0
    for (const x of all) {
      if (act.when?.(x) === false || !matches(words, act.verb, name(x), id(x))) continue
      found.push({ title: `${act.verb} ${name(x)}…`, detail: id(x), icon: act.icon, group: 'Acts', run: run(() => act.open(x)) })
      if (++n >= most) break
    }
  }
  return found
}

/** startActCommands adds the acts to the palette. */
export function startActCommands(): void {
  addCommands((words) => {
    if (words === '') return []
    return [
      ...plain.filter((p) => can(p.action) && matches(words, p.title)).map((p): Command => ({ title: p.title, icon: p.icon, group: 'Acts', run: run(p.open) })),
      ...offer(words, frameworkActs, [...frameworks.values()], (f) => f.name || f.id, (f) => f.id),
      ...offer(words, agentActs, [...agents.values()], (a) => a.hostname, (a) => a.id),
      ...offer(words, taskActs, tasks.values(), (t) => t.name || t.id, (t) => t.id),
    ]
  })
}
