// An export with live progress. It survives a reload, a second tab and a restart of the server.
//
//     tidings serve --dev --job-route /api/exports=generate-report
//     node examples/worker-node/worker.mjs
//     npm run dev

import { StrictMode, useState } from 'react'
import { createRoot } from 'react-dom/client'
import { useStartJob, useTidingsStatus } from '@tidings/react'

const RUNNING = ['scheduled', 'queued', 'running', 'retrying']

function Export() {
  const [rows, setRows] = useState(6000)
  // The job is in the address, so that a reload goes on watching it, and the address can be shared.
  const { start, starting, error, job } = useStartJob('/api/exports', { initialId: location.hash.slice(1) || null })
  const busy = starting || RUNNING.includes(job.state)
  const remember = (id) => id && history.replaceState(null, '', `#${id}`)

  return (
    <main>
      <header>
        <div>
          <h1>Export orders</h1>
          <p className="quiet">Every order, as a CSV file.</p>
        </div>
        <p className="pill" data-state={job.state} role="status">{label(job)}</p>
      </header>

      <section className="progress" data-state={job.state}>
        <p className="percent">{Math.floor(job.progress)}<small>%</small></p>
        <p className="rows">{count(job.job)}</p>
        <div className="bar" role="progressbar" aria-label="Export" aria-valuenow={Math.floor(job.progress)} aria-valuemin={0} aria-valuemax={100}>
          <div style={{ width: `${job.progress}%` }} />
        </div>
        <p className="quiet" id="message">{message(job)}</p>
      </section>

      {(error ?? job.error) && job.state !== 'cancelled' && <p className="error" role="alert">{(error ?? job.error).message}</p>}

      <form onSubmit={(event) => { event.preventDefault(); start({ rows }).then(remember) }}>
        <label>Orders <input id="rows" type="number" min="1" max="1000000" required value={rows} onChange={(event) => setRows(event.target.valueAsNumber)} /></label>
        <button id="export" className={job.downloadUrl ? '' : 'primary'} disabled={busy}>Export</button>
        {busy && <button type="button" id="cancel" onClick={() => job.cancel()}>Cancel</button>}
        {['failed', 'cancelled', 'expired'].includes(job.state) &&
          <button type="button" id="retry" onClick={() => job.retry().then(remember)}>Try again</button>}
        {job.downloadUrl && <a className="button primary" id="download" href={job.downloadUrl}>Download</a>}
      </form>
      <Connection />
    </main>
  )
}

/** What the connection that jobs without a path of their own share is doing. */
function Connection() {
  const status = useTidingsStatus()
  return status.state === 'waiting' || status.state === 'paused'
    ? <p className="quiet">Offline. The export goes on, and so does this page when it is back.</p>
    : null
}

function label({ state }) {
  return { idle: 'Ready', loading: 'Loading', unavailable: 'Not found' }[state] ?? state
}

function count(job) {
  return job?.total ? `${job.current.toLocaleString('en')} of ${job.total.toLocaleString('en')} rows` : ' '
}

function message({ state, message, job }) {
  if (state === 'idle') return 'Choose how many orders, and begin.'
  if (state === 'queued') return 'Waiting for a worker.'
  if (state === 'retrying') return `Attempt ${job.attempt} of ${job.max_attempts} begins soon.`
  if (state === 'completed') return `${job.result.rows.toLocaleString('en')} orders are exported.`
  if (state === 'cancelled') return 'It was cancelled.'
  return message ?? ' '
}

createRoot(document.getElementById('root')).render(<StrictMode><Export /></StrictMode>)
