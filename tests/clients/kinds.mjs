// Every kind of request that the table of costs in docs/protocol.md knows, how each is asked for, and what a learner needs to ask
// for much. A kind that has no act here fails the tests that go through them.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const LESSONS = 2_000;
const ROOMS = 300;
const NOTIFICATIONS = 500;

export const event = (name, payload, method, path, body) => ({ event: name, payload, http: { method, path: `/api/v1${path}`, body } });

// How each is asked for.
export const ACTS = {
  'chat:join': event('chat:join', { roomId: 'own-0', limit: 200 }, 'POST', '/rooms/own-0/join', {}),
  'chat:leave': event('chat:leave', { roomId: 'own-1' }, 'POST', '/rooms/own-1/leave', {}),
  'chat:message': event('chat:message', { roomId: 'own-0', content: 'again' }, 'POST', '/rooms/own-0/messages', { content: 'again' }),
  'chat:edit': event('chat:edit', { roomId: 'own-0', messageId: 1, content: 'x' }, 'PATCH', '/rooms/own-0/messages/1', { content: 'x' }),
  'chat:delete': event('chat:delete', { roomId: 'own-0', messageId: 1 }, 'DELETE', '/rooms/own-0/messages/1'),
  'chat:typing': event('chat:typing', { roomId: 'crowd', isTyping: false }, 'POST', '/rooms/crowd/typing', { isTyping: false }),
  'chat:read': event('chat:read', { roomId: 'own-0', messageId: 1 }, 'POST', '/rooms/own-0/read', { messageId: 1 }),
  'chat:history': event('chat:history', { roomId: 'own-0', limit: 200 }, 'GET', '/rooms/own-0/messages?limit=200'),
  'chat:search': event('chat:search', { q: 'message', limit: 50 }, 'GET', '/search?q=message&limit=50'),
  'chat:rooms': event('chat:rooms', {}, 'GET', '/rooms'),
  'chat:mute': event('chat:mute', { roomId: 'own-0', userId: 8, seconds: 60 }, 'POST', '/rooms/own-0/mute', { userId: 8, seconds: 60 }),
  'chat:unmute': event('chat:unmute', { roomId: 'own-0', userId: 8 }, 'POST', '/rooms/own-0/unmute', { userId: 8 }),
  'chat:lock': event('chat:lock', { roomId: 'own-0', locked: true }, 'POST', '/rooms/own-0/lock', { locked: true }),
  'chat:slow': event('chat:slow', { roomId: 'own-0', seconds: 5 }, 'POST', '/rooms/own-0/slow', { seconds: 5 }),
  'chat:report': event('chat:report', { roomId: 'own-0', messageId: 1, reason: 'why' }, 'POST', '/rooms/own-0/messages/1/report', { reason: 'why' }),
  'chat:reports': event('chat:reports', { roomId: 'own-0', limit: 200 }, 'GET', '/rooms/own-0/reports?limit=200'),
  'chat:resolve': event('chat:resolve', { roomId: 'own-0', reportId: 1 }, 'POST', '/rooms/own-0/reports/1/resolve', {}),
  'progress:sync': event('progress:sync', Array.from({ length: 500 }, (_, n) => ({ lessonId: n, progress: 50 })), 'POST', '/progress', Array.from({ length: 500 }, (_, n) => ({ lessonId: n, progress: 50 }))),
  'progress:get': event('progress:get', {}, 'GET', '/progress'),
  'progress:history': event('progress:history', { lessonId: 1 }, 'GET', '/progress/1/history'),
  'notification:list': event('notification:list', { limit: 200 }, 'GET', '/notifications?limit=200'),
  'notification:read': event('notification:read', { all: true }, 'POST', '/notifications/read', { all: true }),
  'notification:delete': event('notification:delete', { id: 999_999_999 }, 'DELETE', '/notifications/999999999'),
  'presence:list': event('presence:list', { roomId: 'crowd' }, 'GET', '/rooms/crowd/presence'),
  'auth:refresh': { event: 'auth:refresh', payload: 'own token' },
  'an event that does not exist': { event: 'no:such', payload: {} },
  'GET /api/v1/session': event(undefined, undefined, 'GET', '/session'),
  'GET /api/v1/events': event(undefined, undefined, 'GET', `/events?rooms=${Array.from({ length: 100 }, (_, n) => `own-${n}`).join(',')}`),
  'POST /api/v1/broadcast': event(undefined, undefined, 'POST', '/broadcast', { target: { all: true }, event: 'x', payload: {} }),
  'POST /api/v1/notifications': event(undefined, undefined, 'POST', '/notifications', { target: { all: true }, title: 'x', message: 'x' }),
  '/api/v1/admin/…': event(undefined, undefined, 'GET', '/admin/status'),
  'GET /metrics': { http: { method: 'GET', path: '/metrics' } },
  'a request of the polling transport': { http: { method: 'GET', path: '/ws/?EIO=4&transport=polling&sid=none' } },
  'a request without a good token': { isForged: true, ...event(undefined, undefined, 'GET', '/session') },
};

export const kinds = () => {
  const page = readFileSync(join(here, '../../docs/protocol.md'), 'utf8');
  const table = /<!-- generated: costs -->\n([\s\S]*?)<!-- end -->/.exec(page)[1];
  return table.trim().split('\n').slice(2).map((row) => row.split('|')[1].trim().replaceAll('`', ''));
};

// The learner has lessons, rooms and notifications: who has little asks for little.
export async function furnish(server) {
  const admin = { userId: 1, role: 'admin' };
  const does = async (path, body, claims = admin) => {
    const answer = await server.fetch(`/api/v1${path}`, { method: 'POST', claims, body });
    assert.equal(answer.status, 200, answer.raw);
  };
  for (let n = 0; n < ROOMS; n += 1) await does('/admin/rooms', { roomId: `own-${n}`, private: true, members: [7] });
  await does('/admin/rooms', { roomId: 'crowd', private: false });
  for (let n = 0; n < 200; n += 1) {
    await does('/broadcast', { target: { room: 'chat:own-0' }, event: 'chat:message', payload: { content: `message ${n}` } }, { userId: 'platform', scope: 'broadcast' });
  }
  for (let n = 0; n < LESSONS; n += 500) {
    await does('/progress?userId=7', Array.from({ length: 500 }, (_, i) => ({ lessonId: n + i, progress: 10 })), { userId: 'platform', scope: 'progress' });
  }
  for (let n = 0; n < NOTIFICATIONS; n += 1) await does('/notifications', { target: { user: 7 }, title: 'A title', message: `${n}` });
}
