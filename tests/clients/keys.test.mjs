// Idempotency (issue 13, section 4). A key (`clientId` of a message, `syncId` of a report, `Idempotency-Key` of a back end)
// belongs to who called and to the kind of the request, and is not shown to a room. The same key with the same content gets
// the first answer with `duplicate: true`, before rates, joins and rights are asked; with another content it is `conflict`.
// A broadcast whose key is kept has gone out or goes out at the next start, whenever the server is killed.
// KEYS_SEED repeats the moments of the kills, KEYS_ROUNDS says how many there are.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { joinedTo } from './acts.mjs';
import { Appliance, all, ask, assertRising, dice, heard, noLimits, until } from './harness.mjs';

const ADMIN = { userId: 1, role: 'admin' };
const WAYS = ['websocket', 'polling'];
const seed = Number(process.env.KEYS_SEED ?? Math.floor(Math.random() * 2 ** 31));
const ROUNDS = Number(process.env.KEYS_ROUNDS ?? 12);

const service = (subject) => ({ userId: subject, role: 'none', scope: 'broadcast notify' });
const caller = (server) => (claims, method, path, body, headers) => server.fetch(`/api/v1${path}`, { claims, method, body, headers });
const history = async (server, roomId) => (await server.fetch(`/api/v1/rooms/${roomId}/messages?limit=200`, { claims: ADMIN })).json.messages;
const contents = async (server, roomId) => (await history(server, roomId)).map(({ content }) => content);

/** What a refusal or an answer is, in short. */
const short = ({ status, json }) => [status, json.error?.code ?? json.duplicate ?? 'first'];

let server;
let http;
before(async () => {
  server = await Appliance.start({ env: noLimits });
  http = caller(server);
});
after(() => server.stop());

const broadcast = (subject, key, target, event, payload) => http(service(subject), 'POST', '/broadcast', { target, event, payload }, { 'idempotency-key': key });
const say = (subject, key, roomId, payload) => broadcast(subject, key, { room: `chat:${roomId}` }, 'chat:message', payload);

const joined = (roomId, claims, transport) => joinedTo(server, roomId, claims, transport);

describe('a key belongs to who called and to the kind of the request', () => {
  test('two services with one key in one room: both messages are stored, and each repeat gets its own answer', async () => {
    const [one, two] = [await say('svc-a', 'order-1', 'two-services', { content: 'of a' }), await say('svc-b', 'order-1', 'two-services', { content: 'of b' })];
    assert.deepEqual([short(one), short(two)], [[200, 'first'], [200, 'first']]);
    assert.notEqual(one.json.id, two.json.id);
    assert.deepEqual(await contents(server, 'two-services'), ['of a', 'of b']);
    const again = [await say('svc-a', 'order-1', 'two-services', { content: 'of a' }), await say('svc-b', 'order-1', 'two-services', { content: 'of b' })];
    assert.deepEqual(again.map(({ json }) => [json.id, json.duplicate]), [[one.json.id, true], [two.json.id, true]]);
    assert.equal((await history(server, 'two-services')).length, 2);
  });

  test('two services in the name of one user with one key: both messages are stored', async () => {
    for (const subject of ['svc-a', 'svc-b']) assert.deepEqual(short(await say(subject, 'order-2', 'one-name', { content: subject, senderId: 71, senderName: 'Ann' })), [200, 'first']);
    assert.deepEqual((await history(server, 'one-name')).map(({ senderId, content }) => [senderId, content]), [[71, 'svc-a'], [71, 'svc-b']]);
  });

  for (const transport of WAYS) {
    test(`a learner's clientId does not swallow a back end's message in their name, nor the other way round (${transport})`, async () => {
      const roomId = `names-${transport}`;
      const ann = await joined(roomId, { userId: `ann-${transport}`, name: 'Ann' }, transport);
      const own = (clientId, content) => ask(ann, 'chat:message', { roomId, content, clientId });
      const inTheirName = (key, content) => say('svc', key, roomId, { content, senderId: `ann-${transport}`, senderName: 'Ann' });
      const mine = await own(`k1-${transport}`, 'hers 1');
      const theirs = await inTheirName(`k1-${transport}`, 'its 1');
      assert.deepEqual([mine.ok, mine.duplicate, ...short(theirs)], [true, undefined, 200, 'first']);
      assert.deepEqual(short(await inTheirName(`k2-${transport}`, 'its 2')), [200, 'first']);
      const second = await own(`k2-${transport}`, 'hers 2');
      assert.deepEqual([second.ok, second.duplicate, second.error], [true, undefined, undefined]);
      assert.deepEqual(await contents(server, roomId), ['hers 1', 'its 1', 'its 2', 'hers 2']);
      assert.deepEqual(await own(`k1-${transport}`, 'hers 1'), { ...mine, duplicate: true });
    });
  }

  test("one text as clientId, syncId, key of a message, of a notification and of a passing event: five different keys", async () => {
    const both = { userId: 'all-kinds', role: 'none', scope: 'broadcast notify' };
    const key = { 'idempotency-key': 'kinds' };
    const answers = [
      await http(both, 'POST', '/rooms/kinds/messages', { content: 'own', clientId: 'kinds' }),
      await http(both, 'POST', '/progress', { lessonId: 1, progress: 5, syncId: 'kinds' }),
      await http(both, 'POST', '/broadcast', { target: { room: 'chat:kinds' }, event: 'chat:message', payload: { content: 'sent', senderId: 'all-kinds' } }, key),
      await http(both, 'POST', '/notifications', { target: { user: 9_001 }, title: 'T', message: 'M' }, key),
      await http(both, 'POST', '/broadcast', { target: { user: 9_001 }, event: 'system:alert' }, key),
    ];
    assert.deepEqual(answers.map(short), answers.map(() => [200, 'first']));
    assert.deepEqual(await contents(server, 'kinds'), ['own', 'sent']);
  });

  test('a clientId is shown to its author alone: live on each transport, held back, joined, in the history, by polls of feed and store', async (t) => {
    const own = await Appliance.start({ env: noLimits });
    t.after(() => own.stop());
    const [ann, bob] = [{ userId: 74, name: 'Ann' }, { userId: 75, name: 'Bob' }];
    const send = caller(own);
    const sockets = [];
    for (const claims of [ann, bob]) for (const transport of WAYS) sockets.push([claims, await joinedTo(own, 'mine', claims, transport)]);
    const cursors = await Promise.all([ann, bob].map(async (claims) => (await send(claims, 'GET', '/events?rooms=mine')).json.cursor));
    const said = [];
    // Several at once, so that some share a write.
    await Promise.all(Array.from({ length: 40 }, async (_, n) => {
      const { json } = await send([ann, bob][n % 2], 'POST', '/rooms/mine/messages', { content: `${n}`, clientId: `secret-${n % 2}-${n}` });
      said.push(json.id);
    }));
    const isRight = (messages, claims, where) => {
      const shown = messages.filter((one) => said.includes(one.id));
      assert.equal(shown.length, said.length, where);
      for (const one of shown) assert.equal(one.clientId, one.senderId === claims.userId ? `secret-${one.senderId - 74}-${one.content}` : undefined, `${where}: ${JSON.stringify(one)}`);
    };
    for (const [claims, socket] of sockets) {
      await until(() => all(socket, 'chat:message').length >= said.length, 'all have come');
      isRight(all(socket, 'chat:message'), claims, 'live');
      isRight((await ask(socket, 'chat:history', { roomId: 'mine', limit: 100 })).messages, claims, 'history');
      isRight((await ask(await own.signedIn(claims), 'chat:join', { roomId: 'mine', limit: 100 })).messages, claims, 'join');
    }
    const polled = async (where) => {
      for (const [n, claims] of [ann, bob].entries()) {
        const { json } = await send(claims, 'GET', `/events?rooms=mine&cursor=${cursors[n]}&wait=0`);
        isRight(json.events.filter((one) => one.event === 'chat:message').map((one) => one.payload), claims, where);
      }
    };
    await polled('a poll of the feed');
    await own.halt();
    await own.launch();
    await polled('a poll of the store');
    const page = await caller(own)(ADMIN, 'GET', '/rooms/mine/messages?limit=100');
    assert.ok(!page.raw.includes('secret-'), 'nor to an administrator');
  });

  test('the room does not see the key of a broadcast: not live, not in the history, not by a poll', async () => {
    const socket = await joined('unseen', { userId: 72 });
    const { cursor } = (await http({ userId: 73 }, 'GET', '/events?rooms=unseen')).json;
    const { id } = (await say('svc', 'a-secret-of-the-back-end', 'unseen', { content: 'hello' })).json;
    const live = await heard(socket, 'chat:message', (one) => one.id === id);
    const polled = await http({ userId: 73 }, 'GET', `/events?rooms=unseen&wait=10&cursor=${cursor}`);
    const page = await http({ userId: 73 }, 'GET', '/rooms/unseen/messages');
    assert.equal(polled.json.events[0].payload.id, id);
    for (const message of [live, polled.json.events[0].payload, page.json.messages[0]]) assert.ok(!('clientId' in message), JSON.stringify(message));
    assert.ok(!(polled.raw + page.raw + JSON.stringify(socket.heard)).includes('a-secret-of-the-back-end'));
  });

  test('the same clientId from 100 users at once: 100 messages', async () => {
    const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => http({ userId: `crowd-${n}` }, 'POST', '/rooms/crowd/messages', { content: `m${n}`, clientId: 'crowd' })));
    assert.ok(answers.every((answer) => answer.status === 200 && !answer.json.duplicate));
    const stored = await history(server, 'crowd');
    assert.equal(new Set(stored.map(({ content }) => content)).size, 100);
    assertRising(stored.map(({ seq }) => seq));
  });

  test('the same Idempotency-Key from 100 services at once: 100 messages', async () => {
    const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => say(`crowd-svc-${n}`, 'crowd', 'crowd-of-services', { content: `m${n}` })));
    assert.deepEqual(answers.map(short), answers.map(() => [200, 'first']));
    assert.equal(new Set(await contents(server, 'crowd-of-services')).size, 100);
  });

  for (const transport of WAYS) {
    test(`one user with one clientId from 20 sockets at once: one message, 20 answers alike, 19 of them duplicates (${transport})`, async () => {
      const roomId = `twenty-${transport}`;
      const sockets = await Promise.all(Array.from({ length: 20 }, () => joined(roomId, { userId: `twenty-${transport}` }, transport)));
      const answers = await Promise.all(sockets.map((socket) => ask(socket, 'chat:message', { roomId, content: 'x', clientId: 'one' })));
      assert.equal(answers.filter(({ duplicate }) => duplicate === true).length, 19);
      assert.equal(new Set(answers.map(({ ok, id, seq, timestamp }) => JSON.stringify([ok, id, seq, timestamp]))).size, 1);
      assert.equal((await history(server, roomId)).length, 1);
      for (const socket of sockets) socket.disconnect();
    });
  }

  test('one service with one key 20 times at once: a passing event is heard once, a message stored once', async () => {
    const socket = await joined('once', { userId: 74 });
    const answers = await Promise.all(Array.from({ length: 40 }, (_, n) => (n % 2
      ? say('svc', 'once', 'once', { content: 'x' })
      : broadcast('svc', 'once', { room: 'chat:once' }, 'bell', { n: 1 }))));
    assert.deepEqual(answers.map(({ status, json }) => [status, json.duplicate === true]).filter(([, again]) => !again), [[200, false], [200, false]]);
    await say('svc', 'once-marker', 'once', { content: 'marker' });
    await heard(socket, 'chat:message', (one) => one.content === 'marker');
    assert.deepEqual([all(socket, 'bell').length, all(socket, 'chat:message').length], [1, 2]);
  });
});

describe('the same key with another content is a conflict, and with the same content the first answer', () => {
  const message = { content: 'one', type: 'text', replyToId: 5 };
  const otherMessages = { content: { content: 'two' }, type: { type: 'image' }, replyToId: { replyToId: 6 }, 'no replyToId': { replyToId: undefined } };

  for (const way of [...WAYS, 'http']) {
    test(`clientId: content, type, replyToId, room (${way})`, async () => {
      const roomId = `conflict-${way}`;
      const claims = { userId: `conflict-${way}` };
      const socket = way === 'http' ? undefined : await joined(roomId, claims, way);
      if (socket) await ask(socket, 'chat:join', { roomId: `${roomId}-2` });
      const post = async (body) => {
        if (socket) return ask(socket, 'chat:message', body);
        const { status, json } = await http(claims, 'POST', `/rooms/${body.roomId}/messages`, { ...body, roomId: undefined });
        assert.equal(status, json.ok ? 200 : 409, JSON.stringify(json));
        return json;
      };
      const whole = { roomId, ...message, clientId: 'c' };
      const first = await post(whole);
      assert.equal(first.ok, true);
      for (const [what, other] of Object.entries({ ...otherMessages, room: { roomId: `${roomId}-2` } })) {
        assert.equal((await post({ ...whole, ...other })).error?.code, 'conflict', what);
      }
      assert.deepEqual(await post(whole), { ...first, duplicate: true });
      assert.deepEqual([await contents(server, roomId), await contents(server, `${roomId}-2`)], [['one'], []]);
    });

    test(`syncId: progress, timeSpent, lesson, course, status; a batch with one such report stores nothing (${way})`, async () => {
      const claims = { userId: `sync-${way}` };
      const socket = way === 'http' ? undefined : await server.signedIn(claims, { transports: [way] });
      const sync = async (body) => {
        if (socket) return ask(socket, 'progress:sync', body);
        const { status, json } = await http(claims, 'POST', '/progress', body);
        assert.equal(status, json.ok ? 200 : 409, JSON.stringify(json));
        return json;
      };
      const report = { lessonId: 42, progress: 10, timeSpent: 3, courseId: 'c1', status: 'in_progress', syncId: 's' };
      const first = await sync(report);
      assert.deepEqual([first.ok, first.syncVersion], [true, 1]);
      for (const [what, other] of Object.entries({ progress: { progress: 11 }, timeSpent: { timeSpent: 4 }, lesson: { lessonId: 43 }, course: { courseId: 'c2' }, status: { status: 'completed' } })) {
        assert.equal((await sync({ ...report, ...other })).error?.code, 'conflict', what);
      }
      assert.equal((await sync([{ lessonId: 44, progress: 1, syncId: 'new' }, { ...report, progress: 99 }])).error?.code, 'conflict');
      assert.deepEqual(await sync(report), { ...first, duplicate: true });
      const { items } = (await http(claims, 'GET', '/progress')).json;
      assert.deepEqual(items.map(({ lessonId, progress, timeSpent, syncVersion }) => [lessonId, progress, timeSpent, syncVersion]), [[42, 10, 3, 1]]);
      assert.equal((await sync({ lessonId: 44, progress: 1, syncId: 'new' })).duplicate, undefined, 'the batch has kept no key');
    });
  }

  test('Idempotency-Key of a message: payload, room', async () => {
    const payload = { content: 'one', senderId: 75, senderName: 'Ann', replyToId: 4 };
    const first = await say('svc', 'm', 'key-message', payload);
    for (const other of [{ content: 'two' }, { senderId: 76 }, { senderName: 'Bob' }, { replyToId: 5 }]) {
      assert.deepEqual(short(await say('svc', 'm', 'key-message', { ...payload, ...other })), [409, 'conflict'], JSON.stringify(other));
    }
    assert.deepEqual(short(await say('svc', 'm', 'key-message-2', payload)), [409, 'conflict']);
    const again = await say('svc', 'm', 'key-message', payload);
    assert.deepEqual([again.status, again.json.id, again.json.duplicate], [200, first.json.id, true]);
    assert.deepEqual([await contents(server, 'key-message'), await contents(server, 'key-message-2')], [['one'], []]);
  });

  test('Idempotency-Key of a passing event: payload, event, target; who listens hears the first alone', async () => {
    const socket = await server.signedIn({ userId: 77 });
    assert.deepEqual(short(await broadcast('svc', 'p', { user: 77 }, 'bell', { n: 1 })), [200, 'first']);
    for (const [what, target, event, payload] of [
      ['payload', { user: 77 }, 'bell', { n: 2 }], ['no payload', { user: 77 }, 'bell', undefined], ['event', { user: 77 }, 'gong', { n: 1 }],
      ['target', { users: [77, 78] }, 'bell', { n: 1 }], ['target', { all: true }, 'bell', { n: 1 }],
    ]) {
      assert.deepEqual(short(await broadcast('svc', 'p', target, event, payload)), [409, 'conflict'], what);
    }
    assert.deepEqual(short(await broadcast('svc', 'p', { user: 77 }, 'bell', { n: 1 })), [200, true]);
    await broadcast('svc', 'p-marker', { user: 77 }, 'marker');
    await heard(socket, 'marker');
    assert.deepEqual([all(socket, 'bell'), all(socket, 'gong')], [[{ n: 1 }], []]);
  });

  test('Idempotency-Key of a notification: target, title, message, French texts, link, type, metadata', async () => {
    const body = { target: { user: 79 }, type: 'info', title: 'T', message: 'M', titleFr: 'TF', link: '/a', metadata: { a: 1 } };
    const send = (more) => http(service('svc'), 'POST', '/notifications', { ...body, ...more }, { 'idempotency-key': 'n' });
    const first = await send({});
    for (const other of [
      { target: { user: 80 } }, { target: { all: true } }, { title: 'T2' }, { message: 'M2' }, { titleFr: undefined }, { messageFr: 'MF' },
      { link: '/b' }, { type: 'x' }, { metadata: { a: 2 } },
    ]) {
      assert.deepEqual(short(await send(other)), [409, 'conflict'], JSON.stringify(other));
    }
    const again = await send({});
    assert.deepEqual([again.status, again.json.id, again.json.duplicate], [200, first.json.id, true]);
    const inbox = (await http({ userId: 79 }, 'GET', '/notifications')).json;
    assert.deepEqual(inbox.items.map(({ title }) => title), ['T']);
  });

  test('the same content in another spelling is the same: order of keys, white space, defaults, escapes, 7 and "7"', async () => {
    const raw = (claims, path, body, key) => http(claims, 'POST', path, body, key && { 'idempotency-key': key });
    const as = { userId: 81 };
    for (const [claims, path, key, one, other] of [
      [as, '/rooms/81/messages', undefined, '{"content":"é","clientId":"s"}', '{ "type": "text", "clientId":"s",\n "content":"\\u00e9" }'],
      [as, '/progress', undefined, '{"lessonId":7,"progress":50,"timeSpent":0,"syncId":"s"}', '{"syncId":"s","progress":50.0,"lessonId":"7"}'],
      [service('svc'), '/broadcast', 's1', '{"target":{"room":"chat:81"},"event":"chat:message","payload":{"content":"x","senderId":7}}',
        '{"payload":{"senderId":"7","content":"x"},"event":"chat:message","target":{"room":"chat:81"}}'],
      [service('svc'), '/broadcast', 's2', '{"target":{"user":7},"event":"bell","payload":{"n":1}}', '{ "payload":{"n":1},  "event":"bell","target":{"user":"7"}}'],
      [service('svc'), '/notifications', 's3', '{"target":{"users":[7,8]},"title":"T","message":"M"}', '{"message":"M","title":"T","type":"info","target":{"users":["8",7]}}'],
    ]) {
      const answers = [await raw(claims, path, one, key), await raw(claims, path, other, key)];
      assert.deepEqual(answers.map(short), [[200, 'first'], [200, true]], other);
    }
    const socket = await joined(81, as);
    assert.equal((await ask(socket, 'chat:message', { clientId: 's', type: 'text', content: 'é', roomId: '81' })).duplicate, true);
    assert.deepEqual(await contents(server, '81'), ['é', 'x']);
  });
});

describe('the first answer comes before rules and rates', () => {
  test('a repeat after the burst is used up gets it, over sockets and HTTP', async () => {
    const strict = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_LIMITS_MESSAGES_PER_SECOND: '1', ACADEMY_RT_LIMITS_MESSAGE_BURST: '3', ACADEMY_RT_LIMITS_SYNCS_PER_SECOND: '1' } });
    try {
      for (const [n, transport] of WAYS.entries()) {
        const claims = { userId: 90 + n };
        const socket = await strict.signedIn(claims, { transports: [transport] });
        await ask(socket, 'chat:join', { roomId: 'r' });
        const first = await ask(socket, 'chat:message', { roomId: 'r', content: 'x', clientId: 'k' });
        const flood = await Promise.all(Array.from({ length: 30 }, () => ask(socket, 'chat:message', { roomId: 'r', content: 'x', clientId: 'k' })));
        assert.deepEqual(flood, flood.map(() => ({ ...first, duplicate: true })), 'no repeat is refused');
        const used = await Promise.all(Array.from({ length: 10 }, (_, i) => ask(socket, 'chat:message', { roomId: 'r', content: `y${i}` })));
        assert.ok(used.some(({ error }) => error?.code === 'rate_limited'), 'the burst is used up');
        assert.deepEqual((await caller(strict)(claims, 'POST', '/rooms/r/messages', { content: 'x', clientId: 'k' })).json, { ...first, duplicate: true });
        const report = { lessonId: 1, progress: 1, timeSpent: 1, syncId: 's' };
        const synced = await ask(socket, 'progress:sync', report);
        const syncs = await Promise.all(Array.from({ length: 10 }, () => ask(socket, 'progress:sync', report)));
        assert.deepEqual(syncs, syncs.map(() => ({ ...synced, duplicate: true })));
      }
    } finally {
      await strict.stop();
    }
  });

  for (const transport of WAYS) {
    test(`a repeat on a socket that has not joined, after the room was made private and after the person was removed (${transport})`, async () => {
      const roomId = `closed-${transport}`;
      const claims = { userId: `removed-${transport}` };
      const socket = await joined(roomId, claims, transport);
      const post = (on, clientId, content) => ask(on, 'chat:message', { roomId, content, clientId });
      const first = await post(socket, 'k', 'x');
      const fresh = await server.signedIn(claims, { transports: [transport] });
      assert.deepEqual(await post(fresh, 'k', 'x'), { ...first, duplicate: true }, 'without a join');
      assert.equal((await http(ADMIN, 'PATCH', `/admin/rooms/${roomId}`, { private: true })).status, 200);
      for (const one of [socket, fresh]) {
        assert.deepEqual(await post(one, 'k', 'x'), { ...first, duplicate: true }, 'the room is private now');
        assert.equal((await post(one, 'k2', 'x')).error?.code, 'forbidden');
      }
      assert.equal((await http(ADMIN, 'PUT', `/admin/rooms/${roomId}/members/${claims.userId}`, {})).status, 200);
      const second = await post(fresh, 'k3', 'y');
      assert.equal(second.ok, true);
      assert.equal((await http(ADMIN, 'DELETE', `/admin/rooms/${roomId}/members/${claims.userId}`)).status, 200);
      for (const one of [socket, fresh]) assert.deepEqual(await post(one, 'k3', 'y'), { ...second, duplicate: true }, 'the person was removed');
      assert.equal((await post(fresh, 'k3', 'z')).error?.code, 'conflict', 'and another content is told apart before the rights, too');
      assert.deepEqual((await http(claims, 'POST', `/rooms/${roomId}/messages`, { content: 'y', clientId: 'k3' })).json, { ...second, duplicate: true });
      assert.deepEqual(await contents(server, roomId), ['x', 'y']);
    });
  }

  test('the fingerprint is kept with the answer over kill -9', async () => {
    const own = await Appliance.start({ env: noLimits });
    try {
      const call = caller(own);
      const key = { 'idempotency-key': 'k' };
      const requests = (content) => [
        () => call({ userId: 7 }, 'POST', '/rooms/r/messages', { content, clientId: 'k' }),
        () => call({ userId: 7 }, 'POST', '/progress', { lessonId: content, progress: 1, syncId: 'k' }),
        () => call(service('svc'), 'POST', '/broadcast', { target: { room: 'chat:r' }, event: 'chat:message', payload: { content } }, key),
        () => call(service('svc'), 'POST', '/broadcast', { target: { user: 7 }, event: 'bell', payload: content }, key),
        () => call(service('svc'), 'POST', '/notifications', { target: { user: 7 }, title: content, message: 'm' }, key),
      ];
      const told = async (content) => (await Promise.all(requests(content).map((one) => one()))).map(short);
      assert.deepEqual(await told('a'), Array(5).fill([200, 'first']));
      await own.kill();
      await own.launch();
      assert.deepEqual(await told('b'), Array(5).fill([409, 'conflict']));
      assert.deepEqual(await told('a'), Array(5).fill([200, true]));
    } finally {
      await own.stop();
    }
  });
});

describe('kept means sent', () => {
  test(`no kill -9 around a broadcast leaves a key as a duplicate of what nobody got (seed ${seed})`, { timeout: 300_000 }, async () => {
    const roll = dice(seed);
    const own = await Appliance.start({ env: noLimits });
    const send = (n) => caller(own)(service('svc'), 'POST', '/broadcast', { target: { user: 7 }, event: 'system:alert', payload: { n } }, { 'idempotency-key': `alert-${n}` });
    let next = 0;
    let duplicates = 0;
    try {
      for (let round = 0; round < ROUNDS; round += 1) {
        const before = await own.signedIn({ userId: 7 });
        const numbers = Array.from({ length: 120 }, () => { next += 1; return next; });
        // Killed right behind one of the answers: the first of all in every other round.
        let left = round % 2 ? 1 : 1 + Math.floor(roll() * 100);
        const acknowledged = new Set();
        let killed;
        await Promise.all(numbers.map(async (n) => {
          const answer = await send(n).catch(() => undefined);
          if (answer?.status !== 200) return;
          acknowledged.add(n);
          left -= 1;
          if (left === 0) killed = own.kill();
        }));
        await killed;
        await until(() => !before.connected, 'what had been sent has come');
        await own.launch();
        const after = await own.signedIn({ userId: 7 });
        const has = (socket, n) => all(socket, 'system:alert').filter((one) => one.n === n).length;
        // What was acknowledged goes out without being asked for again.
        for (const n of acknowledged) await until(() => has(before, n) + has(after, n) > 0, `${n}, which was acknowledged, is heard (round ${round})`);
        for (const n of numbers) {
          const { status, json } = await send(n);
          assert.equal(status, 200);
          assert.ok(json.duplicate || !acknowledged.has(n), `${n} was acknowledged, and its key forgotten`);
          duplicates += json.duplicate ? 1 : 0;
          await until(() => has(before, n) + has(after, n) > 0, `${n} is heard, ${json.duplicate ? 'as it is said to be a duplicate' : 'as it is sent anew'} (round ${round})`);
        }
        await caller(own)(service('svc'), 'POST', '/broadcast', { target: { user: 7 }, event: 'marker' });
        await heard(after, 'marker');
        for (const n of numbers) assert.ok(has(after, n) <= 1, `${n} is heard once after the start`);
        for (const socket of [before, after]) socket.disconnect();
      }
      assert.ok(duplicates > 0);
    } finally {
      await own.stop();
    }
  });
});
