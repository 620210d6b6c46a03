// Owns: telling a write of the application's own pages from one that another site made a browser send.
// Does not know: cookies, what is written. Flow: in ← a request's headers · out → whether it may go on.

const SAFE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

/** Whether a write comes from another site. The application's session came along as a cookie, so nothing else tells. */
export function isCrossSite(request: Request, origins: readonly string[]): boolean {
  if (SAFE.has(request.method)) return false;
  const origin = request.headers.get('origin');
  if (origin !== null && origins.includes(origin)) return false;
  const site = request.headers.get('sec-fetch-site');
  if (site !== null) return site !== 'same-origin' && site !== 'none';
  // Not a browser, or one from before 2020 that sends no `Origin` with a write of its own origin.
  if (origin === null) return false;
  const host = hostOf(origin);
  // A page cannot set these; a proxy before the application may.
  const own = [request.headers.get('host'), request.headers.get('x-forwarded-host'), new URL(request.url).host];
  return host === undefined || !own.includes(host);
}

function hostOf(origin: string): string | undefined {
  try {
    return new URL(origin).host;
  } catch {
    return undefined;
  }
}
