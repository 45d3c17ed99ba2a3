// What a user may add to the store: bytes and new rooms a day, and lessons. Who has used it up is told so, and what to do; reading,
// what was answered before, and everybody else go on; and what was acknowledged stays.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Appliance, ask, binary, noLimits, token, until } from './harness.mjs';

const run = promisify(execFile);
const DAY_MS = 86_400_000;
const KIB = 'x'.repeat(1_000);
const ann = { userId: 7 };
const bob = { userId: 8 };
const root = { userId: 1, role: 'admin' };
const platform = (scope) => ({ userId: 'platform', scope });

async function served(t, limits, options = {}) {
  const env = { ...noLimits, ...Object.fromEntries(Object.entries(limits).map(([name, value]) => [`ACADEMY_RT_LIMITS_${name}`, String(value)])), ...options.env };
  const server = await Appliance.start({ env });
  t.after(() => server.stop());
  return server;
}

const post = (server, claims, path, body, method = 'POST') => server.fetch(`/api/v1${path}`, { method, claims, body });
const say = (server, claims, roomId, content, clientId) => post(server, claims, `/rooms/${roomId}/messages`, { content, clientId });

async function fine(answer) {
  const { status, json, raw } = await answer;
  assert.equal(status, 200, raw);
  return json;
}

// The refusal of an answer over either transport.
function refused({ ok, status, json, headers, error = json?.error }, code, words) {
  assert.ok(!ok && error, `it is refused: ${JSON.stringify(error ?? json)}`);
  assert.equal(error.code, code);
  assert.match(error.message, words);
  if (status) assert.equal(status, code === 'rate_limited' ? 429 : 409);
  if (status === 429) assert.equal(Number(headers.get('retry-after')), Math.ceil(error.retryAfterMs / 1000));
  return error;
}

// What the figures say of a quota: over HTTP, in the metrics and on the command line.
async function figures(server, name, pointer) {
  const status = (await fine(server.fetch('/api/v1/admin/status', { claims: root }))).quotas[pointer];
  const metrics = (await server.fetch('/metrics', { claims: root })).raw;
  const metric = (pattern) => Number(new RegExp(`^${pattern}\\{limit="${name}"\\} (\\d+)$`, 'm').exec(metrics)?.[1]);
  assert.deepEqual([metric('academy_rt_rate_limited_total'), metric('academy_rt_quota_users')], [status.refused, status.usersToday]);
  const shown = async (...options) => (await run(binary, [...options, 'status', '--data-dir', server.data], { env: { PATH: process.env.PATH } })).stdout;
  assert.deepEqual(JSON.parse(await shown('--output', 'json')).quotas[pointer], status);
  const words = { stored: 'stored bytes', newRooms: 'new rooms', lessons: 'lessons' }[pointer];
  assert.match(await shown(), new RegExp(`quotas .* ${status.usersToday} by ${words}`));
  return status;
}

test('a user stores so many bytes a day: messages, edits and progress alike, over both transports', async (t) => {
  const server = await served(t, { STORED_PER_DAY: '8KiB' });
  const [socket, other] = [await server.signedIn(ann), await server.signedIn(bob)];
  await fine(post(server, root, '/admin/rooms', { roomId: 'shut', private: true }));
  // What is refused for another reason, or was answered before, takes nothing.
  for (let n = 0; n < 10; n += 1) assert.equal((await ask(socket, 'chat:message', { roomId: 'shut', content: KIB })).error.code, 'forbidden');
  const first = { roomId: 'r', content: KIB, clientId: 'first' };
  const { id } = await ask(socket, 'chat:message', first);
  for (let n = 0; n < 10; n += 1) assert.deepEqual([(await ask(socket, 'chat:message', first)).id, (await fine(say(server, ann, 'r', KIB, 'first'))).duplicate], [id, true]);
  const report = { lessonId: 1, progress: 40, timeSpent: 1, syncId: 'one' };
  assert.equal((await ask(socket, 'progress:sync', report)).ok, true);
  for (let n = 0; n < 10; n += 1) assert.equal((await ask(socket, 'chat:edit', { roomId: 'r', messageId: 1e9, content: KIB })).error.code, 'not_found');
  // Of 8 KiB two are used.
  const kept = [id];
  for (let n = 0; n < 3; n += 1) kept.push((await ask(socket, 'chat:message', { roomId: 'r', content: KIB })).id);
  for (let n = 0; n < 2; n += 1) kept.push((await fine(say(server, ann, 'r', KIB))).id);
  assert.equal((await ask(socket, 'chat:edit', { roomId: 'r', messageId: id, content: `${KIB}.` })).ok, true);
  assert.ok(kept.every(Number.isSafeInteger), `${kept}`);

  const words = /stored as much as a user may in a day; go on later/;
  const refusals = [
    await ask(socket, 'chat:message', { roomId: 'r', content: 'x' }),
    await ask(socket, 'chat:message', { roomId: 'r', content: 'x', clientId: 'never answered' }),
    await ask(socket, 'chat:edit', { roomId: 'r', messageId: id, content: 'x' }),
    await ask(socket, 'progress:sync', { lessonId: 2, progress: 1, timeSpent: 1 }),
    await say(server, ann, 'r', 'x'),
    await post(server, ann, `/rooms/r/messages/${id}`, { content: 'x' }, 'PATCH'),
    await post(server, ann, '/progress', { lessonId: 2, progress: 1, timeSpent: 1 }),
  ];
  for (const one of refusals) {
    const { retryAfterMs } = refused(one, 'rate_limited', words);
    assert.ok(retryAfterMs > DAY_MS / 8 - 60_000 && retryAfterMs <= DAY_MS / 8, `a KiB comes back within an eighth of a day: ${retryAfterMs}`);
  }
  // What was answered is answered again; reading and what stores nothing of their own go on.
  assert.deepEqual([(await ask(socket, 'chat:message', first)).id, (await fine(say(server, ann, 'r', KIB, 'first'))).id], [id, id]);
  assert.equal((await ask(socket, 'progress:sync', report)).duplicate, true);
  assert.equal((await ask(socket, 'chat:history', { roomId: 'r' })).ok, true);
  assert.equal((await ask(socket, 'chat:delete', { roomId: 'r', messageId: kept[1] })).ok, true);
  // Nobody else notices: a colleague, an administrator, a back end.
  assert.equal((await ask(other, 'chat:message', { roomId: 'r', content: KIB })).ok, true);
  for (let n = 0; n < 10; n += 1) {
    await fine(say(server, root, 'r', KIB));
    await fine(post(server, platform('broadcast'), '/broadcast', { target: { room: 'chat:r' }, event: 'chat:message', payload: { content: KIB } }));
    await fine(post(server, platform('notify'), '/notifications', { target: { user: 7 }, title: 'x', message: KIB, metadata: { filler: 'x'.repeat(10_000) } }));
    await fine(post(server, platform('progress'), '/progress?userId=7', { lessonId: n, progress: 1, timeSpent: 1 }));
  }
  assert.deepEqual(await figures(server, 'stored', 'stored'), { refused: 7, usersToday: 1 });
  await server.halt();
  await server.launch();
  const { messages } = await fine(server.fetch('/api/v1/rooms/r/messages?limit=200', { claims: ann }));
  const mine = messages.filter((one) => String(one.senderId) === '7').map((one) => one.id);
  assert.deepEqual(mine, kept, 'all that was acknowledged, and nothing else');
});

test('a user begins so many rooms a day, however many at once; the day of UTC ends it', async (t) => {
  const server = await served(t, { ROOMS_PER_DAY: 3 });
  const socket = await server.signedIn(ann);
  await fine(say(server, bob, 'old', 'of another'));
  // At once, by both transports.
  const keyed = (n) => ({ roomId: `new-${n}`, content: 'first', clientId: `key-${n}` });
  const answers = await Promise.all(Array.from({ length: 40 }, (_, n) => (n % 2
    ? ask(socket, 'chat:message', keyed(n))
    : say(server, ann, `new-${n}`, 'first', `key-${n}`).then(({ json }) => ({ ok: !json.error, ...json })))));
  const begun = [...answers.keys()].filter((n) => answers[n].ok);
  assert.ok(begun.length <= 3, `${begun.length} rooms are begun`);
  for (const { error } of answers.filter(({ ok }) => !ok)) assert.equal(error.code, 'rate_limited', JSON.stringify(error));
  // Who was refused while others were under way is served afterwards.
  while (begun.length < 3) {
    const n = 100 + begun.length;
    assert.equal((await ask(socket, 'chat:message', keyed(n))).ok, true);
    begun.push(n);
  }
  for (const one of [await ask(socket, 'chat:message', keyed(99)), await say(server, ann, 'new-98', 'x')]) {
    const { retryAfterMs } = refused(one, 'rate_limited', /begun as many rooms as a user may in a day; go on tomorrow/);
    const left = DAY_MS - (Date.now() % DAY_MS);
    assert.ok(Math.abs(retryAfterMs - left) < 10_000 || left < 10_000, `${retryAfterMs} ms, and the day has ${left}`);
  }
  // In rooms that are there they write on, and what was answered is answered again.
  assert.equal((await ask(socket, 'chat:message', { roomId: 'old', content: 'x' })).ok, true);
  for (const n of begun) assert.equal((await ask(socket, 'chat:message', keyed(n))).duplicate, true);
  await fine(say(server, bob, 'begun-by-bob', 'x'));
  for (let n = 0; n < 5; n += 1) {
    await fine(say(server, root, `root-${n}`, 'x'));
    await fine(post(server, platform('broadcast'), '/broadcast', { target: { room: `chat:platform-${n}` }, event: 'chat:message', payload: { content: 'x' } }));
  }
  const { refused: count, usersToday } = await figures(server, 'new_rooms', 'newRooms');
  assert.ok(count >= 2 && usersToday === 1, `${count}, ${usersToday}`);
  await server.halt();
  await server.launch();
  const { rooms } = await fine(server.fetch('/api/v1/rooms', { claims: ann }));
  assert.deepEqual(rooms.map((one) => one.roomId).sort(), ['old', ...begun.map((n) => `new-${n}`)].sort());
});

// libfaketime is loaded by the program that cargo's tests have built, and not by a static one.
const FAKETIME = `/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu/faketime/libfaketimeMT.so.1`;
const DYNAMIC = fileURLToPath(new URL('../../target/debug/academy-rt', import.meta.url));

test('the next day of UTC has new rooms, and new figures', async (t) => {
  assert.ok(existsSync(FAKETIME), "this test sets the server's clock: install Debian's package libfaketime");
  assert.ok(existsSync(DYNAMIC), 'this test needs the program of cargo build');
  const server = await served(t, { ROOMS_PER_DAY: 1 });
  await server.halt();
  // The server's clock goes as it should, and is near its midnight.
  const ahead = Math.floor((DAY_MS - (Date.now() % DAY_MS)) / 1_000) - 8;
  Object.assign(server, { program: DYNAMIC, env: { ...server.env, LD_PRELOAD: FAKETIME, FAKETIME: `${ahead < 0 ? '' : '+'}${ahead}s`, FAKETIME_DONT_FAKE_MONOTONIC: '1' } });
  await server.launch();
  const now = Math.floor(Date.now() / 1_000);
  const claims = { ...ann, exp: now + 2 * 86_400 };
  const admin = { ...root, exp: now + 2 * 86_400 };
  await fine(say(server, claims, 'evening', 'x'));
  const { retryAfterMs } = refused(await say(server, claims, 'late', 'x'), 'rate_limited', /tomorrow/);
  assert.ok(retryAfterMs < 9_000, `${retryAfterMs} ms before midnight`);
  const users = async () => (await fine(server.fetch('/api/v1/admin/status', { claims: admin }))).quotas.newRooms.usersToday;
  assert.equal(await users(), 1);
  const began = Date.now();
  await until(async () => (await say(server, claims, 'late', 'x')).status === 200, 'it is another day');
  assert.ok(Date.now() - began > retryAfterMs - 1_500, 'not before');
  assert.equal(await users(), 0);
  refused(await say(server, claims, 'later', 'x'), 'rate_limited', /tomorrow/);
});

test('a user has so many lessons, and reports of these go on', async (t) => {
  const server = await served(t, { LESSONS_PER_USER: 5 });
  const socket = await server.signedIn(ann);
  const report = (lessonId, syncId) => ({ lessonId, progress: 10, timeSpent: 1, syncId });
  assert.equal((await ask(socket, 'progress:sync', report(0, 'zero'))).ok, true);
  await fine(post(server, ann, '/progress', [1, 2, 3].map((n) => report(n))));
  const words = /user 7 has progress of 5 lessons already, and may have no more; report one of these/;
  const refusals = [
    // All or none: one of these would have had a place.
    await ask(socket, 'progress:sync', [4, 5].map((n) => report(n))),
    await post(server, ann, '/progress', [4, 5].map((n) => report(n))),
    await post(server, platform('progress'), '/progress?userId=7', [4, 5].map((n) => report(n))),
  ];
  assert.equal((await ask(socket, 'progress:sync', report(4))).ok, true);
  refusals.push(await ask(socket, 'progress:sync', report(5, 'never answered')));
  for (const one of refusals) {
    const error = refused(one, 'conflict', words);
    assert.deepEqual([error.field, error.retryAfterMs], ['lessonId', undefined], 'waiting does not help');
  }
  assert.equal((await ask(socket, 'progress:sync', { ...report(3), progress: 90 })).ok, true);
  assert.equal((await ask(socket, 'progress:sync', report(0, 'zero'))).duplicate, true);
  await fine(post(server, bob, '/progress', [4, 5, 6].map((n) => report(n))));
  assert.deepEqual(await figures(server, 'lessons', 'lessons'), { refused: 4, usersToday: 1 });
  await server.halt();
  await server.launch();
  refused(await post(server, ann, '/progress', report(5)), 'conflict', words);
  const { items } = await fine(server.fetch('/api/v1/progress', { claims: ann }));
  assert.deepEqual(items.map((one) => Number(one.lessonId)).sort(), [0, 1, 2, 3, 4]);
});
