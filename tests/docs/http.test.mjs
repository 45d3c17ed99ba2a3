// What docs/http.md says of rights, bodies and headers, tried at every address. Its examples are run by snippets.test.mjs.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Appliance, ask, noLimits, token } from '../clients/harness.mjs';
import { docs } from './blocks.mjs';

const page = readFileSync(join(docs, 'http.md'), 'utf8');
const SCOPES = ['broadcast', 'notify', 'rooms', 'users', 'progress', 'metrics', 'admin'];

/** Every address with what the page says of its rights: below its own heading, else below that of its section. */
const routes = page.split(/^(?=## )/m).flatMap((section) => {
  const [before, ...parts] = section.split(/^(?=### )/m);
  const inherited = /^Rights: ([^\n]*(?:\n[^\n]+)*)/m.exec(before)?.[1];
  return parts.flatMap((part) => {
    const [heading] = part.split('\n');
    const rights = /^Rights: ([^\n]*(?:\n[^\n]+)*)/m.exec(part)?.[1] ?? inherited;
    return [...heading.matchAll(/`([A-Z]+) (\/\S+)`/g)].map(([, method, path]) => ({ method, path, rights }));
  });
});
/** The table of the addresses that watch the server. */
const watched = Object.fromEntries([...page.matchAll(/^\| `(\/[\w/]+)` \| ([^|]+) \|/gm)].map(([, path, rights]) => [path, rights.trim()]));

let server;
before(async () => { server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_SERVER_CORS_ORIGINS: 'https://portal.example' } }); });
after(() => server.stop());

const sample = { file: 'academy-rt.js', messageId: '1', notificationId: '1', reportId: '1' };
/** Where {} is refused before the rights are asked. */
const bodies = {
  'POST /api/v1/broadcast': { target: { all: true }, event: 'e' },
  'POST /api/v1/notifications': { target: { user: 98 }, title: 't', message: 'm' },
  'POST /api/v1/rooms/{roomId}/lock': { locked: true },
  'POST /api/v1/rooms/{roomId}/slow': { seconds: 5 },
  'POST /api/v1/rooms/{roomId}/mute': { userId: 98, seconds: 60 },
  'POST /api/v1/rooms/{roomId}/unmute': { userId: 98 },
  'POST /api/v1/admin/rooms': { roomId: 'nobody-2' },
  'POST /api/v1/admin/audit': { action: 'backup', outcome: 'done' },
  'POST /api/v1/admin/backup': { bytes: 1 },
  'POST /api/v1/admin/users/{userId}/mute': { seconds: 60 },
  'POST /api/v1/admin/holds': { userId: 97, reason: 'none' },
};
const asked = ({ method, path }, claims) => server.fetch(path.replace(/\{(\w+)\}/g, (_, what) => sample[what] ?? 'nobody-1'), {
  method, claims, body: method === 'GET' ? undefined : bodies[`${method} ${path}`] ?? {},
});
const service = (scope) => ({ userId: 'service', role: undefined, scope });
const refusal = ({ status, json }) => ([401, 403].includes(status) ? json.error.code : 'accepted');

test('each address has rights, and asks for them: for no others, and for no more', async () => {
  assert.ok(routes.length >= 45, String(routes.length));
  for (const route of routes) {
    const name = `${route.method} ${route.path}`;
    const rights = route.rights ?? watched[route.path] ?? assert.fail(`${name} says nothing of rights`);
    const [, kind] = /^(everybody|any user|scope `\w+`|admin)/i.exec(rights) ?? assert.fail(`${name}: '${rights}'`);
    const stranger = refusal(await asked(route));
    if (kind.toLowerCase() === 'everybody') {
      assert.equal(stranger, 'accepted', name);
      continue;
    }
    assert.equal(stranger, 'token_missing', name);
    const learner = refusal(await asked(route, { userId: 7, role: 'learner' }));
    assert.equal(learner, kind.toLowerCase() === 'any user' ? 'accepted' : 'forbidden', `${name} by a learner`);
    if (kind.toLowerCase() === 'any user') continue;
    const needed = kind === 'admin' ? 'admin' : /`(\w+)`/.exec(kind)[1];
    for (const scope of SCOPES) {
      const expected = scope === needed || scope === 'admin' ? 'accepted' : 'forbidden';
      assert.equal(refusal(await asked(route, service(scope))), expected, `${name} with the scope ${scope}`);
    }
    assert.equal(refusal(await asked(route, { userId: 1, role: 'admin' })), 'accepted', `${name} by an administrator`);
    for (const role of ['hr', 'coach']) assert.equal(refusal(await asked(route, { userId: 2, role })), 'forbidden', `${name} with the role ${role}`);
  }
});

test('what a scope permits beyond its own addresses', async () => {
  const progress = (userId, claims) => server.fetch(`/api/v1/progress?userId=${userId}`, { claims });
  assert.equal(refusal(await progress(8, { userId: 7 })), 'forbidden');
  assert.equal(refusal(await progress(8, service('progress'))), 'accepted');
  const all = (claims) => server.fetch('/api/v1/admin/tokens/revoke', { method: 'POST', claims, body: { all: true, issuedBefore: 1 } });
  assert.equal(refusal(await all(service('users'))), 'forbidden');
  assert.equal(refusal(await all(service('admin'))), 'accepted');
  await server.fetch('/api/v1/rooms/some/messages', { method: 'POST', claims: { userId: 7 }, body: { content: 'x' } });
  const versions = (claims) => server.fetch('/api/v1/rooms/some/messages?versions=true', { claims });
  assert.equal(refusal(await versions({ userId: 7 })), 'forbidden');
  assert.equal(refusal(await versions({ userId: 1, role: 'admin' })), 'accepted');
});

test('a failure has its status, its body and Retry-After; a token is taken from the header alone', async () => {
  const session = { method: 'GET', path: '/api/v1/session' };
  const missing = await asked(session);
  assert.deepEqual([missing.status, Object.keys(missing.json), missing.headers.get('www-authenticate')], [401, ['ok', 'error'], 'Bearer']);
  for (const [path, headers] of [[`/api/v1/session?token=${token()}`, {}], ['/api/v1/session', { cookie: `token=${token()}` }]]) {
    assert.equal((await server.fetch(path, { headers })).json.error.code, 'token_missing', path);
  }
  const method = await server.fetch('/api/v1/session', { method: 'PUT', claims: {}, body: {} });
  assert.deepEqual([method.status, method.json.error.code], [405, 'method_not_allowed']);
  const slow = await Appliance.start({ env: { ACADEMY_RT_LIMITS_JOINS_PER_SECOND: '1' } });
  try {
    const join = () => slow.fetch('/api/v1/rooms/some/join', { method: 'POST', claims: { userId: 7 }, body: {} });
    const { status, headers, json } = (await Promise.all([join(), join(), join()])).find((one) => one.status !== 200);
    assert.deepEqual([status, Number(headers.get('retry-after'))], [429, Math.ceil(json.error.retryAfterMs / 1_000)]);
  } finally {
    await slow.stop();
  }
});

test('bodies: their size, their length, and unknown fields', async () => {
  const claims = { userId: 7 };
  const inChunks = (text) => new ReadableStream({ start(queue) { queue.enqueue(new TextEncoder().encode(text)); queue.close(); } });
  const headers = { authorization: `Bearer ${token(claims)}` };
  const without = (text) => fetch(`${server.url}/api/v1/rooms/some/messages`, { method: 'POST', headers, body: inChunks(text), duplex: 'half' });
  assert.equal((await without('{"content":"x"}')).status, 200);
  const larger = await without(JSON.stringify({ content: 'x', pad: 'x'.repeat(1_000_000) }));
  assert.deepEqual([larger.status, (await larger.json()).error.code], [413, 'too_large']);
  const post = (path, body, by = claims) => server.fetch(`/api/v1${path}`, { method: 'POST', claims: by, body });
  assert.equal((await post('/rooms/some/messages', { content: 'x', pad: 'x'.repeat(1_000_000) })).json.error.code, 'too_large');
  assert.equal((await post('/rooms/some/messages', { content: 'x', newer: 1 })).status, 200);
  const broadcast = { target: { all: true }, event: 'e' };
  assert.equal((await post('/broadcast', broadcast, service('broadcast'))).status, 200);
  assert.equal((await post('/broadcast', { ...broadcast, newer: 1 }, service('broadcast'))).json.error.field, 'newer');
  assert.equal((await post('/admin/rooms', { roomId: 'r', newer: 1 }, service('rooms'))).json.error.field, 'newer');
  assert.equal((await server.fetch('/api/v1/rooms/some/leave', { method: 'POST', claims, body: '' })).status, 200);
  assert.equal((await server.fetch('/api/v1/session?newer=1', { claims })).status, 200);
});

test('HEAD, and pages of other origins', async () => {
  assert.equal((await fetch(`${server.url}/healthz`, { method: 'HEAD' })).status, 200);
  const put = await fetch(`${server.url}/healthz`, { method: 'PUT' });
  assert.deepEqual([put.status, put.headers.get('allow')], [405, 'GET, HEAD, OPTIONS']);
  const options = await fetch(`${server.url}/api/v1/broadcast`, { method: 'OPTIONS' });
  assert.deepEqual([options.status, options.headers.get('allow')], [204, 'POST, OPTIONS']);
  assert.equal((await fetch(`${server.url}/sdk/academy-rt.js`, { method: 'HEAD' })).status, 200);
  const preflight = async (origin) => fetch(`${server.url}/api/v1/broadcast`, { method: 'OPTIONS', headers: { origin, 'access-control-request-method': 'POST' } });
  const [own, other] = [await preflight('https://portal.example'), await preflight('https://elsewhere.example')];
  assert.deepEqual([own.status, other.status, other.headers.get('access-control-allow-methods')], [204, 403, null]);
  assert.match((await other.json()).error.message, /add it to server\.cors_origins/);
  const [, stated] = /with the headers ([^.]+)\. The\s+preflight/.exec(page) ?? assert.fail('the page names the headers');
  assert.deepEqual(own.headers.get('access-control-allow-headers').split(', ').sort(), [...stated.matchAll(/`([\w-]+)`/g)].map(([, name]) => name).sort());
});

test('a message of a back end: its author, its name, and rooms that are private or have rules', async () => {
  const say = (room, payload, event = 'chat:message') => server.fetch('/api/v1/broadcast', { method: 'POST', claims: service('broadcast'), body: { target: { room: `chat:${room}` }, event, payload } });
  await server.fetch('/api/v1/admin/rooms', { method: 'POST', claims: service('rooms'), body: { roomId: 'closed', private: true, members: [7] } });
  const inTheNameOfAnn = { content: 'by Ann', senderId: 7, senderName: 'Ann' };
  const edited = async ({ json: { id } }) => (await server.fetch(`/api/v1/rooms/closed/messages/${id}`, { method: 'PATCH', claims: { userId: 7 }, body: { content: 'x' } })).status;
  assert.equal(await edited(await say('closed', { ...inTheNameOfAnn, type: 'text', externalId: 'e-1' })), 200);
  assert.equal(await edited(await say('closed', inTheNameOfAnn)), 200, 'it is theirs');
  assert.equal(await edited(await say('closed', { ...inTheNameOfAnn, type: 'system' })), 403, 'its type is system');
  assert.equal(await edited(await say('closed', { content: 'by nobody' })), 403, 'it is nobody\'s');
  assert.equal((await say('closed', { content: 'another', externalId: 'e-1' })).json.error.code, 'conflict');
  assert.equal((await say('elsewhere', { content: 'another', externalId: 'e-1' })).status, 200, 'the name belongs to the room');
  assert.equal((await say('closed', { externalId: 'e-2', newContent: 'x' }, 'chat:message-edited')).json.error.code, 'not_found');
  assert.equal((await say('closed', { content: 'x', senderId: 'erased' })).json.error.field, 'senderId');
  assert.equal((await say('closed', { ...inTheNameOfAnn, senderName: 'x'.repeat(200) })).status, 200);
  assert.equal((await say('closed', { ...inTheNameOfAnn, senderName: 'x'.repeat(201) })).json.error.field, 'senderName');
});

test('a poll without a cursor does not wait; what is not stored is for a poll of the same rooms', async () => {
  const poll = async (query, by = { userId: 7 }) => (await server.fetch(`/api/v1/events?${query}`, { claims: by })).json;
  const began = Date.now();
  const { events, cursor } = await poll('rooms=a&wait=30');
  assert.ok(events.length === 0 && Date.now() - began < 10_000, 'it has waited');
  const eve = await server.signedIn({ userId: 8, name: 'Eve' });
  await ask(eve, 'chat:join', 'a');
  await ask(eve, 'chat:typing', { roomId: 'a', isTyping: true });
  await ask(eve, 'chat:message', { roomId: 'a', content: 'x' });
  const names = async (rooms) => (await poll(`rooms=${rooms}&wait=5&cursor=${cursor}`)).events.map(({ event }) => event);
  const same = await names('a');
  assert.ok(same.includes('chat:typing') && same.includes('chat:message'), same.join());
  assert.deepEqual(await names('a,b'), ['chat:message']);
});
