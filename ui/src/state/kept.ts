import { useRef } from 'preact/hooks'

/**
 * useKept is a thing as it is now or, once it is not known any more, as it was last: what
 * somebody reads does not vanish because a new leader has not heard of it yet. Another key is
 * another thing, of which nothing is kept.
 */
export function useKept<T>(now: T | undefined, key: string): { value: T | undefined; old: boolean } {
  const last = useRef<{ key: string; value: T } | undefined>(undefined)
  if (now !== undefined) last.current = { key, value: now }
  const kept = last.current?.key === key ? last.current.value : undefined
  return { value: now ?? kept, old: now === undefined && kept !== undefined }
}
