// A proxy that fails as a test says, byte for byte.
//
// Owns: what becomes of each request. Does not know: what is in the stream, but for its `retry`.
// Flow: a request → its fate → answered here · or passed on, and its answer cut, held up or let through.

import { once } from 'node:events';
import { request as ask, createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

/** What asks for a stream, as opposed to what publishes or adds channels. */
const STREAM = /\/events$/;

/** What the pages wait at least before they come again, in place of the server's seconds. */
const RETRY_MS = 5;

/**
 * Starts a proxy in front of `server`; its `url` can stand for the server's.
 *
 * `next(...fates)` says what becomes of the next requests for a stream, one fate each; the others pass. A fate is
 *
 * - `{}`: it passes;
 * - `{ cut: bytes, how: 'fin' | 'rst' }`: so many bytes of the body, then the end of the connection;
 * - `{ cutHead: bytes, how }`: the same counted from the first byte of the answer;
 * - `{ stall: bytes }`: so many bytes of the body, then nothing more on a connection that stays;
 * - `{ drip: ms }`: all of it, but each byte for itself, so long after the one before;
 * - `{ status, headers, body }`: an answer of the proxy's own, and the server is not asked;
 * - `{ refuse: true }`: the connection is reset before any answer;
 * - `{ silent: true }`: no answer ever, on a connection that stays;
 * - and with any of them `delay: ms` before it begins, `ask: headers` that the server gets beside the client's, and work to wait for:
 *   `before()` the server is asked, and `after()` it has answered, of which nothing has been passed on.
 *
 * `nextTo(what, ...fates)` says the same of the next requests that are no stream and whose method and path match `what`; a test
 * asks with `unmet()` how many of all these fates are still to come.
 *
 * A test may also decide by the query and the headers of each request, with a `fate` of its own, and refuse what is no stream with
 * `refused(method, path)`. With `chunked` bodies are sent in
 * chunks, as nginx does, so that their end can be told from a broken connection.
 * `asked` has a record of each request for a stream, with the status and how many bytes it was sent, and how many of them were
 * the head; `beside` has one of each other request that had a fate,
 * which is `met` when all its work is done.
 */
export async function startFaults(t, server, options) {
  const fates = [];
  const others = [];
  const proxy = { url: null, streams: new Set(), pages: new Map() };
  const begin = (server, { retryMs = RETRY_MS, away = 'rst', chunked = false } = {}) => {
    for (const list of [fates, others]) list.length = 0;
    const own = { refused: () => false, fate: () => fates.shift() ?? {} };
    Object.assign(proxy, { server, retryMs, away, chunked, asked: [], beside: [], ...own });
  };
  begin(server, options);
  const http = createServer((request, answer) => {
    const { pathname, searchParams } = new URL(request.url, proxy.url);
    const page = proxy.pages.get(pathname);
    if (page !== undefined) return page(answer, searchParams);
    if (proxy.refused(request.method, pathname)) return request.resume().on('end', () => answer.writeHead(500).end());
    const isStream = request.method === 'GET' && STREAM.test(pathname);
    const fate = isStream ? proxy.fate(searchParams, request.headers) : fateOf(others, `${request.method} ${pathname}`);
    if (fate === undefined) return pass(proxy, proxy.server, request, answer);
    const asked = { at: performance.now(), url: request.url, headers: request.headers, isStream, fate, met: false, status: null, head: 0, sent: 0 };
    (isStream ? proxy.asked : proxy.beside).push(asked);
    return meet(proxy, proxy.server, request, asked).catch(() => request.socket.resetAndDestroy());
  });
  const listen = async (port) => {
    http.listen(port, '127.0.0.1');
    await once(http, 'listening');
  };
  await listen(0);
  const { port } = http.address();
  proxy.url = `http://127.0.0.1:${port}`;
  t.after(() => new Promise((resolve) => http.close(resolve).closeAllConnections()));
  return Object.assign(proxy, {
    next: (...more) => fates.push(...more),
    nextTo: (what, ...more) => others.push(...more.map((fate) => ({ what, fate }))),
    unmet: () => fates.length + others.length,
    /**
     * Ends every open stream: in good order (`end`), by closing the connection (`fin`), or by resetting it (`rst`), which
     * throws away what the peer has not read yet. Only chunks make a difference between the first two.
     */
    cut: (how) => proxy.streams.forEach((stream) => stream.end(how)),
    /** Keeps every open stream and passes nothing more on. */
    stall: () => proxy.streams.forEach((stream) => stream.stall()),
    /** Serves a page or a script of the tests' own. */
    serve: (path, type, body) => proxy.pages.set(path, (answer) => answer.writeHead(200, { 'content-type': type }).end(body)),
    /** Answers a path with a status, a text and headers, from the query. */
    answer: (path, make) => proxy.pages.set(path, async (answer, query) => {
      const [status, body, headers] = await make(query);
      answer.writeHead(status, { 'content-type': 'text/plain', 'access-control-allow-origin': '*', ...headers }).end(body);
    }),
    /** From now on it stands in front of another server, and has seen nothing yet. */
    again(server, options) {
      http.closeAllConnections();
      begin(server, options);
    },
    /** From now on connections are refused. */
    down: () => new Promise((resolve) => http.close(resolve).closeAllConnections()),
    up: () => listen(port),
  });
}

/** The first fate that was meant for such a request, which has it alone. */
function fateOf(others, request) {
  const at = others.findIndex(({ what }) => what.test(request));
  return at < 0 ? undefined : others.splice(at, 1)[0].fate;
}

/** Passes on what has no fate. */
function pass(proxy, server, request, answer) {
  const { method, url, headers } = request;
  const passed = ask(new URL(url, server.url), { method, headers, agent: false }, (answered) => {
    answered.pipe(answer.writeHead(answered.statusCode, withoutHops(answered.headers)));
  });
  passed.on('error', () => gone(proxy, request.socket));
  answer.on('close', () => passed.destroy());
  request.pipe(passed);
}

/** What the proxy's own connection says of itself is not the server's to say. */
function withoutHops({ connection: _connection, 'transfer-encoding': _encoding, ...headers }) {
  return headers;
}

/** The server does not answer: nothing in front of it, or a proxy that says 502. */
function gone({ away }, socket) {
  if (away === 'rst') socket.resetAndDestroy();
  else socket.end(`HTTP/1.1 ${away} Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbad`);
}

/** Everything below writes to the socket itself: only so is a byte a byte. */
async function meet(proxy, server, request, asked) {
  const { socket } = request;
  const { fate } = asked;
  socket.setNoDelay(true);
  if (fate.delay !== undefined) await sleep(fate.delay);
  await fate.before?.();
  asked.met = fate.after === undefined;
  if (fate.silent) return;
  if (fate.refuse) return socket.resetAndDestroy();
  if (fate.status !== undefined) {
    asked.status = fate.status;
    return request.resume().on('end', () => socket.end(ownAnswer(fate)));
  }
  const { method, url, headers } = request;
  const passed = ask(new URL(url, server.url), { method, headers: { ...headers, ...fate.ask, connection: 'close' }, agent: false });
  request.pipe(passed);
  socket.on('close', () => passed.destroy());
  const answered = await new Promise((resolve, reject) => passed.on('response', resolve).on('error', reject))
    .catch(() => gone(proxy, socket));
  if (!answered) return;
  await fate.after?.();
  asked.met = true;
  forward(proxy, socket, answered, asked);
}

/** Sends an answer on until the server, the fate or the test ends it. */
function forward(proxy, socket, answered, asked) {
  const { fate } = asked;
  const chunked = proxy.chunked && answered.statusCode === 200 && answered.headers['content-length'] === undefined;
  const head = headOf(answered, chunked);
  const limit = limitOf(fate, head.length);
  Object.assign(asked, { status: answered.statusCode, head: head.length });
  // Nothing is sent any more, whatever the server still sends.
  let quiet = false;
  const open = {
    stall: () => (quiet = true),
    end(how) {
      quiet = true;
      if (how === 'rst') socket.resetAndDestroy();
      else socket.end(how === 'end' && chunked ? '0\r\n\r\n' : '');
    },
  };
  if (asked.isStream) proxy.streams.add(open);
  socket.on('close', () => proxy.streams.delete(open));
  let drops = Promise.resolve();
  const write = (bytes) => {
    if (fate.drip === undefined) return socket.write(bytes);
    for (const byte of bytes) drops = drops.then(() => socket.write(Buffer.of(byte))).then(() => sleep(fate.drip));
    return drops;
  };
  const send = (bytes) => {
    if (quiet) return;
    const part = bytes.subarray(0, Math.max(0, limit - asked.sent));
    asked.sent += part.length;
    if (part.length > 0) write(bytes === head || !chunked ? part : chunk(part));
    if (asked.sent < limit) return;
    if (fate.stall !== undefined) open.stall();
    else open.end(fate.how);
  };
  send(head);
  answered.on('data', (bytes) => send(quickened(bytes, proxy.retryMs)));
  answered.on('error', () => socket.resetAndDestroy());
  answered.on('end', () => {
    if (!quiet && answered.complete) open.end('end');
  });
}

function headOf({ statusCode, statusMessage, rawHeaders }, chunked) {
  const lines = [`HTTP/1.1 ${statusCode} ${statusMessage}`];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    if (!/^(connection|transfer-encoding)$/i.test(rawHeaders[at])) lines.push(`${rawHeaders[at]}: ${rawHeaders[at + 1]}`);
  }
  if (chunked) lines.push('transfer-encoding: chunked');
  return Buffer.from([...lines, 'connection: close', '', ''].join('\r\n'));
}

/** Of head and body together. */
function limitOf({ cut, cutHead, stall }, head) {
  if (cutHead !== undefined) return cutHead;
  return cut === undefined && stall === undefined ? Infinity : head + (cut ?? stall);
}

function chunk(bytes) {
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);
}

/** The server writes `retry` in one piece with what is around it. */
function quickened(bytes, retryMs) {
  if (retryMs === null || !bytes.includes('retry: ')) return bytes;
  return Buffer.from(bytes.toString('latin1').replace(/^retry: \d+$/m, `retry: ${retryMs}`), 'latin1');
}

function ownAnswer({ status, headers = {}, body = '' }) {
  const all = { 'content-type': 'text/plain', 'content-length': Buffer.byteLength(body), connection: 'close', ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
  return [`HTTP/1.1 ${status} Fault`, ...lines, '', body].join('\r\n');
}
