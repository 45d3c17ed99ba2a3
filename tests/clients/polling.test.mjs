// Everything by HTTP: with Socket.IO switched off, and beside it.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Appliance, ask, assertRising, heard, noLimits } from './harness.mjs';

for (const enabled of ['false', 'true']) {
  describe(`with WEBSOCKET_ENABLED=${enabled}`, () => {
    let server;
    before(async () => { server = await Appliance.start({ env: { ...noLimits, WEBSOCKET_ENABLED: enabled } }); });
    after(() => server.stop());
    const ann = { userId: 7, name: 'Ann' };
    const bob = { userId: 8, name: 'Bob' };
    const call = (claims, method, path, body, headers) => server.fetch(`/api/v1${path}`, { claims, method, body, headers });

    test('/ws answers by the flag', async () => {
      const answer = await server.fetch('/ws/?EIO=4&transport=polling');
      if (enabled === 'true') return assert.equal(answer.status, 200);
      assert.deepEqual([answer.status, answer.json.error.code], [503, 'realtime_disabled']);
      assert.equal((await server.fetch('/readyz')).status, 200);
      assert.equal((await server.fetch('/api/health')).json.websocketEnabled, false);
    });

    test('session, rooms, messages, read marks', async () => {
      const session = await call(ann, 'GET', '/session');
      assert.deepEqual([session.status, session.json.ok, session.json.userId, session.json.rooms], [200, true, 7, ['learner', 'user:7', 'all']]);
      const posted = await call(ann, 'POST', '/rooms/http-1/messages', { content: 'Hello!', clientId: 'h1' });
      assert.deepEqual([posted.status, posted.json.seq], [200, 1]);
      assert.deepEqual((await call(ann, 'POST', '/rooms/http-1/messages', { content: 'Hello!', clientId: 'h1' })).json, { ...posted.json, duplicate: true });
      await call(bob, 'POST', '/rooms/http-1/messages', { content: 'Hi', replyToId: posted.json.id });
      const page = (await call(bob, 'GET', '/rooms/http-1/messages?limit=10')).json;
      assert.deepEqual(page.messages.map(({ seq, senderId, content }) => [seq, senderId, content]), [[1, 7, 'Hello!'], [2, 8, 'Hi']]);
      const { id } = posted.json;
      assert.equal((await call(bob, 'PATCH', `/rooms/http-1/messages/${id}`, { content: 'no' })).status, 403);
      assert.equal((await call(ann, 'PATCH', `/rooms/http-1/messages/${id}`, { content: 'Hello again' })).status, 200);
      assert.equal((await call(ann, 'DELETE', `/rooms/http-1/messages/${id}`)).status, 200);
      assert.equal((await call(ann, 'DELETE', `/rooms/http-1/messages/${id}`)).status, 404);
      assert.equal((await call(bob, 'POST', '/rooms/http-1/typing', { isTyping: true })).status, 200);
      assert.equal((await call(ann, 'POST', '/rooms/http-1/read', { messageId: page.messages[1].id })).json.messageId, page.messages[1].id);
      const rooms = (await call(ann, 'GET', '/rooms')).json.rooms;
      assert.deepEqual(rooms.map(({ roomId, unread }) => [roomId, unread]), [['http-1', 0]]);
    });

    test('joining and presence', async () => {
      const path = `/rooms/${encodeURIComponent('a,b/c')}`;
      assert.deepEqual((await call(ann, 'POST', `${path}/join`, {})).json, { ok: true, roomId: 'a,b/c', lastId: 0, lastSeq: 0, messages: [], hasMore: false, members: 0, readUpTo: 0, membership: null, locked: false, slowModeSeconds: 0, mutedUntil: null });
      const { cursor } = (await call(ann, 'GET', '/events')).json;
      const { id } = (await call(bob, 'POST', `${path}/messages`, { content: 'one' })).json;
      await call(bob, 'POST', `${path}/messages`, { content: 'two' });
      const joined = (await call(ann, 'POST', `${path}/join`, { after: id, limit: 1 })).json;
      assert.deepEqual([joined.messages.map(({ content }) => content), joined.lastSeq, joined.hasMore], [['two'], 2, false]);
      assert.ok((await call(ann, 'GET', '/rooms')).json.rooms.some((room) => room.roomId === 'a,b/c'), 'who joins takes part');
      // A comma in a name is none between names.
      const heard = (query) => call(ann, 'GET', `/events?cursor=${cursor}&${query}`).then(({ json }) => json.events.map(({ payload }) => payload.content));
      assert.deepEqual(await heard(`room=${encodeURIComponent('a,b/c')}&room=other`), ['one', 'two']);
      assert.deepEqual(await heard(`rooms=${encodeURIComponent('a,b/c')}`), []);
      const refused = await call(ann, 'GET', `/events?${Array.from({ length: 101 }, (_, n) => `room=${n}`).join('&')}`);
      assert.deepEqual([refused.status, refused.json.error.field], [400, 'rooms']);
      assert.deepEqual((await call(ann, 'GET', '/events?room=a%20b')).json.error.field, 'room');
      assert.deepEqual((await call(ann, 'GET', `${path}/presence`)).json.users.map(({ userId }) => userId), [7], 'who polls a room is there');
      for (const after of [10 ** 12, 2 ** 53]) assert.equal((await call(ann, 'POST', `${path}/join`, { after })).status, 410);
      assert.equal((await call(ann, 'POST', `${path}/join`, { limit: 0 })).json.error.field, 'limit');
      await call({ userId: 1, role: 'admin' }, 'POST', '/admin/rooms', { roomId: `closed-${enabled}`, private: true });
      assert.equal((await call(ann, 'POST', `/rooms/closed-${enabled}/join`, {})).status, 403);
      assert.equal((await call(ann, 'GET', `/rooms/closed-${enabled}/presence`)).status, 403);
    });

    test('progress and notifications', async () => {
      const first = await call(ann, 'POST', '/progress', { lessonId: 42, progress: 75, timeSpent: 120 });
      assert.deepEqual([first.status, first.json.syncVersion], [200, 1]);
      const batch = await call(ann, 'POST', '/progress', [{ lessonId: 42, progress: 80, timeSpent: 1 }, { lessonId: 'intro', progress: 100 }]);
      assert.deepEqual(batch.json.results.map((one) => one.syncVersion), [2, 1]);
      assert.equal((await call(ann, 'GET', '/progress?lessonId=42')).json.items[0].progress, 80);
      assertRising((await call(ann, 'GET', '/progress/42/history')).json.versions.map((one) => one.syncVersion));
      for (const bad of [-1, 101, null, '75']) {
        const refused = await call(ann, 'POST', '/progress', { lessonId: 42, progress: bad });
        assert.deepEqual([refused.status, refused.json.error.code, refused.json.error.field], [400, 'invalid_payload', 'progress'], String(bad));
      }
      await call(bob, 'GET', '/session');
      const sent = await call({ userId: 1, role: 'admin' }, 'POST', '/notifications', { target: { all: true }, title: 'T', message: 'M' });
      assert.equal(sent.json.ok, true);
      const inbox = (await call(bob, 'GET', '/notifications')).json;
      assert.deepEqual([inbox.items[0].title, inbox.unread], ['T', 1]);
      assert.equal((await call(bob, 'POST', '/notifications/read', { all: true })).json.unread, 0);
      assert.equal((await call(bob, 'DELETE', `/notifications/${inbox.items[0].id}`)).status, 200);
      assert.deepEqual((await call(bob, 'GET', '/notifications')).json.items, []);
    });

    test('the long poll waits, wakes, and loses nothing over a restart', async () => {
      const poll = (cursor, wait = 0) => call(bob, 'GET', `/events?rooms=lp&wait=${wait}${cursor ? `&cursor=${cursor}` : ''}`);
      let { cursor, events } = (await poll()).json;
      assert.deepEqual(events, []);
      const waiting = poll(cursor, 20);
      const said = await call(ann, 'POST', '/rooms/lp/messages', { content: 'one' });
      const woken = (await waiting).json;
      assert.deepEqual(woken.events.map(({ event, payload }) => [event, payload.id, payload.content]), [['chat:message', said.json.id, 'one']]);
      cursor = woken.cursor;
      await call(ann, 'POST', '/rooms/lp/typing', { isTyping: true });
      const typing = (await poll(cursor, 5)).json;
      assert.deepEqual(typing.events.map(({ event }) => event), ['chat:typing']);
      cursor = typing.cursor;
      const two = await call(ann, 'POST', '/rooms/lp/messages', { content: 'two' });
      await call(ann, 'PATCH', `/rooms/lp/messages/${two.json.id}`, { content: 'two, edited' });
      await call(bob, 'POST', '/progress', { lessonId: 1, progress: 5 });
      await server.kill();
      await server.launch();
      const missed = (await poll(cursor)).json;
      const seen = missed.events.map(({ event }) => event);
      for (const event of ['chat:message', 'progress:updated']) assert.ok(seen.includes(event), seen.join());
      const content = missed.events.filter(({ event }) => event.startsWith('chat:message')).map(({ payload }) => payload.newContent ?? payload.content).at(-1);
      assert.equal(content, 'two, edited');
      assert.deepEqual((await poll(missed.cursor)).json.events, []);
      for (const bad of ['garbage', 'x'.repeat(5000), `${missed.cursor}ffff`, 'aaaaaaaaaaaa.1.1.1.1', missed.cursor.replace(/\.[^.]+\./, '.ffff.')]) {
        const refused = await poll(bad);
        assert.deepEqual([refused.status, refused.json.error.code], [410, 'resync'], bad.slice(0, 40));
        assert.equal((await poll(refused.json.cursor)).status, 200);
      }
      assert.equal((await poll(missed.cursor, 31)).status, 400);
    });

    test('refusals have their status and their shape', async () => {
      for (const [path, options, status, code] of [
        ['/api/v1/session', {}, 401, 'token_missing'],
        ['/api/v1/session', { bearer: 'x' }, 401, 'token_malformed'],
        ['/api/v1/nothing', { claims: ann }, 404, 'not_found'],
        ['/api/v1/rooms/a%20b/messages', { claims: ann }, 400, 'invalid_payload'],
        ['/api/v1/rooms/user:1/messages', { claims: ann, method: 'POST', body: { content: 'x' } }, 400, 'invalid_payload'],
        ['/api/v1/rooms/r/messages', { claims: ann, method: 'POST', body: '{' }, 400, 'invalid_payload'],
        ['/api/v1/rooms/r/messages', { claims: ann, method: 'POST', body: { content: '' } }, 400, 'invalid_payload'],
        ['/api/v1/rooms/r/messages', { claims: ann, method: 'POST', body: { content: 'x'.repeat(4001) } }, 413, 'too_large'],
        ['/api/v1/rooms/r/messages', { claims: ann, method: 'POST', body: { content: 'x'.repeat(1_000_001) } }, 413, 'too_large'],
        ['/api/v1/rooms/r/messages?limit=0', { claims: ann }, 400, 'invalid_payload'],
        ['/api/v1/broadcast', { claims: ann, method: 'POST', body: { target: { all: true }, event: 'x' } }, 403, 'forbidden'],
        ['/api/v1/broadcast', { claims: { userId: 's', scope: 'broadcast' }, method: 'POST', body: { target: {}, event: 'x' } }, 400, 'invalid_payload'],
        ['/api/v1/broadcast', { claims: { userId: 's', scope: 'broadcast' }, method: 'POST', body: { target: { all: true }, event: 'connect' } }, 400, 'invalid_payload'],
        ['/api/v1/admin/status', { claims: ann }, 403, 'forbidden'],
        ['/metrics', { claims: ann }, 403, 'forbidden'],
      ]) {
        const answer = await server.fetch(path, options);
        assert.deepEqual([answer.status, answer.json?.error?.code], [status, code], `${path} ${answer.raw.slice(0, 200)}`);
        assert.ok(answer.json.error.message.length > 0);
      }
    });

    test('an Idempotency-Key holds, and a service token does what its scope says', async () => {
      const service = { userId: 'svc', scope: 'broadcast notify metrics', role: 'none' };
      const send = (event, payload, key) => call(service, 'POST', '/broadcast', { target: { room: 'chat:idem' }, event, payload }, { 'idempotency-key': key });
      const first = (await send('chat:message', { content: 'once' }, 'k1')).json;
      assert.deepEqual((await send('chat:message', { content: 'once' }, 'k1')).json, { ok: true, sockets: 0, id: first.id, duplicate: true });
      assert.equal((await call(ann, 'GET', '/rooms/idem/messages')).json.messages.length, 1);
      assert.equal((await send('custom', 1, 'k2')).json.duplicate, undefined);
      assert.equal((await send('custom', 1, 'k2')).json.duplicate, true);
      const metrics = await server.fetch('/metrics', { claims: service });
      assert.match(metrics.raw, /^academy_rt_store_writes_total \d+$/m);
    });

    if (enabled === 'true') {
      test('a socket hears what is done by HTTP', async () => {
        const socket = await server.signedIn(bob);
        await ask(socket, 'chat:join', { roomId: 'mixed' });
        await call(ann, 'POST', '/rooms/mixed/messages', { content: 'by HTTP' });
        assert.equal((await heard(socket, 'chat:message')).content, 'by HTTP');
        await call(bob, 'POST', '/progress', { lessonId: 9, progress: 9 });
        assert.equal((await heard(socket, 'progress:updated')).lessonId, 9);
      });
    }
  });
}
