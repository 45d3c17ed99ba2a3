// What waits for the server: requests in lanes, their keys, and the copy in the storage of the page.

import { asObject, idKey, isId, isObject } from './http.js';

/** @import { Storage } from './storage.js' */

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
export const MAX_BATCH = 500;
/** A batch ends at this many characters. */
const MAX_BATCH_CHARS = 256 * 1024;
/** The server knows a key for 24 hours: what may have been stored before that cannot be sent again without a double. */
const KEY_LASTS_MS = 23 * 60 * 60 * 1_000;
/** After this many broken connections in a row, a request that was under way each time goes by HTTP, which says what is wrong. */
export const MAX_BREAKS = 3;
/** So long a request waits for another page that is sending. */
const CLAIM_MS = 15_000;
/** The message of the error `outbox_expired`. */
export const EXPIRED = 'this may have been stored more than a day ago, and could be there twice if it were sent again; look, and send it anew if it is not there';

/** This page among those of one storage. */
const PAGE = uuid();

/** What waits for the server, in lanes. Each lane is worked off in order, independently of the others. */
export class Outbox {
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
    const counted = `${this.#last}.${PAGE}`;
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
export function isStale({ event, triedAt }) {
  return (event === 'chat:message' || event === 'progress:sync') && triedAt !== undefined && Date.now() - triedAt > KEY_LASTS_MS;
}

/**
 * What is sent together: consecutive reports go as one batch, anything else goes by itself.
 * @param {Lane} lane
 */
export function batchOf(lane) {
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
export function laneOf(event, payload) {
  const { roomId } = asObject(event, isObject(payload) || isId(payload) ? payload : {});
  if (/^(chat|presence):/.test(event) && isId(roomId)) return `chat ${idKey(roomId)}`;
  return event.split(':')[0];
}

export function uuid() {
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
export function keyed(event, payload) {
  /**
   * @param {any} object
   * @param {string} name
   */
  const give = (object, name) => (isObject(object) && (object[name] === undefined || object[name] === null) ? { ...object, [name]: uuid() } : object);
  if (event === 'chat:message') return give(payload, 'clientId');
  if (event === 'progress:sync') return Array.isArray(payload) ? payload.map((one) => give(one, 'syncId')) : give(payload, 'syncId');
  return payload;
}
