/** What an agent has of each resource: used, allocated, offered, reserved and free apart. */
import type { ResourceName } from '~/api/types'
import { Panel } from '~/components/basic'
import { Legend, PartsBar, quantity } from '~/components/ResourceBar'
import { bytes, percent } from '~/format'
import { plus, resourceNames, type Agent } from '~/state/model'
import type { Sample } from '~/usage/usage'
import { Scrolls } from './Scrolls'

const titles: Record<ResourceName, string> = { cpus: 'CPUs', mem: 'Memory', disk: 'Disk', gpus: 'GPUs' }

export function ResourcesPanel({ agent, used }: { agent: Agent; used: Sample | undefined }) {
  return (
    <Panel title="Resources">
      <Scrolls label="Resources">
        <table class="plain">
          <thead>
            <tr>
              <th scope="col">Resource</th>
              <th scope="col" class="agent-bar-col">
                <span class="offscreen">Shares</span>
              </th>
              <th scope="col" class="end">
                Used now
              </th>
              <th scope="col" class="end">
                Allocated
              </th>
              <th scope="col" class="end">
                Offered
              </th>
              <th scope="col" class="end">
                Reserved
              </th>
              <th scope="col" class="end">
                Free
              </th>
              <th scope="col" class="end">
                Total
              </th>
            </tr>
          </thead>
          <tbody>
            {resourceNames
              .filter((n) => agent.total[n] > 0)
              .map((n) => {
                const total = agent.total[n]
                const free = Math.max(0, plus(plus(agent.total, agent.allocated, -1), agent.offered, -1)[n])
                return (
                  <tr key={n}>
                    <th scope="row">{titles[n]}</th>
                    <td>
                      <PartsBar
                        label={titles[n]}
                        total={total}
                        text={(v) => quantity(n, v)}
                        parts={[
                          { name: 'Allocated', value: agent.allocated[n], color: 'used' },
                          { name: 'Offered', value: agent.offered[n], color: 'offered' },
                        ]}
                      />
                    </td>
                    <td class="end num">{usedText(n, used)}</td>
                    <td class="end num">
                      {quantity(n, agent.allocated[n])} <span class="muted">{percent(agent.allocated[n] / total)}</span>
                    </td>
                    <td class="end num">{quantity(n, agent.offered[n])}</td>
                    <td class="end num">{quantity(n, agent.reserved[n])}</td>
                    <td class="end num">{quantity(n, free)}</td>
                    <td class="end num">{quantity(n, total)}</td>
                  </tr>
                )
              })}
          </tbody>
        </table>
      </Scrolls>
      <Legend
        parts={[
          { name: 'Allocated to frameworks', color: 'used' },
          { name: 'Offered', color: 'offered' },
          { name: 'Free', color: 'free' },
        ]}
      />
    </Panel>
  )
}

function usedText(n: ResourceName, used: Sample | undefined): string {
  if (used === undefined) return '–'
  if (n === 'cpus') return used.cpus === undefined ? '–' : used.cpus.toFixed(2)
  if (n === 'mem') return bytes(used.mem)
  if (n === 'disk') return bytes(used.disk)
  return '–'
}
