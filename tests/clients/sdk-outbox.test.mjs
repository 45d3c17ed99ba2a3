// The outbox of the client SDK belongs to a server and a user, and has an order: two servers, two tabs, two clocks and one storage.
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';
import { all, heard, until } from './harness.mjs';
import { Line } from './line.mjs';
import { MemoryStorage, Site, isBy } from './page.mjs';

const admin = { userId: 1, role: 'admin', name: 'Root' };
const emptied = (page) => until(() => page.pending === 0, 'the outbox is empty', 60_000);
const contents = async (site, room) => (await site.room(room)).map(({ content }) => content);

describe('a server', () => {
  let [one, two] = [];
  before(async () => { [one, two] = await Promise.all([Site.open(), Site.open()]); });
  after(() => Promise.all([one.close(), two.close()]));

  test('says who it is, alike by both ways, and a restart changes nothing', async () => {
    const { storeId } = await one.call({ userId: 7 }, 'GET', '/session');
    assert.match(storeId, /^[0-9a-f]{32}$/);
    const page = await one.arrived({ userId: 7 });
    assert.equal((await heard(page, 'authenticated')).storeId, storeId);
    assert.notEqual((await two.call({ userId: 7 }, 'GET', '/session')).storeId, storeId);
    await one.server.halt();
    await one.server.launch();
    assert.equal((await one.call({ userId: 7 }, 'GET', '/session')).storeId, storeId);
    page.disconnect();
  });

  test('does not get what was written for another one, though user and storage are the same', async () => {
    const storage = new MemoryStorage();
    const claims = { userId: 'two-servers' };
    const first = await one.arrived(claims, { storage });
    one.line.cut();
    await isBy(first, 'offline');
    first.emit('chat:message', { roomId: 'own', content: 'for one' });
    first.disconnect();
    const second = await two.arrived(claims, { storage });
    assert.ok((await second.emitWithAck('chat:message', { roomId: 'own', content: 'for two' })).ok);
    await emptied(second);
    assert.deepEqual(await contents(two, 'own'), ['for two']);
    assert.equal(storage.waiting, 1);
    one.line.mend();
    const third = await one.arrived(claims, { storage });
    await emptied(third);
    assert.deepEqual(await contents(one, 'own'), ['for one']);
    assert.equal(storage.waiting, 0);
  });

  test('that is another one at the same address gets nothing of what was written for the one before', async () => {
    const site = await Site.open();
    try {
      const storage = new MemoryStorage();
      const claims = { userId: 7 };
      const page = await site.arrived(claims, { storage });
      await site.server.halt();
      rmSync(site.server.data, { recursive: true });
      await isBy(page, 'offline');
      const waits = page.emitWithAck('chat:message', { roomId: 'own', content: 'for the one before' });
      await site.server.launch();
      await isBy(page, 'realtime');
      assert.equal((await waits).error.code, 'server_changed');
      assert.ok((await page.emitWithAck('chat:message', { roomId: 'own', content: 'for this one' })).ok);
      page.disconnect();
      const next = await site.arrived(claims, { storage });
      await next.emitWithAck('chat:rooms');
      assert.deepEqual(await contents(site, 'own'), ['for this one']);
      assert.equal(storage.waiting, 1, 'it is kept for the one before');
    } finally {
      await site.close();
    }
  });

  test('that was never met gets what was written before the first answer, also by a page that was closed', async () => {
    const storage = new MemoryStorage();
    one.line.cut();
    const first = one.page({ userId: 'never-met' }, { storage });
    first.emit('chat:message', { roomId: 'never-met', content: 'first page' });
    await isBy(first, 'offline');
    await until(() => storage.waiting === 1, 'it is kept');
    first.disconnect();
    const second = one.page({ userId: 'never-met' }, { storage });
    second.emit('chat:message', { roomId: 'never-met', content: 'second page' });
    await until(() => second.pending === 2, 'it waits');
    one.line.mend();
    await emptied(second);
    assert.deepEqual(await contents(one, 'never-met'), ['first page', 'second page']);
    assert.equal(storage.waiting, 0);
  });
});

describe('the order', () => {
  let site;
  let line;
  before(async () => {
    site = await Site.open();
    line = await Line.to(site.server.port);
  });
  after(async () => {
    await line.close();
    await site.close();
  });
  const { now: real } = Date;
  afterEach(() => {
    Date.now = real;
    site.line.mend();
    line.mend();
  });

  /** Two tabs on one storage, each on a line of its own; a message of theirs is in the room. */
  async function tabs(roomId) {
    const storage = new MemoryStorage();
    const claims = { userId: roomId };
    const a = await site.arrived(claims, { storage });
    const { id } = await a.emitWithAck('chat:message', { roomId, content: 'first' });
    const open = async () => {
      const b = site.page(claims, { storage, url: `http://127.0.0.1:${line.port}` });
      await isBy(b, 'realtime');
      return b;
    };
    const edit = (page, content) => page.emitWithAck('chat:edit', { roomId, messageId: id, content });
    return { storage, claims, a, open, edit, roomId, id };
  }

  test('is that of a counter, whatever the clock does', async () => {
    const { storage, claims, a, roomId } = await tabs('clock');
    site.line.cut();
    await isBy(a, 'offline');
    a.emit('chat:message', { roomId, content: 'second' });
    a.disconnect();
    Date.now = () => real() - 86_400_000;
    const b = site.page(claims, { storage });
    await until(() => b.pending === 1, 'it is read');
    b.emit('chat:message', { roomId, content: 'third, by a clock that was set back' });
    b.disconnect();
    Date.now = () => real() + 1_000;
    const c = site.page(claims, { storage });
    await until(() => c.pending === 2, 'they are read');
    c.emit('chat:message', { roomId, content: 'fourth' });
    site.line.mend();
    await emptied(c);
    assert.deepEqual(await contents(site, roomId), ['first', 'second', 'third, by a clock that was set back', 'fourth']);
  });

  test('holds where a second tab has sent an older edit, and a newer one: the older is not sent again', async () => {
    const { storage, a, open, edit, roomId } = await tabs('older');
    site.line.cut();
    await isBy(a, 'offline');
    const older = edit(a, 'older');
    const said = a.emitWithAck('chat:message', { roomId, content: 'beside it' });
    const b = await open();
    await emptied(b);
    assert.ok((await edit(b, 'newer')).ok);
    site.line.mend();
    assert.equal((await older).error.code, 'sent_elsewhere');
    assert.deepEqual([(await said).ok, (await said).duplicate], [true, true], 'a key tells that it was stored');
    assert.deepEqual(await contents(site, roomId), ['newer', 'beside it']);
    assert.deepEqual([storage.waiting, all(a, 'request:error'), all(b, 'request:error')], [0, [], []]);
  });

  test('holds where a tab that is open has not read what another one has added', async () => {
    const { storage, a, open, edit, roomId } = await tabs('added');
    const b = await open();
    site.line.cut();
    await isBy(a, 'offline');
    const older = edit(a, 'older');
    assert.ok((await edit(b, 'newer')).ok);
    site.line.mend();
    await older;
    await emptied(a);
    assert.deepEqual(await contents(site, roomId), ['newer']);
    assert.equal(storage.waiting, 0);
  });

  test('holds for what nobody waits for: no error is told of what another tab has sent', async () => {
    const { a, open, edit, roomId, id } = await tabs('silent');
    site.line.cut();
    await isBy(a, 'offline');
    a.emit('chat:edit', { roomId, messageId: id, content: 'older' });
    a.emit('chat:delete', { roomId, messageId: (await site.call({ userId: roomId }, 'POST', `/rooms/${roomId}/messages`, { content: 'goes' })).id });
    const b = await open();
    await emptied(b);
    assert.ok((await edit(b, 'newer')).ok);
    site.line.mend();
    await emptied(a);
    assert.deepEqual(await contents(site, roomId), ['newer', '']);
    assert.deepEqual(all(a, 'request:error'), []);
  });

  test('a storage that somebody empties takes nothing away from what waits in memory', async () => {
    const { storage, a, edit, roomId } = await tabs('emptied');
    site.line.cut();
    await isBy(a, 'offline');
    const waits = edit(a, 'waits');
    while (storage.length > 0) storage.removeItem(storage.key(0));
    site.line.mend();
    assert.ok((await waits).ok);
    assert.deepEqual(await contents(site, roomId), ['waits']);
    assert.equal(storage.waiting, 0);
  });

  test('with Web Locks, one tab sends at a time, and one that hangs holds nobody up for good', async () => {
    // As browsers have them, for one name at a time.
    const queues = new Map();
    const asked = [];
    const request = (name, { signal }, work) => {
      asked.push(name);
      const before = queues.get(name) ?? Promise.resolve();
      const given = Promise.race([before, new Promise((_, reject) => { signal.addEventListener('abort', () => reject(new Error('AbortError'))); })]);
      const done = given.then(() => work());
      queues.set(name, done.catch(() => before));
      return done;
    };
    const had = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
    Object.defineProperty(globalThis, 'navigator', { value: { locks: { request } }, configurable: true });
    try {
      const { a, open, edit, roomId } = await tabs('locks');
      const b = await open();
      // The first one's answers do not come: it is sending.
      site.line.state = 'deaf';
      const older = edit(a, 'older');
      await until(async () => (await contents(site, roomId))[0] === 'older', 'it is stored');
      const newer = edit(b, 'newer');
      assert.ok((await newer).ok);
      site.line.mend();
      await older;
      await emptied(a);
      assert.deepEqual(await contents(site, roomId), ['newer']);
      assert.ok(asked.some((name) => name.includes('locks')), String(asked));
    } finally {
      if (had) Object.defineProperty(globalThis, 'navigator', had);
      else delete globalThis.navigator;
    }
  });
});

test('"all are read" is up to what the page could see, also where it was told a number alone, or nothing', async () => {
  const site = await Site.open();
  try {
    const claims = { userId: 'reads' };
    const notify = async (message) => (await site.call(admin, 'POST', '/notifications', { target: { user: claims.userId }, title: 'T', message })).id;
    const unread = async () => (await site.call(claims, 'GET', '/notifications')).items.filter(({ read }) => !read).map(({ message }) => message).reverse();
    await site.arrived(claims);
    await notify('1');
    await heard([...site.pages][0], 'notification:new');
    // The server has delivered it: the next page is told how many there are.
    const page = await site.arrived(claims);
    assert.deepEqual([(await heard(page, 'authenticated')).unread, all(page, 'notification:new')], [1, []]);
    await page.emitWithAck('chat:rooms');
    site.line.cut();
    await isBy(page, 'offline');
    const read = page.emitWithAck('notification:read', { all: true });
    await notify('2');
    site.line.mend();
    assert.ok((await read).ok);
    assert.deepEqual(await unread(), ['2']);
    // A page that has never been told anything has seen nothing.
    site.line.cut();
    const blind = site.page(claims);
    const nothing = blind.emitWithAck('notification:read', { all: true });
    site.line.mend();
    assert.ok((await nothing).ok);
    assert.deepEqual(await unread(), ['2']);
    assert.ok((await blind.emitWithAck('notification:read', { all: true })).ok);
    assert.deepEqual(await unread(), []);
  } finally {
    await site.close();
  }
});
