// Lists come in pages that are bounded in items and in bytes: nothing is left out or told twice, and what is asked wrongly is named.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Appliance, noLimits, token } from './harness.mjs';

const MIB = 1 << 20;
let server;
const ann = token();
const coach = token({ userId: 'coach', role: 'coach', name: 'Coach' });
const service = token({ userId: 'svc', role: 'admin', name: 'Service' });

before(async () => { server = await Appliance.start({ env: { ...noLimits } }); });
after(() => server.stop());

async function ask(path, { as = ann, method = 'GET', body } = {}) {
  const headers = { authorization: `Bearer ${as}`, ...(body ? { 'content-type': 'application/json' } : {}) };
  const response = await fetch(`${server.url}/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  return { status: response.status, bytes: Buffer.byteLength(text), answer: JSON.parse(text) };
}

const good = async (path, options) => {
  const { status, bytes, answer } = await ask(path, options);
  assert.equal(status, 200, `${path}: ${JSON.stringify(answer).slice(0, 300)}`);
  assert.ok(bytes <= MIB, `${path}: ${bytes} bytes`);
  return answer;
};

/** All items of a list, page by page. */
async function walk(path, list, next, options) {
  const [items, pages] = [[], []];
  for (let query = '', answer; ; query = next(answer)) {
    answer = await good(`${path}${path.includes('?') ? '&' : '?'}${query}`, options);
    assert.ok(answer[list].length > 0 || items.length === 0, 'each page has something');
    items.push(...answer[list]);
    pages.push(answer[list].length);
    if (!answer.hasMore) return { items, pages, last: answer };
  }
}

const enc = encodeURIComponent;

test('progress:get gives pages in the order of the last change, and goes on with since', async () => {
  const reports = Array.from({ length: 500 }, (_, n) => ({ lessonId: n, progress: 10, courseId: n % 2 ? 'odd' : 'even' }));
  await good('/progress', { method: 'POST', body: reports });
  await good('/progress', { method: 'POST', body: reports.slice(0, 100).map(({ lessonId }) => ({ lessonId: lessonId + 500, progress: 1 })) });
  await good('/progress', { method: 'POST', body: { lessonId: 3, progress: 20 } });
  const order = [...Array.from({ length: 600 }, (_, n) => n).filter((n) => n !== 3), 3];
  const since = ({ cursor }) => `since=${enc(cursor)}`;
  const all = await walk('/progress', 'items', since);
  assert.deepEqual(all.items.map(({ lessonId }) => lessonId), order);
  assert.deepEqual(all.pages, [500, 100]);
  assert.deepEqual((await walk('/progress?limit=7', 'items', since)).items.map(({ lessonId }) => lessonId), order);
  const odd = await walk('/progress?limit=100&courseId=odd', 'items', since);
  assert.equal(odd.items.length, 250);
  assert.deepEqual((await good(`/progress?since=${enc(all.last.cursor)}`)).items, []);
});

test('chat:rooms gives the latest activity first, and goes on with after', async () => {
  for (let n = 0; n < 25; n += 1) await good(`/rooms/list-${n}/messages`, { method: 'POST', body: { content: 'x' } });
  await good('/rooms/list-3/messages', { method: 'POST', body: { content: 'again' } });
  // Rooms without a message come last, by their names, and a page may begin or end among them.
  for (const n of [2, 1, 3]) await ask('/admin/rooms', { as: service, method: 'POST', body: { roomId: `empty-${n}`, members: [7] } });
  const whole = (await good('/rooms')).rooms.map(({ roomId }) => roomId);
  assert.equal(whole[0], 'list-3');
  assert.equal(whole.filter((room) => String(room).startsWith('list-')).length, 25);
  assert.deepEqual(whole.slice(-3), ['empty-1', 'empty-2', 'empty-3']);
  const paged = await walk('/rooms?limit=4', 'rooms', ({ cursor }) => `after=${enc(cursor)}`);
  assert.deepEqual(paged.items.map(({ roomId }) => roomId), whole);
  assert.equal(paged.last.cursor, undefined, 'at the end there is nowhere to go on');
  // A room that moves to the front is not waited for, and moves nothing else.
  const first = await good('/rooms?limit=4');
  await good('/rooms/list-0/messages', { method: 'POST', body: { content: 'moves' } });
  const second = await good(`/rooms?limit=4&after=${enc(first.cursor)}`);
  assert.deepEqual(second.rooms.map(({ roomId }) => roomId), whole.slice(4, 8));
});

test('presence:list gives the users by id, and goes on with after', async () => {
  const ids = Array.from({ length: 12 }, (_, n) => `p-${String(n).padStart(2, '0')}`);
  for (const userId of ids) await good('/events?room=busy', { as: token({ userId, name: userId }) });
  await good('/events?room=busy');
  const all = await good('/rooms/busy/presence');
  assert.deepEqual([all.total, all.hasMore], [13, false]);
  assert.deepEqual(all.users.map(({ userId }) => userId), [7, ...ids]);
  const paged = await walk('/rooms/busy/presence?limit=5', 'users', ({ users }) => `after=${enc(users.at(-1).userId)}`);
  assert.deepEqual([paged.items.map(({ userId }) => userId), paged.pages, paged.last.total], [[7, ...ids], [5, 5, 3], 13]);
});

test('over a socket they are asked in the same way, and nothing has to be said', async () => {
  const socket = await server.signedIn(ann);
  const bare = await socket.emitWithAck('chat:rooms');
  assert.ok(bare.ok && bare.hasMore === false, JSON.stringify(bare).slice(0, 200));
  for (const nothing of ['', null, 7]) assert.ok((await socket.emitWithAck('chat:rooms', nothing)).ok);
  const page = await socket.emitWithAck('chat:rooms', { limit: 2 });
  const next = await socket.emitWithAck('chat:rooms', { limit: 2, after: page.cursor });
  assert.deepEqual([...page.rooms, ...next.rooms], bare.rooms.slice(0, 4));
  await socket.emitWithAck('chat:join', 'busy');
  const [some, rest] = [await socket.emitWithAck('presence:list', { roomId: 'busy', limit: 1 }), await socket.emitWithAck('presence:list', { roomId: 'busy', after: 7 })];
  assert.deepEqual([some.users[0].userId, some.hasMore, rest.users.length, rest.hasMore], [7, true, 12, false]);
  assert.equal((await socket.emitWithAck('presence:list', 'busy')).total, 13);
  for (const [event, payload, field] of [
    ['chat:rooms', { limit: 0 }, 'limit'], ['chat:rooms', { limit: 'x' }, 'limit'], ['chat:rooms', { after: 7 }, 'after'],
    ['presence:list', { roomId: 'busy', limit: 1_001 }, 'limit'], ['presence:list', { roomId: 'busy', after: {} }, 'after'],
    ['progress:get', { limit: 0 }, 'limit'], ['progress:get', { limit: -1 }, 'limit'],
  ]) {
    const { ok, error } = await socket.emitWithAck(event, payload);
    assert.deepEqual([ok, error?.code, error?.field], [false, 'invalid_payload', field], `${event} ${JSON.stringify(payload)}`);
  }
  socket.close();
});

test('what is asked wrongly is named', async () => {
  for (const path of ['/progress', '/rooms', '/rooms/busy/presence']) {
    for (const limit of [0, 1_001, 'x', -1, 1.5]) {
      const { status, answer } = await ask(`${path}?limit=${limit}`);
      assert.deepEqual([status, answer.error.code, answer.error.field], [400, 'invalid_payload', 'limit'], `${path} ${limit}`);
    }
  }
  const { cursor } = await good('/rooms?limit=1');
  for (const [as, after] of [[coach, cursor], [ann, `${cursor}0`], [ann, 'elsewhere']]) {
    const { status, answer } = await ask(`/rooms?after=${enc(after)}`, { as });
    assert.deepEqual([status, answer.error.code], [410, 'resync'], after);
  }
  assert.equal((await ask(`/progress?since=${enc(cursor)}`)).answer.error.code, 'resync', 'a cursor of another list');
});

const poll = async (room, cursor) => {
  const ids = [];
  for (let place = cursor, polls = 0; ; polls += 1) {
    const polled = await good(`/events?room=${room}&cursor=${enc(place)}`);
    if (polled.events.length === 0) return { ids, polls };
    ids.push(...polled.events.filter(({ event }) => event === 'chat:message').map(({ payload }) => payload.id));
    place = polled.cursor;
  }
};

test('an answer has at most 1 MiB, and what does not fit comes with the next page', async () => {
  // A character of control is one character of content, and six bytes of JSON.
  const content = `x${'\u0001'.repeat(3_999)}`;
  const { cursor } = await good('/events?room=wide');
  const ids = [];
  for (let n = 0; n < 100; n += 1) ids.push((await good('/rooms/wide/messages', { method: 'POST', body: { content } })).id);
  const path = '/rooms/wide/messages?limit=200';
  const on = await walk(`${path}&after=${ids[0]}`, 'messages', ({ messages }) => `after=${messages.at(-1).id}`);
  assert.deepEqual(on.items.map(({ id }) => id), ids.slice(1));
  assert.ok(on.pages.length > 2, String(on.pages));
  // The latest come first: one goes back from there.
  const back = [];
  for (let query = '', page; ; query = `&before=${page.messages[0].id}`) {
    page = await good(`${path}${query}`);
    back.unshift(...page.messages.map(({ id }) => id));
    if (!page.hasMore) break;
  }
  assert.deepEqual(back, ids);
  const joined = await good('/rooms/wide/join', { method: 'POST', body: { limit: 200, after: ids[0] } });
  assert.ok(joined.hasMore && joined.messages[0].id === ids[1]);
  const latest = await good('/rooms/wide/join', { method: 'POST', body: { limit: 200 } });
  assert.ok(latest.hasMore && latest.messages.at(-1).id === ids.at(-1));
  const socket = await server.signedIn(ann);
  const over = await socket.emitWithAck('chat:join', { roomId: 'wide', limit: 200 });
  assert.ok(over.ok && over.hasMore && over.messages.at(-1).id === ids.at(-1) && socket.connected);
  socket.close();
  // From the feed, and over a restart from the store.
  const fed = await poll('wide', cursor);
  assert.ok(fed.polls > 2, String(fed.polls));
  assert.deepEqual(fed.ids, ids);
  await server.halt();
  await server.launch();
  assert.deepEqual((await poll('wide', cursor)).ids, ids);

  const metadata = { deep: 'x'.repeat(16_000) };
  for (let n = 0; n < 90; n += 1) {
    await good('/notifications', { as: service, method: 'POST', body: { target: { user: 7 }, title: 't', message: 'm', metadata } });
  }
  const inbox = await walk('/notifications?limit=200', 'items', ({ items }) => `before=${items.at(-1).id}`);
  assert.equal(inbox.items.length, 90);
  assert.ok(inbox.pages.length > 1, String(inbox.pages));
});

test('what was missed in many rooms is told in one order, in parts', async () => {
  const rooms = Array.from({ length: 100 }, (_, n) => `many-${n}`);
  const query = `rooms=${rooms.join(',')}`;
  const { cursor } = await good(`/events?${query}`);
  const ids = [];
  for (let n = 0; n < 600; n += 1) ids.push((await good(`/rooms/${rooms[(n * 37) % 100]}/messages`, { method: 'POST', body: { content: `${n}` } })).id);
  await server.halt();
  await server.launch();
  const heard = [];
  for (let place = cursor; ;) {
    const polled = await good(`/events?${query}&cursor=${enc(place)}`);
    if (polled.events.length === 0) break;
    assert.ok(polled.events.length <= 500);
    heard.push(...polled.events.filter(({ event }) => event === 'chat:message').map(({ payload }) => payload.id));
    place = polled.cursor;
  }
  assert.deepEqual(heard, ids);
});
