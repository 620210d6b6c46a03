// A server with a log, in memory: streams from a position, channels that are added, history up to a position.
//
// Owns: what the wire contract says of them. Does not know: clients.

import { json, problem, settled, type Request, type Stream, type World } from './world.js';

export interface FakeLog {
  publish(channel: string, data: unknown): Promise<void>;
  /** Streams that are open now. */
  open(): Stream[];
  readonly requests: string[];
  /** Who a request is from; streams and requests of different subjects do not know each other. */
  subject: (request: Request) => string;
}

export function createLog(world: World): FakeLog {
  const events: { n: number; channel: string; data: unknown }[] = [];
  const streams = new Map<string, { stream: Stream; channels: Set<string>; subject: string }>();
  const seq = (id: string | null): number => Number(id?.slice(2) ?? 0);
  const head = (): number => events.length;

  const log: FakeLog = {
    requests: [],
    subject: () => 'dev',
    async publish(channel, data) {
      const n = head() + 1;
      events.push({ n, channel, data });
      for (const { stream, channels } of streams.values()) {
        if (channels.has(channel) && !stream.aborted) void stream.event(`e-${n}`, channel, data);
      }
      await settled();
    },
    open: () => [...streams.values()].map(({ stream }) => stream).filter(({ aborted }) => !aborted),
  };

  world.answer = (request) => {
    const { method, url, body, headers } = request;
    log.requests.push(`${method} ${url.pathname}`);
    const add = /^\/v1\/connections\/(.+)\/channels$/.exec(url.pathname);
    if (method === 'POST' && add !== null) {
      if (log.subject(request) === '') return problem(401, 'unauthorized');
      const entry = streams.get(add[1]!);
      if (entry === undefined || entry.stream.aborted || entry.subject !== log.subject(request)) return problem(404, 'connection_not_found');
      const { channels } = body as { channels: string[] };
      const joined = channels.filter((channel) => !entry.channels.has(channel));
      for (const channel of joined) entry.channels.add(channel);
      if (joined.length > 0) void entry.stream.joined(`e-${head()}`, joined);
      return json(200, { position: `e-${head()}`, channels: [...entry.channels] });
    }
    if (url.pathname === '/v1/history') {
      const wanted = url.searchParams.getAll('channel');
      const [after, until, limit] = [seq(url.searchParams.get('after')), seq(url.searchParams.get('until') ?? `e-${head()}`), Number(url.searchParams.get('limit'))];
      const found = events.filter(({ n, channel }) => n > after && n <= until && wanted.includes(channel));
      const page = found.slice(0, limit);
      return json(200, {
        events: page.map(({ n, channel, data }) => ({ channel, event: 'message', time: 5, id: `e-${n}`, data })),
        next: `e-${page.at(-1)?.n ?? after}`,
        more: found.length > page.length,
      });
    }
    if (url.pathname !== '/events') return problem(404, 'not_found');
    const response = world.stream(request);
    const stream = world.last();
    const number = world.streams.length - 1;
    const channels = new Set(url.searchParams.getAll('channel'));
    const own = headers.get('last-event-id');
    const from = own === null ? head() : seq(own);
    // All at once, so that what is published from now on comes behind it.
    void stream.hello(`e-${from}`);
    for (const { n, channel, data } of events) if (n > from && channels.has(channel)) void stream.event(`e-${n}`, channel, data);
    streams.set(`c${number}`, { stream, channels, subject: log.subject(request) });
    return response;
  };
  return log;
}
