// Tabs of one browser: their locks and channels, and what can happen to them.
//
// Owns: Web Locks, BroadcastChannel and SharedWorker as far as tabs use them, killing and freezing. Does not know: what tabs say.

import type { Env, PageSignal } from '../../src/env.js';
import { createClientIn } from '../../src/create.js';
import type { Client, ClientOptions } from '../../src/index.js';
import { createWorker } from '../../src/worker.js';
import { settled, type World } from './world.js';

interface Waiting {
  tab: Tab;
  hold: () => Promise<void>;
  resolve: () => void;
  reject: (error: unknown) => void;
}

export interface Tab {
  readonly client: Client;
  readonly env: Env;
  hidden: boolean;
  show(hidden: boolean): void;
  /** It is gone, as if its process was killed: no farewell. */
  kill(): Promise<void>;
  /** Nothing of it runs, but it keeps its locks. */
  freeze(): void;
  thaw(): Promise<void>;
  readonly leads: boolean;
}

export interface Browser {
  open(options?: ClientOptions): Tab;
  readonly tabs: Tab[];
  /** SharedWorkers by name, which run until they are killed. */
  readonly workers: Map<string, Pick<Tab, 'kill' | 'leads'>>;
  /** Whether the script of a worker is there. */
  script: boolean;
}

export function createBrowser(world: World): Browser {
  const held = new Map<string, Waiting>();
  const queues = new Map<string, Waiting[]>();
  const channels = new Map<string, Set<{ tab: InnerTab; listener: { onmessage: ((event: MessageEvent) => void) | null } }>>();

  interface InnerTab extends Tab {
    dead: boolean;
    frozen: (() => void)[] | null;
  }

  function grant(name: string): void {
    if (held.has(name)) return;
    const next = queues.get(name)?.shift();
    if (next === undefined) return;
    take(name, next);
  }

  function take(name: string, waiting: Waiting): void {
    held.set(name, waiting);
    run(waiting.tab as InnerTab, () => {
      void waiting.hold().then(() => {
        if (held.get(name) === waiting) {
          held.delete(name);
          waiting.resolve();
          grant(name);
        }
      });
    });
  }

  /** Now, or when the tab is thawed, or never. */
  function run(tab: InnerTab, call: () => void): void {
    if (tab.dead) return;
    if (tab.frozen !== null) tab.frozen.push(call);
    else call();
  }

  function open(options: ClientOptions = {}): Tab {
    const tab = enter();
    Object.assign(tab, { client: createClientIn(tab.env, { onError: (error) => world.errors.push(error), ...options }) });
    browser.tabs.push(tab);
    return tab;
  }

  /** A port to the worker of a name, which is started if it does not run. */
  function connect(from: InnerTab, name: string): MessagePort {
    let worker = browser.workers.get(name) as InnerTab & { connect(port: MessagePort): void };
    if (worker === undefined || worker.dead) {
      const party = enter();
      worker = Object.assign(party, { connect: createWorker(party.env) });
      browser.workers.set(name, worker);
    }
    const ends = [from, worker].map((party) => ({ party, port: { onmessage: null, close() {} } as unknown as MessagePort }));
    ends.forEach(({ port }, n) => {
      const other = ends[1 - n]!;
      port.postMessage = (data: unknown): void => {
        const copy = structuredClone(data);
        queueMicrotask(() => run(other.party, () => other.port.onmessage?.({ data: copy } as MessageEvent)));
      };
    });
    worker.connect(ends[1]!.port);
    return ends[0]!.port;
  }

  /** A page or a worker. */
  function enter(): InnerTab {
    const listeners = new Set<(signal: PageSignal) => void>();
    const aborts = new Set<AbortController>();
    const tab: InnerTab = {
      dead: false,
      frozen: null,
      hidden: false,
      client: undefined as never,
      env: undefined as never,
      show(hidden) {
        tab.hidden = hidden;
        run(tab, () => listeners.forEach((listener) => listener(hidden ? 'hidden' : 'visible')));
      },
      async kill() {
        tab.dead = true;
        for (const abort of aborts) abort.abort();
        for (const set of channels.values()) for (const entry of [...set]) if (entry.tab === tab) set.delete(entry);
        for (const [name, queue] of queues) queues.set(name, queue.filter((waiting) => waiting.tab !== tab));
        for (const [name, waiting] of [...held]) {
          if (waiting.tab !== tab) continue;
          held.delete(name);
          // A browser takes its time to see that a process is gone.
          world.env.setTimeout(() => grant(name), 300);
        }
        await settled();
      },
      freeze() {
        tab.frozen = [];
      },
      async thaw() {
        const calls = tab.frozen ?? [];
        tab.frozen = null;
        for (const call of calls) call();
        await settled();
      },
      get leads() {
        return [...held.values()].some((waiting) => waiting.tab === tab);
      },
    };

    class Channel {
      onmessage: ((event: MessageEvent) => void) | null = null;
      readonly entry = { tab, listener: this };
      readonly name: string;
      constructor(name: string) {
        this.name = name;
        channels.set(name, (channels.get(name) ?? new Set()).add(this.entry));
      }
      postMessage(data: unknown): void {
        if (tab.dead) return;
        const copy = structuredClone(data);
        for (const entry of channels.get(this.name) ?? []) {
          if (entry === this.entry) continue;
          queueMicrotask(() => run(entry.tab, () => channels.get(this.name)?.has(entry) && entry.listener.onmessage?.({ data: copy } as MessageEvent)));
        }
      }
      close(): void {
        channels.get(this.name)?.delete(this.entry);
      }
    }

    const locks = {
      request(name: string, { steal = false, signal }: LockOptions, hold: () => Promise<void>) {
        return new Promise<void>((resolve, reject) => {
          const waiting: Waiting = { tab, hold, resolve, reject };
          signal?.addEventListener('abort', () => {
            const queue = queues.get(name) ?? [];
            if (!queue.includes(waiting)) return;
            queues.set(name, queue.filter((other) => other !== waiting));
            reject(new DOMException('aborted', 'AbortError'));
          });
          if (steal) {
            const before = held.get(name);
            if (before !== undefined) run(before.tab as InnerTab, () => before.reject(new DOMException('stolen', 'AbortError')));
            take(name, waiting);
          } else {
            queues.set(name, [...(queues.get(name) ?? []), waiting]);
            queueMicrotask(() => grant(name));
          }
        });
      },
    };

    const env: Env = {
      ...world.env,
      fetch: (async (input: RequestInfo | URL, init: RequestInit = {}) => {
        const abort = new AbortController();
        aborts.add(abort);
        if (tab.dead) abort.abort();
        init.signal?.addEventListener('abort', () => abort.abort());
        const answer = await world.env.fetch(input, { ...init, signal: abort.signal });
        if (tab.dead) return new Promise<never>(() => {});
        return answer;
      }) as typeof fetch,
      setTimeout: (callback, ms) => world.env.setTimeout(() => run(tab, callback), ms),
      random: () => Math.random(),
      page: {
        ...world.env.page,
        hidden: () => tab.hidden,
        listen(callback) {
          listeners.add(callback);
          return () => void listeners.delete(callback);
        },
      },
      locks: locks as unknown as LockManager,
      BroadcastChannel: Channel as unknown as typeof BroadcastChannel,
      SharedWorker: class {
        onerror: (() => void) | null = null;
        readonly port: MessagePort;
        constructor(_url: URL, { name }: { name: string }) {
          this.port = browser.script ? connect(tab, name) : ({ postMessage() {}, close() {} } as unknown as MessagePort);
          if (!browser.script) queueMicrotask(() => this.onerror?.());
        }
      } as unknown as typeof SharedWorker,
    };
    return Object.assign(tab, { env });
  }

  const browser: Browser = { open, tabs: [], workers: new Map(), script: true };
  return browser;
}
