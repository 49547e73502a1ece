import { promises as fs } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import zlib from 'node:zlib'
import { defineConfig, type Plugin } from 'vite'

const brotli = promisify(zlib.brotliCompress)
const gzip = promisify(zlib.gzip)

/** What compresses well; the rest (fonts, images) is compressed already. */
const compressible = /\.(js|css|html|svg|json|webmanifest)$/

/**
 * Writes FILE.br and FILE.gz beside every file, so that a master serves them as they are
 * and never compresses. The placeholder that git keeps is written again too, for the build
 * empties the folder.
 */
function precompressed(): Plugin {
  let out = ''
  return {
    name: 'precompressed',
    apply: 'build',
    configResolved(config) {
      out = path.resolve(config.root, config.build.outDir)
    },
    async closeBundle() {
      await fs.writeFile(path.join(out, '.keep'), '')
      for (const e of await fs.readdir(out, { recursive: true, withFileTypes: true })) {
        const file = path.join(e.parentPath, e.name)
        if (!e.isFile() || !compressible.test(e.name)) continue
        const data = await fs.readFile(file)
        if (data.length < 256) continue
        await fs.writeFile(
          file + '.br',
          await brotli(data, {
            params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 11, [zlib.constants.BROTLI_PARAM_SIZE_HINT]: data.length },
          }),
        )
        await fs.writeFile(file + '.gz', await gzip(data, { level: 9 }))
      }
    },
  }
}

/** The script that applies the theme before anything is painted; it is no module, which would run too late. */
function themeFirst(): Plugin {
  return {
    name: 'theme-first',
    transformIndexHtml: {
      order: 'post',
      handler: () => [{ tag: 'script', attrs: { src: './theme.js' }, injectTo: 'head' }],
    },
  }
}

export default defineConfig({
  base: './', // the UI works below any path, behind other people's proxies too
  plugins: [themeFirst(), precompressed()],
  resolve: { alias: { '~': path.resolve(import.meta.dirname, 'src') } },
  build: {
    target: 'es2022',
    assetsInlineLimit: 0, // the content security policy knows no data: but for images
    modulePreload: { polyfill: false }, // the polyfill is an inline script
    reportCompressedSize: false,
    sourcemap: false,
    chunkSizeWarningLimit: 400, // the terminal
    rolldownOptions: {
      checks: { bundlerTimings: false }, // compressing takes its time
      output: {
        codeSplitting: {
          groups: [
            // What every page needs comes in one piece, not in fifteen.
            { name: 'base', test: /src\/(api|components|state|shell)\/|src\/[a-z]+\.ts$|node_modules\/(preact|@preact)\// },
          ],
        },
      },
    },
  },
  server: {
    // `npm run dev` beside a master: MASTER=http://127.0.0.1:5050 npm run dev
    proxy: Object.fromEntries(
      ['/api', '/files', '/metrics', '/flags', '/health', '/roles', '/quota', '/weights', '/maintenance', '/version'].map((p) => [
        p,
        { target: process.env['MASTER'] ?? 'http://127.0.0.1:5050', ws: true },
      ]),
    ),
  },
})
