// Rights that come and go while a poll is read or waits, and how far each device has been sent what was kept for its user:
// nothing is told that may not be read, and nothing that may be is passed over.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { act, admin, call, cursorOf, done, joinedTo, pollFrom, say, served, waitingPolls } from './acts.mjs';
import { all, ask, heard, until } from './harness.mjs';

const notify = async (server, target, title = 'n') => (await done(server, admin, 'POST', '/notifications', { target, title, message: 'm' })).id;
const titles = (socket) => all(socket, 'notification:new').map((one) => one.id);

test('a poll of many rooms never tells what was said in one of them since it became private', async (t) => {
  const server = await served(t);
  await act(server, 'POST', '/rooms', { roomId: 'board' });
  const strangers = [50, 51, 52, 53].map((userId) => ({ userId }));
  const rooms = ['board', ...Array.from({ length: 99 }, (_, n) => `other-${n}`)].join(',');
  const cursors = await Promise.all(strangers.map((one) => cursorOf(server, one, 'board')));
  const leaked = [];
  let isOver = false;
  t.after(() => { isOver = true; });
  let read = 0;
  const polls = strangers.map(async (one, n) => {
    while (!isOver) {
      const { status, raw } = await pollFrom(server, one, cursors[n], rooms, 0);
      assert.ok([200, 403].includes(status), raw);
      read += 1;
      if (/a secret/.test(raw)) leaked.push(raw);
    }
  });
  for (let round = 0; round < 60; round += 1) {
    await act(server, 'PATCH', '/rooms/board', { private: true });
    const id = await say(server, admin, 'board', `a secret ${round}`);
    const before = read;
    await until(() => read >= before + strangers.length, 'each has polled meanwhile');
    await done(server, admin, 'DELETE', `/rooms/board/messages/${id}`);
    await act(server, 'PATCH', '/rooms/board', { private: false });
  }
  isOver = true;
  await Promise.all(polls);
  assert.deepEqual(leaked, []);
  await server.stop();
});

for (const [how, room, lose, regain] of [
  ['a member who is removed and admitted again', { private: true, members: [66] }, ['DELETE', '/members/66'], ['PUT', '/members/66', {}]],
  ['a stranger of a room that is made private and opened again', { private: false }, ['PATCH', '', { private: true }], ['PATCH', '', { private: false }]],
]) {
  test(`${how} while a poll waits hears all that was said since`, { timeout: 30_000 }, async (t) => {
    const server = await served(t);
    const eve = { userId: 66, name: 'Eve' };
    for (const roomId of ['a', 'b']) await act(server, 'POST', '/rooms', { roomId, ...room });
    let cursor = await cursorOf(server, eve, 'a,b');
    const [waiting] = await waitingPolls(server, [{ claims: eve, rooms: 'a,b', cursor }]);
    for (const [method, path, body] of [lose, regain]) await act(server, method, `/rooms/b${path}`, body);
    await say(server, admin, 'b', 'first, in b');
    await say(server, admin, 'a', 'then in a');
    const contents = [];
    for (let answer = await waiting; contents.length < 3; answer = await pollFrom(server, eve, cursor, 'a,b', 2)) {
      assert.equal(answer.status, 200, answer.raw);
      cursor = answer.json.cursor;
      contents.push(...answer.json.events.filter((one) => one.event === 'chat:message').map((one) => one.payload.content));
      if (contents.length === 2) await say(server, admin, 'b', 'at last in b');
    }
    assert.deepEqual(contents, ['first, in b', 'then in a', 'at last in b']);
    await server.stop();
  });
}

test('a guest of a room that becomes private is told neither its name nor what is unread in it', async (t) => {
  const server = await served(t);
  const guest = { userId: 7 };
  await act(server, 'POST', '/rooms', { roomId: 'case' });
  await say(server, guest, 'case', 'hello');
  await act(server, 'PATCH', '/rooms/case', { private: true, name: 'Dismissal' });
  await say(server, admin, 'case', 'among us');
  assert.deepEqual((await done(server, guest, 'GET', '/rooms')).rooms, []);
  const socket = await server.signedIn(guest);
  assert.deepEqual((await ask(socket, 'chat:rooms', {})).rooms, []);
  await act(server, 'PUT', '/rooms/case/members/7', {});
  assert.deepEqual((await done(server, guest, 'GET', '/rooms')).rooms.map((one) => one.roomId), ['case']);
  await server.stop();
});

test('who leaves a room in which a poll of theirs has just ended has left it', async (t) => {
  const server = await served(t);
  const [ann, bob] = [{ userId: 10 }, { userId: 11, name: 'Bob' }];
  await act(server, 'POST', '/rooms', { roomId: 'r' });
  const watcher = await server.signedIn(ann);
  await ask(watcher, 'chat:join', 'r');
  const socket = await server.signedIn(bob);
  await ask(socket, 'chat:join', 'r');
  await pollFrom(server, bob, await cursorOf(server, bob, 'r'), 'r', 1);
  assert.equal((await ask(socket, 'chat:leave', { roomId: 'r' })).ok, true);
  assert.deepEqual((await done(server, bob, 'GET', '/rooms')).rooms, []);
  await heard(watcher, 'chat:user_left', (one) => one.userId === 11);
  await server.stop();
});

test('what waits for one device is not passed over when another comes without its role', async (t) => {
  const server = await served(t);
  await done(server, { userId: 'two' }, 'GET', '/session');
  const sent = [];
  for (let n = 0; n < 150; n += 1) sent.push(await notify(server, { role: 'hr' }));
  const told = new Set();
  const come = async (roles) => {
    const socket = await server.signedIn({ userId: 'two', roles, role: undefined });
    await ask(socket, 'chat:rooms', {});
    return socket;
  };
  const go = (socket) => { titles(socket).forEach((id) => told.add(id)); socket.disconnect(); };
  const [first, second] = [await come(['hr']), await come(['learner'])];
  sent.push(await notify(server, { role: 'hr' }));
  await heard(first, 'notification:new', (one) => one.id === sent.at(-1));
  [first, second].forEach(go);
  await until(async () => {
    const socket = await come(['hr']);
    go(socket);
    return told.size === sent.length;
  }, `all are told, not ${told.size}`);
  await server.stop();
});

test('a notification that comes while the server sends its sockets away is told at the next arrival', async (t) => {
  const server = await served(t);
  for (let round = 0; round < 4; round += 1) {
    const claims = { userId: 200 + round };
    const socket = await server.signedIn(claims);
    const sent = [];
    let isOver = false;
    const senders = Array.from({ length: 4 }, async () => {
      while (!isOver) {
        const answer = await call(server, admin, 'POST', '/notifications', { target: { user: claims.userId }, title: 't', message: 'm' }).catch(() => null);
        if (answer?.status === 200) sent.push(answer.json.id);
      }
    });
    t.after(() => { isOver = true; });
    await until(() => sent.length > 50, 'some have been sent');
    server.child.kill('SIGTERM');
    assert.equal((await server.exited).code, 0);
    isOver = true;
    await Promise.all(senders);
    await until(() => !socket.connected, 'all that was sent has come');
    const told = new Set(titles(socket));
    socket.disconnect();
    await server.launch();
    const again = await server.signedIn(claims);
    await until(() => { titles(again).forEach((id) => told.add(id)); return sent.every((id) => told.has(id)); }, 'each is told');
    again.disconnect();
  }
  await server.stop();
});

test('a back end cannot write as who was erased, nor with a name that is none', async (t) => {
  const server = await served(t);
  const send = (payload) => call(server, admin, 'POST', '/broadcast', { target: { room: 'chat:r' }, event: 'chat:message', payload });
  for (const [payload, field] of [
    [{ content: 'x', senderId: 'erased' }, 'senderId'], [{ content: 'x', senderName: '' }, 'senderName'],
    [{ content: 'x', senderName: 'x'.repeat(201) }, 'senderName'], [{ content: 'x', senderName: 'a\nb' }, 'senderName'],
  ]) {
    const { status, json } = await send(payload);
    assert.deepEqual([status, json.error.code, json.error.field], [400, 'invalid_payload', field], JSON.stringify(payload));
  }
  assert.equal((await send({ content: 'x', senderName: 'x'.repeat(200) })).status, 200);
  assert.equal((await done(server, { userId: 7 }, 'GET', '/rooms/r/messages')).messages.length, 1);
  await server.stop();
});

test('who is muted is so at once on open sockets: what they type ends, and they hear and write no more', async (t) => {
  const server = await served(t);
  await act(server, 'POST', '/rooms', { roomId: 'class' });
  await act(server, 'POST', '/rooms', { roomId: 'other' });
  const [ann, bob] = await Promise.all([joinedTo(server, 'class', { userId: 7, name: 'Ann' }), joinedTo(server, 'class', { userId: 8, name: 'Bob' })]);
  assert.equal((await ask(ann, 'chat:join', { roomId: 'other' })).ok, true);
  assert.equal((await ask(ann, 'chat:typing', { roomId: 'class', isTyping: true })).ok, true);
  await heard(bob, 'chat:typing', (one) => one.userId === 7 && one.isTyping);
  await act(server, 'POST', '/users/7/mute', { roomId: 'class', seconds: 600 });
  await heard(bob, 'chat:typing', (one) => one.userId === 7 && !one.isTyping);
  for (const [event, payload] of [['chat:message', { content: 'x' }], ['chat:typing', { isTyping: true }]]) {
    const { ok, error } = await ask(ann, event, { roomId: 'class', ...payload });
    assert.deepEqual([ok, error?.code], [false, 'forbidden'], event);
    assert.ok(error.retryAfterMs > 500_000 && error.retryAfterMs <= 600_000, JSON.stringify(error));
  }
  // They are where they were: they hear what is said there, and write elsewhere.
  assert.equal((await ask(bob, 'chat:message', { roomId: 'class', content: 'for everybody' })).ok, true);
  await heard(ann, 'chat:message', (one) => one.content === 'for everybody');
  assert.equal((await ask(ann, 'chat:message', { roomId: 'other', content: 'elsewhere' })).ok, true);
  await act(server, 'POST', '/users/7/unmute', { roomId: 'class' });
  assert.equal((await ask(ann, 'chat:message', { roomId: 'class', content: 'again' })).ok, true);
  await server.stop();
});
