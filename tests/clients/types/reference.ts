// The API reference's own code, against the types of the SDK: what compiles here is what the SDK says it takes.
import { io } from 'socket.io-client';
import { connect } from '../../../assets/sdk/academy-rt.js';
import { BroadcastError, broadcastService, createBroadcastService } from '../../../assets/sdk/broadcast-service.js';

declare const sessionToken: string;
declare const userId: number;
declare const roomId: string;
declare const payload: { title: string; message: string };

// With an event of the back end's own, beyond the reference.
const socket = connect<{ 'lesson:opened': (...anything: unknown[]) => void }>({ io, url: window.location.origin, path: '/ws', token: sessionToken, transports: ['websocket', 'polling'] });

socket.on('connect', () => {});
socket.on('disconnect', (reason) => { reason.toUpperCase(); });
socket.on('connect_error', (error) => { error.message.toUpperCase(); });
socket.on('authenticated', (session) => { session.rooms.includes('all'); });
socket.on('auth_error', (error) => { error.code.toUpperCase(); });

socket.emit('chat:join', { roomId: 'room-123' });
socket.emit('chat:leave', { roomId: 'room-123' });
socket.emit('chat:message', {
  roomId: 'room-123',
  content: 'Hello!',
  type: 'text'
});
socket.on('chat:message', (data) => {
  console.log(data.senderId, data.content, data.timestamp);
});
socket.emit('chat:typing', { roomId: 'room-123', isTyping: true });
socket.on('chat:typing', (data) => {
  console.log(data.userId, data.isTyping);
});
socket.emit('progress:sync', {
  lessonId: 42,
  progress: 75,
  timeSpent: 120
});
socket.on('progress:updated', (data) => {
  console.log(data.lessonId, data.progress, data.syncVersion);
});
socket.on('notification:new', (data) => {
  console.log(data.id, data.title, data.message, data.type);
});

broadcastService.toUser(userId, 'notification:new', payload);
broadcastService.toRole('admin', 'system:alert', payload);
broadcastService.toRoom(`chat:${roomId}`, 'chat:message', payload);

// Beyond the reference.
socket.on('transport', ({ transport, reason }) => { console.log(transport === 'http', reason.length); });
socket.on('lesson:opened', (...anything) => { console.log(anything.length); });
socket.on('resync', (news) => { console.log(news.roomId === undefined ? news.message : news.messages.length); });
socket.once('chat:read', ({ messageId }) => { messageId.toFixed(); }).off('chat:read').off();
socket.emit('chat:join', 7, (answer) => { console.log(answer.ok ? answer.members + answer.lastSeq : answer.error.retryAfterMs); });
socket.timeout(500).emit('chat:rooms', {}, (error, answer) => { console.log(error?.message, answer.ok && answer.rooms.length); });
socket.volatile.emit('chat:typing', { roomId, isTyping: true });
socket.emit('notification:read', { all: true });
socket.emit('notification:read', { all: true, upTo: 7 });
socket.on('notification:updated', ({ all, upTo }) => { console.log(all === true && upTo?.toFixed()); });
socket.on('chat:message-edited', ({ id, messageId }) => { (id - messageId).toFixed(); });
socket.on('chat:message-deleted', ({ id, messageId }) => { (id - messageId).toFixed(); });
socket.emit('chat:leave', 7, (answer) => { console.log(answer.ok && answer.roomId); });
socket.emit('chat:history', { roomId: 7, after: 1, before: 9, versions: true }, (answer) => {
  if (answer.ok) for (const { versions } of answer.messages) for (const { content, until, by, change } of versions ?? []) console.log(content, until.toFixed(), by, change === 'edited');
});
socket.emit('progress:sync', [{ lessonId: 1, progress: 5, userId: 'of-another' }]);
socket.emit('progress:get', { userId: 8 });
socket.emit('progress:history', { lessonId: 1, userId: 8 });
void (async () => {
  const synced = await socket.emitWithAck('progress:sync', [{ lessonId: 'a', progress: 1 }]);
  if (synced.ok) synced.results?.map(({ syncVersion }) => syncVersion.toFixed());
  const service = createBroadcastService({ url: 'https://rt.example.org', getToken: async () => sessionToken, retries: 2 });
  try {
    const { sockets } = await service.notify({ users: [7, '8'] }, { title: 'T', message: 'M', titleFr: 'F' }, { idempotencyKey: 'k' });
    sockets.toFixed();
  } catch (error) {
    if (error instanceof BroadcastError && error.retryable) console.log(error.code, error.status);
  }
})();
connect({ io, getToken: ({ reason }) => reason, storage: localStorage, autoConnect: false }).connect().disconnect();

// What must not compile.
// @ts-expect-error: a number of the wrong kind
socket.emit('chat:message', { roomId: 1, content: 5 });
// @ts-expect-error: no such property
socket.on('chat:message', (data) => data.text);
// @ts-expect-error: neither token nor getToken
connect({ io });
// @ts-expect-error: a change's id is a number
socket.on('chat:message-edited', ({ id }) => id.length);
// @ts-expect-error: a role is a word
broadcastService.toRole(5, 'system:alert', {});
// A word of auth.role_map is one, too.
broadcastService.toRole('hr_manager', 'system:alert', {});
// @ts-expect-error: a target is one
broadcastService.notify({ user: 1, all: true, room: 'chat:1' }, { title: 'T', message: 'M' });
