// What containers use, from what their agent measures: counters become rates by the
// difference of two samples. Pure; see useUsage.ts for where the samples come from.

/** Statistics is mesos.ResourceStatistics, as far as it is used here. */
export interface Statistics {
  timestamp: number
  processes?: number
  threads?: number
  cpus_user_time_secs?: number
  cpus_system_time_secs?: number
  cpus_limit?: number
  cpus_soft_limit?: number
  cpus_nr_periods?: number
  cpus_nr_throttled?: number
  cpus_throttled_time_secs?: number
  mem_total_bytes?: number
  mem_limit_bytes?: number
  mem_soft_limit_bytes?: number
  mem_rss_bytes?: number
  mem_anon_bytes?: number
  mem_file_bytes?: number
  mem_cache_bytes?: number
  mem_swap_bytes?: number
  mem_low_pressure_counter?: number
  mem_medium_pressure_counter?: number
  mem_critical_pressure_counter?: number
  disk_limit_bytes?: number
  disk_used_bytes?: number
  disk_statistics?: DiskStatistics[]
  net_rx_bytes?: number
  net_tx_bytes?: number
  net_rx_dropped?: number
  net_tx_dropped?: number
  net_rx_errors?: number
  net_tx_errors?: number
  net_tcp_active_connections?: number
}

export interface DiskStatistics {
  source?: unknown
  persistence?: { id?: string }
  limit_bytes?: number
  used_bytes?: number
}

/** Sample is what a container used at a time. Rates are undefined in the first. */
export interface Sample {
  at: number
  cpus?: number
  cpusLimit?: number
  /** throttled is the part of the scheduler's periods in which the container had to wait. */
  throttled?: number
  throttledSeconds?: number
  mem?: number
  memLimit?: number
  cache?: number
  swap?: number
  disk?: number
  diskLimit?: number
  rx?: number
  tx?: number
  processes?: number
  threads?: number
}

function rate(now: number | undefined, before: number | undefined, seconds: number): number | undefined {
  if (now === undefined || before === undefined || seconds <= 0) return undefined
  const d = now - before
  return d < 0 ? undefined : d / seconds; // a counter that went back belongs to another container
}

function cpuTime(s: Statistics): number | undefined {
  if (s.cpus_user_time_secs === undefined && s.cpus_system_time_secs === undefined) return undefined
  return (s.cpus_user_time_secs ?? 0) + (s.cpus_system_time_secs ?? 0)
}

/** memoryOf is what of a container's memory cannot be taken back without swapping: what counts
 * when it comes to the limit. */
export function memoryOf(s: Statistics): number | undefined {
  return s.mem_rss_bytes ?? s.mem_anon_bytes ?? s.mem_total_bytes
}

/** sample is what a container uses, by the difference to what was measured before. */
export function sample(now: Statistics, before?: Statistics): Sample {
  const seconds = before ? now.timestamp - before.timestamp : 0
  const periods = before ? rate(now.cpus_nr_periods, before.cpus_nr_periods, seconds) : undefined
  const waits = before ? rate(now.cpus_nr_throttled, before.cpus_nr_throttled, seconds) : undefined
  return {
    at: now.timestamp,
    cpus: before && rate(cpuTime(now), cpuTime(before), seconds),
    cpusLimit: now.cpus_limit ?? now.cpus_soft_limit,
    throttled: periods !== undefined && waits !== undefined ? (periods > 0 ? Math.min(1, waits / periods) : 0) : undefined,
    throttledSeconds: before && rate(now.cpus_throttled_time_secs, before.cpus_throttled_time_secs, seconds),
    mem: memoryOf(now),
    memLimit: now.mem_limit_bytes ?? now.mem_soft_limit_bytes,
    cache: now.mem_cache_bytes ?? now.mem_file_bytes,
    swap: now.mem_swap_bytes,
    disk: now.disk_used_bytes,
    diskLimit: now.disk_limit_bytes,
    rx: before && rate(now.net_rx_bytes, before.net_rx_bytes, seconds),
    tx: before && rate(now.net_tx_bytes, before.net_tx_bytes, seconds),
    processes: now.processes,
    threads: now.threads,
  }
}

/** Series is a ring of samples, oldest first. */
export class Series {
  samples: Sample[] = []
  private last: Statistics | undefined

  constructor(private readonly keep = 600) {}

  /** add takes what was measured; the same measurement twice counts once. */
  add(s: Statistics): boolean {
    if (this.last && s.timestamp <= this.last.timestamp) return false
    const next = sample(s, this.last)
    this.last = s
    // A first sample without rates would only be a gap in the plots.
    this.samples = this.samples.length >= this.keep ? [...this.samples.slice(1), next] : [...this.samples, next]
    return true
  }

  get latest(): Sample | undefined {
    return this.samples[this.samples.length - 1]
  }
}

/** sum adds up what several containers use. */
export function sum(samples: readonly (Sample | undefined)[]): Sample {
  const out: Sample = { at: 0 }
  for (const s of samples) {
    if (!s) continue
    out.at = Math.max(out.at, s.at)
    for (const key of ['cpus', 'mem', 'cache', 'swap', 'disk', 'rx', 'tx', 'processes', 'threads'] as const) {
      const v = s[key]
      if (v !== undefined) out[key] = (out[key] ?? 0) + v
    }
  }
  return out
}
