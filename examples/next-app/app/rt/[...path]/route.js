import { tidingsProxy } from '@tidings/next';
import { userOf } from '../../../lib/session.js';

export const dynamic = 'force-dynamic';
export const maxDuration = 300;

export const { GET, HEAD, POST, DELETE } = tidingsProxy({
  url: process.env.TIDINGS_URL,
  key: process.env.TIDINGS_SECRET,
  maxDuration: 300,
  // The user's own channel and own jobs come with `sub`.
  authorize: (request) => {
    const { user, session } = userOf(request.headers.get('cookie') ?? '') ?? {};
    return user === undefined ? null : { sub: user, session, jobs: ['create:generate-report'] };
  },
});
