/** The frame of a page: its title, where it belongs, and what can be done. */
import type { ComponentChildren } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { leader } from '../state/store'

export interface Crumb {
  text: string
  href?: string
}

export interface PageProps {
  /** The title of the document, and of the page unless heading is given. */
  title: string
  heading?: ComponentChildren
  crumbs?: Crumb[]
  /** Beside the title: a state, an id. */
  sub?: ComponentChildren
  actions?: ComponentChildren
  children?: ComponentChildren
  /** The page fills the window and does not scroll: for one large table, a log, a terminal. */
  fill?: boolean
}

export function Page(p: PageProps) {
  const cluster = leader.value?.cluster
  const title = useRef<HTMLHeadingElement>(null)
  // The shell gave the focus to the main part while this page was still loading.
  useEffect(() => {
    if (document.activeElement?.id === 'main') title.current?.focus({ preventScroll: true })
  }, [])
  useEffect(() => {
    document.title = p.title + ' · ' + (cluster ? cluster + ' · ' : '') + 'clusterd'
  }, [p.title, cluster])
  return (
    <div class={p.fill === true ? 'page page-fill' : 'page'}>
      {p.crumbs !== undefined && p.crumbs.length > 0 && (
        <nav class="crumbs" aria-label="Breadcrumb">
          <ol>
            {p.crumbs.map((c) => (
              <li key={c.text}>{c.href === undefined ? <span>{c.text}</span> : <a href={c.href}>{c.text}</a>}</li>
            ))}
          </ol>
        </nav>
      )}
      <header class="page-head">
        <div class="page-title">
          <h1 ref={title} tabIndex={-1}>{p.heading ?? p.title}</h1>
          {p.sub !== undefined && <div class="page-sub">{p.sub}</div>}
        </div>
        {p.actions !== undefined && <div class="page-actions">{p.actions}</div>}
      </header>
      {p.children}
    </div>
  )
}
