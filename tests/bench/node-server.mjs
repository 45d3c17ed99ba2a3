// The peer of the comparison: a plain socket.io 4 server that stores alike. A message is appended to a log and is on disk
// (fdatasync, one for all that wait) before its ack and its event. It keeps no index, no schema and no idempotency, so what
// it is compared with does more.
import { createServer } from 'node:http';
import { createHmac } from 'node:crypto';
import { open } from 'node:fs/promises';
import { Server } from 'socket.io';

const [port, dir] = process.argv.slice(2);
const secret = process.env.JWT_SECRET;
const log = await open(`${dir}/messages.log`, 'a');

let id = 0;
let waiting = [];
let isWriting = false;

async function write() {
  isWriting = true;
  while (waiting.length > 0) {
    const batch = waiting;
    waiting = [];
    await log.write(batch.map(({ line }) => line).join(''));
    await log.datasync();
    for (const { done } of batch) done();
  }
  isWriting = false;
}

function store(line) {
  return new Promise((done) => {
    waiting.push({ line, done });
    if (!isWriting) write();
  });
}

function verify(token) {
  const [header, body, signature] = token.split('.');
  const good = createHmac('sha256', secret).update(`${header}.${body}`).digest('base64url');
  if (good !== signature) throw new Error('token_invalid');
  return JSON.parse(Buffer.from(body, 'base64url'));
}

const http = createServer((_, response) => response.end('ready'));
const io = new Server(http, { path: '/ws', maxHttpBufferSize: 1e6 });
io.use((socket, next) => {
  try {
    socket.data.user = verify(socket.handshake.auth.token);
    next();
  } catch (error) {
    next(error);
  }
});
io.on('connection', (socket) => {
  const { userId, name, role } = socket.data.user;
  socket.join([role, `user:${userId}`, 'all']);
  socket.emit('authenticated', { userId, name, role });
  socket.on('chat:join', ({ roomId }, ack) => {
    socket.join(`chat:${roomId}`);
    ack?.({ ok: true, roomId });
  });
  socket.on('chat:message', async ({ roomId, content, type, clientId }, ack) => {
    id += 1;
    const message = {
      id, seq: id, roomId, senderId: userId, senderName: name, content, type: type ?? 'text', replyToId: null, clientId,
      timestamp: Date.now(),
    };
    await store(`${JSON.stringify(message)}\n`);
    ack?.({ ok: true, id: message.id, seq: message.seq, timestamp: message.timestamp });
    io.to(`chat:${roomId}`).emit('chat:message', message);
  });
});
http.listen(Number(port), '127.0.0.1');
