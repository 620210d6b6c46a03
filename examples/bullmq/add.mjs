// Adds a job, and prints where a page can watch it: node add.mjs 5000

import { randomUUID } from 'node:crypto'
import { Queue } from 'bullmq'
import { announce, eventsUrl } from './tidings.mjs'

const queue = new Queue('reports', { connection: { url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379' } })
const jobId = randomUUID()
const rows = Number(process.argv[2] ?? 5_000)

// First announced, then added: afterwards, the worker might be faster.
await announce('reports', jobId, 'generate-report')
await queue.add('generate-report', { rows }, { jobId, attempts: 5, backoff: { type: 'exponential', delay: 1_000 } })
console.log(eventsUrl('reports', jobId))
await queue.close()
