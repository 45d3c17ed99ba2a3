// What a forged token costs: processor time of the server for each, by the keys that it has. `TESTED_BINARY=... node forged.mjs`
// prints a table; the cost of the request itself (one without a token) is taken off.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Appliance, noLimits } from '../clients/harness.mjs';

const REQUESTS = Number(process.env.REQUESTS ?? 2_000);
const CONNECTIONS = 8;

const made = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  'RS256 of 4096 bits': () => generateKeyPairSync('rsa', { modulusLength: 4096 }),
  'RS256 of 8192 bits': () => generateKeyPairSync('rsa', { modulusLength: 8192 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
};
const lengths = { HS256: 32, RS256: 256, 'RS256 of 4096 bits': 512, 'RS256 of 8192 bits': 1_024, ES256: 64, ES384: 96, EdDSA: 64 };

const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

// It says what a good one says, and each has another signature of the right length, below any modulus.
function forged(kind, { kid, bytes = 0 } = {}) {
  const signature = randomBytes(lengths[kind]);
  signature[0] &= 0x3f;
  if (kind === 'EdDSA') signature[63] &= 0x0f;
  const claims = { userId: 7, exp: Math.floor(Date.now() / 1_000) + 3_600, filler: 'x'.repeat(Math.floor(bytes * 0.75)) };
  return `${part({ alg: kind.split(' ')[0], typ: 'JWT', ...(kid && { kid }) })}.${part(claims)}.${signature.toString('base64url')}`;
}

// Time on all processors, in nanoseconds: of all threads, those that have ended apart.
const cpu = ({ child }) => readdirSync(`/proc/${child.pid}/task`)
  .reduce((sum, task) => sum + Number(readFileSync(`/proc/${child.pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]), 0);

const ask = (server, agent, token) => new Promise((resolve, reject) => {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  request(`${server.url}/api/v1/session`, { agent, headers }, (answer) => {
    answer.resume();
    answer.on('end', () => (answer.statusCode === 401 ? resolve() : reject(new Error(`${answer.statusCode}`))));
  }).on('error', reject).end();
});

// Microseconds of a processor for each.
async function cost(server, tokenOf) {
  const round = async (count) => {
    await Promise.all(Array.from({ length: CONNECTIONS }, async () => {
      // A connection of its own for each some: who is refused too often is read more slowly.
      for (let n = 0; n < count / CONNECTIONS; n += 100) {
        const agent = new Agent({ keepAlive: true, maxSockets: 1 });
        for (let i = 0; i < 100; i += 1) await ask(server, agent, tokenOf());
        agent.destroy();
      }
    }));
  };
  await round(CONNECTIONS * 100);
  const before = cpu(server);
  const count = Math.ceil(REQUESTS / (CONNECTIONS * 100)) * CONNECTIONS * 100;
  await round(count);
  return (cpu(server) - before) / count / 1_000;
}

async function withKeys(kind, count, isNamed) {
  if (kind === 'HS256') return Appliance.start({ env: noLimits });
  const keys = Array.from({ length: count }, (_, n) => ({ ...made[kind]().publicKey.export({ format: 'jwk' }), ...(isNamed && { kid: `k${n}` }) }));
  const file = join(mkdtempSync(join(tmpdir(), 'forged-')), 'jwks.json');
  writeFileSync(file, JSON.stringify({ keys }), { mode: 0o644 });
  return Appliance.start({ env: { ...noLimits, ACADEMY_RT_AUTH_JWKS_FILE: file } });
}

const row = (name, figure) => console.log(`| ${name} | ${figure.toFixed(0)} |`);
console.log('| token | us |\n|---|---|');
for (const [kind, many] of [['HS256', 1], ['RS256', 8], ['RS256 of 4096 bits', 1], ['RS256 of 8192 bits', 1], ['ES256', 8], ['ES384', 8], ['EdDSA', 8]]) {
  if (process.env.KIND && process.env.KIND !== kind) continue;
  const server = await withKeys(kind, 1, true);
  const request = await cost(server, () => undefined);
  if (kind === 'HS256') {
    row('none (the request itself)', request);
    for (const [name, token] of Object.entries({ 'not a JWT': () => randomBytes(60).toString('base64url'), 'alg none': () => `${part({ alg: 'none' })}.${part({ userId: 7 })}.`, 'an algorithm without a key': () => forged('ES256') })) {
      row(name, await cost(server, token) - request);
    }
  }
  const of = kind === 'HS256' ? {} : { kid: 'k0' };
  row(kind, await cost(server, () => forged(kind, of)) - request);
  row(`${kind}, 8 KiB`, await cost(server, () => forged(kind, { ...of, bytes: 7_400 * 1 })) - request);
  await server.stop();
  if (many > 1) {
    const crowded = await withKeys(kind, many, false);
    row(`${kind}, no kid, ${many} keys without one`, await cost(crowded, () => forged(kind)) - request);
    await crowded.stop();
  }
}
