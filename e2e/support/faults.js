// A proxy that fails as a test says, byte for byte.
//
// Owns: what becomes of each request for a stream. Does not know: what is in the stream, but for its `retry`.
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
 * - `{ status, headers, body }`: an answer of the proxy's own, and the server is not asked;
 * - `{ refuse: true }`: the connection is reset before any answer;
 * - and with any of them `delay: ms` before it begins.
 *
 * A test may also decide by the query of each request, with a `fate` of its own.
 * `asked` has a record of each such request, with the status and how many bytes it was sent, and how many of them were the head.
 */
export async function startFaults(t, server, { retryMs = RETRY_MS, away = 'rst' } = {}) {
  const fates = [];
  const proxy = { url: null, away, asked: [], streams: new Set(), pages: new Map(), fate: () => fates.shift() ?? {} };
  const http = createServer((request, answer) => {
    const { pathname, searchParams } = new URL(request.url, proxy.url);
    const page = proxy.pages.get(pathname);
    if (page !== undefined) return answer.writeHead(200, page.headers).end(page.body);
    if (request.method !== 'GET' || !STREAM.test(pathname)) return pass(proxy, server, request, answer);
    const fate = proxy.fate(searchParams);
    const asked = { at: performance.now(), url: request.url, headers: request.headers, fate, status: null, head: 0, sent: 0 };
    proxy.asked.push(asked);
    return stream(proxy, server, request, asked, retryMs).catch(() => request.socket.resetAndDestroy());
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
    /** Ends every open stream, as one that was served until now. */
    cut: (how) => proxy.streams.forEach((stream) => stream.end(how)),
    /** Keeps every open stream and passes nothing more on. */
    stall: () => proxy.streams.forEach((stream) => stream.stall()),
    /** Serves a page or a script of the tests' own. */
    serve: (path, type, body) => proxy.pages.set(path, { headers: { 'content-type': type }, body }),
    /** From now on connections are refused. */
    down: () => new Promise((resolve) => http.close(resolve).closeAllConnections()),
    up: () => listen(port),
  });
}

/** Passes on what is no stream. */
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
async function stream(proxy, server, request, asked, retryMs) {
  const { socket } = request;
  const { fate } = asked;
  socket.setNoDelay(true);
  if (fate.delay !== undefined) await sleep(fate.delay);
  if (fate.refuse) return socket.resetAndDestroy();
  if (fate.status !== undefined) {
    asked.status = fate.status;
    return socket.end(ownAnswer(fate));
  }
  const { method, url, headers } = request;
  const passed = ask(new URL(url, server.url), { method, headers: { ...headers, connection: 'close' }, agent: false }).end();
  socket.on('close', () => passed.destroy());
  const answered = await new Promise((resolve, reject) => passed.on('response', resolve).on('error', reject))
    .catch(() => gone(proxy, socket));
  if (answered) forward(proxy, socket, answered, asked, retryMs);
}

/** Sends an answer on until the server, the fate or the test ends it. */
function forward(proxy, socket, answered, asked, retryMs) {
  const { fate } = asked;
  const head = headOf(answered);
  const limit = limitOf(fate, head.length);
  Object.assign(asked, { status: answered.statusCode, head: head.length });
  const open = { stalled: false, stall: () => (open.stalled = true), end: (how) => finish(socket, how) };
  proxy.streams.add(open);
  socket.on('close', () => proxy.streams.delete(open));
  const send = (bytes) => {
    if (open.stalled) return;
    const part = bytes.subarray(0, Math.max(0, limit - asked.sent));
    asked.sent += part.length;
    if (part.length > 0) socket.write(part);
    if (asked.sent < limit) return;
    if (fate.stall !== undefined) open.stall();
    else finish(socket, fate.how);
  };
  send(head);
  answered.on('data', (chunk) => send(quickened(chunk, retryMs)));
  answered.on('error', () => socket.resetAndDestroy());
  answered.on('end', () => {
    if (!open.stalled && answered.complete) socket.end();
  });
}

function headOf({ statusCode, statusMessage, rawHeaders }) {
  const lines = [`HTTP/1.1 ${statusCode} ${statusMessage}`];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    if (!/^(connection|transfer-encoding)$/i.test(rawHeaders[at])) lines.push(`${rawHeaders[at]}: ${rawHeaders[at + 1]}`);
  }
  return Buffer.from([...lines, 'connection: close', '', ''].join('\r\n'));
}

/** Of head and body together. */
function limitOf({ cut, cutHead, stall }, head) {
  if (cutHead !== undefined) return cutHead;
  return cut === undefined && stall === undefined ? Infinity : head + (cut ?? stall);
}

/** A RST throws away what the peer has not read yet, as it does when a real machine goes. */
function finish(socket, how) {
  if (how === 'rst') socket.resetAndDestroy();
  else socket.end();
}

/** The server writes `retry` in one piece with what is around it. */
function quickened(chunk, retryMs) {
  if (retryMs === null || !chunk.includes('retry: ')) return chunk;
  return Buffer.from(chunk.toString('latin1').replace(/^retry: \d+$/m, `retry: ${retryMs}`), 'latin1');
}

function ownAnswer({ status, headers = {}, body = '' }) {
  const all = { 'content-type': 'text/plain', 'content-length': Buffer.byteLength(body), connection: 'close', ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
  return [`HTTP/1.1 ${status} Fault`, ...lines, '', body].join('\r\n');
}
