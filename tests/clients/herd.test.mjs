// The server stops and starts while many are connected: they are told when to come again, go over a while, come back all at
// once, and nothing that was acknowledged is missing.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { test } from 'node:test';
import { createSecureContext } from 'node:tls';
import { Worker } from 'node:worker_threads';
import { WebSocket } from 'ws';
import { Appliance, all, ask, assertRising, heard, noLimits, token, until } from './harness.mjs';

// Over TLS fewer: as many take this process, which makes the other half of all handshakes, 7 to 9 s of its processor time.
// No more than there are descriptors for: each client is one here and one in the server.
const DESCRIPTORS = Number(execFileSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' })) || Infinity;
const HERDS = [{ tls: false, size: 5_000 }, { tls: true, size: 2_500 }].map(({ tls, size }) => ({ tls, size: Math.min(size, DESCRIPTORS - 500) }));
// The queue of a port is no longer than this.
const SOMAXCONN = Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'));
const ROOMS = 50;
const BACK_MS = 10_000;
// So many besides, in a thread that does nothing else: this one is so busy with the crowd that it may learn of all ends together.
const WATCHERS = 100;

// A client as thin as can be: five thousand of the stock ones would keep this machine busy by themselves.
class Thin {
  constructor(server, userId) {
    Object.assign(this, { server, userId, guests: [], messages: [], bearer: token({ userId, exp: Math.floor(Date.now() / 1000) + 7_200 }), roomId: `herd-${userId % ROOMS}`, sent: 0, acks: new Map(), waiting: new Map() });
  }

  // Resolves when it is signed in and has joined its room.
  connect() {
    return new Promise((resolve, reject) => {
      this.hints = [];
      const { tls, port, secureContext } = this.server;
      const socket = new WebSocket(`${tls ? 'wss' : 'ws'}://127.0.0.1:${port}/ws/?EIO=4&transport=websocket`, { perMessageDeflate: false, secureContext });
      this.socket = socket;
      this.closed = new Promise((done) => socket.once('close', done));
      socket.on('error', reject);
      socket.once('close', () => reject(new Error('closed before it was signed in')));
      socket.on('message', (data) => {
        const text = String(data);
        if (text[0] === '0') socket.send(`40${JSON.stringify({ token: this.bearer })}`);
        else if (text === '2') socket.send('3');
        else if (text.startsWith('42["authenticated"')) {
          this.signedInAt = Date.now();
          this.request('chat:join', { roomId: this.roomId, limit: 1 }).then(resolve, reject);
        } else if (text.startsWith('42["chat:user_')) {
          const [event, { roomId, userId: who }] = JSON.parse(text.slice(2));
          this.guests.push({ has: event.slice('chat:user_'.length), roomId, who });
        } else if (text.startsWith('42["chat:message"')) this.messages.push(text);
        else if (text.startsWith('42["server:draining"')) this.hints.push(JSON.parse(text.slice(2))[1]);
        else if (text.startsWith('43')) {
          const [, id, body] = /^43(\d+)(.*)$/s.exec(text);
          this.waiting.get(Number(id))(JSON.parse(body)[0]);
          this.waiting.delete(Number(id));
        }
      });
    });
  }

  request(event, payload) {
    return new Promise((resolve) => {
      this.waiting.set((this.sent += 1), resolve);
      this.socket.send(`42${this.sent}${JSON.stringify([event, payload])}`);
    });
  }

  // Says something; what is acknowledged is remembered.
  say(content) {
    this.request('chat:message', { roomId: this.roomId, content, clientId: content }).then((ack) => { if (ack.ok) this.acks.set(content, ack); });
  }
}

// How often the kernel had no place for a connection that was to be accepted: at this port, where there is `ss`, which tells the
// drops of a socket; and of all ports of this machine, whoever has them.
function dropsAt(port) {
  try {
    return [...execFileSync('ss', ['-ltnm', `sport = :${port}`], { encoding: 'utf8' }).matchAll(/,d(\d+)\)/g)].reduce((sum, [, drops]) => sum + Number(drops), 0);
  } catch {
    return undefined;
  }
}

function listenOverflows() {
  const [names, numbers] = readFileSync('/proc/net/netstat', 'utf8').split('\n').filter((line) => line.startsWith('TcpExt:')).map((line) => line.split(' '));
  return Number(numbers[names.indexOf('ListenOverflows')]);
}

async function inParts(items, size, what) {
  for (let at = 0; at < items.length; at += size) await Promise.all(items.slice(at, at + size).map(what));
}

for (const { tls, size } of HERDS) test(`${size} clients${tls ? ' over TLS' : ''} are sent away over a while, return at once, and are all back within ${BACK_MS / 1000} s; nothing acknowledged is missing`, { timeout: 240_000 }, async () => {
  const server = await Appliance.start({ env: noLimits, tls });
  // One for all: each of them would read the certificate again.
  server.secureContext = tls ? createSecureContext({ ca: server.ca }) : undefined;
  const herd = Array.from({ length: size }, (_, n) => new Thin(server, n + 1));
  await inParts(herd, 250, (client) => client.connect());
  const bearers = Array.from({ length: WATCHERS }, (_, n) => token({ userId: size + n + 1 }));
  const watchers = new Worker(new URL('./watchers.mjs', import.meta.url), { workerData: { url: herd[0].socket.url, ca: server.ca, bearers } });
  assert.deepEqual(await once(watchers, 'message'), ['signed in']);
  const watched = once(watchers, 'message');
  // A room of a hundred hears each message: a few talk in each, up to the very end; over TLS less, which this process has to
  // decrypt.
  const pauseMs = tls ? 500 : 100;
  const talkers = herd.filter((_, n) => n < ROOMS * 4);
  let isOver = false;
  const talk = (async () => {
    for (let n = 0; !isOver; n += 1) {
      for (const client of talkers.slice((n % 4) * ROOMS, (n % 4 + 1) * ROOMS)) if (client.socket.readyState === WebSocket.OPEN) client.say(`${client.bearer.slice(-6)}-${n}`);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  })();
  await until(() => talkers.every((client) => client.acks.size > 0), 'all of them are heard');
  const stopAt = Date.now();
  server.child.kill('SIGTERM');
  const codes = await Promise.all(herd.map((client) => client.closed));
  isOver = true;
  await talk;
  assert.equal((await server.exited).code, 0, server.stderr);
  const tookMs = Date.now() - stopAt;
  assert.ok(tookMs < 10_000, `the drain took ${tookMs} ms`);
  const went = (await watched)[0].map((closedAt) => closedAt - stopAt).sort((a, b) => a - b);
  const [early, late] = [went[WATCHERS * 0.05], went[WATCHERS * 0.95 - 1]];
  // They are sent away over half a millisecond each.
  assert.ok(late - early > size / 4, `they went between ${early} and ${late} ms: all at the same moment`);
  assert.ok(codes.filter((code) => code === 1012).length > size * 0.9, 'with the code of a restart');
  const hints = herd.flatMap((client) => client.hints.map((hint) => hint.retryAfterMs)).sort((a, b) => a - b);
  assert.equal(hints.length, size, 'each is told when to come again');
  assert.ok(hints[0] >= 1_000 && hints.at(-1) <= 10_000 && hints.at(-1) - hints[0] > size / 2, `${hints[0]} to ${hints.at(-1)} ms`);

  await server.launch();
  const overflowsBefore = listenOverflows();
  const backAt = Date.now();
  // All at once, whatever they were told: as if the power had come back in a building.
  await Promise.all(herd.map(async (client) => {
    for (;;) {
      try {
        return await client.connect();
      } catch {
        if (Date.now() - backAt > BACK_MS * 3) throw new Error('it did not come back');
      }
    }
  }));
  const back = herd.map((client) => client.signedInAt - backAt).sort((a, b) => a - b);
  console.log(`# ${size} back: half within ${back[size / 2]} ms, all within ${back.at(-1)} ms; gone within ${tookMs} ms, 5 % to 95 % between ${early} and ${late} ms`);
  const [drops, overflows] = [dropsAt(server.port), listenOverflows() - overflowsBefore];
  console.log(`# found the queue full: ${drops} here, ${overflows} anywhere, with room for ${SOMAXCONN}`);
  // Where the queue may not be long enough, the kernel's administrator has said so.
  if (SOMAXCONN >= 4_096) assert.ok(drops === 0 || overflows === 0, 'nobody found the queue full, and had to send a SYN again');
  assert.ok(back.at(-1) < BACK_MS, `the last one was back after ${back.at(-1)} ms`);

  for (let room = 0; room < ROOMS; room += 1) {
    const reader = herd.find((client) => client.roomId === `herd-${room}`);
    const stored = [];
    for (let page = { hasMore: true }, after = 0; page.hasMore; after = page.messages.at(-1)?.id) {
      page = await reader.request('chat:history', { roomId: `herd-${room}`, after, limit: 200 });
      stored.push(...page.messages);
    }
    assertRising(stored.map((one) => one.seq));
    const byContent = new Map(stored.map((one) => [one.content, one]));
    assert.equal(byContent.size, stored.length, 'nothing is there twice');
    for (const client of herd.filter(({ roomId }) => roomId === `herd-${room}`)) {
      for (const [content, ack] of client.acks) assert.equal(byContent.get(content)?.id, ack.id, content);
    }
  }
  for (const client of herd) client.socket.terminate();
  await server.stop();
});

test('2,000 who come at once, while the server does nothing, all have a place, and none asks twice', async (t) => {
  const server = await Appliance.start({ env: noLimits });
  const count = Math.min(2_000, SOMAXCONN, DESCRIPTORS - 500);
  const sockets = [];
  t.after(async () => {
    server.child.kill('SIGCONT');
    for (const socket of sockets) socket.destroy();
    await server.stop();
  });
  // Nobody accepts: the kernel alone answers, or does not.
  server.child.kill('SIGSTOP');
  let connected = 0;
  for (let n = 0; n < count; n += 1) sockets.push(createConnection(server.port, '127.0.0.1', () => { connected += 1; }).on('error', () => {}));
  await until(() => connected === count, 'each of them is connected').catch((error) => { throw new Error(`${error.message}: ${connected} of ${count} are`); });
  assert.ok([0, undefined].includes(dropsAt(server.port)), `${dropsAt(server.port)} had no place`);
  server.child.kill('SIGCONT');
  const answered = sockets.map((socket) => new Promise((resolve) => socket.once('data', resolve)));
  for (const socket of sockets) socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
  for (const answer of await Promise.all(answered)) assert.match(String(answer), /^HTTP\/1\.1 200/);
});

test('500 who join a room, leave it, and do both at once are announced, each once, and messages pass between them', { timeout: 120_000 }, async (t) => {
  const server = await Appliance.start({ env: noLimits });
  const herd = Array.from({ length: 500 }, (_, n) => new Thin(server, n + 1));
  const [witness, marker] = [new Thin(server, 901), new Thin(server, 902)];
  t.after(async () => {
    for (const client of [...herd, witness, marker]) client.socket?.terminate();
    await server.stop();
  });
  witness.roomId = 'class';
  await inParts([...herd, witness, marker], 250, (client) => client.connect());
  const everyone = (event) => Promise.all(herd.map((client) => client.request(event, { roomId: 'class' })));
  const heardBy = (client, has) => client.guests.filter((one) => one.roomId === 'class' && one.has === has).map((one) => one.who);
  const ids = herd.map(({ userId }) => userId);
  const sorted = (list) => list.toSorted((a, b) => a - b);

  const beganAt = Date.now();
  assert.ok((await everyone('chat:join')).every(({ ok }) => ok));
  const joinedMs = Date.now() - beganAt;
  const { ok } = await witness.request('chat:message', { roomId: 'class', content: 'behind them' });
  assert.ok(ok);
  await until(() => herd.every((client) => client.messages.some((text) => text.includes('behind them'))), 'the message has reached all');
  const saidMs = Date.now() - beganAt;
  await until(() => heardBy(witness, 'joined').length === ids.length, 'all of them are announced');
  console.log(`# 500 have joined within ${joinedMs} ms, a message has reached all of them after ${saidMs} ms, all are announced after ${Date.now() - beganAt} ms`);
  assert.deepEqual([sorted(heardBy(witness, 'joined')), heardBy(witness, 'left')], [ids, []]);
  for (const client of herd) {
    const heard = heardBy(client, 'joined');
    assert.ok(new Set(heard).size === heard.length && !heard.includes(client.userId), 'each at most once, and nobody hears of themselves');
  }

  assert.ok((await everyone('chat:leave')).every(({ ok }) => ok));
  await until(() => heardBy(witness, 'left').length === ids.length, 'all of them have left');
  assert.deepEqual(sorted(heardBy(witness, 'left')), ids);

  witness.guests.length = 0;
  // In and out again, without waiting for an answer.
  await Promise.all(herd.flatMap((client) => ['chat:join', 'chat:leave', 'chat:join', 'chat:leave'].map((event) => client.request(event, { roomId: 'class' }))));
  await marker.request('chat:join', { roomId: 'class' });
  await until(() => heardBy(witness, 'joined').includes(marker.userId), 'the one behind them is announced');
  const states = new Map();
  for (const { who, has } of witness.guests) {
    assert.notEqual(states.get(who) ?? 'left', has, `the two take turns, and a leave is told of nobody who has not come: ${who} ${has}`);
    states.set(who, has);
  }
  states.delete(marker.userId);
  assert.ok([...states.values()].every((has) => has === 'left'), 'the last state wins');
  console.log(`# of 1,000 joins and 1,000 leaves at once ${witness.guests.length} were told`);
  // Everybody's connection ends at once, and the one who stays hears of each.
  witness.guests.length = 0;
  assert.ok((await everyone('chat:join')).every(({ ok }) => ok));
  await until(() => heardBy(witness, 'joined').length === ids.length, 'all of them are here again');
  for (const client of herd) client.socket.terminate();
  await until(() => heardBy(witness, 'left').length === ids.length, 'all of them have gone');
  assert.deepEqual(sorted(heardBy(witness, 'left')), ids);
});

test('stock clients are told of a restart and come back by themselves, on each transport', async () => {
  const server = await Appliance.start({ env: noLimits });
  const options = { reconnection: true, reconnectionDelay: 100, reconnectionDelayMax: 300 };
  const sockets = await Promise.all([['websocket'], ['polling'], ['polling', 'websocket']].map((transports, n) => server.signedIn({ userId: n + 1 }, { transports, ...options })));
  const reasons = sockets.map((socket) => new Promise((resolve) => socket.once('disconnect', resolve)));
  for (const socket of sockets) await ask(socket, 'chat:join', 'r');
  const { id } = await ask(sockets[0], 'chat:message', { roomId: 'r', content: 'before' });
  server.child.kill('SIGTERM');
  assert.equal((await server.exited).code, 0);
  // By polling the next poll finds nobody any more; for the client it is a loss like another, and it comes back.
  assert.deepEqual((await Promise.all(reasons)).filter((reason) => !['transport close', 'transport error'].includes(reason)), []);
  for (const socket of sockets) assert.ok((await heard(socket, 'server:draining')).retryAfterMs >= 1_000);
  await server.launch();
  for (const socket of sockets) {
    await until(() => all(socket, 'authenticated').length === 2, 'it has come back');
    assert.deepEqual((await ask(socket, 'chat:join', { roomId: 'r', after: id - 1 })).messages.map((one) => one.content), ['before']);
  }
  await server.stop();
});

test('5,000 waiting polls cost less than 10 KiB each, and one that is abandoned is let go within a second', { timeout: 120_000 }, async (t) => {
  const server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_LIMITS_CONNECTIONS_PER_ADDRESS: '8000' } });
  const opened = [];
  t.after(async () => {
    for (const socket of opened) socket.destroy();
    await server.halt();
  });
  const claims = { userId: 1, role: 'admin' };
  const waiting = async () => Number(/academy_rt_polls_waiting (\d+)/.exec((await server.fetch('/metrics', { claims })).raw)[1]);
  const placeOf = async (userId) => (await server.fetch('/api/v1/events?rooms=a', { claims: { userId } })).json.cursor;
  const inParts = async (count, size, what) => {
    const all = [];
    for (let at = 0; at < count; at += size) all.push(...await Promise.all(Array.from({ length: Math.min(size, count - at) }, (_, n) => what(at + n))));
    return all;
  };
  const open = (request) => new Promise((resolve) => {
    const socket = createConnection(server.port, '127.0.0.1', () => socket.write(`GET ${request}\r\n\r\n`, () => resolve(socket)));
    opened.push(socket.on('error', () => {}));
  });
  // Each from a place of their own, behind the coming of all of them: none wakes another. They come over few connections, so
  // that what is measured is those that wait.
  const placesOf = async (count) => {
    let cursors;
    // Who comes is told to a room for up to a quarter of a second behind it: until nothing is told any more.
    await until(async () => {
      cursors = await inParts(count, 20, async (n) => (await server.fetch('/api/v1/events?rooms=a', { claims: { userId: n + 2 } })).json.cursor);
      await new Promise((resolve) => setTimeout(resolve, 300));
      const path = `/api/v1/events?rooms=a&cursor=${cursors[0]}`;
      return (await server.fetch(path, { claims: { userId: 2 } })).json.events.length === 0;
    }, 'nobody comes any more', 60_000);
    return cursors;
  };
  const waitFrom = (cursors) => inParts(cursors.length, 500, (n) => open(`/api/v1/events?cursor=${cursors[n]}&rooms=a&wait=30 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token({ userId: n + 2 })}`));
  // A first round that ends: what the allocator keeps for good is not a poll's.
  const few = await waitFrom(await placesOf(200));
  await until(async () => (await waiting()) === 200, 'they wait');
  for (const socket of few) socket.destroy();
  await until(async () => (await waiting()) === 0, 'they are let go');
  const start = server.rssKiB();
  const idle = await inParts(1_000, 1, () => open('/healthz HTTP/1.1\r\nHost: x'));
  for (const socket of idle) if (socket.bytesRead === 0) await new Promise((resolve) => socket.once('data', resolve));
  const connection = (server.rssKiB() - start) / idle.length;
  // What is kept of people who come for the first time is not a poll's either.
  const beforeAll = server.rssKiB();
  const places = await placesOf(5_000);
  const before = server.rssKiB();
  const polls = await waitFrom(places);
  await until(async () => (await waiting()) === 5_000, 'all of them wait');
  const each = (server.rssKiB() - before) / 5_000;
  console.log(`# a connection that waits for a poll costs ${each.toFixed(1)} KiB, an idle one ${connection.toFixed(1)}: waiting costs ${(each - connection).toFixed(1)}`);
  const whole = (server.rssKiB() - beforeAll) / 5_000;
  assert.ok(whole < 24, `${whole} KiB with what is kept of the person`);
  assert.ok(each - connection < 10 && each < 24, `${each} KiB, ${connection} of them the connection`);
  const began = Date.now();
  for (const socket of polls.slice(0, 2_500)) socket.destroy();
  await until(async () => (await waiting()) === 2_500, 'the abandoned ones are let go');
  assert.ok(Date.now() - began < 1_000, `${Date.now() - began} ms`);
  // Those that are left hear the next message, each.
  const woken = Promise.all(polls.slice(2_500).map((socket) => new Promise((resolve) => socket.once('data', resolve))));
  await server.fetch('/api/v1/rooms/a/messages', { method: 'POST', claims, body: { content: 'to all' } });
  for (const answer of await woken) assert.match(String(answer), /200 OK[\s\S]*to all/);
});
