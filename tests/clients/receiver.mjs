// A receiver of webhooks, as a platform has one: it verifies each call with the published library, remembers what it took, and
// can be told to be slow, to refuse, to lie and to vanish.
import assert from 'node:assert/strict';
import { createServer as plain } from 'node:http';
import { createServer as overTls } from 'node:https';
import { Webhook } from 'standardwebhooks';
import { freePort, until } from './harness.mjs';

export class Receiver {
  /** Every call, in the order of its coming: { id, type, data, body, headers, path }. */
  calls = [];

  /** What is answered: a status, or { status, headers, body, hold } with hold a promise that is waited for. */
  answer = () => 204;

  static async start({ secret, tls, port } = {}) {
    const receiver = new Receiver();
    Object.assign(receiver, { secret, tls, port: port ?? await freePort() });
    await receiver.listen();
    return receiver;
  }

  get url() {
    return `${this.tls ? 'https' : 'http'}://127.0.0.1:${this.port}/hooks`;
  }

  async listen() {
    const handle = (request, response) => this.take(request, response).catch((error) => { this.fault = error; response.destroy(); });
    this.server = this.tls ? overTls(this.tls, handle) : plain(handle);
    this.server.keepAliveTimeout = 60_000;
    await new Promise((resolve) => { this.server.listen(this.port, '127.0.0.1', resolve); });
  }

  async take(request, response) {
    const parts = [];
    for await (const part of request) parts.push(part);
    const body = Buffer.concat(parts);
    // Throws at a signature that is not good.
    const event = new Webhook(this.secret).verify(body, request.headers);
    const call = { id: request.headers['webhook-id'], ...event, body, headers: request.headers, path: request.url };
    this.calls.push(call);
    const said = await this.answer(call, this.calls.length);
    const { status, headers = {}, body: text = '', hold } = typeof said === 'number' ? { status: said } : said;
    if (hold) await hold;
    call.status = status;
    response.writeHead(status, headers).end(text);
  }

  /** As a process that is killed: connections break, and nobody listens. */
  async die() {
    const closed = new Promise((resolve) => { this.server.close(resolve); });
    this.server.closeAllConnections();
    await closed;
  }

  async stop() {
    await this.die();
    if (this.fault) throw this.fault;
  }

  /** What was taken, each once, in the order of its first coming. */
  get taken() {
    const known = new Map();
    for (const call of this.calls) {
      if (call.status < 200 || call.status > 299 || call.type === 'test') continue;
      const before = known.get(call.id);
      if (before) assert.equal(before.type, call.type, 'the same id is the same event');
      else known.set(call.id, call);
    }
    return [...known.values()];
  }

  of(...types) {
    return this.taken.filter(({ type }) => types.includes(type));
  }

  has(type, fits = () => true) {
    return until(() => this.taken.find((one) => one.type === type && fits(one.data)), `the receiver has ${type}; it has ${JSON.stringify(this.calls.map(({ type: of, status }) => [of, status])).slice(-800)}`);
  }
}
