// Stands for a language model: takes questions from the queue, and says its answer token by token.
//
//     TIDINGS_URL=http://127.0.0.1:4080 node model.mjs
//
// Put the stream of your own model into `tokens`.

import { setTimeout as sleep } from 'node:timers/promises'
import { createTidings } from '@tidings/node'

const tidings = createTidings({ url: process.env.TIDINGS_URL ?? 'http://127.0.0.1:4080' })
const PACE_MS = Number(process.env.PACE_MS ?? 40)

const worker = tidings.worker('answer', async (job, { question }) => {
  let text = ''
  for await (const token of tokens(question, job.signal)) {
    // Stored, in order, and once, however often it has to be sent.
    job.output(token)
    text += token
  }
  return { text }
  // If this process dies, another one begins the answer anew after five seconds.
}, { leaseMs: 5_000 })
console.log('answers')

async function* tokens(question, signal) {
  const answer = `You asked: “${question}”\n\n`
    + 'Every token of this answer is an event of its job, with an id, in a log on the disk. '
    + 'That is why you can reload this page in the middle of a word, close it and come back, or open the address in a second window: '
    + 'what was said before is read from the log, and what follows joins right behind it, without a gap and without a stutter.\n\n'
    + 'The model does not notice any of this. It runs in a process of its own, which took the question from a queue. '
    + 'Should that process die, another one begins the answer again, and the page throws away what the first one said.'
  for (const token of answer.match(/\s*\S{1,6}/gu)) {
    await sleep(PACE_MS, undefined, { signal })
    yield token
  }
}

process.once('SIGTERM', () => worker.stop({ graceMs: 1_000 }))
process.once('SIGINT', () => worker.stop({ graceMs: 1_000 }))
