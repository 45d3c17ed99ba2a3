// What a page has been told already, so that nothing is told twice and nothing after what overtook it.

import { idKey } from './http.js';

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
export class Delivered {
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
