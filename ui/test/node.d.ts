// What the tests use of Node; its own types are a package that nothing else needs.
declare module 'node:test' {
  type Body = () => void | Promise<void>
  export default function test(name: string, body: Body): void
  export function beforeEach(body: Body): void
  export function describe(name: string, body: () => void): void
}
declare module 'node:assert/strict' {
  interface Assert {
    (value: unknown, message?: string): asserts value
    equal<T>(actual: unknown, expected: T, message?: string): void
    notEqual(actual: unknown, expected: unknown, message?: string): void
    deepEqual<T>(actual: unknown, expected: T, message?: string): void
    notDeepEqual(actual: unknown, expected: unknown, message?: string): void
    ok(value: unknown, message?: string): asserts value
    throws(f: () => unknown, expected?: unknown, message?: string): void
    rejects(f: () => Promise<unknown>, expected?: unknown, message?: string): Promise<void>
    match(text: string, pattern: RegExp, message?: string): void
    fail(message?: string): never
  }
  const assert: Assert
  export default assert
}
