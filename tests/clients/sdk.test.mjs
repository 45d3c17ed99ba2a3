// The client SDK against the real server: what it promises over cuts, restarts, kill -9, the flag flipped live, on both
// transports and by HTTP. A page's view must be the store's: everything once, in order.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { after, afterEach, before, describe, test } from 'node:test';
import { io } from 'socket.io-client';
import { connect } from '../../assets/sdk/academy-rt.js';
import { all, assertRising, binary, heard, noLimits, secret, token, until } from './harness.mjs';
import { MemoryStorage, Site, isBy } from './page.mjs';

const admin = { userId: 1, role: 'admin', name: 'Root' };
const bob = { userId: 8, name: 'Bob' };
const now = () => Math.floor(Date.now() / 1_000);
const rest = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
const emptied = (page) => until(() => page.pending === 0, 'the outbox is empty', 60_000);

describe('what a page sees is what the store has', () => {
  for (const [tls, transports] of [[false, ['websocket', 'polling']], [false, ['polling']], [true, ['websocket']], [true, ['polling', 'websocket']]]) {
    test(`over cuts, kill -9, a silent line, restarts and the flag (${transports}${tls ? ', TLS' : ''})`, async () => {
      const site = await Site.open({ tls });
      try {
        await ordeal(site, transports);
      } finally {
        await site.close();
      }
    });
  }

  async function ordeal(site, transports) {
    const { server, line } = site;
    const page = await site.arrived({ userId: 7 }, { transports });
    assert.equal((await page.emitWithAck('chat:join', { roomId: 'r' })).ok, true);
    const writer = write(site);
    let own = 0;
    const say = () => {
      own += 1;
      page.emit('chat:message', { roomId: 'r', content: `own ${own}` });
      page.emit('progress:sync', { lessonId: 42, progress: own % 101, timeSpent: 1 });
    };
    const steps = [
      async () => { line.cut(); say(); await isBy(page, 'offline'); say(); line.mend(); await isBy(page, 'realtime'); },
      async () => { await server.kill(); say(); await isBy(page, 'offline'); await server.launch(); await isBy(page, 'realtime'); },
      async () => { await site.flip(false); say(); await isBy(page, 'http'); },
      async () => { line.cut(); say(); await isBy(page, 'offline'); line.mend(); await isBy(page, 'http'); },
      async () => { await server.kill(); say(); await isBy(page, 'offline'); await server.launch(); await isBy(page, 'http'); },
      async () => { await site.flip(true); say(); await isBy(page, 'realtime'); },
      async () => { line.state = 'silent'; say(); await isBy(page, 'offline'); line.mend(); await isBy(page, 'realtime'); },
      async () => { line.state = 'deaf'; say(); await isBy(page, 'offline'); line.mend(); await isBy(page, 'realtime'); },
      async () => { await server.halt(); say(); await isBy(page, 'offline'); await server.launch(); await isBy(page, 'realtime'); },
    ];
    for (const step of steps) {
      await step();
      say();
      await emptied(page);
    }
    await writer.end();
    await isBy(page, 'realtime');
    const stored = await site.room('r');
    assertRising(stored.map(({ seq }) => seq));
    assert.deepEqual(stored.filter(({ senderId }) => senderId === 7).map(({ content }) => content), Array.from({ length: own }, (_, i) => `own ${i + 1}`));
    await until(() => viewOf(page).size === stored.length, `the page has all of ${stored.length} messages`);
    await until(() => same(viewOf(page), stored), 'edits and deletions have come, too');
    assertRising(all(page, 'chat:message').map(({ seq }) => seq));
    const [lesson] = (await page.emitWithAck('progress:get', { lessonId: 42 })).items;
    assert.deepEqual([lesson.timeSpent, lesson.syncVersion], [own, own], 'each report was added once');
    assertUnique(all(page, 'progress:updated').map(({ syncVersion }) => syncVersion));
    assert.equal(all(page, 'progress:updated').at(-1).syncVersion, own);
    await until(() => all(page, 'notification:new').length === writer.notified.length, 'all notifications have come');
    assert.deepEqual(all(page, 'notification:new').map(({ id }) => id), writer.notified);
    assertUnique(all(page, 'chat:message-edited').map(({ messageId, editedAt }) => `${messageId} ${editedAt}`));
    assert.deepEqual(all(page, 'request:error'), []);
    assert.deepEqual(all(page, 'resync'), []);
  }

  // Somebody else, who writes, edits, deletes and notifies all the while, whatever happens.
  function write(site) {
    let isWriting = true;
    const notified = [];
    const work = (async () => {
      const insist = async (claims, method, path, body, headers) => {
        for (;;) {
          const answer = await site.server.fetch(`/api/v1${path}`, { claims, method, body, headers }).catch(() => undefined);
          if (answer?.status === 200) return answer.json;
          // What was done, and not answered, cannot be done again.
          if (answer?.status === 404) return undefined;
          await rest(20);
        }
      };
      let earlier;
      for (let n = 1; isWriting; n += 1) {
        const { id } = await insist(bob, 'POST', '/rooms/r/messages', { content: `other ${n}`, clientId: `w${n}` });
        if (n % 3 === 0) await insist(bob, 'PATCH', `/rooms/r/messages/${earlier}`, { content: `edited ${n}` });
        if (n % 7 === 0) await insist(bob, 'DELETE', `/rooms/r/messages/${earlier}`);
        if (n % 5 === 0) notified.push((await insist(admin, 'POST', '/notifications', { target: { user: 7 }, title: 'T', message: String(n) }, { 'idempotency-key': `n${n}` })).id);
        earlier = id;
        await rest(10);
      }
    })();
    return { notified, end: () => { isWriting = false; return work; } };
  }

  function viewOf(page) {
    const view = new Map();
    for (const { event, payload } of page.heard) {
      if (event === 'chat:message') view.set(payload.id, payload.content);
      if (event === 'chat:message-edited') view.set(payload.messageId, payload.newContent);
      if (event === 'chat:message-deleted') view.set(payload.messageId, '');
    }
    return view;
  }

  const same = (view, stored) => stored.every(({ id, content }) => view.get(id) === content);
  const assertUnique = (list) => assert.equal(new Set(list).size, list.length, 'something was told twice');
});

describe('the outbox', () => {
  let site;
  before(async () => { site = await Site.open(); });
  after(() => site.close());
  afterEach(async () => { site.line.mend(); await site.flip(true); });

  for (const way of ['realtime', 'http']) {
    test(`1,000 reports made offline arrive once, and the bad one among them is told (${way})`, async () => {
      const claims = { userId: `syncs-${way}` };
      const page = await site.arrived(claims, {}, way);
      site.line.cut();
      await isBy(page, 'offline');
      const report = (i) => page.emitWithAck('progress:sync', { lessonId: 1, progress: i === 700 ? 101 : 50, timeSpent: 1 });
      const answers = Array.from({ length: 1_000 }, (_, i) => report(i));
      assert.equal(page.pending, 1_000);
      site.line.mend();
      await until(async () => (await site.call(claims, 'GET', '/progress?lessonId=1')).items.length > 0, 'something is stored');
      // In the middle of it the line is cut again.
      site.line.cut();
      await isBy(page, 'offline');
      site.line.mend();
      const done = await Promise.all(answers);
      assert.deepEqual(done.flatMap((answer, i) => (answer.ok ? [] : [[i, answer.error.code]])), [[700, 'invalid_payload']]);
      const [lesson] = (await site.call(claims, 'GET', '/progress?lessonId=1')).items;
      assert.deepEqual([lesson.timeSpent, lesson.syncVersion], [999, 999]);
    });

    test(`what was stored, and not acknowledged, is not stored twice (${way})`, async () => {
      const claims = { userId: `lost-${way}` };
      const page = await site.arrived(claims, {}, way);
      await page.emitWithAck('chat:join', { roomId: `lost-${way}` });
      site.line.state = 'deaf';
      const answer = page.emitWithAck('chat:message', { roomId: `lost-${way}`, content: 'once' });
      await until(async () => (await site.room(`lost-${way}`)).length === 1, 'it is stored');
      assert.equal(page.pending, 1);
      site.line.mend();
      assert.deepEqual([(await answer).ok, (await answer).duplicate], [true, true]);
      assert.equal((await site.room(`lost-${way}`)).length, 1);
      await until(() => all(page, 'chat:message').length === 1, 'it is heard');
    });
  }

  test('is bounded, and who goes beyond is told', async () => {
    const page = await site.arrived({ userId: 70 }, { outboxLimit: 3 });
    await page.emitWithAck('chat:join', { roomId: 'bound' });
    site.line.cut();
    await isBy(page, 'offline');
    const taken = [1, 2, 3].map((n) => page.emitWithAck('chat:message', { roomId: 'bound', content: String(n) }));
    const beyond = await page.emitWithAck('chat:message', { roomId: 'bound', content: '4' });
    assert.deepEqual([beyond.ok, beyond.error.code], [false, 'outbox_full']);
    page.emit('progress:sync', { lessonId: 1, progress: 1 });
    assert.deepEqual([all(page, 'request:error')[0].event, all(page, 'request:error')[0].code], ['progress:sync', 'outbox_full']);
    site.line.mend();
    assert.ok((await Promise.all(taken)).every((answer) => answer.ok));
    assert.ok((await page.emitWithAck('chat:message', { roomId: 'bound', content: '5' })).ok);
    assert.deepEqual((await site.room('bound')).map(({ content }) => content), ['1', '2', '3', '5']);
    const small = site.page({ userId: 71 }, { outboxBytes: 1_000, autoConnect: false });
    assert.equal((await small.emitWithAck('chat:message', { roomId: 'bound', content: 'x'.repeat(1_000) })).error.code, 'outbox_full');
  });

  test('survives a reload of the page, for its user alone, and every entry goes', async () => {
    const storage = new MemoryStorage();
    const first = await site.arrived({ userId: 72 }, { storage });
    await first.emitWithAck('chat:join', { roomId: 'reload' });
    site.line.cut();
    await isBy(first, 'offline');
    for (let n = 1; n <= 20; n += 1) first.emit('chat:message', { roomId: 'reload', content: String(n) });
    first.emit('progress:sync', { lessonId: 5, progress: 10, timeSpent: 7 });
    first.emit('chat:typing', { roomId: 'reload', isTyping: true });
    first.emit('chat:history', { roomId: 'reload' });
    first.disconnect();
    assert.equal(storage.waiting, 21, 'what is asked, or said in passing, is not kept');
    site.line.mend();
    const other = await site.arrived({ userId: 73 }, { storage });
    await other.emitWithAck('chat:rooms', {});
    assert.equal((await site.room('reload')).length, 0, "another user does not send it");
    const second = site.page({ userId: 72 }, { storage });
    second.emit('chat:message', { roomId: 'reload', content: 'not joined, and not kept from before' });
    second.emit('presence:list', { roomId: 'reload' });
    await emptied(second);
    const said = [...Array.from({ length: 20 }, (_, i) => String(i + 1)), 'not joined, and not kept from before'];
    assert.deepEqual((await site.room('reload')).map(({ content }) => content), said);
    assert.deepEqual(all(second, 'request:error').map(({ event, code }) => [event, code]), [['presence:list', 'not_joined']]);
    assert.equal((await site.call({ userId: 72 }, 'GET', '/progress?lessonId=5')).items[0].timeSpent, 7);
    assert.equal(storage.waiting, 0);
  });

  test('survives a reload when what it had sent was stored: it is there once', async () => {
    const storage = new MemoryStorage();
    const first = await site.arrived({ userId: 74 }, { storage });
    await first.emitWithAck('chat:join', { roomId: 'half' });
    site.line.state = 'deaf';
    first.emit('chat:message', { roomId: 'half', content: 'once' });
    await until(async () => (await site.room('half')).length === 1, 'it is stored');
    first.disconnect();
    site.line.mend();
    const second = site.page({ userId: 74 }, { storage });
    await until(() => storage.waiting === 0, 'it is acknowledged');
    assert.equal((await site.room('half')).length, 1);
    assert.deepEqual(all(second, 'request:error'), []);
  });

  test('what may have been stored longer ago than the server remembers is told, not sent again', async () => {
    const storage = new MemoryStorage();
    const entry = (n, more) => storage.setItem(`academy-rt:outbox:75:${String(n).padStart(17, '0')}:x`, JSON.stringify(more));
    const payload = { lessonId: 6, progress: 10, timeSpent: 7, syncId: 'old' };
    entry(1, { event: 'progress:sync', payload, triedAt: Date.now() - 24 * 3_600_000 });
    entry(2, { event: 'progress:sync', payload: { ...payload, syncId: 'never tried' } });
    storage.setItem('academy-rt:outbox:75:rubbish', '{');
    const page = await site.arrived({ userId: 75 }, { storage });
    await emptied(page);
    const [told] = all(page, 'request:error');
    assert.deepEqual([told.event, told.code, told.payload], ['progress:sync', 'outbox_expired', payload]);
    assert.equal((await site.call({ userId: 75 }, 'GET', '/progress?lessonId=6')).items[0].timeSpent, 7);
  });

  test('a page that has slept for a day with a message under way does not send it twice', async () => {
    const page = await site.arrived({ userId: 79 });
    await page.emitWithAck('chat:join', { roomId: 'slept' });
    site.line.state = 'deaf';
    const underWay = page.emitWithAck('chat:message', { roomId: 'slept', content: 'under way' });
    const behind = page.emitWithAck('chat:message', { roomId: 'slept', content: 'behind it' });
    await until(async () => (await site.room('slept')).length === 1, 'it is stored');
    await isBy(page, 'offline');
    const { now: real } = Date;
    Date.now = () => real() + 24 * 3_600_000;
    try {
      site.line.mend();
      assert.equal((await underWay).error.code, 'outbox_expired');
      assert.equal((await behind).ok, true);
    } finally {
      Date.now = real;
    }
    assert.deepEqual((await site.room('slept')).map(({ content }) => content), ['under way', 'behind it']);
  });

  test('a request that breaks the connection is refused, and holds up nothing', async () => {
    const small = await Site.open({ env: { ...noLimits, ACADEMY_RT_LIMITS_PAYLOAD: '16KiB' } });
    try {
      const page = await small.arrived({ userId: 7 });
      await page.emitWithAck('chat:join', { roomId: 'big' });
      const big = page.emitWithAck('chat:message', { roomId: 'big', content: 'x', more: 'x'.repeat(50_000) });
      const next = page.emitWithAck('chat:message', { roomId: 'big', content: 'next' });
      assert.equal((await big).error.code, 'too_large');
      assert.equal((await next).ok, true);
      assert.ok(all(page, 'disconnect').length <= 3);
    } finally {
      await small.close();
    }
  });

  test('thousands that are refused at once are refused one by one', async () => {
    const page = await site.arrived({ userId: 80 }, {}, 'http');
    site.line.cut();
    await isBy(page, 'offline');
    const answers = Array.from({ length: 4_000 }, () => page.emitWithAck('presence:list', { roomId: 'never-joined' }));
    site.line.mend();
    assert.ok((await Promise.all(answers)).every((answer) => answer.error.code === 'not_joined'));
  });

  test('a storage that is full is told, and the request is sent all the same', async () => {
    const storage = new MemoryStorage();
    storage.setItem = () => { throw new Error('QuotaExceededError'); };
    const page = await site.arrived({ userId: 76 }, { storage });
    assert.ok((await page.emitWithAck('progress:sync', { lessonId: 1, progress: 1 })).ok);
    assert.deepEqual(all(page, 'request:error').map(({ code }) => code), ['not_persisted']);
  });

  test("another user's token takes over nothing", async () => {
    let who = { userId: 77 };
    const page = await site.arrived({}, { getToken: () => token(who) });
    await page.emitWithAck('chat:join', { roomId: 'changed' });
    site.line.cut();
    await isBy(page, 'offline');
    const left = page.emitWithAck('chat:message', { roomId: 'changed', content: 'of 77' });
    page.disconnect();
    who = { userId: 78 };
    page.emit('auth:refresh', { token: token(who) });
    page.connect();
    site.line.mend();
    assert.equal((await left).error.code, 'user_changed');
    await heard(page, 'authenticated', ({ userId }) => userId === 78);
    assert.equal((await site.room('changed')).length, 0);
  });

  test("another user's token takes over nothing by HTTP either, and is no resync", async () => {
    const page = await site.arrived({ userId: 81 }, {}, 'http');
    await page.emitWithAck('chat:join', { roomId: 'changed-http' });
    const first = page.emitWithAck('auth:refresh', { token: token({ userId: 82 }) });
    const left = page.emitWithAck('chat:message', { roomId: 'changed-http', content: 'of 82' });
    assert.equal((await first).ok, true);
    await heard(page, 'authenticated', ({ userId }) => userId === 82);
    assert.equal((await left).ok, true);
    assert.deepEqual((await site.room('changed-http')).map(({ senderId, content }) => [senderId, content]), [[82, 'of 82']]);
    // The way is slow: what 82 has asked is not there yet when 83 comes.
    site.line.state = 'silent';
    const lost = page.emitWithAck('chat:message', { roomId: 'changed-http', content: 'of 82, late' });
    page.emit('auth:refresh', { token: token({ userId: 83 }) });
    site.line.mend();
    assert.equal((await lost).error.code, 'user_changed');
    await heard(page, 'authenticated', ({ userId }) => userId === 83);
    assert.equal((await page.emitWithAck('presence:list', { roomId: 'changed-http' })).error.code, 'not_joined', 'the rooms are not theirs');
    await site.call(admin, 'POST', '/broadcast', { target: { user: 83 }, event: 'system:alert', payload: {} });
    await heard(page, 'system:alert');
    assert.ok((await site.room('changed-http')).every(({ senderId }) => senderId === 82));
    assert.deepEqual(all(page, 'resync'), []);
  });
});

describe('tokens', () => {
  for (const way of ['realtime', 'http']) {
    describe(`by ${way}`, () => {
      let site;
      before(async () => {
        site = await Site.open({ env: { ACADEMY_RT_AUTH_LEEWAY: '0s' } });
        if (way === 'http') await site.flip(false);
      });
      after(() => site.close());

      test('a fresh one is asked for before the end, and nobody notices', async () => {
        const asked = [];
        const page = site.page({}, { getToken: ({ reason }) => { asked.push(reason); return token({ userId: 7, exp: now() + (asked.length > 2 ? 3_600 : 6) }); } });
        await isBy(page, way);
        await page.emitWithAck('chat:join', { roomId: 'tokens' });
        await until(() => asked.length > 2, 'it was asked again and again', 30_000);
        await heard(page, 'authenticated', ({ expiresAt }) => expiresAt > Date.now() + 1_000_000);
        assert.ok(all(page, 'auth:expiring').length >= 2);
        assert.deepEqual(asked.slice(1, 3), ['expiring', 'expiring']);
        assert.ok((await page.emitWithAck('chat:message', { roomId: 'tokens', content: 'still here' })).ok);
        assert.deepEqual(all(page, 'disconnect'), []);
        assert.deepEqual(all(page, 'auth_error'), []);
      });

      test('an expired one is replaced, and who gives expired ones alone is told', async () => {
        const expired = () => token({ userId: 7, exp: now() - 100 });
        const asked = [];
        const page = site.page({}, { getToken: ({ reason }) => { asked.push(reason); return asked.length < 2 ? expired() : token({ userId: 7 }); } });
        await isBy(page, way);
        assert.ok(asked.includes('token_expired'), String(asked));
        assert.deepEqual(all(page, 'auth_error'), []);
        let count = 0;
        const hopeless = site.page({}, { getToken: () => { count += 1; return expired(); } });
        assert.equal((await heard(hopeless, 'auth_error')).code, 'token_expired');
        assert.ok(!hopeless.active && count <= 4, `asked ${count} times`);
        const alone = site.page({ userId: 7, exp: now() - 100 });
        assert.equal((await heard(alone, 'auth_error')).code, 'token_expired');
      });

      test('getToken that fails is tried again', async () => {
        let count = 0;
        const page = site.page({}, { getToken: async () => { count += 1; if (count < 3) throw new Error('offline'); return token({ userId: 7 }); } });
        await isBy(page, way);
        assert.ok(all(page, 'connect_error').length >= 1);
      });

      for (const [name, code, shutOut] of [
        ['revoked', 'token_revoked', (userId) => site.call(admin, 'POST', '/admin/tokens/revoke', { userId })],
        ['blocked', 'user_blocked', (userId) => site.call(admin, 'POST', `/admin/users/${userId}/block`, {})],
      ]) {
        test(`who is ${name} is told, and tries no more`, async () => {
          const userId = `${name}-${way}`;
          for (const other of site.pages) other.disconnect();
          const page = site.page({ userId, iat: now() - 10 });
          await isBy(page, way);
          await page.emitWithAck('chat:rooms', {});
          await shutOut(userId);
          assert.equal((await heard(page, 'auth_error')).code, code);
          assert.deepEqual([page.active, page.connected, page.transport], [false, false, 'offline']);
          // What was under way has come through by then; a try would come within the longest pause.
          await rest(200);
          const { tried } = site.line;
          page.emit('progress:sync', { lessonId: 1, progress: 1 });
          await rest(1_000);
          assert.equal(site.line.tried, tried, 'it has tried again');
          assert.deepEqual([page.pending, all(page, 'auth_error').length], [1, 1]);
          const again = site.page({ userId, iat: now() - 10 });
          assert.equal((await heard(again, 'auth_error')).code, code);
        });
      }

      test('a token that is none is final', async () => {
        for (const [bad, code] of [['x', 'token_malformed'], [`${token({}, { key: 'another secret, as long as the first one' })}`, 'token_invalid']]) {
          const page = site.page({}, { token: bad });
          assert.equal((await heard(page, 'auth_error')).code, code);
          assert.equal(page.active, false);
        }
      });
    });
  }
});

describe('the socket', () => {
  let site;
  before(async () => { site = await Site.open(); });
  after(() => site.close());
  afterEach(async () => { site.line.mend(); await site.flip(true); });

  for (const way of ['realtime', 'http']) {
    test(`bad input comes to the ack, alike by ${way}, and is not tried again`, async () => {
      await site.call(admin, 'POST', '/admin/rooms', { roomId: `shut-${way}`, private: true });
      const page = await site.arrived({ userId: 90 }, {}, way);
      await page.emitWithAck('chat:join', { roomId: 'bad' });
      for (const [event, payload, code, field] of [
        ['chat:message', { roomId: 'bad' }, 'invalid_payload', 'content'],
        ['chat:message', { roomId: 'bad', content: '' }, 'invalid_payload', 'content'],
        ['chat:message', { roomId: 'bad', content: 'x'.repeat(4_001) }, 'too_large', 'content'],
        ['chat:message', { roomId: 'bad', content: 'x', clientId: 'x'.repeat(65) }, 'invalid_payload', 'clientId'],
        ['chat:message', { content: 'x' }, 'invalid_payload', 'roomId'],
        ['chat:message', { roomId: `shut-${way}`, content: 'x' }, 'forbidden', undefined],
        ['chat:join', {}, 'invalid_payload', 'roomId'],
        ['chat:join', { roomId: 'a b' }, 'invalid_payload', 'roomId'],
        ['chat:join', { roomId: 'bad', after: 10 ** 12 }, 'resync', undefined],
        ['chat:join', { roomId: `shut-${way}` }, 'forbidden', undefined],
        ['chat:leave', {}, 'invalid_payload', 'roomId'],
        ['chat:leave', { roomId: 'a b' }, 'invalid_payload', 'roomId'],
        ['chat:edit', { roomId: 'bad', content: 'x' }, 'invalid_payload', 'messageId'],
        ['chat:delete', { roomId: 'bad', messageId: 999_999 }, 'not_found', undefined],
        ['chat:history', { roomId: 'bad', limit: 0 }, 'invalid_payload', 'limit'],
        ['progress:sync', { lessonId: 1, progress: 101 }, 'invalid_payload', 'progress'],
        ['progress:sync', { progress: 1 }, 'invalid_payload', 'lessonId'],
        ['progress:history', {}, 'invalid_payload', 'lessonId'],
        ['progress:get', { since: 'x' }, 'resync', undefined],
        ['notification:read', {}, 'invalid_payload', undefined],
        ['notification:read', { all: true, upTo: '1' }, 'invalid_payload', 'upTo'],
        ['notification:read', { ids: [1], upTo: 1 }, 'invalid_payload', 'upTo'],
        ['notification:delete', {}, 'invalid_payload', 'id'],
        ['no:such', {}, 'invalid_payload', undefined],
        ['chat:typing', { roomId: 'bad' }, 'invalid_payload', 'isTyping'],
        ['chat:typing', { roomId: 'elsewhere', isTyping: true }, 'not_joined', undefined],
        ['presence:list', { roomId: 'elsewhere' }, 'not_joined', undefined],
      ]) {
        const answer = await page.emitWithAck(event, payload);
        assert.deepEqual([answer.ok, answer.error?.code, answer.error?.field], [false, code, field], `${event} ${JSON.stringify(answer)}`);
      }
      for (const bad of [null, [], 7, 'text', true]) {
        assert.equal((await page.emitWithAck('chat:message', bad)).error.code, 'invalid_payload', String(bad));
      }
      assert.equal((await page.emitWithAck('chat:message', { roomId: 'bad', content: 1n })).error.code, 'invalid_payload');
      page.emit('chat:message', { roomId: 'bad', content: '' });
      const told = await heard(page, 'request:error');
      assert.deepEqual([told.event, told.code, told.field], ['chat:message', 'invalid_payload', 'content']);
      await emptied(page);
      for (const roomId of ['bad', `shut-${way}`]) assert.equal((await site.room(roomId)).length, 0, roomId);
      assert.equal(page.connected, true);
    });

    test(`everything a front end asks is answered alike by ${way}`, async () => {
      const claims = { userId: `asks-${way}` };
      const roomId = `asks,${way}/é`;
      const page = await site.arrived(claims, {}, way);
      const joined = await page.emitWithAck('chat:join', roomId);
      assert.deepEqual(Object.keys(joined).sort(), ['hasMore', 'lastId', 'lastSeq', 'locked', 'members', 'membership', 'messages', 'mutedUntil', 'ok', 'readUpTo', 'roomId', 'slowModeSeconds']);
      const { id } = await page.emitWithAck('chat:message', { roomId, content: 'one' });
      await heard(page, 'chat:message', (message) => message.id === id && message.roomId === roomId);
      assert.equal((await page.emitWithAck('chat:edit', { roomId, messageId: id, content: 'two' })).messageId, id);
      assert.equal((await heard(page, 'chat:message-edited')).newContent, 'two');
      assert.equal((await page.emitWithAck('chat:read', { roomId, messageId: id })).messageId, id);
      assert.equal((await page.emitWithAck('chat:history', { roomId })).messages[0].content, 'two');
      assert.deepEqual((await page.emitWithAck('chat:rooms')).rooms.map((room) => [room.roomId, room.readUpTo]), [[roomId, id]]);
      assert.ok(Array.isArray((await page.emitWithAck('presence:list', { roomId })).users));
      assert.equal((await page.emitWithAck('chat:delete', { roomId, messageId: id })).messageId, id);
      assert.equal((await heard(page, 'chat:message-deleted')).messageId, id);
      const batch = await page.emitWithAck('progress:sync', [{ lessonId: 1, progress: 1, timeSpent: 1 }, { lessonId: 'b', progress: 100 }]);
      assert.deepEqual(batch.results.map(({ syncVersion }) => syncVersion), [1, 1]);
      assert.equal((await page.emitWithAck('progress:get', { lessonId: 'b' })).items[0].status, 'completed');
      assert.equal((await page.emitWithAck('progress:history', { lessonId: 1 })).versions.length, 1);
      const sent = await site.call(admin, 'POST', '/notifications', { target: { user: claims.userId }, title: 'T', message: 'M', titleFr: 'F' });
      assert.equal((await heard(page, 'notification:new')).titleFr, 'F');
      assert.equal((await page.emitWithAck('notification:list', { unreadOnly: true })).items[0].id, sent.id);
      assert.deepEqual((await page.emitWithAck('notification:read', { id: sent.id })).ids, [sent.id]);
      assert.deepEqual((await page.emitWithAck('notification:delete', { id: sent.id })).ids, [sent.id]);
      await site.call(admin, 'POST', '/broadcast', { target: { user: claims.userId }, event: 'system:alert', payload: { level: 1 } });
      assert.deepEqual(await heard(page, 'system:alert'), { level: 1 });
      assert.deepEqual(await page.emitWithAck('chat:leave', { roomId }), { ok: true, roomId });
      assert.deepEqual((await page.emitWithAck('chat:rooms')).rooms, []);
      assert.equal((await page.emitWithAck('presence:list', { roomId })).error.code, 'not_joined');
      assert.equal((await page.emitWithAck('chat:typing', { roomId, isTyping: true })).error.code, 'not_joined');
      assert.equal((await page.emitWithAck('chat:message', { roomId, content: 'from outside' })).ok, true);
      assert.deepEqual((await page.emitWithAck('chat:rooms')).rooms.map((room) => [room.roomId, room.unread]), [[roomId, 0]]);
      await site.call(admin, 'POST', '/broadcast', { target: { user: claims.userId }, event: 'system:end', payload: {} });
      await heard(page, 'system:end');
      assert.deepEqual(all(page, 'chat:message').map(({ content }) => content), ['one'], 'what is said in a room that was left is not heard');
      assert.deepEqual(all(page, 'request:error'), []);
    });

    test(`who may enter a room posts into it without a join, at once and from the outbox (${way})`, async () => {
      const roomId = `unjoined-${way}`;
      const storage = new MemoryStorage();
      const page = await site.arrived({ userId: `outside-${way}` }, { storage }, way);
      const other = await site.arrived({ userId: `inside-${way}` }, {}, way);
      await other.emitWithAck('chat:join', { roomId });
      const { ok, id, seq } = await page.emitWithAck('chat:message', { roomId, content: 'at once' });
      assert.deepEqual([ok, seq], [true, 1]);
      assert.equal((await heard(other, 'chat:message')).id, id);
      site.line.cut();
      await isBy(page, 'offline');
      page.emit('chat:message', { roomId, content: 'from a tunnel' });
      const edited = page.emitWithAck('chat:edit', { roomId, messageId: id, content: 'edited from a tunnel' });
      site.line.mend();
      assert.equal((await edited).ok, true);
      await heard(other, 'chat:message', ({ content }) => content === 'from a tunnel');
      await heard(other, 'chat:message-edited', ({ messageId }) => messageId === id);
      // A page that waits for the way, and is closed; the next one has not joined either.
      site.line.cut();
      await isBy(page, 'offline');
      page.emit('chat:message', { roomId, content: 'kept' });
      page.disconnect();
      site.line.mend();
      const second = await site.arrived({ userId: `outside-${way}` }, { storage }, way);
      await emptied(second);
      await heard(other, 'chat:message', ({ content }) => content === 'kept');
      const said = ['edited from a tunnel', 'from a tunnel', 'kept'];
      assert.deepEqual((await site.room(roomId)).map(({ content }) => content), said);
      assert.equal(storage.waiting, 0);
      for (const one of [page, second]) assert.deepEqual([all(one, 'chat:message'), all(one, 'request:error')], [[], []]);
      // Joining is for hearing.
      assert.deepEqual((await second.emitWithAck('chat:join', { roomId })).messages.map(({ content }) => content), said);
      await second.emitWithAck('chat:message', { roomId, content: 'heard' });
      assert.equal((await heard(second, 'chat:message')).content, 'heard');
    });

    test(`a room that is left is off the list, whatever breaks on the way, and a join brings it back (${way})`, async () => {
      const claims = { userId: `leaves-${way}` };
      const page = await site.arrived(claims, {}, way);
      const listed = async () => (await site.call(claims, 'GET', '/rooms')).rooms.map((room) => room.roomId).sort();
      for (const roomId of ['l1', 'l2', 'l3', 7]) {
        await page.emitWithAck('chat:join', { roomId });
        await site.call(bob, 'POST', `/rooms/${roomId}/messages`, { content: `before ${roomId}` });
        await heard(page, 'chat:message', ({ content }) => content === `before ${roomId}`);
      }
      assert.deepEqual(await listed(), [7, 'l1', 'l2', 'l3']);
      assert.deepEqual(await page.emitWithAck('chat:leave', 'l1'), { ok: true, roomId: 'l1' });
      assert.deepEqual(await page.emitWithAck('chat:leave', { roomId: 7 }), { ok: true, roomId: 7 });
      assert.deepEqual(await listed(), ['l2', 'l3']);
      // Asked for, and the answer lost; asked for while there is no way.
      site.line.state = 'deaf';
      const deaf = page.emitWithAck('chat:leave', { roomId: 'l2' });
      await isBy(page, 'offline');
      site.line.cut();
      const offline = page.emitWithAck('chat:leave', { roomId: 'l3' });
      site.line.mend();
      assert.deepEqual([(await deaf).ok, (await offline).ok], [true, true]);
      await site.call(bob, 'POST', '/rooms/l1/messages', { content: 'behind it' });
      // A marker is not stored: a page that is just coming back may not hear of it.
      await until(async () => {
        await site.call(admin, 'POST', '/broadcast', { target: { user: claims.userId }, event: 'system:marker', payload: {} });
        return all(page, 'system:marker').length > 0;
      }, 'a marker is heard');
      assert.ok(!all(page, 'chat:message').some(({ content }) => content === 'behind it'), 'it is heard of no more');
      assert.deepEqual(await listed(), []);
      const back = await page.emitWithAck('chat:join', { roomId: 'l1' });
      assert.deepEqual([back.messages.at(-1).content, await listed()], ['behind it', ['l1']]);
      assert.deepEqual(all(page, 'request:error'), []);
    });

    test(`"all are read" means those that the page knew of at that moment (${way})`, async () => {
      const claims = { userId: `reads-${way}` };
      const notify = async (message) => (await site.call(admin, 'POST', '/notifications', { target: { user: claims.userId }, title: 'T', message })).id;
      const inbox = async () => (await site.call(claims, 'GET', '/notifications')).items.map(({ id, read }) => [id, read]).reverse();
      const storage = new MemoryStorage();
      const page = await site.arrived(claims, { storage }, way);
      const [first, second] = [await notify('1'), await notify('2')];
      await heard(page, 'notification:new', ({ id }) => id === second);
      assert.equal((await page.emitWithAck('notification:read', { all: true, upTo: first })).ok, true);
      assert.deepEqual(await inbox(), [[first, true], [second, false]], 'what the caller says counts');
      site.line.cut();
      await isBy(page, 'offline');
      const read = page.emitWithAck('notification:read', { all: true });
      const third = await notify('3');
      site.line.mend();
      assert.deepEqual([(await read).ok, (await read).unread], [true, 1]);
      const told = await heard(page, 'notification:new', ({ id }) => id === third);
      assert.equal(told.read, false);
      assert.deepEqual(await inbox(), [[first, true], [second, true], [third, false]]);
      // The next page has been told of nothing but by the list, and what it asks outlives it.
      page.disconnect();
      const next = await site.arrived(claims, { storage }, way);
      assert.equal((await next.emitWithAck('notification:list', { limit: 1 })).items[0].id, third);
      site.line.cut();
      await isBy(next, 'offline');
      next.emit('notification:read', { all: true });
      next.disconnect();
      const fourth = await notify('4');
      site.line.mend();
      const last = await site.arrived(claims, { storage }, way);
      await heard(last, 'notification:new', ({ id }) => id === fourth);
      await emptied(last);
      assert.deepEqual(await inbox(), [[first, true], [second, true], [third, true], [fourth, false]]);
      // Another page of theirs hears up to which.
      const other = await site.arrived(claims, {}, way);
      assert.equal((await last.emitWithAck('notification:read', { all: true })).unread, 0);
      assert.deepEqual(await heard(other, 'notification:updated', ({ all: isAll, upTo }) => isAll && upTo === fourth), { all: true, upTo: fourth, read: true, unread: 0 });
      for (const one of [page, next, last, other]) assert.deepEqual(all(one, 'request:error'), []);
    });

    test(`what is limited is sent in order, later (${way})`, async () => {
      const strict = await Site.open({ env: {} });
      try {
        const page = await strict.arrived({ userId: 7 }, {}, way);
        await page.emitWithAck('chat:join', { roomId: 'fast' });
        const answers = await Promise.all(Array.from({ length: 45 }, (_, i) => page.emitWithAck('chat:message', { roomId: 'fast', content: String(i) })));
        assert.ok(answers.every((answer) => answer.ok));
        assert.deepEqual((await strict.room('fast')).map(({ content }) => content), Array.from({ length: 45 }, (_, i) => String(i)));
      } finally {
        await strict.close();
      }
    });

    test(`who is put out of a room hears of it, and of the other rooms as before (${way})`, async () => {
      const roomId = `private-${way}`;
      await site.call(admin, 'POST', '/admin/rooms', { roomId, private: true });
      await site.call(admin, 'PUT', `/admin/rooms/${roomId}/members/91`, {});
      const page = await site.arrived({ userId: 91 }, {}, way);
      for (const room of [roomId, `open-${way}`]) assert.ok((await page.emitWithAck('chat:join', { roomId: room })).ok);
      site.line.cut();
      await isBy(page, 'offline');
      await site.call(admin, 'DELETE', `/admin/rooms/${roomId}/members/91`);
      site.line.mend();
      const told = await heard(page, 'request:error');
      assert.deepEqual([told.event, told.roomId, told.code], ['chat:join', roomId, 'forbidden']);
      await site.call(bob, 'POST', `/rooms/open-${way}/messages`, { content: 'open' });
      assert.equal((await heard(page, 'chat:message')).content, 'open');
    });

    test(`a restored backup is told as a resync, and life goes on (${way})`, async () => {
      const own = await Site.open();
      try {
        const page = await own.arrived({ userId: 7 }, {}, way);
        await page.emitWithAck('chat:join', { roomId: 'r' });
        await page.emitWithAck('chat:message', { roomId: 'r', content: 'kept' });
        const file = join(own.server.dir, 'backup');
        const run = (...args) => promisify(execFile)(binary, [...args, '--data-dir', own.server.data], { env: { PATH: process.env.PATH, JWT_SECRET: secret } });
        await run('backup', file);
        for (let n = 0; n < 5; n += 1) await page.emitWithAck('chat:message', { roomId: 'r', content: 'lost' });
        await own.server.halt();
        await run('restore', file, '--force');
        await own.server.launch();
        const resync = await heard(page, 'resync', ({ roomId }) => roomId === 'r');
        assert.deepEqual(resync.messages.map(({ content }) => content), ['kept']);
        assert.ok((await page.emitWithAck('chat:message', { roomId: 'r', content: 'new' })).ok);
        await heard(page, 'chat:message', ({ content }) => content === 'new');
      } finally {
        await own.close();
      }
    });
  }

  test('typing is said now or never', async () => {
    const [page, other] = [await site.arrived({ userId: 92 }), await site.server.signedIn(bob)];
    await page.emitWithAck('chat:join', { roomId: 'typing' });
    await other.emitWithAck('chat:join', { roomId: 'typing' });
    page.emit('chat:typing', { roomId: 'typing', isTyping: true });
    await heard(other, 'chat:typing');
    site.line.cut();
    await isBy(page, 'offline');
    page.emit('chat:typing', { roomId: 'typing', isTyping: true });
    assert.equal((await page.emitWithAck('chat:typing', { roomId: 'typing', isTyping: true })).error.code, 'offline');
    assert.equal((await page.volatile.emitWithAck('chat:message', { roomId: 'typing', content: 'x' })).error.code, 'offline');
    assert.equal(page.pending, 0);
    assert.deepEqual(all(page, 'request:error'), []);
  });

  test('a page that falls back tells why, and the way up and down is told once each', async () => {
    const page = await site.arrived({ userId: 93 });
    await site.flip(false);
    await isBy(page, 'http');
    await site.flip(true);
    await isBy(page, 'realtime');
    const told = all(page, 'transport').map(({ transport, reason }) => [transport, reason]);
    // A try that the flag has overtaken, refused by WebSocket, is taken by polling.
    const back = told.at(-1)[0] === 'polling' ? 'polling' : 'websocket';
    assert.deepEqual(told, [
      ['websocket', 'connected'], ['offline', 'realtime_disabled'], ['http', 'realtime_disabled'], [back, 'available again'],
    ]);
    assert.deepEqual(page.heard.filter(({ event }) => /^(dis)?connect$/.test(event)).map(({ event }) => event), ['connect', 'disconnect', 'connect']);
  });

  test('where WebSocket is swallowed, polling is found', async () => {
    // A proxy that never answers an upgrade.
    const { createServer, request } = await import('node:http');
    const proxy = createServer((asked, answer) => {
      const { method, url, headers } = asked;
      const passed = request({ port: site.server.port, host: '127.0.0.1', method, path: url, headers }, (got) => {
        answer.writeHead(got.statusCode, got.headers);
        got.pipe(answer);
      });
      passed.on('error', () => answer.destroy());
      asked.pipe(passed);
    });
    proxy.on('upgrade', () => {});
    await new Promise((resolve) => { proxy.listen(0, '127.0.0.1', resolve); });
    const page = site.page({ userId: 94 }, { url: `http://127.0.0.1:${proxy.address().port}`, connectTimeoutMs: 1_000 });
    await until(() => page.transport === 'polling', 'it is on polling');
    assert.ok((await page.emitWithAck('chat:join', { roomId: 'proxied' })).ok);
    page.disconnect();
    proxy.closeAllConnections();
    proxy.close();
  });

  test('a server that stops says when to come back, and is believed', async () => {
    const page = await site.arrived({ userId: 95 });
    const stopped = site.server.halt();
    const { retryAfterMs } = await heard(page, 'server:draining');
    const told = Date.now();
    // A server that needs longer than it has said to be there again is asked for until then.
    const askedTooEarly = [];
    page.on('connect_error', () => { if (Date.now() - told < retryAfterMs - 100) askedTooEarly.push(Date.now() - told); });
    assert.ok(retryAfterMs > 0);
    await stopped;
    await site.server.launch();
    await isBy(page, 'realtime');
    assert.ok(Date.now() - told >= retryAfterMs - 100, `asked to wait ${retryAfterMs} ms, came after ${Date.now() - told}`);
    assert.deepEqual(askedTooEarly, []);
    assert.equal(all(page, 'disconnect').length, 1);
  });

  test('listeners come and go as those of socket.io-client', async () => {
    for (const socket of [connect({ io, url: site.server.url, token: 'x', autoConnect: false }), io(site.server.url, { autoConnect: false })]) {
      const calls = [];
      const tell = (...args) => (socket._tell ? socket._tell('e', args) : socket.emitReserved('e', ...args));
      const [a, b] = [() => calls.push('a'), () => calls.push('b')];
      assert.equal(socket.on('e', a), socket);
      socket.on('e', a).on('e', b).once('e', b);
      tell();
      assert.deepEqual(calls.splice(0), ['a', 'a', 'b', 'b']);
      socket.off('e', a);
      tell();
      assert.deepEqual(calls.splice(0), ['a', 'b']);
      assert.deepEqual([socket.listeners('e'), socket.hasListeners('e')], [[a, b], true]);
      socket.once('e', a).off('e', a).off('e', a).off('e', a);
      tell();
      assert.deepEqual(calls.splice(0), ['b']);
      socket.off('e');
      tell();
      socket.on('e', a).off();
      tell();
      // Who leaves while it is told does not keep others from being told.
      socket.on('e', function leaving() { socket.off('e', leaving); calls.push('l'); }).on('e', b);
      tell();
      assert.deepEqual(calls, ['l', 'b']);
      assert.throws(() => socket.emit('connect'), /reserved/);
      assert.deepEqual([socket.connected, socket.disconnected], [false, true]);
    }
  });

  test('edits and deletions are told in the order of their ids, whatever the clock says, and once', async () => {
    const { page, tell, answers } = scripted();
    const joined = page.emitWithAck('chat:join', { roomId: 'r' });
    const message = (id, more) => ({ id, seq: id, roomId: 'r', senderId: 1, senderName: 'A', content: 'x', type: 'text', replyToId: null, timestamp: 1_000, ...more });
    await until(() => answers.length === 1, 'it is asked');
    answers[0]({ ok: true, roomId: 'r', messages: [message(1), message(2, { editedAt: 5_000 }), message(3, { deletedAt: 5_000 })], hasMore: false, lastId: 3, lastSeq: 3, members: 1, readUpTo: 0 });
    assert.equal((await joined).ok, true);
    const edit = (id, messageId, editedAt) => tell('chat:message-edited', { id, roomId: 'r', messageId, newContent: `by ${id}`, editedAt });
    const remove = (id, messageId) => tell('chat:message-deleted', { id, roomId: 'r', messageId, deletedAt: 1 });
    // The clock stands still, and goes back: two edits all the same; an earlier one, and a double, are no news.
    for (const [id, editedAt] of [[10, 2_000], [12, 2_000], [14, 1_500], [12, 2_000], [11, 9_000], [14, 1_500]]) edit(id, 1, editedAt);
    // What the message had when it was shown is no news; what came behind it is.
    edit(8, 2, 4_000);
    edit(9, 2, 5_000);
    edit(15, 2, 5_001);
    edit(7, 3, 4_000);
    remove(9, 3);
    remove(16, 1);
    edit(13, 1, 9_999);
    remove(16, 1);
    const told = page.heard.filter(({ event }) => event.startsWith('chat:message-')).map(({ event, payload }) => [event.slice(13), payload.messageId, payload.id]);
    assert.deepEqual(told, [['edited', 1, 10], ['edited', 1, 12], ['edited', 1, 14], ['edited', 2, 15], ['deleted', 1, 16]]);
    page.disconnect();
  });

  /** A page on a socket that says what it is told to, without a server. */
  function scripted() {
    let any;
    const answers = [];
    const socket = {
      connected: true,
      on: () => {},
      off: () => {},
      offAny: () => {},
      onAny: (listener) => { any = listener; },
      timeout: () => ({ emit: (event, payload, done) => { answers.push((answer) => done(null, answer)); } }),
      connect: () => queueMicrotask(() => any('authenticated', { userId: 7 })),
      disconnect: () => {},
    };
    const page = connect({ io: () => socket, url: 'http://127.0.0.1:1', token: token(), fetch: async () => { throw new Error('no way'); } });
    page.heard = [];
    page.onAny((event, payload) => page.heard.push({ event, payload }));
    return { page, tell: (...args) => any(...args), answers };
  }

  test('timeout gives up the waiting, not the message', async () => {
    const page = await site.arrived({ userId: 96 });
    await page.emitWithAck('chat:join', { roomId: 'timeout' });
    site.line.cut();
    await isBy(page, 'offline');
    await assert.rejects(page.timeout(50).emitWithAck('chat:message', { roomId: 'timeout', content: 'later' }), /timed out/);
    const error = await new Promise((resolve) => { page.timeout(50).emit('chat:rooms', {}, resolve); });
    assert.match(error.message, /timed out/);
    site.line.mend();
    await emptied(page);
    assert.equal((await site.room('timeout')).length, 1);
    const rooms = await page.timeout(5_000).emitWithAck('chat:rooms', {});
    assert.equal(rooms.ok, true);
  });

  test('what is missing is said at once', () => {
    const whole = { io, url: site.server.url, token: 'x', autoConnect: false };
    for (const [without, message] of [['io', /io is missing/], ['token', /token/], ['url', /url must be/]]) {
      assert.throws(() => connect({ ...whole, [without]: undefined }), message);
    }
  });
});
