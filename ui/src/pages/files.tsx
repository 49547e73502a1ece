/** Files of an agent's sandboxes, and logs of agents and of the leading master. */
import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import type { ApiError } from '~/api/client'
import { useLive } from '~/api/live'
import { Bytes, Copy, Empty, ErrorNote, shorten, Skeleton, Time } from '~/components/basic'
import { Icon } from '~/components/Icon'
import { Page, type Crumb } from '~/components/Page'
import { Table, type Column } from '~/components/Table'
import { toast } from '~/components/Toast'
import { plural } from '~/format'
import { LogViewer } from '~/logs/LogViewer'
import { baseName, downloadHref, filesPath, parentOf, type Entry, type FileRef } from '~/logs/source'
import { go, href, setQuery, useRoute } from '~/router'
import { agents } from '~/state/store'
import { crumbsOf, isDirectory, placeOf, sandboxOf, sorted } from './files/sandbox'
import '../style/pages/files.css'

export default function Files() {
  const route = useRoute()
  const { agent_id: agent, framework_id, executor_id, task_id } = route.params
  if (agent !== undefined && framework_id !== undefined && executor_id !== undefined) {
    return <Reroute agent={agent} framework={framework_id} executor={executor_id} task={task_id} />
  }
  const path = route.query['path'] ?? ''
  const file = route.query['file']
  if (file !== undefined) return <FilePage file={{ agent, path: file }} />
  if (path === '' || path === '/master/log' || path === '/slave/log') {
    const log = agent === undefined ? '/master/log' : '/slave/log'
    return <FilePage file={{ agent, path: path === '' ? log : path }} />
  }
  return <Directory at={{ agent, path }} />
}

/** Reroute finds where the sandbox of an executor or of a task is, and goes there. */
function Reroute(p: { agent: string; framework: string; executor: string; task: string | undefined }) {
  const error = useSignal<unknown>(undefined)
  const again = useSignal(0)
  useEffect(() => {
    const abort = new AbortController()
    error.value = undefined
    sandboxOf(p.agent, p.framework, p.executor, p.task, abort.signal).then(
      (path) => go(href('files', { agent_id: p.agent }, { path }), { replace: true }),
      (err: unknown) => {
        if (!abort.signal.aborted) error.value = err
      },
    )
    return () => abort.abort()
  }, [again.value])
  return (
    <Page title="Sandbox" crumbs={crumbs(p.agent, undefined)}>
      {error.value === undefined ? <Skeleton lines={6} /> : <ErrorNote error={error.value} title="The sandbox was not found." retry={() => again.value++} />}
    </Page>
  )
}

/** crumbs lead back to what the files belong to. */
function crumbs(agent: string | undefined, path: string | undefined): Crumb[] {
  if (agent === undefined) return [{ text: 'Overview', href: href('overview') }]
  const out: Crumb[] = [
    { text: 'Agents', href: href('agents') },
    { text: agents.get(agent)?.hostname ?? shorten(agent), href: href('agent', { agent_id: agent }) },
  ]
  const place = path === undefined ? undefined : placeOf(path)
  if (place !== undefined) {
    out.push({ text: shorten(place.executor, 32), href: href('executor', { agent_id: agent, framework_id: place.framework, executor_id: place.executor }) })
  }
  return out
}

/** linkTo is the page of a directory or a file. */
function linkTo(agent: string | undefined, query: Record<string, string>): string {
  return agent === undefined ? href('masterFiles', {}, query) : href('files', { agent_id: agent }, query)
}

/** PathBar is the path as links, each to its directory. */
function PathBar({ at, file }: { at: FileRef; file?: string }) {
  const parts = crumbsOf(at.path)
  return (
    <nav class="pathbar" aria-label="Path">
      <ol>
        {parts.map((c, i) => (
          <li key={c.path}>
            {i === parts.length - 1 && file === undefined ? (
              <span aria-current="page">{c.name}</span>
            ) : (
              <a href={linkTo(at.agent, { path: c.path })} title={c.path}>
                {c.name}
              </a>
            )}
          </li>
        ))}
        {file !== undefined && (
          <li>
            <span aria-current="page">{file}</span>
          </li>
        )}
      </ol>
      <Copy text={file === undefined ? at.path : at.path + '/' + file} what="path" />
    </nav>
  )
}

const special: Record<string, string> = { l: 'link', p: 'named pipe', s: 'socket', c: 'device', b: 'device' }

function columnsOf(agent: string | undefined): Column<Entry>[] {
  return [
    {
      key: 'name', title: 'Name', value: (e) => (isDirectory(e) ? '0' : '1') + baseName(e.path), width: 'minmax(10rem, 3fr)',
      render: (e) => {
        const dir = isDirectory(e)
        const other = special[e.mode[0] ?? '']
        const name = baseName(e.path)
        if (other !== undefined) return <span class="file-name muted"><Icon name="file" /> {name} <span class="faint">{other}</span></span>
        return (
          <a class="file-name" href={linkTo(agent, dir ? { path: e.path } : { file: e.path })}>
            <Icon name={dir ? 'files' : 'file'} /> {name}
            {dir && '/'}
          </a>
        )
      },
    },
    { key: 'size', title: 'Size', value: (e) => e.size, width: '6.5rem', align: 'end', render: (e) => (isDirectory(e) ? <span class="muted">–</span> : <Bytes n={e.size} />) },
    { key: 'mtime', title: 'Modified', value: (e) => e.mtime, width: '8rem', hide: 'narrow', render: (e) => <Time at={e.mtime} /> },
    { key: 'mode', title: 'Mode', value: (e) => e.mode, width: '7.5rem', hide: 'narrow', render: (e) => <code>{e.mode}</code> },
    { key: 'nlink', title: 'Links', value: (e) => e.nlink, width: '4.5rem', align: 'end', hide: 'medium' },
    { key: 'uid', title: 'User', value: (e) => e.uid, width: '6rem', hide: 'medium' },
    { key: 'gid', title: 'Group', value: (e) => e.gid, width: '6rem', hide: 'medium' },
    {
      key: 'get', title: <span class="sr">Download</span>, name: 'Download', width: '3rem', align: 'end',
      render: (e) =>
        e.mode.startsWith('-') ? (
          <a class="button button-ghost button-icon button-small no-open" href={downloadHref({ agent, path: e.path })} download={baseName(e.path)} title="Download" aria-label={'Download ' + baseName(e.path)}>
            <Icon name="download" />
          </a>
        ) : null,
    },
  ]
}

/** Directory lists what is in one, and stays fresh. */
function Directory({ at }: { at: FileRef }) {
  const live = useLive<Entry[]>(filesPath(at, 'browse'), { interval: 2000 })
  const { data, error } = live.value
  const rows = data === undefined ? [] : sorted(data)
  return (
    <Page title="Files" crumbs={crumbs(at.agent, at.path)} heading={crumbsOf(at.path).at(-1)?.name ?? '/'} sub={data !== undefined && plural(rows.length, 'entry', 'entries')} fill>
      <PathBar at={at} />
      {error !== undefined && <FilesError error={error} what="This directory" />}
      {(data !== undefined || error === undefined) && (
        <Table
          label="Files"
          columns={columnsOf(at.agent)}
          rows={rows}
          rowKey={(e) => e.path}
          href={(e) => (isDirectory(e) ? linkTo(at.agent, { path: e.path }) : e.mode.startsWith('-') ? linkTo(at.agent, { file: e.path }) : undefined)}
          defaultSort="name"
          loading={data === undefined}
          fill
          empty={<Empty title="This directory is empty" icon="files" />}
        />
      )}
    </Page>
  )
}

/** FilesError is why files are not shown, with what can be done. */
export function FilesError({ error, what }: { error: ApiError; what: string }) {
  if (error.status === 404 && !/^(There is no agent|Agent) /.test(error.message)) {
    return (
      <Empty title={what + ' is not there'} icon="files">
        <p>Sandboxes of tasks that have ended are removed after a while (--gc_delay), and sooner when the disk fills.</p>
      </Empty>
    )
  }
  if (error.status === 403) return <ErrorNote error="You may not look into this sandbox." />
  return <ErrorNote error={error} title={what + ' cannot be read.'} />
}

/** FilePage is the viewer, and the files beside the one that is shown. */
function FilePage({ file }: { file: FileRef }) {
  const query = useRoute().query
  const log = file.path === '/master/log' || file.path === '/slave/log'
  const dir = { agent: file.agent, path: parentOf(file.path) }
  const beside = useLive<Entry[]>(log ? undefined : filesPath(dir, 'browse'), { interval: 5000 })
  const offset = query['offset'] === undefined ? undefined : Number(query['offset'])
  const name = log ? (file.agent === undefined ? 'Log of the leading master' : 'Log of the agent') : baseName(file.path)
  const others = log ? [] : sorted(beside.value.data ?? []).filter((e) => e.mode.startsWith('-'))
  return (
    <Page title={name} crumbs={crumbs(file.agent, file.path)} heading={name} fill>
      {!log && <PathBar at={dir} file={baseName(file.path)} />}
      {others.length > 1 && others.length <= 12 && (
        <nav class="file-tabs" aria-label="Files beside">
          {others.map((e) => (
            <a key={e.path} href={linkTo(file.agent, { file: e.path })} aria-current={e.path === file.path ? 'page' : undefined} class="file-tab">
              {baseName(e.path)}
            </a>
          ))}
        </nav>
      )}
      <LogViewer key={file.path} file={file} offset={Number.isFinite(offset) ? offset : undefined} onPlace={(at) => {
          setQuery({ offset: at === undefined ? '' : String(at) })
          toast('The address of this page leads to that line now.', { kind: 'info' })
        }} missing={log ? <NoLog agent={file.agent} /> : undefined} />
    </Page>
  )
}

function NoLog({ agent }: { agent: string | undefined }) {
  return (
    <Empty title={agent === undefined ? 'The master writes no log file' : 'The agent writes no log file'} icon="file">
      <p>
        It logs to its standard error, which ends up in the journal of its service. Start it with <code>--log_dir</code>, or say with <code>--external_log_file</code> where somebody else writes the log, to read it here.
      </p>
    </Empty>
  )
}
