// A chat: what others say comes over the stream, what you say is a POST.
//
//     tidings serve --dev
//     npm run dev, and open the page twice

import { createClient } from '@tidings/client'

const CHANNEL = 'chat:lobby'
const $ = (id) => document.getElementById(id)
const client = createClient({ onError: (error) => console.warn(error) })
/** Posts of this page whose events have yet to come, by their keys: what others send never takes their place, or another's. */
const waiting = new Map()

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
  const post = show({ data, time: Date.now() })
  waiting.set(data.key, post)
  send(post, data)
})

async function send(post, data) {
  post.dataset.state = 'sending'
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
    const retry = document.createElement('button')
    retry.textContent = 'Not sent, try again'
    retry.title = error.message
    retry.addEventListener('click', () => {
      retry.remove()
      $('text').focus()
      send(post, data)
    })
    post.append(retry)
  }
}

/** Shows a post where its event stands in the channel; one of your own is there already. */
function show({ data, time }) {
  const list = $('posts')
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60
  const post = waiting.get(data.key) ?? document.createElement('li')
  waiting.delete(data.key)
  post.dataset.state = 'sent'
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
