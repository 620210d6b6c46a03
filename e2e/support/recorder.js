// What the handlers of a client were given, and what it said of itself.
//
// Owns: clients by name, and a record for each. Does not know: where it runs; the same file is in Node and in every page.
// Flow: commands whose arguments are JSON → clients → records that are JSON.

export function recorder({ createClient }) {
  const clients = new Map();

  /** A callback cannot be sent to a page; a URL that answers with tokens can, and `why` is told to it. */
  const withToken = ({ tokenUrl, send, ...options }, seen) => {
    if (tokenUrl === undefined) return options;
    const token = async (why) => {
      seen.tokens.push(why);
      const answer = await fetch(`${tokenUrl}?why=${why}`);
      if (!answer.ok) throw new Error(`no token: ${answer.status}`);
      return answer.text();
    };
    return { ...options, auth: { token, send: send ?? 'header' } };
  };

  const self = {
    start(name, { options = {}, channels, subscribe = {} }) {
      const seen = { events: [], resets: [], states: [], errors: [], tokens: [] };
      const client = createClient({
        ...withToken(options, seen),
        onError: ({ code, message }) => seen.errors.push({ code, message }),
      });
      client.onStatus((status) => seen.states.push({ ...status }));
      const subscription = client.subscribe(channels, subscribe);
      subscription.onAny(({ id, event, channel, data }) => seen.events.push({ id, event, channel, data }));
      subscription.onReset(({ reason }) => seen.resets.push({ reason, behind: seen.events.length }));
      clients.set(name, { client, subscription, seen });
    },

    /** Everything since the start, and the state now. */
    seen(name) {
      const { client, subscription, seen } = clients.get(name);
      return { ...seen, status: { ...client.status }, cursor: subscription.cursor };
    },

    /** Short, for those who only wait. */
    count(name) {
      const { client, seen } = clients.get(name);
      return { events: seen.events.length, resets: seen.resets.length, state: client.status.state };
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
          const limit = Date.now() + limitMs;
          while (seen.events.length < count && Date.now() < limit) await new Promise((resolve) => setTimeout(resolve, 1));
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
    },
  };
  return self;
}
