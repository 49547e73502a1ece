/** What the reader likes, remembered in this browser. */
import { effect, signal, type Signal } from '@preact/signals'

/** remembered is a signal that survives the tab. */
export function remembered<T>(key: string, initial: T): Signal<T> {
  const name = 'clusterd.' + key
  let value = initial
  try {
    const text = localStorage.getItem(name)
    if (text !== null) value = typeof initial === 'string' ? (text as T) : (JSON.parse(text) as T)
  } catch {
    // No storage, or something else's: the initial value.
  }
  const s = signal(value)
  let first = true
  effect(() => {
    const v = s.value
    if (first) {
      first = false
      return
    }
    try {
      localStorage.setItem(name, typeof v === 'string' ? v : JSON.stringify(v))
    } catch {
      // No storage: remembered until the tab is closed.
    }
  })
  return s
}

export type Theme = 'system' | 'light' | 'dark'

/** theme is what the reader chose; public/theme.js applies it before the first paint. */
export const theme = remembered<Theme>('theme', 'system')

/** exactTimes shows times as they are instead of relative to now. */
export const exactTimes = remembered<boolean>('exactTimes', false)

/** wideNav is whether the navigation shows names beside its icons. */
export const wideNav = remembered<boolean>('wideNav', true)

const darkSystem = signal(false)

/** dark says which colours are on the screen now: charts read it. */
export const dark = signal(false)

/** startTheme applies the theme from now on. */
export function startTheme(): void {
  const media = matchMedia('(prefers-color-scheme: dark)')
  darkSystem.value = media.matches
  media.addEventListener('change', () => (darkSystem.value = media.matches))
  effect(() => {
    const t = theme.value
    if (t === 'system') delete document.documentElement.dataset['theme']
    else document.documentElement.dataset['theme'] = t
    dark.value = t === 'dark' || (t === 'system' && darkSystem.value)
  })
}
