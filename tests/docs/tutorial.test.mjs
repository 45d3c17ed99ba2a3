// docs/tutorial.md, followed step by step: its commands, its configuration, its page, in headless Chromium. Only the two ports
// are replaced. The home directory is one of the test, so that no browser of this machine is told to trust anything.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { freePort, until } from '../clients/harness.mjs';
import { block, scratch } from './blocks.mjs';

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

let dir;
let env;
let ports;
const processes = [];
const browsers = [];

/** A step's text, with the ports of this run. */
const step = (name) => block('tutorial.md', `tutorial=${name}`).replaceAll('8443', ports.server).replaceAll('8000', ports.pages);

/** Runs a step's commands to their end. */
function run(name) {
  const { status, stdout, stderr } = spawnSync('bash', ['-ec', step(name)], { cwd: dir, env, encoding: 'utf8' });
  assert.equal(status, 0, `${name}: ${stdout}${stderr}`);
  return stdout;
}

/** Leaves a step's command running, as in a terminal of its own. */
function leave(name) {
  const child = spawn('bash', ['-ec', `exec ${step(name).trim()}`], { cwd: dir, env, stdio: ['ignore', 'pipe', 'pipe'] });
  child.said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => { child.said += text; });
  processes.push(child);
  return child;
}

before(async () => {
  const place = scratch('tutorial', { hasPackages: false });
  dir = place.dir;
  ports = { server: String(await freePort()), pages: String(await freePort()) };
  const home = join(dir, 'home');
  mkdirSync(home);
  env = { PATH: place.path, HOME: home, ACADEMY_RT_STORAGE_MIN_FREE: '0' };
});

after(async () => {
  for (const browser of browsers) await browser.close();
  for (const child of processes) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const ended = new Promise((resolve) => { child.once('exit', resolve); });
    child.kill('SIGTERM');
    await ended;
  }
  rmSync(dir, { recursive: true, force: true });
});

/** A browser window of its own, as somebody with that home directory opens it. */
async function window(address) {
  const profile = mkdtempSync(join(dir, 'profile-'));
  const context = await chromium.launchPersistentContext(profile, { executablePath: '/usr/bin/chromium', headless: true, args: FLAGS, env });
  browsers.push(context);
  const page = await context.newPage();
  await page.goto(address);
  return page;
}

const state = (page, text) => page.waitForFunction((wanted) => document.getElementById('state').textContent.includes(wanted), text, { timeout: 20_000 });
const lines = (page, count) => until(async () => {
  const found = await page.locator('#messages li').allTextContents();
  return found.length >= count && found;
}, `${count} lines are shown`);
const say = async (page, text) => {
  await page.fill('#text', text);
  await page.click('button');
};

test('the tutorial: server, tokens, page', async () => {
  writeFileSync(join(dir, 'academy-rt.toml'), step('configuration'));
  const server = leave('serve');
  await until(() => server.said.includes(`is running at https://127.0.0.1:${ports.server}`), 'the server says its address');
  run('tokens');
  run('install');
  writeFileSync(join(dir, 'index.html'), step('page'));
  leave('pages');
  await until(() => fetch(`http://localhost:${ports.pages}/`).then(({ ok }) => ok, () => false), 'the page is served');
});

test('the tutorial: a browser that has not been told refuses the certificate, and an exception mends it (5 A)', async () => {
  const [address] = run('addresses').trim().split('\n');
  const page = await window(address);
  await state(page, 'no connection');
  // The warning is read and passed, as a person does.
  await page.goto(`https://localhost:${ports.server}/healthz`).catch(() => {});
  await page.click('#details-button');
  await page.click('#proceed-link');
  await until(async () => (await page.textContent('body')).includes('ok'), 'the server answers');
  await page.goto(address);
  await state(page, 'signed in as Ann');
});

test('the tutorial: two browsers that trust the certificate (5 B) chat, and the history is there after a reload', async () => {
  run('trust');
  const [ofAnn, ofBob] = run('addresses').trim().split('\n');
  const ann = await window(ofAnn);
  const bob = await window(ofBob);
  await state(ann, 'signed in as Ann');
  await state(bob, 'signed in as Bob');
  await say(ann, 'Hello Bob');
  await lines(bob, 1);
  await say(bob, 'Hello Ann');
  const chat = ['Ann: Hello Bob', 'Bob: Hello Ann'];
  assert.deepEqual(await lines(ann, 2), chat);
  assert.deepEqual(await lines(bob, 2), chat);
  await ann.reload();
  await state(ann, 'signed in as Ann');
  assert.deepEqual(await lines(ann, 2), chat);

  run('broadcast');
  for (const page of [ann, bob]) assert.match((await lines(page, 3))[2], /: The lesson begins$/);

  writeFileSync(join(dir, 'client.mjs'), step('client'));
  assert.match(run('node'), /^stored as \d+$/m);
  for (const page of [ann, bob]) assert.equal((await lines(page, 4))[3], 'Bob: Hello from Node, says Bob');

  await say(ann, 'Goodbye');
  await lines(bob, 5);
  const broken = await window(ofBob.split('#')[0]);
  await state(broken, 'token_missing');
});

test('the tutorial: a page of an origin that is not listed does not connect', async () => {
  const [address] = run('addresses').trim().split('\n');
  // The same page, by another name of the machine: that is another origin.
  const page = await window(address.replace('localhost', '127.0.0.1'));
  await state(page, 'no connection');
});
