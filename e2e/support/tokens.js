// A server that asks for credentials, and the tokens of its users.
//
// Owns: nothing but how the two fit. Does not know: who is granted what.
// Flow: a secret → a server, and `createToken` of @tidings/node → what a page sends.

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { credentials } from './auth.js';
import { eventually, root, startServer } from './server.js';

const { createToken } = await import(pathToFileURL(join(root, 'js', 'packages', 'node', 'dist', 'index.js')));

/** A server without `--dev`, and tokens that it takes. The test itself may do everything. */
export async function startGuarded(t, { args = [] } = {}) {
  const { key, secret, keyFile, secretFile } = await credentials(t);
  const server = await startServer(t, { args: ['--api-key-file', keyFile, '--jwt-key', `HS256=${secretFile}`, ...args], dev: false, key });
  return { server, tokenOf: (sub, claims) => createToken({ sub, ...claims }, { secret }) };
}

let cookies = 0;

/** Lives of a session: one that no test sees the end of, however busy the machine is, and one that is about to end. */
const LONG_S = 600;
export const SHORT_S = 1;

/**
 * A guarded server whose user has no way to renew what it sends: a `cookie`, or one token that the application sends itself
 * (`bearer`). `begin` logs in for the first time, and `logIn` once more.
 */
export async function startSession(t, kind, { args, channels }) {
  // Pages of one browser have one jar, whatever their ports are.
  const name = `tidings-${process.pid}-${(cookies += 1)}`;
  const { server, tokenOf } = await startGuarded(t, { args: [...args, '--cookie', name] });
  const token = (lifeS = self.lifeS) => tokenOf('ann', { expiresIn: lifeS, subscribe: channels });
  let place;
  const self = {
    server,
    /** How long what is handed out lives from now on. */
    lifeS: LONG_S,
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
    /** What the client sends from now on is over in `lifeS`. */
    async lapse(client, lifeS = SHORT_S) {
      self.lifeS = lifeS;
      await self.logIn(client);
      self.lifeS = LONG_S;
    },
    /** So are its streams: a session begins to end when the test is ready for that. */
    async lapseOpen(client, lifeS = SHORT_S) {
      await self.lapse(client, lifeS);
      const { json } = await server.request('GET', '/v1/connections');
      for (const { id } of json.connections) {
        await eventually('the shorter grant', async () => {
          const authorization = `Bearer ${await token(lifeS)}`;
          return (await server.request('POST', `/v1/connections/${id}/auth`, undefined, { authorization })).status === 200;
        });
      }
    },
  };
  return self;
}

async function logInPage() {
  const answer = await fetch('/login');
  await answer.text();
}
