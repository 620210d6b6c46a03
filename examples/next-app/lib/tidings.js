import { createTidings } from '@tidings/node';

let client;

/** The server, for server components and actions. */
export function tidings() {
  client ??= createTidings({ url: process.env.TIDINGS_URL, key: process.env.TIDINGS_KEY });
  return client;
}
