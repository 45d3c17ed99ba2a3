// Return after absence: readers whose connections die at every step of a join come back with the last id they have, while
// others post; the server stops once and is killed once. In the end each of them has seen what the store has: everything,
// in order. RETURN_MESSAGES says how many messages, RETURN_SEED repeats a run's choices.
import assert from 'node:assert/strict';
import { createServer, connect as connectTo } from 'node:net';
import { test } from 'node:test';
import { io } from 'socket.io-client';
import { Appliance, noLimits, token, until } from './harness.mjs';

const MESSAGES = Number(process.env.RETURN_MESSAGES ?? 100_000);
const SEED = Number(process.env.RETURN_SEED ?? Math.floor(Math.random() * 2 ** 32));
const ROOMS = 10;
const POSTERS_A_ROOM = 2;
const WAYS = [['websocket'], ['polling'], ['polling', 'websocket']];
const WINDOW = 16;
// Where a connection ends.
const STEPS = ['handshake', 'connected', 'joining', 'acked', 'first events', 'paging', 'upgrading', 'live', 'left and joined again', 'joined twice'];
// How: the wire is cut, the connection is closed, the client says goodbye.
const ENDS = ['cut', 'engine', 'goodbye'];

// A generator for each actor: what one of them draws does not depend on when the others do.
function random(stream) {
  let state = (SEED ^ Math.imul(stream + 1, 0x9e3779b1)) >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return { below: (n) => Math.floor(next() * n), of: (list) => list[Math.floor(next() * list.length)] };
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// A cable that can be pulled: whatever the client is doing on whatever transport, its connections are gone.
class Cable {
  connections = new Set();

  static async to(port) {
    const cable = new Cable();
    cable.server = createServer((near) => {
      const far = connectTo(port, '127.0.0.1');
      for (const [one, other] of [[near, far], [far, near]]) {
        cable.connections.add(one);
        one.on('error', () => {});
        one.on('close', () => { cable.connections.delete(one); other.destroy(); });
        one.pipe(other);
      }
    });
    await new Promise((resolve) => cable.server.listen(0, '127.0.0.1', resolve));
    cable.port = cable.server.address().port;
    return cable;
  }

  cut() {
    for (const one of this.connections) one.destroy();
  }

  close() {
    this.cut();
    this.server.close();
  }
}

// What somebody has seen of a room.
class View {
  ids = [];
  contents = [];
  // Everything up to this seq is there.
  whole = 0;
  doubles = 0;

  constructor(who, failures) {
    Object.assign(this, { who, failures });
  }

  take({ id, seq, content }) {
    if (this.ids[seq] === undefined) {
      this.ids[seq] = id;
      this.contents[seq] = content;
      while (this.ids[this.whole + 1] !== undefined) this.whole += 1;
    } else {
      this.doubles += 1;
      if (this.ids[seq] !== id) this.failures.push(`${this.who}: seq ${seq} is message ${this.ids[seq]} and ${id}`);
    }
  }

  get after() {
    return this.ids[this.whole] ?? 0;
  }
}

// The live stream of one membership: strictly by seq, behind what the join told.
class Stream {
  next = undefined;
  count = 0;

  constructor(view) {
    this.view = view;
  }

  joined({ lastSeq, messages }) {
    for (const message of messages) this.view.take(message);
    this.next ??= lastSeq + 1;
  }

  left() {
    this.next = undefined;
  }

  hear(message) {
    this.count += 1;
    if (message.seq !== this.next) this.view.failures.push(`${this.view.who}: seq ${message.seq} came live where ${this.next} was next`);
    this.next = message.seq + 1;
    this.view.take(message);
  }
}

class Reader {
  lives = 0;

  constructor(n, server, cable, roomId, transports, world) {
    Object.assign(this, { n, server, cable, roomId, transports, world, draw: random(1_000 + n) });
    this.view = new View(`reader ${n} (${transports})`, world.failures);
    this.steps = [];
  }

  // One connection from its beginning to its end.
  async live(step, end, goal = Infinity) {
    const { draw, view, roomId } = this;
    const transports = step === 'upgrading' ? ['polling', 'websocket'] : this.transports;
    const socket = io(`http://127.0.0.1:${this.cable.port}`, {
      path: '/ws', auth: { token: token({ userId: 5_000 + this.n }) }, forceNew: true, reconnection: false, transports, timeout: 5_000,
    });
    let isOver = false;
    let over;
    const ended = new Promise((resolve) => { over = () => { isOver = true; resolve('ended'); }; });
    const die = () => {
      if (isOver) return;
      if (step !== 'stay') this.world.died[step] = (this.world.died[step] ?? 0) + 1;
      if (end === 'cut') this.cable.cut();
      else if (end === 'engine') socket.io.engine?.close();
      else socket.disconnect();
      over();
    };
    const dieSoon = (ms) => setTimeout(die, draw.below(ms));
    const stream = new Stream(view);
    for (const event of ['disconnect', 'connect_error']) socket.on(event, over);
    socket.on('chat:message', (message) => {
      if (message.roomId !== roomId) return;
      stream.hear(message);
      if (step === 'first events' && stream.count >= lastOfFirst) die();
    });
    const lastOfFirst = 1 + draw.below(30);
    const reach = (event) => Promise.race([new Promise((resolve) => { socket.once(event, () => resolve('reached')); }), ended]);
    const [connected, authenticated] = ['connect', 'authenticated'].map(reach);
    const timers = [];
    try {
      if (step === 'handshake') timers.push(dieSoon(12));
      if (step === 'upgrading') {
        socket.io.engine.on('upgrading', () => timers.push(dieSoon(4)));
        socket.io.engine.on('upgrade', () => timers.push(dieSoon(4)));
      }
      if (await connected === 'ended') return;
      if (step === 'connected') die();
      if (await authenticated === 'ended') return;
      const join = () => new Promise((resolve) => {
        const payload = { roomId, after: view.after, limit: draw.of([20, 60, 200]) };
        socket.emit('chat:join', payload, (ack) => {
          if (!ack.ok) {
            if (ack.error.code !== 'unavailable') this.world.failures.push(`${view.who}: the join was refused: ${JSON.stringify(ack)}`);
            return resolve('ended');
          }
          stream.joined(ack);
          if (step === 'acked') die();
          resolve(ack);
        });
        if (step === 'joining') draw.below(2) ? die() : timers.push(dieSoon(6));
      });
      const page = async (from) => {
        const stopAfter = step === 'paging' ? 1 + draw.below(3) : Infinity;
        for (let page = from, count = 0; page.hasMore; count += 1) {
          if (count >= stopAfter) return die();
          const asked = socket.timeout(10_000).emitWithAck('chat:history', { roomId, after: page.messages.at(-1).id, limit: 200 });
          page = await Promise.race([asked.catch(() => 'ended'), ended]);
          if (page === 'ended') return;
          if (!page.ok) return this.world.failures.push(`${view.who}: the page was refused: ${JSON.stringify(page)}`);
          for (const message of page.messages) view.take(message);
        }
      };
      const first = await Promise.race([join(), ended]);
      if (first === 'ended') return;
      const paged = page(first);
      if (step === 'left and joined again' || step === 'joined twice') {
        await Promise.race([pause(draw.below(60)), ended]);
        if (step === 'left and joined again') {
          const leaving = new Promise((resolve) => { socket.emit('chat:leave', { roomId }, () => { stream.left(); resolve(); }); });
          if (await Promise.race([leaving, ended]) === 'ended') return;
        }
        const again = await Promise.race([join(), ended]);
        if (again === 'ended') return;
        await page(again);
      }
      await paged;
      if (step === 'stay') await until(() => isOver || view.whole >= goal, `${view.who} has all: it has ${view.whole}`, 60_000);
      else await Promise.race([pause(step === 'live' ? 200 + draw.below(1_200) : 50 + draw.below(200)), ended]);
      die();
    } finally {
      timers.forEach(clearTimeout);
      socket.disconnect();
      this.cable.cut();
    }
  }

  async run() {
    while (!this.world.isSaid || this.lives < STEPS.length) {
      if (this.world.failures.length > 0) return;
      if (this.steps.length === 0) {
        this.steps = [...STEPS];
        for (let i = this.steps.length - 1; i > 0; i -= 1) {
          const j = this.draw.below(i + 1);
          [this.steps[i], this.steps[j]] = [this.steps[j], this.steps[i]];
        }
      }
      await this.live(this.steps.pop(), this.draw.of(ENDS));
      this.lives += 1;
      await pause(this.draw.below(this.draw.below(4) === 0 ? 400 : 20));
    }
    while (this.view.whole < this.world.perRoom && this.world.failures.length === 0) {
      await this.live('stay', 'goodbye', this.world.perRoom);
    }
  }
}

// Reads by the long poll. An answer that is lost is asked for again; one that came is followed without gap or double.
class Poller {
  constructor(n, server, roomId, world) {
    Object.assign(this, { n, server, roomId, world, draw: random(2_000 + n) });
    this.view = new View(`poller ${n}`, world.failures);
    this.stream = new Stream(this.view);
    this.bearer = token({ userId: 6_000 + n });
  }

  async ask(cursor, signal) {
    const query = `rooms=${this.roomId}&wait=${this.draw.below(3)}${cursor ? `&cursor=${cursor}` : ''}`;
    const answer = await fetch(`${this.server.url}/api/v1/events?${query}`, { headers: { authorization: `Bearer ${this.bearer}` }, signal });
    const body = await answer.json();
    // A server that stops answers so for a moment.
    if (answer.status >= 500) throw new Error(body.error?.code);
    if (answer.status !== 200) this.world.failures.push(`${this.view.who}: ${answer.status} ${JSON.stringify(body)}`);
    return body;
  }

  async begin() {
    this.cursor = (await this.ask()).cursor;
    this.stream.joined({ lastSeq: 0, messages: [] });
  }

  async run() {
    while (this.view.whole < this.world.perRoom && this.world.failures.length === 0) {
      const ender = new AbortController();
      const timer = this.draw.below(4) === 0 && setTimeout(() => { this.world.lostPolls += 1; ender.abort(); }, this.draw.below(25));
      try {
        const { events, cursor } = await this.ask(this.cursor, ender.signal);
        this.cursor = cursor;
        for (const { event, payload } of events) if (event === 'chat:message') this.stream.hear(payload);
      } catch {
        await pause(5 + this.draw.below(20));
      } finally {
        clearTimeout(timer);
      }
      // Away for a while, now and then for long.
      if (this.draw.below(6) === 0) await pause(this.draw.below(800));
    }
  }
}

// Says its share, each message once, whatever happens to its connection: a stock client that connects again by itself.
class Poster {
  constructor(n, server, roomId, share, world) {
    Object.assign(this, { n, roomId, share, world, open: [], flying: 0, said: 0 });
    for (let i = share; i > 0; i -= 1) this.open.push(`${n}-${i}`);
    this.view = new View(`poster ${n}`, world.failures);
    const socket = io(server.url, {
      path: '/ws', auth: { token: token({ userId: 100 + n }) }, forceNew: true, transports: WAYS[n % 2 ? 0 : 2],
      reconnectionDelay: 50, reconnectionDelayMax: 300,
    });
    this.socket = socket;
    socket.on('connect', () => {
      const stream = new Stream(this.view);
      socket.off('chat:message');
      socket.on('chat:message', (message) => stream.hear(message));
      this.isIn = false;
      socket.timeout(10_000).emit('chat:join', { roomId, after: this.view.after, limit: 200 }, (error, ack) => {
        if (error || !ack.ok) return socket.io.engine?.close();
        stream.joined(ack);
        this.isIn = true;
        this.send();
      });
    });
    socket.on('disconnect', () => { this.isIn = false; });
  }

  send() {
    while (this.isIn && this.flying < WINDOW && this.open.length > 0) {
      const clientId = this.open.pop();
      this.flying += 1;
      this.socket.timeout(10_000).emit('chat:message', { roomId: this.roomId, content: clientId, clientId }, (error, ack) => {
        this.flying -= 1;
        if (!error && ack.ok) this.said += 1;
        else this.open.push(clientId);
        this.send();
      });
    }
  }
}

async function storeOf(server, roomId) {
  const stored = [];
  for (let page = { hasMore: true }, after = 0; page.hasMore; after = page.messages.at(-1)?.id) {
    page = (await server.fetch(`/api/v1/rooms/${roomId}/messages?after=${after}&limit=200`, { claims: { userId: 1 } })).json;
    stored.push(...page.messages);
  }
  return stored;
}

test(`${MESSAGES} messages, readers that vanish at every step of a join, a stop and a kill: everybody's view is the store's (seed ${SEED})`, { timeout: 300_000 }, async () => {
  console.log(`# RETURN_SEED=${SEED} RETURN_MESSAGES=${MESSAGES}`);
  const began = Date.now();
  const server = await Appliance.start({ env: noLimits });
  const share = Math.floor(MESSAGES / ROOMS / POSTERS_A_ROOM);
  const world = { perRoom: share * POSTERS_A_ROOM, isSaid: false, failures: [], died: {}, lostPolls: 0 };
  const rooms = Array.from({ length: ROOMS }, (_, n) => `return-${n}`);
  const readers = await Promise.all(rooms.flatMap((roomId, r) => WAYS.map(async (transports, w) => new Reader(r * WAYS.length + w, server, await Cable.to(server.port), roomId, transports, world))));
  const pollers = rooms.map((roomId, r) => new Poller(r, server, roomId, world));
  await Promise.all(pollers.map((poller) => poller.begin()));
  const posters = rooms.flatMap((roomId, r) => Array.from({ length: POSTERS_A_ROOM }, (_, p) => new Poster(r * POSTERS_A_ROOM + p, server, roomId, share, world)));
  const said = () => posters.reduce((sum, poster) => sum + poster.said, 0);
  try {
    const reading = [...readers, ...pollers].map((one) => one.run());
    const total = share * posters.length;
    const reached = (part) => until(() => said() >= total * part || world.failures.length > 0, `${part} of all is said`, 200_000);
    await reached(1 / 3);
    server.child.kill('SIGTERM');
    assert.equal((await server.exited).code, 0, server.stderr);
    await server.launch();
    await reached(2 / 3);
    await server.kill();
    await server.launch();
    await reached(1);
    world.isSaid = true;
    await Promise.all(reading);
    assert.deepEqual(world.failures.slice(0, 5), []);
    for (const roomId of rooms) {
      const stored = await storeOf(server, roomId);
      assert.deepEqual(stored.map((one) => one.seq), Array.from({ length: world.perRoom }, (_, i) => i + 1), 'the store has each message once, without gaps');
      assert.equal(new Set(stored.map((one) => one.content)).size, world.perRoom);
      for (const one of [...readers, ...pollers].filter((one) => one.roomId === roomId)) {
        assert.deepEqual(one.view.ids.slice(1), stored.map((message) => message.id), one.view.who);
        assert.deepEqual(one.view.contents.slice(1), stored.map((message) => message.content), one.view.who);
      }
    }
    assert.deepEqual(Object.keys(world.died).sort(), [...STEPS].sort(), 'connections ended at every step');
    assert.ok(world.lostPolls > 0);
    const lives = readers.reduce((sum, reader) => sum + reader.lives, 0);
    const doubles = readers.reduce((sum, reader) => sum + reader.view.doubles, 0);
    console.log(`# ${total} messages, ${readers.length} readers with ${lives} connections, ${pollers.length} pollers with ${world.lostPolls} lost answers, ${doubles} doubles, ${((Date.now() - began) / 1000).toFixed(1)} s: ${JSON.stringify(world.died)}`);
  } finally {
    for (const poster of posters) poster.socket.disconnect();
    for (const reader of readers) reader.cable.close();
    await server.stop();
  }
});
