/**
 * Requests to the cluster. Every path goes by the master that served the page to the master
 * that leads (proxy/leader), and from there to an agent over the agent's own connection
 * (proxy/agent): one address is enough, and a change of leader needs nothing of us.
 */
import { signal } from '@preact/signals'
import { compareClocks } from '../clock'

/** own is where clusterd's own endpoints are. */
export const own = '/api/clusterd/v1'

/** ApiError is an answer that is not 2xx; its message is what the server said. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly path: string,
    /** Seconds after which the server asks us to come again. */
    readonly retryAfter?: number,
  ) {
    super(message)
    this.name = 'ApiError'
  }
}

/** unauthorized counts answers 401: the session looks at it and asks for a login. */
export const unauthorized = signal(0)

/**
 * local is the address of a path on the master that served this page. It is relative, so that
 * the UI works below any path.
 */
export function local(path: string): string {
  return new URL('.' + slashed(path), document.baseURI).pathname + search(path)
}

/** leaderPath is the path, on any master, of a path on the master that leads. */
export function leaderPath(path: string): string {
  return own + '/proxy/leader' + slashed(path)
}

/** leader is the address of a path on the master that leads. */
export function leader(path: string): string {
  return local(leaderPath(path))
}

/** agentPath is the path, on the leader, of a path on an agent: for get, post and useLive. */
export function agentPath(agentId: string, path: string): string {
  return own + '/proxy/agent/' + encodeURIComponent(agentId) + slashed(path)
}

/** socket is the WebSocket address of a path on the leader. */
export function socket(path: string): string {
  return socketHere(leaderPath(path))
}

/** socketHere is the WebSocket address of a path on the master that served this page. */
export function socketHere(path: string): string {
  const u = new URL(local(path), location.href)
  u.protocol = u.protocol === 'https:' ? 'wss:' : 'ws:'
  return u.href
}

function slashed(path: string): string {
  return path.startsWith('/') ? path : '/' + path
}

function search(path: string): string {
  const at = path.indexOf('?')
  return at < 0 ? '' : path.slice(at)
}

export interface RequestOptions {
  signal?: AbortSignal
  headers?: Record<string, string>
  /** Asks the master that served the page instead of the leader. */
  here?: boolean
}

/** request sends one request and throws an ApiError unless it is answered with 2xx. */
export async function request(method: string, path: string, body?: BodyInit, opts: RequestOptions = {}): Promise<Response> {
  let res: Response
  const sent = Date.now() / 1000
  try {
    res = await fetch(opts.here ? local(path) : leader(path), {
      method,
      body: body ?? null,
      headers: opts.headers ?? {},
      credentials: 'same-origin',
      cache: 'no-store',
      redirect: 'follow',
      signal: opts.signal ?? null,
    })
  } catch (err) {
    if (opts.signal?.aborted) throw err
    throw new ApiError(0, 'The master does not answer.', path)
  }
  if (opts.here !== true) compareClocks(res.headers.get('Date'), sent, Date.now() / 1000)
  if (res.ok) return res
  throw await failure(res, path)
}

/** failure is the ApiError of an answer. */
export async function failure(res: Response, path: string): Promise<ApiError> {
  const text = await res.text().catch(() => '')
  return refusal(res.status, text, Number(res.headers.get('Retry-After')), path, res.statusText)
}

/** refusal is the ApiError of an answer's parts. */
export function refusal(status: number, body: string, retryAfter: number, path: string, statusText = ''): ApiError {
  if (status === 401) unauthorized.value++
  return new ApiError(status, explain(body) || statusText || 'status ' + status, path, retryAfter > 0 ? retryAfter : undefined)
}

/** explain finds what a server said: plain text as Mesos does, or a JSON body with a message; '' if it said nothing. */
function explain(text: string): string {
  const plain = text.trim()
  if (plain.startsWith('{')) {
    try {
      const o = JSON.parse(plain) as { message?: unknown; error?: unknown; reason?: unknown }
      const nested = o.error as { message?: unknown } | undefined
      const said = [o.message, nested?.message, o.error, o.reason].find((v) => typeof v === 'string' && v !== '')
      if (typeof said === 'string') return said
    } catch {
      // Not JSON after all: shown as it is.
    }
  }
  return plain.length < 2000 && !plain.startsWith('<') ? plain : ''
}

/** get reads JSON. */
export async function get<T>(path: string, opts?: RequestOptions): Promise<T> {
  const res = await request('GET', path, undefined, { ...opts, headers: { Accept: 'application/json', ...opts?.headers } })
  return (await res.json()) as T
}

/** getText reads text. */
export async function getText(path: string, opts?: RequestOptions): Promise<string> {
  return (await request('GET', path, undefined, opts)).text()
}

/** send sends JSON with any method and returns what is answered: JSON if it is, undefined if nothing. */
export async function send<T = unknown>(method: string, path: string, body?: unknown, opts?: RequestOptions): Promise<T> {
  const res = await request(method, path, body === undefined ? undefined : JSON.stringify(body), {
    ...opts,
    headers: { Accept: 'application/json', ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...opts?.headers },
  })
  const text = await res.text()
  if (text.trim() === '') return undefined as T
  if (!(res.headers.get('Content-Type') ?? '').includes('json')) return text as T
  return JSON.parse(text) as T
}

/** post sends JSON by POST. */
export function post<T = unknown>(path: string, body?: unknown, opts?: RequestOptions): Promise<T> {
  return send<T>('POST', path, body, opts)
}

/**
 * call makes a call of the master's operator API: call('DRAIN_AGENT', {agent_id: {value: id}}).
 * It returns the member of the answer that belongs to the call, if there is one.
 */
export async function call<T = unknown>(type: string, args?: object, opts?: RequestOptions): Promise<T> {
  return operate<T>('/api/v1', type, args, opts)
}

/** agentCall makes a call of an agent's operator API. */
export async function agentCall<T = unknown>(agentId: string, type: string, args?: object, opts?: RequestOptions): Promise<T> {
  return operate<T>(agentPath(agentId, '/api/v1'), type, args, opts)
}

async function operate<T>(path: string, type: string, args?: object, opts?: RequestOptions): Promise<T> {
  const member = type.toLowerCase()
  const answer = await post<Record<string, unknown> | undefined>(path, args === undefined ? { type } : { type, [member]: args }, opts)
  return answer?.[member] as T
}
