// One real server for a test: the release binary, a fresh data directory, a free port, ready when /readyz says so. Nothing
// waits for a fixed time: everything waits for a condition, with a deadline.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { io } from 'socket.io-client';
import { noteAnswer, watch } from './recorder.mjs';

const here = dirname(fileURLToPath(import.meta.url));
export const binary = process.env.TESTED_BINARY ?? join(here, '../../target/release/academy-rt');
export const secret = 'a secret of the test suite, long enough';
const DEADLINE_MS = 20_000;
// Set to 1: each server logs whatever it can, and what it has said is searched for tokens, secrets and messages at its end.
const isTraced = process.env.TESTED_AT_TRACE === '1';

export const noLimits = Object.fromEntries(
  ['MESSAGES_PER_SECOND', 'TYPING_PER_SECOND', 'SYNCS_PER_SECOND', 'JOINS_PER_SECOND', 'CONNECTS_PER_SECOND', 'SOCKETS_PER_USER', 'BUDGET_PER_SECOND', 'STORED_PER_DAY']
    .map((name) => [`ACADEMY_RT_LIMITS_${name}`, '0']),
);

// A token exactly as the academy's platform mints it.
export function token(claims = {}, { key = secret, alg = 'HS256' } = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const all = {
    userId: 7, openId: 'o-7', email: 'ann@example.org', name: 'Ann', role: 'learner', authMethod: 'password',
    iat: now, exp: now + 3600, ...claims,
  };
  const body = `${part({ alg, typ: 'JWT' })}.${part(all)}`;
  const whole = `${body}.${createHmac(`sha${alg.slice(2)}`, key).update(body).digest('base64url')}`;
  neverLogged(key, ...whole.split('.').slice(1));
  return whole;
}

// What no log may have: secrets, the payload and the signature of each token, and what people have written.
const hidden = new Set([secret]);

export function neverLogged(...texts) {
  for (const text of texts) if (typeof text === 'string' && text.length >= 12) hidden.add(text);
}

function neverLogThoseOf(payload) {
  for (const one of [payload].flat()) neverLogged(...['content', 'newContent', 'title', 'titleFr', 'messageFr'].map((name) => one?.[name]));
}

// What of it is in a text.
export function leaksIn(text) {
  return [...hidden].filter((one) => text.includes(one) || text.includes(encodeURIComponent(one)) || text.includes(JSON.stringify(one).slice(1, -1)));
}

export async function until(condition, what, deadlineMs = DEADLINE_MS) {
  const deadline = Date.now() + deadlineMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`gave up waiting until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export function freePort() {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

/** Random numbers of 0 to 1 that a seed determines. */
export function dice(from) {
  let state = from >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

export class Appliance {
  static async start({ tls = false, env = {}, flags = [], serveFlags = [], listen = '127.0.0.1', dir = mkdtempSync(join(tmpdir(), 'academy-rt-')) } = {}) {
    const appliance = new Appliance();
    await appliance.launchIn({ tls, env, flags, serveFlags, listen, dir });
    return appliance;
  }

  async launchIn({ tls = false, env, flags = [], serveFlags = [], listen = '127.0.0.1', dir }) {
    Object.assign(this, { tls, env, flags, serveFlags, listen, dir, port: await freePort() });
    await this.launch();
  }

  get data() {
    return join(this.dir, 'data');
  }

  get url() {
    return `${this.tls ? 'https' : 'http'}://127.0.0.1:${this.port}`;
  }

  get ca() {
    return this.tls ? readFileSync(join(this.data, 'tls/cert.pem')) : undefined;
  }

  async launch({ ready = 200 } = {}) {
    const args = [...this.flags, ...(isTraced ? ['-vv'] : []), 'serve', '--listen', `${this.listen}:${this.port}`, '--data-dir', this.data, ...(this.tls ? [] : ['--no-tls']), ...(this.serveFlags ?? [])];
    const env = { PATH: process.env.PATH, JWT_SECRET: secret, ACADEMY_RT_STORAGE_MIN_FREE: '0', ...this.env };
    this.child = spawn(this.program ?? binary, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.stderr = '';
    this.child.stderr.on('data', (text) => { this.stderr += text; });
    this.stdout = '';
    this.child.stdout.on('data', (text) => { this.stdout += text; });
    this.exited = new Promise((resolve) => this.child.once('exit', (code, signal) => resolve({ code, signal })));
    let gone = false;
    this.exited.then(() => { gone = true; });
    await until(async () => {
      if (gone) throw new Error(`the server ended at its start:\n${this.stderr}`);
      return this.fetch('/readyz').then(({ status }) => status === ready, () => false);
    }, 'the server is ready');
  }

  // Ends it as systemd does; work done or not, it must exit with 0. Its data stay, for another launch.
  async halt() {
    for (const socket of this.sockets) socket.disconnect();
    this.sockets.clear();
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill('SIGTERM');
      const { code } = await this.exited;
      assert.equal(code, 0, this.stderr);
    }
    if (isTraced) assert.deepEqual(leaksIn(this.stdout + this.stderr), [], 'what the server has said has what nobody may log');
  }

  async stop() {
    await this.halt();
    rmSync(this.dir, { recursive: true, force: true });
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.exited;
  }

  sockets = new Set();

  // A stock client.
  client(claims = {}, options = {}) {
    const auth = claims === null ? {} : { token: typeof claims === 'string' ? claims : token(claims) };
    const socket = io(this.url, {
      path: '/ws', auth, forceNew: true, reconnection: false, transports: ['websocket'], ca: this.ca, ...options,
    });
    this.sockets.add(socket);
    watch(socket);
    socket.heard = [];
    socket.onAny((event, payload) => {
      socket.heard.push({ event, payload });
      neverLogThoseOf(payload);
    });
    return socket;
  }

  // A stock client that is signed in.
  async signedIn(claims = {}, options = {}) {
    const socket = this.client(claims, options);
    await heard(socket, 'authenticated');
    return socket;
  }

  // HTTP with a bearer token; the body is JSON both ways.
  async fetch(path, { method = 'GET', claims, bearer, body, headers = {} } = {}) {
    const all = { ...headers };
    if (claims) all.authorization = `Bearer ${token(claims)}`;
    if (bearer) all.authorization = `Bearer ${bearer}`;
    const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
    if (text !== undefined) {
      all['content-type'] = 'application/json';
      all['content-length'] = Buffer.byteLength(text);
    }
    const answer = await (this.tls ? httpsFetch : plainFetch)(`${this.url}${path}`, { method, headers: all, body: text, ca: this.ca });
    noteAnswer({ method, url: path, sent: text, status: answer.status, type: answer.headers.get('content-type'), json: answer.json });
    return answer;
  }

  rssKiB() {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.child.pid}/status`, 'utf8'))[1]);
  }
}

function parse(raw) {
  try {
    return JSON.parse(raw);
  } catch {
    return undefined;
  }
}

async function plainFetch(url, { method, headers, body }) {
  const answer = await fetch(url, { method, headers, body });
  const raw = await answer.text();
  return { status: answer.status, headers: answer.headers, raw, json: parse(raw) };
}

function httpsFetch(url, { method, headers, body, ca }) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers, ca, agent: false }, (answer) => {
      let raw = '';
      answer.on('data', (part) => { raw += part; });
      answer.on('end', () => resolve({ status: answer.statusCode, headers: new Headers(answer.headers), raw, json: parse(raw) }));
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

// The first event of that name (that fits) which the socket has heard or will hear.
export async function heard(socket, event, fits = () => true) {
  const found = await until(
    () => socket.heard.find((one) => one.event === event && fits(one.payload)),
    `'${event}' is heard; so far: ${JSON.stringify(socket.heard).slice(0, 600)}`,
  );
  return found.payload;
}

export function all(socket, event) {
  return socket.heard.filter((one) => one.event === event).map((one) => one.payload);
}

export function ask(socket, event, payload) {
  return socket.timeout(DEADLINE_MS).emitWithAck(event, payload);
}

export function gone(socket) {
  return until(() => !socket.connected, 'the socket is disconnected');
}

export function assertRising(seqs, from = 1) {
  assert.deepEqual(seqs, Array.from(seqs, (_, i) => i + from));
}
