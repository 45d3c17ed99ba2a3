// The socket: one connection by Socket.IO or, where that is not possible, by HTTP, with its tokens, its requests and its return.

import { Delivered } from './delivered.js';
import { Emitter, RESERVED, guarded } from './emitter.js';
import { RequestError } from './error.js';
import { HttpApi, NotOurs, Poll, RETRYABLE, Unreachable, asObject, isId, isObject, refused, without } from './http.js';
import { EXPIRED, MAX_BATCH, MAX_BREAKS, Outbox, batchOf, isStale, keyed, laneOf } from './outbox.js';
import { Rooms } from './rooms.js';
import { Storage } from './storage.js';

/**
 * @import { GetToken, OutboxStorage, RequestFailure, Session, Transport } from '../academy-rt.js'
 * @import { Outcome } from './rooms.js'
 * @import { Item, Lane } from './outbox.js'
 */

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
export class AcademySocket extends Emitter {
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
