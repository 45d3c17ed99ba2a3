// What is done to people's words leaves traces: who has changed and deleted them is in the event, in the history, in the export
// and in the audit log, also after a kill -9; whoever changes their own words leaves none.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { act, admin, call, done, joinedTo, say, served, trail } from './acts.mjs';
import { ask, binary, heard, secret, token, until } from './harness.mjs';

const ann = { userId: 7, name: 'Ann' };
const moderator = { userId: 'mod', name: 'Mo' };
const service = { userId: 'svc', role: 'none', scope: 'broadcast' };
const page = async (server, claims = ann) => (await done(server, claims, 'GET', '/rooms/r/messages?limit=200')).messages;
const exported = async (server) => (await done(server, admin, 'GET', '/admin/users/7/export')).messages;
const marks = ({ editedBy, deletedBy }) => [editedBy, deletedBy];

describe('who changes what another person wrote', () => {
  const ways = {
    'a moderator over HTTP': {
      by: 'mod', origin: '127.0.0.1',
      edit: (server, id) => done(server, moderator, 'PATCH', `/rooms/r/messages/${id}`, { content: 'rewritten' }),
      remove: (server, id) => done(server, moderator, 'DELETE', `/rooms/r/messages/${id}`),
    },
    'a moderator with a socket': {
      by: 'mod', origin: '127.0.0.1',
      edit: async (server, id) => ask(await server.signedIn(moderator), 'chat:edit', { roomId: 'r', messageId: id, content: 'rewritten' }),
      remove: async (server, id) => ask(await server.signedIn(moderator), 'chat:delete', { roomId: 'r', messageId: id }),
    },
    'an administrator': {
      by: 1, origin: '127.0.0.1',
      edit: (server, id) => done(server, admin, 'PATCH', `/rooms/r/messages/${id}`, { content: 'rewritten' }),
      remove: (server, id) => done(server, admin, 'DELETE', `/rooms/r/messages/${id}`),
    },
    'a back end': {
      by: 'svc', origin: '127.0.0.1',
      edit: (server, id) => done(server, service, 'POST', '/broadcast', { event: 'chat:message-edited', target: { room: 'chat:r' }, payload: { messageId: id, newContent: 'rewritten' } }),
      remove: (server, id) => done(server, service, 'POST', '/broadcast', { event: 'chat:message-deleted', target: { room: 'chat:r' }, payload: { messageId: id } }),
    },
  };
  for (const [who, { by, origin, edit, remove }] of Object.entries(ways)) {
    test(`${who} is named to everybody, and recorded`, async (t) => {
      const server = await served(t);
      const reader = await server.signedIn({ userId: 8, name: 'Bob' });
      await ask(reader, 'chat:join', 'r');
      const edited = await say(server, ann, 'r', 'my words');
      const deleted = await say(server, ann, 'r', 'my other words');
      await act(server, 'PUT', '/rooms/r/members/mod', { role: 'moderator' });
      await edit(server, edited);
      await remove(server, deleted);
      const { editedBy } = await heard(reader, 'chat:message-edited');
      const { deletedBy } = await heard(reader, 'chat:message-deleted');
      assert.deepEqual([editedBy, deletedBy], [by, by], 'the events');
      assert.deepEqual((await page(server)).map(marks), [[by, undefined], [undefined, by]], 'the history');
      assert.deepEqual((await exported(server)).map(marks), [[by, undefined], [undefined, by]], 'the export');
      await server.kill();
      await server.launch();
      assert.deepEqual((await page(server)).map(marks), [[by, undefined], [undefined, by]], 'over kill -9');
      const told = (await trail(server)).filter(({ action }) => action.startsWith('message.'));
      assert.deepEqual(told.map((one) => [one.actor, one.origin, one.action, one.target, one.outcome]), [
        [String(by), origin, 'message.edit', `room r message ${edited}`, 'done: written by user 7'],
        [String(by), origin, 'message.delete', `room r message ${deleted}`, 'done: written by user 7'],
      ]);
    });
  }

  test('whoever changes their own words is not spoken of', async (t) => {
    const server = await served(t);
    const reader = await server.signedIn({ userId: 8, name: 'Bob' });
    await ask(reader, 'chat:join', 'r');
    const id = await say(server, ann, 'r', 'my words');
    await done(server, ann, 'PATCH', `/rooms/r/messages/${id}`, { content: 'otherwise' });
    assert.ok(!('editedBy' in await heard(reader, 'chat:message-edited')));
    await done(server, ann, 'DELETE', `/rooms/r/messages/${id}`);
    assert.ok(!('deletedBy' in await heard(reader, 'chat:message-deleted')));
    assert.deepEqual((await page(server)).map(marks), [[undefined, undefined]]);
    assert.deepEqual((await trail(server)).filter(({ action }) => action.startsWith('message.')), []);
  });
});

describe('several holds on one subject', () => {
  test('stand beside each other, and the release of one leaves the others', async (t) => {
    const server = await served(t);
    await say(server, ann, 'r', 'evidence');
    const hold = (reason) => act(server, 'POST', '/holds', { userId: 7, reason });
    const [first, second] = [await hold('case 12'), await hold('case 13')];
    assert.notEqual(first.number, second.number);
    assert.equal((await hold('case 13')).number, second.number, 'asked again, it is the one that stands');
    const standing = async () => (await act(server, 'GET', '/holds')).items.map(({ number, reason }) => [number, reason]);
    assert.deepEqual(await standing(), [[first.number, 'case 12'], [second.number, 'case 13']]);
    const { status, json } = await call(server, admin, 'DELETE', '/admin/holds/user/7');
    assert.deepEqual([status, json.error.code], [409, 'conflict']);
    assert.match(json.error.message, /hold \d+ \(case 12\), hold \d+ \(case 13\).*by its number/);
    await act(server, 'DELETE', `/holds/user/7?number=${first.number}`);
    await server.kill();
    await server.launch();
    assert.deepEqual(await standing(), [[second.number, 'case 13']]);
    const erased = await call(server, admin, 'DELETE', '/admin/users/7');
    assert.deepEqual([erased.status, /case 13/.test(erased.json.error.message)], [409, true]);
    await act(server, 'DELETE', '/holds/user/7');
    await act(server, 'DELETE', '/users/7');
    const told = (await trail(server)).filter(({ action }) => action.startsWith('hold.')).map(({ action, outcome }) => [action, outcome]);
    assert.deepEqual(told, [
      ['hold.set', `done, hold ${first.number}: case 12`], ['hold.set', `done, hold ${second.number}: case 13`],
      ['hold.release', `done, hold ${first.number}: case 12`], ['hold.release', `done, hold ${second.number}: case 13`],
    ]);
  });
});

// A command of the command line for this server, and what it says.
function command(server, args, { env = {}, input } = {}) {
  return new Promise((resolve) => {
    const child = spawn(server.program ?? binary, [...args, '--data-dir', server.data], { env: { PATH: process.env.PATH, JWT_SECRET: secret, ACADEMY_RT_STORAGE_MIN_FREE: '0', ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
    let [said, stdout] = ['', ''];
    child.stdout.on('data', (text) => { stdout += text; said += text; });
    child.stderr.on('data', (text) => { said += text; });
    child.on('close', (code) => resolve({ code, said, stdout }));
    child.stdin.end(input);
  });
}

const told = async (server, action) => (await trail(server)).filter((one) => one.action === action);

// A record that comes within some seconds.
async function recorded(server, action, fits = () => true) {
  let found;
  await until(async () => { found = (await told(server, action)).find(fits); return found; }, `a record of ${action}`);
  return found;
}

describe('what the audit log records beside acts', () => {
  test('an administrator who opens a private room of others is recorded before they read, once; a member is not', async (t) => {
    const server = await served(t);
    await act(server, 'POST', '/rooms', { roomId: 'staff', private: true, members: [7] });
    await say(server, ann, 'staff', 'in confidence');
    await say(server, ann, 'open', 'for all');
    const read = () => told(server, 'room.read');
    for (const room of ['staff', 'open']) await done(server, ann, 'GET', `/rooms/${room}/messages`);
    await done(server, admin, 'GET', '/rooms/open/messages');
    assert.deepEqual(await read(), []);
    const ways = [
      (who) => done(server, who, 'GET', '/rooms/staff/messages'),
      (who) => joinedTo(server, 'staff', who),
      (who) => done(server, who, 'POST', '/rooms/staff/join', {}),
      (who) => done(server, who, 'GET', '/events?rooms=staff'),
    ];
    for (const [n, way] of ways.entries()) {
      const who = { userId: 100 + n, role: 'admin' };
      await way(who);
      await way(who);
      assert.deepEqual((await read()).map((one) => [one.actor, one.target, one.outcome]).at(-1), [String(100 + n), 'room staff', 'done']);
      assert.equal((await read()).length, n + 1, 'once');
    }
    await done(server, admin, 'GET', '/rooms/open/messages?versions=true');
    assert.equal((await read()).at(-1).target, 'withheld versions in room open');
  });

  test('sign-ins of administrators and what service tokens do is gathered, and nothing is lost at a stop', async (t) => {
    const server = await served(t);
    const svc = { ...service, jti: 'svc-1' };
    const root = { userId: 'root', role: 'admin', jti: 'root-1' };
    const send = () => done(server, svc, 'POST', '/broadcast', { event: 'news', target: { user: 7 }, payload: {} });
    await send();
    await server.signedIn(root);
    await recorded(server, 'broadcast', (one) => one.actor === 'svc' && one.target === 'news, token svc-1');
    await recorded(server, 'token.use', (one) => one.actor === 'svc' && one.target === 'token svc-1');
    await recorded(server, 'sign_in', (one) => one.actor === 'root' && one.target === 'token root-1' && one.outcome === 'done');
    for (let n = 0; n < 50; n += 1) await send();
    await server.halt();
    await server.launch();
    const sums = (await told(server, 'broadcast')).filter((one) => one.actor === 'svc').map(({ outcome }) => outcome);
    assert.deepEqual(sums, ['done', 'done, 50 times more within an hour']);
  });

  test('a reload says what it changes, and nothing of a secret; one that changes nothing says nothing', async (t) => {
    const server = await served(t);
    const file = join(server.dir, 'academy-rt.toml');
    writeFileSync(file, '[limits]\nmessage_chars = 100\n');
    await server.halt();
    server.flags = ['--config', file];
    await server.launch();
    const reload = async (text, times) => {
      writeFileSync(file, text);
      server.child.kill('SIGHUP');
      await until(() => server.stderr.split('reloaded').length > times, 'the reload');
    };
    await reload('[limits]\nmessage_chars = 100\n', 1);
    await reload('[limits]\nmessage_chars = 200\n', 2);
    const { outcome, actor } = await recorded(server, 'config.reload');
    assert.deepEqual([outcome, actor], ['done: limits.message_chars is 200 (was 100)', 'system']);
    assert.equal((await told(server, 'config.reload')).length, 1);
  });

  test('issued tokens, rotated keys and backups that fail are recorded with who did it', async (t) => {
    const server = await served(t);
    await act(server, 'POST', '/rooms', { roomId: 'r' });
    const issued = await command(server, ['token', 'issue', '--user', 'crm', '--scope', 'broadcast', '--jti', 'crm-1'], { env: { SUDO_USER: 'alice' } });
    assert.deepEqual([issued.code, issued.said.trim().split('\n').length], [0, 1], issued.said);
    const record = await recorded(server, 'token.issue');
    assert.match(record.outcome, /^done: valid until .* UTC, scope broadcast, jti crm-1$/);
    assert.deepEqual([record.target, record.actor], ['user crm', 'system']);
    assert.match(record.origin, /^control socket, local user \S+ \(\d+\), for alice$/);
    assert.ok(!JSON.stringify(await trail(server)).includes(issued.stdout.trim()), 'never the token');
    const failed = await command(server, ['backup', '/proc/nowhere/x.backup']);
    assert.equal(failed.code, 1, failed.said);
    const { target, outcome } = await recorded(server, 'backup', (one) => one.outcome.startsWith('failed') && one.target);
    assert.equal(target, 'x.backup');
    assert.match(outcome, /^failed: .*written/);
    await server.halt();
    const alone = await command(server, ['token', 'issue', '--user', '9']);
    assert.equal(alone.said.trim().split('\n').length, 1, alone.said);
    await server.launch();
    assert.ok((await told(server, 'token.issue')).some((one) => one.target === 'user 9'), 'without a server, too');
  });

  test('an export that begins behind the first record is recorded, too', async (t) => {
    const server = await served(t);
    await act(server, 'GET', '/audit?export=true&after=1');
    await act(server, 'GET', '/audit?export=true&after=1');
    assert.equal((await told(server, 'audit.export')).length, 1);
    await act(server, 'GET', '/audit?export=true');
    await act(server, 'GET', '/audit?export=true&after=1');
    assert.equal((await told(server, 'audit.export')).length, 2);
  });
});

describe('what cannot be undone', () => {
  const fill = async (server) => {
    await say(server, ann, 'r', 'one');
    await say(server, ann, 'r', 'two');
  };
  test('is refused without a terminal and without --yes, and --dry-run counts what would go', async (t) => {
    const server = await served(t);
    await fill(server);
    const socket = await server.signedIn({ ...ann, iat: Math.floor(Date.now() / 1000) - 10 });
    const dry = [
      [['user', 'erase', '7'], /^this would erase 2 messages, 1 memberships, .* of user 7$/m],
      [['room', 'delete', 'r'], /^this would delete 2 messages of a room with 1 members and guests$/m],
      [['token', 'revoke', '--all'], /^this would revoke all tokens of all users and close 1 connections of 1 users$/m],
    ];
    for (const [args, counts] of dry) {
      const only = await command(server, [...args, '--dry-run']);
      assert.equal(only.code, 0, only.said);
      assert.match(only.said, counts);
      const refused = await command(server, args, { input: 'yes\n' });
      assert.equal(refused.code, 2, refused.said);
      assert.match(refused.said, /do: {2}Add --yes/);
    }
    const before = (await trail(server)).filter(({ action }) => /erase|delete|revoke/.test(action));
    assert.deepEqual([before, socket.connected, (await page(server)).length], [[], true, 2], 'nothing has changed');
    await act(server, 'POST', '/holds', { userId: 7, reason: 'case 12' });
    const held = await command(server, ['user', 'erase', '7', '--dry-run']);
    assert.deepEqual([held.code, /case 12/.test(held.said)], [1, true], held.said);
    await act(server, 'DELETE', '/holds/user/7');
    for (const [args] of dry) assert.equal((await command(server, [...args, '--yes'])).code, 0, args.join(' '));
    // Every token is revoked now: over the control socket.
    const listed = await command(server, ['--output', 'json', 'audit', 'list']);
    const after = JSON.parse(listed.stdout).items.map(({ action }) => action).filter((action) => /erase|delete|revoke/.test(action));
    assert.deepEqual(after, ['user.erase', 'user.erase', 'room.delete', 'token.revoke']);
  });

  test('is asked about on a terminal', async (t) => {
    const server = await served(t);
    await fill(server);
    // script(1) gives the command a terminal.
    const atTerminal = (input) => new Promise((resolve) => {
      const line = `'${server.program ?? binary}' room delete r --data-dir '${server.data}'`;
      const child = spawn('script', ['-qec', line, '/dev/null'], { env: { PATH: process.env.PATH }, stdio: ['pipe', 'pipe', 'pipe'] });
      let said = '';
      child.stdout.on('data', (text) => {
        if (!said.includes('go on:') && (said + text).includes('go on:')) child.stdin.write(input);
        said += text;
      });
      child.on('close', (code) => resolve({ code, said }));
    });
    const no = await atTerminal('no\n');
    assert.deepEqual([no.code, /This would delete 2 messages .*Type yes to go on:/.test(no.said)], [2, true], no.said);
    assert.equal((await page(server)).length, 2);
    const yes = await atTerminal('yes\n');
    assert.equal(yes.code, 0, yes.said);
    assert.deepEqual((await trail(server)).filter(({ action }) => action === 'room.delete').length, 1);
  });
});

describe('the log says who is refused, from where, by which rule and what to do', () => {
  // The message alone, as a journal shows it: without the fields.
  const journal = { ACADEMY_RT_LOG_FORMAT: 'json' };
  const messages = (server) => (server.stderr + server.stdout).split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line).message);
  const said = (server, pattern) => until(() => messages(server).some((one) => pattern.test(one)), `a line ${pattern}`);

  test('of sign-ins, with the user where the signature is good', async (t) => {
    const server = await served(t, { env: journal });
    const expired = { userId: 7, exp: Math.floor(Date.now() / 1000) - 3_600 };
    const refused = async (claims, key) => {
      const socket = server.client(claims === null ? null : token(claims, key ? { key } : {}));
      await heard(socket, 'auth_error');
    };
    await refused(expired);
    await said(server, /^refused to sign in user 7 from 127\.0\.0\.1: token_expired: the token has expired; sign in again$/);
    await refused({ userId: 8 }, 'another secret, which is long enough for it');
    await said(server, /^refused to sign in somebody unknown from 127\.0\.0\.1: token_invalid: .*its signature fits none of the keys here/);
    assert.ok(!messages(server).some((one) => one.includes('user 8')), 'nobody is named whom anybody can claim to be');
    await refused(null);
    await said(server, /^refused to sign in somebody unknown from 127\.0\.0\.1: token_missing: /);
    assert.equal((await call(server, { userId: 9, exp: 1 }, 'GET', '/session')).status, 401);
    await said(server, /^refused to sign in user 9 from 127\.0\.0\.1: token_expired/);
    await act(server, 'POST', '/users/10/block', {});
    assert.equal((await call(server, { userId: 10 }, 'GET', '/session')).status, 403);
    await said(server, /^refused to sign in user 10 from 127\.0\.0\.1: user_blocked: an administrator has blocked this user/);
  });

  test('of requests that a rule forbids, over HTTP and from a socket', async (t) => {
    const server = await served(t, { env: { ...journal, ACADEMY_RT_LIMITS_MESSAGE_CHARS: '10' } });
    await act(server, 'POST', '/rooms', { roomId: 'staff', private: true });
    const bob = await server.signedIn({ userId: 8 });
    assert.equal((await ask(bob, 'chat:join', 'staff')).error.code, 'forbidden');
    await said(server, /^refused chat:join of user 8 from 127\.0\.0\.1: forbidden: you may not do this/);
    assert.equal((await call(server, { userId: 9 }, 'GET', '/rooms/staff/messages')).status, 403);
    await said(server, /^refused GET \/api\/v1\/rooms\/staff\/messages of user 9 from 127\.0\.0\.1: forbidden: /);
    assert.equal((await call(server, { userId: 9 }, 'GET', '/admin/holds')).status, 403);
    await said(server, /^refused GET \/api\/v1\/admin\/holds of user 9 .*forbidden: this needs role admin/);
    assert.equal((await ask(bob, 'chat:message', { roomId: 'r', content: 'x'.repeat(11) })).error.code, 'too_large');
    await said(server, /^refused chat:message of user 8 .*too_large: content may have at most 10 characters/);
    assert.equal((await call(server, { userId: 9 }, 'GET', '/rooms/r/messages?limit=9999')).status, 400);
    assert.ok(!messages(server).some((one) => one.includes('limit must be')), 'what is wrong in itself is no refusal');
  });

  test('of rates, and a flood is twenty lines', async (t) => {
    const server = await served(t, { env: { ...journal, ACADEMY_RT_LIMITS_MESSAGES_PER_SECOND: '1' } });
    for (let n = 0; n < 60; n += 1) await call(server, { userId: 9 }, 'POST', '/rooms/r/messages', { content: 'x' });
    await said(server, /^refused POST \/api\/v1\/rooms\/r\/messages of user 9 from 127\.0\.0\.1: rate_limited: too many messages/);
    assert.ok(messages(server).filter((one) => one.includes('rate_limited')).length <= 20);
  });

  test('of connections that it closes', async (t) => {
    const server = await served(t, { env: journal });
    const seven = await server.signedIn({ userId: 7 });
    await act(server, 'POST', '/users/7/block', {});
    await heard(seven, 'auth_error');
    await said(server, /^closed a connection of user 7 from 127\.0\.0\.1: user_blocked: an administrator has blocked this user/);
    const eight = await server.signedIn({ userId: 8 });
    await act(server, 'POST', '/users/8/disconnect', {});
    await heard(eight, 'auth_error');
    await said(server, /^closed a connection of user 8 from 127\.0\.0\.1: forbidden: an administrator has closed this connection; connect again$/);
  });

  test('of a reload that fails', async (t) => {
    const server = await served(t, { env: journal });
    const file = join(server.dir, 'academy-rt.toml');
    writeFileSync(file, '');
    await server.halt();
    server.flags = ['--config', file];
    await server.launch();
    writeFileSync(file, '[limits]\nmessage_chars = "many"\n');
    server.child.kill('SIGHUP');
    await said(server, /^not reloaded; the previous configuration remains in force: .*message_chars.*\. \S/s);
  });
});
