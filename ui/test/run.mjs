// Runs the tests of pure logic: bundles test/*.test.ts with the bundler that is here anyway
// and hands them to Node's own runner.
import { spawnSync } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { build } from 'vite'

const root = path.resolve(import.meta.dirname, '..')
const out = path.join(root, 'node_modules/.cache/clusterd-ui-test')
const names = readdirSync(import.meta.dirname).filter((f) => f.endsWith('.test.ts'))

await build({
  root,
  configFile: false,
  logLevel: 'warn',
  resolve: { alias: { '~': path.join(root, 'src') } },
  ssr: { noExternal: true },
  build: {
    ssr: true,
    outDir: out,
    emptyOutDir: true,
    minify: false,
    rolldownOptions: {
      input: Object.fromEntries(names.map((f) => [f.slice(0, -3), path.join(import.meta.dirname, f)])),
      output: { entryFileNames: '[name].mjs', chunkFileNames: '[name]-[hash].mjs' },
    },
  },
})

// One process for all: each would take longer to start than to run.
const all = path.join(out, 'all.mjs')
writeFileSync(all, names.map((f) => `import './${f.slice(0, -3)}.mjs'\n`).join(''))
const { status } = spawnSync(process.execPath, ['--test', '--test-timeout=60000', '--test-reporter=' + (process.stdout.isTTY ? 'spec' : 'dot'), all], {
  stdio: 'inherit',
})
process.exit(status ?? 1)
