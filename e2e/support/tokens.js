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
