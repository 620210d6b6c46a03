// One stream for all tabs.
//
// Owns: which tab has the stream, what the others hear of it, and that each goes on from where it stood when that changes.
// Does not know: subscriptions, or what events say.
// In a SharedWorker it is the same, of a party that wants nothing itself and always leads, for tabs that leave it to it.
// Flow: the tab with the lock leads: its lane's events → BroadcastChannel → the sources of the others. A tab adds its channels
// to the leader's stream with its own credentials, so that one of another user is refused by the server, not by us.

import type { TidingsError } from './error.js';
import type { Incoming } from './incoming.js';
import type { Lane, LaneMaker } from './lane.js';
import { LINGER_MS, QUEUE_EVENTS_MAX, SHARE_ALIVE_MS, SHARE_ANSWER_MS, SHARE_GROUPS_MAX, SHARE_SILENCE_MS, SHARE_TAB_MS, STREAM_CHANNELS_MAX } from './limits.js';
import type { Context, LinkReset } from './link.js';
import type { Rest } from './part.js';
import type { Source, SourceSink } from './source.js';
import type { Status } from './status.js';
import type { Summoned } from './summon.js';

interface EventText {
  event: string;
  channel: string;
  from: string | null;
  time: number;
  id: string | null;
  text: string;
}

/** What tabs tell each other. */
type Message =
  // From the tab that leads. `term` is new with every leader.
  | { type: 'state'; term: string; connection: string | null; position: string | null; status: Status }
  | { type: 'event'; term: string; event: EventText }
  | { type: 'reset'; term: string; reset: LinkReset }
  | { type: 'ended'; term: string; channels: readonly string[] }
  | { type: 'refused'; term: string; channels: readonly string[]; code: string; message: string; status: number | undefined }
  | { type: 'joined'; term: string; tab: string; channels: readonly string[]; position: string | null }
  | { type: 'full'; term: string; tab: string }
  | { type: 'left'; term: string; tab: string }
  | { type: 'stranger'; term: string; tab: string }
  // From the others.
  | { type: 'hi' }
  | { type: 'want'; tab: string; term: string; channels: readonly string[]; added: Added | 'ask' | 'open' | null }
  | { type: 'reconnect' }
  | { type: 'bye'; tab: string };

interface Added {
  connection: string;
  channels: readonly string[];
}

/** Retired: it led, and was refused; others try with credentials of their own. */
type Role = 'none' | 'follower' | 'leader' | 'apart' | 'retired';

/**
 * `worker` says that it is not a tab. What the entry and the rest have is handed in, so that bundlers make no further files of what
 * is shared with them: each file that a page does not have yet is one that may be gone.
 */
export function createShared(context: Context, sink: SourceSink, createLane: LaneMaker, { addChannels, rootOf }: Rest, worker = false): Source {
  const { env, api, options } = context;
  const locks = env.locks!;
  const tab = name(env.random);

  let wanted: ReadonlySet<string> = new Set();
  let role: Role = 'none';
  let group = 0;
  let channel: BroadcastChannel | null = null;
  let waiting: AbortController | null = null;
  let linger: unknown;
  let closed = false;

  // As leader.
  let lane: Lane | null = null;
  let resign: (() => void) | null = null;
  const others = new Map<string, { channels: readonly string[]; heardAt: number }>();
  /** Channels that tabs have added, or, without credentials, asked for: they are told when the stream has them. */
  const asked = new Map<string, readonly string[]>();
  let anonymous: boolean | null = null;
  let aliveTimer: unknown;

  // As follower, and the leader's own name for its time.
  let term = '';
  let position: string | null = null;
  let connection: string | null = null;
  let joined = new Set<string>();
  /** Of channels that were not joined yet: who leads may be another user, and whose events these are is known then. */
  let held: Incoming[] = [];
  let adding = false;
  let mismatches = 0;
  let saidAt = 0;
  /** Leaders of before: one that was frozen may speak once more before it learns that it leads no longer. */
  const past: string[] = [];
  let heardAt = 0;
  let silenceTimer: unknown;
  let unlisten: (() => void) | null = null;
  let summoned: Summoned | null = null;

  const lock = (): string => `tidings:${options.shareKey ?? api.stream.href}${group === 0 ? '' : `~${group}`}`;
  const post = (message: Message): void => channel?.postMessage(message);

  function enter(): void {
    role = 'follower';
    heardAt = env.now();
    try {
      channel = new env.BroadcastChannel!(lock());
    } catch {
      // A page without an origin of its own, such as a sandboxed frame, has no other tabs.
      return apart();
    }
    channel.onmessage = ({ data }: MessageEvent<Message>) => hear(data);
    post({ type: 'hi' });
    unlisten ??= env.page.listen((signal) => {
      if (signal !== 'visible' || role !== 'follower') return;
      // A hidden leader answers, though its timers hardly run; a frozen one does not.
      post({ type: 'hi' });
      heardAt = Math.max(heardAt, env.now() - SHARE_SILENCE_MS + SHARE_ANSWER_MS);
      listenForLife();
    });
    listenForLife();
    tellStatus({ state: 'connecting', attempt: 0 });
    if (worker) return request(true);
    if (options.share !== 'sharedworker') return request(false);
    // Who has a worker waits for the lead only once the worker has it, or where there turns out to be none.
    const own = channel;
    const none = (): void => {
      if (role === 'follower' && waiting === null && channel === own) request(false);
    };
    import('./summon.js').then(({ summon }) => {
      if (channel !== own) return;
      summoned = summon(context, rootOf(context), lock(), none);
      if (summoned === null) none();
    }, none);
  }

  function leave(): void {
    post({ type: 'bye', tab });
    stopLeading();
    waiting?.abort();
    waiting = null;
    summoned?.close();
    summoned = null;
    channel?.close();
    channel = null;
    unlisten?.();
    unlisten = null;
    env.clearTimeout(silenceTimer);
    forget('');
    role = 'none';
  }

  // Who leads.

  function request(steal: boolean): void {
    waiting?.abort();
    const own = (waiting = new AbortController());
    const hold = (): Promise<void> => {
      if (own.signal.aborted || closed) return Promise.resolve();
      waiting = null;
      return new Promise<void>((resolve) => {
        resign = resolve;
        lead();
      });
    };
    locks.request(lock(), steal ? { steal } : { signal: own.signal }, hold).catch((error: unknown) => {
      // It was not waited for any more; or stolen by a tab that heard nothing of this one; or this page may have no locks.
      if (own.signal.aborted) return;
      if (role === 'leader') follow();
      else if (role === 'follower' && (error as Error).name !== 'AbortError') apart();
    });
  }

  function lead(): void {
    env.clearTimeout(silenceTimer);
    sink.moved();
    forget(name(env.random));
    role = 'leader';
    others.clear();
    asked.clear();
    anonymous = null;
    lane = createLane(context, {
      joined(channels) {
        sink.joined(channels);
        answer();
        tellState();
      },
      event(event) {
        // Also when nobody has asked yet: a tab whose channels were just added hears of them before it can say so.
        post({ type: 'event', term, event: textOf(event) });
        return sink.event(event);
      },
      reset(reset) {
        post({ type: 'reset', term, reset });
        sink.reset(reset);
      },
      moved: () => {},
      ended(channels) {
        post({ type: 'ended', term, channels });
        drop(channels);
        sink.ended(channels);
        spread();
      },
      refused(channels, error) {
        // Without a stream of its own a tab may not keep the lead from one that would have one.
        if (channels === null || (others.size === 0 && [...wanted].every((name) => channels.includes(name)))) return retire(error);
        post({ type: 'refused', term, channels, code: error.code, message: error.message, status: error.status });
        drop(channels);
        sink.refused(channels, error);
        spread();
      },
      status(status) {
        if (role !== 'leader') return;
        sink.status(status);
        tellState();
      },
    });
    lane.want(union());
    // A tab that leads is about to have a stream; a worker has none before somebody asks for it.
    if (worker) sink.status({ state: 'idle' });
    alive();
  }

  /** No tab is carried these any more. */
  function drop(channels: readonly string[]): void {
    for (const other of others.values()) other.channels = other.channels.filter((name) => !channels.includes(name));
  }

  function retire(error: TidingsError): void {
    sink.moved();
    role = 'retired';
    leave();
    role = 'retired';
    sink.refused(null, error);
  }

  function stopLeading(): void {
    env.clearTimeout(aliveTimer);
    const before = lane;
    lane = null;
    before?.close();
    others.clear();
    resign?.();
    resign = null;
  }

  /** Another tab leads now. */
  function follow(): void {
    // Before the lane is gone: where it stood is where this tab goes on.
    sink.moved();
    role = 'follower';
    stopLeading();
    forget('');
    tellStatus({ state: 'connecting', attempt: 0 });
    heardAt = env.now();
    request(false);
    post({ type: 'hi' });
    listenForLife();
  }

  function alive(): void {
    tellState();
    const now = env.now();
    for (const [other, { heardAt: at }] of others) if (now - at > SHARE_TAB_MS) others.delete(other);
    spread();
    if (role === 'leader') aliveTimer = env.setTimeout(alive, SHARE_ALIVE_MS);
  }

  function tellState(): void {
    if (lane === null) return;
    const status: Status = worker && statusNow.state === 'open' ? { ...statusNow, via: 'worker' } : statusNow;
    post({ type: 'state', term, connection: lane.connection, position: lane.position, status });
  }

  function union(): Set<string> {
    return new Set([...wanted, ...[...others.values()].flatMap(({ channels }) => channels)]);
  }

  /** What the lane has to carry now; a tab that leads for nobody makes room. */
  function spread(): void {
    if (lane === null) return;
    const all = union();
    lane.want(all);
  }

  // As follower: one that hears nothing while it is looked at takes over.

  function listenForLife(): void {
    env.clearTimeout(silenceTimer);
    if (role !== 'follower') return;
    if (!env.page.hidden() && env.now() - heardAt >= SHARE_SILENCE_MS) {
      heardAt = env.now();
      return request(true);
    }
    silenceTimer = env.setTimeout(listenForLife, Math.max(SHARE_SILENCE_MS - (env.now() - heardAt), 1_000));
  }

  function forget(next: string): void {
    if (term !== '') past.push(term);
    past.splice(0, past.length - 16);
    term = next;
    mismatches = 0;
    position = null;
    connection = null;
    joined = new Set();
    held = [];
  }

  function hear(message: Message): void {
    if (closed) return;
    switch (message.type) {
      case 'hi':
        return tellState();
      case 'want':
        return void (role === 'leader' && message.term === term && heed(message));
      case 'bye':
        if (others.delete(message.tab)) spread();
        return;
      case 'reconnect':
        return lane?.reconnect();
    }
    if (role !== 'follower' || past.includes(message.term)) return;
    heardAt = env.now();
    if (message.term !== term) {
      // What a leader says before it has said where it stands is of no use.
      if (message.type !== 'state') return;
      sink.moved();
      forget(message.term);
    }
    switch (message.type) {
      case 'state':
        if (waiting === null) request(false);
        position = message.position;
        if (connection !== message.connection) mismatches = 0;
        connection = message.connection;
        if (message.status.state === 'paused' && message.status.reason === 'hidden' && !env.page.hidden()) return request(true);
        theirs = message.status;
        // A stream that is open and has not said its name yet is one that this tab's channels are not part of.
        if (theirs.state !== 'open' || joined.size === wanted.size) tellStatus(theirs);
        if (env.now() - saidAt > SHARE_TAB_MS / 5 && joined.size > 0) want(null);
        return void add();
      case 'event': {
        const { text, ...rest } = message.event;
        const event = { ...rest, text: () => text, json: () => JSON.parse(text) as unknown };
        if (joined.has(event.channel)) void sink.event(event);
        else if (wanted.has(event.channel) && held.push(event) > QUEUE_EVENTS_MAX) return apart();
        // Behind the handlers: what they have not had does not count.
        position = event.id ?? position;
        return;
      }
      case 'reset':
        // Who has not joined the stream misses nothing of it.
        return void (joined.size > 0 && sink.reset(message.reset));
      case 'ended':
        for (const name of message.channels) joined.delete(name);
        return sink.ended(message.channels);
      case 'refused':
        return sink.refused(message.channels, new context.errors.TidingsError(message.code, message.message, { status: message.status }));
      case 'joined':
        if (message.tab !== tab) return;
        for (const name of message.channels) joined.add(name);
        for (const event of held) if (joined.has(event.channel)) void sink.event(event);
        held = held.filter(({ channel }) => !joined.has(channel));
        position = message.position;
        sink.joined(message.channels);
        return tellStatus(theirs);
      case 'full':
        return void (message.tab === tab && apart());
      case 'stranger':
        return void (message.tab === tab && next());
      case 'left':
        // It was taken for gone, so there may be a hole: on from where it stood.
        if (message.tab !== tab) return;
        sink.moved();
        joined = new Set();
        return void add();
    }
  }

  function want(added: Extract<Message, { type: 'want' }>['added']): void {
    saidAt = env.now();
    post({ type: 'want', tab, term, channels: [...wanted], added });
  }

  /** A follower's channels are part of the stream, or become it. */
  function heed({ tab: other, channels, added }: Extract<Message, { type: 'want' }>): void {
    const before = others.get(other);
    if (added === 'ask') return void heedStranger(other, channels);
    // Somebody else was first: it is added to that stream like any other tab.
    if (added === 'open' && lane?.connection !== null) return tellState();
    if (before === undefined && added === null) return post({ type: 'left', term, tab: other });
    others.set(other, { channels, heardAt: env.now() });
    if (union().size > STREAM_CHANNELS_MAX) {
      if (before === undefined) others.delete(other);
      else others.set(other, before);
      return post({ type: 'full', term, tab: other });
    }
    // What was added to a stream that is gone has to be added to the next one.
    if (added !== null && added !== 'open' && lane?.connection === added.connection) {
      lane.widen(added.channels);
      asked.set(other, [...(asked.get(other) ?? []), ...added.channels]);
      answer();
    } else tellState();
    spread();
  }

  /**
   * A tab without credentials cannot add channels, nor show whose it is. A leader that has none either does it for it, and what
   * it gets is what anybody gets.
   */
  async function heedStranger(other: string, channels: readonly string[]): Promise<void> {
    const [stream, time] = [lane?.connection, term];
    if (anonymous === null && stream != null) {
      try {
        await addChannels(context, stream, [...union()]);
        anonymous = false;
      } catch (error) {
        if ((error as TidingsError).status !== undefined) anonymous = (error as TidingsError).status === 401 && context.auth.cookie;
      }
    }
    if (role !== 'leader' || time !== term || anonymous === null) return;
    if (!anonymous) return post({ type: 'stranger', term, tab: other });
    others.set(other, { channels, heardAt: env.now() });
    if (union().size > STREAM_CHANNELS_MAX) {
      others.delete(other);
      return post({ type: 'full', term, tab: other });
    }
    asked.set(other, channels);
    spread();
    answer();
  }

  function answer(): void {
    for (const [other, channels] of asked) {
      const there = channels.filter((name) => lane?.has(name));
      if (lane === null || there.length === 0) continue;
      if (there.length < channels.length) asked.set(other, channels.filter((name) => !there.includes(name)));
      else asked.delete(other);
      post({ type: 'joined', term, tab: other, channels: there, position: lane.position });
    }
  }

  async function add(): Promise<void> {
    const missing = [...wanted].filter((name) => !joined.has(name));
    if (adding || missing.length === 0) return;
    if (connection === null) {
      // A worker opens it with the credentials of the browser; whether they are this tab's too is seen when it adds its channels.
      if (theirs.state === 'idle' && term !== '') want('open');
      return;
    }
    adding = true;
    const [stream, time] = [connection, term];
    let refused: TidingsError | null = null;
    try {
      await addChannels(context, stream, missing);
    } catch (error) {
      refused = error as TidingsError;
    }
    adding = false;
    if (closed || role !== 'follower') return;
    if (stream !== connection || time !== term) return void add();
    if (refused === null) {
      mismatches = 0;
      // Not joined before the leader says so: it is the one that would add them again after a reconnect.
      return want({ connection: stream, channels: missing });
    }
    if (refused.code === 'connection_not_found') {
      // The stream of another user; or one that has just ended, which the leader is about to say.
      mismatches += 1;
      post({ type: 'hi' });
      if (mismatches < 3) return void env.setTimeout(() => void add(), LINGER_MS);
      return next();
    }
    // The stream still has channels that nobody wants any more.
    if (refused.code === 'channels_too_many') return apart();
    if (refused.status === 403 || refused.status === 400) {
      adding = true;
      for (const name of missing) await alone(name, stream, missing.length, refused);
      adding = false;
      return void add();
    }
    if (refused.status === 401 && context.auth.cookie) return want('ask');
    if (refused.status === 404 || refused.status === 405 || refused.status === 501 || refused.status === 401) return apart();
    env.setTimeout(() => void add(), 1_000 + env.random() * 1_000);
  }

  /** One channel that is refused takes no other with it. */
  async function alone(name: string, stream: string, of: number, because: TidingsError): Promise<void> {
    let error: TidingsError | null = of === 1 ? because : null;
    if (error === null) {
      try {
        await addChannels(context, stream, [name]);
      } catch (cause) {
        error = cause as TidingsError;
      }
    }
    if (closed || role !== 'follower' || stream !== connection) return;
    if (error === null) return want({ connection: stream, channels: [name] });
    sink.refused([name], error);
  }

  /** The tabs of another user share that stream; perhaps there are more of this one's. */
  function next(): void {
    mismatches = 0;
    if ((group += 1) >= SHARE_GROUPS_MAX) return apart();
    sink.moved();
    leave();
    enter();
  }

  /** A stream of this tab's own. */
  function apart(): void {
    sink.moved();
    leave();
    role = 'apart';
    lane = createLane(context, sink);
    lane.want(wanted);
  }

  let statusNow: Status = { state: 'idle' };
  /** The leader's. */
  let theirs: Status = statusNow;
  function tellStatus(status: Status): void {
    const next: Status = status.state === 'open' && status.via !== 'worker' ? { ...status, via: 'peer-tab' } : status;
    if (JSON.stringify(next) !== JSON.stringify(statusNow)) sink.status(next);
  }
  const { status: passStatus } = sink;
  sink = {
    ...sink,
    status(status) {
      statusNow = status;
      passStatus(status);
    },
  };

  if (worker) enter();
  return {
    get position() {
      return lane === null ? position : lane.position;
    },
    has: (name) => (lane === null ? joined.has(name) : lane.has(name)),
    want(channels) {
      wanted = channels;
      env.clearTimeout(linger);
      if (channels.size === 0) {
        if (role === 'none' || role === 'retired') return;
        linger = env.setTimeout(() => {
          // A tab that wants nothing leaves the lead to one that does.
          leave();
          sink.status({ state: 'idle' });
        }, LINGER_MS);
        return;
      }
      if (role === 'none' || role === 'retired') return enter();
      if (lane !== null) return spread();
      for (const name of joined) if (!channels.has(name)) joined.delete(name);
      if (joined.size > 0) want(null);
      queueMicrotask(() => void add());
    },
    reconnect() {
      if (lane !== null) lane.reconnect();
      else if (role === 'follower') {
        post({ type: 'reconnect' });
        // For those that are asked for anew; the others are there.
        sink.joined([...joined]);
      } else if (role === 'retired') enter();
    },
    close() {
      closed = true;
      env.clearTimeout(linger);
      leave();
    },
  };
}

function textOf({ event, channel, from, time, id, text }: Incoming): EventText {
  return { event, channel, from, time, id, text: text() };
}

function name(random: () => number): string {
  return Array.from({ length: 2 }, () => random().toString(36).slice(2)).join('');
}
