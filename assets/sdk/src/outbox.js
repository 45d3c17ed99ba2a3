// What waits for the server: requests in lanes, their keys, and the copy in the storage of the page.

import { asObject, isId, isObject } from './http.js';

/** @import { OutboxStorage } from '../academy-rt.js' */

/**
 * A request that waits.
 * @typedef {object} Item
 * @property {string} event
 * @property {any[]} args
 * @property {((answer: any) => void)} [ack]
 * @property {string} lane
 * @property {number} chars How much it counts for the limit.
 * @property {number} breaks How many connections in a row broke while it was under way.
 * @property {number} stamp When it was added; it rises with each item, and 0 means not yet.
 * @property {string} [entry] Its name in the storage.
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
/** The message of the error `outbox_expired`. */
export const EXPIRED = 'this may have been stored more than a day ago, and could be there twice if it were sent again; look, and send it anew if it is not there';

/** What waits for the server, in lanes. Each lane is worked off in order, independently of the others. */
export class Outbox {
  /** @type {Map<string, Lane>} */
  lanes = new Map();
  count = 0;
  chars = 0;
  #options;
  #lastStamp = 0;
  /**
   * The user whose requests these are.
   * @type {string | undefined}
   */
  user;

  /** @param {{ outboxLimit: number, outboxBytes: number, storage?: OutboxStorage, storagePrefix: string, onUnstored: (item: Item) => void }} options */
  constructor(options) {
    this.#options = options;
  }

  /**
   * Takes an item, or says why not.
   * @param {Item} item
   */
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

  /** @param {Item} item */
  #put(item) {
    /** @type {Lane} */
    const lane = this.lanes.get(item.lane) ?? { name: item.lane, items: [], isBusy: false, timer: undefined, most: MAX_BATCH, failures: 0 };
    this.lanes.set(item.lane, lane);
    item.stamp ||= this.#stamp();
    // What an earlier page has left goes before what this page has added.
    const behind = item.isRestored ? lane.items.findIndex((one) => one.stamp > item.stamp && !one.isSent) : -1;
    if (behind < 0) lane.items.push(item);
    else lane.items.splice(behind, 0, item);
    this.count += 1;
    this.chars += item.chars;
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
    this.#forget(item);
  }

  #stamp() {
    this.#lastStamp = Math.max(Date.now() * 1_000, this.#lastStamp + 1);
    return this.#lastStamp;
  }

  /** @param {string} user */
  #prefix(user) {
    return `${this.#options.storagePrefix}:outbox:${encodeURIComponent(user)}:`;
  }

  /**
   * Each item has an entry of its own, so that two pages of one user do not overwrite each other.
   * @param {Item} item
   */
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

  /** @param {Item} item */
  #forget(item) {
    if (!item.entry) return;
    try {
      this.#options.storage?.removeItem(item.entry);
    } catch {
      // Another page will send it again, and the server will know it by its key.
    }
  }

  /**
   * The user is known. What they have left in the storage comes back, and what waits is kept for them.
   * @param {string} user
   */
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

  /** @param {string} user */
  #entries(user) {
    const { storage } = this.#options;
    if (!storage) return [];
    const prefix = this.#prefix(user);
    /** @type {string[]} */
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

  /**
   * @param {string} entry
   * @param {string} user
   * @returns {Item | undefined}
   */
  #read(entry, user) {
    try {
      const text = this.#options.storage?.getItem(entry) ?? '';
      const { event, payload, triedAt } = JSON.parse(text);
      const stamp = Number(entry.slice(this.#prefix(user).length).split(':')[0]);
      if (!DURABLE.has(event) || !Number.isFinite(stamp)) return undefined;
      return { event, args: [payload], lane: laneOf(event, payload), chars: text.length, entry, stamp, triedAt, isRestored: true, breaks: 0 };
    } catch {
      return undefined;
    }
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
  if (/^(chat|presence):/.test(event) && isId(roomId)) return `chat ${roomId}`;
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
