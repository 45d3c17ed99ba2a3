// The platform is told what happens, and asked who may enter: with a real receiver that verifies by the published library, is
// killed, slowed and lied to, and with the receivers that docs/webhooks.md shows.
import assert from 'node:assert/strict';
import { execFile, spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Webhook } from 'standardwebhooks';
import { block, fitted } from '../docs/blocks.mjs';
import { Appliance, ask, assertRising, binary, dice, freePort, heard, noLimits, until } from './harness.mjs';
import { Receiver } from './receiver.mjs';

const run = promisify(execFile);
const here = dirname(fileURLToPath(import.meta.url));

function academy(args, { env = {}, ...rest } = {}) {
  return spawnSync(binary, args, { encoding: 'utf8', env: { PATH: process.env.PATH, JWT_SECRET: 'a secret of the test suite, long enough', ...env }, ...rest });
}

/** A directory with a secret for webhooks, and the secret. */
function withSecret(t) {
  const dir = mkdtempSync(join(tmpdir(), 'academy-rt-hooks-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'secrets');
  const made = academy(['webhook', 'secret', file]);
  assert.equal(made.status, 0, made.stderr);
  return { dir, file, secret: readFileSync(file, 'utf8').trim() };
}

/** A server that tells a receiver. */
async function telling(t, { env = {}, tls, receiver, ...rest } = {}) {
  const { dir, file, secret } = withSecret(t);
  const hooks = receiver ?? await Receiver.start({ secret, tls });
  const server = await Appliance.start({
    env: { ...noLimits, ACADEMY_RT_WEBHOOKS_URL: hooks.url, ACADEMY_RT_WEBHOOKS_SECRET_FILE: file, ...env }, ...rest,
  });
  t.after(async () => {
    await server.stop();
    if (!receiver) await hooks.stop();
  });
  return { server, hooks, file, secret, dir };
}

const admin = { userId: 1, role: 'admin' };

async function standing(server) {
  const { status, json } = await server.fetch('/api/v1/admin/webhooks', { claims: admin });
  assert.equal(status, 200);
  return json;
}

/** A command beside the server. The receivers of this process must answer meanwhile. */
async function cli(server, ...args) {
  const env = { PATH: process.env.PATH, JWT_SECRET: 'a secret of the test suite, long enough' };
  return run(binary, [...args, '--data-dir', server.data], { env }).then((done) => ({ status: 0, ...done }), ({ code, stdout, stderr }) => ({ status: code, stdout, stderr }));
}

const contents = (calls) => calls.map(({ data }) => data.content);

test('what happens is told, signed, in order, with the shapes of the protocol', async (t) => {
  const { server, hooks, secret } = await telling(t);
  const ann = await server.signedIn({ userId: 7, name: 'Ann' });
  await hooks.has('user.online', ({ userId }) => userId === 7);
  const roomId = 'course-12';
  assert.ok((await ask(ann, 'chat:join', { roomId })).ok);
  const joined = await hooks.has('room.joined');
  assert.deepEqual(joined.data, { roomId, userId: 7, userName: 'Ann' });

  const { id } = await ask(ann, 'chat:message', { roomId, content: 'Bonjour' });
  await hooks.has('message.created');
  assert.ok((await ask(ann, 'chat:edit', { roomId, messageId: id, content: 'Bonsoir' })).ok);
  await hooks.has('message.edited');
  await ask(ann, 'chat:delete', { roomId, messageId: id });
  await hooks.has('message.deleted');
  const [created, edited, deleted] = hooks.of('message.created', 'message.edited', 'message.deleted');
  const live = await heard(ann, 'chat:message');
  assert.deepEqual(created.data, live, 'the webhook has the shape of the event');
  assert.deepEqual([edited.type, edited.data.id, edited.data.content], ['message.edited', id, 'Bonsoir']);
  assert.deepEqual([deleted.type, deleted.data.id, deleted.data.content, typeof deleted.data.deletedAt], ['message.deleted', id, '', 'number']);

  await ask(ann, 'progress:sync', { lessonId: 42, progress: 50, timeSpent: 30 });
  const { data: progress } = await hooks.has('progress.updated');
  const [stored] = (await ask(ann, 'progress:get', { lessonId: 42 })).items;
  assert.deepEqual(progress, { userId: 7, ...stored });

  const sent = await server.fetch('/api/v1/notifications', { method: 'POST', claims: admin, body: { target: { user: 7 }, title: 'T', message: 'M' } });
  assert.equal(sent.status, 200, sent.raw);
  const { id: notification } = await heard(ann, 'notification:new');
  await ask(ann, 'notification:read', { ids: [notification] });
  const { data: read } = await hooks.has('notification.read');
  assert.deepEqual(read, { userId: 7, ids: [notification], unread: 0 });

  ann.disconnect();
  const left = await hooks.has('room.left');
  const offline = await hooks.has('user.offline');
  assert.deepEqual(left.data, { roomId, userId: 7, userName: 'Ann' });
  assert.deepEqual(offline.data, { userId: 7, userName: 'Ann', online: false });

  // What another one changes, or sends again later, the published verifier refuses.
  const { body, headers } = created;
  const webhook = new Webhook(secret);
  assert.throws(() => webhook.verify(Buffer.from(`${body} `), headers), /matching signature/);
  assert.throws(() => webhook.verify(body, { ...headers, 'webhook-id': 'msg_other' }), /matching signature/);
  const old = String(Number(headers['webhook-timestamp']) - 600);
  assert.throws(() => webhook.verify(body, { ...headers, 'webhook-timestamp': old }), /too old/);
  const another = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
  assert.throws(() => new Webhook(another).verify(body, headers), /matching signature/);
  assert.ok(hooks.calls.every((call) => !Number.isNaN(Date.parse(call.timestamp)) && call.headers['content-type'] === 'application/json'));
  const { webhooks } = await until(async () => {
    const now = await standing(server);
    return now.webhooks.waiting === 0 && now;
  }, 'nothing waits');
  assert.deepEqual([webhooks.dead, webhooks.failed, webhooks.problem], [0, 0, undefined]);
});

test('only the events that are asked for are told', async (t) => {
  const { server, hooks } = await telling(t, { env: { ACADEMY_RT_WEBHOOKS_EVENTS: 'message.deleted' } });
  const ann = await server.signedIn();
  await ask(ann, 'chat:join', { roomId: 'r' });
  const { id } = await ask(ann, 'chat:message', { roomId: 'r', content: 'one' });
  await ask(ann, 'chat:delete', { roomId: 'r', messageId: id });
  await hooks.has('message.deleted');
  assert.deepEqual(hooks.calls.map(({ type }) => type), ['message.deleted']);
});

test('a deleted or erased text never goes out later', async (t) => {
  const { server, hooks } = await telling(t);
  const [ann, eve] = [await server.signedIn({ userId: 7 }), await server.signedIn({ userId: 8 })];
  await hooks.has('user.online', ({ userId }) => userId === 8);
  await hooks.die();
  const { id } = await ask(ann, 'chat:message', { roomId: 'r', content: 'deleted later' });
  await ask(ann, 'chat:delete', { roomId: 'r', messageId: id });
  await ask(eve, 'chat:message', { roomId: 'r', content: 'erased later' });
  const erased = await server.fetch('/api/v1/admin/users/8', { method: 'DELETE', claims: admin, body: { reason: 'asked for it' } });
  assert.equal(erased.status, 200, erased.raw);
  await ask(ann, 'chat:message', { roomId: 'r', content: 'stays' });
  await hooks.listen();
  await hooks.has('message.created', ({ content }) => content === 'stays');
  const told = hooks.calls.map(({ body }) => body.toString()).join('\n');
  assert.ok(!told.includes('deleted later') && !told.includes('erased later'), told);
  assert.equal(hooks.of('message.created').find(({ data }) => data.id === id).data.content, '');
});

test('a receiver that is killed and comes back has everything, in order; the Node.js example is one', async (t) => {
  const { file, secret, dir } = withSecret(t);
  symlinkSync(join(here, 'node_modules'), join(dir, 'node_modules'));
  writeFileSync(join(dir, 'receiver.mjs'), block('webhooks.md', 'webhook=receiver-node'));
  await example(t, { file, secret, start: (port) => spawn(process.execPath, ['receiver.mjs'], { cwd: dir, env: { PORT: port, WEBHOOK_SECRET: secret } }) });
});

test('the Python example takes webhooks, and is killed and comes back', async (t) => {
  const { file, secret, dir } = withSecret(t);
  writeFileSync(join(dir, 'receiver.py'), block('webhooks.md', 'webhook=receiver-python'));
  await example(t, { file, secret, start: (port) => spawn('python3', ['receiver.py'], { cwd: dir, env: { PATH: process.env.PATH, PORT: port, WEBHOOK_SECRET: secret } }) });
});

test('the PHP example takes webhooks', { skip: spawnSync('php', ['--version']).status !== 0 && 'there is no php here' }, async (t) => {
  const { file, secret, dir } = withSecret(t);
  writeFileSync(join(dir, 'index.php'), block('webhooks.md', 'webhook=receiver-php'));
  await example(t, { file, secret, start: (port) => spawn('php', ['-S', `127.0.0.1:${port}`, 'index.php'], { cwd: dir, env: { PATH: process.env.PATH, WEBHOOK_SECRET: secret } }) });
});

test('the .NET example takes webhooks', { skip: spawnSync('dotnet', ['--version']).status !== 0 && 'there is no dotnet here' }, async (t) => {
  const { file, secret, dir } = withSecret(t);
  const env = { ...process.env, WEBHOOK_SECRET: secret };
  await run('dotnet', ['new', 'web', '--output', dir, '--name', 'receiver'], { env });
  writeFileSync(join(dir, 'Program.cs'), block('webhooks.md', 'webhook=receiver-dotnet'));
  await run('dotnet', ['build', dir], { env });
  await example(t, { file, secret, start: (port) => spawn('dotnet', ['run', '--no-build', '--project', dir], { env: { ...env, PORT: port } }) });
});

/** A receiver of docs/webhooks.md in a process of its own: it is killed in the middle, and started again. */
async function example(t, { file, secret, start }) {
  const port = String(await freePort());
  let child;
  let printed = '';
  const launch = () => {
    child = start(port);
    child.stdout.on('data', (text) => { printed += text; });
    child.stderr.on('data', (text) => { printed += `# ${text}`; });
  };
  const url = `http://127.0.0.1:${port}/hooks`;
  launch();
  const server = await Appliance.start({
    env: { ...noLimits, ACADEMY_RT_WEBHOOKS_URL: url, ACADEMY_RT_WEBHOOKS_SECRET_FILE: file, ACADEMY_RT_WEBHOOKS_EVENTS: 'message.created' },
  });
  t.after(async () => {
    child.kill('SIGKILL');
    await server.stop();
  });
  const ann = await server.signedIn();
  const say = (content) => ask(ann, 'chat:message', { roomId: 'r', content });
  const has = (content) => until(() => printed.match(new RegExp(`"content": ?"${content}"`)), `the example prints ${content}; it has printed ${printed}`);
  await say('m1');
  await has('m1');
  // A stranger is refused.
  const forged = await fetch(url, { method: 'POST', body: '{}', headers: { 'webhook-id': 'x', 'webhook-timestamp': '1', 'webhook-signature': 'v1,AAAA' } });
  assert.equal(forged.status, 401);
  const stale = Math.floor(Date.now() / 1000) - 600;
  const signature = new Webhook(secret).sign('x', new Date(stale * 1000), '{}');
  const replayed = await fetch(url, { method: 'POST', body: '{}', headers: { 'webhook-id': 'x', 'webhook-timestamp': String(stale), 'webhook-signature': signature } });
  assert.equal(replayed.status, 401, 'a signature of ten minutes ago is too old');
  const gone = new Promise((resolve) => { child.once('exit', resolve); });
  child.kill('SIGKILL');
  await gone;
  for (let n = 2; n <= 20; n += 1) await say(`m${n}`);
  await until(async () => (await standing(server)).webhooks.problem?.includes('cannot be reached'), 'the server says that it cannot be reached');
  launch();
  await has('m20');
  const order = [...printed.matchAll(/"content": ?"m(\d+)"/g)].map(([, n]) => Number(n));
  assertRising(order);
}

test('a receiver that refuses, redirects, is slow or lies gets it again, and no other room waits', async (t) => {
  const { server, hooks } = await telling(t, { env: { ACADEMY_RT_WEBHOOKS_TIMEOUT: '1s', ACADEMY_RT_WEBHOOKS_EVENTS: 'message.created' } });
  const elsewhere = await Receiver.start({ secret: hooks.secret });
  t.after(() => elsewhere.stop());
  const ann = await server.signedIn();
  const never = new Promise(() => {});
  const faults = {
    refused: { status: 500 }, redirected: { status: 307, headers: { location: elsewhere.url } }, slow: { status: 204, hold: never },
    long: { status: 500, body: 'x'.repeat(4_000_000) }, forbidden: { status: 403 },
  };
  const failed = new Set();
  hooks.answer = ({ data }) => {
    const fault = faults[data.roomId];
    if (!fault || failed.has(data.roomId)) return 204;
    failed.add(data.roomId);
    return fault;
  };
  const rooms = [...Object.keys(faults), 'well'];
  for (const n of [1, 2]) for (const roomId of rooms) assert.ok((await ask(ann, 'chat:message', { roomId, content: `${roomId} ${n}` })).ok);
  await until(() => hooks.of('message.created').length === 2 * rooms.length, `everything is taken: ${JSON.stringify(contents(hooks.calls))}`);
  for (const roomId of rooms) {
    const calls = hooks.calls.filter(({ data }) => data.roomId === roomId);
    const tries = roomId === 'well' ? [1, 2] : [1, 1, 2];
    assert.deepEqual(contents(calls), tries.map((n) => `${roomId} ${n}`));
    if (roomId !== 'well') assert.equal(calls[0].id, calls[1].id, 'the same webhook has the same id');
  }
  // The well room was not held up by the slow one.
  const position = (content) => contents(hooks.calls).indexOf(content);
  assert.ok(position('well 2') < contents(hooks.calls).lastIndexOf('slow 1'));
  assert.deepEqual(elsewhere.calls, [], 'a redirect is not followed');
  const { webhooks } = await standing(server);
  assert.equal(webhooks.failed, 5);
});

test('a receiver that answers each call twice takes nothing that it has not seen', async (t) => {
  // The second answer must not count for the next call, which it was sent before.
  const bodies = [];
  const server_ = createServer((socket) => {
    let text = '';
    socket.on('error', () => {});
    socket.on('data', (part) => {
      text += part;
      for (;;) {
        const head = text.indexOf('\r\n\r\n');
        const length = Number(/content-length: (\d+)/i.exec(text.slice(0, head))?.[1]);
        if (head < 0 || text.length < head + 4 + length) return;
        bodies.push(JSON.parse(text.slice(head + 4, head + 4 + length)).data.content);
        text = text.slice(head + 4 + length);
        socket.write('HTTP/1.1 204 No Content\r\n\r\n'.repeat(2));
      }
    });
  });
  await new Promise((resolve) => { server_.listen(0, '127.0.0.1', resolve); });
  t.after(() => server_.close());
  const receiver = { url: `http://127.0.0.1:${server_.address().port}/hooks` };
  const { server } = await telling(t, { receiver, env: { ACADEMY_RT_WEBHOOKS_EVENTS: 'message.created' } });
  const ann = await server.signedIn();
  const said = Array.from({ length: 20 }, (_, n) => `m${n}`);
  for (const content of said) await ask(ann, 'chat:message', { roomId: 'r', content });
  await until(async () => (await standing(server)).webhooks.waiting === 0 && bodies.length >= said.length, 'everything is taken');
  assert.deepEqual([...new Set(bodies)], said, 'each was seen, in order');
});

test('Retry-After is honoured, and 410 ends it until a reload', async (t) => {
  const { server, hooks } = await telling(t, { env: { ACADEMY_RT_WEBHOOKS_EVENTS: 'message.created' } });
  const ann = await server.signedIn();
  const times = [];
  hooks.answer = () => {
    times.push(Date.now());
    return times.length === 1 ? { status: 429, headers: { 'retry-after': '3' } } : 204;
  };
  await ask(ann, 'chat:message', { roomId: 'a', content: 'one' });
  await until(() => times.length === 1, 'the first call came');
  await ask(ann, 'chat:message', { roomId: 'b', content: 'two' });
  await until(() => hooks.taken.length === 2, 'both are taken');
  assert.ok(times[1] - times[0] >= 2_900, `${times[1] - times[0]} ms`);

  hooks.answer = () => 410;
  await ask(ann, 'chat:message', { roomId: 'a', content: 'three' });
  await until(async () => (await standing(server)).webhooks.isGone, 'it is known to want no more');
  const calls = hooks.calls.length;
  await ask(ann, 'chat:message', { roomId: 'b', content: 'four' });
  await until(async () => (await standing(server)).webhooks.waiting === 2, 'two wait');
  const doctor = await cli(server, 'doctor');
  assert.match(doctor.stdout + doctor.stderr, /the receiver wants no more \(410 Gone\)/);
  assert.equal(hooks.calls.length, calls, 'nothing more was sent');
  hooks.answer = () => 204;
  server.child.kill('SIGHUP');
  await until(() => hooks.taken.length === 4, 'what waited is told');
  assert.deepEqual(contents(hooks.taken).sort(), ['four', 'one', 'three', 'two']);
});

test('what is not taken for long becomes a dead letter; its room goes on; it is replayed', async (t) => {
  const { server, hooks } = await telling(t, { env: { ACADEMY_RT_WEBHOOKS_GIVE_UP: '2s', ACADEMY_RT_WEBHOOKS_EVENTS: 'message.created' } });
  const ann = await server.signedIn();
  let isIll = true;
  hooks.answer = ({ data }) => (isIll && data.content.startsWith('poison') ? { status: 500, body: 'no such course' } : 204);
  for (const content of ['poison 1', 'after 1', 'poison 2', 'after 2']) await ask(ann, 'chat:message', { roomId: 'r', content });
  await until(async () => (await standing(server)).webhooks.dead === 2, 'two are dead');
  assert.deepEqual(contents(hooks.taken), ['after 1', 'after 2']);
  const listed = await cli(server, 'webhook', 'list');
  assert.equal(listed.status, 0, listed.stderr);
  assert.match(listed.stdout, /2 DEAD LETTERS/);
  const { items } = await standing(server);
  assert.deepEqual(items.map(({ type, why }) => [type, why]), Array(2).fill(['message.created', '127.0.0.1 answered 500 Internal Server Error']));
  assert.ok(items[0].attempts >= 2);
  const { raw } = await until(async () => {
    const metrics = await server.fetch('/metrics', { claims: admin });
    return /^academy_rt_webhooks_dead 2$/m.test(metrics.raw) && metrics;
  }, 'the metrics have the dead letters');
  assert.match(raw, /^academy_rt_webhooks_sent 2$/m);

  isIll = false;
  const refused = async (body, claims = admin) => (await server.fetch('/api/v1/admin/webhooks/replay', { method: 'POST', claims, body })).status;
  assert.deepEqual([await refused({}), await refused({ id: 'x' }), await refused({ id: items[0].id, all: true }), await refused({ id: 'msg_00000000_1_999999' })], [400, 400, 400, 404]);
  assert.deepEqual([await refused({ all: true }, { userId: 7 }), (await server.fetch('/api/v1/admin/webhooks', { claims: { userId: 7 } })).status, (await server.fetch('/api/v1/admin/webhooks/test', { method: 'POST', claims: { userId: 7 }, body: {} })).status], [403, 403, 403]);
  const one = await cli(server, 'webhook', 'replay', '--id', items[0].id);
  assert.equal(one.status, 0, one.stderr);
  await until(() => hooks.taken.length === 3, 'one is told again');
  assert.equal(hooks.taken.find(({ data }) => data.content === 'poison 1').id, items[0].id);
  assert.match((await cli(server, 'webhook', 'replay', '--all')).stdout, /1 dead letter is sent again/);
  await until(() => hooks.taken.length === 4, 'both are told again');
  await until(async () => (await standing(server)).webhooks.dead === 0, 'none is dead');
  assert.match((await cli(server, 'webhook', 'replay', '--all')).stdout, /there are no dead letters/);
  const audit = (await cli(server, 'audit', 'list', '--action', 'webhook')).stdout;
  assert.match(audit, /webhook\.replay \(dead letter \d+\): done: 1/);
  assert.match(audit, /webhook\.replay \(all dead letters\): done: 1/);
});

test('webhook test says in plain words what came of it', async (t) => {
  const { server, hooks } = await telling(t);
  hooks.answer = () => ({ status: 200, body: 'hello from the platform' });
  const good = await cli(server, 'webhook', 'test');
  assert.equal(good.status, 0, good.stdout + good.stderr);
  assert.match(good.stdout, /^taken: 127\.0\.0\.1 took it \(200 OK\) in \d+ ms\nthe answer begins: hello from the platform\nits webhook-id: msg_test_/);
  const [call] = hooks.calls.filter(({ type }) => type === 'test');
  assert.equal(call.data.sender, 'academy-rt');
  hooks.answer = () => 404;
  const bad = await cli(server, 'webhook', 'test');
  assert.equal(bad.status, 1);
  assert.match(bad.stderr, /did not take the webhook/);
  assert.match(bad.stderr, /127\.0\.0\.1 answered 404 Not Found, in \d+ ms/);
  await hooks.die();
  assert.match((await cli(server, 'webhook', 'test')).stderr, /127\.0\.0\.1 cannot be reached: .*refused/i);
  await hooks.listen();
  assert.match((await cli(server, 'audit', 'list', '--action', 'webhook.test')).stdout, /failed: 127\.0\.0\.1 answered 404/);
});

test('TLS: the right certificate is taken; another\'s name and an unknown authority are refused, and nothing is lost', async (t) => {
  const certificate = (host) => {
    const dir = mkdtempSync(join(tmpdir(), 'academy-rt-cert-'));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    const made = academy(['init', '--non-interactive', '--dir', dir, '--data-dir', join(dir, 'data'), '--host', host]);
    assert.equal(made.status, 0, made.stderr);
    return { path: join(dir, 'data/tls/cert.pem'), cert: readFileSync(join(dir, 'data/tls/cert.pem')), key: readFileSync(join(dir, 'data/tls/key.pem')) };
  };
  const [own, others] = [certificate('127.0.0.1'), certificate('other.example.org')];
  const both = join(dirname(own.path), 'both.pem');
  writeFileSync(both, Buffer.concat([own.cert, others.cert]));
  const { server, hooks } = await telling(t, { tls: own, env: { ACADEMY_RT_WEBHOOKS_CA_FILE: both, ACADEMY_RT_WEBHOOKS_EVENTS: 'message.created' } });
  const ann = await server.signedIn();
  await ask(ann, 'chat:message', { roomId: 'r', content: 'one' });
  await until(() => hooks.taken.length === 1, 'one is taken over TLS');
  assert.match((await cli(server, 'webhook', 'test')).stdout, /its certificate is good/);
  await hooks.die();
  hooks.tls = others;
  await hooks.listen();
  assert.match((await cli(server, 'webhook', 'test')).stderr, /the certificate that was shown is not for 127\.0\.0\.1: it is another's/);
  await ask(ann, 'chat:message', { roomId: 'r', content: 'two' });
  await until(async () => (await standing(server)).webhooks.problem?.includes('another\'s'), 'the server says so');
  await hooks.die();
  hooks.tls = certificate('127.0.0.1');
  await hooks.listen();
  assert.match((await cli(server, 'webhook', 'test')).stderr, /the certificate of 127\.0\.0\.1 is not/);
  assert.equal(hooks.taken.length, 1, 'nothing was sent to a stranger');
  await hooks.die();
  hooks.tls = own;
  await hooks.listen();
  await until(() => hooks.taken.length === 2, 'what waited is told');
});

test('a secret is changed without a gap: both sign, then the new one alone', async (t) => {
  const { server, hooks, file, secret: old } = await telling(t, { env: { ACADEMY_RT_WEBHOOKS_EVENTS: 'message.created' } });
  const ann = await server.signedIn();
  const say = async (content) => {
    await ask(ann, 'chat:message', { roomId: 'r', content });
    await until(() => contents(hooks.taken).includes(content), `${content} is taken`);
    return hooks.taken.find(({ data }) => data.content === content);
  };
  assert.equal((await say('one')).headers['webhook-signature'].split(' ').length, 1);
  const added = academy(['webhook', 'secret', file, '--add']);
  assert.equal(added.status, 0, added.stderr);
  const [young] = readFileSync(file, 'utf8').split('\n');
  assert.notEqual(young, old);
  const reloaded = async () => {
    const before = server.stderr.split('reloaded').length;
    server.child.kill('SIGHUP');
    await until(() => server.stderr.split('reloaded').length > before, 'it is reloaded');
  };
  await reloaded();
  const two = await say('two');
  assert.equal(two.headers['webhook-signature'].split(' ').length, 2);
  for (const secret of [old, young]) assert.ok(new Webhook(secret).verify(two.body, two.headers));
  hooks.secret = young;
  await say('three');
  writeFileSync(file, `# the new one\n${young}\n`);
  await reloaded();
  const four = await say('four');
  assert.throws(() => new Webhook(old).verify(four.body, four.headers));
  // A file that is no good does not come into force.
  writeFileSync(file, 'whsec_c2hvcnQ=\n');
  await reloaded();
  assert.match(server.stderr, /not reloaded.*has 5 bytes; 24 to 64 are allowed/);
  await say('five');
  assert.ok(!server.stderr.includes(young.slice(6)) && !server.stderr.includes(old.slice(6)), 'no secret is in the log');
});

test('kill -9 while sending: nothing is lost, the order of each room is kept, what comes twice has the same id', async (t) => {
  const { server, hooks } = await telling(t, { env: { ACADEMY_RT_WEBHOOKS_EVENTS: 'message.created' } });
  const random = dice(20_251_130);
  hooks.answer = async () => {
    await new Promise((resolve) => { setTimeout(resolve, random() * 15); });
    return random() < 0.02 ? 500 : 204;
  };
  const rooms = ['a', 'b', 'c', 'd'];
  const acked = [];
  let n = 0;
  for (const goal of [100, 200, 300]) {
    const sockets = await Promise.all(rooms.map((_, i) => server.signedIn({ userId: i + 1 })));
    let isKilled = false;
    await Promise.all(sockets.map(async (socket, i) => {
      while (!isKilled) {
        const content = `${(n += 1)}`;
        // Not so fast that the receiver, which takes one of a room at a time, is minutes behind.
        await until(() => isKilled || acked.length < hooks.taken.length + 60, 'the receiver keeps up', 60_000);
        if (isKilled) return;
        const posted = await socket.timeout(2_000).emitWithAck('chat:message', { roomId: rooms[i], content }).catch(() => undefined);
        if (posted?.ok) acked.push(posted.id);
        if (hooks.taken.length >= goal && !isKilled) {
          isKilled = true;
          await server.kill();
        }
      }
    }));
    sockets.forEach((socket) => socket.disconnect());
    await server.launch();
  }
  const ids = () => new Set(hooks.taken.map(({ data }) => data.id));
  await until(() => acked.every((id) => ids().has(id)), 'everything acknowledged is told', 60_000);
  for (const roomId of rooms) assertRising(hooks.taken.filter(({ data }) => data.roomId === roomId).map(({ data }) => data.seq));
  const byId = new Map();
  for (const { id, data } of hooks.calls) {
    assert.equal(byId.get(id) ?? data.id, data.id, 'one id is one message');
    byId.set(id, data.id);
  }
  assert.equal(byId.size, new Set(byId.values()).size, 'one message has one id');
  await until(async () => (await standing(server)).webhooks.waiting === 0, 'nothing waits');
});

test('after a crash the server itself tells who has left', async (t) => {
  const { server, hooks } = await telling(t);
  const sockets = await Promise.all([7, 8].map((userId) => server.signedIn({ userId, name: `N${userId}` })));
  for (const socket of sockets) await ask(socket, 'chat:join', { roomId: 'r' });
  await until(() => hooks.of('room.joined').length === 2 && hooks.of('user.online').length === 2, 'both are told to be here');
  await server.kill();
  sockets.forEach((socket) => socket.disconnect());
  await server.launch();
  // One of the two comes back.
  const back = await server.signedIn({ userId: 8, name: 'N8' });
  await ask(back, 'chat:join', { roomId: 'r' });
  await hooks.has('room.left', ({ userId }) => userId === 7);
  await hooks.has('user.offline', ({ userId }) => userId === 7);
  assert.deepEqual(hooks.of('room.left', 'user.offline').map(({ data }) => data.userId), [7, 7]);
  assert.deepEqual(hooks.of('room.joined', 'user.online').map(({ data }) => data.userId).sort(), [7, 7, 8, 8], 'who came back at once never left');
});

test('a full outbox keeps what is stored, and tells of a gap in its place', async (t) => {
  const { server, hooks } = await telling(t, { env: { ACADEMY_RT_WEBHOOKS_OUTBOX: '10', ACADEMY_RT_WEBHOOKS_EVENTS: 'message.created' } });
  await hooks.die();
  const ann = await server.signedIn();
  const posted = [];
  for (let n = 1; n <= 40; n += 1) posted.push((await ask(ann, 'chat:message', { roomId: `r${n % 3}`, content: `m${n}` })).id);
  await until(async () => (await standing(server)).webhooks.waiting >= 10, 'it is full');
  await until(async () => /of 10 that have room \(webhooks\.outbox\)/.test((await cli(server, 'doctor')).stdout), 'doctor warns');
  await hooks.listen();
  const gap = await hooks.has('webhooks.gap');
  const told = hooks.of('message.created').map(({ data }) => data.id);
  assert.deepEqual(told.toSorted((a, b) => a - b), posted.slice(0, told.length), 'what had room is told');
  assert.ok(told.length >= 8 && told.length <= 10);
  const missed = posted.slice(told.length);
  assert.deepEqual(gap.data, { fromId: missed[0], toId: missed.at(-1), changes: missed.length });
  await ask(ann, 'chat:message', { roomId: 'r1', content: 'behind' });
  await hooks.has('message.created', ({ content }) => content === 'behind');
  const { json } = await server.fetch(`/api/v1/rooms/r1/messages?limit=100`, { claims: {} });
  assert.equal(json.messages.length, 15, 'all of it is stored');
});

test('without webhooks no table of theirs is touched', async (t) => {
  const server = await Appliance.start({ env: noLimits });
  t.after(() => rmSync(server.dir, { recursive: true, force: true }));
  const ann = await server.signedIn();
  await ask(ann, 'chat:join', { roomId: 'r' });
  await ask(ann, 'chat:message', { roomId: 'r', content: 'one' });
  await ask(ann, 'progress:sync', { lessonId: 1, progress: 1, timeSpent: 1 });
  assert.match((await cli(server, 'webhook', 'list')).stdout, /^nobody is told\nthere are no dead letters/);
  assert.match((await cli(server, 'webhook', 'test')).stderr, /set webhooks\.url/);
  assert.equal((await server.fetch('/api/v1/admin/status', { claims: admin })).json.webhooks, undefined);
  assert.ok(!(await server.fetch('/metrics', { claims: admin })).raw.includes('webhooks'));
  await server.halt();
  const { tables } = JSON.parse(academy(['db', 'stats', '--data-dir', server.data, '--output', 'json']).stdout);
  const rows = Object.fromEntries(tables.map(({ table, rows: of }) => [table, of]));
  assert.deepEqual([rows.hooks, rows.hook_dead, rows.hook_sighted, rows.messages], [0, 0, 0, 1]);
});

test('init writes the address and makes the secret', async (t) => {
  const { dir } = withSecret(t);
  const init = (...more) => academy(['init', '--non-interactive', '--dir', join(dir, 'etc'), '--data-dir', join(dir, 'data'), '--host', 'rt.example.org', ...more]);
  assert.equal(init('--webhook-url', 'http://platform.example.org/hooks').status, 2);
  const made = init('--webhook-url', 'https://platform.example.org/hooks');
  assert.equal(made.status, 0, made.stderr);
  assert.match(made.stdout, /webhook-secrets signs webhooks/);
  assert.match(readFileSync(join(dir, 'etc/webhook-secrets'), 'utf8'), /^whsec_[A-Za-z0-9+/]{43}=\n$/);
  assert.equal(statSync(join(dir, 'etc/webhook-secrets')).mode & 0o777, 0o600);
  const checked = academy(['config', 'check', '--config', join(dir, 'etc/academy-rt.toml')]);
  assert.equal(checked.status, 0, checked.stdout + checked.stderr);
});

test('a configuration that cannot be used is refused with the reason', async (t) => {
  const { dir, file } = withSecret(t);
  const check = (env) => academy(['config', 'check', '--output', 'json'], { env, cwd: dir });
  const bad = (env, why) => {
    const { status, stdout, stderr } = check(env);
    assert.notEqual(status, 0, `${JSON.stringify(env)}: ${stdout}`);
    assert.match(stdout + stderr, why);
  };
  const url = { ACADEMY_RT_WEBHOOKS_URL: 'https://platform.example.org/hooks' };
  const signed = { ...url, ACADEMY_RT_WEBHOOKS_SECRET_FILE: file };
  assert.equal(check(signed).status, 0, check(signed).stdout);
  bad(url, /needs webhooks\.secret_file/);
  bad({ ACADEMY_RT_CHAT_AUTHORIZE_URL: 'https://platform.example.org/may' }, /needs webhooks\.secret_file/);
  bad({ ...signed, ACADEMY_RT_WEBHOOKS_URL: 'http://platform.example.org/hooks' }, /without TLS/);
  bad({ ...signed, ACADEMY_RT_WEBHOOKS_URL: 'http://169.254.169.254/latest' }, /without TLS/);
  bad({ ...signed, ACADEMY_RT_WEBHOOKS_URL: 'https://user:pass@platform.example.org/' }, /user or a password/);
  bad({ ...signed, ACADEMY_RT_WEBHOOKS_EVENTS: 'message.create' }, /did you mean message\.created/);
  bad({ ...signed, ACADEMY_RT_WEBHOOKS_OUTBOX: '3' }, /at least 10/);
  bad({ ...signed, ACADEMY_RT_WEBHOOKS_CA_FILE: join(dir, 'none.pem') }, /webhooks\.ca_file cannot be used/);
  bad({ ...signed, ACADEMY_RT_WEBHOOKS_SECRET_FILE: join(dir, 'none') }, /webhooks\.secret_file cannot be used/);
  bad({ ...signed, ACADEMY_RT_CHAT_AUTHORIZE_FAIL: 'ajar' }, /closed or open/);
  chmodSync(file, 0o666);
  bad(signed, /all users of this machine can change/);
  chmodSync(file, 0o600);
  assert.equal(academy(['webhook', 'secret', file]).status, 1, 'a secret is never overwritten');
});

/** A platform that decides who may enter. */
async function deciding(t, { env = {} } = {}) {
  const { file, secret } = withSecret(t);
  const platform = await Receiver.start({ secret });
  platform.say = () => ({ allow: true });
  platform.answer = async ({ user, roles, room }) => {
    const said = await platform.say({ user, roles, room });
    return said.status ? said : { status: 200, headers: { 'content-type': 'application/json' }, body: typeof said === 'string' ? said : JSON.stringify(said) };
  };
  const server = await Appliance.start({
    env: { ...noLimits, ACADEMY_RT_CHAT_AUTHORIZE_URL: platform.url, ACADEMY_RT_WEBHOOKS_SECRET_FILE: file, ...env },
  });
  t.after(async () => {
    await server.stop();
    await platform.stop();
  });
  return { server, platform };
}

const http = (server, claims, path, body) => server.fetch(path, { method: body ? 'POST' : 'GET', claims, body });

test('the platform decides who may enter, on sockets, over HTTP and in polls alike; its answer holds', async (t) => {
  const { server, platform } = await deciding(t);
  platform.say = ({ user, room }) => ({ allow: room === 'open' || user.id === 8 });
  const ann = await server.signedIn({ userId: 7, name: 'Ann', role: 'coach' });
  assert.ok((await ask(ann, 'chat:join', { roomId: 'open' })).ok);
  const { body } = platform.calls[0];
  assert.deepEqual(JSON.parse(body), { user: { id: 7, name: 'Ann' }, roles: ['coach'], room: 'open' });
  const refused = await ask(ann, 'chat:join', { roomId: 'shut' });
  assert.deepEqual([refused.ok, refused.error.code], [false, 'forbidden'], JSON.stringify(refused));
  assert.deepEqual((await ask(ann, 'chat:message', { roomId: 'shut', content: 'x' })).error.code, 'forbidden', 'nor may they write without joining');
  assert.equal((await ask(ann, 'chat:history', { roomId: 'shut' })).error.code, 'forbidden');
  const claims = { userId: 7, name: 'Ann', role: 'coach' };
  const { json: { cursor } } = await http(server, claims, '/api/v1/events');
  const poll = (room) => http(server, claims, `/api/v1/events?cursor=${encodeURIComponent(cursor)}&wait=0&room=${room}`);
  assert.deepEqual([
    (await http(server, claims, '/api/v1/rooms/shut/join', {})).status, (await http(server, claims, '/api/v1/rooms/open/join', {})).status,
    (await poll('shut')).status, (await poll('open')).status,
    (await http(server, claims, '/api/v1/rooms/shut/messages', { content: 'x' })).status, (await http(server, claims, '/api/v1/rooms/shut/messages')).status,
    (await http(server, claims, '/api/v1/rooms/shut/presence')).status,
  ], [403, 200, 403, 200, 403, 403, 403]);
  assert.equal(platform.calls.length, 2, 'one question for each room: the answers hold');
  // Another role is another question, and another user.
  await http(server, { ...claims, role: 'learner' }, '/api/v1/rooms/open/join', {});
  assert.equal((await http(server, { userId: 8 }, '/api/v1/rooms/shut/join', {})).status, 200);
  assert.equal(platform.calls.length, 4);
  // Administrators are not asked about.
  assert.equal((await http(server, admin, '/api/v1/rooms/shut/join', {})).status, 200);
  assert.equal(platform.calls.length, 4);
});

test('the platform says as what: a member of a private room, a moderator, a guest again', async (t) => {
  const { server, platform } = await deciding(t, { env: { ACADEMY_RT_CHAT_AUTHORIZE_CACHE: '0s' } });
  const made = await server.fetch('/api/v1/admin/rooms', { method: 'POST', claims: admin, body: { roomId: 'staff', private: true } });
  assert.equal(made.status, 200, made.raw);
  const join = async () => (await http(server, { userId: 7 }, '/api/v1/rooms/staff/join', {})).status;
  assert.equal(await join(), 403, 'the word of the platform alone does not open a private room');
  platform.say = () => ({ allow: true, role: 'moderator' });
  assert.equal(await join(), 200);
  const { json } = await server.fetch('/api/v1/admin/rooms/staff', { claims: admin });
  assert.deepEqual(json.items.map(({ userId, role }) => [String(userId), role]), [['7', 'moderator']]);
  assert.match((await cli(server, 'audit', 'list', '--action', 'room.member.add')).stdout, /platform.*user 7 is moderator/);
  platform.say = () => ({ allow: true, role: 'guest' });
  assert.equal(await join(), 403);
  platform.say = () => ({ allow: true, role: 'owner' });
  assert.equal(await join(), 503, 'a role that there is not is no decision');
});

test('a platform that hangs, errs or lies lets nobody in, and holds nobody else up; or lets in as configured', async (t) => {
  const { server, platform } = await deciding(t, { env: { ACADEMY_RT_CHAT_AUTHORIZE_TIMEOUT: '2s', ACADEMY_RT_CHAT_AUTHORIZE_CACHE: '0s' } });
  const [ann, bob] = [await server.signedIn({ userId: 7 }), await server.signedIn({ userId: 8 })];
  assert.ok((await ask(ann, 'chat:join', { roomId: 'r' })).ok);
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  platform.say = async () => { await held; return { allow: true }; };
  // More than are asked at once: they wait for their turn, and all of them know within the time.
  const began = Date.now();
  const many = Array.from({ length: 60 }, (_, n) => http(server, { userId: 100 + n }, '/api/v1/rooms/r/join', {}));
  const joining = ask(bob, 'chat:join', { roomId: 'r' });
  let decided = false;
  joining.then(() => { decided = true; });
  // One was asked before: 32 are out at once, and no more.
  await until(() => platform.calls.length === 33, 'the platform hangs');
  assert.ok((await ask(ann, 'chat:message', { roomId: 'r', content: 'still here' })).ok);
  assert.ok((await ask(ann, 'chat:history', { roomId: 'r' })).ok);
  assert.equal((await server.fetch('/readyz')).status, 200);
  assert.ok(!decided && platform.calls.length === 33, 'nobody waited for the platform but who asked');
  const refused = await joining;
  assert.equal(refused.error.code, 'unavailable', JSON.stringify(refused));
  assert.deepEqual(new Set((await Promise.all(many)).map(({ status }) => status)), new Set([503]));
  assert.ok((await standing(server)).webhooks.undecided >= 32, 'it is counted that the platform did not decide');
  // A poll that names many rooms waits no longer than for one.
  const { json: { cursor } } = await http(server, { userId: 9 }, '/api/v1/events');
  const asked = Date.now();
  const polled = await http(server, { userId: 9 }, `/api/v1/events?cursor=${encodeURIComponent(cursor)}&wait=0${Array.from({ length: 50 }, (_, n) => `&room=x${n}`).join('')}`);
  assert.equal(polled.status, 503);
  assert.ok(Date.now() - asked < 4_000, `${Date.now() - asked} ms`);
  assert.ok(Date.now() - began < 8_000, `${Date.now() - began} ms`);
  release();
  const join = async () => (await http(server, { userId: 9 }, '/api/v1/rooms/r/join', {})).status;
  for (const said of [{ status: 500 }, { status: 302, headers: { location: platform.url } }, '{"allow":"yes"}', 'yes', '{}', { status: 200, body: `{"allow":true,"x":"${'x'.repeat(100_000)}"}` }]) {
    platform.say = () => said;
    assert.equal(await join(), 503, JSON.stringify(said).slice(0, 100));
  }
  platform.say = () => ({ allow: true });
  assert.equal(await join(), 200);
  await platform.die();
  assert.equal(await join(), 503);
  assert.match((await cli(server, 'doctor')).stdout, /did not decide \d+ of \d+ times/);
  server.env.ACADEMY_RT_CHAT_AUTHORIZE_FAIL = 'open';
  await server.halt();
  await server.launch();
  assert.equal(await join(), 200, 'open: the rules of this server decide');
  await platform.listen();
  platform.say = () => ({ allow: false });
  assert.equal(await join(), 403);
});

test('the join authorisation of the documentation decides by its list', async (t) => {
  const { file, secret, dir } = withSecret(t);
  symlinkSync(join(here, 'node_modules'), join(dir, 'node_modules'));
  writeFileSync(join(dir, 'authorize.mjs'), block('webhooks.md', 'webhook=authorize-node'));
  const port = String(await freePort());
  const child = spawn(process.execPath, ['authorize.mjs'], { cwd: dir, env: { PORT: port, WEBHOOK_SECRET: secret } });
  // The configuration of the page, at the address of this test.
  const config = fitted(block('webhooks.md', 'webhook=config'), {
    'https://platform.example.org/hooks/academy-rt': `http://127.0.0.1:${port}/hooks`,
    'https://platform.example.org/hooks/may-enter': `http://127.0.0.1:${port}/may-enter`,
    '/var/lib/academy-rt/webhook-secrets': file,
  });
  writeFileSync(join(dir, 'academy-rt.toml'), config);
  const server = await Appliance.start({ env: noLimits, flags: ['--config', join(dir, 'academy-rt.toml')] });
  t.after(async () => {
    child.kill('SIGKILL');
    await server.stop();
  });
  const join_ = async (userId, room) => (await http(server, { userId }, `/api/v1/rooms/${room}/join`, {})).status;
  await until(async () => (await join_(7, 'course-12')) === 200, 'Ann enters her course');
  assert.deepEqual([await join_(7, 'course-13'), await join_(8, 'course-12')], [403, 403]);
});
