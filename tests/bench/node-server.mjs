// The peer of the bench: a socket.io 4 server on Node as somebody would write it who cares about speed, and who keeps the same
// promises. A message has an id and a place in its room, is found by its room, and is stored once for each `clientId` of its sender;
// a report of progress is stored once for each `syncId`. All of it is in SQLite with a write-ahead log that is synced at each commit
// (`synchronous=FULL`), whatever waits shares one commit, and nobody is answered or told before it. It knows the events that
// `academy-rt bench` sends, and no limits, rights, holds or audit log.
//
//   PORT=3000 DATA_DIR=DIR JWT_SECRET=SECRET node node-server.mjs
import { createSecretKey } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import jwt from 'jsonwebtoken';
import { Server } from 'socket.io';

const { PORT, DATA_DIR, JWT_SECRET } = process.env;
const secret = createSecretKey(Buffer.from(JWT_SECRET));

mkdirSync(DATA_DIR, { recursive: true });
const db = new Database(join(DATA_DIR, 'academy.db'));
db.pragma('journal_mode = WAL');
db.pragma('synchronous = FULL');
db.exec(`
  create table if not exists messages (
    id integer primary key, room text, seq integer, sender text, client_id text, content text, type text, at integer
  );
  create index if not exists messages_by_room on messages (room, id);
  create unique index if not exists messages_by_client_id on messages (sender, client_id) where client_id is not null;
  create table if not exists progress (user text, lesson text, stored text, primary key (user, lesson));
  create table if not exists syncs (user text, sync_id text, answer text, primary key (user, sync_id));
`);
const insertMessage = db.prepare('insert into messages values (?, ?, ?, ?, ?, ?, ?, ?)');
const messageByClientId = db.prepare('select id, seq, at from messages where sender = ? and client_id = ?');
const pageAfter = db.prepare('select * from messages where room = ? and id > ? order by id limit ?');
const pageBefore = db.prepare('select * from messages where room = ? and id < ? order by id desc limit ?');
const progressOf = db.prepare('select stored from progress where user = ? and lesson = ?');
const putProgress = db.prepare('insert or replace into progress values (?, ?, ?)');
const answerOf = db.prepare('select answer from syncs where user = ? and sync_id = ?');
const putAnswer = db.prepare('insert into syncs values (?, ?, ?)');
let nextId = (db.prepare('select max(id) as id from messages').get().id ?? 0) + 1;
const seqs = new Map(db.prepare('select room, max(seq) as seq from messages group by room').all().map((row) => [row.room, row.seq]));

// Whatever has come by the end of this turn of the event loop is one transaction.
let waiting = [];
const begin = db.transaction((batch) => batch.map(({ write }) => write()));
function commit(write) {
  return new Promise((resolve, reject) => {
    waiting.push({ write, resolve, reject });
    if (waiting.length > 1) return;
    setImmediate(() => {
      const batch = waiting;
      waiting = [];
      try {
        begin(batch).forEach((answer, at) => batch[at].resolve(answer));
      } catch (error) {
        for (const { reject: fail } of batch) fail(error);
      }
    });
  });
}

function page(room, { after, before, limit = 50 }) {
  const rows = after === undefined ? pageBefore.all(room, before ?? Number.MAX_SAFE_INTEGER, limit).reverse() : pageAfter.all(room, after, limit);
  return rows.map((row) => {
    const [senderId, content] = JSON.parse(row.content);
    return { id: row.id, seq: row.seq, roomId: row.room, senderId, content, type: row.type, timestamp: row.at };
  });
}

async function post(io, user, { roomId, content, type = 'text', clientId }) {
  const room = String(roomId);
  const stored = await commit(() => {
    const earlier = clientId === undefined ? undefined : messageByClientId.get(String(user.id), clientId);
    if (earlier) return { ...earlier, isDuplicate: true };
    const [id, seq, at] = [nextId, (seqs.get(room) ?? 0) + 1, Date.now()];
    insertMessage.run(id, room, seq, String(user.id), clientId ?? null, JSON.stringify([user.id, content]), type, at);
    nextId += 1;
    seqs.set(room, seq);
    return { id, seq, at };
  });
  const { id, seq, at } = stored;
  if (stored.isDuplicate) return { ok: true, id, seq, timestamp: at, duplicate: true };
  io.to(`chat:${room}`).emit('chat:message', { id, seq, roomId, senderId: user.id, senderName: user.name, content, type, replyToId: null, timestamp: at });
  return { ok: true, id, seq, timestamp: at };
}

async function sync(io, user, { lessonId, progress, timeSpent, syncId }) {
  if (!(progress >= 0 && progress <= 100)) return { ok: false, error: { code: 'invalid_payload', message: 'progress is from 0 to 100' } };
  const [owner, lesson] = [String(user.id), String(lessonId)];
  const answer = await commit(() => {
    const earlier = syncId === undefined ? undefined : answerOf.get(owner, syncId);
    if (earlier) return { ...JSON.parse(earlier.answer), duplicate: true };
    const row = progressOf.get(owner, lesson);
    const before = row ? JSON.parse(row.stored) : { progress: 0, timeSpent: 0, syncVersion: 0 };
    const stored = {
      lessonId, progress: Math.max(before.progress, progress), timeSpent: before.timeSpent + timeSpent,
      syncVersion: before.syncVersion + 1, updatedAt: Date.now(),
    };
    putProgress.run(owner, lesson, JSON.stringify(stored));
    if (syncId !== undefined) putAnswer.run(owner, syncId, JSON.stringify(stored));
    return stored;
  });
  if (!answer.duplicate) io.to(`user:${owner}`).emit('progress:updated', answer);
  return { ok: true, ...answer };
}

function signedIn(token) {
  const claims = jwt.verify(token, secret, { algorithms: ['HS256'] });
  return { id: claims.userId, name: claims.name, role: claims.role ?? 'learner' };
}

const http = createServer((_, response) => response.end('ready'));
const io = new Server(http, { path: '/ws', pingInterval: 25_000, pingTimeout: 60_000 });
io.on('connection', (socket) => {
  let user;
  try {
    user = signedIn(socket.handshake.auth.token);
  } catch (error) {
    socket.emit('auth_error', { code: 'token_invalid', message: error.message });
    socket.disconnect(true);
    return;
  }
  const rooms = [user.role, `user:${user.id}`, 'all'];
  socket.join(rooms);
  socket.emit('authenticated', { userId: user.id, name: user.name, role: user.role, rooms, serverTime: Date.now() });
  socket.on('chat:join', (payload, ack) => {
    socket.join(`chat:${payload.roomId}`);
    ack?.({ ok: true, messages: page(String(payload.roomId), payload) });
  });
  socket.on('chat:message', async (payload, ack) => {
    if (!socket.rooms.has(`chat:${payload.roomId}`)) ack?.({ ok: false, error: { code: 'not_joined', message: 'join the room first' } });
    else ack?.(await post(io, user, payload));
  });
  socket.on('progress:sync', async (payload, ack) => ack?.(await sync(io, user, payload)));
});
http.listen(Number(PORT), '127.0.0.1');
process.on('SIGTERM', () => process.exit(0));
