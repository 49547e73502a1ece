/** Choosing machines: of those that agents are on, and others by name. */
import { useSignal, type Signal } from '@preact/signals'
import { Button, Empty } from '~/components/basic'
import { count, plural } from '~/format'
import { agents, tallyOfAgent } from '~/state/store'
import { machineKey, machineName, type MachineID } from './windows'
import { machinesOf } from './machines'

/** As many are listed; the filter finds the others. */
const most = 200

export function MachinePicker({ value }: { value: Signal<readonly MachineID[]> }) {
  const text = useSignal('')
  const host = useSignal('')
  const ip = useSignal('')
  const chosen = new Set(value.value.map(machineKey))
  const known = machinesOf(agents.all)
  const keys = new Set(known.map((m) => machineKey(m.id)))
  const others = value.value.filter((m) => !keys.has(machineKey(m)))
  const want = text.value.toLowerCase()
  const found = known.filter((m) => (m.id.hostname + ' ' + m.id.ip + ' ' + m.agents.map((a) => Object.entries(a.attributes).join(' ')).join(' ')).toLowerCase().includes(want))
  const toggle = (id: MachineID, on: boolean) => {
    value.value = on ? [...value.value, id] : value.value.filter((m) => machineKey(m) !== machineKey(id))
  }
  return (
    <fieldset class="picker">
      <legend>
        Machines <span class="muted">{count(value.value.length)} chosen</span>
      </legend>
      <div class="picker-head">
        <input type="search" aria-label="Filter machines" placeholder="Filter by name, address or attribute" value={text.value} onInput={(e) => (text.value = e.currentTarget.value)} />
        <Button small onClick={() => (value.value = [...value.value, ...found.filter((m) => !chosen.has(machineKey(m.id))).map((m) => m.id)])} disabled={found.length === 0}>
          {want === '' ? 'Choose all' : `Choose these ${count(found.length)}`}
        </Button>
        <Button small onClick={() => (value.value = [])} disabled={value.value.length === 0}>
          None
        </Button>
      </div>
      <div class="picker-list" tabIndex={0} role="group" aria-label="Machines of the cluster">
        {found.slice(0, most).map((m) => (
          <label key={machineKey(m.id)} class="check">
            <input type="checkbox" checked={chosen.has(machineKey(m.id))} onChange={(e) => toggle(m.id, e.currentTarget.checked)} />
            <span>
              {machineName(m.id)} <span class="muted">{m.id.ip}, {plural(m.agents.reduce((n, a) => n + tallyOfAgent(a.id).active, 0), 'task')}</span>
            </span>
          </label>
        ))}
        {found.length > most && <p class="muted">and {count(found.length - most)} more: filter to see them</p>}
        {found.length === 0 && <Empty title="No machine like that" icon="agents" />}
      </div>
      {others.length > 0 && (
        <div class="picker-others">
          <span class="muted">Without an agent now:</span>
          {others.map((m) => (
            <Button key={machineKey(m)} small icon="close" title="Leave it out" onClick={() => toggle(m, false)}>
              {machineName(m)}
            </Button>
          ))}
        </div>
      )}
      <details class="picker-add">
        <summary>A machine without an agent</summary>
        <div class="picker-head">
          <input type="text" aria-label="Hostname" placeholder="hostname" value={host.value} onInput={(e) => (host.value = e.currentTarget.value)} />
          <input type="text" aria-label="IP address" placeholder="address" value={ip.value} onInput={(e) => (ip.value = e.currentTarget.value)} />
          <Button
            small
            disabled={host.value.trim() === '' && ip.value.trim() === ''}
            onClick={() => {
              const id: MachineID = { hostname: host.value.trim(), ip: ip.value.trim() }
              if (!chosen.has(machineKey(id))) toggle(id, true)
              host.value = ''
              ip.value = ''
            }}
          >
            Add
          </Button>
        </div>
      </details>
    </fieldset>
  )
}
