// A job that is watched by a client that is tried.
//
// Owns: its reports, and what whoever watches it has to be told. Does not know: what goes wrong on the way.
// Flow: reports to the server → the client's two handles of the job → `check`.

import assert from 'node:assert/strict';

import { eventually } from './server.js';

/** On the stream that everything shares, and on one of its own. */
const HANDLES = { shared: {}, own: { path: '/v1/jobs' } };

/** A job of another queue, of which `client` is a name in `place`. */
export async function trialJob(server, proxy, place, client, id) {
  const path = `/v1/jobs/${encodeURIComponent(id)}`;
  const events = `${path}/events`;
  const names = Object.keys(HANDLES);
  let n = 0;
  let owed = null;

  /** One that is only held back (202) is sent until it is stored. */
  async function report(what, body) {
    const repeated = { n: (n += 1), ...body };
    return eventually(`${what} to be stored`, async () => {
      const answer = await server.request('POST', `${path}/${what}`, repeated);
      assert.ok([200, 202].includes(answer.status), answer.text);
      return answer.status === 200 ? answer.json : null;
    });
  }
  const asked = () => proxy.asked.filter(({ url }) => url.startsWith(events)).length;
  const made = await server.request('PUT', path, { type: 'import' });
  assert.equal(made.status, 201, made.text);

  return {
    progress: (progress) => report('progress', { progress }),
    complete: (result) => report('complete', { result }),
    fail: (why) => report('fail', why),
    async watch() {
      for (const name of names) await place.watch(client, name, id, HANDLES[name]);
    },
    async shows(progress) {
      for (const name of names) await place.until(name, `${progress} % in ${name}`, (seen) => seen.progress >= progress);
    },
    cancel: () => place.cancel('shared'),
    /** What runs the job is told to stop, and does. */
    async stop() {
      const { cancel_requested: told } = await report('progress', { progress: 70 });
      assert.equal(told, true);
      await report('fail', { message: 'it was asked to stop', state: 'cancelled' });
    },
    /** Both handles have ended, and so. */
    async ended(how) {
      owed = how;
      for (const name of names) await place.until(name, `the end of ${name}`, ({ ends }) => ends > 0);
    },

    /** Each handle had one end, nothing that went back, and asks for nothing any more. */
    async check() {
      const before = asked();
      for (const name of names) {
        const { changes, ends, awaited } = await place.seen(name);
        assert.deepEqual(ends.map(({ v: _, ...end }) => end), [owed], name);
        assert.deepEqual(awaited, ends, name);
        changes.slice(1).forEach((change, at) => {
          assert.ok(change.v > changes[at].v, `${name}: v ${JSON.stringify(changes)}`);
          assert.ok(change.progress >= changes[at].progress, `${name}: progress ${JSON.stringify(changes)}`);
        });
        assert.equal(changes.at(-1).state, owed.state, name);
      }
      const end = await fetch(`${server.url}${events}`);
      const last = /.*^id: (\S+)$/ms.exec(await end.text())[1];
      const again = await fetch(`${server.url}${events}`, { headers: { 'last-event-id': last } });
      assert.equal(again.status, 204, 'the stream of a job that has ended');
      assert.equal(asked(), before, 'a job that has ended is asked for again');
    },
  };
}
