// The programs of docs/http.md in the languages of back ends: each notifies once, though its first request is done and never answered,
// and its second is turned away for a moment.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { after, before, test } from 'node:test';
import { Appliance, token } from '../clients/harness.mjs';
import { block, scratch } from './blocks.mjs';

const run = promisify(execFile);
const SERVICE = token({ userId: 'platform', role: undefined, scope: 'notify' });
const LANGUAGES = {
  node: { marked: 'backend=node', file: 'notify.mjs', command: process.execPath, args: ['notify.mjs'] },
  python: { marked: 'backend=python', file: 'notify.py', command: 'python3', args: ['notify.py'] },
  php: { marked: 'backend=php', file: 'notify.php', command: 'php', args: ['notify.php'] },
  dotnet: { marked: 'backend=dotnet', file: 'Program.cs', command: 'dotnet', args: ['run'], project: ['new', 'console', '--force', '--no-restore', '--output', '.'] },
};
let dir;

before(() => { ({ dir } = scratch('backends')); });
after(() => rmSync(dir, { recursive: true, force: true }));

/** Passes on to the server; the first request is done and its answer lost, and the second one is refused for a moment. */
async function faulty(port) {
  const keys = [];
  const proxy = createServer((asked, answer) => {
    keys.push(asked.headers['idempotency-key']);
    if (keys.length === 2) return answer.writeHead(503, { 'retry-after': '1' }).end('{"ok":false}');
    const { method, headers, url } = asked;
    asked.pipe(request({ port, host: '127.0.0.1', method, headers, path: url }, (got) => {
      if (keys.length === 1) return got.resume().once('end', () => answer.destroy());
      answer.writeHead(got.statusCode, got.headers);
      got.pipe(answer);
    }));
  });
  await new Promise((resolve) => { proxy.listen(0, '127.0.0.1', resolve); });
  return { keys, proxy, url: `http://127.0.0.1:${proxy.address().port}` };
}

for (const [language, { marked, file, command, args, project }] of Object.entries(LANGUAGES)) {
  test(`${language}: it is told once, though answers are lost and refused`, async (t) => {
    const isThere = await run(command, ['--version']).then(() => true, () => false);
    if (!isThere) return t.skip(`NOT RUN: there is no ${command} on this machine`);
    const server = await Appliance.start();
    const { keys, proxy, url } = await faulty(server.port);
    try {
      const env = { ...process.env, REALTIME_URL: url, SERVICE };
      if (project) await run(command, project, { cwd: dir, env });
      writeFileSync(join(dir, file), block('http.md', marked));
      const { stdout } = await run(command, args, { cwd: dir, env });
      assert.deepEqual(keys, ['lesson-44', 'lesson-44', 'lesson-44']);
      const { json } = await server.fetch('/api/v1/notifications', { claims: {} });
      assert.deepEqual(json.items.map(({ id, title }) => [id, title]), [[Number(stdout), 'New lesson']]);
      // What is wrong for good is told, and not tried again.
      keys.length = 0;
      keys.push('none', 'none');
      const refused = await run(command, args, { cwd: dir, env: { ...env, SERVICE: token({ role: 'learner' }) } }).then(() => undefined, (error) => error);
      assert.match(`${refused?.stderr}${refused?.stdout}`, /forbidden/);
      assert.equal(keys.length, 3);
    } finally {
      proxy.close();
      await server.stop();
    }
  });
}
