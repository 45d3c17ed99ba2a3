// The wire in raw bytes, beside a socket.io 4.8 server of Node: each case does the same to both, and what they do is compared.
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { createConnection } from 'node:net';
import { after, before, test } from 'node:test';
import { unzipSync } from 'node:zlib';
import { io } from 'socket.io-client';
import { Appliance, ask, heard, noLimits, token, until } from './harness.mjs';
import { Polling, RawWebSocket, box, http, onBoth, origin, startBoth } from './reference.mjs';

let both;
before(async () => { both = await startBoth({ env: noLimits }); });
after(async () => {
  assert.doesNotMatch(both.ours.stderr, /panick/);
  await both.stop();
});

/** Whether both have done the same, and that it was this. */
function same({ ours, node }, expected) {
  assert.deepEqual(ours, node, 'as Node does');
  if (expected !== undefined) assert.deepEqual(ours, expected);
}

// An ack by polling alone: it is sent and read while a poll waits.
async function acknowledged(session, number, waiting) {
  await session.say(`42${number}["chat:join",{"roomId":"wire"}]`);
  return (await session.readUntil(`43${number}`, { waiting })) !== undefined;
}

const halfUpgrades = {
  'is dropped behind the 101': async (ws) => ws.destroy(),
  'is dropped behind the probe': async (ws) => {
    ws.send('2probe');
    await ws.text('3probe');
    ws.destroy();
  },
  'is closed behind the probe': async (ws) => {
    ws.send('2probe');
    await ws.text('3probe');
    ws.send(Buffer.from([0x03, 0xe8]), { opcode: 8 });
    await ws.closed();
  },
  'answers with a wrong probe': async (ws) => {
    ws.send('2prob');
    await ws.closed();
  },
  'sends an event in place of the probe': async (ws) => {
    ws.send('421["chat:join",{"roomId":"wire"}]');
    await ws.closed();
  },
  'sends an event in place of the upgrade': async (ws) => {
    ws.send('2probe');
    await ws.text('3probe');
    ws.send('421["chat:join",{"roomId":"wire"}]');
    await ws.closed();
  },
  'sends no frame but HTTP': async (ws) => {
    ws.tcp.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await ws.closed();
  },
};

for (const [name, how] of Object.entries(halfUpgrades)) {
  test(`an upgrade that ${name}: the session goes on by polling, and its polls are held`, async () => {
    same(await onBoth(both, async (server) => {
      const session = await Polling.open(server);
      const waiting = session.poll();
      const ws = RawWebSocket.open(server, { sid: session.sid });
      assert.equal(await ws.answered(), 101);
      await how(ws);
      const before = session.answers;
      const acks = [await acknowledged(session, 7, waiting), await acknowledged(session, 8)];
      return { acks, isFew: session.answers - before <= 4, noops: Math.min(session.noops(), 3) > 2, isClosed: await ws.closed() };
    }), { acks: [true, true], isFew: true, noops: false, isClosed: true });
  });
}

test('an upgrade that is silent: polls are held as before, and it is closed after ten seconds, alone', async () => {
  same(await onBoth(both, async (server) => {
    const session = await Polling.open(server);
    const ws = RawWebSocket.open(server, { sid: session.sid });
    await ws.answered();
    const acks = [];
    for (const number of [1, 2, 3]) acks.push(await acknowledged(session, number, session.poll()));
    const [noops, isOpen, began] = [session.noops(), !ws.isClosed, Date.now()];
    const waiting = session.poll();
    await ws.closed(15_000);
    const isInTime = Date.now() - began > 5_000;
    acks.push(await acknowledged(session, 4, waiting));
    return { acks, noops, isOpen, isInTime, later: session.noops() };
  }), { acks: [true, true, true, true], noops: 0, isOpen: true, isInTime: true, later: 0 });
});

test('behind the probe a poll that waits is answered with a noop; behind the upgrade everything goes by the WebSocket', async () => {
  same(await onBoth(both, async (server) => {
    const session = await Polling.open(server);
    const waiting = session.poll();
    const ws = RawWebSocket.open(server, { sid: session.sid });
    await ws.answered();
    ws.send('2probe');
    await ws.text('3probe');
    const { text } = await waiting;
    // What is said by a POST before the upgrade packet is done, and answered behind it; what comes together with the packet, too.
    await session.say('421["chat:join",{"roomId":"wire"}]');
    ws.tcp.write(Buffer.concat([...['5', '422["chat:join",{"roomId":"wire"}]']].map((one) => Buffer.from(frameOf(one)))));
    const first = (await ws.text('431')).slice(0, 3);
    const second = (await ws.text('432')).slice(0, 3);
    const old = await session.poll();
    ws.destroy();
    return { text, first, second, frames: ws.texts().filter((one) => one.startsWith('3')), old: old.status };
  }), { text: '6', first: '431', second: '432', frames: ['3probe'], old: 400 });
});

test('behind the probe a client that polls on is not answered in a storm', async () => {
  const { ours, node } = await onBoth(both, async (server) => {
    const session = await Polling.open(server);
    const polling = session.keepPolling();
    const ws = RawWebSocket.open(server, { sid: session.sid });
    await ws.answered();
    ws.send('2probe');
    await ws.closed(15_000);
    const noops = session.noops();
    await session.say('421["chat:join",{"roomId":"wire"}]');
    await until(() => session.packets.some((one) => one.startsWith('431')), 'it is acknowledged');
    await Promise.all([session.say('1'), polling.stop()]);
    return noops;
  });
  assert.ok(ours >= 1 && ours <= 10 && ours <= node, `${ours} noops, Node ${node}`);
});

test('a second upgrade of a session is closed and does not harm the first, before it and behind it', async () => {
  same(await onBoth(both, async (server) => {
    const session = await Polling.open(server);
    const first = RawWebSocket.open(server, { sid: session.sid });
    await first.answered();
    const second = RawWebSocket.open(server, { sid: session.sid });
    await second.closed();
    const isOpen = !first.isClosed;
    const byPolling = await acknowledged(session, 1);
    const waiting = session.poll();
    first.send('2probe');
    await first.text('3probe');
    await waiting;
    first.send('5');
    first.send('422["chat:join",{"roomId":"wire"}]');
    await first.text('432');
    const third = RawWebSocket.open(server, { sid: session.sid });
    third.send('2probe');
    await third.closed();
    first.send('423["chat:join",{"roomId":"wire"}]');
    await first.text('433');
    first.destroy();
    return { isOpen, byPolling };
  }), { isOpen: true, byPolling: true });
});

test('an upgrade of a session that does not exist is refused', async () => {
  same(await onBoth(both, async (server) => {
    const ws = RawWebSocket.open(server, { sid: 'AAAAAAAAAAAAAAAA' });
    return ws.answered();
  }), 400);
});

for (const how of ['mute', 'cut']) {
  test(`a stock client behind a box that passes the 101 and then ${how}s loses nothing, and asks seldom`, async () => {
    const shown = await onBoth(both, async (server) => {
      const between = await box(server, how);
      const socket = io(between.url, { path: '/ws', auth: { token: token({ userId: 7 }) }, forceNew: true, transports: ['polling', 'websocket'] });
      await new Promise((resolve) => { socket.once('connect', resolve); });
      let acks = 0;
      const all = [];
      await until(() => between.upgrades > 0, 'the upgrade was tried');
      for (let n = 0; n < 59; n += 1) {
        const { ok } = await socket.timeout(10_000).emitWithAck('chat:join', { roomId: 'wire' });
        acks += ok ? 1 : 0;
        all.push(n);
      }
      const { requests } = between;
      socket.disconnect();
      between.stop();
      return { acks, transport: socket.io.engine?.transport.name, requests };
    });
    assert.equal(shown.ours.acks, 59);
    assert.equal(shown.node.acks, 59);
    assert.ok(shown.ours.requests <= 59 * 2 + 20, `${shown.ours.requests} requests for 59 acks, Node ${shown.node.requests}`);
  });
}

// ---- leaving and signing in again

test('who leaves the namespace may join it again on its transport, with the token of the handshake', async () => {
  const query = `&token=${token({ userId: 41 })}`;
  same(await onBoth(both, async (server) => {
    const polling = await Polling.open(server, { auth: undefined, query });
    await polling.say('41');
    polling.packets.length = 0;
    await polling.say('40');
    await polling.readUntil('authenticated');
    const ack = await acknowledged(polling, 5);
    const ws = RawWebSocket.open(server, { path: `/ws/?EIO=4&transport=websocket${query}` });
    await ws.signIn(undefined);
    ws.send('41');
    ws.frames.length = 0;
    ws.send('40');
    await ws.text('authenticated');
    ws.send('426["chat:join",{"roomId":"wire"}]');
    await ws.text('436');
    // And once more, from polling over to a WebSocket.
    const upgraded = RawWebSocket.open(server, { sid: polling.sid });
    await upgraded.answered();
    upgraded.send('2probe');
    await upgraded.text('3probe');
    upgraded.send('5');
    upgraded.send('428["chat:join",{"roomId":"wire"}]');
    await upgraded.text('438');
    upgraded.send('41');
    upgraded.send('40');
    await upgraded.text('authenticated');
    upgraded.send('427["chat:join",{"roomId":"wire"}]');
    await upgraded.text('437');
    for (const one of [ws, upgraded]) one.destroy();
    return ack;
  }), true);
});

test('who leaves the namespace and joins it again in one breath is answered, with the token of the handshake', async () => {
  const query = `&token=${token({ userId: 41 })}`;
  const both40s = (texts) => texts.filter((text) => text.startsWith('40{')).length;
  const greetings = (texts) => texts.filter((text) => text.startsWith('42["authenticated"')).length;
  // Node ends a session whose second packet comes before the first has taken effect: here nothing is lost.
  const shownBy = async (server) => {
    const shown = { polling: new Set(), websocket: new Set(), upgraded: new Set() };
    const wsAck = async (ws, number) => {
      ws.send(`42${number}["chat:join",{"roomId":"wire"}]`);
      await ws.text(`43${number}`);
    };
    for (let round = 0; round < 12; round += 1) {
      const polling = await Polling.open(server, { auth: undefined, query });
      // The library passes over a connect packet while it still works on the one before: what is acknowledged comes behind that.
      await acknowledged(polling, 4);
      polling.packets.length = 0;
      await polling.say('41\x1e40');
      await polling.readUntil('authenticated');
      const isAcked = await acknowledged(polling, 5);
      shown.polling.add(`${both40s(polling.packets)} ${greetings(polling.packets)} ${isAcked}`);

      // Two frames in one write, several times on one connection.
      const ws = RawWebSocket.open(server, { path: `/ws/?EIO=4&transport=websocket${query}` });
      await ws.signIn(undefined);
      for (let time = 1; time <= 3; time += 1) {
        ws.tcp.write(Buffer.from([...frameOf('41'), ...frameOf('40')]));
        await until(() => greetings(ws.texts()) === time + 1 || ws.isClosed, 'it is greeted again');
        await wsAck(ws, time);
      }
      shown.websocket.add(`${both40s(ws.texts())} ${greetings(ws.texts())} ${ws.isClosed}`);
      ws.destroy();

      // And on a WebSocket that has come by an upgrade.
      const upgraded = RawWebSocket.open(server, { sid: polling.sid });
      await upgraded.answered();
      upgraded.send('2probe');
      await upgraded.text('3probe');
      upgraded.send('5');
      await wsAck(upgraded, 7);
      upgraded.tcp.write(Buffer.from([...frameOf('41'), ...frameOf('40')]));
      await upgraded.text('authenticated');
      await wsAck(upgraded, 8);
      shown.upgraded.add(`${both40s(upgraded.texts())} ${greetings(upgraded.texts())} ${upgraded.isClosed}`);
      upgraded.destroy();
    }
    return Object.fromEntries(Object.entries(shown).map(([name, each]) => [name, [...each]]));
  };
  assert.deepEqual(await shownBy(both.ours), { polling: ['1 1 true'], websocket: ['4 4 false'], upgraded: ['1 1 false'] });
});

test('who has left the namespace has the time to sign in once more, and then the connection ends', async (t) => {
  const server = await Appliance.start({ env: { ACADEMY_RT_LIMITS_SIGN_IN: '4s' } });
  t.after(() => server.stop());
  const ws = RawWebSocket.open(server);
  await ws.signIn();
  const left = Date.now();
  ws.send('41');
  await ws.closed();
  const waited = Date.now() - left;
  assert.ok(waited > 3_500 && waited < 8_000, `${waited} ms`);
  const polling = await Polling.open(server);
  await polling.say('41');
  await until(async () => (await polling.poll()).status === 400, 'the session is gone');
});

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  test(`a handler that connects again at once succeeds, behind auth_error and behind the disconnect: ${transports}`, async () => {
    for (const when of ['auth_error', 'disconnect']) {
      let good = false;
      const socket = io(both.ours.url, { path: '/ws', forceNew: true, transports, auth: (give) => give({ token: good ? token({ userId: 7 }) : 'nonsense' }) });
      const signedIn = new Promise((resolve) => { socket.on('authenticated', resolve); });
      socket.on(when, () => {
        if (good) return;
        good = true;
        if (when === 'auth_error') socket.disconnect();
        socket.connect();
      });
      await Promise.race([signedIn, until(() => false, `${when}: it has signed in`, 10_000)]);
      assert.equal((await ask(socket, 'chat:join', { roomId: 'again' })).ok, true);
      socket.disconnect();
    }
  });
}

// ---- the heartbeat

test('the first ping comes after the interval, on both transports', async () => {
  same(await onBoth(both, async (server) => {
    const session = await Polling.open(server);
    const ws = RawWebSocket.open(server);
    await ws.signIn();
    ws.send('421["chat:join",{"roomId":"wire"}]');
    await ws.text('431');
    await acknowledged(session, 1);
    const early = [...ws.texts(), ...session.packets].filter((one) => one === '2').length;
    const began = Date.now();
    const pinged = until(() => ws.texts().includes('2'), 'a ping on the WebSocket', 30_000);
    // What others do comes in between.
    while (!session.packets.includes('2')) await session.poll();
    await pinged;
    const isLate = Date.now() - began > 20_000;
    ws.send('3');
    await session.say('3');
    ws.send('422["chat:join",{"roomId":"wire"}]');
    await ws.text('432');
    const goesOn = await acknowledged(session, 2);
    ws.destroy();
    return { early, isLate, goesOn };
  }), { early: 0, isLate: true, goesOn: true });
});

// ---- WebSockets

const bad = {
  1002: {
    'a reserved opcode': ['x', { opcode: 3 }],
    'a reserved bit': ['x', { rsv: 0x40 }],
    'no mask': ['x', { masked: false }],
    'a fragmented ping': ['x', { opcode: 9, fin: false }],
    'a long ping': ['x'.repeat(126), { opcode: 9 }],
    'a continuation of nothing': ['x', { opcode: 0 }],
  },
  1007: { 'no UTF-8': [Buffer.from([0x34, 0xff, 0xfe]), {}] },
  1009: { 'a frame that is too large': ['', { length: 20_000_000 }] },
};

for (const [code, cases] of Object.entries(bad)) {
  for (const [name, [payload, options]] of Object.entries(cases)) {
    test(`a WebSocket with ${name} is closed with ${code}`, async () => {
      same(await onBoth(both, async (server) => {
        const ws = RawWebSocket.open(server);
        await ws.signIn();
        ws.send(payload, options);
        await until(() => ws.isClosed || ws.code() !== undefined, 'it is closed');
        ws.destroy();
        return { code: ws.code(), closes: ws.frames.filter(({ opcode }) => opcode === 8).length };
      }), { code: Number(code), closes: 1 });
    });
  }
}

test('the first subprotocol that is asked for is echoed, on a new WebSocket and on an upgrade', async () => {
  same(await onBoth(both, async (server) => {
    const headers = { 'Sec-WebSocket-Protocol': 'first, second' };
    const [direct, session] = [RawWebSocket.open(server, { headers }), await Polling.open(server)];
    const upgrade = RawWebSocket.open(server, { sid: session.sid, headers });
    const plain = RawWebSocket.open(server);
    for (const one of [direct, upgrade, plain]) await one.answered();
    const echoed = [direct, upgrade, plain].map((one) => [one.status, one.header('sec-websocket-protocol')]);
    for (const one of [direct, upgrade, plain]) one.destroy();
    return echoed;
  }), [[101, 'first'], [101, 'first'], [101, undefined]]);
});

test('a WebSocket with a bad head is refused', async () => {
  const { ours, node } = await onBoth(both, async (server) => {
    const status = async (options) => {
      const ws = RawWebSocket.open(server, options);
      await ws.answered();
      ws.destroy();
      return [ws.status, ws.header('sec-websocket-version')];
    };
    return {
      version12: await status({ headers: { 'Sec-WebSocket-Version': '12' } }),
      noVersion: await status({ headers: { 'Sec-WebSocket-Version': undefined } }),
      shortKey: (await status({ key: 'AAAA' }))[0],
      noKey: (await status({ headers: { 'Sec-WebSocket-Key': undefined } }))[0],
      noBase64: (await status({ key: '!!!!!!!!!!!!!!!!!!!!!!==' }))[0],
      noHost: (await status({ host: undefined, headers: { Host: undefined } }))[0],
      badProtocol: (await status({ headers: { 'Sec-WebSocket-Protocol': ',' } }))[0],
    };
  });
  // The library of Node answers 400 to a version that it does not speak, where RFC 6455, 4.4 has 426; and it does not look for a Host.
  assert.ok([400, 426].includes(node.version12[0]), `${node.version12}`);
  assert.deepEqual([node.shortKey, node.noKey, node.noBase64, node.badProtocol], [400, 400, 400, 400]);
  assert.deepEqual(ours, { version12: [426, '13'], noVersion: [426, '13'], shortKey: 400, noKey: 400, noBase64: 400, noHost: 400, badProtocol: 400 });
});

// ---- HTTP around it

test('a preflight allows the headers that are asked for, and pages of allowed origins alone', async () => {
  const preflight = (server, from, asked) => http(server, '/ws/?EIO=4&transport=polling', { method: 'OPTIONS', headers: { Origin: from, 'Access-Control-Request-Method': 'POST', ...(asked ? { 'Access-Control-Request-Headers': asked } : {}) } });
  same(await onBoth(both, async (server) => {
    const { status, headers } = await preflight(server, origin, 'x-tenant, content-type');
    return [status, headers['access-control-allow-headers'].toLowerCase(), headers['access-control-allow-origin'], /access-control-request-headers/i.test(headers.vary)];
  }), [204, 'x-tenant, content-type', origin, true]);
  const refused = await preflight(both.ours, 'http://evil.example', 'x-tenant');
  assert.equal(refused.status, 403);
  assert.equal(refused.headers['access-control-allow-headers'], undefined);
  const plain = await preflight(both.ours, origin);
  assert.match(plain.headers['access-control-allow-headers'], /Authorization/);
  const strange = await preflight(both.ours, origin, 'x y, <b>, ok-header');
  assert.ok(!/[<> ]y|<b>/.test(strange.headers['access-control-allow-headers'] ?? ''), 'what is no name of a header is not repeated');
});

// ---- compression

// What a poll behind this is answered, taken apart.
async function answered(session, packet, headers) {
  if (packet) await session.say(packet);
  const got = await session.poll(headers);
  // Where anything is taken, Node takes deflate.
  const named = got.headers['content-encoding'];
  const encoding = named === 'deflate' ? 'gzip' : named;
  assert.equal(got.status, 200);
  // Node gives a compressed one in chunks.
  assert.equal(Number(got.headers['content-length'] ?? got.body.length), got.body.length);
  const plain = encoding === 'gzip' ? unzipSync(got.body) : got.body;
  return { encoding, plain: plain.toString(), raw: got.body.toString('latin1'), length: got.body.length, vary: got.headers.vary ?? '' };
}

const history = (number, limit = 40) => `42${number}["chat:history",{"roomId":"zip","limit":${limit}}]`;

async function written(server) {
  for (let n = 0; n < 40; n += 1) await server.fetch('/api/v1/rooms/zip/messages', { claims: { userId: 1 }, method: 'POST', body: { content: `message ${n} of the history` } });
}

test('a large answer to a poll is compressed where the client takes gzip, and not otherwise', async () => {
  await written(both.ours);
  const asked = ['gzip', 'GZIP', 'gzip, deflate, br', 'br, gzip;q=0.5', '*', 'identity;q=1, *;q=0.5', undefined, '', 'identity', 'gzip;q=0', '*;q=0', 'br', 'gzipped', 'x', ',,;'];
  same(await onBoth(both, async (server) => {
    const session = await Polling.open(server);
    const shown = {};
    for (const [n, value] of asked.entries()) {
      const { encoding, plain } = await answered(session, history(n), value === undefined ? {} : { 'accept-encoding': value });
      assert.ok(plain.startsWith(`43${n}[{"ok":true,"roomId":"zip"`) && plain.length > 1_024 && plain.endsWith('}]'), plain.slice(0, 200));
      shown[value] = encoding;
    }
    // Where gzip alone is refused, Node takes another one.
    if (server === both.ours) {
      for (const refused of ['gzip;q=0, *', 'gzip;q=0.000', 'gzip;q=2', 'gzip;q=-1', 'gzip;q=abc', 'gzip;q=', 'gzip;level=9', 'gzip, gzip;q=0', `gzip;q=${'0'.repeat(5_000)}`]) {
        const { encoding, plain } = await answered(session, history(98), { 'accept-encoding': refused });
        assert.ok(encoding === undefined && plain.startsWith('4398['), refused.slice(0, 40));
      }
    }
    const small = await answered(session, history(99, 2), { 'accept-encoding': 'gzip' });
    shown.small = [small.encoding, small.plain.startsWith('4399[')];
    const opened = await http(server, '/ws/?EIO=4&transport=polling', { headers: { 'accept-encoding': 'gzip' } });
    shown.opened = [opened.headers['content-encoding'], opened.text.startsWith('0{')];
    return shown;
  }), {
    ...Object.fromEntries(asked.map((value, n) => [value, n < 6 ? 'gzip' : undefined])), small: [undefined, true], opened: [undefined, true],
  });
});

test('what is compressed is of chat rooms, for their members: no list over rooms, no notification, and nothing of an administrator', async () => {
  await written(both.ours);
  const headers = { 'accept-encoding': 'gzip' };
  const [ann, admin] = [await Polling.open(both.ours, { claims: { userId: 51 } }), await Polling.open(both.ours, { claims: { userId: 52, role: 'admin' } })];
  const shrunk = await answered(ann, history(1), headers);
  assert.equal(shrunk.encoding, 'gzip');
  assert.ok(shrunk.length < shrunk.plain.length / 3, `${shrunk.length} of ${shrunk.plain.length} bytes`);
  assert.match(shrunk.vary, /Accept-Encoding/);
  const plain = await answered(admin, history(1));
  const ofAdmin = await answered(admin, history(2), headers);
  assert.equal(ofAdmin.encoding, undefined);
  assert.equal(ofAdmin.plain.replace('432[', '431['), plain.plain);
  assert.equal(shrunk.plain, plain.plain, 'not a byte is lost');

  for (let n = 0; n < 20; n += 1) await both.ours.fetch(`/api/v1/rooms/zip-${n}/messages`, { claims: { userId: 51 }, method: 'POST', body: { content: 'one of many' } });
  // Each part of an answer in which something is, as it was sent.
  const until43 = async (number, packet) => {
    let got = await answered(ann, packet, headers);
    while (!got.plain.includes(`43${number}[`)) got = await answered(ann, undefined, headers);
    return got.raw.slice(got.raw.indexOf(`43${number}[`)).split('\x1e')[0];
  };
  const rooms = await until43(3, '423["chat:rooms",{}]');
  assert.ok(rooms.startsWith('433[{"ok":true,"rooms":[{') && rooms.endsWith('"hasMore":false}]') && rooms.length > 1_024, rooms);
  const refused = await until43(4, `424["chat:join",{"roomId":"${'a b '.repeat(600)}"}]`);
  assert.ok(refused.startsWith('434[{"ok":false'), refused);

  // A notification beside a page of a room: what stands in the answer is as it was sent, the page apart.
  const notice = { target: { user: '51' }, title: 'T', message: 'a code: 8253-7716 '.repeat(60) };
  assert.equal((await both.ours.fetch('/api/v1/notifications', { claims: { userId: 1, role: 'admin' }, method: 'POST', body: notice })).status, 200);
  await ann.say(history(5));
  const parts = [];
  while (!parts.some((one) => one.plain.includes('435[')) || !parts.some((one) => one.plain.includes('notification:new'))) {
    parts.push(await answered(ann, undefined, headers));
  }
  const withNotice = parts.find((one) => one.plain.includes('notification:new'));
  assert.ok(withNotice.raw.includes('a code: 8253-7716 '.repeat(20)), 'it goes as it is');
});

test('compression can be switched off', async (t) => {
  const server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_SERVER_COMPRESSION: 'false' } });
  t.after(() => server.stop());
  await written(server);
  const session = await Polling.open(server);
  assert.equal((await answered(session, history(1), { 'accept-encoding': 'gzip' })).encoding, undefined);
});

test('more answers at once than are compressed are all right, compressed or not', async () => {
  await written(both.ours);
  const sessions = await Promise.all(Array.from({ length: 40 }, (_, n) => Polling.open(both.ours, { claims: { userId: 300 + n } })));
  const all = await Promise.all(sessions.map((session) => answered(session, history(7), { 'accept-encoding': 'gzip' })));
  for (const { plain } of all) assert.equal(plain, all[0].plain);
  assert.ok(all.some(({ encoding }) => encoding === 'gzip'));
});

// ---- a stop

test('a stop: on a WebSocket the word, and one close frame 1012, without a packet that ends the session; a poll has the word, and then nothing', async (t) => {
  const server = await Appliance.start();
  t.after(() => server.stop());
  const [ws, polling] = [RawWebSocket.open(server), await Polling.open(server)];
  await ws.signIn();
  const upgraded = await Polling.open(server);
  const over = RawWebSocket.open(server, { sid: upgraded.sid });
  await over.answered();
  for (const text of ['2probe', '5', '421["chat:join",{"roomId":"wire"}]']) over.send(text);
  await over.text('431');
  const waiting = polling.poll();
  await polling.say('3');
  server.child.kill('SIGTERM');
  assert.match((await waiting).text, /^42\["server:draining",[^\x1e]*$/);
  const next = await polling.poll().catch(() => 'refused');
  assert.ok(next === 'refused' || next.status === 400, next.text);
  for (const one of [ws, over]) {
    await until(() => one.hasEnded || one.code() !== undefined, 'it is closed');
    one.send(Buffer.from([0x03, 0xf4]), { opcode: 8 });
    await until(() => one.hasEnded, 'the connection ends');
    const behind = one.frames.slice(one.frames.findIndex(({ text }) => text?.includes('server:draining')));
    assert.deepEqual(behind.map(({ opcode, code }) => [opcode, code]), [[1, undefined], [8, 1012]], JSON.stringify(one.frames));
    assert.ok(!one.texts().some((text) => text === '1' || text === '41'), `${one.texts()}`);
  }
  assert.equal((await server.exited).code, 0);
});

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  test(`a stock client comes back by itself, from a stop and from a kill: ${transports}`, async (t) => {
    const server = await Appliance.start();
    t.after(() => server.stop());
    const socket = io(server.url, { path: '/ws', auth: { token: token({ userId: 7 }) }, forceNew: true, transports, reconnectionDelay: 50, reconnectionDelayMax: 200 });
    t.after(() => socket.disconnect());
    let seen = 0;
    socket.on('authenticated', () => { seen += 1; });
    const [lost, reasons] = [() => !socket.connected, []];
    socket.on('disconnect', (reason) => reasons.push(reason));
    await until(() => seen === 1, 'it is signed in');
    for (const [n, how] of ['SIGTERM', 'SIGKILL'].entries()) {
      server.child.kill(how);
      await server.exited;
      await until(lost, 'it has lost the server');
      await server.launch();
      await until(() => seen === n + 2, `it is back from ${how}; ${reasons}`);
    }
  });
}

test('a stock client with `retries` sends copies of what is answered late: with a clientId one is stored', async (t) => {
  const server = await Appliance.start();
  t.after(() => {
    server.child.kill('SIGCONT');
    return server.stop();
  });
  const socket = await server.signedIn({ userId: 7 }, { retries: 10, ackTimeout: 100 });
  let sent = 0;
  socket.io.engine.on('packetCreate', ({ data }) => { if (`${data}`.includes('chat:message')) sent += 1; });
  const stored = async (content, clientId) => {
    sent = 0;
    server.child.kill('SIGSTOP');
    const said = socket.emitWithAck('chat:message', { roomId: 'copies', content, clientId });
    await until(() => sent >= 3, 'it was sent three times');
    server.child.kill('SIGCONT');
    assert.equal((await said).ok, true);
    // What was sent before the answer is done in its order: behind it nothing comes any more.
    const page = await server.fetch('/api/v1/rooms/copies/messages?limit=200', { claims: { userId: 7 } });
    return JSON.parse(page.raw).messages.filter((one) => one.content === content).length;
  };
  assert.equal(await stored('with', 'c-1'), 1);
  const without = await stored('without');
  assert.ok(without >= 2, `${without}: what the documents warn of`);
});

// ---- who vanishes

test('a client on polling that vanishes is gone a few seconds later, and one that comes again in time is not', async (t) => {
  const server = await Appliance.start();
  t.after(() => server.stop());
  const watcher = await server.signedIn({ userId: 1 });
  await ask(watcher, 'chat:join', { roomId: 'ghosts' });
  const [ghost, slow] = [await Polling.open(server, { claims: { userId: 2 } }), await Polling.open(server, { claims: { userId: 3 } })];
  for (const session of [ghost, slow]) await acknowledged(session, 1);
  for (const session of [ghost, slow]) {
    await session.say('422["chat:join",{"roomId":"ghosts"}]');
    await session.readUntil('432');
  }
  const began = Date.now();
  const [waiting, broken] = [ghost.poll(), slow.poll()];
  // The polls are accepted before what comes behind them.
  await Promise.all([waiting.isWritten, broken.isWritten]);
  for (let n = 0; n < 3; n += 1) for (const session of [ghost, slow]) assert.equal((await session.say('3')).status, 200);
  waiting.destroy();
  broken.destroy();
  await slow.say('423["chat:join",{"roomId":"ghosts"}]');
  await slow.readUntil('433');
  await heard(watcher, 'chat:user_left', ({ userId }) => userId === 2);
  const waited = Date.now() - began;
  assert.ok(waited > 2_000 && waited < 12_000, `${waited} ms`);
  const { users } = await ask(watcher, 'presence:list', { roomId: 'ghosts' });
  assert.ok(users.some(({ userId }) => userId === 3), JSON.stringify(users));
  assert.equal((await ghost.poll()).status, 400);
});

// A client that takes an answer at so many bytes a second, over a connection whose kernel would take it at once.
async function takeSlowly(session, bytesPerSecond) {
  const parts = [];
  let length = 0;
  const began = Date.now();
  await new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port: session.server.port, path: session.path, agent: false }, async (answer) => {
      try {
        assert.equal(answer.statusCode, 200);
        for await (const part of answer) {
          parts.push(part);
          length += part.length;
          const due = (length / bytesPerSecond) * 1_000;
          await until(() => Date.now() - began >= due, 'the line carries more', 120_000);
        }
        resolve();
      } catch (error) {
        reject(error);
      }
    });
    asked.on('error', reject);
    asked.end();
  });
  return { packets: Buffer.concat(parts).toString().split('\x1e'), tookMs: Date.now() - began };
}

test('who sleeps between two polls is there still, and has what came meanwhile; who sends slowly stays', { timeout: 120_000 }, async (t) => {
  const server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_LIMITS_REQUEST_BODY: '40s' } });
  t.after(() => server.stop());
  const watcher = await server.signedIn({ userId: 1 });
  await ask(watcher, 'chat:join', { roomId: 'between' });
  const left = [];
  watcher.on('chat:user_left', ({ userId }) => left.push(userId));
  const join = async (userId) => {
    const session = await Polling.open(server, { claims: { userId } });
    await session.say('421["chat:join",{"roomId":"between"}]');
    await session.readUntil('431');
    return session;
  };
  const [sleeper, sender] = [await join(2), await join(3)];
  const root = { userId: 1, role: 'admin' };
  const notify = async (title) => {
    const answer = await server.fetch('/api/v1/notifications', { method: 'POST', claims: root, body: { target: { user: 2 }, title, message: 'x' } });
    assert.equal(answer.status, 200, answer.raw);
  };
  await notify('at once');

  // Longer than a laptop needs to wake; it polls meanwhile no more, and is asked for its pong once more.
  const waiting = sender.poll();
  await waiting.isWritten;
  const body = `422["chat:message",{"roomId":"between","content":"${'s'.repeat(600)}"}]`;
  const sending = createConnection(server.port, '127.0.0.1');
  let answer = '';
  sending.on('data', (data) => { answer += data; });
  sending.write(`POST ${sender.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: ${body.length}\r\n\r\n`);
  const wroteAt = Date.now();
  for (let at = 0; at < body.length; at += 40) {
    await until(() => Date.now() - wroteAt >= at * 28, 'the line carries more', 60_000);
    sending.write(body.slice(at, at + 40));
    // Its poll breaks off while it sends.
    if (at === 40) waiting.destroy();
  }
  await until(() => answer.includes('\r\n\r\nok'), `it is taken: ${answer}`);
  assert.ok(Date.now() - wroteAt > 15_000, 'it took its time');
  await sender.readUntil('432');
  await notify('late');

  await sleeper.readUntil('late');
  assert.ok(sleeper.packets.some((one) => one.includes('"at once"')), `${sleeper.packets}`);
  assert.deepEqual(left, []);
});

test('quick reloads of a page are never refused: the oldest ghost goes', async (t) => {
  const server = await Appliance.start({ env: { ACADEMY_RT_LIMITS_CONNECTS_PER_SECOND: '0' } });
  t.after(() => server.stop());
  for (let n = 0; n < 45; n += 1) {
    const session = await Polling.open(server, { claims: { userId: 5 } });
    assert.ok(!session.packets.some((one) => one.includes('auth_error')), `reload ${n}: ${session.packets}`);
    // Most are left while a poll waits, some between two polls.
    if (n % 4 === 0) continue;
    const waiting = session.poll();
    await waiting.isWritten;
    for (let m = 0; m < 3; m += 1) await session.say('3');
    waiting.destroy();
  }
  // People are refused for as long as they are there.
  const there = await Promise.all(Array.from({ length: 20 }, () => server.signedIn({ userId: 6 })));
  const late = server.client({ userId: 6 });
  assert.equal((await heard(late, 'auth_error')).code, 'rate_limited');
  assert.ok(there.every(({ connected }) => connected));
});

// ---- what is seen of who is refused

test('old clients, upgrades without their header and WebSockets that do not sign in are seen in the log and in status', async (t) => {
  const server = await Appliance.start({ env: { ACADEMY_RT_LIMITS_SIGN_IN: '1s' } });
  t.after(() => server.stop());
  const headers = {};
  for (let n = 0; n < 3; n += 1) {
    const refused = await http(server, '/ws/?EIO=3&transport=polling', { headers });
    assert.deepEqual([refused.status, JSON.parse(refused.text).code], [400, 5]);
    assert.equal((await http(server, '/ws/?EIO=4&transport=websocket')).status, 400);
  }
  const old = RawWebSocket.open(server, { path: '/ws/?EIO=3&transport=websocket' });
  assert.equal(await old.answered(), 400);
  const silent = RawWebSocket.open(server);
  await silent.closed();
  const { json } = await until(async () => {
    const status = await server.fetch('/api/v1/admin/status', { claims: { userId: 9, role: 'admin' } });
    return status.json.unreachable?.unsigned > 0 && status;
  }, 'it is in status');
  assert.deepEqual(json.unreachable, { oldClients: 4, lostUpgrades: 3, unsigned: 1 });
  const said = server.stdout + server.stderr;
  for (const [what, pattern] of [['old clients', /Socket\.IO 2/g], ['a proxy', /Upgrade and Connection/g], ['unsigned', /did not sign in/g]]) {
    assert.equal((said.match(pattern) ?? []).length, 1, `${what}: one line, and not one each:\n${said}`);
  }
});

function frameOf(text) {
  const data = Buffer.from(text);
  return [0x81, 0x80 | data.length, 0, 0, 0, 0, ...data];
}
