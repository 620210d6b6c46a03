// Owns: what operators and log-outs ask for, and tickets. Does not know: what a grant covers.
// Flow: in ← a token, a session, a subject, channels · out → what was closed, or a ticket.

import { encode, json, query, segment, send, type Transport } from './call.js';
import type { CallOptions } from './publish.js';

/** Whose grants end: a token by its `jti`, all tokens of a session (`sid`), or all of a subject. */
export type Revocation = (
  | { token: string; session?: never; subject?: never }
  | { session: string; token?: never; subject?: never }
  | { subject: string; token?: never; session?: never }
) & {
  /** Until when it is kept; at most, and by default, 30 days. No token may live longer. */
  until?: number | Date | undefined;
};

export interface Revoked {
  /** How many open streams were ended. */
  closed: number;
  until: number;
}

export interface Connection {
  id: string;
  subject: string | null;
  channels: string[];
  since: number;
  /** How many events it has yet to get. */
  behind: number;
}

export interface Connections {
  /** Open streams: all, or those of a subject. */
  list(options?: CallOptions & { subject?: string }): Promise<Connection[]>;
  /** Closes one stream, or those of a subject. They resume by themselves; {@link Tidings.revoke} keeps them out. */
  close(which: { id: string; subject?: never } | { subject: string; id?: never }, options?: CallOptions): Promise<{ closed: number }>;
}

export interface Ticket {
  ticket: string;
  expires_at: number;
}

export interface Tickets {
  /** A ticket for one stream, for where only a URL is possible: `/events?ticket=…`. It works once. */
  create(options?: CallOptions & { channels?: readonly string[] }): Promise<Ticket>;
}

export interface Admin {
  revoke(what: Revocation, options?: CallOptions): Promise<Revoked>;
  connections: Connections;
  tickets: Tickets;
}

export function createAdmin(transport: Transport): Admin {
  return {
    async revoke({ token, session, subject, until }, { signal } = {}) {
      const end = until instanceof Date ? until.getTime() : until;
      const body = encode({ token, session, subject, until: end }, 'the revocation');
      return json(await send(transport, { method: 'POST', path: '/v1/revocations', body, repeats: 'few', signal }));
    },
    connections: {
      async list({ subject, signal } = {}) {
        const path = `/v1/connections${query({ subject })}`;
        const answer = await send(transport, { method: 'GET', path, repeats: 'few', signal });
        return json<{ connections: Connection[] }>(answer).connections;
      },
      async close({ id, subject }, { signal } = {}) {
        const path = id === undefined ? `/v1/connections${query({ subject })}` : `/v1/connections/${segment(id)}`;
        const answer = await send(transport, { method: 'DELETE', path, repeats: 'few', signal });
        return answer.status === 204 ? { closed: 1 } : json(answer);
      },
    },
    tickets: {
      async create({ channels, signal } = {}) {
        const body = encode({ channels }, 'the ticket');
        // A ticket that nobody got ends by itself.
        return json(await send(transport, { method: 'POST', path: '/v1/tickets', body, repeats: 'few', signal }));
      },
    },
  };
}
