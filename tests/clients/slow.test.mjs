// A reader that stops reading is cut off within 10 s, its rooms are clean, and the others feel nothing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { Appliance, all, ask, assertRising, noLimits, token, until } from './harness.mjs';

for (const tls of [false, true]) {
  test(`a reader that stops is cut off (${tls ? 'TLS' : 'HTTP'})`, async () => {
    const server = await Appliance.start({ tls, env: noLimits });
    const roomId = 'slow';
    const [sender, witness] = [await server.signedIn({ userId: 1 }), await server.signedIn({ userId: 2 })];
    for (const socket of [sender, witness]) await ask(socket, 'chat:join', { roomId });
    const slow = new WebSocket(`${server.url.replace('http', 'ws')}/ws/?EIO=4&transport=websocket`, { ca: server.ca });
    slow.on('error', () => {});
    await new Promise((resolve) => {
      slow.on('message', (data) => {
        if (data[0] === 0x30) slow.send(`40${JSON.stringify({ token: token({ userId: 3 }) })}`);
        else if (String(data).startsWith('42["authenticated"')) slow.send(`420["chat:join",{"roomId":"${roomId}"}]`);
        else if (String(data).startsWith('430')) resolve();
      });
    });
    await until(async () => (await ask(witness, 'presence:list', { roomId })).users.length === 3, 'all three are here');
    slow.pause();
    slow._socket.pause();
    const began = Date.now();
    const before = server.rssKiB();
    let sent = 0;
    let present = 3;
    while (present === 3) {
      const answers = await Promise.all(Array.from({ length: 50 }, () => ask(sender, 'chat:message', { roomId, content: 'x'.repeat(4000) })));
      assert.ok(answers.every((answer) => answer.ok));
      sent += 50;
      present = (await ask(witness, 'presence:list', { roomId })).users.length;
      assert.ok(Date.now() - began < 20_000, 'it is cut off');
      assert.ok(server.rssKiB() - before < 100_000, 'memory stays bounded');
    }
    await until(() => all(witness, 'chat:message').length === sent, 'the witness has everything');
    assertRising(all(witness, 'chat:message').map((one) => one.seq));
    const { json } = await server.fetch('/api/v1/admin/status', { claims: { userId: 9, role: 'admin' } });
    assert.equal(json.slowReaders, 1);
    slow.terminate();
    await server.stop();
  });
}

test('a reader that stops with little to send is cut off within 10 s too', async () => {
  const server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_LIMITS_SEND_QUEUE: '65535' } });
  const roomId = 'slow';
  const sender = await server.signedIn({ userId: 1 });
  await ask(sender, 'chat:join', { roomId });
  const slow = await server.signedIn({ userId: 3 });
  await ask(slow, 'chat:join', { roomId });
  slow.io.engine.transport.ws._socket.pause();
  // As much as the kernel's buffers take, and a little more: fewer bytes than the queue's bound.
  let blockedAt;
  const began = Date.now();
  while ((await ask(sender, 'presence:list', { roomId })).users.length === 2) {
    if (Date.now() - began < 3000) await Promise.all(Array.from({ length: 20 }, () => ask(sender, 'chat:message', { roomId, content: 'x'.repeat(4000) })));
    blockedAt ??= Date.now();
    assert.ok(Date.now() - began < 25_000, 'it is cut off');
  }
  const { json } = await server.fetch('/api/v1/admin/status', { claims: { userId: 9, role: 'admin' } });
  assert.equal(json.slowReaders, 1, 'and it is counted');
  await server.stop();
});
