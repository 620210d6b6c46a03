// What @tidings/client costs a page: its entry, bundled, minified and compressed.
//
// Owns: the budget. Does not know: what is in it.

import { build } from 'esbuild';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

// The goal is 8 kB. By what it is made of, compressed: the link with its transport, parser and requests 3.8 kB, feeds and hub
// 2.4 kB, the lane 1.0 kB, jobs 0.9 kB, the rest 1.8 kB. What comes later may be missing, since browsers remember for the life
// of a page that a module could not be fetched, so only that comes later for which there is something else to do.
const BUDGET_BYTES = 10_100;

const bundle = await build({
  stdin: { contents: "export * from '@tidings/client'", resolveDir: fileURLToPath(new URL('.', import.meta.url)) },
  bundle: true,
  minify: true,
  write: false,
  format: 'esm',
  target: 'es2022',
  splitting: true,
  metafile: true,
  outdir: 'out',
});

const gzip = (contents) => gzipSync(contents, { level: 9 }).length;
const outputs = new Map(bundle.outputFiles.map(({ path, contents }) => [path.split('/').pop(), contents]));
const parts = new Map(Object.entries(bundle.metafile.outputs).map(([path, output]) => [path.split('/').pop(), output]));

// Whatever the entry imports by name comes with it; what it imports when it is needed does not.
const eager = new Set(['stdin.js']);
for (const name of eager) {
  for (const { path, kind } of parts.get(name).imports) if (kind === 'import-statement') eager.add(path.split('/').pop());
}
const whole = Buffer.concat([...eager].map((name) => outputs.get(name)));
console.log(`@tidings/client: ${gzip(whole)} bytes gzip, ${whole.length} minified; budget ${BUDGET_BYTES} gzip`);
for (const [name, contents] of outputs) if (!eager.has(name)) console.log(`  fetched when it is needed: ${name} ${gzip(contents)} bytes gzip`);
if (gzip(whole) > BUDGET_BYTES) process.exitCode = 1;
