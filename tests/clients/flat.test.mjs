// Memory is flat over many requests of each kind, of both transports at once: after the second half of them it is what it was after
// the first. The kinds are those of the table of costs in docs/protocol.md. TESTED_FOR_LONG=1: 50,000 of each;
// TESTED_REQUESTS=1000000: so many; TESTED_KINDS='chat:join,GET /metrics': these alone.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Appliance, ask, noLimits, token, until } from './harness.mjs';
import { ACTS, event, furnish, kinds } from './kinds.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const REQUESTS = Number(process.env.TESTED_REQUESTS ?? (process.env.TESTED_FOR_LONG === '1' ? 50_000 : 1_000));
const KINDS = process.env.TESTED_KINDS?.split(',');
// What an allocator keeps, and what a server that is hardly warm takes once.
const SLACK_KIB = (REQUESTS < 20_000 ? 8 : 4) * 1_024;
const HALF_MS = 3_600_000;

const learner = { userId: 7 };
const root = { userId: 1, role: 'admin' };

// Where an act of the table asks for as much as can be asked for, here one asks for little, and often; and whoever asks may.
const plain = (messageId) => ({
  'chat:join': event('chat:join', { roomId: 'own-0', limit: 5 }, 'POST', '/rooms/own-0/join', {}),
  'chat:edit': event('chat:edit', { roomId: 'own-2', messageId, content: 'x' }, 'PATCH', `/rooms/own-2/messages/${messageId}`, { content: 'x' }),
  'chat:delete': event('chat:delete', { roomId: 'own-2', messageId }, 'DELETE', `/rooms/own-2/messages/${messageId}`),
  'chat:typing': event('chat:typing', { roomId: 'own-3', isTyping: true }, 'POST', '/rooms/own-3/typing', { isTyping: true }),
  'chat:history': event('chat:history', { roomId: 'own-0', limit: 5 }, 'GET', '/rooms/own-0/messages?limit=5'),
  'chat:search': event('chat:search', { q: 'message', limit: 5 }, 'GET', '/search?q=message&limit=5'),
  'chat:rooms': event('chat:rooms', { limit: 5 }, 'GET', '/rooms?limit=5'),
  'progress:sync': event('progress:sync', { lessonId: 1, progress: 50, timeSpent: 1 }, 'POST', '/progress', { lessonId: 1, progress: 50, timeSpent: 1 }),
  'progress:get': event('progress:get', { limit: 5 }, 'GET', '/progress?limit=5'),
  'notification:list': event('notification:list', { limit: 5 }, 'GET', '/notifications?limit=5'),
  'GET /api/v1/events': event(undefined, undefined, 'GET', '/events?rooms=own-0'),
  'POST /api/v1/broadcast': { claims: root, ...event(undefined, undefined, 'POST', '/broadcast', { target: { user: 9 }, event: 'x', payload: {} }) },
  'POST /api/v1/notifications': { claims: root, ...event(undefined, undefined, 'POST', '/notifications', { target: { user: 9 }, title: 'x', message: 'x' }) },
  '/api/v1/admin/…': { claims: root, ...ACTS['/api/v1/admin/…'] },
  'GET /metrics': { claims: root, ...ACTS['GET /metrics'] },
});

// Asks so often; resolves with what it came to.
function drive(server, act, requests) {
  const child = spawn(process.execPath, [join(here, 'starver.mjs'), server.url, String(HALF_MS / 1_000), String(requests)], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.end(JSON.stringify(act));
  let said = '';
  child.stdout.on('data', (text) => { said += text; });
  return new Promise((resolve, reject) => child.once('exit', (code) => (code === 0 ? resolve(JSON.parse(said)) : reject(new Error(`the caller ended with ${code}`)))));
}

describe(`memory is flat over ${REQUESTS} requests`, { timeout: 4 * HALF_MS }, () => {
  let server;
  let messageId;

  before(async () => {
    // The pages of the store that are kept in memory are as many as they may be, early on.
    server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_STORAGE_CACHE: '8MiB' } });
    await furnish(server);
    const socket = await server.signedIn(learner);
    messageId = (await ask(socket, 'chat:message', { roomId: 'own-2', content: 'to be changed' })).id;
    await ask(socket, 'chat:join', { roomId: 'own-3', limit: 1 });
    await ask(socket, 'chat:join', { roomId: 'crowd', limit: 1 });
    // The ring of what was delivered (16,384 of the feed) is full before anything is measured; a few requests fill little of it.
    if (REQUESTS >= 20_000) await drive(server, { token: token(root), ...plain(messageId)['POST /api/v1/broadcast'] }, 17_000);
  });

  after(async () => {
    assert.doesNotMatch(server.stderr, /panick/);
    await server?.stop();
  });

  const quiet = async () => {
    const open = async () => Number(/^academy_rt_connections_open (\d+)/m.exec((await server.fetch('/metrics', { claims: root })).raw)[1]);
    await until(async () => (await open()) <= 4, 'those who asked are gone', 60_000);
    return server.rssKiB();
  };

  for (const kind of kinds().filter((one) => KINDS?.includes(one) ?? true)) {
    test(kind, async (t) => {
      const { claims = learner, ...act } = plain(messageId)[kind] ?? ACTS[kind];
      assert.ok(act.event || act.http, `there is no act for '${kind}': write how it is asked for`);
      const bearer = token({ ...claims, exp: Math.floor(Date.now() / 1_000) + 86_400 }, act.isForged ? { key: 'not the secret of this server, but as long' } : {});
      const asked = { ...act, token: bearer, payload: act.payload === 'own token' ? { token: bearer } : act.payload };
      const memory = [];
      let [seconds, answered, lost] = [0, 0, 0];
      // The first tenth warms up.
      for (const share of [0.1, 0.4, 0.5]) {
        const done = await drive(server, asked, Math.ceil(REQUESTS * share));
        memory.push(await quiet());
        seconds += done.seconds;
        answered += done.answered;
        lost += done.lost;
      }
      t.diagnostic(`${answered} answered in ${seconds.toFixed(1)} s; memory after a tenth, a half and all ${memory.join(', ')} KiB`);
      assert.ok(answered >= REQUESTS * 0.95 && lost === 0, `${answered} of ${REQUESTS} were answered, ${lost} lost`);
      assert.ok(memory[2] < memory[1] + SLACK_KIB, `${memory[1]} KiB after the first half, ${memory[2]} after the second`);
    });
  }
});
