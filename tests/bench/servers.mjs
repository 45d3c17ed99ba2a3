// The servers of the bench, each on a port and with data of its own, and the load: `academy-rt bench`, the same for all of them.
// LOAD_BINARY is the program that makes the load [default: the one that is tested].
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const here = dirname(fileURLToPath(import.meta.url));
export const tested = () => process.env.TESTED_BINARY ?? join(here, '../../target/release/academy-rt');
const secret = randomBytes(32).toString('hex');
const LIFTED = [
  'MESSAGES_PER_SECOND', 'TYPING_PER_SECOND', 'SYNCS_PER_SECOND', 'JOINS_PER_SECOND', 'CONNECTS_PER_SECOND', 'SOCKETS_PER_USER',
  'BUDGET_PER_SECOND', 'STORED_PER_DAY',
];

const settings = () => Object.fromEntries(Object.entries(process.env).filter(([name]) => name.startsWith('ACADEMY_RT_')));

/** academy-rt: with the limits a user lifted, as one machine sends for hundreds, and with the settings that this program was given. */
export const academyRt = (binary, name = 'academy-rt') => ({
  name,
  command: (port, dir) => [binary, 'serve', '-q', '--no-tls', '--listen', `127.0.0.1:${port}`, '--data-dir', join(dir, 'data')],
  env: { ACADEMY_RT_STORAGE_MIN_FREE: '0', ...Object.fromEntries(LIFTED.map((limit) => [`ACADEMY_RT_LIMITS_${limit}`, '0'])), ...settings() },
});

/** Servers of others that keep the same promises for the events of the bench. */
export const node = { name: 'Node', command: () => [process.execPath, join(here, 'node-server.mjs')], env: {} };
export const python = (kind) => ({
  name: `Python, ${kind}`,
  command: () => [process.env.BENCH_PYTHON ?? join(here, '.venv/bin/python'), join(here, 'python-server.py'), kind],
  env: {},
});

/** Where data go: BENCH_DIR, or the directory for temporary files. */
function scratch() {
  const place = process.env.BENCH_DIR ?? tmpdir();
  mkdirSync(place, { recursive: true });
  return mkdtempSync(join(place, 'bench-'));
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function isListening(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}

// What is to be ended when this program is, however it ends.
const running = new Set();
process.on('exit', () => {
  for (const { child, dir } of running) {
    child.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  }
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

async function start({ name, command, env }) {
  const dir = scratch();
  const port = await freePort();
  const log = join(dir, 'log');
  const [program, ...args] = command(port, dir);
  const inherited = { PATH: process.env.PATH, HOME: dir, TMPDIR: dir };
  const child = spawn(program, args, {
    env: { ...inherited, ...env, PORT: String(port), DATA_DIR: join(dir, 'data'), JWT_SECRET: secret },
    stdio: ['ignore', 'ignore', openSync(log, 'a')],
  });
  const server = { child, dir };
  running.add(server);
  let ended;
  const over = new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message)).once('exit', (code, signal) => resolve(`it ended with ${code ?? signal}`));
  }).then((why) => { ended = why; });
  const lastWords = () => readFileSync(log, 'utf8').trim().split('\n').slice(-5).join('\n');
  const deadline = Date.now() + 30_000;
  while (!(await isListening(port))) {
    if (ended || Date.now() > deadline) throw new Error(`${name} has not started: ${ended ?? 'it does not listen'}\n${lastWords()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return {
    url: `http://127.0.0.1:${port}`,
    pid: child.pid,
    async stop() {
      const early = ended;
      child.kill('SIGTERM');
      const late = setTimeout(() => child.kill('SIGKILL'), 10_000);
      await over;
      clearTimeout(late);
      running.delete(server);
      const words = early && lastWords();
      rmSync(dir, { recursive: true, force: true });
      if (early) throw new Error(`${name} has ended while it was measured: ${early}\n${words}`);
    },
  };
}

/** What `academy-rt bench` says, as JSON. */
export function load(args) {
  const config = join(tmpdir(), `bench-${process.pid}.toml`);
  writeFileSync(config, '');
  const program = process.env.LOAD_BINARY ?? tested();
  return new Promise((resolve, reject) => {
    const env = { PATH: process.env.PATH, JWT_SECRET: secret };
    execFile(program, ['--output', 'json', '-q', 'bench', ...args, '--config', config], { env, maxBuffer: 1 << 24 }, (error, stdout, stderr) => {
      rmSync(config, { force: true });
      if (error) reject(new Error(`${args.join(' ')}: ${stderr.trim() || stdout.trim() || error.message}`));
      else resolve(JSON.parse(stdout));
    });
  });
}

/** What the load says of a fresh server. */
export async function measure(kind, args) {
  const server = await start(kind);
  try {
    return await load([...args, '--url', server.url, '--pid', String(server.pid)]);
  } finally {
    await server.stop();
  }
}
