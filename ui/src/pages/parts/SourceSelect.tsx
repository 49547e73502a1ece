/** Whose values a page shows: the leading master's, or an agent's, by ?agent= in the link. */
import { setQuery } from '~/router'
import { agents, leader } from '~/state/store'

/** More are not listed; the page of an agent leads here for any. */
const most = 500

export function SourceSelect({ what, agent }: { what: string; agent: string }) {
  const list = agents.all.slice(0, most)
  const chosen = agents.get(agent)
  const extra = agent !== '' && !list.some((a) => a.id === agent)
  return (
    <label class="select">
      <span class="sr">{what} of</span>
      <select value={agent} onChange={(e) => setQuery({ agent: e.currentTarget.value })}>
        <option value="" selected={agent === ''}>
          Leading master
        </option>
        {extra && (
          <option value={agent} selected>
            {chosen?.hostname ?? agent}
          </option>
        )}
        {list.map((a) => (
          <option key={a.id} value={a.id} selected={a.id === agent}>
            {a.hostname}
          </option>
        ))}
      </select>
    </label>
  )
}

/** sourceName says whose values are shown. */
export function sourceName(agent: string): string | undefined {
  if (agent !== '') return `of agent ${agents.get(agent)?.hostname ?? agent}`
  return leader.value === undefined ? undefined : `of the leading master, ${leader.value.hostname}:${leader.value.port}`
}
