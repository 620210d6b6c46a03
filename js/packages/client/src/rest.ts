// What many pages do without, in one file that is fetched when it is needed.
//
// Owns: what is in it. Does not know: what any of it does, or what is done without it.

export { catchUp } from './catchup.js';
export { heed } from './grant.js';
export { addChannels, join } from './join.js';
export { refusedOf } from './refused.js';
export { rootOf, ticket } from './request.js';
export { createWatcher, startJob } from './watch.js';
