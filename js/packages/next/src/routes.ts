// Owns: which requests are sent on, and where to. Does not know: who may make them: that is the server's to say.
// Flow: in ← a method, a URL of the application · out → a path and query of the server, or nothing.

const READ = ['GET', 'HEAD'];

/** What pages ask for. Workers, reports, and what needs an API key do not pass. */
const ROUTES: readonly (readonly [readonly string[], RegExp])[] = [
  [READ, /^\/(v1\/)?events$/],
  [READ, /^\/v1\/(history|channels|jobs)$/],
  [READ, /^\/v1\/jobs\/[^/]+(\/(events|logs|download(\/[^/]+)?))?$/],
  [['POST'], /^\/v1\/(publish|jobs|tickets)$/],
  [['POST'], /^\/v1\/jobs\/[^/]+\/(cancel|retry)$/],
  [['POST'], /^\/v1\/connections\/[^/]+\/(auth|channels)$/],
  [['DELETE'], /^\/v1\/jobs\/[^/]+$/],
];

/** Behind an alias of a job type. */
const ALIASED: readonly (readonly [readonly string[], RegExp])[] = [
  [['POST'], /^$/],
  [READ, /^\/[^/]+\/(events|download(\/[^/]+)?)$/],
];

export interface RouteOptions {
  /** Where the proxy is mounted. Without it, all that stands before `/events` or `/v1/` is taken for that. */
  basePath?: string | undefined;
  /** Paths that the server has as aliases of job types. */
  jobRoutes?: readonly string[] | undefined;
}

/** The server's path for a request of the application; `undefined` if it is none that passes. */
export function routeOf(method: string, url: URL, options: RouteOptions): string | undefined {
  const path = url.pathname.replace(/(?<=.)\/+$/, '');
  for (const alias of options.jobRoutes ?? []) {
    if (path === alias || path.startsWith(`${alias}/`)) {
      return passes(ALIASED, method, path.slice(alias.length)) ? path : undefined;
    }
  }
  const own = ownPath(path, options.basePath);
  return own !== undefined && passes(ROUTES, method, own) ? own : undefined;
}

/** The query as the client sent it, but for what would change who asks; with `--dev` the server goes by `as`. The position
 * goes into a header. */
export function queryOf(url: URL, subject: string): string {
  const query = new URLSearchParams(url.search);
  for (const name of ['ticket', 'last_event_id', 'lastEventId']) query.delete(name);
  query.set('as', subject);
  return `?${query.toString()}`;
}

function ownPath(path: string, basePath: string | undefined): string | undefined {
  if (basePath === undefined) return /^(?:.*?)(\/events|\/v1\/.*)$/.exec(path)?.[1];
  const base = basePath.replace(/\/+$/, '');
  return path.startsWith(`${base}/`) ? path.slice(base.length) : undefined;
}

function passes(routes: typeof ROUTES, method: string, path: string): boolean {
  return routes.some(([methods, pattern]) => methods.includes(method) && pattern.test(path));
}
