// The client of academy-rt for browsers and Node.js 20 or newer: a socket like that of socket.io-client that also works where
// WebSocket does not. It has no dependency: the page hands in `io` of socket.io-client.
//
//   import { io } from 'socket.io-client';
//   import { connect } from 'https://rt.example.org/sdk/academy-rt.js';
//   const socket = connect({ io, url: 'https://rt.example.org', getToken: () => session.token(), storage: localStorage });
//
// The socket keeps these promises:
// - It uses Socket.IO where that is possible, else HTTP and a long poll, and it returns to Socket.IO by itself. The event
//   `transport` reports each change.
// - What a page emits waits in an outbox until the server has acknowledged it, in order within a room and within the progress.
//   It is stored once, whatever breaks on the way (`clientId`, `syncId`). The outbox is bounded; a request beyond it is refused.
// - A room that was joined is joined again, and what was missed comes as events, in order and without doubles. A page joins a room
//   to hear it; who may enter a room can post into it without a join.
// - What the server does not store (typing, presence, events of one's own) reaches those who are connected at that moment.

import { AcademySocket } from './connection.js';

export { RequestError } from './error.js';

/** @import { ConnectOptions } from '../academy-rt.js' */

/**
 * Connects. The socket has `on`, `once`, `off`, `emit`, `emitWithAck`, `timeout`, `volatile`, `connected`, `connect` and
 * `disconnect` as that of socket.io-client has them, and also the events `transport`, `resync` and `outbox`.
 * @param {ConnectOptions} options
 */
export function connect(options) {
  return new AcademySocket(options);
}
