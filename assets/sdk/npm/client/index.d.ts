// Types of academy-rt-client.
import type { AcademySocket, ConnectOptions } from './academy-rt.js';

export * from './academy-rt.js';

type WithoutIo<T> = T extends unknown ? Omit<T, 'io'> & Partial<Pick<ConnectOptions, 'io'>> : never;
/** What `connect` takes: `io` is that of socket.io-client. */
export type ClientOptions = WithoutIo<ConnectOptions>;

export function connect<Own extends object = {}>(options: ClientOptions): AcademySocket<Own>;
