import { Page } from '../components'
import { agents, tasks } from '../state/store'

export default function Overview() {
  return (
    <Page title="Overview">
      {agents.size} agents, {tasks.size} tasks
    </Page>
  )
}
