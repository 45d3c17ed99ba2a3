// The connection check: what of this browser's requests reaches the server. It has no words of its own: the page has those of
// each outcome, and this shows the one that came.

const { path, apiPath, version } = document.body.dataset;
// The page may be below a path of a proxy.
const base = new URL('.', document.baseURI);
const at = (place) => new URL(`.${place}`, base);
const WITHIN_MS = 10_000;
// What a clock may differ by before a token is refused for it.
const CLOCK_MS = 30_000;
const shown = { version, path, apiPath, base: base.href, origin: location.origin, sdk: at('/sdk/academy-rt.js').href };

/** Shows one outcome in an element, with its values filled in. */
function show(element, when, values = {}) {
  for (const part of element.querySelectorAll('[data-when]')) {
    part.hidden = part.dataset.when !== when;
    if (part.hidden) continue;
    // Nodes of text alone: values are never read as markup.
    const text = part.lastChild;
    text.data = text.data.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? shown[name] ?? whole));
  }
  element.dataset.outcome = when;
  return when;
}

const result = (id, when, values) => show(document.getElementById(id), when, values);
const since = (began) => ({ ms: Math.max(1, Math.round(performance.now() - began)) });
const ask = (url, init = {}) => fetch(url, { cache: 'no-store', redirect: 'manual', signal: AbortSignal.timeout(WITHIN_MS), ...init });

/** What an answer of the server says went wrong; undefined where something else has answered. */
async function codeOf(response) {
  try {
    return (await response.json()).error?.code;
  } catch {
    return undefined;
  }
}

/** The server, and what time it is there. */
async function server() {
  const began = performance.now();
  const asked = Date.now();
  try {
    const response = await ask(at('/sdk/server.json'));
    const known = await response.json().catch(() => undefined);
    if (known?.server !== 'academy-rt') return result('server', 'other', { status: response.status });
    const there = Date.parse(response.headers.get('date'));
    // It is told in whole seconds.
    const apart = Math.max(0, there - Date.now(), asked - there - 1_000);
    if (!Number.isNaN(there)) result('clock', apart > CLOCK_MS ? 'off' : 'good', { seconds: Math.round(apart / 1_000) });
    return result('server', 'good', since(began));
  } catch {
    return result('server', 'failed');
  }
}

function encryption() {
  if (location.protocol === 'https:') return result('encryption', 'good');
  return result('encryption', window.isSecureContext ? 'local' : 'plain');
}

/** The HTTP API, and whether this page is one of those that may use it. */
async function api() {
  const began = performance.now();
  try {
    // A browser says its origin here, and the server answers without knowing who asks.
    const response = await ask(at(`${apiPath}/session`), { method: 'OPTIONS' });
    const isRefused = response.status === 403 && (await codeOf(response)) === 'forbidden';
    if (response.status === 204 || isRefused) {
      result('origin', isRefused ? 'refused' : 'good');
      return result('api', 'good', since(began));
    }
  } catch { /* some cut off this method alone */ }
  result('origin', 'unknown');
  try {
    const response = await ask(at(`${apiPath}/session`));
    if (response.status === 401 && (await codeOf(response)) !== undefined) return result('api', 'good', since(began));
    return result('api', 'other', { status: response.status });
  } catch {
    return result('api', 'failed');
  }
}

function engine(transport, sid) {
  const url = at(`${path}/`);
  url.search = String(new URLSearchParams({ EIO: '4', transport, ...(sid ? { sid } : {}) }));
  return url;
}

/** A session on polling: its id, or why there is none. */
async function openSession() {
  const response = await ask(engine('polling'));
  const { status } = response;
  if (!response.ok) return { when: { realtime_disabled: 'off', rate_limited: 'busy', forbidden: 'refused' }[await codeOf(response)] ?? 'other', status };
  const text = await response.text();
  return text.startsWith('0{') ? { sid: JSON.parse(text.slice(1)).sid } : { when: 'other', status };
}

/** Ends a session on polling; the answer to a POST, which says its origin. */
const closeSession = (sid) => ask(engine('polling', sid), { method: 'POST', body: '1', headers: { 'content-type': 'text/plain;charset=UTF-8' } });

async function polling() {
  const began = performance.now();
  try {
    const { sid, when, status } = await openSession();
    if (!sid) return result('polling', when, { status });
    const taken = since(began);
    const closed = await closeSession(sid);
    if (closed.status === 403) return result('polling', 'refused');
    return result('polling', closed.ok ? 'good' : 'other', { ...taken, status: closed.status });
  } catch {
    return result('polling', 'failed');
  }
}

/** Opens a WebSocket, says something if there is something to say, and waits for what is to come: good, silent, or blocked. */
function speak(url, said, awaited) {
  return new Promise((resolve) => {
    let isOpen = false;
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url);
    const end = (when) => {
      clearTimeout(timer);
      socket.close();
      resolve(when);
    };
    const timer = setTimeout(() => end(isOpen ? 'silent' : 'blocked'), WITHIN_MS);
    socket.onopen = () => {
      isOpen = true;
      if (said) socket.send(said);
    };
    socket.onmessage = ({ data }) => { if (String(data).startsWith(awaited)) end('good'); };
    socket.onerror = () => end(isOpen ? 'silent' : 'blocked');
    socket.onclose = socket.onerror;
  });
}

async function websocket() {
  const began = performance.now();
  return result('websocket', await speak(engine('websocket'), undefined, '0{'), since(began));
}

async function upgrade() {
  try {
    const { sid } = await openSession();
    if (!sid) return result('upgrade', 'failed');
    const began = performance.now();
    const when = (await speak(engine('websocket', sid), '2probe', '3probe')) === 'good' ? 'good' : 'failed';
    const taken = since(began);
    await closeSession(sid).catch(() => {});
    return result('upgrade', when, taken);
  } catch {
    return result('upgrade', 'failed');
  }
}

/** The way that the SDK takes here: the first one that works. */
function wayOf({ apiWorks, pollingIs, websocketIs }) {
  if (websocketIs === 'good') return 'websocket';
  if (pollingIs === 'good') return 'polling';
  return apiWorks ? 'http' : 'none';
}

async function sdk(way) {
  try {
    const { connect } = await import(shown.sdk);
    return result('sdk', typeof connect === 'function' ? way : 'failed');
  } catch {
    return result('sdk', 'failed');
  }
}

async function run() {
  encryption();
  await server();
  if (!document.getElementById('clock').dataset.outcome) result('clock', 'unknown');
  const apiWorks = (await api()) === 'good';
  const pollingIs = await polling();
  const isOff = pollingIs === 'off';
  const websocketIs = isOff ? result('websocket', 'off') : await websocket();
  if (pollingIs === 'good' && websocketIs === 'good') await upgrade();
  else result('upgrade', 'skipped');
  if (websocketIs === 'good') result('stock', pollingIs === 'good' ? 'any' : 'websocket');
  else result('stock', pollingIs === 'good' ? 'polling' : 'none');
  const way = wayOf({ apiWorks, pollingIs, websocketIs });
  await sdk(way);
  result('verdict', isOff && way === 'http' ? 'off' : way);
}

document.getElementById('again').addEventListener('click', () => location.reload());
document.getElementById('copy').addEventListener('click', async () => {
  const said = document.getElementById('copied');
  const lines = [...document.querySelectorAll('#verdict, .checks li')].map((part) => {
    const name = part.querySelector('h2')?.textContent ?? document.title;
    return `${name}: ${part.querySelector('[data-when]:not([hidden])').textContent.trim().replace(/\s+/g, ' ')}`;
  });
  try {
    await navigator.clipboard.writeText([...lines, location.href, new Date().toISOString(), navigator.userAgent].join('\n'));
    said.textContent = said.dataset.copied;
  } catch {
    said.textContent = said.dataset.notCopied;
  }
});
await run();
