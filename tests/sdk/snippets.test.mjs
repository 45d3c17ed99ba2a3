// Every block of JavaScript and TypeScript in the README and the documents is free of type errors: against the types of
// socket.io-client, Node.js and the SDK. Those of docs/sdk.md are in docs.test.mjs.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { blocksIn } from '../docs/blocks.mjs';
import { errorsOf, program, root, textOf } from './compiler.mjs';

const pages = ['README.md', ...readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md') && name !== 'sdk.md').map((name) => `docs/${name}`)];
/** Packages without types of their own. */
const AROUND = { 'tests/sdk/types/untyped.d.ts': ['express', 'http-proxy-middleware', 'jsonwebtoken', 'standardwebhooks'].map((name) => `declare module '${name}';`).join('\n') };

/** Files that a page says to put beside its own, as far as its blocks call them. */
const BESIDE = {
  'assets/sdk/realtime-server.js': 'export function createRealtime(/** @type {object} */ _options) { return /** @type {any} */ ({}); }',
  'assets/sdk/realtime-client.js': 'export function bridge(/** @type {object} */ socket) { return socket; }',
};

function examplesOf(page) {
  const blocks = blocksIn(page, textOf(page)).blocks.filter(({ language }) => ['js', 'mjs', 'ts'].includes(language));
  const files = Object.fromEntries(blocks.flatMap(({ attributes, text }) => attributes.filter((one) => one.startsWith('file=')).map((one) => [`assets/sdk/${one.slice(5)}`, text])));
  return blocks.map(({ language, text, line }, at) => ({ page, line, text, files, path: `assets/sdk/snippet-${at}.${language === 'ts' ? 'ts' : 'mjs'}` }));
}

function wrongIn({ path, text, files }) {
  const texts = { ...files, ...AROUND, ...BESIDE, [path]: /^(import|export) /m.test(text) ? text : `${text}\nexport {};\n` };
  return errorsOf(program([path, Object.keys(AROUND)[0]], { texts, isNode: true, isLenient: true }));
}

const examples = pages.flatMap(examplesOf);

describe('no type errors in', () => {
  for (const example of examples) {
    const name = `${example.page} ${example.text.split('\n').find((line) => line.trim() !== '')}`;
    test(name, () => assert.deepEqual(wrongIn(example), []));
  }
});

test('all blocks were found, and a mistake in one is noticed', () => {
  const written = pages.reduce((sum, page) => sum + [...textOf(page).matchAll(/^```(js|mjs|ts)\b/gm)].length, 0);
  assert.ok(examples.length === written && written >= 25, `${examples.length} of ${written}`);
  let noticed = 0;
  for (const example of examples.filter(({ text }) => /\bsocket\.emitWithAck\(/.test(text))) {
    const errors = wrongIn({ ...example, text: example.text.replace('socket.emitWithAck(', 'socket.emitWithAcks(') });
    assert.match(errors.join(), /emitWithAcks/, example.page);
    noticed += 1;
  }
  assert.ok(noticed >= 2, String(noticed));
});
