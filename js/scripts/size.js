// What @tidings/client costs a page: its entry, bundled, minified and compressed.
//
// Owns: the budget. Does not know: what is in it.

import { build } from 'esbuild';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

// 8 kB. By what it is made of, compressed: the link with its transport and parser 2.7 kB, feeds and hub 2.5 kB, the server's paths,
// credentials and errors 0.9 kB, the lane 0.7 kB, the client and its world 0.7 kB, handles on jobs 0.3 kB. What comes later may be
// missing, since browsers remember for the life of a page that a module could not be fetched, so only that comes later for which
// there is something else to do, or of which the one who asked for it is told (rest.ts).
const BUDGET_BYTES = 8_000;

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
