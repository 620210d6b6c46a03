// A server that asks for credentials, and the tokens of its users.
//
// Owns: nothing but how the two fit. Does not know: who is granted what.
// Flow: a secret → a server, and `createToken` of @tidings/node → what a page sends.

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { credentials } from './auth.js';
import { root, startServer } from './server.js';

const { createToken } = await import(pathToFileURL(join(root, 'js', 'packages', 'node', 'dist', 'index.js')));

/** A server without `--dev`, and tokens that it takes. The test itself may do everything. */
export async function startGuarded(t, { args = [] } = {}) {
  const { key, secret, keyFile, secretFile } = await credentials(t);
  const server = await startServer(t, { args: ['--api-key-file', keyFile, '--jwt-key', `HS256=${secretFile}`, ...args], dev: false, key });
  return { server, tokenOf: (sub, claims) => createToken({ sub, ...claims }, { secret }) };
}

let cookies = 0;

/**
 * A guarded server whose user has no way to renew what it sends: a `cookie`, or one token that the application sends itself
 * (`bearer`). `begin` logs in for the first time, and `logIn` once more.
 */
export async function startSession(t, { kind, lifeS }, { args, channels }) {
  // Pages of one browser have one jar, whatever their ports are.
  const name = `tidings-${process.pid}-${(cookies += 1)}`;
  const { server, tokenOf } = await startGuarded(t, { args: [...args, '--cookie', name] });
  const token = () => tokenOf('ann', { expiresIn: lifeS, subscribe: channels });
  let place;
  return {
    server,
    /** What the client's options are. */
    async begin(proxy, at) {
      place = at;
      if (kind === 'bearer') return { bearer: await token() };
      proxy.answer('/login', async () => [200, 'welcome', { 'set-cookie': `${name}=${await token()}; HttpOnly; SameSite=Lax; Path=/` }]);
      await place.page.evaluate(logInPage);
      return {};
    },
    async logIn(client) {
      if (kind === 'bearer') await place.bear(client, await token());
      else await place.page.evaluate(logInPage);
    },
  };
}

async function logInPage() {
  const answer = await fetch('/login');
  await answer.text();
}
