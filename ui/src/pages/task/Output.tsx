/** What a task has written: its stdout, its stderr, and other files of its sandbox. */
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { useLive } from '~/api/live'
import { Empty, ErrorNote, Skeleton } from '~/components/basic'
import { Segments } from '~/components/Form'
import { LogViewer } from '~/logs/LogViewer'
import { baseName, filesPath, type Entry } from '~/logs/source'
import { href, setQuery, useRoute } from '~/router'
import type { Task } from '~/state/model'
import { sandboxOf } from '../files/sandbox'
import { executorOf } from './links'

export function Output({ task, reach }: { task: Task; reach: boolean }) {
  const wanted = useRoute().query['file'] ?? 'stdout'
  const dir = useSignal<string | undefined>(undefined)
  const error = useSignal<unknown>(undefined)
  const again = useSignal(0)
  useEffect(() => {
    if (!reach) return
    const abort = new AbortController()
    error.value = undefined
    sandboxOf(task.agent, task.framework, executorOf(task), task.id, abort.signal).then(
      (d) => (dir.value = d),
      (err: unknown) => {
        if (!abort.signal.aborted) error.value = err
      },
    )
    return () => abort.abort()
    // A task that only just started has no sandbox yet: ask again when it changes its state.
  }, [task.agent, task.framework, task.id, task.state, reach, again.value])
  const list = useLive<Entry[]>(dir.value === undefined ? undefined : filesPath({ agent: task.agent, path: dir.value }, 'browse'), { interval: 3000 })

  // Who reads keeps the place while the agent is away, or a new leader does not know it yet.
  if (!reach && dir.value === undefined) {
    return (
      <Empty title="The agent is not connected" icon="agents">
        <p>What the task has written is on its agent; it can be read when that is back.</p>
      </Empty>
    )
  }
  if (error.value !== undefined && dir.value === undefined) return <ErrorNote error={error.value} title="The output was not found." retry={() => again.value++} />
  if (dir.value === undefined) return <Skeleton lines={8} />
  const names = (list.value.data ?? []).filter((e) => e.mode.startsWith('-')).map((e) => baseName(e.path))
  const shown = ['stdout', 'stderr', ...names.filter((n) => /^(stdout|stderr)\.\d+$/.test(n) || n.endsWith('.log'))].slice(0, 8)
  if (!shown.includes(wanted)) shown.push(wanted)
  return (
    <div class="log-frame">
      <LogViewer
        key={dir.value + '/' + wanted}
        file={{ agent: task.agent, path: dir.value + '/' + wanted }}
        missing={<Empty title={`There is no ${wanted}`} icon="file"><p>Nothing was written, or it was removed.</p></Empty>}
        tools={
          <>
            <Segments label="File" value={wanted} options={shown.map((n) => ({ value: n, title: n }))} onChange={(n) => setQuery({ file: n === 'stdout' ? '' : n })} />
            <a class="log-button" href={href('files', { agent_id: task.agent }, { path: dir.value })}>
              All files
            </a>
          </>
        }
      />
    </div>
  )
}
