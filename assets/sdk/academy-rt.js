// The client of academy-rt for browsers (and Node.js 20): a socket as the one of socket.io-client, that goes on where WebSocket
// does not. It has no dependency: `io` of socket.io-client is handed in.
//
//   import { io } from 'socket.io-client';
//   import { connect } from 'https://rt.example.org/sdk/academy-rt.js';
//   const socket = connect({ io, url: 'https://rt.example.org', getToken: () => session.token(), storage: localStorage });
//
// What holds:
// - By Socket.IO where it can, else by HTTP and a long poll; it climbs back by itself. `transport` tells of each change.
// - What is emitted waits in an outbox until the server has acknowledged it, in order within a room, and within the progress:
//   it is stored once, whatever breaks on the way (`clientId`, `syncId`). The outbox is bounded; beyond it the caller is told.
// - A room that was joined is joined again, and what was missed comes as events, in order, without doubles. A join is for hearing:
//   who may enter a room posts into it without one.
// - What the server does not store (typing, presence, events of one's own) goes to who is connected at that moment.

const DEFAULTS = {
  path: '/ws',
  transports: ['websocket', 'polling'],
  connectTimeoutMs: 8_000,
  ackTimeoutMs: 10_000,
  retryMinMs: 1_000,
  retryMaxMs: 30_000,
  pollWaitSeconds: 25,
  outboxLimit: 5_000,
  outboxBytes: 4 * 1024 * 1024,
  storagePrefix: 'academy-rt',
};

const RESERVED = new Set(['connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener']);
/** What is stored by the server once it is acknowledged: it survives a reload of the page where there is a `storage`. */
const DURABLE = new Set([
  'chat:message', 'chat:edit', 'chat:delete', 'chat:read', 'progress:sync', 'notification:read', 'notification:delete',
]);
/** What the long poll gives over any gap. */
const STORED_EVENTS = new Set([
  'chat:message', 'chat:message-edited', 'chat:message-deleted', 'chat:read',
  'progress:updated', 'notification:new', 'notification:updated',
]);
/** After these another try with the same token is no use, nor is one with a fresh token. */
const FINAL = new Set(['token_missing', 'token_malformed', 'token_invalid', 'token_not_yet_valid', 'token_revoked', 'user_blocked']);
const RETRYABLE = new Set(['unavailable', 'rate_limited']);
const MAX_BATCH = 500;
const MAX_BATCH_CHARS = 256 * 1024;
const PAGE = 200;
const MAX_POLL_ROOMS = 100;
const MAX_REMEMBERED = 2_048;
const MAX_HELD = 2_000;
/** The server knows a key for 24 hours: what may have been stored before that cannot be sent again without a double. */
const KEY_LASTS_MS = 23 * 60 * 60 * 1_000;
/** After so many stored events the place to go on from is moved forward. */
const ANCHOR_EVERY = 200;
/** What is in a cursor has left the server long before. */
const ANCHOR_SETTLES_MS = 5_000;
/** A transport that lasted so long was good: the next tries begin with short pauses again. */
const STABLE_MS = 5_000;
/** So many broken connections in a row with the same request under way: it goes by HTTP, which says what is wrong. */
const MAX_BREAKS = 3;
/** So long what comes waits for what was missed. */
const REPLAY_HOLDS_MS = 20_000;
const EXPIRY_NOTICE_MS = 60_000;

/**
 * Connects. The socket that it gives has `on`, `once`, `off`, `emit`, `emitWithAck`, `timeout`, `volatile`, `connected`,
 * `connect`, `disconnect`, as that of socket.io-client, and beside its events `transport`, `resync` and `outbox`.
 */
export function connect(options) {
  return new AcademySocket(options);
}

/** The events of a socket, as socket.io-client has them. */
class Emitter {
  #listeners = new Map();
  #any = [];

  on(event, listener) {
    const list = this.#listeners.get(event);
    if (list) list.push(listener);
    else this.#listeners.set(event, [listener]);
    return this;
  }

  once(event, listener) {
    const once = (...args) => {
      this.off(event, once);
      listener.apply(this, args);
    };
    once.listener = listener;
    return this.on(event, once);
  }

  /** Without a listener all of the event go; without an event all of all events. Of a listener added twice, one goes. */
  off(event, listener) {
    if (event === undefined) this.#listeners.clear();
    else if (listener === undefined) this.#listeners.delete(event);
    else {
      const list = this.#listeners.get(event) ?? [];
      const at = list.findIndex((one) => one === listener || one.listener === listener);
      if (at >= 0) list.splice(at, 1);
      if (list.length === 0) this.#listeners.delete(event);
    }
    return this;
  }

  onAny(listener) {
    this.#any.push(listener);
    return this;
  }

  prependAny(listener) {
    this.#any.unshift(listener);
    return this;
  }

  offAny(listener) {
    this.#any = listener === undefined ? [] : this.#any.filter((one) => one !== listener);
    return this;
  }

  listeners(event) {
    return (this.#listeners.get(event) ?? []).map((one) => one.listener ?? one);
  }

  listenersAny() {
    return [...this.#any];
  }

  hasListeners(event) {
    return this.#listeners.has(event);
  }

  /** Tells the listeners. One that throws ends neither the others nor the connection; its error is reported as any other. */
  _tell(event, args) {
    if (!RESERVED.has(event)) for (const listener of [...this.#any]) guarded(() => listener.apply(this, [event, ...args]));
    for (const listener of [...(this.#listeners.get(event) ?? [])]) guarded(() => listener.apply(this, args));
  }
}
for (const [alias, name] of [
  ['addEventListener', 'on'], ['addListener', 'on'], ['removeListener', 'off'], ['removeEventListener', 'off'], ['removeAllListeners', 'off'],
]) Emitter.prototype[alias] = Emitter.prototype[name];

function guarded(work) {
  try {
    work();
  } catch (error) {
    queueMicrotask(() => { throw error; });
  }
}

/** What waits for the server, in lanes: each is worked in order, one beside the other. */
class Outbox {
  lanes = new Map();
  count = 0;
  chars = 0;
  #options;
  #lastStamp = 0;
  user;

  constructor(options) {
    this.#options = options;
  }

  /** Takes an item, or gives why not. */
  add(item) {
    const { outboxLimit, outboxBytes } = this.#options;
    if (this.count >= outboxLimit || this.chars + item.chars > outboxBytes) {
      const message = `the outbox is full (${this.count} requests, ${this.chars} characters): nothing was sent; try again when it has emptied`;
      return { code: 'outbox_full', message };
    }
    this.#put(item);
    this.store(item);
    return undefined;
  }

  #put(item) {
    const lane = this.lanes.get(item.lane) ?? { name: item.lane, items: [], isBusy: false, timer: undefined, most: MAX_BATCH, failures: 0 };
    this.lanes.set(item.lane, lane);
    item.stamp ??= this.#stamp();
    // What an earlier page has left goes first.
    const behind = item.isRestored ? lane.items.findIndex((one) => one.stamp > item.stamp && !one.isSent) : -1;
    if (behind < 0) lane.items.push(item);
    else lane.items.splice(behind, 0, item);
    this.count += 1;
    this.chars += item.chars;
  }

  remove(item) {
    const lane = this.lanes.get(item.lane);
    const at = lane?.items.indexOf(item) ?? -1;
    if (at < 0) return;
    lane.items.splice(at, 1);
    if (lane.items.length === 0 && !lane.isBusy && !lane.timer) this.lanes.delete(item.lane);
    this.count -= 1;
    this.chars -= item.chars;
    this.#forget(item);
  }

  #stamp() {
    this.#lastStamp = Math.max(Date.now() * 1_000, this.#lastStamp + 1);
    return this.#lastStamp;
  }

  #prefix(user) {
    return `${this.#options.storagePrefix}:outbox:${encodeURIComponent(user)}:`;
  }

  /** An entry an item, so that two pages of one user do not overwrite each other. Gives whether it is kept. */
  store(item) {
    const { storage } = this.#options;
    if (!storage || !DURABLE.has(item.event) || this.user === undefined) return;
    item.entry ??= `${this.#prefix(this.user)}${String(item.stamp).padStart(17, '0')}:${uuid()}`;
    try {
      storage.setItem(item.entry, JSON.stringify({ event: item.event, payload: item.args[0], triedAt: item.triedAt }));
    } catch {
      item.entry = undefined;
      this.#options.onUnstored(item);
    }
  }

  #forget(item) {
    if (!item.entry) return;
    try {
      this.#options.storage.removeItem(item.entry);
    } catch {
      // It will be sent again by another page, and is known to the server by its key.
    }
  }

  /** The user is known: what they have left in the storage comes back, and what waits is kept for them. */
  belongTo(user) {
    this.user = user;
    const { storage } = this.#options;
    if (!storage) return;
    for (const item of this.items()) if (!item.entry) this.store(item);
    const known = new Set([...this.items()].map((item) => item.entry));
    for (const entry of this.#entries(user)) {
      const item = known.has(entry) ? undefined : this.#read(entry, user);
      if (item) this.#put(item);
    }
  }

  #entries(user) {
    const { storage } = this.#options;
    const prefix = this.#prefix(user);
    const entries = [];
    try {
      for (let i = 0; i < storage.length; i += 1) {
        const key = storage.key(i);
        if (key?.startsWith(prefix)) entries.push(key);
      }
    } catch {
      return [];
    }
    return entries.sort();
  }

  #read(entry, user) {
    try {
      const text = this.#options.storage.getItem(entry);
      const { event, payload, triedAt } = JSON.parse(text);
      const stamp = Number(entry.slice(this.#prefix(user).length).split(':')[0]);
      if (!DURABLE.has(event) || !Number.isFinite(stamp)) return undefined;
      return { event, args: [payload], lane: laneOf(event, payload), chars: text.length, entry, stamp, triedAt, isRestored: true, breaks: 0 };
    } catch {
      return undefined;
    }
  }

  * items() {
    for (const lane of this.lanes.values()) yield* lane.items;
  }

  /** Lets go of what is in memory. What is in the storage stays there, for its user. */
  drop() {
    const items = [...this.items()];
    for (const lane of this.lanes.values()) clearTimeout(lane.timer);
    this.lanes.clear();
    this.count = 0;
    this.chars = 0;
    return items;
  }
}

/** A memory of the latest keys, bounded. */
class Recent {
  #map = new Map();

  get(key) {
    return this.#map.get(key);
  }

  has(key) {
    return this.#map.has(key);
  }

  delete(key) {
    this.#map.delete(key);
  }

  set(key, value = true) {
    this.#map.delete(key);
    this.#map.set(key, value);
    if (this.#map.size > MAX_REMEMBERED) this.#map.delete(this.#map.keys().next().value);
  }

  clear() {
    this.#map.clear();
  }
}

/** What has been told already. Each kind by what makes it one: nothing of it is told twice, nor after what overtook it. */
class Told {
  #notifications = new Recent();
  /** The highest id of a notification, told or listed; 0 without one. */
  lastNotification = 0;
  /** By message: the last change that was told, and how far edits were in the message as it was told. */
  #changes = new Recent();
  #versions = new Recent();
  #marks = new Recent();
  /** Of events that have no key of their own: those since the anchor. */
  unkeyed = new Recent();

  clear() {
    for (const memory of [this.#notifications, this.#changes, this.#versions, this.#marks, this.unkeyed]) memory.clear();
    this.lastNotification = 0;
  }

  /** Whether an event is news; it is none the next time. `isReplay`: it is read again from the anchor on. */
  isNews(event, payload, isReplay) {
    switch (event) {
      case 'notification:new':
        this.noteNotification(payload);
        return this.#first(this.#notifications, payload.id);
      case 'chat:message-edited':
      case 'chat:message-deleted': return this.#isLater(payload);
      case 'chat:read': return this.#rises(this.#marks, `${payload.roomId} ${payload.userId}`, payload.messageId);
      case 'progress:updated': return this.#rises(this.#versions, String(payload.lessonId), payload.syncVersion);
      case 'notification:updated': {
        const text = JSON.stringify(payload);
        const isKnown = this.unkeyed.has(text);
        this.unkeyed.set(text);
        return !(isReplay && isKnown);
      }
      default: return true;
    }
  }

  /** A message was told as it is now, with what had become of it. */
  noteMessage({ id, editedAt, deletedAt }) {
    if (deletedAt || editedAt) this.#changes.set(id, { id: 0, shown: deletedAt ? Infinity : editedAt });
    else this.#changes.delete(id);
  }

  noteNotification({ id }) {
    this.lastNotification = Math.max(this.lastNotification, id);
  }

  /** Changes are in the order of their ids. A message has none of them, but its own `editedAt` rises with each edit. */
  #isLater({ messageId, id, editedAt = Infinity }) {
    const before = this.#changes.get(messageId) ?? { id: 0, shown: 0 };
    if (before.id >= id || before.shown >= editedAt) return false;
    this.#changes.set(messageId, { ...before, id });
    return true;
  }

  #first(memory, key) {
    const isFirst = !memory.has(key);
    memory.set(key);
    return isFirst;
  }

  #rises(memory, key, value) {
    const before = memory.get(key);
    if (before !== undefined && before >= value) return false;
    memory.set(key, value);
    return true;
  }
}

const enc = (id) => encodeURIComponent(String(id));
const without = (payload, ...names) => Object.fromEntries(Object.entries(payload).filter(([name]) => !names.includes(name)));
const roomPath = (payload, rest) => `/rooms/${enc(payload.roomId)}/${rest}`;

/** What each event is over HTTP: method, path, body. */
const ROUTES = {
  'chat:join': (p) => ['POST', roomPath(p, 'join'), without(p, 'roomId')],
  'chat:leave': (p) => ['POST', roomPath(p, 'leave')],
  'chat:message': (p) => ['POST', roomPath(p, 'messages'), without(p, 'roomId')],
  'chat:edit': (p) => ['PATCH', roomPath(p, `messages/${enc(p.messageId)}`), without(p, 'roomId', 'messageId')],
  'chat:delete': (p) => ['DELETE', roomPath(p, `messages/${enc(p.messageId)}`)],
  'chat:typing': (p) => ['POST', roomPath(p, 'typing'), without(p, 'roomId')],
  'chat:read': (p) => ['POST', roomPath(p, 'read'), without(p, 'roomId')],
  'chat:history': (p) => ['GET', roomPath(p, `messages${queryOf(p, 'before', 'after', 'limit', 'versions')}`)],
  'chat:rooms': () => ['GET', '/rooms'],
  'presence:list': (p) => ['GET', roomPath(p, 'presence')],
  'progress:sync': (p) => ['POST', '/progress', p],
  'progress:get': (p) => ['GET', `/progress${queryOf(p, 'lessonId', 'courseId', 'since', 'userId')}`],
  'progress:history': (p) => ['GET', `/progress/${enc(p.lessonId)}/history${queryOf(p, 'userId')}`],
  'notification:list': (p) => ['GET', `/notifications${queryOf(p, 'before', 'limit', 'unreadOnly')}`],
  'notification:read': (p) => ['POST', '/notifications/read', p],
  'notification:delete': (p) => ['DELETE', `/notifications/${enc(p.id)}`],
};
/** The part of a path that an event cannot do without. */
const IN_PATH = { 'progress:history': 'lessonId', 'notification:delete': 'id', 'chat:edit': 'messageId', 'chat:delete': 'messageId' };
const BARE_ROOM = new Set(['chat:join', 'chat:leave', 'presence:list']);

function queryOf(payload, ...names) {
  const query = new URLSearchParams();
  for (const name of names) if (payload[name] !== undefined && payload[name] !== null) query.set(name, String(payload[name]));
  return query.size || [...query].length ? `?${query}` : '';
}

const isId = (value) => typeof value === 'string' || typeof value === 'number';
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
/** The payload of an event that may be a bare room id. */
const asObject = (event, payload) => (BARE_ROOM.has(event) && isId(payload) ? { roomId: payload } : payload ?? {});

/** What the server would say of a payload that no path can be made of. */
function unroutable(event, payload) {
  const invalid = (field, message) => ({ code: 'invalid_payload', field, message });
  if (!ROUTES[event]) return { code: 'invalid_payload', message: `'${event}' is not an event of this server` };
  if (event === 'progress:sync') return isObject(payload) || Array.isArray(payload) ? undefined : { code: 'invalid_payload', message: 'a report must be an object' };
  if (!isObject(payload)) return { code: 'invalid_payload', message: `the payload of ${event} must be an object` };
  if ((event.startsWith('chat:') && event !== 'chat:rooms') || event === 'presence:list') {
    if (payload.roomId === undefined) return invalid('roomId', 'roomId is missing');
    if (!isId(payload.roomId)) return invalid('roomId', 'roomId must be a non-negative integer or a string');
  }
  const field = IN_PATH[event];
  if (field && !isId(payload[field])) return invalid(field, `${field} is missing`);
  return undefined;
}

function laneOf(event, payload) {
  const { roomId } = asObject(event, isObject(payload) || isId(payload) ? payload : {});
  if (/^(chat|presence):/.test(event) && isId(roomId)) return `chat ${roomId}`;
  return event.split(':')[0];
}

function uuid() {
  if (globalThis.crypto.randomUUID) return globalThis.crypto.randomUUID();
  // Pages without TLS have only this.
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The request with its key: the caller's own, or a new one. */
function keyed(event, payload) {
  const give = (object, name) => (isObject(object) && (object[name] === undefined || object[name] === null) ? { ...object, [name]: uuid() } : object);
  if (event === 'chat:message') return give(payload, 'clientId');
  if (event === 'progress:sync') return Array.isArray(payload) ? payload.map((one) => give(one, 'syncId')) : give(payload, 'syncId');
  return payload;
}

/** Who a token says it is; it is checked by the server alone. Only to keep one user's outbox apart from another's. */
function userOf(token) {
  try {
    const text = atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/'));
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (char) => char.charCodeAt(0))));
    const user = claims.userId ?? claims.id ?? claims.sub;
    return isId(user) ? String(user) : undefined;
  } catch {
    return undefined;
  }
}

/** Something between the server and here has failed: nothing is known of the request. */
class Unreachable extends Error {}

/** The HTTP API. */
class HttpApi {
  #base;
  #fetch;
  #token;
  #timeoutMs;

  constructor({ base, fetch, token, timeoutMs }) {
    this.#base = base;
    this.#fetch = fetch;
    this.#token = token;
    this.#timeoutMs = timeoutMs;
  }

  /** `{ status, json }` of an answer of the server; throws `Unreachable`. */
  async request(method, path, { body, signal, waitMs = 0 } = {}) {
    const token = await this.#token();
    const ends = new AbortController();
    const stop = () => ends.abort();
    const timer = setTimeout(stop, this.#timeoutMs + waitMs);
    signal?.addEventListener('abort', stop, { once: true });
    if (signal?.aborted) stop();
    let status;
    let text;
    try {
      const response = await this.#fetch(`${this.#base}/api/v1${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: ends.signal,
        cache: 'no-store',
        credentials: 'omit',
        redirect: 'error',
      });
      status = response.status;
      text = await response.text();
    } catch {
      throw new Unreachable(ends.signal.aborted && !signal?.aborted ? 'timeout' : 'network');
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
    }
    try {
      const json = JSON.parse(text);
      if (isObject(json) && (status < 300 || json.error?.code)) return { status, json };
    } catch {
      // Not academy-rt: a proxy, or a page to sign in to a network.
    }
    if (status === 413) return { status, json: { error: { code: 'too_large', message: 'a proxy says that this is too large' } } };
    if (status === 429) return { status, json: { error: { code: 'rate_limited', message: 'a proxy says that these are too many' } } };
    throw new Unreachable(`status ${status}`);
  }

  /** An event as its route: what its ack would be. Throws `Unreachable`. */
  async call(event, payload) {
    const error = unroutable(event, payload);
    if (error) return { ok: false, error };
    const [method, path, body] = ROUTES[event](payload);
    const { status, json } = await this.request(method, path, { body });
    return status < 300 ? json : { ok: false, error: json.error };
  }
}

class AcademySocket extends Emitter {
  #options;
  #io;
  #origin;
  #http;
  #outbox;
  #told = new Told();
  /** Rooms that were joined, by their canonical id. */
  #rooms = new Map();
  #flags = {};

  #token;
  #renewing;
  #expiredInARow = 0;
  #lastRefresh = 0;
  #expiryTimer;

  /** 'offline', 'realtime' or 'http'. */
  #mode = 'offline';
  #transport = 'offline';
  #reason = 'not connected yet';
  #isRunning = false;
  #run = 0;
  #realtime;
  /** Ends the Socket.IO connection that is there, or that is tried. */
  #endAttempt = () => {};
  #wakeUp;
  /** How many tries in a row have failed. */
  #failures = 0;
  #transports;

  /** A cursor from before anything that may not have come. */
  #anchor;
  #candidate;
  #sinceAnchor = 0;
  #hasArrived = false;
  #poll;
  #replaying;

  constructor(options = {}) {
    super();
    this.#options = { ...DEFAULTS, ...withoutUndefined(options) };
    const { io, url, token, getToken, fetch = globalThis.fetch?.bind(globalThis) } = this.#options;
    if (typeof io !== 'function') throw new TypeError('io is missing: hand in { io } of socket.io-client');
    if (typeof token !== 'string' && typeof getToken !== 'function') throw new TypeError('give a token, or a function that gives one as getToken');
    if (typeof fetch !== 'function') throw new TypeError('there is no fetch here; give one');
    this.#io = io;
    this.#origin = originOf(url ?? globalThis.location?.origin);
    this.#token = token?.replace(/^Bearer /i, '');
    this.#transports = [...this.#options.transports];
    this.#http = new HttpApi({ base: this.#origin, fetch, token: () => this.#bearer('http'), timeoutMs: this.#options.connectTimeoutMs });
    this.#outbox = new Outbox({ ...this.#options, onUnstored: (item) => this.#unstored(item) });
    if (this.#options.autoConnect !== false) this.connect();
  }

  /** Whether there is a way to the server now, by whichever transport. */
  get connected() {
    return this.#mode !== 'offline';
  }

  get disconnected() {
    return !this.connected;
  }

  /** Whether it is connected or tries to be. */
  get active() {
    return this.#isRunning;
  }

  /** The Socket.IO id; undefined over HTTP. */
  get id() {
    return this.#realtime?.id;
  }

  /** 'websocket', 'polling', 'http' or 'offline'. */
  get transport() {
    return this.#transport;
  }

  /** How many requests wait for their acknowledgement. */
  get pending() {
    return this.#outbox.count;
  }

  get volatile() {
    this.#flags.volatile = true;
    return this;
  }

  timeout(ms) {
    this.#flags.timeout = ms;
    return this;
  }

  /** Connects, again after `disconnect` or a final `auth_error`. What waits in the outbox goes on. */
  connect() {
    if (this.#isRunning) return this;
    this.#isRunning = true;
    this.#expiredInARow = 0;
    this.#run += 1;
    globalThis.addEventListener?.('online', this.#wake);
    globalThis.document?.addEventListener?.('visibilitychange', this.#wake);
    const run = this.#run;
    // The listeners of this very moment are there by then.
    queueMicrotask(() => { if (this.#isCurrent(run)) this.#keepConnected(run); });
    return this;
  }

  open() {
    return this.connect();
  }

  /** Ends the connection. What waits in the outbox stays there until `connect`. */
  disconnect() {
    this.#halt('io client disconnect', 'closed');
    return this;
  }

  close() {
    return this.disconnect();
  }

  emit(event, ...args) {
    if (RESERVED.has(event)) throw new Error(`"${event}" is a reserved event name`);
    const flags = this.#flags;
    this.#flags = {};
    let ack = typeof args.at(-1) === 'function' ? args.pop() : undefined;
    if (ack && flags.timeout !== undefined) ack = limited(ack, flags.timeout);
    this.#submit(event, args, ack, flags.volatile || event === 'chat:typing');
    return this;
  }

  /** As `emit`, with the answer as a promise. A refusal is an answer, too: `{ ok: false, error }`. */
  emitWithAck(event, ...args) {
    const isLimited = this.#flags.timeout !== undefined;
    return new Promise((resolve, reject) => {
      this.emit(event, ...args, (first, second) => {
        if (!isLimited) resolve(first);
        else if (first) reject(first);
        else resolve(second);
      });
    });
  }

  send(...args) {
    return this.emit('message', ...args);
  }

  // --- what is emitted -------------------------------------------------------------------------------------------------

  #submit(event, given, ack, isVolatile) {
    let args;
    let text;
    try {
      // A copy: what the caller does to it later changes nothing.
      text = JSON.stringify(given);
      args = JSON.parse(text);
    } catch {
      return this.#answer({ event, ack }, refused('invalid_payload', 'the payload cannot be written as JSON'));
    }
    if (args.length > 0) args[0] = this.#seen(event, keyed(event, args[0]));
    const item = { event, args, ack, lane: laneOf(event, args[0]), chars: text.length + 64, breaks: 0 };
    if (event === 'auth:refresh') return void this.#refreshWith(args[0]?.token, (answer) => this.#answer(item, answer));
    if (isVolatile) return this.#pass(item);
    const error = this.#outbox.add(item);
    if (error) return this.#answer(item, { ok: false, error });
    this.#pump(item.lane);
  }

  /** "All" is what could be seen at this moment: what comes until it is sent, and after that, stays unread. */
  #seen(event, payload) {
    const isAll = event === 'notification:read' && isObject(payload) && payload.all === true && (payload.upTo ?? null) === null;
    return isAll && this.#told.lastNotification > 0 ? { ...payload, upTo: this.#told.lastNotification } : payload;
  }

  /** Sent now or not at all. */
  #pass(item) {
    const isRejoining = this.#rooms.get(String(item.args[0]?.roomId))?.isRejoining;
    if (this.#mode === 'offline' || isRejoining) return this.#answer(item, refused('offline', 'there is no connection; this was not sent'));
    this.#ask(item.event, item.args, (outcome) => {
      this.#answer(item, outcome.answer ?? refused('offline', 'the connection was lost; nothing is known of this request'));
    });
  }

  #answer(item, answer) {
    if (item.isAnswered) return;
    item.isAnswered = true;
    if (item.ack) guarded(() => item.ack(answer));
    // What is sent now or not at all is missed by nobody.
    else if (!answer.ok && answer.error.code !== 'offline') {
      // Of what an earlier page has left, this one knows nothing.
      const more = item.isRestored ? { payload: item.args[0] } : {};
      this._tell('request:error', [{ event: item.event, ...answer.error, ...more }]);
    }
  }

  #unstored(item) {
    this._tell('request:error', [{
      event: item.event,
      code: 'not_persisted',
      message: 'the storage of this page took no more: this request is lost if the page is closed before it is sent',
    }]);
  }

  #pumpAll() {
    for (const name of [...this.#outbox.lanes.keys()]) this.#pump(name);
  }

  /** Sends what is first in a lane, if nothing of it is under way. */
  #pump(name) {
    const lane = this.#outbox.lanes.get(name);
    if (!lane || lane.isBusy || lane.timer || this.#mode === 'offline') return;
    if (lane.items.length === 0) return void this.#outbox.lanes.delete(name);
    const room = this.#rooms.get(name.slice('chat '.length));
    if (room?.isRejoining && name.startsWith('chat ')) return;
    const batch = batchOf(lane);
    const stale = batch.filter(isStale);
    if (stale.length > 0) {
      for (const item of stale) this.#settle(item, refused('outbox_expired', EXPIRED));
      return this.#rest(lane, 1);
    }
    lane.isBusy = true;
    for (const item of batch) this.#markTried(item);
    const [item] = batch;
    const args = batch.length === 1 ? item.args : [batch.map((one) => one.args[0])];
    this.#ask(item.event, args, (outcome) => {
      lane.isBusy = false;
      for (const one of batch) one.isSent = false;
      this.#conclude(lane, batch, outcome);
    }, item.breaks >= MAX_BREAKS);
  }

  #markTried(item) {
    item.isSent = true;
    if (item.triedAt !== undefined) return item.wasTried = true;
    item.triedAt = Date.now();
    if (item.entry) this.#outbox.store(item);
  }

  #conclude(lane, batch, { answer, isLost, isBroken, isByHttp }) {
    const [item] = batch;
    if (isLost) {
      item.breaks = isBroken ? item.breaks + 1 : 0;
      lane.failures += 1;
      // Somewhere on the way; it goes again when there is a way again.
      return this.#rest(lane, this.#mode === 'offline' ? 0 : this.#pause(lane.failures));
    }
    item.breaks = 0;
    if (answer.ok) {
      lane.failures = 0;
      if (batch.length > 1) batch.forEach((one, i) => this.#settle(one, { ok: true, ...answer.results?.[i] }));
      else this.#settle(item, answer, isByHttp);
      return this.#pump(lane.name);
    }
    const { code, retryAfterMs } = answer.error;
    if (RETRYABLE.has(code)) {
      lane.failures += 1;
      return this.#rest(lane, retryAfterMs === undefined ? this.#pause(lane.failures) : retryAfterMs * (1 + Math.random() / 10));
    }
    if (batch.length > 1) {
      // One of them is bad: the halves are tried, until it is alone.
      lane.most = Math.ceil(batch.length / 2);
      return this.#pump(lane.name);
    }
    lane.most = MAX_BATCH;
    if (code === 'not_found' && item.event === 'chat:delete' && item.wasTried) {
      this.#settle(item, { ok: true, messageId: item.args[0].messageId, duplicate: true });
    } else this.#settle(item, answer);
    return this.#pump(lane.name);
  }

  #rest(lane, ms) {
    if (ms <= 0) return this.#pump(lane.name);
    lane.timer = setTimeout(() => {
      lane.timer = undefined;
      this.#pump(lane.name);
    }, ms);
  }

  #settle(item, answer, isByHttp = false) {
    this.#outbox.remove(item);
    if (answer.ok && item.event === 'chat:join') this.#joined(answer, isByHttp);
    if (answer.ok && item.event === 'chat:leave') this.#left(answer.roomId);
    if (answer.ok && item.event === 'notification:list') for (const one of answer.items) this.#told.noteNotification(one);
    this.#answer(item, answer);
    if (this.#outbox.count === 0) this._tell('outbox', [{ pending: 0 }]);
  }

  /** Asks the server by the way there is: `done` hears once, `{ answer }` or `{ isLost }`. */
  #ask(event, args, done, mustGoByHttp = false) {
    if (this.#mode === 'realtime' && !mustGoByHttp) return this.#askRealtime(event, args, done);
    const payload = asObject(event, args[0]);
    // Later, as any answer: a thousand of them are no thousand calls within each other.
    const answerHere = (answer) => queueMicrotask(() => done({ answer }));
    const mustJoin = event === 'chat:typing' || event === 'presence:list';
    if (mustJoin && isId(payload?.roomId) && !this.#rooms.has(String(payload.roomId))) {
      return answerHere(refused('not_joined', 'join the room first: chat:join'));
    }
    if (event === 'chat:join' && !this.#rooms.has(String(payload?.roomId)) && this.#rooms.size >= MAX_POLL_ROOMS) {
      return answerHere(refused('too_large', `without Socket.IO at most ${MAX_POLL_ROOMS} rooms can be joined; leave one first`));
    }
    const generation = this.#poll;
    this.#http.call(event, payload).then((answer) => {
      if (isAboutToken(answer.error)) {
        this.#authFailed(answer.error);
        return done({ isLost: true });
      }
      done({ answer, isByHttp: true });
    }, (error) => {
      if (this.#mode === 'http' && generation === this.#poll) this.#httpLost(error.message);
      done({ isLost: true });
    });
  }

  #askRealtime(event, args, done) {
    const socket = this.#realtime;
    socket.timeout(this.#options.ackTimeoutMs).emit(event, ...args, (error, answer) => {
      if (!error) return done({ answer: isObject(answer) ? answer : { ok: true } });
      // It has not answered for so long: the connection is dead, though nobody has said so.
      if (this.#realtime === socket && socket.connected) this.#endAttempt('ack timeout');
      done({ isLost: true, isBroken: true });
    });
  }

  // --- rooms -----------------------------------------------------------------------------------------------------------

  #joined(answer, isByHttp) {
    const key = String(answer.roomId);
    const known = this.#rooms.get(key);
    if (known) return;
    for (const message of answer.messages ?? []) this.#told.noteMessage(message);
    const room = { id: answer.roomId, lastId: answer.lastId, lastSeq: answer.lastSeq, held: [], isHolding: false, isFilling: false, isRejoining: false };
    this.#rooms.set(key, room);
    if (this.#mode === 'http') this.#poll?.restart();
    // It was asked over HTTP, and the socket has come in the meantime.
    if (this.#mode === 'realtime' && isByHttp) this.#rejoin(room);
  }

  #left(roomId) {
    this.#rooms.delete(String(roomId));
    if (this.#mode === 'http') this.#poll?.restart();
  }

  /** Joins again over Socket.IO what was joined before; what was missed comes as events. */
  #rejoin(room) {
    room.isHolding = true;
    room.isRejoining = true;
    this.#askRealtime('chat:join', [{ roomId: room.id, after: room.lastId, limit: PAGE }], ({ answer, isLost }) => {
      if (isLost || this.#rooms.get(String(room.id)) !== room) return;
      if (!answer.ok) return this.#roomFailed(room, answer.error, () => this.#rejoin(room));
      room.isRejoining = false;
      this.#pump(`chat ${room.id}`);
      this.#page(room, answer);
    });
  }

  /** Fetches what is behind the last message that was told. */
  #fill(room) {
    if (room.isFilling) return;
    room.isFilling = true;
    room.isHolding = true;
    this.#ask('chat:history', [{ roomId: room.id, after: room.lastId, limit: PAGE }], ({ answer, isLost }) => {
      room.isFilling = false;
      if (isLost || this.#rooms.get(String(room.id)) !== room) return;
      if (!answer.ok) return this.#roomFailed(room, answer.error, () => this.#fill(room));
      this.#page(room, answer);
    });
  }

  #page(room, { messages, hasMore, lastSeq }) {
    for (const message of messages) this.#message(room, message);
    if ((hasMore && messages.length > 0) || room.hasDropped) {
      room.hasDropped = false;
      return this.#fill(room);
    }
    // What is purged leaves a gap that nothing can fill.
    room.lastSeq = Math.max(room.lastSeq, lastSeq);
    room.isHolding = false;
    while (room.held.length > 0 && !room.isHolding) this.#takeOf(room, ...room.held.shift());
  }

  #roomFailed(room, error, again) {
    if (error.code === 'resync') return this.#restart(room);
    if (RETRYABLE.has(error.code)) {
      const run = this.#run;
      const realtime = this.#realtime;
      setTimeout(() => { if (this.#isCurrent(run) && this.#realtime === realtime && this.#mode !== 'offline') again(); }, error.retryAfterMs ?? this.#pause(1));
      return;
    }
    // Not a member any more, or the room is gone.
    this.#left(room.id);
    this._tell('request:error', [{ event: 'chat:join', roomId: room.id, ...error }]);
    this.#pump(`chat ${room.id}`);
  }

  /** The last message is not of this store's life: the room is joined as for the first time, and the page is told to begin anew. */
  #restart(room) {
    const way = this.#realtime ?? this.#poll;
    if (room.restartedBy === way) return;
    room.restartedBy = way;
    this.#beginAnew(room);
  }

  #beginAnew(room) {
    room.isHolding = true;
    this.#ask('chat:join', [{ roomId: room.id }], ({ answer, isLost }) => {
      if (isLost || this.#rooms.get(String(room.id)) !== room) return;
      if (!answer.ok) return this.#roomFailed(room, answer.error, () => this.#beginAnew(room));
      room.lastId = answer.lastId;
      room.lastSeq = answer.lastSeq;
      room.isRejoining = false;
      for (const message of answer.messages) this.#told.noteMessage(message);
      this._tell('resync', [{ ...without(answer, 'ok'), roomId: room.id }]);
      this.#pump(`chat ${room.id}`);
      this.#page(room, { messages: [], hasMore: false, lastSeq: answer.lastSeq });
    });
  }

  // --- what the server says ---------------------------------------------------------------------------------------------

  #take(event, args, isReplay = false) {
    if (STORED_EVENTS.has(event) && !isReplay) this.#moveAnchor();
    const payload = args[0];
    const room = isObject(payload) && payload.roomId !== undefined ? this.#rooms.get(String(payload.roomId)) : undefined;
    if (!room) {
      // What happened before it is being told: it waits for its turn.
      if (this.#replaying?.held && !isReplay && STORED_EVENTS.has(event)) return void this.#replaying.held.push([event, args]);
      return this.#takeOf(undefined, event, args, isReplay);
    }
    // The id as this page has it, so that === holds.
    const own = payload.roomId === room.id ? args : [{ ...payload, roomId: room.id }, ...args.slice(1)];
    if (!room.isHolding) return this.#takeOf(room, event, own, isReplay);
    if (event === 'chat:message' && room.held.length >= MAX_HELD) room.hasDropped = true;
    else room.held.push([event, own, isReplay]);
  }

  #takeOf(room, event, args, isReplay) {
    const payload = args[0];
    if (room && event === 'chat:message') return this.#message(room, payload, true);
    if (isObject(payload) && !this.#told.isNews(event, payload, isReplay)) return;
    this._tell(event, args);
  }

  #message(room, message, isLive = false) {
    if (message.id <= room.lastId) return;
    if (isLive && message.seq > room.lastSeq + 1) {
      room.held.unshift(['chat:message', [message]]);
      return this.#fill(room);
    }
    room.lastId = message.id;
    room.lastSeq = message.seq;
    this.#told.noteMessage(message);
    const own = message.roomId === room.id ? message : { ...message, roomId: room.id };
    this._tell('chat:message', [own]);
  }

  /** The place to go on from is moved forward: only to where everything before it has surely come. */
  #moveAnchor() {
    if (this.#mode !== 'realtime') return;
    this.#sinceAnchor += 1;
    this.#settleAnchor();
    if (this.#sinceAnchor >= ANCHOR_EVERY && !this.#candidate) {
      const socket = this.#realtime;
      const candidate = { at: Infinity };
      this.#candidate = candidate;
      this.#newCursor().then((cursor) => {
        if (this.#realtime === socket && this.#candidate === candidate) this.#candidate = { cursor, at: Date.now() };
      }, () => {
        if (this.#candidate === candidate) this.#candidate = undefined;
        this.#sinceAnchor = 0;
      });
    }
  }

  /** Something has come by the socket: what was sent to it before that has come, too. */
  #settleAnchor() {
    if (!this.#candidate || Date.now() - this.#candidate.at < ANCHOR_SETTLES_MS || this.#replaying) return;
    this.#anchor = this.#candidate.cursor;
    this.#candidate = undefined;
    this.#sinceAnchor = 0;
    this.#told.unkeyed.clear();
  }

  async #newCursor() {
    const { status, json } = await this.#http.request('GET', '/events');
    if (status !== 200) throw new Unreachable(json.error.code);
    return json.cursor;
  }

  /** What happened since the anchor, as far as it is stored: edits, deletions, read marks, progress, notifications. */
  async #replay(socket) {
    const replaying = { held: [] };
    this.#replaying = replaying;
    // What is held is told late rather than not at all where there is no HTTP beside Socket.IO.
    const timer = setTimeout(() => this.#endReplay(replaying), REPLAY_HOLDS_MS);
    let failures = 0;
    while (this.#realtime === socket) {
      const answer = await this.#http.request('GET', this.#eventsPath(this.#anchor, 0)).catch(() => undefined);
      if (this.#realtime !== socket) break;
      if (answer?.status === 200) {
        const { events, cursor } = answer.json;
        for (const { event, payload } of events) if (STORED_EVENTS.has(event)) this.#take(event, [payload], true);
        this.#anchor = cursor;
        failures = 0;
        if (events.length === 0) break;
      } else if (answer?.status === 410) {
        this.#resync(answer.json);
        break;
      } else {
        // A room that may not be entered any more is found out by joining; the rest is told by the next try, from the same place.
        failures += 1;
        await this.#sleepShort(this.#pause(failures));
      }
    }
    clearTimeout(timer);
    this.#endReplay(replaying);
    if (this.#replaying === replaying) this.#replaying = undefined;
  }

  /** What has come while the past was told comes now. A connection that is lost leaves it to the next replay. */
  #endReplay(replaying) {
    const { held } = replaying;
    replaying.held = undefined;
    if (this.#replaying === replaying && held) for (const [event, args] of held) this.#takeOf(undefined, event, args);
  }

  #eventsPath(cursor, wait) {
    const query = new URLSearchParams({ cursor, wait: String(wait) });
    for (const room of [...this.#rooms.values()].slice(0, MAX_POLL_ROOMS)) query.append('room', String(room.id));
    return `/events?${query}`;
  }

  /** The server has another store, or an older one: nothing that was known of places in it holds. */
  #resync({ error, cursor }) {
    this.#anchor = cursor;
    this.#told.clear();
    this._tell('resync', [{ code: error.code, message: error.message }]);
    for (const room of this.#rooms.values()) this.#restart(room);
  }

  // --- tokens ----------------------------------------------------------------------------------------------------------

  /** The token to use. `reason` is told to `getToken` where it is asked. */
  #bearer(reason) {
    if (this.#token !== undefined) return this.#token;
    this.#renewing ??= (async () => {
      const token = await this.#options.getToken({ reason });
      if (typeof token !== 'string' || token === '') throw new Unreachable('getToken gave no token');
      this.#token = token.replace(/^Bearer /i, '');
      // What waits for it was asked by the user before.
      if (this.#changeUser()) throw new Unreachable('another user');
      return this.#token;
    })().finally(() => { this.#renewing = undefined; });
    return this.#renewing;
  }

  /** By HTTP a token of another user would take over the place and the requests of the one before: the way is begun anew, as theirs. */
  #changeUser() {
    const user = userOf(this.#token);
    if (this.#mode !== 'http' || user === undefined || user === this.#outbox.user) return false;
    this.#httpLost('another user');
    this.#belongTo(user);
    return true;
  }

  #renew(reason) {
    if (typeof this.#options.getToken !== 'function') return Promise.reject(new Unreachable('there is no getToken'));
    this.#token = undefined;
    return this.#bearer(reason);
  }

  /** The token was refused. Gives whether another try makes sense. */
  #authFailed(error) {
    const isExpired = error.code === 'token_expired';
    if (isExpired && typeof this.#options.getToken === 'function' && this.#expiredInARow < 2) {
      // Several requests are refused with the same token: one asks for the next.
      if (!this.#renewing) {
        this.#expiredInARow += 1;
        this.#renew('token_expired').catch(() => {});
      }
      return true;
    }
    if (!isExpired && !FINAL.has(error.code)) return true;
    this._tell('auth_error', [error]);
    this.#halt('auth error', error.code);
    return false;
  }

  /** The token of a live connection ends soon. */
  async #expiring(payload) {
    this._tell('auth:expiring', [payload]);
    if (typeof this.#options.getToken !== 'function') return;
    const run = this.#run;
    const sinceLast = Date.now() - this.#lastRefresh;
    // Tokens that are shorter than the notice would be asked for without end.
    if (sinceLast < 5_000) await new Promise((resolve) => { this.#expiryTimer = setTimeout(resolve, 5_000 - sinceLast); });
    if (!this.#isCurrent(run)) return;
    this.#lastRefresh = Date.now();
    const before = this.#token;
    try {
      const token = await this.#renew('expiring');
      if (this.#isCurrent(run)) this.#refreshWith(token, () => {});
    } catch {
      // The old one holds for a while; at its end it is asked for again.
      this.#token ??= before;
    }
  }

  /** A new token for what is connected now. */
  #refreshWith(token, done) {
    if (typeof token !== 'string') return done(refused('invalid_payload', 'token is missing', 'token'));
    const bare = token.replace(/^Bearer /i, '');
    if (this.#mode !== 'realtime') {
      this.#token = bare;
      if (!this.#changeUser() && this.#mode === 'http') this.#poll?.renew();
      return done({ ok: true });
    }
    this.#askRealtime('auth:refresh', [{ token: bare }], ({ answer, isLost }) => {
      if (isLost) {
        this.#token = bare;
        return done(refused('unavailable', 'the connection was lost; the token is used for the next one'));
      }
      if (answer.ok) this.#token = bare;
      // Another user's: the next connection is theirs.
      if (answer.error?.code === 'forbidden') {
        this.#token = bare;
        this.#endAttempt('another user');
      }
      done(answer);
    });
  }

  #belongTo(user) {
    if (user === undefined) return;
    const name = String(user);
    if (this.#outbox.user === name) return;
    if (this.#outbox.user !== undefined) {
      // One user's requests are never sent as another's.
      for (const item of this.#outbox.drop()) {
        const where = item.entry ? 'it is kept for them in the storage' : 'it was not sent';
        this.#answer(item, refused('user_changed', `the token is another user's now; ${where}`));
      }
      this.#rooms.clear();
      this.#told.clear();
      this.#anchor = undefined;
    }
    this.#outbox.belongTo(name);
  }

  // --- the connection --------------------------------------------------------------------------------------------------

  #isCurrent(run) {
    return this.#isRunning && this.#run === run;
  }

  /** A pause before the next try, longer each time, and never the same for two clients. */
  #pause(failures) {
    const { retryMinMs, retryMaxMs } = this.#options;
    return Math.min(retryMaxMs, retryMinMs * 2 ** Math.min(failures - 1, 16)) * (0.5 + Math.random() / 2);
  }

  #wake = () => {
    if (globalThis.document?.visibilityState === 'hidden') return;
    this.#failures = 0;
    this.#wakeUp?.();
  };

  #sleep(ms) {
    return new Promise((resolve) => {
      const wakeUp = () => {
        clearTimeout(timer);
        if (this.#wakeUp === wakeUp) this.#wakeUp = undefined;
        resolve();
      };
      const timer = setTimeout(wakeUp, ms);
      this.#wakeUp = wakeUp;
    });
  }

  async #keepConnected(run) {
    this.#failures = 0;
    while (this.#isCurrent(run)) {
      const began = Date.now();
      const end = await this.#tryRealtime(run);
      if (!this.#isCurrent(run)) return;
      if (end.error && !this.#authFailed(end.error)) return;
      if (end.error?.code === 'token_expired') continue;
      if (end.wasReady && Date.now() - began > STABLE_MS) this.#failures = 0;
      if (end.wasReady && !end.isDisabled && this.#failures === 0) {
        this.#failures = 1;
        // The server is gone for as long as it says; else a moment, in which not everybody comes back at once.
        await this.#sleep(end.retryAfterMs === undefined ? Math.random() * this.#options.retryMinMs : end.retryAfterMs * (1 + Math.random() / 5));
        continue;
      }
      this.#failures += 1;
      if (this.#mode === 'offline') await this.#startHttp(run, end.reason);
      if (!this.#isCurrent(run)) return;
      if (this.#mode === 'offline') this.#changeTransport('offline', end.reason);
      if (this.#mode === 'offline') this._tell('connect_error', [Object.assign(new Error(end.reason), { description: end.description })]);
      await this.#sleep(Math.max(this.#pause(this.#failures), end.retryAfterMs ?? 0));
    }
  }

  /** One Socket.IO connection, from the try to its end. Gives how it ended. */
  async #tryRealtime(run) {
    let token;
    try {
      token = await this.#bearer('connect');
    } catch (error) {
      return { reason: error instanceof Unreachable ? error.message : 'getToken failed' };
    }
    if (!this.#isCurrent(run)) return { reason: 'closed' };
    this.#belongTo(userOf(token));
    const { path, connectTimeoutMs, ioOptions } = this.#options;
    const socket = this.#io(this.#origin, {
      ...ioOptions, path, auth: { token }, transports: [...this.#transports], tryAllTransports: true, timeout: connectTimeoutMs,
      reconnection: false, forceNew: true, autoConnect: false,
    });
    return new Promise((resolve) => {
      let isReady = false;
      let last = {};
      const end = (outcome) => {
        clearTimeout(timer);
        socket.off();
        socket.offAny();
        socket.io?.off?.('ping');
        this.#endAttempt = () => {};
        const wasCurrent = this.#realtime === socket;
        if (wasCurrent) {
          this.#realtime = undefined;
          this.#mode = 'offline';
        }
        socket.disconnect();
        if (wasCurrent) this.#realtimeLost(outcome.reason);
        resolve({ ...outcome, ...last, wasReady: isReady });
      };
      const timer = setTimeout(() => {
        this.#turnTransports();
        end({ reason: 'timeout' });
      }, connectTimeoutMs);
      this.#endAttempt = (reason) => end({ reason });
      socket.on('connect_error', (error) => {
        const told = errorIn(error);
        if (told) last = outcomeOf(told);
        else if (/websocket|timeout/.test(error.message)) this.#turnTransports();
        end({ reason: told?.code ?? error.message, description: error.description });
      });
      socket.on('disconnect', (reason) => end({ reason: last.reason ?? reason }));
      socket.io?.on?.('ping', () => this.#settleAnchor());
      socket.onAny((event, ...args) => {
        if (event === 'auth_error') {
          last = outcomeOf(args[0]);
          // It is hung up by the server, too; no need to wait for that.
          return end({ reason: args[0]?.code });
        }
        if (event === 'server:draining') last = { retryAfterMs: args[0]?.retryAfterMs };
        if (event === 'auth:expiring') return void this.#expiring(args[0]);
        if (event !== 'authenticated') return this.#take(event, args);
        clearTimeout(timer);
        if (isReady) return this._tell(event, args);
        isReady = true;
        this.#realtimeReady(socket, args[0]);
      });
      socket.connect();
    });
  }

  /** A way that swallows WebSocket is found out by trying the other order. */
  #turnTransports() {
    if (this.#transports.length > 1) this.#transports.reverse();
  }

  #realtimeReady(socket, session) {
    const wasConnected = this.connected;
    const isFirst = !this.#hasArrived;
    if (this.#poll) this.#anchor = this.#poll.cursor ?? this.#anchor;
    this.#poll?.end();
    this.#poll = undefined;
    clearTimeout(this.#expiryTimer);
    this.#hasArrived = true;
    this.#expiredInARow = 0;
    this.#realtime = socket;
    this.#mode = 'realtime';
    this.#candidate = undefined;
    this.#belongTo(session.userId);
    const engine = socket.io?.engine;
    engine?.once?.('upgrade', () => { if (this.#realtime === socket) this.#changeTransport(engine.transport.name, 'upgraded'); });
    if (!wasConnected) this._tell('connect', []);
    this.#changeTransport(engine?.transport?.name ?? 'websocket', wasConnected ? 'available again' : 'connected');
    this._tell('authenticated', [session]);
    if (this.#realtime !== socket) return;
    for (const room of this.#rooms.values()) this.#rejoin(room);
    if (this.#anchor !== undefined && !isFirst) this.#replay(socket);
    else this.#dropAnchor(socket);
    this.#pumpAll();
  }

  /** A first place to go on from. Until it is there, what is lost is what joining again does not give. */
  #dropAnchor(socket) {
    this.#newCursor().then((cursor) => { if (this.#realtime === socket) this.#anchor ??= cursor; }, () => {});
  }

  #realtimeLost(reason) {
    this.#candidate = undefined;
    this.#holdAll();
    this._tell('disconnect', [reason]);
    this.#changeTransport('offline', reason);
  }

  /** What comes next waits until what was missed is there. */
  #holdAll() {
    this.#replaying = undefined;
    for (const room of this.#rooms.values()) {
      room.isHolding = true;
      room.isFilling = false;
    }
  }

  #changeTransport(transport, reason) {
    if (this.#transport === transport && this.#reason === reason) return;
    this.#transport = transport;
    this.#reason = reason;
    this._tell('transport', [{ transport, reason }]);
  }

  // --- without Socket.IO -----------------------------------------------------------------------------------------------

  async #startHttp(run, reason) {
    const isFirst = !this.#hasArrived;
    let session;
    let cursor;
    let isBehind;
    let unread = [];
    try {
      const { status, json } = await this.#http.request('GET', '/session');
      if (status !== 200) return void (this.#isCurrent(run) && this.#authFailed(json.error));
      session = without(json, 'ok');
      if (!this.#isCurrent(run)) return;
      // A place is its user's.
      this.#belongTo(session.userId);
      // Behind a new place nothing was missed, and nothing was told.
      isBehind = this.#anchor !== undefined;
      cursor = this.#anchor ?? await this.#newCursor();
      // Nobody has noted what was delivered to a page that polls: what is unread is told to one that has just come.
      if (isFirst) unread = (await this.#http.call('notification:list', { unreadOnly: true, limit: 100 })).items ?? [];
    } catch {
      return;
    }
    if (!this.#isCurrent(run) || this.#mode !== 'offline') return;
    this.#hasArrived = true;
    this.#expiredInARow = 0;
    this.#mode = 'http';
    const poll = new Poll(cursor);
    this.#poll = poll;
    poll.renew = () => this.#renewSession(poll);
    this._tell('connect', []);
    this.#changeTransport('http', reason);
    this._tell('authenticated', [session]);
    if (this.#poll !== poll) return;
    this.#watchExpiry(session);
    for (const notification of unread.reverse()) this.#take('notification:new', [notification]);
    for (const room of this.#rooms.values()) {
      room.isRejoining = false;
      this.#fill(room);
    }
    this.#pumpAll();
    this.#keepPolling(poll, isBehind);
  }

  /** Polls until something else is the way. `isBehind`: what is not stored was told already, or missed. */
  async #keepPolling(poll, isBehind) {
    let empties = 0;
    while (this.#poll === poll) {
      const wait = isBehind ? 0 : this.#options.pollWaitSeconds;
      const began = Date.now();
      let answer;
      try {
        answer = await this.#http.request('GET', this.#eventsPath(poll.cursor, wait), { signal: poll.signal(), waitMs: wait * 1_000 });
      } catch (error) {
        if (this.#poll !== poll) return;
        if (poll.isRestarting()) continue;
        return this.#httpLost(error.message);
      }
      if (this.#poll !== poll) return;
      const { status, json } = answer;
      if (status === 200) {
        poll.cursor = json.cursor;
        this.#expiredInARow = 0;
        this.#told.unkeyed.clear();
        for (const { event, payload } of json.events) {
          const isMine = !event.startsWith('chat:') || payload?.roomId === undefined || this.#rooms.has(String(payload.roomId));
          if (isMine && (!isBehind || STORED_EVENTS.has(event))) this.#take(event, [payload], isBehind);
        }
        if (json.events.length === 0) isBehind = false;
        // A server that is about to stop answers at once: it is not asked without end.
        empties = json.events.length === 0 && wait > 0 && Date.now() - began < 500 ? empties + 1 : 0;
        if (empties > 0) await this.#sleepShort(this.#pause(empties));
      } else if (status === 410) {
        poll.cursor = json.cursor;
        isBehind = false;
        this.#resync(json);
      } else if (isAboutToken(json.error)) {
        if (!this.#authFailed(json.error)) return;
        await this.#sleepShort(50);
      } else if (status === 403 || status === 404) await this.#findLostRooms(json.error);
      else await this.#sleepShort(json.error.retryAfterMs ?? this.#pause(1));
    }
  }

  #sleepShort(ms) {
    return new Promise((resolve) => { setTimeout(resolve, ms); });
  }

  /** One of the rooms may not be entered any more; the answer does not say which. */
  async #findLostRooms(error) {
    let found = 0;
    for (const room of [...this.#rooms.values()]) {
      try {
        const answer = await this.#http.call('chat:history', { roomId: room.id, limit: 1 });
        if (answer.ok || RETRYABLE.has(answer.error.code)) continue;
        found += 1;
        this.#roomFailed(room, answer.error, () => {});
      } catch {
        return;
      }
    }
    if (found === 0) await this.#sleepShort(error.retryAfterMs ?? this.#pause(1));
  }

  #httpLost(reason) {
    if (this.#mode !== 'http') return;
    this.#anchor = this.#poll.cursor;
    this.#poll.end();
    this.#poll = undefined;
    this.#mode = 'offline';
    clearTimeout(this.#expiryTimer);
    this.#holdAll();
    this._tell('disconnect', ['transport error']);
    this.#changeTransport('offline', reason);
    // At once, but not all at the same moment.
    this.#failures = 0;
    setTimeout(() => this.#wakeUp?.(), Math.random() * this.#options.retryMinMs);
  }

  #watchExpiry({ expiresAt, serverTime }) {
    clearTimeout(this.#expiryTimer);
    if (!expiresAt) return;
    const ms = Math.max(0, expiresAt - serverTime - EXPIRY_NOTICE_MS);
    // A timer holds no more than 24 days.
    if (ms < 2 ** 31) this.#expiryTimer = setTimeout(() => { this.#expiring({ expiresAt }); }, ms);
  }

  async #renewSession(poll) {
    try {
      const { status, json } = await this.#http.request('GET', '/session');
      if (this.#poll !== poll || status !== 200) return;
      this._tell('authenticated', [without(json, 'ok')]);
      this.#watchExpiry(json);
    } catch {
      // The poll notices what is wrong.
    }
  }

  #halt(reason, why) {
    if (!this.#isRunning) return;
    const wasConnected = this.connected;
    this.#isRunning = false;
    this.#run += 1;
    globalThis.removeEventListener?.('online', this.#wake);
    globalThis.document?.removeEventListener?.('visibilitychange', this.#wake);
    clearTimeout(this.#expiryTimer);
    if (this.#poll) this.#anchor = this.#poll.cursor;
    this.#poll?.end();
    this.#poll = undefined;
    this.#mode = 'offline';
    this.#holdAll();
    for (const lane of this.#outbox.lanes.values()) {
      clearTimeout(lane.timer);
      lane.timer = undefined;
    }
    this.#realtime = undefined;
    this.#endAttempt(reason);
    this.#wakeUp?.();
    if (wasConnected) this._tell('disconnect', [reason]);
    this.#changeTransport('offline', why);
  }
}

/** A long poll, its place, and how it is cut short. */
class Poll {
  #ends = new AbortController();
  #isRestarting = false;

  constructor(cursor) {
    this.cursor = cursor;
  }

  signal() {
    this.#isRestarting = false;
    this.#ends = new AbortController();
    return this.#ends.signal;
  }

  /** Polls anew from the same place: the rooms are others. */
  restart() {
    this.#isRestarting = true;
    this.#ends.abort();
  }

  isRestarting() {
    return this.#isRestarting;
  }

  end() {
    this.#ends.abort();
  }
}

const EXPIRED = 'this may have been stored more than a day ago, and could be there twice if it were sent again; look, and send it anew if it is not there';

/** Whether its key may have been forgotten by the server since it was sent. What has no key does no harm twice. */
function isStale({ event, triedAt }) {
  return (event === 'chat:message' || event === 'progress:sync') && triedAt !== undefined && Date.now() - triedAt > KEY_LASTS_MS;
}

/** What goes together: reports behind each other as one batch; anything else by itself. */
function batchOf(lane) {
  const [first] = lane.items;
  const isReport = (item) => item.event === 'progress:sync' && isObject(item.args[0]) && item.breaks < MAX_BREAKS;
  if (!isReport(first)) return [first];
  const batch = [];
  let chars = 0;
  for (const item of lane.items) {
    if (!isReport(item) || batch.length >= lane.most || (chars > 0 && chars + item.chars > MAX_BATCH_CHARS)) break;
    batch.push(item);
    chars += item.chars;
  }
  return batch;
}

function refused(code, message, field) {
  return { ok: false, error: { code, message, ...(field ? { field } : {}) } };
}

function originOf(url) {
  try {
    return new URL(url).origin;
  } catch {
    throw new TypeError('url must be the address of the server, for example https://rt.example.org');
  }
}

function withoutUndefined(options) {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** An ack that is called in time: with an error first, as socket.io-client has it. The request itself is not given up. */
function limited(ack, ms) {
  let isOver = false;
  const timer = setTimeout(() => {
    isOver = true;
    ack(new Error('operation has timed out'));
  }, ms);
  return (answer) => {
    if (isOver) return;
    clearTimeout(timer);
    ack(null, answer);
  };
}

/** What the server has said to a connection that it refused: in the answer, or, of a token, as JSON text in the message. */
function errorIn({ message, context }) {
  const texts = [() => JSON.parse(message), () => JSON.parse(context.responseText).error];
  for (const read of texts) {
    try {
      const error = read();
      if (typeof error?.code === 'string') return error;
    } catch {
      // It is a sentence of the library, or of something in between.
    }
  }
  return undefined;
}

function isAboutToken(error) {
  return error !== undefined && (FINAL.has(error.code) || error.code === 'token_expired');
}

/** What a last word of the server means for the next try. */
function outcomeOf(error) {
  if (error?.code === 'realtime_disabled') return { isDisabled: true, reason: error.code };
  if (FINAL.has(error?.code) || error?.code === 'token_expired') return { error, reason: error.code };
  return { isDisabled: true, reason: error?.code, retryAfterMs: error?.retryAfterMs };
}
