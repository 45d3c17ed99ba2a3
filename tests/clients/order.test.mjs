// Order and departures under load: the traps of the library, tried with the stock client.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import { Appliance, all, ask, assertRising, heard, noLimits, token, until } from './harness.mjs';

let server;
before(async () => { server = await Appliance.start({ env: noLimits }); });
after(() => server.stop());

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  test(`3,000 messages of one socket keep their order (${transports})`, async () => {
    const roomId = `order-${transports}`;
    const receivers = await Promise.all([1, 2, 3, 4].map((userId) => server.signedIn({ userId }, { transports })));
    for (const socket of receivers) await ask(socket, 'chat:join', { roomId });
    const sender = receivers[0];
    const acks = [];
    for (let part = 0; part < 3; part += 1) {
      for (let i = 0; i < 1000; i += 1) acks.push(ask(sender, 'chat:message', { roomId, content: String(part * 1000 + i) }));
      await Promise.all(acks);
    }
    assert.ok((await Promise.all(acks)).every((ack) => ack.ok));
    for (const socket of receivers) {
      await until(() => all(socket, 'chat:message').length >= 3000, 'all have arrived');
      assertRising(all(socket, 'chat:message').map((one) => one.seq));
      assert.deepEqual(all(socket, 'chat:message').map((one) => one.content), Array.from({ length: 3000 }, (_, i) => String(i)));
      socket.disconnect();
    }
  });
}

test('history and live stream join without gap or double while others post', async () => {
  const roomId = 'gapless';
  const poster = await server.signedIn({ userId: 50 });
  await ask(poster, 'chat:join', { roomId });
  let posting = true;
  const posts = (async () => {
    for (let i = 0; posting; i += 1) await ask(poster, 'chat:message', { roomId, content: String(i) });
  })();
  const views = [];
  for (let i = 0; i < 30; i += 1) {
    const socket = await server.signedIn({ userId: 51 + i }, { transports: [i % 2 ? 'polling' : 'websocket'] });
    const joined = await ask(socket, 'chat:join', { roomId, limit: 200, after: 0 });
    views.push({ socket, joined });
  }
  await until(() => views.every(({ socket }) => all(socket, 'chat:message').length >= 20), 'each has heard some live');
  posting = false;
  await posts;
  for (const { socket, joined } of views) {
    let page = joined;
    const seqs = page.messages.map((one) => one.seq);
    while (page.hasMore) {
      page = await ask(socket, 'chat:history', { roomId, after: page.messages.at(-1).id, limit: 200 });
      seqs.push(...page.messages.map((one) => one.seq).filter((seq) => seq <= joined.lastSeq));
    }
    assertRising([...seqs, ...all(socket, 'chat:message').map((one) => one.seq)]);
  }
});

test('2,000 clients that leave at once leave no ghost', async () => {
  const roomId = 'ghosts';
  const witness = await server.signedIn({ userId: 900 });
  await ask(witness, 'chat:join', { roomId });
  const visit = (i) => new Promise((resolve) => {
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/ws/?EIO=4&transport=websocket`);
    socket.on('error', resolve);
    socket.on('close', resolve);
    socket.on('message', (data) => {
      if (data[0] === 0x30) {
        socket.send(`40${JSON.stringify({ token: token({ userId: 1000 + (i % 100) }) })}`);
        // Join before the answer has come, and go: at once, or when the first word is there.
        socket.send(`420["chat:join",{"roomId":"${roomId}"}]`);
        if (i % 3 === 0) socket.terminate();
        if (i % 3 === 1) socket.close();
      } else if (i % 3 === 2) socket.terminate();
    });
  });
  for (let at = 0; at < 2000; at += 100) await Promise.all(Array.from({ length: 100 }, (_, i) => visit(at + i)));
  const admin = { userId: 1, role: 'admin' };
  await until(async () => (await ask(witness, 'presence:list', { roomId })).users.length === 1, 'only the witness is left');
  const status = await until(async () => {
    const { json } = await server.fetch('/api/v1/admin/status', { claims: admin });
    return json.sockets.total === server.sockets.size - [...server.sockets].filter((s) => !s.connected).length && json;
  }, 'only live sockets are counted');
  assert.ok(status.ready);
  assert.equal((await ask(witness, 'chat:join', { roomId })).members, 1);
});

test('typing ends by itself, and presence after an abrupt loss', async () => {
  const roomId = 'presence';
  const [ann, bob] = [await server.signedIn({ userId: 7100, name: 'Ann' }), await server.signedIn({ userId: 7200 })];
  for (const socket of [ann, bob]) await ask(socket, 'chat:join', { roomId });
  await ask(bob, 'chat:typing', { roomId, isTyping: true });
  await heard(ann, 'chat:typing', (one) => one.isTyping);
  await heard(ann, 'chat:typing', (one) => !one.isTyping);
  bob.io.engine.transport.ws.terminate();
  await heard(ann, 'chat:user_left', (one) => one.userId === 7200);
  const changed = await heard(ann, 'presence:changed');
  assert.deepEqual([changed.userId, changed.online], [7200, false]);
  assert.deepEqual((await ask(ann, 'presence:list', { roomId })).users.map(({ userId, name, online }) => [userId, name, online]), [[7100, 'Ann', true]]);
});

test('limits answer rate_limited with the time to wait, and the socket lives on', async () => {
  const strict = await Appliance.start({ env: { ACADEMY_RT_LIMITS_SOCKETS_PER_USER: '2' } });
  try {
    const socket = await strict.signedIn({ userId: 1 });
    await ask(socket, 'chat:join', { roomId: 'r' });
    const answers = await Promise.all(Array.from({ length: 60 }, () => ask(socket, 'chat:message', { roomId: 'r', content: 'x' })));
    const refused = answers.filter((answer) => !answer.ok);
    assert.ok(refused.length > 0 && answers.length - refused.length >= 30);
    for (const { error } of refused) assert.ok(error.code === 'rate_limited' && error.retryAfterMs > 0);
    assertRising((await ask(socket, 'chat:history', { roomId: 'r', limit: 200 })).messages.map((one) => one.seq));
    await strict.signedIn({ userId: 1 });
    assert.equal((await heard(strict.client({ userId: 1 }), 'auth_error')).code, 'rate_limited');
  } finally {
    await strict.stop();
  }
});
