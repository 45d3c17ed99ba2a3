// kill -9 under load: what was acknowledged is there, once, without gaps.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Appliance, ask, assertRising, noLimits } from './harness.mjs';

const ROUNDS = 3;
const SENDERS = 20;

test(`everything acknowledged survives kill -9 (${ROUNDS} rounds, ${SENDERS} senders)`, async () => {
  const server = await Appliance.start({ env: noLimits });
  const roomId = 'kill';
  const acked = new Map();
  const versions = new Map();
  let key = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const sockets = await Promise.all(Array.from({ length: SENDERS }, (_, i) => server.signedIn({ userId: i + 1 })));
    for (const socket of sockets) await ask(socket, 'chat:join', { roomId });
    const open = new Map();
    let killed = false;
    const goal = 150 + Math.floor(Math.random() * 400);
    const work = sockets.map(async (socket, i) => {
      while (!killed) {
        const clientId = `k${(key += 1)}`;
        const sync = { lessonId: i, progress: 50, timeSpent: 1, syncId: clientId };
        open.set(clientId, { i, sync });
        const [posted, synced] = await Promise.all([
          socket.timeout(3000).emitWithAck('chat:message', { roomId, content: clientId, clientId }),
          socket.timeout(3000).emitWithAck('progress:sync', sync),
        ].map((ack) => ack.catch(() => undefined)));
        if (posted?.ok) acked.set(clientId, posted);
        if (synced?.ok) versions.set(clientId, synced.syncVersion);
        if (posted?.ok && synced?.ok) open.delete(clientId);
        if (acked.size >= goal * (round + 1) && !killed) {
          killed = true;
          await server.kill();
        }
      }
    });
    await Promise.all(work);
    for (const socket of sockets) socket.disconnect();
    await server.launch();
    // What was not acknowledged is tried again, with the same key.
    const again = await Promise.all(Array.from({ length: SENDERS }, (_, i) => server.signedIn({ userId: i + 1 })));
    for (const socket of again) await ask(socket, 'chat:join', { roomId });
    for (const [clientId, { i, sync }] of open) {
      const posted = await ask(again[i], 'chat:message', { roomId, content: clientId, clientId });
      const known = acked.get(clientId);
      assert.ok(posted.ok && (!known || (posted.duplicate && posted.id === known.id)));
      acked.set(clientId, posted);
      const synced = await ask(again[i], 'progress:sync', sync);
      assert.ok(synced.ok && (!versions.has(clientId) || synced.duplicate));
      versions.set(clientId, synced.syncVersion);
    }
    for (const socket of again) socket.disconnect();
  }
  const reader = await server.signedIn({ userId: 99 });
  const stored = [];
  for (let page = { hasMore: true }, after = 0; page.hasMore; after = page.messages.at(-1)?.id) {
    page = await ask(reader, 'chat:history', { roomId, after, limit: 200 });
    stored.push(...page.messages);
  }
  assertRising(stored.map((one) => one.seq));
  assert.equal(new Set(stored.map((one) => one.content)).size, stored.length, 'nothing is there twice');
  assert.equal(stored.length, acked.size);
  for (const one of stored) assert.equal(acked.get(one.content)?.id, one.id);
  for (let i = 0; i < SENDERS; i += 1) {
    const socket = await server.signedIn({ userId: i + 1 });
    const [{ timeSpent, syncVersion }] = (await ask(socket, 'progress:get', { lessonId: i })).items;
    assert.equal(timeSpent, syncVersion, 'each report was added once, and each has a version');
    const kept = (await ask(socket, 'progress:history', { lessonId: i })).versions.map((one) => one.syncVersion);
    assertRising(kept, kept[0]);
    assert.equal(kept.at(-1), syncVersion);
    socket.disconnect();
  }
  await server.stop();
});

test('SIGTERM under load: acks are on disk, the exit status is 0', async () => {
  const server = await Appliance.start({ env: noLimits });
  const sockets = await Promise.all([1, 2, 3, 4].map((userId) => server.signedIn({ userId })));
  const acked = [];
  let stopping = false;
  const work = sockets.map(async (socket, i) => {
    await ask(socket, 'chat:join', { roomId: 'r' });
    for (let n = 0; socket.connected; n += 1) {
      const ack = await socket.timeout(3000).emitWithAck('chat:message', { roomId: 'r', content: `${i}-${n}` }).catch(() => undefined);
      if (ack?.ok) acked.push(ack.seq);
      if (acked.length > 200 && !stopping) {
        stopping = true;
        server.child.kill('SIGTERM');
      }
    }
  });
  assert.equal((await server.exited).code, 0, server.stderr);
  await Promise.all(work);
  await server.launch();
  const page = await server.fetch('/api/v1/rooms/r/messages?limit=1', { claims: { userId: 1 } });
  assert.ok(page.json.lastSeq >= Math.max(...acked));
  await server.stop();
});
