// Makes the reports. Run as many as you like, on any machine: `npm run worker`.

import { setTimeout as sleep } from 'node:timers/promises';
import { createTidings } from '@tidings/node';

const tidings = createTidings({ url: process.env.TIDINGS_URL, key: process.env.TIDINGS_KEY });

const worker = tidings.worker('generate-report', async (job, { rows }) => {
  async function* pages() {
    yield 'number,customer\n';
    for (let n = 1; n <= rows; n += 1) {
      // As if a page came from a database.
      if (n % 100 === 0) await sleep(50, undefined, { signal: job.signal });
      job.progress({ current: n, total: rows, unit: 'rows' });
      yield `${n},customer ${n % 97}\n`;
    }
  }
  await job.artifact('report.csv', pages(), { contentType: 'text/csv' });
  await tidings.publish({ channel: job.tags[0], event: 'notification', data: { text: `${rows} rows are ready` } });
  return { rows };
});

console.log('waiting for jobs');
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => worker.stop());
