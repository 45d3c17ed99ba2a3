// Much of one thing: lessons, idempotency keys, slow bodies, half handshakes, wrong tokens, and a class that leaves all at once. What
// it costs is bounded and comes back, and others are answered meanwhile. TESTED_FOR_LONG=1: the whole numbers.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { at, during, pause } from './crowd.mjs';
import { Appliance, ask, binary, noLimits, token, until } from './harness.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const isLong = process.env.TESTED_FOR_LONG === '1';
const many = (short, long) => (isLong ? long : short);
const PEOPLE = 20;
// Memory that is the same is within this: what an allocator keeps, and pages of the store's cache.
const SLACK_KIB = 12 * 1_024;
// Half of what others ask is answered within this while there is a flood, and hardly anything takes longer than five of it. It is
// rough: the flood comes from this very process, which has to read the answers too. How little others wait is measured elsewhere.
const ANSWERED_MS = 1_000;

async function started(t, { env = {}, ...options } = {}) {
  const server = await Appliance.start({ env: { ...noLimits, ...env }, ...options });
  t.after(() => server.stop());
  return server;
}

async function inParts(count, size, what) {
  const answers = [];
  for (let from = 0; from < count; from += size) answers.push(...await Promise.all(Array.from({ length: Math.min(size, count - from) }, (_, n) => what(from + n))));
  return answers;
}

// Somebody else asks, again and again, until it is over: over HTTP with connections of their own, and by a socket.
async function meanwhile(server, work) {
  const other = await server.signedIn({ userId: 4_711 });
  let isOver = false;
  const ended = work.finally(() => { isOver = true; });
  const took = [];
  while (!isOver) {
    const began = performance.now();
    const [posted, { status }] = await Promise.all([ask(other, 'chat:message', { roomId: 'others', content: 'meanwhile' }), server.fetch('/readyz', { headers: { connection: 'close' } })]);
    assert.deepEqual([posted.ok, status], [true, 200], JSON.stringify(posted));
    took.push(performance.now() - began);
    await pause(20);
  }
  other.disconnect();
  const value = await ended;
  assert.ok(took.length > 0 && at(took, 0.5) < ANSWERED_MS && at(took, 0.99) < 5 * ANSWERED_MS, `others were answered ${took.length} times, p50 ${at(took, 0.5)} ms, p99 ${at(took, 0.99)} ms`);
  return { value, p99: at(took, 0.99) };
}

const open = (server) => readdirSync(`/proc/${server.child.pid}/fd`).length;
const fileBytes = (server) => statSync(join(server.data, readdirSync(server.data).find((name) => name.endsWith('.redb')))).size;
const rows = (server, table) => {
  const stats = JSON.parse(execFileSync(binary, ['--output', 'json', 'db', 'stats', '--data-dir', server.data], { encoding: 'utf8', env: { PATH: process.env.PATH } }));
  return stats.tables.find((one) => one.table === table).rows;
};

test('a learner reports distinct lessons without end: as many as they may have are kept, and the others leave nothing', async (t) => {
  const most = many(2_000, 20_000);
  const count = many(20_000, 1_000_000);
  const server = await started(t, { env: { ACADEMY_RT_LIMITS_LESSONS_PER_USER: String(most) } });
  const socket = await server.signedIn({ userId: 7 });
  const batch = (n) => ask(socket, 'progress:sync', Array.from({ length: 500 }, (_, i) => ({ lessonId: n * 500 + i, progress: 1, timeSpent: 1, syncId: `s-${n}-${i}` })));
  const kept = most / 500;
  assert.ok((await inParts(kept, 4, batch)).every((answer) => answer.ok !== false));
  assert.equal((await batch(kept)).error.code, 'conflict');
  const [memory, bytes] = [server.rssKiB(), fileBytes(server)];
  const { value, p99 } = await meanwhile(server, inParts(count / 500 - kept, 8, (n) => batch(kept + n)));
  assert.ok(value.every(({ error }) => error?.code === 'conflict' && error.field === 'lessonId'), 'each of the others is refused');
  t.diagnostic(`${value.length * 500} lessons refused: memory ${memory}, ${server.rssKiB()} KiB; file ${bytes}, ${fileBytes(server)}; others' p99 ${p99.toFixed(1)} ms`);
  assert.ok(server.rssKiB() < memory + SLACK_KIB, `${memory} KiB, and now ${server.rssKiB()}`);
  assert.ok(fileBytes(server) < bytes + 4 * 1_048_576, `the file had ${bytes} bytes, and has ${fileBytes(server)}`);
  await server.halt();
  assert.deepEqual([rows(server, 'progress'), rows(server, 'answers')], [most, most], 'nor is a key of theirs kept');
});

// libfaketime is loaded by the program that cargo's tests have built, and not by a static one.
const FAKETIME = `/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu/faketime/libfaketimeMT.so.1`;
const DYNAMIC = fileURLToPath(new URL('../../target/debug/academy-rt', import.meta.url));

test('idempotency keys without end: as many are kept as what they stood for was stored, and they go when they have expired', async (t) => {
  assert.ok(existsSync(FAKETIME) && existsSync(DYNAMIC), "this test needs Debian's package libfaketime and the program of cargo build");
  const count = many(5_000, 1_000_000);
  // A key stands for a KiB at least of what a user may store in a day.
  const most = many(2_000, 400_000);
  const server = await started(t, { env: { ACADEMY_RT_LIMITS_STORED_PER_DAY: `${most}KiB`, ACADEMY_RT_STORAGE_CACHE: '8MiB' } });
  const far = { exp: Math.floor(Date.now() / 1000) + 3 * 86_400 };
  const socket = await server.signedIn({ userId: 7, ...far });
  const say = (n) => ask(socket, 'chat:message', { roomId: 'keys', content: 'x', clientId: `key-${n}` });
  assert.ok((await inParts(most / 2, 256, say)).every(({ ok }) => ok));
  const half = server.rssKiB();
  assert.ok((await inParts(most / 2, 256, (n) => say(most / 2 + n))).every(({ ok }) => ok));
  const memory = server.rssKiB();
  const { value, p99 } = await meanwhile(server, inParts(count - most, 256, (n) => say(most + n)));
  const refused = value.filter(({ error }) => error?.code === 'rate_limited').length;
  // While they ask, some bytes come back.
  assert.ok(refused > value.length * 0.99, `${refused} of ${value.length}`);
  const stored = most + value.length - refused;
  // And what was answered is answered again.
  assert.ok((await inParts(500, 100, say)).every(({ duplicate }) => duplicate === true));
  t.diagnostic(`${stored} keys kept, ${refused} refused: memory ${half}, ${memory}, ${server.rssKiB()} KiB; others' p99 ${p99.toFixed(1)} ms`);
  assert.ok(memory < half + SLACK_KIB && server.rssKiB() < memory + SLACK_KIB, `${half}, ${memory}, and now ${server.rssKiB()} KiB`);
  await server.halt();
  assert.equal(rows(server, 'answers'), stored);
  // Two days later they are strangers to the server, and each commit takes some of them away.
  Object.assign(server, { program: DYNAMIC, env: { ...server.env, LD_PRELOAD: FAKETIME, FAKETIME: '+2d', FAKETIME_DONT_FAKE_MONOTONIC: '1' } });
  await server.launch();
  const late = await server.signedIn({ userId: 8, ...far });
  const commits = Math.ceil(stored / 512) + 1;
  for (let n = 0; n < commits; n += 1) assert.equal((await ask(late, 'chat:message', { roomId: 'keys', content: 'x', clientId: `late-${n}` })).ok, true);
  await server.halt();
  assert.equal(rows(server, 'answers'), commits, 'only those of that day are left');
});

// A stranger's connection from an address of its own network; resolves when it is open.
function connected(server, n, network, first) {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ port: server.port, host: '127.0.0.1', localAddress: `127.${network}.${n >> 8}.${(n % 255) + 1}` }, () => {
      if (first) socket.write(first);
      resolve(socket);
    });
    socket.once('error', reject);
    socket.resume();
    socket.ended = new Promise((done) => socket.once('close', done));
    socket.once('connect', () => socket.on('error', () => {}));
  });
}

test('1,000 bodies that come a byte a second: others are answered, memory is bounded, and each ends in its time', async (t) => {
  const seconds = many(10, 20);
  const server = await started(t, { env: { ACADEMY_RT_LIMITS_REQUEST_BODY: `${seconds}s` } });
  await meanwhile(server, pause(200));
  const [memory, descriptors] = [server.rssKiB(), open(server)];
  // Half of them say that much is to come.
  const head = (n) => ['POST /api/v1/progress HTTP/1.1', 'Host: x', `Authorization: Bearer ${token({ userId: 1_000 + n })}`, 'Content-Type: application/json', `Content-Length: ${n % 2 ? 900 : 900_000}`].join('\r\n') + '\r\n\r\n[';
  let peak = memory;
  const flood = async () => {
    const sockets = await inParts(1_000, 50, (n) => connected(server, n, 4, head(n)));
    // On a busy machine the first ones have their end before the last ones are there.
    const most = open(server);
    const drips = setInterval(() => {
      for (const socket of sockets) if (!socket.destroyed) socket.write(' ');
      peak = Math.max(peak, server.rssKiB());
    }, 1_000);
    const ended = await Promise.race([Promise.all(sockets.map((socket) => socket.ended)), pause((seconds + 20) * 1_000)]);
    clearInterval(drips);
    for (const socket of sockets) socket.destroy();
    assert.ok(ended, 'each of them is cut off');
    return most;
  };
  const { value, p99 } = await meanwhile(server, flood());
  assert.ok(value >= descriptors + 500, `${value - descriptors} were open at once`);
  await until(() => open(server) <= descriptors + 5, 'their descriptors are back');
  t.diagnostic(`memory ${memory}, at most ${peak}, ${server.rssKiB()} KiB; descriptors ${descriptors}, ${value}, ${open(server)}; others' p99 ${p99.toFixed(1)} ms`);
  // What they say is to come is no memory.
  assert.ok(peak < memory + 64 * 1_024, `${memory} KiB, and in it ${peak}`);
  await until(() => server.rssKiB() < memory + 2 * SLACK_KIB, `memory is back at ${memory} KiB; it is ${server.rssKiB()}`);
});

for (const [what, tls, first] of [
  ['half hellos of TLS', true, Buffer.from(`160301020001000001fc0303${'ab'.repeat(60)}`, 'hex')],
  ['half heads of requests', false, 'GET /ws/?EIO=4 HTTP/1.1\r\nHost: x\r\nX-'],
]) {
  const count = many(2_000, 9_500);
  test(`${count} ${what}: others are answered, and memory and descriptors come back`, async (t) => {
    const seconds = many(4, 15);
    const server = await started(t, { tls, env: { ACADEMY_RT_LIMITS_HANDSHAKE: `${seconds}s`, ACADEMY_RT_LIMITS_REQUEST_HEAD: `${seconds}s` } });
    await meanwhile(server, pause(200));
    const [memory, descriptors] = [server.rssKiB(), open(server)];
    let [peak, most] = [memory, descriptors];
    const flood = async () => {
      const closed = [];
      await inParts(count, 100, async (n) => {
        closed.push((await connected(server, n, 5, first)).ended);
        if (n % 100 === 0) [peak, most] = [Math.max(peak, server.rssKiB()), Math.max(most, open(server))];
      });
      [peak, most] = [Math.max(peak, server.rssKiB()), Math.max(most, open(server))];
      assert.ok(await Promise.race([Promise.all(closed), pause((seconds + 30) * 1_000)]), 'each of them is cut off');
    };
    const { p99 } = await meanwhile(server, flood());
    await until(() => open(server) <= descriptors + 5, 'their descriptors are back');
    t.diagnostic(`memory ${memory}, at most ${peak}, ${server.rssKiB()} KiB; descriptors ${descriptors}, at most ${most}, ${open(server)}; others' p99 ${p99.toFixed(1)} ms`);
    assert.ok(most > descriptors + count / 2, `only ${most - descriptors} were open at once`);
    assert.ok(peak < memory + count * 48, `48 KiB each at most: ${memory} KiB, and in it ${peak}`);
    await until(() => server.rssKiB() < memory + 2 * SLACK_KIB, `memory is back at ${memory} KiB; it is ${server.rssKiB()}`);
  });
}

test('wrong tokens to renew with, by the thousand: the socket stays who it is, and memory is flat', async (t) => {
  const server = await started(t);
  const socket = await server.signedIn({ userId: 7 });
  const wrong = [
    ['x', 'token_malformed'],
    [token({ userId: 7 }, { key: 'not the secret of this server, but as long' }), 'token_invalid'],
    [token({ userId: 7, exp: 1_000_000_000 }), 'token_expired'],
    [token({ userId: 7 }).slice(0, -3), 'token_invalid'],
    [`${token({ userId: 7 })}${'x'.repeat(20_000)}`, undefined],
    [token({ userId: 8 }), undefined],
  ];
  const refresh = async (n) => {
    const [bad, code] = wrong[n % wrong.length];
    const answer = await ask(socket, 'auth:refresh', { token: bad });
    assert.equal(answer.ok, false, JSON.stringify(answer));
    if (code) assert.equal(answer.error.code, code);
  };
  await inParts(many(300, 20_000), 64, refresh);
  const memory = server.rssKiB();
  const { p99 } = await meanwhile(server, inParts(many(2_000, 200_000), 64, refresh));
  t.diagnostic(`memory ${memory}, ${server.rssKiB()} KiB; others' p99 ${p99.toFixed(1)} ms`);
  assert.ok(server.rssKiB() < memory + SLACK_KIB, `${memory} KiB, and now ${server.rssKiB()}`);
  const { messages } = (await ask(socket, 'chat:message', { roomId: 'who', content: 'still I' })).ok && await ask(socket, 'chat:history', { roomId: 'who' });
  assert.deepEqual(messages.map((one) => String(one.senderId)), ['7']);
  assert.equal((await ask(socket, 'auth:refresh', { token: token({ userId: 7 }) })).ok, true, 'a good one is taken still');
});

// Who is `idle` gets what a processor has left when nobody else wants it: whoever leaves has a machine of their own, and so has the
// other server that they leave for comparison. `other`: as everybody.
function gives(child, policy) {
  assert.equal(spawnSync('chrt', ['--all-tasks', `--${policy}`, '--pid', '0', String(child.pid)]).status, 0);
}

// A class in its room; `leave` resolves when all of them have left.
async function seated(server, count) {
  const child = spawn(process.execPath, [join(here, 'leavers.mjs'), String(server.port), String(count)], { stdio: ['pipe', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.on('data', (text) => { said += text; });
  const exited = new Promise((resolve) => child.once('exit', resolve));
  await until(() => said.includes('here') || child.exitCode !== null, 'the class is in its room', 240_000);
  return {
    leave: async () => {
      gives(child, 'idle');
      child.stdin.end();
      assert.equal(await exited, 0);
      assert.match(said, /gone/);
    },
  };
}

test(`${many(500, 8_000)} leave a room all at once: what people write elsewhere is acknowledged as ever`, { timeout: 900_000 }, async (t) => {
  const count = many(500, 8_000);
  const [server, decoy] = await Promise.all([started(t), started(t)]);
  const people = [];
  for (let n = 0; n < PEOPLE; n += 1) people.push(await server.signedIn({ userId: 100 + n }));
  // The teacher stays, and hears of each.
  const teacher = await server.signedIn({ userId: 99 });
  await ask(teacher, 'chat:join', { roomId: 'class' });
  const [memory, descriptors] = [server.rssKiB(), open(server)];
  const [beside, within] = [[], []];
  const isHeldUp = () => at(within, 0.99) > 2 * at(beside, 0.99) + 5;
  // Who goes before their coming was told is not told of at all.
  const heardOf = (event) => teacher.heard.filter((one) => one.event === event).length;
  const isTold = () => heardOf('chat:user_left') > 0 && heardOf('chat:user_left') === heardOf('chat:user_joined');
  // The crowd talks for a second at least: a small class has left sooner.
  const leaving = async (to) => {
    const group = await seated(to, count);
    if (to === decoy) gives(decoy.child, 'idle');
    const { took } = await during(people, 'elsewhere', Promise.all([group.leave(), pause(1_000)]));
    if (to === decoy) gives(decoy.child, 'other');
    return took;
  };
  for (let n = 0; n === 0 || (n < 4 && isHeldUp()); n += 1) {
    beside.push(...await leaving(decoy));
    within.push(...await leaving(server));
    await until(isTold, 'the teacher has heard of each who went', 60_000);
  }
  await until(() => open(server) <= descriptors + 5, 'their descriptors are back');
  t.diagnostic(`people's p99 ${at(beside, 0.99).toFixed(1)} ms beside, ${at(within, 0.99).toFixed(1)} ms in it; memory ${memory}, ${server.rssKiB()} KiB`);
  assert.ok(!isHeldUp(), `p99 ${at(beside, 0.99)} ms beside the same of another server, ${at(within, 0.99)} ms in it`);
  await until(() => server.rssKiB() < memory + 2 * SLACK_KIB + count, `memory is back at ${memory} KiB; it is ${server.rssKiB()}`);
});
