/** A terminal in a container, in the browser. */
import { shorten } from '~/components/basic'
import { Page } from '~/components/Page'
import { href, setQuery, useRoute } from '~/router'
import { agents } from '~/state/store'
import { TerminalPanel } from '~/term/TerminalPanel'
import '../style/pages/terminal.css'

export default function Terminal() {
  const { params, query } = useRoute()
  const agent = params['agent_id'] ?? ''
  const container = params['container_id'] ?? ''
  return (
    <Page
      title="Terminal"
      heading="Terminal"
      sub={
        <code title={container}>{shorten(container, 40)}</code>
      }
      crumbs={[
        { text: 'Agents', href: href('agents') },
        { text: agents.get(agent)?.hostname ?? shorten(agent), href: href('agent', { agent_id: agent }) },
        { text: 'Containers', href: href('agent', { agent_id: agent }, { tab: 'containers' }) },
      ]}
      fill
    >
      <TerminalPanel agent={agent} container={container} tty={query['tty'] === '1'} command={query['cmd']} user={query['user']} onRun={(cmd, user) => setQuery({ cmd, user })} />
    </Page>
  )
}
