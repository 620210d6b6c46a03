// The script of the SharedWorker: `/tidings/worker.js`, or a bundler's own copy of it.
//
// Owns: what differs in a worker's world. Does not know: what the worker does.

import { globalEnv } from './env.js';
import { createWorker } from './worker.js';

const connect = createWorker({ ...globalEnv(), BroadcastChannel });
addEventListener('connect', (event) => connect((event as MessageEvent).ports[0]!));
