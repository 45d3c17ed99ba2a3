// Four people with the SDK, each on a line of their own that breaks at random in every way there is, and a server that is
// killed, restarted and switched at random: in the end each view is the store's, and the store has what was said, once and in
// order. SDK_SEED repeats a run's decisions, not its timing.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { all, assertRising, until } from './harness.mjs';
import { Line } from './line.mjs';
import { MemoryStorage, Site, isBy } from './page.mjs';

const SECONDS = Number(process.env.SDK_SECONDS ?? 15);
const seed = Number(process.env.SDK_SEED ?? Math.floor(Math.random() * 2 ** 31));
const rooms = ['a', 'b', 'c'];
const transports = [['websocket', 'polling'], ['polling'], ['websocket'], ['polling', 'websocket']];
const rest = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** Random numbers of 0 to 1 that a seed determines (mulberry32). */
function dice(from) {
  let state = from >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

let site;
const people = [];
before(async () => {
  site = await Site.open({ tls: seed % 2 === 1 });
  for (let i = 0; i < transports.length; i += 1) {
    const line = await Line.to(site.server.port);
    const page = site.page({ userId: 10 + i }, {
      url: `${site.server.tls ? 'https' : 'http'}://127.0.0.1:${line.port}`, transports: transports[i], storage: new MemoryStorage(),
    });
    for (const roomId of rooms) assert.ok((await page.emitWithAck('chat:join', { roomId })).ok);
    people.push({ userId: 10 + i, line, page, said: { a: 0, b: 0, c: 0 }, reports: 0 });
  }
});
after(async () => {
  for (const { line } of people) await line.close();
  await site.close();
});

test(`nothing is lost, doubled or out of order in ${SECONDS} s of random faults (seed ${seed})`, async () => {
  const end = Date.now() + SECONDS * 1_000;
  let isOn = true;
  const notified = [];
  const talk = async (roll) => {
    while (Date.now() < end) {
      const person = people[Math.floor(roll() * people.length)];
      const roomId = rooms[Math.floor(roll() * rooms.length)];
      person.said[roomId] += 1;
      person.page.emit('chat:message', { roomId, content: `${person.userId} ${person.said[roomId]}` });
      if (roll() < 0.3) {
        person.reports += 1;
        person.page.emit('progress:sync', { lessonId: 1, progress: 50, timeSpent: 1 });
      }
      await rest(roll() * 20);
    }
  };
  const damage = async ({ line }, roll) => {
    while (Date.now() < end) {
      await rest(roll() * 1_500);
      const kind = roll();
      if (kind < 0.6) line.cut();
      else line.state = kind < 0.8 ? 'silent' : 'deaf';
      await rest(kind < 0.2 ? 0 : roll() * 1_200);
      line.mend();
    }
  };
  const upset = async (roll) => {
    while (Date.now() < end) {
      await rest(roll() * 3_000);
      const kind = roll();
      if (kind < 0.5) {
        isOn = !isOn;
        await site.flip(isOn);
      } else {
        if (kind < 0.8) await site.server.kill();
        else await site.server.halt();
        await rest(roll() * 300);
        await site.server.launch();
      }
    }
  };
  const notify = async (roll) => {
    for (let n = 1; Date.now() < end; n += 1) {
      const send = () => site.server.fetch('/api/v1/notifications', {
        claims: { userId: 1, role: 'admin' }, method: 'POST', headers: { 'idempotency-key': `k${n}` }, body: { target: { all: true }, title: 'T', message: String(n) },
      }).catch(() => undefined);
      const answer = await until(async () => { const got = await send(); return got?.status === 200 && got; }, 'it is notified');
      notified.push(answer.json.id);
      await rest(roll() * 200);
    }
  };
  await Promise.all([talk(dice(seed)), upset(dice(seed + 1)), notify(dice(seed + 2)), ...people.map((person, i) => damage(person, dice(seed + 3 + i)))]);
  if (!isOn) await site.flip(true);

  for (const { page } of people) {
    await until(() => page.pending === 0, 'the outbox is empty', 60_000);
    await isBy(page, 'realtime');
  }
  for (const roomId of rooms) {
    const stored = await site.room(roomId);
    assertRising(stored.map(({ seq }) => seq));
    for (const { userId, said, page } of people) {
      const own = stored.filter(({ senderId }) => senderId === userId).map(({ content }) => content);
      assert.deepEqual(own, Array.from({ length: said[roomId] }, (_, n) => `${userId} ${n + 1}`), 'what was said is stored, once and in order');
      const seen = () => all(page, 'chat:message').filter((message) => message.roomId === roomId);
      await until(() => seen().length >= stored.length, `${userId} has seen all of ${roomId}`);
      assert.deepEqual(seen().map(({ id }) => id), stored.map(({ id }) => id));
    }
  }
  for (const { userId, reports, page } of people) {
    const [lesson] = (await page.emitWithAck('progress:get', { lessonId: 1 })).items;
    assert.deepEqual([lesson.timeSpent, lesson.syncVersion], [reports, reports], 'each report was added once');
    const versions = all(page, 'progress:updated').map(({ syncVersion }) => syncVersion);
    assert.ok(versions.every((version, i) => i === 0 || version > versions[i - 1]), 'versions rise');
    assert.equal(versions.at(-1), reports);
    await until(() => all(page, 'notification:new').length >= notified.length, `${userId} has all notifications`);
    assert.deepEqual(all(page, 'notification:new').map(({ id }) => id), notified);
    for (const event of ['request:error', 'resync', 'auth_error']) assert.deepEqual(all(page, event), []);
  }
});
