// `academy-rt bench` measures other servers than academy-rt: what they use, and what they lose.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import jwt from 'jsonwebtoken';
import { Server } from 'socket.io';
import { load, measure, node } from './servers.mjs';

const few = ['--rooms', '3', '--members', '4', '--senders', '3', '--rate', '60', '--seconds', '1'];

test('the Node server of the bench keeps what it promises, and is seen to', async () => {
  const chat = await measure(node, ['chat', ...few]);
  assert.deepEqual([chat.ok, chat.acknowledged, chat.refused, chat.lost, chat.doubled, chat.disordered, chat.gone], [true, 60, 0, 0, 0, 0, 0]);
  assert.equal(chat.deliveries, 60 * 4);
  for (const [name, least] of Object.entries({ cpuUsPerMessage: 1, readAndWriteCallsPerMessage: 4, writtenBytesPerMessage: 100 })) {
    assert.ok(chat[name] >= least, `${name}: ${chat[name]}`);
  }
  assert.equal(chat.server.commitsPerSecond, null, 'nobody has said it');
  const progress = await measure(node, ['progress', '--clients', '5', '--rate', '50', '--seconds', '1']);
  assert.deepEqual([progress.acknowledged, progress.refused], [50, 0]);
  const idle = await measure(node, ['idle', '--clients', '50', '--seconds', '1']);
  assert.ok(idle.cpuUsPerConnect > 0, JSON.stringify(idle));
});

/** A server that stores nothing, at another path, whose messages have no `seq`; `tell` says what becomes of each, `late` how long its answer takes. */
async function bare(tell, late = () => 0) {
  const http = createServer((_, response) => response.end('ready'));
  const io = new Server(http, { path: '/live/socket.io' });
  io.on('connection', (socket) => {
    const { userId } = jwt.decode(socket.handshake.auth.token);
    socket.emit('authenticated', { userId });
    socket.on('chat:join', ({ roomId }, ack) => { socket.join(roomId); ack({ ok: true }); });
    socket.on('chat:message', ({ roomId, content }, ack) => {
      const number = Number(content.split(':')[1]);
      const wait = late({ roomId }, number);
      if (wait > 0) setTimeout(() => ack({ ok: true }), wait);
      else ack({ ok: true });
      tell((message) => io.to(roomId).emit('chat:message', message), { roomId, content });
    });
  });
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${http.address().port}`;
  return { flags: ['--url', url, '--path', 'live/socket.io'], end: () => new Promise((resolve) => io.close(resolve)) };
}

test('a server without seq, metrics and a known process is measured by what it answers', async () => {
  const server = await bare((emit, message) => emit(message));
  const found = await load(['chat', ...few, ...server.flags]);
  assert.deepEqual([found.acknowledged, found.lost, found.doubled, found.disordered], [60, 0, 0, 0]);
  assert.equal(found.server, null, 'a page at /metrics that has no figures says nothing');
  await server.end();
});

test('what such a server loses, doubles and disorders is counted', async () => {
  const kinds = {
    lost: (emit, message, number) => number % 10 !== 3 && emit(message),
    doubled: (emit, message, number) => { emit(message); if (number % 10 === 3) emit(message); },
    disordered: (() => {
      const held = new Map();
      return (emit, message, number) => {
        if (number % 10 === 3) held.set(message.roomId, message);
        else {
          emit(message);
          if (held.has(message.roomId)) emit(held.get(message.roomId));
          held.delete(message.roomId);
        }
      };
    })(),
  };
  for (const [kind, tell] of Object.entries(kinds)) {
    const server = await bare((emit, message) => tell(emit, message, Number(message.content.split(':')[1])));
    await assert.rejects(load(['chat', ...few, ...server.flags]), (error) => {
      const counted = JSON.parse(error.message.slice(error.message.indexOf('{')));
      const all = Object.fromEntries(['lost', 'doubled', 'disordered'].map((name) => [name, counted[name]]));
      // Of 20 messages of each of three senders two have such a number, and each goes to four.
      assert.deepEqual(all, { lost: 0, doubled: 0, disordered: 0, [kind]: 3 * 2 * 4 }, kind);
      return true;
    });
    await server.end();
  }
});

test('a search goes on where a rate was too high once, and ends where it is twice', async () => {
  let stalls = 0;
  const server = await bare((emit, message) => emit(message), ({ roomId }, number) => {
    // Rooms are called after the number of the rate: the second and all behind it are too high.
    const [, , rate] = roomId.split('-');
    if (rate !== '0') return 150;
    const isFirst = number === 5 && stalls === 0;
    if (isFirst) stalls += 1;
    return isFirst ? 150 : 0;
  });
  const found = await load(['chat', '--rooms', '1', '--members', '2', '--senders', '1', '--rate', '20', '--seconds', '1', '--find', '100', ...server.flags]);
  assert.equal(stalls, 1, 'the first rate was late once');
  assert.equal(found.perSecond, 20);
  assert.ok(found.runs.find(({ rate }) => rate === 20).outcome.ack.p99Ms <= 100 && found.runs.every(({ rate, outcome }) => rate === 20 || outcome.ack.p99Ms > 100));
  await server.end();
});
