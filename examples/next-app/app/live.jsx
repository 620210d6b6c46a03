'use client';

import { createClient } from '@tidings/client';
import { TidingsProvider, useFeed, useJobProgress } from '@tidings/react';
import { useState } from 'react';
import { notify, startExport } from './actions.js';

// One connection for everything on the page. It goes through the route app/rt/[...path].
const client = createClient({ url: '/rt/events' });

export function Live({ user }) {
  return (
    <TidingsProvider client={client}>
      <Export />
      <Notifications user={user} />
    </TidingsProvider>
  );
}

function Export() {
  const [jobId, setJobId] = useState(null);
  const { status, progress, downloadUrl, error } = useJobProgress(jobId);
  return (
    <section>
      <h2>Export</h2>
      <button disabled={status === 'running'} onClick={async () => setJobId(await startExport(2_000))}>
        Start
      </button>
      <progress max={100} value={progress} />
      <output id="status">{status}</output>
      {downloadUrl && <a href={downloadUrl}>Download</a>}
      {error && <p role="alert">{error}</p>}
    </section>
  );
}

function Notifications({ user }) {
  const { items } = useFeed(`user:${user}`, { events: ['notification'] });
  return (
    <section>
      <h2>Notifications</h2>
      <form action={notify}>
        <input name="text" required />
        <button>Send to all my tabs</button>
      </form>
      <ul id="notifications">
        {items.map(({ id, data }) => (
          <li key={id}>{data.text}</li>
        ))}
      </ul>
    </section>
  );
}
