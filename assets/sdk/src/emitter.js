// The events of a socket, as socket.io-client has them.

/** @import { ServerEvents } from '../academy-rt.js' */

/**
 * What the listeners of an event are given.
 * @template {string} E
 * @typedef {E extends keyof ServerEvents ? Parameters<ServerEvents[E]> : any[]} ArgsOf
 */

/** @typedef {((...args: any[]) => any) & { listener?: (...args: any[]) => any }} Listener */

/** These names belong to the socket itself: a page cannot emit them. */
export const RESERVED = new Set(['connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener']);

/** The events of a socket, as socket.io-client has them. */
export class Emitter {
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
export function guarded(work) {
  try {
    work();
  } catch (error) {
    queueMicrotask(() => { throw error; });
  }
}
