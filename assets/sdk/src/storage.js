// The storage of the page, which may be missing, refuse or be full: then the outbox goes on in memory, and the page is told.

/**
 * @import { OutboxStorage, StorageState } from '../academy-rt.js'
 */

/** @param {unknown} error */
const reasonOf = (error) => (/quota/i.test(/** @type {any} */ (error)?.name) ? 'full' : 'refused');

export class Storage {
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
