// 20,000 hostile connections of every kind, some hundreds at a time, while people write to each other: they are served as
// before, and what the attack has cost is given back. Then, one by one, what each attack meets.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';
import { frame } from './attackers.mjs';
import { Appliance, ask, noLimits, token, until } from './harness.mjs';

const AT_ONCE = 600;
const PEOPLE = 20;
// Each writes so often: within what a person may, and 160 messages a second together.
const PAUSE_MS = 125;
// The attackers, the people and the server share the processors of one machine here; what the scheduler takes for a
// switch is no work of the server's. A server that is held up by an attack is late by more than this.
const SCHEDULER_MS = 25;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const figure = async (server, name) =>
  Number(new RegExp(`^${name} (\\d+)`, 'm').exec((await server.fetch('/metrics', { claims: { userId: 1, role: 'admin' } })).raw)[1]);

// People write until it is over; gives how long each message took until it was acknowledged.
async function conversation(people, isOver) {
  const took = [];
  await Promise.all(people.map(async (person, i) => {
    await pause((i * PAUSE_MS) / people.length);
    while (!isOver()) {
      const began = performance.now();
      assert.equal((await ask(person, 'chat:message', { roomId: `siege-${i % 4}`, content: 'as if nothing were' })).ok, true);
      took.push(performance.now() - began);
      await pause(PAUSE_MS);
    }
  }));
  return took.sort((a, b) => a - b);
}

const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];

// Resolves with what the attackers have done.
function besiege(server, many) {
  const file = join(dirname(fileURLToPath(import.meta.url)), 'attackers.mjs');
  const child = spawn(process.execPath, [file, server.port, server.tls ? 1 : 0, many, AT_ONCE].map(String), { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.on('data', (text) => { said += text; });
  return new Promise((resolve, reject) => child.once('exit', (code) => (code === 0 ? resolve(JSON.parse(said)) : reject(new Error(`the attackers ended with ${code}`)))));
}

for (const { tls, many } of [{ tls: false, many: 14_000 }, { tls: true, many: 6_000 }]) {
  test(`${many} hostile connections over ${tls ? 'TLS' : 'plain HTTP'}: people are served as before, and the memory comes back`, async (t) => {
    const server = await Appliance.start({ tls });
    const people = [];
    for (let i = 0; i < PEOPLE; i += 1) {
      people.push(await server.signedIn({ userId: 100 + i }));
      await ask(people[i], 'chat:join', { roomId: `siege-${i % 4}` });
    }
    // Warm: what a server allocates once is no growth.
    await besiege(server, 1_000);
    const quiet = async () => {
      await until(async () => (await figure(server, 'academy_rt_connections_open')) <= PEOPLE + 1, 'the hostile connections are gone', 60_000);
      return server.rssKiB();
    };
    await quiet();
    let isOver = false;
    setTimeout(() => { isOver = true; }, 6_000);
    const normal = await conversation(people, () => isOver);
    const memory = await quiet();
    isOver = false;
    const attack = besiege(server, many).finally(() => { isOver = true; });
    let peak = 0;
    const watch = setInterval(() => { peak = Math.max(peak, server.rssKiB()); }, 100);
    const besieged = await conversation(people, () => isOver);
    const { seconds } = await attack;
    clearInterval(watch);
    await quiet();
    await until(() => server.rssKiB() <= memory * 1.2, `the memory is back; it was ${memory} KiB and is ${server.rssKiB()}`, 30_000).catch((error) => {
      throw new Error(`${error.message}; now ${server.rssKiB()} KiB`);
    });
    const [before99, during99] = [at(normal, 0.99), at(besieged, 0.99)];
    t.diagnostic(`${many} in ${seconds.toFixed(1)} s; p50 ${at(normal, 0.5).toFixed(1)} -> ${at(besieged, 0.5).toFixed(1)} ms, p99 ${before99.toFixed(1)} -> ${during99.toFixed(1)} ms, ` +
      `worst ${at(besieged, 1).toFixed(1)} ms of ${besieged.length} messages; memory ${memory} -> ${peak} -> ${server.rssKiB()} KiB`);
    assert.ok(during99 <= Math.max(2 * before99, before99 + SCHEDULER_MS), `p99 ${before99} ms became ${during99} ms`);
    assert.ok(people.every((person) => person.connected), 'nobody was thrown out');
    assert.doesNotMatch(server.stderr, /panick/);
    await server.stop();
  });
}
