// What a client is doing.
//
// Owns: the states of the stream as an application sees them. Does not know: what leads from one to the next.

export type CloseCode =
  /** Nothing more will come: the channels are finished. */
  | 'done'
  | 'unauthorized'
  | 'forbidden'
  | 'not_found'
  | 'bad_request'
  /** No answer, or the connection broke. */
  | 'network'
  /** Another status than a stream's. */
  | 'http'
  /** No byte for longer than the server promised. */
  | 'stalled'
  /** An answer that is not a stream: a login page, a captive portal. */
  | 'content_type'
  /** The server ended the stream in good order. */
  | 'ended'
  /** The server is about to stop. */
  | 'server_drain'
  /** `close()`, or an `AbortSignal`. */
  | 'aborted';

export interface CloseReason {
  readonly code: CloseCode;
  readonly message: string;
  /** The HTTP status, if there was an answer. */
  readonly status?: number | undefined;
}

/** Of this page by `fetch` or `EventSource`; or the stream is another tab's, or a SharedWorker's. */
export type Via = 'fetch' | 'eventsource' | 'peer-tab' | 'worker';

export type Status =
  /** Nothing is subscribed. */
  | { readonly state: 'idle' }
  | { readonly state: 'connecting'; readonly attempt: number }
  | { readonly state: 'open'; readonly since: number; readonly via: Via }
  /** Waits before it tries again. */
  | { readonly state: 'waiting'; readonly attempt: number; readonly retryAt: number; readonly reason: CloseReason }
  /** Goes on from where it was when the page is visible or the network is back. */
  | { readonly state: 'paused'; readonly reason: 'hidden' | 'offline' }
  /** Tries no more by itself; `reconnect()` does. */
  | { readonly state: 'closed'; readonly reason: CloseReason };
