/** Tabs of a page, remembered in its link as ?tab=. */
import type { ComponentChildren } from 'preact'
import { useId } from 'preact/hooks'
import { setQuery, useRoute } from '../router'
import { cx } from './basic'

export interface Tab {
  key: string
  title: ComponentChildren
  /** A number beside the title. */
  count?: number | undefined
  /** Drawn only while the tab is chosen. */
  render: () => ComponentChildren
}

export function Tabs({ tabs, label, name = 'tab' }: { tabs: readonly Tab[]; label: string; name?: string }) {
  const uid = useId()
  const wanted = useRoute().query[name]
  const chosen = tabs.find((t) => t.key === wanted) ?? tabs[0]
  if (chosen === undefined) return null
  const choose = (t: Tab) => setQuery({ [name]: t === tabs[0] ? '' : t.key })
  const keyed = (e: KeyboardEvent) => {
    const i = tabs.indexOf(chosen)
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[e.key]
    if (to === undefined) return
    e.preventDefault()
    const t = tabs[(to + tabs.length) % tabs.length]
    if (t === undefined) return
    choose(t)
    document.getElementById(uid + t.key)?.focus()
  }
  return (
    <div class="tabs">
      <div class="tab-list" role="tablist" aria-label={label} onKeyDown={keyed}>
        {tabs.map((t) => (
          <button
            key={t.key}
            id={uid + t.key}
            type="button"
            role="tab"
            class={cx('tab', t === chosen && 'tab-on')}
            aria-selected={t === chosen}
            aria-controls={uid + 'panel'}
            tabIndex={t === chosen ? 0 : -1}
            onClick={() => choose(t)}
          >
            {t.title}
            {t.count !== undefined && <span class="tab-count">{t.count.toLocaleString('en')}</span>}
          </button>
        ))}
      </div>
      <div class="tab-panel" role="tabpanel" id={uid + 'panel'} aria-labelledby={uid + chosen.key} key={chosen.key}>
        {chosen.render()}
      </div>
    </div>
  )
}
