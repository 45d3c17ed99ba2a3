// The configurations of docs/deploy.md, as they stand there: each proxy is started with its own, the server with its own, and a
// stock client goes through them. Only paths, ports and the server's address are replaced.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, test } from 'node:test';
import { io } from 'socket.io-client';
import { Appliance, all, ask, binary, freePort, heard, noLimits, secret, token, until } from '../clients/harness.mjs';
import { block, fitted } from './blocks.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const NAME = 'rt.example.ca';
// The client's own address: another one than the proxies connect from, so that the two can be told apart.
const CLIENT = '127.0.0.2';
const WAIT_S = 30;

let dir;
let certificate;
const started = [];

before(() => {
  dir = mkdtempSync(join(tmpdir(), 'academy-rt-deploy-'));
  // The page's own command makes the certificate.
  const made = spawnSync('bash', ['-ec', block('deploy.md', 'deploy=certificate')], { cwd: dir, encoding: 'utf8' });
  assert.equal(made.status, 0, made.stderr);
  certificate = readFileSync(join(dir, 'cert.pem'));
  writeFileSync(join(dir, 'both.pem'), Buffer.concat([certificate, readFileSync(join(dir, 'key.pem'))]));
});

after(async () => {
  for (const end of started.reverse()) await end();
  rmSync(dir, { recursive: true, force: true });
});

/** The server as an administrator starts it: its address and its TLS are in the configuration alone. */
class Configured extends Appliance {
  get ca() {
    return this.tls ? certificate : undefined;
  }

  async launch() {
    const env = { PATH: process.env.PATH, JWT_SECRET: secret, ACADEMY_RT_STORAGE_MIN_FREE: '0', ...noLimits };
    this.child = spawn(binary, ['--config', this.file, 'serve', '--data-dir', this.data], { env, stdio: ['ignore', 'ignore', 'pipe'] });
    this.stdout = '';
    this.stderr = '';
    this.child.stderr.on('data', (text) => { this.stderr += text; });
    this.exited = new Promise((resolve) => this.child.once('exit', (code, signal) => resolve({ code, signal })));
    await until(() => {
      if (this.child.exitCode !== null) throw new Error(`the server ended at its start:\n${this.stderr}`);
      return this.fetch('/readyz').then(({ status }) => status === 200, () => false);
    }, 'the server is ready');
  }
}

/** A server with a configuration of the page, which has this address in it. */
async function serverWith(name, address, { tls = false, replacements = {} } = {}) {
  const server = new Configured();
  const port = await freePort();
  const file = join(dir, `${name}-${port}.toml`);
  writeFileSync(file, fitted(block('deploy.md', `deploy=${name}`), { [address]: `127.0.0.1:${port}`, ...replacements }));
  Object.assign(server, { tls, port, file, dir: mkdtempSync(join(dir, 'server-')) });
  started.push(() => server.stop());
  await server.launch();
  return server;
}

/** Starts a program and waits until it answers on the port. */
async function program(command, args, port, { env = {}, cwd = dir, scheme = 'https', path = '/readyz' } = {}) {
  const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  let exit;
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => { said += text; });
  const exited = new Promise((resolve) => child.once('exit', (code) => { exit = code ?? 'killed'; resolve(); }));
  child.once('error', (error) => { exit = String(error); });
  started.push(async () => {
    if (exit === undefined) child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), 5_000);
    await exited;
    clearTimeout(timer);
  });
  await until(async () => {
    if (exit !== undefined) throw new Error(`${command} ended (${exit}):\n${said}`);
    return fetched(`${scheme}://${NAME}:${port}`, path).then(({ status }) => status === 200, () => false);
  }, `${command} passes on ${path}`);
}

/** What stands between a proxy and the server, and sees for how long a connection has idled when a request comes on it. */
class Tap {
  connections = [];

  static async before(server) {
    const tap = new Tap();
    const listener = createServer((near) => {
      const far = connect(server.port, '127.0.0.1');
      const one = { asked: [], heard: Date.now(), idledMs: 0 };
      tap.connections.push(one);
      const end = () => {
        near.destroy();
        far.destroy();
      };
      near.on('data', (data) => {
        const [line] = data.toString('latin1').split('\r\n', 1);
        if (/ HTTP\/1\.1$/.test(line)) {
          // Its first request comes at once.
          if (one.asked.length > 0) one.idledMs = Math.max(one.idledMs, Date.now() - one.heard);
          one.asked.push(line);
        }
        one.heard = Date.now();
        far.write(data);
      });
      far.on('data', (data) => {
        one.heard = Date.now();
        near.write(data);
      });
      for (const side of [near, far]) side.on('error', end).on('close', end);
    });
    await new Promise((resolve) => { listener.listen(0, '127.0.0.1', resolve); });
    tap.port = listener.address().port;
    started.push(() => { listener.close(); });
    return tap;
  }
}

function checked(command, ...args) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: dir, encoding: 'utf8' });
  assert.equal(status, 0, `${command} ${args.join(' ')}:\n${stdout}${stderr}`);
}

/** The way of a client to the name: its address is found as if by DNS, and it comes from an address of its own. */
function way(url) {
  const lookup = (_name, { all: isForAll } = {}, done) => (isForAll ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4));
  const options = { lookup, localAddress: CLIENT, ca: certificate };
  return url.startsWith('https:') ? new HttpsAgent(options) : new HttpAgent(options);
}

function fetched(base, path, { headers = {}, claims, method = 'GET', body, timeoutMs = 45_000 } = {}) {
  return new Promise((resolve, reject) => {
    const auth = claims ? { authorization: `Bearer ${token(claims)}` } : {};
    const send = base.startsWith('https:') ? httpsRequest : httpRequest;
    const sent = send(`${base}${path}`, { agent: way(base), method, headers: { ...auth, ...headers } }, (answer) => {
      let raw = '';
      answer.on('data', (part) => { raw += part; });
      answer.on('end', () => {
        let json;
        try { json = JSON.parse(raw); } catch { /* not JSON */ }
        resolve({ status: answer.statusCode, headers: answer.headers, raw, json });
      });
    });
    sent.setTimeout(timeoutMs, () => sent.destroy(new Error('no answer')));
    sent.on('error', reject);
    sent.end(body);
  });
}

/** A stock client through the proxy; `transports` as an application gives them. */
async function arrived(base, claims, transports, options = {}) {
  const socket = io(base, { path: '/ws', auth: { token: token(claims) }, forceNew: true, reconnection: false, transports, agent: way(base), ...options });
  started.push(() => { socket.disconnect(); });
  socket.heard = [];
  socket.onAny((event, payload) => socket.heard.push({ event, payload }));
  socket.on('connect_error', (error) => socket.heard.push({ event: 'connect_error', payload: `${error.message} ${error.description ?? ''} ${error.context?.responseText ?? ''}` }));
  await heard(socket, 'authenticated');
  return socket;
}

/** What holds for each proxy. `from` gives its public address once it runs. */
function passesOn(name, from) {
  let base;
  before(async () => { base = await from(); });

  test(`${name}: a stock client chats over WebSocket, over polling, and by the upgrade from one to the other`, async () => {
    const ann = await arrived(base, { userId: 1, name: 'Ann' }, ['websocket']);
    const bob = await arrived(base, { userId: 2, name: 'Bob' }, ['polling']);
    const cid = await arrived(base, { userId: 3, name: 'Cid' }, ['polling', 'websocket']);
    await until(() => cid.io.engine.transport.name === 'websocket', 'the upgrade to WebSocket is done');
    assert.deepEqual([ann, bob].map((one) => one.io.engine.transport.name), ['websocket', 'polling']);
    const people = [ann, bob, cid];
    for (const one of people) assert.ok((await ask(one, 'chat:join', { roomId: name })).ok);
    for (const [at, one] of people.entries()) assert.ok((await ask(one, 'chat:message', { roomId: name, content: `hello ${at}` })).ok);
    for (const one of people) {
      await until(() => all(one, 'chat:message').length === 3, 'all three messages have come');
      assert.deepEqual(all(one, 'chat:message').map(({ content }) => content), ['hello 0', 'hello 1', 'hello 2']);
    }
  });

  test(`${name}: a long poll waits its ${WAIT_S} seconds, an idle WebSocket outlives it, and both still hear what is said`, async () => {
    const idle = await arrived(base, { userId: 4, name: 'Dan' }, ['websocket']);
    const eve = { claims: { userId: 5, name: 'Eve' } };
    const polled = (cursor, rooms = '') => fetched(base, `/api/v1/events?wait=${WAIT_S}&cursor=${encodeURIComponent(cursor)}${rooms}`, eve);
    // Without a cursor the server answers at once with one.
    const { json: { cursor } } = await fetched(base, '/api/v1/events', eve);
    const began = Date.now();
    const silent = await polled(cursor);
    assert.equal(silent.status, 200, silent.raw);
    assert.deepEqual(silent.json.events, []);
    assert.ok(Date.now() - began >= (WAIT_S - 1) * 1000, 'it has waited');
    const poll = polled(silent.json.cursor, `&rooms=idle-${name}`);
    assert.ok((await ask(idle, 'chat:message', { roomId: `idle-${name}`, content: 'still here' })).ok, 'the idle socket still works');
    assert.ok((await poll).json.events.some(({ event, payload }) => event === 'chat:message' && payload.content === 'still here'));
  });

  test(`${name}: the server sees the client's address, and not one that the client claims`, async () => {
    const claims = { userId: 9, role: 'admin' };
    for (const headers of [{}, { 'x-forwarded-for': '203.0.113.9' }]) {
      const { status, json, raw } = await fetched(base, '/api/v1/admin/status', { claims, headers });
      assert.equal(status, 200, raw);
      assert.equal(json.seenFrom, CLIENT);
    }
    // A refused token over WebSocket has its record in the audit trail with the address, too.
    const refused = io(base, { path: '/ws', auth: { token: token({ userId: 66 }, { key: 'somebody else\'s secret, long enough' }) }, forceNew: true, reconnection: false, transports: ['websocket'], agent: way(base), extraHeaders: { 'x-forwarded-for': '203.0.113.9' } });
    await new Promise((resolve) => { refused.on('auth_error', resolve); });
    refused.disconnect();
    const records = await until(async () => {
      const { json } = await fetched(base, '/api/v1/admin/audit?limit=100', { claims });
      const found = json.items.filter((record) => JSON.stringify(record).includes('token_invalid'));
      return found.length > 0 && found;
    }, 'the refusal is in the audit trail');
    assert.ok(records.every((record) => JSON.stringify(record).includes(CLIENT)), JSON.stringify(records));
    assert.ok(!JSON.stringify(records).includes('203.0.113.9'));
  });

  test(`${name}: a page of the same host may connect, one of another site may not`, async () => {
    const asked = (origin) => fetched(base, '/ws/?EIO=4&transport=polling', { headers: { origin } });
    assert.equal((await asked(base)).status, 200);
    // What a page of this host asks says its port, and the browser says where it is from; a page of another port is of another site.
    const { host } = new URL(base);
    const ofPage = await fetched(base, '/ws/?EIO=4&transport=polling', { headers: { origin: base, host, 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors', referer: `${base}/page.html` } });
    assert.equal(ofPage.status, 200, ofPage.raw);
    assert.equal((await asked(base.replace(/:[0-9]+$/, ':1'))).status, 403);
    const other = await asked('https://elsewhere.example');
    assert.equal(other.status, 403);
    assert.match(other.json.error.message, /add it to server.cors_origins/);
  });

  test(`${name}: a request nearly as large as the server takes is passed on to it`, async () => {
    const body = JSON.stringify({ content: 'x'.repeat(950_000) });
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const { json, raw } = await fetched(base, '/api/v1/rooms/1/messages', { method: 'POST', claims: { userId: 1 }, headers, body });
    // The server itself finds the message too long, and says which field it is.
    assert.equal(json?.error?.field, 'content', raw);
  });

  test(`${name}: one that is larger is refused by the server, and the client hears it`, async () => {
    const body = JSON.stringify({ content: 'x'.repeat(1_900_000) });
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    for (let time = 0; time < 5; time += 1) {
      const { status, json, raw } = await fetched(base, '/api/v1/rooms/1/messages', { method: 'POST', claims: { userId: 1 }, headers, body });
      assert.deepEqual([status, json?.error?.code], [413, 'too_large'], raw);
    }
  });
}

/** What holds for each proxy that keeps connections to the server. */
function keepsConnections(name, base, tap) {
  test(`${name}: no request goes by a connection that the server is about to end, and a POST around that time is no 502`, async () => {
    const claims = { userId: 1, name: 'Ann' };
    let n = 0;
    const posted = async (when) => {
      const body = JSON.stringify({ content: `${n += 1}` });
      const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
      const { status, raw } = await fetched(base(), '/api/v1/rooms/edge/messages', { method: 'POST', claims, headers, body });
      assert.equal(status, 200, `after ${when} s: ${raw}`);
    };
    // Many at once, so that many connections are open, and idle then.
    const crowd = async (edge) => {
      const { json: { cursor } } = await fetched(base(), '/api/v1/events', { claims });
      await Promise.all(Array.from({ length: 8 }, () => fetched(base(), `/api/v1/events?room=${edge}&wait=1&cursor=${encodeURIComponent(cursor)}`, { claims })));
    };
    const began = Date.now();
    const after = (seconds) => until(() => Date.now() - began >= seconds * 1_000, 'it is time', 90_000);
    await crowd('first');
    assert.ok(tap().connections.filter(({ asked }) => asked.some((line) => line.includes('room=first'))).length >= 4, 'several connections were open');
    for (const seconds of [3, 5, 5.5, 10, 15, 15.2, 30, 45, 58, 59, 59.5, 60, 60.5, 61, 62, 65]) {
      await after(seconds);
      await posted(seconds);
    }
    // The server ends what has idled for 75 seconds: the page lets the proxies do so before that.
    await after(71);
    await Promise.all([crowd('second'), ...Array.from({ length: 8 }, () => posted(71))]);
    for (const seconds of [75, 76, 76.5, 77]) {
      await after(seconds);
      await Promise.all(Array.from({ length: 4 }, () => posted(seconds)));
    }
    const longest = Math.max(...tap().connections.map(({ idledMs }) => idledMs));
    assert.ok(longest < 65_000, `a request came by a connection that had idled for ${longest} ms`);
  });
}

/** What holds below a path. */
function belowPath(name, base) {
  test(`${name}: all of it works below a path, too`, async () => {
    for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
      const socket = await arrived(base(), { userId: 1, name: 'Ann' }, transports, { path: '/rt/ws' });
      if (transports.length > 1) await until(() => socket.io.engine.transport.name === 'websocket', 'the upgrade to WebSocket is done');
      assert.ok((await ask(socket, 'chat:join', { roomId: `below-${name}` })).ok);
      assert.ok((await ask(socket, 'chat:message', { roomId: `below-${name}`, content: String(transports) })).ok);
      await heard(socket, 'chat:message', ({ content }) => content === String(transports));
    }
    const { status, json } = await fetched(base(), '/rt/api/v1/session', { claims: { userId: 1 } });
    assert.deepEqual([status, json.userId], [200, 1]);
    const own = await fetched(base(), '/rt/sdk/server.json');
    assert.deepEqual([own.status, own.json.path], [200, '/ws'], own.raw);
    assert.match((await fetched(base(), '/rt/sdk/academy-rt.js')).raw, /export/);
  });

  test(`${name}: a room with a slash in its name is one, by itself and below a path`, async () => {
    for (const [at, path] of ['', '/rt'].entries()) {
      const body = JSON.stringify({ content: `hello ${at}` });
      const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
      // The second one is no other way to write the first.
      for (const id of [`a/b,é-${name}`, `a%2Fb,é-${name}`, `c%d-${name}`]) {
        const room = `${path}/api/v1/rooms/${encodeURIComponent(id)}/messages`;
        assert.equal((await fetched(base(), room, { method: 'POST', claims: { userId: 1 }, headers, body })).status, 200);
        const { json, raw } = await fetched(base(), room, { claims: { userId: 1 } });
        assert.deepEqual(json.messages?.map(({ content }) => content), ['hello 0', 'hello 1'].slice(0, at + 1), raw);
      }
    }
  });

  test(`${name}: what the server does not compress is not compressed on the way`, async () => {
    for (const path of ['', '/rt']) {
      const room = `${path}/api/v1/rooms/plain-${name}/messages`;
      const body = JSON.stringify({ content: 'word '.repeat(700) });
      const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
      assert.equal((await fetched(base(), room, { method: 'POST', claims: { userId: 1 }, headers, body })).status, 200);
      const { headers: answered, raw } = await fetched(base(), room, { claims: { userId: 1 }, headers: { 'accept-encoding': 'gzip' } });
      assert.equal(answered['content-encoding'], undefined);
      assert.ok(raw.includes('word word'));
    }
  });
}

function redirects(name, plainPort, base) {
  test(`${name}: port 80 redirects to HTTPS, and the answers carry HSTS`, async () => {
    const { status, headers } = await fetched(`http://${NAME}:${plainPort()}`, '/healthz');
    assert.ok([301, 308].includes(status), String(status));
    assert.match(headers.location, /^https:\/\/rt\.example\.ca.*\/healthz$/);
    assert.match((await fetched(base(), '/healthz')).headers['strict-transport-security'], /max-age=31536000/);
  });
}

const backend = (server) => ({ '127.0.0.1:8080': `127.0.0.1:${server.tap.port}` });

async function behindProxy() {
  const server = await serverWith('behind-proxy', '127.0.0.1:8080');
  server.tap = await Tap.before(server);
  return server;
}

const path = (name) => block('deploy.md', `deploy=${name}`);

describe('the proxies of docs/deploy.md', { concurrency: true }, () => {
  describe('nginx', () => {
    let plain;
    let base;
    let server;
    passesOn('nginx', async () => {
      server = await behindProxy();
      const port = await freePort();
      plain = await freePort();
      const site = join(dir, 'nginx-site.conf');
      const withPath = fitted(block('deploy.md', 'deploy=nginx'), { '    location / {': `${path('nginx-path')}\n    location / {` });
      writeFileSync(site, path('nginx-path-map') + fitted(withPath, {
        ...backend(server), 'listen 80;': `listen 127.0.0.1:${plain};`, 'listen 443 ssl;': `listen 127.0.0.1:${port} ssl;`, '/etc/nginx/tls': dir,
      }));
      // What Debian's nginx.conf has around the site, without its log files.
      const whole = join(dir, 'nginx.conf');
      mkdirSync(join(dir, 'nginx'));
      const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${dir}/nginx/${kind};`).join(' ');
      writeFileSync(whole, `daemon off; user root; pid ${dir}/nginx/pid; error_log stderr; events {} http { access_log off; ${temporary} include ${site}; }\n`);
      checked('nginx', '-t', '-e', 'stderr', '-c', whole);
      base = `https://${NAME}:${port}`;
      await program('nginx', ['-e', 'stderr', '-c', whole], port);
      return base;
    });
    redirects('nginx', () => plain, () => base);
    keepsConnections('nginx', () => base, () => server.tap);
    belowPath('nginx', () => base);
  });

  describe('HAProxy', () => {
    let plain;
    let base;
    let server;
    passesOn('HAProxy', async () => {
      server = await behindProxy();
      const port = await freePort();
      plain = await freePort();
      const file = join(dir, 'haproxy.cfg');
      writeFileSync(file, fitted(block('deploy.md', 'deploy=haproxy') + path('haproxy-path'), {
        ...backend(server), 'bind :80': `bind 127.0.0.1:${plain}`, 'bind :443': `bind 127.0.0.1:${port}`, '/etc/haproxy/tls/rt.example.ca.pem': join(dir, 'both.pem'),
      }));
      checked('haproxy', '-c', '-f', file);
      base = `https://${NAME}:${port}`;
      await program('haproxy', ['-db', '-f', file], port);
      return base;
    });
    redirects('HAProxy', () => plain, () => base);
    keepsConnections('HAProxy', () => base, () => server.tap);
    belowPath('HAProxy', () => base);
  });

  describe('HAProxy by the PROXY protocol', () => {
    passesOn('HAProxy-TCP', async () => {
      // From an address of its own: this test asks the server itself, too, and is no proxy.
      const replacements = { '10.0.0.5': '127.0.0.3', '/etc/academy-rt/tls': dir };
      const server = await serverWith('proxy-protocol', '10.0.0.8:443', { tls: true, replacements });
      const port = await freePort();
      const file = join(dir, 'haproxy-tcp.cfg');
      writeFileSync(file, fitted(block('deploy.md', 'deploy=haproxy-tcp'), {
        '10.0.0.8:443': `127.0.0.1:${server.port} source 127.0.0.3`, 'bind :443': `bind 127.0.0.1:${port}`,
      }));
      checked('haproxy', '-c', '-f', file);
      await program('haproxy', ['-db', '-f', file], port);
      return `https://${NAME}:${port}`;
    });
  });

  describe('Apache', () => {
    let plain;
    let base;
    let server;
    passesOn('Apache', async () => {
      server = await behindProxy();
      const port = await freePort();
      plain = await freePort();
      const site = join(dir, 'apache-site.conf');
      const proxied = '    ProxyPass / ';
      writeFileSync(site, fitted(fitted(block('deploy.md', 'deploy=apache'), { [proxied]: `${path('apache-path')}${proxied}` }), {
        ...backend(server), '*:80>': `127.0.0.1:${plain}>`, '*:443>': `127.0.0.1:${port}>`, '/etc/apache2/tls': dir,
      }));
      // What Debian has around the site, and the modules that the page names.
      const modules = ['mpm_event', 'authz_core', 'alias', 'env', 'setenvif', 'filter', 'deflate', 'reqtimeout', 'socache_shmcb', 'ssl', 'headers', 'proxy', 'proxy_http', 'proxy_wstunnel'];
      const file = join(dir, 'apache.conf');
      mkdirSync(join(dir, 'apache'));
      writeFileSync(file, [
        ...modules.map((module) => `LoadModule ${module}_module /usr/lib/apache2/modules/mod_${module}.so`),
        `ServerRoot ${dir}/apache`, `DefaultRuntimeDir ${dir}/apache`, `PidFile ${dir}/apache/pid`, `ErrorLog ${dir}/apache/error.log`, 'User www-data', 'Group www-data', `ServerName ${NAME}`,
        `Listen 127.0.0.1:${plain}`, `Listen 127.0.0.1:${port}`, 'RequestReadTimeout header=20-40,minrate=500', 'RequestReadTimeout body=20,minrate=500', 'AddOutputFilterByType DEFLATE text/html text/plain application/json', `Include ${site}`, '',
      ].join('\n'));
      checked('apache2', '-t', '-f', file);
      base = `https://${NAME}:${port}`;
      await program('apache2', ['-D', 'FOREGROUND', '-f', file], port);
      return base;
    });
    redirects('Apache', () => plain, () => base);
    keepsConnections('Apache', () => base, () => server.tap);
    belowPath('Apache', () => base);
  });

  describe('Caddy', () => {
    let plain;
    let base;
    let server;
    passesOn('Caddy', async () => {
      server = await behindProxy();
      const port = await freePort();
      plain = await freePort();
      const file = join(dir, 'Caddyfile');
      const ports = `{\n\tadmin off\n\thttp_port ${plain}\n\thttps_port ${port}\n}\n`;
      writeFileSync(file, ports + fitted(fitted(block('deploy.md', 'deploy=caddy'), { '\treverse_proxy': `${path('caddy-path')}\treverse_proxy` }), { ...backend(server), '/etc/caddy/tls': dir }));
      const args = ['--config', file, '--adapter', 'caddyfile'];
      checked('caddy', 'validate', ...args);
      base = `https://${NAME}:${port}`;
      await program('caddy', ['run', ...args], port, { env: { HOME: dir, XDG_DATA_HOME: dir, XDG_CONFIG_HOME: dir } });
      return base;
    });
    redirects('Caddy', () => plain, () => base);
    keepsConnections('Caddy', () => base, () => server.tap);
    belowPath('Caddy', () => base);
  });

  describe('Express', () => {
    let base;
    passesOn('Express', async () => {
      const server = await behindProxy();
      const port = await freePort();
      const app = mkdtempSync(join(dir, 'express-'));
      writeFileSync(join(app, 'server.mjs'), block('deploy.md', 'deploy=express'));
      symlinkSync(join(here, 'node_modules'), join(app, 'node_modules'));
      base = `http://${NAME}:${port}`;
      const env = { REALTIME_URL: server.url, PORT: String(port) };
      // The health check is not among the paths that Express passes on.
      await program(process.execPath, ['server.mjs'], port, { cwd: app, env, scheme: 'http', path: '/sdk/academy-rt.js' });
      return base;
    });

    test('Express: its own pages are served beside it, and the SDK comes through', async () => {
      assert.equal((await fetched(base, '/')).raw, 'The pages of the platform');
      assert.match((await fetched(base, '/sdk/academy-rt.js')).raw, /export/);
    });
  });

  describe('the server by itself', () => {
    let server;
    before(async () => {
      server = await serverWith('direct', '0.0.0.0:443', { tls: true, replacements: { '/etc/academy-rt/tls': dir } });
    });

    test('by itself: a stock client that trusts the certificate chats, over both transports', async () => {
      const base = `https://${NAME}:${server.port}`;
      for (const transport of ['websocket', 'polling']) {
        const socket = await arrived(base, { userId: 1 }, [transport]);
        assert.ok((await ask(socket, 'chat:message', { roomId: 1, content: transport })).ok);
      }
      assert.match((await fetched(base, '/healthz')).headers['strict-transport-security'], /max-age=31536000/);
    });

    test('by itself: pages of the listed origin may connect, others may not', async () => {
      const base = `https://${NAME}:${server.port}`;
      const asked = (origin) => fetched(base, '/ws/?EIO=4&transport=polling', { headers: { origin } });
      const listed = await asked('https://portal.example.ca');
      assert.equal(listed.status, 200);
      assert.equal(listed.headers['access-control-allow-origin'], 'https://portal.example.ca');
      const other = await asked('https://elsewhere.example');
      assert.equal(other.status, 403);
      assert.equal(other.json.error.message, 'this origin may not connect; add it to server.cors_origins');
    });
  });
});
