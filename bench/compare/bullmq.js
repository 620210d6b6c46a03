// BullMQ on Redis, as its guide has it: one queue, workers in this process.

import { Queue, Worker } from 'bullmq'

const QUEUE = 'bench'

export function open({ url }) {
  const { hostname, port } = new URL(url)
  const connection = { host: hostname, port: Number(port), maxRetriesPerRequest: null }
  const queue = new Queue(QUEUE, { connection })
  let worker
  return {
    ready: () => queue.waitUntilReady(),

    /** All of them are there when this returns. */
    addMany: (inputs) => queue.addBulk(inputs.map((data) => ({ name: 'bench', data }))),

    /** Runs jobs, `workers` at a time; `done` is called when a completion was answered. */
    async work(workers, done) {
      worker = new Worker(QUEUE, async () => ({ ok: true }), { connection, concurrency: workers })
      worker.on('completed', (job) => done(job.data))
      worker.on('error', (error) => {
        throw error
      })
      await worker.waitUntilReady()
    },

    /** Jobs that can be reported on. */
    async running(count) {
      const jobs = []
      while (jobs.length < count) {
        const names = Array.from({ length: Math.min(1000, count - jobs.length) })
        jobs.push(...(await queue.addBulk(names.map(() => ({ name: 'bench', data: {} })))))
      }
      return jobs
    },

    report: (job, progress) => job.updateProgress(progress),

    reportMany: (jobs, progress) => Promise.all(jobs.map((job) => job.updateProgress(progress))),

    async close() {
      await worker?.close()
      await queue.close()
    },
  }
}
