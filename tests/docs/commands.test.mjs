// The commands of README.md, docs/admin.md, docs/sdk.md and docs/http.md, one after the other on one server that nothing is
// configured for. Only addresses, directories and the program's place are replaced.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { freePort, until } from '../clients/harness.mjs';
import { block, docs, fitted, scratch } from './blocks.mjs';

let dir;
let env;
let port;
let server;

/** Runs commands to their end; fails if one of them does. */
async function shell(text) {
  const ran = promisify(execFile)('bash', ['--norc', '-euo', 'pipefail', '-c', text], { cwd: dir, env, timeout: 60_000 });
  ran.child.stdin.end();
  const { stdout } = await ran.catch(({ stdout: before, stderr }) => assert.fail(`${text}\n${before}${stderr}`));
  return stdout;
}

const readme = (name, replacements) => fitted(block('../README.md', `command=${name}`), replacements);

async function start(command) {
  server = spawn('bash', ['-c', `exec ${command}`], { cwd: dir, env, stdio: ['ignore', 'pipe', 'pipe'] });
  server.said = '';
  for (const stream of [server.stdout, server.stderr]) stream.on('data', (text) => { server.said += text; });
  await until(() => {
    if (server.exitCode !== null) throw new Error(`the server ended at its start:\n${server.said}`);
    return server.said.includes('is running at');
  }, 'the server says that it runs');
}

before(async () => {
  const place = scratch('commands');
  dir = place.dir;
  port = await freePort();
  // What systemd does here: it ends the server, and is told to start one that this test starts.
  writeFileSync(join(dir, 'bin/systemctl'), '#!/bin/bash\n[ "$1" = start ] && exit\nkill "$(cat server.pid)" && while kill -0 "$(cat server.pid)" 2>/dev/null; do sleep 0.05; done\n', { mode: 0o755 });
  env = { PATH: place.path, HOME: dir, ACADEMY_RT_STORAGE_MIN_FREE: '0', ACADEMY_RT_SERVER_LISTEN: `127.0.0.1:${port}` };
});

after(async () => {
  if (server?.exitCode === null) server.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

test('README.md: serve needs no configuration, and says what to try next', async () => {
  const [command, tests] = readme('serve', { 'cargo run --release --': 'academy-rt' }).split('\n');
  assert.match(tests, /^tests\/run +#/);
  await start(command);
  writeFileSync(join(dir, 'server.pid'), String(server.pid));
  const data = join(dir, 'academy-rt-data');
  assert.equal(statSync(data).mode & 0o777, 0o700);
  assert.ok(existsSync(join(data, 'tls/cert.pem')) && existsSync(join(data, 'jwt-secret')));
  const [, next] = /\n +(\S+ token issue [^\n]+)\n/.exec(server.said) ?? assert.fail(server.said);
  assert.match(await shell(next), /^[\w-]+\.[\w-]+\.[\w-]+$/m);
});

test('README.md: one client', async () => {
  writeFileSync(join(dir, 'client.mjs'), readme('client.mjs', { 8443: String(port) }));
  const said = (await shell(readme('client', { 'target/release/academy-rt': 'academy-rt' }))).trim().split('\n').sort();
  // Its id is one of the whole server's: the records of the tokens that were issued have ids before it.
  assert.match(said.pop(), /^stored as \d+ with number 1$/);
  assert.deepEqual(said, ['7 says Hello!', 'lesson 42 has version 1', "signed in as 7 in [ 'learner', 'user:7', 'all' ]"]);
});

test('README.md: one broadcast, with a token and without', async () => {
  const text = readme('broadcast', { 'target/release/academy-rt': 'academy-rt', 8443: String(port), 'curl --cacert': 'curl -s --cacert' });
  const [, answer] = /^# (\{.*\})$/m.exec(text);
  assert.deepEqual(JSON.parse(await shell(text)), JSON.parse(answer));
  const [, local] = /no token is needed: `([^`]+)`/.exec(readFileSync(join(docs, '../README.md'), 'utf8'));
  assert.match(await shell(local), /sent to 0 sockets/);
});

test('docs/http.md: the control socket needs no token', async () => {
  const text = fitted(block('http.md', 'command=control'), { '/run/academy-rt/': 'academy-rt-data/' });
  assert.equal(JSON.parse(await shell(text)).ready, true);
});

test('docs/sdk.md: a service token, and the files of the SDK', async () => {
  env.CURL_CA_BUNDLE = join(dir, 'academy-rt-data/tls/cert.pem');
  const text = fitted(block('sdk.md', 'command=service'), { 'https://rt.example.org': `https://127.0.0.1:${port}`, 'curl -O': 'curl -fsSO' });
  const [, claims] = (await shell(text)).trim().split('.');
  assert.equal(JSON.parse(Buffer.from(claims, 'base64url')).scope, 'broadcast notify');
  for (const name of ['broadcast-service.js', 'broadcast-service.d.ts']) {
    assert.equal(readFileSync(join(dir, name), 'utf8'), readFileSync(join(docs, '../assets/sdk', name), 'utf8'));
  }
});

test('docs/admin.md: backups', async () => {
  // Who can read an encrypted one is for tests/it/backup.rs.
  const text = fitted(block('admin.md', 'command=backup'), { '/var/backups/academy-rt': 'backups', ' --recipient age1...': '' });
  mkdirSync(join(dir, 'backups'));
  await shell(text);
  assert.ok(existsSync(join(dir, 'monday.backup')));
  assert.equal(readdirSync(join(dir, 'backups')).length, 1);
});

test("docs/admin.md: people's data", async () => {
  const said = await shell(block('admin.md', 'command=people'));
  assert.match(readFileSync(join(dir, 'ann.json'), 'utf8'), /"content":"Hello!"/);
  for (const expected of [/user\.erase/, /hold\.set/, /user\.export/]) assert.match(said, expected);
});

test('docs/admin.md: a restore, and the way back', async () => {
  const said = await shell(block('admin.md', 'command=restore'));
  await until(() => server.exitCode !== null, 'the server has ended');
  assert.equal(server.exitCode, 0, server.said);
  assert.match(said, /restore --undo/, 'it says how to go back');
  await start('academy-rt serve');
  const acts = (await shell('academy-rt audit list')).split('\n').flatMap((line) => /: (restore\S*) .*: done$/.exec(line)?.[1] ?? []);
  assert.deepEqual(acts, ['restore', 'restore.undo']);
});
