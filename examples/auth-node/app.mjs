// An application with a log-in of its own, beside a tidings server. It needs nothing but Node.
//
//     TIDINGS_TOKEN=tk_… node app.mjs                          tidings asks it who a session is (forward-auth)
//     TIDINGS_TOKEN=tk_… JWT_SECRET=… node app.mjs             it gives its users a token in a cookie
//
// Owns: sessions, and what a session may hear. Does not know: streams.
// Flow: log-in → a session's cookie → tidings asks, or reads the token → log-out → the session is revoked.

import { createHmac, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';

const { PORT = '3000', TIDINGS_URL = 'http://127.0.0.1:4080', TIDINGS_TOKEN, JWT_SECRET } = process.env;

/** Sessions by the secret in their cookie. An application of yours has them in its database. */
const sessions = new Map();

const routes = {
  'GET /': (_, response) => response.setHeader('content-type', 'text/html').end('<!doctype html><title>app</title>'),
  'POST /login': logIn,
  'POST /logout': logOut,
  'GET /tidings-auth': grant,
};

// What tidings asks: who sends these cookies, and what may they hear?
function grant(request, response) {
  const session = sessions.get(cookies(request).session);
  if (!session) return answer(response, 401);
  answer(response, 200, { sub: session.user, session: session.name, subscribe: ['news:*'] });
}

// A token that tidings reads from a cookie, and that can be revoked by the session's name.
function token(session) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { sub: session.user, sid: session.name, iat: now, exp: now + 3600, tidings: { subscribe: ['news:*'] } };
  const text = [{ alg: 'HS256', typ: 'JWT' }, claims].map((part) => base64url(JSON.stringify(part))).join('.');
  return `${text}.${createHmac('sha256', JWT_SECRET).update(text).digest('base64url')}`;
}

// Whoever logs out hears nothing more: streams that are open end within a second.
async function revoke(session) {
  const revoked = await fetch(`${TIDINGS_URL}/v1/revocations`, {
    method: 'POST',
    headers: { authorization: `Bearer ${TIDINGS_TOKEN}`, 'content-type': 'application/json' },
    body: JSON.stringify({ session: session.name }),
  });
  if (!revoked.ok) throw new Error(`tidings answered ${revoked.status}`);
}

async function logIn(request, response) {
  const { user } = JSON.parse(await text(request));
  if (!/^[a-z]{1,32}$/.test(user)) return answer(response, 400);
  const secret = randomBytes(32).toString('base64url');
  const session = { user, name: randomBytes(12).toString('base64url') };
  sessions.set(secret, session);
  // Behind https: __Host-session and __Host-tidings, with Secure.
  const set = [`session=${secret}; Path=/; HttpOnly; SameSite=Lax`];
  if (JWT_SECRET) set.push(`tidings=${token(session)}; Path=/; HttpOnly; SameSite=Lax`);
  response.setHeader('set-cookie', set);
  answer(response, 200, { user });
}

async function logOut(request, response) {
  const secret = cookies(request).session;
  const session = sessions.get(secret);
  sessions.delete(secret);
  if (session) await revoke(session);
  response.setHeader('set-cookie', ['session=; Path=/; Max-Age=0', 'tidings=; Path=/; Max-Age=0']);
  answer(response, 200, {});
}

function cookies(request) {
  const pairs = (request.headers.cookie ?? '').split(';').map((pair) => pair.trim().split('='));
  return Object.fromEntries(pairs.map(([name, ...value]) => [name, value.join('=')]));
}

async function text(request) {
  let read = '';
  for await (const chunk of request.setEncoding('utf8')) {
    read += chunk;
    if (read.length > 10_000) throw new Error('the body is too long');
  }
  return read;
}

function base64url(value) {
  return Buffer.from(value).toString('base64url');
}

function answer(response, status, body = {}) {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' }).end(JSON.stringify(body));
}

const server = createServer(async (request, response) => {
  const route = routes[`${request.method} ${new URL(request.url, 'http://app').pathname}`];
  try {
    if (route) await route(request, response);
    else answer(response, 404);
  } catch (error) {
    console.error(error.message);
    if (!response.headersSent) answer(response, 500);
  }
});

server.listen(Number(PORT), '127.0.0.1', () => console.log(`open http://127.0.0.1:${server.address().port}/`));
