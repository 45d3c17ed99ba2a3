// The academy's front end on academy-rt: `bridge` gives a socket that takes and tells events as the platform's components know them
// (`join-room`, `messageType`, `createdAt`, `progressPercent`, `timeSpentSeconds`). The socket is one of socket.io-client, or of the SDK.
//
//   import { io } from 'socket.io-client';
//   import { bridge } from './realtime-client.js';
//
//   const socket = bridge(io('https://rt.example.org', { path: '/ws', auth: (give) => fetchToken().then((token) => give({ token })) }));
//   socket.emit('join-room', 'room-123');
//   socket.on('chat:message', ({ senderId, content, messageType, createdAt }) => { ... });

const EVENTS = { 'join-room': 'chat:join', 'leave-room': 'chat:leave' };
const SENT_AS = { messageType: 'type', progressPercent: 'progress', timeSpentSeconds: 'timeSpent' };
/** What tells more to the platform's components: the field of the reference, theirs, and how it is said there. */
const TOLD_AS = [
  ['type', 'messageType', (value) => value, (payload) => 'content' in payload],
  ['timestamp', 'createdAt', (value) => new Date(value).toISOString(), (payload) => !('createdAt' in payload)],
  ['progress', 'progressPercent', (value) => value, () => true],
  ['timeSpent', 'timeSpentSeconds', (value) => value, () => true],
];

/** The reference has whole seconds. */
const whole = (field, value) => (field === 'timeSpentSeconds' && Number.isFinite(value) ? Math.round(value) : value);
const isRecord = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);

/** What a component sends, in the words of the reference. */
function sent(event, payload) {
  if (Array.isArray(payload)) return payload.map((one) => sent(event, one));
  if (!isRecord(payload)) return event in EVENTS ? { roomId: payload } : payload;
  return Object.fromEntries(Object.entries(payload).map(([field, value]) => [payload[SENT_AS[field]] === undefined ? SENT_AS[field] ?? field : field, whole(field, value)]));
}

/** What a component hears: all that the reference has, and its own words besides. Lists of an answer have them, too. */
function told(payload) {
  if (!isRecord(payload)) return payload;
  const more = TOLD_AS.filter(([field, , , fits]) => payload[field] !== undefined && fits(payload)).map(([field, name, say]) => [name, say(payload[field])]);
  const lists = ['messages', 'items', 'results', 'versions'].filter((name) => Array.isArray(payload[name])).map((name) => [name, payload[name].map(told)]);
  return { ...payload, ...Object.fromEntries(more), ...Object.fromEntries(lists) };
}

export function bridge(socket) {
  const wrapped = new WeakMap();
  const listener = (own) => {
    if (!wrapped.has(own)) wrapped.set(own, (...args) => own(...args.map(told)));
    return wrapped.get(own);
  };
  const words = (event, args) => [EVENTS[event] ?? event, ...args.map((arg) => (typeof arg === 'function' ? (...answers) => arg(...answers.map(told)) : sent(event, arg)))];
  const own = {
    emit: (event, ...args) => { socket.emit(...words(event, args)); return bridged; },
    emitWithAck: async (event, ...args) => told(await socket.emitWithAck(...words(event, args))),
    on: (event, one) => { socket.on(event, listener(one)); return bridged; },
    once: (event, one) => { socket.once(event, listener(one)); return bridged; },
    off: (event, one) => { socket.off(event, one && listener(one)); return bridged; },
  };
  own.removeListener = own.off;
  // Everything else is the socket's own: connected, id, connect(), disconnect(), io.
  const bridged = new Proxy(socket, {
    get(target, name) {
      if (Object.hasOwn(own, name)) return own[name];
      const value = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
    set: (target, name, value) => Reflect.set(target, name, value, target),
  });
  return bridged;
}
