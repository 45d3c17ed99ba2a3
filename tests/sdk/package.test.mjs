// The npm packages of the SDK, as a front end or a back end installs them: in fresh directories, with Node.js, TypeScript, Vite,
// Vitest with jsdom, a worker, and a server that renders pages; against the real binary, and against the server in memory.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { after, before, describe, test } from 'node:test';
import { Appliance, binary, noLimits, token, until } from '../clients/harness.mjs';
import { textOf } from './compiler.mjs';

const version = /^version = "(.+)"$/m.exec(textOf('Cargo.toml'))[1];
const CLIENT = `academy-rt-client-${version}.tgz`;
const SERVICE = `academy-rt-broadcast-${version}.tgz`;
const IO = 'socket.io-client@4.8.4';
const REACT = ['react@19.3.1', 'react-dom@19.3.1'];
const WITH_TYPES = ['typescript@5.9.3', '@types/node@20.19.43', '@types/react@19.3.3'];
const ORIGIN = 'http://localhost:3000';

const run = (command, args, { cwd, env = {} }) => promisify(execFile)(command, args, { cwd, env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env }, timeout: 120_000, maxBuffer: 1 << 24 })
  .catch((error) => { throw new Error(`${command} ${args.join(' ')}: ${error.message}\n${error.stdout}\n${error.stderr}`); });

let dir;
let server;
let env;
before(async () => {
  dir = mkdtempSync(join(tmpdir(), 'academy-rt-npm-'));
  await run(binary, ['sdk', dir], { cwd: dir });
  server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_SERVER_CORS_ORIGINS: ORIGIN } });
  env = { RT_URL: server.url, RT_TOKEN: token({ userId: 7, name: 'Ann' }) };
});
after(async () => {
  await server?.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** A fresh directory with these packages, and these files in it. */
async function project(name, packages, files = {}, manifest = {}) {
  const cwd = join(dir, name);
  mkdirSync(cwd);
  writeFileSync(join(cwd, 'package.json'), JSON.stringify({ private: true, ...manifest }));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(cwd, path, '..'), { recursive: true });
    writeFileSync(join(cwd, path), text);
  }
  await run('npm', ['i', '--no-audit', '--no-fund', '--loglevel=error', '--prefer-offline', ...packages.map((one) => (one.endsWith('.tgz') ? join(dir, one) : one))], { cwd });
  return cwd;
}

describe('a package', () => {
  test('is served under two names, is what the command writes, and is the same each time', async () => {
    const again = mkdtempSync(join(dir, 'again-'));
    await run(binary, ['sdk', again], { cwd: dir });
    assert.deepEqual(readdirSync(again).sort(), [SERVICE, CLIENT]);
    for (const name of [CLIENT, SERVICE]) {
      const bytes = readFileSync(join(dir, name));
      assert.deepEqual(readFileSync(join(again, name)), bytes);
      for (const file of [name, name.replace(`-${version}`, '')]) {
        const answer = await fetch(`${server.url}/sdk/${file}`);
        assert.deepEqual([answer.status, answer.headers.get('content-type')], [200, 'application/gzip'], file);
        assert.deepEqual(Buffer.from(await answer.arrayBuffer()), bytes, file);
        assert.equal((await fetch(`${server.url}/sdk/${file}`, { headers: { 'if-none-match': answer.headers.get('etag') } })).status, 304);
      }
    }
    assert.equal((await fetch(`${server.url}/sdk/academy-rt-client-0.0.0.tgz`)).status, 404);
  });

  test('has the modules that the server serves, and depends on nothing', async () => {
    const cwd = await project('bare', [CLIENT, IO]);
    const installed = join(cwd, 'node_modules/academy-rt-client');
    for (const name of ['academy-rt.js', 'academy-rt.d.ts']) assert.equal(readFileSync(join(installed, name), 'utf8'), textOf(`assets/sdk/${name}`));
    const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
    assert.deepEqual([manifest.version, manifest.dependencies, Object.keys(manifest.peerDependencies), manifest.peerDependenciesMeta], [version, undefined, ['react', 'socket.io-client'], { react: { optional: true } }]);
    assert.ok(!readdirSync(join(cwd, 'node_modules')).includes('react'));
    for (const [, paths] of Object.entries(manifest.exports)) {
      for (const path of JSON.stringify(paths).match(/\.\/[\w.-]+/g)) assert.ok(readdirSync(installed).includes(path.slice(2)), path);
    }
    // Files on npm's side of the package: nothing else comes.
    assert.deepEqual(readdirSync(installed).filter((name) => !/^(academy-rt|index|react|testing)\.(js|cjs|d\.ts|d\.cts)$/.test(name)).sort(), ['LICENSE', 'README.md', 'package.json']);
    assert.ok(readFileSync(join(installed, 'README.md'), 'utf8').includes(CLIENT));
  });

  for (const [kind, file, head] of [
    ['import', 'program.mjs', "import { RequestError, connect } from 'academy-rt-client';"],
    ['require', 'program.cjs', "const { RequestError, connect } = require('academy-rt-client');"],
  ]) {
    test(`is used by ${kind} of Node.js, against the server`, async () => {
      const cwd = await project(`node-${kind}`, [CLIENT, IO], {
        [file]: `${head}
          const socket = connect({ url: process.env.RT_URL, token: process.env.RT_TOKEN });
          (async () => {
            await socket.request('chat:join', { roomId: '${kind}' });
            const { seq } = await socket.request('chat:message', { roomId: '${kind}', content: 'Hello!' });
            const refusal = await socket.request('chat:message', { roomId: '${kind}', content: '' }).catch((error) => error);
            console.log(seq, refusal instanceof RequestError, refusal.code, refusal.field, socket.transport);
            socket.disconnect();
          })();`,
      });
      assert.equal((await run('node', [file], { cwd, env })).stdout.trim(), '1 true invalid_payload content websocket');
    });

    test(`of the broadcast service is used by ${kind}, and brings nothing with it`, async () => {
      const cwd = await project(`broadcast-${kind}`, [SERVICE], {
        [file]: `${head.replace('academy-rt-client', 'academy-rt-broadcast').replace('RequestError, connect', 'BroadcastError, createBroadcastService')}
          const rt = createBroadcastService({ url: process.env.RT_URL, token: process.env.RT_SERVICE });
          (async () => {
            const { id } = await rt.notify({ user: 5 }, { title: 'T', message: 'M' });
            const refusal = await rt.toUser(5, '', {}).catch((error) => error);
            console.log(id > 0, refusal instanceof BroadcastError);
          })();`,
      });
      assert.deepEqual(readdirSync(join(cwd, 'node_modules')).filter((name) => !name.startsWith('.')), ['academy-rt-broadcast']);
      const { stdout } = await run('node', [file], { cwd, env: { ...env, RT_SERVICE: token({ userId: 'svc', role: 'none', scope: 'broadcast notify' }) } });
      assert.equal(stdout.trim(), 'true true');
    });
  }

  test('is used in a worker', async () => {
    const cwd = await project('worker', [CLIENT, IO], {
      'main.mjs': `import { Worker } from 'node:worker_threads';
        const worker = new Worker(new URL('./worker.mjs', import.meta.url));
        worker.on('message', (text) => { console.log(text); worker.terminate(); });
        worker.on('error', (error) => { console.error(error); process.exit(1); });`,
      'worker.mjs': `import { parentPort } from 'node:worker_threads';
        import { connect } from 'academy-rt-client';
        const socket = connect({ url: process.env.RT_URL, token: process.env.RT_TOKEN, storage: () => globalThis.localStorage });
        socket.on('storage', ({ reason }) => console.log(reason));
        const { seq } = await socket.request('chat:message', { roomId: 'worker', content: 'Hello!' });
        parentPort.postMessage(\`stored as \${seq}\`);`,
    });
    assert.match((await run('node', ['main.mjs'], { cwd, env })).stdout, /^missing\nstored as 1$/m);
  });
});

describe('types, strict,', () => {
  let cwd;
  const PROGRAM = `import { connect, RequestError, type ErrorCode, type AcademySocket } from 'academy-rt-client';
    import { AcademyProvider, useAcademy, useNotifications, useProgress, useRoom } from 'academy-rt-client/react';
    import { FakeAcademy } from 'academy-rt-client/testing';
    import { createBroadcastService } from 'academy-rt-broadcast';
    import { createElement } from 'react';
    type Own = { 'lesson:unlocked': (payload: { lessonId: number }) => void };
    export const socket: AcademySocket<Own> = connect<Own>({ url: 'https://rt.example.org', getToken: async () => null, storage: () => null });
    socket.on('lesson:unlocked', ({ lessonId }) => lessonId.toFixed());
    export async function f(): Promise<number | ErrorCode> {
      try { return (await socket.request('chat:message', { roomId: 1, content: 'x' })).seq; } catch (error) {
        if (error instanceof RequestError) return error.code;
        throw error;
      }
    }
    export function Room() {
      const { messages, send, typing } = useRoom('a', { limit: 20 });
      const { progress, report } = useProgress(42);
      const { items } = useProgress();
      const { unread, markAllRead } = useNotifications();
      const { transport, session } = useAcademy();
      void send('x'); void report({ progress: 5 }); void markAllRead();
      return createElement('p', null, messages.map(({ content }) => content), typing.length, progress?.syncVersion, items.length, unread, transport, session?.name);
    }
    export const page = createElement(AcademyProvider, { options: { token: 'x' } }, createElement(Room));
    const academy = new FakeAcademy();
    const answer = academy.as(7, 'chat:rooms');
    export const rooms = answer.ok ? answer.rooms.length : answer.error.message;
    export const service = createBroadcastService({ url: 'https://rt.example.org', token: 'x' });
  `;
  before(async () => { cwd = await project('types', [CLIENT, SERVICE, IO, ...REACT, ...WITH_TYPES]); });
  const check = async (name, text, settings) => {
    const at = join(cwd, name.replace(/\W/g, '-'));
    mkdirSync(at, { recursive: true });
    const file = /\.[mc]?ts$/.exec(name) ? name : `${name}.ts`;
    writeFileSync(join(at, file), text);
    const compilerOptions = { strict: true, noEmit: true, skipLibCheck: false, exactOptionalPropertyTypes: true, target: 'es2022', lib: ['es2022', 'dom', 'dom.iterable'], types: ['node'], ...settings };
    writeFileSync(join(at, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: [file] }));
    return run(join(cwd, 'node_modules/.bin/tsc'), ['-p', at], { cwd }).then(() => '', (error) => error.message);
  };
  // A library of the page may be wrong by itself: what counts are errors in the program and in these packages.
  const ours = (said) => said.split('\n').filter((line) => /error TS/.test(line) && (!line.includes('node_modules/') || line.includes('academy-rt')));

  for (const [resolution, module] of [['bundler', 'esnext'], ['node16', 'node16'], ['nodenext', 'nodenext']]) {
    for (const kind of resolution === 'bundler' ? ['ts'] : ['mts', 'cts']) {
      test(`with moduleResolution ${resolution}, in .${kind}`, async () => {
        const settings = { module, moduleResolution: resolution };
        assert.deepEqual(ours(await check(`good-${resolution}.${kind}`, PROGRAM, settings)), []);
        const said = await check(`bad-${resolution}.${kind}`, PROGRAM.replace("socket.request('chat:message'", "socket.request('chat:mesage'"), settings);
        assert.ok(ours(said).some((line) => line.includes('chat:mesage')), said);
      });
    }
  }
});

describe('React', () => {
  let cwd;
  const APP = `import { createElement as h, StrictMode } from 'react';
    import { AcademyProvider, useAcademy, useNotifications, useProgress, useRoom } from 'academy-rt-client/react';
    export const seen = {};
    function Room({ roomId }) {
      const room = useRoom(roomId);
      const lesson = useProgress(42);
      const inbox = useNotifications();
      const academy = useAcademy();
      Object.assign(seen, { room, lesson, inbox, academy });
      return h('main', null,
        h('p', { id: 'state' }, academy.transport + ' ' + room.status + ' ' + (academy.session?.name ?? 'nobody')),
        h('ol', null, room.messages.map(({ id, content, senderName }) => h('li', { key: id }, senderName + ': ' + content))),
        h('p', { id: 'progress' }, lesson.progress ? lesson.progress.progress + '% of lesson ' + lesson.progress.lessonId : lesson.isLoading ? 'loading' : 'nothing yet'),
        h('p', { id: 'unread' }, inbox.unread + ' unread of ' + inbox.items.length));
    }
    export const App = ({ roomId, ...props }) => h(StrictMode, null, h(AcademyProvider, props, h(Room, { roomId })));`;
  before(async () => {
    cwd = await project('react', [CLIENT, IO, ...REACT, 'vite@7.3.8', 'vitest@3.2.7', 'jsdom@26.1.0'], {
      'app.js': APP,
      'main.js': `import { createElement } from 'react';
        import { createRoot } from 'react-dom/client';
        import { App } from './app.js';
        createRoot(document.getElementById('root')).render(createElement(App, { roomId: 'vite', options: { url: '/rt', token: 'x' } }));`,
      'index.html': '<div id="root"></div><script type="module" src="./main.js"></script>',
      'ssr.mjs': `import { createElement } from 'react';
        import { renderToString } from 'react-dom/server';
        import { App } from './app.js';
        const render = () => renderToString(createElement(App, { roomId: 'ssr', options: { getToken: () => { throw new Error('a page that is rendered asks for no token'); } } }));
        const [first, second] = [render(), render()];
        console.log(first === second, first);`,
      'vite.config.js': `export default { test: { environment: 'jsdom', environmentOptions: { jsdom: { url: '${ORIGIN}' } }, testTimeout: 30_000 }, build: { minify: 'esbuild' } };`,
      'real.test.js': `import { createElement } from 'react';
        import { createRoot } from 'react-dom/client';
        import { expect, test } from 'vitest';
        import { App, seen } from './app.js';
        const { RT_URL, RT_TOKEN, RT_OTHER, RT_ADMIN } = process.env;
        const until = async (condition) => { for (const end = Date.now() + 20_000; !await condition();) { if (Date.now() > end) throw new Error('gave up: ' + condition + document.body.innerHTML); await new Promise((resolve) => { setTimeout(resolve, 10); }); } };
        const call = async (token, path, body) => { const answer = await fetch(RT_URL + '/api/v1' + path, { method: 'POST', headers: { authorization: 'Bearer ' + token, 'content-type': 'application/json' }, body: JSON.stringify(body) }); expect(answer.status).toBe(200); return answer.json(); };
        const text = (selector) => document.querySelector(selector)?.textContent;
        test('the hooks show what the server has, in StrictMode', async () => {
          const { id } = await call(RT_OTHER, '/rooms/hooks/messages', { content: 'before' });
          document.body.innerHTML = '<div id="root"></div>';
          const root = createRoot(document.getElementById('root'));
          root.render(createElement(App, { roomId: 'hooks', options: { url: RT_URL, token: RT_TOKEN } }));
          await until(() => /^websocket joined Ann$|^polling joined Ann$/.test(text('#state')));
          expect([...document.querySelectorAll('li')].map((line) => line.textContent)).toEqual(['Bob: before']);
          await call(RT_OTHER, '/rooms/hooks/messages', { content: 'live' });
          await until(() => text('ol')?.includes('Bob: live'));
          expect(await seen.room.send('mine')).toMatchObject({ seq: 3 });
          await until(() => text('ol') === 'Bob: beforeBob: liveAnn: mine' && seen.room.pending.length === 0);
          const own = seen.room.messages.at(-1).id;
          await seen.room.edit(own, 'mine, edited');
          await until(() => text('ol')?.endsWith('Ann: mine, edited'));
          await seen.room.remove(own);
          await until(() => text('ol')?.endsWith('Ann: '));
          await expect(seen.room.edit(id, 'not mine')).rejects.toMatchObject({ name: 'RequestError', code: 'forbidden' });
          // Who types is told to whoever can take it at once, and not kept: a client that is just changing its transport does not hear of it.
          await until(async () => { await call(RT_OTHER, '/rooms/hooks/typing', { isTyping: true }); return seen.room.typing.length === 1; });
          await until(() => text('#progress') === 'nothing yet');
          await seen.lesson.report({ progress: 60, timeSpent: 5 });
          await until(() => text('#progress') === '60% of lesson 42');
          await call(RT_ADMIN, '/notifications', { target: { user: 7 }, title: 'T', message: 'M' });
          await until(() => text('#unread') === '1 unread of 1');
          await seen.inbox.markAllRead();
          await until(() => text('#unread') === '0 unread of 1');
          await seen.inbox.remove(seen.inbox.items[0].id);
          await until(() => text('#unread') === '0 unread of 0');
          const { socket } = seen.academy;
          root.unmount();
          await until(() => !socket.active);
          // The next page of the same user has it all again.
          const next = createRoot(document.getElementById('root'));
          next.render(createElement(App, { roomId: 'hooks', options: { url: RT_URL, token: RT_TOKEN } }));
          await until(() => text('#state')?.endsWith('joined Ann') && text('#progress') === '60% of lesson 42');
          expect(document.querySelectorAll('li').length).toBe(3);
          next.unmount();
        });`,
      'fake.test.js': `import { createElement } from 'react';
        import { createRoot } from 'react-dom/client';
        import { afterEach, expect, test } from 'vitest';
        import { FakeAcademy } from 'academy-rt-client/testing';
        import { App, seen } from './app.js';
        const until = async (condition) => { for (const end = Date.now() + 10_000; !condition();) { if (Date.now() > end) throw new Error('gave up: ' + condition + document.body.innerHTML); await new Promise((resolve) => { setTimeout(resolve, 5); }); } };
        const text = (selector) => document.querySelector(selector)?.textContent;
        const academy = new FakeAcademy();
        let root;
        const show = (socket, roomId) => {
          document.body.innerHTML = '<div id="root"></div>';
          root = createRoot(document.getElementById('root'));
          root.render(createElement(App, { roomId, socket }));
        };
        afterEach(() => { root.unmount(); academy.close(); });
        test('a page that goes offline keeps what was written, and sends it', async () => {
          show(academy.connect({ userId: 7, name: 'Ann' }), 'r');
          // Whatever has been asked for counts among what waits.
          await until(() => text('#state') === 'websocket joined Ann' && seen.academy.pending === 0);
          academy.goOffline();
          await until(() => text('#state')?.startsWith('offline'));
          const sent = seen.room.send('from a tunnel');
          await until(() => seen.academy.pending === 1 && seen.room.pending.length === 1);
          seen.academy.socket.emit('chat:read', { roomId: 'r', messageId: 1 });
          await until(() => seen.academy.pending === 2);
          academy.say('r', { userId: 8, name: 'Bob' }, 'meanwhile');
          academy.goOnline();
          await sent;
          await until(() => text('ol') === 'Bob: meanwhileAnn: from a tunnel');
          academy.realtime = false;
          await until(() => text('#state')?.startsWith('http'));
          academy.say('r', { userId: 8, name: 'Bob' }, 'by HTTP');
          await until(() => text('ol')?.endsWith('Bob: by HTTP'));
          academy.realtime = true;
          await until(() => text('#state')?.startsWith('websocket'));
        });
        test('a notification that comes while the list of them is on its way is shown', async () => {
          const socket = academy.connect({ userId: 11, name: 'Dee' });
          const request = socket.request.bind(socket);
          let asked = 0;
          socket.request = async (event, payload) => {
            const answer = await request(event, payload);
            if (event !== 'notification:list') return answer;
            asked += 1;
            if (asked === 1) {
              const told = new Promise((resolve) => { socket.once('notification:new', resolve); });
              academy.notify({ user: 11 }, { title: 'T', message: 'M' });
              await told;
            }
            return answer;
          };
          show(socket, 'n');
          await until(() => asked > 0 && !seen.inbox.isLoading && text('#unread') === '1 unread of 1');
        });
        test('a room that may not be entered is told, and entered when it may', async () => {
          academy.room('private', { isPrivate: true });
          show(academy.connect({ userId: 9, name: 'Cid' }), 'private');
          await until(() => seen.room.status === 'refused' && seen.room.error.code === 'forbidden');
          academy.room('private', { isPrivate: true, members: [9] });
          seen.room.retry();
          await until(() => seen.room.status === 'joined');
          academy.refuse('chat:message', { code: 'rate_limited', retryAfterMs: 1 });
          expect(await seen.room.send('limited, and sent')).toMatchObject({ seq: 1 });
          academy.refuse('chat:message', { code: 'conflict' });
          await expect(seen.room.send('refused')).rejects.toMatchObject({ code: 'conflict' });
          academy.refuseTokens(9);
          await until(() => seen.academy.error?.code === 'token_revoked' && seen.academy.session === null);
        });`,
    }, { type: 'module' });
  });

  test('is rendered on a server: twice the same, without a connection, and the process ends by itself', async () => {
    const { stdout } = await run('node', ['ssr.mjs'], { cwd });
    assert.equal(stdout.trim(), 'true <main><p id="state">offline joining nobody</p><ol></ol><p id="progress">loading</p><p id="unread">0 unread of 0</p></main>');
  });

  test('is built by Vite', async () => {
    await run('npx', ['vite', 'build', '--logLevel', 'warn'], { cwd });
    const [script] = readdirSync(join(cwd, 'dist/assets')).filter((name) => name.endsWith('.js'));
    const built = readFileSync(join(cwd, 'dist/assets', script), 'utf8');
    assert.ok(built.includes('chat:join') && built.length > 100_000, String(built.length));
    assert.ok(!built.includes('FakeAcademy') && !built.includes('academy-rt.test'), 'what tests need is not in a page');
  });

  test('in Vitest with jsdom: against the real server, and against the one in memory', async () => {
    const { stdout } = await run('npx', ['vitest', 'run', '--reporter', 'json'], {
      cwd, env: { ...env, RT_OTHER: token({ userId: 8, name: 'Bob' }), RT_ADMIN: token({ userId: 1, role: 'admin' }) },
    });
    const { numPassedTests, success } = JSON.parse(stdout.slice(stdout.indexOf('{"numTotal')));
    assert.deepEqual([success, numPassedTests], [true, 4], stdout);
  });
});

describe('the server in memory answers as the real one', () => {
  let cwd;
  let fake;
  before(async () => {
    cwd = await project('parity', [CLIENT, IO]);
    fake = await import(join(cwd, 'node_modules/academy-rt-client/testing.js'));
  });

  /** What varies from run to run: ids by their order, times by their being there. */
  function normal(value, ids = new Map()) {
    const change = (name, one) => {
      if (/^(id|messageId|lastId|readUpTo|replyToId|upTo)$/.test(name) && typeof one === 'number' && one > 0) {
        if (!ids.has(one)) ids.set(one, `id ${ids.size + 1}`);
        return ids.get(one);
      }
      if (/(timestamp|At|Time|lastSeen)$/.test(name) && typeof one === 'number') return 'a time';
      if (name === 'ids') return one.map((id) => change('id', id));
      if (['message', 'cursor', 'storeId', 'clientId', 'syncId'].includes(name) && typeof one === 'string' && name !== 'content') return `a ${name}`;
      return one;
    };
    return JSON.parse(JSON.stringify(value, (name, one) => change(name, one)));
  }

  const SCENARIO = async (ann, bob) => {
    const told = [];
    const answers = [];
    const ask = async (socket, event, payload) => {
      const answer = await socket.emitWithAck(event, payload);
      answers.push([event, answer]);
      return answer;
    };
    for (const event of ['chat:message', 'chat:message-edited', 'chat:message-deleted', 'chat:read', 'chat:typing', 'chat:user_joined', 'chat:user_left', 'notification:updated']) {
      bob.on(event, (payload) => told.push([event, payload]));
    }
    const { id: none } = { id: 9_999_999_999 };
    await ask(ann, 'chat:join', { roomId: 'p' });
    await ask(bob, 'chat:join', 'p');
    const first = await ask(ann, 'chat:message', { roomId: 'p', content: 'one', clientId: 'k' });
    await ask(ann, 'chat:message', { roomId: 'p', content: 'one', clientId: 'k' });
    await ask(ann, 'chat:message', { roomId: 'p', content: 'two', clientId: 'k' });
    const second = await ask(bob, 'chat:message', { roomId: 'p', content: 'two', replyToId: first.id });
    for (const payload of [{}, { roomId: 'p' }, { roomId: 'p', content: '' }, { roomId: 'p', content: 7 }, { roomId: 'a b', content: 'x' }, { roomId: '..', content: 'x' }, { roomId: 'p', content: 'x', type: 'gif' }, { roomId: 'p', content: 'x'.repeat(4_001) }]) await ask(ann, 'chat:message', payload);
    await ask(ann, 'chat:edit', { roomId: 'p', messageId: first.id, content: 'one, edited' });
    await ask(ann, 'chat:edit', { roomId: 'p', messageId: second.id, content: 'not mine' });
    await ask(ann, 'chat:edit', { roomId: 'p', messageId: none, content: 'x' });
    await ask(bob, 'chat:delete', { roomId: 'p', messageId: second.id });
    await ask(bob, 'chat:delete', { roomId: 'p', messageId: second.id });
    await ask(ann, 'chat:typing', { roomId: 'p', isTyping: true });
    await ask(ann, 'chat:typing', { roomId: 'p' });
    await ask(ann, 'chat:typing', { roomId: 'q', isTyping: true });
    await ask(bob, 'chat:read', { roomId: 'p', messageId: first.id });
    await ask(ann, 'chat:history', { roomId: 'p', limit: 1 });
    await ask(ann, 'chat:history', { roomId: 'p', after: first.id });
    await ask(ann, 'chat:history', { roomId: 'p', before: second.id });
    for (const payload of [{}, { q: '' }, { q: '-x' }, { q: 'x', limit: 51 }, { q: 'x'.repeat(257) }, { q: 'a b c d e f g h i j k l m n o p q' }]) await ask(ann, 'chat:search', payload);
    await ask(ann, 'presence:list', 'q');
    for (const payload of [{}, { lessonId: 1 }, { lessonId: 1, progress: 101 }, { lessonId: 1, progress: 5, timeSpent: -1 }, { lessonId: 1, progress: 5, status: 'x' }, { lessonId: 1, progress: 40, timeSpent: 5, syncId: 's' }, { lessonId: 1, progress: 40, timeSpent: 5, syncId: 's' }, { lessonId: 1, progress: 41, syncId: 's' }, { lessonId: 1, progress: 30, timeSpent: 2, baseVersion: 0 }, { lessonId: 1, progress: 100, courseId: 'c' }, [{ lessonId: 2, progress: 0 }, { lessonId: 3, progress: 1 }], [{ lessonId: 2, progress: 0 }, { lessonId: 3 }]]) await ask(ann, 'progress:sync', payload);
    await ask(ann, 'progress:get', { lessonId: 1 });
    await ask(ann, 'progress:get', { courseId: 'c' });
    await ask(ann, 'progress:get', { lessonId: 404 });
    await ask(ann, 'notification:list', {});
    for (const payload of [{}, { id: 1, all: true }, { ids: [1], upTo: 1 }]) await ask(ann, 'notification:read', payload);
    await ask(ann, 'chat:leave', { roomId: 'p' });
    await ask(ann, 'presence:list', 'p');
    await ask(ann, 'chat:rooms', {});
    await ask(ann, 'no:such', {});
    await until(() => told.some(([event]) => event === 'chat:user_left'), 'it is told who has left');
    return { answers, told };
  };

  test('to the same requests, well formed and not', async () => {
    const { connect } = await import(join(cwd, 'node_modules/academy-rt-client/index.js'));
    const academy = new fake.FakeAcademy();
    const own = await Appliance.start({ env: noLimits });
    try {
      const people = [{ userId: 7, name: 'Ann' }, { userId: 8, name: 'Bob' }];
      const real = people.map((claims) => connect({ url: own.url, token: token(claims) }));
      const [wanted, given] = [await SCENARIO(...real), await SCENARIO(...people.map((claims) => academy.connect(claims)))];
      for (const socket of real) socket.disconnect();
      const [ours, theirs] = [normal(given), normal(wanted)];
      assert.ok(theirs.answers.length > 45 && theirs.told.length >= 6, `${theirs.answers.length} ${theirs.told.length}`);
      for (const [at, [event, answer]] of theirs.answers.entries()) assert.deepEqual(ours.answers[at], [event, answer], `${at} ${event}`);
      assert.deepEqual(ours.told, theirs.told);
      // Another device, whose tokens write the id differently, has the id of the first.
      const again = { userId: '7', name: 'Ann' };
      for (const socket of [connect({ url: own.url, token: token(again) }), academy.connect(again)]) {
        await until(() => socket.session, 'it is signed in');
        assert.equal(socket.session.userId, 7);
        socket.disconnect();
      }
    } finally {
      academy.close();
      await own.stop();
    }
  });
});

test('docs/sdk.md names every hook and every member of the server in memory', () => {
  const page = textOf('docs/sdk.md');
  const names = [...textOf('assets/sdk/npm/client/react.d.ts').matchAll(/export (?:function|const) (\w+)/g)].map(([, name]) => name);
  const [, body] = /export class FakeAcademy \{([^]*)\n\}/.exec(textOf('assets/sdk/npm/client/testing.d.ts'));
  const members = [...body.matchAll(/^ {2}(?:readonly )?(\w+)[(<:]/gm)].map(([, name]) => name);
  assert.ok(names.length >= 5 && members.length >= 12, `${names} ${members}`);
  for (const name of [...names, ...members, CLIENT.replace(version, 'VERSION'), SERVICE.replace(version, 'VERSION')]) assert.ok(page.includes(`\`${name}`) || page.includes(name), name);
});
