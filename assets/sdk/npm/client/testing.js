// academy-rt-client/testing: a server in memory for the tests of a program that uses the client. The client is the real one, so that
// its outbox, its rooms and its return are what they are; the server does what academy-rt does with each request, without its limits.

import { connect } from './academy-rt.js';

const ROLES = ['admin', 'hr', 'coach', 'learner'];

/** A refusal, on its way to the answer. */
class Refusal extends Error {
  constructor(code, message, field) {
    super(message);
    Object.assign(this, { code, field });
  }

  get failure() {
    return { code: this.code, message: this.message, ...(this.field ? { field: this.field } : {}) };
  }
}

const invalid = (field, message) => new Refusal('invalid_payload', message, field);
const isText = (value) => typeof value === 'string';
const isWhole = (value, most = Number.MAX_SAFE_INTEGER) => Number.isInteger(value) && value >= 0 && value <= most;
const isId = (value) => isWhole(value) || (isText(value) && value !== '' && value.length <= 100 && !/[\s\p{Cc}]/u.test(value) && value !== '.' && value !== '..');
const key = (id) => String(id).normalize('NFC');
/** An event as a user is told of it: the key of a message is its sender's own. */
function asToldTo(user, event, payload) {
  const { clientId, ...more } = payload ?? {};
  return event !== 'chat:message' || key(payload.senderId) === key(user.id) ? payload : more;
}
const soon = (work) => { queueMicrotask(work); };

function idIn(payload, field) {
  if (payload[field] === undefined || payload[field] === null) throw invalid(field, `${field} is missing`);
  if (!isId(payload[field])) throw invalid(field, `${field}: must be a non-negative integer, or 1 to 100 characters without control characters or spaces, and neither '.' nor '..'`);
  // As the server does: it answers in the normal form.
  return isText(payload[field]) ? payload[field].normalize('NFC') : payload[field];
}

function wholeIn(payload, field, most) {
  if (payload[field] === undefined || payload[field] === null) throw invalid(field, `${field} is missing`);
  if (!isWhole(payload[field], most)) throw invalid(field, `${field} must be a whole number`);
  return payload[field];
}

function limitIn({ limit = 50 }) {
  if (!isWhole(limit)) throw invalid('limit', 'limit must be a whole number');
  return Math.min(Math.max(limit, 1), 200);
}

/** A token that the fake server reads, and nobody else. */
function tokenOf(claims) {
  const part = (value) => btoa(String.fromCharCode(...new TextEncoder().encode(JSON.stringify(value)))).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
  return `${part({ alg: 'none' })}.${part(claims)}.fake`;
}

function claimsOf(token) {
  if (!token) throw new Refusal('token_missing', 'there is no token');
  try {
    const text = atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/'));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (char) => char.charCodeAt(0))));
  } catch {
    throw new Refusal('token_malformed', 'the token is not a JWT');
  }
}

/** Each route of the HTTP API that the client uses, as its event. */
const ROUTES = [
  ['POST', /^\/rooms\/([^/]+)\/join$/, 'chat:join', 'roomId'],
  ['POST', /^\/rooms\/([^/]+)\/leave$/, 'chat:leave', 'roomId'],
  ['POST', /^\/rooms\/([^/]+)\/messages$/, 'chat:message', 'roomId'],
  ['GET', /^\/rooms\/([^/]+)\/messages$/, 'chat:history', 'roomId'],
  ['PATCH', /^\/rooms\/([^/]+)\/messages\/(\d+)$/, 'chat:edit', 'roomId', 'messageId'],
  ['DELETE', /^\/rooms\/([^/]+)\/messages\/(\d+)$/, 'chat:delete', 'roomId', 'messageId'],
  ['POST', /^\/rooms\/([^/]+)\/typing$/, 'chat:typing', 'roomId'],
  ['POST', /^\/rooms\/([^/]+)\/read$/, 'chat:read', 'roomId'],
  ['GET', /^\/rooms\/([^/]+)\/presence$/, 'presence:list', 'roomId'],
  ['GET', /^\/search$/, 'chat:search'],
  ['GET', /^\/rooms$/, 'chat:rooms'],
  ['POST', /^\/progress$/, 'progress:sync'],
  ['GET', /^\/progress$/, 'progress:get'],
  ['GET', /^\/progress\/([^/]+)\/history$/, 'progress:history', 'lessonId'],
  ['GET', /^\/notifications$/, 'notification:list'],
  ['POST', /^\/notifications\/read$/, 'notification:read'],
  ['DELETE', /^\/notifications\/(\d+)$/, 'notification:delete', 'id'],
];
const STATUS = { invalid_payload: 400, forbidden: 403, not_found: 404, not_joined: 409, conflict: 409, too_large: 413, rate_limited: 429, unavailable: 503, resync: 410 };
const inUrl = (text) => (/^(0|[1-9]\d*)$/.test(text) ? Number(text) : text);

/** What somebody is in a room that is registered. */
function membershipIn(room, user) {
  if (room.moderators.has(key(user.id))) return 'moderator';
  return room.members.has(key(user.id)) ? 'member' : 'guest';
}

/** A server in memory. */
class FakeAcademy {
  #rooms = new Map();
  #messages = new Map();
  #answered = new Map();
  #progress = new Map();
  #inboxes = new Map();
  #log = [];
  #sockets = new Set();
  #polls = new Set();
  #refusals = new Map();
  #refusedTokens = new Map();
  #lastId = 0;
  #isOnline = true;
  #realtime = true;
  #clients = new Set();
  #ids = new Map();
  #storeId = Array.from({ length: 32 }, () => Math.floor(Math.random() * 16).toString(16)).join('');

  /** The clock; a test may set it. */
  now = () => Date.now();

  // --- what a test does ------------------------------------------------------------------------------------------------

  /** The client of a user, connected; `user` is their id or their claims. */
  connect(user, options = {}) {
    const claims = typeof user === 'object' ? user : { userId: user };
    const socket = connect({
      ...(options.getToken || options.token ? {} : { token: this.token(claims) }),
      io: (_url, settings) => this.#io(settings),
      fetch: (url, init) => this.#fetch(url, init),
      url: 'http://academy-rt.test',
      retryMinMs: 5,
      retryMaxMs: 20,
      pollWaitSeconds: 1,
      ...options,
    });
    this.#clients.add(socket);
    return socket;
  }

  /** What makes a client of one's own talk to this server: the options `io`, `fetch` and `url` of `connect`. */
  get options() {
    return { io: (_url, settings) => this.#io(settings), fetch: (url, init) => this.#fetch(url, init), url: 'http://academy-rt.test' };
  }

  token(claims) {
    return tokenOf(claims);
  }

  /** Ends all clients that `connect` has made. */
  close() {
    for (const client of this.#clients) client.disconnect();
    this.#clients.clear();
  }

  /** Makes a room, for its members alone if it is private. */
  room(roomId, { isPrivate = false, members = [], moderators = [] } = {}) {
    const room = this.#room(roomId);
    room.isPrivate = isPrivate;
    room.isRegistered = true;
    room.members = new Set([...members, ...moderators].map(key));
    room.moderators = new Set(moderators.map(key));
    for (const socket of [...this.#sockets]) {
      if (!socket.rooms.has(key(roomId)) || this.#mayEnter(socket.user, room)) continue;
      socket.rooms.delete(key(roomId));
      socket.tell('request:error', { event: 'chat:join', roomId, code: 'forbidden', field: 'roomId', message: `you are not a member of ${roomId} any more` });
    }
  }

  /** Somebody says something. */
  say(roomId, sender, content, more = {}) {
    const user = this.#userOf(typeof sender === 'object' ? sender : { userId: sender });
    return this.#handle(user, 'chat:message', { roomId, content, ...more });
  }

  /** Does any request as a user, and gives the answer. */
  as(user, event, payload = {}) {
    return this.#answerTo(this.#userOf(typeof user === 'object' ? user : { userId: user }), event, payload);
  }

  /** A stored notification for a user, some users, a role or all that have ever connected. */
  notify(target, { title, message, type = 'info', ...more }) {
    const id = this.#nextId();
    const notification = { id, type, title, message, ...more, createdAt: this.now() };
    for (const user of this.#audience(target)) {
      this.#inbox(user).unshift({ ...notification, read: false });
      this.#emit({ user }, 'notification:new', { ...notification, read: false });
    }
    return id;
  }

  /** An event of a back end, for who is connected. */
  broadcast(target, event, payload) {
    for (const user of this.#audience(target)) this.#emit({ user }, event, payload);
  }

  /** The next requests with this event are refused: once, or so often. */
  refuse(event, failure, times = 1) {
    this.#refusals.set(event, { failure: { message: failure.code, ...failure }, times });
  }

  /** Refuses the tokens of a user from now on, as `token_revoked` or with another code; with null it takes them again. */
  refuseTokens(user, code = 'token_revoked') {
    this.#refusedTokens.set(key(user), code);
    for (const socket of [...this.#sockets]) if (key(socket.user.id) === key(user) && code) socket.end({ code, message: code });
  }

  /** Nothing reaches the server any more. */
  goOffline() {
    this.#isOnline = false;
    for (const socket of [...this.#sockets]) socket.drop('transport close');
    for (const poll of [...this.#polls]) poll.fail();
  }

  goOnline() {
    this.#isOnline = true;
    globalThis.dispatchEvent?.(new Event('online'));
  }

  /** Whether Socket.IO is on; without it the client goes on by HTTP. */
  set realtime(isOn) {
    this.#realtime = isOn;
    if (!isOn) for (const socket of [...this.#sockets]) socket.end({ code: 'realtime_disabled', message: 'Socket.IO is off' });
    else globalThis.dispatchEvent?.(new Event('online'));
  }

  get realtime() {
    return this.#realtime;
  }

  /** The messages of a room, as they are stored. */
  messages(roomId) {
    return this.#room(roomId).messages.map((message) => ({ ...message }));
  }

  // --- users and rooms -------------------------------------------------------------------------------------------------

  /** Of the ids that differ in their JSON type or their Unicode form alone, the one that came first is everybody's. */
  #idOf(claimed) {
    const id = isText(claimed) ? claimed.normalize('NFC') : claimed;
    if (!this.#ids.has(key(id))) this.#ids.set(key(id), id);
    return this.#ids.get(key(id));
  }

  #userOf(claims) {
    const id = this.#idOf(claims.userId ?? claims.id ?? claims.sub);
    const role = claims.role ?? 'learner';
    return { id, name: claims.name ?? String(id), role: ROLES.includes(role) ? role : null, expiresAt: claims.exp ? claims.exp * 1_000 : null };
  }

  #signIn(token) {
    const user = this.#userOf(claimsOf(token));
    if (!isId(user.id)) throw new Refusal('token_invalid', 'the token names no user');
    if (user.expiresAt !== null && user.expiresAt <= this.now()) throw new Refusal('token_expired', 'the token has expired');
    const code = this.#refusedTokens.get(key(user.id));
    if (code) throw new Refusal(code, code);
    this.#inbox(user.id);
    return user;
  }

  #session({ id, name, role, expiresAt }) {
    return {
      userId: id, name, role, roles: role ? [role] : [], rooms: [...(role ? [role] : []), `user:${id}`, 'all'], expiresAt, serverTime: this.now(),
      unread: this.#inbox(id).filter(({ read }) => !read).length, storeId: this.#storeId,
    };
  }

  #room(roomId) {
    const known = this.#rooms.get(key(roomId));
    if (known) return known;
    const room = { id: roomId, messages: [], marks: new Map(), listed: new Set(), names: new Map(), typing: new Set(), isPrivate: false, isRegistered: false, members: new Set(), moderators: new Set(), lastSeq: 0 };
    this.#rooms.set(key(roomId), room);
    return room;
  }

  #mayEnter(user, room) {
    return !room.isPrivate || user.role === 'admin' || room.members.has(key(user.id));
  }

  #enterable(user, payload) {
    const room = this.#room(idIn(payload, 'roomId'));
    if (!this.#mayEnter(user, room)) throw new Refusal('forbidden', 'this room is private');
    return room;
  }

  #inbox(userId) {
    if (!this.#inboxes.has(key(userId))) this.#inboxes.set(key(userId), Object.assign([], { user: userId, delivered: 0 }));
    return this.#inboxes.get(key(userId));
  }

  #audience(target) {
    const everybody = [...this.#inboxes.values()].map(({ user }) => user);
    if (target.user !== undefined) return [target.user];
    if (target.users) return target.users;
    if (target.role) return [...new Map([...this.#sockets].filter(({ user }) => user.role === target.role).map(({ user }) => [key(user.id), user.id])).values()];
    return everybody;
  }

  #nextId() {
    this.#lastId += 1;
    return this.#lastId;
  }

  /** Tells who is concerned: the sockets in a room, or those of a user, and whoever polls. */
  #emit({ user, room, but }, event, payload) {
    this.#log.push({ n: this.#log.length + 1, user, room, but, event, payload });
    for (const socket of [...this.#sockets]) {
      const isMeant = room === undefined ? key(socket.user.id) === key(user) : socket.rooms.has(key(room));
      if (isMeant && socket !== but) socket.tell(event, asToldTo(socket.user, event, payload));
    }
    for (const poll of [...this.#polls]) poll.look();
  }

  // --- requests --------------------------------------------------------------------------------------------------------

  #answerTo(user, event, payload, socket) {
    try {
      const refusal = this.#refusals.get(event);
      if (refusal) {
        refusal.times -= 1;
        if (refusal.times <= 0) this.#refusals.delete(event);
        return { ok: false, error: refusal.failure };
      }
      return { ok: true, ...this.#handle(user, event, JSON.parse(JSON.stringify(payload ?? {})), socket) };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return { ok: false, error: error.failure };
    }
  }

  #handle(user, event, payload, socket) {
    const isBare = ['chat:join', 'chat:leave', 'presence:list'].includes(event) && ['string', 'number'].includes(typeof payload);
    const given = isBare ? { roomId: payload } : payload;
    if (event !== 'progress:sync' && (typeof given !== 'object' || Array.isArray(given))) throw new Refusal('invalid_payload', 'the payload must be an object');
    switch (event) {
      case 'chat:join': return this.#join(user, given, socket);
      case 'chat:leave': return this.#leave(user, given, socket);
      case 'chat:message': return this.#post(user, given);
      case 'chat:edit': return this.#edit(user, given);
      case 'chat:delete': return this.#delete(user, given);
      case 'chat:typing': return this.#typing(user, given, socket);
      case 'chat:read': return this.#read(user, given);
      case 'chat:history': return this.#history(user, this.#enterable(user, given), given);
      case 'chat:search': return this.#search(user, given);
      case 'chat:rooms': return this.#list(user);
      case 'presence:list': return this.#presence(given, socket);
      case 'progress:sync': return this.#sync(user, given);
      case 'progress:get': return this.#getProgress(user, given);
      case 'progress:history': return { versions: [...(this.#lessons(user).get(key(idIn(given, 'lessonId'))) ?? [])].reverse(), hasMore: false };
      case 'notification:list': return this.#notifications(user, given);
      case 'notification:read': return this.#readNotifications(user, given, socket);
      case 'notification:delete': return this.#deleteNotification(user, given, socket);
      default: throw new Refusal('invalid_payload', `'${event}' is not an event of this server`);
    }
  }

  #history(user, room, payload) {
    const limit = limitIn(payload);
    const { after, before } = payload;
    let found = room.messages;
    if (after !== undefined) found = found.filter(({ id }) => id > after);
    if (before !== undefined) found = found.filter(({ id }) => id < before);
    const messages = after !== undefined ? found.slice(0, limit) : found.slice(-limit);
    return {
      roomId: payload.roomId, messages: messages.map((message) => ({ ...asToldTo(user, 'chat:message', message), roomId: payload.roomId })), hasMore: messages.length < found.length,
      lastId: room.messages.at(-1)?.id ?? 0, lastSeq: room.lastSeq,
    };
  }

  #inRoom(room) {
    return new Set([...this.#sockets].filter(({ rooms }) => rooms.has(key(room.id))).map(({ user }) => key(user.id)));
  }

  #join(user, payload, socket) {
    const room = this.#enterable(user, payload);
    const isFirst = socket && !this.#inRoom(room).has(key(user.id));
    const answer = this.#history(user, room, payload);
    socket?.rooms.add(key(room.id));
    room.listed.add(key(user.id));
    room.names.set(key(user.id), { userId: user.id, name: user.name });
    if (isFirst) this.#emit({ room: room.id, but: socket }, 'chat:user_joined', { roomId: room.id, userId: user.id, userName: user.name, timestamp: this.now() });
    const membership = room.messages.length || room.isRegistered ? membershipIn(room, user) : null;
    return { ...answer, members: this.#inRoom(room).size, readUpTo: room.marks.get(key(user.id)) ?? 0, membership, locked: false, slowModeSeconds: 0, mutedUntil: null };
  }

  #leave(user, payload, socket) {
    const roomId = idIn(payload, 'roomId');
    const room = this.#room(roomId);
    this.#stopsTyping(user, room);
    if (socket?.rooms.delete(key(roomId)) && !this.#inRoom(room).has(key(user.id))) {
      this.#emit({ room: roomId }, 'chat:user_left', { roomId, userId: user.id, userName: user.name, timestamp: this.now() });
    }
    if (!this.#inRoom(room).has(key(user.id))) room.listed.delete(key(user.id));
    return { roomId };
  }

  #contentOf(payload) {
    const { content } = payload;
    if (content === undefined || content === null) throw invalid('content', 'content is missing');
    if (!isText(content)) throw invalid('content', 'content must be a text');
    if (content.trim() === '') throw invalid('content', 'content must not be empty');
    if ([...content].length > 4_000) throw new Refusal('too_large', 'content may have 4000 characters', 'content');
    return content;
  }

  /** A repetition gets the first answer; the same key with something else is a conflict. */
  #once(user, kind, id, what, work) {
    if (id === undefined || id === null) return work();
    if (!isText(id) || id.length < 1 || id.length > 64) throw invalid(kind, `${kind} must have 1 to 64 characters`);
    const name = `${key(user.id)} ${kind} ${id}`;
    const text = JSON.stringify(what);
    const before = this.#answered.get(name);
    if (before && before.text !== text) throw new Refusal('conflict', `this ${kind} was used with something else`);
    if (before) return { ...before.answer, duplicate: true };
    const answer = work();
    this.#answered.set(name, { text, answer });
    return answer;
  }

  #post(user, payload) {
    const room = this.#enterable(user, payload);
    const content = this.#contentOf(payload);
    const { type = 'text', replyToId = null, clientId } = payload;
    if (!['text', 'image', 'file'].includes(type)) throw invalid('type', 'type must be text, image or file');
    return this.#once(user, 'clientId', clientId, [key(room.id), content, type, replyToId], () => {
      const timestamp = this.now();
      this.#stopsTyping(user, room);
      room.lastSeq += 1;
      const message = { id: this.#nextId(), seq: room.lastSeq, roomId: payload.roomId, senderId: user.id, senderName: user.name, content, type, replyToId, ...(clientId ? { clientId } : {}), timestamp };
      room.messages.push(message);
      room.names.set(key(user.id), { userId: user.id, name: user.name });
      if (!room.listed.has(key(user.id))) room.listed.add(key(user.id));
      room.marks.set(key(user.id), message.id);
      this.#messages.set(message.id, message);
      this.#emit({ room: room.id }, 'chat:message', { ...message });
      return { id: message.id, seq: message.seq, timestamp };
    });
  }

  #own(user, payload) {
    const room = this.#enterable(user, payload);
    const message = room.messages.find(({ id }) => id === wholeIn(payload, 'messageId'));
    if (!message || message.deletedAt) throw new Refusal('not_found', 'there is no such thing here');
    const isOwn = key(message.senderId) === key(user.id);
    if (!isOwn && user.role !== 'admin' && !room.moderators.has(key(user.id))) throw new Refusal('forbidden', "this is somebody else's message");
    return { room, message, by: isOwn ? undefined : user.id };
  }

  #edit(user, payload) {
    const { room, message, by } = this.#own(user, payload);
    const content = this.#contentOf(payload);
    const editedAt = Math.max(this.now(), (message.editedAt ?? 0) + 1);
    Object.assign(message, { content, editedAt, ...(by === undefined ? {} : { editedBy: by }) });
    this.#emit({ room: room.id }, 'chat:message-edited', { id: this.#nextId(), roomId: room.id, messageId: message.id, newContent: content, editedAt, ...(by === undefined ? {} : { editedBy: by }) });
    return { messageId: message.id, editedAt };
  }

  #delete(user, payload) {
    const { room, message, by } = this.#own(user, payload);
    const deletedAt = this.now();
    Object.assign(message, { content: '', deletedAt, ...(by === undefined ? {} : { deletedBy: by }) });
    delete message.clientId;
    this.#emit({ room: room.id }, 'chat:message-deleted', { id: this.#nextId(), roomId: room.id, messageId: message.id, deletedAt, ...(by === undefined ? {} : { deletedBy: by }) });
    return { messageId: message.id, deletedAt };
  }

  #typing(user, payload, socket) {
    const roomId = idIn(payload, 'roomId');
    if (typeof payload.isTyping !== 'boolean') throw invalid('isTyping', payload.isTyping === undefined ? 'isTyping is missing' : 'isTyping must be true or false');
    if (socket && !socket.rooms.has(key(roomId))) throw new Refusal('not_joined', 'join the room first: chat:join');
    const { typing } = this.#room(roomId);
    if (payload.isTyping) typing.add(key(user.id));
    else typing.delete(key(user.id));
    this.#emit({ room: roomId, but: socket }, 'chat:typing', { roomId, userId: user.id, userName: user.name, isTyping: payload.isTyping });
    return {};
  }

  #stopsTyping(user, room) {
    if (room.typing.delete(key(user.id))) this.#emit({ room: room.id }, 'chat:typing', { roomId: room.id, userId: user.id, userName: user.name, isTyping: false });
  }

  #read(user, payload) {
    const room = this.#enterable(user, payload);
    const messageId = Math.max(Math.min(wholeIn(payload, 'messageId'), room.messages.at(-1)?.id ?? 0), room.marks.get(key(user.id)) ?? 0);
    if (messageId !== (room.marks.get(key(user.id)) ?? 0)) {
      room.marks.set(key(user.id), messageId);
      this.#emit({ room: room.id }, 'chat:read', { roomId: room.id, userId: user.id, messageId });
    }
    return { roomId: payload.roomId, messageId };
  }

  /** Words without their accents, not in their other forms: the server knows these. */
  #search(user, { q, roomId, room, before, limit = 20 }) {
    if (q === undefined || q === null) throw invalid('q', 'q is missing');
    if (!isText(q)) throw invalid('q', 'q must be a text');
    if (!isWhole(limit) || limit < 1 || limit > 50) throw invalid('limit', 'limit must be 1 to 50');
    const wordsOf = (text) => String(text).normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
    const parts = [...q.matchAll(/(-?)(?:"([^"]*)"?|([^\s"]+))/gu)].map(([, minus, phrase, word]) => ({ isUnwanted: minus !== '', words: wordsOf(phrase ?? word) })).filter(({ words }) => words.length > 0);
    if ([...q].length > 256) throw invalid('q', 'q may have 256 characters at most');
    if (parts.flatMap(({ words }) => words).length > 16) throw invalid('q', 'q may have 16 words at most');
    if (!parts.some(({ isUnwanted }) => !isUnwanted)) throw invalid('q', 'q must have a word to look for; a word behind - is one that must not be there');
    const named = roomId ?? room;
    const rooms = named === undefined ? [...this.#rooms.values()].filter((one) => one.listed.has(key(user.id)) && this.#mayEnter(user, one)) : [this.#enterable(user, { roomId: named })];
    const fits = ({ content, deletedAt, id }) => {
      const has = ({ words }) => ` ${wordsOf(content).join(' ')} `.includes(` ${words.join(' ')} `);
      return !deletedAt && (before === undefined || id < before) && parts.every((part) => has(part) !== part.isUnwanted);
    };
    const found = rooms.flatMap((one) => one.messages.filter(fits)).sort((a, b) => b.id - a.id);
    const messages = found.slice(0, limit).map((message) => asToldTo(user, 'chat:message', message));
    const hasMore = found.length > limit;
    return { messages, hasMore, ...(hasMore ? { next: messages.at(-1).id } : {}), isComplete: true, upTo: this.#lastId };
  }

  #list(user) {
    const rooms = [...this.#rooms.values()].filter((room) => room.listed.has(key(user.id)) && this.#mayEnter(user, room));
    const listed = rooms.map((room) => {
      const readUpTo = room.marks.get(key(user.id)) ?? 0;
      const unread = room.messages.filter(({ id, deletedAt }) => id > readUpTo && !deletedAt).length;
      return { roomId: room.id, name: null, lastId: room.messages.at(-1)?.id ?? 0, readUpTo, unread, membership: membershipIn(room, user), locked: false, slowModeSeconds: 0 };
    });
    return { rooms: listed.sort((a, b) => b.lastId - a.lastId), hasMore: false };
  }

  #presence(payload, socket) {
    const roomId = idIn(payload, 'roomId');
    if (socket && !socket.rooms.has(key(roomId))) throw new Refusal('not_joined', 'join the room first: chat:join');
    const room = this.#room(roomId);
    const online = this.#inRoom(room);
    const users = [...online].map((id) => ({ ...room.names.get(id), online: true, lastSeen: this.now() }));
    return { users, total: users.length, hasMore: false };
  }

  #lessons(user) {
    if (!this.#progress.has(key(user.id))) this.#progress.set(key(user.id), new Map());
    return this.#progress.get(key(user.id));
  }

  #sync(user, payload) {
    if (Array.isArray(payload)) {
      for (const [at, one] of payload.entries()) {
        try {
          this.#checkReport(one);
        } catch (refusal) {
          // The field of a batch has the index of its report.
          if (refusal.field === undefined) throw invalid(`[${at}]`, `[${at}] ${refusal.message}`);
          throw invalid(`[${at}].${refusal.field}`, `[${at}].${refusal.message}`);
        }
      }
      return { results: payload.map((one) => this.#syncOne(user, one)) };
    }
    return this.#syncOne(user, payload);
  }

  #checkReport(report) {
    if (typeof report !== 'object' || report === null) throw new Refusal('invalid_payload', 'a report must be an object');
    idIn(report, 'lessonId');
    const { progress, timeSpent = 0, status } = report;
    if (progress === undefined) throw invalid('progress', 'progress is missing');
    if (typeof progress !== 'number' || progress < 0 || progress > 100) throw invalid('progress', 'progress must be a number from 0 to 100');
    if (!isWhole(timeSpent, 86_400)) throw invalid('timeSpent', 'timeSpent must be a whole number of seconds, at most 86400');
    if (status !== undefined && !['not_started', 'in_progress', 'completed'].includes(status)) throw invalid('status', 'status must be not_started, in_progress or completed');
  }

  #syncOne(user, report) {
    this.#checkReport(report);
    const { syncId, baseVersion, ...what } = report;
    return this.#once(user, 'syncId', syncId, what, () => {
      const { lessonId, progress, timeSpent = 0, status, courseId, moduleId } = what;
      const lessons = this.#lessons(user);
      const versions = lessons.get(key(lessonId)) ?? [];
      const before = versions.at(-1);
      const reached = Math.max(progress, before?.progress ?? 0);
      const isDone = status === 'completed' || reached >= 100 || before?.status === 'completed';
      const now = this.now();
      const next = {
        lessonId, progress: reached, timeSpent: (before?.timeSpent ?? 0) + timeSpent,
        status: isDone ? 'completed' : status === 'in_progress' || reached > 0 || before?.status === 'in_progress' ? 'in_progress' : 'not_started',
        syncVersion: (before?.syncVersion ?? 0) + 1, ...((courseId ?? before?.courseId) === undefined ? {} : { courseId: courseId ?? before.courseId }),
        ...((moduleId ?? before?.moduleId) === undefined ? {} : { moduleId: moduleId ?? before.moduleId }),
        updatedAt: now, completedAt: before?.completedAt ?? (isDone ? now : null),
      };
      lessons.delete(key(lessonId));
      lessons.set(key(lessonId), [...versions, next]);
      this.#emit({ user: user.id }, 'progress:updated', next);
      const isMerged = baseVersion !== undefined && baseVersion < (before?.syncVersion ?? 0);
      return { ...next, ...(isMerged ? { merged: true } : {}) };
    });
  }

  #getProgress(user, { lessonId, courseId, since }) {
    const all = [...this.#lessons(user).values()].map((versions) => versions.at(-1));
    const items = all.filter((one) => (lessonId === undefined || key(one.lessonId) === key(lessonId)) && (courseId === undefined || key(one.courseId) === key(courseId)));
    const from = since === undefined ? 0 : Number(since);
    return { items: items.filter((one) => this.#versionNumber(user, one) > from), cursor: String(this.#log.length), hasMore: false };
  }

  /** When a version was told of, in the order of everything. */
  #versionNumber(user, version) {
    return this.#log.findLast(({ event, payload }) => event === 'progress:updated' && payload === version)?.n ?? 0;
  }

  #notifications(user, payload) {
    const limit = limitIn(payload);
    const inbox = this.#inbox(user.id);
    const found = inbox.filter(({ id, read }) => (payload.before === undefined || id < payload.before) && !(payload.unreadOnly && read));
    return { items: found.slice(0, limit).map((one) => ({ ...one })), unread: inbox.filter(({ read }) => !read).length, hasMore: found.length > limit };
  }

  #readNotifications(user, { id, ids, all, upTo }, socket) {
    const inbox = this.#inbox(user.id);
    if ([id !== undefined, ids !== undefined, all === true].filter(Boolean).length !== 1) throw new Refusal('invalid_payload', 'give exactly one of id, ids and all');
    if (upTo !== undefined && upTo !== null && !isWhole(upTo)) throw invalid('upTo', 'upTo must be a whole number');
    if (upTo !== undefined && upTo !== null && !all) throw invalid('upTo', 'upTo goes with all');
    const isMeant = (one) => (all ? one.id <= (upTo ?? Infinity) : [id ?? ids].flat().includes(one.id));
    const changed = inbox.filter((one) => !one.read && isMeant(one));
    for (const one of changed) one.read = true;
    const unread = inbox.filter(({ read }) => !read).length;
    if (changed.length > 0) this.#emit({ user: user.id, but: socket }, 'notification:updated', { ...(all ? { all: true, ...(upTo === undefined ? {} : { upTo }) } : { ids: changed.map((one) => one.id) }), read: true, unread });
    return { ids: all ? [] : changed.map((one) => one.id), unread };
  }

  #deleteNotification(user, payload, socket) {
    const id = wholeIn(payload, 'id');
    const inbox = this.#inbox(user.id);
    const at = inbox.findIndex((one) => one.id === id);
    if (at >= 0) inbox.splice(at, 1);
    const unread = inbox.filter(({ read }) => !read).length;
    if (at >= 0) this.#emit({ user: user.id, but: socket }, 'notification:updated', { ids: [id], deleted: true, unread });
    return { ids: at >= 0 ? [id] : [], unread };
  }

  // --- Socket.IO -------------------------------------------------------------------------------------------------------

  #io({ auth }) {
    const academy = this;
    const listeners = new Map();
    const any = new Set();
    const fire = (event, ...args) => { for (const listener of [...(listeners.get(event) ?? [])]) listener(...args); };
    const socket = {
      id: undefined,
      connected: false,
      io: { on() {}, off() {}, engine: { transport: { name: 'websocket' }, once() {} } },
      rooms: new Set(),
      on(event, listener) { listeners.set(event, [...(listeners.get(event) ?? []), listener]); },
      off() { listeners.clear(); },
      onAny(listener) { any.add(listener); },
      offAny() { any.clear(); },
      tell(event, payload) {
        const copy = JSON.parse(JSON.stringify(payload));
        soon(() => { for (const listener of [...any]) listener(event, copy); });
      },
      connect() { soon(() => academy.#arrive(socket, auth?.token, fire)); },
      disconnect() { academy.#depart(socket); },
      drop(reason) {
        academy.#depart(socket);
        soon(() => fire('disconnect', reason));
      },
      end(error) {
        if (error.code === 'realtime_disabled') socket.tell('server:draining', {});
        socket.tell(error.code === 'realtime_disabled' ? 'realtime_disabled' : 'auth_error', error);
        socket.drop('io server disconnect');
      },
      timeout() {
        return {
          emit(event, ...args) {
            const done = args.pop();
            soon(() => {
              if (!socket.connected) return done(new Error('socket has been disconnected'));
              if (event === 'auth:refresh') return done(null, academy.#refresh(socket, args[0]?.token));
              const answer = academy.#answerTo(socket.user, event, args[0], socket);
              soon(() => (socket.connected ? done(null, JSON.parse(JSON.stringify(answer))) : done(new Error('socket has been disconnected'))));
            });
          },
        };
      },
    };
    return socket;
  }

  #arrive(socket, token, fire) {
    if (!this.#isOnline) return fire('connect_error', new Error('websocket error'));
    if (!this.#realtime) return fire('connect_error', Object.assign(new Error('xhr poll error'), { context: { responseText: JSON.stringify({ error: { code: 'realtime_disabled', message: 'Socket.IO is off' } }) } }));
    try {
      socket.user = this.#signIn(token);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return socket.end(error.failure);
    }
    socket.connected = true;
    socket.id = `fake-${this.#nextId()}`;
    this.#sockets.add(socket);
    socket.tell('authenticated', this.#session(socket.user));
    const inbox = this.#inbox(socket.user.id);
    for (const one of [...inbox].reverse()) if (one.id > inbox.delivered) socket.tell('notification:new', one);
    inbox.delivered = Math.max(inbox.delivered, inbox[0]?.id ?? 0);
  }

  #refresh(socket, token) {
    try {
      const user = this.#signIn(token);
      if (key(user.id) !== key(socket.user.id)) throw new Refusal('forbidden', "this is another user's token");
      socket.user = user;
      socket.tell('authenticated', this.#session(user));
      return { ok: true, expiresAt: user.expiresAt };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return { ok: false, error: error.failure };
    }
  }

  #depart(socket) {
    socket.connected = false;
    if (!this.#sockets.delete(socket)) return;
    const { user, rooms } = socket;
    for (const name of rooms) {
      const room = this.#room(name);
      this.#stopsTyping(user, room);
      if (!this.#inRoom(room).has(key(user.id))) this.#emit({ room: room.id }, 'chat:user_left', { roomId: room.id, userId: user.id, userName: user.name, timestamp: this.now() });
    }
    rooms.clear();
  }

  // --- HTTP ------------------------------------------------------------------------------------------------------------

  async #fetch(url, { method = 'GET', headers = {}, body, signal } = {}) {
    await new Promise((resolve) => { setTimeout(resolve, 0); });
    if (!this.#isOnline || signal?.aborted) throw new TypeError('fetch failed');
    const { pathname, searchParams } = new URL(url);
    const [status, json] = await this.#route(method, pathname, searchParams, headers, body, signal);
    return { status, ok: status < 300, text: async () => JSON.stringify(json), json: async () => json };
  }

  async #route(method, pathname, search, headers, body, signal) {
    const refused = (error, status = STATUS[error.code] ?? 401) => [status, { ok: false, error }];
    if (pathname === '/sdk/server.json') return [200, { server: 'academy-rt', path: '/ws', apiPath: '/api/v1' }];
    let user;
    try {
      user = this.#signIn((headers.authorization ?? '').replace(/^Bearer /, ''));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return refused(error.failure, 401);
    }
    const path = pathname.replace(/^\/api\/v1/, '');
    if (path === '/session') return [200, { ok: true, ...this.#session(user) }];
    if (path === '/events') return this.#events(user, search, signal);
    for (const [verb, pattern, event, ...names] of ROUTES) {
      const found = verb === method ? pattern.exec(path) : null;
      if (!found) continue;
      const given = body === undefined ? Object.fromEntries([...search].map(([name, text]) => [name, ['since', 'q'].includes(name) ? text : /^(true|false)$/.test(text) ? text === 'true' : inUrl(text)])) : JSON.parse(body);
      const payload = Array.isArray(given) ? given : { ...given, ...Object.fromEntries(names.map((name, i) => [name, inUrl(decodeURIComponent(found[i + 1]))])) };
      const answer = this.#answerTo(user, event, payload);
      return answer.ok ? [200, answer] : refused(answer.error);
    }
    return refused({ code: 'not_found', message: 'there is nothing at this address' });
  }

  #events(user, search, signal) {
    const rooms = search.getAll('room').map(key);
    const from = search.get('cursor') === null ? this.#log.length : Number(search.get('cursor'));
    for (const name of rooms) if (!this.#mayEnter(user, this.#room(name))) return [403, { ok: false, error: { code: 'forbidden', message: 'this room is private' } }];
    const read = () => this.#log.slice(from).filter((one) => (one.room === undefined ? key(one.user) === key(user.id) : rooms.includes(key(one.room))));
    const answer = (events) => [200, { ok: true, events: events.map(({ event, payload }) => ({ event, payload: JSON.parse(JSON.stringify(asToldTo(user, event, payload))) })), cursor: String(this.#log.length) }];
    const found = read();
    const wait = Number(search.get('wait') ?? 0);
    if (search.get('cursor') === null || found.length > 0 || wait === 0) return answer(found);
    return new Promise((resolve, reject) => {
      const end = (work) => {
        clearTimeout(timer);
        this.#polls.delete(poll);
        work();
      };
      const poll = {
        look: () => { if (read().length > 0) end(() => resolve(answer(read()))); },
        fail: () => end(() => reject(new TypeError('fetch failed'))),
      };
      const timer = setTimeout(() => end(() => resolve(answer([]))), wait * 1_000);
      signal?.addEventListener('abort', poll.fail, { once: true });
      this.#polls.add(poll);
    });
  }
}

export { FakeAcademy };
