// The academy's platform on academy-rt by its adapter (assets/platform): its own modules send as they did, and its own components, in a
// real browser, chat, report progress and are notified in the words that they know.
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { createHmac } from 'node:crypto';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { Appliance, heard, noLimits, secret, token, until } from '../clients/harness.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const assets = join(here, '../../assets');
const CLIENT = readFileSync(join(here, 'node_modules/socket.io-client/dist/socket.io.esm.min.js'), 'utf8');
const ADAPTER = readFileSync(join(assets, 'platform/realtime-client.js'), 'utf8');
/** A component as the platform has it: not a word of it is academy-rt's. */
const PAGE = `<script type="importmap">{"imports":{"socket.io-client":"/client.js"}}</script><script type="module">
  import { io } from 'socket.io-client';
  import { bridge } from '/realtime-client.js';
  const user = new URLSearchParams(location.search).get('user');
  const address = new URLSearchParams(location.search).get('rt');
  const fetchToken = async () => (await (await fetch('/api/realtime/token?user=' + user)).json()).token;
  const socket = bridge(io(address, { path: '/ws', auth: (give) => fetchToken().then((token) => give({ token })) }));
  window.heard = [];
  for (const event of ['authenticated', 'chat:message', 'progress:updated', 'notification:new', 'system:alert']) socket.on(event, (data) => window.heard.push({ event, data }));
  const counted = () => window.heard.push({ event: 'counted', data: null });
  socket.on('system:alert', counted);
  window.stopCounting = () => socket.off('system:alert', counted);
  window.socket = socket;
</script>`;

let server;
let platform;
let realtime;
let browser;
let dir;
const told = [];
const signed = (claims) => {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const body = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`;
};
const users = { 7: { id: 7, name: 'Ann', role: 'user' }, 8: { id: 8, name: 'Ben', role: 'coach' } };

before(async () => {
  dir = mkdtempSync(join(tmpdir(), 'platform-'));
  cpSync(join(assets, 'platform/realtime-server.js'), join(dir, 'realtime-server.js'));
  cpSync(join(assets, 'sdk/broadcast-service.js'), join(dir, 'broadcast-service.js'));
  const { createRealtime } = await import(pathToFileURL(join(dir, 'realtime-server.js')));
  let tokenRoute;
  platform = createServer((asked, answer) => {
    const { pathname, searchParams } = new URL(asked.url, 'http://platform');
    if (pathname === '/api/realtime/token') return tokenRoute(Object.assign(asked, { user: users[searchParams.get('user')] }), answer);
    const script = { '/client.js': CLIENT, '/realtime-client.js': ADAPTER }[pathname];
    answer.setHeader('content-type', script ? 'text/javascript' : 'text/html; charset=utf-8');
    answer.end(script ?? PAGE);
  });
  await new Promise((resolve) => { platform.listen(0, '127.0.0.1', resolve); });
  server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_SERVER_CORS_ORIGINS: `http://127.0.0.1:${platform.address().port}` } });
  const service = token({ userId: 'platform', role: undefined, scope: 'broadcast notify' });
  realtime = createRealtime({ url: server.url, token: service, retries: 0, onError: (error) => told.push(error) });
  tokenRoute = realtime.tokenRoute({ user: (request) => request.user, sign: signed });
  browser = await chromium.launch({ executablePath: '/usr/bin/chromium', headless: true, args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'] });
});
after(async () => {
  await browser?.close();
  platform?.close();
  await server?.stop();
  rmSync(dir, { recursive: true, force: true });
});

const address = (user) => `http://127.0.0.1:${platform.address().port}/?user=${user}&rt=${encodeURIComponent(server.url)}`;
async function opened(user) {
  const page = await browser.newPage();
  await page.goto(address(user));
  const hears = (event, fits = () => true) => until(async () => (await page.evaluate(() => window.heard)).find((one) => one.event === event && fits(one.data)), `${user} hears ${event}`).then((one) => one.data);
  await hears('authenticated');
  return { page, hears, does: (event, payload) => page.evaluate(([name, said]) => window.socket.emitWithAck(name, said), [event, payload]) };
}

test('components chat, report progress and return in the words that they know', async () => {
  const ann = await opened(7);
  const ben = await opened(8);
  for (const one of [ann, ben]) assert.equal((await one.does('join-room', 'room-123')).ok, true);
  const sent = await ann.does('chat:message', { roomId: 'room-123', content: 'Bonjour', messageType: 'text' });
  assert.equal(sent.ok, true, JSON.stringify(sent));
  const said = await ben.hears('chat:message');
  assert.deepEqual([said.senderId, said.content, said.messageType, said.type], [7, 'Bonjour', 'text', 'text']);
  assert.equal(said.createdAt, new Date(said.timestamp).toISOString());
  const synced = await ann.does('progress:sync', { lessonId: 42, progressPercent: 75, timeSpentSeconds: 119.6 });
  assert.deepEqual([synced.ok, synced.progressPercent, synced.timeSpentSeconds], [true, 75, 120]);
  const updated = await ann.hears('progress:updated');
  assert.deepEqual([updated.lessonId, updated.progressPercent, updated.timeSpentSeconds, updated.syncVersion], [42, 75, 120, 1]);
  const again = await ben.does('join-room', { roomId: 'room-123' });
  assert.deepEqual(again.messages.map(({ content, messageType }) => [content, messageType]), [['Bonjour', 'text']]);
  assert.match(again.messages[0].createdAt, /^\d{4}-\d\d-\d\dT/);
  assert.equal((await ben.does('leave-room', 'room-123')).ok, true);
  const session = await server.fetch('/api/v1/session', { bearer: signed({ userId: 7, role: 'user', exp: Math.floor(Date.now() / 1000) + 60 }) });
  assert.equal(session.json.role, 'learner');
  for (const one of [ann, ben]) await one.page.close();
});

test('getIO() and broadcastService send as the platform calls them', async () => {
  const ann = await opened(7);
  await ann.does('join-room', 'class');
  const io = realtime.getIO();
  assert.equal(io.to('class').emit('chat:message', { content: 'by the platform', messageType: 'text', senderId: 8, senderName: 'Ben', createdAt: 'now', avatar: '/b.png' }), true);
  const said = await ann.hears('chat:message', ({ content }) => content === 'by the platform');
  assert.deepEqual([said.senderId, said.senderName, said.messageType], [8, 'Ben', 'text']);
  io.in(['admin', 'user:7']).emit('system:alert', { text: 'to one' });
  await ann.hears('system:alert', ({ text }) => text === 'to one');
  io.emit('system:alert', { text: 'to all' });
  await ann.hears('system:alert', ({ text }) => text === 'to all');
  const count = async () => (await ann.page.evaluate(() => window.heard)).filter(({ event }) => event === 'counted').length;
  assert.equal(await count(), 2);
  await ann.page.evaluate(() => window.stopCounting());
  await realtime.broadcastService.toRole('learner', 'system:alert', { text: 'to learners' });
  await ann.hears('system:alert', ({ text }) => text === 'to learners');
  assert.equal(await count(), 2, 'a listener that was taken off hears no more');
  await realtime.broadcastService.toUser(7, 'notification:new', { title: 'New', message: 'Lesson', notificationId: 'own', createdAt: 'x' });
  assert.equal((await ann.hears('notification:new')).title, 'New');
  await realtime.broadcastService.toRoom('chat:class', 'chat:message', { content: 'once more' });
  await ann.hears('chat:message', ({ content }) => content === 'once more');
  assert.deepEqual(told, []);
  await ann.page.close();
});

test('bad input: what io cannot do is told, a call that fails reaches onError, and a stranger gets no token', async () => {
  const io = realtime.getIO();
  assert.throws(() => io.sockets, /io\.sockets is not there: .*HTTP API, or webhooks/);
  io.to('user:not a user').emit('x', {});
  await until(() => told.length > 0, 'the failure is told');
  assert.equal(told[0].code, 'invalid_payload');
  const answer = await fetch(`http://127.0.0.1:${platform.address().port}/api/realtime/token?user=66`);
  assert.deepEqual([answer.status, answer.headers.get('cache-control')], [401, 'no-store']);
  const socket = server.client('not a token');
  await heard(socket, 'auth_error');
});
