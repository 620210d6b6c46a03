// What the compiler knows of the proxy and the cookie.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { expectTypeOf } from 'vitest';
import { tidingsCookie, tidingsProxy, toNodeHandler, type Grant } from '@tidings/next';

const proxy = tidingsProxy({
  url: process.env['TIDINGS_URL'],
  key: process.env['TIDINGS_SECRET'],
  authorize: (request) => {
    expectTypeOf(request).toEqualTypeOf<Request>();
    return { sub: '42', jobs: ['create:report', 'read:*'] };
  },
});
expectTypeOf(proxy.GET).toEqualTypeOf<(request: Request) => Promise<Response>>();
expectTypeOf(toNodeHandler(proxy)).toBeCallableWith({} as IncomingMessage, {} as ServerResponse, () => {});
expectTypeOf(toNodeHandler(proxy.GET)).toEqualTypeOf(toNodeHandler(proxy));
tidingsProxy({ url: 'http://t', key: { privateKey: 'pem', alg: 'EdDSA', kid: '1' }, authorize: async () => null });
// @ts-expect-error no such right
tidingsProxy({ url: 'http://t', key: 'x', authorize: () => ({ sub: '42', jobs: ['delete:*'] }) });
// @ts-expect-error who may do what has to be said
tidingsProxy({ url: 'http://t', key: 'x' });

expectTypeOf<Grant['exp']>().toEqualTypeOf<number | undefined>();
const cookie = await tidingsCookie({ sub: '42', expiresIn: '8h' }, { key: 'x' });
expectTypeOf(cookie.options.sameSite).toEqualTypeOf<'lax' | 'strict'>();
// @ts-expect-error a cookie ends
void tidingsCookie({ sub: '42' }, { key: 'x' });
