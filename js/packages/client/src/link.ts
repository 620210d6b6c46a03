// One stream that is kept up: the loop of attempts around a transport.
//
// Owns: the state of the connection, when the next attempt is made, the position, watchdog, pauses, and the life of the
// grant. Does not know: what is subscribed by whom, or what events say.
// Flow: `start` → attempts → `LinkSink`, in the order of the stream; the position moves when the sink has returned.

import type { Api } from './api.js';
import type { Auth } from './auth.js';
import { backoffMs, retryMs } from './backoff.js';
import { TidingsError } from './error.js';
import type { Env } from './env.js';
import { incoming, type Incoming } from './incoming.js';
import { EVENT_CHARS_MAX, FIRST_BYTES_MS, KEEPALIVE_DEFAULT_MS, RETRY_MAX_MS, WAKE_SPREAD_MS } from './limits.js';
import type { ClientOptions } from './options.js';
import type { Block } from './parse.js';
import type { CloseReason, Status } from './status.js';
import { createTimer } from './timer.js';
import { fetchTransport, type Outcome, type Transport } from './transport.js';

/** What all parts of a client have in common. */
export interface Context {
  readonly env: Env;
  readonly options: ClientOptions;
  readonly api: Api;
  readonly auth: Auth;
  report(error: TidingsError): void;
}

export interface LinkSink {
  /** A stream is open; `position` is where it stands. */
  hello(position: string | null): void;
  /** A promise holds the stream back. */
  event(event: Incoming): void | Promise<void>;
  reset(reset: LinkReset): void;
  /** All channels are finished. */
  done(): void;
  /** It was refused for good. */
  refused(error: TidingsError): void;
  status(status: Status): void;
}

export interface LinkReset {
  reason: string;
  /** Those that are meant; all, if none is named. */
  channels?: readonly string[] | undefined;
  first?: string | null | undefined;
}

export interface Link {
  readonly position: string | null;
  /** The server's name of the open stream. */
  readonly connection: string | null;
  /** Opens the stream at a position, or as the URL says. */
  start(position: string | null): void;
  /** Drops the connection and resumes at once. */
  reconnect(): void;
  stop(): void;
}

/** `own` is the channel of a stream whose URL names none. */
export function createLink(context: Context, url: () => URL, sink: LinkSink, own?: string): Link {
  const { env, options, api, auth, report } = context;
  const { now, random, page } = env;
  const { retry = {}, stallTimeout, hidden } = options;
  const Native = options.transport === 'eventsource' || (options.transport !== 'fetch' && !streamsBodies()) ? env.EventSource : undefined;
  const transport = Native ? nativeTransport(Native, api) : fetchTransport(api, now);

  let status: Status = { state: 'idle' };
  let position: string | null = null;
  let connection: string | null = null;
  let current: AbortController | null = null;
  let unlisten: (() => void) | undefined;
  let openedAt: number | null = null;
  let drainMs: number | null = null;
  let keepaliveMs = KEEPALIVE_DEFAULT_MS;
  let aliveAt = 0;
  let held = false;
  /** Tries that have failed in a row. */
  let attempt = 0;
  let floorMs: number | undefined;
  /** The server asked for this much, however the page wakes. */
  let notBefore = 0;
  /** The token was already asked for again; one that is refused twice is no good. */
  let rejectedOnce = false;
  /** `navigator.onLine` said no while bytes came. */
  let offlineLies = false;
  let heldBack = false;
  const again = createTimer(env);
  const watchdog = createTimer(env);
  const hiding = createTimer(env);
  const renewing = createTimer(env);
  const firstBytes = createTimer(env);

  const set = (next: Status): void => sink.status((status = next));

  function connect(): void {
    again();
    const own = (current = new AbortController());
    set({ state: 'connecting', attempt });
    aliveAt = now();
    watch();
    void run(own.signal).then((outcome) => {
      if (current === own) settle(outcome);
    });
  }

  async function run(signal: AbortSignal): Promise<Outcome> {
    const target = url();
    const ticket = !auth.cookie && (Native !== undefined || auth.query);
    if (ticket) {
      try {
        target.searchParams.set('ticket', ((await api.call('POST', 'tickets', { body: {}, signal })) as { ticket: string }).ticket);
      } catch (cause) {
        const error = cause as TidingsError;
        const refused = error.status === 401;
        return { reason: { code: refused ? 'unauthorized' : 'network', message: error.message }, final: refused ? 'unauthorized' : undefined, error };
      }
    }
    // A header of ours would cost a preflight elsewhere.
    const header = !Native && api.ownOrigin(target);
    if (position !== null && !header) target.searchParams.set('last_event_id', position);
    return transport({ url: target, lastEventId: header ? position : null, ticket, signal }, {
      open() {
        if (!signal.aborted) open();
      },
      alive() {
        aliveAt = now();
        firstBytes();
        offlineLies ||= page.offline();
      },
      retry: (ms) => void (floorMs = retryMs(ms)),
      block: (block) => (signal.aborted ? undefined : take(block, target)),
    });
  }

  function open(): void {
    openedAt = aliveAt = now();
    firstBytes(() => {
      if (!heldBack) report(new TidingsError('stalled', 'nothing comes of a stream that has begun: does a proxy buffer or compress it?'));
      heldBack = true;
    }, FIRST_BYTES_MS);
    set({ state: 'open', since: openedAt, via: Native ? 'eventsource' : 'fetch' });
  }

  /** An attempt is over; without an outcome, because this side has ended it. */
  function settle(outcome?: Outcome): void {
    if (openedAt !== null && now() - openedAt >= (retry.resetAfter ?? 10_000)) {
      attempt = 0;
      rejectedOnce = false;
    }
    const spreadMs = drainMs;
    for (const stop of [again, watchdog, renewing, firstBytes]) stop();
    current = connection = openedAt = drainMs = null;
    held = false;
    if (!outcome) return;
    const { reason, final, retryAfterMs, error } = outcome;
    if (error) report(error);
    if (final) return close(reason, final);
    if (outcome.now) return connect();
    if (reason.code === 'content_type') report(new TidingsError('http', reason.message, reason));
    if (retryAfterMs) notBefore = now() + retryAfterMs;
    const ms = spreadMs === null ? backoffMs(random, retry, { attempt, floorMs, retryAfterMs }) : random() * Math.min(spreadMs, RETRY_MAX_MS);
    attempt += 1;
    if (attempt >= (retry.limit ?? Infinity)) return close(reason, 'network');
    if (!page.offline() || offlineLies) return wait(ms, spreadMs === null ? reason : { ...reason, code: 'server_drain' });
    // What the browser says of the network is not always true, so it is tried now and then all the same.
    set({ state: 'paused', reason: 'offline' });
    again(connect, Math.max(ms, 30_000));
  }

  function wait(ms: number, reason: CloseReason): void {
    set({ state: 'waiting', attempt, retryAt: now() + ms, reason });
    again(connect, ms);
  }

  /** Ends an attempt from outside. */
  function drop(outcome?: Outcome): void {
    current?.abort();
    settle(outcome);
  }

  function leavePage(): void {
    hiding();
    unlisten?.();
    unlisten = undefined;
  }

  function close(reason: CloseReason, code: string): void {
    leavePage();
    set({ state: 'closed', reason });
    if (code === 'done') sink.done();
    else sink.refused(new TidingsError(code, reason.message, reason));
  }

  // Silence.

  function watch(): void {
    // An EventSource cannot see comments, so its silence says nothing.
    if (Native && openedAt !== null) return watchdog();
    const stallMs = typeof stallTimeout === 'number' ? stallTimeout : 2.5 * keepaliveMs;
    watchdog(() => {
      if (held) aliveAt = now();
      if (now() - aliveAt < stallMs) watch();
      else drop({ reason: { code: 'stalled', message: `no byte for ${stallMs} ms` } });
    }, aliveAt + stallMs - now());
  }

  // What arrives.

  function take(block: Block, target: URL): void | Promise<void> {
    if (block.event?.startsWith('tidings.')) return control(block);
    let waiting: void | Promise<void> = undefined;
    if (block.tooLarge) report(new TidingsError('event_too_large', `an event of more than ${EVENT_CHARS_MAX} characters was left out`));
    else waiting = sink.event(incoming(block, { channel: own ?? target.searchParams.get('channel') ?? '', time: now() }));
    // It was delivered, or stands in a queue of this page; the promise only says when there is room for more.
    position = block.id || position;
    if (!waiting) return;
    const during = current;
    held = true;
    return waiting.then(() => {
      if (current !== during) return;
      held = false;
      aliveAt = now();
    });
  }

  function control({ event, data, id }: Block): void {
    const said = object(data);
    const word = event!.slice('tidings.'.length);
    if (word === 'unauthorized') {
      // Its id says that this position was refused; what came before it counts.
      const code = said.code ?? word;
      return void unauthorized({ code: code === 'forbidden' ? code : word, message: `the stream was refused: ${code}` });
    }
    position = id || position;
    if (word === 'hello') {
      connection = said.connection ?? null;
      keepaliveMs = Math.max(Number(said.keepalive_ms) || keepaliveMs, 100);
      watch();
      renewBefore(said.expires_at);
      sink.hello(position);
    } else if (word === 'reset') sink.reset({ reason: String(said.reason), channels: said.channels, first: said.first });
    else if (word === 'drain') drainMs = Number(said.spread_ms) || 0;
    else if (word === 'auth_expiring') void renew(said.expires_at);
  }

  /** The grant ended in mid-stream: perhaps there is another token. */
  async function unauthorized(reason: CloseReason): Promise<void> {
    const during = current;
    const outcome: Outcome = { reason };
    try {
      if (!rejectedOnce && (rejectedOnce = await auth.rejected(await auth.token()))) outcome.now = true;
      else outcome.final = 'unauthorized';
    } catch (cause) {
      // That there is no token just now says nothing about the next one.
      outcome.error = cause as TidingsError;
    }
    if (during !== null && during === current) drop(outcome);
  }

  // The life of the grant.

  function renewBefore(expiresAt: unknown): void {
    renewing();
    if (!auth.cookie && typeof expiresAt === 'number') renewing(() => void renew(expiresAt), 0.8 * (expiresAt - now()));
  }

  async function renew(expiresAt: unknown): Promise<void> {
    renewing();
    const name = connection;
    const changed = (): boolean => name === null || name !== connection;
    try {
      const token = await auth.renew();
      if (changed()) return;
      try {
        const answer = (await api.call('POST', `connections/${name}/auth`, { body: {}, token })) as { expires_at?: unknown } | null;
        if (!changed()) renewBefore(answer?.expires_at);
      } catch {
        // Not on the open stream, so on the next one, with the new token.
        if (!changed() && !auth.cookie) link.reconnect();
      }
    } catch (cause) {
      report(cause as TidingsError);
      // Again when half of what is left has passed; the server's own word is `tidings.unauthorized`.
      const left = Number(expiresAt) - now();
      if (!changed() && left > 2_000) renewing(() => void renew(expiresAt), left / 2);
    }
  }

  // The page.

  function hide(): void {
    if (hidden === 'keep') return;
    hiding(() => {
      drop();
      set({ state: 'paused', reason: 'hidden' });
    }, hidden?.pauseAfter ?? 300_000);
  }

  function wake(signal: 'visible' | 'online'): void {
    const { state } = status;
    if (signal === 'visible') hiding();
    else if (state === 'paused' && status.reason === 'hidden') return;
    const silent = state === 'open' && now() - aliveAt > keepaliveMs;
    if (!silent && state !== 'waiting' && state !== 'paused') return;
    drop();
    wait(Math.max(random() * WAKE_SPREAD_MS, notBefore - now()), { code: 'network', message: `the page is ${signal} again` });
  }

  const link: Link = {
    get position() {
      return position;
    },
    get connection() {
      return connection;
    },
    start(at) {
      position = at;
      link.reconnect();
    },
    reconnect() {
      drop();
      attempt = 0;
      rejectedOnce = false;
      unlisten ??= page.listen((signal) => (signal === 'hidden' ? hide() : wake(signal)));
      if (page.hidden()) hide();
      connect();
    },
    stop() {
      drop();
      leavePage();
      position = null;
      set({ state: 'idle' });
    },
  };
  return link;
}

/** Hardly any browser needs it, so its code is fetched by those that do. */
function nativeTransport(Native: typeof EventSource, api: Api): Transport {
  return async (attempt, sink) => {
    try {
      return await (await import('./eventsource.js')).eventSourceTransport(Native, api)(attempt, sink);
    } catch (cause) {
      return { reason: { code: 'network', message: String(cause) } };
    }
  };
}

/** Whether the bodies of answers can be read as they come. */
function streamsBodies(): boolean {
  return typeof Response === 'function' && 'body' in Response.prototype && typeof ReadableStream === 'function';
}

/** What the server says in its own events. */
interface Said {
  connection?: string;
  keepalive_ms?: unknown;
  expires_at?: unknown;
  spread_ms?: unknown;
  reason?: unknown;
  channels?: readonly string[];
  first?: string | null;
  code?: string;
}

function object(text: string): Said {
  try {
    return Object(JSON.parse(text)) as Said;
  } catch {
    // An event of the server that cannot be read says nothing.
    return {};
  }
}
