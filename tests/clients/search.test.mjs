// Search: what was said is found by its words in both languages, by whoever may read it and nobody else; pages are exact; anything
// that is typed is looked for or refused; and the index follows the store over edits, erasures, kills, and whatever happens to its files.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, readFileSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { act, admin, call, done, say, served, trail } from './acts.mjs';
import { ask, binary, secret, until } from './harness.mjs';

const ann = { userId: 7, name: 'Ann' };
const bob = { userId: 8, name: 'Bob' };

const WAYS = {
  'an event': async (server, claims, payload) => {
    const socket = await server.signedIn(claims);
    const answer = await ask(socket, 'chat:search', payload);
    socket.disconnect();
    return answer;
  },
  'HTTP': async (server, claims, { roomId, ...rest }) => {
    const query = new URLSearchParams({ ...rest, ...(roomId === undefined ? {} : { room: roomId }) });
    return (await call(server, claims, 'GET', `/search?${query}`)).json;
  },
};
const search = WAYS.HTTP;
const idsOf = ({ messages }) => messages.map(({ id }) => id);
const join_ = (server, claims, roomId) => done(server, claims, 'POST', `/rooms/${roomId}/join`, {});
const edit = (server, claims, roomId, id, content) => done(server, claims, 'PATCH', `/rooms/${roomId}/messages/${id}`, { content });
const remove = (server, claims, roomId, id) => done(server, claims, 'DELETE', `/rooms/${roomId}/messages/${id}`);
// What the platform says many times at once.
const sayMuch = async (server, roomId, contents) => {
  const ids = [];
  for (let n = 0; n < contents.length; n += 50) {
    ids.push(...await Promise.all(contents.slice(n, n + 50).map((content) => say(server, ann, roomId, content))));
  }
  return ids;
};
// The index has all up to an id, and its answer is that of whoever asks.
const caughtUp = (server, id, deadline) => until(async () => {
  const answer = await search(server, admin, { q: 'x' });
  return answer?.ok && answer.isComplete && answer.upTo >= id;
}, `search has all up to ${id}`, deadline);
const figure = async (server, name) => Number(new RegExp(`^academy_rt_${name} (\\d+)`, 'm').exec((await server.fetch('/metrics', { claims: admin })).raw)?.[1]);
const filesOf = (server) => readdirSync(join(server.data, 'search')).map((name) => join(server.data, 'search', name));

describe('what is found', () => {
  const said = [
    /* 0 */ 'L’examen d’anglais est reporté à jeudi.',
    /* 1 */ 'The English exams were postponed until Thursday.',
    /* 2 */ 'Bonjour ! Voici le plan du cours de français.',
    /* 3 */ 'Les élèves étudiaient leurs leçons à l’école.',
    /* 4 */ 'She studies every lesson at school; he studied them twice.',
    /* 5 */ 'Son œuvre la plus connue : un chef-d’œuvre.',
    /* 6 */ 'Please send me the rapport, merci d’avance, meeting moved to lundi.',
    /* 7 */ 'Les chevaux mangeaient ; le cheval mangera.',
    /* 8 */ 'Nos réunions ont lieu à 9 h 30, salle B2.',
    /* 9 */ 'Aujourd’hui je n’ai qu’un exercice; the teacher’s exercise is naïve.',
    /* 10 */ 'Cafe\u0301 et the\u0301 : une pause bien meritee.',
    /* 11 */ '<b>bold</b> & "quotes" -- https://example.org/fichiers/devoir_3.pdf',
  ];
  const known = {
    'examen': [0], 'examens': [0], 'EXAMEN': [0], "l'examen": [0], 'exams': [1], 'exam': [1], 'anglais': [0], 'english': [1],
    'reporte': [0], 'reportés': [0], 'postpone': [1], 'postponed thursday': [1], 'ecole': [3], 'école': [3], 'écoles': [3], 'ELEVE': [3],
    'étudier': [3], 'etudier': [3], 'study': [4], 'studying lessons': [4], 'lecon': [3], 'leçon': [3], 'lesson': [4],
    'oeuvre': [5], 'œuvres': [5], 'ŒUVRE': [5], 'manger': [7], 'mangeons': [7], 'mangée': [7], 'cheval': [7], 'chevaux': [7], 'reunion': [8], 'réunion': [8],
    'b2': [8], '"9 h 30"': [8], 'exercice': [9], 'exercises': [9], 'teacher': [9], 'naive': [9], "aujourd'hui": [9], 'aujourd’hui': [9],
    'café': [10], 'cafe': [10], 'thé pause': [10], 'méritée': [10], 'rapport lundi': [6], 'meeting merci': [6], 'meeting mardi': [],
    'bold': [11], 'devoir_3.pdf': [11], 'devoir': [11], 'fichier': [11], 'cours français': [2], '"plan du cours"': [2], '« plan du cours »': [2], '"cours du plan"': [],
    'plan -français': [], 'plan -anglais': [2], 'lundi': [6], 'jeudi': [0], 'exam*': [1], 'ex?men': [], 'chien': [], 'les': [2, 3, 7],
    'exercice -"teacher\'s exercise"': [], 'exercice -"exercise naive teacher"': [9],
  };

  test('in English, in French and in both at once; with accents or without, in any form of a word; over both transports', async (t) => {
    const server = await served(t);
    const ids = [];
    for (const content of said) ids.push(await say(server, ann, 'salle', content));
    await caughtUp(server, ids.at(-1));
    const socket = await server.signedIn(ann);
    const wrong = [];
    for (const [q, expected] of Object.entries(known)) {
      const want = expected.map((n) => ids[n]).sort((a, b) => b - a);
      for (const [way, answer] of [['event', await ask(socket, 'chat:search', { q })], ['HTTP', await search(server, ann, { q })]]) {
        assert.equal(answer.ok, true, `${q}: ${JSON.stringify(answer)}`);
        const got = idsOf(answer);
        if (JSON.stringify(got) !== JSON.stringify(want)) wrong.push(`${way}: ${q}: ${got.map((id) => ids.indexOf(id))} and not ${expected}`);
      }
    }
    assert.deepEqual(wrong, []);
    // An item is what the history has of it.
    const [item] = (await search(server, bob, { q: 'examen', roomId: 'salle' })).messages;
    assert.deepEqual(item, (await done(server, bob, 'GET', '/rooms/salle/messages?limit=200')).messages[0]);
    await server.stop();
  });
});

describe('who finds what', () => {
  for (const [way, find] of Object.entries(WAYS)) {
    test(`as it is in the history: private rooms, who has left, who was taken out, what is gone (${way})`, async (t) => {
      const server = await served(t);
      await act(server, 'POST', '/rooms', { roomId: 'staff', private: true, members: [8] });
      await act(server, 'POST', '/rooms', { roomId: 42, private: true, members: [8] });
      const hidden = await say(server, bob, 'staff', 'the marmalade is secret');
      const other = await say(server, bob, '42', 'more marmalade');
      const open = (await done(server, bob, 'POST', '/rooms/open/messages', { content: 'marmalade for all', clientId: 'own-key' })).id;
      await join_(server, ann, 'open');
      await caughtUp(server, open);

      assert.deepEqual(idsOf(await find(server, bob, { q: 'marmalade' })), [open, other, hidden]);
      assert.deepEqual(idsOf(await find(server, bob, { q: 'marmalade', roomId: 'staff' })), [hidden]);
      const [numbered] = (await find(server, bob, { q: 'marmalade', roomId: 42 })).messages;
      assert.deepEqual([numbered.id, numbered.roomId], [other, 42]);
      const [theirs] = (await find(server, ann, { q: 'marmalade' })).messages;
      assert.deepEqual([theirs.id, theirs.clientId], [open, undefined], 'a key is nobody else’s');
      assert.equal((await find(server, bob, { q: 'marmalade', roomId: 'open' })).messages[0].clientId, 'own-key');
      assert.deepEqual(idsOf(await find(server, ann, { q: 'marmalade' })), [open]);
      assert.equal((await find(server, ann, { q: 'marmalade', roomId: 'staff' })).error.code, 'forbidden');
      // Who has left an open room may still look into it, and not without naming it.
      await done(server, ann, 'POST', '/rooms/open/leave');
      assert.deepEqual(idsOf(await find(server, ann, { q: 'marmalade' })), []);
      assert.deepEqual(idsOf(await find(server, ann, { q: 'marmalade', roomId: 'open' })), [open]);
      assert.deepEqual(idsOf(await find(server, ann, { q: 'marmalade', roomId: 'no-such-room' })), []);
      // Administrators: as everybody, or in a room that they name, which is recorded.
      assert.deepEqual(idsOf(await find(server, admin, { q: 'marmalade' })), []);
      assert.equal((await trail(server)).some(({ action, target }) => action === 'room.read' && target === 'room staff'), false);
      assert.deepEqual(idsOf(await find(server, admin, { q: 'marmalade', roomId: 'staff' })), [hidden]);
      assert.ok((await trail(server)).some(({ action, target }) => action === 'room.read' && target === 'room staff'));
      // Who is taken out.
      await act(server, 'DELETE', '/rooms/staff/members/8');
      assert.deepEqual(idsOf(await find(server, bob, { q: 'marmalade' })), [open, other]);
      assert.equal((await find(server, bob, { q: 'marmalade', roomId: 'staff' })).error.code, 'forbidden');
      // What was changed and deleted, at once; also what is withheld under a hold.
      await act(server, 'POST', '/holds', { roomId: 'open', reason: 'test' });
      await edit(server, bob, 'open', open, 'quince jelly for all');
      for (const claims of [bob, admin]) assert.deepEqual(idsOf(await find(server, claims, { q: 'marmalade', roomId: 'open' })), []);
      await until(async () => idsOf(await find(server, bob, { q: 'quince' }))[0] === open, 'what it says now is found');
      await remove(server, bob, 'open', open);
      assert.deepEqual(idsOf(await find(server, bob, { q: 'quince' })), []);
      // A room that is removed, and another one of its name.
      await act(server, 'DELETE', '/rooms/42');
      assert.deepEqual(idsOf(await find(server, bob, { q: 'marmalade' })), []);
      await act(server, 'POST', '/rooms', { roomId: 42, private: false, members: [8] });
      assert.deepEqual(idsOf(await find(server, bob, { q: 'marmalade' })), []);
      assert.deepEqual(idsOf(await find(server, bob, { q: 'marmalade', roomId: 42 })), []);
      await until(async () => await figure(server, 'search_messages') === 1, 'the index has what is left alone');
      await server.stop();
    });
  }
});

describe('pages', () => {
  test('each message once, from the newest to the oldest, whatever is said meanwhile', async (t) => {
    const server = await served(t);
    const ids = await sayMuch(server, 'long', Array.from({ length: 90 }, (_, n) => `page ${n}`));
    await caughtUp(server, Math.max(...ids));
    for (const [way, find] of Object.entries(WAYS)) {
      const got = [];
      let count = 0;
      for (let page = { hasMore: true }; page.hasMore; count += 1) {
        page = await find(server, ann, { q: 'pages', limit: 7, ...(page.next === undefined ? {} : { before: page.next }) });
        assert.equal(page.hasMore, page.next !== undefined);
        got.push(...idsOf(page));
        await say(server, ann, 'long', `page said meanwhile ${count}`);
      }
      const expected = ids.toSorted((a, b) => b - a);
      assert.deepEqual(got.filter((id) => ids.includes(id)), expected, way);
      assert.deepEqual(got, got.toSorted((a, b) => b - a), way);
      assert.equal(new Set(got).size, got.length);
    }
    assert.equal((await search(server, ann, { q: 'page' })).messages.length, 20, 'without a word');
    assert.equal((await search(server, ann, { q: 'page', limit: 50 })).messages.length, 50);
    await server.stop();
  });

  test('a phrase that is rare among its words: pages may be short, and lead to it', async (t) => {
    const server = await served(t);
    const rare = await say(server, ann, 'long', 'the white cat');
    const ids = await sayMuch(server, 'long', Array.from({ length: 1_100 }, () => 'the cat is white'));
    await caughtUp(server, Math.max(...ids), 60_000);
    const got = [];
    let pages = 0;
    for (let page = { hasMore: true }; page.hasMore; pages += 1) {
      page = await search(server, ann, { q: '"white cats"', ...(page.next === undefined ? {} : { before: page.next }) });
      got.push(...idsOf(page));
    }
    assert.deepEqual([got, pages], [[rare], 2]);
    await server.stop();
  });
});

test('what cannot be looked for is refused with what is wrong; everything else is text', async (t) => {
  const server = await served(t);
  const id = await say(server, ann, 'r', 'a word');
  await caughtUp(server, id);
  const socket = await server.signedIn(ann);
  const long = Array.from({ length: 10_000 }, (_, n) => `w${n}`).join(' ');
  for (const [payload, field] of [
    [{ q: long }, 'q'], [{ q: 'x'.repeat(257) }, 'q'], [{ q: 'a b c d e f g h i j k l m n o p q' }, 'q'], [{ q: '' }, 'q'], [{ q: '  ' }, 'q'], [{ q: '-word' }, 'q'],
    [{ q: '*' }, 'q'], [{ q: '""' }, 'q'], [{}, 'q'], [{ q: 'word', limit: 0 }, 'limit'], [{ q: 'word', limit: 51 }, 'limit'],
    [{ q: 'word', before: 'x' }, 'before'], [{ q: 'word', before: -1 }, 'before'], [{ q: 'word', roomId: 'x'.repeat(300) }, undefined],
  ]) {
    for (const answer of [await ask(socket, 'chat:search', payload), await search(server, ann, payload)]) {
      assert.equal(answer.error?.code, 'invalid_payload', `${JSON.stringify(payload).slice(0, 80)}: ${JSON.stringify(answer)}`);
      if (field) assert.equal(answer.error.field, field, JSON.stringify(answer));
    }
  }
  for (const payload of [{ q: 5 }, { q: ['word'] }, { q: null }, 'word', 7, null, [], undefined]) {
    assert.equal((await ask(socket, 'chat:search', payload)).error?.code, 'invalid_payload', JSON.stringify(payload));
  }
  for (const q of [
    'word AND NOT', '+word', 'word^5', 'word~2', 'words:word', '(word', 'word)', '[a TO z]', 'id:1', '/.*x/', 'word\\', '\u0000word', '<script>word</script>', '{"q":1} word',
    'f', 'fword', 'eword', 'word OR 1=1', '%27', '👍 word', 'wo\u00adrd', '\u202eword', 'é'.repeat(256), '"'.repeat(255) + 'a', '- - - word',
  ]) {
    const answer = await ask(socket, 'chat:search', { q });
    assert.equal(answer.ok, true, `${q}: ${JSON.stringify(answer)}`);
    assert.ok(answer.messages.every((one) => one.id === id), q);
  }
  for (const q of ['+word', 'word^', '(word', '👍 word', 'wo\u00adrd', '- - - word', 'a WORD']) assert.deepEqual(idsOf(await search(server, ann, { q })), [id], q);
  for (const q of ['fword', 'words:word', 'wor*']) assert.deepEqual(idsOf(await search(server, ann, { q })), [], q);
  assert.equal((await search(server, ann, { q: 'word', before: id })).messages.length, 0);
  assert.equal((await search(server, ann, { q: 'word', before: Number.MAX_SAFE_INTEGER })).messages.length, 1);
  await server.stop();
});

describe('the index', () => {
  // Which files of it have a word. A dictionary of the index has the bytes of a word backwards, with a byte of its own behind each,
  // where they are of no Latin letters and no other word has them; its first letters stand elsewhere.
  const filesWith = (server, word) => filesOf(server).filter((file) => {
    const wanted = [...Buffer.from(word.slice(2))].reverse();
    const bytes = existsSync(file) ? readFileSync(file) : Buffer.alloc(0);
    return bytes.includes(word) || bytes.some((_, at) => wanted.every((byte, n) => bytes[at + 2 * n] === byte));
  });

  test('what is erased, deleted, changed or in a room that is removed leaves its files within moments', async (t) => {
    const server = await served(t);
    const kept = await sayMuch(server, 'r', Array.from({ length: 50 }, (_, n) => `kept ${n} θηζεδγβα`));
    const words = { erased: 'αβγδεζηθ', deleted: 'ικλμνξοπ', changed: 'ρστυφχψω', removed: 'ωψχφυτσρ' };
    await done(server, bob, 'POST', '/rooms/r/messages', { content: words.erased });
    const deleted = await say(server, ann, 'r', words.deleted);
    const changed = await say(server, ann, 'r', words.changed);
    await act(server, 'POST', '/rooms', { roomId: 'gone', private: false });
    await caughtUp(server, await say(server, ann, 'gone', words.removed));
    assert.equal(await figure(server, 'search_messages'), 54);
    for (const word of [...Object.values(words), 'θηζεδγβα']) assert.notDeepEqual(filesWith(server, word), [], `${word} is there`);
    await act(server, 'DELETE', '/users/8?consent=true');
    await remove(server, ann, 'r', deleted);
    await edit(server, ann, 'r', changed, 'nougat');
    await act(server, 'DELETE', '/rooms/gone');
    await until(async () => await figure(server, 'search_messages') === 51 && await figure(server, 'search_removed_messages') === 0, 'the index has what is left');
    await until(() => Object.values(words).every((word) => filesWith(server, word).length === 0), 'and its files');
    assert.notDeepEqual(filesWith(server, 'θηζεδγβα'), []);
    for (const q of Object.values(words)) assert.deepEqual(idsOf(await search(server, ann, { q, roomId: 'r' })), []);
    assert.equal((await search(server, ann, { q: 'kept', limit: 50 })).messages.length, kept.length);
    assert.deepEqual(idsOf(await search(server, ann, { q: 'nougat' })), [changed]);
    await server.stop();
  });

  test('kill -9 in the middle of its work: everything is found, and nothing that is gone', async (t) => {
    const server = await served(t);
    const kept = [];
    const gone = [];
    for (let round = 0; round < 3; round += 1) {
      const ids = await sayMuch(server, 'r', Array.from({ length: 250 }, (_, n) => `round${round} word number${n}`));
      kept.push(...ids.slice(10));
      if (round === 1) await caughtUp(server, Math.max(...ids));
      // What the index has, and is taken away at the very end.
      for (const id of [...ids.slice(0, 10), ...kept.splice(0, 10)]) {
        await remove(server, ann, 'r', id);
        gone.push(id);
      }
      const [first] = kept;
      await edit(server, ann, 'r', first, `changed${round} word`);
      await server.kill();
      await server.launch();
    }
    await caughtUp(server, Math.max(...kept), 60_000);
    await until(async () => await figure(server, 'search_messages') === kept.length, 'the index has what the store has');
    const got = [];
    for (let page = { hasMore: true }; page.hasMore;) {
      page = await search(server, ann, { q: 'words', limit: 50, ...(page.next === undefined ? {} : { before: page.next }) });
      got.push(...idsOf(page));
    }
    assert.deepEqual(got, kept.toSorted((a, b) => b - a));
    assert.equal((await search(server, ann, { q: 'changed2' })).messages.length, 1);
    assert.ok(gone.every((id) => !got.includes(id)));
    await server.stop();
  });

  test('a start behind a stop compares nothing and builds nothing', async (t) => {
    const server = await served(t);
    const id = await say(server, ann, 'r', 'a word');
    await caughtUp(server, id);
    await server.halt();
    await server.launch();
    assert.deepEqual(idsOf(await until(async () => {
      const answer = await search(server, ann, { q: 'word' });
      return answer.ok && answer;
    }, 'it is found again')), [id]);
    assert.doesNotMatch(server.stderr + server.stdout, /built anew|compared with/);
    await server.stop();
  });

  const harm = {
    'is removed': (dir) => rmSync(dir, { recursive: true }),
    'has a file cut to half': (dir, largest) => truncateSync(largest, Math.floor(statSync(largest).size / 2)),
    'has a file cut to nothing': (dir, largest) => truncateSync(largest, 0),
    'has a file with another byte': (dir, largest) => {
      const bytes = readFileSync(largest);
      bytes[Math.floor(bytes.length / 3)] ^= 0xff;
      writeFileSync(largest, bytes);
    },
    'lacks a file': (dir, largest) => rmSync(largest),
    'says nothing of itself': (dir) => writeFileSync(join(dir, 'meta.json'), '{}'),
    'has an empty list of its files': (dir) => writeFileSync(join(dir, '.managed.json'), ''),
    'is of another version': (dir) => {
      const file = join(dir, 'meta.json');
      writeFileSync(file, readFileSync(file, 'utf8').replace('\\"version\\":1', '\\"version\\":99'));
    },
    'is full of something else': (dir) => {
      rmSync(dir, { recursive: true });
      cpSync(new URL('../../docs', import.meta.url).pathname, dir, { recursive: true });
    },
  };
  test('whatever happens to its files while the server is stopped, it is built again by itself', async (t) => {
    const server = await served(t);
    const ids = await sayMuch(server, 'r', Array.from({ length: 60 }, (_, n) => `word ${n}`));
    await caughtUp(server, Math.max(...ids));
    for (const [name, does] of Object.entries(harm)) {
      await server.halt();
      const dir = join(server.data, 'search');
      const files = filesOf(server).filter((file) => !file.endsWith('.json'));
      const largest = files.toSorted((a, b) => statSync(b).size - statSync(a).size)[0];
      does(dir, largest);
      await server.launch();
      assert.equal((await done(server, ann, 'GET', '/rooms/r/messages')).messages.length, 50, `${name}: everything else works`);
      await caughtUp(server, Math.max(...ids));
      assert.match(server.stderr + server.stdout, /built anew/, `${name}: the log says so`);
      assert.equal((await search(server, ann, { q: 'word', limit: 50 })).messages.length, 50, name);
      assert.equal(await figure(server, 'search_messages'), 60, name);
    }
    await server.stop();
  });

  test('and while it runs', async (t) => {
    const server = await served(t);
    const ids = await sayMuch(server, 'r', Array.from({ length: 60 }, (_, n) => `word ${n}`));
    await caughtUp(server, Math.max(...ids));
    for (const name of ['is removed', 'has a file cut to nothing', 'has a file cut to half']) {
      for (const file of name === 'is removed' ? [''] : filesOf(server).filter((one) => !one.endsWith('.json'))) {
        if (file === '' || existsSync(file)) harm[name](join(server.data, 'search'), file);
      }
      const last = await say(server, ann, 'r', `word behind: ${name}`);
      ids.push(last);
      await until(async () => {
        const answer = await search(server, ann, { q: 'words', limit: 50 });
        return answer.ok ? answer.isComplete && answer.messages[0]?.id === last && answer.messages.length === 50 : assert.equal(answer.error.code, 'unavailable');
      }, `${name}: it is found again`, 60_000);
      await until(async () => await figure(server, 'search_messages') === ids.length, name);
    }
    await server.stop();
  });

  test('the index of another store is not taken for one’s own', async (t) => {
    const [server, other] = [await served(t), await served(t)];
    const foreign = await say(other, ann, 'r', 'foreign word');
    await caughtUp(other, foreign);
    const own = await say(server, ann, 'r', 'own word');
    await caughtUp(server, own);
    await Promise.all([server.halt(), other.halt()]);
    rmSync(join(server.data, 'search'), { recursive: true });
    cpSync(join(other.data, 'search'), join(server.data, 'search'), { recursive: true });
    await server.launch();
    await caughtUp(server, own);
    assert.match(server.stderr + server.stdout, /another store/);
    assert.deepEqual(idsOf(await search(server, ann, { q: 'word' })), [own]);
    assert.equal(await figure(server, 'search_messages'), 1);
    await server.stop();
  });

  test('a restore builds it anew of what is restored, and no backup has it', async (t) => {
    const server = await served(t);
    const run = (...args) => execFileSync(binary, [...args, '--data-dir', server.data], { env: { PATH: process.env.PATH, JWT_SECRET: secret }, stdio: 'pipe' });
    const before = await say(server, ann, 'r', 'a word before');
    await caughtUp(server, before);
    run('backup', join(server.dir, 'a.backup'));
    const behind = await say(server, ann, 'r', 'a word behind');
    await caughtUp(server, behind);
    await server.halt();
    run('restore', join(server.dir, 'a.backup'));
    await server.launch();
    await caughtUp(server, before);
    assert.deepEqual(idsOf(await search(server, ann, { q: 'word' })), [before]);
    assert.equal(await figure(server, 'search_messages'), 1);
    const next = await say(server, ann, 'r', 'a word of today');
    await caughtUp(server, next);
    assert.deepEqual(idsOf(await search(server, ann, { q: 'word' })), [next, before]);
    await server.stop();
  });

  test('it begins with the first search, and is kept from then on, over starts', async (t) => {
    const server = await served(t);
    const id = await say(server, ann, 'r', 'a word');
    const state = async () => (await server.fetch('/api/v1/admin/status', { claims: { userId: 1, role: 'admin' } })).json.search;
    const later = await say(server, ann, 'r', 'another word');
    await until(async () => (await state()).state === 'unused', 'it says that it is not used');
    assert.deepEqual([(await state()).lagSeconds, existsSync(join(server.data, 'search'))], [0, false]);
    const first = await search(server, ann, { q: 'word' });
    assert.equal(first.ok, true, JSON.stringify(first));
    await caughtUp(server, later);
    assert.deepEqual(idsOf(await search(server, ann, { q: 'word' })), [later, id]);
    await server.halt();
    await server.launch();
    await until(async () => (await state()).state === 'following', 'it is kept again, before anybody has looked for anything');
    await server.stop();
  });

  test('without space it waits, and everything else goes on; where search is off there is none', async (t) => {
    const server = await served(t);
    const id = await say(server, ann, 'r', 'a word');
    await caughtUp(server, id);
    await server.halt();
    rmSync(join(server.data, 'search'), { recursive: true });
    server.env = { ...server.env, ACADEMY_RT_STORAGE_MIN_FREE: '1000000GB' };
    await server.launch({ ready: 503 });
    assert.equal((await search(server, ann, { q: 'word' })).error.code, 'unavailable');
    await until(() => /waits for space/.test(server.stderr + server.stdout), 'the log says so');
    assert.equal((await done(server, ann, 'GET', '/rooms/r/messages')).messages[0].id, id);
    await server.halt();
    delete server.env.ACADEMY_RT_STORAGE_MIN_FREE;
    await server.launch();
    await caughtUp(server, id);
    assert.deepEqual(idsOf(await search(server, ann, { q: 'word' })), [id]);
    await server.halt();
    server.env.ACADEMY_RT_SEARCH_ENABLED = 'false';
    await server.launch();
    const { status, json } = await call(server, ann, 'GET', '/search?q=word');
    assert.deepEqual([status, json.error.code], [404, 'not_found']);
    assert.match(json.error.message, /search\.enabled/);
    assert.equal(existsSync(join(server.data, 'search')), false, 'nothing of it is left, which nobody would keep as the store is');
    await server.stop();
  });
});
