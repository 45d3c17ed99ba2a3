// The academy's platform on academy-rt: its modules go on calling `getIO()` and `broadcastService` as they do, and sessions get tokens.
// Node.js 18 or newer. It needs broadcast-service.js of /sdk/ beside it, and no package.
//
//   import { createRealtime } from './realtime-server.js';
//
//   const { getIO, broadcastService, tokenRoute } = createRealtime({ url: 'https://rt.example.org', token: process.env.REALTIME_SERVICE_TOKEN });
//   export { getIO, broadcastService };
//   app.get('/api/realtime/token', tokenRoute({ user: (request) => request.session?.user, sign: (claims) => jwt.sign(claims, process.env.JWT_SECRET) }));

import { createBroadcastService } from './broadcast-service.js';

const ROLES = ['admin', 'coach', 'learner', 'hr'];
/** The events that the server stores, and the fields that it takes for them: whatever else the platform has put there stays with it. */
const STORED = {
  'chat:message': ['content', 'type', 'senderId', 'senderName', 'replyToId', 'externalId', 'roomId', 'id', 'seq', 'timestamp', 'clientId'],
  'chat:message-edited': ['messageId', 'externalId', 'newContent', 'roomId', 'id', 'editedAt', 'editedBy'],
  'chat:message-deleted': ['messageId', 'externalId', 'roomId', 'id', 'deletedAt', 'deletedBy'],
  'notification:new': ['type', 'title', 'message', 'titleFr', 'messageFr', 'titleEn', 'messageEn', 'link', 'metadata', 'id', 'createdAt', 'timestamp', 'read'],
};
const SENT_AS = { messageType: 'type', progressPercent: 'progress', timeSpentSeconds: 'timeSpent' };

/** What the platform says, in the words of the reference. */
function translated(event, payload) {
  if (payload === null || typeof payload !== 'object' || Array.isArray(payload)) return payload;
  const renamed = Object.entries(payload).map(([field, value]) => [payload[SENT_AS[field]] === undefined ? SENT_AS[field] ?? field : field, value]);
  return Object.fromEntries(renamed.filter(([field]) => STORED[event]?.includes(field) ?? true));
}

/** The full name of a room: the platform calls a chat room by its id alone. */
function fullName(room) {
  const name = String(room);
  return ROLES.includes(name) || /^(user|chat):/.test(name) || name === 'all' ? name : `chat:${name}`;
}

export function createRealtime(options) {
  // Callers of emit() do not wait: what fails is told to `onError`, or written to standard error.
  const onError = options.onError ?? ((error) => console.error(`academy-rt: ${error.code}: ${error.message}`));
  const service = createBroadcastService({ ...options, onError });

  const broadcastService = {
    toUser: (userId, event, payload, call) => service.toUser(userId, event, translated(event, payload), call),
    toUsers: (userIds, event, payload, call) => service.toUsers(userIds, event, translated(event, payload), call),
    toRole: (role, event, payload, call) => service.toRole(role, event, translated(event, payload), call),
    toRoom: (room, event, payload, call) => service.toRoom(fullName(room), event, translated(event, payload), call),
    toAll: (event, payload, call) => service.toAll(event, translated(event, payload), call),
    notify: (target, notification, call) => service.notify(target, translated('notification:new', notification), call),
  };

  /** What `io` can do here: send. Whoever asks it for sockets is told what to use. */
  const aimed = (rooms) => ({
    to: (room) => aimed([...rooms, ...[room].flat()]),
    in: (room) => aimed([...rooms, ...[room].flat()]),
    emit(event, payload) {
      if (rooms.length === 0) broadcastService.toAll(event, payload).catch(() => {});
      for (const room of new Set(rooms.map(fullName))) broadcastService.toRoom(room, event, payload).catch(() => {});
      return true;
    },
  });
  const io = new Proxy(aimed([]), {
    get(target, name) {
      if (name in target || typeof name === 'symbol' || name === 'then') return target[name];
      throw new TypeError(`io.${name} is not there: sockets are at academy-rt. Use its HTTP API, or webhooks for what happens there`);
    },
  });

  /** A route that gives whoever is signed in a token: `user` tells who that is, and `sign` signs the claims with the platform's secret. */
  const tokenRoute = ({ user, sign, ttlSeconds = 900 }) => async (request, response) => {
    const who = await user(request);
    response.setHeader('cache-control', 'no-store');
    response.setHeader('content-type', 'application/json');
    if (!who) {
      response.statusCode = 401;
      return response.end(JSON.stringify({ error: 'sign in first' }));
    }
    const now = Math.floor(Date.now() / 1000);
    const { userId = who.id, openId, email, name, role, authMethod } = who;
    const token = await sign({ userId, openId, email, name, role, authMethod, iat: now, exp: now + ttlSeconds });
    return response.end(JSON.stringify({ token, expiresIn: ttlSeconds }));
  };

  return { getIO: () => io, broadcastService, tokenRoute };
}
