// The declared types of the SDK are those of its JavaScript: checked by TypeScript, in both directions.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { BroadcastError, broadcastService, createBroadcastService } from '../../assets/sdk/broadcast-service.js';
import { edited, errorsOf, membersOf, program, root, textOf, wordsOf } from './compiler.mjs';

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

test('the codes of the server are those of its source, and those of the client are made by it', () => {
  const source = textOf('src/protocol/error.rs');
  const [, rows] = /pub fn as_str\(self\)[^{]*\{([^]*?)\n {4}\}/.exec(source);
  const codes = [...rows.matchAll(/ErrorCode::\w+ => "(\w+)"/g)].map(([, code]) => code).sort();
  assert.ok(codes.length >= 19, codes.join());
  assert.deepEqual(wordsOf(CLIENT, 'ServerErrorCode'), codes);
  const [, known] = /const CODES = new Set\(`([^`]*)`/.exec(textOf('assets/sdk/src/http.js'));
  assert.deepEqual(known.trim().split(/\s+/).sort(), codes);
  const [, ofTokens] = /const ABOUT_TOKEN = new Set\(\[([^\]]*)\]/.exec(textOf('assets/sdk/src/connection.js'));
  assert.deepEqual([...ofTokens.matchAll(/'(\w+)'/g)].map(([, code]) => code).sort(), wordsOf(CLIENT, 'TokenRefusal'));
  const made = modules.flatMap((path) => [...textOf(path).matchAll(/(?:refused\(|\bcode: (?:\/\*\* @type \{const\} \*\/ \()?)'([a-z_]+)'/g)].map(([, code]) => code));
  assert.deepEqual([...new Set(made)].filter((code) => !codes.includes(code)).sort(), wordsOf(CLIENT, 'ClientErrorCode'));
});

describe('a program of a page:', () => {
  const HEAD = `import { io, type Socket } from 'socket.io-client';
    import { connect, RequestError, type AcademySocket, type ClientToServerEvents, type ErrorCode, type ServerToClientEvents } from 'https://rt.example.org/sdk/academy-rt.js';
    const stock: Socket<ServerToClientEvents, ClientToServerEvents> = io('https://rt.example.org', { path: '/ws' });
    const socket = connect<{ 'lesson:unlocked': (payload: { lessonId: number }) => void }>({ io, getToken: async () => null });
    export const used: [typeof stock, AcademySocket<any>, typeof RequestError, ErrorCode] = [stock, socket, RequestError, 'offline'];
  `;
  const wrongIn = (text) => errorsOf(program(['tests/sdk/types/written.ts'], { texts: { 'tests/sdk/types/written.ts': `${HEAD}\n${text}\n` } }));
  for (const [what, text] of [
    ['the stock client, with its answers', `export async function f() {
      stock.on('chat:message', ({ id, seq, senderName }) => { const all: [number, number, string] = [id, seq, senderName]; return all; });
      stock.on('auth_error', ({ code }) => { if (code === 'token_expired') stock.connect(); });
      stock.emit('chat:typing', { roomId: 1, isTyping: true });
      stock.emit('chat:join', 'a', (answer) => { if (answer.ok) { const last: number = answer.lastId; return last; } return answer.error.retryAfterMs; });
      const answer = await stock.emitWithAck('chat:message', { roomId: 'a', content: 'x' });
      if (!answer.ok) throw new Error(answer.error.code);
      const sent: number = answer.seq;
      const timed = await stock.timeout(1_000).emitWithAck('progress:sync', { lessonId: 1, progress: 5 });
      return timed.ok ? timed.syncVersion + sent : 0;
    }`],
    ['the SDK, with its answers, and an event of the back end', `export async function f() {
      const room = await socket.request('chat:join', { roomId: 'a' });
      const names: string[] = room.messages.map(({ senderName }) => senderName);
      const { rooms } = await socket.request('chat:rooms');
      socket.on('lesson:unlocked', ({ lessonId }) => names.push(String(lessonId + rooms.length)));
      try { await socket.timeout(5).request('chat:message', { roomId: 'a', content: 'x' }); } catch (error) {
        if (error instanceof RequestError && error.code === 'rate_limited') return error.retryAfterMs;
      }
      const answer = await socket.emitWithAck('chat:history', { roomId: 1 });
      return answer.ok ? answer.messages.length : answer.error.message.length;
    }`],
    ['every code, each handled', `export function text(code: ErrorCode): string {
      switch (code) { ${['SERVER', 'CLIENT'].flatMap((kind) => wordsOf(CLIENT, kind === 'SERVER' ? 'ServerErrorCode' : 'ClientErrorCode')).map((code) => `case '${code}':`).join(' ')} return 'x'; }
    }`],
  ]) test(`${what}: right`, () => assert.deepEqual(wrongIn(text), []));

  for (const [what, text, expected] of [
    ['a misspelled event that is listened to', "socket.on('chat:mesage', () => {});", /"chat:mesage"/],
    ['a misspelled event that is heard once', "socket.once('notifications:new', () => {});", /"notifications:new"/],
    ['a misspelled event that is taken back', "socket.off('chat:mesage');", /"chat:mesage"/],
    ['a misspelled event that is emitted', "socket.emit('chat:mesage', { roomId: 1, content: 'x' });", /"chat:mesage"/],
    ['a misspelled event that is asked', "socket.emitWithAck('chat:roms');", /"chat:roms"/],
    ['a misspelled event that is requested', "socket.request('chat:roms');", /"chat:roms"/],
    ['a misspelled event of the stock client', "stock.emit('chat:mesage', { roomId: 1, content: 'x' });", /"chat:mesage"/],
    ['a misspelled event that the stock client listens to', "stock.on('chat:mesage', () => {});", /"chat:mesage"/],
    ['a field that is missing', "socket.emit('chat:message', { roomId: 1 });", /'content' is missing/],
    ['a payload that is missing', "socket.request('chat:message');", /Expected 2 arguments/],
    ['a field that does not exist', "socket.request('chat:history', { room: 1 });", /'room' does not exist/],
    ['an answer that may be a refusal', "export const id = async () => (await socket.emitWithAck('chat:message', { roomId: 1, content: 'x' })).id;", /'id' does not exist/],
    ['an answer of the stock client that may be a refusal', "export const id = async () => (await stock.emitWithAck('chat:message', { roomId: 1, content: 'x' })).id;", /'id' does not exist/],
    ['a code that nobody says', "socket.on('auth_error', ({ code }) => code === 'token_exspired');", /no overlap/],
    ['a token that is undefined', 'connect({ io, getToken: () => undefined });', /'undefined'/],
    ['a token beside a cookie', "connect({ io, cookie: true, token: 'x' });", /'cookie'|'token'|not assignable/],
    ['neither a token nor a cookie', 'connect({ io });', /not assignable|missing/],
  ]) {
    test(`${what}: refused`, () => {
      const errors = wrongIn(text);
      assert.ok(errors.length > 0 && errors.every((error) => error.includes('written.ts')) && errors.some((error) => expected.test(error)), JSON.stringify(errors));
    });
  }
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
    ['a parameter that the modules do not take', CLIENT, 'hasListeners(event: Name<Own>)', 'hasListeners(event: Name<Own> | number)', /"hasListeners"/],
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
