// The hooks under StrictMode: a page that counts its frames and renders, and one that changes its route.

import { Profiler, StrictMode, useState } from 'react'
import { createRoot } from 'react-dom/client'
import { QueryClient, QueryClientProvider, useQuery } from '@tanstack/react-query'
import { useEvent, useFeed, useJobProgress, useLatest } from '@tidings/react'
import { liveQueryOptions } from '@tidings/react/query'
import { swrSubscription } from '@tidings/react/swr'
import useSWRSubscription from 'swr/subscription'

const seen = { frames: 0, renders: 0, worst: 0, handled: [], ready: false, mounts: 0 }
globalThis.seen = seen

let inFrame = 0
requestAnimationFrame(function frame() {
  seen.frames += 1
  inFrame = 0
  requestAnimationFrame(frame)
})

function rendered() {
  seen.renders += 1
  inFrame += 1
  seen.worst = Math.max(seen.worst, inFrame)
}

function Many() {
  const { items, status } = useFeed('many', { limit: 100 })
  const { data } = useLatest('many', 'tick')
  useEvent('many', 'tick', ({ n }) => seen.handled.push(n))
  seen.ready = status.state === 'open'
  return <p id="many">{items.length} {data?.n}</p>
}

function Route({ channel }) {
  const { items, status } = useFeed(channel)
  return <p id="route">{channel} {status.state} {items.map(({ data }) => data.n).join()}</p>
}

function Job({ id }) {
  return <p id="job">{JSON.stringify(useJobProgress(id))}</p>
}

const queries = new QueryClient()
const newest = liveQueryOptions({
  queryKey: ['newest'],
  channel: 'adapted',
  async queryFn() {
    seen.fetches = (seen.fetches ?? 0) + 1
    const { events } = await (await fetch('/v1/history?channel=adapted&from=last:1')).json()
    return events[0]?.data.n ?? 0
  },
})
const ticks = swrSubscription('adapted', 'tick')

function Adapted() {
  const { data: fetched } = useQuery(newest)
  const { data: told } = useSWRSubscription('adapted', ticks)
  return <p id="adapted">{fetched} {told?.n}</p>
}

function App() {
  const [route, setRoute] = useState(null)
  globalThis.go = setRoute
  if (route === 'many') return <Profiler id="many" onRender={rendered}><Many /></Profiler>
  if (route === 'adapted') return <QueryClientProvider client={queries}><Adapted /></QueryClientProvider>
  if (route?.startsWith('job:')) return <Job id={route.slice(4)} />
  return route && <Route key={route} channel={route} />
}

createRoot(document.getElementById('root')).render(<StrictMode><App /></StrictMode>)
