// The attackers of the siege, in a process of their own: `node attackers.mjs PORT TLS MANY AT_ONCE`. They come from addresses of
// their own (127.1.x.y); what they cost themselves would be another machine's, so that whoever starts them sees to their priority.
import { randomBytes } from 'node:crypto';
import { connect as tcpConnect } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';

// Who holds a connection open and says nothing does so for about so long, beside hundreds of others, of whom each has a pace
// of their own.
const HOLD_MS = 400;
const aWhile = () => HOLD_MS * (0.5 + Math.random());

const bomb = gzipSync(Buffer.alloc(4 << 20));
const text = (lines) => `${lines.join('\r\n')}\r\n\r\n`;
const upgrade = (query = '', ...headers) => text([`GET /ws/?EIO=4&transport=websocket${query} HTTP/1.1`, 'Host: x', 'Connection: Upgrade', 'Upgrade: websocket',
  'Sec-WebSocket-Version: 13', `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`, ...headers]);
const post = (path, ...headers) => text([`POST ${path} HTTP/1.1`, 'Host: x', 'Content-Type: application/json', ...headers]);

// A frame of WebSocket as a client sends it, or wrong on purpose.
export function frame(payload, { first = 0x81, declared = payload.length, isMasked = true } = {}) {
  const mask = isMasked ? 0x80 : 0;
  const head = declared < 126 ? Buffer.from([first, mask | declared]) : Buffer.alloc(declared < 65_536 ? 4 : 10);
  if (declared >= 126) {
    head[0] = first;
    head[1] = mask | (declared < 65_536 ? 126 : 127);
    if (declared < 65_536) head.writeUInt16BE(declared, 2);
    else head.writeBigUInt64BE(BigInt(declared), 2);
  }
  // A mask of zeros is a mask.
  return Buffer.concat([head, isMasked ? Buffer.alloc(4) : Buffer.alloc(0), Buffer.from(payload)]);
}

async function slowly(socket, bytes) {
  const until = Date.now() + aWhile();
  for (const byte of Buffer.from(bytes)) {
    if (Date.now() > until || socket.destroyed) return;
    socket.write(Buffer.from([byte]));
    await sleep(20);
  }
}

// Sends behind the answer that makes it a WebSocket.
const behind101 = (socket, bytes) => socket.once('data', () => socket.destroyed || bytes().forEach((one) => socket.write(one)));

// By name: what is sent. `isBare`: below TLS.
export const attacks = {
  'connects and says nothing': () => {},
  'a handshake of TLS that stops half-way': { isBare: true, send: (socket) => socket.write(Buffer.concat([Buffer.from('160301020001000001fc0303', 'hex'), randomBytes(100)])) },
  'HTTP to a port of TLS, and the other way round': { isBare: true, send: (socket, { tls }) => socket.write(tls ? text(['GET / HTTP/1.1', 'Host: x']) : Buffer.from('16030100050100000100', 'hex')) },
  'a mail server is looked for': { isBare: true, send: (socket) => socket.write('EHLO x\r\nMAIL FROM:<a@b>\r\n') },
  'HTTP/2 without asking': (socket) => socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0'),
  'random bytes': { isBare: true, send: (socket) => socket.write(randomBytes(2_000)) },
  'half a head': (socket) => socket.write('GET /ws/?EIO=4 HTTP/1.1\r\nHost: x\r\nX-'),
  'a head, byte by byte': (socket) => slowly(socket, upgrade()),
  'a body, byte by byte': (socket) => { socket.write(post('/api/v1/progress', 'Content-Length: 900')); return slowly(socket, '{"lessonId":1}'.repeat(60)); },
  'a head of 100 kB': (socket) => socket.write(text(['GET / HTTP/1.1', 'Host: x', `X: ${'a'.repeat(100_000)}`])),
  'three hundred headers': (socket) => socket.write(text(['GET / HTTP/1.1', 'Host: x', ...Array.from({ length: 300 }, (_, i) => `X-${i}: 1`)])),
  'a body of an exabyte': (socket) => socket.write(`${post('/api/v1/progress', 'Content-Length: 1000000000000000000')}${'x'.repeat(60_000)}`),
  'a chunk of an exabyte': (socket) => socket.write(`${post('/api/v1/progress', 'Transfer-Encoding: chunked')}fffffffffffffff\r\n${'x'.repeat(60_000)}`),
  'a compressed body that swells': (socket) => socket.write(Buffer.concat([Buffer.from(post('/api/v1/progress', 'Content-Encoding: gzip', `Content-Length: ${bomb.length}`)), bomb])),
  'two lengths of one body': (socket) => socket.write(`${post('/api/v1/progress', 'Content-Length: 4', 'Transfer-Encoding: chunked')}0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n`),
  'sessions that do not exist': (socket) => socket.write(`${text([`GET /ws/?EIO=4&transport=polling&sid=${randomBytes(15).toString('base64url')} HTTP/1.1`, 'Host: x'])}${upgrade(`&sid=${randomBytes(15).toString('base64url')}`)}`),
  'a session that is opened and left': (socket) => socket.write(text(['GET /ws/?EIO=4&transport=polling HTTP/1.1', 'Host: x'])),
  'a WebSocket that never signs in': (socket) => socket.write(upgrade()),
  'a WebSocket with a forged token': (socket) => { socket.write(upgrade()); behind101(socket, () => [frame('40{"token":"eyJhbGciOiJub25lIn0.eyJ1c2VySWQiOjF9."}')]); },
  'events before signing in': (socket) => { socket.write(upgrade()); behind101(socket, () => [frame('42["chat:join",{"roomId":"r"}]'), frame('451-["x",{"_placeholder":true,"num":0}]')]); },
  'a frame that declares 4 exabytes': (socket) => { socket.write(upgrade()); behind101(socket, () => [frame('x'.repeat(1_000), { declared: 2 ** 62 })]); },
  'a frame that is too large': (socket) => { socket.write(upgrade()); behind101(socket, () => [frame('4'.repeat(1_100_000))]); },
  'frames without a mask': (socket) => { socket.write(upgrade()); behind101(socket, () => [frame('40', { isMasked: false })]); },
  'compressed frames that nobody has agreed on': (socket) => { socket.write(upgrade('', 'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits')); behind101(socket, () => [frame(bomb, { first: 0xc1 })]); },
  'a message in fragments without an end': (socket) => { socket.write(upgrade()); behind101(socket, () => [frame('4', { first: 0x01 }), ...Array(20).fill(frame('x'.repeat(60_000), { first: 0x00 }))]); },
  'a flood of pings': (socket) => { socket.write(upgrade()); behind101(socket, () => Array(200).fill(frame('x'.repeat(100), { first: 0x89 }))); },
  'a thousand questions, and no answer read': (socket) => { socket.pause(); socket.write(text(['GET /api/health HTTP/1.1', 'Host: x']).repeat(200)); },
};

function attack(port, tls, number, [, { isBare = false, send } ]) {
  return new Promise((resolve) => {
    const options = { port, host: '127.0.0.1', localAddress: `127.1.${(number >> 6) % 250}.${1 + (number % 250)}`, rejectUnauthorized: false };
    const begin = () => Promise.resolve(send(socket, { tls })).then(() => sleep(aWhile())).then(end);
    const socket = tls && !isBare ? tlsConnect(options, begin) : tcpConnect(options, begin);
    let isOver = false;
    function end() {
      if (isOver) return;
      isOver = true;
      // Half of them leave as machines do that lose their network.
      if (number % 2 && socket.resetAndDestroy && !tls) socket.resetAndDestroy();
      else socket.destroy();
      resolve();
    }
    socket.on('error', end);
    socket.on('close', end);
    socket.on('data', () => {});
    setTimeout(end, 10_000).unref();
  });
}

if (process.argv[2]) {
  const [port, tls, many, atOnce] = process.argv.slice(2).map(Number);
  const kinds = Object.entries(attacks).map(([name, how]) => [name, typeof how === 'function' ? { send: how } : how]);
  let next = 0;
  const attacker = async () => {
    await sleep(Math.random() * HOLD_MS);
    while (next < many) {
      const number = next++;
      await attack(port, Boolean(tls), number, kinds[number % kinds.length]);
    }
  };
  const began = Date.now();
  await Promise.all(Array.from({ length: atOnce }, attacker));
  console.log(JSON.stringify({ many, seconds: (Date.now() - began) / 1000 }));
  process.exit(0);
}
