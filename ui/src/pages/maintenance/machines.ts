/** Which machine an agent is on, as the master tells machines apart: by hostname and address. */
import type { Agent } from '~/state/model'
import { machineKey, type MachineID } from './windows'

/** machineOf is the machine of an agent; its address stands in its pid, "slave(1)@10.0.0.1:5051". */
export function machineOf(a: Agent): MachineID {
  const at = a.pid.slice(a.pid.lastIndexOf('@') + 1)
  const ip = at.slice(0, at.lastIndexOf(':')).replace(/^\[|\]$/g, '')
  return { hostname: a.hostname, ip }
}

export interface Machine {
  id: MachineID
  agents: Agent[]
}

/** machinesOf puts together agents of the same machine, by hostname. */
export function machinesOf(agents: readonly Agent[]): Machine[] {
  const all = new Map<string, Machine>()
  for (const a of agents) {
    const id = machineOf(a)
    const m = all.get(machineKey(id))
    if (m === undefined) all.set(machineKey(id), { id, agents: [a] })
    else m.agents.push(a)
  }
  const collate = new Intl.Collator('en', { numeric: true })
  return [...all.values()].sort((a, b) => collate.compare(a.id.hostname ?? '', b.id.hostname ?? ''))
}
