/** The containers of an agent have a tab of its page; this address leads there. */
import { useEffect } from 'preact/hooks'
import { Page } from '~/components/Page'
import { go, href, useRoute } from '~/router'

export default function Containers() {
  const agent = useRoute().params['agent_id'] ?? ''
  useEffect(() => go(href('agent', { agent_id: agent }, { tab: 'containers' }), { replace: true }), [agent])
  return <Page title="Containers" />
}
