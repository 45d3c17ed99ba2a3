// The SDK as the binary gives it, in a real browser, against the real server over TLS: two people in a room, each on a line of
// their own. The page is of another origin than the server.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, afterEach, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { assertRising, noLimits, token, until } from '../clients/harness.mjs';
import { Line } from '../clients/line.mjs';
import { Site } from '../clients/page.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const pictures = join(here, '../../target/browser');
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
];
const PATIENCE_MS = 30_000;
// The server asks for a sign of life every 25 s, and both ends wait 20 s for it.
const PING_MS = 25_000;
const PING_AND_PATIENCE_MS = 45_000;

let browser;
let files;
let site;
const people = {};

before(async () => {
  files = createServer((request, response) => {
    const file = { '/': [join(here, 'page.html'), 'text/html'], '/stranger': [join(here, 'stranger.html'), 'text/html'], '/socket.io.esm.min.js': [join(here, 'node_modules/socket.io-client/dist/socket.io.esm.min.js'), 'text/javascript'] }[request.url];
    if (!file) return response.writeHead(404).end();
    response.writeHead(200, { 'content-type': `${file[1]}; charset=utf-8` }).end(readFileSync(file[0]));
  });
  await new Promise((resolve) => { files.listen(0, '127.0.0.1', resolve); });
  const origin = `http://127.0.0.1:${files.address().port}`;
  site = await Site.open({ tls: true, env: { ...noLimits, ACADEMY_RT_SERVER_CORS_ORIGINS: origin } });
  browser = await chromium.launch({ executablePath: '/usr/bin/chromium', headless: true, args: FLAGS });
  for (const [name, userId] of [['Ann', 7], ['Bob', 8]]) {
    const line = await Line.to(site.server.port);
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    people[name] = { name, userId, line, context, origin, errors: [] };
  }
  mkdirSync(pictures, { recursive: true });
});

after(async () => {
  await browser?.close();
  files?.closeAllConnections();
  files?.close();
  for (const { line } of Object.values(people)) await line.close();
  await site?.close();
});

afterEach(async () => {
  for (const { line, context, page, errors } of Object.values(people)) {
    line.mend();
    await context.setOffline(false);
    await page?.close();
    assert.deepEqual(errors, [], 'a page has failed');
  }
  await site.flip(true);
});

/** Opens a person's page. They come by their own line; the SDK's file comes from the server itself. */
async function open({ name, userId, line, context, origin, errors, ...person }, room) {
  const page = await context.newPage();
  page.on('pageerror', (error) => errors.push(String(error)));
  const hash = new URLSearchParams({ server: site.server.url, api: `https://127.0.0.1:${line.port}`, token: token({ userId, name }), room });
  await page.goto(`${origin}/#${hash}`);
  people[name].page = page;
  return page;
}

async function both(room) {
  const pages = [await open(people.Ann, room), await open(people.Bob, room)];
  for (const page of pages) await by(page, 'websocket');
  await until(async () => (await pages[0].evaluate(() => window.socket.emitWithAck('presence:list', { roomId: document.getElementById('room').textContent }))).users?.length === 2, 'both are in the room');
  return pages;
}

/** Waits until the page's socket is on one of these transports. */
const by = (page, ...transports) => page.waitForFunction((list) => list.includes(window.socket?.transport), transports, { timeout: PATIENCE_MS });

async function say(page, text) {
  await page.fill('#text', text);
  await page.click('button');
}

const lines = (page) => page.locator('#messages li').allTextContents();
const showsAll = (page, count) => until(async () => (await lines(page)).length >= count, `${count} lines are shown`, PATIENCE_MS);

/** What the pages show is what the store has, once and in order: so many messages. */
async function assertWhole(pages, room, count) {
  for (const page of pages) await showsAll(page, count);
  const stored = await site.room(room);
  assertRising(stored.map(({ seq }) => seq));
  assert.equal(stored.length, count);
  for (const page of pages) {
    assert.deepEqual(await lines(page), stored.map(({ senderName, content }) => `${senderName}: ${content}`));
  }
  return stored;
}

test('two people talk, and a third hears of it from the store', async () => {
  const pages = await both('talk');
  await say(pages[0], 'Bonjour !');
  await showsAll(pages[1], 1);
  await say(pages[1], 'Bonjour, Ann.');
  await showsAll(pages[0], 2);
  const [{ id }] = await assertWhole(pages, 'talk', 2);
  await pages[0].evaluate((messageId) => window.socket.emitWithAck('chat:edit', { roomId: 'talk', messageId, content: 'Bonsoir !' }), id);
  await until(async () => (await lines(pages[1]))[0] === 'Ann: Bonsoir !', 'the edit is shown');
  assert.equal(await pages[0].textContent('#transport'), 'websocket (connected)');
  await pages[0].screenshot({ path: join(pictures, 'talk.png') });
});

test('a stock client on polling reads long answers, which come compressed', async () => {
  const said = Array.from({ length: 40 }, (_, n) => `message ${n}: déjà vu \u{1f980}`);
  for (const content of said) await site.call({ userId: 8 }, 'POST', '/rooms/zipped/messages', { content });
  const page = await open(people.Ann, 'zipped');
  const encodings = [];
  page.on('response', (answer) => { if (answer.url().includes('transport=polling')) encodings.push(answer.headers()['content-encoding']); });
  const read = await page.evaluate(async ({ url, auth }) => {
    const { io } = await import('/socket.io.esm.min.js');
    const socket = io(url, { path: '/ws', auth, transports: ['polling'], forceNew: true });
    await new Promise((resolve) => { socket.once('authenticated', resolve); });
    const { messages } = await socket.emitWithAck('chat:history', { roomId: 'zipped' });
    socket.disconnect();
    return messages.map(({ content }) => content);
  }, { url: site.server.url, auth: { token: token({ userId: 7 }) } });
  assert.deepEqual(read, said);
  assert.ok(encodings.includes('gzip'), `${encodings}`);
});

test('a line that has gone silent is noticed at its next sign of life; 1,000 reports and the talk arrive', async () => {
  const [ann, bob] = await both('silent');
  await say(ann, 'before');
  await showsAll(bob, 1);
  people.Ann.line.state = 'silent';
  const began = Date.now();
  for (let n = 1; n <= 20; n += 1) await say(bob, `while Ann is away ${n}`);
  // Nothing is sent by her page: it must find out by itself.
  await ann.waitForFunction(() => window.socket.transport === 'offline', undefined, { timeout: PING_AND_PATIENCE_MS + PATIENCE_MS });
  assert.ok(Date.now() - began > PING_AND_PATIENCE_MS - PING_MS, 'this was no silence, but a cut');
  for (let n = 1; n <= 3; n += 1) await say(ann, `from a tunnel ${n}`);
  await ann.evaluate(() => {
    window.acks = 0;
    for (let i = 0; i < 1_000; i += 1) window.socket.emit('progress:sync', { lessonId: 42, progress: 60, timeSpent: 1 }, ({ ok }) => { window.acks += ok ? 1 : 0; });
  });
  assert.equal(await ann.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith('academy-rt:outbox:')).length), 1_003);
  people.Ann.line.mend();
  await by(ann, 'websocket', 'polling');
  await ann.waitForFunction(() => window.acks === 1_000, undefined, { timeout: PATIENCE_MS });
  await assertWhole([ann, bob], 'silent', 24);
  const [lesson] = (await site.call({ userId: 7 }, 'GET', '/progress?lessonId=42')).items;
  assert.deepEqual([lesson.timeSpent, lesson.syncVersion], [1_000, 1_000]);
  await ann.waitForFunction(() => !Object.keys(localStorage).some((key) => key.startsWith('academy-rt:outbox:')), undefined, { timeout: PATIENCE_MS });
});

test('a browser that is offline sends when it is online again', async () => {
  const [ann, bob] = await both('offline');
  await people.Ann.context.setOffline(true);
  people.Ann.line.cut();
  await by(ann, 'offline');
  await say(ann, 'written offline');
  await say(bob, 'meanwhile');
  await showsAll(bob, 1);
  await ann.screenshot({ path: join(pictures, 'offline.png') });
  people.Ann.line.mend();
  assert.deepEqual((await site.room('offline')).map(({ content }) => content), ['meanwhile']);
  await people.Ann.context.setOffline(false);
  await assertWhole([ann, bob], 'offline', 2);
});

test('the flag is flipped live: the talk goes on by HTTP, and comes back', async () => {
  const pages = await both('flag');
  await say(pages[0], 'by WebSocket');
  await site.flip(false);
  for (const page of pages) await by(page, 'http');
  await say(pages[0], 'by HTTP');
  await say(pages[1], 'by HTTP, too');
  await assertWhole(pages, 'flag', 3);
  assert.equal(await pages[0].textContent('#transport'), 'http (realtime_disabled)');
  await site.flip(true);
  for (const page of pages) await by(page, 'websocket', 'polling');
  await say(pages[1], 'by WebSocket again');
  await assertWhole(pages, 'flag', 4);
});

test('the server is killed and started again', async () => {
  const pages = await both('killed');
  await say(pages[0], 'before');
  await showsAll(pages[1], 1);
  await site.server.kill();
  for (const page of pages) await by(page, 'offline');
  for (const page of pages) await say(page, 'in between');
  await site.server.launch();
  await assertWhole(pages, 'killed', 3);
});

test('a page that is reloaded while it is offline loses nothing of what it had to say', async () => {
  const [ann, bob] = await both('reload');
  people.Ann.line.cut();
  await by(ann, 'offline');
  for (let n = 1; n <= 5; n += 1) await say(ann, `kept ${n}`);
  await ann.reload();
  await ann.waitForFunction(() => window.socket?.pending >= 5, undefined, { timeout: PATIENCE_MS });
  await say(ann, 'and after');
  await ann.reload();
  people.Ann.line.mend();
  await showsAll(ann, 6);
  assert.deepEqual((await assertWhole([bob], 'reload', 6)).map(({ content }) => content), [1, 2, 3, 4, 5].map((n) => `kept ${n}`).concat('and after'));
  await ann.waitForFunction(() => !Object.keys(localStorage).some((key) => key.startsWith('academy-rt:outbox:')), undefined, { timeout: PATIENCE_MS });
});

test('two tabs of one person do not overtake each other: an older edit is not sent behind a newer one', async () => {
  const [ann] = await both('tabs');
  await say(ann, 'first');
  await showsAll(ann, 1);
  const id = Number(await ann.locator('#messages li').first().getAttribute('data-id'));
  people.Ann.line.cut();
  await by(ann, 'offline');
  const edit = (page, content) => page.evaluate(([messageId, text]) => { window.edited = window.socket.emitWithAck('chat:edit', { roomId: 'tabs', messageId, content: text }).then(({ ok, error }) => error?.code ?? ok); }, [id, content]);
  await edit(ann, 'older');
  // The other tab has a line of its own, and the same storage.
  const line = await Line.to(site.server.port);
  const other = await people.Ann.context.newPage();
  const hash = new URLSearchParams({ server: site.server.url, api: `https://127.0.0.1:${line.port}`, token: token({ userId: 7, name: 'Ann' }), room: 'tabs' });
  await other.goto(`${people.Ann.origin}/#${hash}`);
  await by(other, 'websocket', 'polling');
  assert.equal(await other.evaluate(() => typeof navigator.locks?.request), 'function', 'this browser has Web Locks');
  await edit(other, 'newer');
  assert.equal(await other.evaluate(() => window.edited), true);
  people.Ann.line.mend();
  await by(ann, 'websocket', 'polling');
  assert.equal(await ann.evaluate(() => window.edited), 'sent_elsewhere');
  assert.deepEqual((await site.room('tabs')).map(({ content }) => content), ['newer']);
  assert.ok(await ann.evaluate(() => !Object.keys(localStorage).some((key) => key.startsWith('academy-rt:outbox:'))));
  await other.close();
  await line.close();
});

test('an origin that is not listed may load the SDK, and nothing else', async () => {
  const other = createServer((request, response) => files.emit('request', request, response));
  await new Promise((resolve) => { other.listen(0, '127.0.0.1', resolve); });
  const page = await people.Bob.context.newPage();
  await page.goto(`http://127.0.0.1:${other.address().port}/socket.io.esm.min.js`);
  const seen = await page.evaluate(async (server) => {
    const { connect } = await import(`${server}/sdk/academy-rt.js`);
    const api = await fetch(`${server}/api/v1/session`, { headers: { authorization: 'Bearer x' } }).then(() => 'read', () => 'refused');
    return [typeof connect, api];
  }, site.server.url);
  assert.deepEqual(seen, ['function', 'refused']);
  await page.close();
  other.closeAllConnections();
  other.close();
});

test('a page of an origin that is not listed is told so in its console', async () => {
  const { context, origin } = people.Ann;
  const page = await context.newPage();
  const said = [];
  page.on('console', (message) => said.push(message.text()));
  // The same files by another name of this machine: another origin.
  await page.goto(`${origin.replace('127.0.0.1', 'localhost')}/stranger#${new URLSearchParams({ server: site.server.url })}`);
  const shows = (pattern, what) => until(() => said.some((line) => pattern.test(line)), `${what}; the console has ${JSON.stringify(said)}`, PATIENCE_MS);
  await shows(/^refused: .*this origin may not connect; add it to server\.cors_origins/, 'the reason that the server gives');
  await shows(/^session: TypeError/, 'the HTTP API is closed to it');
  await page.close();
});
