// A BullMQ worker as you have one already. What tidings adds: `mirror`, `upload`, and the signal for cancelling.
//
//     TIDINGS_URL=http://127.0.0.1:4080 REDIS_URL=redis://127.0.0.1:6379 node worker.mjs

import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { UnrecoverableError, Worker } from 'bullmq'
import { mirror, upload } from './tidings.mjs'

const connection = { url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379', maxRetriesPerRequest: null }

/** Makes a CSV, page by page, as if from a database. */
async function generateReport(job, token, signal) {
  const { rows } = job.data
  if (!Number.isInteger(rows) || rows < 1) throw new UnrecoverableError('rows has to be a whole number above 0')
  const folder = await mkdtemp(join(process.env.REPORTS_DIR ?? tmpdir(), 'report-'))
  try {
    const file = await open(join(folder, 'report.csv'), 'w')
    try {
      await file.write('number,customer,cents\n')
      for (let first = 1; first <= rows; first += 100) {
        // Without UnrecoverableError, BullMQ would try again what was cancelled.
        if (signal.aborted) throw new UnrecoverableError('cancelled')
        const last = Math.min(first + 99, rows)
        for (let n = first; n <= last; n += 1) await file.write(`${n},customer ${n % 97},${(n * 37) % 10_000}\n`)
        await sleep(50)
        await job.updateProgress({ current: last, total: rows, unit: 'rows', step: 'writing' })
      }
    } finally {
      await file.close()
    }
    await upload(job, 'report.csv', join(folder, 'report.csv'))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  return { rows }
}

const worker = new Worker('reports', generateReport, { connection, concurrency: 4 })
worker.on('error', (error) => console.error(error.message))
const arrived = mirror(worker)

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, async () => {
    // Jobs that run end first, and their reports arrive; but Redis or tidings may be away.
    await Promise.race([worker.close().then(arrived), sleep(25_000)])
    process.exit(0)
  })
}
await worker.waitUntilReady()
console.log('waiting for reports')
