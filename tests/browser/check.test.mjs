// The connection check at `/` in a real browser: directly, and through real proxies that do not let everything through. Each
// outcome is made by what makes it in the wild.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { Appliance, freePort, noLimits, until } from '../clients/harness.mjs';
import { Site } from '../clients/page.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const pictures = join(here, '../../target/browser');
const AXE = readFileSync(join(here, 'node_modules/axe-core/axe.min.js'), 'utf8');
const LANGUAGES = ['en', 'fr'];
const HOUR_MS = 3_600_000;
// A step that nothing answers takes 10 s, and the longest way has three of them.
const PATIENCE_MS = 60_000;
const ALL_GOOD = {
  verdict: 'websocket', server: 'good', encryption: 'local', clock: 'good', api: 'good', origin: 'good', polling: 'good', websocket: 'good',
  upgrade: 'good', stock: 'any', sdk: 'websocket',
};

let browser;
let dir;
let server;
let nginx;
let mute;
const ports = {};

// Proxies as they are met: each is one server of nginx.
const PROXIES = {
  // The headers of an upgrade are not passed on unless somebody says so.
  'no-upgrade': 'location / { proxy_pass http://rt; proxy_set_header Host $http_host; }',
  'sub-path': `location /rt/ { proxy_pass http://rt/; proxy_set_header Host $http_host; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; }`,
  // nginx's own: the name of the upstream.
  'wrong-host': `location / { proxy_pass http://rt; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; }`,
  // A portal that answers everything that it does not know with a page of its own.
  portal: `location = / { proxy_pass http://rt; } location /console/ { proxy_pass http://rt; } location / { default_type text/html; return 200 "<p>Sign in to the network"; }`,
  'no-socket-io': 'location / { proxy_pass http://rt; proxy_set_header Host $http_host; } location /ws { return 403; }',
  'no-options': 'location / { if ($request_method = OPTIONS) { return 405; } proxy_pass http://rt; proxy_set_header Host $http_host; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection; }',
};

/** Passes everything on, and nothing more on a connection that has become a WebSocket: what some inspecting boxes do. */
function muteWebSockets(port) {
  return createServer((near) => {
    const far = connect(port, '127.0.0.1');
    let isMute = false;
    near.on('data', (data) => { if (!isMute) far.write(data); });
    far.on('data', (data) => {
      if (isMute) return;
      const end = String(data).startsWith('HTTP/1.1 101') ? data.indexOf('\r\n\r\n') + 4 : 0;
      isMute = end > 0;
      near.write(isMute ? data.subarray(0, end) : data);
    });
    for (const [one, other] of [[near, far], [far, near]]) {
      one.on('close', () => other.destroy());
      one.on('error', () => other.destroy());
    }
  });
}

before(async () => {
  server = await Appliance.start({ env: noLimits });
  dir = mkdtempSync(join(tmpdir(), 'check-'));
  for (const name of Object.keys(PROXIES)) ports[name] = await freePort();
  const sites = Object.entries(PROXIES).map(([name, locations]) => `server { listen 127.0.0.1:${ports[name]}; ${locations} }`).join('\n');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${dir}/${kind};`).join(' ');
  const file = join(dir, 'nginx.conf');
  writeFileSync(file, `daemon off; user root; pid ${dir}/pid; error_log stderr; events {} http { access_log off; ${temporary} upstream rt { server 127.0.0.1:${server.port}; }\n${sites} }\n`);
  nginx = spawn('nginx', ['-e', 'stderr', '-c', file], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  nginx.stderr.on('data', (text) => { said += text; });
  await until(() => {
    if (nginx.exitCode !== null) throw new Error(`nginx ended:\n${said}`);
    return fetch(`http://127.0.0.1:${ports['no-upgrade']}/readyz`).then(({ ok }) => ok, () => false);
  }, 'nginx passes on');
  mute = muteWebSockets(server.port);
  await new Promise((resolve) => { mute.listen(0, '127.0.0.1', resolve); });
  browser = await chromium.launch({ executablePath: '/usr/bin/chromium', headless: true, args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'] });
  mkdirSync(pictures, { recursive: true });
});

after(async () => {
  await browser?.close();
  if (nginx?.exitCode === null) nginx.kill('SIGQUIT');
  mute?.close();
  await server?.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** Opens the page, and waits for its verdict: the outcomes, and what the browser complained of. */
async function opened(url, options = {}, prepare = async () => {}) {
  const context = await browser.newContext({ locale: 'en-CA', ignoreHTTPSErrors: true, ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => { if (message.type() === 'error' && !/Failed to load (resource|module script)|WebSocket connection to/.test(message.text())) complaints.push(message.text()); });
  await prepare(page);
  await page.goto(url);
  await page.locator('#verdict[data-outcome]').waitFor({ timeout: PATIENCE_MS });
  const outcomes = await page.evaluate(() => Object.fromEntries([...document.querySelectorAll('[data-outcome]')].map((part) => [part.id, part.dataset.outcome])));
  return { page, context, outcomes, complaints };
}

async function outcomesAt(url, options, prepare) {
  const { context, outcomes, complaints, page } = await opened(url, options, prepare);
  const text = await page.innerText('main');
  await context.close();
  assert.deepEqual(complaints, []);
  assert.doesNotMatch(text, /[{}]|undefined|NaN/, 'each value is filled in');
  return { outcomes, text };
}

for (const language of LANGUAGES) {
  test(`where everything gets through the page says so (${language})`, async () => {
    const { page, context, outcomes, complaints } = await opened(server.url, { locale: `${language}-CA`, permissions: ['clipboard-read', 'clipboard-write'] });
    assert.deepEqual([outcomes, complaints], [ALL_GOOD, []]);
    assert.equal(await page.getAttribute('html', 'lang'), language);
    assert.equal(await page.locator('.checks [data-when]:visible').count(), await page.locator('.checks li').count(), 'one outcome each');
    await page.locator('#copy').click();
    await until(async () => (await page.innerText('#copied')) !== '', 'it says that it has copied');
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    const names = await page.locator('.checks h2').allInnerTexts();
    // The verdict, each check, the address, the time, and the browser.
    const lines = copied.split('\n');
    assert.equal(lines.length, 1 + names.length + 3, copied);
    assert.deepEqual(lines.slice(1, -3).map((line) => line.split(': ')[0]), names);
    assert.equal(lines.filter((line) => line.includes(': OK ')).length, names.length, 'all but the encryption, and the verdict');
    assert.equal(lines.at(-3), `${server.url}/`);
    await context.close();
  });
}

test('it ends each session that it begins, and leaves no line in the log', async (t) => {
  const own = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_LIMITS_SIGN_IN: '1s' } });
  t.after(() => own.stop());
  await outcomesAt(own.url);
  assert.doesNotMatch(own.stderr, /refused|"level":"(WARN|ERROR)"/);
  // One that begins later, and stays: when the server has noticed it, it would have noticed the earlier ones.
  assert.equal((await own.fetch('/ws/?EIO=4&transport=polling')).status, 200);
  const claims = { userId: 1, role: 'admin' };
  const unsigned = async () => (await own.fetch('/api/v1/admin/status', { claims })).json.unreachable?.unsigned ?? 0;
  await until(async () => (await unsigned()) > 0, 'who does not sign in is noticed');
  assert.equal(await unsigned(), 1);
});

test('through a proxy that keeps the headers of an upgrade for itself: polling, and what a stock client needs for it', async () => {
  const { outcomes, text } = await outcomesAt(`http://127.0.0.1:${ports['no-upgrade']}/`);
  assert.deepEqual(outcomes, { ...ALL_GOOD, verdict: 'polling', websocket: 'blocked', upgrade: 'skipped', stock: 'polling', sdk: 'polling' });
  assert.match(text, /tryAllTransports/);
  assert.match(text, /Upgrade and Connection/);
});

test('through a box that lets a WebSocket begin and then nothing through: the page says that it is held back', async () => {
  const { outcomes } = await outcomesAt(`http://127.0.0.1:${mute.address().port}/`);
  assert.deepEqual(outcomes, { ...ALL_GOOD, verdict: 'polling', websocket: 'silent', upgrade: 'skipped', stock: 'polling', sdk: 'polling' });
});

test('below a path of a proxy everything is found', async () => {
  const { outcomes } = await outcomesAt(`http://127.0.0.1:${ports['sub-path']}/rt/`);
  assert.deepEqual(outcomes, ALL_GOOD);
});

test('through a proxy that gives another Host: the page names it, and the origin that the server does not know', async () => {
  const url = `http://127.0.0.1:${ports['wrong-host']}`;
  const { outcomes, text } = await outcomesAt(`${url}/`);
  assert.deepEqual(outcomes, { ...ALL_GOOD, verdict: 'http', origin: 'refused', polling: 'refused', websocket: 'blocked', upgrade: 'skipped', stock: 'none', sdk: 'http' });
  assert.match(text, /header Host/);
  assert.ok(text.includes(`add ${url} to server.cors_origins`), text);
});

test('where a portal answers in its place the page does not take it for the server', async () => {
  const { outcomes } = await outcomesAt(`http://127.0.0.1:${ports.portal}/`);
  assert.deepEqual(outcomes, {
    verdict: 'none', server: 'other', encryption: 'local', clock: 'unknown', api: 'other', origin: 'unknown', polling: 'other', websocket: 'blocked',
    upgrade: 'skipped', stock: 'none', sdk: 'failed',
  });
});

test('where Socket.IO is kept out, plain HTTP is found; where OPTIONS is, the page says what that costs', async () => {
  const without = (await outcomesAt(`http://127.0.0.1:${ports['no-socket-io']}/`)).outcomes;
  assert.deepEqual(without, { ...ALL_GOOD, verdict: 'http', polling: 'other', websocket: 'blocked', upgrade: 'skipped', stock: 'none', sdk: 'http' });
  assert.deepEqual((await outcomesAt(`http://127.0.0.1:${ports['no-options']}/`)).outcomes, { ...ALL_GOOD, origin: 'unknown' });
});

test('a clock that is wrong by an hour in either direction is told', async () => {
  for (const by of [HOUR_MS, -HOUR_MS]) {
    const { outcomes, text } = await outcomesAt(server.url, {}, (page) => page.addInitScript((shift) => {
      const now = Date.now.bind(Date);
      Date.now = () => now() + shift;
    }, by));
    assert.deepEqual(outcomes, { ...ALL_GOOD, clock: 'off' });
    assert.match(text, /differ by (3[56]\d\d) seconds/);
  }
});

test('over TLS; and where Socket.IO is switched off, and where the page is, while the server runs', async () => {
  const site = await Site.open({ tls: true });
  try {
    const secure = { ...ALL_GOOD, encryption: 'good' };
    assert.deepEqual((await outcomesAt(site.server.url)).outcomes, secure);
    await site.flip(false);
    assert.deepEqual((await outcomesAt(site.server.url)).outcomes, { ...secure, verdict: 'off', polling: 'off', websocket: 'off', upgrade: 'skipped', stock: 'none', sdk: 'http' });
  } finally {
    await site.close();
  }
});

test('a server that ends while the page is open is a server that does not answer', async (t) => {
  const own = await Appliance.start({ env: noLimits });
  t.after(() => own.stop());
  const { page, context, outcomes } = await opened(own.url);
  assert.deepEqual(outcomes, ALL_GOOD);
  await page.route('**/sdk/server.json', async (route) => {
    // The page has come, and then the server goes.
    if (own.child.exitCode === null && own.child.signalCode === null) {
      own.child.kill('SIGKILL');
      await own.exited;
    }
    await route.continue();
  });
  await page.reload();
  await page.locator('#verdict[data-outcome]').waitFor({ timeout: PATIENCE_MS });
  const states = await page.evaluate(() => Object.fromEntries([...document.querySelectorAll('[data-outcome]')].map((part) => [part.id, part.dataset.outcome])));
  assert.deepEqual(states, {
    verdict: 'none', server: 'failed', encryption: 'local', clock: 'unknown', api: 'failed', origin: 'unknown', polling: 'failed', websocket: 'blocked',
    upgrade: 'skipped', stock: 'none', sdk: 'failed',
  });
  await context.close();
});

test('each language leads to the other one, and both have the same parts', async () => {
  const parts = [];
  for (const language of LANGUAGES) {
    const { page, context } = await opened(`${server.url}/?lang=${language}`, { locale: 'de-DE' });
    assert.equal(await page.getAttribute('html', 'lang'), language);
    parts.push(await page.evaluate(() => [...document.querySelectorAll('body *')].map((part) => `${part.localName}#${part.id}[${part.dataset.when ?? ''}]`)));
    await page.locator('header a').click();
    await page.locator(`html[lang=${LANGUAGES.find((other) => other !== language)}]`).waitFor();
    await context.close();
  }
  assert.deepEqual(parts[0], parts[1]);
});

test('without scripts the page says that the server answers, and what is needed for more', async () => {
  for (const [locale, words] of [['en', 'The server answers.'], ['fr', 'Le serveur répond.']]) {
    const context = await browser.newContext({ locale, javaScriptEnabled: false });
    const page = await context.newPage();
    await page.goto(server.url);
    assert.ok((await page.innerText('main')).includes(words));
    await context.close();
  }
});

const LOOKS = {
  light: {}, dark: { colorScheme: 'dark' }, 'forced colours': { forcedColors: 'active' }, 'reduced motion': { reducedMotion: 'reduce' },
  '320 px': { viewport: { width: 320, height: 640 } }, 'zoom of 400 %': { viewport: { width: 320, height: 256 }, deviceScaleFactor: 4 },
};

for (const language of LANGUAGES) {
  test(`people who see, hear and type otherwise can use it (${language}): axe finds nothing, nothing is cut off, the focus is seen`, async () => {
    for (const [name, look] of Object.entries(LOOKS)) {
      const { page, context } = await opened(`http://127.0.0.1:${ports['no-upgrade']}/?lang=${language}`, look);
      await page.screenshot({ path: join(pictures, `check-${language}-${name.replaceAll(/\W+/g, '-')}.png`), fullPage: true });
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), `${name}: nothing scrolls sideways`);
      for (const wanted of ['header a', '#again', '#copy']) {
        await page.keyboard.press('Tab');
        const seen = await page.evaluate(() => {
          const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
          const { width, height } = document.activeElement.getBoundingClientRect();
          return { outline: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2, target: width >= 24 && height >= 24 };
        });
        assert.ok(await page.evaluate((selector) => document.activeElement.matches(selector), wanted), `${name}: ${wanted} is next`);
        assert.deepEqual(seen, { outline: true, target: true }, `${name}: ${wanted}`);
      }
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
      assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`), [], name);
      await context.close();
    }
  });
}

test('the page and its files say what they are, and are asked for once', async () => {
  const page = await server.fetch('/', { headers: { 'accept-language': 'fr' } });
  assert.equal(page.headers.get('content-language'), 'fr');
  assert.match(page.headers.get('vary'), /accept-language/i);
  const policy = page.headers.get('content-security-policy');
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe|data:|\*|https?:/);
  const text = page.raw;
  assert.doesNotMatch(text, /<style|<script(?![^>]* src=)|style=|\son\w+=|(src|href)="(?!console\/|\?lang=)/, 'nothing inline, and nothing of others');
  const files = [...text.matchAll(/console\/[\w.-]+/g)].map(([file]) => file);
  assert.equal(files.length, 3);
  for (const file of files) {
    const answer = await server.fetch(`/${file}`);
    assert.deepEqual([answer.status, answer.headers.get('cache-control')], [200, 'public, max-age=31536000, immutable']);
    assert.equal((await server.fetch(`/${file}`, { headers: { 'if-none-match': answer.headers.get('etag') } })).status, 304);
  }
  for (const [path, method, status] of [['/console/check.js', 'GET', 404], ['/console/', 'GET', 404], ['/console/..%2fetc', 'GET', 404], ['/', 'POST', 405], ['/?lang=%ff%00', 'GET', 200]]) {
    assert.equal((await server.fetch(path, { method })).status, status, `${method} ${path}`);
  }
  const options = await new Promise((resolve, reject) => request(server.url, { method: 'OPTIONS' }, resolve).on('error', reject).end());
  options.resume();
  assert.deepEqual([options.statusCode, options.headers.allow], [204, 'GET, HEAD, OPTIONS']);
});

test('server.welcome = false takes the page away, from a server that runs too', async () => {
  const site = await Site.open();
  try {
    assert.equal((await site.server.fetch('/')).status, 200);
    await site.configure('[server]\nwelcome = false\n');
    for (const path of ['/', '/?lang=fr', '/console/check.js']) assert.equal((await site.server.fetch(path)).status, 404, path);
    await site.configure('');
    assert.equal((await site.server.fetch('/')).status, 200);
  } finally {
    await site.close();
  }
});
