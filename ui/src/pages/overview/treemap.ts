/** Squarified treemaps (Bruls, Huizing, van Wijk 2000): areas as given, sides as even as can be. Tested in test/treemap.test.ts. */

export interface Tile<T> {
  item: T
  x: number
  y: number
  w: number
  h: number
}

/** treemap lays items out in a rectangle, the largest first; items without size are left out. */
export function treemap<T>(items: readonly T[], size: (t: T) => number, width: number, height: number): Tile<T>[] {
  const rest = items
    .map((item) => ({ item, area: size(item) }))
    .filter((i) => i.area > 0)
    .sort((a, b) => b.area - a.area)
  const whole = rest.reduce((n, i) => n + i.area, 0)
  const scale = (width * height) / whole
  for (const i of rest) i.area *= scale
  const tiles: Tile<T>[] = []
  let x = 0
  let y = 0
  let w = width
  let h = height
  while (rest.length > 0) {
    const side = Math.min(w, h)
    let row = 1
    let sum = rest[0]?.area ?? 0
    // One more in the row as long as its worst tile becomes no longer.
    while (row < rest.length) {
      const more = rest[row]?.area ?? 0
      if (worst(rest, row + 1, sum + more, side) > worst(rest, row, sum, side)) break
      sum += more
      row++
    }
    const thick = side > 0 ? sum / side : 0
    let at = 0
    for (const { item, area } of rest.splice(0, row)) {
      const long = thick > 0 ? area / thick : 0
      tiles.push(w >= h ? { item, x, y: y + at, w: thick, h: long } : { item, x: x + at, y, w: long, h: thick })
      at += long
    }
    if (w >= h) {
      x += thick
      w -= thick
    } else {
      y += thick
      h -= thick
    }
  }
  return tiles
}

function worst(rest: readonly { area: number }[], n: number, sum: number, side: number): number {
  const most = rest[0]?.area ?? 0
  const least = rest[n - 1]?.area ?? 0
  return Math.max((side * side * most) / (sum * sum), (sum * sum) / (side * side * least))
}
