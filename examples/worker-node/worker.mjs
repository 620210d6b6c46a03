// Runs jobs of tidings over HTTP, without any package (Node 20 or newer).
//
//     TIDINGS_URL=http://127.0.0.1:4080 node worker.mjs
//
// Copy it, and put your own functions into `handlers`. A process runs one job at a time; start as many as you like.
// SIGTERM gives the running job back, same attempt, and ends.

import { createReadStream, createWriteStream } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'

const URL = (process.env.TIDINGS_URL ?? 'http://127.0.0.1:4080').replace(/\/$/, '')
const QUEUE = process.env.QUEUE ?? 'default'
const WORKER = `node-${hostname().slice(0, 64)}-${process.pid}`
/** A file that is refused looks like a lost connection if the refusal comes before its last byte. */
const UPLOADS = 8

/** Aborted when this process is to end. */
const stopping = new AbortController()

/** A handler throws it when another attempt would fail too. */
class Hopeless extends Error {}
/** The handler is to stop: its job was cancelled or lost, or this process ends. */
class Stop extends Error {}
/** No answer, or one that asks to come back later. */
class Unreachable extends Error {}

const handlers = {
  /** Stands for your own work: a CSV, page by page, as if from a database. */
  async 'generate-report'(job) {
    const rows = job.input?.rows
    if (!Number.isInteger(rows) || rows < 1) throw new Hopeless('rows has to be a whole number above 0')
    await job.log(`a report of ${rows} rows, attempt ${job.attempt}`)
    const folder = await mkdtemp(join(process.env.REPORTS_DIR ?? tmpdir(), 'report-'))
    try {
      const file = join(folder, 'report.csv')
      await pipeline(pages(job, rows), createWriteStream(file), { signal: job.signal })
      await job.artifact('report.csv', file, 'text/csv')
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
    return { rows }
  },
}

async function* pages(job, rows) {
  yield 'number,customer,cents\n'
  for (let first = 1; first <= rows; first += 100) {
    const last = Math.min(first + 99, rows)
    let page = ''
    for (let n = first; n <= last; n += 1) page += `${n},customer ${n % 97},${(n * 37) % 10_000}\n`
    yield page
    await sleep(50)
    await job.progress({ current: last, total: rows, unit: 'rows', step: 'writing' })
  }
}

/** What a handler has of its job. `signal` is aborted when there is no use in going on. */
function jobOf({ id, type, input, attempt, lease }) {
  const aborted = new AbortController()
  const path = `/v1/jobs/${encodeURIComponent(id)}`
  const state = { cancelled: false, lost: false }
  let reports = 0

  function told({ lost = false, cancelled = false }) {
    state.lost ||= lost
    state.cancelled ||= cancelled
    if (state.lost || state.cancelled || stopping.signal.aborted) aborted.abort(new Stop('the job is to stop'))
  }

  async function send(method, part, body, headers = {}) {
    const { status, answer } = await request(method, `${path}/${part}`, body, { 'Tidings-Lease': lease.token, ...headers })
    // Somebody else has it, or it has ended: what was done is discarded.
    if (status === 404 || status === 409) {
      told({ lost: true })
      throw aborted.signal.reason
    }
    if (status >= 400) throw new Error(`${part}: ${answer?.code}: ${answer?.detail}`)
    told({ cancelled: Boolean(answer.cancel) })
  }

  /** The counter makes a report that is sent twice take effect once. Wait for each before the next. */
  const report = (fields) => ({ ...fields, lease: lease.token, attempt, n: (reports += 1) })

  /** Sends until tidings has taken it: leases outlive a restart of the server. A file is opened anew for every try. */
  async function surely(method, part, body, headers) {
    let tries = 0
    for (const pause of pauses()) {
      try {
        return await send(method, part, typeof body === 'function' ? body() : body, headers)
      } catch (error) {
        tries += 1
        if (!(error instanceof Unreachable) || (method === 'PUT' && tries === UPLOADS)) throw error
        say(`${id}: ${part}: ${error.message}; again in ${Math.round(pause)} ms`)
        // The lease will expire, and the job run again.
        if (stopping.signal.aborted && pause > 2_000) throw new Stop(error.message)
        await sleep(pause)
      }
    }
  }

  async function renew() {
    const leases = [{ id, token: lease.token }]
    const { status, answer } = await request('POST', '/v1/leases:renew', { worker_id: WORKER, leases })
    if (status !== 200) return
    if (answer.worker.state === 'stop') stopping.abort()
    told({ lost: answer.leases[0].status === 'lost', cancelled: answer.leases[0].status === 'cancel' })
  }

  // There is time for one more before the lease expires.
  const timer = setInterval(() => renew().catch(() => {}), lease.renew_every_ms)
  const onStop = () => told({})
  stopping.signal.addEventListener('abort', onStop)
  onStop()

  return {
    id, type, input, attempt, state, signal: aborted.signal,

    /** `progress` (0-100), or `current` and `total`; `unit`, `step`, `message`, `eta_ms`, `data`. */
    async progress(fields) {
      aborted.signal.throwIfAborted()
      // Without an answer the work goes on, and the next progress says more.
      await send('POST', 'progress', report(fields)).catch((error) => {
        if (!(error instanceof Unreachable)) throw error
      })
      aborted.signal.throwIfAborted()
    },

    log: (message, level = 'info') => surely('POST', 'logs', report({ message, level })),

    artifact: (name, file, type = 'application/octet-stream') =>
      surely('PUT', `artifacts/${encodeURIComponent(name)}`, () => createReadStream(file), { 'Content-Type': type }),

    async end(kind, fields) {
      try {
        if (!state.lost) await surely('POST', kind, report(fields))
      } catch (error) {
        say(`${id}: ${kind} was not taken: ${error.message}`)
      } finally {
        clearInterval(timer)
        stopping.signal.removeEventListener('abort', onStop)
      }
      say(`${id}: attempt ${attempt}: ${state.lost ? 'lost' : kind}`)
    },
  }
}

async function run(job) {
  let ended
  try {
    job.signal.throwIfAborted()
    ended = ['complete', { result: (await handlers[job.type](job)) ?? null }]
  } catch (error) {
    if (job.state.cancelled) ended = ['fail', { message: 'cancelled', state: 'cancelled' }]
    else if (job.signal.aborted) ended = ['release', {}]
    else if (error instanceof Hopeless) ended = ['fail', { message: error.message, retry: 'never' }]
    else ended = ['fail', { error: { message: error.message, code: error.code ?? error.name, stack: error.stack } }]
  }
  await job.end(...ended)
}

/** One request: its status and JSON. */
async function request(method, path, body, headers = {}) {
  const isFile = body instanceof Readable
  try {
    const answer = await fetch(URL + path, {
      method,
      headers: isFile ? headers : { 'Content-Type': 'application/json', ...headers },
      body: isFile ? body : JSON.stringify(body),
      signal: isFile ? null : AbortSignal.timeout(60_000),
      duplex: 'half',
    })
    const text = await answer.text()
    if ([408, 429, 500, 502, 503, 504].includes(answer.status)) throw new Error(`${answer.status} ${text.slice(0, 200)}`)
    return { status: answer.status, answer: text.startsWith('{') ? JSON.parse(text) : null }
  } catch (error) {
    throw new Unreachable(error.cause?.message ?? error.message)
  }
}

/** Milliseconds to wait before each next try: longer and longer, and not at the same time as everybody else. */
function* pauses() {
  for (let longest = 500; ; longest = Math.min(longest * 2, 30_000)) yield longest * (0.5 + Math.random() / 2)
}

function say(text) {
  console.error(text)
}

for (const signal of ['SIGTERM', 'SIGINT']) {
  // A second one ends the process at once.
  process.once(signal, () => {
    stopping.abort()
    // The request for jobs that waits is answered now, and no job gets lost on its way here. One that was about to be
    // made is answered the next time.
    const hush = () => request('PUT', `/v1/workers/${WORKER}`, { state: 'stop' }).catch(() => {})
    setInterval(hush, 1_000).unref()
    hush()
  })
}

const types = Object.keys(handlers)
say(`${WORKER} takes ${types} of ${QUEUE} from ${URL}`)
let pause = pauses()
while (!stopping.signal.aborted) {
  try {
    const wanted = { worker_id: WORKER, types }
    const { status, answer } = await request('POST', `/v1/queues/${encodeURIComponent(QUEUE)}/lease`, wanted)
    if (status >= 400) {
      say(`no jobs: ${answer?.code}: ${answer?.detail}`)
      process.exit(1)
    }
    pause = pauses()
    for (const leased of answer?.jobs ?? []) await run(jobOf(leased))
    if (answer?.worker.state === 'stop') break
  } catch (error) {
    if (!(error instanceof Unreachable)) throw error
    const ms = pause.next().value
    say(`no jobs: ${error.message}; again in ${Math.round(ms)} ms`)
    await sleep(ms, null, { signal: stopping.signal }).catch(() => {})
  }
}
say(`${WORKER} has stopped`)
