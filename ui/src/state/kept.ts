import { useRef } from 'preact/hooks'
import { generation } from '../session'

/**
 * useKept is a thing as it is now or, once it is not known any more, as it was last: what
 * somebody reads does not vanish because a new leader has not heard of it yet. Another key is
 * another thing, of which nothing is kept, and so it is for another reader: they may not be allowed
 * to see what was shown before.
 */
export function useKept<T>(now: T | undefined, key: string): { value: T | undefined; old: boolean } {
  const last = useRef<{ key: string; reader: number; value: T } | undefined>(undefined)
  const reader = generation.value
  if (now !== undefined) last.current = { key, reader, value: now }
  const kept = last.current?.key === key && last.current.reader === reader ? last.current.value : undefined
  return { value: now ?? kept, old: now === undefined && kept !== undefined }
}
