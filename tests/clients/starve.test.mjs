// One learner, and then one network of strangers, ask as fast as they can for each thing that can be asked for, while people
// write to each other: nobody notices. What can be asked for is the table of costs in docs/protocol.md, which the program's own
// table makes: a request that has no act here fails the test. TESTED_FOR_LONG=1: ten seconds for each.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { at, during } from './crowd.mjs';
import { Appliance, ask, token, until } from './harness.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const SECONDS = process.env.TESTED_FOR_LONG === '1' ? 10 : 1.5;
const PEOPLE = 20;
const TRIES = 4;
// A p99 of some hundred messages is no finer than this where two servers, two crowds and two floods share two cores.
const GRAIN_MS = 5;
const ROOM_KIB = 64 * 1024;
const LESSONS = 2_000;
const ROOMS = 300;
const NOTIFICATIONS = 500;

const event = (name, payload, method, path, body) => ({ event: name, payload, http: { method, path: `/api/v1${path}`, body } });

// How each is asked for.
const ACTS = {
  'chat:join': event('chat:join', { roomId: 'own-0', limit: 200 }, 'POST', '/rooms/own-0/join', {}),
  'chat:leave': event('chat:leave', { roomId: 'own-1' }, 'POST', '/rooms/own-1/leave', {}),
  'chat:message': event('chat:message', { roomId: 'own-0', content: 'again' }, 'POST', '/rooms/own-0/messages', { content: 'again' }),
  'chat:edit': event('chat:edit', { roomId: 'own-0', messageId: 1, content: 'x' }, 'PATCH', '/rooms/own-0/messages/1', { content: 'x' }),
  'chat:delete': event('chat:delete', { roomId: 'own-0', messageId: 1 }, 'DELETE', '/rooms/own-0/messages/1'),
  'chat:typing': event('chat:typing', { roomId: 'crowd', isTyping: false }, 'POST', '/rooms/crowd/typing', { isTyping: false }),
  'chat:read': event('chat:read', { roomId: 'own-0', messageId: 1 }, 'POST', '/rooms/own-0/read', { messageId: 1 }),
  'chat:history': event('chat:history', { roomId: 'own-0', limit: 200 }, 'GET', '/rooms/own-0/messages?limit=200'),
  'chat:rooms': event('chat:rooms', {}, 'GET', '/rooms'),
  'progress:sync': event('progress:sync', Array.from({ length: 500 }, (_, n) => ({ lessonId: n, progress: 50 })), 'POST', '/progress', Array.from({ length: 500 }, (_, n) => ({ lessonId: n, progress: 50 }))),
  'progress:get': event('progress:get', {}, 'GET', '/progress'),
  'progress:history': event('progress:history', { lessonId: 1 }, 'GET', '/progress/1/history'),
  'notification:list': event('notification:list', { limit: 200 }, 'GET', '/notifications?limit=200'),
  'notification:read': event('notification:read', { all: true }, 'POST', '/notifications/read', { all: true }),
  'notification:delete': event('notification:delete', { id: 999_999_999 }, 'DELETE', '/notifications/999999999'),
  'presence:list': event('presence:list', { roomId: 'crowd' }, 'GET', '/rooms/crowd/presence'),
  'auth:refresh': { event: 'auth:refresh', payload: 'own token' },
  'an event that does not exist': { event: 'no:such', payload: {} },
  'GET /api/v1/session': event(undefined, undefined, 'GET', '/session'),
  'GET /api/v1/events': event(undefined, undefined, 'GET', `/events?rooms=${Array.from({ length: 100 }, (_, n) => `own-${n}`).join(',')}`),
  'POST /api/v1/broadcast': event(undefined, undefined, 'POST', '/broadcast', { target: { all: true }, event: 'x', payload: {} }),
  'POST /api/v1/notifications': event(undefined, undefined, 'POST', '/notifications', { target: { all: true }, title: 'x', message: 'x' }),
  '/api/v1/admin/…': event(undefined, undefined, 'GET', '/admin/status'),
  'GET /metrics': { http: { method: 'GET', path: '/metrics' } },
  'a request of the polling transport': { http: { method: 'GET', path: '/ws/?EIO=4&transport=polling&sid=none' } },
  'a request without a good token': { isForged: true, ...event(undefined, undefined, 'GET', '/session') },
};

// What costs no rate and no budget of its own, because it is wrong or was answered before.
const BESIDES = {
  'a message that is wrong': event('chat:message', { roomId: 'own-0' }, 'POST', '/rooms/own-0/messages', {}),
  'a message that was answered': event('chat:message', { roomId: 'own-0', content: 'once', clientId: 'once' }, 'POST', '/rooms/own-0/messages', { content: 'once', clientId: 'once' }),
};

// What strangers can ask for besides.
const STRANGERS = {
  'whether it is alive': { http: { method: 'GET', path: '/healthz' } },
  'an address that does not exist': { http: { method: 'GET', path: '/wp-login.php' } },
  'a file of the SDK': { http: { method: 'GET', path: '/sdk/academy-rt.js' } },
  'a handshake': { http: { method: 'GET', path: '/ws/?EIO=4&transport=polling' } },
  'a forged token': { isForged: true, ...event(undefined, undefined, 'POST', '/progress', { lessonId: 1, progress: 1, filler: 'x'.repeat(100_000) }) },
};

const kinds = () => {
  const page = readFileSync(join(here, '../../docs/protocol.md'), 'utf8');
  const table = /<!-- generated: costs -->\n([\s\S]*?)<!-- end -->/.exec(page)[1];
  return table.trim().split('\n').slice(2).map((row) => row.split('|')[1].trim().replaceAll('`', ''));
};

// Whoever asks has a machine of their own: they get what a processor has left when nobody else wants it, and so does the other
// server that they ask for comparison.
function starve(server, act) {
  const child = spawn('chrt', ['--idle', '0', process.execPath, join(here, 'starver.mjs'), server.url, String(SECONDS)], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.end(JSON.stringify(act));
  let said = '';
  child.stdout.on('data', (text) => { said += text; });
  return new Promise((resolve, reject) => child.once('exit', (code) => (code === 0 ? resolve(JSON.parse(said)) : reject(new Error(`the caller ended with ${code}`)))));
}

const cpuMs = (server) => {
  const fields = readFileSync(`/proc/${server.child.pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
};

// The learner has lessons, rooms and notifications: who has little asks for little.
async function furnish(server) {
  const admin = { userId: 1, role: 'admin' };
  const does = async (path, body, claims = admin) => {
    const answer = await server.fetch(`/api/v1${path}`, { method: 'POST', claims, body });
    assert.equal(answer.status, 200, answer.raw);
  };
  for (let n = 0; n < ROOMS; n += 1) await does('/admin/rooms', { roomId: `own-${n}`, private: true, members: [7] });
  await does('/admin/rooms', { roomId: 'crowd', private: false });
  for (let n = 0; n < 200; n += 1) {
    await does('/broadcast', { target: { room: 'chat:own-0' }, event: 'chat:message', payload: { content: `message ${n}` } }, { userId: 'platform', scope: 'broadcast' });
  }
  for (let n = 0; n < LESSONS; n += 500) {
    await does('/progress?userId=7', Array.from({ length: 500 }, (_, i) => ({ lessonId: n + i, progress: 10 })), { userId: 'platform', scope: 'progress' });
  }
  for (let n = 0; n < NOTIFICATIONS; n += 1) await does('/notifications', { target: { user: 7 }, title: 'A title', message: `${n}` });
}

describe('nobody can starve another', () => {
  let server;
  let decoy;
  const people = [];

  before(async () => {
    const env = { ACADEMY_RT_LIMITS_CONNECTS_PER_SECOND: '0' };
    server = await Appliance.start({ env });
    decoy = await Appliance.start({ env });
    assert.equal(spawnSync('chrt', ['--all-tasks', '--idle', '--pid', '0', String(decoy.child.pid)]).status, 0);
    await Promise.all([furnish(server), furnish(decoy)]);
    for (let i = 0; i < PEOPLE; i += 1) {
      people.push(await server.signedIn({ userId: 100 + i }));
      await ask(people[i], 'chat:join', { roomId: `people-${i % 4}` });
      await ask(people[i], 'chat:join', { roomId: 'crowd' });
    }
  });

  after(async () => {
    await Promise.all([server?.stop(), decoy?.stop()]);
  });

  async function compare(t, act) {
    const [beside, starved] = [[], []];
    const memory = server.rssKiB();
    let done;
    let cpu;
    const isHeldUp = () => at(starved, 0.99) > 2 * at(beside, 0.99) + GRAIN_MS;
    for (let n = 0; n === 0 || (n < TRIES && isHeldUp()); n += 1) {
      beside.push(...(await during(people, 'people', starve(decoy, act))).took);
      const before = cpuMs(server);
      const { took, ended } = await during(people, 'people', starve(server, act));
      starved.push(...took);
      [done, cpu] = [ended, cpuMs(server) - before];
    }
    const asked = done.answered + done.refused;
    t.diagnostic(`${done.answered} answered, ${done.refused} refused, ${done.lost} lost in ${done.seconds.toFixed(1)} s; server ${(cpu / (done.seconds * 10)).toFixed(0)} % of a processor, ` +
      `${((cpu * 1_000) / Math.max(asked, 1)).toFixed(0)} us a request with the people's; people's p99 ${at(beside, 0.99).toFixed(1)} ms beside, ${at(starved, 0.99).toFixed(1)} ms in it; memory ${memory}, ${server.rssKiB()} KiB`);
    assert.ok(asked > 0, 'it was asked for');
    assert.ok(!isHeldUp(), `people waited: p99 ${at(beside, 0.99)} ms beside the same of another server, ${at(starved, 0.99)} ms in it`);
    await until(() => server.rssKiB() <= memory + ROOM_KIB, `memory is within 64 MiB of ${memory} KiB; it is ${server.rssKiB()}`);
    assert.ok(people.every((person) => person.connected), 'nobody was thrown out');
    return done;
  }

  for (const kind of [...kinds(), ...Object.keys(BESIDES)]) {
    test(`one learner: ${kind}`, async (t) => {
      const act = ACTS[kind] ?? BESIDES[kind];
      assert.ok(act, `there is no act for '${kind}': write how it is asked for`);
      const own = act.isForged ? token({ userId: 7 }, { key: 'not the secret of this server, but as long' }) : token({ userId: 7 });
      const done = await compare(t, { ...act, token: own, payload: act.payload === 'own token' ? { token: own } : act.payload });
      if (!act.event) return;
      // Whoever has asked too often is served again when they have waited.
      const learner = await server.signedIn({ userId: 7 });
      await until(async () => (await ask(learner, 'chat:history', { roomId: 'own-0', limit: 1 })).ok, 'the learner is served again', 5_000);
      learner.disconnect();
      assert.ok(done.answered > 0, 'some are served');
    });
  }

  for (const [kind, act] of Object.entries(STRANGERS)) {
    test(`one network of strangers: ${kind}`, async (t) => {
      const forged = token({ userId: 7 }, { key: 'not the secret of this server, but as long' });
      await compare(t, { ...act, token: act.isForged ? forged : undefined });
    });
  }
});
