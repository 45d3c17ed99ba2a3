// Who is shut out is out: revoked tokens, blocked people, private rooms, tokens that end. Each on both transports, over
// HTTP, in polls that wait, and after a kill -9.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { Agent, request } from 'node:http';
import { promisify } from 'node:util';
import { describe, test } from 'node:test';
import { Appliance, all, ask, binary, gone, heard, noLimits, token, until } from './harness.mjs';

const admin = { userId: 1, role: 'admin', name: 'Root' };
const now = () => Math.floor(Date.now() / 1000);
const PROMPT_MS = 1_000;

// An administrator's call that must work.
async function act(server, method, path, body, claims = admin) {
  const answer = await server.fetch(`/api/v1/admin${path}`, { method, body, claims });
  assert.equal(answer.status, 200, answer.raw);
  return answer.json;
}

// A command on this server's data that must work.
async function command(server, ...args) {
  const env = { PATH: process.env.PATH, JWT_SECRET: server.env?.JWT_SECRET ?? 'a secret of the test suite, long enough' };
  const { stdout } = await promisify(execFile)(binary, ['--output', 'json', ...args, '--data-dir', server.data], { env });
  return JSON.parse(stdout);
}

// Waits until a socket has been shown out, and gives why and how long it took.
async function shownOut(socket, since) {
  await gone(socket);
  return { code: all(socket, 'auth_error').at(-1)?.code, ms: Date.now() - since };
}

// Everywhere that a token is tried, with the code of its refusal.
async function refusals(server, bearer) {
  const codes = {};
  for (const transport of ['websocket', 'polling']) {
    const socket = server.client(bearer, { transports: [transport] });
    codes[transport] = (await heard(socket, 'auth_error')).code;
    assert.deepEqual(all(socket, 'authenticated'), []);
    await gone(socket);
  }
  for (const [name, path, method] of [
    ['session', '/session', 'GET'], ['poll', '/events', 'GET'], ['message', '/rooms/r/messages', 'POST'], ['progress', '/progress', 'GET'],
  ]) {
    const answer = await server.fetch(`/api/v1${path}`, { bearer, method, body: method === 'POST' ? { content: 'x' } : undefined });
    codes[name] = `${answer.status} ${answer.json.error.code}`;
  }
  return codes;
}

function assertRefusedEverywhere(codes, status, code) {
  for (const [where, found] of Object.entries(codes)) {
    assert.ok([code, `${status} ${code}`].includes(found), `${where}: ${found}`);
  }
}

// A poll that waits in a room, when it is counted as waiting. In an object: an async function would wait for its answer.
async function waitingPoll(server, bearer, rooms = 'r') {
  const { json } = await server.fetch(`/api/v1/events?rooms=${rooms}`, { bearer });
  const waiting = async () => Number(/academy_rt_polls_waiting (\d+)/.exec((await server.fetch('/metrics', { claims: admin })).raw)[1]);
  const before = await waiting();
  const answer = server.fetch(`/api/v1/events?rooms=${rooms}&wait=30&cursor=${json.cursor}`, { bearer });
  await until(async () => (await waiting()) > before, 'the poll waits');
  return { answer };
}

const here = (server, bearer, transport) => server.signedIn(bearer, { transports: [transport] });

for (const tls of [false, true]) {
  describe(`over ${tls ? 'TLS' : 'plain HTTP'}`, () => {
    test('a stolen token is revoked by its jti: it is out at once and stays out, and nothing else is', async () => {
      const server = await Appliance.start({ tls, env: noLimits });
      const [stolen, other] = [token({ userId: 7, jti: 'stolen' }), token({ userId: 7, jti: 'other' })];
      const sockets = [await here(server, stolen, 'websocket'), await here(server, stolen, 'polling')];
      const untouched = [await here(server, other, 'websocket'), await here(server, other, 'polling')];
      const poll = await waitingPoll(server, stolen);
      const since = Date.now();
      const done = await act(server, 'POST', '/tokens/revoke', { jti: 'stolen' });
      assert.deepEqual([done.kind, done.jti, done.disconnected, done.by], ['token', 'stolen', 2, '1']);
      for (const socket of sockets) {
        const { code, ms } = await shownOut(socket, since);
        assert.equal(code, 'token_revoked');
        assert.ok(ms < PROMPT_MS, `${ms} ms`);
      }
      const ended = await poll.answer;
      assert.deepEqual([ended.status, ended.json.error.code], [401, 'token_revoked']);
      assert.ok(Date.now() - since < 2 * PROMPT_MS);
      assertRefusedEverywhere(await refusals(server, stolen), 401, 'token_revoked');
      for (const socket of untouched) assert.equal((await ask(socket, 'chat:join', 'r')).ok, true);
      await server.kill();
      await server.launch();
      assertRefusedEverywhere(await refusals(server, stolen), 401, 'token_revoked');
      await (await here(server, other, 'websocket')).disconnect();
      await server.stop();
    });

    test('somebody who has left is blocked: they are out at once, with whatever token, until they are unblocked', async () => {
      const server = await Appliance.start({ tls, env: noLimits });
      const sockets = [await here(server, token({ userId: 7 }), 'websocket'), await here(server, token({ userId: '7', jti: 'x' }), 'polling')];
      const bystander = await server.signedIn({ userId: 77 });
      const since = Date.now();
      const done = await act(server, 'POST', '/users/7/block', { reason: 'has left the department' });
      assert.deepEqual([done.userId, done.blocked, done.disconnected], [7, true, 2]);
      for (const socket of sockets) {
        const { code, ms } = await shownOut(socket, since);
        assert.equal(code, 'user_blocked');
        assert.ok(ms < PROMPT_MS, `${ms} ms`);
      }
      for (const bearer of [token({ userId: 7, iat: now() + 5 }), token({ userId: '7' }), token({ userId: undefined, sub: '7' })]) {
        assertRefusedEverywhere(await refusals(server, bearer), 403, 'user_blocked');
      }
      assert.equal((await ask(bystander, 'chat:join', 'r')).ok, true);
      await server.kill();
      await server.launch();
      assertRefusedEverywhere(await refusals(server, token({ userId: 7 })), 403, 'user_blocked');
      assert.equal((await act(server, 'GET', '/users/7')).blocked, true);
      await act(server, 'POST', '/users/7/unblock', {});
      await server.signedIn({ userId: 7 });
      const again = await server.fetch('/api/v1/admin/users/7/unblock', { method: 'POST', claims: admin, body: {} });
      assert.deepEqual([again.status, again.json.error.code], [404, 'not_found']);
      await server.stop();
    });
  });
}

test('all tokens of a user, and of everybody, issued before a moment are revoked; later ones are good', async () => {
  const server = await Appliance.start({ env: noLimits });
  const old = { iat: now() - 100 };
  const [ann, bob] = [await server.signedIn({ userId: 7, ...old }), await server.signedIn({ userId: 8, ...old })];
  const undated = await server.signedIn({ userId: 7, iat: undefined });
  const since = Date.now();
  const done = await act(server, 'POST', '/tokens/revoke', { userId: 7, issuedBefore: (now() - 50) * 1000 });
  assert.deepEqual([done.kind, done.userId, done.disconnected], ['user_tokens', 7, 2]);
  for (const socket of [ann, undated]) assert.equal((await shownOut(socket, since)).code, 'token_revoked');
  assertRefusedEverywhere(await refusals(server, token({ userId: 7, ...old })), 401, 'token_revoked');
  assertRefusedEverywhere(await refusals(server, token({ userId: 7, iat: undefined })), 401, 'token_revoked');
  const fresh = await server.signedIn({ userId: 7, iat: now() - 49 });
  assert.ok(bob.connected);
  // An earlier moment takes nothing back.
  await act(server, 'POST', '/tokens/revoke', { userId: 7, issuedBefore: (now() - 5_000) * 1000 });
  assertRefusedEverywhere(await refusals(server, token({ userId: 7, ...old })), 401, 'token_revoked');

  const root = { ...admin, iat: now() - 60 };
  const everybody = Date.now();
  await act(server, 'POST', '/tokens/revoke', { all: true, issuedBefore: (now() - 30) * 1000 }, root);
  assert.equal((await shownOut(bob, everybody)).code, 'token_revoked');
  assert.equal((await shownOut(fresh, everybody)).code, 'token_revoked');
  assertRefusedEverywhere(await refusals(server, token(root)), 401, 'token_revoked');
  await server.kill();
  await server.launch();
  assertRefusedEverywhere(await refusals(server, token({ userId: 8, ...old })), 401, 'token_revoked');
  await server.signedIn({ userId: 8, iat: now() - 29 });
  const listed = await act(server, 'GET', '/tokens/revoked');
  assert.deepEqual(listed.items.map((one) => one.kind).sort(), ['all_tokens', 'user_tokens']);
  await server.stop();
});

test('a field of a service or admin body that nobody knows is refused, and nothing is done', async (t) => {
  const server = await Appliance.start({ env: noLimits });
  t.after(() => server.stop());
  await act(server, 'POST', '/rooms', { roomId: 'board', private: true, members: [7] });
  for (const [method, path, body, field] of [
    ['POST', '/admin/rooms', { roomId: 'p', privat: true }, 'privat'], ['PATCH', '/admin/rooms/board', { private: true, nam: 'x' }, 'nam'],
    ['PUT', '/admin/rooms/board/members/8', { rolle: 'moderator' }, 'rolle'], ['POST', '/admin/tokens/revoke', { jti: 'j', expires_at: 5 }, 'expires_at'],
    ['POST', '/admin/users/8/block', { reasn: 'x' }, 'reasn'], ['POST', '/admin/holds', { userId: 8, reason: 'x', until: 5 }, 'until'],
    ['POST', '/broadcast', { target: { all: true }, event: 'e', payload: {}, room: 'r' }, 'room'], ['POST', '/broadcast', { target: { al: true }, event: 'e' }, 'al'],
    ['POST', '/notifications', { target: { all: true }, title: 't', message: 'm', title_fr: 'f' }, 'title_fr'],
  ]) {
    const { status, json } = await server.fetch(`/api/v1${path}`, { method, body, claims: admin });
    assert.deepEqual([status, json.error.code], [400, 'invalid_payload'], `${path} ${JSON.stringify(body)}`);
    assert.match(JSON.stringify(json.error), new RegExp(`\\b${field}\\b`), 'it is named');
  }
  assert.deepEqual((await act(server, 'GET', '/rooms')).items.map((one) => [one.roomId, one.private, one.members]), [['board', true, 1]]);
  assert.deepEqual([(await act(server, 'GET', '/tokens/revoked')).items, (await act(server, 'GET', '/holds')).items], [[], []]);
});

test('a bad revocation is refused with its field, and revokes nothing', async () => {
  const server = await Appliance.start({ env: noLimits });
  const ann = await server.signedIn({ userId: 7, jti: 'a' });
  const revoke = (body, claims = admin) => server.fetch('/api/v1/admin/tokens/revoke', { method: 'POST', body, claims });
  for (const [body, field] of [
    [{}, 'jti'], [{ jti: 'a', userId: 7 }, 'jti'], [{ jti: 'a', all: true }, 'jti'], [{ jti: '' }, 'jti'], [{ jti: 'x'.repeat(257) }, 'jti'],
    [{ userId: 7, issuedBefore: Date.now() + 60_000 }, 'issuedBefore'], [{ userId: 7, issuedBefore: 'yesterday' }, 'issuedBefore'],
    [{ userId: 7.5 }, 'userId'], [{ userId: 'a:b' }, 'userId'], [{ jti: 5 }, 'jti'],
  ]) {
    const { status, json } = await revoke(body);
    assert.deepEqual([status, json.error.code, json.error.field], [400, 'invalid_payload', field], JSON.stringify(body));
  }
  for (const claims of [{ userId: 7 }, { userId: 9, role: 'hr_admin' }, { userId: 9, role: 'coach' }, { userId: 's', role: 'none', scope: 'rooms broadcast' }]) {
    assert.equal((await revoke({ userId: 7 }, claims)).status, 403, JSON.stringify(claims));
    for (const [method, path] of [['GET', '/users'], ['GET', '/users/7'], ['POST', '/users/7/block'], ['GET', '/tokens/revoked'], ['POST', '/users/7/disconnect']]) {
      const body = method === 'POST' ? {} : undefined;
      assert.equal((await server.fetch(`/api/v1/admin${path}`, { method, body, claims })).status, 403, `${path} ${JSON.stringify(claims)}`);
    }
  }
  // A service with the scope users may revoke a user's, but not everybody's.
  const service = { userId: 'svc', role: 'none', scope: 'users' };
  assert.equal((await revoke({ all: true }, service)).status, 403);
  const self = await server.fetch('/api/v1/admin/users/1/block', { method: 'POST', body: {}, claims: admin });
  assert.deepEqual([self.status, self.json.error.field], [400, 'userId']);
  assert.ok(ann.connected);
  assert.deepEqual((await act(server, 'GET', '/tokens/revoked')).items, []);
  assert.equal((await revoke({ jti: 'a' }, service)).status, 200);
  await gone(ann);
  await server.stop();
});

test('a disconnected user may come again', async () => {
  const server = await Appliance.start({ env: noLimits });
  const sockets = [await here(server, token({ userId: 7 }), 'websocket'), await here(server, token({ userId: 7 }), 'polling')];
  const since = Date.now();
  assert.equal((await act(server, 'POST', '/users/7/disconnect', {})).disconnected, 2);
  for (const socket of sockets) assert.ok((await shownOut(socket, since)).ms < PROMPT_MS);
  await server.signedIn({ userId: 7 });
  const { items } = await act(server, 'GET', '/connections');
  assert.deepEqual(items.map((one) => [one.userId, one.transport, one.address]), [[7, 'websocket', '127.0.0.1']]);
  await server.stop();
});

test('a live socket, a poll that waits and a request end with their token, on both transports', async () => {
  const server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_AUTH_LEEWAY: '1s' } });
  const exp = now() + 3;
  const bearer = token({ userId: 7, exp });
  const sockets = [await here(server, bearer, 'websocket'), await here(server, bearer, 'polling')];
  const kept = await server.signedIn({ userId: 7, exp });
  const poll = await waitingPoll(server, bearer);
  for (const socket of [...sockets, kept]) assert.equal((await heard(socket, 'auth:expiring')).expiresAt, exp * 1000);
  const renewed = await ask(kept, 'auth:refresh', { token: token({ userId: 7, exp: exp + 600 }) });
  assert.deepEqual([renewed.ok, renewed.expiresAt], [true, (exp + 600) * 1000]);
  const ends = (exp + 1) * 1000;
  for (const socket of sockets) {
    await gone(socket);
    const late = Date.now() - ends;
    assert.equal(all(socket, 'auth_error').at(-1).code, 'token_expired');
    assert.ok(late >= -20 && late < 1_000, `${late} ms behind exp and leeway`);
  }
  const { status } = await poll.answer;
  assert.equal(status, 200);
  assert.ok(Date.now() - ends < 1_500, 'no poll waits beyond the end of its token');
  assert.equal((await server.fetch('/api/v1/session', { bearer })).json.error.code, 'token_expired');
  assert.ok(kept.connected, 'a renewed one stays');
  await server.stop();
});

test('nobody refreshes into another user, out of a block or with a revoked token', async () => {
  const server = await Appliance.start({ env: noLimits });
  const ann = await server.signedIn({ userId: 7 });
  await act(server, 'POST', '/tokens/revoke', { jti: 'revoked' });
  for (const [bearer, code] of [
    [token({ userId: 8 }), 'forbidden'], [token({ userId: 7, jti: 'revoked' }), 'token_revoked'],
    [token({ userId: 7, exp: now() - 100 }), 'token_expired'], ['x.y.z', 'token_malformed'], [token({ userId: 7 }, { key: 'k'.repeat(40) }), 'token_invalid'],
  ]) {
    const { ok, error } = await ask(ann, 'auth:refresh', { token: bearer });
    assert.deepEqual([ok, error.code], [false, code]);
  }
  assert.ok(ann.connected, 'the old token is still good');
  assert.equal((await ask(ann, 'chat:join', 'r')).ok, true);
  await server.stop();
});

describe('rooms', () => {
  const ways = (server, claims, roomId, messageId = 1) => {
    const path = `/api/v1/rooms/${encodeURIComponent(roomId)}`;
    const call = (method, rest, body) => () => server.fetch(`${path}${rest}`, { method, body, claims }).then(({ status, json }) => `${status} ${json.error?.code}`);
    return {
      'HTTP history': call('GET', '/messages'), 'HTTP message': call('POST', '/messages', { content: 'x' }),
      'HTTP edit': call('PATCH', `/messages/${messageId}`, { content: 'x' }), 'HTTP delete': call('DELETE', `/messages/${messageId}`),
      'HTTP typing': call('POST', '/typing', { isTyping: true }), 'HTTP read': call('POST', '/read', { messageId }),
      'HTTP poll': () => server.fetch(`/api/v1/events?rooms=${encodeURIComponent(roomId)}`, { claims }).then(({ status, json }) => `${status} ${json.error?.code}`),
    };
  };
  const events = (roomId, messageId = 1) => [
    ['chat:join', { roomId }], ['chat:join', roomId], ['chat:history', { roomId }], ['chat:message', { roomId, content: 'x' }],
    ['chat:edit', { roomId, messageId, content: 'x' }], ['chat:delete', { roomId, messageId }], ['chat:read', { roomId, messageId }],
    ['chat:typing', { roomId, isTyping: true }], ['presence:list', { roomId }],
  ];

  test('a stranger gets nothing of a private room, by any way; its members and administrators do', async () => {
    const server = await Appliance.start({ env: noLimits });
    await act(server, 'POST', '/rooms', { roomId: 'board', name: 'The board', private: true, members: [7], moderators: [8] });
    const [ann, mod, stranger, root] = await Promise.all([7, 8, 9, 1].map((userId) => server.signedIn({ userId, role: userId === 1 ? 'admin' : 'learner' })));
    for (const socket of [ann, mod, root]) assert.equal((await ask(socket, 'chat:join', { roomId: 'board' })).ok, true);
    const { id } = await ask(ann, 'chat:message', { roomId: 'board', content: 'in confidence' });
    for (const transport of ['websocket', 'polling']) {
      const socket = transport === 'websocket' ? stranger : await here(server, token({ userId: 9 }), 'polling');
      for (const [event, payload] of events('board', id)) {
        const { ok, error } = await ask(socket, event, payload);
        assert.equal(ok, false, `${transport} ${event}`);
        assert.ok(['forbidden', 'not_joined'].includes(error.code), `${event}: ${error.code}`);
      }
    }
    for (const [way, go] of Object.entries(ways(server, { userId: 9 }, 'board', id))) assert.equal(await go(), '403 forbidden', way);
    assert.equal((await ask(mod, 'chat:edit', { roomId: 'board', messageId: id, content: 'put better' })).ok, true, 'a moderator may');
    assert.equal((await ask(ann, 'chat:history', { roomId: 'board' })).messages[0].content, 'put better');
    await ask(ann, 'chat:message', { roomId: 'board', content: 'more' });
    await heard(root, 'chat:message', (one) => one.content === 'more');
    assert.ok(!stranger.heard.some((one) => one.event.startsWith('chat:')), JSON.stringify(stranger.heard));
    assert.ok(!(await ask(stranger, 'chat:rooms', {})).rooms.some((one) => one.roomId === 'board'));
    await server.stop();
  });

  test('a removed member is out of the live room at once, on both transports and in polls', async () => {
    const server = await Appliance.start({ env: noLimits });
    await act(server, 'POST', '/rooms', { roomId: 'board', private: true, members: [7, 8] });
    const bob = await server.signedIn({ userId: 8, name: 'Bob' });
    await ask(bob, 'chat:join', 'board');
    const anns = [await here(server, token({ userId: 7 }), 'websocket'), await here(server, token({ userId: 7 }), 'polling')];
    for (const socket of anns) await ask(socket, 'chat:join', 'board');
    await ask(anns[0], 'chat:typing', { roomId: 'board', isTyping: true });
    await ask(bob, 'chat:join', 'open');
    const poll = await waitingPoll(server, token({ userId: 7 }), 'board,open');
    const since = Date.now();
    const done = await act(server, 'DELETE', '/rooms/board/members/7');
    assert.deepEqual([done.userId, done.role, done.before], [7, null, 'member']);
    await heard(bob, 'chat:user_left', (one) => one.userId === 7);
    for (const socket of anns) {
      const told = await heard(socket, 'request:error');
      assert.deepEqual([told.event, told.code, told.field], ['chat:join', 'forbidden', 'roomId']);
      assert.ok(Date.now() - since < 2 * PROMPT_MS);
    }
    assert.equal((await ask(bob, 'chat:message', { roomId: 'board', content: 'without Ann' })).ok, true);
    await ask(bob, 'chat:message', { roomId: 'open', content: 'for all' });
    const { json } = await poll.answer;
    assert.deepEqual(json.events.map((one) => [one.event, one.payload.content]), [['chat:message', 'for all']]);
    for (const socket of anns) {
      assert.equal((await ask(socket, 'chat:message', { roomId: 'board', content: 'still here?' })).error.code, 'forbidden');
      assert.equal((await ask(socket, 'chat:join', 'board')).error.code, 'forbidden');
      assert.ok(!JSON.stringify(socket.heard).includes('without Ann'));
      assert.ok(socket.connected, 'the socket itself stays');
    }
    await server.stop();
  });

  test('a room made private, and open rooms switched off by a reload, put out whoever has no right to be in it', async () => {
    const server = await Appliance.start({ env: noLimits });
    const [ann, bob] = [await server.signedIn({ userId: 7 }), await server.signedIn({ userId: 8 })];
    for (const socket of [ann, bob]) await ask(socket, 'chat:join', 'r');
    await ask(ann, 'chat:message', { roomId: 'r', content: 'hello' });
    await act(server, 'PUT', '/rooms/r/members/7', { role: 'member' });
    await act(server, 'PATCH', '/rooms/r', { private: true });
    await heard(bob, 'request:error', (one) => one.code === 'forbidden');
    await ask(ann, 'chat:message', { roomId: 'r', content: 'among us' });
    assert.deepEqual(all(bob, 'chat:message').map((one) => one.content), ['hello']);
    assert.deepEqual(all(ann, 'request:error'), []);
    await server.stop();
  });

  test('who is no administrator any more loses the private rooms that only administrators may enter', async () => {
    const server = await Appliance.start({ env: noLimits });
    await act(server, 'POST', '/rooms', { roomId: 'board', private: true, members: [7] });
    const [ann, ex] = [await server.signedIn({ userId: 7 }), await server.signedIn({ userId: 2, role: 'admin' })];
    for (const socket of [ann, ex]) await ask(socket, 'chat:join', 'board');
    assert.equal((await ask(ex, 'auth:refresh', { token: token({ userId: 2, role: 'learner' }) })).ok, true);
    await heard(ex, 'request:error', (one) => one.code === 'forbidden');
    const still = await server.signedIn({ userId: 3, role: 'admin' });
    assert.equal((await ask(ann, 'chat:message', { roomId: 'board', content: 'now' })).ok, true);
    for (const [target, event] of [[{ role: 'admin' }, 'for:admins'], [{ all: true }, 'for:all']]) {
      assert.equal((await server.fetch('/api/v1/broadcast', { method: 'POST', claims: admin, body: { target, event, payload: {} } })).status, 200);
    }
    await heard(ex, 'for:all');
    await heard(still, 'for:admins');
    await heard(ann, 'chat:message');
    assert.deepEqual([all(ex, 'chat:message'), all(ex, 'for:admins')], [[], []]);
    await server.stop();
  });

  test('no spelling of an inner room lets anybody hear what is for others', async () => {
    const server = await Appliance.start({ env: noLimits });
    const victim = await server.signedIn({ userId: 8, role: 'admin' });
    await act(server, 'POST', '/rooms', { roomId: 'secret', private: true, members: [8] });
    await act(server, 'POST', '/rooms', { roomId: 12, private: true, members: [8] });
    for (const room of ['secret', 12]) assert.equal((await ask(victim, 'chat:join', room)).ok, true);
    const attacker = await server.signedIn({ userId: 7 });
    const spellings = [
      'user:8', 'USER:8', 'User:8', 'user:08', 'user%3A8', 'user%3a8', 'user\u200b:8', 'user：8', 'ｕｓｅｒ:8', 'us\u0435r:8', 'user:8\u200d', 'user:8\ufeff', 'user:٨',
      'chat:user:8', '../user:8', '..', '.', '/user:8', 'user/8', 'user:8,user:7', 'user:*', '*', '#', 'user:8/..', 'user:8\u0301',
      'admin', 'ADMIN', 'Admin', 'coach', 'hr', 'learner', 'all', 'ALL', 'role:admin', 'admin\u200b', 'аdmin', 'notification', 'broadcast',
      'chat:secret', 'chat:12', 'CHAT:secret', 'Secret', 'SECRET', 'secret\u200b', 'ｓecret', 'se\u0441ret', 'secret/', './secret', 'secret%20', 'ſecret',
      '012', '0012', '12.0', '１２', '1٢', '+12', '12e0', '0x0c', 'toString', '__proto__', 'constructor', 'hasOwnProperty', '\ud83d\ude00',
      ['secret'], { roomId: 'secret' }, { roomId: ['secret'] }, { roomId: { id: 'secret' } }, [12], { roomId: 12.5 }, { roomId: -12 }, { roomId: 2 ** 53 }, null, true, '', ' ', 'secret ', ' secret',
      'secret\n', 'secret\u0000', 'user:8\u0000', '\u202esecret', 'x'.repeat(101),
    ];
    let joined = 0;
    for (const room of spellings) {
      const answer = await ask(attacker, 'chat:join', room);
      const name = JSON.stringify(room);
      if (answer.ok) {
        joined += 1;
        // It is a chat room of just that name, and empty.
        assert.equal(answer.roomId, room, name);
        assert.deepEqual([answer.messages, answer.lastSeq, answer.members], [[], 0, 1], name);
      } else {
        assert.ok(['invalid_payload', 'forbidden'].includes(answer.error.code), `${name}: ${answer.error.code}`);
      }
    }
    assert.ok(joined > 20, `${joined} are rooms like others`);
    for (const room of ['secret', 12, '12']) assert.equal((await ask(attacker, 'chat:join', room)).error.code, 'forbidden', String(room));
    const broadcast = (target, event) => server.fetch('/api/v1/broadcast', { method: 'POST', claims: admin, body: { target, event, payload: { s: 1 } } });
    await broadcast({ user: 8 }, 'for:8');
    await broadcast({ role: 'admin' }, 'for:admin');
    await broadcast({ room: 'chat:secret' }, 'for:secret');
    await broadcast({ room: 'chat:12' }, 'for:12');
    await ask(victim, 'chat:message', { roomId: 'secret', content: 'word' });
    await ask(victim, 'chat:message', { roomId: 12, content: 'word' });
    await ask(victim, 'progress:sync', { lessonId: 1, progress: 5 });
    await server.fetch('/api/v1/notifications', { method: 'POST', claims: admin, body: { target: { user: 8 }, title: 'T', message: 'M' } });
    for (const event of ['for:8', 'for:admin', 'for:secret', 'for:12', 'progress:updated', 'notification:new']) await heard(victim, event);
    await broadcast({ user: 7 }, 'for:7');
    await heard(attacker, 'for:7');
    const leaked = attacker.heard.filter((one) => !['authenticated', 'for:7'].includes(one.event));
    assert.deepEqual(leaked, []);
    // Nor do tokens whose user or role is spelled like a room put anybody into it.
    for (const claims of [{ userId: '8,user:8' }, { userId: 'user:8' }, { userId: '8 ' }, { userId: '8\u0000' }, { userId: -8 }, { userId: 8.5 }, { userId: '' }, { userId: [8] }, { userId: { a: 8 } }]) {
      const socket = server.client(claims);
      assert.equal((await heard(socket, 'auth_error')).code, 'token_invalid', JSON.stringify(claims));
    }
    for (const role of ['ADMIN ', 'admin\u200b', 'user:8', 'all', 'аdmin', 'chat:secret']) {
      const { rooms } = await heard(await server.signedIn({ userId: 7, role }), 'authenticated');
      assert.deepEqual(rooms, ['user:7', 'all'], role);
    }
    await server.stop();
  });

  test('nobody is the system: its name is no user of a token', async () => {
    const server = await Appliance.start({ env: noLimits });
    for (const userId of ['system', 'erased']) {
      const socket = server.client({ userId });
      assert.equal((await heard(socket, 'auth_error')).code, 'token_invalid', userId);
      assert.equal((await server.fetch('/api/v1/session', { claims: { userId } })).status, 401);
    }
    await server.stop();
  });
});

describe('with open rooms off', () => {
  const closed = { ...noLimits, ACADEMY_RT_CHAT_OPEN_ROOMS: 'false' };

  test('a room that is not there answers as a private one, byte for byte', async () => {
    const server = await Appliance.start({ env: closed });
    await act(server, 'POST', '/rooms', { roomId: 'is-there', private: true, members: [8] });
    await act(server, 'POST', '/rooms', { roomId: 1111, private: true, members: [8] });
    const bob = await server.signedIn({ userId: 8 });
    await ask(bob, 'chat:join', 'is-there');
    const { id } = await ask(bob, 'chat:message', { roomId: 'is-there', content: 'word' });
    for (const transport of ['websocket', 'polling']) {
      const stranger = await here(server, token({ userId: 9 }), transport);
      for (const [there, missing] of [['is-there', 'not-here'], [1111, 2222]]) {
        const requests = (roomId) => [
          ['chat:join', { roomId }], ['chat:join', { roomId, after: 5 }], ['chat:join', roomId], ['chat:leave', { roomId }], ['chat:history', { roomId }],
          ['chat:history', { roomId, before: id }], ['chat:search', { q: 'word', roomId }], ['chat:message', { roomId, content: 'x' }], ['chat:message', { roomId, content: 'x', replyToId: id, clientId: `c-${there}` }],
          ['chat:edit', { roomId, messageId: id, content: 'x' }], ['chat:delete', { roomId, messageId: id }], ['chat:read', { roomId, messageId: id }],
          ['chat:typing', { roomId, isTyping: true }], ['presence:list', { roomId }],
        ];
        const [a, b] = [requests(there), requests(missing)];
        for (let i = 0; i < a.length; i += 1) {
          const [one, other] = [await ask(stranger, ...a[i]), await ask(stranger, ...b[i])];
          assert.equal(JSON.stringify(one).replaceAll(String(there), 'ROOM'), JSON.stringify(other).replaceAll(String(missing), 'ROOM'), a[i][0]);
        }
        const strip = (answer, room) => [answer.status, answer.raw.replaceAll(String(room), 'ROOM'), [...answer.headers].filter(([name]) => name !== 'date').map(String)];
        for (const [method, rest, body] of [
          ['GET', '/messages'], ['GET', `/messages?after=${id}`], ['GET', '/messages?after=999999'], ['POST', '/messages', { content: 'x' }], ['PATCH', `/messages/${id}`, { content: 'x' }],
          ['DELETE', `/messages/${id}`], ['POST', '/typing', { isTyping: true }], ['POST', '/read', { messageId: id }], ['POST', '/read', { messageId: 999999 }],
        ]) {
          const go = (room) => server.fetch(`/api/v1/rooms/${room}${rest}`, { method, body, claims: { userId: 9 } }).then((answer) => strip(answer, room));
          assert.deepEqual(await go(there), await go(missing), `${method} ${rest}`);
        }
        const poll = (room) => server.fetch(`/api/v1/events?rooms=${room}`, { claims: { userId: 9 } }).then((answer) => strip(answer, room));
        assert.deepEqual(await poll(there), await poll(missing));
      }
    }
    // What an administrator or the platform writes into a room that nobody has registered makes it nobody's but theirs.
    await server.fetch('/api/v1/broadcast', { method: 'POST', claims: admin, body: { target: { room: 'chat:by-plan' }, event: 'chat:message', payload: { content: 'x' } } });
    assert.equal((await server.fetch('/api/v1/rooms/by-plan/messages', { claims: { userId: 9 } })).status, 403);
    await server.stop();
  });

  // How well the times of one kind of request tell it from another: 0.5 is not at all.
  async function telltale(server, claims, a, b, rounds) {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const bearer = `Bearer ${token(claims)}`;
    const go = (path) => new Promise((resolve, reject) => {
      const begun = process.hrtime.bigint();
      const sent = request(`${server.url}${path}`, { agent, headers: { authorization: bearer } }, (answer) => {
        answer.resume().on('end', () => resolve(Number(process.hrtime.bigint() - begun)));
      });
      sent.on('error', reject).end();
    });
    for (let i = 0; i < 100; i += 1) await go(i % 2 ? a : b);
    const times = [[], []];
    for (let i = 0; i < rounds; i += 1) {
      // Neighbours in time, in either order: what else the machine does falls on both.
      const order = Math.random() < 0.5 ? [0, 1] : [1, 0];
      for (const which of order) times[which].push(await go(which ? b : a));
    }
    agent.destroy();
    const ranked = [...times[0].map((ns) => [ns, 0]), ...times[1].map((ns) => [ns, 1])].sort((x, y) => x[0] - y[0]);
    let [seen, wins] = [0, 0];
    for (const [, which] of ranked) {
      if (which) wins += seen;
      else seen += 1;
    }
    return wins / (rounds * rounds);
  }

  test('no time tells a stranger whether a room is there', async () => {
    const server = await Appliance.start({ env: closed });
    const members = Array.from({ length: 200 }, (_, n) => 100 + n);
    await act(server, 'POST', '/rooms', { roomId: 'is-there', private: true, members });
    for (let n = 0; n < 50; n += 1) await server.fetch('/api/v1/rooms/is-there/messages', { method: 'POST', claims: admin, body: { content: 'x'.repeat(1000) } });
    const path = (room) => `/api/v1/rooms/${room}/messages`;
    const auc = await telltale(server, { userId: 9 }, path('is-there'), path('not-here'), 1_500);
    const seen = await telltale(server, { userId: 100 }, path('is-there'), path('not-here'), 200);
    console.log(`# a stranger: ${auc.toFixed(3)}; a member, who may know: ${seen.toFixed(3)} (0.5 tells nothing)`);
    assert.ok(auc > 0.4 && auc < 0.6, `${auc}`);
    assert.ok(seen < 0.3, `the measure sees what there is to see: ${seen}`);
    await server.stop();
  });
});

test('each of it can be done on the command line, with the server running and without', async () => {
  const server = await Appliance.start({ env: noLimits });
  const ann = await server.signedIn({ userId: 7, jti: 'j' });
  assert.equal((await command(server, 'room', 'create', 'board', '--private', '--member', '8', '--moderator', '9')).members, 2);
  assert.equal((await ask(ann, 'chat:join', 'board')).error.code, 'forbidden');
  assert.equal((await command(server, 'room', 'member', 'add', 'board', '7')).role, 'member');
  assert.equal((await ask(ann, 'chat:join', 'board')).ok, true);
  await ask(ann, 'chat:message', { roomId: 'board', content: 'Bonjour' });
  assert.equal((await command(server, 'history', 'board')).messages[0].content, 'Bonjour');
  assert.equal((await command(server, 'room', 'member', 'remove', 'board', '7')).before, 'member');
  await heard(ann, 'request:error');
  assert.equal((await command(server, 'user', 'disconnect', '7')).disconnected, 1);
  await gone(ann);
  const again = await server.signedIn({ userId: 7, jti: 'j' });
  assert.equal((await command(server, 'token', 'revoke', '--jti', 'j')).disconnected, 1);
  await gone(again);
  await command(server, 'user', 'block', '8', '--reason', 'gone');
  await server.halt();
  assert.equal((await command(server, 'user', 'show', '8')).blocked, true);
  assert.equal((await command(server, 'token', 'revoked')).items.length, 2);
  await command(server, 'user', 'unblock', '8');
  await command(server, 'user', 'block', '10');
  await command(server, 'token', 'revoke', '--user', '11');
  assert.equal((await command(server, 'room', 'set', 'board', '--open', '--name', 'Le conseil')).name, 'Le conseil');
  await command(server, 'room', 'create', '5');
  assert.deepEqual((await command(server, 'room', 'list')).items.map((one) => one.roomId), [5, 'board']);
  await server.launch();
  assert.equal((await heard(server.client({ userId: 10 }), 'auth_error')).code, 'user_blocked');
  assert.equal((await heard(server.client({ userId: 11, iat: now() - 60 }), 'auth_error')).code, 'token_revoked');
  const bob = await server.signedIn({ userId: 8 });
  assert.equal((await ask(bob, 'chat:join', 'board')).ok, true);
  assert.equal((await command(server, 'room', 'delete', 'board', '--yes')).lastSeq, 1);
  await heard(bob, 'request:error');
  assert.equal((await server.fetch('/api/v1/admin/rooms/board', { claims: admin })).status, 404);
  const trail = (await act(server, 'GET', '/audit?limit=100')).items;
  for (const action of ['room.create', 'room.set', 'room.delete', 'room.member.add', 'room.member.remove', 'token.revoke', 'user.block', 'user.unblock', 'user.disconnect']) {
    assert.ok(trail.some((one) => one.action === action && one.actor === 'system'), action);
  }
  const refused = await until(async () => (await act(server, 'GET', '/audit?limit=100')).items.filter((one) => one.action === 'sign_in'), 'refused sign-ins are recorded');
  await until(async () => {
    const outcomes = (await act(server, 'GET', '/audit?limit=100')).items.filter((one) => one.action === 'sign_in').map((one) => one.outcome).join();
    return outcomes.includes('user_blocked') && outcomes.includes('token_revoked');
  }, `refused sign-ins are in the trail with their codes: ${JSON.stringify(refused)}`);
  await server.stop();
});
