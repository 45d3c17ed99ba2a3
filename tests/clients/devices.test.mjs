// One user, several devices and sockets: read marks, unread counts, presence, typing and the inbox are the user's, whichever
// device does something, however it goes, and by whatever way it is connected.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { dirname } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';
import { Appliance, all, ask, heard, noLimits, token, until } from './harness.mjs';

const ADMIN = { userId: 1, role: 'admin' };
const WS = { transports: ['websocket'] };
const POLLING = { transports: ['polling'] };

let server;
before(async () => { server = await Appliance.start({ env: noLimits }); });
after(() => server.stop());

const http = (claims, method, path, body) => server.fetch(`/api/v1${path}`, { claims, method, body });

async function joined(roomId, claims, options = WS) {
  const socket = await server.signedIn(claims, options);
  assert.equal((await ask(socket, 'chat:join', { roomId })).ok, true);
  return socket;
}

async function post(socket, roomId, content) {
  const ack = await ask(socket, 'chat:message', { roomId, content });
  assert.ok(ack.ok, JSON.stringify(ack));
  return ack.id;
}

// Whatever was sent to these sockets before has arrived when this returns.
async function fence(by, roomId, ...sockets) {
  const id = await post(by, roomId, 'fence');
  for (const socket of sockets) await heard(socket, 'chat:message', (one) => one.id === id);
}

// A device that goes without a word: its connection is gone.
function lose(socket) {
  socket.io.engine.transport.ws.terminate();
}

// The server has noticed that they have so many sockets now.
function sockets(userId, count) {
  return until(async () => (await http(ADMIN, 'GET', `/admin/users/${userId}`)).json.sockets === count, `${userId} has ${count} sockets`);
}

class LongPoll {
  events = [];

  static async of(claims, rooms) {
    const poll = Object.assign(new LongPoll(), { claims, rooms });
    await poll.ask();
    return poll;
  }

  async ask(wait = 0) {
    const { status, json } = await http(this.claims, 'GET', `/events?rooms=${this.rooms}&wait=${wait}${this.cursor ? `&cursor=${this.cursor}` : ''}`);
    assert.equal(status, 200);
    this.cursor = json.cursor;
    this.events.push(...json.events);
    return json.events;
  }

  async until(fits, what) {
    await until(async () => this.events.some(fits) || (await this.ask(1)).some(fits), what);
  }
}

describe('one user on several devices', { concurrency: 16, timeout: 150_000 }, () => {
  describe('read marks and unread counts', () => {
    test('a mark only moves forward, and every device and everybody in the room hears of it', async () => {
      const roomId = 'devices-marks';
      const bob = await joined(roomId, { userId: 208 });
      const ids = [];
      for (let n = 0; n < 5; n += 1) ids.push(await post(bob, roomId, `m${n}`));
      const [laptop, tablet] = [await joined(roomId, { userId: 207 }), await joined(roomId, { userId: '207' }, POLLING)];
      const poll = await LongPoll.of({ userId: 207 }, roomId);
      assert.deepEqual(await ask(laptop, 'chat:read', { roomId, messageId: ids[2] }), { ok: true, roomId, messageId: ids[2] });
      for (const socket of [laptop, tablet, bob]) {
        assert.deepEqual(await heard(socket, 'chat:read'), { roomId, userId: 207, messageId: ids[2] });
      }
      assert.equal((await ask(tablet, 'chat:read', { roomId, messageId: ids[1] })).messageId, ids[2], 'it does not go back');
      assert.equal((await http({ userId: '207' }, 'POST', `/rooms/${roomId}/read`, { messageId: ids[3] })).json.messageId, ids[3]);
      await heard(bob, 'chat:read', (one) => one.messageId === ids[3] && one.userId === 207);
      for (const socket of [laptop, tablet]) {
        const { rooms } = await ask(socket, 'chat:rooms', {});
        assert.deepEqual(rooms.map((one) => [one.roomId, one.readUpTo, one.unread]), [[roomId, ids[3], 0]], 'what was said before one came is not unread');
        assert.equal((await ask(socket, 'chat:join', { roomId })).readUpTo, ids[3]);
      }
      assert.deepEqual((await http({ userId: 207 }, 'GET', '/rooms')).json.rooms.map((one) => one.unread), [0]);
      assert.equal((await ask(laptop, 'chat:read', { roomId, messageId: ids[4] + 1_000_000 })).error.code, 'not_found');
      await poll.until(({ event, payload }) => event === 'chat:read' && payload.messageId === ids[3], 'the poll hears of it');
      const marks = poll.events.filter(({ event }) => event === 'chat:read').map(({ payload }) => payload.messageId);
      assert.deepEqual(marks, [ids[2], ids[3]], 'what moved nothing is not told');
    });

    test('marks that devices set at once end at the furthest, and are told in rising order', async () => {
      const roomId = 'devices-race';
      const bob = await joined(roomId, { userId: 218 });
      const ids = await Promise.all(Array.from({ length: 60 }, (_, n) => post(bob, roomId, `m${n}`)));
      const devices = await Promise.all([WS, POLLING, WS].map((options, n) => joined(roomId, { userId: n % 2 ? '217' : 217 }, options)));
      const shuffled = [...ids].sort((a, b) => (a * 7919) % 61 - (b * 7919) % 61);
      const answers = await Promise.all(shuffled.map((messageId, n) => (n % 4 === 3
        ? http({ userId: 217 }, 'POST', `/rooms/${roomId}/read`, { messageId }).then(({ json }) => json)
        : ask(devices[n % 4], 'chat:read', { roomId, messageId }))));
      for (const [n, answer] of answers.entries()) assert.ok(answer.ok && answer.messageId >= shuffled[n]);
      const last = Math.max(...ids);
      for (const socket of [bob, ...devices]) {
        await heard(socket, 'chat:read', (one) => one.messageId === last);
        const told = all(socket, 'chat:read').map((one) => one.messageId);
        assert.deepEqual(told, [...new Set(told)].sort((a, b) => a - b));
      }
      for (const device of devices) assert.equal((await ask(device, 'chat:rooms', {})).rooms[0].unread, 0);
    });

    test('unread counts follow messages, own messages, edits and deletions', async () => {
      const [roomId, other] = ['devices-unread', 'devices-unread-2'];
      const ann = { userId: 227 };
      const [bob, laptop, tablet] = [await joined(roomId, { userId: 228 }), await joined(roomId, ann), await joined(roomId, { userId: '227' }, POLLING)];
      await ask(bob, 'chat:join', { roomId: other });
      await ask(laptop, 'chat:join', { roomId: other });
      await post(bob, other, 'elsewhere');
      const unread = async (expected, why) => {
        for (const rooms of [(await ask(laptop, 'chat:rooms', {})).rooms, (await ask(tablet, 'chat:rooms', {})).rooms, (await http(ann, 'GET', '/rooms')).json.rooms]) {
          assert.deepEqual(Object.fromEntries(rooms.map((one) => [one.roomId, one.unread])), { [roomId]: expected, [other]: 1 }, why);
        }
      };
      await post(bob, roomId, 'one');
      const two = await post(bob, roomId, 'two');
      await unread(2, 'two messages');
      await post(tablet, roomId, 'mine');
      await unread(0, 'who writes has read what is above');
      const three = await post(bob, roomId, 'three');
      await post(bob, roomId, 'four');
      await unread(2, 'two more');
      await ask(bob, 'chat:edit', { roomId, messageId: three, content: 'third' });
      await ask(bob, 'chat:edit', { roomId, messageId: two, content: 'second' });
      await unread(2, 'an edit is no message');
      await ask(bob, 'chat:delete', { roomId, messageId: three });
      await unread(1, 'a tombstone has nothing to be read');
      await ask(laptop, 'chat:read', { roomId, messageId: three });
      await unread(1, 'read up to the tombstone');
      await ask(bob, 'chat:delete', { roomId, messageId: two });
      await unread(1, 'what was read is not unread again');
    });
  });

  describe('who comes and goes', () => {
    test("only a user's first and last socket in a room are told", async () => {
      const roomId = 'devices-guests';
      const bob = await joined(roomId, { userId: 238 });
      const laptop = await joined(roomId, { userId: 237, name: 'Ann' });
      const tablet = await joined(roomId, { userId: '237', name: 'Ann' }, POLLING);
      const phone = await joined(roomId, { userId: 237, name: 'Ann' });
      assert.equal((await ask(phone, 'chat:join', { roomId })).members, 2);
      const poll = await LongPoll.of({ userId: 237 }, roomId);
      const polling = poll.ask(1);
      await heard(bob, 'chat:user_joined');
      await fence(bob, roomId, bob);
      await polling;
      assert.deepEqual(all(bob, 'chat:user_joined').map(({ userId, userName }) => [userId, userName]), [[237, 'Ann']]);
      await ask(laptop, 'chat:leave', { roomId });
      lose(phone);
      await sockets(237, 2);
      await fence(bob, roomId, bob);
      assert.equal(all(bob, 'chat:user_left').length, 0, 'the tablet is still there');
      tablet.disconnect();
      // Who polls is there, too, and for a while behind it.
      assert.equal((await http({ userId: 237 }, 'POST', `/rooms/${roomId}/leave`, {})).status, 200);
      assert.equal((await heard(bob, 'chat:user_left')).userId, 237);
      await ask(laptop, 'chat:join', { roomId });
      await until(() => all(bob, 'chat:user_joined').length > 1, 'she is announced again');
      assert.deepEqual([all(bob, 'chat:user_joined').length, all(bob, 'chat:user_left').length], [2, 1]);
      assert.equal(all(laptop, 'chat:user_joined').length + all(laptop, 'chat:user_left').length, 0, 'one does not hear of oneself');
    });

    test('absence is told 5 s after the last socket has gone, and not while another device is here or a page reloads', async () => {
      const roomId = 'devices-presence';
      const witness = await joined(roomId, { userId: 240 });
      // Ann keeps a device; Dora reloads; Eve has two pages in two rooms on one laptop; Carl goes, after all of them.
      const [laptop, tablet] = [await joined(roomId, { userId: 241 }), await joined(roomId, { userId: '241' }, POLLING)];
      const dora = await joined(roomId, { userId: 242 });
      const [page, otherPage] = [await joined(roomId, { userId: 244 }), await joined(`${roomId}-2`, { userId: 244 })];
      const otherWitness = await joined(`${roomId}-2`, { userId: 245 });
      const carl = await joined(roomId, { userId: 243 });
      // Under load comings are gathered for a moment, and who goes before theirs was told is not told of at all.
      for (const userId of [241, 242, 244, 243]) await heard(witness, 'chat:user_joined', (one) => one.userId === userId);
      lose(laptop);
      lose(dora);
      lose(page);
      await heard(witness, 'chat:user_left', (one) => one.userId === 242);
      await joined(roomId, { userId: 242 });
      await heard(witness, 'chat:user_left', (one) => one.userId === 244);
      lose(otherPage);
      await heard(otherWitness, 'chat:user_left', (one) => one.userId === 244);
      lose(carl);
      await heard(witness, 'chat:user_left', (one) => one.userId === 243);
      const wentAt = Date.now();
      const { users } = await ask(witness, 'presence:list', { roomId });
      assert.deepEqual(users.map((one) => [Number(one.userId), one.online]).sort(), [[240, true], [241, true], [242, true]]);
      const change = await heard(witness, 'presence:changed', (one) => one.userId === 243);
      const tookMs = Date.now() - wentAt;
      assert.ok(tookMs > 4_000 && tookMs < 8_000, `after ${tookMs} ms`);
      assert.deepEqual([change.online, Math.abs(change.lastSeen - wentAt) < 2_000], [false, true]);
      for (const one of [witness, otherWitness]) await heard(one, 'presence:changed', (change) => change.userId === 244 && !change.online);
      assert.deepEqual(all(witness, 'presence:changed').map((one) => one.userId).sort(), [243, 244], 'neither Ann nor Dora');
      // The way back is told where the absence was.
      await server.signedIn({ userId: 243 });
      await heard(witness, 'presence:changed', (one) => one.userId === 243 && one.online);
      assert.equal(all(otherWitness, 'presence:changed').length, 1);
      assert.equal(tablet.connected, true);
    });
  });

  describe('typing', () => {
    const signals = (socket, userId) => all(socket, 'chat:typing').filter((one) => one.userId === userId).map((one) => one.isTyping);
    const ended = (socket, userId) => heard(socket, 'chat:typing', (one) => one.userId === userId && !one.isTyping);

    for (const [what, end] of Object.entries({
      'a message': ({ laptop, roomId }) => post(laptop, roomId, 'x'),
      'a message from another device': ({ tablet, roomId }) => post(tablet, roomId, 'x'),
      'a message over HTTP': ({ claims, roomId }) => http(claims, 'POST', `/rooms/${roomId}/messages`, { content: 'x' }),
      'saying so on another device': ({ tablet, roomId }) => ask(tablet, 'chat:typing', { roomId, isTyping: false }),
      'leaving the room': ({ laptop, roomId }) => ask(laptop, 'chat:leave', { roomId }),
      'a goodbye': ({ laptop }) => laptop.disconnect(),
      'a lost connection': ({ laptop }) => lose(laptop),
    })) {
      test(`is ended by ${what}, and not by another device's going`, async () => {
        const roomId = `devices-typing-${what.replaceAll(' ', '-')}`;
        const claims = { userId: `typist-${what.replaceAll(' ', '-')}`, name: 'Ann' };
        const bob = await joined(roomId, { userId: 258 });
        const [laptop, tablet, phone] = [await joined(roomId, claims), await joined(roomId, claims, POLLING), await joined(roomId, claims)];
        assert.equal((await ask(laptop, 'chat:typing', { roomId, isTyping: true })).ok, true);
        const began = Date.now();
        await heard(bob, 'chat:typing', (one) => one.isTyping);
        lose(phone);
        await sockets(claims.userId, 2);
        await fence(bob, roomId, bob);
        assert.deepEqual(signals(bob, claims.userId), [true]);
        await end({ laptop, tablet, claims, roomId });
        await ended(bob, claims.userId);
        assert.ok(Date.now() - began < 5_500, 'at once, and not by silence');
        await fence(bob, roomId, bob, tablet);
        assert.deepEqual(signals(bob, claims.userId), [true, false]);
        assert.deepEqual(signals(tablet, claims.userId), [], 'one does not see oneself typing');
      });
    }

    test('is ended by 6 s of silence, on a socket and over HTTP', async () => {
      const roomId = 'devices-silence';
      const bob = await joined(roomId, { userId: 268 });
      const laptop = await joined(roomId, { userId: 267 });
      await ask(laptop, 'chat:typing', { roomId, isTyping: true });
      assert.equal((await http({ userId: 266 }, 'POST', `/rooms/${roomId}/typing`, { isTyping: true })).status, 200);
      const began = Date.now();
      await Promise.all([ended(bob, 266), ended(bob, 267)]);
      const tookMs = Date.now() - began;
      assert.ok(tookMs > 5_000 && tookMs < 9_000, `after ${tookMs} ms`);
      assert.deepEqual([signals(bob, 266), signals(bob, 267)], [[true, false], [true, false]]);
    });

    test('a process that freezes ends its typing at once and its presence when it answers no ping', { timeout: 120_000 }, async () => {
      const roomId = 'devices-frozen';
      const bob = await joined(roomId, { userId: 278 });
      const program = `
        import { io } from 'socket.io-client';
        const socket = io(process.argv[1], { path: '/ws', auth: { token: process.argv[2] }, transports: ['websocket'] });
        socket.on('authenticated', () => socket.emit('chat:join', { roomId: '${roomId}' }, () => socket.emit('chat:typing', { roomId: '${roomId}', isTyping: true })));
      `;
      const cwd = dirname(fileURLToPath(import.meta.url));
      const child = spawn(process.execPath, ['--input-type=module', '-e', program, server.url, token({ userId: 277 })], { cwd, stdio: 'ignore' });
      try {
        await heard(bob, 'chat:typing', (one) => one.userId === 277 && one.isTyping);
        child.kill('SIGSTOP');
        const frozenAt = Date.now();
        await ended(bob, 277);
        assert.ok(Date.now() - frozenAt < 9_000);
        const gone = () => all(bob, 'presence:changed').find((one) => one.userId === 277);
        await until(gone, 'its absence is told', 70_000);
        assert.equal(gone().online, false);
        assert.equal(all(bob, 'chat:user_left').filter((one) => one.userId === 277).length, 1);
        assert.equal((await ask(bob, 'presence:list', { roomId })).users.length, 1);
      } finally {
        child.kill('SIGKILL');
      }
    });
  });

  // One behind the other: what goes to a role or to all would be in each other's counts.
  describe('the inbox', { concurrency: 1 }, () => {
    const notify = async (target, title, more = {}) => {
      const { status, json } = await http(ADMIN, 'POST', '/notifications', { target, title, message: 'm', ...more });
      assert.equal(status, 200, JSON.stringify(json));
      return json.id;
    };
    const titles = (socket, mine) => all(socket, 'notification:new').map((one) => one.title).filter((title) => title.startsWith(mine));
    const listed = async (socket, mine) => (await ask(socket, 'notification:list', { limit: 200 })).items.map((one) => one.title).filter((title) => title.startsWith(mine));
    // Users of their own for each test; what goes to all of them is told apart by its title.
    const HR = { role: 'hr_admin' };

    test('user, role and all: since one was first seen, once a user on arrival, oldest first right behind authenticated', async () => {
      const [ann, late] = [{ userId: 'inbox-ann', ...HR }, { userId: 'inbox-late', ...HR }];
      (await server.signedIn(ann)).disconnect();
      await sockets('inbox-ann', 0);
      await notify({ all: true }, 'a1');
      await notify({ role: 'hr' }, 'a2');
      await notify({ role: 'coach' }, 'a-coach');
      await notify({ users: ['inbox-ann', 'inbox-late'] }, 'a3');
      const phone = await server.signedIn(ann, POLLING);
      await heard(phone, 'notification:new', (one) => one.title === 'a3');
      assert.equal(phone.heard[0].event, 'authenticated');
      assert.deepEqual(titles(phone, 'a'), ['a1', 'a2', 'a3']);
      const waiting = all(phone, 'notification:new');
      assert.ok(waiting.every((one, n) => n === 0 || one.id > waiting[n - 1].id));
      assert.equal(phone.heard[0].payload.unread, (await ask(phone, 'notification:list', {})).unread);
      // The second device has them in its list.
      const tablet = await server.signedIn({ ...ann });
      assert.deepEqual(await listed(tablet, 'a'), ['a3', 'a2', 'a1']);
      assert.deepEqual(titles(tablet, 'a'), []);
      assert.ok(all(tablet, 'authenticated')[0].unread >= 3);
      // Live, each device hears it.
      await notify({ user: 'inbox-ann' }, 'a4');
      for (const socket of [phone, tablet]) await heard(socket, 'notification:new', (one) => one.title === 'a4');
      // A page that reloads at once, and one that comes back later, are not told again.
      phone.disconnect();
      tablet.disconnect();
      const reloaded = await server.signedIn(ann);
      assert.deepEqual(await listed(reloaded, 'a'), ['a4', 'a3', 'a2', 'a1']);
      assert.deepEqual(titles(reloaded, 'a'), []);
      const stranger = await server.signedIn(late);
      await heard(stranger, 'notification:new', (one) => one.title === 'a3');
      assert.deepEqual(await listed(stranger, 'a'), ['a3'], 'what went to all before they were first seen is not theirs');
    });

    test('two devices that come at the same moment are told once between them', async () => {
      for (let round = 0; round < 20; round += 1) {
        const claims = { userId: `twins-${round}` };
        await notify({ user: claims.userId }, 'twin 1');
        await notify({ user: claims.userId }, 'twin 2');
        const sockets = await Promise.all([WS, POLLING, WS].map((options) => server.signedIn(claims, options)));
        for (const socket of sockets) assert.equal((await listed(socket, 'twin')).length, 2);
        const told = sockets.map((socket) => titles(socket, 'twin'));
        assert.deepEqual(told.flat().sort(), ['twin 1', 'twin 2'], JSON.stringify(told));
        for (const socket of sockets) socket.disconnect();
      }
    });

    test('at most 100 on arrival, with the full count; the rest on the next', async () => {
      const claims = { userId: 'inbox-many' };
      for (let n = 0; n < 130; n += 10) await Promise.all(Array.from({ length: 10 }, (_, i) => notify({ user: claims.userId }, `n${n + i}`)));
      const phone = await server.signedIn(claims);
      const { items } = await ask(phone, 'notification:list', { limit: 200 });
      const inOrder = items.map((one) => one.title).filter((title) => title.startsWith('n')).reverse();
      assert.equal(inOrder.length, 130);
      assert.deepEqual(titles(phone, 'n'), inOrder.slice(0, 100));
      assert.ok(all(phone, 'authenticated')[0].unread >= 130);
      phone.disconnect();
      const again = await server.signedIn(claims, POLLING);
      await ask(again, 'notification:list', {});
      assert.deepEqual(titles(again, 'n'), inOrder.slice(100));
    });

    test('a role that is renewed brings its inbox, and the old one goes', async () => {
      const claims = { userId: 'inbox-climber', role: 'coach' };
      const socket = await server.signedIn(claims);
      await notify({ role: 'hr' }, 'r-hr before');
      await notify({ role: 'coach' }, 'r-coach');
      await heard(socket, 'notification:new', (one) => one.title === 'r-coach');
      assert.deepEqual(await listed(socket, 'r-'), ['r-coach']);
      assert.equal((await ask(socket, 'auth:refresh', { token: token({ ...claims, ...HR }) })).ok, true);
      await until(() => all(socket, 'authenticated').length === 2, 'authenticated is said again');
      assert.deepEqual(await listed(socket, 'r-'), ['r-hr before']);
      await notify({ role: 'coach' }, 'r-coach later');
      await notify({ role: 'hr' }, 'r-hr later');
      await heard(socket, 'notification:new', (one) => one.title === 'r-hr later');
      assert.deepEqual(titles(socket, 'r-'), ['r-coach', 'r-hr before', 'r-hr later'], 'what went to the role before waits for who gets it');
      assert.equal((await ask(socket, 'notification:list', { unreadOnly: true })).unread, all(socket, 'authenticated')[1].unread + 1);
    });

    test('what one device reads or deletes, by socket or HTTP, the others hear of, and it does not', async () => {
      const claims = { userId: 'inbox-sync' };
      const ids = [];
      for (let n = 0; n < 6; n += 1) ids.push(await notify({ user: claims.userId }, `s${n}`));
      const [laptop, tablet] = [await server.signedIn(claims), await server.signedIn(claims, POLLING)];
      const poll = await LongPoll.of(claims, '');
      const others = await server.signedIn({ userId: 'inbox-other' });
      const step = async (acting, act, fits) => {
        const ack = await act();
        assert.equal(ack.ok, true, JSON.stringify(ack));
        for (const socket of [laptop, tablet].filter((one) => one !== acting)) {
          const update = await heard(socket, 'notification:updated', fits);
          assert.ok(Number.isInteger(update.unread));
        }
        await poll.until(({ event, payload }) => event === 'notification:updated' && fits(payload), 'the poll hears of it');
        if (acting) {
          await ask(acting, 'notification:list', {});
          assert.equal(all(acting, 'notification:updated').filter(fits).length, 0, 'who acts has the ack');
        }
      };
      const only = (id, done) => (update) => update[done] === true && update.ids?.length === 1 && update.ids[0] === id;
      await step(laptop, () => ask(laptop, 'notification:read', { id: ids[0] }), only(ids[0], 'read'));
      await step(tablet, () => ask(tablet, 'notification:read', { ids: [ids[1], 999_999_999] }), only(ids[1], 'read'));
      await step(null, async () => (await http(claims, 'POST', '/notifications/read', { id: ids[2] })).json, only(ids[2], 'read'));
      await step(tablet, () => ask(tablet, 'notification:delete', { id: ids[3] }), only(ids[3], 'deleted'));
      await step(null, async () => (await http(claims, 'DELETE', `/notifications/${ids[4]}`)).json, only(ids[4], 'deleted'));
      await step(laptop, () => ask(laptop, 'notification:read', { all: true }), (update) => update.all === true && update.read === true);
      for (const socket of [laptop, tablet]) {
        const { items } = await ask(socket, 'notification:list', { limit: 200 });
        assert.deepEqual(items.filter((one) => one.title.startsWith('s')).map((one) => [one.id, one.read]), [[ids[5], true], [ids[2], true], [ids[1], true], [ids[0], true]]);
      }
      const told = all(tablet, 'notification:updated').length;
      assert.equal((await ask(laptop, 'notification:read', { id: ids[0] })).ok, true);
      assert.equal((await ask(laptop, 'notification:delete', { id: ids[3] })).ok, true);
      await ask(tablet, 'notification:list', {});
      assert.equal(all(tablet, 'notification:updated').length, told, 'what changes nothing is not told');
      assert.equal(all(others, 'notification:updated').length, 0);
    });

    test('texts and metadata are kept letter by letter', async () => {
      const claims = { userId: 'inbox-letters' };
      const texts = '"titleFr":"Réservé 👩🏽‍🏫 e\\u0301 \\u202eעברית","messageFr":"l\'été « à Montréal »\\n\\u0000?","link":"/cours?a=1&b=é#x"';
      const metadata = '{"z":1,"a":{"é":"\\u00e9","n":123456789012345678901234567890,"f":1.10, "e":1E400,"-0":-0.0},"list":[ 9007199254740993,null ],"z2":"</script>"}';
      // As bytes: the client's own JSON would round the numbers.
      const raw = new WebSocket(`${server.url.replace('http', 'ws')}/ws/?EIO=4&transport=websocket`);
      const frames = [];
      raw.on('message', (data) => {
        frames.push(String(data));
        if (data[0] === 0x30) raw.send(`40${JSON.stringify({ token: token(claims) })}`);
      });
      await until(() => frames.some((frame) => frame.startsWith('42["authenticated"')), 'it is signed in');
      const stock = await server.signedIn(claims, POLLING);
      const poll = await http(claims, 'GET', '/events?wait=0');
      const sent = await http(ADMIN, 'POST', '/notifications', `{"target":{"user":"inbox-letters"},"title":"T","message":"M",${texts},"metadata":${metadata}}`);
      assert.equal(sent.status, 200, sent.raw);
      const frame = await until(() => frames.find((one) => one.startsWith('42["notification:new"') && one.includes('"title":"T"')), 'it has come');
      const [expected, polled, list] = [JSON.parse(`{${texts}}`), await http(claims, 'GET', `/events?wait=5&cursor=${poll.json.cursor}`), await http(claims, 'GET', '/notifications')];
      for (const text of [frame, polled.raw, list.raw]) assert.ok(text.includes(`"metadata":${metadata}`), text);
      for (const one of [await heard(stock, 'notification:new', ({ title }) => title === 'T'), JSON.parse(frame.slice(2))[1], polled.json.events[0].payload, list.json.items[0]]) {
        assert.deepEqual({ titleFr: one.titleFr, messageFr: one.messageFr, link: one.link }, expected);
        assert.deepEqual(Object.keys(one.metadata), ['z', 'a', 'list', 'z2']);
      }
      raw.terminate();
    });
  });
});
