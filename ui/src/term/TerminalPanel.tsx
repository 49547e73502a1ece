/**
 * A terminal into a container, with what it takes around it: what to run, as whom, how it ended,
 * and to begin again.
 */
import { useSignal } from '@preact/signals'
import type { ComponentType } from 'preact'
import { useEffect } from 'preact/hooks'
import { Button, ErrorNote, Note, Skeleton } from '~/components/basic'
import { SelectField, TextField } from '~/components/Form'
import { can } from '~/session'
import type { ScreenProps, SessionState } from './Screen'
import { words, type Target } from './wire'

export interface TerminalPanelProps {
  agent: string
  /** Ids of containers with dots between, the outermost first. */
  container: string
  /** The container's own command has a terminal that can be joined. */
  tty?: boolean
  /** What was run last, from the link. */
  command?: string | undefined
  user?: string | undefined
  onRun?: (command: string, user: string) => void
}

const shells = [
  { value: 'sh', title: 'sh' },
  { value: 'bash', title: 'bash' },
  { value: 'custom', title: 'Another command…' },
]

export function TerminalPanel(p: TerminalPanelProps) {
  const mayRun = can('LAUNCH_NESTED_CONTAINER_SESSION')
  const mayAttach = p.tty === true && can('ATTACH_CONTAINER_OUTPUT')
  const known = p.command === 'sh' || p.command === 'bash' || p.command === undefined
  const what = useSignal(mayRun ? (known ? (p.command ?? 'sh') : 'custom') : 'attach')
  const custom = useSignal(known ? '' : (p.command ?? ''))
  const user = useSignal(p.user ?? '')
  const session = useSignal<{ n: number; target: Target } | undefined>(undefined)
  const state = useSignal<SessionState | undefined>(undefined)
  const wrong = useSignal<string | undefined>(undefined)
  const screen = useSignal<{ component?: ComponentType<ScreenProps>; error?: unknown } | undefined>(undefined)

  const load = (): void => {
    if (screen.peek()?.component !== undefined) return
    import('./Screen').then(
      (m) => (screen.value = { component: m.default }),
      (error: unknown) => (screen.value = { error }),
    )
  }
  const start = (): void => {
    wrong.value = undefined
    let argv: string[]
    try {
      argv = what.value === 'custom' ? words(custom.value) : [what.value]
    } catch (err) {
      wrong.value = err instanceof Error ? err.message : String(err)
      return
    }
    if (argv.length === 0) {
      wrong.value = 'Say what to run.'
      return
    }
    load()
    state.value = undefined
    session.value = { n: (session.peek()?.n ?? 0) + 1, target: { container: p.container, argv, user: user.value.trim(), attach: what.value === 'attach', silent: !can('ATTACH_CONTAINER_INPUT') } }
    if (what.value !== 'attach') p.onRun?.(what.value === 'custom' ? custom.value : what.value, user.value.trim())
  }
  // Leaving with an open session ends what runs in it: better to ask.
  useEffect(() => {
    const ask = (e: BeforeUnloadEvent): void => {
      if (state.peek()?.is === 'open') e.preventDefault()
    }
    addEventListener('beforeunload', ask)
    return () => removeEventListener('beforeunload', ask)
  }, [])

  if (!mayRun && !mayAttach) return <Note tone="info">You may not run commands in containers, nor attach to them.</Note>
  const s = session.value
  const st = state.value
  const live = s !== undefined && (st === undefined || st.is === 'connecting' || st.is === 'open')
  const C = screen.value?.component
  const choices = [...(mayAttach ? [{ value: 'attach', title: "The task's own terminal" }] : []), ...(mayRun ? shells : [])]
  return (
    <div class="term">
      <form
        class="term-bar"
        onSubmit={(e) => {
          e.preventDefault()
          start()
        }}
      >
        <SelectField label="Run" value={what} options={choices} disabled={live} />
        {what.value === 'custom' && <TextField label="Command" value={custom} placeholder="python3 -i" mono disabled={live} error={wrong.value} />}
        {what.value !== 'attach' && <TextField label="As user" value={user} placeholder="as the container" disabled={live} />}
        <span class="term-go">
          {live ? (
            <Button icon="stop" onClick={() => ((session.value = undefined), (state.value = undefined))}>
              {st?.is === 'open' ? 'Disconnect' : 'Connecting…'}
            </Button>
          ) : (
            <Button kind="primary" type="submit" icon="play">
              {s === undefined ? (what.value === 'attach' ? 'Attach' : 'Open terminal') : 'Open again'}
            </Button>
          )}
        </span>
      </form>
      {wrong.value !== undefined && what.value !== 'custom' && <ErrorNote error={wrong.value} />}
      {screen.value?.error !== undefined && <ErrorNote error={screen.value.error} title="The terminal could not be loaded." />}
      {s === undefined ? (
        <div class="term-idle">
          <p>
            {what.value === 'attach'
              ? 'You share the terminal with the task: what you type, it reads. Leaving does not end it.'
              : 'The command runs in the container, beside what runs there, within its limits. It ends when you leave.'}
          </p>
        </div>
      ) : C === undefined ? (
        <Skeleton block />
      ) : (
        <C key={s.n} agent={p.agent} target={s.target} onState={(next) => (state.value = next)} />
      )}
      {s !== undefined && (
        <div class="term-foot" role="status">
          {st?.is === 'ended' || st?.is === 'lost' ? (
            <>
              <strong class={st.is === 'lost' ? 'tone-bad' : ''}>{st.text}</strong>{' '}
              <Button small icon="refresh" onClick={start}>
                {st.is === 'lost' ? 'Reconnect' : 'Run again'}
              </Button>
            </>
          ) : st?.is === 'open' ? (
            <span class="muted">
              Connected. <kbd>Shift</kbd>+<kbd>Esc</kbd> leaves the terminal for the page; <kbd>Ctrl</kbd>+<kbd>Shift</kbd>+<kbd>C</kbd> copies.
            </span>
          ) : (
            <span class="muted">Connecting…</span>
          )}
        </div>
      )}
    </div>
  )
}
