// How order is kept in a room by its moderators, and what is reported to them: the same over WebSocket, over polling, and over HTTP with
// the long poll.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { io } from 'socket.io-client';
import { connect } from '../../assets/sdk/academy-rt.js';
import { Appliance, all, ask, heard, token, until } from './harness.mjs';

const root = { userId: 1, role: 'admin' };
const mo = { userId: 9, name: 'Mo' };
const max = { userId: 10, name: 'Max' };
const ann = { userId: 7, name: 'Ann' };
const bob = { userId: 8, name: 'Bob' };
const stranger = { userId: 66, name: 'Eve' };
let rooms = 0;

// Where an event is over HTTP.
const ROUTES = {
  'chat:join': ({ roomId }) => ['POST', `/rooms/${roomId}/join`],
  'chat:message': ({ roomId }) => ['POST', `/rooms/${roomId}/messages`],
  'chat:edit': ({ roomId, messageId }) => ['PATCH', `/rooms/${roomId}/messages/${messageId}`],
  'chat:delete': ({ roomId, messageId }) => ['DELETE', `/rooms/${roomId}/messages/${messageId}`],
  'chat:typing': ({ roomId }) => ['POST', `/rooms/${roomId}/typing`],
  'chat:history': ({ roomId }) => ['GET', `/rooms/${roomId}/messages`],
  'chat:rooms': () => ['GET', '/rooms'],
  'chat:mute': ({ roomId }) => ['POST', `/rooms/${roomId}/mute`],
  'chat:unmute': ({ roomId }) => ['POST', `/rooms/${roomId}/unmute`],
  'chat:lock': ({ roomId }) => ['POST', `/rooms/${roomId}/lock`],
  'chat:slow': ({ roomId }) => ['POST', `/rooms/${roomId}/slow`],
  'chat:report': ({ roomId, messageId }) => ['POST', `/rooms/${roomId}/messages/${messageId}/report`],
  'chat:reports': ({ roomId, ...query }) => ['GET', `/rooms/${roomId}/reports?${new URLSearchParams(query)}`],
  'chat:resolve': ({ roomId, reportId }) => ['POST', `/rooms/${roomId}/reports/${reportId}/resolve`],
};

// Somebody in a room, over a socket: what they ask and what they hear.
async function overSocket(server, claims, roomId, transports) {
  const socket = await server.signedIn(claims, { transports });
  const joined = await ask(socket, 'chat:join', { roomId });
  return {
    joined,
    ask: (event, payload = {}) => ask(socket, event, { roomId, ...payload }),
    hears: (event, fits) => heard(socket, event, fits),
    heard: (event) => all(socket, event),
    leave: () => socket.disconnect(),
  };
}

// The same over HTTP, with a long poll that goes on until they leave.
async function overHttp(server, claims, roomId) {
  const call = async (event, payload) => {
    const [method, path] = ROUTES[event](payload);
    const { roomId: _room, messageId: _message, reportId: _report, ...body } = payload;
    return (await server.fetch(`/api/v1${path}`, { method, claims, body: ['GET', 'DELETE'].includes(method) ? undefined : body })).json;
  };
  const poll = (cursor, wait) => server.fetch(`/api/v1/events?rooms=${roomId}&wait=${wait}${cursor ? `&cursor=${cursor}` : ''}`, { claims });
  const joined = await call('chat:join', { roomId });
  let { cursor } = (await poll(undefined, 0)).json;
  const found = [];
  let isHere = true;
  const polling = (async () => {
    while (isHere) {
      const { status, json } = await poll(cursor, 1);
      if (status !== 200) return;
      found.push(...json.events);
      cursor = json.cursor;
    }
  })();
  const of = (event) => found.filter((one) => one.event === event).map((one) => one.payload);
  return {
    joined,
    ask: (event, payload = {}) => call(event, { roomId, ...payload }),
    hears: (event, fits = () => true) => until(() => of(event).find(fits), `'${event}' is polled; so far: ${JSON.stringify(found)}`),
    heard: of,
    leave: () => { isHere = false; return polling; },
  };
}

const WAYS = [
  ['WebSocket', (server, claims, roomId) => overSocket(server, claims, roomId, ['websocket'])],
  ['polling', (server, claims, roomId) => overSocket(server, claims, roomId, ['polling'])],
  ['HTTP', overHttp],
];

for (const [way, enter] of WAYS) {
  describe(`over ${way}`, { timeout: 60_000 }, () => {
    let server;
    const here = [];
    const come = async (claims, roomId) => {
      const one = await enter(server, claims, roomId);
      here.push(one);
      return one;
    };
    const classroom = async ({ isPrivate = true } = {}) => {
      const roomId = `class-${(rooms += 1)}`;
      const body = { roomId, private: isPrivate, members: [7, 8], moderators: [9, 10] };
      assert.equal((await server.fetch('/api/v1/admin/rooms', { method: 'POST', claims: root, body })).status, 200);
      return roomId;
    };
    const code = (answer) => (answer.ok ? 'ok' : answer.error.code);
    const audit = async () => (await server.fetch('/api/v1/admin/audit?limit=1000', { claims: root })).json.items;

    before(async () => { server = await Appliance.start({ env: { ACADEMY_RT_LIMITS_REPORTS_PER_DAY: '3', ACADEMY_RT_LIMITS_MESSAGES_PER_SECOND: '0' } }); });
    after(async () => {
      await Promise.all(here.map((one) => one.leave()));
      await server.stop();
    });

    test('a moderator locks a room: members read, and all are told', async () => {
      const roomId = await classroom();
      const [teacher, learner] = [await come(mo, roomId), await come(ann, roomId)];
      assert.deepEqual([learner.joined.locked, learner.joined.slowModeSeconds, learner.joined.mutedUntil, learner.joined.membership], [false, 0, null, 'member']);
      assert.equal(teacher.joined.membership, 'moderator');
      const own = (await learner.ask('chat:message', { content: 'before' })).id;
      assert.equal(code(await learner.ask('chat:lock', { locked: true })), 'forbidden', 'a member locks nothing');

      assert.deepEqual(await teacher.ask('chat:lock', { locked: true, reason: 'exam' }), { ok: true, roomId, locked: true, slowModeSeconds: 0 });
      for (const one of [teacher, learner]) {
        const { id, ...state } = await one.hears('chat:state');
        assert.deepEqual(state, { roomId, locked: true, slowModeSeconds: 0 });
        assert.ok(id > own);
      }
      for (const [event, payload] of [
        ['chat:message', { content: 'in between' }], ['chat:edit', { messageId: own, content: 'x' }], ['chat:typing', { isTyping: true }],
      ]) {
        const refused = await learner.ask(event, payload);
        assert.deepEqual([code(refused), refused.error.field, refused.error.retryAfterMs], ['forbidden', 'roomId', undefined], event);
        assert.match(refused.error.message, /locked/);
      }
      assert.equal((await learner.ask('chat:history')).messages.length, 1);
      assert.equal(code(await learner.ask('chat:typing', { isTyping: false })), 'ok');
      assert.equal(code(await learner.ask('chat:delete', { messageId: own })), 'ok', 'what they have said they take back');
      for (const one of [teacher, await come(root, roomId)]) assert.equal(code(await one.ask('chat:message', { content: 'who keeps order writes' })), 'ok');
      assert.equal((await learner.ask('chat:rooms')).rooms.find((one) => one.roomId === roomId).locked, true);
      // Asked again it is so already, and nobody is told twice.
      assert.equal((await teacher.ask('chat:lock', { locked: true })).locked, true);
      assert.equal((await teacher.ask('chat:lock', { locked: false })).locked, false);
      await learner.hears('chat:state', (one) => !one.locked);
      assert.equal(code(await learner.ask('chat:message', { content: 'after' })), 'ok');
      assert.equal(learner.heard('chat:state').length, 2);
      const done = (await audit()).filter((one) => one.target === `room ${roomId}`).map(({ actor, action, outcome }) => `${actor} ${action} ${outcome}`);
      assert.deepEqual(done.filter((one) => /lock/.test(one)), ['9 room.lock done: exam', '9 room.unlock done']);
    });

    test('in slow mode each writes once in the interval, and moderators as they like', async () => {
      const roomId = await classroom();
      const [teacher, learner, other] = [await come(mo, roomId), await come(ann, roomId), await come(bob, roomId)];
      assert.equal(code(await learner.ask('chat:slow', { seconds: 1 })), 'forbidden');
      assert.equal((await teacher.ask('chat:slow', { seconds: 2 })).slowModeSeconds, 2);
      await learner.hears('chat:state', (one) => one.slowModeSeconds === 2);
      const first = await learner.ask('chat:message', { content: 'one', clientId: 'k' });
      assert.equal(first.ok, true);
      const refused = await learner.ask('chat:message', { content: 'two' });
      assert.equal(code(refused), 'rate_limited');
      assert.ok(refused.error.retryAfterMs > 0 && refused.error.retryAfterMs <= 2_000, JSON.stringify(refused));
      assert.match(refused.error.message, /slow mode/);
      assert.equal((await learner.ask('chat:message', { content: 'one', clientId: 'k' })).duplicate, true, 'a repetition is no new message');
      for (const one of [other, teacher, teacher]) assert.equal(code(await one.ask('chat:message', { content: 'their own interval, or none' })), 'ok');
      await until(async () => (await learner.ask('chat:message', { content: 'later' })).ok, 'the interval is over');
      assert.equal((await teacher.ask('chat:slow', { seconds: 0 })).slowModeSeconds, 0);
      for (const content of ['fast', 'again']) assert.equal(code(await learner.ask('chat:message', { content })), 'ok');
      for (const [seconds, field] of [[3_601, 'seconds'], [-1, 'seconds'], [1.5, 'seconds'], ['x', 'seconds'], [undefined, 'seconds']]) {
        const bad = await teacher.ask('chat:slow', { seconds });
        assert.deepEqual([code(bad), bad.error.field], ['invalid_payload', field], String(seconds));
      }
    });

    test('a moderator mutes a member, who is told, and nobody who keeps order', async () => {
      const roomId = await classroom();
      const [teacher, learner, second] = [await come(mo, roomId), await come(ann, roomId), await come(max, roomId)];
      const until_ = Date.now() + 3_600_000;
      const muted = await teacher.ask('chat:mute', { userId: 7, until: until_, reason: 'case 12' });
      assert.deepEqual([muted.ok, muted.muted, muted.roomId, muted.userId, muted.until, muted.by], [true, true, roomId, 7, until_, '9']);
      assert.deepEqual(await learner.hears('chat:muted', (one) => one.roomId === roomId), { roomId, userId: 7, until: until_ });
      const refused = await learner.ask('chat:message', { content: 'x' });
      assert.equal(code(refused), 'forbidden');
      assert.ok(refused.error.retryAfterMs > 3_500_000);
      assert.equal((await come(ann, roomId)).joined.mutedUntil, until_, 'who comes back is told');
      assert.equal((await come(bob, roomId)).joined.mutedUntil, null);
      // Nobody else hears of it.
      assert.equal(second.heard('chat:muted').length, 0);
      assert.equal(code(await learner.ask('chat:unmute', { userId: 7 })), 'forbidden');
      assert.equal((await second.ask('chat:unmute', { userId: 7, reason: 'sorry' })).muted, false);
      await learner.hears('chat:muted', (one) => one.roomId === roomId && one.until === null);
      assert.equal(code(await learner.ask('chat:message', { content: 'x' })), 'ok');
      assert.equal(code(await second.ask('chat:unmute', { userId: 7 })), 'not_found');

      for (const userId of [9, 10]) assert.equal(code(await teacher.ask('chat:mute', { userId, seconds: 60 })), 'forbidden', 'a moderator');
      // An administrator, who has been here as one.
      const admin = await come({ userId: 2, role: 'admin' }, roomId);
      assert.equal(code(await admin.ask('chat:message', { content: 'x' })), 'ok');
      assert.equal(code(await teacher.ask('chat:mute', { userId: 2, seconds: 60 })), 'forbidden');
      assert.equal(code(await teacher.ask('chat:mute', { userId: 404, seconds: 60 })), 'not_found');
      assert.equal(code(await teacher.ask('chat:mute', { userId: 'system', seconds: 60 })), 'invalid_payload', 'the platform is nobody to be muted');
      for (const bad of [{}, { seconds: 0 }, { seconds: 31_622_401 }, { until: Date.now() - 5_000 }, { seconds: 5, until: until_ }, { seconds: 'x' }]) {
        assert.equal(code(await teacher.ask('chat:mute', { userId: 7, ...bad })), 'invalid_payload', JSON.stringify(bad));
      }
      assert.equal(code(await teacher.ask('chat:mute', { userId: 7, seconds: 5, reason: 'x'.repeat(501) })), 'invalid_payload');
      const done = (await audit()).filter((one) => one.action.endsWith('mute') && one.outcome.includes(roomId)).map(({ actor, action, target, outcome }) => `${actor} ${action} ${target} ${outcome}`);
      assert.equal(done.length, 2);
      assert.match(done[0], new RegExp(`^9 user.mute user 7 done: in room ${roomId} until 2.*: case 12$`));
      assert.equal(done[1], `10 user.unmute user 7 done: in room ${roomId}: sorry`);
    });

    test('a message is reported to moderators and administrators, with what it said', async () => {
      const roomId = await classroom();
      const [teacher, author, learner, admin] = [await come(mo, roomId), await come(ann, roomId), await come(bob, roomId), await come(root, roomId)];
      const { id } = await author.ask('chat:message', { content: 'an unkind word' });
      const made = await learner.ask('chat:report', { messageId: id, reason: 'it hurts' });
      assert.deepEqual(Object.keys(made).sort(), ['ok', 'reportId', 'reportedAt']);
      const again = await learner.ask('chat:report', { messageId: id, reason: 'in other words' });
      assert.deepEqual([again.reportId, again.reportedAt, again.duplicate], [made.reportId, made.reportedAt, true]);
      for (const one of [teacher, admin]) {
        assert.deepEqual(await one.hears('chat:reported', (event) => event.roomId === roomId), {
          reportId: made.reportId, roomId, messageId: id, reportedAt: made.reportedAt, resolvedAt: null, id: made.reportId,
        });
      }
      await author.ask('chat:edit', { messageId: id, content: 'a kind word' });
      await author.ask('chat:delete', { messageId: id });
      const { items, next } = await teacher.ask('chat:reports');
      assert.equal(next, null);
      const { timestamp, ...report } = items[0];
      assert.deepEqual([items.length, report], [1, {
        reportId: made.reportId, roomId, messageId: id, senderId: 7, content: 'an unkind word', type: 'text',
        reportedBy: 8, reportedAt: made.reportedAt, reason: 'it hurts', resolvedAt: null, resolvedBy: null, note: null,
      }]);
      assert.ok(timestamp <= made.reportedAt);
      for (const one of [author, learner]) {
        assert.equal(code(await one.ask('chat:reports')), 'forbidden');
        assert.equal(code(await one.ask('chat:resolve', { reportId: made.reportId })), 'forbidden');
        assert.equal(one.heard('chat:reported').length, 0);
      }

      // Two resolve it at once: one word stands, and both are told which.
      const second = await come(max, roomId);
      const both = await Promise.all([teacher, second].map((one, n) => one.ask('chat:resolve', { reportId: made.reportId, note: `by ${n}` })));
      assert.equal(both.filter((one) => one.duplicate).length, 1, JSON.stringify(both));
      assert.equal(both[0].note, both[1].note);
      assert.equal(both[0].resolvedBy, both[0].note === 'by 0' ? 9 : 10);
      for (const one of [teacher, second, admin]) await one.hears('chat:reported', (event) => event.reportId === made.reportId && event.resolvedAt === both[0].resolvedAt);
      assert.deepEqual((await teacher.ask('chat:reports')).items, []);
      assert.equal((await teacher.ask('chat:reports', { all: true })).items[0].resolvedBy, both[0].resolvedBy);
      assert.equal(code(await teacher.ask('chat:resolve', { reportId: 999_999 })), 'not_found');

      // What cannot be reported, and how.
      for (const [bad, expected] of [
        [{ messageId: id, reason: 'too late' }, 'not_found'], [{ messageId: 999_999, reason: 'x' }, 'not_found'],
        [{ messageId: id }, 'invalid_payload'], [{ messageId: id, reason: '  ' }, 'invalid_payload'],
        [{ messageId: id, reason: 'x'.repeat(501) }, 'invalid_payload'], [{ messageId: id, reason: 7 }, 'invalid_payload'],
      ]) {
        assert.equal(code(await admin.ask('chat:report', bad)), expected, JSON.stringify(bad).slice(0, 80));
      }
      // So many of each person and day: the one that was made, and two more.
      const more = [];
      for (const content of ['a', 'b', 'c']) {
        const said = await author.ask('chat:message', { content });
        more.push(await learner.ask('chat:report', { messageId: said.id, reason: 'x' }));
      }
      assert.deepEqual(more.map(code), ['ok', 'ok', 'rate_limited']);
      assert.ok(more[2].error.retryAfterMs > 0);
      assert.equal((await learner.ask('chat:report', { messageId: id, reason: 'once more' })).reportId, made.reportId, 'a repetition adds nothing');
      const figures = (await server.fetch('/api/v1/admin/status', { claims: root })).json.quotas.reports;
      assert.ok(figures.refused >= 1 && figures.usersToday >= 1, JSON.stringify(figures));
    });

    test('who keeps order elsewhere, or only reads, keeps none here', async () => {
      const [roomId, elsewhere] = [await classroom({ isPrivate: false }), `other-${(rooms += 1)}`];
      await server.fetch('/api/v1/admin/rooms', { method: 'POST', claims: root, body: { roomId: elsewhere, private: true, moderators: [66] } });
      const [author, guest] = [await come(ann, roomId), await come(stranger, roomId)];
      const { id } = await author.ask('chat:message', { content: 'a word' });
      const acts = (reportId) => [
        ['chat:lock', { locked: true }], ['chat:slow', { seconds: 5 }], ['chat:mute', { userId: 7, seconds: 60 }], ['chat:unmute', { userId: 7 }],
        ['chat:reports', {}], ['chat:resolve', { reportId }],
      ];
      // A guest may report what they read.
      const { reportId } = await guest.ask('chat:report', { messageId: id, reason: 'x' });
      for (const one of [guest, author]) {
        for (const [event, payload] of acts(reportId)) assert.equal(code(await one.ask(event, payload)), 'forbidden', event);
      }
      // A room that one may not enter says no more than that, whatever there is in it.
      const hidden = await classroom();
      const secret = (await (await come(ann, hidden)).ask('chat:message', { content: 'a secret' })).id;
      const outside = async (event, payload) => code(await guest.ask(event, { ...payload, roomId: hidden }));
      for (const [event, payload] of [...acts(reportId), ['chat:report', { messageId: secret, reason: 'x' }], ['chat:report', { messageId: 999_999, reason: 'x' }]]) {
        assert.equal(await outside(event, payload), 'forbidden', event);
      }
      // A report of one room is not resolved in another.
      const teacher = await come(mo, hidden);
      assert.equal(code(await teacher.ask('chat:resolve', { reportId })), 'not_found');
      // A message of another room is none of this one.
      assert.equal(code(await author.ask('chat:report', { messageId: secret, reason: 'x' })), 'not_found');
      // A service token has the rights of its scope.
      const service = async (scope, path, body) => (await server.fetch(`/api/v1${path}`, { method: body ? 'POST' : 'GET', claims: { userId: 'platform', role: undefined, scope }, body })).status;
      assert.deepEqual(
        [await service('rooms', `/rooms/${hidden}/lock`, { locked: true }), await service('users', `/rooms/${hidden}/lock`, { locked: false }),
          await service('users', `/rooms/${hidden}/mute`, { userId: 7, seconds: 60 }), await service('rooms', `/rooms/${hidden}/mute`, { userId: 7, seconds: 60 }),
          await service('admin', '/admin/reports'), await service('rooms', '/admin/reports')],
        [200, 403, 200, 403, 200, 403],
      );
    });
  });
}

test('what was changed and reported while nobody was there is told to who comes back, over a restart', { timeout: 60_000 }, async () => {
  const server = await Appliance.start();
  const roomId = 'r';
  await server.fetch('/api/v1/admin/rooms', { method: 'POST', claims: root, body: { roomId, private: true, members: [7, 8], moderators: [9] } });
  const call = async (claims, method, path, body) => {
    const { status, json, raw } = await server.fetch(`/api/v1${path}`, { method, claims, body });
    assert.equal(status, 200, raw);
    return json;
  };
  const { id } = await call(ann, 'POST', '/rooms/r/messages', { content: 'a word' });
  const cursors = new Map();
  for (const one of [mo, ann, root]) cursors.set(one, (await call(one, 'GET', '/events?rooms=r')).cursor);
  await call(root, 'POST', '/rooms/r/slow', { seconds: 600 });
  await call(root, 'POST', '/rooms/r/lock', { locked: true });
  await call(root, 'POST', '/rooms/r/lock', { locked: false });
  const { reportId } = await call(bob, 'POST', `/rooms/r/messages/${id}/report`, { reason: 'why' });
  await call(root, 'POST', '/rooms/r/mute', { userId: 7, seconds: 600 });
  await server.kill();
  await server.launch();
  const missed = async (claims) => (await call(claims, 'GET', `/events?rooms=r&cursor=${cursors.get(claims)}`)).events.map(({ event, payload }) => [event, payload]);
  const state = ([event, payload]) => [event, payload.locked, payload.slowModeSeconds];
  for (const [claims, isTold] of [[mo, true], [root, true], [ann, false]]) {
    const events = await missed(claims);
    assert.deepEqual(events.filter(([event]) => event === 'chat:state').map(state), [['chat:state', false, 600]], 'as it is now, once');
    assert.deepEqual(events.filter(([event]) => event === 'chat:reported').map(([, payload]) => payload.reportId), isTold ? [reportId] : []);
  }
  // What was set holds.
  const joined = await call(ann, 'POST', '/rooms/r/join', {});
  assert.deepEqual([joined.locked, joined.slowModeSeconds, joined.mutedUntil > Date.now()], [false, 600, true]);
  await call(bob, 'POST', '/rooms/r/messages', { content: 'first' });
  await server.halt();
  await server.launch();
  const early = await server.fetch('/api/v1/rooms/r/messages', { method: 'POST', claims: bob, body: { content: 'second' } });
  assert.deepEqual([early.status, early.json.error.code], [429, 'rate_limited']);
  assert.ok(early.json.error.retryAfterMs > 500_000, 'a restart begins no interval anew');
  assert.equal((await call(mo, 'GET', '/rooms/r/reports')).items[0].content, 'a word');
  await server.stop();
});

test('many acts of two moderators at once leave one state, and all are told each', { timeout: 60_000 }, async () => {
  const server = await Appliance.start();
  const roomId = 'r';
  await server.fetch('/api/v1/admin/rooms', { method: 'POST', claims: root, body: { roomId, private: true, members: [7], moderators: [9, 10] } });
  const [one, two, learner] = await Promise.all([mo, max, ann].map((claims) => overSocket(server, claims, roomId, ['websocket'])));
  const acts = [];
  for (let n = 1; n <= 20; n += 1) acts.push(one.ask('chat:slow', { seconds: n }), two.ask('chat:lock', { locked: n % 2 === 1 }));
  assert.ok((await Promise.all(acts)).every((answer) => answer.ok));
  await learner.hears('chat:state', (state) => state.slowModeSeconds === 20 && !state.locked);
  const states = [one, two, learner].map((each) => each.heard('chat:state'));
  assert.equal(states[0].length, 40, 'each act is a change of its own');
  assert.deepEqual(states[1], states[0]);
  assert.deepEqual(states[2], states[0]);
  assert.ok(states[0].every((state, n) => n === 0 || state.id > states[0][n - 1].id));
  // Neither has taken back what the other had set.
  assert.deepEqual(new Set(states[0].map((state) => state.slowModeSeconds)).size >= 20, true);
  const log = (await server.fetch('/api/v1/admin/audit?limit=1000', { claims: root })).json.items;
  assert.equal(log.filter((record) => ['room.slow', 'room.lock', 'room.unlock'].includes(record.action)).length, 40);
  await server.stop();
});

for (const [way, enabled] of [['Socket.IO', 'true'], ['HTTP', 'false']]) {
  test(`a page of the SDK by ${way} keeps order, waits in slow mode, and is told what it has missed, once`, { timeout: 60_000 }, async () => {
    const server = await Appliance.start({ env: { WEBSOCKET_ENABLED: enabled } });
    const roomId = 'r';
    const post = async (path, body) => assert.equal((await server.fetch(`/api/v1${path}`, { method: 'POST', claims: root, body })).status, 200, path);
    await post('/admin/rooms', { roomId, private: true, members: [7], moderators: [9] });
    const pages = [mo, ann].map((claims) => {
      const page = connect({ io, url: server.url, token: token(claims), retryMinMs: 20, retryMaxMs: 200, pollWaitSeconds: 2 });
      page.heard = [];
      page.onAny((event, payload) => page.heard.push({ event, payload }));
      return page;
    });
    const [teacher, learner] = pages;
    try {
      const joined = await Promise.all(pages.map((page) => page.request('chat:join', { roomId })));
      assert.deepEqual(joined.map((one) => [one.membership, one.locked, one.slowModeSeconds, one.mutedUntil]), [['moderator', false, 0, null], ['member', false, 0, null]]);
      const { id } = await learner.request('chat:message', { roomId, content: 'an unkind word' });
      await teacher.request('chat:lock', { roomId, locked: true });
      await heard(learner, 'chat:state', (state) => state.locked);
      await assert.rejects(learner.request('chat:message', { roomId, content: 'x' }), { code: 'forbidden' });
      await teacher.request('chat:lock', { roomId, locked: false });
      // A message that comes too early is sent when its interval is over.
      await teacher.request('chat:slow', { roomId, seconds: 1 });
      const sent = await Promise.all(['one', 'two'].map((content) => learner.request('chat:message', { roomId, content })));
      assert.ok(sent[1].timestamp - sent[0].timestamp >= 1_000, JSON.stringify(sent));
      await teacher.request('chat:slow', { roomId, seconds: 0 });

      const { reportId } = await learner.request('chat:report', { roomId, messageId: id, reason: 'why' });
      await heard(teacher, 'chat:reported', (report) => report.reportId === reportId);
      assert.equal((await teacher.request('chat:reports', { roomId })).items[0].content, 'an unkind word');
      assert.equal((await teacher.request('chat:resolve', { roomId, reportId, note: 'talked' })).resolvedBy, 9);
      assert.deepEqual((await teacher.request('chat:reports', { roomId })).items, []);
      assert.equal((await teacher.request('chat:reports', { roomId, all: true, limit: 1 })).items[0].note, 'talked');
      assert.equal((await teacher.request('chat:mute', { roomId, userId: 7, seconds: 60 })).muted, true);
      await heard(learner, 'chat:muted', (mute) => mute.until > Date.now());
      await assert.rejects(learner.request('chat:message', { roomId, content: 'x' }), { code: 'forbidden' });
      assert.equal((await teacher.request('chat:unmute', { roomId, userId: 7 })).muted, false);
      await assert.rejects(learner.request('chat:lock', { roomId, locked: true }), { code: 'forbidden' });
      await assert.rejects(teacher.request('chat:resolve', { roomId, reportId: {} }), { code: 'invalid_payload' });

      // What happens while there is no server to be reached for them is told when there is one again.
      await until(() => all(learner, 'chat:state').length === 4, 'the page has heard of each state');
      await server.kill();
      await until(() => pages.every((page) => !page.connected), 'they have noticed');
      await server.launch();
      await post(`/rooms/${roomId}/slow`, { seconds: 7 });
      await post(`/rooms/${roomId}/messages/${sent[0].id}/report`, { reason: 'seen' });
      for (const page of pages) await heard(page, 'chat:state', (state) => state.slowModeSeconds === 7);
      await heard(teacher, 'chat:reported', (report) => report.messageId === sent[0].id);
      await learner.request('chat:history', { roomId });
      assert.equal(all(learner, 'chat:state').length, 5);
      assert.equal(all(learner, 'chat:reported').length, 0);
    } finally {
      for (const page of pages) page.disconnect();
      await server.stop();
    }
  });
}
