// node main.js bullmq|tidings produce|work|report --url URL …: one role in one process, timed alike on both sides.
//
// produce  --jobs N --batch B --rate R   makes N jobs, B at a time, R per second (0: as fast as they are answered)
// work     --workers W                   runs jobs until standard input ends; tells what is done as it goes
// report   --jobs N --reporters W --batch B --seconds S   reports progress of N running jobs in turns

import { parseArgs } from 'node:util'

import { micros, quantiles } from './measure.js'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: 'string' },
    jobs: { type: 'string', default: '10000' },
    batch: { type: 'string', default: '100' },
    rate: { type: 'string', default: '0' },
    workers: { type: 'string', default: '16' },
    reporters: { type: 'string', default: '16' },
    seconds: { type: 'string', default: '5' },
  },
})
const [side, role] = positionals
const { open } = await import(side === 'bullmq' ? './bullmq.js' : './tidings.js')
const number = (name) => Number(values[name])
const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`)
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

const queue = open({ url: values.url })
await queue.ready()
await { produce, work, report }[role]()
process.exit(0)

async function produce() {
  const [jobs, batch, rate] = [number('jobs'), number('batch'), number('rate')]
  const started = micros()
  const open = new Set()
  for (let made = 0; made < jobs; made += batch) {
    if (rate > 0) {
      const due = started + (made * 1e6) / rate
      if (due > micros()) await sleep((due - micros()) / 1000)
    }
    const inputs = Array.from({ length: Math.min(batch, jobs - made) }, () => ({ t: micros(), text: 'x'.repeat(60) }))
    const adding = queue.addMany(inputs).finally(() => open.delete(adding))
    open.add(adding)
    // At a rate, what is slow to be answered does not hold back the next; else one batch at a time.
    if (rate === 0) await adding
  }
  await Promise.all(open)
  print({ jobs, started, seconds: (micros() - started) / 1e6 })
}

async function work() {
  const latencies = []
  let last = 0
  await queue.work(number('workers'), (input) => {
    last = micros()
    latencies.push(last - input.t)
  })
  print({ done: 0 })
  const telling = setInterval(() => print({ done: latencies.length }), 50)
  process.stdin.resume()
  await new Promise((resolve) => process.stdin.once('end', resolve))
  clearInterval(telling)
  await queue.close()
  print({ done: latencies.length, last, took_us: quantiles(latencies) })
}

async function report() {
  const [count, reporters, batch] = [number('jobs'), number('reporters'), number('batch')]
  const jobs = await queue.running(count)
  // Behind an event of a job, tidings holds its progress back for a tenth of a second.
  await sleep(300)
  const share = Math.floor(count / reporters)
  const latencies = []
  const started = micros()
  const until = started + number('seconds') * 1e6
  // Every reporter has jobs of its own and takes them in turns, so that each of them is reported now and then.
  async function reporter(index) {
    const own = jobs.slice(index * share, (index + 1) * share)
    for (let turn = 0; micros() < until; turn += 1) {
      const at = (turn * batch) % share
      const progress = { progress: ((turn * batch) / share) % 100, step: 'bench' }
      const begun = micros()
      if (batch === 1) await queue.report(own[at], progress)
      else await queue.reportMany(own.slice(at, at + batch), progress)
      latencies.push(micros() - begun)
    }
  }
  await Promise.all(Array.from({ length: reporters }, (_, index) => reporter(index)))
  const seconds = (micros() - started) / 1e6
  print({ reports: latencies.length * batch, seconds, took_us: quantiles(latencies) })
}
