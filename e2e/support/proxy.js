// A connection to the server that fails at chosen requests.
//
// Owns: one hop. Does not know: what the requests are for.
// Flow: a request → `fate` → passed on · refused with a status · passed on, and its answer lost.

import { request as ask, createServer } from 'node:http';

/** `fate(method, path)` is a status to refuse with, `'lost'`, or nothing. Returns an address that can stand for the server's. */
export async function startProxy(t, server, fate) {
  const proxy = createServer((request, answer) => {
    const end = fate(request.method, request.url);
    if (typeof end === 'number') {
      // What is refused is read all the same, so that the connection stays good.
      request.resume().on('end', () => answer.writeHead(end, { 'content-type': 'application/problem+json' }).end('{"code":"proxy"}'));
      return;
    }
    const { method, url, headers } = request;
    const passed = ask(new URL(url, server.url), { method, headers }, (answered) => {
      if (end === 'lost') answered.resume().on('end', () => answer.destroy());
      else answered.pipe(answer.writeHead(answered.statusCode, answered.headers));
    });
    passed.on('error', () => answer.destroy());
    answer.on('close', () => passed.destroy());
    request.pipe(passed);
  });
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => proxy.close(resolve).closeAllConnections()));
  return { url: `http://127.0.0.1:${proxy.address().port}` };
}
