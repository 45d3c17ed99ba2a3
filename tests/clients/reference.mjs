// A socket.io server of Node as the reference of behaviour on the wire, and what raw bytes need to speak with it and with ours:
// the same words go to both, and what they do is compared.
import { randomBytes } from 'node:crypto';
import { createServer as createHttp, request } from 'node:http';
import { createConnection, createServer } from 'node:net';
import { Server } from 'socket.io';
import { Appliance, token, until } from './harness.mjs';

export const origin = 'http://allowed.example';

/** A socket.io server that greets who signs in, and acknowledges everything, a history with a long page. */
export class Reference {
  static async start(options = {}) {
    const reference = new Reference();
    reference.http = createHttp();
    reference.io = new Server(reference.http, { path: '/ws', cors: { origin: [origin], credentials: true }, httpCompression: { threshold: 1_024 }, ...options });
    reference.io.on('connection', (socket) => {
      socket.emit('authenticated', {});
      socket.onAny((event, ...rest) => {
        const ack = rest.at(-1);
        const messages = event === 'chat:history' ? { roomId: rest[0].roomId, messages: Array.from({ length: rest[0].limit }, (_, id) => ({ id, content: 'a message of the history' })) } : {};
        if (typeof ack === 'function') ack({ ok: true, ...messages });
      });
    });
    await new Promise((resolve) => { reference.http.listen(0, '127.0.0.1', resolve); });
    reference.port = reference.http.address().port;
    return reference;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async stop() {
    await this.io.close();
  }
}

/** Does the same to both servers at once, and gives what each has shown. */
export async function onBoth({ ours, node }, what) {
  const [ofOurs, ofNode] = await Promise.all([what(ours, 'ours'), what(node, 'node')]);
  return { ours: ofOurs, node: ofNode };
}

export async function startBoth({ env = {}, options = {} } = {}) {
  const [ours, node] = await Promise.all([Appliance.start({ env: { ACADEMY_RT_SERVER_CORS_ORIGINS: origin, ...env } }), Reference.start(options)]);
  return { ours, node, stop: () => Promise.all([ours.stop(), node.stop()]) };
}

/** One request over a connection of its own; `destroy` ends it. */
export function http(server, path, { method = 'GET', body, headers = {} } = {}) {
  let [sent, written] = [];
  const isWritten = new Promise((resolve) => { written = resolve; });
  const answer = new Promise((resolve, reject) => {
    sent = request({ host: '127.0.0.1', port: server.port, path, method, headers: body === undefined ? headers : { 'content-length': Buffer.byteLength(body), ...headers }, agent: false }, (got) => {
      const parts = [];
      got.on('data', (part) => parts.push(part));
      got.on('end', () => resolve({ status: got.statusCode, headers: got.headers, body: Buffer.concat(parts), text: Buffer.concat(parts).toString() }));
      got.on('error', reject);
    });
    sent.on('error', reject);
    sent.on('socket', (tcp) => tcp.once('connect', () => setImmediate(written)));
    sent.end(body);
  });
  answer.catch(() => {});
  return Object.assign(answer, { destroy: () => sent.destroy(), isWritten });
}

// A packet is known by its beginning, and an event by its name: a time may have any digits.
const is = (packet, what) => (/^[0-9]/.test(what) ? packet.startsWith(what) : packet.includes(`"${what}"`));

/** A session on polling, in raw requests. */
export class Polling {
  static async open(server, { claims = { userId: 7 }, auth = { token: token(claims) }, query = '', signIn = true } = {}) {
    const session = new Polling();
    session.server = server;
    session.packets = [];
    session.answers = 0;
    const { text } = await http(server, `/ws/?EIO=4&transport=polling${query}`);
    session.sid = JSON.parse(text.slice(1)).sid;
    if (signIn) {
      await session.say(`40${auth === undefined ? '' : JSON.stringify(auth)}`);
      await session.readUntil('authenticated');
    }
    return session;
  }

  get path() {
    return `/ws/?EIO=4&transport=polling&sid=${this.sid}`;
  }

  poll(headers) {
    const answer = http(this.server, this.path, { headers });
    answer.then(({ text, status }) => {
      this.answers += 1;
      this.last = status;
      if (status === 200) this.packets.push(...text.split('\x1e'));
    }, () => {});
    return answer;
  }

  say(body) {
    return http(this.server, this.path, { method: 'POST', body, headers: { 'content-type': 'text/plain;charset=UTF-8' } });
  }

  noops() {
    return this.packets.filter((packet) => packet === '6').length;
  }

  /** Polls, one behind another, until a packet has come; a poll that waits already is the first. Answers pings. */
  async readUntil(what, { waiting, most = 100 } = {}) {
    const found = () => this.packets.find((packet) => is(packet, what));
    let poll = waiting;
    for (let n = 0; !found(); n += 1) {
      if (n > most) throw new Error(`no ${what} in ${most} polls: ${this.packets}`);
      const { status, text } = await (poll ?? this.poll());
      poll = undefined;
      if (status !== 200) throw new Error(`a poll was answered ${status} ${text}`);
      if (text.split('\x1e').includes('2')) await this.say('3');
    }
    return found();
  }

  /** Polls for as long as something else is not done, as a client does. */
  keepPolling() {
    let stopped = false;
    const done = (async () => {
      while (!stopped) {
        const { status, text } = await this.poll().catch(() => ({}));
        if (status !== 200) return;
        if (text.split('\x1e').includes('2')) await this.say('3').catch(() => {});
      }
    })();
    return { stop: () => { stopped = true; return done; } };
  }
}

/** A frame as a client sends it. */
export function frame(payload, { opcode = 1, fin = true, masked = true, rsv = 0, length } = {}) {
  const data = Buffer.from(payload);
  const mask = randomBytes(4);
  const size = length ?? data.length;
  let head = [(fin ? 0x80 : 0) | rsv | opcode];
  if (size < 126) head.push((masked ? 0x80 : 0) | size);
  else if (size < 65536) head.push((masked ? 0x80 : 0) | 126, size >> 8, size & 255);
  else {
    const long = Buffer.alloc(8);
    long.writeBigUInt64BE(BigInt(size));
    head = [...head, (masked ? 0x80 : 0) | 127, ...long];
  }
  const body = masked ? Buffer.concat([mask, data.map((byte, at) => byte ^ mask[at % 4])]) : data;
  return Buffer.concat([Buffer.from(head), body]);
}

/** A WebSocket in raw bytes: what came, in the order in which it came. */
export class RawWebSocket {
  static open(server, { sid, headers = {}, path, key = randomBytes(16).toString('base64'), host = 'x' } = {}) {
    const raw = new RawWebSocket();
    const all = { ...(host ? { Host: host } : {}), Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': key, ...headers };
    const lines = Object.entries(all).filter(([, value]) => value !== undefined).map(([name, value]) => `${name}: ${value}`);
    raw.bytes = Buffer.alloc(0);
    raw.frames = [];
    raw.hasEnded = false;
    raw.tcp = createConnection(server.port, '127.0.0.1', () => {
      raw.tcp.write(`GET ${path ?? `/ws/?EIO=4&transport=websocket${sid ? `&sid=${sid}` : ''}`} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
    });
    raw.tcp.on('data', (data) => {
      raw.bytes = Buffer.concat([raw.bytes, data]);
      raw.read();
    });
    raw.tcp.on('error', () => {});
    raw.tcp.on('close', () => { raw.hasEnded = true; });
    return raw;
  }

  read() {
    if (this.head === undefined) {
      const end = this.bytes.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.head = this.bytes.subarray(0, end).toString();
      this.status = Number(this.head.split(' ')[1]);
      this.bytes = this.bytes.subarray(end + 4);
    }
    while (this.status === 101 && this.bytes.length >= 2) {
      const short = this.bytes[1] & 127;
      const at = short === 126 ? 4 : short === 127 ? 10 : 2;
      if (this.bytes.length < at) return;
      const length = short === 126 ? this.bytes.readUInt16BE(2) : short === 127 ? Number(this.bytes.readBigUInt64BE(2)) : short;
      if (this.bytes.length < at + length) return;
      const payload = this.bytes.subarray(at, at + length);
      const opcode = this.bytes[0] & 15;
      this.frames.push({ opcode, text: opcode === 1 ? payload.toString() : undefined, code: opcode === 8 ? (length >= 2 ? payload.readUInt16BE(0) : 1005) : undefined, at: Date.now() });
      this.bytes = this.bytes.subarray(at + length);
    }
  }

  // By a close frame, whoever hangs up first behind it; or without one.
  get isClosed() {
    return this.hasEnded || this.code() !== undefined;
  }

  async answered() {
    await until(() => this.head !== undefined || this.isClosed, 'the upgrade is answered');
    return this.status;
  }

  header(name) {
    return new RegExp(`^${name}: *(.*)$`, 'im').exec(this.head ?? '')?.[1];
  }

  texts() {
    return this.frames.filter(({ opcode }) => opcode === 1).map(({ text }) => text);
  }

  text(what) {
    return until(() => this.texts().find((text) => is(text, what)), `${what} comes; so far ${this.texts()}`);
  }

  code() {
    return this.frames.find(({ opcode }) => opcode === 8)?.code;
  }

  send(text, options) {
    this.tcp.write(frame(text, options));
  }

  async signIn(auth = { token: token({ userId: 7 }) }) {
    await this.text('0{');
    this.send(`40${auth === undefined ? '' : JSON.stringify(auth)}`);
    await this.text('authenticated');
  }

  closed(deadline) {
    return until(() => this.isClosed, 'the connection is closed', deadline);
  }

  destroy() {
    this.tcp.destroy();
  }
}

/** A box between a client and a server: it passes everything on, and a WebSocket up to the answer 101. Then it mutes it or cuts it. */
export async function box(server, how) {
  const state = { requests: 0, upgrades: 0, from: [] };
  const listener = createServer((client) => {
    const upstream = createConnection(server.port, '127.0.0.1');
    let [isUpgrade, head] = [false, ''];
    const end = () => {
      client.destroy();
      upstream.destroy();
    };
    client.on('data', (data) => {
      if (isUpgrade) return; // what the client says is heard by nobody
      const text = data.toString('latin1');
      state.requests += (text.match(/^(GET|POST) /gm) ?? []).length;
      isUpgrade = /^upgrade: *websocket/im.test(text);
      upstream.write(data);
    });
    upstream.on('data', (data) => {
      if (!isUpgrade) return client.write(data);
      if (head.includes('\r\n\r\n')) return undefined;
      head += data.toString('latin1');
      const at = head.indexOf('\r\n\r\n');
      if (at < 0) return undefined;
      state.upgrades += 1;
      client.write(Buffer.from(head.slice(0, at + 4), 'latin1'));
      if (how === 'cut') end();
      return undefined;
    });
    for (const one of [client, upstream]) {
      one.on('error', end);
      one.on('close', end);
    }
  });
  await new Promise((resolve) => { listener.listen(0, '127.0.0.1', resolve); });
  state.url = `http://127.0.0.1:${listener.address().port}`;
  state.stop = () => listener.close();
  return state;
}
