/** A map that components can look at: reading it subscribes, and changes are told in batches. */
import { signal } from '@preact/signals'

/**
 * Collection holds objects by key. Objects are never changed, only replaced, so that identity
 * tells whether something is new. Changes are seen by readers after commit().
 */
export class Collection<T> {
  private readonly map = new Map<string, T>()
  private readonly version = signal(0)
  private list: readonly T[] | undefined
  private dirty = false

  /** get is one object; the reader is told of changes. */
  get(key: string): T | undefined {
    void this.version.value
    return this.map.get(key)
  }

  has(key: string): boolean {
    void this.version.value
    return this.map.has(key)
  }

  /** size is how many there are. */
  get size(): number {
    void this.version.value
    return this.map.size
  }

  /** count is size, without being told of changes. */
  get count(): number {
    return this.map.size
  }

  /** all are all objects in the order they came; the same array until something changes. */
  get all(): readonly T[] {
    void this.version.value
    this.list ??= [...this.map.values()]
    return this.list
  }

  /** peek is one object, without being told of changes. */
  peek(key: string): T | undefined {
    return this.map.get(key)
  }

  /** values are all objects as they are at once, without being told of changes. */
  values(): IterableIterator<T> {
    return this.map.values()
  }

  set(key: string, value: T): void {
    this.map.set(key, value)
    this.dirty = true
  }

  delete(key: string): boolean {
    const was = this.map.delete(key)
    if (was) this.dirty = true
    return was
  }

  clear(): void {
    this.map.clear()
    this.dirty = true
  }

  /** commit tells readers what has changed since the last one. */
  commit(): void {
    if (!this.dirty) return
    this.dirty = false
    this.list = undefined
    this.version.value++
  }
}
