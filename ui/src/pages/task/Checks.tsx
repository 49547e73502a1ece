/** How a task is checked, and what the checks say. */
import type { ComponentChildren } from 'preact'
import type { Task } from '~/api/types'
import { Facts, Panel, StateBadge } from '~/components/basic'
import { duration } from '~/format'
import { checkText } from './Timeline'

/** Check is mesos.HealthCheck or CheckInfo, as far as it is shown. */
interface Check {
  type?: string
  command?: { value?: string; arguments?: string[]; command?: { value?: string; arguments?: string[] } }
  http?: { scheme?: string; port?: number; path?: string; statuses?: number[] }
  tcp?: { port?: number }
  interval_seconds?: number
  delay_seconds?: number
  timeout_seconds?: number
  grace_period_seconds?: number
  consecutive_failures?: number
}

/** checkedHow is what a check does, in words. */
export function checkedHow(c: Check): string {
  if (c.http !== undefined) return `GET ${c.http.scheme ?? 'http'}://…:${c.http.port ?? 80}${c.http.path ?? '/'}`
  if (c.tcp !== undefined) return `TCP port ${c.tcp.port ?? '?'}`
  const command = c.command?.command ?? c.command
  const text = command?.value ?? (command?.arguments ?? []).join(' ')
  return text === '' ? (c.type ?? '').toLowerCase() : text
}

export function Checks({ task }: { task: Task }) {
  const health = task.health_check as Check | undefined
  const check = task.check as Check | undefined
  const last = task.statuses?.at(-1)
  if (health === undefined && check === undefined && last?.healthy === undefined && last?.check_status === undefined) return null
  return (
    <Panel title="Checks">
      {(health !== undefined || last?.healthy !== undefined) && (
        <Facts
          items={[
            ['Health', last?.healthy === undefined ? 'no result yet' : <StateBadge key="h" state="" tone={last.healthy ? 'good' : 'bad'} label={last.healthy ? 'healthy' : 'unhealthy'} />],
            ...(health === undefined ? [] : schedule(health)),
            ['Killed after', health?.consecutive_failures === undefined ? undefined : `${health.consecutive_failures} failures in a row`],
            ['Grace period', health?.grace_period_seconds === undefined ? undefined : duration(health.grace_period_seconds)],
          ]}
        />
      )}
      {(check !== undefined || last?.check_status !== undefined) && <Facts items={[['Check', last === undefined ? undefined : checkText(last).replace('check: ', '')], ...(check === undefined ? [] : schedule(check))]} />}
    </Panel>
  )
}

function schedule(c: Check): [string, ComponentChildren][] {
  return [
    ['By', <code key="by">{checkedHow(c)}</code>],
    ['Every', duration(c.interval_seconds ?? 10)],
    ['Timeout', duration(c.timeout_seconds ?? 20)],
  ]
}
