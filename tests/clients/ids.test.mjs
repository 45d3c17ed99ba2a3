// Ids as pages compare them, with ===: one JSON type of each user, whatever their tokens write, and one form of each text.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { act, admin, call, done, say, served } from './acts.mjs';
import { all, ask, heard, until } from './harness.mjs';
import { Site, isBy } from './page.mjs';

const asText = { userId: '7', name: 'Ann' };
const asNumber = { userId: 7, name: 'Ann' };
const bob = { userId: 8, name: 'Bob' };

// Every event about user 7 that somebody causes with two devices, whose tokens write the id differently.
async function told(server, devices, roomId) {
  const watcher = await server.signedIn(bob);
  await ask(watcher, 'chat:join', { roomId });
  const seen = [];
  for (const claims of devices) {
    const before = watcher.heard.length;
    const device = await server.signedIn(claims);
    seen.push((await heard(device, 'authenticated')).userId);
    await ask(device, 'chat:join', { roomId });
    await ask(device, 'chat:typing', { roomId, isTyping: true });
    const { id } = await ask(watcher, 'chat:message', { roomId, content: 'hello' });
    await ask(device, 'chat:read', { roomId, messageId: id });
    await ask(device, 'chat:message', { roomId, content: 'hello, too' });
    const own = (payload) => payload.userId ?? payload.senderId;
    const heardSince = (event) => watcher.heard.slice(before).find((one) => one.event === event && String(own(one.payload)) === '7');
    for (const event of ['chat:user_joined', 'chat:typing', 'chat:message', 'chat:read']) {
      seen.push(own((await until(() => heardSince(event), `${event} is heard`)).payload));
    }
    const people = (await ask(watcher, 'presence:list', { roomId })).users;
    seen.push(people.find(({ userId }) => String(userId) === '7').userId);
    await ask(device, 'chat:leave', { roomId });
    seen.push(own((await until(() => heardSince('chat:user_left'), 'they have left')).payload));
    device.disconnect();
  }
  const page = await ask(watcher, 'chat:history', { roomId, limit: 200 });
  seen.push(...page.messages.filter(({ senderId }) => String(senderId) === '7').map(({ senderId }) => senderId));
  for (const claims of devices) {
    seen.push((await done(server, claims, 'GET', '/session')).userId);
    await say(server, claims, roomId, 'over HTTP');
  }
  await until(() => all(watcher, 'chat:message').filter(({ content }) => content === 'over HTTP').length === devices.length, 'both are heard');
  seen.push(...all(watcher, 'chat:message').filter(({ senderId }) => String(senderId) === '7').map(({ senderId }) => senderId));
  watcher.disconnect();
  return seen;
}

const onlyOne = (seen, id) => {
  assert.ok(seen.length > 12, `${seen.length} were seen`);
  assert.deepEqual([...new Set(seen)], [id], JSON.stringify(seen));
};

for (const [first, second, id] of [[asText, asNumber, '7'], [asNumber, asText, 7]]) {
  test(`the first token says which type the id of a user has (${JSON.stringify(id)}), before and behind a kill`, async (t) => {
    const server = await served(t);
    // Who is only named settles nothing: a back end, an administrator.
    await act(server, 'POST', '/rooms', { roomId: 'r', members: [second.userId] });
    const broadcast = { target: { room: 'chat:r' }, event: 'chat:message', payload: { content: 'before', senderId: second.userId } };
    await done(server, { userId: 1, role: 'admin' }, 'POST', '/broadcast', broadcast);
    // What an administrator has said of them before is not of another type afterwards.
    await act(server, 'POST', '/rooms', { roomId: 'quiet' });
    await act(server, 'POST', '/holds', { userId: second.userId, reason: 'case' });
    await act(server, 'POST', '/users/7/mute', { roomId: 'quiet', seconds: 3_600 });
    await done(server, admin, 'POST', '/notifications', { target: { user: second.userId }, title: 't', message: 'm', at: Date.now() + 3_600_000 });
    onlyOne(await told(server, [first, second, first], 'r'), id);
    await done(server, { userId: 1, role: 'admin' }, 'POST', '/broadcast', broadcast);
    await server.kill();
    await server.launch();
    onlyOne(await told(server, [second, first], 'r'), id);
    // Administrators find the user by both, and are told the one.
    for (const path of ['/users/7', '/users/%37']) assert.equal((await act(server, 'GET', path)).userId, id);
    assert.deepEqual((await act(server, 'GET', '/users')).items.map(({ userId }) => userId).filter((one) => String(one) === '7'), [id]);
    const [hold] = (await act(server, 'GET', '/holds')).items;
    const [mute] = (await act(server, 'GET', '/mutes')).items;
    const notice = (await act(server, 'GET', '/notifications')).items.find(({ target }) => target.user !== undefined);
    const diagnosis = await act(server, 'GET', '/users/7/diagnosis');
    const told7 = { hold: hold.userId, mute: mute.userId, notice: notice.target.user, diagnosis: diagnosis.userId, diagnosed: diagnosis.mutes[0].userId };
    assert.deepEqual(told7, { hold: id, mute: id, notice: id, diagnosis: id, diagnosed: id });
    assert.equal((await act(server, 'POST', '/users/7/block', {})).userId, id);
    for (const claims of [first, second]) assert.equal((await call(server, claims, 'GET', '/session')).status, 403);
    await act(server, 'POST', '/users/7/unblock', {});
    // Who is named in either form is reached.
    for (const user of [7, '7']) await done(server, { userId: 1, role: 'admin' }, 'POST', '/notifications', { target: { user }, title: 't', message: 'm' });
    assert.equal((await done(server, second, 'GET', '/notifications')).unread, 2);
  });
}

test('a type that was settled over HTTP alone, by a message or a look, stands behind a kill', async (t) => {
  const server = await served(t);
  await say(server, asText, 'h', 'first');
  await done(server, { userId: '9' }, 'GET', '/rooms');
  await server.kill();
  await server.launch();
  await say(server, asNumber, 'h', 'second');
  const page = await done(server, bob, 'GET', '/rooms/h/messages');
  assert.deepEqual(page.messages.map(({ senderId }) => senderId), ['7', '7']);
  assert.equal((await done(server, { userId: 9 }, 'GET', '/session')).userId, '9');
});

test('auth.id_type says it of all, also of what is stored; an id that is no whole number stays a text', async (t) => {
  const server = await served(t);
  onlyOne(await told(server, [asText, asNumber], 'r'), '7');
  for (const [type, id] of [['number', 7], ['string', '7'], ['number', 7], ['first', 7]]) {
    await server.halt();
    server.env.ACADEMY_RT_AUTH_ID_TYPE = type;
    await server.launch();
    onlyOne(await told(server, [asText, asNumber], 'r'), id);
    // Of somebody new as well.
    const other = 100 + ['number', 'string', 'first'].indexOf(type);
    const expected = { number: other, string: String(other), first: String(other) }[type];
    assert.equal((await done(server, { userId: String(other) }, 'GET', '/session')).userId, expected);
    for (const text of ['ann', '007', '9007199254740993']) {
      assert.equal((await done(server, { userId: text }, 'GET', '/session')).userId, text);
    }
  }
});

test('a socket that joins, writes and reads by another form of an id is in the same room', async (t) => {
  const server = await served(t);
  const [composed, decomposed] = ['caf\u00e9', 'cafe\u0301'];
  const one = await server.signedIn({ userId: 'jos\u00e9' });
  const other = await server.signedIn({ userId: 'jose\u0301' });
  const joined = [await ask(one, 'chat:join', { roomId: composed }), await ask(other, 'chat:join', decomposed)];
  assert.deepEqual(joined.map(({ roomId }) => roomId), [composed, composed]);
  assert.equal(joined[1].members, 1, 'it is one user');
  const { id } = await ask(other, 'chat:message', { roomId: decomposed, content: 'hello' });
  for (const socket of [one, other]) {
    const message = await heard(socket, 'chat:message');
    assert.deepEqual([message.roomId, message.senderId, message.id], [composed, 'jos\u00e9', id]);
  }
  const synced = await ask(other, 'progress:sync', { lessonId: decomposed, progress: 10, timeSpent: 1 });
  assert.equal(synced.lessonId, composed);
  assert.equal((await heard(one, 'progress:updated')).lessonId, composed);
  assert.equal((await ask(one, 'progress:get', { lessonId: decomposed })).items.length, 1);
  assert.equal((await ask(one, 'chat:leave', decomposed)).ok, true);
  assert.equal((await ask(one, 'presence:list', { roomId: composed })).error.code, 'not_joined');
});

test('the SDK knows its room by both forms, on the line, without it and over HTTP', async () => {
  const site = await Site.open();
  try {
    const [composed, decomposed] = ['caf\u00e9', 'cafe\u0301'];
    const page = await site.arrived({ userId: 7 });
    assert.equal((await page.emitWithAck('chat:join', { roomId: decomposed })).roomId, composed);
    // What waits in its outbox is of one room, and goes in its order.
    site.line.cut();
    await isBy(page, 'offline');
    const said = Array.from({ length: 40 }, (_, n) => String(n));
    const sent = said.map((content, n) => page.emitWithAck('chat:message', { roomId: n % 2 ? composed : decomposed, content }));
    site.line.mend();
    await isBy(page, 'realtime');
    assert.deepEqual((await Promise.all(sent)).map(({ seq }) => seq), said.map((_, n) => n + 1));
    await until(() => all(page, 'chat:message').length === said.length, 'all are told');
    assert.deepEqual(all(page, 'chat:message').map(({ content, roomId }) => [content, roomId]), said.map((content) => [content, composed]));
    // Without Socket.IO the client itself looks whether a room is joined.
    await site.flip(false);
    await isBy(page, 'http');
    for (const roomId of [composed, decomposed]) {
      assert.equal((await page.emitWithAck('chat:typing', { roomId, isTyping: true })).ok, true, roomId);
      assert.equal((await page.emitWithAck('chat:message', { roomId, content: `by HTTP to ${roomId}` })).ok, true);
    }
    await until(() => all(page, 'chat:message').length === said.length + 2, 'both are told');
    assert.equal((await page.emitWithAck('chat:leave', { roomId: decomposed })).ok, true);
    assert.equal((await page.emitWithAck('chat:typing', { roomId: composed, isTyping: true })).error.code, 'not_joined');
  } finally {
    await site.close();
  }
});
