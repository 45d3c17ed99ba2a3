// Fan-out against a socket.io 4 server on Node that stores alike, in one run: server CPU a delivery with one and with eight
// messages in flight, deliveries a second, and the memory of an idle WebSocket. The receivers are raw WebSockets, the same for
// both, so that the load costs little itself.
//
//   node fanout.mjs [--receivers 500] [--rounds 3] [--check]
//
// --check fails (exit status 1) where the ratio to Node is over 0.5 (one in flight), over 0.3 (eight), or an idle WebSocket
// needs over 25 KiB. CPU time is the kernel's own account of the server process (/proc/PID/stat).
import { spawn } from 'node:child_process';
import { createHmac, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { WebSocket } from 'ws';

const here = dirname(fileURLToPath(import.meta.url));
const { values } = parseArgs({
  options: {
    receivers: { type: 'string', default: '500' },
    rounds: { type: 'string', default: '3' },
    messages: { type: 'string', default: '400' },
    idle: { type: 'string', default: '2000' },
    check: { type: 'boolean', default: false },
    only: { type: 'string' },
  },
});
const receivers = Number(values.receivers);
const secret = randomBytes(32).toString('hex');
const binary = process.env.TESTED_BINARY ?? join(here, '../../target/release/academy-rt');

function token(userId) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const claims = { userId, name: `User ${userId}`, role: 'learner', iat: now, exp: now + 3600 };
  const body = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`;
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

async function until(condition, what, deadlineMs = 30_000) {
  const deadline = Date.now() + deadlineMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`gave up waiting: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function start(kind) {
  const dir = mkdtempSync(join(tmpdir(), 'fanout-'));
  const port = await freePort();
  const limits = ['MESSAGES_PER_SECOND', 'JOINS_PER_SECOND', 'CONNECTS_PER_SECOND', 'SOCKETS_PER_USER', 'BUDGET_PER_SECOND', 'STORED_PER_DAY'];
  const env = { ...process.env, JWT_SECRET: secret, ACADEMY_RT_STORAGE_MIN_FREE: '0' };
  for (const limit of limits) env[`ACADEMY_RT_LIMITS_${limit}`] = '0';
  const command = kind === 'node'
    ? [process.execPath, [join(here, 'node-server.mjs'), String(port), dir]]
    : [binary, ['serve', '-q', '--no-tls', '--listen', `127.0.0.1:${port}`, '--data-dir', join(dir, 'data')]];
  const child = spawn(...command, { env, stdio: ['ignore', 'ignore', 'inherit'] });
  const url = `http://127.0.0.1:${port}/readyz`;
  await until(() => fetch(url).then((answer) => answer.ok, () => false), `${kind} is ready`);
  return {
    kind, port, pid: child.pid,
    async stop() {
      child.kill('SIGTERM');
      await new Promise((resolve) => child.once('exit', resolve));
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  if (process.env.BENCH_SPLIT) console.log('user', fields[11], 'system', fields[12]);
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function rssKiB(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);
}

// A raw Socket.IO client: enough of the protocol to listen and to send.
class Client {
  constructor(server, userId) {
    this.events = 0;
    this.onEvent = () => {};
    this.acks = new Map();
    this.nextAck = 0;
    this.socket = new WebSocket(`ws://127.0.0.1:${server.port}/ws/?EIO=4&transport=websocket`, {
      perMessageDeflate: false,
    });
    this.ready = new Promise((resolve, reject) => {
      this.socket.on('error', reject);
      this.socket.on('message', (data) => {
        const [kind, packet] = [data[0], data[1]];
        if (kind === 0x30) this.socket.send(`40${JSON.stringify({ token: token(userId) })}`);
        else if (kind === 0x32) this.socket.send('3');
        else if (kind === 0x34 && packet === 0x33) {
          const [, id, body] = /^43(\d+)(.*)$/s.exec(data.toString());
          this.acks.get(Number(id))(JSON.parse(body)[0]);
          this.acks.delete(Number(id));
        } else if (kind === 0x34 && packet === 0x32) {
          // 42["chat:message", …  or  42["authenticated", …
          if (data[4] === 0x61) resolve(this);
          else if (data[9] === 0x6d) {
            this.events += 1;
            this.onEvent();
          }
        }
      });
    });
  }

  request(event, payload) {
    const id = this.nextAck++;
    return new Promise((resolve) => {
      this.acks.set(id, resolve);
      this.socket.send(`42${id}${JSON.stringify([event, payload])}`);
    });
  }
}

async function connect(server, many, firstUser) {
  const clients = [];
  for (let at = 0; at < many; at += 50) {
    const batch = Array.from({ length: Math.min(50, many - at) }, (_, i) => new Client(server, firstUser + at + i));
    clients.push(...(await Promise.all(batch.map((client) => client.ready))));
  }
  return clients;
}

// Sends `messages` messages, `inFlight` at a time: the next one goes when one has reached all receivers.
async function load(sender, clients, messages, inFlight) {
  const before = clients.map((client) => client.events);
  let sent = 0;
  let outstanding = 0;
  let arrived = 0;
  await new Promise((resolve, reject) => {
    const next = () => {
      while (sent < messages && outstanding < inFlight) {
        sent += 1;
        outstanding += 1;
        sender.request('chat:message', { roomId: 'bench', content: 'x'.repeat(100), type: 'text' }).then((answer) => {
          if (!answer.ok) reject(new Error(JSON.stringify(answer)));
        });
      }
    };
    for (const client of clients) {
      client.onEvent = () => {
        arrived += 1;
        if (arrived % clients.length === 0) {
          outstanding -= 1;
          if (arrived === messages * clients.length) resolve();
          else next();
        }
      };
    }
    next();
  });
  clients.forEach((client, i) => {
    if (client.events - before[i] !== messages) throw new Error('a receiver missed a message');
  });
}

async function measure(kind) {
  const server = await start(kind);
  try {
    const figures = {};
    const clients = await connect(server, receivers, 1);
    for (const client of clients) await client.request('chat:join', { roomId: 'bench' });
    await load(clients[0], clients, 50, 4);
    const messages = Number(values.messages);
    for (const [inFlight, factor] of [[1, 1], [8, 2]]) {
      const [cpu, began] = [cpuSeconds(server.pid), performance.now()];
      await load(clients[0], clients, messages * factor, inFlight);
      const deliveries = messages * factor * receivers;
      figures[`cpuUs${inFlight}`] = ((cpuSeconds(server.pid) - cpu) / deliveries) * 1e6;
      figures[`perSecond${inFlight}`] = deliveries / ((performance.now() - began) / 1000);
    }
    for (const client of clients) client.socket.terminate();
    return figures;
  } finally {
    await server.stop();
  }
}

async function idleKiB(kind) {
  const server = await start(kind);
  try {
    // The first ones pay for what the process allocates once.
    const warm = await connect(server, 200, 1);
    const before = rssKiB(server.pid);
    const clients = await connect(server, Number(values.idle), 1000);
    const each = (rssKiB(server.pid) - before) / clients.length;
    for (const client of [...warm, ...clients]) client.socket.terminate();
    return each;
  } finally {
    await server.stop();
  }
}

function median(list) {
  return list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
}

const kinds = values.only ? [values.only] : ['academy-rt', 'node'];
const runs = { 'academy-rt': [], node: [] };
for (let round = 0; round < Number(values.rounds); round += 1) {
  for (const kind of kinds) runs[kind].push(await measure(kind));
}
const of = (kind, figure) => median(runs[kind].map((run) => run[figure]));
const row = (name, ...cells) => console.log(name.padEnd(44), ...cells.map((cell) => String(cell).padStart(12)));
row(`fan-out to ${receivers} receivers, medians of ${values.rounds}`, ...kinds, kinds.length > 1 ? 'ratio' : '');
const failures = [];
for (const [figure, name, digits, limit] of [
  ['cpuUs1', 'CPU us a delivery, 1 message in flight', 2, 0.5],
  ['cpuUs8', 'CPU us a delivery, 8 messages in flight', 2, 0.3],
  ['perSecond1', 'deliveries a second, 1 in flight', 0],
  ['perSecond8', 'deliveries a second, 8 in flight', 0],
]) {
  const cells = kinds.map((kind) => of(kind, figure).toFixed(digits));
  if (kinds.length > 1) {
    const ratios = runs['academy-rt'].map((run, i) => run[figure] / runs.node[i][figure]);
    const ratio = median(ratios);
    cells.push(ratio.toFixed(2));
    if (limit && ratio > limit) failures.push(`${name}: ${ratio.toFixed(2)} of Node's, more than ${limit}`);
  }
  row(name, ...cells);
}
row('CPU s a million deliveries, 1 in flight', ...kinds.map((kind) => of(kind, 'cpuUs1').toFixed(2)));
const idle = {};
for (const kind of kinds) idle[kind] = await idleKiB(kind);
row(`KiB an idle WebSocket (of ${values.idle})`, ...kinds.map((kind) => idle[kind].toFixed(1)));
if (idle['academy-rt'] > 25) failures.push(`an idle WebSocket needs ${idle['academy-rt'].toFixed(1)} KiB, more than 25`);
if (values.check) {
  for (const failure of failures) console.log(`FAILED ${failure}`);
  const checks = 3;
  console.log(`${checks - failures.length} passed, ${failures.length} failed`);
  process.exitCode = failures.length > 0 ? 1 : 0;
}
