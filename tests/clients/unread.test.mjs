// Posting, unread counts and the inbox (issue 13, sections 5.1, 5.2, 5.3 and 5.6). Posting needs access, not a join. Unread
// counts what can be read: no deleted message, nothing of before the first join, no room that was left. One's own post moves
// the own mark, and the user's other sockets hear of it. A notification to a role reaches who gets the role later; "read all"
// means what one can see, up to `upTo`. A page of history is the range between `after` and `before`.
// UNREAD_SEED repeats the choices of the random test, UNREAD_STEPS says how many there are.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { joinedTo, say } from './acts.mjs';
import { Appliance, all, ask, assertRising, dice, heard, noLimits, token, until } from './harness.mjs';

const ADMIN = { userId: 1, role: 'admin' };
const WAYS = ['websocket', 'polling'];
const seed = Number(process.env.UNREAD_SEED ?? Math.floor(Math.random() * 2 ** 31));
const STEPS = Number(process.env.UNREAD_STEPS ?? 300);

let server;
before(async () => { server = await Appliance.start({ env: noLimits }); });
after(() => server.stop());

const http = (claims, method, path, body) => server.fetch(`/api/v1${path}`, { claims, method, body });

const joined = (roomId, claims, transport) => joinedTo(server, roomId, claims, transport);
const post = (claims, roomId, content = 'x') => say(server, claims, roomId, content);

const contents = async (roomId) => (await http(ADMIN, 'GET', `/rooms/${roomId}/messages?limit=200`)).json.messages.map(({ content }) => content);
const remove = (claims, roomId, id) => http(claims, 'DELETE', `/rooms/${roomId}/messages/${id}`).then(({ status }) => assert.equal(status, 200));

/** The row of a room in the list of somebody's rooms, the same over HTTP and on a socket. */
async function row(claims, roomId, socket) {
  const find = (rooms) => rooms.find((room) => room.roomId === roomId);
  const found = find((await http(claims, 'GET', '/rooms')).json.rooms);
  if (socket) assert.deepEqual(find((await ask(socket, 'chat:rooms', {})).rooms), found);
  return found;
}
const unread = async (...args) => (await row(...args))?.unread;

/** All sockets of a user have gone, and the server knows. */
async function away(userId, ...sockets) {
  for (const socket of sockets) socket.disconnect();
  await until(async () => (await http(ADMIN, 'GET', `/admin/users/${userId}`)).json.sockets === 0, `${userId} has no socket`);
}

describe('posting needs access, not a join', () => {
  for (const transport of WAYS) {
    test(`a socket that has joined nothing posts; typing and presence still ask for the join (${transport})`, async () => {
      const roomId = `unjoined-${transport}`;
      const [ann, bob] = [await server.signedIn({ userId: 100, name: 'Ann' }, { transports: [transport] }), await joined(roomId, { userId: 101 }, transport)];
      const ack = await ask(ann, 'chat:message', { roomId, content: 'at once' });
      assert.deepEqual([ack.ok, ack.seq], [true, 1], JSON.stringify(ack));
      const said = await heard(bob, 'chat:message', (one) => one.id === ack.id);
      assert.deepEqual([said.senderId, said.senderName, said.content, said.type], [100, 'Ann', 'at once', 'text']);
      for (const [event, payload] of [['chat:typing', { roomId, isTyping: true }], ['presence:list', { roomId }]]) {
        assert.equal((await ask(ann, event, payload)).error?.code, 'not_joined', event);
      }
      // Joining is for receiving: what comes before it is not heard, what comes behind it is.
      assert.equal((await ask(ann, 'chat:join', { roomId })).ok, true);
      const marker = await post({ userId: 101 }, roomId, 'marker');
      await heard(ann, 'chat:message', (one) => one.id === marker);
      assert.deepEqual(all(ann, 'chat:message').map(({ id }) => id), [marker]);
    });

    test(`a stranger to a private room is forbidden to post into it, and not told to join (${transport})`, async () => {
      const roomId = `private-${transport}`;
      await http(ADMIN, 'POST', '/admin/rooms', { roomId, private: true });
      const socket = await server.signedIn({ userId: 102 }, { transports: [transport] });
      assert.equal((await ask(socket, 'chat:message', { roomId, content: 'x' })).error?.code, 'forbidden');
      socket.emit('chat:message', { roomId, content: 'x' });
      assert.equal((await heard(socket, 'request:error')).code, 'forbidden');
      await http(ADMIN, 'PUT', `/admin/rooms/${roomId}/members/102`, {});
      assert.equal((await ask(socket, 'chat:message', { roomId, content: 'admitted' })).ok, true);
      assert.deepEqual(await contents(roomId), ['admitted']);
    });

    test(`what a stock client has buffered before it ever connected is stored, in order (${transport})`, async () => {
      const roomId = `buffer-${transport}`;
      const socket = server.client({ userId: 103 }, { transports: [transport], autoConnect: false });
      for (let n = 0; n < 10; n += 1) socket.emit('chat:message', { roomId, content: `m${n}` });
      const last = socket.timeout(20_000).emitWithAck('chat:message', { roomId, content: 'last' });
      socket.connect();
      assert.equal((await last).ok, true, JSON.stringify(await last));
      assert.deepEqual(await contents(roomId), [...Array.from({ length: 10 }, (_, n) => `m${n}`), 'last']);
      assert.deepEqual(all(socket, 'request:error'), []);
    });
  }

  test('what a stock client has buffered while the server was away is stored before any rejoin, in order', async () => {
    const own = await Appliance.start({ env: noLimits });
    try {
      for (const transport of WAYS) {
        const roomId = `restart-${transport}`;
        const socket = await own.signedIn({ userId: 104 }, { transports: [transport], reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 100 });
        assert.ok((await ask(socket, 'chat:join', { roomId })).ok && (await ask(socket, 'chat:message', { roomId, content: 'before' })).ok);
        await own.kill();
        await until(() => !socket.connected, 'the client has noticed');
        for (let n = 0; n < 10; n += 1) socket.emit('chat:message', { roomId, content: `m${n}` });
        const last = socket.timeout(20_000).emitWithAck('chat:message', { roomId, content: 'last' });
        await own.launch();
        assert.equal((await last).ok, true, JSON.stringify(await last));
        const { messages } = (await own.fetch(`/api/v1/rooms/${roomId}/messages`, { claims: ADMIN })).json;
        assert.deepEqual(messages.map(({ content }) => content), ['before', ...Array.from({ length: 10 }, (_, n) => `m${n}`), 'last']);
        assertRising(messages.map(({ seq }) => seq));
        socket.disconnect();
      }
    } finally {
      await own.stop();
    }
  });
});

describe('unread counts what can be read', () => {
  const BOB = { userId: 110 };

  test('deleted messages do not count, whether one of them or all; a deletion of what was read changes nothing', async () => {
    const roomId = 'deleted';
    const ann = await joined(roomId, { userId: 111 });
    const ids = [];
    for (let n = 0; n < 10; n += 1) ids.push(await post(BOB, roomId, `m${n}`));
    const is = async (count, what) => assert.equal(await unread({ userId: 111 }, roomId, ann), count, what);
    await is(10, 'ten messages');
    await remove(BOB, roomId, ids[9]);
    await is(9, 'the last is deleted');
    await remove(BOB, roomId, ids[4]);
    await is(8, 'one in the middle is deleted');
    await ask(ann, 'chat:read', { roomId, messageId: ids[4] });
    await is(4, 'read up to a deleted one: 5, 6, 7, 8 are left');
    await remove(BOB, roomId, ids[1]);
    await remove(BOB, roomId, ids[0]);
    await is(4, 'what was read is not counted down');
    for (const n of [5, 6, 7]) await remove(BOB, roomId, ids[n]);
    await is(1, 'only 8 is left');
    await http(BOB, 'PATCH', `/rooms/${roomId}/messages/${ids[8]}`, { content: 'edited' });
    await is(1, 'an edit is no message');
    await ask(ann, 'chat:read', { roomId, messageId: ids[9] });
    await is(0, 'read up to the deleted end');
    await remove(BOB, roomId, ids[8]);
    await is(0, 'nothing is below nothing');
  });

  test('of many messages, reads and deletions in any order, the count is that of the messages to be read', async () => {
    const roomId = 'shuffled';
    const claims = { userId: 112 };
    const socket = await joined(roomId, claims, 'polling');
    const [messages, roll] = [[], dice(seed)];
    let mark = 0;
    for (let n = 0; n < 120; n += 1) {
      const one = messages[Math.floor(roll() * messages.length)];
      const kind = roll();
      if (kind < 0.5 || !one) messages.push({ id: await post(kind < 0.05 ? claims : BOB, roomId), isOwn: kind < 0.05, isDeleted: false });
      else if (kind < 0.85 && !one.isDeleted) {
        await remove(ADMIN, roomId, one.id);
        one.isDeleted = true;
      } else if (kind < 0.9) {
        mark = Math.max(mark, one.id);
        await ask(socket, 'chat:read', { roomId, messageId: one.id });
      }
      for (const { id, isOwn } of messages.slice(-1)) if (isOwn) mark = Math.max(mark, id);
      const expected = messages.filter(({ id, isDeleted }) => !isDeleted && id > mark).length;
      // A room is listed once it has a message.
      assert.equal(await unread(claims, roomId, socket) ?? 0, expected, `step ${n}, seed ${seed}`);
    }
  });

  for (const way of [...WAYS, 'http']) {
    test(`a room's past before one's first join does not count, and its deletion neither (${way})`, async () => {
      const roomId = `past-${way}`;
      const claims = { userId: `new-${way}` };
      const past = [];
      for (let n = 0; n < 6; n += 1) past.push(await post(BOB, roomId, `past ${n}`));
      if (way === 'http') assert.equal((await http(claims, 'POST', `/rooms/${roomId}/join`, {})).status, 200);
      else await joined(roomId, claims, way);
      assert.equal(await unread(claims, roomId), 0, 'the past');
      await post(BOB, roomId, 'one');
      await remove(BOB, roomId, past[2]);
      await post(BOB, roomId, 'two');
      assert.equal(await unread(claims, roomId), 2);
      if (way === 'http') await http(claims, 'POST', `/rooms/${roomId}/join`, {});
      else await joined(roomId, claims, way);
      assert.equal(await unread(claims, roomId), 2, 'a second join is no first one');
    });
  }

  test('a room that was left is not listed, with the last of the sockets; it comes back by a join or an own message, not by others', async () => {
    const roomId = 'left';
    const claims = { userId: 113 };
    const [laptop, phone] = [await joined(roomId, claims), await joined(roomId, claims, 'polling')];
    await post(BOB, roomId, 'hello');
    assert.equal(await unread(claims, roomId, laptop), 1);
    await ask(phone, 'chat:leave', { roomId });
    assert.equal(await unread(claims, roomId, laptop), 1, 'the laptop is still in it');
    await ask(laptop, 'chat:leave', { roomId });
    assert.equal(await row(claims, roomId, laptop), undefined);
    await post(BOB, roomId, 'still there?');
    assert.equal(await row(claims, roomId, laptop), undefined, 'a guest is not called back');
    await ask(phone, 'chat:join', { roomId });
    assert.ok(await row(claims, roomId, laptop), 'a join');
    await ask(phone, 'chat:leave', { roomId });
    assert.equal(await row(claims, roomId, phone), undefined);
    await post(claims, roomId, 'mine');
    assert.equal(await unread(claims, roomId, phone), 0, 'an own message');
    assert.equal((await http(claims, 'POST', `/rooms/${roomId}/leave`, {})).status, 200);
    assert.equal(await row(claims, roomId, phone), undefined, 'left over HTTP');
    assert.equal((await ask(laptop, 'chat:message', { roomId, content: 'mine, too' })).ok, true);
    assert.equal(await unread(claims, roomId, phone), 0, 'an own message of a socket that is not in it');
    laptop.disconnect();
    await away(113, laptop, phone);
    assert.ok(await row(claims, roomId), 'who goes offline has not left');
  });

  test('a room that an admitted member has left comes back by the next message in it, unread', async () => {
    const roomId = 'members';
    const claims = { userId: 114 };
    await http(ADMIN, 'POST', '/admin/rooms', { roomId, private: true });
    for (const userId of [110, 114]) await http(ADMIN, 'PUT', `/admin/rooms/${roomId}/members/${userId}`, {});
    const socket = await joined(roomId, claims);
    await ask(socket, 'chat:read', { roomId, messageId: await post(BOB, roomId, 'one') });
    await ask(socket, 'chat:leave', { roomId });
    assert.equal(await row(claims, roomId, socket), undefined);
    await post(BOB, roomId, 'two');
    assert.equal(await unread(claims, roomId, socket), 1);
  });

  for (const way of [...WAYS, 'http']) {
    test(`one's own post moves the own mark; the user's other sockets hear chat:read, those that have not joined, too (${way})`, async () => {
      const roomId = `mark-${way}`;
      const claims = { userId: `writer-${way}` };
      const sockets = [await joined(roomId, claims), await joined(roomId, claims, 'polling'), ...await Promise.all(WAYS.map((transport) => server.signedIn(claims, { transports: [transport] })))];
      await post(BOB, roomId, 'read me');
      assert.equal(await unread(claims, roomId), 1);
      const posting = way === 'http' ? undefined : sockets[WAYS.indexOf(way)];
      const id = posting ? (await ask(posting, 'chat:message', { roomId, content: 'mine' })).id : await post(claims, roomId, 'mine');
      for (const socket of sockets.filter((one) => one !== posting)) {
        assert.deepEqual(await heard(socket, 'chat:read'), { roomId, userId: claims.userId, messageId: id });
      }
      const { readUpTo, unread: count } = await row(claims, roomId, sockets[3]);
      assert.deepEqual([readUpTo, count], [id, 0]);
      const marker = await post(BOB, roomId, 'marker');
      for (const socket of sockets.slice(0, 2)) await heard(socket, 'chat:message', (one) => one.id === marker);
      for (const socket of sockets) {
        await ask(socket, 'chat:rooms', {});
        assert.equal(all(socket, 'chat:read').length, socket === posting ? 0 : 1, 'who posts has the ack; the others are told once');
      }
    });
  }
});

const notify = async (target, title, on = server) => {
  const { status, json } = await on.fetch('/api/v1/notifications', { claims: ADMIN, method: 'POST', body: { target, title, message: 'm' } });
  assert.equal(status, 200, JSON.stringify(json));
  return json.id;
};
const titles = (socket) => all(socket, 'notification:new').map(({ title }) => title);

// One behind the other: what goes to a role or to all would be in each other's inboxes.
describe('the inbox', { concurrency: 1 }, () => {
  for (const transport of WAYS) {
    for (const isFirst of [true, false]) {
      test(`a notification to a role, ${isFirst ? 'before' : 'behind'} others that were delivered, is delivered to who comes with the role later, once (${transport})`, async () => {
        const userId = `later-${transport}-${isFirst}`;
        const [learner, coach] = [{ userId }, { userId, role: 'coach' }];
        const signIn = (claims) => server.signedIn(claims, { transports: [transport] });
        await notify({ role: 'coach' }, 'before they were seen');
        const first = await signIn(learner);
        if (isFirst) await notify({ role: 'coach' }, 'to coaches');
        await notify({ user: userId }, 'own');
        await notify({ all: true }, 'to all');
        await heard(first, 'notification:new', (one) => one.title === 'to all');
        if (!isFirst) await notify({ role: 'coach' }, 'to coaches');
        await away(userId, first);
        const second = await signIn(coach);
        await ask(second, 'notification:list', {});
        assert.deepEqual([titles(first), titles(second)], [['own', 'to all'], ['to coaches']]);
        assert.deepEqual([second.heard[0].event, second.heard[0].payload.unread], ['authenticated', 3]);
        await away(userId, second);
        const third = await signIn(coach);
        const { items } = await ask(third, 'notification:list', {});
        assert.deepEqual([titles(third), items.length], [[], 3], 'it is not told again');
        await away(userId, third);
      });
    }

    test(`auth:refresh to a new role delivers what went to that role meanwhile, right behind the new authenticated, once (${transport})`, async () => {
      const userId = `refreshed-${transport}`;
      const socket = await server.signedIn({ userId }, { transports: [transport] });
      await notify({ role: 'hr' }, 'to hr 1');
      await notify({ user: userId }, 'own');
      await notify({ role: 'hr' }, 'to hr 2');
      await heard(socket, 'notification:new', (one) => one.title === 'own');
      assert.equal((await ask(socket, 'auth:refresh', { token: token({ userId, role: 'hr' }) })).ok, true);
      await notify({ role: 'hr' }, 'live');
      await heard(socket, 'notification:new', (one) => one.title === 'live');
      const told = socket.heard.map(({ event, payload }) => payload.title ?? event);
      assert.deepEqual(told, ['authenticated', 'own', 'authenticated', 'to hr 1', 'to hr 2', 'live']);
      assert.ok([3, 4].includes(all(socket, 'authenticated')[1].unread));
      await away(userId, socket);
      const next = await server.signedIn({ userId, role: 'hr' }, { transports: [transport] });
      await ask(next, 'notification:list', {});
      assert.deepEqual(titles(next), []);
    });
  }

  test('"read all" does not reach what one could not see', async () => {
    const userId = 'reader';
    const [learner, coach] = [{ userId }, { userId, role: 'coach' }];
    await http(learner, 'GET', '/session');
    await notify({ role: 'coach' }, 'for later');
    await notify({ user: userId }, 'own');
    assert.equal((await http(learner, 'POST', '/notifications/read', { all: true })).json.unread, 0);
    assert.equal((await http(coach, 'GET', '/session')).json.unread, 1);
    const { items } = (await http(coach, 'GET', '/notifications')).json;
    assert.deepEqual(items.map(({ title, read }) => [title, read]), [['own', true], ['for later', false]]);
    assert.equal((await http(coach, 'POST', '/notifications/read', { all: true })).json.unread, 0);
    assert.equal((await http(coach, 'GET', '/notifications?unreadOnly=true')).json.items.length, 0);
  });

  for (const way of [...WAYS, 'http']) {
    test(`"read all" up to an id leaves later arrivals unread, and the other devices hear up to which (${way})`, async () => {
      const userId = `up-to-${way}`;
      const claims = { userId };
      const [acting, other] = [await server.signedIn(claims, { transports: [way === 'http' ? 'websocket' : way] }), await server.signedIn(claims)];
      const { cursor } = (await http(claims, 'GET', '/events')).json;
      const read = async (upTo) => (way === 'http' ? (await http(claims, 'POST', '/notifications/read', { all: true, upTo })).json : ask(acting, 'notification:read', { all: true, upTo }));
      const ids = [];
      for (let n = 0; n < 5; n += 1) ids.push(await notify({ user: userId }, `n${n}`));
      const flags = async () => (await http(claims, 'GET', '/notifications')).json.items.map((one) => one.read).reverse();
      assert.deepEqual([(await read(0)).unread, await flags()], [5, [false, false, false, false, false]], 'up to nothing');
      assert.equal((await read(ids[2])).unread, 2);
      assert.deepEqual(await flags(), [true, true, true, false, false]);
      const { all: isAll, read: isRead, upTo, unread: left } = await heard(other, 'notification:updated');
      assert.deepEqual([isAll, isRead, upTo, left], [true, true, ids[2], 2], 'the first that is told is the first that changed something');
      assert.equal((await read(ids[1])).unread, 2, 'it does not go back');
      const polled = (await http(claims, 'GET', `/events?wait=5&cursor=${cursor}`)).json.events.find(({ event }) => event === 'notification:updated').payload;
      assert.deepEqual([polled.all, polled.upTo], [true, ids[2]]);
      // Up to an id that nothing has yet: what is here now, and not what will be.
      assert.equal((await read(ids[4] + 1_000)).unread, 0);
      ids.push(await notify({ user: userId }, 'n5'));
      assert.deepEqual(await flags(), [true, true, true, true, true, false]);
      for (const bad of ['x', -1, 1.5, {}, [ids[4]], true]) {
        const refused = await read(bad);
        assert.deepEqual([refused.error?.code, refused.error?.field], ['invalid_payload', 'upTo'], JSON.stringify(bad));
      }
      assert.equal((await http(claims, 'GET', '/session')).json.unread, 1);
    });
  }

  test(`after any ${STEPS} steps the inbox, its count and what is delivered on arrival are those of a plain model (seed ${seed})`, { timeout: 120_000 }, async () => {
    const own = await Appliance.start({ env: noLimits });
    const roll = dice(seed);
    const of = (list) => list[Math.floor(roll() * list.length)];
    const call = (claims, method, path, body) => own.fetch(`/api/v1${path}`, { claims, method, body });
    const [model, did] = [[], []];
    let role = 'learner';
    const me = () => ({ userId: 7, role });
    const isMine = ({ to }) => to === 'me' || to === 'all' || to === role;
    const visible = () => model.filter((one) => isMine(one) && !one.deleted);
    const audience = { me: { user: 7 }, other: { user: 8 }, all: { all: true } };
    const steps = [
      ['notify', 8, async () => {
        const to = of(['me', 'me', 'other', 'all', 'learner', 'coach', 'hr']);
        model.push({ id: await notify(audience[to] ?? { role: to }, to, own), to, read: false, deleted: false, delivered: false });
      }],
      ['read ids', 3, async () => {
        const some = [of(model), of(model), of(model)];
        assert.equal((await call(me(), 'POST', '/notifications/read', { ids: some.map(({ id }) => id) })).status, 200);
        for (const one of some.filter((each) => isMine(each))) one.read = true;
      }],
      ['read all', 1, async () => {
        await call(me(), 'POST', '/notifications/read', { all: true });
        for (const one of visible()) one.read = true;
      }],
      ['read up to', 2, async () => {
        const upTo = of(model).id;
        await call(me(), 'POST', '/notifications/read', { all: true, upTo });
        for (const one of visible()) if (one.id <= upTo) one.read = true;
      }],
      ['delete', 2, async () => {
        const one = of(model);
        await call(me(), 'DELETE', `/notifications/${one.id}`);
        if (isMine(one)) one.deleted = true;
      }],
      ['change role', 2, async () => { role = of(['learner', 'coach', 'hr']); }],
      ['restart', 0.15, async () => { await own.halt(); await own.launch(); }],
      ['come and go', 1, async () => {
        const socket = await own.signedIn(me(), { transports: [of(WAYS)] });
        assert.equal(socket.heard[0].payload.unread, visible().filter(({ read }) => !read).length);
        await ask(socket, 'notification:list', {});
        const told = all(socket, 'notification:new').map(({ id }) => id);
        const waiting = visible().filter(({ delivered }) => !delivered);
        // Whether what was read over HTTP is told as well is left open; nothing else is.
        const expected = waiting.filter(({ id, read }) => !read || told.includes(id)).map(({ id }) => id);
        assert.deepEqual(told, expected, `on arrival, seed ${seed}: ${did.slice(-6).join(', ')}`);
        for (const one of waiting) one.delivered = true;
        socket.disconnect();
        await until(async () => (await call(ADMIN, 'GET', '/admin/users/7')).json.sockets === 0, 'it has gone');
      }],
    ];
    const whole = steps.reduce((sum, [, weight]) => sum + weight, 0);
    // `without`: the weight of the steps at the beginning that are passed over.
    const pick = (without = 0) => {
      let at = without + roll() * (whole - without);
      return steps.find(([, weight]) => { at -= weight; return at < 0; }) ?? steps[0];
    };
    try {
      await call(me(), 'GET', '/session');
      for (let n = 0; n < STEPS; n += 1) {
        const [name, , act] = model.length === 0 ? steps[0] : model.length < 190 ? pick() : pick(8);
        did.push(`${name} as ${role}`);
        await act();
        const expected = visible().map(({ id, read }) => [id, read]).reverse();
        const [session, list] = await Promise.all([call(me(), 'GET', '/session'), call(me(), 'GET', '/notifications?limit=200')]);
        const where = `step ${n} of seed ${seed}: ${did.slice(-6).join(', ')}`;
        assert.deepEqual(list.json.items.map(({ id, read }) => [id, read]), expected, where);
        const count = expected.filter(([, read]) => !read).length;
        assert.deepEqual([session.json.unread, list.json.unread], [count, count], where);
      }
      const only = (await call(me(), 'GET', '/notifications?limit=200&unreadOnly=true')).json.items.map(({ id }) => id);
      assert.deepEqual(only, visible().filter(({ read }) => !read).map(({ id }) => id).reverse());
    } finally {
      await own.stop();
    }
  });
});

describe('history and typing', () => {
  for (const way of [...WAYS, 'http']) {
    test(`a page with after and before is the range between them, from its beginning (${way})`, async () => {
      const roomId = `range-${way}`;
      const claims = { userId: 120 };
      const ids = [];
      for (let n = 0; n < 10; n += 1) ids.push(await post(claims, roomId, `${n}`));
      const socket = way === 'http' ? undefined : await server.signedIn(claims, { transports: [way] });
      const page = async (query) => {
        const answer = socket ? await ask(socket, 'chat:history', { roomId, ...query }) : (await http(claims, 'GET', `/rooms/${roomId}/messages?${new URLSearchParams(query)}`)).json;
        return [answer.messages?.map(({ content }) => content).join(''), answer.hasMore];
      };
      assert.deepEqual(await page({ after: ids[2], before: ids[7] }), ['3456', false]);
      assert.deepEqual(await page({ after: ids[2], before: ids[7], limit: 2 }), ['34', true], 'the first of it, and there is more');
      assert.deepEqual(await page({ after: ids[4], before: ids[7], limit: 2 }), ['56', false], 'the rest');
      assert.deepEqual(await page({ after: 0, before: ids[3] }), ['012', false]);
      assert.deepEqual(await page({ after: ids[6], before: ids[9] + 1_000 }), ['789', false]);
      for (const [after, before] of [[3, 4], [3, 3], [7, 2]]) assert.deepEqual(await page({ after: ids[after], before: ids[before] }), ['', false], `${after} to ${before}`);
    });
  }

  test('the end of typing is never refused by a rate, on sockets and over HTTP', async () => {
    const strict = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_LIMITS_TYPING_PER_SECOND: '2' } });
    try {
      const witness = await strict.signedIn({ userId: 130 });
      await ask(witness, 'chat:join', { roomId: 'r' });
      for (const [n, way] of [...WAYS, 'http'].entries()) {
        const claims = { userId: 131 + n };
        const socket = way === 'http' ? undefined : await strict.signedIn(claims, { transports: [way] });
        if (socket) await ask(socket, 'chat:join', { roomId: 'r' });
        const type = async (isTyping) => {
          if (socket) return ask(socket, 'chat:typing', { roomId: 'r', isTyping });
          return (await strict.fetch('/api/v1/rooms/r/typing', { claims, method: 'POST', body: { isTyping } })).json;
        };
        const flood = await Promise.all(Array.from({ length: 20 }, () => type(true)));
        assert.ok(flood.some(({ error }) => error?.code === 'rate_limited'), 'the beginnings are limited');
        const ends = await Promise.all(Array.from({ length: 20 }, () => type(false)));
        assert.deepEqual(ends.filter(({ ok }) => !ok), []);
        await heard(witness, 'chat:typing', (one) => one.userId === claims.userId && !one.isTyping);
        assert.deepEqual(all(witness, 'chat:typing').filter(({ userId }) => userId === claims.userId).at(-1).isTyping, false);
      }
    } finally {
      await strict.stop();
    }
  });
});
