// Legal holds, erasures and purges: what is held stays for administrators whoever edits, deletes or erases it; an erasure is
// whole or refused, and its certificate a stored document; times within a room never fall, whatever the clock does; and
// exports, however slowly they are read, leave the readers of everybody else alone.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { createConnection } from 'node:net';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { act, admin, bytesOf, call, cursorOf, done, pollFrom, say, served, trail } from './acts.mjs';
import { all, ask, heard, token, until } from './harness.mjs';

const ann = { userId: 7, name: 'Ann' };
const bob = { userId: 8, name: 'Bob' };

const edit = (server, claims, roomId, id, content) => done(server, claims, 'PATCH', `/rooms/${roomId}/messages/${id}`, { content });
const remove = (server, claims, roomId, id) => done(server, claims, 'DELETE', `/rooms/${roomId}/messages/${id}`);
const page = async (server, claims, roomId, query = '') => (await done(server, claims, 'GET', `/rooms/${roomId}/messages?limit=200${query}`)).messages;
const withheld = async (server, roomId) => (await page(server, admin, roomId, '&versions=true')).map((one) => one.versions?.map(({ content, change, by }) => [content, change, by]));
const hold = (server, subject, reason = 'case 12') => act(server, 'POST', '/holds', { ...subject, reason });
const exported = (server, user) => done(server, admin, 'GET', `/admin/users/${user}/export`);

describe('withheld versions', () => {
  for (const [of, subject] of [['its author', { userId: 7 }], ['its room', { roomId: 'r' }]]) {
    test(`under a hold of ${of} edits and deletes take effect for readers, and administrators alone see what was said`, async (t) => {
      const server = await served(t);
      const reader = await server.signedIn(bob);
      await ask(reader, 'chat:join', 'r');
      const id = await say(server, ann, 'r', 'the first draft');
      const other = await say(server, ann, 'r', 'not touched');
      await hold(server, subject);
      const before = Date.now();
      await edit(server, ann, 'r', id, 'the second draft');
      assert.equal((await heard(reader, 'chat:message-edited')).newContent, 'the second draft');
      assert.equal((await page(server, bob, 'r'))[0].content, 'the second draft');
      await remove(server, ann, 'r', id);
      await heard(reader, 'chat:message-deleted', (one) => one.messageId === id);
      const [gone] = await page(server, bob, 'r');
      assert.deepEqual([gone.id, gone.content, gone.versions], [id, '', undefined]);

      const expected = [['the first draft', 'edited', 7], ['the second draft', 'deleted', 7]];
      assert.deepEqual(await withheld(server, 'r'), [expected, undefined], 'history with versions');
      const [{ versions }] = await page(server, admin, 'r', '&versions=true');
      assert.ok(versions.every(({ until: ended }) => ended >= before && ended <= Date.now()) && versions[0].until <= versions[1].until);
      assert.equal((await page(server, admin, 'r'))[0].versions, undefined, 'only when they are asked for');
      const root = await server.signedIn(admin);
      assert.deepEqual((await ask(root, 'chat:history', { roomId: 'r', versions: true })).messages[0].versions, versions, 'chat:history with versions');
      const service = { userId: 'svc', role: 'none', scope: 'admin' };
      assert.deepEqual((await page(server, service, 'r', '&versions=true'))[0].versions, versions, 'scope admin');
      const inExport = (await exported(server, 7)).messages.find((one) => one.id === id);
      assert.deepEqual(inExport.versions, versions, 'the export of the author');
      assert.equal((await exported(server, 7)).messages.find((one) => one.id === other).versions, undefined);

      for (const claims of [ann, bob, { userId: 5, role: 'coach' }, { userId: 6, role: 'hr_admin' }, { userId: 's', role: 'none', scope: 'rooms users' }]) {
        const { status, json } = await call(server, claims, 'GET', '/rooms/r/messages?versions=true');
        assert.deepEqual([status, json.error?.code], [403, 'forbidden'], JSON.stringify(claims));
      }
      assert.equal((await ask(reader, 'chat:history', { roomId: 'r', versions: true })).error?.code, 'forbidden');
      await server.kill();
      await server.launch();
      assert.deepEqual(await withheld(server, 'r'), [expected, undefined], 'over kill -9');

      await act(server, 'DELETE', `/holds/${subject.userId ? 'user/7' : 'room/r'}`);
      assert.deepEqual(await withheld(server, 'r'), [undefined, undefined], 'with the hold they are gone');
      assert.ok(!JSON.stringify(await exported(server, 7)).includes('draft'));
      await hold(server, subject);
      assert.deepEqual(await withheld(server, 'r'), [undefined, undefined], 'and a new hold does not bring them back');
      await server.stop();
    });
  }

  test('two holds on one message: versions stay until the last is released; without any hold none is kept', async (t) => {
    const server = await served(t);
    const free = await say(server, ann, 'r', 'before any hold');
    await edit(server, ann, 'r', free, 'changed before any hold');
    await hold(server, { userId: 7 });
    await hold(server, { roomId: 'r' });
    await edit(server, ann, 'r', free, 'changed under two');
    const expected = [[['changed before any hold', 'edited', 7]]];
    assert.deepEqual(await withheld(server, 'r'), expected);
    await act(server, 'DELETE', '/holds/user/7');
    assert.deepEqual(await withheld(server, 'r'), expected);
    await act(server, 'DELETE', '/holds/room/r');
    assert.deepEqual(await withheld(server, 'r'), [undefined]);
    await server.stop();
  });

  test('a moderator who takes a message of somebody held away is named, and the message is kept', async (t) => {
    const server = await served(t);
    await act(server, 'POST', '/rooms', { roomId: 'm', members: [7], moderators: [9] });
    const id = await say(server, ann, 'm', 'rude words');
    await hold(server, { userId: 7 });
    await remove(server, { userId: 9 }, 'm', id);
    assert.deepEqual(await withheld(server, 'm'), [[['rude words', 'deleted', 9]]]);
    await server.stop();
  });
});

describe('erasures', () => {
  test('an erasure that would touch a held message is refused and names the holds, wherever its author is by now', async (t) => {
    const server = await served(t);
    await act(server, 'POST', '/rooms', { roomId: 'held', private: true, members: [7] });
    const id = await say(server, ann, 'held', 'evidence');
    await hold(server, { roomId: 'held' }, 'case 12');
    await act(server, 'DELETE', '/rooms/held/members/7');
    const refused = await call(server, admin, 'DELETE', '/admin/users/7');
    assert.equal((await page(server, admin, 'held'))[0].content, 'evidence', 'the held message is there');
    assert.deepEqual([refused.status, refused.json.error?.code], [409, 'conflict'], refused.raw);
    assert.match(refused.json.error.message, /room held \(case 12\)/);
    await hold(server, { userId: 7 }, 'case 13');
    const both = await call(server, admin, 'DELETE', '/admin/users/7?consent=true');
    assert.equal(both.status, 409);
    for (const named of [/room held \(case 12\)/, /user 7 \(case 13\)/]) assert.match(both.json.error.message, named);
    const records = (await trail(server)).filter((one) => one.action === 'user.erase');
    assert.ok(records.length === 2 && records.every((one) => one.outcome.startsWith('refused')), JSON.stringify(records));
    await remove(server, admin, 'held', id);
    assert.equal((await call(server, admin, 'DELETE', '/admin/users/7')).status, 409, 'nor if a tombstone is all that readers see');
    await act(server, 'DELETE', '/holds/room/held');
    await act(server, 'DELETE', '/holds/user/7');
    await act(server, 'DELETE', '/users/7');
    assert.ok(!JSON.stringify(await page(server, admin, 'held', '&versions=true')).includes('evidence'));
    await server.stop();
  });

  test('a hold and an erasure at once: one is refused and the other whole (20 rounds)', async (t) => {
    const server = await served(t);
    const outcomes = {};
    for (let round = 0; round < 20; round += 1) {
      const [userId, roomId] = [100 + round, `race-${round}`];
      const count = 1_200;
      const socket = await server.signedIn({ userId });
      await ask(socket, 'chat:join', roomId);
      for (let n = 0; n < count; n += 200) {
        const acks = await Promise.all(Array.from({ length: 200 }, () => ask(socket, 'chat:message', { roomId, content: 'evidence' })));
        assert.ok(acks.every((one) => one.ok), JSON.stringify(acks.find((one) => !one.ok)));
      }
      const subject = round % 2 ? { userId } : { roomId };
      const wait = Math.floor(Math.random() * 12);
      const erasing = call(server, admin, 'DELETE', `/admin/users/${userId}`);
      await new Promise((resolve) => { setTimeout(resolve, round < 4 ? 0 : wait); });
      const [held, erased] = await Promise.all([call(server, admin, 'POST', '/admin/holds', { ...subject, reason: 'race' }), erasing]);
      const left = [];
      for (let after = 0, more = true; more;) {
        const part = await done(server, admin, 'GET', `/rooms/${roomId}/messages?limit=200&after=${after}`);
        left.push(...part.messages.filter((one) => one.content !== ''));
        more = part.hasMore;
        after = part.messages.at(-1)?.id;
      }
      const outcome = `hold ${held.status}, erasure ${erased.status}, ${left.length === 0 ? 'nothing' : left.length === count ? 'all' : 'a part'} left`;
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      // A hold that the trail has behind the end of the erasure holds what is written from then on.
      const order = (await trail(server)).filter((one) => one.action === 'hold.set' || one.action === 'user.erase').map((one) => one.action);
      const isBehind = order.at(-1) === 'hold.set';
      const allowed = ['hold 409, erasure 200, nothing left', 'hold 200, erasure 409, all left', ...(isBehind ? ['hold 200, erasure 200, nothing left'] : [])];
      assert.ok(allowed.includes(outcome), `round ${round} with ${JSON.stringify(subject)}: ${outcome}; ${held.raw.slice(0, 120)} ${erased.raw.slice(0, 200)}`);
      socket.disconnect();
    }
    console.log(`# ${JSON.stringify(outcomes)}`);
    await server.stop();
  });

  test('the certificate is a stored document: asked again it is the same, over restarts', async (t) => {
    const server = await served(t);
    await say(server, ann, 'r', 'word');
    const first = await act(server, 'DELETE', '/users/7');
    assert.deepEqual([first.userId, first.by, first.consent, first.counts.messages, first.hash.length], [7, '1', false, 1, 64]);
    const again = await call(server, { userId: 2, role: 'admin' }, 'DELETE', '/admin/users/7');
    assert.deepEqual([again.status, again.json], [200, first], 'asked again by somebody else');
    assert.deepEqual(await act(server, 'GET', '/users/7/erasure'), first);
    await server.kill();
    await server.launch();
    assert.deepEqual(await act(server, 'GET', '/users/7/erasure'), first);
    assert.equal((await call(server, ann, 'GET', '/admin/users/7/erasure')).status, 403);
    await say(server, ann, 'r', 'back again');
    const second = await act(server, 'DELETE', '/users/7');
    assert.ok(second.hash !== first.hash && second.erasedAt >= first.erasedAt, 'what was stored since is another erasure');
    assert.deepEqual(await act(server, 'GET', '/users/7/erasure'), second);
    await server.stop();
  });

  test('there is no certificate without an erasure', async (t) => {
    const server = await served(t);
    await say(server, ann, 'r', 'word');
    const none = await call(server, admin, 'GET', '/admin/users/7/erasure');
    assert.deepEqual([none.status, none.json?.error?.code], [404, 'not_found']);
    await server.stop();
  });
});

describe('order without a clock', () => {
  test('events of edits and deletes carry the id of their change, which rises, live and in polls', async (t) => {
    const server = await served(t);
    const reader = await server.signedIn(bob);
    await ask(reader, 'chat:join', 'r');
    const cursor = await cursorOf(server, bob, 'r');
    const id = await say(server, ann, 'r', 'one');
    for (const content of ['two', 'three']) await edit(server, ann, 'r', id, content);
    const last = await say(server, ann, 'r', 'next');
    await remove(server, ann, 'r', id);
    await heard(reader, 'chat:message-deleted');
    const changes = (events) => events.filter(({ event }) => /^chat:message(-edited|-deleted)?$/.test(event)).map(({ payload }) => payload.id);
    const live = changes(reader.heard);
    assert.equal(live.length, 5);
    assert.ok(live.every((one, n) => Number.isSafeInteger(one) && (n === 0 || one > live[n - 1])), `rising: ${JSON.stringify(live)}`);
    assert.ok(live[4] > last);
    assert.deepEqual(changes((await pollFrom(server, bob, cursor, 'r')).json.events).slice(-2), live.slice(-2));
    await server.stop();
  });

  test('editedAt of a message rises with each edit, also with edits in the same millisecond', async (t) => {
    const server = await served(t);
    const writers = await Promise.all(Array.from({ length: 10 }, () => server.signedIn(ann)));
    const reader = await server.signedIn(bob);
    for (const socket of [...writers, reader]) await ask(socket, 'chat:join', 'r');
    const id = await say(server, ann, 'r', '0');
    const count = 100;
    await Promise.all(Array.from({ length: count }, (_, n) => ask(writers[n % 10], 'chat:edit', { roomId: 'r', messageId: id, content: String(n + 1) })));
    await until(() => all(reader, 'chat:message-edited').length === count, 'all edits are told');
    const times = all(reader, 'chat:message-edited').map((one) => one.editedAt);
    const equal = times.filter((one, n) => n > 0 && one <= times[n - 1]);
    assert.deepEqual(equal, [], `each is later than the one before: ${times.map((one) => one - times[0])}`);
    assert.equal((await page(server, bob, 'r'))[0].editedAt, times.at(-1));
    await server.stop();
  });
});

// The real program with another clock: libfaketime in front of it, which a static program does not load; so it is the one that
// cargo's tests have built. What waits, waits by the true one.
const FAKETIME = `/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu/faketime/libfaketimeMT.so.1`;
const DYNAMIC = fileURLToPath(new URL('../../target/debug/academy-rt', import.meta.url));
const DAY_MS = 86_400_000;
const anyTime = (claims) => ({ ...claims, iat: Math.floor(Date.now() / 1000) - 86_400, exp: Math.floor(Date.now() / 1000) + 90 * 86_400 });
const root = () => anyTime(admin);

async function withClock(server, shift, env = {}) {
  assert.ok(existsSync(FAKETIME), "this test sets the server's clock: install Debian's package libfaketime");
  assert.ok(existsSync(DYNAMIC), 'this test needs the program of cargo build');
  if (server.child.exitCode === null) await server.halt();
  server.program = DYNAMIC;
  server.env = { ...server.env, ...env, ...(shift ? { LD_PRELOAD: FAKETIME, FAKETIME: shift, FAKETIME_DONT_FAKE_MONOTONIC: '1' } : { LD_PRELOAD: '' }) };
  await server.launch();
}

describe('with a clock that is wrong', () => {
  test('times within a room never fall, an hour back and a month ahead', async (t) => {
    const server = await served(t);
    const ids = [];
    for (const shift of ['', '-1h', '+30d', '', '-1h']) {
      await withClock(server, shift);
      const { id, timestamp } = await done(server, anyTime(ann), 'POST', '/rooms/r/messages', { content: `at ${shift}` });
      const now = Date.now();
      if (shift === '+30d') assert.ok(timestamp > now + 29 * DAY_MS, 'the clock is really ahead');
      ids.push(id);
    }
    const times = (await page(server, anyTime(ann), 'r')).map((one) => one.timestamp);
    assert.ok(times.every((one, n) => n === 0 || one >= times[n - 1]), `never fall: ${times.map((one) => one - times[0])}`);
    assert.deepEqual((await page(server, anyTime(ann), 'r')).map((one) => one.id), ids);
    await server.stop();
  });

  test('editedAt of a message rises with each edit, an hour back and a month ahead', async (t) => {
    const server = await served(t);
    const id = await say(server, anyTime(ann), 'r', 'word');
    const times = [];
    for (const shift of ['', '-1h', '+30d', '', '-1h']) {
      await withClock(server, shift);
      for (let n = 0; n < 2; n += 1) {
        await edit(server, anyTime(ann), 'r', id, `edited at ${shift} ${n}`);
        times.push((await page(server, anyTime(ann), 'r'))[0].editedAt);
      }
    }
    assert.ok(times.every((one, n) => n === 0 || one > times[n - 1]), `rises: ${times.map((one) => one - times[0])}`);
    await server.stop();
  });

  const retention = { ACADEMY_RT_RETENTION_CHAT: '1s', ACADEMY_RT_RETENTION_NOTIFICATIONS: '1s', ACADEMY_RT_RETENTION_AUDIT: '1s' };
  const off = Object.fromEntries(Object.keys(retention).map((key) => [key, 'off']));
  // Something is stored a month ahead, then by the true clock; then what is a second old is purged.
  async function aheadThenNow(t, store) {
    const server = await served(t);
    await withClock(server, '', off);
    await store(server, 'before');
    await withClock(server, '+30d', off);
    await store(server, 'ahead');
    await withClock(server, '', off);
    await store(server, 'behind it');
    await withClock(server, '', retention);
    return server;
  }

  test('a purge of notifications goes on past one that is dated into the future', async (t) => {
    const server = await aheadThenNow(t, async (one, title) => {
      await done(one, anyTime(ann), 'GET', '/notifications');
      await done(one, root(), 'POST', '/notifications', { target: { user: 7 }, title, message: 'M' });
    });
    const titles = async () => (await done(server, anyTime(ann), 'GET', '/notifications')).items.map((one) => one.title);
    await until(async () => !(await titles()).includes('before'), 'the first is purged');
    await until(async () => !(await titles()).includes('behind it'), `the later one is purged; left: ${await titles()}`, 8_000);
    await server.stop();
  });

  test('a purge of the audit trail goes on past a record that is dated into the future', async (t) => {
    const server = await aheadThenNow(t, (one, roomId) => done(one, root(), 'POST', '/admin/rooms', { roomId: roomId.replaceAll(' ', '-') }));
    const rooms = async () => (await done(server, root(), 'GET', '/admin/audit?limit=1000')).items.filter((one) => one.action === 'room.create').map((one) => one.target);
    await until(async () => !(await rooms()).includes('room before'), 'the first is purged');
    await until(async () => !(await rooms()).includes('room behind-it'), `the later one is purged; left: ${await rooms()}`, 8_000);
    await server.stop();
  });

  test('a purge of a room goes on past a message that is dated into the future', async (t) => {
    const server = await aheadThenNow(t, (one, content) => done(one, anyTime(ann), 'POST', '/rooms/r/messages', { content }));
    const contents = async () => (await page(server, anyTime(ann), 'r')).map((one) => one.content);
    await until(async () => !(await contents()).includes('before'), 'the first is purged');
    await until(async () => !(await contents()).includes('behind it'), `the later one is purged; left: ${await contents()}`, 8_000);
    await server.stop();
  });
});

describe('exports', () => {
  // Somebody with more to export than the kernel's buffers and the server's pieces hold.
  async function writer(t) {
    const server = await served(t);
    const socket = await server.signedIn(ann);
    await ask(socket, 'chat:join', 'r');
    for (let n = 0; n < 20; n += 1) {
      const acks = await Promise.all(Array.from({ length: 200 }, () => ask(socket, 'chat:message', { roomId: 'r', content: 'x'.repeat(4_000) })));
      assert.ok(acks.every((ack) => ack.ok));
    }
    return server;
  }

  const otherAdmin = { ...admin, userId: 91 };

  // A reader of an export that stops behind its first line.
  async function stopped(t, server, claims = admin) {
    const socket = createConnection(server.port, '127.0.0.1');
    t.after(() => socket.destroy());
    socket.on('error', () => {});
    socket.write(bytesOf(server, claims, 'GET', '/admin/users/7/export').bytes);
    const status = await new Promise((resolve) => {
      socket.once('data', (part) => {
        socket.pause();
        resolve(Number(/^HTTP\/1\.1 (\d+)/.exec(part.toString('latin1'))?.[1]));
      });
    });
    return { socket, status };
  }

  test('eight readers of an export who stop reading stop no read of others', async (t) => {
    const server = await writer(t);
    const reader = await server.signedIn(bob);
    const slow = Array.from({ length: 8 }, (_, n) => stopped(t, server, n % 2 ? otherAdmin : admin));
    await Promise.any(slow);
    const begun = Date.now();
    for (let n = 0; n < 10; n += 1) {
      const history = await reader.timeout(3_000).emitWithAck('chat:history', { roomId: 'r', limit: 5 }).catch((error) => ({ error }));
      assert.equal(history.messages?.length, 5, `chat:history is answered: ${JSON.stringify(history).slice(0, 200)} ${history.error ?? ''}`);
      const session = await fetch(`${server.url}/api/v1/rooms/r/messages?limit=1`, { headers: { authorization: `Bearer ${token(bob)}` }, signal: AbortSignal.timeout(3_000) });
      assert.equal(session.status, 200);
      await server.signedIn({ userId: 20 + n });
    }
    assert.ok(Date.now() - begun < 10_000, `${Date.now() - begun} ms`);
    assert.deepEqual((await Promise.all(slow)).map((one) => one.status).sort(), [200, 200, 200, 200, 429, 429, 429, 429]);
    await server.kill();
  });

  test('the fifth export at a time is rate_limited, and there is one again when one has ended', async (t) => {
    const server = await writer(t);
    const four = [];
    for (const claims of [admin, admin, otherAdmin, otherAdmin]) four.push(await stopped(t, server, claims));
    assert.deepEqual(four.map((one) => one.status), [200, 200, 200, 200]);
    assert.equal((await stopped(t, server)).status, 429, 'the third of one caller');
    const fifth = await stopped(t, server, { ...admin, userId: 92 });
    assert.equal(fifth.status, 429, 'the fifth');
    const { status, json } = await call(server, admin, 'GET', '/admin/users/7/export');
    assert.deepEqual([status, json.error.code], [429, 'rate_limited']);
    assert.ok(Number.isSafeInteger(json.error.retryAfterMs) && json.error.retryAfterMs > 0, JSON.stringify(json));
    four[0].socket.destroy();
    await until(async () => (await call(server, admin, 'GET', '/admin/users/7/export')).status === 200, 'there is room for one');
    await server.kill();
  });
});
