// The rooms that a page has joined: they are joined again after a gap, and what was missed comes in order and once.

import { RETRYABLE, idKey, isObject, without } from './http.js';

/**
 * @import { Id, RequestFailure } from '../academy-rt.js'
 * @import { Delivered } from './delivered.js'
 * @import { ArgsOf } from './emitter.js'
 */

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

export class Rooms {
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
