// The whole API reference with the stock client: all four transport orders, over HTTP and TLS.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Appliance, all, ask, assertRising, gone, heard, noLimits, token, until } from './harness.mjs';

const orders = [['websocket'], ['polling'], ['polling', 'websocket'], ['websocket', 'polling']];
let room = 0;
const newRoom = () => `room-${(room += 1)}`;

for (const tls of [false, true]) {
  describe(`over ${tls ? 'TLS' : 'HTTP'}`, () => {
    let server;
    before(async () => { server = await Appliance.start({ tls, env: { ...noLimits, ACADEMY_RT_AUTH_LEEWAY: '0s' } }); });
    after(() => server.stop());

    for (const transports of orders) {
      describe(`on ${transports.join(' then ')}`, () => {
        const join = async (claims, roomId) => {
          const socket = await server.signedIn(claims, { transports });
          // The order of the transports says where it ends: polling climbs to WebSocket where both are allowed.
          await until(() => socket.io.engine.transport.name === (transports.includes('websocket') ? 'websocket' : 'polling'), 'the transport is reached');
          if (roomId !== undefined) assert.equal((await ask(socket, 'chat:join', { roomId })).ok, true);
          return socket;
        };

        test('authenticated comes first and says who one is', async () => {
          const socket = await server.signedIn({ userId: 7, role: 'hr_admin', name: 'Ann' }, { transports });
          assert.equal(socket.heard[0].event, 'authenticated');
          const { userId, name, role, roles, rooms, expiresAt, serverTime, unread } = socket.heard[0].payload;
          assert.deepEqual({ userId, name, role, roles, rooms, unread }, { userId: 7, name: 'Ann', role: 'hr', roles: ['hr'], rooms: ['hr', 'user:7', 'all'], unread: 0 });
          assert.ok(expiresAt > serverTime && Math.abs(serverTime - Date.now()) < 60_000);
        });

        test('a bad token gets auth_error with its code and then the disconnect', async () => {
          const now = Math.floor(Date.now() / 1000);
          for (const [bad, code] of [
            [null, 'token_missing'],
            ['not a token', 'token_malformed'],
            [token({}, { key: 'another secret that is long enough too' }), 'token_invalid'],
            [token({ userId: 'a:b' }), 'token_invalid'],
            [token({ exp: now - 5 }), 'token_expired'],
            [token({ nbf: now + 600 }), 'token_not_yet_valid'],
          ]) {
            const socket = server.client(bad, { transports });
            const error = await heard(socket, 'auth_error');
            assert.equal(error.code, code);
            assert.ok(error.message.length > 0);
            await gone(socket);
            assert.deepEqual(socket.heard.map(({ event }) => event), ['auth_error']);
          }
        });

        test('the token is taken from the query and from a bearer header', async () => {
          const good = token({ userId: 'text-id' });
          for (const options of [{ query: { token: good } }, { extraHeaders: { Authorization: `Bearer ${good}` } }]) {
            const socket = server.client(null, { transports, ...options });
            assert.equal((await heard(socket, 'authenticated')).userId, 'text-id');
          }
          const prefixed = server.client(`Bearer ${good}`, { transports });
          assert.equal((await heard(prefixed, 'authenticated')).userId, 'text-id');
        });

        test('chat: join, leave, message, typing with acks', async () => {
          const roomId = newRoom();
          const ann = await join({ userId: 7, name: 'Ann' });
          assert.deepEqual(await ask(ann, 'chat:join', { roomId }), { ok: true, roomId, lastId: 0, lastSeq: 0, messages: [], hasMore: false, members: 1, readUpTo: 0, membership: null, locked: false, slowModeSeconds: 0, mutedUntil: null });
          const bob = await join({ userId: 8, name: 'Bob' });
          assert.equal((await ask(bob, 'chat:join', roomId)).members, 2);
          const joined = await heard(ann, 'chat:user_joined', (one) => one.roomId === roomId);
          assert.deepEqual([joined.userId, joined.userName], [8, 'Bob']);

          const ack = await ask(ann, 'chat:message', { roomId, content: 'Hello!', type: 'text' });
          assert.deepEqual([ack.ok, ack.seq], [true, 1]);
          for (const socket of [ann, bob]) {
            assert.deepEqual(await heard(socket, 'chat:message', (one) => one.roomId === roomId), {
              id: ack.id, seq: 1, roomId, senderId: 7, senderName: 'Ann', content: 'Hello!', type: 'text', replyToId: null, timestamp: ack.timestamp,
            });
          }
          assert.equal((await ask(bob, 'chat:typing', { roomId, isTyping: true })).ok, true);
          assert.deepEqual(await heard(ann, 'chat:typing', (one) => one.roomId === roomId), { roomId, userId: 8, userName: 'Bob', isTyping: true });
          assert.equal(all(bob, 'chat:typing').length, 0);
          assert.deepEqual(await ask(bob, 'chat:leave', { roomId }), { ok: true, roomId });
          await heard(ann, 'chat:user_left', (one) => one.roomId === roomId && one.userId === 8);
          // What typed has left: its typing has ended.
          await heard(ann, 'chat:typing', (one) => one.roomId === roomId && !one.isTyping);
          await ask(ann, 'chat:message', { roomId, content: 'alone' });
          assert.equal((await ask(bob, 'chat:typing', { roomId, isTyping: true })).error.code, 'not_joined');
          assert.equal(all(bob, 'chat:message').filter((one) => one.content === 'alone').length, 0);
        });

        test('chat with plain emits: events come, failures as request:error', async () => {
          const roomId = newRoom();
          const socket = await server.signedIn({ userId: 7 }, { transports });
          socket.emit('chat:typing', { roomId, isTyping: true });
          const error = await heard(socket, 'request:error');
          assert.deepEqual([error.event, error.code], ['chat:typing', 'not_joined']);
          socket.emit('chat:join', { roomId });
          socket.emit('chat:message', { roomId, content: 'Hello!', type: 'text' });
          socket.emit('chat:message', { roomId, content: 'again', type: 'image', replyToId: 3 });
          await heard(socket, 'chat:message', (one) => one.content === 'again' && one.type === 'image' && one.replyToId === 3);
          assert.deepEqual(all(socket, 'chat:message').map((one) => one.seq), [1, 2]);
          socket.emit('no:such:event', {});
          await heard(socket, 'request:error', (one) => one.event === 'no:such:event');
        });

        test('edit, delete and history', async () => {
          const roomId = newRoom();
          const [ann, bob] = [await join({ userId: 7 }, roomId), await join({ userId: 8 }, roomId)];
          const ids = [];
          for (let i = 1; i <= 5; i += 1) ids.push((await ask(ann, 'chat:message', { roomId, content: `m${i}` })).id);
          assert.equal((await ask(bob, 'chat:edit', { roomId, messageId: ids[0], content: 'mine' })).error.code, 'forbidden');
          assert.equal((await ask(ann, 'chat:edit', { roomId, messageId: ids[0], content: 'edited' })).ok, true);
          const edited = await heard(bob, 'chat:message-edited', (one) => one.roomId === roomId);
          assert.deepEqual([edited.messageId, edited.newContent], [ids[0], 'edited']);
          assert.equal((await ask(ann, 'chat:delete', { roomId, messageId: ids[1] })).ok, true);
          assert.equal((await heard(bob, 'chat:message-deleted', (one) => one.roomId === roomId)).messageId, ids[1]);
          assert.equal((await ask(ann, 'chat:delete', { roomId, messageId: ids[1] })).error.code, 'not_found');
          const page = await ask(bob, 'chat:history', { roomId, limit: 3 });
          assert.deepEqual(page.messages.map((one) => one.seq), [3, 4, 5]);
          assert.equal(page.hasMore, true);
          const older = await ask(bob, 'chat:history', { roomId, before: ids[2] });
          assert.deepEqual(older.messages.map(({ seq, content }) => [seq, content]), [[1, 'edited'], [2, '']]);
          assert.ok(older.messages[0].editedAt && older.messages[1].deletedAt && !older.hasMore);
          const after = await ask(bob, 'chat:join', { roomId, after: ids[2] });
          assert.deepEqual(after.messages.map((one) => one.seq), [4, 5]);
          assert.equal((await ask(bob, 'chat:history', { roomId, after: 2 ** 40 })).error.code, 'resync');
        });

        test('three senders at once: one order, without gaps, the same for all', async () => {
          const roomId = newRoom();
          const sockets = await Promise.all([11, 12, 13].map((userId) => join({ userId }, roomId)));
          await Promise.all(sockets.flatMap((socket, s) => Array.from({ length: 20 }, (_, i) => ask(socket, 'chat:message', { roomId, content: `${s}-${i}` }))));
          for (const socket of sockets) {
            await until(() => all(socket, 'chat:message').length === 60, 'all are heard');
            assertRising(all(socket, 'chat:message').map((one) => one.seq));
            for (const s of [0, 1, 2]) {
              const mine = all(socket, 'chat:message').map((one) => one.content).filter((content) => content.startsWith(`${s}-`));
              assert.deepEqual(mine, Array.from({ length: 20 }, (_, i) => `${s}-${i}`), 'a sender keeps its order');
            }
          }
        });

        test('a clientId is stored once, on any connection', async () => {
          const roomId = newRoom();
          const [one, two] = [await join({ userId: 21 }, roomId), await join({ userId: 21 }, roomId)];
          const first = await ask(one, 'chat:message', { roomId, content: 'x', clientId: `k-${roomId}` });
          const again = await ask(two, 'chat:message', { roomId, content: 'x', clientId: `k-${roomId}` });
          assert.deepEqual(again, { ...first, duplicate: true });
          assert.equal((await ask(two, 'chat:history', { roomId })).messages.length, 1);
        });

        test('progress: sync, batch, get, history, to all sockets of the user', async () => {
          const userId = `p-${newRoom()}`;
          const [phone, laptop] = [await join({ userId }), await join({ userId })];
          const ack = await ask(phone, 'progress:sync', { lessonId: 42, progress: 75, timeSpent: 120 });
          assert.deepEqual([ack.ok, ack.lessonId, ack.progress, ack.timeSpent, ack.status, ack.syncVersion, ack.completedAt], [true, 42, 75, 120, 'in_progress', 1, null]);
          for (const socket of [phone, laptop]) assert.equal((await heard(socket, 'progress:updated')).syncVersion, 1);
          const merged = await ask(laptop, 'progress:sync', { lessonId: 42, progress: 10, timeSpent: 30, baseVersion: 0 });
          assert.deepEqual([merged.progress, merged.timeSpent, merged.syncVersion, merged.merged], [75, 150, 2, true]);
          const batch = await ask(phone, 'progress:sync', [
            { lessonId: 43, progress: 100, timeSpent: 5, syncId: `s-${userId}` },
            { lessonId: 42, progress: 80, timeSpent: 1 },
          ]);
          assert.deepEqual(batch.results.map((one) => [one.lessonId, one.status, one.syncVersion]), [[43, 'completed', 1], [42, 'in_progress', 3]]);
          const repeat = await ask(laptop, 'progress:sync', { lessonId: 43, progress: 100, timeSpent: 5, syncId: `s-${userId}` });
          assert.deepEqual([repeat.duplicate, repeat.timeSpent, repeat.syncVersion], [true, 5, 1]);
          const known = await ask(laptop, 'progress:get', {});
          assert.deepEqual(known.items.map((one) => one.lessonId).sort(), [42, 43]);
          await ask(phone, 'progress:sync', { lessonId: 44, progress: 1, timeSpent: 1 });
          const since = await ask(laptop, 'progress:get', { since: known.cursor });
          assert.deepEqual(since.items.map((one) => one.lessonId), [44]);
          const versions = (await ask(laptop, 'progress:history', { lessonId: 42 })).versions;
          assertRising(versions.map((one) => one.syncVersion));
          // A batch is all or nothing.
          const bad = await ask(phone, 'progress:sync', [{ lessonId: 50, progress: 5 }, { lessonId: 51, progress: 101 }]);
          assert.equal(bad.error.code, 'invalid_payload');
          assert.deepEqual((await ask(phone, 'progress:get', { lessonId: 50 })).items, []);
        });

        test('notifications: pushed, waiting for who was away, listed, read, deleted', async () => {
          const userId = `n-${newRoom()}`;
          const notify = (title) => server.fetch('/api/v1/notifications', {
            method: 'POST', claims: { userId: 1, role: 'admin' },
            body: { target: { user: userId }, type: 'info', title, message: 'm', titleFr: 'fr', metadata: { b: 1, a: [2] } },
          });
          const phone = await join({ userId });
          await notify('first');
          const pushed = await heard(phone, 'notification:new');
          assert.deepEqual([pushed.type, pushed.title, pushed.message, pushed.titleFr, pushed.read], ['info', 'first', 'm', 'fr', false]);
          assert.equal(JSON.stringify(pushed.metadata), '{"b":1,"a":[2]}');
          phone.disconnect();
          const sockets = async () => (await server.fetch(`/api/v1/admin/users/${userId}`, { claims: { userId: 1, role: 'admin' } })).json.sockets;
          await until(async () => (await sockets()) === 0, 'the phone has gone');
          await notify('second');
          await notify('third');
          const laptop = await join({ userId });
          await heard(laptop, 'notification:new', (one) => one.title === 'third');
          assert.equal(laptop.heard[0].event, 'authenticated');
          assert.equal(laptop.heard[0].payload.unread, 3);
          assert.deepEqual(all(laptop, 'notification:new').map((one) => one.title).slice(-2), ['second', 'third']);
          const tablet = await join({ userId });
          const list = await ask(laptop, 'notification:list', { limit: 2 });
          assert.deepEqual(list.items.map((one) => one.title), ['third', 'second']);
          assert.deepEqual([list.unread, list.hasMore], [3, true]);
          const read = await ask(laptop, 'notification:read', { id: list.items[0].id });
          assert.equal(read.unread, 2);
          assert.deepEqual(await heard(tablet, 'notification:updated'), { ids: [list.items[0].id], read: true, unread: 2 });
          assert.equal(all(laptop, 'notification:updated').length, 0, 'the socket that asked has its ack');
          assert.equal((await ask(laptop, 'notification:delete', { id: list.items[1].id })).unread, 1);
          await heard(tablet, 'notification:updated', (one) => one.deleted === true);
          assert.equal((await ask(laptop, 'notification:read', { all: true })).unread, 0);
          assert.equal((await ask(laptop, 'notification:list', {})).items.length, 2);
        });

        test('role rooms, user rooms and all are reached by the broadcast service', async () => {
          const admin = { userId: 1, role: 'owner' };
          const mark = newRoom();
          const coach = await join({ userId: `c-${mark}`, role: 'coach' });
          const learner = await join({ userId: `l-${mark}`, role: 'user' });
          const send = (target, event, payload) => server.fetch('/api/v1/broadcast', { method: 'POST', claims: admin, body: { target, event, payload } });
          const role = await send({ role: 'coach' }, 'system:alert', { mark });
          assert.ok(role.json.ok && role.json.sockets >= 1);
          await heard(coach, 'system:alert', (one) => one.mark === mark);
          assert.equal((await send({ user: `l-${mark}` }, 'hello', mark)).json.sockets, 1);
          await heard(learner, 'hello', (one) => one === mark);
          await send({ all: true }, 'everybody', { mark });
          await heard(learner, 'everybody', (one) => one.mark === mark);
          await heard(coach, 'everybody', (one) => one.mark === mark);
          assert.equal(all(learner, 'system:alert').length, 0);
          await ask(learner, 'chat:join', { roomId: mark });
          await send({ room: `chat:${mark}` }, 'chat:message', { content: 'welcome' });
          const said = await heard(learner, 'chat:message');
          assert.deepEqual([said.senderId, said.type, said.content, said.seq], ['system', 'system', 'welcome', 1]);
        });

        test('7 and "7" are one user and one room; what is emitted keeps its type', async () => {
          const roomId = 700_000 + (room += 1);
          const [number, text] = [await join({ userId: 31 }), await join({ userId: '31' })];
          assert.strictEqual((await ask(number, 'chat:join', { roomId })).roomId, roomId);
          assert.strictEqual((await ask(text, 'chat:join', { roomId: String(roomId) })).roomId, String(roomId));
          assert.equal((await ask(text, 'chat:join', { roomId: String(roomId) })).members, 1);
          await ask(number, 'chat:message', { roomId, content: 'a' });
          const heardIt = await heard(text, 'chat:message', (one) => one.content === 'a');
          assert.strictEqual(heardIt.roomId, roomId);
          assert.strictEqual(heardIt.senderId, 31);
        });

        test('a live token is refreshed, and ends at its end', async () => {
          const exp = Math.floor(Date.now() / 1000) + 3;
          const socket = await join({ userId: 41, exp });
          assert.equal((await ask(socket, 'auth:refresh', { token: token({ userId: 42 }) })).error.code, 'forbidden');
          const kept = await join({ userId: 41, exp });
          assert.equal((await ask(kept, 'auth:refresh', { token: token({ userId: 41, role: 'coach' }) })).ok, true);
          await until(() => all(kept, 'authenticated').length === 2, 'authenticated is said again');
          assert.deepEqual(all(kept, 'authenticated')[1].roles, ['coach']);
          assert.equal((await heard(socket, 'auth_error')).code, 'token_expired');
          await gone(socket);
          assert.ok(Date.now() / 1000 - exp < 3, 'soon after its end');
          assert.equal(kept.connected, true);
        });
      });
    }
  });
}
