// What a page in somebody's browser can do that is not ours, and what the headers of a request can be made to say. Each test
// is named after what is tried.
import assert from 'node:assert/strict';
import { createConnection } from 'node:net';
import { describe, test } from 'node:test';
import { WebSocket } from 'ws';
import { Appliance, all, ask, gone, heard, noLimits, token, until } from './harness.mjs';

const portal = 'https://portal.example.ca';
const foreign = [
  'https://evil.example', 'http://portal.example.ca', 'https://portal.example.ca.evil.example', 'https://portal.example.ca:8443', 'https://PORTAL.example.ca.:8443',
  'https://sub.portal.example.ca', 'https://portal.example.ca@evil.example', 'https://evil.example/https://portal.example.ca', 'null', 'file://', '', '*',
  'https://portal.example.ca https://evil.example', 'https://portal.example.ca,https://evil.example', 'data:', 'https://portаl.example.ca'.normalize('NFC'),
].map((origin) => Buffer.from(origin).toString('latin1'));

// A request byte for byte, and all that comes back until the server closes the connection.
function raw(server, text) {
  return new Promise((resolve, reject) => {
    const socket = createConnection(server.port, '127.0.0.1', () => socket.write(text));
    let answer = '';
    socket.setEncoding('latin1');
    socket.on('data', (part) => { answer += part; });
    socket.on('error', () => {});
    socket.on('close', () => resolve(answer));
    socket.setTimeout(5_000, () => reject(new Error(`the server left the connection open behind: ${answer}`)));
  });
}

const get = (server, path, headers = {}) => raw(server, [
  `GET ${path} HTTP/1.1`, `Host: 127.0.0.1:${server.port}`, 'Connection: close', ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`), '', '',
].join('\r\n'));

const status = (answer) => Number(answer.split(' ')[1]);

// How an upgrade with these headers ends: the status, or 101.
function upgrade(server, headers, query = '') {
  return new Promise((resolve) => {
    const socket = new WebSocket(`${server.tls ? 'wss' : 'ws'}://127.0.0.1:${server.port}/ws/?EIO=4&transport=websocket${query}`, { headers, rejectUnauthorized: false });
    socket.on('unexpected-response', (_, answer) => { resolve(answer.statusCode); answer.destroy(); });
    socket.on('open', () => { resolve(101); socket.close(); });
    socket.on('error', () => {});
  });
}

describe('a page of another site', () => {
  const env = { ...noLimits, WEBSOCKET_CORS_ORIGIN: portal, ACADEMY_RT_AUTH_COOKIE_NAME: 'session' };

  test('opens no WebSocket and no polling session, whatever its origin is made to look like', async () => {
    const server = await Appliance.start({ env });
    for (const origin of foreign) {
      const bearer = token();
      assert.equal(await upgrade(server, { origin }, `&token=${bearer}`), 403, origin);
      assert.equal(status(await get(server, `/ws/?EIO=4&transport=polling&token=${bearer}`, { Origin: origin })), 403, origin);
    }
    for (const same of [portal, 'https://PORTAL.example.ca', `${portal}:443`, `${portal}.`]) assert.equal(await upgrade(server, { origin: same }), 101, same);
    assert.equal(await upgrade(server, { origin: `http://127.0.0.1:${server.port}` }), 101, "the server's own");
    assert.equal(await upgrade(server, {}), 101, 'a client that is no browser');
    const { items } = (await server.fetch('/api/v1/admin/connections', { claims: { userId: 1, role: 'admin' } })).json;
    assert.deepEqual(items, []);
    await server.stop();
  });

  test('is not taken for one of the server by its name without TLS, which somebody in between can answer for', async () => {
    const server = await Appliance.start({ env, tls: true });
    assert.equal(await upgrade(server, { origin: `https://127.0.0.1:${server.port}` }), 101, "the server's own");
    assert.equal(await upgrade(server, { origin: `http://127.0.0.1:${server.port}` }), 403);
    await server.stop();
  });

  test('does not take over the polling session of an allowed page for an upgrade', async () => {
    const server = await Appliance.start({ env });
    const opened = await get(server, '/ws/?EIO=4&transport=polling', { Origin: portal });
    const { sid } = JSON.parse(/\{.*\}/.exec(opened)[0]);
    assert.equal(await upgrade(server, { origin: 'https://evil.example' }, `&sid=${sid}`), 403);
    assert.equal(status(await get(server, `/ws/?EIO=4&transport=polling&sid=${sid}`, { Origin: 'https://evil.example' })), 403);
    await server.stop();
  });

  test('reads no answer: it is named in no header, and nothing is allowed to everybody', async () => {
    const server = await Appliance.start({ env });
    for (const origin of foreign) {
      const answer = await get(server, '/api/health', { Origin: origin });
      assert.doesNotMatch(answer, /access-control-allow/i, origin);
      const preflight = await raw(server, `OPTIONS /api/v1/session HTTP/1.1\r\nHost: x\r\nOrigin: ${origin}\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n\r\n`);
      assert.equal(status(preflight), 403, origin);
      // The refusal itself may be read, so that a console can show it. Nothing is allowed, and nothing says what would be.
      assert.doesNotMatch(preflight, /access-control-allow-(methods|headers)/i, origin);
      assert.doesNotMatch(preflight, /access-control-allow-origin: (\*|https:\/\/portal\.example\.ca)\r/i, origin);
    }
    const refused = await get(server, '/ws/?EIO=4&transport=polling', { Origin: 'https://evil.example', Cookie: `session=${token()}` });
    assert.match(refused, /access-control-allow-origin: https:\/\/evil\.example\r\n/i);
    assert.deepEqual(JSON.parse(refused.split('\r\n\r\n')[1]).error, { code: 'forbidden', message: 'this origin may not connect; add it to server.cors_origins' });
    const allowed = await get(server, '/api/health', { Origin: portal });
    assert.match(allowed, /access-control-allow-origin: https:\/\/portal\.example\.ca\r\n/i);
    assert.match(allowed, /access-control-allow-credentials: true/i);
    assert.match(allowed, /vary: origin/i);
    assert.doesNotMatch(allowed, /access-control-allow-origin: \*/i);
    await server.stop();
  });

  test('cannot be allowed together with everybody: * is no origin', async () => {
    for (const value of ['*', 'https://*', 'https://*.example.ca', 'null', 'portal.example.ca', `${portal}/`]) {
      await assert.rejects(Appliance.start({ env: { WEBSOCKET_CORS_ORIGIN: value } }), /is not an origin/, value);
    }
  });

  test('does not ride on the cookie of whoever looks at it; a page of an allowed origin does', async () => {
    const server = await Appliance.start({ env });
    const cookie = `theme=dark; session=${token({ userId: 7 })}`;
    const code = async (options) => {
      const socket = server.client(null, options);
      let isRefused = false;
      socket.on('connect_error', () => { isRefused = true; });
      await until(() => socket.heard.length > 0 || isRefused, 'an answer');
      return socket.heard[0] ? `${socket.heard[0].event} ${socket.heard[0].payload.code ?? socket.heard[0].payload.userId}` : 'refused';
    };
    for (const transports of [['websocket'], ['polling']]) {
      const with_ = (extraHeaders) => code({ transports, extraHeaders: { cookie, ...extraHeaders } });
      assert.equal(await with_({ origin: portal }), 'authenticated 7');
      assert.equal(await with_({ origin: 'https://evil.example' }), 'refused');
      assert.equal(await with_({}), 'auth_error token_missing', 'without an origin it is no page');
      assert.equal(await with_({ 'sec-fetch-site': 'same-origin' }), 'authenticated 7', 'a GET of an own page has no origin');
      for (const site of ['same-site', 'cross-site', 'none', 'same-origin, cross-site']) {
        assert.equal(await with_({ 'sec-fetch-site': site }), 'auth_error token_missing', site);
      }
    }
    // Over HTTP it speaks for the same pages: no form and no image of another page writes anything.
    for (const headers of [{ cookie, origin: portal }, { cookie, 'sec-fetch-site': 'same-origin' }]) {
      assert.equal((await server.fetch('/api/v1/session', { headers })).json.userId, 7);
    }
    for (const headers of [{ cookie }, { cookie, 'sec-fetch-site': 'cross-site' }, { cookie, 'sec-fetch-site': 'same-site' }, { cookie, 'sec-fetch-site': 'none' }]) {
      assert.equal((await server.fetch('/api/v1/session', { headers })).json.error.code, 'token_missing', JSON.stringify(headers));
      const written = await server.fetch('/api/v1/rooms/french/messages', { method: 'POST', headers, body: { content: 'not mine' } });
      assert.equal(written.json.error.code, 'token_missing');
    }
    const refused = await server.fetch('/api/v1/rooms/french/messages', { method: 'POST', headers: { cookie, origin: 'https://evil.example' }, body: { content: 'not mine' } });
    assert.ok([401, 403].includes(refused.status), refused.raw);
    await server.stop();
  });
});

test('every answer tells a browser to run nothing, or of the one page its own script alone, to show it nowhere else and to keep no copy', async () => {
  const server = await Appliance.start({ env: noLimits });
  const claims = { userId: 1, role: 'admin' };
  for (const [path, options] of [
    ['/healthz'], ['/readyz'], ['/api/health'], ['/metrics', { claims }], ['/api/v1/session', { claims }], ['/api/v1/session'], ['/'], ['/nothing/here'], ['/api/v1/admin/status', { claims }],
    ['/api/v1/rooms/x/messages', { claims, method: 'POST', body: { content: '<script>alert(1)</script>' } }], ['/api/v1/rooms/x/messages', { claims, method: 'POST', body: '<html>' }],
  ]) {
    const { headers } = await server.fetch(path, options);
    assert.equal(headers.get('x-content-type-options'), 'nosniff', path);
    const policy = headers.get('content-security-policy');
    if (path === '/') {
      assert.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self';.* frame-ancestors 'none'; require-trusted-types-for 'script'$/);
      assert.doesNotMatch(policy, /unsafe|data:|\*/);
    } else assert.match(policy, /default-src 'none'; frame-ancestors 'none'/, path);
    assert.equal(headers.get('x-frame-options'), 'DENY', path);
    assert.equal(headers.get('referrer-policy'), 'no-referrer', path);
    assert.equal(headers.get('cache-control'), 'no-store', path);
    assert.equal(headers.get('strict-transport-security'), null, 'never without a certificate of an authority');
    assert.equal(/html/.test(headers.get('content-type') ?? ''), path === '/', path);
  }
  await server.stop();
});

test('a request that another one is smuggled in is refused, and its connection closed', async () => {
  const server = await Appliance.start({ env: noLimits });
  const head = `POST /api/v1/session HTTP/1.1\r\nHost: x\r\n`;
  const smuggled = 'GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n';
  const attempts = {
    'CL.TE': `${head}Content-Length: ${5 + smuggled.length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    'TE.CL': `${head}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n${smuggled.length.toString(16)}\r\n${smuggled}\r\n0\r\n\r\n`,
    'two lengths': `${head}Content-Length: 0\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`,
    'a list of lengths': `${head}Content-Length: 0, ${smuggled.length}\r\n\r\n${smuggled}`,
    'a signed length': `${head}Content-Length: +0\r\n\r\n${smuggled}`,
    'a hexadecimal length': `${head}Content-Length: 0x0\r\n\r\n${smuggled}`,
    'a negative length': `${head}Content-Length: -1\r\n\r\n${smuggled}`,
    'a length too large for a number': `${head}Content-Length: 99999999999999999999999\r\n\r\n${smuggled}`,
    'chunked is not last': `${head}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${smuggled}`,
    'an unknown coding': `${head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${smuggled}`,
    'a space before the colon': `${head}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    'a folded header': `${head}X: y\r\n Transfer-Encoding: chunked\r\n\r\n${smuggled}`,
    'a bad chunk size': `${head}Transfer-Encoding: chunked\r\n\r\n0xZ\r\n\r\n${smuggled}`,
    'a zero byte in a header': `${head}X: a\u0000b\r\n\r\n${smuggled}`,
    'no HTTP': `\u0016\u0003\u0001\u0002${smuggled}`,
  };
  for (const [name, text] of Object.entries(attempts)) {
    const answer = await raw(server, text);
    assert.ok(!answer.includes('/smuggled') && (answer.match(/HTTP\/1\.1 /g) ?? []).length <= 1, `${name}: ${answer}`);
    // Of both headers the coding counts, and nothing is read behind it (RFC 9112, 6.1): the address takes no POST.
    const allowed = ['CL.TE', 'TE.CL', 'a bad chunk size'].includes(name) ? [400, 405] : [400, 411, 413, 501];
    // What begins as TLS does is answered in TLS: by an alert.
    const isAlert = name === 'no HTTP' && answer === '\x15\x03\x01\x00\x02\x02\x28';
    assert.ok(answer === '' || isAlert || allowed.includes(status(answer)), `${name}: ${answer.slice(0, 60)}`);
  }
  // Two requests behind each other are two answers: pipelining is no smuggling.
  assert.equal((await raw(server, `${'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(2)}GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)).match(/HTTP\/1\.1 200/g).length, 3);
  await server.stop();
});

test('a head without an end is cut off: its size and the number of its lines are bounded', async () => {
  const server = await Appliance.start({ env: noLimits });
  const long = await get(server, '/healthz', { 'X-Long': 'x'.repeat(200_000) });
  assert.equal(status(long), 431);
  const many = await raw(server, `GET /healthz HTTP/1.1\r\nHost: x\r\n${'X: y\r\n'.repeat(5_000)}\r\n`);
  assert.equal(status(many), 431);
  const path = await get(server, `/${'x'.repeat(100_000)}`);
  assert.ok([414, 431].includes(status(path)), path.slice(0, 40));
  assert.equal((await server.fetch('/readyz')).status, 200);
  await server.stop();
});

test('nobody says that they come from elsewhere but a trusted proxy, also where a socket for both families hears it', async () => {
  const env = { ...noLimits, ACADEMY_RT_SERVER_BEHIND_PROXY: 'true', ACADEMY_RT_SERVER_TRUSTED_PROXIES: '127.0.0.1,10.0.0.1' };
  const server = await Appliance.start({ env, listen: '[::]' });
  const seen = async (localAddress, forwarded) => {
    const socket = new WebSocket(`ws://127.0.0.1:${server.port}/ws/?EIO=4&transport=websocket&token=${token()}`, { localAddress, headers: { 'x-forwarded-for': forwarded } });
    await new Promise((resolve, reject) => { socket.once('message', resolve); socket.once('error', reject); });
    socket.send('40');
    const connections = async () => (await server.fetch('/api/v1/admin/connections', { claims: { userId: 1, role: 'admin' } })).json.items;
    await until(async () => (await connections()).length === 1, 'it is signed in');
    const [{ address }] = await connections();
    socket.close();
    await until(async () => (await connections()).length === 0, 'it has gone');
    return address;
  };
  assert.equal(await seen('127.0.0.1', '203.0.113.9'), '203.0.113.9');
  assert.equal(await seen('127.0.0.1', '6.6.6.6, 203.0.113.9, ::ffff:10.0.0.1'), '203.0.113.9', 'the first is what a client claims');
  assert.equal(await seen('127.0.0.2', '203.0.113.9'), '127.0.0.2', 'not a trusted proxy');
  await server.stop();
});

describe('limits', () => {
  test('an address has so many sockets and no more, on both transports, and a place is free as soon as one leaves', async () => {
    const server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_LIMITS_SOCKETS_PER_ADDRESS: '3', ACADEMY_RT_SERVER_BEHIND_PROXY: 'true' } });
    const from = (address, transport, userId) => server.client({ userId }, { transports: [transport], extraHeaders: { 'x-forwarded-for': address } });
    const inside = [];
    for (let n = 1; n <= 3; n += 1) {
      inside.push(from('198.51.100.7', n % 2 ? 'websocket' : 'polling', n));
      await heard(inside.at(-1), 'authenticated');
    }
    for (const transport of ['websocket', 'polling']) {
      const refused = await heard(from('198.51.100.7', transport, 9), 'auth_error');
      assert.equal(refused.code, 'rate_limited');
      assert.ok(refused.retryAfterMs > 0 && /close one/.test(refused.message), refused.message);
    }
    // The whole /64 of an IPv6 user is one address; what an attacker puts in front of the header counts for nothing.
    for (let n = 1; n <= 3; n += 1) await heard(from(`203.0.113.9, 2001:db8:0:1::${n}`, 'websocket', n), 'authenticated');
    assert.equal((await heard(from('2001:db8:0:1:ffff::9', 'websocket', 4), 'auth_error')).code, 'rate_limited');
    await heard(from('2001:db8:0:2::1', 'websocket', 4), 'authenticated');
    await heard(from('198.51.100.8', 'websocket', 4), 'authenticated');
    inside[0].disconnect();
    await until(async () => {
      const socket = from('198.51.100.7', 'websocket', 9);
      await until(() => socket.heard.length > 0, 'an answer');
      return socket.heard[0].event === 'authenticated';
    }, 'the place is free');
    const figures = (await server.fetch('/metrics', { claims: { userId: 1, role: 'admin' } })).raw;
    assert.match(figures, /academy_rt_rate_limited_total\{limit="address"\} [1-9]/);
    await server.stop();
  });

  test('a user has so many sockets, wherever they come from, and others are not touched', async () => {
    const server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_LIMITS_SOCKETS_PER_USER: '2' } });
    await server.signedIn({ userId: 7 });
    await server.signedIn({ userId: '7' }, { transports: ['polling'] });
    const refused = server.client({ userId: 7 });
    assert.equal((await heard(refused, 'auth_error')).code, 'rate_limited');
    await gone(refused);
    await server.signedIn({ userId: 8 });
    await server.stop();
  });

  test('new connections of an address are bounded a second, and the answer says when to come again', async () => {
    const server = await Appliance.start({ env: { ...noLimits, ACADEMY_RT_LIMITS_CONNECTS_PER_SECOND: '5' } });
    const answers = await Promise.all(Array.from({ length: 40 }, () => get(server, '/ws/?EIO=4&transport=polling')));
    const [good, refused] = [answers.filter((one) => status(one) === 200), answers.filter((one) => status(one) === 429)];
    assert.equal(good.length + refused.length, 40);
    assert.ok(good.length >= 5 && good.length < 20, String(good.length));
    assert.match(refused[0], /retry-after: 1/i);
    assert.match(refused[0], /"code":"rate_limited".*"retryAfterMs":\d+/);
    assert.equal(status(await get(server, '/healthz')), 200, 'only new sockets are counted');
    await server.stop();
  });

  test('each rate answers rate_limited with a time, on the socket and over HTTP alike, and keeps to it', async () => {
    const env = Object.fromEntries(['MESSAGES', 'TYPING', 'SYNCS', 'JOINS'].map((name) => [`ACADEMY_RT_LIMITS_${name}_PER_SECOND`, '2']));
    const server = await Appliance.start({ env: { ...noLimits, ...env, ACADEMY_RT_LIMITS_MESSAGE_BURST: '3' } });
    const socket = await server.signedIn({ userId: 7 });
    await ask(socket, 'chat:join', 'r');
    const requests = {
      'chat:message': [{ roomId: 'r', content: 'x' }, '/rooms/r/messages', { content: 'x' }], 'chat:typing': [{ roomId: 'r', isTyping: true }, '/rooms/r/typing', { isTyping: true }],
      'progress:sync': [{ lessonId: 1, progress: 1, timeSpent: 0 }, '/progress', { lessonId: 1, progress: 1, timeSpent: 0 }], 'chat:join': [{ roomId: 'r' }],
    };
    for (const [event, [payload, path, body]] of Object.entries(requests)) {
      let refused;
      for (let n = 0; n < 10 && !refused; n += 1) {
        const answer = await ask(socket, event, payload);
        if (!answer.ok) refused = answer.error;
      }
      assert.equal(refused?.code, 'rate_limited', event);
      assert.ok(refused.retryAfterMs >= 1 && refused.retryAfterMs <= 1_000, `${event}: ${refused.retryAfterMs}`);
      if (path) {
        const other = await server.fetch(`/api/v1${path}`, { method: 'POST', body, claims: { userId: 7 } });
        assert.deepEqual([other.status, other.json.error.code], [429, 'rate_limited'], path);
        assert.ok(Number(other.headers.get('retry-after')) >= 1);
        assert.equal((await server.fetch(`/api/v1${path}`, { method: 'POST', body, claims: { userId: 8 } })).status, 200, 'another user');
      }
      await until(async () => (await ask(socket, event, payload)).ok, `${event} is taken again`);
    }
    assert.deepEqual(all(socket, 'auth_error'), []);
    assert.ok(socket.connected, 'a limit never closes the socket');
    await server.stop();
  });
});
