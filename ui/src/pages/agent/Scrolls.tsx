/** A place for a table that may be wider than its page: it scrolls, by keyboard too. */
import type { ComponentChildren } from 'preact'

export function Scrolls({ label, children }: { label: string; children: ComponentChildren }) {
  return (
    <div class="table-wrap" role="region" aria-label={label} tabIndex={0}>
      {children}
    </div>
  )
}
