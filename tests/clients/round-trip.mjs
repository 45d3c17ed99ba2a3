// What a packaged server is asked, by the stock client over TLS: `say` writes a message and waits until it comes back, and
// prints what the room had before, one content a line; `knock` asks /healthz on one new connection after the other until
// it is told to stop (SIGTERM), and fails if one of them was refused, cut off or not answered.
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { io } from 'socket.io-client';

const [what, url, cert, token, content] = process.argv.slice(2);
const ca = readFileSync(cert);
const DEADLINE_MS = 20_000;

async function say() {
  const socket = io(url, { path: '/ws', auth: { token }, ca, transports: ['websocket'], reconnection: false });
  const heard = (event) => new Promise((resolve, reject) => {
    socket.once(event, resolve);
    for (const bad of ['connect_error', 'auth_error']) socket.once(bad, (why) => reject(new Error(why.message)));
  });
  await heard('authenticated');
  const ask = (event, payload) => socket.timeout(DEADLINE_MS).emitWithAck(event, payload);
  const { messages } = await ask('chat:join', { roomId: 'packages' });
  const back = heard('chat:message');
  const { ok, error } = await ask('chat:message', { roomId: 'packages', content });
  if (!ok) throw new Error(error.message);
  const message = await back;
  if (message.content !== content) throw new Error(`'${message.content}' came back`);
  socket.disconnect();
  for (const before of messages) console.log(before.content);
}

function get() {
  return new Promise((resolve) => {
    const sent = request(`${url}/healthz`, { ca, agent: false, timeout: DEADLINE_MS }, (answer) => {
      answer.resume();
      answer.on('end', () => resolve(answer.statusCode === 200 ? undefined : `status ${answer.statusCode}`));
      answer.on('error', (error) => resolve(error.code ?? error.message));
    });
    sent.on('timeout', () => sent.destroy(new Error('no answer')));
    sent.on('error', (error) => resolve(error.code ?? error.message));
    sent.end();
  });
}

async function knock() {
  let stopped = false;
  process.once('SIGTERM', () => { stopped = true; });
  let asked = 0;
  const failures = [];
  while (!stopped) {
    const failure = await get();
    asked += 1;
    if (failure) failures.push(failure);
    if (asked === 1) console.log('knocking');
  }
  console.log(`${asked} connections, ${failures.length} failed ${failures.slice(0, 5).join(', ')}`);
  process.exitCode = failures.length === 0 && asked > 1 ? 0 : 1;
}

const deadline = setTimeout(() => { throw new Error('gave up'); }, 4 * 60_000);
await (what === 'knock' ? knock() : say());
clearTimeout(deadline);
