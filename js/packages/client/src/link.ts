// One stream that is kept up: the loop of attempts around a transport.
//
// Owns: the state of the connection, when the next attempt is made, the position, watchdog and pauses. Does not know: what is
// subscribed by whom, what events say, or how grants are renewed.
// Flow: `start` → attempts → `LinkSink`, in the order of the stream; the position moves when the sink has returned.

import type { Api } from './api.js';
import type { Auth } from './auth.js';
import { backoffMs, retryAfterMs, retryMs } from './backoff.js';
import { TidingsError, type Errors } from './error.js';
import type { Env } from './env.js';
import type { Granted } from './grant.js';
import { incoming, type Incoming } from './incoming.js';
import { EVENT_CHARS_MAX, FIRST_BYTES_MS, KEEPALIVE_DEFAULT_MS, RETRY_MAX_MS, WAKE_SPREAD_MS } from './limits.js';
import type { ClientOptions } from './options.js';
import type { Block } from './parse.js';
import { rest } from './part.js';
import type { CloseReason, Status } from './status.js';
import { createTimer } from './timer.js';
import { fetchTransport, type Outcome } from './transport.js';

/** What all parts of a client have in common. */
export interface Context {
  readonly env: Env;
  readonly options: ClientOptions;
  readonly api: Api;
  readonly auth: Auth;
  report(error: TidingsError): void;
  readonly errors: Errors;
}

export interface LinkSink {
  /** A stream is open. */
  hello(): void;
  /** A promise holds the stream back. */
  event(event: Incoming): void | Promise<void>;
  /** These have been added, and come from where it stands. */
  joined(channels: readonly string[]): void;
  reset(reset: LinkReset): void;
  /** All channels are finished. */
  done(): void;
  /** It was refused for good, or, if these are named, for them; `closed` is to be called if no other one is opened in its place. */
  refused(error: TidingsError, closed: () => void, channels?: Outcome['channels']): void;
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
  /** Aborted when the stream has ended. */
  readonly signal: AbortSignal;
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

  let status: Status = { state: 'idle' };
  let position: string | null = null;
  let connection: string | null = null;
  let current = new AbortController();
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
  let granted = current;
  const again = createTimer(env);
  const watchdog = createTimer(env);
  const hiding = createTimer(env);
  const firstBytes = createTimer(env);

  const set = (next: Status): void => sink.status((status = next));

  function connect(): void {
    const { signal } = (current = new AbortController());
    drainMs = null;
    set({ state: 'connecting', attempt });
    aliveAt = now();
    watch();
    void run(signal).catch(failed).then((outcome) => {
      if (!signal.aborted) settle(outcome);
    });
  }

  async function run(signal: AbortSignal): Promise<Outcome> {
    const target = url();
    const ticket = !auth.cookie && (!!Native || auth.query);
    if (ticket) target.searchParams.set('ticket', await (await rest()).ticket(context, signal));
    const headers: Record<string, string> = {};
    if (position !== null) {
      // A header of ours would cost a preflight elsewhere.
      if (!Native && api.ownOrigin(target)) headers['last-event-id'] = position;
      else target.searchParams.set('last_event_id', position);
    }
    // Hardly any browser needs the other one, so its code is fetched by those that do.
    const transport = Native ? (await import('./eventsource.js')).eventSourceTransport(Native, api) : fetchTransport(api);
    const outcome = await transport({ url: target, headers, ticket, signal }, {
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
    // One channel that is refused may not take the others with it.
    if ([400, 403].includes(outcome.reason.status!)) outcome.channels = await rest().then(({ refusedOf }) => refusedOf(context, target, outcome, signal), report);
    return outcome;
  }

  function open(): void {
    openedAt = aliveAt = now();
    firstBytes(() => {
      if (!heldBack) report(new TidingsError('stalled', 'no byte of the stream: does a proxy buffer or compress it?'));
      heldBack = true;
    }, FIRST_BYTES_MS);
    set({ state: 'open', since: openedAt, via: Native ? 'eventsource' : 'fetch' });
  }

  /** Whether the stream was open for so long that what came before it counts no more. */
  const lasted = (): boolean => openedAt !== null && now() - openedAt >= (retry.resetAfter ?? 10_000);

  /** An attempt is over; without an outcome, because this side has ended it. */
  function settle(outcome?: Outcome): void {
    if (lasted()) {
      attempt = 0;
      rejectedOnce = false;
    }
    if (outcome?.now) rejectedOnce = true;
    again();
    watchdog();
    firstBytes();
    current.abort();
    granted.abort();
    connection = openedAt = null;
    held = false;
    if (!outcome) return;
    const { reason, final, error, channels } = outcome;
    if (error) report(error);
    if (final) return close(reason, final, channels);
    if (outcome.now) return connect();
    const afterMs = retryAfterMs(outcome.retryAfter, now());
    if (afterMs) notBefore = now() + afterMs;
    const ms = drainMs === null ? backoffMs(random, retry, attempt, floorMs, afterMs) : random() * Math.min(drainMs, RETRY_MAX_MS);
    attempt += 1;
    if (attempt >= (retry.limit ?? Infinity)) return close(reason, 'network');
    if (!page.offline() || offlineLies) return wait(ms, drainMs === null ? reason : { ...reason, code: 'server_drain' });
    // What the browser says of the network is not always true, so it is tried now and then all the same.
    set({ state: 'paused', reason: 'offline' });
    again(connect, Math.max(ms, 30_000));
  }

  function wait(ms: number, reason: CloseReason): void {
    set({ state: 'waiting', attempt, retryAt: now() + ms, reason });
    again(connect, ms);
  }

  function leavePage(): void {
    hiding();
    unlisten?.();
    unlisten = undefined;
  }

  function close(reason: CloseReason, code: string, channels?: Outcome['channels']): void {
    leavePage();
    const closed = (): void => set({ state: 'closed', reason });
    if (code !== 'done') return sink.refused(new TidingsError(code, reason.message, reason), closed, channels);
    closed();
    sink.done();
  }

  // Silence.

  function watch(): void {
    // An EventSource cannot see comments, so its silence says nothing.
    if (Native && openedAt !== null) return watchdog();
    const stallMs = typeof stallTimeout === 'number' ? stallTimeout : 2.5 * keepaliveMs;
    watchdog(() => {
      if (held) aliveAt = now();
      if (now() - aliveAt < stallMs) watch();
      else settle({ reason: { code: 'stalled', message: `no byte for ${stallMs} ms` } });
    }, aliveAt + stallMs - now());
  }

  // What arrives.

  function take(block: Block, target: URL): void | Promise<void> {
    if (block.event?.startsWith('tidings.')) return control(block);
    const waiting = block.tooLarge
      ? report(new TidingsError('event_too_large', `an event of over ${EVENT_CHARS_MAX} characters was left out`))
      : sink.event(incoming(block, own ?? target.searchParams.get('channel') ?? '', now()));
    // It was delivered, or stands in a queue of this page; the promise only says when there is room for more.
    position = block.id || position;
    if (!waiting) return;
    const { signal } = current;
    held = true;
    return waiting.then(() => {
      if (signal.aborted) return;
      held = false;
      aliveAt = now();
    });
  }

  function control({ event, data, id }: Block): void | Promise<void> {
    const said = object(data);
    const word = event!.slice('tidings.'.length);
    // Its id says that this position was refused; what came before it counts.
    if (word === 'unauthorized') return heedGrant(word, said);
    position = id || position;
    if (word === 'hello') {
      connection = said.connection ?? null;
      keepaliveMs = Math.max(Number(said.keepalive_ms) || keepaliveMs, 100);
      watch();
      if (said.expires_at) void heedGrant(word, said);
      sink.hello();
    } else if (word === 'reset') sink.reset(said as LinkReset);
    else if (said.joined) sink.joined(said.joined);
    else if (word === 'drain') drainMs = Number(said.spread_ms) || 0;
    else if (word === 'auth_expiring') void heedGrant(word, said);
  }

  /** Its grant ends, or has ended. Where the code for that cannot be had, the server ends the stream as well. */
  function heedGrant(word: string, said: Said): Promise<void> {
    granted.abort();
    const { signal } = (granted = new AbortController());
    const stream: Granted = { ...link, signal, renewed: rejectedOnce && !lasted(), end: settle };
    return rest().then(({ heed }) => heed(context, stream, word, said), report);
  }

  // The page.

  function hide(): void {
    if (hidden === 'keep') return;
    hiding(() => {
      settle();
      set({ state: 'paused', reason: 'hidden' });
    }, hidden?.pauseAfter ?? 300_000);
  }

  function wake(signal: 'visible' | 'online'): void {
    const { state } = status;
    if (signal === 'visible') hiding();
    else if (state === 'paused' && status.reason === 'hidden') return;
    const asleep = state === 'waiting' || state === 'paused' || (state === 'open' && now() - aliveAt > keepaliveMs);
    if (!asleep) return;
    settle();
    wait(Math.max(random() * WAKE_SPREAD_MS, notBefore - now()), { code: 'network', message: `the page is ${signal} again` });
  }

  const link: Link = {
    get position() {
      return position;
    },
    get connection() {
      return connection;
    },
    get signal() {
      return current.signal;
    },
    start(at) {
      position = at;
      link.reconnect();
    },
    reconnect() {
      settle();
      attempt = 0;
      rejectedOnce = false;
      unlisten ??= page.listen((signal) => (signal === 'hidden' ? hide() : wake(signal)));
      if (page.hidden()) hide();
      connect();
    },
    stop() {
      settle();
      leavePage();
      position = null;
      set({ state: 'idle' });
    },
  };
  return link;
}

/** There was no answer, or none to the end; or no token, or no ticket. */
function failed(cause: unknown): Outcome {
  const error = cause instanceof TidingsError ? cause : undefined;
  // The ticket was refused, and with it the stream.
  const final = error?.status === 401 ? 'unauthorized' : undefined;
  return { reason: { code: final ?? 'network', message: error?.message ?? String(cause) }, final, error };
}

/** Whether the bodies of answers can be read as they come. */
function streamsBodies(): boolean {
  return typeof Response === 'function' && 'body' in Response.prototype && typeof ReadableStream === 'function';
}

/** What the server says in its own events. */
export interface Said extends Partial<LinkReset> {
  connection?: string;
  keepalive_ms?: unknown;
  expires_at?: unknown;
  spread_ms?: unknown;
  joined?: readonly string[];
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
