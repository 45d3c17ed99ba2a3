// The declared types of the SDK are those of its JavaScript: checked by TypeScript, in both directions.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { BroadcastError, broadcastService, createBroadcastService } from '../../assets/sdk/broadcast-service.js';
import { edited, errorsOf, membersOf, program, root, textOf } from './compiler.mjs';

const modules = readdirSync(join(root, 'assets/sdk/src')).map((name) => `assets/sdk/src/${name}`);
const CLIENT = 'assets/sdk/academy-rt.d.ts';
const SERVICE = 'assets/sdk/broadcast-service';
/** The service under a name that has no .d.ts beside it: its types are what its JavaScript says. */
const AS_MADE = 'tests/sdk/types/broadcast-service-as-made.js';

const client = (texts = {}) => errorsOf(program(['tests/sdk/types/client.ts', ...modules], { texts }));
const service = ({ js = textOf(`${SERVICE}.js`), types = textOf(`${SERVICE}.d.ts`) } = {}) => (
  errorsOf(program(['tests/sdk/types/service.ts'], { isNode: true, texts: { [AS_MADE]: js, [`${SERVICE}.d.ts`]: types } }))
);

test('the modules of the client are free of type errors, and academy-rt.d.ts declares what they are', () => {
  assert.deepEqual(client(), []);
});

test('the broadcast service is free of type errors, and broadcast-service.d.ts declares what it is', () => {
  assert.deepEqual(service(), []);
});

test('the methods of both broadcast services are the declared ones', () => {
  const declared = membersOf(`${SERVICE}.d.ts`, 'BroadcastService').sort();
  assert.ok(declared.length >= 6, declared.join());
  assert.deepEqual(Object.keys(broadcastService).sort(), declared);
  assert.deepEqual(Object.keys(createBroadcastService({ url: 'http://127.0.0.1:1', token: 'x' })).sort(), declared);
  const own = membersOf(`${SERVICE}.d.ts`, 'BroadcastError').filter((name) => !(name in Error.prototype) && !['stack', 'cause'].includes(name)).sort();
  assert.deepEqual(Object.keys(new BroadcastError('code', 'message')).filter((name) => name !== 'name').sort(), own);
});

test('what the modules tell the page is declared', () => {
  const declared = membersOf(CLIENT, 'ServerEvents');
  const told = new Set(modules.flatMap((path) => [...textOf(path).matchAll(/\b(?:_tell|tell)\('([^']+)'/g)].map(([, event]) => event)));
  assert.ok(told.has('transport') && told.has('resync') && told.has('outbox') && told.has('request:error'), [...told].join());
  assert.deepEqual([...told].filter((event) => !declared.includes(event)), []);
});

// Each of these mistakes must be noticed, and the error must name it.
describe('a mistake is noticed:', () => {
  const inClient = [
    ['a member renamed in the modules', 'assets/sdk/src/connection.js', 'get pending()', 'get waiting()', /"waiting"|"pending"/],
    ['a member renamed in the types', CLIENT, 'readonly pending: number', 'readonly waiting: number', /"waiting"|"pending"/],
    ['a method removed from the modules', 'assets/sdk/src/emitter.js', '  prependAny(listener)', '  prependAll(listener)', /"prependA(ny|ll)"/],
    ['a member of another type', CLIENT, 'readonly pending: number', 'readonly pending: string', /"pending"/],
    ['a wider type in the types', CLIENT, 'readonly transport: Transport', "readonly transport: Transport | 'smoke'", /"transport"/],
    ['a result that the types leave out', CLIENT, '  close(): this;', '  close(): void;', /"close"/],
    ['a parameter that the modules do not take', CLIENT, 'hasListeners(event: string)', 'hasListeners(event: string | number)', /"hasListeners"/],
    ['an option renamed in the modules', 'assets/sdk/src/connection.js', 'retryMaxMs', 'retryLongestMs', /"retryMaxMs"|"retryLongestMs"/],
    ['an option renamed in the types', CLIENT, 'pollWaitSeconds?', 'pollSeconds?', /"pollSeconds"|"pollWaitSeconds"/],
    ['an option that the modules do not read', CLIENT, '  autoConnect?: boolean;', '  autoConnect?: boolean;\n  compress?: boolean;', /"compress"/],
    ['an option of another type', CLIENT, 'outboxLimit?: number', 'outboxLimit?: string', /"outboxLimit"/],
    ['an event without a route', CLIENT, "  'chat:rooms':", "  'chat:all-rooms':", /chat:(all-)?rooms/],
    ['an event that is told with something else', CLIENT, 'outbox: (state: { pending: 0 })', 'outbox: (state: { waiting: 0 })', /'pending' does not exist/],
    ['an export renamed', 'assets/sdk/src/index.js', 'function connect(', 'function open(', /"connect"|"open"/],
  ];
  for (const [mistake, path, from, to, expected] of inClient) {
    test(mistake, () => {
      // An option is read in more than one module.
      const texts = Object.fromEntries((from === 'retryMaxMs' ? modules.filter((one) => textOf(one).includes(from)) : [path]).map((one) => [one, edited(one, from, to)]));
      const errors = client(texts);
      assert.ok(errors.some((error) => expected.test(error)), `not noticed: ${JSON.stringify(errors)}`);
    });
  }

  const inService = [
    ['a method of the service renamed in its script', 'js', 'toRoom: (', 'toRooms: (', /"toRooms?"/],
    ['a method of the service renamed in its types', 'types', 'toRole(role', 'toRoles(role', /"toRoles?"/],
    ['a parameter of the service that is wider in its types', 'types', 'toUser(userId: Id,', 'toUser(userId: Id | Id[],', /"toUser"/],
    ['an option of the service renamed in its script', 'js', 'timeoutMs', 'patienceMs', /"(timeout|patience)Ms"/],
    ['an option of the service renamed in its types', 'types', 'onError?', 'onFailure?', /"on(Error|Failure)"/],
    ['a property of its error renamed in the script', 'js', 'this.retryable = retryable', 'this.isRetryable = retryable', /retryable/i],
    ['a property of its error of another type', 'types', 'readonly retryable: boolean', 'readonly retryable: string', /"retryable"/],
  ];
  for (const [mistake, kind, from, to, expected] of inService) {
    test(mistake, () => {
      const errors = service({ [kind]: edited(`${SERVICE}.${kind === 'js' ? 'js' : 'd.ts'}`, from, to) });
      assert.ok(errors.some((error) => expected.test(error)), `not noticed: ${JSON.stringify(errors)}`);
    });
  }
});
