// academy-rt-client: the client of academy-rt on the socket.io-client that is installed beside it.

import { io } from 'socket.io-client';
import { RequestError, connect as connectWith } from './academy-rt.js';

/**
 * Connects, as `connect` of the module that the server carries; `io` is that of socket.io-client.
 * @param {any} options
 */
function connect(options) {
  return connectWith({ io, ...options });
}

export { RequestError, connect };
