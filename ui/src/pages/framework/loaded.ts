/** Something asked for once, and again when its key changes. */
import { useSignal, type ReadonlySignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'

/** useLoaded is what load returned last; undefined until then, and after an error. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, key: string): ReadonlySignal<T | undefined> {
  const value = useSignal<T | undefined>(undefined)
  useEffect(() => {
    const abort = new AbortController()
    load(abort.signal).then(
      (v) => {
        if (!abort.signal.aborted) value.value = v
      },
      () => {
        // What it would have shown is left out: the connection tells what is wrong.
        if (!abort.signal.aborted) value.value = undefined
      },
    )
    return () => abort.abort()
  }, [key])
  return value
}
