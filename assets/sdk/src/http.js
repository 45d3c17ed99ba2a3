// The HTTP API: every event as its route, one request at a time, and the place of a long poll.

/** @import { Answer, ClientEvents, ErrorCode, RequestFailure } from '../academy-rt.js' */

/** After these errors the same request is made again. */
export const RETRYABLE = new Set(['unavailable', 'rate_limited']);
/** @param {unknown} id */
const enc = (id) => encodeURIComponent(String(id));
/**
 * A copy of an object without some of its properties.
 * @param {object} payload
 * @param {...string} names
 * @returns {Record<string, any>}
 */
export const without = (payload, ...names) => Object.fromEntries(Object.entries(payload).filter(([name]) => !names.includes(name)));
/**
 * @param {any} payload
 * @param {string} rest
 */
const roomPath = (payload, rest) => `/rooms/${enc(payload.roomId)}/${rest}`;

/**
 * Each event as its HTTP route: method, path, and body.
 * @type {Record<keyof ClientEvents extends infer E ? E extends 'auth:refresh' ? never : E : never, (payload: any) => [method: string, path: string, body?: any]>}
 */
export const ROUTES = {
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
export const isId = (value) => typeof value === 'string' || typeof value === 'number';
/**
 * What two ids must share to be the same, here as on the server: 7 and "7", and an accent as one character or as two.
 * @param {unknown} id
 */
export const idKey = (id) => String(id).normalize('NFC');
/**
 * @param {unknown} value
 * @returns {value is Record<string, any>}
 */
export const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
/**
 * The payload as an object: that of some events may be the id of the room alone.
 * @param {string} event
 * @param {any} payload
 */
export const asObject = (event, payload) => (BARE_ROOM.has(event) && isId(payload) ? { roomId: payload } : payload ?? {});

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
export function refused(code, message, field) {
  return { ok: false, error: { code, message, ...(field ? { field } : {}) } };
}

/** @param {string} path */
const trimmed = (path) => path.replace(/\/+$/, '');

/** Something between this page and the server has failed: nothing is known of the request. */
export class Unreachable extends Error {}

/** Something else is at the address of the server. */
export class NotOurs extends Unreachable {}

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
export class HttpApi {
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
export class Poll {
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
