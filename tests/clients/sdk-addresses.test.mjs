// The client SDK at any address: behind a path, beside another API, where something else answers, where WebSocket is blocked; and
// rooms whose ids look like parts of an address.
import assert from 'node:assert/strict';
import { createServer, request } from 'node:http';
import { connect as dial } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { io } from 'socket.io-client';
import { connect } from '../../assets/sdk/academy-rt.js';
import { Appliance, all, heard, noLimits, token, until } from './harness.mjs';
import { isBy } from './page.mjs';

const QUICK = { retryMinMs: 20, retryMaxMs: 200, connectTimeoutMs: 2_000, ackTimeoutMs: 2_000, pollWaitSeconds: 1 };
const pages = [];
after(() => { for (const page of pages) page.disconnect(); });

function open(url, options = {}) {
  const page = connect({ io, url, token: token({ userId: 7, name: 'Ann' }), ...QUICK, ...options });
  pages.push(page);
  page.heard = [];
  page.onAny((event, payload) => page.heard.push({ event, payload }));
  for (const event of ['connect', 'disconnect', 'connect_error']) page.on(event, (payload) => page.heard.push({ event, payload }));
  return page;
}

/** A proxy before a server. `to` gives the path there, or an answer of its own; `websocket` says what it does with an upgrade. */
async function proxy(port, { to = (path) => path, websocket = 'passes' } = {}) {
  const seen = [];
  const server = createServer((asked, answer) => {
    seen.push(asked.url);
    const path = to(asked.url);
    if (typeof path !== 'string') {
      answer.writeHead(path.status, { 'content-type': path.type ?? 'application/json' });
      return answer.end(path.body);
    }
    const passed = request({ port, host: '127.0.0.1', method: asked.method, path, headers: asked.headers }, (got) => {
      answer.writeHead(got.statusCode, got.headers);
      got.pipe(answer);
    });
    passed.on('error', () => answer.destroy());
    asked.pipe(passed);
  });
  const upgrades = [];
  server.on('upgrade', (asked, socket, head) => {
    upgrades.push(asked.url);
    socket.on('error', () => {});
    if (websocket === 'refuses') return socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n');
    if (websocket === 'cuts') return socket.destroy();
    if (websocket === 'swallows') return undefined;
    const path = to(asked.url);
    if (typeof path !== 'string') return socket.end('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n');
    const far = dial(port, '127.0.0.1', () => {
      far.write(`GET ${path} HTTP/1.1\r\n${asked.rawHeaders.map((text, i) => (i % 2 ? `${text}\r\n` : `${text}: `)).join('')}\r\n`);
      far.write(head);
      socket.pipe(far).pipe(socket);
    });
    far.on('error', () => socket.destroy());
    socket.on('close', () => far.destroy());
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const close = () => { server.closeAllConnections(); server.close(); };
  return { url: `http://127.0.0.1:${server.address().port}`, seen, upgrades, close };
}

const below = (prefix) => (path) => (path.startsWith(`${prefix}/`) ? path.slice(prefix.length) : { status: 404, body: '<h1>nothing here</h1>', type: 'text/html' });

/** What a page does: it joins, posts, hears, and reads what was stored. */
async function works(page, roomId) {
  assert.ok((await page.emitWithAck('chat:join', { roomId })).ok);
  const { id } = await page.request('chat:message', { roomId, content: 'Hello!' });
  await heard(page, 'chat:message', (message) => message.id === id);
  assert.equal((await page.request('chat:history', { roomId })).messages.at(-1).id, id);
}

describe('an address with a path', () => {
  for (const [way, isOn] of [['realtime', true], ['http', false]]) {
    for (const slash of ['', '/']) {
      test(`is kept everywhere, by ${way}${slash && ', with a slash at its end'}`, async () => {
        const server = await Appliance.start({ env: { ...noLimits, WEBSOCKET_ENABLED: String(isOn) } });
        const front = await proxy(server.port, { to: below('/rt/live') });
        try {
          const page = open(`${front.url}/rt/live${slash}`);
          await isBy(page, way);
          await works(page, 'path');
          assert.ok(front.seen.length + front.upgrades.length > 0);
          for (const path of [...front.seen, ...front.upgrades]) assert.ok(path.startsWith('/rt/live/') && !path.startsWith('/rt/live//'), path);
          page.disconnect();
        } finally {
          front.close();
          await server.stop();
        }
      });
    }
  }

  test('that is none of HTTP is refused at once', () => {
    for (const url of ['', 'x', 'ftp://h', 'ws://h', 'file:///x']) assert.throws(() => connect({ io, url, token: 'x' }), /url must be/, url);
  });
});

describe('another API at /api/v1', () => {
  let server;
  before(async () => { server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_SERVER_API_PATH: '/realtime/v2', ACADEMY_RT_SERVER_PATH: '/realtime/socket' } }); });
  after(() => server.stop());
  /** As the academy's platform has it: an API of its own, and what is of academy-rt handed on. */
  const platform = (answer) => (path) => (/^\/(realtime|sdk|healthz|readyz)\b/.test(path) ? path : answer(path));
  const answers = {
    'answers 404 as JSON': () => ({ status: 404, body: '{"error":"Not Found","path":"x"}' }),
    'answers 200 as JSON': () => ({ status: 200, body: '{"data":[]}' }),
    'answers 401 as JSON': () => ({ status: 401, body: '{"error":{"code":"UNAUTHORIZED","message":"sign in"}}' }),
    'answers with a page': () => ({ status: 200, body: '<!doctype html><title>Portal</title>', type: 'text/html' }),
  };

  for (const [name, answer] of Object.entries(answers)) {
    test(`that ${name}: the server's own paths are found`, async () => {
      const front = await proxy(server.port, { to: platform(answer) });
      try {
        const page = open(front.url, { transports: ['websocket'] });
        await isBy(page, 'realtime');
        await works(page, name.replaceAll(' ', '-'));
        assert.deepEqual(all(page, 'auth_error'), []);
        page.disconnect();
        const told = open(front.url, { apiPath: '/realtime/v2/', path: '/realtime/socket' });
        await isBy(told, 'realtime');
        await works(told, 'told');
        told.disconnect();
        assert.equal(front.seen.filter((path) => path === '/sdk/server.json').length, 1, 'who was told does not ask');
      } finally {
        front.close();
      }
    });
  }

  test('is where the configuration says, and nowhere else; health and the control socket stay', async () => {
    const status = async (path, options) => (await server.fetch(path, { claims: { userId: 7 }, ...options })).status;
    assert.equal(await status('/realtime/v2/session'), 200);
    assert.equal(await status('/realtime/v2/rooms/7/messages', { method: 'POST', body: { content: 'x' } }), 200);
    assert.equal(await status('/realtime/v2/admin/status', { claims: { userId: 1, role: 'admin' } }), 200);
    for (const path of ['/api/v1/session', '/api/v1/events', '/realtime/v2', '/realtime/v20/session', '/realtime/v2/api/v1/session']) assert.equal(await status(path), 404, path);
    for (const path of ['/healthz', '/readyz', '/api/health']) assert.equal(await status(path), 200, path);
    const { json } = await server.fetch('/sdk/server.json', { headers: { origin: 'https://anywhere.example.org' } });
    assert.deepEqual(json, { server: 'academy-rt', path: '/realtime/socket', apiPath: '/realtime/v2' });
  });

  test('and a path that is none is refused at the start', async () => {
    for (const path of ['api', '/', '/a/', '/a//b', '/a b', '/sdk', '/metrics', '/a/../b', '/é']) {
      await assert.rejects(Appliance.start({ env: { ACADEMY_RT_SERVER_API_PATH: path } }), /must (begin with|not be)/, path);
    }
  });
});

test('where something else answers, it is told that this is not academy-rt, and it is tried again', async () => {
  const server = await Appliance.start({ env: noLimits });
  let isThere = false;
  const portal = () => ({ status: 200, body: '<!doctype html><title>Sign in to the network</title>', type: 'text/html' });
  const front = await proxy(server.port, { to: (path) => (isThere ? path : portal()), websocket: 'refuses' });
  try {
    const page = open(front.url);
    const told = await heard(page, 'connect_error', ({ message }) => /this is not academy-rt/.test(message));
    assert.match(told.message, /this is not academy-rt: http:\/\/127\.0\.0\.1:\d+\/api\/v1 answered with status 200/);
    const waits = page.request('chat:message', { roomId: 'portal', content: 'in a café' });
    isThere = true;
    assert.ok((await waits).ok);
    page.disconnect();
  } finally {
    front.close();
    await server.stop();
  }
});

describe('where WebSocket', () => {
  let server;
  before(async () => { server = await Appliance.start({ env: noLimits }); });
  after(() => server.stop());

  for (const websocket of ['refuses', 'cuts', 'swallows']) {
    test(`is one that a proxy ${websocket}, the client reaches through by polling`, async () => {
      const front = await proxy(server.port, { websocket });
      try {
        const page = open(front.url);
        await isBy(page, 'realtime');
        assert.equal(page.transport, 'polling');
        await works(page, websocket);
        assert.ok(front.upgrades.length > 0);
        page.disconnect();
      } finally {
        front.close();
      }
    });
  }

  test('is blocked, a stock client reaches through with tryAllTransports alone', async () => {
    const front = await proxy(server.port, { websocket: 'refuses' });
    const stock = (options) => io(front.url, { path: '/ws', auth: { token: token({ userId: 7 }) }, transports: ['websocket', 'polling'], reconnectionDelay: 10, reconnectionDelayMax: 20, forceNew: true, ...options });
    const [without, withIt] = [stock({}), stock({ tryAllTransports: true })];
    try {
      await until(() => withIt.connected, 'it has found polling');
      assert.equal(withIt.io.engine.transport.name, 'polling');
      let errors = 0;
      without.on('connect_error', () => { errors += 1; });
      await until(() => errors >= 10, 'it has tried ten times');
      assert.ok(!without.connected, 'the documents say that it never falls back');
    } finally {
      without.disconnect();
      withIt.disconnect();
      front.close();
    }
  });
});

describe('a room whose id looks like a part of an address', () => {
  for (const [way, isOn] of [['realtime', true], ['http', false]]) {
    test(`works by ${way}, or is refused at the door`, async () => {
      const server = await Appliance.start({ env: { ...noLimits, WEBSOCKET_ENABLED: String(isOn) } });
      const front = await proxy(server.port);
      try {
        const page = open(front.url);
        await isBy(page, way);
        for (const roomId of ['...', '.hidden', 'a/b', '/', '//', 'a/../b', '%2e%2e', '%', '%2F', '?', 'a?b=c', '#', 'a#b', '\\', 'a\\b', ';', 'a;b', '+', 'a+b', '&', '=', '~', '@', ':', 'http://x', "'", '"', '<b>', '*', 'é', '💬']) {
          await works(page, roomId);
          const history = await page.request('chat:history', { roomId });
          assert.deepEqual([history.roomId, history.messages.length], [roomId, 1], roomId);
        }
        for (const roomId of ['.', '..']) {
          for (const event of ['chat:join', 'chat:history', 'chat:leave']) {
            const { ok, error } = await page.emitWithAck(event, { roomId });
            assert.deepEqual([ok, error?.code, error?.field], [false, 'invalid_payload', 'roomId'], `${event} ${roomId} ${JSON.stringify(error)}`);
          }
          assert.equal((await page.emitWithAck('chat:message', { roomId, content: 'x' })).error.code, 'invalid_payload');
          assert.equal((await page.emitWithAck('progress:history', { lessonId: roomId })).error.code, 'invalid_payload');
        }
        page.disconnect();
      } finally {
        front.close();
        await server.stop();
      }
    });
  }
});
