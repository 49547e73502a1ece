/** How much room there is: 'narrow' is a telephone, 'medium' a tablet or half a screen. */
import { signal } from '@preact/signals'

export type Viewport = 'narrow' | 'medium' | 'wide'

export const viewport = signal<Viewport>('wide')

/** roomy says that there is room for what one can do without on a laptop. */
export const roomy = signal(true)

function look(): void {
  roomy.value = innerWidth >= 1500
  viewport.value = innerWidth < 640 ? 'narrow' : innerWidth < 1100 ? 'medium' : 'wide'
}

if (typeof window !== 'undefined') {
  look()
  addEventListener('resize', look)
}
