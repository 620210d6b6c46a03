// Every bound and every time of this package, with why it is this one.
//
// Owns: the numbers. Does not know: who keeps them.

/** How long what a component used stays open behind it: longer than StrictMode and a change of route take to mount again. */
export const LINGER_MS = 500;

/** How long what was rendered stays open without being mounted. A render that takes longer opens it again at its cursor. */
export const RENDER_MS = 5_000;

/** Events that wait for a component which is rendered and not mounted yet. Beyond, they wait on the server. */
export const INBOX_MAX = 1_000;

/** Items of a feed, unless it says otherwise: more than a screen shows, little to copy in a frame. */
export const FEED_LIMIT = 200;

/** A frame where nothing paints: 60 in a second. */
export const FRAME_MS = 16;

/** Changes of a page that is hidden, whose title may still say how many there are. */
export const HIDDEN_MS = 200;

/** How long a frame may take before what waits for it goes on without it: a page hidden in between has none. */
export const STUCK_MS = 1_000;

/** At most one refetch of a query in this time, however many events call for it. */
export const REFETCH_MS = 250;

/** How long a query waits for its stream before it fetches all the same. */
export const READY_MS = 2_000;
