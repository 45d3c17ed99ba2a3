// Taking part without a socket (issue 13, sections 5.4 and 5.5). Who polls is present in the rooms they poll, while a poll
// waits and 35 s behind it. A back end posts in somebody's name, with the type it says, and that user is the author; it edits
// and deletes what it has posted, by the message's id or by its own `externalId`; and with the scope `progress` it reads and
// writes a user's progress.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { joinedTo, say } from './acts.mjs';
import { Appliance, all, ask, heard, noLimits, until } from './harness.mjs';

const ADMIN = { userId: 1, role: 'admin' };
const WAYS = ['websocket', 'polling'];
// How long the presence of who polls no more may last, and how long it must.
const [GRACE_MS, GONE_BY_MS] = [35_000, 50_000];

let server;
before(async () => { server = await Appliance.start({ env: noLimits }); });
after(async () => {
  await Promise.allSettled([...pollers].map((poller) => poller.vanish()));
  await server.stop();
});

const http = (claims, method, path, body, headers) => server.fetch(`/api/v1${path}`, { claims, method, body, headers });

const joined = (roomId, claims, transport) => joinedTo(server, roomId, claims, transport);
const post = (claims, roomId, content = 'x') => say(server, claims, roomId, content);

/** Whatever was sent to these sockets before has arrived when this returns. */
async function fence(roomId, ...sockets) {
  const id = await post({ userId: 'fence' }, roomId, 'fence');
  for (const socket of sockets) await heard(socket, 'chat:message', (one) => one.id === id);
}

const pollers = new Set();

/** Somebody without a socket, who polls until they vanish. */
class Poller {
  events = [];
  polls = 0;

  static async of(claims, rooms, { wait = 1, pauseMs = 0, on = server } = {}) {
    const poller = Object.assign(new Poller(), { claims, rooms, wait, pauseMs, on });
    await poller.poll();
    pollers.add(poller);
    poller.ended = poller.go();
    return poller;
  }

  async poll() {
    const { status, json } = await this.on.fetch(`/api/v1/events?rooms=${this.rooms}&wait=${this.cursor ? this.wait : 0}${this.cursor ? `&cursor=${this.cursor}` : ''}`, { claims: this.claims });
    assert.equal(status, 200, JSON.stringify(json));
    this.cursor = json.cursor;
    this.events.push(...json.events);
    this.polls += 1;
  }

  async go() {
    try {
      while (!this.isGone) {
        await new Promise((resolve) => { setTimeout(resolve, this.pauseMs); });
        if (!this.isGone) await this.poll();
      }
    } catch (error) {
      this.failure = error;
    }
    return Date.now();
  }

  /** Gives when the last poll had ended. */
  async vanish() {
    this.isGone = true;
    const at = await this.ended;
    if (this.failure) throw this.failure;
    return at;
  }

  heard(event, fits = () => true) {
    return until(() => this.events.find((one) => one.event === event && fits(one.payload))?.payload, `the poller hears '${event}'; so far: ${JSON.stringify(this.events).slice(0, 400)}`);
  }
}

const guests = (socket, userId) => ['chat:user_joined', 'chat:user_left'].map((event) => all(socket, event).filter((one) => one.userId === userId).length);

describe('who takes part by polling is present', { concurrency: 16, timeout: 180_000 }, () => {
  test('in the members of a join, in presence:list and over HTTP; their coming is told at the first poll', async () => {
    const roomId = 'polled';
    const witness = await joined(roomId, { userId: 200 });
    const poller = await Poller.of({ userId: 201, name: 'Ann' }, roomId);
    try {
      const come = await heard(witness, 'chat:user_joined', (one) => one.userId === 201);
      assert.deepEqual([come.roomId, come.userName], [roomId, 'Ann']);
      assert.equal((await ask(witness, 'chat:join', { roomId })).members, 2);
      const { users } = await ask(witness, 'presence:list', { roomId });
      assert.deepEqual(users.map(({ userId, name, online }) => [userId, name, online]), [[200, 'Ann', true], [201, 'Ann', true]]);
      assert.ok(Math.abs(users[1].lastSeen - Date.now()) < 10_000);
      assert.deepEqual((await http({ userId: 202 }, 'GET', `/rooms/${roomId}/presence`)).json.users.map(({ userId }) => userId), [200, 201]);
      assert.equal((await http({ userId: 202 }, 'POST', `/rooms/${roomId}/join`, {})).json.members, 2, 'who only joins over HTTP is not there');
    } finally {
      await poller.vanish();
    }
  });

  test('not told to have left between two polls, and told so 35 s behind the last one, once', async () => {
    const roomId = 'vanishing';
    const witnesses = await Promise.all(WAYS.map((transport, n) => joined(roomId, { userId: 210 + n }, transport)));
    const poller = await Poller.of({ userId: 212 }, roomId, { pauseMs: 1_500 });
    for (const witness of witnesses) await heard(witness, 'chat:user_joined', (one) => one.userId === 212);
    await until(() => poller.polls > 4, 'some polls and pauses have passed');
    await fence(roomId, ...witnesses);
    for (const witness of witnesses) assert.deepEqual(guests(witness, 212), [1, 0], 'between the polls');
    const vanishedAt = await poller.vanish();
    for (const witness of witnesses) {
      await until(() => guests(witness, 212)[1] > 0, 'their going is told', GONE_BY_MS);
      const tookMs = Date.now() - vanishedAt;
      assert.ok(tookMs > GRACE_MS - 2_000 && tookMs < GONE_BY_MS, `after ${tookMs} ms`);
    }
    assert.equal((await ask(witnesses[0], 'chat:join', { roomId })).members, 2);
    assert.deepEqual((await ask(witnesses[0], 'presence:list', { roomId })).users.map(({ userId }) => userId), [210, 211]);
    await Poller.of({ userId: 212 }, roomId).then((again) => again.vanish());
    for (const witness of witnesses) await until(() => guests(witness, 212).join() === '2,1', 'they are back');
  });

  test('in the rooms they poll, as long as a poll waits and 35 s behind its end, and no more in one that they poll no longer', async () => {
    const witnesses = [await joined('moved-1', { userId: 220 }), await joined('moved-2', { userId: 220 })];
    const first = await Poller.of({ userId: 221 }, 'moved-1,moved-2', { wait: 12 });
    for (const [n, witness] of witnesses.entries()) await heard(witness, 'chat:user_joined', (one) => one.roomId === `moved-${n + 1}` && one.userId === 221);
    // This comes when the poll that waits has waited to its end.
    const endedAt = await first.vanish();
    const second = await Poller.of({ userId: 221 }, 'moved-2');
    await until(() => guests(witnesses[0], 221)[1] > 0, 'they have left the one', GONE_BY_MS);
    assert.ok(Date.now() - endedAt > GRACE_MS - 2_000, `after ${Date.now() - endedAt} ms`);
    await fence('moved-2', witnesses[1]);
    assert.deepEqual(guests(witnesses[1], 221), [1, 0]);
    await second.vanish();
  });

  test('once, whether they poll twice or have a socket as well; a socket that goes is no leave while they poll, nor a poll while the socket stays', async () => {
    const roomId = 'both-ways';
    const witness = await joined(roomId, { userId: 230 });
    const pollers = await Promise.all([231, '231'].map((userId) => Poller.of({ userId }, roomId)));
    await heard(witness, 'chat:user_joined', (one) => Number(one.userId) === 231);
    const socket = await joined(roomId, { userId: 231 }, 'polling');
    assert.equal((await ask(witness, 'chat:join', { roomId })).members, 2);
    const told = () => ['chat:user_joined', 'chat:user_left'].map((event) => all(witness, event).filter((one) => Number(one.userId) === 231).length);
    socket.disconnect();
    await until(async () => (await http(ADMIN, 'GET', '/admin/users/231')).json.sockets === 0, 'the socket has gone');
    await fence(roomId, witness);
    assert.deepEqual(told(), [1, 0], 'they poll on');
    const next = await joined(roomId, { userId: 231 });
    await Promise.all(pollers.map((one) => one.vanish()));
    // Another poller who vanishes now is told; who has the socket is not.
    await Poller.of({ userId: 232 }, roomId).then((other) => other.vanish());
    await until(() => guests(witness, 232)[1] > 0, 'the other has gone', GONE_BY_MS);
    await fence(roomId, witness);
    assert.deepEqual(told(), [1, 0], 'the socket stays');
    next.disconnect();
    await until(() => told()[1] === 1, 'and now they have left');
  });

  test('their typing over HTTP is heard, and is ended when they vanish', async () => {
    const roomId = 'typing-poller';
    const witness = await joined(roomId, { userId: 240 });
    const poller = await Poller.of({ userId: 241, name: 'Ann' }, roomId);
    await heard(witness, 'chat:user_joined', (one) => one.userId === 241);
    assert.equal((await http({ userId: 241, name: 'Ann' }, 'POST', `/rooms/${roomId}/typing`, { isTyping: true })).status, 200);
    assert.deepEqual(await heard(witness, 'chat:typing'), { roomId, userId: 241, userName: 'Ann', isTyping: true });
    await poller.vanish();
    await heard(witness, 'chat:typing', (one) => !one.isTyping);
    await until(() => guests(witness, 241)[1] > 0, 'they have gone', GONE_BY_MS);
    assert.deepEqual(all(witness, 'chat:typing').map(({ isTyping }) => isTyping), [true, false]);
    assert.deepEqual(poller.events.filter(({ event }) => event === 'chat:typing'), [], 'one does not see oneself typing');
  });

  test('with Socket.IO switched off two who poll see each other come, type, be present and go', async () => {
    const off = await Appliance.start({ env: { ...noLimits, WEBSOCKET_ENABLED: 'false' } });
    let ann;
    const bob = await Poller.of({ userId: 8, name: 'Bob' }, 'r', { on: off });
    try {
      ann = await Poller.of({ userId: 7, name: 'Ann' }, 'r', { on: off });
      const come = await bob.heard('chat:user_joined');
      assert.deepEqual([come.roomId, come.userId, come.userName], ['r', 7, 'Ann']);
      await off.fetch('/api/v1/rooms/r/typing', { claims: { userId: 8, name: 'Bob' }, method: 'POST', body: { isTyping: true } });
      await ann.heard('chat:typing', (one) => one.userId === 8 && one.isTyping);
      const { users } = (await off.fetch('/api/v1/rooms/r/presence', { claims: { userId: 8 } })).json;
      assert.deepEqual(users.map(({ userId, online }) => [userId, online]), [[7, true], [8, true]]);
      assert.equal((await off.fetch('/api/v1/rooms/r/join', { claims: { userId: 8 }, method: 'POST', body: {} })).json.members, 2);
      await ann.vanish();
      await until(() => bob.events.some(({ event, payload }) => event === 'chat:user_left' && payload.userId === 7), 'Ann has left', GONE_BY_MS);
      assert.equal(ann.events.filter(({ event }) => event.startsWith('chat:user_')).length, 0, 'one does not hear of oneself');
    } finally {
      await Promise.all([bob, ann].map((one) => one?.vanish()));
      await off.stop();
    }
  });
});

describe('a back end posts, edits and deletes', () => {
  const service = (subject) => ({ userId: subject, role: 'none', scope: 'broadcast' });
  const send = (event, target, payload, { subject = 'svc', key } = {}) => http(service(subject), 'POST', '/broadcast', { target, event, payload }, key && { 'idempotency-key': key });
  const to = (roomId) => ({ room: `chat:${roomId}` });
  const say = async (roomId, payload, options) => {
    const { status, json } = await send('chat:message', to(roomId), payload, options);
    assert.equal(status, 200, JSON.stringify(json));
    return json.id;
  };
  const refusal = ({ status, json }) => [status, json.error?.code];
  const history = async (roomId) => (await http(ADMIN, 'GET', `/rooms/${roomId}/messages`)).json.messages;
  const edit = (roomId, payload, options) => send('chat:message-edited', to(roomId), payload, options);
  const remove = (roomId, payload, options) => send('chat:message-deleted', to(roomId), payload, options);

  test('the type is as sent, system without one, and any other is refused', async () => {
    const witness = await joined('types', { userId: 250 });
    for (const type of ['text', 'image', 'file', 'system', undefined]) {
      const id = await say('types', { content: '/a.png', type });
      assert.equal((await heard(witness, 'chat:message', (one) => one.id === id)).type, type ?? 'system');
      assert.equal((await history('types')).at(-1).type, type ?? 'system');
    }
    for (const type of ['video', '', 'Text', 7, {}]) assert.deepEqual(refusal(await send('chat:message', to('types'), { content: 'x', type })), [400, 'invalid_payload'], JSON.stringify(type));
    assert.equal((await history('types')).length, 5);
  });

  for (const transport of WAYS) {
    test(`who is named as the sender edits and deletes the message as the author, and nobody else does (${transport})`, async () => {
      const roomId = `author-${transport}`;
      const [ann, bob] = [await joined(roomId, { userId: 251 }, transport), await joined(roomId, { userId: 252 }, transport)];
      const ids = [];
      for (const type of ['text', 'image', 'text']) ids.push(await say(roomId, { content: 'in her name', type, senderId: 251, senderName: 'Ann' }));
      const said = await heard(ann, 'chat:message', (one) => one.id === ids[0]);
      assert.deepEqual([said.senderId, said.senderName, said.type], [251, 'Ann', 'text']);
      for (const [event, more] of [['chat:edit', { content: 'not his' }], ['chat:delete', {}]]) assert.equal((await ask(bob, event, { roomId, messageId: ids[0], ...more })).error?.code, 'forbidden');
      assert.equal((await ask(ann, 'chat:edit', { roomId, messageId: ids[0], content: 'hers' })).ok, true);
      assert.equal((await heard(bob, 'chat:message-edited')).newContent, 'hers');
      assert.equal((await ask(ann, 'chat:delete', { roomId, messageId: ids[1] })).ok, true);
      assert.equal((await heard(bob, 'chat:message-deleted')).messageId, ids[1]);
      assert.equal((await http({ userId: '251' }, 'PATCH', `/rooms/${roomId}/messages/${ids[2]}`, { content: 'over HTTP' })).status, 200);
      assert.deepEqual((await history(roomId)).map(({ content, deletedAt }) => deletedAt ? 'gone' : content), ['hers', 'gone', 'over HTTP']);
    });

    test(`chat:message-edited and chat:message-deleted are stored, by messageId and by externalId, and heard with their change ids (${transport})`, async () => {
      const roomId = `changes-${transport}`;
      const witness = await joined(roomId, { userId: 253 }, transport);
      const { cursor } = (await http({ userId: 254 }, 'GET', `/events?rooms=${roomId}`)).json;
      const one = await say(roomId, { content: 'one' });
      const two = await say(roomId, { content: 'two', externalId: 'two', senderId: 253, type: 'text' });
      const mine = await post({ userId: 253 }, roomId, 'mine');
      for (const [ref, id] of [[{ messageId: one }, one], [{ externalId: 'two' }, two], [{ messageId: mine }, mine]]) {
        const answer = await edit(roomId, { ...ref, newContent: `edited ${id}` });
        assert.deepEqual([answer.status, answer.json.ok], [200, true], answer.raw);
        const told = await heard(witness, 'chat:message-edited', (event) => event.messageId === id);
        assert.deepEqual([told.roomId, told.newContent], [roomId, `edited ${id}`]);
        assert.ok(Number.isInteger(told.id) && told.id > mine && Number.isInteger(told.editedAt), JSON.stringify(told));
      }
      assert.deepEqual((await history(roomId)).map(({ id, content }) => [id, content]), [one, two, mine].map((id) => [id, `edited ${id}`]));
      for (const [ref, id] of [[{ messageId: one }, one], [{ externalId: 'two' }, two]]) {
        assert.equal((await remove(roomId, ref)).status, 200);
        const told = await heard(witness, 'chat:message-deleted', (event) => event.messageId === id);
        assert.ok(Number.isInteger(told.id) && Number.isInteger(told.deletedAt) && told.roomId === roomId, JSON.stringify(told));
        assert.deepEqual(refusal(await remove(roomId, ref)), [404, 'not_found'], 'twice');
        assert.deepEqual(refusal(await edit(roomId, { ...ref, newContent: 'x' })), [404, 'not_found'], 'what is gone');
      }
      const stored = await history(roomId);
      assert.deepEqual(stored.map(({ content, deletedAt }) => [content, deletedAt > 0]), [['', true], ['', true], [`edited ${mine}`, false]]);
      const changes = witness.heard.filter(({ event }) => /-(edited|deleted)$/.test(event));
      assert.ok(changes.every(({ payload }, n) => n === 0 || payload.id > changes[n - 1].payload.id), 'change ids rise');
      assert.equal(changes.length, 5, 'each is told once');
      const polled = (await http({ userId: 254 }, 'GET', `/events?rooms=${roomId}&wait=5&cursor=${cursor}`)).json.events;
      assert.deepEqual(polled.filter(({ event }) => /-deleted$/.test(event)).map(({ payload }) => payload.messageId), [one, two]);
    });
  }

  test('an edit with an Idempotency-Key is done once; with another content it is a conflict', async () => {
    const witness = await joined('edit-key', { userId: 255 });
    await say('edit-key', { content: 'x', externalId: 'x' });
    const answers = [];
    for (const newContent of ['y', 'y', 'z']) answers.push(await edit('edit-key', { externalId: 'x', newContent }, { key: 'e' }));
    assert.deepEqual(answers.map(({ status, json }) => [status, json.error?.code ?? json.duplicate ?? 'first']), [[200, 'first'], [200, true], [409, 'conflict']]);
    await fence('edit-key', witness);
    assert.equal(all(witness, 'chat:message-edited').length, 1);
    assert.equal((await history('edit-key'))[0].content, 'y');
  });

  test('an externalId is of one message of a service in a room', async () => {
    const id = await say('external', { content: 'one', externalId: 'e' });
    assert.deepEqual(refusal(await send('chat:message', to('external'), { content: 'two', externalId: 'e' })), [409, 'conflict']);
    const [elsewhere, other] = [await say('external-2', { content: 'two', externalId: 'e' }), await say('external', { content: 'other', externalId: 'e' }, { subject: 'svc-2' })];
    assert.equal(new Set([id, elsewhere, other]).size, 3);
    assert.equal((await edit('external', { externalId: 'e', newContent: 'edited' }, { subject: 'svc-2' })).status, 200);
    assert.deepEqual((await history('external')).map(({ content }) => content), ['one', 'edited']);
    assert.deepEqual((await history('external-2')).map(({ content }) => content), ['two']);
    for (const externalId of ['', 'x'.repeat(65), 7.5, {}]) {
      const refused = await send('chat:message', to('external'), { content: 'x', externalId });
      assert.deepEqual(refusal(refused), [400, 'invalid_payload'], JSON.stringify(externalId));
    }
    await say('external', { content: 'long', externalId: 'x'.repeat(64) });
    assert.ok(!JSON.stringify((await history('external')).slice(-1)).includes('xxxx'), 'it is not shown');
  });

  test('what is wrong with an edit or a delete is told, and nothing is changed or heard', async () => {
    const witness = await joined('wrong', { userId: 256 });
    const id = await say('wrong', { content: 'x', externalId: 'e' });
    const elsewhere = await say('wrong-2', { content: 'x' });
    for (const [payload, status, code] of [
      [{ messageId: id + 100_000 }, 404, 'not_found'], [{ externalId: 'unknown' }, 404, 'not_found'], [{ messageId: elsewhere }, 404, 'not_found'],
      [{}, 400, 'invalid_payload'], [{ messageId: id, externalId: 'e' }, 400, 'invalid_payload'], [{ messageId: 'x' }, 400, 'invalid_payload'], [undefined, 400, 'invalid_payload'],
    ]) {
      const what = JSON.stringify(payload);
      assert.deepEqual(refusal(await edit('wrong', payload && { ...payload, newContent: 'y' })), [status, code], `edit ${what}`);
      assert.deepEqual(refusal(await remove('wrong', payload)), [status, code], `delete ${what}`);
    }
    for (const target of [{ all: true }, { user: 256 }, { users: [256] }, { role: 'learner' }, { room: 'learner' }]) {
      assert.deepEqual(refusal(await send('chat:message-edited', target, { messageId: id, newContent: 'y' })), [400, 'invalid_payload'], JSON.stringify(target));
      assert.deepEqual(refusal(await send('chat:message-deleted', target, { messageId: id })), [400, 'invalid_payload'], JSON.stringify(target));
    }
    for (const [newContent, status, code] of [[undefined, 400, 'invalid_payload'], ['', 400, 'invalid_payload'], ['x'.repeat(4_001), 413, 'too_large']]) {
      assert.deepEqual(refusal(await edit('wrong', { messageId: id, newContent })), [status, code]);
    }
    await fence('wrong', witness);
    assert.deepEqual(witness.heard.map(({ event }) => event).filter((event) => /-(edited|deleted)$/.test(event)), []);
    assert.deepEqual((await history('wrong')).map(({ content, editedAt }) => [content, editedAt]).slice(0, 1), [['x', undefined]]);
  });
});

describe('progress on behalf of a user', () => {
  const service = { userId: 'lms', role: 'none', scope: 'progress' };
  const without = [['another scope', { userId: 'svc', role: 'none', scope: 'broadcast notify users rooms' }], ['a learner', { userId: 260 }], ['a coach', { userId: 261, role: 'coach' }]];
  const report = { lessonId: 42, progress: 75, timeSpent: 120 };
  const known = async (userId) => (await http({ userId }, 'GET', '/progress')).json.items.map(({ lessonId, progress, timeSpent, syncVersion }) => [lessonId, progress, timeSpent, syncVersion]);

  for (const way of [...WAYS, 'http']) {
    const transport = way === 'http' ? 'websocket' : way;
    const asker = async (claims) => {
      if (way === 'http') {
        return {
          sync: async (body) => (await http(claims, 'POST', '/progress', body)).json,
          get: async (query) => (await http(claims, 'GET', `/progress?${new URLSearchParams(query)}`)).json,
          history: async ({ lessonId, ...query }) => (await http(claims, 'GET', `/progress/${lessonId}/history?${new URLSearchParams(query)}`)).json,
        };
      }
      const socket = await server.signedIn(claims, { transports: [way] });
      return { sync: (body) => ask(socket, 'progress:sync', body), get: (query) => ask(socket, 'progress:get', query), history: (query) => ask(socket, 'progress:history', query) };
    };

    test(`with the scope progress it is written and read, and the user's devices hear of it (${way})`, async () => {
      const userId = `learner-${way}`;
      const device = await server.signedIn({ userId }, { transports: [transport] });
      const lms = await asker(service);
      const first = await lms.sync({ ...report, userId });
      assert.deepEqual([first.ok, first.lessonId, first.progress, first.syncVersion], [true, 42, 75, 1], JSON.stringify(first));
      const told = await heard(device, 'progress:updated');
      assert.deepEqual([told.lessonId, told.progress, told.timeSpent, told.syncVersion], [42, 75, 120, 1]);
      const batch = await lms.sync([{ ...report, userId, progress: 80 }, { ...report, userId: `${userId}-2`, lessonId: 1 }]);
      assert.deepEqual(batch.results?.map(({ syncVersion }) => syncVersion), [2, 1], JSON.stringify(batch));
      await heard(device, 'progress:updated', (one) => one.syncVersion === 2);
      assert.deepEqual((await lms.get({ userId })).items.map(({ lessonId, progress }) => [lessonId, progress]), [[42, 80]]);
      assert.deepEqual((await lms.history({ lessonId: 42, userId })).versions.map(({ syncVersion }) => syncVersion), [1, 2]);
      assert.deepEqual([await known(userId), await known(`${userId}-2`)], [[[42, 80, 240, 2]], [[1, 75, 120, 1]]]);
      assert.deepEqual((await lms.get({})).items, [], 'nothing is written as its own');
      assert.equal(all(device, 'progress:updated').length, 2);
      const admin = await asker({ userId: `admin-${way}`, role: 'admin' });
      assert.equal((await admin.sync({ ...report, userId, progress: 90 })).syncVersion, 3, 'an administrator, too');
    });

    test(`without the scope it is forbidden, and nothing is stored for anybody (${way})`, async () => {
      for (const [what, claims] of without) {
        const userId = `untouched-${way}`;
        const other = await asker(claims);
        for (const answer of [
          await other.sync({ ...report, userId }), await other.sync([{ ...report, lessonId: 9 }, { ...report, userId }]),
          await other.get({ userId }), await other.history({ lessonId: 42, userId }),
        ]) {
          assert.equal(answer.error?.code, 'forbidden', `${what}: ${JSON.stringify(answer)}`);
        }
        assert.deepEqual([await known(userId), await known(claims.userId)], [[], []], what);
      }
    });

    test(`a bad userId is an invalid_payload (${way})`, async () => {
      const lms = await asker(service);
      for (const userId of ['', 'a:b', 'a b', 'x'.repeat(65), 1.5, -1, {}, [7], true]) {
        const refused = await lms.sync({ ...report, userId });
        assert.deepEqual([refused.error?.code, refused.error?.field], ['invalid_payload', 'userId'], JSON.stringify(userId));
      }
      for (const userId of ['a:b', 'a b', 'x'.repeat(65)]) {
        for (const refused of [await lms.get({ userId }), await lms.history({ lessonId: 42, userId })]) assert.equal(refused.error?.code, 'invalid_payload', userId);
      }
      assert.deepEqual((await lms.get({})).items, []);
    });

    test(`a syncId on behalf is the back end's: it swallows none of the user's own, and is one for all users (${way})`, async () => {
      const [userId, other] = [`keys-${way}`, `keys-other-${way}`];
      const [lms, own] = [await asker(service), await asker({ userId })];
      const syncId = `s-${way}`;
      const first = await lms.sync({ ...report, userId, syncId });
      const theirs = await own.sync({ ...report, syncId });
      assert.deepEqual([first.duplicate, theirs.duplicate, theirs.syncVersion], [undefined, undefined, 2]);
      assert.equal((await lms.sync({ ...report, userId: other, syncId })).error?.code, 'conflict');
      assert.deepEqual(await lms.sync({ ...report, userId, syncId }), { ...first, duplicate: true });
      assert.deepEqual([await known(userId), await known(other)], [[[42, 75, 240, 2]], []]);
    });
  }

  test('over HTTP the query may name the user of all reports of a body', async () => {
    const answer = await http(service, 'POST', '/progress?userId=queried', [report, { ...report, lessonId: 43 }]);
    assert.deepEqual([answer.status, answer.json.results?.length], [200, 2], answer.raw);
    assert.deepEqual((await known('queried')).map(([lessonId]) => lessonId).sort(), [42, 43]);
    assert.deepEqual(await known('lms'), []);
  });
});
