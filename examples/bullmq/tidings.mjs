// Lets the jobs of a BullMQ queue be watched, cancelled and downloaded on tidings. The queue stays as it is: it runs the
// jobs, and what is here only reports what became of them. While tidings is away the queue goes on; only a job that has
// a file to store waits with it.

import { createReadStream } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

const URL = (process.env.TIDINGS_URL ?? 'http://127.0.0.1:4080').replace(/\/$/, '')
const BEAT_MS = 2_000
/** A job that nobody reported on for this long, because every worker is gone, has failed with the code `lost`. */
const STALE_MS = 60_000
/** How long a report is tried before it is given up. */
const PATIENCE_MS = 10 * 60_000

const pathOf = (queue, id) => `/v1/jobs/${encodeURIComponent(`bull:${queue}:${id}`)}`

/** Where a page watches a job: `new EventSource(eventsUrl('reports', id))`. */
export const eventsUrl = (queue, id) => `${URL}${pathOf(queue, id)}/events`

/** Shows a job before it is added, so that a page sees it wait. If tidings is away, it shows when a worker takes it. */
export const announce = (queue, id, type) =>
  send('PUT', pathOf(queue, id), { type, queue, state: 'queued' }, 1_000).catch((error) => console.error(error.message))

/** Stores a file with a job. */
export const upload = (job, name, file) =>
  send('PUT', `${pathOf(job.queueName, job.id)}/artifacts/${encodeURIComponent(name)}`, () => createReadStream(file))

/** Reports what a worker does. Returns a function that waits until all of it has arrived. */
export function mirror(worker) {
  /** Jobs that run, and those that are to stop. */
  const running = new Map()
  const cancelled = new Set()
  /** Reports of a job on their way, in order. */
  const waiting = new Map()

  function tell(job, method, part, body) {
    const reports = waiting.get(job.id) ?? []
    // Progress that was not sent yet is replaced: while tidings is away, it must not pile up.
    if (part === '/progress' && reports.length > 1 && reports.at(-1).part === part) reports.pop()
    reports.push({ method, part, body })
    if (waiting.has(job.id)) return
    waiting.set(job.id, reports)
    reports.sent = sendAll(job, reports)
  }

  async function sendAll(job, reports) {
    for (; reports.length > 0; reports.shift()) {
      const { method, part, body } = reports[0]
      try {
        const answer = await send(method, pathOf(job.queueName, job.id) + part, body)
        if (answer.cancel_requested && running.has(job.id)) {
          cancelled.add(job.id)
          worker.cancelJob(job.id, 'cancelled')
        }
      } catch (error) {
        console.error(`${job.id}: ${error.message}`)
      }
    }
    waiting.delete(job.id)
  }

  function failure(job, error) {
    const report = { message: error.message, code: error.name, attempt: job.attemptsStarted }
    if (job.finishedOn) return { ...report, state: cancelled.has(job.id) ? 'cancelled' : 'failed' }
    return { ...report, retrying: true, next_attempt_at: Date.now() + job.delay }
  }

  worker.on('active', (job) => {
    running.set(job.id, job)
    tell(job, 'PUT', '', { type: job.name, queue: job.queueName, state: 'running', stale_after_ms: STALE_MS })
    // A worker that died has not told that its attempt is over: this begins the next.
    if (job.attemptsStarted > 1) tell(job, 'POST', '/progress', { progress: 0, attempt: job.attemptsStarted })
  })
  worker.on('progress', (job, progress) => {
    const report = typeof progress === 'number' ? { progress } : progress
    tell(job, 'POST', '/progress', { ...report, attempt: job.attemptsStarted })
  })
  worker.on('completed', (job, result) => {
    running.delete(job.id)
    tell(job, 'POST', '/complete', { result, attempt: job.attemptsStarted })
    cancelled.delete(job.id)
  })
  worker.on('failed', (job, error) => {
    if (!job) return
    running.delete(job.id)
    tell(job, 'POST', '/fail', failure(job, error))
    cancelled.delete(job.id)
  })
  // Even a job that says nothing is alive, and can be cancelled.
  const timer = setInterval(() => {
    for (const job of running.values()) if (!waiting.has(job.id)) tell(job, 'POST', '/heartbeat', {})
  }, BEAT_MS)

  return async () => {
    clearInterval(timer)
    await Promise.all([...waiting.values()].map(({ sent }) => sent))
  }
}

/** One request, repeated while tidings is away. A body that is a function is made anew for every try. */
async function send(method, path, body, patienceMs = PATIENCE_MS) {
  const isFile = typeof body === 'function'
  const giveUp = Date.now() + patienceMs
  for (let pause = 250; ; pause = Math.min(pause * 2, 10_000)) {
    try {
      const answer = await fetch(URL + path, {
        method,
        headers: { 'Content-Type': isFile ? 'application/octet-stream' : 'application/json' },
        body: isFile ? body() : JSON.stringify(body),
        duplex: 'half',
      })
      const text = await answer.text()
      if (answer.ok) return JSON.parse(text)
      const problem = new Error(`${method} ${path}: ${answer.status} ${text}`)
      // A mistake, or a job that has ended: the same again would be refused again. Only a file may have come before the
      // report that shows its job.
      problem.isFinal = answer.status < 500 && answer.status !== 429 && !(isFile && answer.status === 404)
      throw problem
    } catch (error) {
      if (error.isFinal || Date.now() > giveUp) throw error
      await sleep(pause * (0.5 + Math.random() / 2))
    }
  }
}
