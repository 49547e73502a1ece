/** The terminal itself. It is the largest thing of the UI, and is loaded when somebody opens one. */
import { FitAddon } from '@xterm/addon-fit'
import { Terminal, type ITheme } from '@xterm/xterm'
import '@xterm/xterm/css/xterm.css'
import { useEffect, useRef } from 'preact/hooks'
import { agentPath, ApiError, get, own, socket } from '../api/client'
import { safeStyles } from './safeDocument'
import { control, ended, input, inputBytes, output, resize, terminalQuery, type Target } from './wire'

/** How a session stands. */
export type SessionState = { is: 'connecting' } | { is: 'open' } | { is: 'ended'; text: string } | { is: 'lost'; text: string }

export interface ScreenProps {
  agent: string
  target: Target
  onState: (s: SessionState) => void
}

export default function Screen({ agent, target, onState }: ScreenProps) {
  const place = useRef<HTMLDivElement>(null)
  const tell = useRef(onState)
  tell.current = onState
  useEffect(() => {
    const el = place.current
    if (el === null) return
    return open(el, agent, target, (s) => tell.current(s))
  }, [agent, target])
  return <div class="term-screen" ref={place} />
}

/** open runs a session in an element, and returns what ends it. */
function open(el: HTMLElement, agent: string, target: Target, tell: (s: SessionState) => void): () => void {
  const release = safeStyles(document)
  const term = new Terminal({
    cursorBlink: !matchMedia('(prefers-reduced-motion: reduce)').matches,
    fontFamily: property('--mono', 'monospace'),
    fontSize: 13,
    scrollback: 10_000,
    minimumContrastRatio: 4.5,
    theme: theme(),
    // A task without a terminal of its own writes newlines only.
    convertEol: target.attach,
  })
  const fit = new FitAddon()
  term.loadAddon(fit)
  term.open(el)
  fit.fit()
  term.focus()

  let over = false
  const end = (s: SessionState): void => {
    if (over) return
    over = true
    term.options.disableStdin = true
    term.options.cursorBlink = false
    tell(s)
  }
  tell({ is: 'connecting' })
  const path = agentPath(agent, own + '/terminal?' + terminalQuery(target, term.rows, term.cols))
  const ws = new WebSocket(socket(path))
  let opened = false
  ws.binaryType = 'arraybuffer'
  ws.onopen = () => {
    opened = true
    tell({ is: 'open' })
    ws.send(resize(term.rows, term.cols))
  }
  ws.onmessage = (e: MessageEvent<ArrayBuffer | string>) => {
    if (typeof e.data === 'string') {
      const c = control(e.data)
      if (c.exit !== undefined) end({ is: 'ended', text: ended(c.exit) })
      else if (c.error !== undefined) end({ is: 'lost', text: typeof c.error === 'string' ? c.error : (c.error.message ?? 'The agent refused.') })
      return
    }
    const out = output(e.data)
    if (out !== undefined) term.write(out.data)
  }
  ws.onclose = (e) => {
    if (opened || over) end({ is: 'lost', text: e.reason !== '' ? e.reason : 'The connection was lost.' })
    else void whyNot(path).then((text) => end({ is: 'lost', text }))
  }

  const send = (frame: Uint8Array<ArrayBuffer> | string): void => {
    if (ws.readyState === WebSocket.OPEN) ws.send(frame)
  }
  term.onData((text) => send(input(text)))
  term.onBinary((text) => send(inputBytes(Uint8Array.from(text, (c) => c.charCodeAt(0)))))
  term.onResize(({ rows, cols }) => send(resize(rows, cols)))
  term.attachCustomKeyEventHandler((e) => keys(e, term))

  const watch = new ResizeObserver(() => fit.fit())
  watch.observe(el)
  const scheme = matchMedia('(prefers-color-scheme: dark)')
  const repaint = (): void => void (term.options.theme = theme())
  scheme.addEventListener('change', repaint)
  const themed = new MutationObserver(repaint)
  themed.observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme', 'class'] })
  return () => {
    over = true
    watch.disconnect()
    themed.disconnect()
    scheme.removeEventListener('change', repaint)
    ws.close(1000)
    term.dispose()
    release()
  }
}

/** whyNot asks for what a WebSocket does not tell: why it was refused. */
async function whyNot(path: string): Promise<string> {
  try {
    await get(path)
  } catch (err) {
    // 426: a WebSocket would have been taken.
    if (err instanceof ApiError && err.status !== 426) return err.message
  }
  return 'The connection could not be made.'
}

/** keys handles what is not for the shell: copying, and the way out for who has no mouse. */
function keys(e: KeyboardEvent, term: Terminal): boolean {
  if (e.type !== 'keydown') return true
  if (e.key === 'Escape' && e.shiftKey) {
    ;(document.querySelector('.term-bar button, .term-bar a') as HTMLElement | null)?.focus()
    return false
  }
  if (e.ctrlKey && e.shiftKey && e.key.toLowerCase() === 'c' && term.hasSelection()) {
    void navigator.clipboard?.writeText(term.getSelection())
    e.preventDefault()
    return false
  }
  // Ctrl+Shift+V is the browser's paste, which ends in onData.
  return !(e.ctrlKey && e.shiftKey && e.key.toLowerCase() === 'v')
}

function property(name: string, otherwise: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim() || otherwise
}

/** theme takes the terminal's colours from those of the page. */
function theme(): ITheme {
  const names = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white'] as const
  const t: Record<string, string> = {
    background: property('--term-bg', '#12151a'),
    foreground: property('--term-fg', '#d8dee6'),
    cursor: property('--term-fg', '#d8dee6'),
    selectionBackground: property('--term-selection', '#3b4a5c'),
  }
  for (const [i, n] of names.entries()) {
    t[n] = property(`--ansi-${i}`, '#888')
    t['bright' + n[0]?.toUpperCase() + n.slice(1)] = property(`--ansi-${i + 8}`, '#aaa')
  }
  return t as ITheme
}
