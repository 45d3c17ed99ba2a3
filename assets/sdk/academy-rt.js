// Made of the modules in assets/sdk/src by `npm run bundle` in tests/sdk: change these, and run it again.
// The client of academy-rt for browsers and Node.js 20 or newer: a socket like that of socket.io-client that also works where
// WebSocket does not. It has no dependency: the page hands in `io` of socket.io-client.
//
//   import { io } from 'socket.io-client';
//   import { connect } from 'https://rt.example.org/sdk/academy-rt.js';
//   const socket = connect({ io, url: 'https://rt.example.org', getToken: () => session.token(), storage: localStorage });
//
// The socket keeps these promises:
// - It uses Socket.IO where that is possible, else HTTP and a long poll, and it returns to Socket.IO by itself. The event
//   `transport` reports each change.
// - What a page emits waits in an outbox until the server has acknowledged it, in order within a room and within the progress.
//   It is stored once, whatever breaks on the way (`clientId`, `syncId`). The outbox is bounded; a request beyond it is refused.
// - A room that was joined is joined again, and what was missed comes as events, in order and without doubles. A page joins a room
//   to hear it; who may enter a room can post into it without a join.
// - What the server does not store (typing, presence, events of one's own) reaches those who are connected at that moment.

// The HTTP API: every event as its route, one request at a time, and the place of a long poll.

/** After these errors the same request is made again. */
const RETRYABLE = new Set(['unavailable', 'rate_limited']);
/** @param {unknown} id */
const enc = (id) => encodeURIComponent(String(id));
/**
 * A copy of an object without some of its properties.
 * @param {object} payload
 * @param {...string} names
 * @returns {Record<string, any>}
 */
const without = (payload, ...names) => Object.fromEntries(Object.entries(payload).filter(([name]) => !names.includes(name)));
/**
 * @param {any} payload
 * @param {string} rest
 */
const roomPath = (payload, rest) => `/rooms/${enc(payload.roomId)}/${rest}`;

/**
 * Each event as its HTTP route: method, path, and body.
 * @type {Record<keyof ClientEvents extends infer E ? E extends 'auth:refresh' ? never : E : never, (payload: any) => [method: string, path: string, body?: any]>}
 */
const ROUTES = {
  'chat:join': (p) => ['POST', roomPath(p, 'join'), without(p, 'roomId')],
  'chat:leave': (p) => ['POST', roomPath(p, 'leave')],
  'chat:message': (p) => ['POST', roomPath(p, 'messages'), without(p, 'roomId')],
  'chat:edit': (p) => ['PATCH', roomPath(p, `messages/${enc(p.messageId)}`), without(p, 'roomId', 'messageId')],
  'chat:delete': (p) => ['DELETE', roomPath(p, `messages/${enc(p.messageId)}`)],
  'chat:typing': (p) => ['POST', roomPath(p, 'typing'), without(p, 'roomId')],
  'chat:read': (p) => ['POST', roomPath(p, 'read'), without(p, 'roomId')],
  'chat:history': (p) => ['GET', roomPath(p, `messages${queryOf(p, 'before', 'after', 'limit', 'versions')}`)],
  'chat:search': (p) => ['GET', `/search${queryOf({ ...p, room: p.roomId }, 'q', 'room', 'before', 'limit')}`],
  'chat:rooms': (p) => ['GET', `/rooms${queryOf(p, 'after', 'limit')}`],
  'chat:mute': (p) => ['POST', roomPath(p, 'mute'), without(p, 'roomId')],
  'chat:unmute': (p) => ['POST', roomPath(p, 'unmute'), without(p, 'roomId')],
  'chat:lock': (p) => ['POST', roomPath(p, 'lock'), without(p, 'roomId')],
  'chat:slow': (p) => ['POST', roomPath(p, 'slow'), without(p, 'roomId')],
  'chat:report': (p) => ['POST', roomPath(p, `messages/${enc(p.messageId)}/report`), without(p, 'roomId', 'messageId')],
  'chat:reports': (p) => ['GET', roomPath(p, `reports${queryOf(p, 'before', 'limit', 'all')}`)],
  'chat:resolve': (p) => ['POST', roomPath(p, `reports/${enc(p.reportId)}/resolve`), without(p, 'roomId', 'reportId')],
  'presence:list': (p) => ['GET', roomPath(p, `presence${queryOf(p, 'after', 'limit')}`)],
  'progress:sync': (p) => ['POST', '/progress', p],
  'progress:get': (p) => ['GET', `/progress${queryOf(p, 'lessonId', 'courseId', 'since', 'limit', 'userId')}`],
  'progress:history': (p) => ['GET', `/progress/${enc(p.lessonId)}/history${queryOf(p, 'userId')}`],
  'notification:list': (p) => ['GET', `/notifications${queryOf(p, 'before', 'limit', 'unreadOnly')}`],
  'notification:read': (p) => ['POST', '/notifications/read', p],
  'notification:delete': (p) => ['DELETE', `/notifications/${enc(p.id)}`],
};

/**
 * The part of a path that an event cannot do without.
 * @type {Record<string, string>}
 */
const IN_PATH = {
  'progress:history': 'lessonId', 'notification:delete': 'id', 'chat:edit': 'messageId', 'chat:delete': 'messageId',
  'chat:report': 'messageId', 'chat:resolve': 'reportId',
};
/** The payload of these events may be the id of the room alone. */
const BARE_ROOM = new Set(['chat:join', 'chat:leave', 'presence:list']);

/**
 * @param {any} payload
 * @param {...string} names
 */
function queryOf(payload, ...names) {
  const query = new URLSearchParams();
  for (const name of names) if (payload[name] !== undefined && payload[name] !== null) query.set(name, String(payload[name]));
  return query.size || [...query].length ? `?${query}` : '';
}

/**
 * @param {unknown} value
 * @returns {value is string | number}
 */
const isId = (value) => typeof value === 'string' || typeof value === 'number';
/**
 * What two ids must share to be the same, here as on the server: 7 and "7", and an accent as one character or as two.
 * @param {unknown} id
 */
const idKey = (id) => String(id).normalize('NFC');
/**
 * @param {unknown} value
 * @returns {value is Record<string, any>}
 */
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
/**
 * The payload as an object: that of some events may be the id of the room alone.
 * @param {string} event
 * @param {any} payload
 */
const asObject = (event, payload) => (BARE_ROOM.has(event) && isId(payload) ? { roomId: payload } : payload ?? {});

/**
 * What the server would say of a payload that no path can be made of.
 * @param {string} event
 * @param {any} payload
 * @returns {RequestFailure | undefined}
 */
function unroutable(event, payload) {
  /**
   * @param {string} field
   * @param {string} message
   */
  const invalid = (field, message) => ({ code: /** @type {const} */ ('invalid_payload'), field, message });
  if (!ROUTES[/** @type {keyof typeof ROUTES} */ (event)]) return { code: 'invalid_payload', message: `'${event}' is not an event of this server` };
  if (event === 'progress:sync') return isObject(payload) || Array.isArray(payload) ? undefined : { code: 'invalid_payload', message: 'a report must be an object' };
  if (!isObject(payload)) return { code: 'invalid_payload', message: `the payload of ${event} must be an object` };
  if ((event.startsWith('chat:') && event !== 'chat:rooms' && event !== 'chat:search') || event === 'presence:list') {
    if (payload.roomId === undefined) return invalid('roomId', 'roomId is missing');
    if (!isId(payload.roomId)) return invalid('roomId', 'roomId must be a non-negative integer or a string');
  }
  const field = IN_PATH[event];
  if (field && !isId(payload[field])) return invalid(field, `${field} is missing`);
  // Neither has a place in a path: it would be taken out, and another route asked.
  for (const name of ['roomId', field]) if (name && /^\.\.?$/.test(payload[name])) return invalid(name, `${name} must be neither '.' nor '..'`);
  return undefined;
}

/**
 * A refusal, as the server words it.
 * @param {ErrorCode} code
 * @param {string} message
 * @param {string} [field]
 * @returns {Answer}
 */
function refused(code, message, field) {
  return { ok: false, error: { code, message, ...(field ? { field } : {}) } };
}

/** @param {string} path */
const trimmed = (path) => path.replace(/\/+$/, '');

/** Something between this page and the server has failed: nothing is known of the request. */
class Unreachable extends Error {}

/** Something else is at the address of the server. */
class NotOurs extends Unreachable {}

/** The codes of the server: an error of another kind is not its answer. */
const CODES = new Set(`invalid_payload not_joined forbidden not_found too_large rate_limited conflict resync unavailable internal token_missing
  token_malformed token_invalid token_expired token_not_yet_valid token_revoked user_blocked realtime_disabled method_not_allowed`.split(/\s+/));

/**
 * Whether an answer is one of academy-rt, and not of something else at the same address.
 * @param {number} status
 * @param {any} json
 */
const isOurs = (status, json) => isObject(json) && (status < 300 ? json.ok === true : CODES.has(json.error?.code));

/** The HTTP API. */
class HttpApi {
  #settings;
  #apiPath;
  /** The path of Socket.IO. */
  socketPath;
  /**
   * The tokens that were refused, by the errors that the page is told.
   * @type {WeakMap<object, string | undefined>}
   */
  #refused = new WeakMap();
  /** @type {Promise<{ status: number, json: any }> | undefined} */
  #asking;
  #hasAsked = false;

  /**
   * @param {{ base: string, path?: string, apiPath?: string, cookie?: boolean, fetch: typeof globalThis.fetch,
   *   token: () => string | undefined | Promise<string | undefined>, timeoutMs: number }} settings
   */
  constructor(settings) {
    this.#settings = settings;
    this.#apiPath = trimmed(settings.apiPath ?? '/api/v1');
    this.socketPath = settings.path ?? '/ws';
  }

  /**
   * The token that an error of an answer is about.
   * @param {object} error
   */
  tokenOf(error) {
    return this.#refused.get(error);
  }

  /**
   * Gives `{ status, json }` of an answer of the server, or throws `Unreachable`.
   * @param {string} method
   * @param {string} path
   * @param {{ body?: any, signal?: AbortSignal, waitMs?: number }} [more]
   * @returns {Promise<{ status: number, json: any }>}
   */
  async request(method, path, { body, signal, waitMs = 0 } = {}) {
    const { cookie, token: give } = this.#settings;
    const token = await give();
    const apiPath = this.#apiPath;
    const headers = { ...(cookie ? {} : { authorization: `Bearer ${token}` }), ...(body === undefined ? {} : { 'content-type': 'application/json' }) };
    const text = body === undefined ? undefined : JSON.stringify(body);
    const answer = await this.#fetch(apiPath + path, { method, headers, body: text, credentials: cookie ? 'include' : 'omit' }, signal, waitMs);
    const { status, json } = answer;
    if (isOurs(status, json)) {
      if (json.error) this.#refused.set(json.error, token);
      return { status, json };
    }
    if (status === 413) return { status, json: { error: { code: 'too_large', message: 'a proxy says that this is too large' } } };
    if (status === 429) return { status, json: { error: { code: 'rate_limited', message: 'a proxy says that these are too many' } } };
    // A proxy whose server is away says so with these.
    if (status < 502 || status > 504) await this.#findPaths(status);
    if (this.#apiPath !== apiPath) return this.request(method, path, { body, signal, waitMs });
    throw new Unreachable(`status ${status}`);
  }

  /**
   * One request, whatever answers it.
   * @param {string} path
   * @param {RequestInit} init
   * @param {AbortSignal} [signal]
   * @param {number} [waitMs]
   * @returns {Promise<{ status: number, json: any }>}
   */
  async #fetch(path, init, signal, waitMs = 0) {
    const { base, fetch, timeoutMs } = this.#settings;
    const ends = new AbortController();
    const stop = () => ends.abort();
    const timer = setTimeout(stop, timeoutMs + waitMs);
    signal?.addEventListener('abort', stop, { once: true });
    if (signal?.aborted) stop();
    try {
      const response = await fetch(base + path, { ...init, signal: ends.signal, cache: 'no-store', redirect: 'error' });
      const text = await response.text();
      try {
        return { status: response.status, json: JSON.parse(text) };
      } catch {
        return { status: response.status, json: undefined };
      }
    } catch {
      throw new Unreachable(ends.signal.aborted && !signal?.aborted ? 'timeout' : 'network');
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
    }
  }

  /** Asks once which paths are the server's: that of Socket.IO may be another one than was tried. */
  learnPaths() {
    if (this.#settings.path !== undefined || this.#hasAsked) return;
    this.#findPaths(0).catch(() => {});
  }

  /**
   * Something else has answered. Where academy-rt is at this address, it says which paths are its own; else that is told.
   * @param {number} status
   */
  async #findPaths(status) {
    this.#asking ??= this.#fetch('/sdk/server.json', { credentials: 'omit' }).finally(() => { this.#asking = undefined; });
    const { json } = await this.#asking;
    this.#hasAsked = true;
    const { base, apiPath, path } = this.#settings;
    if (!isObject(json) || json.server !== 'academy-rt') {
      throw new NotOurs(`this is not academy-rt: ${base}${this.#apiPath} answered with status ${status}`);
    }
    if (apiPath === undefined && typeof json.apiPath === 'string') this.#apiPath = trimmed(json.apiPath);
    if (path === undefined && typeof json.path === 'string') this.socketPath = json.path;
  }

  /**
   * Calls an event as its route. Gives what its acknowledgement would be, or throws `Unreachable`.
   * @param {string} event
   * @param {any} payload
   */
  async call(event, payload) {
    const error = unroutable(event, payload);
    if (error) return { ok: false, error };
    const [method, path, body] = ROUTES[/** @type {keyof typeof ROUTES} */ (event)](payload);
    const { status, json } = await this.request(method, path, { body });
    return status < 300 ? json : { ok: false, error: json.error };
  }
}

/** A long poll: the place that it has reached, and how it is cut short. */
class Poll {
  #ends = new AbortController();
  #isRestarting = false;
  /** Asks for the session again, with a new token. */
  renew = () => {};

  /** @param {string} cursor */
  constructor(cursor) {
    this.cursor = cursor;
  }

  /** A signal for the next request. */
  signal() {
    this.#isRestarting = false;
    this.#ends = new AbortController();
    return this.#ends.signal;
  }

  /** Polls again from the same place, because the rooms have changed. */
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

// What a page has been told already, so that nothing is told twice and nothing after what overtook it.


/** So many keys of each kind are remembered. */
const MAX_REMEMBERED = 2_048;

/** A memory of the latest keys. It is bounded. */
class Recent {
  /** @type {Map<any, any>} */
  #map = new Map();

  /** @param {any} key */
  get(key) {
    return this.#map.get(key);
  }

  /** @param {any} key */
  has(key) {
    return this.#map.has(key);
  }

  /** @param {any} key */
  delete(key) {
    this.#map.delete(key);
  }

  /**
   * @param {any} key
   * @param {any} [value]
   */
  set(key, value = true) {
    this.#map.delete(key);
    this.#map.set(key, value);
    if (this.#map.size > MAX_REMEMBERED) this.#map.delete(this.#map.keys().next().value);
  }

  clear() {
    this.#map.clear();
  }
}

/** What the page has been told already. Each kind of event has its own key: nothing is told twice, and nothing after what overtook it. */
class Delivered {
  #notifications = new Recent();
  /** The highest id of a notification that was told or listed; 0 before the first. */
  lastNotification = 0;
  /** By message: the last change that was told, and which edits were in the message already when it was told. */
  #changes = new Recent();
  #versions = new Recent();
  #marks = new Recent();
  /** By room and by report: the last change that was told. */
  #states = new Recent();
  #reports = new Recent();
  /** Events that have no key of their own, since the anchor. */
  unkeyed = new Recent();

  clear() {
    for (const memory of [this.#notifications, this.#changes, this.#versions, this.#marks, this.#states, this.#reports, this.unkeyed]) memory.clear();
    this.lastNotification = 0;
  }

  /**
   * Says whether an event is news; the next time it is none. `isReplay` means that it is read again from the anchor on.
   * @param {string} event
   * @param {any} payload
   * @param {boolean} [isReplay]
   */
  isNews(event, payload, isReplay) {
    switch (event) {
      case 'notification:new':
        this.noteNotification(payload);
        return this.#first(this.#notifications, payload.id);
      case 'chat:message-edited':
      case 'chat:message-deleted': return this.#isLater(payload);
      case 'chat:read': return this.#rises(this.#marks, `${idKey(payload.roomId)} ${idKey(payload.userId)}`, payload.messageId);
      case 'chat:state': return this.#rises(this.#states, idKey(payload.roomId), payload.id);
      case 'chat:reported': return this.#rises(this.#reports, payload.reportId, payload.id);
      case 'progress:updated': return this.#rises(this.#versions, idKey(payload.lessonId), payload.syncVersion);
      case 'notification:gone':
      case 'notification:updated': {
        const text = JSON.stringify(payload);
        const isKnown = this.unkeyed.has(text);
        this.unkeyed.set(text);
        return !(isReplay && isKnown);
      }
      default: return true;
    }
  }

  /**
   * A message was told as it is now, with its edits and its deletion.
   * @param {{ id: number, editedAt?: number, deletedAt?: number }} message
   */
  noteMessage({ id, editedAt, deletedAt }) {
    if (deletedAt || editedAt) this.#changes.set(id, { id: 0, shown: deletedAt ? Infinity : editedAt });
    else this.#changes.delete(id);
  }

  /** @param {{ id: number }} notification */
  noteNotification({ id }) {
    this.lastNotification = Math.max(this.lastNotification, id);
  }

  /**
   * Changes come in the order of their ids. A message has no such id, but its own `editedAt` rises with each edit.
   * @param {{ messageId: number, id: number, editedAt?: number }} change
   */
  #isLater({ messageId, id, editedAt = Infinity }) {
    const before = this.#changes.get(messageId) ?? { id: 0, shown: 0 };
    if (before.id >= id || before.shown >= editedAt) return false;
    this.#changes.set(messageId, { ...before, id });
    return true;
  }

  /**
   * @param {Recent} memory
   * @param {any} key
   */
  #first(memory, key) {
    const isFirst = !memory.has(key);
    memory.set(key);
    return isFirst;
  }

  /**
   * @param {Recent} memory
   * @param {any} key
   * @param {number} value
   */
  #rises(memory, key, value) {
    const before = memory.get(key);
    if (before !== undefined && before >= value) return false;
    memory.set(key, value);
    return true;
  }
}

// The events of a socket, as socket.io-client has them.

/**
 * What the listeners of an event are given.
 * @template {string} E
 * @typedef {E extends keyof ServerEvents ? Parameters<ServerEvents[E]> : any[]} ArgsOf
 */

/** @typedef {((...args: any[]) => any) & { listener?: (...args: any[]) => any }} Listener */

/** These names belong to the socket itself: a page cannot emit them. */
const RESERVED = new Set(['connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener']);

/** The events of a socket, as socket.io-client has them. */
class Emitter {
  /** @type {Map<string, Listener[]>} */
  #listeners = new Map();
  /** @type {Listener[]} */
  #any = [];

  /**
   * @param {string} event
   * @param {Listener} listener
   */
  on(event, listener) {
    const list = this.#listeners.get(event);
    if (list) list.push(listener);
    else this.#listeners.set(event, [listener]);
    return this;
  }

  /**
   * @param {string} event
   * @param {Listener} listener
   */
  once(event, listener) {
    /** @type {Listener} */
    const once = (...args) => {
      this.off(event, once);
      listener.apply(this, args);
    };
    once.listener = listener;
    return this.on(event, once);
  }

  /**
   * Without a listener it removes all listeners of the event; without an event it removes all listeners of all events. Of a listener that
   * was added twice it removes one.
   * @param {string} [event]
   * @param {Listener} [listener]
   */
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

  /**
   * @param {string} event
   * @param {Listener} listener
   */
  addListener(event, listener) {
    return this.on(event, listener);
  }

  /**
   * @param {string} event
   * @param {Listener} listener
   */
  addEventListener(event, listener) {
    return this.on(event, listener);
  }

  /**
   * @param {string} [event]
   * @param {Listener} [listener]
   */
  removeListener(event, listener) {
    return this.off(event, listener);
  }

  /**
   * @param {string} [event]
   * @param {Listener} [listener]
   */
  removeEventListener(event, listener) {
    return this.off(event, listener);
  }

  /**
   * @param {string} [event]
   * @param {Listener} [listener]
   */
  removeAllListeners(event, listener) {
    return this.off(event, listener);
  }

  /** @param {Listener} listener */
  onAny(listener) {
    this.#any.push(listener);
    return this;
  }

  /** @param {Listener} listener */
  prependAny(listener) {
    this.#any.unshift(listener);
    return this;
  }

  /** @param {Listener} [listener] */
  offAny(listener) {
    this.#any = listener === undefined ? [] : this.#any.filter((one) => one !== listener);
    return this;
  }

  /**
   * @param {string} event
   * @returns {any[]}
   */
  listeners(event) {
    return (this.#listeners.get(event) ?? []).map((one) => one.listener ?? one);
  }

  listenersAny() {
    return [...this.#any];
  }

  /** @param {string} event */
  hasListeners(event) {
    return this.#listeners.has(event);
  }

  /**
   * Tells the listeners. A listener that throws ends neither the others nor the connection; its error is reported like any other.
   * @protected
   * @template {string} E
   * @param {E} event
   * @param {ArgsOf<E>} args
   */
  _tell(event, args) {
    if (!RESERVED.has(event)) for (const listener of [...this.#any]) guarded(() => listener.apply(this, [event, ...args]));
    for (const listener of [...(this.#listeners.get(event) ?? [])]) guarded(() => listener.apply(this, args));
  }
}

/**
 * Runs a listener. Its error is thrown outside, where the page reports it.
 * @param {() => void} work
 */
function guarded(work) {
  try {
    work();
  } catch (error) {
    queueMicrotask(() => { throw error; });
  }
}

// A refusal as an error, for who would rather catch than compare.

class RequestError extends Error {
  /**
   * @param {string} event
   * @param {RequestFailure} failure
   */
  constructor(event, { code, message, field, retryAfterMs }) {
    super(message);
    this.name = 'RequestError';
    this.event = event;
    this.code = code;
    this.field = field;
    this.retryAfterMs = retryAfterMs;
  }
}

// What waits for the server: requests in lanes, their keys, and the copy in the storage of the page.


/**
 * A request that waits.
 * @typedef {object} Item
 * @property {string} event
 * @property {any[]} args
 * @property {((answer: any) => void)} [ack]
 * @property {string} lane
 * @property {number} chars How much it counts for the limit.
 * @property {number} breaks How many connections in a row broke while it was under way.
 * @property {number} stamp Its number among those of the user; 0 where it has none yet.
 * @property {number} [addedAt] When this page has added it.
 * @property {string} [entry] Its name in the storage.
 * @property {boolean} [isUnstored] Whether the storage did not take it.
 * @property {boolean} [isGone] Whether another page has sent it.
 * @property {number} [triedAt] When it was sent for the first time.
 * @property {boolean} [wasTried] Whether it was sent more than once.
 * @property {boolean} [isSent] Whether it is under way.
 * @property {boolean} [isRestored] Whether an earlier page has left it.
 * @property {boolean} [isAnswered]
 */

/**
 * Requests that are sent one after the other.
 * @typedef {object} Lane
 * @property {string} name
 * @property {Item[]} items
 * @property {boolean} isBusy
 * @property {ReturnType<typeof setTimeout> | undefined} timer
 * @property {number} most The most reports that go as one batch.
 * @property {number} failures
 */

/** The server stores these once it has acknowledged them. They survive a reload of the page where there is a `storage`. */
const DURABLE = new Set([
  'chat:message', 'chat:edit', 'chat:delete', 'chat:read', 'progress:sync', 'notification:read', 'notification:delete',
]);

/** At most this many reports go as one batch. */
const MAX_BATCH = 500;
/** A batch ends at this many characters. */
const MAX_BATCH_CHARS = 256 * 1024;
/** The server knows a key for 24 hours: what may have been stored before that cannot be sent again without a double. */
const KEY_LASTS_MS = 23 * 60 * 60 * 1_000;
/** After this many broken connections in a row, a request that was under way each time goes by HTTP, which says what is wrong. */
const MAX_BREAKS = 3;
/** So long a request waits for another page that is sending. */
const CLAIM_MS = 15_000;
/** The message of the error `outbox_expired`. */
const EXPIRED = 'this may have been stored more than a day ago, and could be there twice if it were sent again; look, and send it anew if it is not there';

/** This page among those of one storage. */
const PAGE$1 = uuid();

/** What waits for the server, in lanes. Each lane is worked off in order, independently of the others. */
class Outbox {
  /** @type {Map<string, Lane>} */
  lanes = new Map();
  count = 0;
  chars = 0;
  #options;
  #storage;
  /** The highest number that an item of this user has. */
  #last = 0;
  /**
   * The count in the storage as this page has left it.
   * @type {string | null | undefined}
   */
  #counted;
  /** Whether another page has added something. */
  #isBehind = false;
  /** Items that the storage did not take. */
  #unstored = 0;
  /**
   * The user whose requests these are.
   * @type {string | undefined}
   */
  user;
  /** The server whose requests these are: its store's id, or its address before the first answer from there. */
  server;
  #address;

  /** @param {{ address: string, outboxLimit: number, outboxBytes: number, storage: Storage, storagePrefix: string, onUnstored: (item: Item) => void, onCount: () => void }} options */
  constructor(options) {
    this.#options = options;
    this.#storage = options.storage;
    this.#address = `@${encodeURIComponent(options.address)}`;
    this.server = this.#storage.get(this.#serverKey) || this.#address;
  }

  /** Another page has written to the storage. */
  noteOthers = () => {
    this.#isBehind = true;
  };

  /**
   * Takes an item, or says why not.
   * @param {Item} item
   */
  add(item) {
    const { outboxLimit, outboxBytes } = this.#options;
    if (this.count >= outboxLimit || this.chars + item.chars > outboxBytes) {
      const message = `the outbox is full (${this.count} requests, ${this.chars} characters): nothing was sent; try again when it has emptied`;
      return { code: /** @type {const} */ ('outbox_full'), message };
    }
    this.#put(item);
    this.store(item);
    return undefined;
  }

  /** @param {Item} item */
  #put(item) {
    /** @type {Lane} */
    const lane = this.lanes.get(item.lane) ?? { name: item.lane, items: [], isBusy: false, timer: undefined, most: MAX_BATCH, failures: 0 };
    this.lanes.set(item.lane, lane);
    // What another page has left goes before what this page has added since; what has no number yet is the latest.
    const behind = item.isRestored ? lane.items.findIndex((one) => (one.stamp || Infinity) > item.stamp && !one.isSent) : -1;
    if (behind < 0) lane.items.push(item);
    else lane.items.splice(behind, 0, item);
    this.count += 1;
    this.chars += item.chars;
    this.#options.onCount();
  }

  /** @param {Item} item */
  remove(item) {
    const lane = this.lanes.get(item.lane);
    const at = lane?.items.indexOf(item) ?? -1;
    if (!lane || at < 0) return;
    lane.items.splice(at, 1);
    if (lane.items.length === 0 && !lane.isBusy && !lane.timer) this.lanes.delete(item.lane);
    this.count -= 1;
    this.chars -= item.chars;
    this.#options.onCount();
    if (item.entry) this.#storage.remove(item.entry);
    if (item.isUnstored) this.#unstored -= 1;
    // There may be room again.
    for (const one of this.#unstored > 0 ? this.items() : []) if (one.isUnstored && !this.#write(one)) break;
    if (this.#unstored === 0) this.#storage.settled();
  }

  get #serverKey() {
    return `${this.#options.storagePrefix}:server:${this.#address.slice(1)}`;
  }

  get #countKey() {
    return `${this.#options.storagePrefix}:count:${this.server}:${encodeURIComponent(/** @type {string} */ (this.user))}`;
  }

  /**
   * The number of the next item: no clock, which may be set back, orders what pages of one user do.
   * @returns {number}
   */
  #number() {
    const found = this.#storage.get(this.#countKey);
    if (found !== this.#counted) this.#isBehind = true;
    this.#last = Math.max(this.#last, parseInt(found ?? '', 10) || 0) + 1;
    // Two pages may count at the same moment: by its end each one knows its own.
    const counted = `${this.#last}.${PAGE$1}`;
    if (this.#storage.set(this.#countKey, counted)) this.#counted = counted;
    return this.#last;
  }

  /** @param {string} server */
  #prefix(server) {
    return `${this.#options.storagePrefix}:outbox:${server}:${encodeURIComponent(/** @type {string} */ (this.user))}:`;
  }

  /**
   * Each item has an entry of its own, so that two pages of one user do not overwrite each other.
   * @param {Item} item
   */
  store(item) {
    if (!this.#storage.isThere || !DURABLE.has(item.event) || this.user === undefined) return;
    item.stamp ||= this.#number();
    item.entry ??= `${this.#prefix(this.server)}${String(item.stamp).padStart(17, '0')}:${uuid()}`;
    if (this.#write(item)) {
      if (this.#unstored === 0) this.#storage.settled();
      return;
    }
    if (item.isUnstored) return;
    item.isUnstored = true;
    this.#unstored += 1;
    this.#options.onUnstored(item);
  }

  /** @param {Item} item */
  #write(item) {
    const isKept = this.#storage.set(/** @type {string} */ (item.entry), JSON.stringify({ event: item.event, payload: item.args[0], triedAt: item.triedAt }));
    if (isKept && item.isUnstored) {
      item.isUnstored = false;
      this.#unstored -= 1;
    }
    return isKept;
  }

  /**
   * The user is known. What they have left in the storage comes back, and what waits is kept for them.
   * @param {string} user
   */
  belongTo(user) {
    this.user = user;
    if (!this.#storage.isThere) return;
    this.#readNew();
    for (const item of this.items()) if (!item.entry) this.store(item);
  }

  /**
   * The server has said which one it is. What waits for another one that was at this address is given back: it stays in the storage.
   * @param {string} server
   * @returns {Item[]}
   */
  meet(server) {
    if (this.server === server) return [];
    const isAnother = this.server !== this.#address;
    const dropped = isAnother ? this.drop() : [];
    this.server = server;
    this.#counted = undefined;
    this.#isBehind = true;
    this.#storage.set(this.#serverKey, server);
    if (this.user !== undefined) this.#readNew();
    return dropped;
  }

  /** Takes in what other pages of the user have left or added. */
  #readNew() {
    this.#isBehind = false;
    this.#counted = this.#storage.get(this.#countKey);
    const known = new Set([...this.items()].map((item) => item.entry));
    const items = [];
    // The last are those of a version that knew no servers.
    const ofOld = `${this.#options.storagePrefix}:outbox:${encodeURIComponent(/** @type {string} */ (this.user))}:`;
    const prefixes = [this.#prefix(this.server), this.#prefix(this.#address), ofOld];
    for (const entry of this.#storage.names(prefixes)) {
      const item = known.has(entry) ? undefined : this.#read(entry, prefixes);
      if (item) items.push(item);
    }
    for (const item of items.sort((a, b) => a.stamp - b.stamp)) {
      this.#last = Math.max(this.#last, item.stamp);
      this.#put(item);
    }
  }

  /**
   * @param {string} entry
   * @param {string[]} prefixes
   * @returns {Item | undefined}
   */
  #read(entry, prefixes) {
    const prefix = prefixes.find((one) => entry.startsWith(one)) ?? '';
    const [number, , ...more] = entry.slice(prefix.length).split(':');
    // An entry of a server may begin like one of a version that knew none.
    if (!/^\d+$/.test(number) || more.length > 0) return undefined;
    try {
      const text = this.#storage.get(entry) ?? '';
      const { event, payload, triedAt } = JSON.parse(text);
      if (!DURABLE.has(event)) return undefined;
      return { event, args: [payload], lane: laneOf(event, payload), chars: text.length, entry, stamp: Number(number), triedAt, isRestored: true, breaks: 0 };
    } catch {
      return undefined;
    }
  }

  /**
   * Looks again at what is to be sent next: another page of the user may have added something before it, or have sent it. Gives
   * what must not be sent any more: an edit that another page has sent may have a later one behind it.
   * @param {Lane} lane
   * @returns {Item[]}
   */
  lookAgain(lane) {
    if (!this.#storage.isThere || this.user === undefined) return [];
    const counted = this.#storage.get(this.#countKey);
    if (counted === null && this.#counted) {
      // Somebody has emptied the storage: what waits is none the less to be sent.
      this.#counted = null;
      for (const item of this.items()) this.store(item);
      return [];
    }
    if (counted !== this.#counted || this.#isBehind) this.#readNew();
    const gone = batchOf(lane).filter((item) => item.entry && !item.isUnstored && this.#storage.get(item.entry) === null);
    for (const item of gone) {
      item.entry = undefined;
      item.isGone = true;
      // It was sent: a key that the server has forgotten since does not tell a double.
      item.triedAt ??= item.addedAt;
      item.wasTried = true;
    }
    return gone.filter(({ event }) => event === 'chat:edit');
  }

  /**
   * Calls `send` when no other page of the user is sending what is in this lane. `release` says that it has been sent.
   * @param {Lane} lane
   * @param {(release: () => void) => void} send
   */
  claim(lane, send) {
    const { locks } = /** @type {{ locks?: LockManager }} */ (globalThis.navigator ?? {});
    if (!locks || !this.#storage.isThere || this.user === undefined || !lane.items.some((item) => item.entry)) return void send(() => {});
    const ends = new AbortController();
    // A page that hangs holds nobody up.
    const timer = setTimeout(() => ends.abort(), CLAIM_MS);
    let isSent = false;
    const once = (/** @type {() => void} */ release) => {
      clearTimeout(timer);
      if (isSent) return release();
      isSent = true;
      send(release);
    };
    const name = `${this.#prefix(this.server)}${lane.name}`;
    const held = () => /** @type {Promise<void>} */ (new Promise((resolve) => { once(() => resolve()); }));
    locks.request(name, { signal: ends.signal }, held).catch(() => once(() => {}));
  }

  /** @returns {Generator<Item, void>} */
  * items() {
    for (const lane of this.lanes.values()) yield* lane.items;
  }

  /** Lets go of what is in memory. What is in the storage stays there for its user. */
  drop() {
    const items = [...this.items()];
    for (const lane of this.lanes.values()) clearTimeout(lane.timer);
    this.lanes.clear();
    this.count = 0;
    this.chars = 0;
    this.#options.onCount();
    this.#unstored = 0;
    this.#last = 0;
    this.#counted = undefined;
    this.user = undefined;
    return items;
  }
}

/**
 * Says whether the server may have forgotten the key of an item since it was sent. A request without a key does no harm when it is sent twice.
 * @param {Item} item
 */
function isStale({ event, triedAt }) {
  return (event === 'chat:message' || event === 'progress:sync') && triedAt !== undefined && Date.now() - triedAt > KEY_LASTS_MS;
}

/**
 * What is sent together: consecutive reports go as one batch, anything else goes by itself.
 * @param {Lane} lane
 */
function batchOf(lane) {
  const [first] = lane.items;
  /** @param {Item} item */
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

/**
 * @param {string} event
 * @param {any} payload
 */
function laneOf(event, payload) {
  const { roomId } = asObject(event, isObject(payload) || isId(payload) ? payload : {});
  if (/^(chat|presence):/.test(event) && isId(roomId)) return `chat ${idKey(roomId)}`;
  return event.split(':')[0];
}

function uuid() {
  if (globalThis.crypto.randomUUID) return globalThis.crypto.randomUUID();
  // A page without TLS has only this.
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * Gives the request its key: the one of the caller, or a new one.
 * @param {string} event
 * @param {any} payload
 */
function keyed(event, payload) {
  /**
   * @param {any} object
   * @param {string} name
   */
  const give = (object, name) => (isObject(object) && (object[name] === undefined || object[name] === null) ? { ...object, [name]: uuid() } : object);
  if (event === 'chat:message') return give(payload, 'clientId');
  if (event === 'progress:sync') return Array.isArray(payload) ? payload.map((one) => give(one, 'syncId')) : give(payload, 'syncId');
  return payload;
}

// The rooms that a page has joined: they are joined again after a gap, and what was missed comes in order and once.


/**
 * A room that was joined.
 * @typedef {object} Room
 * @property {Id} id The id as the answer to the first join had it.
 * @property {number} lastId The last message that the page was told of.
 * @property {number} lastSeq Its place in the room.
 * @property {any[][]} held What has come, and waits for what was missed: event, arguments, and whether it is a replay.
 * @property {boolean} isHolding
 * @property {boolean} isFilling Whether the messages of a gap are being fetched.
 * @property {boolean} isRejoining
 * @property {boolean} [hasDropped] Whether too much waited; the rest is fetched.
 * @property {object} [restartedBy] The connection over which it was begun anew.
 */

/**
 * How a request ended: with the answer of the server, or lost on the way.
 * @typedef {{ answer?: any, isLost?: boolean, isBroken?: boolean, isByHttp?: boolean }} Outcome
 */

/**
 * What the rooms need of the connection.
 * @typedef {object} Way
 * @property {(event: string, args: any[], done: (outcome: Outcome) => void) => void} ask Asks by whichever way there is.
 * @property {(event: string, args: any[], done: (outcome: Outcome) => void) => void} askRealtime Asks by Socket.IO.
 * @property {<E extends string>(event: E, args: ArgsOf<E>) => void} tell Tells the listeners of the page.
 * @property {(lane: string) => void} pump Sends what waits in a lane.
 * @property {(failures: number) => number} pause
 * @property {() => 'offline' | 'realtime' | 'http'} mode
 * @property {() => object | undefined} current The connection that there is.
 * @property {() => () => boolean} whileConnected Gives a function that says whether the connection is still the same.
 * @property {() => void} pollAnew The rooms have changed: a long poll has to name them.
 */

/** This many messages are asked for at once. */
const PAGE = 200;
/** At most this many events wait for the messages of a gap. */
const MAX_HELD = 2_000;

class Rooms {
  /** @type {Map<string, Room>} */
  #rooms = new Map();
  #delivered;
  #way;

  /**
   * @param {Delivered} delivered
   * @param {Way} way
   */
  constructor(delivered, way) {
    this.#delivered = delivered;
    this.#way = way;
  }

  get size() {
    return this.#rooms.size;
  }

  /** @param {unknown} id */
  get(id) {
    return this.#rooms.get(idKey(id));
  }

  /** @param {unknown} id */
  has(id) {
    return this.#rooms.has(idKey(id));
  }

  values() {
    return this.#rooms.values();
  }

  clear() {
    this.#rooms.clear();
  }

  /**
   * A join was acknowledged.
   * @param {any} answer
   * @param {boolean} isByHttp
   */
  joined(answer, isByHttp) {
    const key = idKey(answer.roomId);
    const known = this.#rooms.get(key);
    if (known) return;
    for (const message of answer.messages ?? []) this.#delivered.noteMessage(message);
    const room = { id: answer.roomId, lastId: answer.lastId, lastSeq: answer.lastSeq, held: [], isHolding: false, isFilling: false, isRejoining: false };
    this.#rooms.set(key, room);
    this.#way.pollAnew();
    // The request went by HTTP, and Socket.IO has come in the meantime.
    if (this.#way.mode() === 'realtime' && isByHttp) this.rejoin(room);
  }

  /** @param {Id} roomId */
  left(roomId) {
    this.#rooms.delete(idKey(roomId));
    this.#way.pollAnew();
  }

  /** The connection is lost: what comes next waits until what was missed is there. */
  hold() {
    for (const room of this.#rooms.values()) {
      room.isHolding = true;
      room.isFilling = false;
    }
  }

  /**
   * Joins again over Socket.IO what was joined before. What was missed comes as events.
   * @param {Room} room
   */
  rejoin(room) {
    room.isHolding = true;
    room.isRejoining = true;
    this.#way.askRealtime('chat:join', [{ roomId: room.id, after: room.lastId, limit: PAGE }], ({ answer, isLost }) => {
      if (isLost || this.get(room.id) !== room) return;
      if (!answer.ok) return this.failed(room, answer.error, () => this.rejoin(room));
      room.isRejoining = false;
      this.#way.pump(`chat ${room.id}`);
      this.#page(room, answer);
    });
  }

  /**
   * Fetches what is behind the last message that the page was told of.
   * @param {Room} room
   */
  fill(room) {
    if (room.isFilling) return;
    room.isFilling = true;
    room.isHolding = true;
    this.#way.ask('chat:history', [{ roomId: room.id, after: room.lastId, limit: PAGE }], ({ answer, isLost }) => {
      room.isFilling = false;
      if (isLost || this.get(room.id) !== room) return;
      if (!answer.ok) return this.failed(room, answer.error, () => this.fill(room));
      this.#page(room, answer);
    });
  }

  /**
   * @param {Room} room
   * @param {{ messages: any[], hasMore: boolean, lastSeq: number }} page
   */
  #page(room, { messages, hasMore, lastSeq }) {
    for (const message of messages) this.#message(room, message);
    if ((hasMore && messages.length > 0) || room.hasDropped) {
      room.hasDropped = false;
      return this.fill(room);
    }
    // Purged messages leave a gap that nothing can fill.
    room.lastSeq = Math.max(room.lastSeq, lastSeq);
    room.isHolding = false;
    while (room.held.length > 0 && !room.isHolding) {
      const [event, args, isReplay] = /** @type {any[]} */ (room.held.shift());
      this.deliver(room, event, args, isReplay);
    }
  }

  /**
   * The server has refused a room. The request is made again where that makes sense; else the room is gone.
   * @param {Room} room
   * @param {RequestFailure} error
   * @param {() => void} again
   */
  failed(room, error, again) {
    if (error.code === 'resync') return this.restart(room);
    if (RETRYABLE.has(error.code)) {
      const isSame = this.#way.whileConnected();
      setTimeout(() => { if (isSame()) again(); }, error.retryAfterMs ?? this.#way.pause(1));
      return;
    }
    // The user is not a member any more, or the room does not exist any more.
    this.left(room.id);
    this.#way.tell('request:error', [{ event: 'chat:join', roomId: room.id, ...error }]);
    this.#way.pump(`chat ${room.id}`);
  }

  /**
   * The server's data are others: the last message is not of them. The room is joined as for the first time, and the page is told.
   * @param {Room} room
   */
  restart(room) {
    const current = this.#way.current();
    if (room.restartedBy === current) return;
    room.restartedBy = current;
    this.#beginAnew(room);
  }

  /** @param {Room} room */
  #beginAnew(room) {
    room.isHolding = true;
    this.#way.ask('chat:join', [{ roomId: room.id }], ({ answer, isLost }) => {
      if (isLost || this.get(room.id) !== room) return;
      if (!answer.ok) return this.failed(room, answer.error, () => this.#beginAnew(room));
      room.lastId = answer.lastId;
      room.lastSeq = answer.lastSeq;
      room.isRejoining = false;
      for (const message of answer.messages) this.#delivered.noteMessage(message);
      this.#way.tell('resync', [/** @type {any} */ ({ ...without(answer, 'ok'), roomId: room.id })]);
      this.#way.pump(`chat ${room.id}`);
      this.#page(room, { messages: [], hasMore: false, lastSeq: answer.lastSeq });
    });
  }

  /**
   * Takes an event of a room: it is told now, or waits for what was missed before it.
   * @param {Room} room
   * @param {string} event
   * @param {any[]} args
   * @param {boolean} isReplay
   */
  take(room, event, args, isReplay) {
    if (!room.isHolding) return this.deliver(room, event, args, isReplay);
    if (event === 'chat:message' && room.held.length >= MAX_HELD) room.hasDropped = true;
    else room.held.push([event, args, isReplay]);
  }

  /**
   * Tells the page of an event, if it is news.
   * @param {Room | undefined} room
   * @param {string} event
   * @param {any[]} args
   * @param {boolean} [isReplay]
   */
  deliver(room, event, args, isReplay) {
    const payload = args[0];
    if (room && event === 'chat:message') return this.#message(room, payload, true);
    if (isObject(payload) && !this.#delivered.isNews(event, payload, isReplay)) return;
    this.#way.tell(event, args);
  }

  /**
   * @param {Room} room
   * @param {any} message
   * @param {boolean} [isLive] Whether it came as an event: then a message before it may be missing.
   */
  #message(room, message, isLive = false) {
    if (message.id <= room.lastId) return;
    if (isLive && message.seq > room.lastSeq + 1) {
      room.held.unshift(['chat:message', [message]]);
      return this.fill(room);
    }
    room.lastId = message.id;
    room.lastSeq = message.seq;
    this.#delivered.noteMessage(message);
    const own = message.roomId === room.id ? message : { ...message, roomId: room.id };
    this.#way.tell('chat:message', [own]);
  }
}

// The storage of the page, which may be missing, refuse or be full: then the outbox goes on in memory, and the page is told.

/** @param {unknown} error */
const reasonOf = (error) => (/quota/i.test(/** @type {any} */ (error)?.name) ? 'full' : 'refused');

class Storage {
  /** @type {OutboxStorage | undefined} */
  #storage;
  #tell;
  /** @type {StorageState} */
  state = { persistent: false };
  /** Whether it has taken what it was last given. */
  #hasTaken = true;

  /**
   * @param {OutboxStorage | null | (() => OutboxStorage | null | undefined) | undefined} given What the page has given; nothing where it has given none.
   * @param {(state: StorageState) => void} tell It is told of each change of the state.
   */
  constructor(given, tell) {
    this.#tell = tell;
    if (given === undefined) return;
    try {
      // Where the browser forbids it, the mere look at localStorage throws.
      this.#storage = (typeof given === 'function' ? given() : given) ?? undefined;
      // It may be there and refuse every use.
      if (this.#storage) void this.#storage.length;
      this.#is(this.#storage ? undefined : 'missing');
    } catch (error) {
      this.#storage = undefined;
      this.#is(reasonOf(error));
    }
  }

  /** Whether anything can be read from it. */
  get isThere() {
    return this.#storage !== undefined;
  }

  /** @param {StorageState['reason']} [reason] Why nothing more is kept. */
  #is(reason) {
    const state = reason === undefined ? { persistent: true } : { persistent: false, reason };
    if (state.persistent === this.state.persistent && state.reason === this.state.reason) return;
    this.state = state;
    this.#tell(state);
  }

  /** Nothing waits that is not kept. */
  settled() {
    if (this.#storage && this.#hasTaken) this.#is();
  }

  /**
   * Null where there is no such entry; undefined where nothing is known of it.
   * @param {string} key
   * @returns {string | null | undefined}
   */
  get(key) {
    try {
      return this.#storage?.getItem(key);
    } catch (error) {
      return void this.#is(reasonOf(error));
    }
  }

  /**
   * Says whether the entry is kept.
   * @param {string} key
   * @param {string} value
   */
  set(key, value) {
    if (!this.#storage) return false;
    try {
      this.#storage.setItem(key, value);
      return (this.#hasTaken = true);
    } catch (error) {
      this.#hasTaken = false;
      this.#is(reasonOf(error));
      return false;
    }
  }

  /** @param {string} key */
  remove(key) {
    try {
      this.#storage?.removeItem(key);
    } catch (error) {
      // Another page will send it again, and the server will know it by its key.
      this.#is(reasonOf(error));
    }
  }

  /**
   * The names of the entries that begin with one of some texts.
   * @param {string[]} prefixes
   */
  names(prefixes) {
    /** @type {string[]} */
    const names = [];
    try {
      for (let i = 0; i < (this.#storage?.length ?? 0); i += 1) {
        const key = this.#storage?.key(i);
        if (key && prefixes.some((prefix) => key.startsWith(prefix))) names.push(key);
      }
    } catch (error) {
      this.#is(reasonOf(error));
      return [];
    }
    return names;
  }
}

// The socket: one connection by Socket.IO or, where that is not possible, by HTTP, with its tokens, its requests and its return.


/**
 * The options as they are read here.
 * @typedef {typeof DEFAULTS & {
 *   io: (url: string, options: any) => any,
 *   url?: string,
 *   token?: string,
 *   getToken?: GetToken,
 *   fetch?: typeof globalThis.fetch,
 *   ioOptions?: object,
 *   storage?: OutboxStorage | (() => OutboxStorage | null | undefined),
 *   cookie?: boolean,
 *   apiPath?: string,
 *   path?: string,
 *   autoConnect?: boolean,
 * }} Settings
 */

/** @typedef {Parameters<GetToken>[0]['reason']} Why */

/** @typedef {{ held: [string, any[]][] | undefined }} Replaying */

/**
 * How a Socket.IO connection ended.
 * @typedef {object} End
 * @property {string} [reason]
 * @property {RequestFailure} [error] What is wrong with the token.
 * @property {boolean} [isDisabled] Whether the server does without Socket.IO at present.
 * @property {number} [retryAfterMs]
 * @property {unknown} [description]
 * @property {boolean} [wasReady] Whether the session had begun.
 */

/** What holds for an option that is absent. */
const DEFAULTS = {
  transports: /** @type {('websocket' | 'polling')[]} */ (['websocket', 'polling']),
  connectTimeoutMs: 8_000,
  ackTimeoutMs: 10_000,
  retryMinMs: 1_000,
  retryMaxMs: 30_000,
  pollWaitSeconds: 25,
  outboxLimit: 5_000,
  outboxBytes: 4 * 1024 * 1024,
  storagePrefix: 'academy-rt',
};

/** The server stores these events, and the long poll gives them over any gap. */
const STORED_EVENTS = new Set([
  'chat:message', 'chat:message-edited', 'chat:message-deleted', 'chat:read', 'chat:state', 'chat:reported',
  'progress:updated', 'notification:new', 'notification:updated', 'notification:gone',
]);

/** The same token is of no use after these errors. A fresh one may be: keys are retired, clocks are set, people are blocked as one user and are another. */
const ABOUT_TOKEN = new Set(['token_missing', 'token_malformed', 'token_invalid', 'token_expired', 'token_not_yet_valid', 'token_revoked', 'user_blocked']);
/** The message of the error `sent_elsewhere`. */
const SENT_ELSEWHERE = 'another page of this user has sent this edit; what it says now is in the room';
/** A long poll names at most this many rooms. */
const MAX_POLL_ROOMS = 100;
/** After this many stored events the place to go on from is moved forward. */
const ANCHOR_EVERY = 200;
/** What was before a cursor left the server at least this long ago. */
const ANCHOR_SETTLES_MS = 5_000;
/** A connection that lasted this long was good: the next tries begin with short pauses again. */
const STABLE_MS = 5_000;
/** New events wait at most this long for those that were missed. */
const REPLAY_HOLDS_MS = 20_000;
/** A new token is asked for this long before the end of the old one. */
const EXPIRY_NOTICE_MS = 60_000;

/** The socket that `connect` gives. */
class AcademySocket extends Emitter {
  /** @type {Settings} */
  #options;
  /** @type {Settings['io']} */
  #io;
  /**
   * The address of the server, with its path and without a slash at the end.
   * @type {string}
   */
  #base;
  /** @type {HttpApi} */
  #http;
  /** @type {Storage} */
  #storage;
  /** @type {Outbox} */
  #outbox;
  #delivered = new Delivered();
  /** @type {Rooms} */
  #rooms;
  /**
   * What holds for the next `emit`.
   * @type {{ volatile?: boolean, timeout?: number }}
   */
  #flags = {};

  /** @type {string | undefined} */
  #token;
  /** @type {Promise<string> | undefined} */
  #renewing;
  /** How many fresh tokens were asked for since one was taken. */
  #refusedInARow = 0;
  /** Whether `getToken` has said that nobody is signed in. */
  #signedOut = false;
  /** @type {Session | undefined} */
  #session;
  #lastRefresh = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #expiryTimer;

  /** @type {'offline' | 'realtime' | 'http'} */
  #mode = 'offline';
  /** @type {Transport} */
  #transport = 'offline';
  #reason = 'not connected yet';
  #isRunning = false;
  #run = 0;
  /**
   * The socket of socket.io-client that is connected.
   * @type {any}
   */
  #realtime;
  /**
   * Ends the Socket.IO connection that there is, or that is tried.
   * @type {(reason: string) => void}
   */
  #endAttempt = () => {};
  /**
   * Ends the pause before the next try.
   * @type {(() => void) | undefined}
   */
  #wakeUp;
  /** How many tries in a row have failed. */
  #failures = 0;
  /** @type {('websocket' | 'polling')[]} */
  #transports;

  /**
   * A cursor from before anything that may not have come.
   * @type {string | undefined}
   */
  #anchor;
  /**
   * The next anchor, once everything before it has surely come.
   * @type {{ cursor?: string, at: number } | undefined}
   */
  #candidate;
  #sinceAnchor = 0;
  #hasArrived = false;
  /** @type {Poll | undefined} */
  #poll;
  /**
   * What has come while the past is being told.
   * @type {Replaying | undefined}
   */
  #replaying;
  /** How many requests wait, as the page was told last. */
  #toldPending = 0;

  /** @param {Partial<Omit<Settings, 'storage'>> & { storage?: Settings['storage'] | null }} options */
  constructor(options = {}) {
    super();
    this.#options = /** @type {Settings} */ ({ ...DEFAULTS, ...withoutUndefined(options) });
    const { io, url, token, getToken, fetch = globalThis.fetch?.bind(globalThis) } = this.#options;
    if (typeof io !== 'function') throw new TypeError('io is missing: hand in { io } of socket.io-client');
    if (typeof token !== 'string' && typeof getToken !== 'function' && !this.#options.cookie) {
      throw new TypeError('give a token, or a function that gives one as getToken, or cookie: true');
    }
    if (typeof fetch !== 'function') throw new TypeError('there is no fetch here; give one');
    this.#io = io;
    this.#base = baseOf(url ?? globalThis.location?.origin);
    this.#token = token?.replace(/^Bearer /i, '');
    this.#transports = [...this.#options.transports];
    const { path, apiPath, cookie, connectTimeoutMs } = this.#options;
    this.#http = new HttpApi({ base: this.#base, path, apiPath, cookie, fetch, token: () => this.#bearer('http'), timeoutMs: connectTimeoutMs });
    this.#storage = new Storage('storage' in options ? options.storage ?? null : undefined, (state) => {
      // By then the page has added its listeners.
      queueMicrotask(() => this._tell('storage', [state]));
    });
    this.#outbox = new Outbox({
      ...this.#options,
      address: this.#base,
      storage: this.#storage,
      onUnstored: (item) => this.#unstored(item),
      onCount: () => this.#tellPending(),
    });
    this.#rooms = new Rooms(this.#delivered, {
      ask: (event, args, done) => this.#ask(event, args, done),
      askRealtime: (event, args, done) => this.#askRealtime(event, args, done),
      tell: (event, args) => this._tell(event, args),
      pump: (lane) => this.#pump(lane),
      pause: (failures) => this.#pause(failures),
      mode: () => this.#mode,
      current: () => this.#realtime ?? this.#poll,
      whileConnected: () => this.#whileConnected(),
      pollAnew: () => { if (this.#mode === 'http') this.#poll?.restart(); },
    });
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

  /**
   * The Socket.IO id; undefined over HTTP.
   * @returns {string | undefined}
   */
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

  /**
   * What the server has said of the user, last; undefined before, and where nobody is signed in.
   * @returns {Session | undefined}
   */
  get session() {
    return this.#session;
  }

  /** Whether what waits outlives this page: `storage` was given, and takes it. */
  get persistent() {
    return this.#storage.state.persistent;
  }

  /** Whether `getToken` has said that nobody is signed in. `connect()` asks it again. */
  get signedOut() {
    return this.#signedOut;
  }

  /** The next `emit` is sent now or not at all. */
  get volatile() {
    this.#flags.volatile = true;
    return this;
  }

  /**
   * How long the next `emit` waits for its acknowledgement.
   * @param {number} ms
   */
  timeout(ms) {
    this.#flags.timeout = ms;
    return this;
  }

  /** Connects, also again after `disconnect` or a final `auth_error`. What waits in the outbox is sent. */
  connect() {
    if (this.#isRunning) return this;
    this.#isRunning = true;
    this.#signedOut = false;
    this.#refusedInARow = 0;
    this.#run += 1;
    globalThis.addEventListener?.('online', this.#wake);
    globalThis.addEventListener?.('storage', this.#outbox.noteOthers);
    globalThis.document?.addEventListener?.('visibilitychange', this.#wake);
    const run = this.#run;
    // By then the page has added its listeners.
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

  /**
   * @param {string} event
   * @param {...any} args
   */
  emit(event, ...args) {
    if (RESERVED.has(event)) throw new Error(`"${event}" is a reserved event name`);
    const flags = this.#flags;
    this.#flags = {};
    let ack = typeof args.at(-1) === 'function' ? args.pop() : undefined;
    if (ack && flags.timeout !== undefined) ack = limited(ack, flags.timeout);
    this.#submit(event, args, ack, flags.volatile || event === 'chat:typing');
    return this;
  }

  /**
   * Like `emit`, with the answer as a promise. A refusal is an answer, too: `{ ok: false, error }`.
   * @param {string} event
   * @param {...any} args
   * @returns {Promise<any>}
   */
  emitWithAck(event, ...args) {
    const isLimited = this.#flags.timeout !== undefined;
    return new Promise((resolve, reject) => {
      /** @type {(first: any, second?: any) => void} */
      const ack = (first, second) => {
        if (!isLimited) resolve(first);
        else if (first) reject(first);
        else resolve(second);
      };
      this.emit(event, ...args, ack);
    });
  }

  /**
   * Like `emitWithAck`, with a refusal as an error.
   * @param {string} event
   * @param {...any} args
   * @returns {Promise<any>}
   */
  async request(event, ...args) {
    const answer = await this.emitWithAck(event, ...args);
    if (!answer.ok) throw new RequestError(event, answer.error);
    return answer;
  }

  /** @param {...any} args */
  send(...args) {
    return this.emit('message', ...args);
  }

  // --- what is emitted -------------------------------------------------------------------------------------------------

  /**
   * @param {string} event
   * @param {any[]} given
   * @param {((answer: any) => void) | undefined} ack
   * @param {boolean} isVolatile
   * @returns {void}
   */
  #submit(event, given, ack, isVolatile) {
    let args;
    let text;
    try {
      // This is a copy: what the caller does to the payload later changes nothing.
      text = JSON.stringify(given);
      args = JSON.parse(text);
    } catch {
      return this.#answer({ event, args: [], ack }, refused('invalid_payload', 'the payload cannot be written as JSON'));
    }
    if (isAll(event, args[0])) return this.#submitAll(args[0], ack, isVolatile);
    if (args.length > 0) args[0] = keyed(event, args[0]);
    const item = { event, args, ack, lane: laneOf(event, args[0]), chars: text.length + 64, breaks: 0, stamp: 0, addedAt: Date.now() };
    if (event === 'auth:refresh') return void this.#refreshWith(args[0]?.token, (answer) => this.#answer(item, answer));
    if (isVolatile) return this.#pass(item);
    const error = this.#outbox.add(item);
    if (error) return this.#answer(item, { ok: false, error });
    this.#pump(item.lane);
  }

  /**
   * "All" means what could be seen at this moment: what comes until the request is sent, and after that, stays unread.
   * @param {any} payload
   * @param {((answer: any) => void) | undefined} ack
   * @param {boolean} isVolatile
   * @returns {void}
   */
  #submitAll(payload, ack, isVolatile) {
    const submit = () => this.#submit('notification:read', [{ ...payload, upTo: this.#delivered.lastNotification }], ack, isVolatile);
    if (this.#delivered.lastNotification > 0 || this.#mode === 'offline') return submit();
    this.#learnNotifications(submit);
  }

  /**
   * Asks for the latest notification: a number of unread ones may be all that this page was told.
   * @param {() => void} [done]
   */
  #learnNotifications(done) {
    this.#ask('notification:list', [{ limit: 1 }], ({ answer }) => {
      for (const one of answer?.items ?? []) this.#delivered.noteNotification(one);
      done?.();
    });
  }

  /**
   * Sends a request now or not at all.
   * @param {Item} item
   */
  #pass(item) {
    const isRejoining = this.#rooms.get(item.args[0]?.roomId)?.isRejoining;
    if (this.#mode === 'offline' || isRejoining) return this.#answer(item, refused('offline', 'there is no connection; this was not sent'));
    this.#ask(item.event, item.args, (outcome) => {
      this.#answer(item, outcome.answer ?? refused('offline', 'the connection was lost; nothing is known of this request'));
    });
  }

  /**
   * @param {Partial<Item> & Pick<Item, 'event' | 'args'>} item
   * @param {any} answer
   */
  #answer(item, answer) {
    if (item.isAnswered) return;
    item.isAnswered = true;
    const { ack } = item;
    if (ack) guarded(() => ack(answer));
    // Nobody misses what is sent now or not at all, and what another page has sent is sent.
    else if (!answer.ok && !['offline', 'sent_elsewhere'].includes(answer.error.code)) {
      // This page does not know what an earlier page has left.
      const more = item.isRestored ? { payload: item.args[0] } : {};
      this._tell('request:error', [{ event: item.event, ...answer.error, ...more }]);
    }
  }

  /** @param {Item} item */
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

  /**
   * Sends what is first in a lane, if nothing of it is under way.
   * @param {string} name
   * @returns {void}
   */
  #pump(name) {
    const lane = this.#outbox.lanes.get(name);
    if (!lane || lane.isBusy || lane.timer || this.#mode === 'offline') return;
    if (lane.items.length === 0) return void this.#outbox.lanes.delete(name);
    const isRejoining = () => name.startsWith('chat ') && this.#rooms.get(name.slice('chat '.length))?.isRejoining;
    if (isRejoining()) return;
    lane.isBusy = true;
    this.#outbox.claim(lane, (release) => {
      lane.isBusy = false;
      if (this.#outbox.lanes.get(name) !== lane || this.#mode === 'offline' || lane.items.length === 0 || isRejoining()) return release();
      for (let gone = this.#outbox.lookAgain(lane); gone.length > 0; gone = lane.items.length > 0 ? this.#outbox.lookAgain(lane) : []) {
        for (const item of gone) this.#settle(item, refused('sent_elsewhere', SENT_ELSEWHERE));
      }
      if (lane.items.length === 0) release();
      else this.#send(lane, release);
    });
  }

  /**
   * Sends what is first in a lane.
   * @param {Lane} lane
   * @param {() => void} release
   * @returns {void}
   */
  #send(lane, release) {
    const batch = batchOf(lane);
    const stale = batch.filter(isStale);
    if (stale.length > 0) {
      release();
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
      release();
    }, item.breaks >= MAX_BREAKS);
  }

  /** @param {Item} item */
  #markTried(item) {
    item.isSent = true;
    if (item.triedAt !== undefined) return item.wasTried = true;
    item.triedAt = Date.now();
    if (item.entry) this.#outbox.store(item);
  }

  /**
   * @param {Lane} lane
   * @param {Item[]} batch
   * @param {Outcome} outcome
   */
  #conclude(lane, batch, { answer, isLost, isBroken, isByHttp }) {
    const [item] = batch;
    if (isLost) {
      item.breaks = isBroken ? item.breaks + 1 : 0;
      lane.failures += 1;
      // It was lost on the way, and goes again when there is a way again.
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
      // One of them is bad: the halves are tried until it is alone.
      lane.most = Math.ceil(batch.length / 2);
      return this.#pump(lane.name);
    }
    lane.most = MAX_BATCH;
    if (code === 'not_found' && item.event === 'chat:delete' && item.wasTried) {
      this.#settle(item, { ok: true, messageId: item.args[0].messageId, duplicate: true });
    } else this.#settle(item, answer);
    return this.#pump(lane.name);
  }

  /**
   * Leaves a lane alone for a while.
   * @param {Lane} lane
   * @param {number} ms
   * @returns {void}
   */
  #rest(lane, ms) {
    if (ms <= 0) return this.#pump(lane.name);
    lane.timer = setTimeout(() => {
      lane.timer = undefined;
      this.#pump(lane.name);
    }, ms);
  }

  /** Tells the page how many requests wait: once for all that happens in one go. */
  #tellPending() {
    queueMicrotask(() => {
      const { pending } = this;
      if (pending === this.#toldPending) return;
      this.#toldPending = pending;
      this._tell('pending', [{ pending }]);
    });
  }

  /**
   * A request has its final answer.
   * @param {Item} item
   * @param {any} answer
   * @param {boolean} [isByHttp]
   */
  #settle(item, answer, isByHttp = false) {
    this.#outbox.remove(item);
    if (answer.ok && item.event === 'chat:join') this.#rooms.joined(answer, isByHttp);
    if (answer.ok && item.event === 'chat:leave') this.#rooms.left(answer.roomId);
    if (answer.ok && item.event === 'notification:list') for (const one of answer.items) this.#delivered.noteNotification(one);
    this.#answer(item, answer);
    if (this.#outbox.count === 0) this._tell('outbox', [{ pending: 0 }]);
  }

  /**
   * Asks the server by whichever way there is. `done` is called once.
   * @param {string} event
   * @param {any[]} args
   * @param {(outcome: Outcome) => void} done
   * @param {boolean} [mustGoByHttp]
   */
  #ask(event, args, done, mustGoByHttp = false) {
    if (this.#mode === 'realtime' && !mustGoByHttp) return this.#askRealtime(event, args, done);
    const payload = asObject(event, args[0]);
    // It comes later, like any answer, so that a thousand of them are not a thousand nested calls.
    /** @param {any} answer */
    const answerHere = (answer) => queueMicrotask(() => done({ answer }));
    const mustJoin = event === 'chat:typing' || event === 'presence:list';
    if (mustJoin && isId(payload?.roomId) && !this.#rooms.has(payload.roomId)) {
      return answerHere(refused('not_joined', 'join the room first: chat:join'));
    }
    if (event === 'chat:join' && !this.#rooms.has(payload?.roomId) && this.#rooms.size >= MAX_POLL_ROOMS) {
      return answerHere(refused('too_large', `without Socket.IO at most ${MAX_POLL_ROOMS} rooms can be joined; leave one first`));
    }
    const generation = this.#poll;
    this.#http.call(event, payload).then((answer) => {
      if (isAboutToken(answer.error)) {
        this.#authFailed(answer.error, this.#http.tokenOf(answer.error));
        return done({ isLost: true });
      }
      done({ answer, isByHttp: true });
    }, (error) => {
      if (this.#mode === 'http' && generation === this.#poll) this.#httpLost(error.message);
      done({ isLost: true });
    });
  }

  /**
   * @param {string} event
   * @param {any[]} args
   * @param {(outcome: Outcome) => void} done
   */
  #askRealtime(event, args, done) {
    const socket = this.#realtime;
    socket.timeout(this.#options.ackTimeoutMs).emit(event, ...args, (/** @type {unknown} */ error, /** @type {any} */ answer) => {
      if (!error) return done({ answer: isObject(answer) ? answer : { ok: true } });
      // It has not answered for so long: the connection is dead, though nobody has said so.
      if (this.#realtime === socket && socket.connected) this.#endAttempt('ack timeout');
      done({ isLost: true, isBroken: true });
    });
  }

  // --- what the server says ---------------------------------------------------------------------------------------------

  /**
   * @param {string} event
   * @param {any[]} args
   * @param {boolean} [isReplay]
   */
  #take(event, args, isReplay = false) {
    if (STORED_EVENTS.has(event) && !isReplay) this.#moveAnchor();
    const payload = args[0];
    const room = isObject(payload) && payload.roomId !== undefined ? this.#rooms.get(payload.roomId) : undefined;
    if (!room) {
      // What happened before is still being told, so this event waits for its turn.
      if (this.#replaying?.held && !isReplay && STORED_EVENTS.has(event)) return void this.#replaying.held.push([event, args]);
      return this.#rooms.deliver(undefined, event, args, isReplay);
    }
    // The room has the id that the page gave it, so that === holds.
    const own = payload.roomId === room.id ? args : [{ ...payload, roomId: room.id }, ...args.slice(1)];
    this.#rooms.take(room, event, own, isReplay);
  }

  /** Moves the place to go on from forward, but only to where everything before it has surely come. */
  #moveAnchor() {
    if (this.#mode !== 'realtime') return;
    this.#sinceAnchor += 1;
    this.#settleAnchor();
    if (this.#sinceAnchor >= ANCHOR_EVERY && !this.#candidate) {
      const socket = this.#realtime;
      /** @type {{ cursor?: string, at: number }} */
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

  /** Something has come over the socket, so everything that was sent to it before has come, too. */
  #settleAnchor() {
    if (!this.#candidate || Date.now() - this.#candidate.at < ANCHOR_SETTLES_MS || this.#replaying) return;
    this.#anchor = this.#candidate.cursor;
    this.#candidate = undefined;
    this.#sinceAnchor = 0;
    this.#delivered.unkeyed.clear();
  }

  /** @returns {Promise<string>} */
  async #newCursor() {
    const { status, json } = await this.#http.request('GET', '/events');
    if (status !== 200) throw new Unreachable(json.error.code);
    return json.cursor;
  }

  /**
   * Tells what happened since the anchor, as far as it is stored: edits, deletions, read marks, progress, notifications.
   * @param {any} socket
   */
  async #replay(socket) {
    /** @type {Replaying} */
    const replaying = { held: [] };
    this.#replaying = replaying;
    // Where there is no HTTP beside Socket.IO, what waits is told late rather than not at all.
    const timer = setTimeout(() => this.#endReplay(replaying), REPLAY_HOLDS_MS);
    let failures = 0;
    while (this.#realtime === socket) {
      const answer = await this.#http.request('GET', this.#eventsPath(/** @type {string} */ (this.#anchor), 0)).catch(() => undefined);
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
        // Joining finds out which room may not be entered any more; the next try tells the rest, from the same place.
        failures += 1;
        await this.#sleepShort(this.#pause(failures));
      }
    }
    clearTimeout(timer);
    this.#endReplay(replaying);
    if (this.#replaying === replaying) this.#replaying = undefined;
  }

  /**
   * Tells what has come while the past was being told. After a lost connection, the next replay does that.
   * @param {Replaying} replaying
   */
  #endReplay(replaying) {
    const { held } = replaying;
    replaying.held = undefined;
    if (this.#replaying === replaying && held) for (const [event, args] of held) this.#rooms.deliver(undefined, event, args);
  }

  /**
   * @param {string} cursor
   * @param {number} wait
   */
  #eventsPath(cursor, wait) {
    const query = new URLSearchParams({ cursor, wait: String(wait) });
    for (const room of [...this.#rooms.values()].slice(0, MAX_POLL_ROOMS)) query.append('room', String(room.id));
    return `/events?${query}`;
  }

  /**
   * The server has other data, or an older copy: no place that was known in it holds any more.
   * @param {{ error: RequestFailure, cursor: string }} news
   */
  #resync({ error, cursor }) {
    this.#anchor = cursor;
    this.#delivered.clear();
    this._tell('resync', [{ code: /** @type {'resync'} */ (error.code), message: error.message }]);
    for (const room of this.#rooms.values()) this.#rooms.restart(room);
  }

  // --- tokens ----------------------------------------------------------------------------------------------------------

  /**
   * The token to use; none where a cookie speaks for the user. `getToken` is told the reason when it is asked.
   * @param {Why} reason
   * @returns {string | undefined | Promise<string | undefined>}
   */
  #bearer(reason) {
    if (this.#token !== undefined || this.#options.cookie) return this.#token;
    const run = this.#run;
    this.#renewing ??= (async () => {
      const token = await this.#options.getToken?.({ reason });
      if (token === null) {
        if (this.#isCurrent(run)) this.#signOut();
        throw new Unreachable('signed out');
      }
      if (typeof token !== 'string' || token === '') throw new Unreachable('getToken gave no token');
      this.#token = token.replace(/^Bearer /i, '');
      // What waits for this token was asked by the user before.
      if (this.#changeUser()) throw new Unreachable('another user');
      return this.#token;
    })().finally(() => { this.#renewing = undefined; });
    return this.#renewing;
  }

  /** Nobody is signed in any more. What waits in the outbox stays there for its user. */
  #signOut() {
    this.#token = undefined;
    this.#signedOut = true;
    this.#session = undefined;
    this.#halt('signed out', 'signed out');
    this._tell('signed_out', []);
  }

  /** Over HTTP, a token of another user would take over the place and the requests of the one before. So everything begins anew, as that user. */
  #changeUser() {
    const user = userOf(this.#token);
    if (this.#mode !== 'http' || user === undefined || user === this.#outbox.user) return false;
    this.#httpLost('another user');
    this.#belongTo(user);
    return true;
  }

  /**
   * @param {Why} reason
   * @returns {Promise<string | undefined>}
   */
  async #renew(reason) {
    if (typeof this.#options.getToken !== 'function') throw new Unreachable('there is no getToken');
    this.#token = undefined;
    return this.#bearer(reason);
  }

  /**
   * The server has refused a token. Says whether another try makes sense: with a fresh one it does, once.
   * @param {RequestFailure} error
   * @param {string} [refused]
   */
  #authFailed(error, refused = this.#token) {
    // The answer is about a token that was replaced while it was on its way.
    if (!isAboutToken(error) || refused !== this.#token) return true;
    if (typeof this.#options.getToken === 'function' && !this.#options.cookie && this.#refusedInARow < 1) {
      // Several requests may be refused with the same token: only one of them asks for the next.
      if (!this.#renewing) {
        this.#refusedInARow += 1;
        this.#renew(/** @type {Why} */ (error.code)).catch(() => {});
      }
      return true;
    }
    if (this.#renewing) return true;
    this.#session = undefined;
    // Whoever signs in again has another one to give.
    if (typeof this.#options.getToken === 'function') this.#token = undefined;
    this._tell('auth_error', [error]);
    this.#halt('auth error', error.code);
    return false;
  }

  /**
   * The token of a live connection ends soon.
   * @param {{ expiresAt: number }} payload
   */
  async #expiring(payload) {
    this._tell('auth:expiring', [payload]);
    if (typeof this.#options.getToken !== 'function') return;
    const run = this.#run;
    const sinceLast = Date.now() - this.#lastRefresh;
    // Tokens that last less than the notice would otherwise be asked for without end.
    if (sinceLast < 5_000) await new Promise((resolve) => { this.#expiryTimer = setTimeout(resolve, 5_000 - sinceLast); });
    if (!this.#isCurrent(run)) return;
    this.#lastRefresh = Date.now();
    const before = this.#token;
    try {
      const token = await this.#renew('expiring');
      if (this.#isCurrent(run)) this.#refreshWith(token, () => {});
    } catch {
      // The old token holds for a while; at its end a new one is asked for again.
      if (this.#isCurrent(run)) this.#token ??= before;
    }
  }

  /**
   * Uses a new token for what is connected now.
   * @param {unknown} token
   * @param {(answer: any) => void} done
   */
  #refreshWith(token, done) {
    if (typeof token !== 'string') return done(refused('invalid_payload', 'token is missing', 'token'));
    const bare = token.replace(/^Bearer /i, '');
    if (this.#mode !== 'realtime') {
      this.#token = bare;
      if (this.#signedOut) this.connect();
      if (!this.#changeUser() && this.#mode === 'http') this.#poll?.renew();
      return done({ ok: true });
    }
    this.#askRealtime('auth:refresh', [{ token: bare }], ({ answer, isLost }) => {
      if (isLost) {
        this.#token = bare;
        return done(refused('unavailable', 'the connection was lost; the token is used for the next one'));
      }
      if (answer.ok) this.#token = bare;
      // It is the token of another user: the next connection is theirs.
      if (answer.error?.code === 'forbidden') {
        this.#token = bare;
        this.#endAttempt('another user');
      }
      done(answer);
    });
  }

  /** @param {Session} session */
  #greet(session) {
    this.#session = session;
    this._tell('authenticated', [session]);
  }

  /**
   * The server has answered: it says who it is, and who the user is.
   * @param {Session} session
   */
  #meet({ storeId, userId }) {
    for (const item of storeId === undefined ? [] : this.#outbox.meet(storeId)) {
      const where = item.entry ? 'it is kept in the storage for the one before' : 'it was not sent';
      this.#answer(item, refused('server_changed', `another server, or one with other data, is at this address now; ${where}`));
    }
    this.#belongTo(userId);
  }

  /** @param {unknown} user */
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
      this.#delivered.clear();
      this.#anchor = undefined;
    }
    this.#outbox.belongTo(name);
  }

  // --- the connection --------------------------------------------------------------------------------------------------

  /** @param {number} run */
  #isCurrent(run) {
    return this.#isRunning && this.#run === run;
  }

  /** Gives a function that says whether the connection of this moment is still the one. */
  #whileConnected() {
    const run = this.#run;
    const realtime = this.#realtime;
    return () => this.#isCurrent(run) && this.#realtime === realtime && this.#mode !== 'offline';
  }

  /**
   * A pause before the next try. It grows with each failure, and is never the same for two clients.
   * @param {number} failures
   */
  #pause(failures) {
    const { retryMinMs, retryMaxMs } = this.#options;
    return Math.min(retryMaxMs, retryMinMs * 2 ** Math.min(failures - 1, 16)) * (0.5 + Math.random() / 2);
  }

  #wake = () => {
    if (globalThis.document?.visibilityState === 'hidden') return;
    this.#failures = 0;
    this.#wakeUp?.();
  };

  /**
   * Waits, until `#wakeUp` or the end of the time.
   * @param {number} ms
   * @returns {Promise<void>}
   */
  #sleep(ms) {
    return new Promise((resolve) => {
      /** @type {() => void} */
      const wakeUp = () => {
        clearTimeout(timer);
        if (this.#wakeUp === wakeUp) this.#wakeUp = undefined;
        resolve();
      };
      const timer = setTimeout(wakeUp, ms);
      this.#wakeUp = wakeUp;
    });
  }

  /** @param {number} run */
  async #keepConnected(run) {
    this.#failures = 0;
    while (this.#isCurrent(run)) {
      const began = Date.now();
      const end = await this.#tryRealtime(run);
      if (!this.#isCurrent(run)) return;
      if (end.error && !this.#authFailed(end.error)) return;
      if (end.error) {
        // A token that holds for a moment alone is no reason to ask without end.
        if (end.wasReady && Date.now() - began < STABLE_MS) await this.#sleep(this.#pause(1));
        continue;
      }
      if (end.wasReady && Date.now() - began > STABLE_MS) this.#failures = 0;
      if (end.wasReady && !end.isDisabled && this.#failures === 0) {
        this.#failures = 1;
        // The server is gone for as long as it says. Without a word from it, a random pause keeps all clients from coming back at once.
        await this.#sleep(end.retryAfterMs === undefined ? Math.random() * this.#options.retryMinMs : end.retryAfterMs * (1 + Math.random() / 5));
        continue;
      }
      this.#failures += 1;
      const told = this.#mode === 'offline' ? await this.#startHttp(run, /** @type {string} */ (end.reason)) : undefined;
      if (!this.#isCurrent(run)) return;
      if (this.#mode === 'offline') {
        const reason = told ?? /** @type {string} */ (end.reason);
        this.#changeTransport('offline', reason);
        this._tell('connect_error', [Object.assign(new Error(reason), { description: end.description })]);
      }
      await this.#sleep(Math.max(this.#pause(this.#failures), end.retryAfterMs ?? 0));
    }
  }

  /**
   * One Socket.IO connection, from the try to its end. Gives how it ended.
   * @param {number} run
   * @returns {Promise<End>}
   */
  async #tryRealtime(run) {
    let token;
    try {
      token = await this.#bearer('connect');
    } catch (error) {
      return { reason: error instanceof Unreachable ? error.message : 'getToken failed' };
    }
    if (!this.#isCurrent(run)) return { reason: 'closed' };
    this.#belongTo(userOf(token));
    const { connectTimeoutMs, ioOptions, cookie } = this.#options;
    const { origin, pathname } = new URL(this.#base);
    const socket = this.#io(origin, {
      ...ioOptions,
      path: pathname.replace(/\/$/, '') + this.#http.socketPath,
      ...(cookie ? { withCredentials: true } : { auth: { token } }),
      transports: [...this.#transports],
      // Without this a stock client gives up at the first transport that is blocked.
      tryAllTransports: true,
      timeout: connectTimeoutMs,
      reconnection: false,
      forceNew: true,
      autoConnect: false,
    });
    return new Promise((resolve) => {
      let isReady = false;
      /** @type {End} */
      let last = {};
      /** @param {End} outcome */
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
        if (wasCurrent) this.#realtimeLost(/** @type {string} */ (outcome.reason));
        resolve({ ...outcome, ...last, wasReady: isReady });
      };
      const timer = setTimeout(() => {
        this.#turnTransports();
        end({ reason: 'timeout' });
      }, connectTimeoutMs);
      this.#endAttempt = (reason) => end({ reason });
      socket.on('connect_error', (/** @type {any} */ error) => {
        const told = errorIn(error);
        if (told) last = outcomeOf(told);
        else if (/websocket|timeout/.test(error.message)) this.#turnTransports();
        end({ reason: told?.code ?? error.message, description: error.description });
      });
      socket.on('disconnect', (/** @type {string} */ reason) => end({ reason: last.reason ?? reason }));
      socket.io?.on?.('ping', () => this.#settleAnchor());
      socket.onAny((/** @type {string} */ event, /** @type {any[]} */ ...args) => {
        if (event === 'auth_error') {
          last = outcomeOf(args[0]);
          // The server closes the connection, too; there is no need to wait for that.
          return end({ reason: args[0]?.code });
        }
        if (event === 'server:draining') last = { retryAfterMs: args[0]?.retryAfterMs };
        if (event === 'auth:expiring') return void this.#expiring(args[0]);
        if (event !== 'authenticated') return this.#take(event, args);
        clearTimeout(timer);
        if (isReady) return this.#greet(args[0]);
        isReady = true;
        this.#realtimeReady(socket, args[0]);
      });
      socket.connect();
    });
  }

  /** Where something on the way blocks WebSocket silently, trying the other order finds that out. */
  #turnTransports() {
    if (this.#transports.length > 1) this.#transports.reverse();
  }

  /**
   * @param {any} socket
   * @param {Session} session
   */
  #realtimeReady(socket, session) {
    const wasConnected = this.connected;
    const isFirst = !this.#hasArrived;
    if (this.#poll) this.#anchor = this.#poll.cursor ?? this.#anchor;
    this.#poll?.end();
    this.#poll = undefined;
    clearTimeout(this.#expiryTimer);
    this.#hasArrived = true;
    this.#refusedInARow = 0;
    this.#realtime = socket;
    this.#mode = 'realtime';
    this.#candidate = undefined;
    this.#meet(session);
    const engine = socket.io?.engine;
    engine?.once?.('upgrade', () => { if (this.#realtime === socket) this.#changeTransport(engine.transport.name, 'upgraded'); });
    if (!wasConnected) this._tell('connect', []);
    this.#changeTransport(engine?.transport?.name ?? 'websocket', wasConnected ? 'available again' : 'connected');
    this.#greet(session);
    if (this.#realtime !== socket) return;
    for (const room of this.#rooms.values()) this.#rooms.rejoin(room);
    if (this.#anchor !== undefined && !isFirst) this.#replay(socket);
    else this.#dropAnchor(socket);
    if (session.unread > 0 && this.#delivered.lastNotification === 0) this.#learnNotifications();
    this.#pumpAll();
  }

  /**
   * Sets a first place to go on from. Until it is there, only joining again recovers what is lost.
   * @param {any} socket
   */
  #dropAnchor(socket) {
    this.#newCursor().then((cursor) => { if (this.#realtime === socket) this.#anchor ??= cursor; }, () => {});
  }

  /** @param {string} reason */
  #realtimeLost(reason) {
    this.#candidate = undefined;
    this.#holdAll();
    this._tell('disconnect', [reason]);
    this.#changeTransport('offline', reason);
  }

  /** What comes next waits until what was missed is there. */
  #holdAll() {
    this.#replaying = undefined;
    this.#rooms.hold();
  }

  /**
   * @param {Transport} transport
   * @param {string} reason
   */
  #changeTransport(transport, reason) {
    if (this.#transport === transport && this.#reason === reason) return;
    this.#transport = transport;
    this.#reason = reason;
    this._tell('transport', [{ transport, reason }]);
  }

  // --- without Socket.IO -----------------------------------------------------------------------------------------------

  /**
   * Gives what is wrong, if that says more than the way that was tried before.
   * @param {number} run
   * @param {string} reason
   * @returns {Promise<string | undefined>}
   */
  async #startHttp(run, reason) {
    const isFirst = !this.#hasArrived;
    /** @type {Session} */
    let session;
    let cursor;
    let isBehind;
    let unread = [];
    try {
      const { status, json } = await this.#http.request('GET', '/session');
      if (status !== 200) return void (this.#isCurrent(run) && this.#authFailed(json.error, this.#http.tokenOf(json.error)));
      session = /** @type {any} */ (without(json, 'ok'));
      if (!this.#isCurrent(run)) return undefined;
      // A place in the events belongs to its user.
      this.#meet(session);
      // From a new place on, nothing was missed and nothing was told.
      isBehind = this.#anchor !== undefined;
      cursor = this.#anchor ?? await this.#newCursor();
      // The server does not note what it delivers to a poll, so a page that has just come is told what is unread.
      if (isFirst) unread = (await this.#http.call('notification:list', { unreadOnly: true, limit: 100 })).items ?? [];
    } catch (error) {
      return error instanceof NotOurs ? error.message : undefined;
    }
    if (!this.#isCurrent(run) || this.#mode !== 'offline') return undefined;
    this.#hasArrived = true;
    this.#refusedInARow = 0;
    this.#mode = 'http';
    const poll = new Poll(cursor);
    this.#poll = poll;
    poll.renew = () => this.#renewSession(poll);
    this._tell('connect', []);
    this.#changeTransport('http', reason);
    this.#greet(session);
    if (this.#poll !== poll) return undefined;
    this.#watchExpiry(session);
    for (const notification of unread.reverse()) this.#take('notification:new', [notification]);
    for (const room of this.#rooms.values()) {
      room.isRejoining = false;
      this.#rooms.fill(room);
    }
    this.#pumpAll();
    this.#keepPolling(poll, isBehind);
    this.#http.learnPaths();
    return undefined;
  }

  /**
   * Polls until there is another way. `isBehind` means that what is not stored was told already, or was missed.
   * @param {Poll} poll
   * @param {boolean} isBehind
   */
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
        return this.#httpLost(error instanceof Error ? error.message : String(error));
      }
      if (this.#poll !== poll) return;
      const { status, json } = answer;
      if (status === 200) {
        poll.cursor = json.cursor;
        this.#refusedInARow = 0;
        this.#delivered.unkeyed.clear();
        for (const { event, payload } of json.events) {
          const isMine = !event.startsWith('chat:') || payload?.roomId === undefined || this.#rooms.has(payload.roomId);
          if (isMine && (!isBehind || STORED_EVENTS.has(event))) this.#take(event, [payload], isBehind);
        }
        if (json.events.length === 0) isBehind = false;
        // A server that is about to stop answers at once. Pauses keep this page from asking without end.
        empties = json.events.length === 0 && wait > 0 && Date.now() - began < 500 ? empties + 1 : 0;
        if (empties > 0) await this.#sleepShort(this.#pause(empties));
      } else if (status === 410) {
        poll.cursor = json.cursor;
        isBehind = false;
        this.#resync(json);
      } else if (isAboutToken(json.error)) {
        if (!this.#authFailed(json.error, this.#http.tokenOf(json.error))) return;
        await this.#sleepShort(50);
      } else if (status === 403 || status === 404) await this.#findLostRooms(json.error);
      else await this.#sleepShort(json.error.retryAfterMs ?? this.#pause(1));
    }
  }

  /**
   * @param {number} ms
   * @returns {Promise<void>}
   */
  #sleepShort(ms) {
    return new Promise((resolve) => { setTimeout(resolve, ms); });
  }

  /**
   * One of the rooms may not be entered any more, but the answer does not say which.
   * @param {RequestFailure} error
   */
  async #findLostRooms(error) {
    let found = 0;
    for (const room of [...this.#rooms.values()]) {
      try {
        const answer = await this.#http.call('chat:history', { roomId: room.id, limit: 1 });
        if (answer.ok || RETRYABLE.has(answer.error.code)) continue;
        found += 1;
        this.#rooms.failed(room, answer.error, () => {});
      } catch {
        return;
      }
    }
    if (found === 0) await this.#sleepShort(error.retryAfterMs ?? this.#pause(1));
  }

  /** @param {string} reason */
  #httpLost(reason) {
    if (this.#mode !== 'http') return;
    this.#anchor = this.#poll?.cursor;
    this.#poll?.end();
    this.#poll = undefined;
    this.#mode = 'offline';
    clearTimeout(this.#expiryTimer);
    this.#holdAll();
    this._tell('disconnect', ['transport error']);
    this.#changeTransport('offline', reason);
    // The next try comes soon, but not for all clients at the same moment.
    this.#failures = 0;
    setTimeout(() => this.#wakeUp?.(), Math.random() * this.#options.retryMinMs);
  }

  /** @param {Pick<Session, 'expiresAt' | 'serverTime'>} session */
  #watchExpiry({ expiresAt, serverTime }) {
    clearTimeout(this.#expiryTimer);
    if (!expiresAt) return;
    const ms = Math.max(0, expiresAt - serverTime - EXPIRY_NOTICE_MS);
    // A timer lasts no more than 24 days.
    if (ms < 2 ** 31) this.#expiryTimer = setTimeout(() => { this.#expiring({ expiresAt }); }, ms);
  }

  /** @param {Poll} poll */
  async #renewSession(poll) {
    try {
      const { status, json } = await this.#http.request('GET', '/session');
      if (this.#poll !== poll || status !== 200) return;
      this.#greet(/** @type {any} */ (without(json, 'ok')));
      this.#watchExpiry(json);
    } catch {
      // The poll notices what is wrong.
    }
  }

  /**
   * @param {string} reason
   * @param {string} why
   */
  #halt(reason, why) {
    if (!this.#isRunning) return;
    const wasConnected = this.connected;
    this.#isRunning = false;
    this.#run += 1;
    globalThis.removeEventListener?.('online', this.#wake);
    globalThis.removeEventListener?.('storage', this.#outbox.noteOthers);
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

/**
 * Who a token says it is. Only the server checks that; here it keeps the outbox of one user apart from that of another.
 * @param {string | undefined} token
 */
function userOf(token) {
  try {
    const text = atob((token ?? '').split('.')[1].replace(/-/g, '+').replace(/_/g, '/'));
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (char) => char.charCodeAt(0))));
    const user = claims.userId ?? claims.id ?? claims.sub;
    return isId(user) ? String(user) : undefined;
  } catch {
    return undefined;
  }
}

/** @param {string | undefined} url */
function baseOf(url) {
  try {
    const { protocol, origin, pathname } = new URL(/** @type {string} */ (url));
    if (/^https?:$/.test(protocol)) return origin + pathname.replace(/\/+$/, '');
  } catch {
    // It is told below.
  }
  throw new TypeError('url must be the address of the server, for example https://rt.example.org or https://example.org/rt');
}

/**
 * @template {object} T
 * @param {T} options
 * @returns {T}
 */
function withoutUndefined(options) {
  return /** @type {T} */ (Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)));
}

/**
 * An acknowledgement that is called in time, as socket.io-client has it: with an error first. The request itself is not given up.
 * @param {(error: Error | null, answer?: any) => void} ack
 * @param {number} ms
 */
function limited(ack, ms) {
  let isOver = false;
  const timer = setTimeout(() => {
    isOver = true;
    ack(new Error('operation has timed out'));
  }, ms);
  return (/** @type {any} */ answer) => {
    if (isOver) return;
    clearTimeout(timer);
    ack(null, answer);
  };
}

/**
 * What the server has said to a connection that it refused: in the answer or, about a token, as JSON text in the message.
 * @param {any} error
 * @returns {RequestFailure | undefined}
 */
function errorIn({ message, context }) {
  const texts = [() => JSON.parse(message), () => JSON.parse(context.responseText).error];
  for (const read of texts) {
    try {
      const error = read();
      if (typeof error?.code === 'string') return error;
    } catch {
      // The text comes from the library, or from a proxy.
    }
  }
  return undefined;
}

/**
 * Whether a request is to read all notifications, and does not say up to which.
 * @param {string} event
 * @param {any} payload
 */
function isAll(event, payload) {
  return event === 'notification:read' && isObject(payload) && payload.all === true && (payload.upTo ?? null) === null;
}

/** @param {RequestFailure | undefined} error */
function isAboutToken(error) {
  return error !== undefined && ABOUT_TOKEN.has(error.code);
}

/**
 * What a last word of the server means for the next try.
 * @param {RequestFailure | undefined} error
 * @returns {End}
 */
function outcomeOf(error) {
  if (error?.code === 'realtime_disabled') return { isDisabled: true, reason: error.code };
  if (error && isAboutToken(error)) return { error, reason: error.code };
  return { isDisabled: true, reason: error?.code, retryAfterMs: error?.retryAfterMs };
}

/**
 * Connects. The socket has `on`, `once`, `off`, `emit`, `emitWithAck`, `timeout`, `volatile`, `connected`, `connect` and
 * `disconnect` as that of socket.io-client has them, and also the events `transport`, `resync` and `outbox`.
 * @param {ConnectOptions} options
 */
function connect(options) {
  return new AcademySocket(options);
}

export { RequestError, connect };
