/** What the palette always knows: pages, agents, frameworks, tasks, colours. */
import { startActCommands } from '../actions/commands'
import { addCommands, matches, type Command } from '../commands'
import { stateName } from '../format'
import { theme } from '../prefs'
import { href } from '../router'
import { can } from '../session'
import { agents, frameworks, tasks } from '../state/store'
import { showHelp } from './keys'
import { items } from './nav'

const most = 8

/** startCommands fills the palette. */
export function startCommands(): void {
  startActCommands()
  addCommands((words) =>
    items
      .filter((i) => (i.needs === undefined || can(i.needs)) && matches(words, i.title))
      .map((i): Command => ({ title: i.title, detail: 'g ' + i.key, icon: i.icon, group: 'Pages', href: href(i.route) })),
  )
  addCommands((words) => {
    if (words === '') return []
    const found: Command[] = []
    for (const a of agents.values()) {
      if (!matches(words, a.hostname, a.id)) continue
      found.push({ title: a.hostname, detail: a.id, icon: 'agents', group: 'Agents', href: href('agent', { agent_id: a.id }) })
      if (found.length >= most) break
    }
    return found
  })
  addCommands((words) => {
    if (words === '') return []
    const found: Command[] = []
    for (const f of frameworks.values()) {
      if (!matches(words, f.name, f.id)) continue
      found.push({ title: f.name, detail: f.id, icon: 'frameworks', group: 'Frameworks', href: href('framework', { framework_id: f.id }) })
      if (found.length >= most) break
    }
    return found
  })
  addCommands((words) => {
    if (words.length < 2) return []
    const found: Command[] = []
    // Among very many tasks the search is given up before the reader notices that it took time.
    const until = performance.now() + 40
    let n = 0
    for (const t of tasks.values()) {
      if (++n % 1000 === 0 && performance.now() > until) break
      if (!matches(words, t.name, t.id)) continue
      found.push({ title: t.name || t.id, detail: stateName(t.state) + ' · ' + t.id, icon: 'tasks', group: 'Tasks', href: href('task', { framework_id: t.framework, task_id: t.id }) })
      if (found.length >= most) break
    }
    return found
  })
  addCommands((words) =>
    (
      [
        { title: 'Dark colours', icon: 'moon', group: 'This page', run: () => (theme.value = 'dark') },
        { title: 'Light colours', icon: 'sun', group: 'This page', run: () => (theme.value = 'light') },
        { title: 'Colours as the system', icon: 'system', group: 'This page', run: () => (theme.value = 'system') },
        { title: 'Keys', detail: '?', icon: 'help', group: 'This page', run: showHelp },
      ] satisfies Command[]
    ).filter((c) => matches(words, c.title)),
  )
}
