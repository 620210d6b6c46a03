// One stream that is kept up: the loop of attempts around a transport.
//
// Owns: the state of the connection, when the next attempt is made, the position, watchdog, pauses, and the life of the
// grant. Does not know: what is subscribed by whom, or what events say.
// Flow: `start` → attempts → `LinkSink`, in the order of the stream; the position moves when the sink has returned.

import type { Api } from './api.js';
import type { Auth } from './auth.js';
import { createBackoff } from './backoff.js';
import { TidingsError } from './error.js';
import type { Env } from './env.js';
import { incoming, type Incoming } from './incoming.js';
import { EVENT_CHARS_MAX, FIRST_BYTES_MS, KEEPALIVE_DEFAULT_MS, TIMER_MAX_MS, WAKE_SPREAD_MS } from './limits.js';
import type { ClientOptions } from './options.js';
import type { Block } from './parse.js';
import type { CloseReason, Status } from './status.js';
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
  /** The position has moved. */
  moved(position: string): void;
  reset(reset: LinkReset): void;
  /** All channels are finished. */
  done(): void;
  /** It was refused for good. */
  refused(error: TidingsError): void;
  status(status: Status): void;
}

export interface LinkReset {
  reason: string;
  /** Those that are meant; `null` for all. */
  channels: string[] | null;
  first: string | null;
}

export interface Link {
  readonly position: string | null;
  /** The server's name of the open stream. */
  readonly connection: string | null;
  readonly status: Status;
  /** Opens the stream at a position, or as the URL says. */
  start(position: string | null): void;
  /** Drops the connection and resumes at once. */
  reconnect(): void;
  stop(reason?: CloseReason): void;
}

/** `own` is the channel of a stream whose URL names none. */
export function createLink({ env, options, api, auth, report }: Context, url: () => URL, sink: LinkSink, own?: string): Link {
  const { now, random } = env;
  const native = options.transport === 'eventsource' || (options.transport !== 'fetch' && !streamsBodies());
  const Native = native ? env.EventSource : undefined;
  const transport = Native === undefined ? fetchTransport(options.fetch ?? env.fetch, now) : nativeTransport(Native);
  const via = Native === undefined ? 'fetch' : 'eventsource';
  const backoff = createBackoff(options.retry, random);
  const pauseAfter = typeof options.hidden === 'object' ? options.hidden.pauseAfter : options.hidden === 'keep' ? null : 300_000;

  let status: Status = { state: 'idle' };
  let position: string | null = null;
  let connection: string | null = null;
  let current: AbortController | null = null;
  let unlisten: (() => void) | null = null;
  let openedAt: number | null = null;
  let drainMs: number | null = null;
  let keepaliveMs = KEEPALIVE_DEFAULT_MS;
  let aliveAt = 0;
  let held = false;
  /** The server asked for this much, however the page wakes. */
  let notBefore = 0;
  /** The token was already asked for again; one that is refused twice is no good. */
  let rejectedOnce = false;
  /** `navigator.onLine` said no while bytes came. */
  let offlineLies = false;
  let retryTimer: unknown;
  let watchdog: unknown;
  let hiddenTimer: unknown;
  let renewTimer: unknown;
  let firstTimer: unknown;
  let heldBack = false;

  const set = (next: Status): void => sink.status((status = next));

  function connect(): void {
    env.clearTimeout(retryTimer);
    const attempt = (current = new AbortController());
    set({ state: 'connecting', attempt: backoff.attempt });
    aliveAt = now();
    watch();
    void run(attempt).then((outcome) => {
      if (current === attempt) settle(outcome);
    });
  }

  async function run({ signal }: AbortController): Promise<Outcome> {
    const target = url();
    let token: string | null;
    try {
      token = await auth.token();
      if (token !== null && (via === 'eventsource' || auth.query)) {
        const answer = (await api.call('POST', 'tickets', { body: {}, signal })) as { ticket: string };
        target.searchParams.set('ticket', answer.ticket);
        token = null;
      }
    } catch (cause) {
      if (signal.aborted) return { kind: 'aborted' };
      const error = cause as TidingsError;
      report(error);
      const reason = { code: error.status === 401 ? 'unauthorized' : 'network', message: error.message } as const;
      return error.status === 401 ? { kind: 'rejected', reason } : { kind: 'failed', reason };
    }
    if (signal.aborted) return { kind: 'aborted' };
    // A header of ours would cost a preflight elsewhere.
    const header = via === 'fetch' && api.ownOrigin(target);
    if (position !== null && !header) target.searchParams.set('last_event_id', position);
    const lastEventId = header ? position : null;
    const mine = (): boolean => !signal.aborted;
    const outcome = await transport(
      { url: target, lastEventId, token, credentials: api.credentials(target), signal },
      {
        open: () => mine() && open(),
        alive() {
          aliveAt = now();
          env.clearTimeout(firstTimer);
          if (env.page.offline()) offlineLies = true;
        },
        retry: (ms) => backoff.floor(ms),
        block: (block) => (mine() ? take(block, target) : undefined),
      },
    );
    if (outcome.kind === 'rejected' && token !== null) return renewed(token, outcome);
    return outcome;
  }

  /** A refused token is asked for again, once. */
  async function renewed(token: string, refused: Outcome): Promise<Outcome> {
    if (rejectedOnce) return refused;
    rejectedOnce = true;
    try {
      if (!(await auth.rejected(token))) return refused;
    } catch (cause) {
      report(cause as TidingsError);
      rejectedOnce = false;
      return { kind: 'failed', reason: { code: 'network', message: (cause as Error).message } };
    }
    return { kind: 'over', clean: true, reason: { code: 'unauthorized', message: 'the token was refused; there is a new one' } };
  }

  function open(): void {
    openedAt = aliveAt = now();
    firstTimer = env.setTimeout(() => {
      if (!heldBack) report(new TidingsError('stalled', 'a stream has begun, but nothing of it came: does a proxy buffer it, or compress it?'));
      heldBack = true;
    }, FIRST_BYTES_MS);
    set({ state: 'open', since: openedAt, via });
  }

  function settle(outcome: Outcome): void {
    const openFor = openedAt === null ? 0 : now() - openedAt;
    if (openedAt !== null) {
      if (backoff.opened(openFor)) rejectedOnce = false;
    }
    const spread = drainMs;
    clear();
    switch (outcome.kind) {
      case 'aborted':
        return;
      case 'done':
        close({ code: 'done', message: 'the channels are finished' });
        return sink.done();
      case 'final':
        close(outcome.reason);
        return sink.refused(new TidingsError(outcome.code, outcome.reason.message, { status: outcome.reason.status }));
      case 'rejected':
        close(outcome.reason);
        return sink.refused(new TidingsError('unauthorized', outcome.reason.message, { status: outcome.reason.status }));
      case 'over':
        if (outcome.reason.code === 'unauthorized') return connect();
        if (spread !== null) return wait(backoff.spread(spread), { ...outcome.reason, code: 'server_drain' });
        return wait(backoff.next(), outcome.reason);
      case 'failed': {
        const { reason, report: worthTelling } = outcome;
        if (worthTelling === true) report(new TidingsError('http', reason.message, { status: reason.status }));
        const ms = backoff.next(outcome.retryAfterMs);
        if (outcome.retryAfterMs !== undefined) notBefore = now() + outcome.retryAfterMs;
        return wait(ms, reason);
      }
    }
  }

  function wait(ms: number, reason: CloseReason): void {
    if (backoff.exhausted) {
      close(reason);
      return sink.refused(new TidingsError('network', reason.message, { status: reason.status }));
    }
    if (env.page.offline() && !offlineLies) {
      // What the browser says of the network is not always true, so it is tried now and then all the same.
      set({ state: 'paused', reason: 'offline' });
      retryTimer = env.setTimeout(connect, Math.max(ms, 30_000));
      return;
    }
    set({ state: 'waiting', attempt: backoff.attempt, retryAt: now() + ms, reason });
    retryTimer = env.setTimeout(connect, ms);
  }

  /** Ends an attempt from outside. */
  function drop(outcome: Outcome): void {
    const attempt = current;
    current = null;
    attempt?.abort();
    settle(outcome);
  }

  function clear(): void {
    for (const timer of [retryTimer, watchdog, renewTimer, firstTimer]) env.clearTimeout(timer);
    current = null;
    connection = null;
    openedAt = null;
    drainMs = null;
    held = false;
  }

  function close(reason: CloseReason): void {
    clear();
    env.clearTimeout(hiddenTimer);
    unlisten?.();
    unlisten = null;
    set({ state: 'closed', reason });
  }

  // Silence.

  function stallMs(): number {
    const { stallTimeout } = options;
    return typeof stallTimeout === 'number' ? stallTimeout : 2.5 * keepaliveMs;
  }

  function watch(): void {
    env.clearTimeout(watchdog);
    // An EventSource cannot see comments, so its silence says nothing.
    if (via === 'eventsource' && openedAt !== null) return;
    const left = aliveAt + stallMs() - now();
    watchdog = env.setTimeout(() => {
      if (held) aliveAt = now();
      if (now() - aliveAt < stallMs()) return watch();
      drop({ kind: 'over', clean: false, reason: { code: 'stalled', message: `no byte for ${stallMs()} ms` } });
    }, Math.max(left, 0));
  }

  // What arrives.

  function take(block: Block, target: URL): void | Promise<void> {
    const commit = (): void => {
      if (block.id === undefined || block.id === '') return;
      position = block.id;
      sink.moved(position);
    };
    if (block.tooLarge) {
      report(new TidingsError('event_too_large', `an event of more than ${EVENT_CHARS_MAX} characters was left out`));
      return commit();
    }
    if (block.event.startsWith('tidings.')) {
      if (control(block) === 'taken') commit();
      return;
    }
    const channel = own ?? target.searchParams.get('channel') ?? '';
    const waiting = sink.event(incoming(block, { channel, time: now() }));
    // It was delivered, or stands in a queue of this page; the promise only says when there is room for more.
    commit();
    if (waiting === undefined) return;
    const attempt = current;
    held = true;
    return waiting.then(() => {
      if (current !== attempt) return;
      held = false;
      aliveAt = now();
    });
  }

  /** Whether the block's id counts. */
  function control({ event, data, id }: Block): 'taken' | 'left' {
    const said = object(data);
    switch (event) {
      case 'tidings.hello':
        connection = typeof said['connection'] === 'string' ? said['connection'] : null;
        if (typeof said['keepalive_ms'] === 'number') keepaliveMs = Math.max(said['keepalive_ms'], 100);
        watch();
        if (!auth.cookie) renewBefore(said['expires_at']);
        if (id !== undefined && id !== '') position = id;
        sink.hello(position);
        break;
      case 'tidings.reset': {
        const channels = Array.isArray(said['channels']) ? said['channels'].map(String) : null;
        const first = typeof said['first'] === 'string' ? said['first'] : null;
        sink.reset({ reason: String(said['reason']), channels, first });
        break;
      }
      case 'tidings.drain':
        drainMs = Number(said['spread_ms']) || 0;
        break;
      case 'tidings.auth_expiring':
        void renew(said['expires_at']);
        break;
      case 'tidings.unauthorized': {
        const code = String(said['code'] ?? 'unauthorized');
        const reason: CloseReason = { code: code === 'forbidden' ? 'forbidden' : 'unauthorized', message: `the stream was refused: ${code}` };
        void unauthorized(reason);
        return 'left';
      }
    }
    return 'taken';
  }

  async function unauthorized(reason: CloseReason): Promise<void> {
    const attempt = current;
    let outcome: Outcome = { kind: 'rejected', reason };
    try {
      const token = await auth.token();
      if (token !== null) outcome = await renewed(token, outcome);
    } catch (cause) {
      // That there is no token just now says nothing about the next one.
      report(cause as TidingsError);
      outcome = { kind: 'failed', reason: { code: 'network', message: (cause as Error).message } };
    }
    if (current === attempt && attempt !== null) drop(outcome);
  }

  // The life of the grant.

  function renewBefore(expiresAt: unknown): void {
    env.clearTimeout(renewTimer);
    if (typeof expiresAt !== 'number') return;
    const ms = Math.min(Math.max(0.8 * (expiresAt - now()), 0), TIMER_MAX_MS);
    renewTimer = env.setTimeout(() => void renew(expiresAt), ms);
  }

  async function renew(expiresAt: unknown): Promise<void> {
    env.clearTimeout(renewTimer);
    const name = connection;
    let token: string | null;
    try {
      token = await auth.renew();
    } catch (cause) {
      report(cause as TidingsError);
      // Again when half of what is left has passed; the server's own word is `tidings.unauthorized`.
      const left = Number(expiresAt) - now();
      if (name === connection && left > 2_000) renewTimer = env.setTimeout(() => void renew(expiresAt), left / 2);
      return;
    }
    if (name === null || name !== connection) return;
    try {
      const answer = (await api.call('POST', `connections/${name}/auth`, { body: {}, token })) as { expires_at?: unknown };
      if (name === connection && !auth.cookie) renewBefore(answer?.expires_at);
    } catch {
      if (name === connection && !auth.cookie) link.reconnect();
    }
  }

  // The page.

  function listen(): void {
    unlisten ??= env.page.listen((signal) => {
      if (signal === 'hidden') hide();
      else if (signal !== 'offline') wake(signal);
    });
    if (env.page.hidden()) hide();
  }

  function hide(): void {
    env.clearTimeout(hiddenTimer);
    if (pauseAfter === null) return;
    hiddenTimer = env.setTimeout(() => {
      if (status.state === 'closed' || status.state === 'idle') return;
      drop({ kind: 'aborted' });
      set({ state: 'paused', reason: 'hidden' });
    }, pauseAfter);
  }

  function wake(signal: 'visible' | 'online'): void {
    if (signal === 'visible') env.clearTimeout(hiddenTimer);
    if (status.state === 'paused' && status.reason === 'hidden' && signal !== 'visible') return;
    const silent = status.state === 'open' && now() - aliveAt > keepaliveMs;
    if (status.state !== 'waiting' && status.state !== 'paused' && !silent) return;
    if (silent) drop({ kind: 'aborted' });
    env.clearTimeout(retryTimer);
    const ms = Math.max(random() * WAKE_SPREAD_MS, notBefore - now());
    set({ state: 'waiting', attempt: backoff.attempt, retryAt: now() + ms, reason: { code: 'network', message: `the page is ${signal} again` } });
    retryTimer = env.setTimeout(connect, ms);
  }

  const link: Link = {
    get position() {
      return position;
    },
    get connection() {
      return connection;
    },
    get status() {
      return status;
    },
    start(at) {
      position = at;
      backoff.reset();
      rejectedOnce = false;
      listen();
      connect();
    },
    reconnect() {
      if (status.state === 'idle') return;
      drop({ kind: 'aborted' });
      backoff.reset();
      rejectedOnce = false;
      listen();
      connect();
    },
    stop(reason) {
      drop({ kind: 'aborted' });
      env.clearTimeout(hiddenTimer);
      unlisten?.();
      unlisten = null;
      position = null;
      set(reason === undefined ? { state: 'idle' } : { state: 'closed', reason });
    },
  };
  return link;
}

/** Hardly any browser needs it, so its code is fetched by those that do. */
function nativeTransport(Native: typeof EventSource): Transport {
  return async (attempt, sink) => {
    try {
      const { eventSourceTransport } = await import('./eventsource.js');
      return await eventSourceTransport(Native)(attempt, sink);
    } catch (cause) {
      return { kind: 'failed', reason: { code: 'network', message: String(cause) } };
    }
  };
}

/** Whether the bodies of answers can be read as they come. */
function streamsBodies(): boolean {
  return typeof Response === 'function' && 'body' in Response.prototype && typeof ReadableStream === 'function';
}

function object(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // An event of the server that cannot be read says nothing.
  }
  return {};
}
