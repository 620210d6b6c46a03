// Owns: what this package exports. Does not know: anything.

export { tidingsProxy, type Handler, type ProxyOptions, type TidingsProxy } from './proxy.js';
export type { RouteOptions } from './routes.js';
export type { Key } from './grant.js';
export { clearTidingsCookie, tidingsCookie, type CookieOptions, type TidingsCookie } from './cookie.js';
export { toNodeHandler, type NodeHandler } from './node-handler.js';
export type { Grant, JobRight, TokenClaims, TokenKey } from '@tidings/node/token';
