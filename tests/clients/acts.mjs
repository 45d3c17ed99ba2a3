// What tests do again and again: acts that must work, sockets in rooms, the audit trail as a list, polls that wait, and requesters
// that hang up wherever they like.
import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { Appliance, ask, noLimits, token, until } from './harness.mjs';

export const admin = { userId: 1, role: 'admin', name: 'Root' };

// A server that is gone when its test is over, however that ends.
export async function served(t, options = {}) {
  const server = await Appliance.start({ ...options, env: { ...noLimits, ...options.env } });
  t.after(async () => {
    for (const socket of server.sockets) socket.disconnect();
    if (server.child.exitCode === null && server.child.signalCode === null) await server.kill();
    rmSync(server.dir, { recursive: true, force: true });
  });
  return server;
}

// A call of the HTTP API.
export const call = (server, claims, method, path, body) => server.fetch(`/api/v1${path}`, { claims, method, body });

// A call that must work.
export async function done(server, claims, method, path, body) {
  const { status, json, raw } = await call(server, claims, method, path, body);
  assert.equal(status, 200, `${method} ${path}: ${status} ${raw.slice(0, 300)}`);
  return json;
}

// An administrator's act that must work.
export const act = (server, method, path, body) => done(server, admin, method, `/admin${path}`, body);

export const say = async (server, claims, roomId, content) => (await done(server, claims, 'POST', `/rooms/${roomId}/messages`, { content })).id;

// A socket of somebody's that has joined a room.
export async function joinedTo(server, roomId, claims, transport = 'websocket') {
  const socket = await server.signedIn(claims, { transports: [transport] });
  assert.equal((await ask(socket, 'chat:join', { roomId })).ok, true);
  return socket;
}

// The whole audit trail.
export async function trail(server) {
  const records = [];
  for (let page = { hasMore: true }; page.hasMore;) {
    page = await act(server, 'GET', `/audit?limit=1000&after=${records.at(-1)?.number ?? 0}`);
    records.push(...page.items);
  }
  return records;
}

// A cursor of now.
export const cursorOf = async (server, claims, rooms = '') => (await done(server, claims, 'GET', `/events?rooms=${rooms}`)).cursor;

export const pollFrom = (server, claims, cursor, rooms = '', wait = 0) => call(server, claims, 'GET', `/events?rooms=${rooms}&wait=${wait}&cursor=${encodeURIComponent(cursor)}`);

async function waitingCount(server) {
  return Number(/academy_rt_polls_waiting (\d+)/.exec((await server.fetch('/metrics', { claims: admin })).raw)[1]);
}

// Polls that wait, one for each of the claims, when all are counted as waiting.
export async function waitingPolls(server, wanted) {
  const cursor = [];
  for (const { claims, rooms } of wanted) cursor.push(await cursorOf(server, claims, rooms));
  const before = await waitingCount(server);
  const answers = wanted.map(({ claims, rooms }, n) => pollFrom(server, claims, cursor[n], rooms, 30));
  // Nobody may wait for one of them any more when its server ends.
  for (const answer of answers) answer.catch(() => {});
  await until(async () => (await waitingCount(server)) >= before + wanted.length, 'the polls wait');
  return answers;
}

// A request as its bytes.
export function bytesOf(server, claims, method, path, body) {
  const text = body === undefined ? '' : JSON.stringify(body);
  const head = [
    `${method} /api/v1${path} HTTP/1.1`, `Host: 127.0.0.1:${server.port}`, `Authorization: Bearer ${token(claims)}`,
    ...(body === undefined ? [] : ['Content-Type: application/json', `Content-Length: ${Buffer.byteLength(text)}`]),
  ];
  const front = `${head.join('\r\n')}\r\n\r\n`;
  return { bytes: Buffer.from(front + text), headEnds: front.length };
}

// Sends some bytes and hangs up at once or a moment later; gives when the server has let go of the connection.
export async function hangUp(server, bytes, { linger = 0, rudely = false } = {}) {
  const socket = createConnection(server.port, '127.0.0.1');
  socket.on('error', () => {});
  await new Promise((resolve) => { socket.once('connect', resolve); });
  const local = socket.localPort;
  await new Promise((resolve) => { socket.write(bytes, resolve); });
  if (linger > 0) await new Promise((resolve) => { setTimeout(resolve, linger); });
  if (rudely) socket.resetAndDestroy();
  else socket.destroy();
  await until(() => !serverHolds(server.port, local), 'the server lets go of the connection');
}

// Whether the server's end of a connection is there: established, or closed by its client alone.
function serverHolds(port, local) {
  const hex = (n) => n.toString(16).toUpperCase().padStart(4, '0');
  return readFileSync('/proc/net/tcp', 'utf8').split('\n').some((line) => {
    const [, near, far, state] = line.trim().split(/\s+/);
    return near?.endsWith(`:${hex(port)}`) && far?.endsWith(`:${hex(local)}`) && ['01', '08', '09'].includes(state);
  });
}

// A cursor with a check that needs no key: BLAKE3 over the store's bytes and the numbers. It is short: one block.
export function unkeyed(store, numbers) {
  const words = Buffer.concat([Buffer.from(store, 'hex'), ...numbers.map((one) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(`0x${one}`));
    return bytes;
  })]);
  assert.ok(words.length <= 64);
  const iv = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
  const block = Buffer.concat([words, Buffer.alloc(64 - words.length)]);
  let message = Array.from({ length: 16 }, (_, n) => block.readUInt32LE(4 * n));
  const v = [...iv, ...iv.slice(0, 4), 0, 0, words.length, 1 | 2 | 8];
  const turned = (value, by) => ((value >>> by) | (value << (32 - by))) >>> 0;
  const mix = (a, b, c, d, x, y) => {
    for (const [word, one, other] of [[x, 16, 12], [y, 8, 7]]) {
      v[a] = (v[a] + v[b] + word) >>> 0;
      v[d] = turned(v[d] ^ v[a], one);
      v[c] = (v[c] + v[d]) >>> 0;
      v[b] = turned(v[b] ^ v[c], other);
    }
  };
  for (let round = 0; round < 7; round += 1) {
    for (let n = 0; n < 4; n += 1) mix(n, 4 + n, 8 + n, 12 + n, message[2 * n], message[2 * n + 1]);
    for (let n = 0; n < 4; n += 1) mix(n, 4 + ((n + 1) % 4), 8 + ((n + 2) % 4), 12 + ((n + 3) % 4), message[8 + 2 * n], message[9 + 2 * n]);
    message = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8].map((at) => message[at]);
  }
  const check = Buffer.alloc(4);
  check.writeUInt32LE((v[0] ^ v[8]) >>> 0);
  return `${store}.${numbers.join('.')}.${check.toString('hex')}`;
}
