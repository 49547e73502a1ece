/** Where sandboxes are. */
import { ApiError, get } from '~/api/client'
import { filesPath, type Entry } from '~/logs/source'
import { executorWith, findExecutor, readState } from '../agent/state'

/**
 * sandboxOf finds the directory of an executor, or of a task of it. Tasks of task groups have one
 * of their own below their executor's; all others share it.
 */
export async function sandboxOf(agent: string, framework: string, executor: string, task?: string, signal?: AbortSignal): Promise<string> {
  const state = await readState(agent, signal)
  const found = findExecutor(state, framework, executor) ?? (task === undefined ? undefined : executorWith(state, framework, task))
  if (found === undefined) {
    throw new ApiError(404, 'The agent no longer knows this executor: its sandbox may have been removed by the garbage collector.', '')
  }
  const dir = found.executor.directory
  if (task === undefined || task === found.executor.id) return dir
  const own = dir + '/tasks/' + task
  try {
    await get<Entry[]>(filesPath({ agent, path: own }, 'browse'), signal === undefined ? undefined : { signal })
    return own
  } catch (err) {
    if (err instanceof ApiError && err.status === 404) return dir
    throw err
  }
}

/** Crumb is a directory on the way to where one is. */
export interface PathCrumb {
  name: string
  path: string
}

const run = /^(.*\/frameworks\/[^/]+\/executors\/[^/]+\/runs\/[^/]+)(\/.*)?$/

/** crumbsOf cuts a path; what leads to a sandbox is one crumb, for nobody walks it. */
export function crumbsOf(path: string): PathCrumb[] {
  const clean = path.replace(/\/+$/, '')
  const m = run.exec(clean)
  const out: PathCrumb[] = []
  let at = ''
  let rest = clean
  if (m !== null) {
    at = m[1] ?? ''
    rest = m[2] ?? ''
    out.push({ name: 'sandbox', path: at })
  }
  for (const name of rest.split('/')) {
    if (name === '') continue
    at += '/' + name
    out.push({ name, path: at })
  }
  return out
}

/** placeOf is what a sandbox belongs to, read from its path. */
export function placeOf(path: string): { framework: string; executor: string; container: string } | undefined {
  const m = /\/frameworks\/([^/]+)\/executors\/([^/]+)\/runs\/([^/]+)/.exec(path)
  if (m === null) return undefined
  return { framework: m[1] ?? '', executor: m[2] ?? '', container: m[3] ?? '' }
}

/** isDirectory by the first letter of its mode. */
export function isDirectory(e: Entry): boolean {
  return e.mode.startsWith('d')
}

/** sorted lists directories first, then by name, as people look for them. */
export function sorted(entries: readonly Entry[]): Entry[] {
  const names = new Intl.Collator('en', { numeric: true })
  return [...entries].sort((a, b) => Number(isDirectory(b)) - Number(isDirectory(a)) || names.compare(a.path, b.path))
}
