/** What the palette offers besides pages: anybody can add to it. */
import type { IconName } from './components/Icon'

export interface Command {
  title: string
  /** Beside the title: an id, a state. */
  detail?: string
  icon: IconName
  /** The group it is shown in. */
  group: string
  href?: string
  run?: () => void
}

/** A source gives commands for what was typed (lower case, trimmed); without words it gives what is always offered. */
export type Source = (words: string) => Command[]

const sources = new Set<Source>()

/** addCommands adds a source; the returned function takes it away. Pages do so for what they show (in useEffect). */
export function addCommands(source: Source): () => void {
  sources.add(source)
  return () => sources.delete(source)
}

/** commandsFor asks all sources. */
export function commandsFor(words: string): Command[] {
  return [...sources].flatMap((s) => s(words))
}

/** matches says whether all words are in one of the texts. */
export function matches(words: string, ...texts: string[]): boolean {
  const all = words.split(/\s+/)
  return all.every((w) => texts.some((t) => t.includes(w) || t.toLowerCase().includes(w)))
}
