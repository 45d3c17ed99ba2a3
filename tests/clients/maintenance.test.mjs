// What administrators do, as people connected see it: an erasure, a backup under load, a store that goes back in time.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { test } from 'node:test';
import { Appliance, all, ask, assertRising, binary, noLimits, until } from './harness.mjs';

// A command with nothing of this environment.
const run = (args) => promisify(execFile)(binary, args, { env: { PATH: process.env.PATH } });

test('an erasure is told to the rooms, and its person is shown out', async () => {
  const server = await Appliance.start({ env: noLimits });
  const [ann, bob] = [await server.signedIn({ userId: 7, name: 'Ann' }), await server.signedIn({ userId: 8, name: 'Bob' })];
  for (const socket of [ann, bob]) await ask(socket, 'chat:join', { roomId: 'r' });
  const said = [];
  for (const content of ['one', 'two', 'three']) said.push((await ask(ann, 'chat:message', { roomId: 'r', content })).id);
  await ask(bob, 'chat:message', { roomId: 'r', content: 'mine' });
  const { status, json } = await server.fetch('/api/v1/admin/users/7', { method: 'DELETE', claims: { userId: 1, role: 'admin' } });
  assert.equal(status, 200);
  assert.equal(json.counts.messages, 3);
  await until(() => all(bob, 'chat:message-deleted').length === 3, 'the room is told');
  assert.deepEqual(all(bob, 'chat:message-deleted').map((one) => one.messageId), said);
  await until(() => !ann.connected, 'their device is shown out');
  assert.equal(all(ann, 'auth_error')[0].code, 'forbidden');
  const { messages } = await ask(bob, 'chat:history', { roomId: 'r' });
  assert.deepEqual(messages.map((one) => [one.seq, one.senderId, one.senderName, one.content]), [
    [1, 'erased', '', ''], [2, 'erased', '', ''], [3, 'erased', '', ''], [4, 8, 'Bob', 'mine'],
  ]);
  await server.stop();
});

test('a backup under load loses nothing for anybody, and is consistent', async () => {
  const server = await Appliance.start({ env: noLimits });
  const [ann, bob] = [await server.signedIn({ userId: 7 }), await server.signedIn({ userId: 8 })];
  for (const socket of [ann, bob]) await ask(socket, 'chat:join', { roomId: 'r' });
  let going = true;
  let sent = 0;
  const writing = (async () => {
    while (going) {
      const acks = await Promise.all(Array.from({ length: 8 }, () => ask(ann, 'chat:message', { roomId: 'r', content: 'x'.repeat(500) })));
      assert.ok(acks.every((ack) => ack.ok));
      sent += 8;
    }
  })();
  await until(() => sent > 500, 'there is something to back up');
  const before = sent;
  const file = `${server.dir}/live.backup`;
  await run(['backup', file, '--data-dir', server.data]);
  const between = sent;
  going = false;
  await writing;
  await until(() => all(bob, 'chat:message').length === sent, 'everybody has everything');
  assertRising(all(bob, 'chat:message').map((one) => one.seq));
  const { stdout } = await run(['--output', 'json', 'backup', 'verify', '--drill', file]);
  const rows = JSON.parse(stdout).tables.find((table) => table.name === 'messages').rows;
  assert.ok(rows >= before && rows <= between + 8, `${rows} of ${before} to ${between}`);
  await server.stop();
});

test('a client with a position of a life that has ended is told to start anew', async () => {
  const server = await Appliance.start({ env: noLimits });
  let ann = await server.signedIn({ userId: 7 });
  await ask(ann, 'chat:join', { roomId: 'r' });
  const first = (await ask(ann, 'chat:message', { roomId: 'r', content: 'before the backup' })).id;
  const file = `${server.dir}/early.backup`;
  await run(['backup', file, '--data-dir', server.data]);
  const lost = (await ask(ann, 'chat:message', { roomId: 'r', content: 'behind the backup' })).id;
  await server.halt();
  await run(['restore', file, '--data-dir', server.data]);
  await server.launch();
  ann = await server.signedIn({ userId: 7 });
  const refused = await ask(ann, 'chat:join', { roomId: 'r', after: lost });
  assert.equal(refused.error.code, 'resync');
  const page = await ask(ann, 'chat:join', { roomId: 'r', after: first });
  assert.deepEqual([page.ok, page.messages.length], [true, 0]);
  const next = await ask(ann, 'chat:message', { roomId: 'r', content: 'again' });
  assert.ok(next.id > lost && next.seq === 2);
  await server.stop();
});

test('a refused socket is in the audit trail, with its address', async () => {
  const server = await Appliance.start({ env: noLimits });
  const refused = server.client('not.a.token');
  await until(() => all(refused, 'auth_error').length === 1, 'it is refused');
  const records = async () => (await server.fetch('/api/v1/admin/audit?limit=100', { claims: { userId: 1, role: 'admin' } })).json.items;
  const found = await until(async () => (await records()).find((one) => one.action === 'sign_in' && one.actor === ''), 'it is recorded');
  assert.deepEqual([found.actor, found.origin, found.outcome], ['', '127.0.0.1', `refused: ${all(refused, 'auth_error')[0].code}`]);
  assert.ok(!JSON.stringify(await records()).includes('not.a.token'), 'the token is nowhere');
  await server.stop();
});
