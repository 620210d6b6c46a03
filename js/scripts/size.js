// What @tidings/client costs a page: its entry, bundled, minified and compressed.
//
// Owns: the budget. Does not know: what is in it.

import { build } from 'esbuild';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const BUDGET_BYTES = 8_000;

const bundle = await build({
  stdin: { contents: "export * from '@tidings/client'", resolveDir: fileURLToPath(new URL('.', import.meta.url)) },
  bundle: true,
  minify: true,
  write: false,
  format: 'esm',
  target: 'es2022',
  splitting: true,
  outdir: 'out',
});

const [entry, ...lazy] = bundle.outputFiles
  .map(({ path, contents }) => ({ path, minified: contents.length, gzip: gzipSync(contents, { level: 9 }).length }))
  .sort((a, b) => Number(b.path.endsWith('stdin.js')) - Number(a.path.endsWith('stdin.js')));
console.log(`@tidings/client: ${entry.gzip} bytes gzip, ${entry.minified} minified; budget ${BUDGET_BYTES} gzip`);
for (const { path, gzip } of lazy) console.log(`  loaded when needed: ${path.split('/').pop()} ${gzip} bytes gzip`);
if (entry.gzip > BUDGET_BYTES) process.exitCode = 1;
