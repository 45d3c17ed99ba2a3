// The machine-readable contract against published validators, and against what goes over the wire: each route and each event here,
// and what all other suites have sent and heard, where they have been recorded (tests/run).
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Parser } from '@asyncapi/parser';
import { Validator } from '@seriousme/openapi-schema-validator';
import Ajv2020 from 'ajv/dist/2020.js';
import { parse } from 'yaml';
import { Appliance, ask, heard, noLimits, token, until } from '../clients/harness.mjs';
import { note, seen } from '../clients/recorder.mjs';
import { docs } from './blocks.mjs';

const kept = (name) => readFileSync(join(docs, '../assets/contract', name), 'utf8');
const openapi = parse(kept('openapi.yaml'));
const asyncapi = parse(kept('asyncapi.yaml'));

/** A document whose answers may have no field that it does not know: what is written down as `open#` may be a part of something. */
function closed(document) {
  const close = (value, isPart) => {
    if (Array.isArray(value)) return value.map((one) => close(one, isPart));
    if (value === null || typeof value !== 'object') return value;
    const all = Object.fromEntries(Object.entries(value).map(([key, one]) => {
      if (key === '$ref') return [key, isPart ? one.replace('/schemas/', '/open/') : one];
      if (key === 'properties') return [key, Object.fromEntries(Object.entries(one).map(([name, schema]) => [name, close(schema, false)]))];
      return [key, close(one, key === 'allOf')];
    }));
    const isObject = (all.properties || all.allOf) && !isPart && all.additionalProperties === undefined;
    return isObject ? { ...all, unevaluatedProperties: false } : all;
  };
  const { schemas } = document.components;
  const parts = Object.fromEntries(Object.entries(schemas).map(([name, schema]) => [name, { ...close(schema, false), unevaluatedProperties: undefined }]));
  return { ...close(document, false), components: { ...close(document.components, false), open: JSON.parse(JSON.stringify(parts)) } };
}

class Checker {
  constructor(name, document) {
    this.name = name;
    this.ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false });
    this.ajv.addSchema(document, name);
    this.known = new Map();
  }

  /** What is wrong with a value, by the schema at a pointer. */
  wrong(pointer, value) {
    if (!this.known.has(pointer)) this.known.set(pointer, this.ajv.compile({ $ref: `${this.name}#${pointer}` }));
    const fits = this.known.get(pointer);
    return fits(value) ? [] : fits.errors.map(({ instancePath, message, params }) => `${instancePath} ${message} ${JSON.stringify(params)}`);
  }
}

const answers = { http: new Checker('http', closed(openapi)), events: new Checker('events', closed(asyncapi)) };
const requests = { http: new Checker('http', openapi), events: new Checker('events', asyncapi) };
const pointer = (...parts) => parts.map((part) => `/${String(part).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
const spelled = (name) => name.replace(/[^A-Za-z0-9]+(.)/g, (_, letter) => letter.toUpperCase());

const paths = Object.keys(openapi.paths).map((path) => ({ path, fits: new RegExp(`^${path.replace(/\{\w+\}/g, '[^/]+')}/?$`), given: path.split('{').length }));
const pathOf = (asked) => paths.filter(({ fits }) => fits.test(asked)).sort((a, b) => a.given - b.given)[0]?.path;

/** What of the contract something that was recorded is of, and what is wrong with it. */
function judged({ kind, name, method, path, status, sent, answer }) {
  if (kind === 'event' || kind === 'ack') {
    const key = spelled(name);
    const message = kind === 'event' ? key : `${key}Answer`;
    // An event of a back end's own; and what no server of the contract knows is refused.
    if (!asyncapi.components.messages[message]) return kind === 'event' || answer.ok === false ? undefined : { of: name, wrong: ['it is not in the contract'] };
    const wrong = answers.events.wrong(pointer('components', 'messages', message, 'payload'), answer);
    if (kind === 'ack' && answer?.ok) wrong.push(...requests.events.wrong(pointer('components', 'messages', `${key}Request`, 'payload'), sent ?? null).map((what) => `sent: ${what}`));
    return { of: `${kind} ${name}`, isGood: kind === 'event' || answer?.ok === true, wrong };
  }
  const known = pathOf(path);
  const operation = openapi.paths[known]?.[method.toLowerCase()];
  // Where an API was moved to, and the page of a developer, are not in it.
  if (!operation) return answer?.ok === false || !path.startsWith('/api/') ? undefined : { of: `${method} ${path}`, wrong: [`${status} is not in the contract`] };
  const declared = operation.responses[status] ? status : 'default';
  const place = ['paths', known, method.toLowerCase()];
  if (!operation.responses[declared]) return { of: `${method} ${known}`, wrong: [`it has no ${status}`] };
  // A file that is JSON, or a text.
  if (operation.responses[declared].content && !operation.responses[declared].content['application/json']) return undefined;
  const response = operation.responses[declared].$ref ? ['components', 'responses', 'Refused'] : [...place, 'responses', declared];
  const wrong = answers.http.wrong(pointer(...response, 'content', 'application/json', 'schema'), answer);
  if (status === 200 && operation.requestBody && sent !== undefined) {
    wrong.push(...requests.http.wrong(pointer(...place, 'requestBody', 'content', 'application/json', 'schema'), sent).map((what) => `sent: ${what}`));
  }
  return { of: `${method} ${known}`, isGood: status === 200, wrong };
}

function assertFits(recorded) {
  const faults = recorded.flatMap((one) => {
    const judgement = judged(one);
    return judgement?.wrong.length ? [`${judgement.of}: ${judgement.wrong.slice(0, 4).join('; ')}\n  ${JSON.stringify(one).slice(0, 400)}`] : [];
  });
  assert.equal(faults.length, 0, `${faults.length} do not fit:\n${faults.slice(0, 20).join('\n')}`);
}

let server;
let platform;
const hooks = [];
let dir;
before(async () => {
  note.always = true;
  platform = createServer((asked, answer) => {
    let body = '';
    asked.on('data', (part) => { body += part; });
    asked.once('end', () => {
      hooks.push(JSON.parse(body));
      answer.end('{}');
    });
  });
  await new Promise((resolve) => { platform.listen(0, '127.0.0.1', resolve); });
  dir = mkdtempSync(join(tmpdir(), 'contract-'));
  writeFileSync(join(dir, 'secret'), `whsec_${randomBytes(32).toString('base64')}\n`, { mode: 0o600 });
  const env = { ACADEMY_RT_WEBHOOKS_URL: `http://127.0.0.1:${platform.address().port}/`, ACADEMY_RT_WEBHOOKS_SECRET_FILE: join(dir, 'secret') };
  server = await Appliance.start({ env: { ...noLimits, ...env } });
});
after(async () => {
  await server.stop();
  platform.close();
  rmSync(dir, { recursive: true, force: true });
});

test('openapi.yaml is OpenAPI 3.1 by the words of a validator', async () => {
  const { valid, errors } = await new Validator().validate(openapi);
  assert.ok(valid, JSON.stringify(errors));
});

test('asyncapi.yaml is AsyncAPI 3 by the words of its own parser', async () => {
  const { diagnostics } = await new Parser().parse(kept('asyncapi.yaml'));
  assert.deepEqual(diagnostics.map(({ message }) => message), []);
});

test('the server serves both, for any page, with its own paths', async () => {
  for (const name of ['openapi.yaml', 'asyncapi.yaml']) {
    const answer = await server.fetch(`/docs/${name}`);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('content-type'), 'application/yaml');
    assert.equal(answer.headers.get('access-control-allow-origin'), '*');
    assert.equal(answer.raw, kept(name));
    const again = await server.fetch(`/docs/${name}`, { headers: { 'if-none-match': answer.headers.get('etag') } });
    assert.equal(again.status, 304);
  }
  const none = await server.fetch('/docs/swagger.json');
  assert.equal(none.status, 404);
  assert.match(none.json.error.message, /openapi\.yaml and asyncapi\.yaml/);
  const moved = await Appliance.start({ env: { ACADEMY_RT_SERVER_API_PATH: '/rt/api', ACADEMY_RT_SERVER_PATH: '/rt/ws' } });
  const http = parse((await moved.fetch('/docs/openapi.yaml')).raw);
  assert.deepEqual(Object.keys(http.paths).filter((path) => path.startsWith('/api/v1')), []);
  assert.ok(http.paths['/rt/api/rooms/{roomId}/messages'].post);
  const events = parse((await moved.fetch('/docs/asyncapi.yaml')).raw);
  assert.equal(events.channels.socket.address, '/rt/ws');
  assert.equal(events.servers.server.pathname, '/rt/ws');
  await moved.stop();
});

test('a field that the contract does not know is found, and so is one that is missing or of another type', () => {
  const good = { ok: true, id: 1, seq: 1, timestamp: 1 };
  const ack = (answer) => judged({ kind: 'ack', name: 'chat:message', sent: { roomId: 1, content: 'x' }, answer }).wrong;
  assert.deepEqual(ack(good), []);
  for (const bad of [{ ...good, more: 1 }, { ok: true, id: 1, seq: 1 }, { ...good, id: '1' }, { ...good, ok: 1 }, { ok: false, error: { code: 'no_such_code', message: 'x' } }]) {
    assert.notDeepEqual(ack(bad), [], JSON.stringify(bad));
  }
  const room = { roomId: 1, name: null, lastId: 0, readUpTo: 0, unread: 0, membership: 'member', locked: false, slowModeSeconds: 0 };
  const page = { ok: true, rooms: [room], hasMore: false };
  const http = (answer) => judged({ kind: 'http', method: 'GET', path: '/api/v1/rooms', status: 200, answer }).wrong;
  assert.deepEqual(http(page), []);
  assert.notDeepEqual(http({ ...page, rooms: [{ ...page.rooms[0], more: 1 }] }), []);
  assert.match(judged({ kind: 'http', method: 'GET', path: '/api/v1/nothing', status: 200, answer: { ok: true } }).wrong[0], /not in the contract/);
});

test('each event and each route is as the contract says it', async () => {
  const admin = { userId: 1, role: 'admin', name: 'Admin' };
  const call = async (method, path, body, claims = admin) => {
    const answer = await server.fetch(path, { method, body, claims });
    assert.equal(answer.status, 200, `${method} ${path}: ${answer.raw.slice(0, 300)}`);
    return answer.json;
  };
  const own = (method, path, body) => call(method, `/api/v1${path}`, body, {});
  const of = (method, path, body) => call(method, `/api/v1/admin${path}`, body);
  const ann = await server.signedIn();
  const ben = await server.signedIn({ userId: 8, name: 'Ben' });
  const does = async (socket, event, payload) => {
    const answer = await ask(socket, event, payload);
    assert.ok(answer.ok, `${event}: ${JSON.stringify(answer)}`);
    return answer;
  };
  // Each event with its answer, and what the others hear of it.
  await does(ann, 'chat:join', { roomId: 'a', limit: 10 });
  await does(ben, 'chat:join', 'a');
  await does(ann, 'chat:typing', { roomId: 'a', isTyping: true });
  const first = await does(ann, 'chat:message', { roomId: 'a', content: 'one', clientId: 'k' });
  await does(ann, 'chat:message', { roomId: 'a', content: 'one', clientId: 'k' });
  const second = await does(ann, 'chat:message', { roomId: 'a', content: 'two', replyToId: first.id });
  await does(ann, 'chat:edit', { roomId: 'a', messageId: second.id, content: 'three' });
  await does(ann, 'chat:delete', { roomId: 'a', messageId: second.id });
  await does(ben, 'chat:read', { roomId: 'a', messageId: first.id });
  await does(ann, 'chat:history', { roomId: 'a', limit: 10 });
  await does(ann, 'chat:rooms', {});
  await does(ann, 'presence:list', { roomId: 'a' });
  const moderator = { userId: 9, name: 'Mo' };
  await call('POST', '/api/v1/admin/rooms', { roomId: 'c', members: [7, 8], moderators: [9] });
  const mo = await server.signedIn(moderator);
  for (const one of [ann, ben, mo]) await does(one, 'chat:join', 'c');
  await does(mo, 'chat:mute', { roomId: 'c', userId: 7, seconds: 60 });
  await heard(ann, 'chat:muted');
  await does(mo, 'chat:unmute', { roomId: 'c', userId: 7 });
  await does(mo, 'chat:slow', { roomId: 'c', seconds: 30 });
  await heard(ann, 'chat:state');
  await does(mo, 'chat:slow', { roomId: 'c', seconds: 0 });
  await does(mo, 'chat:lock', { roomId: 'c', locked: true });
  await does(mo, 'chat:lock', { roomId: 'c', locked: false });
  const reported = [];
  for (const content of ['unkind', 'unkinder', 'unkindest']) reported.push((await does(ben, 'chat:message', { roomId: 'c', content })).id);
  const { reportId } = await does(ann, 'chat:report', { roomId: 'c', messageId: reported[0], reason: 'it is unkind' });
  await heard(mo, 'chat:reported');
  await does(mo, 'chat:reports', { roomId: 'c' });
  await does(mo, 'chat:resolve', { roomId: 'c', reportId, note: 'said so' });
  const made = async (messageId) => (await call('POST', `/api/v1/rooms/c/messages/${messageId}/report`, { reason: 'r' }, {})).reportId;
  const ofRoom = await made(reported[1]);
  const ofAll = await made(reported[2]);
  await call('GET', '/api/v1/rooms/c/reports?all=true', undefined, moderator);
  await call('POST', `/api/v1/rooms/c/reports/${ofRoom}/resolve`, {}, moderator);
  await call('GET', '/api/v1/admin/reports');
  await call('POST', `/api/v1/admin/reports/${ofAll}/resolve`, {});
  for (const [what, body] of [['mute', { userId: 7, seconds: 60 }], ['unmute', { userId: 7 }], ['lock', { locked: false }], ['slow', { seconds: 0 }]]) {
    await call('POST', `/api/v1/rooms/c/${what}`, body, moderator);
  }
  await does(ann, 'progress:sync', { lessonId: 5, progress: 40, timeSpent: 60, courseId: 'c', syncId: 's' });
  await does(ann, 'progress:sync', [{ lessonId: 5, progress: 100, baseVersion: 0 }]);
  await does(ann, 'progress:get', {});
  await does(ann, 'progress:history', { lessonId: 5 });
  for (const [n, more] of [{}, { titleFr: 'Titre', messageFr: 'Texte', link: '/x', metadata: { a: 1 } }].entries()) {
    await call('POST', '/api/v1/notifications', { target: { user: 7 }, title: `title ${n}`, message: 'm', ...more }, { userId: 'platform', scope: 'notify' });
  }
  await heard(ann, 'notification:new', ({ titleFr }) => titleFr === 'Titre');
  const { items } = await does(ann, 'notification:list', { limit: 10 });
  const other = await server.signedIn();
  await does(ann, 'notification:read', { id: items[0].id });
  await heard(other, 'notification:updated');
  await does(ann, 'notification:delete', { id: items[0].id });
  await does(ann, 'auth:refresh', { token: token() });
  other.emit('chat:message', { roomId: 'not joined', content: 'x' });
  await heard(other, 'request:error');
  const late = await server.signedIn({ exp: Math.floor(Date.now() / 1000) + 30 });
  await heard(late, 'auth:expiring');
  const stranger = server.client('no token');
  await heard(stranger, 'auth_error');
  // Each route.
  await own('GET', '/session');
  await own('GET', '/rooms');
  await own('POST', '/rooms/b/join', {});
  const posted = await own('POST', '/rooms/b/messages', { content: 'x' });
  await own('PATCH', `/rooms/b/messages/${posted.id}`, { content: 'y' });
  await own('GET', '/rooms/b/messages?limit=5');
  await own('POST', '/rooms/b/typing', { isTyping: true });
  await own('POST', '/rooms/b/read', { messageId: posted.id });
  await own('GET', '/rooms/b/presence');
  await own('DELETE', `/rooms/b/messages/${posted.id}`);
  await own('POST', '/rooms/b/leave');
  await own('POST', '/progress', { lessonId: 6, progress: 1 });
  await own('POST', '/progress', [{ lessonId: 6, progress: 2 }]);
  await own('GET', '/progress');
  await own('GET', '/progress/6/history');
  await own('GET', '/notifications');
  await own('POST', '/notifications/read', { all: true });
  await own('DELETE', `/notifications/${items[1].id}`);
  const { cursor } = await own('GET', '/events?room=a');
  await does(ann, 'chat:message', { roomId: 'a', content: 'four' });
  await own('GET', `/events?room=a&cursor=${encodeURIComponent(cursor)}`);
  await call('GET', '/api/health');
  await call('POST', '/api/v1/broadcast', { target: { room: 'chat:a' }, event: 'chat:message', payload: { content: 'by the platform', externalId: 'e' } }, { userId: 'platform', scope: 'broadcast' });
  await call('POST', '/api/v1/broadcast', { target: { all: true }, event: 'course:opened', payload: { any: [1] } });
  await of('POST', '/rooms', { roomId: 'staff', name: 'Staff', private: true, members: [7], moderators: [8] });
  await of('GET', '/rooms');
  await of('GET', '/rooms/staff');
  await of('PATCH', '/rooms/staff', { name: null });
  await of('PUT', '/rooms/staff/members/9', { role: 'moderator' });
  await of('DELETE', '/rooms/staff/members/9');
  await of('DELETE', '/rooms/staff');
  const said = await own('POST', '/rooms/b/messages', { content: 'unkind' });
  await of('GET', `/messages/${said.id}?versions=true`);
  await of('POST', `/messages/${said.id}/delete`, { reason: 'r' });
  await of('GET', '/status');
  await of('GET', '/connections');
  await of('GET', '/audit');
  await of('GET', '/audit?by=1');
  await of('POST', '/audit', { action: 'backup', outcome: 'done' });
  await of('POST', '/backup', { bytes: 1 });
  await of('GET', '/tables');
  await of('GET', '/notifications');
  const [{ id: notice }] = (await of('GET', '/notifications?state=live')).items;
  await of('GET', `/notifications/${notice}/readers`);
  await of('POST', `/notifications/${notice}/recall`, { reason: 'r' });
  await heard(other, 'notification:gone');
  await of('GET', '/users');
  await of('GET', '/users/7');
  await of('GET', '/users/7/export');
  await of('POST', '/users/7/mute', { seconds: 60, roomId: 'a' });
  await of('GET', '/mutes');
  await of('GET', '/users/7/diagnosis');
  await of('POST', '/users/7/unmute', { roomId: 'a' });
  await of('POST', '/users/66/block', { reason: 'r' });
  await of('GET', '/users/66/diagnosis');
  await of('POST', '/users/66/unblock');
  await of('POST', '/users/66/disconnect');
  await of('POST', '/tokens/revoke', { userId: 66, dryRun: true });
  await of('POST', '/tokens/revoke', { jti: 'j' });
  await of('GET', '/tokens/revoked');
  await of('GET', '/webhooks');
  await of('POST', '/webhooks/test', {});
  await of('POST', '/webhooks/replay', { all: true });
  await does(ann, 'chat:search', { q: 'four' });
  await own('GET', '/search?q=four&room=a');
  await of('POST', '/holds', { userId: 9, reason: 'r' });
  await of('GET', '/holds');
  await of('DELETE', '/holds/user/9');
  await own('POST', '/rooms/b/join', {}); // somebody to erase
  await call('POST', '/api/v1/rooms/b/messages', { content: 'x' }, { userId: 44 });
  await of('DELETE', '/users/44?dryRun=true');
  await of('DELETE', '/users/44');
  await of('GET', '/users/44/erasure');
  await does(ben, 'chat:leave', { roomId: 'a' });
  const away = await server.signedIn({ userId: 12, name: 'Zoe' });
  await does(away, 'chat:join', 'a');
  await until(() => hooks.some(({ type, data }) => type === 'user.online' && data.userId === 12), 'the platform is told of Zoe');
  away.disconnect();
  await heard(ann, 'presence:changed', ({ userId, online }) => userId === 12 && !online);
  for (const [path, wants] of [['/api/v1/nothing', 404], ['/api/v1/rooms/a/messages?limit=x', 400], ['/api/v1/events?cursor=x', 410]]) {
    const refused = await server.fetch(path, { claims: {} });
    assert.equal(refused.status, wants, refused.raw);
  }
  const types = Object.keys(openapi.webhooks).filter((type) => !['webhooks.gap', 'authorize'].includes(type));
  const missing = () => types.filter((type) => hooks.every((hook) => hook.type !== type));
  await until(() => missing().length === 0, 'the platform is told everything', 40_000).catch((error) => assert.fail(`${error.message}; it was not told ${missing()}`));
  const wrong = hooks.flatMap((hook) => answers.http.wrong(pointer('webhooks', hook.type, 'post', 'requestBody', 'content', 'application/json', 'schema'), hook).map((what) => `${hook.type}: ${what}`));
  assert.deepEqual(wrong, []);
  server.child.kill('SIGTERM');
  await heard(other, 'server:draining');
  await server.halt();
  assertFits(seen());
  const good = new Set(seen().map(judged).filter((one) => one?.isGood).map(({ of: what }) => what));
  const notSeen = [];
  for (const [path, operations] of Object.entries(openapi.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      if (operation.responses[200].content['application/json'] && !good.has(`${method.toUpperCase()} ${path}`)) notSeen.push(`${method} ${path}`);
    }
  }
  for (const { name } of Object.values(asyncapi.components.messages)) {
    const what = name.endsWith('(acknowledgement)') ? `ack ${name.split(' ')[0]}` : `event ${name}`;
    // A request has the name of its event: it was looked at with its acknowledgement.
    if (!good.has(what) && !good.has(`ack ${name}`)) notSeen.push(what);
  }
  assert.deepEqual(notSeen, []);
});

test('what the other suites have sent and heard is as the contract says it', (t) => {
  const directory = process.env.RECORDED_TRAFFIC;
  if (!directory || !existsSync(directory)) return t.skip('nothing was recorded: tests/run records');
  const files = readdirSync(directory).filter((name) => name.endsWith('.jsonl'));
  const recorded = files.flatMap((name) => readFileSync(join(directory, name), 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line)));
  t.diagnostic(`${recorded.length} shapes of ${files.length} processes`);
  assertFits(recorded);
});
