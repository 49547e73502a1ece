// Where a reader is in a log: how far down, how much is on the screen, which lines are to be drawn.
//
// The screen is told, and never asked: what a browser makes of a position (it rounds, it cuts off, a
// scrollbar that comes takes some of the room) must not decide which lines are drawn, for the lines
// that are drawn decide in turn how wide and how high the contents are. A log once followed its own
// scrollbar like that, up and down without end. Only the reader's own scrolling comes in, by scrolled.

import { Heights } from './heights'
import type { Change } from './window'

/** Place is a position in lines of different heights. */
export class Place {
  readonly heights: Heights
  /** top is how many pixels are above the screen, height how high it is. */
  top = 0
  height = 600

  /** over is how many lines are drawn beyond the edges of the screen. */
  constructor(
    guess: (line: number) => number,
    private readonly over = 20,
  ) {
    this.heights = new Heights(guess)
  }

  /** reset starts anew with other lines; at is the line to show, a third down the screen if it can be, or the end. */
  reset(count: number, guess: (line: number) => number, at: number | 'end'): void {
    this.heights.reset(count, guess)
    if (at === 'end') this.toEnd()
    else this.scrolled(at === 0 ? 0 : this.heights.top(at) - this.height / 3)
  }

  /** changed follows lines that came and went; what one reads stays where it is. */
  changed(c: Change, count: number): void {
    if (c.droppedTop > 0) this.top -= this.heights.top(c.droppedTop)
    this.heights.shift(c.prepended - c.droppedTop, count)
    if (c.prepended > 0) this.top += this.heights.top(c.prepended)
    this.scrolled(this.top)
  }

  /** reflow takes another guess of all heights, for other widths; the line at the top stays there. */
  reflow(count: number, guess: (line: number) => number): void {
    this.keeping(() => this.heights.reset(count, guess))
  }

  /** measured takes the heights of lines that were drawn, and says whether they were news. Each counts once. */
  measured(first: number, heights: readonly number[]): boolean {
    let news = false
    this.keeping(() => {
      for (const [i, h] of heights.entries()) news = this.heights.measure(first + i, h) || news
    })
    return news
  }

  private keeping(change: () => void): void {
    const line = this.heights.at(this.top)
    const into = this.top - this.heights.top(line)
    change()
    this.scrolled(this.heights.top(line) + Math.min(into, this.heights.height(line)))
  }

  /** scrolled takes a position, as far as there is one. */
  scrolled(top: number): void {
    this.top = Math.max(0, Math.min(top, this.most))
  }

  toEnd(): void {
    this.top = this.most
  }

  /** most is the position at the end. */
  get most(): number {
    return Math.max(0, this.heights.total() - this.height)
  }

  /** atBottom says whether a position is the end, but for what rounding makes of it. */
  atBottom(top: number): boolean {
    return top + this.height >= this.heights.total() - 4
  }

  /** window is which lines are drawn, the last not included. */
  window(): { first: number; last: number } {
    const count = this.heights.lines
    return {
      first: Math.max(0, this.heights.at(this.top) - this.over),
      last: Math.min(count, this.heights.at(this.top + this.height) + this.over + 1),
    }
  }
}
