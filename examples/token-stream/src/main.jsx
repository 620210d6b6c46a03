// A stream of tokens that survives a reload in the middle.
//
//     tidings serve --dev
//     node model.mjs
//     npm run dev

import { StrictMode, useState } from 'react'
import { createRoot } from 'react-dom/client'
import { useFeed, useTidings } from '@tidings/react'

const NOTHING = { text: '', attempt: 1, state: 'queued', error: null }

/** The answer is what the events of its job make of it, from the first one on. */
function reduce([answer = NOTHING], { event, data }) {
  switch (event) {
    case 'output': return [{ ...answer, text: answer.text + data.chunk }]
    case 'complete': return [{ ...answer, state: 'completed' }]
    case 'error': return [{ ...answer, state: data.state, error: data.message }]
    // Another attempt says everything anew.
    case 'progress': return [{ ...answer, text: data.attempt === answer.attempt ? answer.text : '', attempt: data.attempt, state: data.state }]
    default: return [answer]
  }
}

function Ask() {
  const client = useTidings()
  // The job is in the address: that is all a reload needs.
  const [id, setId] = useState(location.hash.slice(1) || null)
  const [question, setQuestion] = useState('What happens if I reload?')
  const [refused, setRefused] = useState(null)
  // One item, the answer; `start` is the job's first event.
  const { items: [answer = NOTHING] } = useFeed(id && `job:${id}`, { from: 'start', limit: 1, reduce })
  const speaking = id !== null && !['completed', 'failed', 'cancelled', 'expired'].includes(answer.state)

  async function ask(event) {
    event.preventDefault()
    const made = await client.fetch('/v1/jobs', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ type: 'answer', input: { question } }),
    }).then((answer) => answer.json(), (error) => ({ detail: error.message }))
    setRefused(made.detail ?? null)
    if (!made.jobId) return
    history.replaceState(null, '', `#${made.jobId}`)
    setId(made.jobId)
  }

  return (
    <main>
      <header>
        <h1>Ask</h1>
        <p className="pill" id="state" data-state={id ? answer.state : 'idle'} role="status">{id ? answer.state : 'ready'}</p>
      </header>
      <form onSubmit={ask}>
        <label className="unseen" htmlFor="question">Your question</label>
        <input id="question" maxLength="200" required value={question} onChange={(event) => setQuestion(event.target.value)} />
        {speaking
          ? <button type="button" id="stop" onClick={() => client.fetch(`/v1/jobs/${id}/cancel`, { method: 'POST' })}>Stop</button>
          : <button className="primary">Ask</button>}
      </form>
      <article aria-live="polite" aria-busy={speaking}>
        <p id="answer" data-speaking={speaking}>{answer.text}</p>
        {(refused ?? answer.error) && <p className="error" role="alert">{refused ?? answer.error}</p>}
      </article>
      <footer>
        <button id="reload" onClick={() => location.reload()}>Reload now</button>
        <a className="button" href={`#${id ?? ''}`} target="_blank" rel="noopener">New window</a>
      </footer>
    </main>
  )
}

createRoot(document.getElementById('root')).render(<StrictMode><Ask /></StrictMode>)
