/** How much room there is: 'narrow' is a telephone, 'medium' a tablet or half a screen. */
import { signal } from '@preact/signals'

export type Viewport = 'narrow' | 'medium' | 'wide'

export const viewport = signal<Viewport>('wide')

function look(): void {
  viewport.value = innerWidth < 640 ? 'narrow' : innerWidth < 1100 ? 'medium' : 'wide'
}

if (typeof window !== 'undefined') {
  look()
  addEventListener('resize', look)
}
