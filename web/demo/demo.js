// The demo page: one EventSource for everything that arrives, fetch for everything that is sent.
//
// Owns: what is on the screen. Does not know: how the server stores or delivers events.
// Flow: in ← events of one stream, answers of a few requests … out → the DOM, always by textContent.
//
// Part 1, "The stream", is the part worth copying into a page of your own.

const CHANNELS = ['demo:ticks', 'demo:notifications', 'demo:chat'];
const WIRE_ROWS = 30;
const STATS = 5;
const TICK_CELLS = 140;
const CATCH_UP_MS = 1000;

const $ = (id) => document.getElementById(id);
const number = (n) => Number(n).toLocaleString('en', { maximumFractionDigits: 1 });

// ---- 1. The stream ----

let source; //             the one EventSource of this tab
let lastId = ''; //        the last event id that was handled
let jobChannel = ''; //    the channel of the export on the screen; set before the stream is opened
let failures = 0; //       attempts since the last good one
let retryTimer;

function openStream() {
  clearTimeout(retryTimer);
  source?.close();
  const query = new URLSearchParams([...CHANNELS, jobChannel].filter(Boolean).map((name) => ['channel', name]));
  // A new EventSource starts without a position, so it is named here. When the browser reconnects by itself it
  // sends the header Last-Event-ID, which wins over this.
  if (lastId) query.set('last_event_id', lastId);
  source = new EventSource(`/events?${query}`);
  source.onerror = onConnectionError;
  for (const [type, handle] of Object.entries(HANDLERS)) {
    source.addEventListener(type, (e) => {
      if (e.data === undefined) return; // the browser's own `error` has no data: see onConnectionError
      receive(e, handle);
      lastId = e.lastEventId || lastId; // only after it was handled
    });
  }
}

// A dropped connection is retried by the browser itself. Any answer but 200 (a proxy's 502 while the server
// restarts) makes it give up for good. Then open a new stream from the last id, after a random delay, so that a
// thousand pages do not come back in the same moment.
function onConnectionError(e) {
  if (e.data !== undefined) return; // a job's `error` event, not the connection's
  connectionLost();
  if (source.readyState !== EventSource.CLOSED) return;
  const longest = Math.min(30_000, 1000 * 2 ** failures++);
  clearTimeout(retryTimer);
  retryTimer = setTimeout(openStream, 500 + Math.random() * longest);
}

// One entry per event type. Names that begin with `tidings.` come from the server itself.
const HANDLERS = {
  'tidings.hello': onHello,
  'tidings.reset': onReset,
  'tidings.drain': () => showState('wait', 'Server is restarting'),
  'tidings.cursor': () => {}, // only moves the id of a quiet stream
  tick: onTick,
  chat: (data, e) => chat.live(e.lastEventId, data),
  notification: (data, e) => notes.live(e.lastEventId, data),
  progress: (data) => applyJob(data),
  complete: (data) => finishJob({ ...data, state: 'completed', progress: 100 }),
  error: (data) => finishJob({ state: data.state ?? 'failed', error: data }),
};

function receive(e, handle) {
  count.received += 1;
  showOnWire(e);
  let data;
  try {
    data = JSON.parse(e.data);
  } catch {
    return console.warn('not JSON', e.type, e.data);
  }
  if (data !== null && typeof data === 'object') handle(data, e);
  $('last-id').textContent = e.lastEventId || 'none yet';
  for (const name of ['received', 'reconnects', 'resumes', 'resets']) $(name).textContent = number(count[name]);
}

// ---- 2. Requests ----

const randomId = () => Array.from(crypto.getRandomValues(new Uint8Array(10)), (b) => b.toString(16).padStart(2, '0')).join('');
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// Errors are problem+json: `detail` or `title` for people, `code` for programs.
async function request(method, path, body, headers = {}) {
  const answer = await fetch(path, { method, body, headers });
  const json = await answer.json().catch(() => ({})); // no body, or a proxy's HTML page: the status says enough
  if (answer.ok) return json;
  throw Object.assign(new Error(json.detail ?? json.title ?? `the server answered ${answer.status}`), { status: answer.status });
}

const postJson = (path, value, headers) => request('POST', path, JSON.stringify(value), { 'content-type': 'application/json', ...headers });

// The key makes the retry safe: however often the request arrives, the event is published once.
async function publish(channel, event, data) {
  const headers = { 'idempotency-key': randomId() };
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await postJson('/v1/publish', { channel, event, data }, headers);
    } catch (problem) {
      if (attempt === 3 || problem.status < 500) throw problem;
      await sleep(Math.random() * 1000 * 2 ** attempt);
    }
  }
}

// ---- 3. The connection: state, counters, gap check ----

const count = { received: 0, reconnects: 0, resumes: 0, resets: 0, ticks: 0, missing: 0, repeated: 0 };
let connection = null; //  from tidings.hello; what the cut button names
let lostAt = 0; //         when the connection was lost, 0 while it stands
let backAt = -Infinity; // when it came back
let readAgain = true; //   what the stream does not carry has to be read: at first, with a new job, after a reset

function showState(state, text) {
  $('state').dataset.state = state;
  $('state').textContent = text;
  $('cut').disabled = state !== 'live';
}

function connectionLost() {
  showState('wait', count.received ? 'Reconnecting' : 'Connecting');
  if (lostAt || !count.received) return;
  lostAt = performance.now();
  note('connection lost');
}

function onHello(data) {
  failures = 0;
  connection = String(data.connection);
  $('connection-id').textContent = connection;
  if (lastId) count.resumes += 1; // still the id before this hello
  if (lostAt) {
    count.reconnects += 1;
    backAt = performance.now();
    story = { downMs: backAt - lostAt, late: 0, missing: count.missing };
  }
  lostAt = 0;
  showState('live', 'Live');
  if (readAgain) readState();
}

// The server could not go on exactly where this page stood, and says so. What the page shows is read afresh.
function onReset(data) {
  count.resets += 1;
  count.resumes = Math.max(0, count.resumes - 1);
  expectedTick = null;
  story = null;
  $('story').textContent = `The server announced a reset (${data.reason}): history was not available, so the page read its state again.`;
  readState();
}

// Register, then read: the stream stands before this is read, so nothing can fall between the two.
function readState() {
  readAgain = false;
  chat.backfill();
  notes.backfill();
  if (job) readJob(job.jobId);
}

// The server publishes n = 1, 2, 3 … once a second. Whatever happens to connections, here it must stay contiguous.
let expectedTick = null;
let liveOffset = null; // arrival time minus n seconds, of the last tick that came live
let story = null; //      what the last cut cost

function onTick({ n }) {
  if (!Number.isSafeInteger(n)) return;
  count.ticks += 1;
  if (expectedTick !== null && n < expectedTick) {
    count.repeated += 1;
  } else {
    const lost = expectedTick === null ? 0 : n - expectedTick;
    count.missing += lost;
    for (let i = 0; i < Math.min(lost, TICK_CELLS); i += 1) addTick('lost');
    addTick(isLate(n) ? 'late' : 'ok');
    expectedTick = n + 1;
  }
  $('gap').dataset.ok = String(count.missing + count.repeated === 0);
  $('gap-verdict').textContent = `Gap check: ${number(count.missing)} missing, ${number(count.repeated)} repeated`;
  $('gap-ticks').textContent = `${number(count.ticks)} ${count.ticks === 1 ? 'tick' : 'ticks'}`;
  if (story) tellStory();
  if (performance.now() - backAt > CATCH_UP_MS) story = null; // told
}

function isLate(n) {
  const now = performance.now();
  const offset = now - n * 1000;
  if (now - backAt < CATCH_UP_MS && liveOffset !== null && offset - liveOffset > 300) {
    if (story) story.late += 1;
    return true;
  }
  liveOffset = offset;
  return false;
}

function addTick(kind) {
  $('ticks').append(element('span', `tick ${kind}`));
  while ($('ticks').childElementCount > TICK_CELLS) $('ticks').firstElementChild.remove();
}

function tellStory() {
  const seconds = (story.downMs / 1000).toFixed(1);
  const missing = count.missing - story.missing;
  const ticks = story.late === 1 ? '1 tick' : `${story.late} ticks`;
  $('story').textContent = `Back after ${seconds} s. Caught up ${ticks} published meanwhile, ${missing || 'none'} missing.`;
}

$('cut').addEventListener('click', async () => {
  $('cut').disabled = true;
  story = null;
  $('story').textContent = 'Cut. The browser comes back by itself in a few seconds…';
  try {
    await request('DELETE', `/v1/connections/${encodeURIComponent(connection)}`);
  } catch (problem) {
    $('story').textContent = `The server did not cut it: ${problem.message}`;
    $('cut').disabled = false;
  }
});

// ---- 4. The export ----

const FINAL = ['completed', 'failed', 'cancelled', 'expired'];
let job = null; //      the newest job document
let samples = []; //    [time, rows] of the last few reports, for rows per second
let input = { file: 'orders.csv' };

const millis = (time) => (typeof time === 'number' ? time : Date.parse(time));

async function startExport() {
  $('run').disabled = true;
  try {
    const { jobId } = await postJson('/api/exports', input);
    watchJob({ jobId, state: 'queued', progress: 0 });
  } catch (problem) {
    showJobProblem(problem.message);
  }
}

// Adding a channel needs no second EventSource: the stream is opened again with one channel more, from the same
// position. The id in the URL lets a reload, or a second tab, find the same export.
function watchJob(doc) {
  job = null;
  samples = [];
  jobChannel = `job:${doc.jobId}`;
  history.replaceState(null, '', `#job=${encodeURIComponent(doc.jobId)}`);
  $('second-tab').href = location.href;
  applyJob(doc);
  readAgain = true;
  openStream();
}

async function readJob(id) {
  try {
    const doc = await request('GET', `/v1/jobs/${encodeURIComponent(id)}`);
    if (job?.jobId === id) applyJob(doc);
  } catch (problem) {
    if (problem.status === 404 && job?.jobId === id) showJobProblem('This export is no longer known. Run a new one.');
  }
}

// A document may come from the stream or from a request; an older one never replaces a newer one.
function applyJob(doc) {
  if (job && job.jobId !== doc.jobId) return;
  if (job && FINAL.includes(job.state) && !FINAL.includes(doc.state)) return;
  if (job && millis(doc.updated_at) < millis(job.updated_at)) return;
  job = doc;
  samples = [...samples, [millis(job.updated_at), job.current]].slice(-20);
  showJob();
}

// The last event says how it ended; the document adds when, and what was stored.
function finishJob(end) {
  if (!job) return;
  applyJob({ ...job, ...end });
  readJob(job.jobId);
}

// Over the last three seconds while it runs, over the whole run when it is done.
function rowsPerSecond() {
  const [end, rows] = samples.at(-1) ?? [];
  const [start, before] = samples.find(([time]) => end - time <= 3000) ?? [];
  const whole = millis(job.finished_at) - millis(job.started_at);
  if (job.state === 'completed' && whole > 0 && job.current > 0) return (job.current / whole) * 1000;
  return end > start && rows >= before ? ((rows - before) / (end - start)) * 1000 : null;
}

function showJob() {
  const done = FINAL.includes(job.state);
  const percent = Math.max(0, Math.min(100, Number(job.progress) || 0));
  const unit = job.unit ?? 'rows';
  $('export').dataset.state = job.state;
  $('job-state').dataset.state = job.state;
  $('job-state').textContent = job.state;
  $('job-percent').textContent = Math.floor(percent);
  $('job-bar').setAttribute('aria-valuenow', Math.floor(percent));
  $('job-fill').style.transform = `translateX(${percent - 100}%)`;
  $('job-current').textContent = number(job.current ?? 0);
  $('job-total').textContent = job.total ? `of ${number(job.total)} ${unit}` : unit;
  $('job-message').textContent = job.error?.message ?? (job.state === 'completed' ? 'The report is ready.' : job.message ?? '');
  showJobStats(done);
  $('run').disabled = !done;
  $('run').textContent = done ? 'Run again' : 'Running…';
  $('run').classList.toggle('primary', job.state !== 'completed');
  $('download').hidden = job.state !== 'completed' || !job.downloadUrl;
  if (job.downloadUrl) $('download').href = job.downloadUrl;
}

function showJobStats(done) {
  const rate = rowsPerSecond();
  const stats = [[`${job.unit ?? 'rows'} per second`, rate === null ? '–' : number(Math.round(rate))]];
  const took = millis(job.finished_at) - millis(job.started_at);
  if (!done) stats.push(['Step', job.step ?? '–'], ['Time left', job.eta_ms > 0 ? duration(job.eta_ms) : '–']);
  else if (took >= 0) stats.push(['Took', duration(took)]);
  for (const [name, value] of Object.entries(job.result ?? {})) {
    if (typeof value === 'number' && value !== job.total) stats.push([name.replaceAll('_', ' '), number(value)]);
  }
  $('job-stats').replaceChildren(
    ...stats.slice(0, STATS).map(([name, value]) => element('div', '', element('dt', '', name), element('dd', '', value))),
  );
}

const duration = (ms) => (ms < 90_000 ? `${(ms / 1000).toFixed(ms < 9950 ? 1 : 0)} s` : `${Math.round(ms / 60_000)} min`);

function showJobProblem(message) {
  job = { state: 'failed', error: { message } };
  showJob();
  job = null;
  jobChannel = '';
}

async function upload(file) {
  if (!file) return;
  $('source-name').textContent = file.name;
  $('source-rows').textContent = 'uploading…';
  try {
    const { upload: id, rows } = await request('POST', '/demo/uploads', file, { 'content-type': 'text/csv' });
    input = { upload: id };
    $('source-rows').textContent = `${number(rows)} rows, your file`;
    $('bundled').hidden = false;
  } catch (problem) {
    useBundled();
    $('source-rows').textContent = `${file.name} was not accepted: ${problem.message}`;
  }
}

function useBundled() {
  input = { file: 'orders.csv' };
  $('file').value = '';
  $('source-name').textContent = 'orders.csv';
  $('source-rows').textContent = 'bundled, about 100,000 rows';
  $('bundled').hidden = true;
}

$('run').addEventListener('click', startExport);
$('bundled').addEventListener('click', useBundled);
$('file').addEventListener('change', () => upload($('file').files[0]));
for (const type of ['dragover', 'dragleave', 'drop']) {
  $('export').addEventListener(type, (e) => {
    e.preventDefault();
    $('export').classList.toggle('dropping', type === 'dragover');
    if (type === 'drop') upload(e.dataTransfer.files[0]);
  });
}

// ---- 5. Lists: chat, notifications, the wire ----

// Children are nodes or text. Text from events stays text: `append` never parses HTML.
function element(tag, className, ...children) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...children);
  return node;
}

const text = (value, most) => String(value ?? '').slice(0, most);

// A bounded list with a backlog. While the backlog is read, live events wait; those that are in both are told by
// their id. Apart from that nothing is filtered: an event that came twice would be seen twice.
function feed(list, channel, rows, newestFirst, render) {
  let held = null;
  const shown = new Set();
  const show = ([id, data, time]) => {
    shown.add(id);
    if (shown.size > rows * 4) shown.delete(shown.values().next().value);
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
    list[newestFirst ? 'prepend' : 'append'](render(data ?? {}, time));
    while (list.childElementCount > rows) list[newestFirst ? 'lastElementChild' : 'firstElementChild'].remove();
    if (!newestFirst && atEnd) list.scrollTop = list.scrollHeight;
  };
  return {
    live(id, data) {
      const event = [id, data, Date.now()];
      if (held) held = [...held, event].slice(-rows);
      else show(event);
    },
    async backfill() {
      held ??= [];
      const path = `/v1/history?channel=${encodeURIComponent(channel)}&from=last:${rows}&limit=${rows}`;
      const { events = [] } = await request('GET', path).catch(() => ({}));
      for (const e of [...events.map((e) => [e.id, e.data, e.time]), ...(held ?? [])]) if (!shown.has(e[0])) show(e);
      held = null;
    },
  };
}

const clock = (time) => new Date(time).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });

// Two tabs of one browser are two people here: name and tab id live as long as the tab.
const tab = (sessionStorage.tab ??= randomId());
const pick = (words) => words.split(' ')[Math.floor(Math.random() * words.split(' ').length)];
$('chat-name').value = sessionStorage.name ??= `${pick('Amber Coral Misty Quiet Sunny Tidal')} ${pick('Curlew Gannet Heron Otter Plover Seal')}`;
$('chat-name').addEventListener('input', () => (sessionStorage.name = $('chat-name').value));

const chat = feed($('chat'), 'demo:chat', 50, false, (data, time) =>
  element('li', data.tab === tab ? 'mine' : '',
    element('span', 'from', `${text(data.name, 40) || 'anonymous'} · ${clock(time)}`),
    element('p', '', text(data.text, 2000))));

const notes = feed($('notes'), 'demo:notifications', 20, true, (data, time) =>
  element('li', ['success', 'warning'].includes(data.level) ? data.level : '',
    element('strong', '', text(data.title, 120)),
    element('time', '', clock(time)),
    element('span', '', text(data.text, 300))));

// The message appears when it comes back over the stream, in the same order for everybody.
$('chat-form').addEventListener('submit', async (e) => {
  e.preventDefault();
  const said = $('chat-text').value;
  $('chat-text').value = '';
  $('chat-error').hidden = true;
  try {
    await publish('demo:chat', 'chat', { name: $('chat-name').value, text: said, tab });
  } catch (problem) {
    $('chat-text').value ||= said;
    $('chat-error').textContent = `Not sent: ${problem.message}`;
    $('chat-error').hidden = false;
  }
});

$('notify').addEventListener('click', () => {
  const data = { title: `${$('chat-name').value} says hello`, text: 'Published by a page, seen in every tab.', level: 'success' };
  publish('demo:notifications', 'notification', data).catch((problem) => note(problem.message));
});

// EventSource does not show the `channel:` line of an event; on this page its type tells the channel.
const CHANNEL_OF = { tick: 'demo:ticks', notification: 'demo:notifications', chat: 'demo:chat' };
const channelOf = (type) => CHANNEL_OF[type] ?? (type.startsWith('tidings.') ? 'control' : jobChannel);

const showOnWire = (e) =>
  addWireRow(element('li', e.type.startsWith('tidings.') ? 'control' : '',
    element('b', '', e.type),
    element('span', '', channelOf(e.type)),
    element('i', '', e.lastEventId),
    element('code', '', text(e.data, 2000))));

const note = (text) => addWireRow(element('li', 'note', text));

function addWireRow(item) {
  if ($('pause').getAttribute('aria-pressed') === 'true') return;
  $('wire').prepend(item);
  while ($('wire').childElementCount > WIRE_ROWS) $('wire').lastElementChild.remove();
}

$('pause').addEventListener('click', () => {
  const paused = $('pause').getAttribute('aria-pressed') !== 'true';
  $('pause').setAttribute('aria-pressed', String(paused));
  $('pause').textContent = paused ? 'Go on' : 'Pause';
});

for (let i = 0; i < TICK_CELLS; i += 1) addTick('idle');

// ---- 6. Start: show a known export at once, or run the first one ----

const greeting = { channel: 'demo:notifications', event: 'notification', data: { title: 'Hello from curl' } };
$('curl').textContent = `curl ${location.origin}/v1/publish -H 'content-type: application/json' \\\n  -d '${JSON.stringify(greeting)}'`;

const id = new URLSearchParams(location.hash.slice(1)).get('job');
const found = id && (await request('GET', `/v1/jobs/${encodeURIComponent(id)}`).catch(() => null));
if (found) watchJob(found);
else await startExport();
if (!source) openStream();
