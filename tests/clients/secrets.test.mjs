// No token, secret or message in what the server says, at the lowest level of its log: real traffic of every kind, good and
// bad, and then a search through standard output and standard error.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createConnection } from 'node:net';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect as tlsConnect } from 'node:tls';
import { promisify } from 'node:util';
import { Appliance, ask, binary, gone, heard, leaksIn, neverLogged, noLimits, secret, token, until } from './harness.mjs';

const ORIGIN = 'https://app.example';
const admin = { userId: 1, role: 'admin', name: 'Root', email: 'root@example.org' };
const transports = { websocket: ['websocket'], polling: ['polling'], upgrade: ['polling', 'websocket'] };
let marks = 0;

// A text that occurs nowhere else.
function marked(what) {
  const text = `${what}-${(marks += 1)}-never-to-be-logged`;
  neverLogged(text);
  return text;
}

// The ways in which a client may show a token.
const ways = {
  auth: (text) => ({ auth: { token: text } }),
  query: (text) => ({ auth: {}, query: { token: text } }),
  bearer: (text) => ({ auth: {}, extraHeaders: { authorization: `Bearer ${text}` } }),
  cookie: (text) => ({ auth: {}, extraHeaders: { cookie: `session=${text}`, origin: ORIGIN } }),
};

function raw(server, text) {
  return new Promise((resolve) => {
    const options = { port: server.port, host: '127.0.0.1', rejectUnauthorized: false };
    const socket = server.tls ? tlsConnect(options, () => socket.write(text)) : createConnection(options, () => socket.write(text));
    socket.on('error', resolve);
    socket.on('close', resolve);
    socket.on('data', () => {});
    socket.setTimeout(400, () => socket.destroy());
  });
}

async function signIns(server) {
  for (const [way, options] of Object.entries(ways)) {
    for (const [name, transport] of Object.entries(transports)) {
      const socket = server.client(null, { ...options(token({ userId: 7, jti: `${way}-${name}`, email: marked('mail') })), transports: transport });
      await heard(socket, 'authenticated');
      if (name === 'upgrade') await until(() => socket.io.engine.transport.name === 'websocket', 'the upgrade is done');
      socket.disconnect();
    }
    const bad = [
      token({ userId: 7 }, { key: 'another secret of the test suite, as long' }),
      token({ userId: 7, exp: 1_000_000_000 }),
      token({ userId: 7, alien: marked('claim') }).replace(/\.[^.]*$/, ''),
      marked('no.token.at-all'),
    ];
    for (const text of bad) {
      neverLogged(text);
      const socket = server.client(null, { ...options(text), transports: bad.indexOf(text) % 2 ? ['polling'] : ['websocket'] });
      if (server.env.ACADEMY_RT_AUTH_REJECT) await new Promise((resolve) => socket.once('connect_error', resolve));
      else await heard(socket, 'auth_error').then(() => gone(socket));
    }
  }
}

async function events(server) {
  const [ann, bob] = [await server.signedIn({ userId: 7 }), await server.signedIn({ userId: 8 }, { transports: ['polling'] })];
  for (const one of [ann, bob]) await ask(one, 'chat:join', { roomId: 'secrets' });
  const { id } = await ask(ann, 'chat:message', { roomId: 'secrets', content: marked('content'), clientId: 'c-1' });
  await ask(ann, 'chat:edit', { roomId: 'secrets', messageId: id, content: marked('edited') });
  await ask(bob, 'chat:history', { roomId: 'secrets' });
  await ask(bob, 'progress:sync', { lessonId: marked('lesson'), progress: 40, timeSpent: 3 });
  for (const [event, payload] of [
    ['chat:message', { roomId: 'secrets', content: [marked('in a list')] }],
    ['chat:message', { roomId: 'secrets', content: 'x', type: marked('type') }],
    ['chat:message', { roomId: marked('spaces in it'), content: marked('content') }],
    ['chat:message', { roomId: 'secrets', content: marked('too long').padEnd(5_000, '.') }],
    ['chat:message', marked('no object')],
    ['progress:sync', { lessonId: 1, progress: marked('no number') }],
    ['auth:refresh', { token: marked('no token') }],
    ['auth:refresh', { token: token({ userId: 9 }) }],
    [marked('event'), { content: marked('unknown') }],
    ['chat:join', { roomId: Buffer.from(marked('binary')) }],
  ]) assert.equal((await ask(ann, event, payload)).ok, false);
  assert.equal((await ask(ann, 'auth:refresh', { token: token({ userId: 7, jti: 'renewed' }) })).ok, true);
  await ask(ann, 'chat:delete', { roomId: 'secrets', messageId: id });
  const broken = await server.signedIn({ userId: 10 });
  broken.io.engine.write(`2["chat:message",{"content":"${marked('half a packet')}`);
  await gone(broken);
}

async function calls(server) {
  const post = (path, claims, body) => server.fetch(`/api/v1${path}`, { method: 'POST', claims, body });
  assert.equal((await post('/rooms/secrets/messages', { userId: 7 }, { content: marked('by HTTP') })).status, 200);
  assert.equal((await post('/notifications', admin, { target: { all: true }, title: marked('title'), message: marked('text') })).status, 200);
  const payload = { roomId: 'secrets', content: marked('broadcast') };
  assert.equal((await post('/broadcast', admin, { target: { room: 'chat:secrets' }, event: 'chat:message', payload })).status, 200);
  assert.equal((await post('/broadcast', admin, { target: { all: true }, event: 'news', payload: { text: marked('news') } })).status, 200);
  await post('/rooms/secrets/messages', { userId: 7 }, `{"content":"${marked('half a body')}`);
  await post('/broadcast', { userId: 7 }, { target: { all: true }, event: 'x', payload: marked('not allowed') });
  await server.fetch(`/api/v1/session?token=${token({ userId: 11 })}`);
  await server.fetch('/api/v1/session', { bearer: token({ userId: 11, exp: 5 }) });
  await server.fetch(`/nowhere/${token({ userId: 11 })}`);
  await server.fetch('/api/v1/events?rooms=secrets', { claims: { userId: 7 } });
  await server.fetch(`/api/v1/events?cursor=${marked('cursor')}`, { claims: { userId: 7 } });
  for (const path of ['status', 'connections', 'audit', 'rooms', 'users', 'users/7/export']) {
    assert.equal((await server.fetch(`/api/v1/admin/${path}`, { claims: admin })).status, 200, path);
  }
  assert.equal((await post('/admin/tokens/revoke', admin, { jti: 'renewed' })).status, 200);
}

async function brokenBytes(server) {
  const one = () => token({ userId: 12 });
  await Promise.all([
    `GET /ws/?EIO=3&transport=polling&token=${one()} HTTP/1.1\r\nHost: x\r\n\r\n`,
    `GET /ws/?EIO=4&transport=websocket&sid=none&token=${one()} HTTP/1.1\r\nHost: x\r\n\r\n`,
    `GET /ws/?token=${one()} HTTP/9.9\r\n\r\n`,
    `${one()}\r\n\r\n`,
    `GET / HTTP/1.1\r\nAuthorization Bearer ${one()}\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${one()}\r\nX: ${'a'.repeat(80_000)}\r\n\r\n`,
    `POST /api/v1/progress HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${one()}\r\nContent-Length: 900\r\n\r\n${marked('half')}`,
    `CONNECT ${marked('host')}:1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${one()}\r\n\r\n`,
  ].map((text) => raw(server, text)));
  // No handshake of TLS.
  if (server.tls) await raw({ port: server.port }, `GET /ws/?token=${one()} HTTP/1.1\r\n\r\n`);
}

async function reloads(server) {
  const write = async (text, said) => {
    writeFileSync(join(server.dir, 'a.toml'), text);
    const before = server.stderr.length;
    server.child.kill('SIGHUP');
    await until(() => said.test(server.stderr.slice(before)), `the log says ${said}`);
  };
  await write('[limits]\nmessage_chars = 3000\n', /reloaded/);
  // Whatever is wrong with the line that a secret is on by mistake.
  for (const line of [`jwt_secret = "${marked('secret')}"`, `jwt_secret = "${marked('secret')}`, `jwt_secret = ${marked('secret')}`, `"${marked('secret')}" = 1`.replace('= 1', '=')]) {
    await write(`[auth]\n${line}\n`, /not reloaded/);
  }
  await write('', /reloaded/);
}

async function commands(server) {
  const run = async (...args) => {
    const env = { PATH: process.env.PATH, JWT_SECRET: secret, RUST_LOG: 'trace', ACADEMY_RT_LOG_LEVEL: 'trace' };
    const done = await promisify(execFile)(binary, ['-vv', ...args, '--data-dir', server.data], { env }).catch((error) => error);
    return done.stdout + done.stderr;
  };
  return [
    await run('token', 'verify', token({ userId: 7 }, { key: 'another secret of the test suite, as long' })),
    await run('token', 'verify', marked('no token')),
    await run('broadcast', '--all', 'news', JSON.stringify({ text: marked('news') })),
    await run('notify', '--all', '--title', marked('title'), '--message', marked('text')),
    await run('status'),
    await run('config', 'show'),
    await run('doctor'),
  ].join('\n');
}

test('the search finds what it looks for, as it is, in a URL and in JSON', () => {
  const text = 'über "quoted" and %41, never to be logged';
  neverLogged(text);
  const one = token({ userId: 5 });
  for (const said of [`x ${text} y`, encodeURIComponent(text), JSON.stringify({ text })]) assert.deepEqual(leaksIn(said), [text]);
  assert.deepEqual(leaksIn(`signature ${one.split('.')[2]}`), [one.split('.')[2]]);
  assert.deepEqual(leaksIn(`payload ${one.split('.')[1]}`), [one.split('.')[1]]);
  assert.deepEqual(leaksIn(`JWT_SECRET=${secret}`), [secret]);
});

for (const { format, tls, env = {}, flags = [] } of [
  { format: 'text', tls: false, flags: ['-vv'] },
  { format: 'json', tls: true, env: { ACADEMY_RT_LOG_LEVEL: 'trace', ACADEMY_RT_AUTH_REJECT: 'connect_error' } },
]) {
  test(`no token, secret or message in the log at its lowest level, as ${format} over ${tls ? 'TLS' : 'plain HTTP'}, whatever RUST_LOG asks for`, async () => {
    const server = await Appliance.start({
      tls,
      flags,
      env: {
        ...noLimits,
        ...env,
        ACADEMY_RT_LOG_FORMAT: format,
        ACADEMY_RT_AUTH_COOKIE_NAME: 'session',
        ACADEMY_RT_SERVER_CORS_ORIGINS: ORIGIN,
        RUST_LOG: 'trace,socketioxide=trace,engineioxide=trace,hyper=trace,tungstenite=trace,rustls=trace,warp=trace',
        RUST_BACKTRACE: 'full',
      },
    });
    await server.halt();
    const before = server.stdout + server.stderr;
    // From now on by a file: it may be changed while the server runs.
    server.env = { ...server.env, ACADEMY_RT_CONFIG: join(server.dir, 'a.toml') };
    writeFileSync(server.env.ACADEMY_RT_CONFIG, '');
    await server.launch();
    await signIns(server);
    await events(server);
    await calls(server);
    await brokenBytes(server);
    await reloads(server);
    const said = await commands(server);
    // Some are there when it stops.
    await server.signedIn({ userId: 20 });
    await server.signedIn({ userId: 21 }, { transports: ['polling'] });
    server.child.kill('SIGTERM');
    assert.equal((await server.exited).code, 0);
    const all = before + server.stdout + server.stderr;
    // It has said something of all that, down to the level that was asked for.
    assert.match(all, /refused to sign in/);
    assert.match(all, format === 'json' ? /"level":"DEBUG"/ : /DEBUG/);
    assert.deepEqual(leaksIn(all), []);
    assert.deepEqual(leaksIn(said), []);
    assert.doesNotMatch(all, /panick/);
    await server.stop();
  });
}
