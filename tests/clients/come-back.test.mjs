// Clients of several makes and ages come back by themselves: from a stop, from a kill, and from Socket.IO that was switched off. Each is
// signed in again, joins its room with the last message that it has, and so has every message once and in order, with the one that was
// written while nobody could be there. (Those of Python are in test_python.py.)
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { before, test } from 'node:test';
import { io as io48 } from 'socket.io-client';
import { io as io40 } from 'socket.io-client-v4-0';
import { io as io31 } from 'socket.io-client-v3-1';
import { Appliance, noLimits, token, until } from './harness.mjs';
import { Line } from './line.mjs';

const ROOM = 'come-back';
const BACK_MS = 30_000;
const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const peer = join(root, 'target/peer/debug/academy-rt-peer');

before(() => {
  // Built already where tests/run runs this.
  const built = spawnSync('cargo', ['build', '--quiet', '--locked', '--target-dir', join(root, 'target/peer'), '--manifest-path', join(root, 'tests/clients/rust/Cargo.toml')], { stdio: 'inherit' });
  assert.equal(built.status, 0, 'the peer is built');
});

/** A client that rejoins whenever it has signed in, and what it has heard. */
class Peer {
  heard = [];
  signedIn = 0;
  joined = 0;
  errors = [];

  constructor(name) {
    this.name = name;
  }

  static ofJs(version, io, url, transports, userId) {
    const one = new Peer(`socket.io-client ${version} on ${transports.join(' and ')}`);
    const socket = io(url, { path: '/ws', auth: { token: token({ userId }) }, forceNew: true, transports, reconnectionDelay: 50, reconnectionDelayMax: 200 });
    let last = 0;
    const note = ({ id, content }) => {
      last = id;
      one.heard.push(content);
    };
    socket.on('auth_error', ({ code }) => one.errors.push(code));
    socket.on('disconnect', (reason) => one.errors.push(reason));
    socket.on('chat:message', note);
    socket.on('authenticated', () => {
      one.signedIn += 1;
      socket.emit('chat:join', { roomId: ROOM, after: last }, ({ ok, messages }) => {
        messages.forEach(note);
        one.joined += ok ? 1 : 0;
      });
    });
    one.isAway = () => !socket.connected;
    one.end = () => socket.disconnect();
    return one;
  }

  static ofRust(url, transport, userId) {
    const one = new Peer(`rust_socketio on ${transport}`);
    const child = spawn(peer, [`${url}/ws/`, transport, ROOM], { env: { TOKEN: token({ userId }) }, stdio: ['pipe', 'pipe', 'pipe'] });
    let isAway = false;
    child.stderr.on('data', (text) => one.errors.push(String(text)));
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { what, value } = JSON.parse(line);
      if (what === 'authenticated') {
        one.signedIn += 1;
        isAway = false;
      } else if (what === 'joined') one.joined += value ? 1 : 0;
      else if (what === 'message') one.heard.push(value);
      else {
        one.errors.push(`${what} ${JSON.stringify(value)}`);
        isAway ||= what === 'closed' || what === 'error';
      }
    });
    one.isAway = () => isAway;
    one.end = () => child.kill();
    return one;
  }

  told() {
    return `${this.name}: ${this.signedIn} times signed in, ${this.joined} joined, heard ${JSON.stringify(this.heard)}; ${this.errors}`;
  }
}

const ways = {
  'a stop and a restart': async (server) => {
    server.child.kill('SIGTERM');
    assert.equal((await server.exited).code, 0);
    return () => server.launch();
  },
  'a kill and a restart': async (server) => {
    await server.kill();
    return () => server.launch();
  },
  'Socket.IO switched off and on': async (server) => {
    await reload(server, '[server]\nwebsocket_enabled = false\n');
    return async () => {
      // What is written while it is off is there behind it.
      await post(server, 'while it was off');
      await reload(server, '');
    };
  },
};

async function reload(server, text) {
  writeFileSync(join(server.dir, 'a.toml'), text);
  const before = server.stderr.length;
  server.child.kill('SIGHUP');
  await until(() => server.stderr.slice(before).includes('reloaded'), 'the reload is logged');
}

async function post(server, content) {
  const { status } = await server.fetch(`/api/v1/rooms/${ROOM}/messages`, { claims: { userId: 1 }, method: 'POST', body: { content } });
  assert.equal(status, 200);
}

for (const [name, leave] of Object.entries(ways)) {
  test(`clients of all makes come back from ${name}, and have missed nothing`, { timeout: 120_000 }, async (t) => {
    const server = await Appliance.start({ env: noLimits });
    t.after(() => server.stop());
    // From now on by a file: it may be changed while the server runs.
    await server.halt();
    server.env = { ...noLimits, ACADEMY_RT_CONFIG: join(server.dir, 'a.toml') };
    writeFileSync(server.env.ACADEMY_RT_CONFIG, '');
    await server.launch();
    // Nobody comes back before the message that they have missed is written.
    const line = await Line.to(server.port);
    t.after(() => line.close());
    const url = `http://127.0.0.1:${line.port}`;
    let userId = 100;
    const peers = [];
    for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
      for (const [version, io] of [['4.8', io48], ['4.0', io40], ['3.1', io31]]) peers.push(Peer.ofJs(version, io, url, transports, userId += 1));
      peers.push(Peer.ofRust(url, transports.length > 1 ? 'any' : transports[0], userId += 1));
    }
    t.after(() => peers.forEach((one) => one.end()));
    const all = async (what, holds, ms = BACK_MS) => {
      try {
        await until(() => peers.every(holds), what, ms);
      } catch {
        assert.fail(`${what}\n${peers.filter((one) => !holds(one)).map((one) => one.told()).join('\n')}`);
      }
    };
    await all('each is there', (one) => one.joined === 1);
    await post(server, 'before');
    await all('each hears what is said', (one) => one.heard.length === 1);

    const comeBack = await leave(server);
    await all('each has lost the server', (one) => one.isAway());
    line.cut();
    await comeBack();
    await post(server, 'while away');
    const expected = ['before', ...(name.includes('off') ? ['while it was off'] : []), 'while away', 'behind'];
    line.mend();
    await all('each is back in its room', (one) => one.signedIn === 2 && one.joined === 2);
    await post(server, 'behind');
    await all('each has heard all', (one) => one.heard.length >= expected.length);
    for (const one of peers) assert.deepEqual(one.heard, expected, one.told());
  });
}
