/** What is used, plotted live: CPU time by differences, memory against its limit, throttling, network. */
import { Panel } from '~/components/basic'
import { Chart, type Series } from '~/components/Chart'
import { amount, bytes, percent } from '~/format'
import type { Sample } from '~/usage/usage'

export interface UsageChartsProps {
  samples: readonly Sample[]
  /** What there is at most, drawn as a line; undefined: what the samples say. */
  cpus?: number | undefined
  mem?: number | undefined
  /** What that line is called. */
  line?: string
  /** What is measured, for the screen reader. */
  what: string
}

const rate = (n: number): string => bytes(n) + '/s'

export function UsageCharts({ samples, cpus, mem, line = 'Limit', what }: UsageChartsProps) {
  const times = samples.map((s) => s.at)
  const column = (f: (s: Sample) => number | undefined): (number | undefined)[] => samples.map(f)
  const has = (f: (s: Sample) => number | undefined): boolean => samples.some((s) => (f(s) ?? 0) > 0)
  const cpuLimit = column((s) => cpus ?? s.cpusLimit)
  const memLimit = column((s) => mem ?? s.memLimit)
  const plots: { title: string; series: Series[]; format: (n: number) => string; max?: number }[] = [
    {
      title: 'CPUs',
      format: amount3,
      series: [{ name: 'Used', color: 'c1', fill: true, values: column((s) => s.cpus) }, ...(cpuLimit.some((v) => v !== undefined) ? [{ name: line, color: 'c8', dash: true, values: cpuLimit }] : [])],
    },
    {
      title: 'Memory',
      format: bytes,
      series: [
        { name: 'Used', color: 'c2', fill: true, values: column((s) => s.mem) },
        ...(has((s) => s.cache) ? [{ name: 'Cache', color: 'c4', values: column((s) => s.cache) }] : []),
        ...(has((s) => s.swap) ? [{ name: 'Swap', color: 'c5', values: column((s) => s.swap) }] : []),
        ...(memLimit.some((v) => v !== undefined) ? [{ name: line, color: 'c8', dash: true, values: memLimit }] : []),
      ],
    },
  ]
  if (samples.some((s) => s.throttled !== undefined)) {
    plots.push({ title: 'Throttled', format: (n) => percent(n), max: 1, series: [{ name: 'Periods that had to wait', color: 'c3', fill: true, values: column((s) => s.throttled) }] })
  }
  if (has((s) => s.rx) || has((s) => s.tx)) {
    plots.push({
      title: 'Network',
      format: rate,
      series: [
        { name: 'Received', color: 'c1', values: column((s) => s.rx) },
        { name: 'Sent', color: 'c2', values: column((s) => s.tx) },
      ],
    })
  }
  if (has((s) => s.disk)) {
    const limit = column((s) => s.diskLimit)
    plots.push({ title: 'Disk', format: bytes, series: [{ name: 'Used', color: 'c6', fill: true, values: column((s) => s.disk) }, ...(limit.some((v) => v !== undefined) ? [{ name: 'Limit', color: 'c8', dash: true, values: limit }] : [])] })
  }
  return (
    <div class="charts">
      {plots.map((p) => (
        <Panel key={p.title} title={p.title}>
          {samples.length < 2 ? (
            <div class="chart-wait muted">Measuring…</div>
          ) : (
            <Chart label={`${p.title} used by ${what}`} times={times} series={p.series} format={p.format} height={150} {...(p.max === undefined ? {} : { max: p.max })} />
          )}
        </Panel>
      ))}
    </div>
  )
}

function amount3(n: number): string {
  return n >= 10 ? amount(Math.round(n * 10) / 10) : amount(Math.round(n * 100) / 100)
}
