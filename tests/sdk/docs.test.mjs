// docs/sdk.md: its examples are free of type errors, the complete ones run against a real server, and it names all that there is.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { after, before, describe, test } from 'node:test';
import { Appliance, heard, token } from '../clients/harness.mjs';
import { blocksIn } from '../docs/blocks.mjs';
import { errorsOf, membersOf, options, program, root, textOf } from './compiler.mjs';

const page = textOf('docs/sdk.md');
const { blocks } = blocksIn('docs/sdk.md', page);
const examples = blocks.flatMap(({ language, attributes, text }, at) => {
  const name = attributes.find((one) => /^sdk(=|$)/.test(one));
  return name === undefined ? [] : [{ language, name: name.split('=')[1], path: `assets/sdk/example-${at}.${language}`, text }];
});

/** The errors of an example. It stands beside the SDK, as the modules that it imports do. */
function wrongIn({ name, path, text }) {
  // A script without imports or exports would declare its names for all.
  const texts = { [path]: `${text}\nexport {};\n` };
  // What runs is complete; the others take some names from their page.
  const around = name === undefined && !/^import /m.test(text) ? ['tests/sdk/types/page.d.ts'] : [];
  return errorsOf(program([path, ...around], { texts, isNode: name !== undefined || text.includes('./broadcast-service.js') }));
}

describe('the examples have no type errors:', () => {
  assert.ok(examples.length >= 10 && examples.some(({ language }) => language === 'ts'), `only ${examples.length} examples were found`);
  for (const example of examples) {
    test(`${example.path.split('/').at(-1)} ${example.text.split('\n').find((line) => line.trim() !== '')}`, () => assert.deepEqual(wrongIn(example), []));
  }

  test('a mistake in each of them is noticed', () => {
    for (const example of examples) {
      const text = example.text.replace(/\.(emitWithAck|emit|on|toUser|request)\(/, '.no$1(').replace(/\b(useRoom)\('/, "no$1('");
      assert.notEqual(text, example.text, `${example.path} uses nothing of the SDK`);
      assert.match(wrongIn({ ...example, text }).join('\n'), /no(emitWithAck|emit|on|toUser|request|useRoom)/, example.path);
    }
  });

  test('every block of JavaScript and TypeScript is among them, and the JSON is what they are checked with', () => {
    assert.equal([...page.matchAll(/^```(js|ts)\b/gm)].length, examples.length);
    const [{ compilerOptions }] = blocks.filter(({ language, attributes }) => language === 'json' && attributes.includes('check')).map(({ text }) => JSON.parse(text));
    for (const name of Object.keys(compilerOptions.paths)) assert.ok(options.paths[name], name);
  });
});

describe('the complete examples run', () => {
  let dir;
  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'academy-rt-sdk-'));
    symlinkSync(join(root, 'tests/sdk/node_modules'), join(dir, 'node_modules'));
    writeFileSync(join(dir, 'package.json'), '{ "type": "module" }');
    for (const name of ['academy-rt.js', 'broadcast-service.js']) copyFileSync(join(root, 'assets/sdk', name), join(dir, name));
    for (const { name, text } of examples) if (name !== undefined) writeFileSync(join(dir, `${name}.mjs`), text);
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  const run = (name, env) => promisify(execFile)(process.execPath, [`${name}.mjs`], { cwd: dir, env: { PATH: process.env.PATH, ...env }, timeout: 30_000 });

  for (const [way, isOn] of [['websocket', true], ['http', false]]) {
    test(`the chat, by ${way}`, async () => {
      const server = await Appliance.start({ env: { WEBSOCKET_ENABLED: String(isOn) } });
      try {
        const env = { RT_URL: server.url, RT_TOKEN: token({ userId: 7, name: 'Ann' }) };
        const first = await run('chat', env);
        assert.match(first.stdout, new RegExp(`^transport: ${way} `, 'm'));
        assert.match(first.stdout, /^stored as number 1 of the room$/m);
        assert.doesNotMatch(first.stdout, /earlier/);
        const second = await run('chat', env);
        assert.match(second.stdout, /^earlier, Ann: Hello!$/m);
        assert.match(second.stdout, /^stored as number 2 of the room$/m);
        const refused = await run('chat', { ...env, RT_TOKEN: 'x' }).catch((error) => error);
        assert.deepEqual([refused.code, /^token_malformed: /m.test(refused.stderr)], [1, true], refused.stderr);
      } finally {
        await server.stop();
      }
    });
  }

  test('the broadcast service', async () => {
    const server = await Appliance.start();
    try {
      const ann = await server.signedIn({ userId: 7 });
      const env = { RT_URL: server.url, RT_SERVICE_TOKEN: token({ userId: 'billing', role: 'none', scope: 'broadcast notify' }) };
      const { stdout } = await run('broadcast', env);
      assert.match(stdout, /^addressed to 1 sockets$/m);
      const { id, link } = await heard(ann, 'notification:new');
      assert.match(stdout, new RegExp(`^stored as notification ${id}$`, 'm'));
      assert.equal(link, '/lessons/43');
      assert.deepEqual(await heard(ann, 'lesson:unlocked'), { lessonId: 43 });
      const { json } = await server.fetch('/api/v1/rooms/classroom/messages', { claims: { userId: 8 } });
      assert.deepEqual(json.messages.map(({ senderName, content }) => [senderName, content]), [['Academy', 'Welcome, everybody!']]);
      const failed = await run('broadcast', { ...env, RT_SERVICE_TOKEN: token({ userId: 7 }) }).catch((error) => error);
      assert.deepEqual([failed.code, /^forbidden: /m.test(failed.stderr)], [1, true], failed.stderr);
    } finally {
      await server.stop();
    }
  });
});

describe('a right to a room that is lost is told as the page says', () => {
  for (const [way, isOn, names] of [['websocket', true, ['roomId', 'field']], ['http', false, ['roomId']]]) {
    test(`by ${way}`, async () => {
      const server = await Appliance.start({ env: { WEBSOCKET_ENABLED: String(isOn) } });
      const { connect } = await import('../../assets/sdk/academy-rt.js');
      const { io } = await import('socket.io-client');
      const socket = connect({ io, url: server.url, token: token({ userId: 7 }) });
      try {
        const admin = (method, path, body) => server.fetch(`/api/v1/admin/rooms${path}`, { method, claims: { userId: 1, role: 'admin' }, body });
        await admin('POST', '', { roomId: 'staff', private: true, members: [7] });
        assert.equal((await socket.emitWithAck('chat:join', 'staff')).ok, true);
        const failure = new Promise((resolve) => { socket.on('request:error', resolve); });
        await admin('DELETE', '/staff/members/7', {});
        const { event, code, message, ...more } = await failure;
        assert.deepEqual([socket.transport, event, code, Object.keys(more)], [way, 'chat:join', 'forbidden', names], message);
        if (isOn) assert.match(message, /\bstaff\b/);
        assert.equal(more.roomId, 'staff');
        assert.equal((await socket.emitWithAck('presence:list', 'staff')).error.code, 'not_joined');
      } finally {
        socket.disconnect();
        await server.stop();
      }
    });
  }
});

describe('the page names', () => {
  const CLIENT = 'assets/sdk/academy-rt.d.ts';
  const SERVICE = 'assets/sdk/broadcast-service.d.ts';
  /** What stands between backticks, at its beginning: `toUser(userId, ...)` names toUser. */
  const named = new Set([...page.replace(/^```[^]*?^```$/gm, '').matchAll(/`([^`\n]+)`/g)].flatMap(([, text]) => [text, text.split('(')[0]]));
  const missing = (names) => names.filter((name) => !named.has(name));
  for (const [path, types] of [[CLIENT, ['ConnectOptions', 'AcademySocket', 'ClientEvents', 'ServerEvents']], [SERVICE, ['BroadcastService', 'BroadcastOptions', 'CallOptions', 'NotificationContent']]]) {
    for (const type of types) {
      test(`everything that is in ${type}`, () => {
        const members = membersOf(path, type);
        assert.ok(members.length >= 2);
        assert.deepEqual(missing(members), []);
      });
    }
  }

  test('each error that the modules make', () => {
    const sources = [...readdirSync(join(root, 'assets/sdk/src')).map((name) => `assets/sdk/src/${name}`), 'assets/sdk/broadcast-service.js'].map(textOf).join('\n');
    const made = [...sources.matchAll(/(?:refused\(|new BroadcastError\(|\bcode: (?:\/\*\* @type \{const\} \*\/ \()?|\bcode \?\? )'([a-z_]+)'/g)].map(([, code]) => code);
    assert.ok(made.includes('outbox_full') && made.includes('unreachable') && made.includes('not_persisted'), made.join());
    // The proxy's 429 is handled as the server's: it is sent again.
    assert.deepEqual(missing([...new Set(made)]), []);
  });

  test('the defaults as they are', () => {
    const [, source] = /const DEFAULTS = \{([^]*?)\n\};/.exec(textOf('assets/sdk/src/connection.js'));
    const defaults = [...source.matchAll(/^ {2}(\w+): ([\d_ *]+),$/gm)].map(([, name, value]) => [name, value.split('*').reduce((product, one) => product * Number(one.replaceAll('_', '')), 1)]);
    assert.ok(defaults.length >= 7, String(defaults));
    for (const [name, value] of defaults) assert.ok(page.includes(`| \`${name}\` | ${value.toLocaleString('en')} |`), `${name}: ${value}`);
  });
});
