/** The command palette: Ctrl-K or Cmd-K, then a few letters of anything. */
import { signal, useSignal } from '@preact/signals'
import { useEffect, useMemo, useRef } from 'preact/hooks'
import { commandsFor, type Command } from '../commands'
import { go } from '../router'
import { cx } from './basic'
import { Dialog } from './Dialog'
import { Icon } from './Icon'

/** paletteOpen is whether it is shown. */
export const paletteOpen = signal(false)

export function Palette() {
  return paletteOpen.value ? <Open /> : null
}

function Open() {
  const typed = useSignal('')
  const at = useSignal(0)
  const list = useRef<HTMLDivElement>(null)
  const close = () => (paletteOpen.value = false)
  const found = useMemo(() => commandsFor(typed.value.trim().toLowerCase()).slice(0, 80), [typed.value])
  const chosen = Math.min(at.value, found.length - 1)
  useEffect(() => {
    list.current?.querySelector('[aria-selected=true]')?.scrollIntoView({ block: 'nearest' })
  }, [chosen])
  const run = (c: Command | undefined) => {
    if (c === undefined) return
    close()
    if (c.href !== undefined) go(c.href)
    // After the dialog has given the focus back, so that a dialog of the act takes it.
    else setTimeout(() => c.run?.(), 0)
  }
  const keyed = (e: KeyboardEvent) => {
    if (e.key === 'ArrowDown' || (e.ctrlKey && e.key === 'n')) at.value = Math.min(found.length - 1, chosen + 1)
    else if (e.key === 'ArrowUp' || (e.ctrlKey && e.key === 'p')) at.value = Math.max(0, chosen - 1)
    else if (e.key === 'Enter') run(found[chosen])
    else return
    e.preventDefault()
  }
  let group = ''
  return (
    <Dialog title="" label="Command palette" class="palette" onClose={close}>
      <div class="palette-input">
        <Icon name="search" size={18} />
        <input
          type="text"
          role="combobox"
          aria-label="Go to a page, an agent, a framework or a task, or do something"
          aria-expanded="true"
          aria-controls="palette-list"
          aria-activedescendant={chosen >= 0 ? 'palette-' + chosen : undefined}
          placeholder="Go to or do …"
          autocomplete="off"
          spellcheck={false}
          data-autofocus
          value={typed.value}
          onInput={(e) => {
            typed.value = e.currentTarget.value
            at.value = 0
          }}
          onKeyDown={keyed}
        />
        <kbd>Esc</kbd>
      </div>
      <div class="palette-list" id="palette-list" role="listbox" aria-label="Found" ref={list}>
        {found.length === 0 && <p class="palette-none">Nothing is called so.</p>}
        {found.map((c, i) => {
          const head = c.group !== group
          group = c.group
          return (
            <>
              {head && (
                <div class="palette-group" role="presentation">
                  {c.group}
                </div>
              )}
              <div
                id={'palette-' + i}
                class={cx('palette-item', i === chosen && 'palette-on')}
                role="option"
                aria-selected={i === chosen}
                onClick={() => run(c)}
                onMouseMove={() => (at.value = i)}
              >
                <Icon name={c.icon} />
                <span class="palette-title">{c.title}</span>
                {c.detail !== undefined && <span class="palette-detail">{c.detail}</span>}
              </div>
            </>
          )
        })}
      </div>
    </Dialog>
  )
}
