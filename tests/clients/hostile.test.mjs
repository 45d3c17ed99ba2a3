// Bytes and requests of strangers: each has a clear refusal, the socket lives on (or the protocol's close), nothing is
// stored, nothing panics, and memory stays flat.
import assert from 'node:assert/strict';
import { createConnection } from 'node:net';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import { Appliance, all, ask, heard, noLimits, token, until } from './harness.mjs';

let server;
before(async () => {
  server = await Appliance.start({ env: noLimits });
  const made = await server.fetch('/api/v1/admin/rooms', { claims: { userId: 99, role: 'admin' }, method: 'POST', body: { roomId: 'shut', private: true } });
  assert.equal(made.status, 200, made.raw);
});
after(async () => {
  assert.doesNotMatch(server.stderr, /panick/);
  await server.stop();
});

// Does something many times, after a warm-up of a tenth, and looks at the memory.
async function flat(times, what, { atOnce = 50, slackKiB = 6000 } = {}) {
  const run = async (many) => {
    for (let at = 0; at < many; at += atOnce) {
      await Promise.all(Array.from({ length: Math.min(atOnce, many - at) }, (_, i) => what(at + i)));
    }
  };
  await run(Math.ceil(times / 5));
  const before = server.rssKiB();
  await run(times);
  const grown = server.rssKiB() - before;
  assert.ok(grown < Math.max(before * 0.25, slackKiB), `memory grew by ${grown} KiB from ${before}`);
  assert.equal((await server.fetch('/readyz')).status, 200);
}

const bad = [
  ['chat:join', { roomId: 'user:1' }, 'invalid_payload'],
  ['chat:join', { roomId: 'USER:1' }, 'invalid_payload'],
  ['chat:join', 'chat:room-1', 'invalid_payload'],
  ['chat:join', { roomId: 'a\u0000b' }, 'invalid_payload'],
  ['chat:join', { roomId: 'a\nb' }, 'invalid_payload'],
  ['chat:join', { roomId: 'a b' }, 'invalid_payload'],
  ['chat:join', { roomId: '' }, 'invalid_payload'],
  ['chat:join', { roomId: 'x'.repeat(101) }, 'invalid_payload'],
  ['chat:join', { roomId: -1 }, 'invalid_payload'],
  ['chat:join', { roomId: 1.5 }, 'invalid_payload'],
  ['chat:join', { roomId: { $gt: '' } }, 'invalid_payload'],
  ['chat:join', [], 'invalid_payload'],
  ['chat:join', null, 'invalid_payload'],
  ['chat:join', { roomId: 'hostile', limit: 201 }, 'invalid_payload'],
  ['chat:join', { roomId: 'hostile', after: 2 ** 52 }, 'resync'],
  ['chat:message', { roomId: 'hostile' }, 'invalid_payload'],
  ['chat:message', { content: 'x' }, 'invalid_payload'],
  ['chat:message', { roomId: 'hostile', content: 7 }, 'invalid_payload'],
  ['chat:message', { roomId: 'hostile', content: '' }, 'invalid_payload'],
  ['chat:message', { roomId: 'hostile', content: 'x', type: 'system' }, 'invalid_payload'],
  ['chat:message', { roomId: 'hostile', content: 'x', clientId: '' }, 'invalid_payload'],
  ['chat:message', { roomId: 'shut', content: 'x' }, 'forbidden'],
  ['chat:join', { roomId: 'shut' }, 'forbidden'],
  ['chat:message', { roomId: 'hostile', content: 'x'.repeat(4001) }, 'too_large'],
  ['chat:edit', { roomId: 'hostile', messageId: 1e9, content: 'x' }, 'not_found'],
  ['chat:read', { roomId: 'hostile', messageId: 1e9 }, 'not_found'],
  ['chat:typing', { roomId: 'hostile' }, 'invalid_payload'],
  ['chat:typing', { roomId: 'elsewhere', isTyping: true }, 'not_joined'],
  ['presence:list', { roomId: 'elsewhere' }, 'not_joined'],
  ['chat:leave', {}, 'invalid_payload'],
  ['chat:leave', { roomId: 'a b' }, 'invalid_payload'],
  ['progress:sync', { lessonId: 1, progress: -1, timeSpent: 0 }, 'invalid_payload'],
  ['progress:sync', { lessonId: 1, progress: 101, timeSpent: 0 }, 'invalid_payload'],
  ['progress:sync', { lessonId: 1, progress: NaN, timeSpent: 0 }, 'invalid_payload'],
  ['progress:sync', { lessonId: 1, progress: '75', timeSpent: 0 }, 'invalid_payload'],
  ['progress:sync', { lessonId: 1, progress: 1, timeSpent: 86401 }, 'invalid_payload'],
  ['progress:sync', { lessonId: 1, progress: 1, timeSpent: -1 }, 'invalid_payload'],
  ['progress:sync', { progress: 1 }, 'invalid_payload'],
  ['progress:sync', Array(501).fill({ lessonId: 1, progress: 1 }), 'too_large'],
  ['progress:get', { since: 'nonsense' }, 'resync'],
  ['notification:read', {}, 'invalid_payload'],
  ['notification:read', { all: true, upTo: '1' }, 'invalid_payload'],
  ['notification:read', { id: 1, upTo: 1 }, 'invalid_payload'],
  ['notification:list', { limit: 0 }, 'invalid_payload'],
  ['auth:refresh', { token: 'x' }, 'token_malformed'],
  ['nonsense', {}, 'invalid_payload'],
  ['disconnecting', {}, 'invalid_payload'],
];

test('each bad request has its code, 10,000 of them leave nothing, and the socket lives on', async () => {
  const socket = await server.signedIn({ userId: 1 });
  await ask(socket, 'chat:join', { roomId: 'hostile' });
  for (const [event, payload, code] of bad) {
    if (event === 'disconnecting') continue; // the stock client refuses to send a reserved name
    const answer = await ask(socket, event, payload);
    assert.deepEqual([answer.ok, answer.error?.code], [false, code], `${event} ${JSON.stringify(payload)?.slice(0, 80)}`);
  }
  const cheap = bad.filter(([event, payload]) => event !== 'disconnecting' && !Array.isArray(payload));
  await flat(10_000, async (i) => {
    const [event, payload] = cheap[i % cheap.length];
    assert.equal((await ask(socket, event, payload)).ok, false);
  });
  assert.equal(socket.connected, true);
  assert.deepEqual((await ask(socket, 'chat:history', { roomId: 'hostile' })).messages, []);
  const shut = await server.fetch('/api/v1/rooms/shut/messages', { claims: { userId: 99, role: 'admin' } });
  assert.deepEqual([shut.status, shut.json.messages], [200, []]);
  assert.deepEqual((await ask(socket, 'progress:get', {})).items, []);
  assert.equal(all(socket, 'request:error').length, 0);
});

test('a socket that joins 50,000 rooms is in as many as it may be; the others are refused, and leave nothing', async (t) => {
  const server = await Appliance.start({ env: noLimits });
  t.after(() => server.stop());
  const most = 1_000;
  const greedy = await server.signedIn({ userId: 1 });
  const join = (n) => ask(greedy, 'chat:join', { roomId: `greedy-${n}`, limit: 1 });
  const joinAll = async (from, to) => {
    const answers = [];
    for (let at = from; at < to; at += 500) answers.push(...await Promise.all(Array.from({ length: Math.min(500, to - at) }, (_, n) => join(at + n))));
    return answers;
  };
  assert.ok((await joinAll(0, most)).every(({ ok }) => ok), 'these are its rooms');
  const refusals = async (from, to) => (await joinAll(from, to)).filter(({ ok, error }) => !ok && error.code === 'conflict' && error.field === 'roomId' && error.message.includes('chat:leave')).length;
  assert.equal(await refusals(most, 5_000), 5_000 - most);
  const before = server.rssKiB();
  assert.equal(await refusals(5_000, 50_000), 45_000);
  const grown = server.rssKiB() - before;
  console.log(`# 45,000 more rooms: ${grown} KiB`);
  assert.ok(grown < 8 * 1_024, `${grown} KiB more`);
  assert.equal((await join(0)).ok, true, 'where it is already it may join again');
  assert.equal((await ask(greedy, 'chat:leave', { roomId: 'greedy-7' })).ok, true);
  assert.equal((await join(50_000)).ok, true, 'one that it has left makes room for another');
  assert.equal((await join(50_001)).ok, false);
  // What is given up is given back: another socket of the same user has as many.
  greedy.disconnect();
  const next = await server.signedIn({ userId: 1 });
  assert.equal((await ask(next, 'chat:join', { roomId: 'greedy-50001' })).ok, true);
});

test('deep nesting is refused and not followed; 1 MB of content is refused, more closes that socket alone', async () => {
  const socket = await server.signedIn({ userId: 2 });
  await ask(socket, 'chat:join', { roomId: 'deep' });
  const raw = (text) => socket.io.engine.write(text);
  const open = (deep) => `${'['.repeat(deep)}${']'.repeat(deep)}`;
  await flat(200, async () => raw(`2["chat:message",{"roomId":"deep","content":${open(100_000)}}]`), { atOnce: 5, slackKiB: 30_000 });
  await heard(socket, 'request:error', (one) => one.code === 'invalid_payload');
  assert.equal((await ask(socket, 'chat:message', { roomId: 'deep', content: 'x'.repeat(990_000) })).error.code, 'too_large');
  assert.equal(socket.connected, true);
  const other = await server.signedIn({ userId: 3 });
  socket.emit('chat:message', { roomId: 'deep', content: 'x'.repeat(1_100_000) });
  await until(() => !socket.connected, 'the oversized frame closes its socket');
  assert.equal((await ask(other, 'chat:join', { roomId: 'deep' })).lastSeq, 0);
});

const ws = (query = '') => new WebSocket(`${server.url.replace('http', 'ws')}/ws/?EIO=4&transport=websocket${query}`);
const closed = (socket) => new Promise((resolve) => {
  socket.on('close', resolve);
  socket.on('error', () => {});
});

test('malformed packets close as the protocol says; 10,000 leave memory flat', async () => {
  const packets = ['', '9', '4', '49', '42', '42{', '42[', '42[7]', '42[]', '42["chat:join"', '4"', '40{', '451-["x",{"_placeholder":true,"num":0}]', '42["a",', '4\u0000', '43x', '499999999999999999999[]'];
  await flat(10_000, async (i) => {
    const socket = ws();
    const end = closed(socket);
    socket.on('message', (data) => {
      if (data[0] === 0x30) socket.send(`40${JSON.stringify({ token: token({ userId: 5 }) })}`);
      else if (data[0] === 0x34 && data[1] === 0x30) {
        socket.send(packets[i % packets.length]);
        socket.close();
      }
    });
    await end;
  });
});

test('half an upgrade and an abandoned poll: the session goes on', async () => {
  const poll = (sid, options) => fetch(`${server.url}/ws/?EIO=4&transport=polling${sid ? `&sid=${sid}` : ''}`, options);
  const open = async () => {
    const { sid } = JSON.parse((await (await poll()).text()).slice(1));
    await poll(sid, { method: 'POST', body: `40${JSON.stringify({ token: token({ userId: 6 }) })}` });
    return sid;
  };
  const readUntil = async (sid, what) => until(async () => (await (await poll(sid)).text()).includes(what), `${what} is polled`);
  await flat(300, async (i) => {
    const sid = await open();
    await readUntil(sid, 'authenticated');
    if (i % 2) {
      // The upgrade stops after its probe.
      const upgrade = ws(`&sid=${sid}`);
      const end = closed(upgrade);
      upgrade.on('open', () => upgrade.send('2probe'));
      upgrade.on('message', () => upgrade.terminate());
      await end;
    } else {
      const abort = new AbortController();
      const waiting = poll(sid, { signal: abort.signal }).catch(() => {});
      await poll(sid, { method: 'POST', body: '3' });
      abort.abort();
      await waiting;
    }
    // It goes on: what it asks now is answered, by polling; and what it says last is taken.
    const asked = await poll(sid, { method: 'POST', body: '421["chat:join",{"roomId":"hostile"}]' });
    assert.equal(asked.status, 200, await asked.text());
    await readUntil(sid, '431[{"ok":true');
    const left = await poll(sid, { method: 'POST', body: '41' });
    assert.deepEqual([left.status, await left.text()], [200, 'ok']);
  }, { atOnce: 10 });
});

test('half requests and other protocols are cut off or refused', async () => {
  const say = (text) => new Promise((resolve) => {
    const socket = createConnection(server.port, '127.0.0.1', () => socket.end(text));
    let heardIt = '';
    socket.on('data', (data) => { heardIt += data; });
    socket.on('error', () => resolve(heardIt));
    socket.on('close', () => resolve(heardIt));
  });
  const lines = ['\u0016\u0003\u0001', 'GET', 'GET / HTTP/1.1\r\n\r\n', 'CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'GET /ws/?EIO=3&transport=polling HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 'GET /ws/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    'POST /ws/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\n40'];
  for (const line of lines) assert.doesNotMatch(await say(line), /HTTP\/1\.1 (200|5)/, line);
  await flat(5_000, (i) => say(lines[i % lines.length]));
});

test('binary data is refused with a clear error', async () => {
  const socket = await server.signedIn({ userId: 9 });
  const answer = await ask(socket, 'chat:join', { roomId: Buffer.from('x') });
  assert.equal(answer.error.code, 'invalid_payload');
  assert.equal(socket.connected, true);
});

test('a query that names two sessions, or two transports, is refused: none of two readers takes another one', async () => {
  for (const [query, name] of [['sid=a&sid=b', 'sid'], ['transport=polling&transport=websocket', 'transport'], ['EIO=4&EIO=4', 'EIO']]) {
    const { status, raw } = await server.fetch(`/ws/?${query}`);
    assert.equal(status, 400, raw);
    const { error } = JSON.parse(raw);
    assert.equal(error.code, 'invalid_payload');
    assert.match(error.message, new RegExp(`'${name}' more than once`));
  }
});

test('no parameter that looks like a session takes a newcomer past the rate of new sockets', async () => {
  const strict = await Appliance.start({ env: { ACADEMY_RT_LIMITS_CONNECTS_PER_SECOND: '3' } });
  const statuses = [];
  for (let n = 0; n < 12; n += 1) {
    statuses.push((await strict.fetch('/ws/?EIO=4&transport=polling&xsid=1')).status);
  }
  assert.ok(statuses.includes(429), `${statuses}`);
  await strict.stop();
});

test('a back end may broadcast the name that the server uses for itself: it is an event like any other', async () => {
  const socket = server.client({ userId: 4711 }, { transports: ['polling', 'websocket'] });
  await heard(socket, 'authenticated');
  const upgraded = new Promise((resolve) => {
    if (socket.io.engine.transport.name === 'websocket') resolve();
    else socket.io.engine.once('upgrade', resolve);
  });
  const got = [];
  socket.on('wire:direct', (value) => got.push(value));
  const send = async (payload) => {
    const sent = await server.fetch('/api/v1/broadcast', { claims: { userId: 99, role: 'admin' }, method: 'POST', body: { target: { user: 4711 }, event: 'wire:direct', payload } });
    assert.equal(sent.status, 200, sent.raw);
  };
  // While it is on polling or between the two, and on the WebSocket.
  for (let n = 0; n < 20; n += 1) await send(n);
  await upgraded;
  await send(true);
  await send('last');
  await until(() => got.includes('last'));
  assert.deepEqual(got, [...Array(20).keys(), true, 'last']);
  socket.close();
});
