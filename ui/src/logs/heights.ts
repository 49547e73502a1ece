// Where lines stand on the screen when they are not all equally high (wrapped lines): guessed
// from their length first, corrected once they have been seen.

/** Heights maps line numbers to pixels and back. */
export class Heights {
  private measured: (number | undefined)[] = []
  private sums = new Float64Array(1)
  private good = 0; // sums[0..good] are right
  private count = 0

  constructor(private guess: (line: number) => number) {}

  /** reset takes another number of lines and another guess; what was measured is forgotten. */
  reset(count: number, guess: (line: number) => number): void {
    this.guess = guess
    this.measured = []
    this.resize(count)
    this.good = 0
  }

  private resize(count: number): void {
    this.count = count
    if (this.sums.length < count + 1) {
      const more = new Float64Array(Math.max(count + 1, this.sums.length * 2))
      more.set(this.sums)
      this.sums = more
    }
    this.good = Math.min(this.good, count)
  }

  /** shift follows a window that changed: lines gone from and come to either end. */
  shift(top: number, count: number): void {
    if (top > 0) this.measured = new Array<number | undefined>(top).concat(this.measured)
    else if (top < 0) this.measured = this.measured.slice(-top)
    if (top !== 0) this.good = 0
    // The last line may have grown.
    this.measured.length = Math.min(this.measured.length, Math.max(0, Math.min(count, this.count + top) - 1))
    this.good = Math.min(this.good, this.measured.length)
    this.resize(count)
  }

  get lines(): number {
    return this.count
  }

  /**
   * measure notes how high a line is, and says whether that is news. The first time counts: whoever
   * draws, measures and draws again what that makes visible comes to an end, whatever is measured.
   */
  measure(line: number, height: number): boolean {
    if (line >= this.count || this.measured[line] !== undefined) return false
    const news = this.guess(line) !== height
    this.measured[line] = height
    if (news) this.good = Math.min(this.good, line)
    return news
  }

  height(line: number): number {
    return this.measured[line] ?? this.guess(line)
  }

  /** top is where a line begins; that of the line behind the last is the height of all. */
  top(line: number): number {
    const n = Math.min(line, this.count)
    for (; this.good < n; this.good++) {
      this.sums[this.good + 1] = this.sums[this.good]! + this.height(this.good)
    }
    return this.sums[n]!
  }

  total(): number {
    return this.top(this.count)
  }

  /** at is the line at a height. */
  at(y: number): number {
    this.total()
    let lo = 0
    let hi = Math.max(0, this.count - 1)
    while (lo < hi) {
      const mid = (lo + hi + 1) >> 1
      if (this.sums[mid]! <= y) lo = mid
      else hi = mid - 1
    }
    return lo
  }
}
