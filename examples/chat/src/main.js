// A chat: what others say comes over the stream, what you say is a POST.
//
//     tidings serve --dev
//     npm run dev, and open the page twice

import { createClient } from '@tidings/client'

const CHANNEL = 'chat:lobby'
const $ = (id) => document.getElementById(id)
const client = createClient({ onError: (error) => console.warn(error) })

// The newest posts first, then everything behind them.
const history = await (await client.fetch(`/v1/history?channel=${CHANNEL}&from=last:50`)).json()
history.events.forEach(show)
client.subscribe(CHANNEL, { from: { id: history.next } })
  .on('post', (_, event) => show(event))
  .onReset(() => location.reload())

client.onStatus(({ state }) => {
  $('state').textContent = state === 'open' ? 'Live' : 'Connecting'
  $('state').dataset.state = state
})

// A tab each, so that you can talk to yourself.
$('name').value = sessionStorage.getItem('name') ?? `Guest ${Math.ceil(Math.random() * 99)}`
$('name').addEventListener('change', () => sessionStorage.setItem('name', $('name').value))

$('form').addEventListener('submit', (event) => {
  event.preventDefault()
  const data = { key: crypto.randomUUID(), name: $('name').value, text: $('text').value }
  $('text').value = ''
  $('text').focus()
  sessionStorage.setItem('name', data.name)
  show({ data, time: Date.now() }).dataset.state = 'sending'
  send(data)
})

async function send(data) {
  const post = $(data.key)
  try {
    const answer = await client.fetch('/v1/publish', {
      method: 'POST',
      // Sent twice with the same key, it is there once.
      headers: { 'Content-Type': 'application/json', 'Idempotency-Key': data.key },
      body: JSON.stringify({ channel: CHANNEL, event: 'post', data }),
    })
    if (!answer.ok) throw new Error((await answer.json()).detail)
  } catch (error) {
    // It may have arrived all the same; then its event has come.
    if (post.dataset.state !== 'sending') return
    post.dataset.state = 'failed'
    post.title = error.message
    post.onclick = () => {
      post.dataset.state = 'sending'
      post.onclick = null
      send(data)
    }
  }
}

/** Shows a post where its event stands in the channel; one of your own is there already. */
function show({ data, time }) {
  const list = $('posts')
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60
  const post = $(data.key) ?? document.createElement('li')
  post.id = data.key
  post.dataset.state = 'sent'
  post.onclick = null
  post.className = data.name === $('name').value ? 'mine' : ''
  const from = document.createElement('span')
  from.textContent = `${data.name}, ${new Date(time).toLocaleTimeString('en', { hour: '2-digit', minute: '2-digit' })}`
  const text = document.createElement('p')
  text.textContent = data.text
  post.replaceChildren(from, text)
  list.append(post)
  if (atEnd) list.scrollTop = list.scrollHeight
  return post
}
