// Whatever changes who may be where is done whole or not at all, whoever asked and hung up: stored, applied to live sockets
// and waiting polls, and in the audit trail exactly once; over kills and stops, too. And what is not to be said any more
// (deleted, edited, erased, of a room that is gone) or was never for a reader is not said by a cursor of before.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { act, admin, bytesOf, call, cursorOf, done, hangUp, pollFrom, say, served, trail, unkeyed, waitingPolls } from './acts.mjs';
import { all, ask, binary, heard, secret, until } from './harness.mjs';

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

// The records of acts of a kind on somebody or something, which has a name of its own in each test.
// Records of acts that were done. What takes its time has a record of its beginning, too.
const recordsOf = (records, action, name) => records.filter((one) => one.action === action
  && new RegExp(`(^|[^\\w-])${name}($|[^\\w-])`).test(`${one.target} ${one.outcome}`) && !/^(refused|begun)/.test(one.outcome));

describe('an administrator who hangs up', () => {
  test('as soon as a room is asked to be private: the stranger is out, hears nothing more, and it is in the trail', async (t) => {
    const server = await served(t);
    const rooms = Array.from({ length: 12 }, (_, n) => `closed-${n}`);
    const [stranger, ann] = [await server.signedIn({ userId: 9 }), await server.signedIn({ userId: 7 })];
    for (const roomId of rooms) {
      await act(server, 'POST', '/rooms', { roomId, members: [7] });
      for (const socket of [stranger, ann]) assert.equal((await ask(socket, 'chat:join', roomId)).ok, true);
    }
    for (const [n, roomId] of rooms.entries()) {
      const { bytes } = bytesOf(server, admin, 'PATCH', `/admin/rooms/${roomId}`, { private: true });
      await hangUp(server, bytes, { linger: n % 3, rudely: n % 2 === 1 });
    }
    // A later act of the same kind: what was asked for before it and is to be done at all has been given to the store.
    await act(server, 'POST', '/rooms', { roomId: 'fence' });
    const kept = [];
    for (const roomId of rooms) {
      if ((await act(server, 'GET', `/rooms/${roomId}`)).private) kept.push(roomId);
      await ask(ann, 'chat:message', { roomId, content: `secret ${roomId}` });
    }
    assert.ok(kept.length > 0, 'some were fast enough to be heard');
    await server.fetch('/api/v1/broadcast', { method: 'POST', claims: admin, body: { target: { user: 9 }, event: 'fence', payload: {} } });
    await heard(stranger, 'fence');
    const overheard = kept.filter((roomId) => all(stranger, 'chat:message').some((one) => one.roomId === roomId));
    assert.deepEqual(overheard, [], `of ${kept.length} rooms made private these are still heard by a stranger`);
    const records = await trail(server);
    assert.deepEqual(rooms.map((roomId) => recordsOf(records, 'room.set', roomId).length), rooms.map((roomId) => Number(kept.includes(roomId))));
    await server.stop();
  });

  test('as soon as somebody is asked to be blocked: their socket is out and their poll ends', async (t) => {
    const server = await served(t);
    const users = Array.from({ length: 12 }, (_, n) => `gone-${n}`);
    const sockets = await Promise.all(users.map((userId) => server.signedIn({ userId })));
    const polls = await waitingPolls(server, users.map((userId) => ({ claims: { userId }, rooms: '' })));
    for (const [n, user] of users.entries()) await hangUp(server, bytesOf(server, admin, 'POST', `/admin/users/${user}/block`, {}).bytes, { linger: n % 3 });
    await act(server, 'POST', '/rooms', { roomId: 'fence' });
    await until(() => sockets.every((one) => !one.connected), 'all are out', 3_000).catch(() => {});
    const stillHere = sockets.map((one) => one.connected);
    await server.kill();
    await server.launch();
    let blocked = 0;
    const kept = [];
    for (const [n, userId] of users.entries()) {
      if ((await call(server, { userId }, 'GET', '/session')).status !== 403) continue;
      blocked += 1;
      if (stillHere[n]) kept.push(userId);
      else assert.equal((await polls[n]).status, 403, userId);
    }
    assert.ok(blocked > 0, 'some were fast enough to be heard');
    assert.deepEqual(kept, [], `of ${blocked} blocked in the store these went on until the restart`);
    await server.stop();
  });

  // One row for each act that changes something: what is asked, of whom or what (`name`), whether it is stored, and what is
  // live then. `ready` makes what it is about; each has a room of its own with Bob (a stranger to be) in it.
  const stays = async () => {};
  const roomIs = (test) => async (server, { room }) => test((await call(server, admin, 'GET', `/admin/rooms/${room}`)));
  const memberIs = (isIn) => roomIs(({ json }) => json.items.some((one) => one.userId === undefined) || isIn(json.items));
  const hasMember = ({ user }) => (items) => items.some((one) => String(one.userId) === user && one.role !== null && one.role !== 'guest');
  const isBlocked = async (server, { user }) => (await call(server, admin, 'GET', `/admin/users/${user}`)).json.blocked;
  const isHeld = async (server, { user }) => (await act(server, 'GET', '/holds')).items.some((one) => one.userId === user);
  const closed = { private: true };
  const out = async (server, { socket, roomId, poll, user }) => {
    await heard(socket, 'request:error', (one) => one.code === 'forbidden');
    await say(server, admin, roomId, `secret of ${roomId}`);
    await done(server, admin, 'POST', '/broadcast', { target: { user }, event: 'fence', payload: {} });
    await heard(socket, 'fence');
    assert.deepEqual(all(socket, 'chat:message'), [], 'who is out hears nothing more');
    assert.ok(!(await poll).raw.includes(`secret of ${roomId}`), 'nor does their poll');
  };
  const shownOut = (status, code) => async (server, { socket, poll }) => {
    await until(() => !socket.connected, 'the socket is shown out');
    const answer = await poll;
    assert.deepEqual([answer.status, answer.json.error?.code], [status, code]);
  };
  const told = (event) => async (server, { socket, poll }) => {
    await heard(socket, event);
    assert.equal((await poll).json.events.filter((one) => one.event === event).length, 1, 'the poll is told once');
    assert.equal(all(socket, event).length, 1);
  };
  const acts = [
    { name: 'POST a room', action: 'room.create', of: 'made', path: '/admin/rooms', method: 'POST', body: ({ made }) => ({ roomId: made }), stored: async (server, { made }) => (await call(server, admin, 'GET', `/admin/rooms/${made}`)).status === 200, live: stays },
    { name: 'PATCH a room', action: 'room.set', of: 'room', method: 'PATCH', path: ({ room }) => `/admin/rooms/${room}`, body: () => closed, stored: roomIs(({ json }) => json.private), live: out },
    { name: 'DELETE a room', action: 'room.delete', of: 'room', method: 'DELETE', path: ({ room }) => `/admin/rooms/${room}`, room: { private: true, isMember: true }, repeats: 4, stored: roomIs(({ status, json }) => status === 404 || !json.private), live: out },
    { name: 'PUT a member', action: 'room.member.add', of: 'room', method: 'PUT', path: ({ room, user }) => `/admin/rooms/${room}/members/${user}`, body: () => ({ role: 'member' }), stored: (server, it) => memberIs(hasMember(it))(server, it), live: stays },
    { name: 'DELETE a member', action: 'room.member.remove', of: 'room', method: 'DELETE', path: ({ room, user }) => `/admin/rooms/${room}/members/${user}`, room: { private: true, isMember: true }, stored: (server, it) => memberIs((items) => !hasMember(it)(items))(server, it), live: out },
    { name: 'block', action: 'user.block', of: 'user', method: 'POST', path: ({ user }) => `/admin/users/${user}/block`, body: () => ({ reason: 'left' }), stored: isBlocked, live: shownOut(403, 'user_blocked') },
    { name: 'unblock', action: 'user.unblock', of: 'user', method: 'POST', path: ({ user }) => `/admin/users/${user}/unblock`, body: () => ({}), ready: (server, { user, room }) => say(server, { userId: user }, room, 'here').then(() => act(server, 'POST', `/users/${user}/block`, {})), isAway: true, stored: async (server, it) => !(await isBlocked(server, it)), live: (server, { user }) => until(async () => (await call(server, { userId: user }, 'GET', '/session')).status === 200, 'they may come') },
    { name: 'revoke', action: 'token.revoke', of: 'user', method: 'POST', path: '/admin/tokens/revoke', body: ({ user }) => ({ jti: user }), stored: async (server, { user }) => (await act(server, 'GET', '/tokens/revoked')).items.some((one) => one.jti === user), live: shownOut(401, 'token_revoked') },
    { name: 'disconnect', action: 'user.disconnect', of: 'user', method: 'POST', path: ({ user }) => `/admin/users/${user}/disconnect`, body: () => ({}), stored: async (server, it, records) => !it.socket.connected || records.length > 0, live: (server, { socket }) => until(() => !socket.connected, 'the socket is closed') },
    { name: 'set a hold', action: 'hold.set', of: 'user', method: 'POST', path: '/admin/holds', body: ({ user }) => ({ userId: user, reason: 'case 12' }), stored: isHeld, live: stays },
    { name: 'release a hold', action: 'hold.release', of: 'user', method: 'DELETE', path: ({ user }) => `/admin/holds/user/${user}`, ready: (server, { user }) => act(server, 'POST', '/holds', { userId: user, reason: 'case 12' }), stored: async (server, it) => !(await isHeld(server, it)), live: stays },
    {
      name: 'erase', action: 'user.erase', of: 'user', method: 'DELETE', path: ({ user }) => `/admin/users/${user}`, ready: (server, { user, room }) => say(server, { userId: user, jti: user }, room, `word of ${user}`),
      stored: async (server, { room }) => !(await call(server, admin, 'GET', `/rooms/${room}/messages`)).raw.includes('word of'),
      live: async (server, { socket }) => until(() => !socket.connected, 'the socket of who was erased is shown out'),
    },
    { name: 'broadcast', action: 'broadcast', of: 'user', method: 'POST', path: '/broadcast', body: ({ user }) => ({ target: { user }, event: 'plan:changed', payload: {} }), stored: async (server, { socket }, records) => all(socket, 'plan:changed').length > 0 || records.length > 0, live: told('plan:changed') },
    { name: 'notify', action: 'broadcast', of: 'user', method: 'POST', path: '/notifications', body: ({ user }) => ({ target: { user }, title: 'T', message: 'M' }), stored: async (server, { user }) => (await done(server, { userId: user }, 'GET', '/notifications')).items.length > 0, live: told('notification:new') },
  ];

  // Where the requester hangs up: byte by byte in steps, closer around the end of the head and of the body, and some moments
  // behind the last byte.
  const cutsOf = ({ bytes, headEnds }, repeats = 1) => {
    const around = [1, headEnds - 2, headEnds - 1, headEnds, headEnds + 1, bytes.length - 1];
    for (let at = 60; at < bytes.length; at += 97) around.push(at);
    const short = [...new Set(around)].filter((at) => at > 0 && at < bytes.length).map((at) => ({ at, linger: 0 }));
    return [...short, ...Array(repeats).fill([0, 0, 0, 0, 0, 1, 1, 1, 2, 3]).flat().map((linger) => ({ at: bytes.length, linger }))];
  };

  for (const [number, row] of acts.entries()) {
    test(`at any byte of '${row.name}': nothing of it is done, or the whole, live and in the trail once`, async (t) => {
      const server = await served(t);
      const of = (value, it) => (typeof value === 'function' ? value(it) : value);
      const requestOf = (it) => bytesOf(server, admin, row.method, of(row.path, it), of(row.body, it));
      const count = cutsOf(requestOf({ user: 'u-00-00', room: 'r-00-00', made: 'm-00-00' }), row.repeats).length;
      const its = Array.from({ length: count }, (_, n) => {
        const key = `${String(number).padStart(2, '0')}-${String(n).padStart(2, '0')}`;
        return { user: `u-${key}`, room: `r-${key}`, made: `m-${key}`, roomId: `r-${key}` };
      });
      for (const it of its) {
        it.claims = { userId: it.user, jti: it.user };
        await act(server, 'POST', '/rooms', { roomId: it.room, private: row.room?.private ?? false, members: row.room?.isMember ? [it.user] : [] });
        if (!row.isAway) {
          it.socket = await server.signedIn(it.claims);
          assert.equal((await ask(it.socket, 'chat:join', it.room)).ok, true);
        }
        await row.ready?.(server, it);
        if (it.socket) it.socket.heard.length = 0;
      }
      if (!row.isAway) {
        const polls = await waitingPolls(server, its.map(({ claims, room }) => ({ claims, rooms: room })));
        its.forEach((it, n) => { it.poll = polls[n]; });
      }
      // The writer has other work: there is time to hang up in.
      const noise = Promise.all(Array.from({ length: 64 }, (_, n) => say(server, admin, 'elsewhere', `noise ${n}`)));
      await Promise.all(its.map(async (it, n) => {
        const request = requestOf(it);
        const { at, linger } = cutsOf(request, row.repeats)[n];
        it.isWhole = at === request.bytes.length;
        await hangUp(server, request.bytes.subarray(0, at), { linger, rudely: n % 2 === 1 });
      }));
      await noise;
      await act(server, 'POST', '/rooms', { roomId: 'fence' });
      const found = [];
      let isDoneOnce = false;
      for (const [n, it] of its.entries()) {
        const records = recordsOf(await trail(server), row.action, it[row.of]);
        const isStored = await row.stored(server, it, records);
        const where = it.isWhole ? `${n} (whole)` : `${n} (cut)`;
        if (!it.isWhole && (isStored || records.length > 0)) found.push(`${where}: half a request was done`);
        if (!isStored && records.length > 0) found.push(`${where}: recorded, not stored`);
        if (!isStored) continue;
        isDoneOnce = true;
        it.isStored = true;
        const count = async () => recordsOf(await trail(server), row.action, it[row.of]).length;
        const deadline = Date.now() + 1_000;
        while ((await count()) !== 1 && Date.now() < deadline) await pause(20);
        if ((await count()) !== 1) found.push(`${where}: stored, and ${await count()} times in the trail`);
        else await row.live(server, it).catch((error) => found.push(`${where}: ${String(error.message).slice(0, 200)}`));
        if (found.length > 3) break;
      }
      assert.deepEqual(found, []);
      assert.ok(isDoneOnce, 'at least one of the whole requests was done');
      await server.kill();
      await server.launch();
      // Who is not here any more tells nothing of the two that store nothing.
      if (['disconnect', 'broadcast'].includes(row.name)) return;
      const stored = await Promise.all(its.map((it) => row.stored(server, it, [])));
      assert.deepEqual(stored.map(Boolean), its.map((it) => it.isStored === true), 'over kill -9 it is as it was');
      await server.stop();
    });
  }
});

describe('acts and their records', () => {
  test('an act that a hold forbids has its record, and nothing is done', async (t) => {
    const server = await served(t);
    await say(server, { userId: 7 }, 'held', 'evidence');
    await act(server, 'POST', '/holds', { roomId: 'held', reason: 'case 12' });
    await act(server, 'POST', '/holds', { userId: 7, reason: 'case 13' });
    for (const [path, action] of [['/rooms/held', 'room.delete'], ['/users/7', 'user.erase']]) {
      assert.equal((await call(server, admin, 'DELETE', `/admin${path}`)).status, 409, path);
      const refused = (await trail(server)).filter((one) => one.action === action);
      assert.deepEqual(refused.map((one) => /^refused/.test(one.outcome)), [true], `${action}: ${JSON.stringify(refused)}`);
    }
    assert.equal((await done(server, admin, 'GET', '/rooms/held/messages')).messages[0].content, 'evidence');
    await server.stop();
  });

  test('acts and records are one to one over kill -9 at random moments', async (t) => {
    const server = await served(t);
    const missing = [];
    let made = 0;
    for (let round = 0; round < 10; round += 1) {
      let isKilled = false;
      const goal = made + 30 + Math.floor(Math.random() * 60);
      await Promise.all(Array.from({ length: 12 }, async () => {
        while (!isKilled) {
          const roomId = `k-${(made += 1)}`;
          await call(server, admin, 'POST', '/admin/rooms', { roomId }).catch(() => {});
          await call(server, admin, 'PUT', `/admin/rooms/${roomId}/members/7`, { role: 'member' }).catch(() => {});
          if (made >= goal && !isKilled) {
            isKilled = true;
            await server.kill();
          }
        }
      }));
      await server.launch();
      const records = await trail(server);
      const recorded = (action) => records.filter((one) => one.action === action).map((one) => /k-\d+/.exec(one.target)[0]).sort();
      const rooms = [];
      for (let page = { next: '' }; page.next !== undefined && page.next !== null;) {
        page = await act(server, 'GET', `/rooms?limit=200${page.next ? `&after=${encodeURIComponent(page.next)}` : ''}`);
        rooms.push(...page.items);
      }
      assert.ok(rooms.length > 0 && rooms.some((one) => one.members > 0), 'something was done before the kill');
      const stored = { 'room.create': rooms.map((one) => one.roomId), 'room.member.add': rooms.filter((one) => one.members > 0).map((one) => one.roomId) };
      for (const [action, names] of Object.entries(stored)) {
        const known = recorded(action);
        assert.equal(new Set(known).size, known.length, `${action}: no act is recorded twice`);
        missing.push(...names.filter((name) => !known.includes(name)).map((name) => `${action} ${name}: done, not recorded`));
        missing.push(...known.filter((name) => !names.includes(name)).map((name) => `${action} ${name}: recorded, not done`));
      }
      assert.deepEqual([...new Set(missing)], [], `after kill ${round + 1}`);
    }
    await server.stop();
  });

  const outcomesOf = async (server, action) => (await trail(server)).filter((one) => one.action === action).map((one) => one.outcome);
  const beganAndEnded = (outcomes) => outcomes.length >= 2 && !outcomes[0].startsWith('done') && outcomes.at(-1).startsWith('done');

  test('a purge has a record of its start and one of its end', async (t) => {
    const server = await served(t, { env: { ACADEMY_RT_RETENTION_CHAT: '1s' } });
    await say(server, { userId: 7 }, 'r', 'old');
    const outcomes = await until(async () => {
      const found = await outcomesOf(server, 'retention.purge');
      return found.some((one) => one.startsWith('done')) && found;
    }, 'the purge has ended');
    assert.ok(beganAndEnded(outcomes), JSON.stringify(outcomes));
    await server.stop();
  });

  test('a compaction has a record of its start and one of its end', async (t) => {
    const server = await served(t);
    await say(server, { userId: 7 }, 'r', 'x');
    await server.halt();
    execFileSync(binary, ['db', 'compact', '--data-dir', server.data], { env: { PATH: process.env.PATH, JWT_SECRET: secret }, stdio: 'pipe' });
    await server.launch();
    const outcomes = await outcomesOf(server, 'db.compact');
    assert.ok(beganAndEnded(outcomes), JSON.stringify(outcomes));
    await server.stop();
  });

  test('notifications of the last second before a stop do not come twice', async (t) => {
    const server = await served(t);
    const twice = [];
    for (let round = 0; round < 10; round += 1) {
      const ann = await server.signedIn({ userId: 7 });
      const title = `round ${round}`;
      await done(server, admin, 'POST', '/notifications', { target: { user: 7 }, title, message: 'once' });
      await heard(ann, 'notification:new', (one) => one.title === title);
      server.child.kill('SIGTERM');
      assert.equal((await server.exited).code, 0, server.stderr);
      await server.halt();
      await server.launch();
      const again = await server.signedIn({ userId: 7 });
      await done(server, admin, 'POST', '/broadcast', { target: { user: 7 }, event: 'fence', payload: {} });
      await heard(again, 'fence');
      twice.push(...all(again, 'notification:new').map((one) => one.title));
      again.disconnect();
    }
    assert.deepEqual(twice, [], 'these came again');
    await server.stop();
  });
});

describe('a cursor of before', () => {
  const ann = { userId: 7, name: 'Ann' };
  const bob = { userId: 9, name: 'Bob' };
  const passing = (server, target, event, payload) => done(server, admin, 'POST', '/broadcast', { target, event, payload });
  // What a poll behind a cursor tells of chat, as its text and as events.
  async function told(server, claims, cursor, rooms) {
    const { status, json, raw } = await pollFrom(server, claims, cursor, rooms);
    assert.equal(status, 200, raw);
    return { raw, events: json.events, contents: json.events.filter((one) => one.event === 'chat:message').map((one) => one.payload.content) };
  }

  for (const isRestarted of [false, true]) {
    const when = isRestarted ? 'behind a restart' : 'in the same run';
    const again = async (server) => {
      if (!isRestarted) return;
      await server.kill();
      await server.launch();
    };

    test(`tells a stranger nothing of a private room that is deleted, nor of it in a room made anew under its id, ${when}`, async (t) => {
      const server = await served(t);
      await act(server, 'POST', '/rooms', { roomId: 'board', private: true, members: [7] });
      const cursor = await cursorOf(server, bob);
      await say(server, ann, 'board', 'confidential words');
      await passing(server, { room: 'chat:board' }, 'slide:turned', { text: 'confidential slide' });
      await act(server, 'DELETE', '/rooms/board');
      await again(server);
      const { raw } = await pollFrom(server, bob, cursor, 'board');
      assert.ok(!raw.includes('confidential'), `the room is gone: ${raw.slice(0, 300)}`);
      await act(server, 'POST', '/rooms', { roomId: 'board' });
      await say(server, ann, 'board', 'for all');
      const anew = await told(server, bob, cursor, 'board');
      assert.ok(!anew.raw.includes('confidential'), anew.raw.slice(0, 300));
      assert.deepEqual(anew.contents, ['for all'], 'what is said in the new one comes');
      await server.stop();
    });

    test(`tells no text of a message that was deleted, edited or erased since, and goes on behind it, ${when}`, async (t) => {
      const server = await served(t);
      const cursor = await cursorOf(server, bob, 'r');
      const deleted = await say(server, ann, 'r', 'a text deleted');
      const edited = await say(server, ann, 'r', 'a text edited');
      await say(server, { userId: 8 }, 'r', 'a text erased');
      await say(server, ann, 'r', 'stays');
      await done(server, ann, 'DELETE', `/rooms/r/messages/${deleted}`);
      await done(server, ann, 'PATCH', `/rooms/r/messages/${edited}`, { content: 'the better text' });
      await act(server, 'DELETE', '/users/8');
      await again(server);
      await say(server, ann, 'r', 'later');
      const { raw, events, contents } = await told(server, bob, cursor, 'r');
      for (const gone of ['a text deleted', 'a text edited', 'a text erased']) assert.ok(!raw.includes(gone), `${gone}: ${raw.slice(0, 600)}`);
      assert.ok(raw.includes('the better text'), 'what it says now is told');
      assert.deepEqual(contents.filter((one) => ['stays', 'later'].includes(one)), ['stays', 'later']);
      const ids = events.filter((one) => one.event === 'chat:message-deleted').map((one) => one.payload.messageId);
      assert.ok(isRestarted || ids.includes(deleted), 'that it is deleted is told');
      await server.stop();
    });
  }

  test('tells who was removed from a private room, and is back, nothing of the time between', async (t) => {
    const server = await served(t);
    await act(server, 'POST', '/rooms', { roomId: 'board', private: true, members: [7, 9] });
    const cursor = await cursorOf(server, bob, 'board');
    await act(server, 'DELETE', '/rooms/board/members/9');
    await passing(server, { room: 'chat:board' }, 'slide:turned', { text: 'while he was out' });
    const between = await pollFrom(server, bob, cursor, 'board');
    assert.equal(between.status, 403);
    await act(server, 'PUT', '/rooms/board/members/9', { role: 'member' });
    await say(server, ann, 'board', 'welcome back');
    const { raw, contents } = await told(server, bob, cursor, 'board');
    assert.ok(!raw.includes('while he was out'), raw.slice(0, 300));
    assert.deepEqual(contents, ['welcome back']);
    await server.stop();
  });

  test('tells a member nothing that passed in a private room before they were one', async (t) => {
    const server = await served(t);
    await act(server, 'POST', '/rooms', { roomId: 'board', private: true, members: [7] });
    const cursor = await cursorOf(server, bob);
    await passing(server, { room: 'chat:board' }, 'slide:turned', { text: 'before Bob' });
    await act(server, 'PUT', '/rooms/board/members/9', { role: 'member' });
    await say(server, ann, 'board', 'hello Bob');
    const { raw, contents } = await told(server, bob, cursor, 'board');
    assert.ok(!raw.includes('before Bob'), raw.slice(0, 300));
    assert.deepEqual(contents, ['hello Bob']);
    await server.stop();
  });

  test('tells a coach of today nothing that passed to coaches before they were one', async (t) => {
    const server = await served(t);
    const cursor = await cursorOf(server, { ...bob, role: 'learner' });
    await passing(server, { role: 'coach' }, 'system:alert', { text: 'for coaches of yesterday' });
    await passing(server, { user: 9 }, 'hello', {});
    const coach = { ...bob, role: 'coach' };
    const { raw, events } = await told(server, coach, cursor);
    assert.ok(!raw.includes('of yesterday'), raw.slice(0, 300));
    assert.deepEqual(events.map((one) => one.event), ['hello'], 'what was for them comes');
    const next = await cursorOf(server, coach);
    await passing(server, { role: 'coach' }, 'system:alert', { text: 'for coaches of today' });
    assert.deepEqual((await told(server, coach, next)).events.map((one) => one.payload.text), ['for coaches of today']);
    await server.stop();
  });

  test('tells who was erased and comes again nothing of the time before they came', async (t) => {
    const server = await served(t);
    await say(server, bob, 'r', 'here I am');
    const cursor = await cursorOf(server, bob);
    await act(server, 'DELETE', '/users/9');
    await done(server, admin, 'POST', '/notifications', { target: { all: true }, title: 'between', message: 'nobody was here' });
    const { status, raw } = await pollFrom(server, bob, cursor);
    assert.ok([200, 410].includes(status), raw);
    assert.ok(!raw.includes('nobody was here'), raw.slice(0, 300));
    assert.deepEqual((await done(server, bob, 'GET', '/notifications')).items, []);
    await server.stop();
  });

  test('of another user is none', async (t) => {
    const server = await served(t);
    const mine = await cursorOf(server, bob, 'r');
    await say(server, ann, 'r', 'word');
    const stolen = await pollFrom(server, ann, mine, 'r');
    assert.deepEqual([stolen.status, stolen.json.error?.code], [410, 'resync'], stolen.raw.slice(0, 300));
    assert.equal((await pollFrom(server, ann, stolen.json.cursor, 'r')).status, 200, 'the new cursor is hers');
    assert.deepEqual((await told(server, bob, mine, 'r')).contents, ['word'], 'its owner goes on with it');
    await server.stop();
  });

  test('changed in any digit, cut anywhere or made by who knows how cursors are made is none', async (t) => {
    const server = await served(t);
    await say(server, ann, 'r', 'word');
    const cursor = await cursorOf(server, bob, 'r');
    const refused = async (forged) => {
      const { status, json, raw } = await pollFrom(server, bob, forged, 'r');
      assert.deepEqual([status, json?.error?.code], [410, 'resync'], `${forged} of ${cursor}: ${raw.slice(0, 200)}`);
    };
    for (let at = 0; at < cursor.length; at += 1) {
      for (const digit of '0123456789abcdef') if (digit !== cursor[at]) await refused(`${cursor.slice(0, at)}${digit}${cursor.slice(at + 1)}`);
      if (at > 0) await refused(cursor.slice(0, at));
    }
    assert.equal((await pollFrom(server, bob, cursor, 'r')).status, 200);
    // As a check without a key can be made by anybody: the store's number, and whatever numbers one likes.
    const [store, ...rest] = cursor.split('.');
    const numbers = rest.slice(0, -1);
    const life = /^[0-9a-f]{12}$/.test(store) ? store : (cursor.match(/[0-9a-f]/g) ?? []).join('').padEnd(12, '0').slice(0, 12);
    for (let n = 1; n < numbers.length; n += 1) await refused(unkeyed(life, numbers.map((one, at) => (at === n ? '0' : one))));
    await refused(unkeyed(life, ['0', '0', '0', '0']));
    await refused(unkeyed(life, ['1', '0', '0', '0']));
    await server.stop();
  });
});
