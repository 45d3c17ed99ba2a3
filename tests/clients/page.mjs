// A page with the SDK, as a front end has it: on a line of its own to a real server whose flag can be flipped live.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { io } from 'socket.io-client';
import { connect } from '../../assets/sdk/academy-rt.js';
import { Appliance, noLimits, token, until } from './harness.mjs';
import { Line } from './line.mjs';

// Tries and timeouts that suit a test: the pauses are short, and everything else is as it is.
const QUICK = { retryMinMs: 50, retryMaxMs: 400, connectTimeoutMs: 3_000, ackTimeoutMs: 2_000, pollWaitSeconds: 3 };

/** What of the Web Storage API a page has. */
export class MemoryStorage {
  #entries = new Map();

  get length() {
    return this.#entries.size;
  }

  key(index) {
    return [...this.#entries.keys()][index] ?? null;
  }

  getItem(key) {
    return this.#entries.get(key) ?? null;
  }

  setItem(key, value) {
    this.#entries.set(key, String(value));
  }

  removeItem(key) {
    this.#entries.delete(key);
  }

  /** How many requests wait in it. */
  get waiting() {
    return [...this.#entries.keys()].filter((key) => key.startsWith('academy-rt:outbox:')).length;
  }
}

export class Site {
  pages = new Set();

  static async open({ tls = false, env = noLimits } = {}) {
    const site = new Site();
    site.server = await Appliance.start({ tls, env });
    // From now on by a file: it may be changed while the server runs.
    await site.server.halt();
    site.server.env = { ...env, ACADEMY_RT_CONFIG: join(site.server.dir, 'a.toml') };
    site.#write(true);
    await site.server.launch();
    site.line = await Line.to(site.server.port);
    return site;
  }

  #write(isOn) {
    writeFileSync(join(this.server.dir, 'a.toml'), `[server]\nwebsocket_enabled = ${isOn}\n`);
  }

  /** Flips the flag of the live server. */
  async flip(isOn) {
    this.#write(isOn);
    await this.#reload();
  }

  /** Gives the live server another configuration. */
  async configure(text) {
    writeFileSync(join(this.server.dir, 'a.toml'), text);
    await this.#reload();
  }

  async #reload() {
    const before = this.server.stderr.length;
    this.server.child.kill('SIGHUP');
    await until(() => this.server.stderr.slice(before).includes('reloaded'), 'the reload is logged');
  }

  page(claims = {}, options = {}) {
    const { ca } = this.server;
    const page = connect({
      io,
      url: `${this.server.tls ? 'https' : 'http'}://127.0.0.1:${this.line.port}`,
      ...(options.getToken || options.cookie ? {} : { token: token(claims) }),
      ...(ca ? { fetch: trusting(ca), ioOptions: { ca } } : {}),
      ...QUICK,
      ...options,
    });
    this.pages.add(page);
    page.heard = [];
    page.onAny((event, payload) => page.heard.push({ event, payload }));
    for (const event of ['connect', 'disconnect', 'connect_error']) page.on(event, (payload) => page.heard.push({ event, payload }));
    return page;
  }

  /** A page that has arrived by the way named. */
  async arrived(claims, options = {}, by = 'realtime') {
    if (by === 'http') await this.flip(false);
    const page = this.page(claims, options);
    await isBy(page, by);
    return page;
  }

  async call(claims, method, path, body) {
    const answer = await this.server.fetch(`/api/v1${path}`, { claims, method, body });
    assert.equal(answer.status, 200, `${method} ${path}: ${answer.raw}`);
    return answer.json;
  }

  /** A whole room, as the store has it. */
  async room(roomId) {
    const all = [];
    for (let page = { hasMore: true }; page.hasMore;) {
      page = await this.call({ userId: 1, role: 'admin' }, 'GET', `/rooms/${roomId}/messages?limit=200&after=${all.at(-1)?.id ?? 0}`);
      all.push(...page.messages);
    }
    return all;
  }

  async close() {
    for (const page of this.pages) page.disconnect();
    await this.line.close();
    await this.server.stop();
  }
}

/** Waits until a page is connected by Socket.IO ('realtime'), or by HTTP ('http'), or not at all ('offline'). */
export function isBy(page, way) {
  const fits = { realtime: ['websocket', 'polling'], http: ['http'], offline: ['offline'] }[way];
  const heard = () => JSON.stringify(page.heard.slice(-8)).slice(0, 900);
  return until(() => fits.includes(page.transport), 'never', 30_000).catch(() => {
    throw new Error(`the page is not by ${way} but by ${page.transport}; the last it heard: ${heard()}`);
  });
}

/** fetch that trusts one certificate: as much of it as the SDK uses. */
function trusting(ca) {
  return (url, { method, headers, body, signal }) => new Promise((resolve, reject) => {
    const sent = request(url, { method, headers, ca, agent: false, signal }, (answer) => {
      let raw = '';
      answer.on('data', (part) => { raw += part; });
      answer.on('error', reject);
      answer.on('end', () => resolve({ status: answer.statusCode, headers: new Headers(answer.headers), text: async () => raw }));
    });
    sent.on('error', reject);
    sent.end(body);
  });
}
