// `serve --dev`: the page of two people in a real browser, tokens for whoever writes a page, and nothing of it without the flag or for
// anybody else.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { Appliance, binary, noLimits, until } from '../clients/harness.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const pictures = join(here, '../../target/browser');
const AXE = readFileSync(join(here, 'node_modules/axe-core/axe.min.js'), 'utf8');
const CLIENT = readFileSync(join(here, 'node_modules/socket.io-client/dist/socket.io.esm.min.js'), 'utf8');

let browser;
let server;
before(async () => {
  server = await Appliance.start({ env: noLimits, serveFlags: ['--dev'] });
  browser = await chromium.launch({ executablePath: '/usr/bin/chromium', headless: true, args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'] });
  mkdirSync(pictures, { recursive: true });
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

async function opened(url, options = {}) {
  const context = await browser.newContext({ locale: 'en-CA', ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => { if (message.type() === 'error') complaints.push(message.text()); });
  await page.goto(url);
  const ann = page.locator('.person[data-user="7"]');
  const ben = page.locator('.person[data-user="8"]');
  return { context, page, complaints, ann, ben };
}

const says = async (person, content) => {
  await person.locator('input[name="content"]').fill(content);
  await person.locator('form button').click();
};
const text = (place) => place.innerText();

test('two people chat, go and come back, and the inspector shows what they send and hear', async () => {
  const { context, page, complaints, ann, ben } = await opened(`${server.url}/dev`);
  for (const person of [ann, ben]) await until(async () => /^connected \((polling|websocket)\)$/.test(await text(person.locator('.state'))), 'both are connected');
  await until(async () => (await page.locator('#events summary', { hasText: 'is answered: chat:join' }).count()) === 2, 'both are in the room');
  await ann.locator('input[name="content"]').fill('Bon');
  await until(async () => (await text(ben.locator('.typing'))) === 'Ann is typing…', 'Ben sees that Ann is typing');
  await says(ann, 'Bonjour <b>Ben</b>');
  for (const person of [ann, ben]) await until(async () => (await text(person.locator('.messages'))) === 'Ann: Bonjour <b>Ben</b>', 'both see the message, as it was written');
  await until(async () => (await text(ben.locator('.typing'))) === '', 'Ann types no more');
  // What was said while Ben was away is there when he returns, once.
  await ben.locator('.hang-up').click();
  await until(async () => (await text(ben.locator('.state'))) === 'not connected', 'Ben is away');
  await says(ann, 'Are you there?');
  await until(async () => (await text(ann.locator('.messages'))).includes('Are you there?'), 'it is stored');
  await ben.locator('.hang-up').click();
  await until(async () => (await text(ben.locator('.messages'))) === 'Ann: Bonjour <b>Ben</b>\nAnn: Are you there?', 'Ben has read it up');
  await ann.locator('.progress').click();
  await until(async () => (await page.locator('#events summary', { hasText: 'Ann receives progress:updated' }).count()) > 0, 'the progress is told');
  await ann.locator('.notify').click();
  const notification = page.locator('#events li', { hasText: 'Ann receives notification:new' });
  await until(async () => (await notification.count()) === 1, 'the notification is told');
  await notification.locator('summary').click();
  assert.equal(JSON.parse(await text(notification.locator('pre'))).title, 'Ann!');
  await page.locator('#filter').fill('notification:new');
  assert.equal(await page.locator('#events li:visible').count(), 1);
  await page.locator('#filter').fill('');
  await page.locator('#pause').check();
  const before = await page.locator('#events li').count();
  await says(ben, 'unseen');
  await until(async () => (await text(ann.locator('.messages'))).includes('Ben: unseen'), 'it is said');
  assert.equal(await page.locator('#events li').count(), before);
  await page.locator('#clear').click();
  assert.equal(await page.locator('#events li').count(), 0);
  assert.deepEqual(complaints, []);
  await page.screenshot({ path: join(pictures, 'dev.png'), fullPage: true });
  await context.close();
});

for (const language of ['en', 'fr']) {
  test(`nothing stands in anybody's way on it (${language})`, async () => {
    for (const options of [{ colorScheme: 'light' }, { colorScheme: 'dark' }, { forcedColors: 'active' }, { viewport: { width: 320, height: 640 } }]) {
      const { context, page, complaints, ann } = await opened(`${server.url}/dev?lang=${language}`, options);
      await until(async () => (await page.locator('#events li').count()) > 3, 'there are events');
      await page.locator('#events summary').first().click();
      assert.equal(await page.getAttribute('html', 'lang'), language);
      assert.doesNotMatch(await text(page.locator('main')), /[{}](?!\s*["\n]?)|undefined|NaN/);
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => globalThis.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
      assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), [], JSON.stringify(options));
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing runs out at the side');
      assert.equal(await ann.count(), 1);
      assert.deepEqual(complaints, []);
      await context.close();
    }
  });
}

test('a page of one\'s own, on another port of this machine, needs the five lines that the page shows', async () => {
  const shown = await opened(`${server.url}/dev`);
  const example = await text(shown.page.locator('#example'));
  await shown.context.close();
  const site = createServer((asked, answer) => {
    const isClient = asked.url === '/client.js';
    answer.setHeader('content-type', isClient ? 'text/javascript' : 'text/html');
    answer.end(isClient ? CLIENT : `<script type="importmap">{"imports":{"socket.io-client":"/client.js"}}</script><script type="module">${example}</script>`);
  });
  await new Promise((resolve) => { site.listen(0, '127.0.0.1', resolve); });
  const context = await browser.newContext();
  const page = await context.newPage();
  const lines = [];
  page.on('console', (message) => lines.push(message.text()));
  await page.goto(`http://localhost:${site.address().port}/`);
  await until(() => lines.some((line) => line.startsWith('authenticated')) && lines.some((line) => line.includes('roomId: dev')), `it is connected: ${lines}`);
  await context.close();
  site.close();
});

test('tokens are for the asking, and bad input is told', async () => {
  const ask = (query) => server.fetch(`/dev/token${query}`);
  const { json } = await ask('?user=9&name=Zo%C3%A9&role=coach');
  assert.equal(json.expiresIn, 3_600);
  const session = await server.fetch('/api/v1/session', { bearer: json.token });
  assert.deepEqual([session.json.userId, session.json.name, session.json.role], [9, 'Zoé', 'coach']);
  const service = (await ask('?user=platform&scope=broadcast%20notify')).json.token;
  const sent = await server.fetch('/api/v1/broadcast', { method: 'POST', bearer: service, body: { target: { all: true }, event: 'x' } });
  assert.equal(sent.status, 200, sent.raw);
  for (const [query, field] of [['', 'user'], ['?user=a%20b', 'userId'], ['?user=7&role=king', 'role'], ['?user=7&scope=everything', 'scope']]) {
    const refused = await ask(query);
    assert.deepEqual([refused.status, refused.json.error.field], [400, field], refused.raw);
  }
});

test('a page of another site has nothing of it whatever its name leads to', async () => {
  const asked = (headers, path = '/dev/token?user=1&role=admin') => new Promise((resolve, reject) => {
    request({ port: server.port, host: '127.0.0.1', path, headers }, (answer) => {
      let raw = '';
      answer.on('data', (part) => { raw += part; });
      answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, raw }));
    }).on('error', reject).end();
  });
  assert.equal((await asked({})).status, 200);
  for (const path of ['/dev/token?user=1&role=admin', '/dev', '/dev/socket.io.js']) {
    const rebound = await asked({ host: `evil.example:${server.port}` }, path);
    assert.equal(rebound.status, 403, path);
    assert.doesNotMatch(rebound.raw, /eyJ/);
  }
  const foreign = await asked({ origin: 'https://evil.example' });
  assert.equal(foreign.status, 403);
  assert.doesNotMatch(foreign.raw, /eyJ/);
  const own = await asked({ origin: 'http://app.localhost:5173' });
  assert.deepEqual([own.status, own.headers['access-control-allow-origin']], [200, 'http://app.localhost:5173']);
});

test('without the flag there is nothing of it, and a page of this machine is refused like any other', async () => {
  const plain = await Appliance.start();
  for (const path of ['/dev', '/dev/token?user=1&role=admin', '/dev/socket.io.js']) assert.equal((await plain.fetch(path)).status, 404, path);
  const read = await plain.fetch('/api/health', { headers: { origin: 'http://localhost:5173' } });
  assert.equal(read.headers.get('access-control-allow-origin'), null, 'its page may not read it');
  await plain.stop();
  const named = spawnSync(binary, ['config', 'check'], { env: { PATH: process.env.PATH, ACADEMY_RT_SERVER_DEV: 'true', JWT_SECRET: 'a secret of the test suite, long enough' } });
  assert.notEqual(named.status, 0, 'no variable can say so');
});

test('it is for this machine alone: other addresses and proxies are refused before anything is written', () => {
  const dir = mkdtempSync(join(tmpdir(), 'academy-rt-dev-'));
  const tried = (args, env = {}) => {
    const { status, stderr } = spawnSync(binary, ['serve', '--dev', '--data-dir', join(dir, 'data'), ...args], { env: { PATH: process.env.PATH, ...env }, timeout: 20_000 });
    return `${status}: ${stderr}`;
  };
  assert.match(tried(['--listen', '0.0.0.0:0']), /^[1-9].*serve --dev is for this machine alone\s+why: it would listen on 0\.0\.0\.0/s);
  assert.match(tried(['--listen', '127.0.0.1:0', '--no-tls'], { ACADEMY_RT_SERVER_BEHIND_PROXY: 'true' }), /^[1-9].*a proxy would pass others on/s);
  rmSync(dir, { recursive: true, force: true });
});

test('the stock client that the page loads is the one that npm has', async () => {
  const served = await server.fetch('/dev/socket.io.js');
  assert.equal(served.raw.trim(), CLIENT.replace(/\n?\/\/# sourceMappingURL.*/, '').trim());
});
