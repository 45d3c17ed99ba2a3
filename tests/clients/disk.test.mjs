// A real disk that is really full: a small tmpfs. Whoever is connected stays connected and goes on reading; what was not
// acknowledged is stored by its retry, once, when there is room again - without a restart.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fillUp, smallDisk } from './disks.mjs';
import { Appliance, all, ask, assertRising, binary, noLimits, until } from './harness.mjs';

const MIB = 1 << 20;

// Takes all the room that is left, but `leave` bytes; gives what gives it back.
function fill(disk, leave = 0) {
  const path = join(disk.at, 'filler');
  fillUp(disk, path, leave);
  return () => rmSync(path);
}

// Both ways of meeting it: the guard that keeps some room free, and the engine's own ENOSPC.
for (const [name, minFree] of [['the guard', '3MiB'], ['ENOSPC in the engine', '0']]) {
  test(`a full disk, met by ${name}`, async () => {
    const disk = smallDisk(16);
    const server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_STORAGE_MIN_FREE: minFree }, dir: join(disk.at, 'server') });
    const [ann, bob] = [await server.signedIn({ userId: 7 }), await server.signedIn({ userId: 8 })];
    for (const socket of [ann, bob]) await ask(socket, 'chat:join', { roomId: 'r' });
    const acked = new Map();
    const say = async (n) => {
      const ack = await ask(ann, 'chat:message', { roomId: 'r', content: `${n} ${'x'.repeat(3000)}`, clientId: `k${n}` });
      if (ack.ok) acked.set(`k${n}`, ack.id);
      return ack;
    };
    for (let n = 0; n < 20; n += 1) assert.ok((await say(n)).ok);
    await ask(ann, 'progress:sync', { lessonId: 1, progress: 30, timeSpent: 5 });
    const empty = fill(disk);
    // The engine has some room of its own in its file: it is used up first.
    let refused;
    let n = 20;
    await until(async () => {
      n += 1;
      refused = await say(n);
      return !refused.ok;
    }, 'writes are refused');
    assert.equal(refused.error.code, 'unavailable');
    await until(async () => {
      await say(n);
      const { status, raw } = await server.fetch('/readyz');
      return status === 503 && /full|No space|free/.test(raw);
    }, '/readyz says why');
    // Reads go on, and nobody was disconnected.
    await until(async () => (await ask(bob, 'chat:history', { roomId: 'r', limit: 5 })).ok, 'history is read');
    const progress = await until(async () => {
      const answer = await ask(bob, 'progress:get', {});
      return answer.ok && answer;
    }, 'progress is read');
    assert.deepEqual(progress.items, []);
    assert.ok(ann.connected && bob.connected);
    const late = await server.signedIn({ userId: 9 });
    assert.ok((await ask(late, 'chat:join', { roomId: 'r' })).ok, 'people still come in');
    assert.equal((await ask(late, 'chat:message', { roomId: 'r', content: 'x', clientId: 'late' })).error.code, 'unavailable');
    // A backup to another disk is made all the same.
    const elsewhere = mkdtempSync(join(tmpdir(), 'academy-rt-elsewhere-'));
    execFileSync(binary, ['backup', join(elsewhere, 'full.backup'), '--data-dir', server.data], { env: { PATH: process.env.PATH }, stdio: 'pipe' });
    execFileSync(binary, ['backup', 'verify', '--drill', join(elsewhere, 'full.backup')], { env: { PATH: process.env.PATH } });
    rmSync(elsewhere, { recursive: true });
    empty();
    // The same keys again: each is stored once, whatever became of it before.
    for (let k = 20; k <= n; k += 1) await until(async () => (await say(k)).ok, 'there is room again');
    await until(async () => (await ask(late, 'chat:message', { roomId: 'r', content: 'x', clientId: 'late' })).ok, 'for everybody');
    assert.equal((await server.fetch('/readyz')).status, 200);
    const stored = [];
    for (let after = 0; ;) {
      const page = await ask(ann, 'chat:history', { roomId: 'r', after, limit: 200 });
      stored.push(...page.messages);
      if (!page.hasMore) break;
      after = page.messages.at(-1).id;
    }
    assert.deepEqual(stored.map((one) => one.seq), stored.map((_, at) => at + 1), 'seq has no gaps');
    // A key is shown to its author alone: the one message of somebody else has none.
    const byKey = new Map(stored.map((one) => [one.clientId, one.id]));
    assert.equal(byKey.size, stored.length, 'nothing is there twice');
    assert.equal(stored.length, n + 2, 'and everything once');
    for (const [key, id] of acked) assert.equal(byKey.get(key), id, `${key} was acknowledged`);
    await until(() => all(bob, 'chat:message').length === stored.length, 'bob heard everything');
    assertRising(all(bob, 'chat:message').map((one) => one.seq));
    await server.halt();
    const found = JSON.parse(execFileSync(binary, ['--output', 'json', 'db', 'check', '--data-dir', server.data], { env: { PATH: process.env.PATH } }));
    assert.deepEqual(found, { ok: true, found: [] });
    disk.remove();
  });
}

test('a disk that is full at the start: the server comes up, reads, and says why it does not write', async () => {
  const disk = smallDisk(16);
  const dir = join(disk.at, 'server');
  const server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_STORAGE_MIN_FREE: '1MiB' }, dir });
  const ann = await server.signedIn({ userId: 7 });
  await ask(ann, 'chat:join', { roomId: 'r' });
  await ask(ann, 'chat:message', { roomId: 'r', content: 'x' });
  await server.halt();
  const empty = fill(disk, MIB / 2);
  await server.launch({ ready: 503 });
  const again = await server.signedIn({ userId: 7 });
  assert.equal((await ask(again, 'chat:join', { roomId: 'r' })).messages.length, 1);
  empty();
  await until(async () => (await server.fetch('/readyz')).status === 200, 'there is room again');
  assert.ok((await ask(again, 'chat:message', { roomId: 'r', content: 'y' })).ok);
  await server.halt();
  disk.remove();
});

test('a data directory without room for a store says so, and the next start works', async () => {
  const disk = smallDisk(1);
  mkdirSync(join(disk.at, 'server'));
  const empty = fill(disk);
  const server = new Appliance();
  await assert.rejects(() => server.launchIn({ env: { ...noLimits }, dir: join(disk.at, 'server') }), /No space left|no space/i);
  empty();
  await server.launchIn({ env: { ...noLimits }, dir: join(disk.at, 'server') });
  await server.halt();
  disk.remove();
});
