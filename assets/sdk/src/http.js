// The HTTP API: every event as its route, one request at a time, and the place of a long poll.

/** @import { Answer, ClientEvents, RequestFailure } from '../academy-rt.js' */

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
  'chat:rooms': (p) => ['GET', `/rooms${queryOf(p, 'after', 'limit')}`],
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
const IN_PATH = { 'progress:history': 'lessonId', 'notification:delete': 'id', 'chat:edit': 'messageId', 'chat:delete': 'messageId' };
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
  const invalid = (field, message) => ({ code: 'invalid_payload', field, message });
  if (!ROUTES[/** @type {keyof typeof ROUTES} */ (event)]) return { code: 'invalid_payload', message: `'${event}' is not an event of this server` };
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

/**
 * A refusal, as the server words it.
 * @param {string} code
 * @param {string} message
 * @param {string} [field]
 * @returns {Answer}
 */
export function refused(code, message, field) {
  return { ok: false, error: { code, message, ...(field ? { field } : {}) } };
}

/** Something between this page and the server has failed: nothing is known of the request. */
export class Unreachable extends Error {}

/** The HTTP API. */
export class HttpApi {
  #base;
  #fetch;
  #token;
  #timeoutMs;

  /** @param {{ base: string, fetch: typeof globalThis.fetch, token: () => string | Promise<string>, timeoutMs: number }} settings */
  constructor({ base, fetch, token, timeoutMs }) {
    this.#base = base;
    this.#fetch = fetch;
    this.#token = token;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Gives `{ status, json }` of an answer of the server, or throws `Unreachable`.
   * @param {string} method
   * @param {string} path
   * @param {{ body?: any, signal?: AbortSignal, waitMs?: number }} [more]
   * @returns {Promise<{ status: number, json: any }>}
   */
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
