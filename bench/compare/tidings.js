// tidings over HTTP, as spec/wire.md, 11 has it: each worker is a loop of lease and complete.

import { Agent, request } from 'node:http'

const QUEUE = 'bench'

export function open({ url }) {
  const agent = new Agent({ keepAlive: true, maxSockets: 256 })
  const call = (method, path, body, type = 'application/json') =>
    new Promise((resolve, reject) => {
      const bytes = Buffer.from(body)
      const headers = { 'Content-Type': type, 'Content-Length': bytes.length }
      const sent = request(new URL(path, url), { method, agent, headers }, (answer) => {
        const chunks = []
        answer.on('data', (chunk) => chunks.push(chunk))
        answer.on('error', reject)
        answer.on('end', () => {
          const text = Buffer.concat(chunks).toString()
          if (answer.statusCode >= 300) reject(new Error(`${path}: ${answer.statusCode} ${text}`))
          else resolve({ status: answer.statusCode, text })
        })
      })
      sent.on('error', reject)
      sent.end(bytes)
    })
  const post = (path, value) => call('POST', path, JSON.stringify(value))
  let isOver = false

  async function worker(id, done) {
    const ask = { worker_id: id, max: 1, wait_ms: 1000 }
    while (!isOver) {
      const leased = await post(`/v1/queues/${QUEUE}/lease`, ask)
      if (leased.status === 204) continue
      for (const job of JSON.parse(leased.text).jobs) {
        await post(`/v1/jobs/${job.id}/complete`, { lease: job.lease.token, result: { ok: true } })
        done(job.input)
      }
    }
  }

  return {
    ready: () => call('GET', '/readyz', ''),

    /** All of them are there when this returns. */
    addMany: (inputs) =>
      Promise.all(inputs.map((input) => post('/v1/jobs', { type: 'bench', queue: QUEUE, input }))),

    /** Runs jobs, `workers` at a time; `done` is called when a completion was answered. */
    async work(workers, done) {
      for (let index = 0; index < workers; index += 1) {
        worker(`${process.pid}.${index}`, done).catch((error) => {
          throw error
        })
      }
    },

    /** Jobs that can be reported on. */
    async running(count) {
      const ids = Array.from({ length: count }, (_, index) => `bench:${process.pid}:${index}`)
      for (let from = 0; from < count; from += 1000) {
        const lines = ids
          .slice(from, from + 1000)
          .map((id) => JSON.stringify({ id, report: 'upsert', type: 'bench', state: 'running' }))
        refuse(await call('POST', '/v1/jobs:report', lines.join('\n'), 'application/x-ndjson'))
      }
      return ids
    },

    async report(id, progress) {
      const answer = await post(`/v1/jobs/${id}/progress`, progress)
      if (answer.status !== 200) throw new Error(`a report was not stored: ${answer.text}`)
    },

    async reportMany(ids, progress) {
      const lines = ids.map((id) => JSON.stringify({ id, report: 'progress', ...progress }))
      const answer = await call('POST', '/v1/jobs:report', lines.join('\n'), 'application/x-ndjson')
      refuse(answer)
      if (answer.text.includes('"stored":false')) throw new Error('a report was not stored')
    },

    async close() {
      isOver = true
    },
  }
}

function refuse({ text }) {
  if (text.includes('"code":')) throw new Error(text.split('\n').find((line) => line.includes('"code":')))
}
