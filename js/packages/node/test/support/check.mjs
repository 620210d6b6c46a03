// What a program does with the package, on whichever runtime starts it: `check.mjs PACKAGE URL`.
//
// Owns: one line of JSON with what came out. Does not know: what should.

import process from 'node:process';

const [, , file, url] = process.argv;
const { createTidings, createToken } = await import(file);
const tidings = createTidings({ url });
const out = {};

const published = await tidings.publish({ channel: 'c', data: { n: 1 } });
out.published = typeof published.id;
out.batch = (await tidings.publish([{ channel: 'c', data: 2 }, { channel: 'job:x', data: 3 }])).map(({ error }) => error?.code ?? 'ok');
out.refused = await tidings.publish({ channel: '' }).catch(({ code, status, committed }) => ({ code, status, committed }));
out.aborted = await tidings.publish({ channel: 'c', data: 1 }, { signal: AbortSignal.abort() }).catch(({ code }) => code);

const worker = tidings.worker(
  {
    report: async (job, rows) => {
      await job.progress({ current: 1, total: 2 });
      job.log('unawaited');
      async function* pieces() {
        for (let n = 0; n < rows; n += 1) yield new TextEncoder().encode(`${n}\n`);
      }
      await job.artifact('stream.csv', pieces(), { contentType: 'text/csv' });
      await job.artifact('web.csv', new Blob(['web']).stream());
      await job.artifact('bytes.bin', new Uint8Array(300_000));
      await job.artifact('self.mjs', { file: process.argv[1] });
      return { rows };
    },
    endless: (job) => new Promise((_, reject) => job.signal.addEventListener('abort', () => reject(job.signal.reason))),
  },
  { concurrency: 2 },
);
const report = await tidings.jobs.create('report', 1_000);
const items = [];
for await (const item of tidings.jobs.watch(report.id)) items.push(item);
out.watched = items.at(-1).type;
const job = await tidings.jobs.wait(report.id);
out.job = [job.state, job.result, job.artifacts.map(({ name }) => name)];
out.file = (await (await tidings.jobs.download(report.id)).text()).split('\n').length;
const endless = await tidings.jobs.create('endless');
while ((await tidings.jobs.get(endless.id)).state !== 'running') await new Promise((resolve) => setTimeout(resolve, 20));
const watch = tidings.jobs.watch(endless.id)[Symbol.asyncIterator]();
await watch.next();
await watch.return();
const begun = performance.now();
await worker.stop({ graceMs: 0 });
out.stopped = performance.now() - begun < 5_000;
out.released = (await tidings.jobs.get(endless.id)).reason;

const ec = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
const ed = await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify']);
const keys = [
  { secret: 'x'.repeat(32) },
  { privateKey: await crypto.subtle.exportKey('jwk', ec.privateKey), alg: 'ES256' },
  { privateKey: await crypto.subtle.exportKey('jwk', ed.privateKey), alg: 'EdDSA' },
];
out.tokens = [];
for (const key of keys) out.tokens.push((await createToken({ sub: '1', expiresIn: '1h' }, key)).split('.').length);
console.log(JSON.stringify(out));
