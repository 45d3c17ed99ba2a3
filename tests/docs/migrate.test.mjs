// docs/migrate.md: its token is accepted, and its import stores what it is given, once.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { after, before, test } from 'node:test';
import { Appliance, secret } from '../clients/harness.mjs';
import { block, scratch } from './blocks.mjs';

const run = promisify(execFile);
let dir;
let env;
let server;

before(async () => {
  const place = scratch('migrate');
  dir = place.dir;
  server = await Appliance.start();
  env = { PATH: place.path, JWT_SECRET: secret, REALTIME_URL: server.url, ACADEMY_RT_STORAGE_DATA_DIR: server.data };
});

after(async () => {
  await server?.stop();
  rmSync(dir, { recursive: true, force: true });
});

const shell = async (name) => (await run('bash', ['-ec', block('migrate.md', `migrate=${name}`)], { cwd: dir, env })).stdout;
const node = async (name, ...args) => {
  writeFileSync(join(dir, `${name}.mjs`), block('migrate.md', `migrate=${name}`));
  return (await run(process.execPath, [`${name}.mjs`, ...args], { cwd: dir, env })).stdout;
};

test('a token that the platform mints as on the page signs in, with its role', async () => {
  const { status, json } = await server.fetch('/api/v1/session', { bearer: (await node('token')).trim() });
  assert.equal(status, 200, JSON.stringify(json));
  assert.deepEqual([json.userId, json.name, json.role], [7, 'Ann', 'hr']);
});

test('the room is made, rows are imported, and a second run stores nothing twice', async () => {
  await shell('room');
  env.SERVICE = (await shell('service')).trim();
  const message = (id, userId, name, content) => ({ kind: 'message', id, roomId: 'course-42', userId, name, content });
  const rows = [
    message(1, 7, 'Ann', 'Hello!'), message(2, 8, 'Bob', 'Hi Ann'), message(3, 7, 'Ann', 'Ready?'),
    { kind: 'progress', id: 1, userId: 7, lessonId: 42, progress: 75, timeSpent: 120 },
  ];
  writeFileSync(join(dir, 'rows.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  for (let time = 0; time < 2; time += 1) {
    assert.match(await node('import', 'rows.jsonl'), /^4 rows imported$/m);
    const { json } = await server.fetch('/api/v1/rooms/course-42/messages', { claims: { userId: 8, name: 'Bob' } });
    assert.deepEqual(json.messages.map(({ seq, senderId, senderName, content }) => [seq, senderId, senderName, content]), [
      [1, 7, 'Ann', 'Hello!'], [2, 8, 'Bob', 'Hi Ann'], [3, 7, 'Ann', 'Ready?'],
    ]);
    const { json: { items } } = await server.fetch('/api/v1/progress', { claims: { userId: 7 } });
    assert.deepEqual(items.map(({ lessonId, progress, timeSpent, syncVersion }) => [lessonId, progress, timeSpent, syncVersion]), [[42, 75, 120, 1]]);
  }
  assert.equal((await server.fetch('/api/v1/rooms/course-42/messages', { claims: { userId: 99 } })).status, 403, 'the room is private');
});
