// A refusal as an error, for who would rather catch than compare.

/** @import { RequestFailure } from '../academy-rt.js' */

export class RequestError extends Error {
  /**
   * @param {string} event
   * @param {RequestFailure} failure
   */
  constructor(event, { code, message, field, retryAfterMs }) {
    super(message);
    this.name = 'RequestError';
    this.event = event;
    this.code = code;
    this.field = field;
    this.retryAfterMs = retryAfterMs;
  }
}
