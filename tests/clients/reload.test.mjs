// A reload with people connected: nobody is disturbed by it, but by the flag, which tells them and lets them come back.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { Appliance, all, ask, heard, noLimits, token, until } from './harness.mjs';

let server;
before(async () => {
  server = await Appliance.start({ env: noLimits });
  // From now on by a file: it may be changed while the server runs.
  await server.halt();
  server.env = { ...noLimits, ACADEMY_RT_CONFIG: join(server.dir, 'a.toml') };
  write('');
  await server.launch();
});
after(() => server.stop());

// The flag is on again, whatever a test has left.
afterEach(() => reload(''));

const write = (text) => writeFileSync(join(server.dir, 'a.toml'), text);

async function reload(text) {
  write(text);
  const before = server.stderr.length;
  server.child.kill('SIGHUP');
  await until(() => server.stderr.slice(before).includes('reloaded'), 'the reload is logged');
}

for (const transports of [['websocket'], ['polling']]) {
  test(`live ${transports} sockets go on over a reload, good or bad`, async () => {
    const ann = server.client({ userId: 7 }, { transports });
    await heard(ann, 'authenticated');
    let left = 0;
    ann.on('disconnect', () => { left += 1; });
    await reload('[limits]\nmessage_chars = 10\n');
    await ask(ann, 'chat:join', { roomId: 'reload' });
    const refused = await ann.timeout(5_000).emitWithAck('chat:message', { roomId: 'reload', content: 'eleven char' });
    assert.deepEqual([refused.ok, refused.error.code], [false, 'too_large']);
    await reload('[limits\n');
    assert.equal((await ask(ann, 'chat:message', { roomId: 'reload', content: 'short' })).ok, true);
    assert.equal(left, 0);
  });

  test(`a stock client on ${transports} comes back by itself when the flag is on again, and has missed nothing`, async () => {
    const ann = server.client({ userId: 9 }, { transports, reconnection: true, reconnectionDelay: 100, reconnectionDelayMax: 300 });
    await heard(ann, 'authenticated');
    const { lastId } = await ask(ann, 'chat:join', { roomId: 'back' });
    const reasons = [];
    ann.on('disconnect', (reason) => reasons.push(reason));
    await reload('[server]\nwebsocket_enabled = false\n');
    await until(() => !ann.connected, 'it is closed');
    await server.fetch('/api/v1/rooms/back/messages', { claims: { userId: 8 }, method: 'POST', body: { content: 'meanwhile' } });
    await reload('');
    await until(() => all(ann, 'authenticated').length === 2, 'it has come back');
    // A poll is told by its status, as by any server that has the session no more.
    assert.deepEqual(reasons, [transports[0] === 'polling' && transports.length === 1 ? 'transport error' : 'transport close']);
    assert.deepEqual((await ask(ann, 'chat:join', { roomId: 'back', after: lastId ?? 0 })).messages.map((one) => one.content), ['meanwhile']);
  });

  test(`the flag, switched off, tells ${transports} sockets and closes them; switched on, they come back`, async () => {
    const ann = server.client({ userId: 8 }, { transports, reconnection: false });
    await heard(ann, 'authenticated');
    const told = heard(ann, 'auth_error');
    const gone = new Promise((resolve) => ann.once('disconnect', resolve));
    await reload('[server]\nwebsocket_enabled = false\n');
    assert.equal((await told).code, 'realtime_disabled');
    await gone;
    assert.equal((await server.fetch('/ws/?EIO=4&transport=polling')).status, 503);
    // What happens meanwhile is there by HTTP.
    const posted = await server.fetch('/api/v1/rooms/flag/messages', { claims: { userId: 8 }, method: 'POST', body: { content: 'by HTTP' } });
    assert.equal(posted.status, 200);
    await reload('');
    ann.connect();
    await heard(ann, 'authenticated');
    assert.ok((await ask(ann, 'chat:join', { roomId: 'flag' })).messages.some(({ content }) => content === 'by HTTP'));
  });
}

test('two hundred sockets are sent away over a while, not at once', async () => {
  const clients = Array.from({ length: 200 }, (_, n) => server.client(token({ userId: n + 100 }), { transports: ['websocket'], reconnection: false }));
  await Promise.all(clients.map((client) => heard(client, 'authenticated')));
  const times = [];
  const all = Promise.all(clients.map((client) => new Promise((resolve) => client.once('disconnect', () => { times.push(performance.now()); resolve(); }))));
  await reload('[server]\nwebsocket_enabled = false\n');
  await all;
  assert.ok(Math.max(...times) - Math.min(...times) > 1_000, 'they would all come back at the same moment');
  await reload('');
});
