// What docs/protocol.md says in tables and sentences, tried against a real server. Its examples are run by snippets.test.mjs.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Appliance, all, ask, heard, noLimits, token, until } from '../clients/harness.mjs';
import { blocksIn, docs } from './blocks.mjs';

const page = readFileSync(join(docs, 'protocol.md'), 'utf8');

/** The rows of the table behind a heading, each a list of cells. */
function table(heading) {
  const [, section] = new RegExp(`^#+ ${heading}\\n([^]*?)(?=^#|(?![^]))`, 'm').exec(page) ?? assert.fail(`there is no '${heading}'`);
  const lines = section.split('\n').filter((line) => line.startsWith('|'));
  return lines.slice(lines.findIndex((line) => /^\|[-|]+\|$/.test(line)) + 1).map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()));
}

const quoted = (cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, text]) => text);
const headings = (direction) => page.split('\n').filter((line) => line.startsWith('### `') && line.endsWith(`(${direction})`)).flatMap(quoted).sort();

const ann = { userId: 7, name: 'Ann' };
const eve = { userId: 8, name: 'Eve', role: 'coach' };
const admin = { userId: 1, name: 'Root', role: 'admin' };
const service = { userId: 'billing', role: undefined, scope: 'broadcast notify' };

let server;
const post = (path, claims, body, more = {}) => server.fetch(`/api/v1${path}`, { method: 'POST', claims, body, ...more });
const codeOf = ({ error }) => error?.code ?? 'ok';

describe('the tables', () => {
  test('at a glance have every request and event, and the addresses of docs/http.md', () => {
    const requests = table('Requests at a glance');
    assert.deepEqual(requests.flatMap(([name]) => quoted(name)).sort(), headings('client to server'));
    const http = readFileSync(join(docs, 'http.md'), 'utf8');
    const equals = [...http.matchAll(/^### `([^`]+)`\n\nEquals \[`([^`]+)`\]/gm)].map(([, address, event]) => `${event} ${address}`);
    assert.ok(equals.length >= 16, equals.join());
    assert.deepEqual(requests.filter(([, address]) => address !== '').map(([name, address]) => `${quoted(name)[0]} ${quoted(address)[0]}`).sort(), equals.sort());
    const events = table('Events at a glance').flatMap(([names]) => quoted(names));
    assert.deepEqual(events.sort(), headings('server to client'));
  });

  test('name the rate of each request', async () => {
    const rates = [...new Set(page.match(/`limits\.\w+_per_second`/g))].map((key) => key.slice(1, -1)).filter((key) => !['limits.connects_per_second', 'limits.budget_per_second'].includes(key));
    assert.equal(rates.length, 4);
    const env = (slow) => Object.fromEntries([...rates, 'limits.message_burst'].map((key) => [`ACADEMY_RT_${key.toUpperCase().replace('.', '_')}`, slow.includes(key) ? '1' : '0']));
    for (const rate of rates) {
      server = await Appliance.start({ env: env(rate === 'limits.messages_per_second' ? [rate, 'limits.message_burst'] : [rate]) });
      try {
        const counted = [];
        for (const [name] of table('Requests at a glance')) {
          const [event] = quoted(name);
          const socket = await server.signedIn({ ...ann, userId: `user-of-${event.replace(':', '-')}` });
          // Of a room that is joined, and a message that is there; whatever else is wrong with it, the rate comes first.
          if (event !== 'chat:join') await ask(socket, 'chat:join', { roomId: 'room' });
          const payload = { roomId: 'room', content: 'Hello!', messageId: 1, isTyping: true, lessonId: 42, progress: 1, id: 1, token: 'none' };
          const answers = await Promise.all(Array.from({ length: 4 }, () => ask(socket, event, payload)));
          if (answers.some(({ error }) => error?.code === 'rate_limited')) counted.push(event);
          if (event === 'chat:typing') assert.equal((await ask(socket, event, { ...payload, isTyping: false })).ok, true, 'an end of typing is never refused');
          socket.disconnect();
        }
        const documented = table('Requests at a glance').filter(([,, cell]) => cell.includes(`\`${rate}\``)).flatMap(([name]) => quoted(name));
        assert.deepEqual(counted, documented, rate);
      } finally {
        await server.stop();
      }
    }
  });

  test('say which events are stored: those, and no others, are returned after a restart', async () => {
    server = await Appliance.start({ env: noLimits });
    try {
      const poll = async (cursor) => (await server.fetch(`/api/v1/events?rooms=room${cursor ? `&cursor=${cursor}` : ''}`, { claims: ann })).json;
      await post('/admin/rooms', admin, { roomId: 'room', moderators: [7] });
      const { cursor } = await poll();
      const [phone, other] = [await server.signedIn(ann), await server.signedIn(eve)];
      await ask(phone, 'chat:join', 'room');
      await ask(other, 'chat:join', 'room');
      const { id } = await ask(other, 'chat:message', { roomId: 'room', content: 'one' });
      const second = await ask(other, 'chat:message', { roomId: 'room', content: 'two' });
      await ask(other, 'chat:edit', { roomId: 'room', messageId: id, content: 'one!' });
      await ask(other, 'chat:delete', { roomId: 'room', messageId: second.id });
      await ask(other, 'chat:typing', { roomId: 'room', isTyping: true });
      await ask(phone, 'chat:read', { roomId: 'room', messageId: id });
      await ask(phone, 'chat:slow', { roomId: 'room', seconds: 5 });
      await ask(other, 'chat:report', { roomId: 'room', messageId: id, reason: 'why' });
      await ask(phone, 'progress:sync', { lessonId: 42, progress: 50 });
      const notification = (await post('/notifications', service, { target: { user: 7 }, title: 'a', message: 'b' })).json;
      const wrong = (await post('/notifications', service, { target: { user: 7 }, title: 'wrong', message: 'b' })).json;
      await post(`/admin/notifications/${wrong.id}/recall`, admin, {});
      await post('/broadcast', service, { target: { role: 'learner' }, event: 'system:alert', payload: {} });
      await heard(phone, 'system:alert');
      await ask(phone, 'notification:read', { id: notification.id });
      other.disconnect();
      await heard(phone, 'presence:changed', ({ online }) => !online);
      const names = ({ events }) => new Set(events.map(({ event }) => event));
      const soon = names(await poll(cursor));
      await server.halt();
      await server.launch();
      const late = names(await poll(cursor));
      const rows = table('Events at a glance');
      const documented = (stored) => rows.filter((row) => row[2] === stored).flatMap(([cell]) => quoted(cell));
      assert.ok(rows.every((row) => ['yes', 'no'].includes(row[2])));
      assert.deepEqual([...late].sort(), documented('yes').sort());
      for (const event of [...documented('yes'), 'chat:typing', 'chat:user_joined', 'chat:user_left', 'presence:changed', 'system:alert']) {
        assert.ok(soon.has(event), `${event} is not returned after a short gap: ${[...soon]}`);
      }
    } finally {
      await server.stop();
    }
  });
});

describe('the fixed limits', () => {
  before(async () => { server = await Appliance.start({ env: noLimits }); });
  after(() => server.stop());

  /** The numbers of a row, by the beginning of its first cell. */
  const numbers = (row) => {
    const cells = table('Limits').find(([name]) => name.startsWith(row)) ?? assert.fail(`there is no row '${row}'`);
    return cells[1].match(/\d[\d,]*/g).map((text) => Number(text.replaceAll(',', '')));
  };
  /** As many are accepted, and one more is not. */
  const holds = async (most, tried) => {
    const [last, next] = [await tried(most), await tried(most + 1)];
    assert.ok(last.status === 200 && [400, 401, 413].includes(next.status), `${most}: ${last.status} ${last.raw.slice(0, 200)}; one more: ${next.status} ${next.raw.slice(0, 200)}`);
  };
  const x = (length) => 'x'.repeat(length);
  const get = (path, claims = ann) => server.fetch(`/api/v1${path}`, { claims });
  const broadcast = (body, headers) => post('/broadcast', service, { event: 'e', target: { all: true }, ...body }, { headers });
  const notify = (more) => post('/notifications', service, { target: { user: 7 }, title: 't', message: 'm', ...more });

  test('of a token', async () => {
    const [kibibytes] = numbers('token');
    const bytes = kibibytes * 1_024;
    // Padded to the very size: base64 has steps of its own, so that the last one is found by looking.
    let padded = '';
    for (let length = Math.floor(bytes * 3 / 4) - 600; padded.length <= bytes; length += 1) {
      const next = token({ ...ann, pad: x(length) });
      if (next.length > bytes) {
        assert.ok(bytes - padded.length < 4, 'a token of nearly that size was made');
        assert.equal((await server.fetch('/api/v1/session', { bearer: padded })).status, 200);
        assert.equal((await server.fetch('/api/v1/session', { bearer: next })).json.error.code, 'token_malformed');
        break;
      }
      padded = next;
    }
  });

  test('of pages, batches and lists', async () => {
    const [page] = numbers('page of messages');
    await holds(page, (limit) => get(`/rooms/room/messages?limit=${limit}`));
    await holds(page, (limit) => get(`/notifications?limit=${limit}`));
    await holds(numbers('reports in a batch')[0], (length) => post('/progress', ann, Array.from({ length }, (_, n) => ({ lessonId: n, progress: 1 }))));
    await holds(numbers('ids in one')[0], (length) => post('/notifications/read', ann, { ids: Array.from({ length }, (_, n) => n + 1) }));
    await holds(numbers('users in one')[0], (length) => broadcast({ target: { users: Array.from({ length }, (_, n) => n + 1) } }));
  });

  test('of the long poll', async () => {
    const [rooms, events, seconds] = numbers('rooms in one long poll');
    await holds(rooms, (length) => get(`/events?rooms=${Array.from({ length }, (_, n) => `r${n}`)}`));
    await holds(seconds, (wait) => get(`/events?wait=${wait}`));
    const { cursor } = (await get('/events?rooms=busy')).json;
    const socket = await server.signedIn(eve);
    await Promise.all(Array.from({ length: events + 1 }, (_, n) => ask(socket, 'chat:message', { roomId: 'busy', content: `${n}` })));
    const first = (await get(`/events?rooms=busy&cursor=${cursor}`)).json;
    assert.equal(first.events.length, events);
    assert.ok((await get(`/events?rooms=busy&cursor=${first.cursor}`)).json.events.length >= 1);
  });

  test('of keys and names', async () => {
    const [key] = numbers('`clientId`');
    await holds(key, (length) => post('/rooms/room/messages', ann, { content: 'a', clientId: x(length) }));
    await holds(key, (length) => post('/progress', ann, { lessonId: 1, progress: 1, syncId: x(length) }));
    await holds(key, (length) => broadcast({}, { 'idempotency-key': x(length) }));
    await holds(key, (length) => broadcast({ target: { room: 'chat:room' }, event: 'chat:message', payload: { content: 'a', externalId: x(length) } }));
    const [user, room, lesson] = numbers('user id');
    await holds(user, (length) => get('/session', { ...ann, userId: x(length) }));
    await holds(room, (length) => get(`/rooms/${x(length)}/messages`));
    await holds(lesson, (length) => post('/progress', ann, { lessonId: x(length), progress: 1 }));
    await holds(numbers('event name')[0], (length) => broadcast({ event: x(length) }));
    const [title, message, link, type, kibibytes] = numbers('title, message');
    await holds(title, (length) => notify({ title: x(length) }));
    await holds(message, (length) => notify({ message: x(length) }));
    await holds(link, (length) => notify({ link: x(length) }));
    await holds(type, (length) => notify({ type: x(length) }));
    await holds(kibibytes * 1_024, (bytes) => notify({ metadata: x(bytes - 2) }));
  });

  test('of the requests of one socket that wait', async () => {
    const [most] = numbers('requests of one socket');
    const socket = await server.signedIn({ ...ann, userId: 'hasty' });
    await ask(socket, 'chat:join', 'busy');
    // Each of these waits for the disk, whoever is faster, client or server; the next try is larger.
    let refused = [];
    for (let many = 8; refused.length === 0 && many <= 128; many *= 4) {
      const answers = await Promise.all(Array.from({ length: many * most }, () => ask(socket, 'chat:message', { roomId: 'busy', content: 'x' })));
      assert.ok(answers.slice(0, most).every(({ ok }) => ok), `fewer than ${most} wait`);
      refused = answers.filter(({ ok }) => !ok);
    }
    assert.deepEqual(new Set(refused.map(codeOf)), new Set(['rate_limited']), 'none was refused, or for something else');
  });
});

describe('the sentences', () => {
  before(async () => { server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_LIMITS_MESSAGES_PER_SECOND: '1', ACADEMY_RT_LIMITS_MESSAGE_BURST: '1' } }); });
  after(() => server.stop());

  const session = async (claims) => (await server.fetch('/api/v1/session', { claims })).json;

  test('about claims', async () => {
    assert.deepEqual((await session({ ...ann, role: undefined })).roles, ['learner']);
    assert.deepEqual((await session({ ...ann, role: undefined, roles: [] })).roles, ['learner']);
    assert.deepEqual((await session({ ...ann, role: undefined, roles: ['coach', 'hr'] })).roles, ['hr', 'coach']);
    assert.deepEqual((await session({ ...ann, role: undefined, roles: 'coach' })).roles, ['coach']);
    assert.deepEqual((await session({ ...ann, role: 'coach', roles: ['admin'] })).roles, ['coach']);
    assert.deepEqual((await session({ ...ann, role: 'boss' })).roles, []);
    assert.equal((await session({ ...ann, name: `A\u0007nn${'x'.repeat(300)}` })).name, `Ann${'x'.repeat(197)}`);
    assert.equal((await session({ ...ann, userId: undefined, id: 9, sub: 'x' })).userId, 9);
    assert.equal((await session({ ...ann, userId: undefined, sub: 'x' })).userId, 'x');
    for (const claims of [{ name: 7 }, { role: ['coach'] }, { scope: ['broadcast'] }, { jti: 7 }, { exp: String(2 ** 32) }, { userId: 0 }, { userId: 7.5 }, { userId: 'a b' }, { userId: 'system' }, { userId: 'erased' }]) {
      assert.equal(codeOf(await session({ ...ann, ...claims })), 'token_invalid', JSON.stringify(claims));
    }
  });

  test('about room ids', async () => {
    const code = async (roomId) => codeOf((await server.fetch(`/api/v1/rooms/${encodeURIComponent(roomId)}/messages`, { claims: ann })).json);
    assert.deepEqual(await Promise.all(['room-123', '0', 'é', 'users:1'].map(code)), ['ok', 'ok', 'ok', 'ok']);
    for (const roomId of ['user:1', 'chat:room', 'USER:1', 'a b', 'a\u200bb', 'a\u0007']) assert.equal(await code(roomId), 'invalid_payload', roomId);
  });

  test('about keys: a repetition is answered when the rate is used up, and when the right is gone', async () => {
    await post('/admin/rooms', admin, { roomId: 'staff', private: true, members: [7] });
    const message = { content: 'once', clientId: 'k-1' };
    const first = (await post('/rooms/staff/messages', ann, message)).json;
    const beyond = await post('/rooms/staff/messages', ann, { content: 'more' });
    assert.equal(codeOf(beyond.json), 'rate_limited');
    assert.deepEqual((await post('/rooms/staff/messages', ann, message)).json, { ...first, duplicate: true });
    await server.fetch('/api/v1/admin/rooms/staff/members/7', { method: 'DELETE', claims: admin });
    await until(async () => codeOf((await post('/rooms/staff/messages', ann, { content: 'more' })).json) === 'forbidden', 'the right is gone');
    assert.deepEqual((await post('/rooms/staff/messages', ann, message)).json, { ...first, duplicate: true });
  });

  test('about the range between after and before', async () => {
    const ids = [];
    for (const userId of [11, 12, 13, 14]) ids.push((await post('/rooms/range/messages', { ...ann, userId }, { content: 'x' })).json.id);
    const range = async (more = '') => (await server.fetch(`/api/v1/rooms/range/messages?after=${ids[0]}&before=${ids[3]}${more}`, { claims: ann })).json;
    assert.deepEqual((await range()).messages.map(({ id }) => id), ids.slice(1, 3));
    const short = await range('&limit=1');
    assert.deepEqual([short.messages.map(({ id }) => id), short.hasMore], [[ids[1]], true]);
  });

  test('about read marks', async () => {
    const { id } = (await post('/rooms/marks/messages', { ...ann, userId: 21 }, { content: 'x' })).json;
    const read = async (messageId, room = 'marks') => codeOf((await post(`/rooms/${room}/read`, ann, { messageId })).json);
    assert.deepEqual([await read(id), await read(id + 100), await read(id, 'nowhere')], ['ok', 'not_found', 'not_found']);
    const [phone, laptop] = [await server.signedIn({ ...ann, userId: 22 }), await server.signedIn({ ...ann, userId: 22 })];
    const sent = await ask(phone, 'chat:message', { roomId: 'marks', content: 'mine' });
    assert.equal((await heard(laptop, 'chat:read')).messageId, sent.id, 'of a room that it has not joined');
    assert.deepEqual(all(phone, 'chat:read'), []);
  });

  test('about progress: the higher share and the further status win', async () => {
    const sync = async (report) => (await post('/progress', ann, { lessonId: 'merge', ...report })).json;
    assert.equal((await sync({ progress: 33.5 })).progress, 33.5);
    const done = await sync({ progress: 20, status: 'completed', timeSpent: 5 });
    assert.deepEqual([done.progress, done.status, done.timeSpent], [33.5, 'completed', 5]);
    assert.deepEqual([(await sync({ progress: 40, status: 'not_started', timeSpent: 5 })).status, (await sync({ progress: 0 })).timeSpent], ['completed', 10]);
    assert.equal(codeOf(await sync({ progress: 1, timeSpent: 1.5 })), 'invalid_payload');
  });

  test('about the inbox: the role at the time of reading counts', async () => {
    const titles = async (claims) => (await server.fetch('/api/v1/notifications', { claims })).json.items.map(({ title }) => title);
    const fay = { userId: 31, name: 'Fay' };
    assert.deepEqual(await titles(fay), []);
    await post('/notifications', service, { target: { role: 'coach' }, title: 'to coaches', message: 'm' });
    assert.deepEqual([await titles(fay), await titles({ ...fay, role: 'coach' })], [[], ['to coaches']]);
    assert.deepEqual(await titles({ userId: 32, role: 'coach' }), [], 'not from before the user was first seen');
  });
});

describe('the connection', () => {
  const refusals = () => table('What happens at a connection').map(([status, code]) => `${status} ${quoted(code)[0]}`);
  const handshake = async (query = '', headers = {}) => {
    const answer = await fetch(`${server.url}/ws/?EIO=4&transport=polling${query}`, { headers });
    const { error } = JSON.parse((await answer.text()).replace(/^0/, ''));
    // What Engine.IO itself refuses has a code of its own, in another place.
    return `${answer.status} ${error?.code ?? (answer.ok ? 'ok' : undefined)}`;
  };
  /** Why the socket was disconnected, and with which code if the server has said one. */
  const endOf = async (socket) => {
    let end;
    socket.once('disconnect', (reason) => { end = reason; });
    await until(() => end, 'the socket is disconnected');
    return [end, socket.heard.find(({ event }) => event === 'auth_error')?.payload.code];
  };
  const started = async (options, work) => {
    server = await Appliance.start(options);
    try {
      await work();
    } finally {
      await server.stop();
    }
  };

  test('takes the first token that it finds, in the order of the page', () => started({}, async () => {
    const [auth, query, header] = [token({ userId: 1 }), token({ userId: 2 }), token({ userId: 3 })];
    const userOf = async (options) => (await heard(server.client(null, { transports: ['polling'], ...options }), 'authenticated')).userId;
    const extraHeaders = { authorization: `Bearer ${header}` };
    assert.equal(await userOf({ auth: { token: `Bearer ${auth}` }, query: { token: query }, extraHeaders }), 1);
    assert.equal(await userOf({ query: { token: query }, extraHeaders }), 2);
    assert.equal(await userOf({ extraHeaders }), 3);
    assert.equal((await heard(server.client(null), 'auth_error')).code, 'token_missing');
  }));

  test('is refused before Socket.IO with the statuses and codes of the page', async () => {
    const found = new Set();
    await started({ env: { ACADEMY_RT_LIMITS_CONNECTS_PER_SECOND: '1' } }, async () => {
      const upgrade = await fetch(`${server.url}/ws/?EIO=4&transport=websocket`);
      found.add(`${upgrade.status} ${(await upgrade.json()).error.code}`);
      assert.equal(await handshake('&sid=a&sid=b'), '400 invalid_payload');
      found.add(await handshake('&sid=gone'));
      found.add(await handshake('', { origin: 'https://elsewhere.example' }));
      found.add((await Promise.all([handshake(), handshake(), handshake()])).find((one) => !one.startsWith('200')));
    });
    await started({ env: { WEBSOCKET_ENABLED: 'false' } }, async () => found.add(await handshake()));
    // Whether a server that stops is still asked is a matter of milliseconds: that row is not tried.
    assert.deepEqual([...found].sort(), refusals().filter((one) => one !== '503 unavailable').sort());
  });

  test('is refused in the handshake with auth.reject = "connect_error"', () => started({ env: { ACADEMY_RT_AUTH_REJECT: 'connect_error' } }, async () => {
    const socket = server.client('not-a-token');
    let refused;
    socket.once('connect_error', (error) => { refused = error; });
    const { message } = await until(() => refused, 'the connection is refused');
    assert.equal(JSON.parse(message).code, 'token_malformed');
  }));

  test('gets the codes of auth_error that the page lists', async () => {
    const found = new Set();
    const seconds = (from) => Math.floor(Date.now() / 1_000) + from;
    await started({ env: { ACADEMY_RT_LIMITS_SOCKETS_PER_USER: '1', ACADEMY_RT_LIMITS_SOCKETS_PER_ADDRESS: '6' } }, async () => {
      const noted = async (socket) => {
        const { code, retryAfterMs } = await heard(socket, 'auth_error');
        assert.equal(retryAfterMs !== undefined, code === 'rate_limited', code);
        found.add(code);
        await until(() => !socket.connected, 'the socket is disconnected');
      };
      for (const claims of [null, 'none', { exp: seconds(-60) }, { nbf: seconds(600) }]) await noted(server.client(claims));
      await noted(server.client(token({}, { key: 'another secret, which is long enough' })));
      const act = async (userId, method, path, body = {}) => {
        const socket = await server.signedIn({ userId });
        await server.fetch(`/api/v1/admin${path}`, { method, claims: admin, body });
        await noted(socket);
      };
      await act(51, 'POST', '/users/51/disconnect');
      await act(51, 'POST', '/tokens/revoke', { userId: 51 });
      await act(52, 'POST', '/users/52/block');
      await act(53, 'DELETE', '/users/53');
      await server.signedIn({ userId: 54 });
      await noted(server.client({ userId: 54 }));
      for (const userId of [55, 56, 57, 58, 59]) await server.signedIn({ userId });
      await noted(server.client({ userId: 60 }));
    });
    const listed = table('`auth_error` \\(server to client\\)').flatMap(([codes, when]) => quoted(codes).map((code) => [code, when]));
    // These two need a configuration that is reloaded, or a store that fails.
    assert.deepEqual([...found].sort(), listed.map(([code]) => code).filter((code) => !['realtime_disabled', 'unavailable'].includes(code)).sort());
  });

  test('is answered in order when it asks before authenticated', () => started({}, async () => {
    const socket = server.client(ann);
    const { ok } = await ask(socket, 'chat:join', 'early');
    assert.deepEqual([ok, socket.heard[0].event], [true, 'authenticated']);
  }));

  test('ends with the reasons of the page', () => started({ env: { ACADEMY_RT_LIMITS_PAYLOAD: '16KiB' } }, async () => {
    const reasons = new Map(table('Close reasons').flatMap(([reason, cause]) => quoted(reason).map((one) => [one, cause])));
    const expectEnd = async (socket, reason, code, cause) => {
      assert.deepEqual(await endOf(socket), [reason, code], cause);
      assert.match(reasons.get(reason), cause);
    };
    await expectEnd(server.client('not-a-token'), 'io server disconnect', 'token_malformed', /auth_error/);
    const blocked = await server.signedIn({ userId: 41 });
    const end = expectEnd(blocked, 'io server disconnect', 'user_blocked', /auth_error/);
    await post('/admin/users/41/block', admin, {});
    await end;
    const large = await server.signedIn(ann);
    large.emit('chat:message', { roomId: 'room', content: 'x'.repeat(20_000) });
    await expectEnd(large, 'transport close', undefined, /larger than `limits.payload`/);
    const malformed = await server.signedIn(ann);
    malformed.io.engine.write('2not-json[');
    await expectEnd(malformed, 'transport close', undefined, /malformed packet/);
    const own = await server.signedIn(ann);
    setTimeout(() => own.disconnect(), 0);
    await expectEnd(own, 'io client disconnect', undefined, /`disconnect\(\)`/);
    const last = await server.signedIn(ann);
    server.child.kill('SIGTERM');
    await expectEnd(last, 'transport close', undefined, /server stops/);
    const [draining] = blocksIn('protocol.md', page.slice(page.indexOf('### `server:draining`'))).blocks;
    assert.deepEqual(Object.keys(all(last, 'server:draining')[0]), Object.keys(JSON.parse(draining.text)));
  }));
});
