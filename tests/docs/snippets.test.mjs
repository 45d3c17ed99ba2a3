// The fenced blocks of README.md and docs/*.md. A block in a language that can be tested says in braces how it is:
//   {check}      it is well formed: json, js, ts, sh, toml
//   {run}        it is run against a real server, in the order of the page; docs/http.md and docs/protocol.md alone
//   {env}        with run: what it exports is there for the blocks behind it
//   {file=NAME}  it is that file for the blocks behind it
//   {output}     what the {run} block before it prints: json by keys, types, codes and truth values; text with … for what varies
// deploy=, tutorial=, migrate=, command=, sdk= and webhook= are the names by which the other tests find their blocks.
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import ts from '../clients/node_modules/typescript/lib/typescript.js';
import { Appliance, binary, secret } from '../clients/harness.mjs';
import { blocksIn, scratch } from './blocks.mjs';

const run = promisify(execFile);
const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../..');
const pages = ['README.md', ...readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md')).sort().map((name) => `docs/${name}`)];
const RUN = ['docs/http.md', 'docs/protocol.md'];
const TESTED = ['sh', 'bash', 'js', 'ts', 'json', 'html', 'toml', 'python', 'php', 'csharp'];
const KNOWN = ['check', 'run', 'env', 'output', 'sdk'];
const NAMES = ['deploy', 'tutorial', 'migrate', 'sdk', 'command', 'webhook', 'file', 'backend'];

/** The blocks of a page, and what is wrong with how they are marked. */
function blocksOf(name, page) {
  const { blocks, wrong } = blocksIn(name, page);
  blocks.forEach((block, index) => {
    const { at, language, attributes } = block;
    const has = (one) => attributes.includes(one);
    if (TESTED.includes(language) && attributes.length === 0) wrong.push(`${at}: a block of ${language} says in braces how it is tested`);
    for (const one of attributes) {
      const isNamed = /^(\w+)=\S+$/.exec(one);
      if (!KNOWN.includes(one) && !(isNamed && NAMES.includes(isNamed[1]))) wrong.push(`${at}: '${one}' is not an attribute`);
    }
    if ((has('run') || attributes.some((one) => one.startsWith('file='))) && !RUN.includes(name)) wrong.push(`${at}: only ${RUN.join(' and ')} are run`);
    if (has('run') && !['sh', 'js'].includes(language)) wrong.push(`${at}: sh and js are run, and not ${language}`);
    if (has('env') && !(has('run') && language === 'sh')) wrong.push(`${at}: env goes with run, in sh`);
    if (has('output')) {
      if (!['json', 'text'].includes(language)) wrong.push(`${at}: an output is json or text`);
      if (!blocks[index - 1]?.attributes.includes('run')) wrong.push(`${at}: an output follows the block {run} that prints it`);
      else blocks[index - 1].output = block;
    }
  });
  return { blocks, wrong };
}

const SAID = ['code', 'event', 'status', 'type', 'role', 'kind', 'transport'];
const kindOf = (value) => (value === null ? 'null' : Array.isArray(value) ? 'a list' : typeof value);

/** Where printed JSON is not as documented, or nothing. */
function difference(documented, printed, at = 'the answer') {
  const [wanted, found] = [kindOf(documented), kindOf(printed)];
  if (wanted !== found) return `${at} is ${found}, and documented as ${wanted}`;
  if (wanted === 'boolean' && documented !== printed) return `${at} is ${printed}, and documented as ${documented}`;
  if (wanted === 'string' && SAID.includes(at.split('.').pop()) && documented !== printed) return `${at} is '${printed}', and documented as '${documented}'`;
  if (wanted === 'a list') {
    if ((documented.length === 0) !== (printed.length === 0)) return `${at} has ${printed.length} items, and ${documented.length} in the documentation`;
    for (const [index, item] of printed.entries()) {
      const differences = documented.map((one) => difference(one, item, `${at}[${index}]`));
      if (differences.every(Boolean)) return differences[0];
    }
  }
  if (wanted === 'object') {
    for (const key of new Set([...Object.keys(documented), ...Object.keys(printed)])) {
      if (!(key in printed)) return `${at} has no ${key}`;
      if (!(key in documented)) return `${at} has ${key}, which is not documented`;
      const inside = difference(documented[key], printed[key], `${at}.${key}`);
      if (inside) return inside;
    }
  }
  return undefined;
}

/** Whether printed text is as documented, … standing for anything within a line, and a line of it for any lines. */
function isText(documented, printed) {
  const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replaceAll('…', '.*');
  const lines = documented.trimEnd().split('\n').map((line) => (line.trim() === '…' ? '[\\s\\S]*' : escaped(line)));
  return new RegExp(`^${lines.join('\\n')}$`).test(printed.trimEnd());
}

let dir;
let path;

before(() => {
  ({ dir, path } = scratch('snippets'));
});

after(() => rmSync(dir, { recursive: true, force: true }));

/** Runs a tool over a block in a file; fails with what it says. */
function accepted(command, args, { text, file }) {
  writeFileSync(join(dir, file), text);
  const { status, stdout, stderr } = spawnSync(command, [...args, file], { cwd: dir, encoding: 'utf8', env: { PATH: process.env.PATH, HOME: dir } });
  assert.equal(status, 0, `${stdout}${stderr}`);
}

const sections = () => [...execFileSync(binary, ['config', 'default'], { encoding: 'utf8' }).matchAll(/^\[(\w+)\]$/gm)].map(([, name]) => name);

const checks = {
  json: ({ text }) => JSON.parse(text),
  js: ({ text }) => accepted(process.execPath, ['--check'], { text, file: 'checked.mjs' }),
  ts: ({ text }) => {
    const { diagnostics } = ts.transpileModule(text, { reportDiagnostics: true });
    assert.deepEqual(diagnostics.map(({ messageText }) => messageText), []);
  },
  sh: ({ text }) => accepted('bash', ['-n'], { text, file: 'checked.sh' }),
  bash: (block) => checks.sh(block),
  toml: ({ text }) => {
    const first = /^\[(\w+)\]/m.exec(text)?.[1];
    if (!sections().includes(first)) return accepted('python3', ['-c', 'import sys, tomllib; tomllib.load(open(sys.argv[1], "rb"))'], { text, file: 'checked.toml' });
    writeFileSync(join(dir, 'checked.toml'), text);
    const env = { PATH: process.env.PATH, HOME: dir, JWT_SECRET: secret };
    const { status, stdout, stderr } = spawnSync(binary, ['--config', 'checked.toml', 'config', 'check'], { cwd: dir, encoding: 'utf8', env });
    return assert.equal(status, 0, `${stdout}${stderr}`);
  },
};

for (const name of pages) {
  const { blocks, wrong } = blocksOf(name, readFileSync(join(root, name), 'utf8'));

  test(`${name}: each block says how it is tested`, () => assert.deepEqual(wrong, []));

  test(`${name}: what is to be checked is well formed`, () => {
    for (const block of blocks.filter(({ attributes }) => attributes.some((one) => ['check', 'run', 'output'].includes(one)))) {
      if (block.language === 'text') continue;
      assert.ok(checks[block.language], `${block.at}: there is no check for ${block.language}`);
      assert.doesNotThrow(() => checks[block.language](block), `${block.at}`);
    }
  });
}

for (const name of RUN) {
  test(`${name}: the examples do what the page says`, async (t) => {
    const { blocks } = blocksOf(name, readFileSync(join(root, name), 'utf8'));
    const server = await Appliance.start({ tls: true });
    t.after(() => server.stop());
    const place = mkdtempSync(join(dir, 'page-'));
    const cert = join(server.data, 'tls/cert.pem');
    let env = {
      PATH: path, HOME: place, URL: server.url,
      CURL_CA_BUNDLE: cert, NODE_EXTRA_CA_CERTS: cert, JWT_SECRET: secret, ACADEMY_RT_STORAGE_DATA_DIR: server.data,
    };
    let ran = 0;
    for (const { at, language, attributes, text, output } of blocks) {
      const file = attributes.find((one) => one.startsWith('file='))?.slice('file='.length);
      if (file) writeFileSync(join(place, file), text);
      if (!attributes.includes('run')) continue;
      ran += 1;
      // Each test has its own name for the place, so that the modules of the page are found beside it.
      const program = language === 'js' ? [process.execPath, `block-${ran}.mjs`] : ['bash', `block-${ran}.sh`];
      const isEnv = attributes.includes('env');
      writeFileSync(join(place, program[1]), language === 'js' ? text : `set -eu -o pipefail\n${text}${isEnv ? 'env -0\n' : ''}`);
      await t.test(at, async () => {
        const { stdout } = await run(program[0], [program[1]], { cwd: place, env, timeout: 60_000, maxBuffer: 64 << 20 });
        if (isEnv) env = Object.fromEntries(stdout.split('\0').filter(Boolean).map((one) => [one.slice(0, one.indexOf('=')), one.slice(one.indexOf('=') + 1)]));
        if (!output) return;
        if (output.language === 'text') return assert.ok(isText(output.text, stdout), `${output.at}: it prints\n${stdout}`);
        const found = difference(JSON.parse(output.text), JSON.parse(stdout));
        return assert.equal(found, undefined, `${output.at}: ${found}; it prints\n${stdout}`);
      });
    }
    assert.ok(ran >= 20, `only ${ran} blocks of ${name} are run`);
  });
}

test('a block that has a name is used by the test of that name', () => {
  const tests = { deploy: ['docs/deploy'], tutorial: ['docs/tutorial'], migrate: ['docs/migrate'], command: ['docs/commands'], backend: ['docs/backends'], sdk: ['sdk/docs'], webhook: ['clients/webhooks'] };
  for (const name of pages) {
    for (const { at, attributes } of blocksOf(name, readFileSync(join(root, name), 'utf8')).blocks) {
      for (const [kind, value] of attributes.map((one) => one.split('=')).filter(([kind, value]) => value !== undefined && kind !== 'file')) {
        const source = readFileSync(join(root, 'tests', `${tests[kind]}.test.mjs`), 'utf8');
        assert.ok(source.includes(`${kind}=${value}'`) || source.includes(`('${value}'`), `${at}: ${tests[kind]}.test.mjs does not use ${kind}=${value}`);
      }
    }
  }
});

/** The anchors of a page, as GitHub makes them of its headings. */
function anchorsOf(page) {
  const headings = page.replace(/^```[\s\S]*?^```$/gm, '').split('\n').filter((line) => /^#+ /.test(line));
  return headings.map((line) => line.replace(/^#+ /, '').toLowerCase().replace(/[^\p{L}\p{N}_ -]/gu, '').replaceAll(' ', '-'));
}

test('links between the pages lead to headings that are there', () => {
  let looked = 0;
  for (const name of pages) {
    for (const [, path, anchor] of readFileSync(join(root, name), 'utf8').matchAll(/\]\(([\w./-]*\.md)?#([\w-]+)\)/g)) {
      const page = path ? join(root, dirname(name), path) : join(root, name);
      assert.ok(anchorsOf(readFileSync(page, 'utf8')).includes(anchor), `${name}: ${path ?? ''}#${anchor} is not there`);
      looked += 1;
    }
  }
  assert.ok(looked >= 40, `only ${looked} links`);
});

test('docs/http.md: there is something at each address that has a heading', async (t) => {
  const page = readFileSync(join(root, 'docs/http.md'), 'utf8');
  const headings = page.split('\n').filter((line) => line.startsWith('#')).flatMap((line) => [...line.matchAll(/`(GET|POST|PUT|PATCH|DELETE) (\/\S*)`/g)]);
  // A route has one handler, with few exceptions: one handler blocks, unblocks, mutes, unmutes and disconnects, one releases two
  // kinds of holds, and the SDK's files, the page at `/` and its files have none.
  const routes = readdirSync(join(root, 'src/transport/http'), { recursive: true }).filter((name) => name.endsWith('.rs'));
  const handlers = routes.flatMap((name) => readFileSync(join(root, 'src/transport/http', name), 'utf8').match(/\.then\(\w+\)/g) ?? []);
  assert.equal(headings.length, handlers.length + 4 + 2 + 3, 'a route has no heading, or a heading no route');
  const server = await Appliance.start();
  t.after(() => server.stop());
  const sample = { file: 'academy-rt.js', kind: 'user', messageId: '1', notificationId: '1', reportId: '1' };
  const [ofThePage] = /(?<=console\/)[\w.-]+/.exec((await server.fetch('/')).raw);
  for (const [, method, path] of headings) {
    const filled = path.replace('/console/{file}', `/console/${ofThePage}`).replace(/\{(\w+)\}/g, (_, what) => sample[what] ?? 'nobody-1');
    const body = method === 'GET' ? undefined : {};
    const { status, raw } = await server.fetch(filled, { method, claims: { userId: 1, role: 'admin' }, body });
    assert.ok(!raw.includes('there is nothing at this address') && status !== 405, `${method} ${path} is answered ${status} ${raw}`);
  }
  // The same question about an address and a method that are not there.
  const claims = { userId: 1, role: 'admin' };
  assert.match((await server.fetch('/api/v1/nothing', { claims })).raw, /there is nothing at this address/);
  assert.equal((await server.fetch('/api/v1/session', { method: 'PUT', claims, body: {} })).status, 405);
});

test('a block that is not marked, marked wrongly or printed otherwise is found', () => {
  const wrong = (text, name = 'docs/http.md') => blocksOf(name, text).wrong.join(' ');
  assert.equal(wrong('```sh {check}\nls\n```\n'), '');
  assert.match(wrong('a\n```sh\nls\n```\n'), /^docs\/http\.md:2: a block of sh/);
  assert.match(wrong('```sh {chek}\nls\n```\n'), /'chek' is not an attribute/);
  assert.match(wrong('```sh {work=1}\nls\n```\n'), /'work=1' is not an attribute/);
  assert.match(wrong('```sh {run}\nls\n```\n', 'docs/admin.md'), /only .* are run/);
  assert.match(wrong('```json {output}\n1\n```\n'), /follows the block/);
  assert.match(wrong('```sh {check}\nls\n'), /has no end/);
  assert.match(wrong('```sh check\nls\n```\n'), /is not LANGUAGE/);

  const like = { ok: true, id: 1, error: { code: 'a' }, items: [{ id: 1 }, { id: 1, at: 2 }], next: null };
  const other = (change) => difference(like, { ...like, ...change });
  assert.equal(other({ id: 9, items: [{ id: 5 }] }), undefined);
  assert.match(other({ id: '9' }), /answer\.id is string/);
  assert.match(other({ ok: false }), /answer\.ok is false/);
  assert.match(other({ more: 1 }), /has more, which is not documented/);
  assert.match(other({ items: [] }), /has 0 items/);
  assert.match(other({ items: [{ id: 1 }, { x: 1 }] }), /items\[1\] has no id/);
  assert.match(other({ error: { code: 'b' } }), /code is 'b'/);
  assert.match(other({ next: 'a' }), /next is string/);
  assert.match(difference(like, { ok: true }), /has no id/);

  assert.ok(isText('stored as … (1+1)\n…\nend\n', 'stored as 12 (1+1)\na\nb\nend\n'));
  assert.ok(!isText('stored as …\n', 'stored at 12\n'));
  assert.ok(!isText('stored as …\n', 'stored as 12\nmore\n'));
});
