// The client SDK goes on: whatever is said of a token, one fresh one is asked for; who is signed out is told so and may come back;
// a cookie is enough; and a storage that fails is told, and changes nothing else.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { all, heard, noLimits, token, until } from './harness.mjs';
import { MemoryStorage, Site, isBy } from './page.mjs';

const admin = { userId: 1, role: 'admin', name: 'Root' };
const now = () => Math.floor(Date.now() / 1_000);
const other = { key: 'another secret, as long as the first one' };

for (const way of ['realtime', 'http']) {
  describe(`tokens, by ${way}`, () => {
    let site;
    before(async () => {
      site = await Site.open();
      if (way === 'http') await site.flip(false);
    });
    after(() => site.close());
    afterEach(() => { for (const page of site.pages) page.disconnect(); });

    const bad = {
      token_malformed: () => 'x',
      token_invalid: () => token({ userId: 7 }, other),
      token_expired: () => token({ userId: 7, exp: now() - 100 }),
      token_not_yet_valid: () => token({ userId: 7, nbf: now() + 1_000 }),
      token_revoked: async () => {
        const jti = `revoked-${way}`;
        await site.call(admin, 'POST', '/admin/tokens/revoke', { jti });
        return token({ userId: 7, jti });
      },
      user_blocked: async () => {
        await site.call(admin, 'POST', `/admin/users/blocked-${way}/block`, {});
        return token({ userId: `blocked-${way}` });
      },
    };
    for (const [code, make] of Object.entries(bad)) {
      test(`after ${code} one fresh token is asked for, and holds`, async () => {
        const [refused, asked] = [await make(), []];
        const page = site.page({}, { getToken: ({ reason }) => { asked.push(reason); return asked.length === 1 ? refused : token({ userId: 7 }); } });
        await isBy(page, way);
        assert.deepEqual(asked, ['connect', code]);
        assert.deepEqual(all(page, 'auth_error'), []);
        assert.ok((await page.emitWithAck('chat:rooms')).ok);
      });

      test(`who gives no better one after ${code} is told once, and comes back by connect()`, async () => {
        const refused = await make();
        let good;
        let asked = 0;
        const page = site.page({}, { getToken: () => { asked += 1; return good ?? refused; } });
        const waits = page.emitWithAck('progress:sync', { lessonId: code, progress: 1 });
        assert.equal((await heard(page, 'auth_error')).code, code);
        assert.deepEqual([page.active, asked], [false, 2]);
        good = token({ userId: 7 });
        page.connect();
        await isBy(page, way);
        assert.equal(all(page, 'auth_error').length, 1);
        // What waited was another one's, where the refused token has named another one.
        assert.equal((await waits).ok || (await waits).error.code === 'user_changed', true, JSON.stringify(await waits));
      });
    }

    test('a key that is retired under a live page is replaced, and nobody notices but the transport', async () => {
      const jti = `live-${way}`;
      const asked = [];
      const page = site.page({}, { getToken: ({ reason }) => { asked.push(reason); return asked.length === 1 ? token({ userId: 7, jti }) : token({ userId: 7 }); } });
      await isBy(page, way);
      await page.emitWithAck('chat:join', { roomId: 'retired' });
      await site.call(admin, 'POST', '/admin/tokens/revoke', { jti });
      await until(() => asked.length === 2, 'a fresh one was asked for');
      assert.ok((await page.emitWithAck('chat:message', { roomId: 'retired', content: 'still here' })).ok);
      assert.deepEqual([asked, all(page, 'auth_error')], [['connect', 'token_revoked'], []]);
    });

    test('a hundred requests that are refused with one token ask for one fresh one', async () => {
      const jti = `many-${way}`;
      const asked = [];
      const page = site.page({}, { getToken: ({ reason }) => { asked.push(reason); return token({ userId: 7, ...(asked.length === 1 ? { jti } : {}) }); } });
      await isBy(page, way);
      await site.call(admin, 'POST', '/admin/tokens/revoke', { jti });
      const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => page.emitWithAck('chat:message', { roomId: `many-${n}`, content: 'x' })));
      assert.ok(answers.every(({ ok }) => ok));
      assert.deepEqual([asked, all(page, 'auth_error')], [['connect', 'token_revoked'], []]);
    });

    test('null is signed out: told, kept, and over when somebody signs in', async () => {
      let who = null;
      let asked = 0;
      const page = site.page({}, { getToken: () => { asked += 1; return who; } });
      await heard(page, 'signed_out');
      assert.deepEqual([page.signedOut, page.active, page.connected, page.transport, asked], [true, false, false, 'offline', 1]);
      const waits = page.emitWithAck('chat:message', { roomId: 'signed-out', content: 'from before' });
      who = token({ userId: `in-${way}` });
      page.connect();
      await isBy(page, way);
      assert.deepEqual([page.signedOut, (await waits).ok], [false, true]);
      // Signed out while it is live: at the end of the token it has.
      who = null;
      await site.call(admin, 'POST', '/admin/tokens/revoke', { userId: `in-${way}` });
      await until(() => page.signedOut, 'it is told');
      assert.deepEqual([all(page, 'signed_out').length, all(page, 'auth_error'), page.active], [2, [], false]);
      // A token that is handed in is a sign-in, too.
      page.emit('auth:refresh', { token: token({ userId: `again-${way}` }) });
      await isBy(page, way);
      assert.deepEqual(all(page, 'authenticated').map(({ userId }) => userId), [`in-${way}`, `again-${way}`]);
    });
  });
}

describe('a cookie alone', () => {
  let site;
  const origin = 'https://portal.example.org';
  before(async () => { site = await Site.open({ env: { ...noLimits, ACADEMY_RT_AUTH_COOKIE_NAME: 'session', ACADEMY_RT_SERVER_CORS_ORIGINS: origin } }); });
  after(() => site.close());
  // What a browser adds by itself.
  const headers = (claims) => ({ origin, cookie: `theme=dark; session=${token(claims)}` });
  const withCookie = (claims) => {
    const credentials = [];
    return {
      cookie: true,
      credentials,
      ioOptions: { extraHeaders: headers(claims) },
      fetch: (url, init) => {
        credentials.push(init.credentials);
        return fetch(url, { ...init, headers: { ...init.headers, ...(init.credentials === 'include' ? headers(claims) : {}) } });
      },
    };
  };

  for (const way of ['realtime', 'http']) {
    test(`signs in, sends, and hears over a gap, by ${way}`, async () => {
      await site.flip(way === 'realtime');
      const claims = { userId: `cookie-${way}` };
      const page = site.page(claims, withCookie(claims));
      await isBy(page, way);
      assert.equal((await heard(page, 'authenticated')).userId, claims.userId);
      assert.ok((await page.emitWithAck('chat:join', { roomId: way })).ok);
      site.line.cut();
      await isBy(page, 'offline');
      const waits = page.emitWithAck('chat:message', { roomId: way, content: 'from a tunnel' });
      await site.call(admin, 'POST', '/notifications', { target: { user: claims.userId }, title: 'T', message: 'M' });
      site.line.mend();
      assert.ok((await waits).ok);
      await heard(page, 'notification:new');
      assert.deepEqual(all(page, 'auth_error'), []);
    });
  }

  test('speaks for no page of another origin, for no page at all, and never as an administrator', async () => {
    await site.flip(true);
    const cookie = `session=${token(admin)}`;
    const ask = async (path, more) => (await site.server.fetch(path, { headers: { cookie, ...more } })).status;
    assert.equal(await ask('/api/v1/session', { origin }), 200);
    assert.equal(await ask('/api/v1/session', { 'sec-fetch-site': 'same-origin' }), 200);
    for (const more of [{}, { origin: 'https://evil.example.org' }, { 'sec-fetch-site': 'cross-site' }, { origin: 'https://evil.example.org', 'sec-fetch-site': 'same-origin' }]) {
      assert.equal(await ask('/api/v1/session', more), 401, JSON.stringify(more));
    }
    assert.equal(await ask('/api/v1/admin/status', { origin }), 401);
    // A header that says who asks is believed before a cookie.
    assert.equal(await ask('/api/v1/session', { origin, authorization: 'Bearer x' }), 401);
  });
});

describe('a storage', () => {
  let site;
  before(async () => { site = await Site.open(); });
  after(() => site.close());
  const sends = async (page) => assert.ok((await page.emitWithAck('progress:sync', { lessonId: 1, progress: 1 })).ok);
  const thrown = (name) => Object.assign(new Error('no'), { name });

  for (const [what, reason, storage] of [
    ['that is missing', 'missing', undefined],
    ['that is null', 'missing', null],
    ['that throws at the first look', 'refused', () => { throw thrown('SecurityError'); }],
    ['that throws at every use', 'refused', new Proxy({}, { get: () => { throw thrown('SecurityError'); } })],
    ['that may be read alone', 'refused', Object.assign(new MemoryStorage(), { setItem: () => { throw thrown('NoModificationAllowedError'); } })],
    ['that is full', 'full', Object.assign(new MemoryStorage(), { setItem: () => { throw thrown('QuotaExceededError'); } })],
    ['that is full, in Firefox', 'full', Object.assign(new MemoryStorage(), { setItem: () => { throw thrown('NS_ERROR_DOM_QUOTA_REACHED'); } })],
  ]) {
    test(`${what} is told, and it goes on in memory`, async () => {
      const page = site.page({ userId: `storage-${reason}` }, { storage });
      await isBy(page, 'realtime');
      await sends(page);
      assert.deepEqual([page.persistent, all(page, 'storage').at(-1)], [false, { persistent: false, reason }]);
      site.line.cut();
      await isBy(page, 'offline');
      const waits = page.emitWithAck('chat:message', { roomId: 's', content: what });
      site.line.mend();
      assert.ok((await waits).ok);
    });
  }

  test('that nobody asked for is no news, and one that works is told as such', async () => {
    const without = site.page({ userId: 1 });
    await isBy(without, 'realtime');
    await sends(without);
    assert.deepEqual([without.persistent, all(without, 'storage')], [false, []]);
    const page = site.page({ userId: 2 }, { storage: () => new MemoryStorage() });
    await isBy(page, 'realtime');
    assert.deepEqual([page.persistent, all(page, 'storage')], [true, [{ persistent: true }]]);
  });

  test('that has room again takes what it did not take, and says so', async () => {
    const storage = new MemoryStorage();
    const { setItem } = MemoryStorage.prototype;
    let room = 3;
    storage.setItem = (key, value) => {
      if (key.includes(':outbox:') && storage.getItem(key) === null && storage.waiting >= room) throw thrown('QuotaExceededError');
      setItem.call(storage, key, value);
    };
    const claims = { userId: 'room-again' };
    const page = await site.arrived(claims, { storage });
    site.line.cut();
    await isBy(page, 'offline');
    for (let n = 1; n <= 5; n += 1) page.emit('chat:message', { roomId: 'again', content: String(n) });
    assert.deepEqual([storage.waiting, page.persistent], [3, false]);
    assert.equal(all(page, 'request:error').filter(({ code }) => code === 'not_persisted').length, 2);
    room = 10;
    site.line.mend();
    await until(() => page.pending === 0, 'it is sent');
    assert.deepEqual([page.persistent, storage.waiting], [true, 0]);
    assert.deepEqual((await site.room('again')).map(({ content }) => content), ['1', '2', '3', '4', '5']);
  });
});
