// One caller who asks as fast as they can, in a process of their own: `node starver.mjs URL SECONDS [REQUESTS]`, for so long or until
// so many are done, with what they ask as JSON on the standard input: `{ token, event?, payload?, http?: { method, path, body? } }`.
// Events go over 4 sockets, requests of HTTP over 16 connections, each with the next one as soon as one is answered. Prints how many were answered and how many refused.
import { Agent, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { io } from 'socket.io-client';

const SOCKETS = 4;
const IN_FLIGHT = 64;
const CONNECTIONS = 16;
// They have an address of their own: the limits of a network are theirs alone.
const FROM = '127.0.0.9';

const [url, seconds, requests = Infinity] = process.argv.slice(2);
// Who asks for so long gives up soon; who asks so often waits for each answer.
const TIMEOUT_MS = requests === Infinity ? 5_000 : 60_000;
const { token, event, payload, http } = JSON.parse(await text(process.stdin));
const counts = { answered: 0, refused: 0, lost: 0 };
let isOver = false;

const count = (isRefused) => {
  counts[isRefused ? 'refused' : 'answered'] += 1;
  if (counts.answered + counts.refused >= Number(requests)) isOver = true;
};
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function bySocket() {
  const socket = io(url, { path: '/ws', auth: { token }, forceNew: true, transports: ['websocket'], localAddress: FROM });
  // Who is shown out comes again, and says why it was.
  socket.on('auth_error', (error) => console.error(`shown out: ${JSON.stringify(error)}`));
  socket.on('disconnect', (reason) => { if (reason === 'io server disconnect' && !isOver) setTimeout(() => socket.connect(), 100); });
  await new Promise((resolve) => socket.once('authenticated', resolve));
  const asks = async () => {
    while (!isOver) {
      if (!socket.connected) await pause(50);
      const answer = await socket.timeout(TIMEOUT_MS).emitWithAck(event, payload).catch(() => undefined);
      if (answer === undefined) counts.lost += 1;
      else count(answer.error?.code === 'rate_limited');
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, asks));
  socket.disconnect();
}

function ask(agent) {
  return new Promise((resolve) => {
    const body = http.body === undefined ? undefined : JSON.stringify(http.body);
    const headers = { ...(token && { authorization: `Bearer ${token}` }), ...(body && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }) };
    const sent = request(`${url}${http.path}`, { agent, method: http.method, headers, timeout: TIMEOUT_MS }, (answer) => {
      answer.resume();
      answer.on('end', () => resolve(answer.statusCode));
      answer.on('error', () => resolve(undefined));
    });
    sent.on('timeout', () => sent.destroy());
    sent.on('error', () => resolve(undefined));
    sent.end(body);
  });
}

async function byHttp() {
  const agent = new Agent({ keepAlive: true, maxSockets: 1, localAddress: FROM });
  while (!isOver) {
    const status = await ask(agent);
    if (status === undefined) counts.lost += 1;
    else count(status === 429);
  }
  agent.destroy();
}

setTimeout(() => { isOver = true; }, Number(seconds) * 1_000);
const began = performance.now();
await Promise.all([
  ...(event ? Array.from({ length: SOCKETS }, bySocket) : []),
  ...(http ? Array.from({ length: CONNECTIONS }, byHttp) : []),
]);
console.log(JSON.stringify({ ...counts, seconds: (performance.now() - began) / 1_000 }));
process.exit(0);
