// What a full disk still does: below `storage.min_free` nothing more is written by people, but whoever looks after the server
// can shut out, take back, erase and purge, and it is in the trail; below the second floor (`storage.min_free_admin`) a ban
// holds in memory and says so. A small tmpfs is the disk; nothing is restarted but where a kill shows what is durable.
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { act, admin, call, cursorOf, done, pollFrom, say, served, trail, waitingPolls } from './acts.mjs';
import { fillUp, smallDisk } from './disks.mjs';
import { ask, heard, until } from './harness.mjs';

const MIB = 1 << 20;
const ann = { userId: 7, name: 'Ann' };
const bob = { userId: 8, name: 'Bob' };

// A server on a file system of its own of some MiB, and what fills that up to some bytes. Needs to be root, or `unshare -rm`.
async function onSmallDisk(t, { mib = 40, env = {} } = {}) {
  const disk = smallDisk(mib);
  let close = () => {};
  t.after(async () => {
    await close();
    disk.remove();
  });
  const server = await served({ after: (hook) => { close = hook; } }, { dir: join(disk.at, 'server'), env: { ACADEMY_RT_STORAGE_MIN_FREE: '12MiB', ...env } });
  const filler = join(disk.at, 'filler');
  const fillTo = (leave) => fillUp(disk, filler, leave);
  return { server, fillTo, free: disk.free, empty: () => rmSync(filler) };
}

const write = (server, claims, content = 'x') => call(server, claims, 'POST', '/rooms/r/messages', { content });
const refused = async (server) => {
  const { status, json } = await write(server, ann);
  assert.deepEqual([status, json.error?.code], [503, 'unavailable'], 'messages are refused');
};

// Whatever can be asked over HTTP, each of a person or room of its own. `isRead`: it always works; `isAct`: it goes on below
// the first floor (with the action of its record); `isBan`: below the second, too; `isEither`: nothing is said of it.
const operations = [
  ['a message', 'POST', '/rooms/r/messages', { content: 'x' }],
  ['an edit', 'PATCH', ({ mine }) => `/rooms/r/messages/${mine}`, { content: 'y' }],
  ['a read mark', 'POST', '/rooms/r/read', ({ mine }) => ({ messageId: mine })],
  ['progress', 'POST', '/progress', { lessonId: 1, progress: 5, timeSpent: 1 }],
  ['a notification', 'POST', '/notifications', { target: { user: 8 }, title: 'T', message: 'M' }, { by: admin }],
  ['a room', 'POST', '/admin/rooms', { roomId: 'new' }, { by: admin }],
  ['a room is renamed', 'PATCH', '/admin/rooms/to-name', { name: 'A name' }, { by: admin }],
  ['a member', 'PUT', '/admin/rooms/to-admit/members/8', { role: 'member' }, { by: admin }],
  ['history', 'GET', '/rooms/r/messages', undefined, { isRead: true }],
  ['the session', 'GET', '/session', undefined, { isRead: true }],
  ['the rooms', 'GET', '/rooms', undefined, { isRead: true }],
  ['the inbox', 'GET', '/notifications', undefined, { isRead: true }],
  ['what was learned', 'GET', '/progress', undefined, { isRead: true }],
  ['a poll', 'GET', '/events?rooms=r', undefined, { isRead: true }],
  ['the trail', 'GET', '/admin/audit?limit=5', undefined, { isRead: true, by: admin }],
  ['an export', 'GET', '/admin/users/7/export', undefined, { isAct: 'user.export' }],
  ['the people', 'GET', '/admin/users', undefined, { isRead: true, by: admin }],
  ['typing', 'POST', '/rooms/r/typing', { isTyping: true }, { isEither: true }],
  ['a broadcast', 'POST', '/broadcast', { target: { all: true }, event: 'x', payload: {} }, { by: admin, isEither: true }],
  ['a block', 'POST', '/admin/users/20/block', { reason: 'left' }, { isAct: 'user.block', isBan: true }],
  ['an unblock', 'POST', '/admin/users/21/unblock', {}, { isAct: 'user.unblock' }],
  ['a revocation', 'POST', '/admin/tokens/revoke', { jti: 'stolen' }, { isAct: 'token.revoke', isBan: true }],
  ['a revocation of all of a user', 'POST', '/admin/tokens/revoke', { userId: 22 }, { isAct: 'token.revoke', isBan: true }],
  ['a disconnect', 'POST', '/admin/users/23/disconnect', {}, { isAct: 'user.disconnect' }],
  ['a removal of a member', 'DELETE', '/admin/rooms/board/members/24', undefined, { isAct: 'room.member.remove' }],
  ['a room made private', 'PATCH', '/admin/rooms/open', { private: true }, { isAct: 'room.set' }],
  ['a removal of a room', 'DELETE', '/admin/rooms/to-go', undefined, { isAct: 'room.delete' }],
  ['a removal of a message', 'DELETE', ({ rude }) => `/rooms/r/messages/${rude}`, undefined, { isAct: true }],
  ['a hold', 'POST', '/admin/holds', { userId: 25, reason: 'case 12' }, { isAct: 'hold.set' }],
  ['the end of a hold', 'DELETE', '/admin/holds/user/26', undefined, { isAct: 'hold.release' }],
  ['an erasure', 'DELETE', '/admin/users/27', undefined, { isAct: 'user.erase' }],
].map(([name, method, path, body, { by, ...kind } = {}]) => ({ name, method, path, body, by: by ?? (kind.isAct ? admin : ann), ...kind }));
// Done once, there is nothing to do it to.
const once = ['an unblock', 'a removal of a member', 'a removal of a room', 'a removal of a message', 'the end of a hold'];

async function prepare(server) {
  const known = {};
  known.mine = await say(server, ann, 'r', 'mine');
  known.rude = await say(server, bob, 'r', 'rude');
  for (const userId of [20, 21, 22, 23, 24, 25, 26, 27]) await say(server, { userId }, 'crowd', 'here');
  await act(server, 'POST', '/rooms', { roomId: 'board', private: true, members: [7, 24] });
  for (const roomId of ['to-go', 'to-name', 'to-admit', 'open']) await act(server, 'POST', '/rooms', { roomId });
  await act(server, 'POST', '/users/21/block', {});
  await act(server, 'POST', '/holds', { userId: 26, reason: 'case 1' });
  return known;
}

const request = (server, known, { method, path, body, by }) => {
  const of = (value) => (typeof value === 'function' ? value(known) : value);
  return call(server, by, method, of(path), of(body));
};

describe('below the first floor', () => {
  for (const operation of operations.filter((one) => one.isAct)) {
    test(`${operation.name} works${operation.isAct === true ? '' : ', is in the trail'}, and is there after a kill -9`, async (t) => {
      const { server, fillTo, empty } = await onSmallDisk(t);
      const known = await prepare(server);
      fillTo(8 * MIB);
      await refused(server);
      const recordsOf = async () => (await trail(server)).filter((one) => one.action === operation.isAct && one.outcome.startsWith('done')).length;
      const before = await recordsOf();
      const answer = await request(server, known, operation);
      assert.equal(answer.status, 200, answer.raw);
      if (/block|revoke/.test(operation.isAct)) assert.notEqual(answer.json.durable, false);
      if (operation.isAct !== true) assert.equal(await recordsOf(), before + 1, 'it is in the trail once');
      await refused(server);
      await server.kill();
      await server.launch({ ready: 503 });
      if (operation.isAct !== true) assert.equal(await recordsOf(), before + 1, 'over kill -9');
      const again = await request(server, known, operation);
      assert.equal(again.status, once.includes(operation.name) ? 404 : 200, `what is done is done: ${again.raw}`);
      empty();
      await until(async () => (await write(server, ann)).status === 200, 'there is room again');
      await server.stop();
    });
  }

  test('a stolen token is shut out: its socket and its poll at once, and whoever it was', async (t) => {
    const { server, fillTo } = await onSmallDisk(t);
    const thief = { ...ann, jti: 'stolen' };
    const socket = await server.signedIn(thief);
    const blocked = await server.signedIn(bob);
    const [poll] = await waitingPolls(server, [{ claims: thief, rooms: 'r' }]);
    fillTo(8 * MIB);
    await refused(server);
    const revoked = await act(server, 'POST', '/tokens/revoke', { jti: 'stolen' });
    assert.deepEqual([revoked.durable, revoked.disconnected], [true, 1]);
    assert.equal((await heard(socket, 'auth_error')).code, 'token_revoked');
    assert.deepEqual([(await poll).status, (await poll).json.error?.code], [401, 'token_revoked']);
    assert.equal((await act(server, 'POST', '/users/8/block', {})).durable, true);
    assert.equal((await heard(blocked, 'auth_error')).code, 'user_blocked');
    assert.equal((await call(server, bob, 'GET', '/session')).status, 403);
    await server.stop();
  });

  test('an export is a read', async (t) => {
    const { server, fillTo } = await onSmallDisk(t);
    await say(server, ann, 'r', 'all my words');
    fillTo(8 * MIB);
    await refused(server);
    assert.equal((await done(server, admin, 'GET', '/admin/users/7/export')).messages[0].content, 'all my words');
    assert.ok((await trail(server)).some((one) => one.action === 'user.export'), 'and it is in the trail');
    await server.stop();
  });

  test('retention purges, with its records', async (t) => {
    const { server, fillTo } = await onSmallDisk(t, { env: { ACADEMY_RT_RETENTION_CHAT: '6s' } });
    for (let n = 0; n < 20; n += 1) await say(server, ann, 'r', `old words ${n}`);
    fillTo(8 * MIB);
    await refused(server);
    assert.equal((await done(server, ann, 'GET', '/rooms/r/messages')).messages.length, 20, 'they are there when the disk is full');
    await until(async () => (await done(server, ann, 'GET', '/rooms/r/messages')).messages.length === 0, 'they are purged');
    const purged = async () => (await trail(server)).filter((one) => one.action === 'retention.purge').reduce((sum, one) => sum + Number(/^done: (\d+)/.exec(one.outcome)?.[1] ?? 0), 0);
    await until(async () => (await purged()) === 20, 'it is in the trail');
    await refused(server);
    await server.stop();
  });

  test('what data have filled, retention empties: writes go on inside the file', async (t) => {
    const { server, empty, fillTo } = await onSmallDisk(t, { mib: 64, env: { ACADEMY_RT_STORAGE_MIN_FREE: '16MiB' } });
    const text = '\u{1D11E}'.repeat(3_900);
    let isFull = false;
    while (!isFull) isFull = (await Promise.all(Array.from({ length: 100 }, () => write(server, ann, text)))).some((one) => one.status === 503);
    fillTo(15 * MIB);
    await refused(server);
    console.log('# full', Date.now());
    await server.halt();
    console.log('# halted', Date.now());
    server.env = { ...server.env, ACADEMY_RT_RETENTION_CHAT: '20s' };
    await server.launch({ ready: 503 });
    await until(async () => (await done(server, ann, 'GET', '/rooms/r/messages')).messages.length === 0, 'all of it is purged', 60_000);
    console.log('# purged', Date.now());
    await until(async () => (await server.fetch('/readyz')).status === 200, 'there is room inside the file', 30_000);
    console.log('# room', Date.now());
    for (let n = 0; n < 50; n += 1) assert.equal((await write(server, ann, `${n} ${text}`)).status, 200);
    // That is no room without end.
    let taken = 0;
    while ((await write(server, ann, text)).status === 200) taken += 1;
    assert.ok(taken < 64 * MIB / Buffer.byteLength(text), `${taken}`);
    empty();
    await until(async () => (await write(server, ann)).status === 200, 'there is room on the disk');
    await server.stop();
  });

  test('the second floor is a quarter of the first, or what storage.min_free_admin says', async (t) => {
    const { server, fillTo } = await onSmallDisk(t, { env: { ACADEMY_RT_STORAGE_MIN_FREE_ADMIN: '10MiB' } });
    fillTo(11 * MIB);
    await refused(server);
    assert.equal((await act(server, 'POST', '/users/7/block', {})).durable, true);
    fillTo(9 * MIB);
    assert.equal((await act(server, 'POST', '/users/8/block', {})).durable, false);
    assert.equal((await call(server, admin, 'DELETE', '/admin/users/7')).status, 503, 'what cannot be held in memory is refused');
    await server.stop();
  });
});

describe('below the second floor', () => {
  for (const [name, env, leave] of [['the guard', {}, 2 * MIB], ['ENOSPC in the engine', { ACADEMY_RT_STORAGE_MIN_FREE: '0' }, 0]]) {
    test(`bans hold at once, say that they are not durable, and are when there is room again (${name})`, async (t) => {
      const { server, fillTo, empty } = await onSmallDisk(t, { env });
      const sockets = [await server.signedIn({ userId: 20 }), await server.signedIn({ userId: 21, jti: 'stolen' })];
      const polls = await waitingPolls(server, [{ claims: { userId: 20 }, rooms: '' }, { claims: { userId: 21, jti: 'stolen' }, rooms: '' }]);
      fillTo(leave);
      // The engine has some room of its own in its file: it is used up first.
      await until(async () => (await write(server, ann, 'x'.repeat(4_000))).status === 503, 'writes are refused');
      const bans = [['/users/20/block', { reason: 'left' }, 'user_blocked', 403], ['/tokens/revoke', { jti: 'stolen' }, 'token_revoked', 401]];
      const answers = [];
      for (const [n, [path, body, code, status]] of bans.entries()) {
        const answer = await act(server, 'POST', path, body);
        answers.push(answer.durable);
        assert.equal((await heard(sockets[n], 'auth_error')).code, code);
        await until(() => !sockets[n].connected, 'the socket is out');
        assert.deepEqual([(await polls[n]).status, (await polls[n]).json.error?.code], [status, code]);
      }
      const shut = async () => [(await call(server, { userId: 20 }, 'GET', '/session')).status, (await call(server, { userId: 21, jti: 'stolen' }, 'GET', '/session')).status];
      assert.deepEqual(await shut(), [403, 401]);
      // The engine may find room in its own file for so little.
      if (name === 'the guard') assert.deepEqual(answers, [false, false]);
      else assert.ok(answers.every((one) => typeof one === 'boolean'), JSON.stringify(answers));
      assert.equal((await act(server, 'GET', '/users/20')).blocked, true, 'it is shown as it is in force');
      empty();
      const records = async () => (await trail(server)).filter((one) => ['user.block', 'token.revoke'].includes(one.action)).map((one) => one.action).sort();
      await until(async () => (await records()).length >= 2, 'they are stored and recorded');
      assert.deepEqual(await records(), ['token.revoke', 'user.block'], 'once');
      assert.equal((await act(server, 'POST', '/users/20/block', {})).durable, true);
      await server.kill();
      await server.launch();
      assert.deepEqual(await shut(), [403, 401], 'over kill -9');
      await server.stop();
    });
  }

  test('bans are set and lifted in their order, each with its record, and the answers say what is durable', async (t) => {
    const { server, fillTo, empty } = await onSmallDisk(t);
    for (const userId of [7, 8, 9]) await say(server, { userId }, 'crowd', 'here');
    assert.equal((await act(server, 'POST', '/users/7/block', { reason: 'first' })).durable, true);
    fillTo(2 * MIB);
    assert.equal((await act(server, 'POST', '/users/7/block', { reason: 'second' })).durable, true, 'it stands already');
    assert.equal((await act(server, 'POST', '/users/7/unblock', {})).durable, false);
    assert.equal((await act(server, 'POST', '/users/8/block', { reason: 'third' })).durable, false);
    assert.equal((await act(server, 'POST', '/users/8/unblock', {})).durable, false);
    assert.equal((await act(server, 'POST', '/users/8/block', { reason: 'fourth' })).durable, false);
    for (const user of [7, 9]) assert.equal((await call(server, admin, 'POST', `/admin/users/${user}/unblock`, {})).status, 404, 'not blocked');
    const state = async () => Promise.all([7, 8, 9].map(async (userId) => (await call(server, { userId }, 'GET', '/session')).status));
    assert.deepEqual(await state(), [200, 403, 200]);
    assert.deepEqual((await act(server, 'GET', '/tokens/revoked')).items.map((one) => one.userId), [8], 'it is shown as it is in force');
    empty();
    const acts = async () => (await trail(server)).filter((one) => /user\.(un)?block/.test(one.action)).map((one) => `${one.action} ${one.target}`);
    const all = ['user.block user 7', 'user.block user 7', 'user.unblock user 7', 'user.block user 8', 'user.unblock user 8', 'user.block user 8'];
    await until(async () => (await acts()).length >= all.length, 'they are stored and recorded');
    assert.deepEqual(await acts(), all);
    await server.kill();
    await server.launch();
    assert.deepEqual(await state(), [200, 403, 200], 'over kill -9');
    await server.stop();
  });

  test('an erasure that was cut short by it says so, and goes on when there is room', async (t) => {
    const { server, fillTo, empty } = await onSmallDisk(t, { mib: 96, env: { ACADEMY_RT_STORAGE_MIN_FREE: '8MiB', ACADEMY_RT_STORAGE_MIN_FREE_ADMIN: '4MiB' } });
    for (let n = 0; n < 60; n += 1) await Promise.all(Array.from({ length: 50 }, (_, k) => say(server, ann, `r${k % 2}`, 'x'.repeat(1_200) + k)));
    let isCut = false;
    for (let spare = 8; spare > 0 && !isCut; spare -= 1) {
      fillTo(4 * MIB + spare * 40_000);
      const answer = await call(server, admin, 'DELETE', '/admin/users/7');
      isCut = answer.status === 503 && /the erasure has begun, and goes on by itself/.test(answer.json.error.message);
      if (!isCut) assert.equal(answer.status, 503, 'it did not begin');
    }
    assert.ok(isCut);
    assert.equal((await call(server, admin, 'GET', '/admin/users/7/erasure')).status, 404, 'it is not done');
    empty();
    await until(async () => (await call(server, admin, 'GET', '/admin/users/7/erasure')).status === 200, 'it goes on by itself', 15_000);
    await server.stop();
  });
});

describe('a disk full at each operation', () => {
  for (const [name, env, leave] of [['the guard', {}, 8 * MIB], ['the second floor', {}, 2 * MIB], ['ENOSPC in the engine', { ACADEMY_RT_STORAGE_MIN_FREE: '0' }, 0]]) {
    test(`each works or is refused as unavailable, reads go on, and behind it all goes on (${name})`, async (t) => {
      const { server, fillTo, empty } = await onSmallDisk(t, { env });
      const known = await prepare(server);
      const socket = await server.signedIn(bob);
      await ask(socket, 'chat:join', 'r');
      const cursor = await cursorOf(server, bob, 'r');
      fillTo(leave);
      await until(async () => (await write(server, ann, 'x'.repeat(4_000))).status === 503, 'writes are refused');
      const wrong = [];
      const isDone = new Set();
      for (const operation of operations) {
        const { status, json, raw } = await request(server, known, operation);
        const isClean = status === 503 && json?.error?.code === 'unavailable';
        const mustWork = operation.isRead || operation.isBan || (operation.isAct && name === 'the guard');
        const mustNot = name === 'the guard' && !operation.isRead && !operation.isAct && !operation.isEither;
        if (status === 200) isDone.add(operation.name);
        if (!(status === 200 || isClean) || (mustWork && status !== 200) || (mustNot && !isClean)) wrong.push(`${operation.name}: ${status} ${raw.slice(0, 100)}`);
      }
      assert.deepEqual(wrong, []);
      assert.ok(socket.connected, 'nobody is disconnected');
      empty();
      await until(async () => (await server.fetch('/readyz')).status === 200, 'there is room again');
      for (const operation of operations) {
        if (isDone.has(operation.name) && !operation.isRead) continue;
        const { status, raw } = await request(server, known, operation);
        // What was not acknowledged may have been done.
        assert.ok(status === 200 || (status === 404 && once.includes(operation.name)), `${operation.name} works again: ${status} ${raw}`);
      }
      assert.equal((await pollFrom(server, bob, cursor, 'r')).status, 200);
      const id = await say(server, ann, 'r', 'all goes on');
      await heard(socket, 'chat:message', (one) => one.id === id);
      await server.halt();
    });
  }
});
