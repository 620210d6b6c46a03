// A client without a server: a log in memory, and jobs that a test drives.
//
// Owns: what was published, who subscribed, and how often a stream would have been opened. Does not know: React, HTTP.
// Flow: `publish` → the log → every open subscription behind its cursor.

import { TidingsError, type Client, type CompletedJob, type Job, type JobHandle, type JobLog, type JobOptions, type From, type Reset, type Status, type TidingsEvent } from '@tidings/client';

type End = { readonly job: CompletedJob } | { readonly error: TidingsError };

export interface FakeJob extends JobHandle {
  readonly options: JobOptions;
  readonly closed: boolean;
  say(part: Partial<Job>): void;
  log(message: string): void;
  output(chunk: unknown): void;
  end(part: Partial<Job>): void;
  lose(error: TidingsError): void;
}

export interface FakeClient extends Client {
  publish(channel: string, event: string, data: unknown): TidingsEvent;
  reset(channel: string, reason: string): void;
  refuse(channel: string, error: TidingsError): void;
  set(status: Status): void;
  /** Subscriptions that are open. */
  readonly open: readonly { readonly channels: readonly string[]; readonly from: From }[];
  /** How often there was a first subscription: each is a stream that was opened. */
  readonly streams: number;
  readonly jobs: readonly FakeJob[];
  readonly started: readonly { path: string; input: unknown }[];
  refuseStart: TidingsError | null;
}

interface Sub {
  readonly channels: readonly string[];
  readonly from: From;
  at: number;
  cursor: string | null;
  deliver(event: TidingsEvent): void;
  reset(reset: Reset): void;
  refuse(error: TidingsError): void;
  live(): void;
}

export function fakeClient(): FakeClient {
  const log: TidingsEvent[] = [];
  const subs = new Set<Sub>();
  const statuses = new Set<(status: Status) => void>();
  const jobs: FakeJob[] = [];
  const started: { path: string; input: unknown }[] = [];
  let status: Status = { state: 'idle' };
  let streams = 0;

  const idAt = (at: number) => `e-${at}`;
  const pump = (sub: Sub) => {
    while (subs.has(sub) && sub.at < log.length) {
      const event = log[sub.at]!;
      if (sub.channels.includes(event.channel)) sub.deliver(event);
      // As the client says: the cursor is behind an event once its handlers returned.
      if (!subs.has(sub)) return;
      sub.at += 1;
      sub.cursor = event.id;
    }
  };

  const client = {
    refuseStart: null as TidingsError | null,
    subscribe(channel: string | readonly string[], options: { from?: From; live?: () => void } = {}) {
      const from = options.from ?? 'now';
      const at = from === 'now' ? log.length : from === 'start' ? 0 : 'last' in from ? Math.max(log.length - from.last, 0) : log.findIndex(({ id }) => id === from.id) + 1;
      const anys: ((event: TidingsEvent) => void)[] = [];
      const ons: [string, (data: unknown, event: TidingsEvent) => void][] = [];
      const resets: ((reset: Reset) => void)[] = [];
      const refusals: ((error: TidingsError) => void)[] = [];
      const sub: Sub = {
        channels: typeof channel === 'string' ? [channel] : channel,
        from, at,
        cursor: at === 0 ? null : idAt(at),
        deliver(event) {
          for (const [type, call] of ons) if (type === event.event) call(event.data, event);
          for (const call of anys) call(event);
        },
        reset: (reset) => resets.forEach((call) => call(reset)),
        refuse: (error) => refusals.forEach((call) => call(error)),
        live: () => options.live?.(),
      };
      if (subs.size === 0) streams += 1;
      subs.add(sub);
      queueMicrotask(() => {
        pump(sub);
        if (status.state === 'open') sub.live();
      });
      const subscription = {
        channels: sub.channels,
        get cursor() { return sub.cursor; },
        on(event: string, call: (data: unknown, event: TidingsEvent) => void) { ons.push([event, call]); return subscription; },
        off: () => subscription,
        onAny(call: (event: TidingsEvent) => void) { anys.push(call); return subscription; },
        onReset(call: (reset: Reset) => void) { resets.push(call); return subscription; },
        onRefused(call: (error: TidingsError) => void) { refusals.push(call); return subscription; },
        onEnd: () => subscription,
        close: () => void subs.delete(sub),
      };
      return subscription;
    },
    publish(channel: string, event: string, data: unknown) {
      const published: TidingsEvent = { channel, event, data, from: null, id: idAt(log.length + 1), time: 1_795_305_600_000 };
      log.push(published);
      for (const sub of [...subs]) pump(sub);
      return published;
    },
    reset(channel: string, reason: string) {
      for (const sub of [...subs]) if (sub.channels.includes(channel)) sub.reset({ channel, reason, first: null });
    },
    refuse(channel: string, error: TidingsError) {
      for (const sub of [...subs]) if (sub.channels.includes(channel)) sub.refuse(error);
    },
    job(id: string, options: JobOptions = {}) {
      const made = fakeJob(id, options);
      jobs.push(made);
      return made;
    },
    async startJob(path: string, input: unknown) {
      started.push({ path, input });
      if (client.refuseStart !== null) throw client.refuseStart;
      const id = `job-${started.length}`;
      return { id, job: client.job(id, { path }) };
    },
    fetch: () => Promise.reject(new Error('no server')),
    get status() { return status; },
    set(next: Status) {
      status = next;
      for (const call of statuses) call(next);
      if (next.state === 'open') for (const sub of [...subs]) sub.live();
    },
    onStatus(call: (status: Status) => void) {
      statuses.add(call);
      return () => void statuses.delete(call);
    },
    reconnect() {},
    close() {},
    get open() { return [...subs]; },
    get streams() { return streams; },
    get jobs() { return jobs; },
    get started() { return started; },
  };
  return client as unknown as FakeClient;
}

function fakeJob(id: string, options: JobOptions): FakeJob {
  const changes = new Set<(job: Job) => void>();
  const logs = new Set<(log: JobLog) => void>();
  const outputs = new Set<(chunk: unknown) => void>();
  const ends = new Set<(end: End) => void>();
  let current: Job | null = options.initial ?? null;
  let closed = false;
  let ended: End | null = null;
  const until = <T>(set: Set<T>, value: T) => {
    set.add(value);
    return () => void set.delete(value);
  };
  const finish = (end: End) => {
    ended = end;
    ends.forEach((call) => call(end));
  };
  const job: FakeJob = {
    id, options,
    get closed() { return closed; },
    get current() { return current; },
    get error() { return ended !== null && 'error' in ended ? ended.error : null; },
    onChange: (call) => until(changes, call),
    onLog: (call) => until(logs, call),
    onOutput: (call) => until(outputs, call),
    onEnd(call) {
      if (ended === null) return until(ends, call);
      call(ended);
      return () => {};
    },
    cancel: async (reason) => job.end({ state: 'cancelled', error: { message: reason ?? 'cancelled', code: 'cancelled' } }),
    retry: async () => ({ id: `${id}-again`, job: fakeJob(`${id}-again`, options) }),
    close() { closed = true; },
    then: () => { throw new Error('nobody awaits it here'); },
    say(part) {
      current = { ...documentOf(id), ...current, ...part };
      changes.forEach((call) => call(current!));
    },
    log: (message) => logs.forEach((call) => call({ jobId: id, level: 'info', message, ts: 1 })),
    output: (chunk) => outputs.forEach((call) => call(chunk)),
    end(part) {
      job.say(part);
      const last = current!;
      if (last.state === 'completed') finish({ job: last as CompletedJob });
      else finish({ error: new TidingsError(`job_${last.state}`, last.error?.message ?? last.state, { job: last }) });
    },
    lose: (error) => finish({ error }),
  };
  return job;
}

/** A document in the middle of its run. */
export function documentOf(id: string): Job {
  return {
    id, jobId: id, type: 'generate-report', queue: 'default', mode: 'managed', state: 'running', reason: null, priority: 0,
    progress: 0, current: null, total: null, unit: null, step: null, message: null, eta_ms: null, data: null,
    attempt: 1, max_attempts: 3, cancel_requested: false, created_at: 1, updated_at: 1, run_at: null, started_at: 1,
    finished_at: null, result: null, error: null, artifacts: [], downloadUrl: null, tags: [], parent: null,
    retry_of: null, schedule: null, subject: null, v: 1,
  };
}
