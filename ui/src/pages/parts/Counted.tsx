/** A choice with how many there are of it. */
import { count } from '~/format'

export function Counted({ text, n }: { text: string; n: number | undefined }) {
  return (
    <>
      {text} {n !== undefined && <span class="tab-count">{count(n)}</span>}
    </>
  )
}
