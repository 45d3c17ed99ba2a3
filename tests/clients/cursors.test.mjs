// Positions that clients hand back: what is not of this store's life is refused with the way to go on, never passed over.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Appliance, all, ask, binary, heard, noLimits, secret, token } from './harness.mjs';

const ANN = { userId: 7 };
const ROOM = 'cursors';

const call = (server, method, path, body) => server.fetch(`/api/v1${path}`, { claims: ANN, method, body });
const poll = (server, cursor) => call(server, 'GET', `/events?rooms=${ROOM}&wait=0${cursor === undefined ? '' : `&cursor=${encodeURIComponent(cursor)}`}`);

async function say(server, content) {
  const { status, json } = await call(server, 'POST', `/rooms/${ROOM}/messages`, { content });
  assert.equal(status, 200);
  return json.id;
}

// Refused by 410, with a cursor that goes on from now.
async function refusedPoll(server, cursor, why) {
  const { status, json, raw } = await poll(server, cursor);
  assert.deepEqual([status, json?.error?.code], [410, 'resync'], `${why}: ${String(cursor).slice(0, 200)} ${raw.slice(0, 200)}`);
  assert.match(json.error.message, /start without it/);
  const id = await say(server, 'on the way back');
  const { events } = (await poll(server, json.cursor)).json;
  assert.deepEqual(events.filter(({ event }) => event === 'chat:message').map(({ payload }) => payload.id), [id]);
}

// Refused on all ways to a page, and the way without it is open.
async function refusedAfter(server, id) {
  assert.deepEqual([(await call(server, 'GET', `/rooms/${ROOM}/messages?after=${id}`)).status, (await call(server, 'GET', `/rooms/${ROOM}/messages`)).status], [410, 200]);
  for (const transports of [['websocket'], ['polling']]) {
    const socket = await server.signedIn(ANN, { transports });
    for (const event of ['chat:join', 'chat:history']) {
      const { ok, error } = await ask(socket, event, { roomId: ROOM, after: id });
      assert.deepEqual([ok, error?.code], [false, 'resync'], event);
      assert.match(error.message, /start without it/);
    }
    socket.emit('chat:join', { roomId: ROOM, after: id });
    assert.deepEqual([(await heard(socket, 'request:error')).code, socket.connected], ['resync', true]);
    assert.equal((await ask(socket, 'presence:list', { roomId: ROOM })).error.code, 'not_joined', 'a refused join is none');
    const joined = await ask(socket, 'chat:join', { roomId: ROOM });
    assert.ok(joined.ok && joined.messages.at(-1).id === joined.lastId);
    assert.equal((await ask(socket, 'chat:join', { roomId: ROOM, after: joined.lastId })).ok, true);
    await say(server, 'live');
    await heard(socket, 'chat:message', (one) => one.content === 'live');
    socket.disconnect();
  }
}

async function refusedSince(server, since) {
  const refused = await call(server, 'GET', `/progress?since=${encodeURIComponent(since)}`);
  assert.deepEqual([refused.status, refused.json?.error?.code], [410, 'resync'], String(since).slice(0, 200));
  const socket = await server.signedIn(ANN);
  assert.equal((await ask(socket, 'progress:get', { since })).error.code, 'resync');
  const { ok, items, cursor } = await ask(socket, 'progress:get', {});
  assert.ok(ok && items.length > 0);
  assert.deepEqual((await ask(socket, 'progress:get', { since: cursor })).items, []);
  socket.disconnect();
}

describe('positions that clients hand back', () => {
  let server;
  let cursor;
  let since;
  before(async () => {
    server = await Appliance.start({ env: noLimits });
    await say(server, 'first');
    await call(server, 'POST', '/progress', { lessonId: 1, progress: 5 });
    cursor = (await poll(server)).json.cursor;
    since = (await call(server, 'GET', '/progress')).json.cursor;
  });
  after(() => server.stop());

  test('cut, changed or spelled otherwise they are none', async () => {
    assert.equal((await poll(server, cursor)).status, 200);
    const numbers = cursor.split('.');
    const spelled = (change) => numbers.map((part, n) => change(part, n)).join('.');
    const others = [
      ...Array.from({ length: cursor.length - 1 }, (_, n) => cursor.slice(0, n + 1)),
      ...Array.from({ length: cursor.length - 1 }, (_, n) => cursor.slice(n + 1)),
      ...Array.from({ length: cursor.length }, (_, n) => `${cursor.slice(0, n)}${cursor[n] === '7' ? '8' : '7'}${cursor.slice(n + 1)}`),
      spelled((part) => `0${part}`), spelled((part) => `+${part}`), spelled((part, n) => (n === 2 ? `0${part}` : part)),
      spelled((part, n) => (n === 4 ? `+${part}` : part)), spelled((part, n) => (n === 4 ? `${part}0` : part)),
      `${cursor} `, ` ${cursor}`, `${cursor}.`, `.${cursor}`, `${cursor}.${cursor}`, `${cursor}\u0000`, cursor.replaceAll('.', '..'), `${cursor},${cursor}`,
      ...(cursor === cursor.toUpperCase() ? [] : [cursor.toUpperCase()]),
      '0', '-1', 'null', 'undefined', '[object Object]', '{}', 'é👩🏽‍🏫', '%', '1.1.1.1.1.1', 'f'.repeat(4_000), `${cursor}${'0'.repeat(4_000)}`,
      since,
    ];
    for (const other of others) {
      const { status, json, raw } = await poll(server, other);
      assert.deepEqual([status, json?.error?.code], [410, 'resync'], `${other.slice(0, 100)} ${raw.slice(0, 100)}`);
      assert.equal((await poll(server, json.cursor)).status, 200);
    }
    await refusedPoll(server, cursor.slice(0, -1), 'cut');
    for (const other of ['x', since.slice(0, -1), since.toUpperCase() === since ? `0${since}` : since.toUpperCase(), cursor, 'f'.repeat(4_000)]) await refusedSince(server, other);
    assert.equal((await poll(server, cursor)).status, 200, 'the good one is good still');
  });

  test('bytes that are no text are refused', async () => {
    const bearer = token(ANN);
    for (const bytes of ['%ff%fe%00', '%c3', Array.from({ length: 300 }, (_, n) => `%${((n * 7919) % 256).toString(16).padStart(2, '0')}`).join('')]) {
      const answer = await new Promise((resolve, reject) => {
        const socket = createConnection(server.port, '127.0.0.1', () => {
          socket.write(`GET /api/v1/events?wait=0&cursor=${bytes} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${bearer}\r\n\r\n`);
        });
        let text = '';
        socket.on('data', (part) => { text += part; });
        socket.on('end', () => resolve(text));
        socket.on('error', reject);
      });
      assert.match(answer, /^HTTP\/1\.1 410 /, `${bytes.slice(0, 30)} ${answer.slice(0, 300)}`);
    }
    const huge = await poll(server, 'f'.repeat(200_000));
    assert.ok(huge.status >= 400 && huge.status < 500, String(huge.status));
    assert.equal((await server.fetch('/readyz')).status, 200);
  });

  test('an id that cannot be one is a bad request, and one to come is not of this store', async () => {
    const socket = await server.signedIn(ANN);
    for (const bad of [-1, 1.5, 1e30, '5', true, {}, [1]]) {
      for (const event of ['chat:join', 'chat:history']) {
        const { ok, error } = await ask(socket, event, { roomId: ROOM, after: bad });
        assert.deepEqual([ok, error?.code, error?.field], [false, 'invalid_payload', 'after'], `${event} ${bad}`);
      }
    }
    for (const bad of ['-1', '1.5', '1e3', 'x', '%20', '+1', '99999999999999999999999']) {
      const { status, json } = await call(server, 'GET', `/rooms/${ROOM}/messages?after=${bad}`);
      assert.deepEqual([status, json.error.code], [400, 'invalid_payload'], bad);
    }
    for (const ahead of [1_000_000, 2 ** 53 - 1, 2 ** 60]) await refusedAfter(server, ahead);
    assert.equal(all(socket, 'request:error').length, 0);
  });

  test('a position of another server is refused', async () => {
    const other = await Appliance.start({ env: noLimits });
    try {
      // As much has happened there: the numbers alone would fit.
      for (let n = 0; n < 300; n += 1) await say(other, String(n));
      await call(other, 'POST', '/progress', { lessonId: 1, progress: 5 });
      await refusedPoll(other, cursor, 'from elsewhere');
      await refusedSince(other, since);
      await refusedPoll(server, (await poll(other)).json.cursor, 'from elsewhere');
    } finally {
      await other.stop();
    }
  });
});

test('positions of a life that a restore has ended, and of a time that a rolled back machine has not seen, are refused', async () => {
  const server = await Appliance.start({ env: noLimits });
  const run = (...args) => execFileSync(binary, [...args, '--data-dir', server.data], { env: { PATH: process.env.PATH, JWT_SECRET: secret }, encoding: 'utf8' });
  const positions = async () => {
    const id = await say(server, 'x');
    await call(server, 'POST', '/progress', { lessonId: 1, progress: 5 });
    return { id, cursor: (await poll(server)).json.cursor, since: (await call(server, 'GET', '/progress')).json.cursor };
  };
  const early = await positions();
  await server.halt();
  run('backup', join(server.dir, 'a.backup'));
  // The disk as a snapshot of the machine would have it.
  cpSync(server.data, join(server.dir, 'snapshot'), { recursive: true });
  await server.launch();
  // Further than what is said below: where an id is given anew, nobody can tell.
  for (let n = 0; n < 100; n += 1) await say(server, String(n));
  const late = await positions();
  await server.halt();

  rmSync(server.data, { recursive: true });
  cpSync(join(server.dir, 'snapshot'), server.data, { recursive: true });
  await server.launch();
  await refusedAfter(server, late.id);
  await refusedSince(server, late.since);
  assert.equal((await poll(server, early.cursor)).status, 200, 'what this store has given is good');
  await server.halt();

  await server.launch();
  const lost = await positions();
  await server.halt();
  run('restore', join(server.dir, 'a.backup'));
  await server.launch();
  for (const { cursor, since } of [early, lost]) {
    await refusedPoll(server, cursor, 'of the life before');
    await refusedSince(server, since);
  }
  await refusedAfter(server, lost.id);
  // An id of before the backup is the same message in this life.
  const socket = await server.signedIn(ANN);
  const joined = await ask(socket, 'chat:join', { roomId: ROOM, after: early.id, limit: 200 });
  assert.ok(joined.ok && joined.messages.every((one) => one.id > lost.id), 'no id comes twice');
  await server.halt();
  run('restore', '--undo');
  await server.launch();
  for (const one of [early, lost]) await refusedPoll(server, one.cursor, 'of the life before the last');
  assert.equal((await call(server, 'GET', `/rooms/${ROOM}/messages?after=${lost.id}`)).status, 200, 'it is back');
  await server.stop();
});
