// The broadcast service of academy-rt for back ends on Node.js 18 or newer: events and notifications by HTTP, with a service
// token. It has no dependency. Each call has one Idempotency-Key, so that a call that is tried again is done once.
//
//   import { createBroadcastService } from './broadcast-service.js';
//   const broadcastService = createBroadcastService({ url: 'https://rt.example.org', token: process.env.RT_TOKEN });
//   await broadcastService.toUser(7, 'notification:new', { title: 'Reminder', message: 'Lesson at 10' });
import { randomUUID } from 'node:crypto';

/** @typedef {string | number} Id */
/** @typedef {'admin' | 'hr' | 'coach' | 'learner' | (string & {})} Role */
/** @typedef {{ user: Id } | { users: Id[] } | { role: Role } | { all: true }} Target */
/** @typedef {{ idempotencyKey?: string, signal?: AbortSignal }} Call */
/** @typedef {{ ok: true, sockets: number, id?: number, duplicate?: true }} Acknowledged */
/** @typedef {'first' | 'token_expired'} Reason */
/** @typedef {{ answer: Acknowledged, error?: undefined } | { answer?: undefined, error: BroadcastError }} Outcome */
/**
 * @typedef {object} Options
 * @property {string | undefined} url
 * @property {string} [token]
 * @property {(reason: Reason) => string | Promise<string>} [getToken]
 * @property {typeof globalThis.fetch} [fetch]
 * @property {number} [timeoutMs]
 * @property {number} [retries]
 * @property {(error: BroadcastError) => void} [onError]
 */
/** @typedef {ReturnType<typeof checked>} Settings */

const DEFAULTS = { timeoutMs: 10_000, retries: 4 };
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;
// A server that asks for a longer rest is not waited for: the caller is told.
const LONGEST_REST_MS = 30_000;

/** Why a broadcast was not acknowledged. It never holds the token. */
export class BroadcastError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{ status?: number, field?: string, retryable?: boolean, retryAfterMs?: number, idempotencyKey?: string }} [details]
   */
  constructor(code, message, { status, field, retryable = false, retryAfterMs, idempotencyKey } = {}) {
    super(message);
    this.name = 'BroadcastError';
    this.code = code;
    this.status = status;
    this.field = field;
    this.retryable = retryable;
    this.retryAfterMs = retryAfterMs;
    this.idempotencyKey = idempotencyKey;
  }
}

/**
 * A broadcast service for the server at `url`, with a service token whose scope is `broadcast notify`.
 * @param {Options} options
 */
export function createBroadcastService(options) {
  const settings = checked(options);
  /** @type {(path: string, body: object, call?: Call) => Promise<Acknowledged>} */
  const send = (path, body, { idempotencyKey = randomUUID(), signal } = {}) => {
    const call = attempt(settings, path, body, idempotencyKey, signal);
    // With an `onError` nobody has to await: a failure is told there, and ends no process.
    if (settings.onError) call.catch(settings.onError);
    return call;
  };
  /** @type {(target: object, event: string, payload: unknown, call?: Call) => Promise<Acknowledged>} */
  const broadcast = (target, event, payload, call) => send('/api/v1/broadcast', { target, event, payload }, call);
  return Object.freeze({
    /** @type {(userId: Id, event: string, payload?: unknown, call?: Call) => Promise<Acknowledged>} */
    toUser: (userId, event, payload, call) => broadcast({ user: userId }, event, payload, call),
    /** @type {(userIds: Id[], event: string, payload?: unknown, call?: Call) => Promise<Acknowledged>} */
    toUsers: (userIds, event, payload, call) => broadcast({ users: userIds }, event, payload, call),
    /** @type {(role: Role, event: string, payload?: unknown, call?: Call) => Promise<Acknowledged>} */
    toRole: (role, event, payload, call) => broadcast({ role }, event, payload, call),
    /** @type {(room: string, event: string, payload?: unknown, call?: Call) => Promise<Acknowledged>} */
    toRoom: (room, event, payload, call) => broadcast({ room }, event, payload, call),
    /** @type {(event: string, payload?: unknown, call?: Call) => Promise<Acknowledged>} */
    toAll: (event, payload, call) => broadcast({ all: true }, event, payload, call),
    /** @type {(target: Target, notification: { title: string, message: string }, call?: Call) => Promise<Acknowledged>} */
    notify: (target, notification, call) => send('/api/v1/notifications', { ...notification, target }, call),
  });
}

/** @type {ReturnType<typeof createBroadcastService> | undefined} */
let fromEnvironment;

/**
 * The service that BROADCAST_SERVICE_URL and BROADCAST_SERVICE_TOKEN describe. Failures are written to standard error, too.
 * @type {ReturnType<typeof createBroadcastService>}
 */
export const broadcastService = Object.freeze(/** @type {any} */ (Object.fromEntries(
  ['toUser', 'toUsers', 'toRole', 'toRoom', 'toAll', 'notify'].map((method) => [method, (/** @type {any[]} */ ...args) => {
    fromEnvironment ??= createBroadcastService({
      url: process.env.BROADCAST_SERVICE_URL,
      token: process.env.BROADCAST_SERVICE_TOKEN,
      onError: (error) => console.error(`academy-rt: a broadcast was not acknowledged: ${error.code}: ${error.message}`),
    });
    return /** @type {any} */ (fromEnvironment)[method](...args);
  }]),
)));

/** @param {Partial<Options>} [options] */
function checked({ url, token, getToken, fetch = globalThis.fetch, timeoutMs, retries, onError } = {}) {
  let base;
  try {
    base = new URL(/** @type {string} */ (url));
  } catch {
    throw new TypeError('url must be the address of the server, for example https://rt.example.org');
  }
  if (!/^https?:$/.test(base.protocol) || base.username || base.password) {
    throw new TypeError('url must begin with https:// or http:// and hold no name or password');
  }
  if (typeof token !== 'string' && typeof getToken !== 'function') {
    throw new TypeError('give a service token as token, or a function that gives one as getToken');
  }
  if (typeof fetch !== 'function') throw new TypeError('there is no fetch here: use Node.js 18 or newer, or give one');
  return {
    base: base.href.replace(/\/+$/, ''),
    token: getToken ?? (() => /** @type {string} */ (token)),
    renews: typeof getToken === 'function',
    fetch,
    timeoutMs: positive(timeoutMs, 'timeoutMs', DEFAULTS.timeoutMs),
    retries: positive(retries, 'retries', DEFAULTS.retries, 0),
    onError,
  };
}

/**
 * @param {number | undefined} value
 * @param {string} name
 * @param {number} fallback
 */
function positive(value, name, fallback, least = 1) {
  if (value === undefined) return fallback;
  if (!Number.isInteger(value) || value < least) throw new TypeError(`${name} must be a whole number, ${least} or more`);
  return value;
}

/**
 * @param {Settings} settings
 * @param {string} path
 * @param {object} body
 * @param {string} idempotencyKey
 * @param {AbortSignal} [signal]
 * @returns {Promise<Acknowledged>}
 */
async function attempt(settings, path, body, idempotencyKey, signal) {
  let text;
  try {
    text = JSON.stringify(body);
  } catch {
    throw new BroadcastError('invalid_payload', 'the payload cannot be written as JSON', { field: 'payload' });
  }
  /** @type {Reason} */
  let reason = 'first';
  for (let failures = 0; ; failures += 1) {
    const { answer, error } = await once(settings, path, text, idempotencyKey, signal, reason);
    if (answer) return answer;
    error.idempotencyKey = idempotencyKey;
    const isRenewable = error.code === 'token_expired' && settings.renews && reason !== 'token_expired';
    const pause = error.retryAfterMs ?? 0;
    if (signal?.aborted || failures >= settings.retries || pause > LONGEST_REST_MS) throw error;
    if (isRenewable) {
      reason = 'token_expired';
      continue;
    }
    if (!error.retryable) throw error;
    const backoff = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures);
    // Jitter: back ends that have failed together do not come back together.
    await rest(pause + backoff * (0.5 + Math.random() / 2), signal);
  }
}

/**
 * Makes one request. Gives `{ answer }` or `{ error }`.
 * @param {Settings} settings
 * @param {string} path
 * @param {string} text
 * @param {string} idempotencyKey
 * @param {AbortSignal | undefined} signal
 * @param {Reason} reason
 * @returns {Promise<Outcome>}
 */
async function once(settings, path, text, idempotencyKey, signal, reason) {
  const token = await tokenOf(settings, reason);
  if (token instanceof BroadcastError) return { error: token };
  const ends = new AbortController();
  const stop = () => ends.abort();
  const timer = setTimeout(stop, settings.timeoutMs);
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted) stop();
  try {
    const response = await settings.fetch(`${settings.base}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'idempotency-key': idempotencyKey },
      body: text,
      signal: ends.signal,
      // The token goes to the server that was named, and to none that this server names.
      redirect: 'error',
    });
    return read(response.status, response.headers.get('retry-after'), await response.text());
  } catch (failure) {
    const cause = /** @type {any} */ (failure);
    if (signal?.aborted) return { error: new BroadcastError('aborted', 'the call was given up; it may have been done', { retryable: true }) };
    const why = ends.signal.aborted ? `no answer within ${settings.timeoutMs} ms` : (cause?.cause?.code ?? cause?.code ?? 'the connection failed');
    return { error: new BroadcastError('unreachable', `the server cannot be reached: ${why}`, { retryable: true }) };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
  }
}

/**
 * @param {Settings} settings
 * @param {Reason} reason
 */
async function tokenOf(settings, reason) {
  let token;
  try {
    token = await settings.token(reason);
  } catch {
    // Its message may contain secrets of the token's source, so it is not passed on.
    return new BroadcastError('token_missing', 'getToken gave no token: it failed', { retryable: true });
  }
  const bare = typeof token === 'string' ? token.replace(/^Bearer /i, '').trim() : '';
  // fetch would quote a header that it refuses, and the token with it.
  if (!/^[\x21-\x7e]+$/.test(bare)) return new BroadcastError('token_malformed', 'the service token is empty or has characters that none has');
  return bare;
}

/**
 * @param {number} status
 * @param {string | null} retryAfter
 * @param {string} text
 * @returns {Outcome}
 */
function read(status, retryAfter, text) {
  let json;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  if (status >= 200 && status < 300 && json?.ok === true) return { answer: json };
  const told = json?.error ?? {};
  const retryable = status === 408 || status === 429 || status >= 500;
  return {
    error: new BroadcastError(
      told.code ?? (retryable ? 'unavailable' : 'unexpected_answer'),
      told.message ?? `something that is not academy-rt has answered with status ${status}; look at url and at the proxy`,
      { status, field: told.field, retryable, retryAfterMs: told.retryAfterMs ?? waitOf(retryAfter) },
    ),
  };
}

/**
 * Reads `Retry-After`: seconds, or a date.
 * @param {string | null} header
 */
function waitOf(header) {
  if (!header) return undefined;
  const ms = /^\d+$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}

/**
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
function rest(ms, signal) {
  return new Promise((resolve) => {
    /** @type {() => void} */
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
  });
}
