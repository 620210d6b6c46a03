// The pages of examples/, built as their own settings say, and served on one origin with a server.
//
// Owns: building, and the origin. Does not know: what a page does.
// Flow: a name → files in memory, built once → `http` → a file, or else the server's answer.

import { readFile } from 'node:fs/promises';
import { createServer, request as ask } from 'node:http';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';

import { output, root } from './server.js';

const PACKAGES = join(root, 'js', 'packages');
const MODULES = fileURLToPath(new URL('../node_modules', import.meta.url));

/** What an example would find in its `node_modules`. */
const RESOLVE = {
  alias: [
    { find: /^@tidings\/(\w+)$/, replacement: join(PACKAGES, '$1', 'dist', 'index.js') },
    { find: /^@tidings\/(\w+)\/(\w+)$/, replacement: join(PACKAGES, '$1', 'dist', '$2.js') },
    { find: /^(react|react-dom)(?=$|\/)/, replacement: join(MODULES, '$1') },
    // What the adapters of @tidings/react are for.
    { find: /^(@tanstack\/react-query|swr)(?=$|\/)/, replacement: join(root, 'js', 'node_modules', '$1') },
  ],
};

const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

const built = new Map();

/**
 * Serves a page, and what the server behind it has. `pages.fate(method, path)` may refuse a request with a status, or lose
 * its answer with `'lost'`.
 */
export async function startPages(t, server, files) {
  const pages = { url: null, fate: () => undefined };
  const http = createServer(async (request, answer) => {
    const path = new URL(request.url, 'http://page').pathname;
    const file = (await files).get(path === '/' ? '/index.html' : path);
    if (file !== undefined) return answer.writeHead(200, { 'content-type': TYPES[extname(path)] ?? TYPES['.html'] }).end(file);
    const fate = pages.fate(request.method, path);
    if (typeof fate === 'number') return request.resume().on('end', () => answer.writeHead(fate).end());
    const { method, url, headers } = request;
    const passed = ask(new URL(url, server.url), { method, headers }, (answered) => {
      if (fate === 'lost') return answered.resume().on('end', () => answer.destroy());
      answered.pipe(answer.writeHead(answered.statusCode, answered.headers));
      answered.on('error', () => answer.destroy());
    });
    passed.on('error', () => answer.destroy());
    answer.on('close', () => passed.destroy());
    request.pipe(passed);
  });
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => http.close(resolve).closeAllConnections()));
  pages.url = `http://127.0.0.1:${http.address().port}`;
  return pages;
}

/** The files of an example, by path. */
export function example(name) {
  return once(name, () => filesOf({ root: join(root, 'examples', name), configFile: join(root, 'examples', name, 'vite.config.js') }));
}

/** A page that is one file. */
export function oneFile(name) {
  return once(name, async () => new Map([['/index.html', await readFile(join(root, 'examples', name, 'index.html'))]]));
}

/** A page of the tests, with the React that tells developers what they do wrong. */
export function testPage(folder) {
  const define = { 'process.env.NODE_ENV': '"development"' };
  return once(folder, () => filesOf({ root: fileURLToPath(new URL(folder, import.meta.url)), configFile: false, define }));
}

/** A program of an example that needs our packages, as one file. */
export function program(name, file) {
  return once(`${name}/${file}`, async () => {
    const outDir = join(output, 'programs', name);
    const entry = join(root, 'examples', name, file);
    await build({ configFile: false, logLevel: 'error', resolve: RESOLVE, ssr: { noExternal: true }, build: { ssr: entry, outDir, emptyOutDir: true } });
    return join(outDir, file.replace(/\.mjs$/, '.js'));
  });
}

async function filesOf(config) {
  const { output } = await build({ ...config, logLevel: 'error', resolve: RESOLVE, build: { write: false, minify: false, target: 'es2022' } });
  return new Map(output.map((file) => [`/${file.fileName}`, file.code ?? file.source]));
}

function once(key, make) {
  if (!built.has(key)) built.set(key, make());
  return built.get(key);
}
