// What front ends and back ends write, in the spelling of their languages: it is read as it is meant, or refused in words that say
// which field is wrong and what it must be.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Appliance, ask, heard, secret } from './harness.mjs';

const ann = { userId: 7, name: 'Ann' };
const platform = { userId: 500, role: 'hr', scope: 'broadcast' };

let server;
let socket;
before(async () => {
  server = await Appliance.start();
  socket = await server.signedIn(ann);
  await ask(socket, 'chat:join', { roomId: 'french' });
});
after(async () => {
  assert.doesNotMatch(server.stderr, /panick/);
  await server.stop();
});

// A token of claims as they stand.
function signed(claims) {
  const body = [{ alg: 'HS256', typ: 'JWT' }].map((part) => JSON.stringify(part)).concat(claims).map((part) => Buffer.from(part).toString('base64url')).join('.');
  return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`;
}

// A body as it stands: JSON.stringify has one spelling of a number only.
async function raw(method, path, body, claims = ann) {
  const answer = await server.fetch(`/api/v1${path}`, { method, claims, body });
  return { ...answer.json, status: answer.status };
}

describe('a whole number', () => {
  test('may be written as a fraction, in any body', async () => {
    const synced = await raw('POST', '/progress', '{"lessonId":42.0,"progress":75,"timeSpent":1.2e2}');
    assert.equal(synced.status, 200, JSON.stringify(synced));
    assert.deepEqual([synced.lessonId, synced.timeSpent], [42, 120]);
    const posted = await ask(socket, 'chat:message', { roomId: 'french', content: 'one' });
    const answered = await raw('POST', '/rooms/french/messages', `{"content":"two","replyToId":${posted.id}.0}`);
    assert.equal(answered.status, 200, JSON.stringify(answered));
    const page = await ask(socket, 'chat:history', { roomId: 'french' });
    assert.equal(page.messages.at(-1).replyToId, posted.id);
    const told = heard(socket, 'here');
    assert.equal((await raw('POST', '/broadcast', '{"target":{"user":7.0},"event":"here","payload":{"n":1.0}}', platform)).status, 200);
    assert.deepEqual(await told, { n: 1 });
  });

  test('may be written so in a token', async () => {
    const answer = await server.fetch('/api/v1/session', { bearer: signed('{"userId":7.0,"name":"Ann","exp":4e9}') });
    assert.equal(answer.status, 200, answer.raw);
    assert.equal(answer.json.userId, 7);
  });

  test('is told if it is none', async () => {
    const { status, error } = await raw('POST', '/progress', '{"lessonId":42,"progress":75,"timeSpent":1.5}');
    assert.deepEqual([status, error.code, error.field], [400, 'invalid_payload', 'timeSpent']);
    assert.equal(error.message, 'timeSpent must be a whole number from 0 to 4294967295, and is 1.5');
  });
});

describe('an event', () => {
  test('that needs nothing may come with undefined, null or nothing', async () => {
    for (const event of ['progress:get', 'notification:list', 'chat:rooms']) {
      for (const payload of [undefined, null, {}]) {
        assert.equal((await ask(socket, event, payload)).ok, true, `${event} ${payload}`);
      }
      assert.equal((await socket.emitWithAck(event)).ok, true, event);
    }
  });

  test('that needs something says what', async () => {
    const { error } = await ask(socket, 'chat:message', undefined);
    assert.deepEqual([error.code, error.field, error.message], ['invalid_payload', 'roomId', 'roomId is missing']);
  });

  test('takes no list for an object', async () => {
    for (const [event, list] of [['chat:message', ['french', 'x']], ['notification:delete', [1]], ['progress:history', [42]], ['chat:read', ['french', 1]]]) {
      const { error } = await ask(socket, event, list);
      assert.deepEqual([error?.code, error?.message], ['invalid_payload', 'the request must be an object, and is a list'], event);
    }
    const { error } = await ask(socket, 'progress:sync', [[42, 75]]);
    assert.deepEqual([error.code, error.field], ['invalid_payload', '[0]']);
  });

  test('of a batch names the report that is wrong', async () => {
    const { error } = await ask(socket, 'progress:sync', [{ lessonId: 1, progress: 5 }, { lessonId: 2 }]);
    assert.deepEqual([error.field, error.message], ['[1].progress', '[1].progress is missing']);
    const { items } = await ask(socket, 'progress:get', { lessonId: 1 });
    assert.deepEqual(items, [], 'nothing of the batch was stored');
  });

  test('is refused in words that no programmer of Rust needs to explain', async () => {
    const wrong = [
      ['chat:message', { roomId: {}, content: 'x' }], ['chat:message', { roomId: 'french', content: 7 }], ['chat:typing', { roomId: 'french', isTyping: 'yes' }],
      ['chat:history', { roomId: 'french', limit: '5' }], ['chat:read', { roomId: 'french', messageId: -1 }], ['notification:read', { ids: 'all' }],
      ['notification:read', { all: 1 }], ['progress:sync', { lessonId: 1, progress: 'half' }], ['progress:sync', { lessonId: 1, progress: 5, status: 'begun' }],
      ['progress:sync', 'x'], ['auth:refresh', { token: 7 }], ['chat:message', { roomId: 'french', content: 'x', type: 'loud' }],
    ];
    for (const [event, payload] of wrong) {
      const { error } = await ask(socket, event, payload);
      assert.equal(error.code, 'invalid_payload', event);
      assert.match(error.message, /must|missing/, `${event}: ${error.message}`);
      assert.doesNotMatch(error.message, /\b[ui](8|16|32|64)\b|usize|f64|struct|enum|variant|invalid type|expected|`/, `${event}: ${error.message}`);
    }
  });
});

describe('a text', () => {
  test('that shows nothing is no message; one that shows something is, whatever it has', async () => {
    for (const content of ['', ' \n', '\u200b\u200d', '\u3164', '\u2800', '\0\0', '\ufeff\u00ad']) {
      const { error } = await ask(socket, 'chat:message', { roomId: 'french', content });
      assert.deepEqual([error?.code, error?.field], ['invalid_payload', 'content'], JSON.stringify(content));
    }
    for (const content of ['👨\u200d👩\u200d👧', '❤️', 'a\u200bb', '\u0645\u200c\u0645']) {
      const { id } = await ask(socket, 'chat:message', { roomId: 'french', content });
      const page = await ask(socket, 'chat:history', { roomId: 'french', after: id - 1 });
      assert.equal(page.messages[0].content, content);
    }
  });

  test('with half of a surrogate pair is stored with U+FFFD in its place', async () => {
    const half = '👍'.slice(0, 1);
    const { id, ok } = await ask(socket, 'chat:message', { roomId: 'french', content: `cut ${half}` });
    assert.equal(ok, true);
    const page = await ask(socket, 'chat:history', { roomId: 'french', after: id - 1 });
    assert.equal(page.messages[0].content, 'cut \ufffd');
    const byHttp = await raw('POST', '/rooms/french/messages', '{"content":"\\udc4d and \\ud83d\\udc4d"}');
    assert.equal(byHttp.status, 200, JSON.stringify(byHttp));
    assert.equal((await ask(socket, 'chat:history', { roomId: 'french', after: byHttp.id - 1 })).messages[0].content, '\ufffd and 👍');
  });

  test('that names a room may have emoji, and no character that cannot be seen', async () => {
    for (const roomId of ['👩🏽\u200d🏫', '🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}', '1️⃣']) {
      assert.equal((await ask(socket, 'chat:join', { roomId })).ok, true, roomId);
      assert.equal((await server.fetch(`/api/v1/rooms/${encodeURIComponent(roomId)}/messages`, { claims: ann })).status, 200, roomId);
    }
    for (const roomId of ['fren\u200dch', 'french\u3164', '\u2800', 'french\ufe0f', 'fren\u034fch']) {
      const { error } = await ask(socket, 'chat:join', { roomId });
      assert.deepEqual([error?.code, error?.field], ['invalid_payload', 'roomId'], JSON.stringify(roomId));
    }
  });
});

describe('a body of a back end', () => {
  const sends = (payload, event = 'chat:message') => raw('POST', '/broadcast', JSON.stringify({ target: { room: 'chat:french' }, event, payload }), platform);

  test('with a field that nobody knows is refused with the nearest one', async () => {
    const { status, error } = await sends({ content: 'x', sendrId: 8 });
    assert.deepEqual([status, error.code, error.field], [400, 'invalid_payload', 'sendrId']);
    assert.equal(error.message, 'there is no field sendrId here; did you mean senderId?');
    assert.equal((await sends({ messageId: 1, newContent: 'x', reason: 'y' }, 'chat:message-edited')).error?.field, 'reason');
    const notified = await raw('POST', '/notifications', '{"target":{"user":7},"title":"t","message":"m","titel":"x"}', { ...platform, scope: 'notify' });
    assert.deepEqual([notified.status, notified.error?.field], [400, 'titel']);
  });

  test('may be the event as its clients know it', async () => {
    const sent = await sends({ roomId: 'french', content: 'as an event', timestamp: Date.now(), type: 'text', senderId: 8, senderName: 'Bob' });
    assert.equal(sent.status, 200, JSON.stringify(sent));
    const elsewhere = await sends({ roomId: 'english', content: 'x' });
    assert.deepEqual([elsewhere.status, elsewhere.error?.field], [400, 'roomId']);
  });
});
