/** Keys that work everywhere. Those of tables are theirs (components/Table.tsx). */
import { Dialog, openDialog } from '../components/Dialog'
import { paletteOpen } from '../components/Palette'
import { go, href } from '../router'
import { can } from '../session'
import { items } from './nav'

let afterG = 0

/** A terminal takes all keys: Ctrl-K is the shell's there. */
function inTerminal(e: KeyboardEvent): boolean {
  return e.target instanceof Element && e.target.closest('[data-keys=terminal]') !== null
}

function typing(e: KeyboardEvent): boolean {
  const el = e.target
  return el instanceof HTMLElement && (el.isContentEditable || el.matches('input,textarea,select') || inTerminal(e))
}

function keyed(e: KeyboardEvent): void {
  if ((e.ctrlKey || e.metaKey) && e.key.toLowerCase() === 'k' && !inTerminal(e)) {
    e.preventDefault()
    paletteOpen.value = !paletteOpen.peek()
    return
  }
  if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || typing(e) || document.querySelector('dialog[open]') !== null) return
  if (performance.now() - afterG < 1200) {
    afterG = 0
    const item = items.find((i) => i.key === e.key)
    if (item !== undefined) {
      e.preventDefault()
      go(href(item.route))
    }
    return
  }
  switch (e.key) {
    case 'g':
      afterG = performance.now()
      return
    case '/': {
      const box = document.querySelector<HTMLInputElement>('main [data-keys=filter]')
      if (box === null) paletteOpen.value = true
      else box.focus()
      break
    }
    case '?':
      showHelp()
      break
    case 'j':
    case 'k': {
      // Into the table, wherever the focus was.
      const table = document.querySelector<HTMLElement>('main [data-keys=table]')
      if (table === null || table.contains(document.activeElement)) return
      table.focus()
      table.dispatchEvent(new KeyboardEvent('keydown', { key: e.key, bubbles: true }))
      break
    }
    default:
      return
  }
  e.preventDefault()
}

/** startKeys listens from now on. */
export function startKeys(): void {
  document.addEventListener('keydown', keyed)
}

/** showHelp lists the keys. */
export function showHelp(): void {
  openDialog((close) => (
    <Dialog title="Keys" onClose={close}>
      <div class="keys">
        <section>
          <h3>Everywhere</h3>
          <Keys of={[['Ctrl K', 'command palette'], ['/', 'filter the table'], ['?', 'this list'], ['Esc', 'close, or empty the filter']]} />
          <h3>In tables</h3>
          <Keys of={[['j  k', 'down, up'], ['Enter', 'open'], ['Home  End', 'first, last'], ['PgUp  PgDn', 'a screen up, down']]} />
        </section>
        <section>
          <h3>Go to</h3>
          <Keys of={items.filter((i) => i.needs === undefined || can(i.needs)).map((i): [string, string] => ['g ' + i.key, i.title])} />
        </section>
      </div>
    </Dialog>
  ))
}

function Keys({ of }: { of: readonly [string, string][] }) {
  return (
    <dl class="keylist">
      {of.map(([keys, what]) => (
        <div key={keys}>
          <dt>
            {keys.split(/\s+/).map((k) => (
              <kbd key={k}>{k}</kbd>
            ))}
          </dt>
          <dd>{what}</dd>
        </div>
      ))}
    </dl>
  )
}
