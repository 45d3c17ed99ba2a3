// broadcast-service.js against broadcast-service.d.ts. The tests give the script a name without a .d.ts beside it.
import type * as declared from '../../../assets/sdk/broadcast-service.js';
import type * as made from './broadcast-service-as-made.js';
import { none, type Misdeclared, type Only, type Unusable } from './compare.js';

none<Only<typeof made, typeof declared>>();
none<Unusable<typeof made, typeof declared>>();

none<Only<typeof made.broadcastService, declared.BroadcastService>>();
none<Unusable<typeof made.broadcastService, declared.BroadcastService>>();
none<Misdeclared<typeof made.broadcastService, declared.BroadcastService>>();
type Answer = Awaited<ReturnType<typeof made.broadcastService.toAll>>;
none<Only<Answer, declared.BroadcastAnswer>>();

none<Only<made.BroadcastError, declared.BroadcastError>>();
none<Unusable<made.BroadcastError, declared.BroadcastError>>();
none<Misdeclared<made.BroadcastError, declared.BroadcastError>>();
none<Exclude<keyof ConstructorParameters<typeof declared.BroadcastError>, keyof ConstructorParameters<typeof made.BroadcastError>>>();
declare const create: new (...args: ConstructorParameters<typeof declared.BroadcastError>) => made.BroadcastError;
export const constructed: typeof made.BroadcastError extends typeof create ? true : never = true;

type Required<T> = { [K in keyof T]-?: NonNullable<T[K]> };
type Declared = declared.BroadcastOptions;
none<Only<made.Options, Declared>>();
none<Unusable<Required<made.Options>, { [K in keyof Declared]-?: NonNullable<Declared[K]> }>>();
none<Unusable<{ [K in keyof Declared]-?: NonNullable<Declared[K]> }, Required<made.Options>>>();
none<Only<made.Call, declared.CallOptions>>();
