// What the handlers of a client were given, and what it said of itself.
//
// Owns: clients by name, and a record for each. Does not know: where it runs; the same file is in Node and in every page.
// Flow: commands whose arguments are JSON → clients → records that are JSON.

export function recorder({ createClient }) {
  const clients = new Map();
  /** Who is told of every event of a record. */
  const told = new WeakMap();

  /** Ends once a record has so many events, or when the time is over. Many wait at once: none of them looks again and again. */
  const enough = (seen, count, limitMs) => new Promise((resolve) => {
    const limit = setTimeout(resolve, limitMs);
    const look = () => {
      if (seen.events.length < count) return;
      clearTimeout(limit);
      resolve();
    };
    told.set(seen, look);
    look();
  });

  /** A callback cannot be sent to a page; a URL that answers with tokens can, and `why` is told to it. */
  const withToken = ({ tokenUrl, send, bearer, ...options }, seen) => {
    // What an application does that has one token and sends it itself.
    if (bearer !== undefined) {
      options.fetch = (url, init) => {
        const headers = new Headers(init?.headers);
        headers.set('authorization', `Bearer ${seen.bearer ?? bearer}`);
        return fetch(url, { ...init, headers });
      };
    }
    if (tokenUrl === undefined) return options;
    const token = async (why) => {
      seen.tokens.push(why);
      const answer = await fetch(`${tokenUrl}?why=${why}`);
      if (!answer.ok) throw new Error(`no token: ${answer.status}`);
      return answer.text();
    };
    return { ...options, auth: { token, send: send ?? 'header' } };
  };

  /** With `stopped`, events are taken by a loop that begins when it is over. */
  const subscribed = (client, seen, channels, options, stopped = null) => {
    const subscription = client.subscribe(channels, { ...options, live: () => (seen.live = true) });
    const take = ({ id, event, channel, data }) => {
      seen.events.push({ id, event, channel, data });
      told.get(seen)?.();
    };
    if (stopped === null) subscription.onAny(take);
    else {
      void (async () => {
        for await (const event of subscription) {
          take(event);
          await stopped;
        }
      })();
    }
    subscription.onReset(({ reason }) => seen.resets.push({ reason, behind: seen.events.length }));
    subscription.onRefused(({ code }) => seen.refusals?.push(code));
    return subscription;
  };

  const self = {
    start(name, { options = {}, channels, subscribe = {} }) {
      const seen = { events: [], resets: [], states: [], errors: [], tokens: [] };
      const client = createClient({
        ...withToken(options, seen),
        onError: ({ code, message }) => seen.errors.push({ code, message }),
      });
      client.onStatus((status) => seen.states.push({ ...status }));
      clients.set(name, { client, subscription: subscribed(client, seen, channels, subscribe), seen });
    },

    /** One more subscription of a client; `name` stands for it from now on. With `slow`, a loop that takes an event when told to `go`. */
    subscribe(of, name, { channels, subscribe, slow = false }) {
      const { client } = clients.get(of);
      const seen = { events: [], resets: [], refusals: [], live: false };
      const entry = { client, seen };
      const stopped = new Promise((resolve) => (entry.go = resolve));
      entry.subscription = subscribed(client, seen, channels, subscribe, slow ? stopped : null);
      clients.set(name, entry);
    },

    /** So many subscriptions alike of one client: what each got, when all have so many events or the time is over. */
    async many(of, { channels, subscribe }, { times, count, limitMs }) {
      const { client } = clients.get(of);
      const all = Array.from({ length: times }, () => {
        const seen = { events: [], resets: [], refusals: [] };
        const subscription = subscribed(client, seen, channels, subscribe);
        return { seen, subscription };
      });
      await Promise.all(all.map(({ seen }) => enough(seen, count, limitMs)));
      for (const { subscription } of all) subscription.close();
      return all.map(({ seen }) => seen);
    },

    go(name) {
      clients.get(name).go();
    },

    /** The token that is sent from now on. */
    bear(name, token) {
      clients.get(name).seen.bearer = token;
    },

    /** A job that is watched by a client; `name` stands for it from now on. */
    watch(of, name, id, options) {
      const { client } = clients.get(of);
      const seen = { changes: [], ends: [], awaited: [] };
      const end = ({ state, result, v }) => ({ state, result, v });
      const failed = ({ code, job }) => ({ code, state: job?.state ?? null });
      const job = client.job(id, options);
      job.onChange(({ v, state, progress }) => seen.changes.push({ v, state, progress }));
      job.onEnd((how) => seen.ends.push('error' in how ? failed(how.error) : end(how.job)));
      job.then((done) => seen.awaited.push(end(done)), (error) => seen.awaited.push(failed(error)));
      clients.set(name, { client, job, seen });
    },

    /** `null`, or the code of why it could not be asked for. */
    async cancel(name) {
      return clients.get(name).job.cancel().then(() => null, ({ code }) => code);
    },

    /** Everything since the start, and the state now. */
    seen(name) {
      const { client, subscription, seen } = clients.get(name);
      return { ...seen, status: { ...client.status }, cursor: subscription?.cursor ?? null };
    },

    /** Short, for those who only wait. */
    count(name) {
      const { client, seen } = clients.get(name);
      const { events = [], resets = [], refusals = [], changes = [], ends = [], live } = seen;
      return {
        events: events.length, resets: resets.length, refusals: refusals.length, changes: changes.length, ends: ends.length,
        progress: changes.at(-1)?.progress ?? null, live, state: client.status.state,
      };
    },

    /** Many clients, some at a time, each from start to end: what there is after `count` events, or after the time. */
    async each(specs, { count, atOnce, limitMs }) {
      const waiting = [...specs.entries()];
      const records = [];
      const work = async () => {
        for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
          const [name, spec] = next;
          self.start(name, spec);
          const { seen } = clients.get(name);
          await enough(seen, count, limitMs);
          self.close(name);
          records[name] = seen;
        }
      };
      await Promise.all(Array.from({ length: atOnce }, work));
      return records;
    },

    reconnect(name) {
      clients.get(name).client.reconnect();
    },

    close(name) {
      clients.get(name).client.close();
      clients.delete(name);
    },

    closeAll() {
      for (const { client } of clients.values()) client.close();
      clients.clear();
    },
  };
  return self;
}
