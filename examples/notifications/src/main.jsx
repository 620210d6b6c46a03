// Notifications with unread state, the same in every tab. What is read in one is read in all of them.
//
//     tidings serve --dev
//     npm run dev, and open the page twice

import { StrictMode, useEffect } from 'react'
import { createRoot } from 'react-dom/client'
import { useFeed, useTidings, useTidingsStatus } from '@tidings/react'

// With --dev everybody is the subject `dev`; with tokens it is who is logged in.
const CHANNEL = 'user:dev'

/** The list is what its events make of it, whether they come from history or now. */
function reduce(list, { event, id, time, data }) {
  if (event === 'notification') return [...list, { id, time, read: false, ...data }]
  if (event !== 'read') return list
  const newest = list.findIndex((note) => note.id === data.upTo)
  return list.map((note, at) => (at <= newest ? { ...note, read: true } : note))
}

function Inbox({ history }) {
  const { items, error } = useFeed(CHANNEL, {
    initialItems: history.events.reduce(reduce, []),
    // Right behind what history had: nothing falls between the two.
    from: { id: history.next },
    limit: 100,
    reduce,
    onReset: () => location.reload(),
  })
  const client = useTidings()
  const unread = items.filter(({ read }) => !read).length
  useEffect(() => { document.title = unread > 0 ? `(${unread}) Notifications` : 'Notifications' }, [unread])

  const publish = (event, data) => client.fetch('/v1/publish', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ channel: CHANNEL, event, data }),
  })

  return (
    <main>
      <header>
        <h1>Notifications {unread > 0 && <span className="badge" id="unread">{unread}</span>}</h1>
        <Connection />
      </header>
      <nav>
        <button className="primary" id="send" onClick={() => publish('notification', anyNote())}>Send one</button>
        <button id="read" disabled={unread === 0} onClick={() => publish('read', { upTo: items.at(-1).id })}>Mark all as read</button>
        <a className="button" href="./" target="_blank" rel="noopener">Second tab</a>
      </nav>
      {error && <p className="error" role="alert">{error.message}</p>}
      {items.length === 0 && <p className="empty">Nothing yet. Send one, and watch every tab.</p>}
      <ol aria-live="polite">
        {items.toReversed().map(({ id, kind, title, text, time, read }) => (
          <li key={id} data-read={read} data-kind={kind}>
            <strong>{title}</strong>
            <time dateTime={new Date(time).toISOString()}>{new Date(time).toLocaleTimeString('en', { hour: '2-digit', minute: '2-digit' })}</time>
            <span>{text}</span>
          </li>
        ))}
      </ol>
    </main>
  )
}

function Connection() {
  const status = useTidingsStatus()
  const text = status.state === 'open' ? (status.via === 'peer-tab' ? 'Live, over another tab' : 'Live') : 'Connecting'
  return <p className="pill" id="state" data-state={status.state} role="status">{text}</p>
}

let sent = 0
function anyNote() {
  const notes = [
    { kind: 'success', title: 'Report is ready', text: 'orders.csv, 100,000 rows' },
    { kind: 'info', title: 'Ann mentioned you', text: '“Can you have a look at the invoice?”' },
    { kind: 'warning', title: 'Storage is almost full', text: '91 % of 50 GB are used' },
  ]
  return notes[(sent += 1) % notes.length]
}

const answer = await fetch(`/v1/history?channel=${CHANNEL}&from=last:100`)
const history = await answer.json()
createRoot(document.getElementById('root')).render(<StrictMode><Inbox history={history} /></StrictMode>)
