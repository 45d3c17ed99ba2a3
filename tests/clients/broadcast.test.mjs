// The broadcast service for back ends against the real server, and the files of the SDK as the server gives them.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';
import { after, afterEach, before, describe, test } from 'node:test';
import { BroadcastError, createBroadcastService } from '../../assets/sdk/broadcast-service.js';
import { Appliance, all, ask, heard, noLimits, token, until } from './harness.mjs';
import { Line } from './line.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const assets = join(here, '../../assets/sdk');
const bearer = token({ userId: 'svc', role: 'none', scope: 'broadcast notify' });

let server;
let line;
before(async () => {
  server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_SERVER_CORS_ORIGINS: 'https://learn.example.org' } });
  line = await Line.to(server.port);
});
after(async () => {
  await line.close();
  await server.stop();
});
afterEach(() => line.mend());

const service = (options = {}) => createBroadcastService({ url: `http://127.0.0.1:${line.port}`, token: bearer, timeoutMs: 1_000, ...options });

/** The error that a call ends with: complete, and without the token. */
async function failure(call, secret = bearer) {
  const error = await call.then((answer) => assert.fail(`it was answered: ${JSON.stringify(answer)}`), (reason) => reason);
  assert.ok(error instanceof BroadcastError, String(error));
  const told = `${error.stack} ${JSON.stringify(error)} ${error.cause} ${Object.values(error)}`;
  assert.ok(!told.includes(secret) && !told.includes(secret.split('.').at(-1)), 'the error holds the token');
  assert.ok(error.message.length > 10);
  return error;
}

describe('every method reaches whom it names', () => {
  test('users, roles, rooms, all', async () => {
    const [ann, bob, coach] = await Promise.all([{ userId: 7 }, { userId: 8 }, { userId: 9, role: 'coach' }].map((claims) => server.signedIn(claims)));
    await ask(ann, 'chat:join', { roomId: 'room-1' });
    const rt = service();
    assert.equal((await rt.toUser(7, 'to:user', { n: 1 })).sockets, 1);
    assert.equal((await rt.toUsers([7, 8], 'to:users', { n: 2 })).sockets, 2);
    assert.equal((await rt.toRole('coach', 'to:role', { n: 3 })).sockets, 1);
    assert.equal((await rt.toRoom('chat:room-1', 'to:room', { n: 4 })).sockets, 1);
    assert.equal((await rt.toAll('to:all')).sockets, 3);
    const posted = await rt.toRoom('chat:room-1', 'chat:message', { content: 'Welcome', senderName: 'Academy' });
    const told = await rt.toUser(8, 'notification:new', { title: 'T', message: 'M' });
    const notified = await rt.notify({ role: 'coach' }, { title: 'N', message: 'M', titleFr: 'F', metadata: { a: [1] } });
    for (const [socket, events] of [[ann, ['to:user', 'to:users', 'to:room', 'to:all']], [bob, ['to:users', 'to:all']], [coach, ['to:role', 'to:all']]]) {
      await heard(socket, 'to:all');
      await until(() => events.every((event) => all(socket, event).length === 1), 'all have come');
      assert.deepEqual(socket.heard.map(({ event }) => event).filter((event) => event.startsWith('to:')), events);
    }
    assert.deepEqual(await heard(ann, 'to:user'), { n: 1 });
    assert.deepEqual([(await heard(ann, 'chat:message')).id, (await heard(ann, 'chat:message')).type], [posted.id, 'system']);
    assert.equal((await heard(bob, 'notification:new')).id, told.id);
    assert.deepEqual([(await heard(coach, 'notification:new')).id, (await heard(coach, 'notification:new')).titleFr], [notified.id, 'F']);
  });
});

describe('a call is done once', () => {
  const stored = async (room) => (await server.fetch(`/api/v1/rooms/${room}/messages`, { claims: { userId: 7 } })).json.messages.length;

  test('over an answer that is lost', async () => {
    line.state = 'deaf';
    const call = service({ retries: 8 }).toRoom('chat:lost', 'chat:message', { content: 'once' });
    await until(() => stored('lost'), 'it is stored');
    line.mend();
    assert.equal((await call).duplicate, true);
    assert.equal(await stored('lost'), 1);
  });

  test('over a server that is killed and comes again', async () => {
    await server.kill();
    const calls = [1, 2, 3].map((n) => service({ retries: 20 }).toRoom('chat:killed', 'chat:message', { content: String(n) }));
    await server.launch();
    await Promise.all(calls);
    assert.equal(await stored('killed'), 3);
  });

  test('with a key of the caller, over two calls', async () => {
    const rt = service();
    const first = await rt.notify({ user: 7 }, { title: 'T', message: 'M' }, { idempotencyKey: 'mine' });
    const second = await rt.notify({ user: 7 }, { title: 'T', message: 'M' }, { idempotencyKey: 'mine' });
    assert.deepEqual([second.id, second.duplicate], [first.id, true]);
  });

  test('and one that no retry has helped says so, with its key', async () => {
    line.cut();
    const error = await failure(service({ retries: 1 }).toAll('x'));
    assert.deepEqual([error.code, error.status, error.retryable], ['unreachable', undefined, true]);
    assert.ok(error.idempotencyKey.length > 10);
    line.mend();
    line.state = 'silent';
    assert.match((await failure(service({ retries: 0, timeoutMs: 100 }).toAll('x'))).message, /no answer within 100 ms/);
  });
});

describe('what a server says is heeded', () => {
  /** A server that answers as it is told, and keeps what it was asked. */
  async function fake(...answers) {
    const asked = [];
    const http = createServer((request, response) => {
      request.resume();
      request.on('end', () => {
        asked.push({ at: Date.now(), key: request.headers['idempotency-key'], authorization: request.headers.authorization, url: request.url });
        const [status, body, headers] = answers[Math.min(asked.length, answers.length) - 1];
        response.writeHead(status, headers).end(typeof body === 'string' ? body : JSON.stringify(body));
      });
    });
    await new Promise((resolve) => { http.listen(0, '127.0.0.1', resolve); });
    return { asked, url: `http://127.0.0.1:${http.address().port}`, close: () => { http.closeAllConnections(); http.close(); } };
  }
  const done = [200, { ok: true, sockets: 0 }];

  test('429 and 503 with their Retry-After, one key over all attempts', async () => {
    const server = await fake([503, 'bad gateway'], [429, { error: { code: 'rate_limited', message: 'slow down', retryAfterMs: 300 } }], [503, '', { 'retry-after': '1' }], done);
    await service({ url: `${server.url}/` }).toAll('x');
    server.close();
    assert.equal(server.asked.length, 4);
    assert.equal(new Set(server.asked.map(({ key }) => key)).size, 1);
    assert.ok(server.asked[2].at - server.asked[1].at >= 300 && server.asked[3].at - server.asked[2].at >= 1_000);
    assert.deepEqual([server.asked[0].url, server.asked[0].authorization], ['/api/v1/broadcast', `Bearer ${bearer}`]);
  });

  test('an expired token is replaced once; without getToken it is told', async () => {
    const expired = [401, { error: { code: 'token_expired', message: 'the token has expired' } }];
    const server = await fake(expired, done);
    const reasons = [];
    await service({ url: server.url, token: undefined, getToken: (reason) => { reasons.push(reason); return bearer; } }).toAll('x');
    assert.deepEqual(reasons, ['first', 'token_expired']);
    server.close();
    const stubborn = await fake(expired);
    for (const options of [{}, { token: undefined, getToken: async () => bearer }]) {
      const error = await failure(service({ url: stubborn.url, ...options }).toAll('x'));
      assert.deepEqual([error.code, error.status, error.retryable], ['token_expired', 401, false]);
    }
    assert.equal(stubborn.asked.length, 3);
    stubborn.close();
  });

  test('a rest of a minute is not waited for, and something else that answers is named', async () => {
    const slow = await fake([429, { error: { code: 'rate_limited', message: 'come tomorrow', retryAfterMs: 60_000 } }]);
    const error = await failure(service({ url: slow.url }).toAll('x'));
    assert.deepEqual([error.code, error.retryable, error.retryAfterMs, slow.asked.length], ['rate_limited', true, 60_000, 1]);
    slow.close();
    const other = await fake([200, '<html>'], [302, '', { location: 'http://127.0.0.1:1/' }]);
    assert.equal((await failure(service({ url: other.url }).toAll('x'))).code, 'unexpected_answer');
    assert.equal((await failure(service({ url: other.url, retries: 0 }).toAll('x'))).code, 'unreachable', 'the token follows no redirect');
    other.close();
  });
});

describe('what is wrong is told', () => {
  test('by the server: tokens, scopes, payloads', async () => {
    for (const [bad, code, status] of [
      ['not-a-token-at-all', 'token_malformed', 401],
      [token({ userId: 'svc', scope: 'broadcast' }, { key: 'another secret, as long as the first one' }), 'token_invalid', 401],
      [token({ userId: 'svc', scope: 'broadcast', exp: 1_000 }), 'token_expired', 401],
      [token({ userId: 7 }), 'forbidden', 403],
      [token({ userId: 'svc', role: 'none', scope: 'notify' }), 'forbidden', 403],
    ]) {
      const error = await failure(service({ token: bad }).toAll('x'), bad);
      assert.deepEqual([error.code, error.status, error.retryable], [code, status, false], code);
    }
    for (const [call, field] of [
      [(rt) => rt.toUser(undefined, 'x'), 'target'],
      [(rt) => rt.toUsers([], 'x'), 'target.users'],
      [(rt) => rt.toRole('boss', 'x'), 'target.role'],
      [(rt) => rt.toRoom('room-123', 'x'), 'target.room'],
      [(rt) => rt.toAll('connect'), 'event'],
      [(rt) => rt.toAll(''), 'event'],
      [(rt) => rt.toAll('notification:new', { title: 'T' }), 'message'],
      [(rt) => rt.notify({ all: true }, { title: 'T', message: 'x'.repeat(5_000) }), 'message'],
      [(rt) => rt.toAll('x', 1, { idempotencyKey: 'x'.repeat(65) }), 'Idempotency-Key'],
    ]) {
      const error = await failure(call(service()));
      assert.deepEqual([error.code, error.status, error.field], ['invalid_payload', 400, field], String(call));
    }
  });

  test('before anything is sent: tokens that no header takes, payloads that are no JSON', async () => {
    for (const bad of ['', 'two\nlines', 'café-token']) assert.equal((await failure(service({ token: bad }).toAll('x'), bad || 'no token')).code, 'token_malformed');
    const sources = 'vault: secret/rt/token';
    const failed = await failure(service({ token: undefined, retries: 0, getToken: () => { throw new Error(sources); } }).toAll('x'), sources);
    assert.equal(failed.code, 'token_missing');
    const circular = {};
    circular.self = circular;
    for (const payload of [circular, 1n]) assert.equal((await failure(service().toAll('x', payload))).code, 'invalid_payload');
    for (const options of [{ url: 'nonsense' }, { url: 'ftp://x' }, { url: 'https://name:password@x' }, { token: undefined }, { timeoutMs: 0 }, { retries: -1 }, { fetch: 1 }]) {
      assert.throws(() => service(options), TypeError, JSON.stringify(options));
    }
  });

  test('a call is given up by its signal', async () => {
    line.state = 'silent';
    const signal = AbortSignal.timeout(100);
    assert.equal((await failure(service({ timeoutMs: 10_000 }).toAll('x', 1, { signal }))).code, 'aborted');
    assert.equal((await failure(service().toAll('x', 1, { signal }))).code, 'aborted');
  });

  test('the reference as it is written: nothing awaited, nothing ends the process', async () => {
    const script = `
      import { broadcastService } from ${JSON.stringify(join(assets, 'broadcast-service.js'))};
      broadcastService.toRole('admin', 'system:alert', {});
      broadcastService.toUser('', 'x', {});
      await new Promise((resolve) => setTimeout(resolve, 500));
      console.log('alive');`;
    const env = { PATH: process.env.PATH, BROADCAST_SERVICE_URL: server.url, BROADCAST_SERVICE_TOKEN: bearer };
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], { env });
    assert.equal(stdout.trim(), 'alive');
    assert.match(stderr, /^academy-rt: a broadcast was not acknowledged: invalid_payload: /);
    assert.equal(stderr.trim().split('\n').length, 1);
  });
});

describe('the server gives the files of the SDK', () => {
  const files = ['academy-rt.js', 'academy-rt.d.ts', 'broadcast-service.js', 'broadcast-service.d.ts'];

  test('as they are here, with their types, to any origin', async () => {
    for (const file of files) {
      const answer = await server.fetch(`/sdk/${file}`, { headers: { origin: 'https://elsewhere.example' } });
      assert.deepEqual([answer.status, answer.raw], [200, readFileSync(join(assets, file), 'utf8')], file);
      const header = (name) => answer.headers.get(name);
      assert.equal(header('content-type'), `${file.endsWith('.js') ? 'text/javascript' : 'application/typescript'}; charset=utf-8`);
      assert.deepEqual(['x-content-type-options', 'cache-control', 'access-control-allow-origin', 'cross-origin-resource-policy'].map(header),
        ['nosniff', 'no-cache', '*', 'cross-origin']);
      const listed = await server.fetch(`/sdk/${file}`, { headers: { origin: 'https://learn.example.org' } });
      assert.deepEqual([listed.headers.get('access-control-allow-origin'), listed.headers.get('vary')], ['https://learn.example.org', 'Origin']);
      const head = await server.fetch(`/sdk/${file}`, { method: 'HEAD' });
      assert.deepEqual([head.status, head.raw, head.headers.get('content-length')], [200, '', String(Buffer.byteLength(answer.raw))]);
    }
  });

  test('only if they have changed', async () => {
    const tags = new Set();
    for (const file of files) {
      const tag = (await server.fetch(`/sdk/${file}`)).headers.get('etag');
      tags.add(tag);
      for (const known of [tag, `W/${tag}`, `"x", ${tag}`, '*']) {
        const answer = await server.fetch(`/sdk/${file}`, { headers: { 'if-none-match': known } });
        assert.deepEqual([answer.status, answer.raw, answer.headers.get('etag')], [304, '', tag], known);
      }
      assert.equal((await server.fetch(`/sdk/${file}`, { headers: { 'if-none-match': '"x"' } })).status, 200);
    }
    assert.equal(tags.size, files.length);
  });

  test('and nothing else', async () => {
    for (const [path, method, status, code] of [
      ['/sdk/x', 'GET', 404, 'not_found'], ['/sdk/', 'GET', 404, 'not_found'], ['/sdk', 'GET', 404, 'not_found'],
      ['/sdk/..%2fetc', 'GET', 404, 'not_found'], ['/sdk/academy-rt.js/x', 'GET', 404, 'not_found'], ['/sdk/academy-rt.js', 'POST', 405, 'method_not_allowed'],
    ]) {
      const answer = await server.fetch(path, { method });
      assert.deepEqual([answer.status, answer.json?.error?.code], [status, code], path);
    }
  });

  test('whose types take the code of the reference', async () => {
    const tsc = join(here, 'node_modules/typescript/bin/tsc');
    const args = ['--noEmit', '--strict', '--target', 'es2022', '--module', 'nodenext', '--moduleResolution', 'nodenext', '--lib', 'es2022,dom'];
    const { stdout } = await promisify(execFile)(process.execPath, [tsc, ...args, join(here, 'types/reference.ts')]).catch((error) => error);
    assert.equal(stdout, '');
  });
});
