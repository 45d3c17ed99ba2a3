// The modules of the client against academy-rt.d.ts.
import type * as declared from '../../../assets/sdk/academy-rt.js';
import type { AcademySocket as MadeSocket, Settings } from '../../../assets/sdk/src/connection.js';
import type * as made from '../../../assets/sdk/src/index.js';
import type { ROUTES } from '../../../assets/sdk/src/http.js';
import { none, type Misdeclared, type Only, type Unusable } from './compare.js';

// What the module exports.
none<Only<typeof made, typeof declared>>();
// `connect` is declared with the events of a back end, which JavaScript does not know.
none<Exclude<Unusable<typeof made, typeof declared>, 'connect'>>();
declare const declaredOptions: declared.ConnectOptions;
declare const connect: typeof made.connect;
export const connected: declared.AcademySocket = connect(declaredOptions);

// The socket. `timeout` gives the whole socket, of which two members are declared.
type Declared = declared.AcademySocket;
none<Only<MadeSocket, Declared>>();
none<Unusable<MadeSocket, Declared>>();
none<Exclude<Misdeclared<MadeSocket, Declared>, 'timeout'>>();
none<Exclude<keyof ReturnType<Declared['timeout']>, keyof MadeSocket>>();

// The options of connect.
type Options = declared.ConnectOptions;
none<Only<Settings, Options>>();
type Required<T> = { [K in keyof T]-?: NonNullable<T[K]> };
none<Unusable<Required<Settings>, Required<Options>>>();
none<Unusable<Required<Options>, Required<Settings>>>();

// What can be emitted: each event has a route, but for the one that is of a connection.
none<Exclude<keyof typeof ROUTES | 'auth:refresh', keyof declared.ClientEvents>>();
none<Exclude<keyof declared.ClientEvents, keyof typeof ROUTES | 'auth:refresh'>>();
