// The file that the server carries is made of the modules in assets/sdk/src.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { bundled, sdk } from './bundle.mjs';

const stored = readFileSync(join(sdk, 'academy-rt.js'), 'utf8');

test('bundling the modules again gives the stored file, byte for byte', async () => {
  const made = await bundled();
  assert.ok(made === stored, 'assets/sdk/academy-rt.js is not what assets/sdk/src gives: run `npm run bundle` in tests/sdk');
});

test('it says first what it is made of and how, and needs no other file', () => {
  const [first] = stored.split('\n');
  assert.ok(first.startsWith('// ') && first.includes('assets/sdk/src') && first.includes('npm run bundle'), first);
  assert.doesNotMatch(stored, /^import |\bimport\(['"]|\brequire\(/m);
});

test('every module is in it, readable as it was written', () => {
  const modules = readdirSync(join(sdk, 'src'));
  assert.ok(modules.length >= 7, modules.join());
  for (const name of modules) {
    const [, purpose] = /^\/\/ (.+)$/m.exec(readFileSync(join(sdk, 'src', name), 'utf8'));
    assert.ok(stored.includes(purpose), `${name} is not in the bundle, or lost its comments`);
  }
});
