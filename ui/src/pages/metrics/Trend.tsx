/** A line as small as a word, on a scale of its own: what moves a little must be seen to move. */

const width = 120
const height = 28

/** points is the line through the last values; undefined interrupts it, and what does not change is in the middle. */
export function points(values: readonly (number | undefined)[], most = 150): string {
  const list = values.slice(-most)
  let low = Infinity
  let high = -Infinity
  for (const v of list) {
    if (v === undefined) continue
    if (v < low) low = v
    if (v > high) high = v
  }
  if (low === Infinity || list.length < 2) return ''
  const span = high - low
  let d = ''
  let pen = false
  for (const [i, v] of list.entries()) {
    if (v === undefined) {
      pen = false
      continue
    }
    const x = (i / (list.length - 1)) * width
    const y = span === 0 ? height / 2 : height - 3 - ((v - low) / span) * (height - 6)
    d += (pen ? 'L' : 'M') + x.toFixed(1) + ' ' + y.toFixed(1)
    pen = true
  }
  return d
}

export function Trend({ values, label }: { values: readonly (number | undefined)[]; label: string }) {
  const d = points(values)
  const moves = d.includes('L') && new Set(values).size > 1
  return (
    <svg class={moves ? 'spark stroke-c1' : 'spark trend-flat'} viewBox={`0 0 ${width} ${height}`} width={width} height={height} preserveAspectRatio="none" role="img" aria-label={label}>
      {d !== '' && <path d={d} />}
    </svg>
  )
}
