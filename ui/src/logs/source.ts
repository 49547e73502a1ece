/**
 * Files of masters and agents, read in pieces. Pieces come by /files/download with a Range, which
 * gives bytes as they are; the JSON of /files/read replaces what is not UTF-8, so that one would
 * no longer know where one is in the file.
 */
import { agentPath, ApiError, leader, request } from '../api/client'

/** FileRef is a file or a directory: an agent's, or the leading master's if agent is undefined. */
export interface FileRef {
  agent: string | undefined
  path: string
}

/** Piece is what was read: bytes from an offset on, and how large the file is. */
export interface Piece {
  at: number
  bytes: Uint8Array
  size: number
}

export type FilesEndpoint = 'browse' | 'read' | 'download'

/** filesPath is the path, on the leader, of a request about a file. */
export function filesPath(file: FileRef, endpoint: FilesEndpoint, query: Record<string, string> = {}): string {
  const q = new URLSearchParams({ path: file.path, ...query })
  const path = '/files/' + endpoint + '?' + q.toString()
  return file.agent === undefined ? path : agentPath(file.agent, path)
}

/** downloadHref is the link that downloads a file. */
export function downloadHref(file: FileRef): string {
  return leader(filesPath(file, 'download'))
}

/** sizePath is what can be watched to see a file grow: {"offset": size, "data": ""}. */
export function sizePath(file: FileRef): string {
  return filesPath(file, 'read', { offset: '-1' })
}

/** readSize asks how large a file is. */
export async function readSize(file: FileRef, signal?: AbortSignal): Promise<number> {
  const res = await request('GET', sizePath(file), undefined, opts(signal))
  return ((await res.json()) as { offset: number }).offset
}

/** readRange reads bytes [from, to) of a file; fewer, or none, if it is shorter. */
export async function readRange(file: FileRef, from: number, to: number, signal?: AbortSignal): Promise<Piece> {
  if (to <= from) return { at: from, bytes: new Uint8Array(0), size: await readSize(file, signal) }
  return piece(file, `bytes=${from}-${to - 1}`, from, signal)
}

/** readTail reads the last bytes of a file. */
export async function readTail(file: FileRef, length: number, signal?: AbortSignal): Promise<Piece> {
  return piece(file, `bytes=-${length}`, 0, signal)
}

async function piece(file: FileRef, range: string, from: number, signal?: AbortSignal): Promise<Piece> {
  let res: Response
  try {
    res = await request('GET', filesPath(file, 'download'), undefined, { ...opts(signal), headers: { Range: range } })
  } catch (err) {
    // Nothing there: the file is empty, or shorter than we thought.
    if (err instanceof ApiError && err.status === 416) return { at: from, bytes: new Uint8Array(0), size: await readSize(file, signal) }
    throw err
  }
  const part = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(res.headers.get('Content-Range') ?? '')
  if (res.status === 206 && part !== null) {
    return { at: Number(part[1]), size: Number(part[3]), bytes: new Uint8Array(await res.arrayBuffer()) }
  }
  // An empty file has no ranges. Of any other the whole would come.
  if (res.headers.get('Content-Length') === '0') return { at: 0, bytes: new Uint8Array(0), size: 0 }
  void res.body?.cancel()
  throw new ApiError(502, 'The answer is not the piece of the file that was asked for: something between here and the cluster takes the Range header away.', file.path)
}

function opts(signal?: AbortSignal): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal }
}

/** Entry is a file in a listing of /files/browse. */
export interface Entry {
  path: string
  mode: string
  nlink: number
  uid: string
  gid: string
  size: number
  mtime: number
}

/** baseName is the last part of a path. */
export function baseName(path: string): string {
  return path.replace(/\/+$/, '').split('/').pop() ?? path
}

/** parentOf is the directory of a path. */
export function parentOf(path: string): string {
  return path.replace(/\/+$/, '').split('/').slice(0, -1).join('/') || '/'
}
