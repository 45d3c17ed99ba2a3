// What each kind of request costs: processor time of the server for one, with one learner who has lessons, rooms and
// notifications, and no limits. `TESTED_BINARY=... node requests.mjs` prints a table beside the points of the budget.
import { readdirSync, readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Appliance, ask, noLimits, token } from '../clients/harness.mjs';
import { ACTS, furnish } from '../clients/kinds.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const LONGEST_MS = 1_500;
const IN_FLIGHT = 8;

const costs = () => {
  const page = readFileSync(join(here, '../../docs/protocol.md'), 'utf8');
  const table = /<!-- generated: costs -->\n([\s\S]*?)<!-- end -->/.exec(page)[1];
  return Object.fromEntries(table.trim().split('\n').slice(2).map((row) => row.split('|').slice(1, 3).map((cell) => cell.trim().replaceAll('`', ''))));
};

// Time on all processors, in microseconds.
const cpu = ({ child }) => readdirSync(`/proc/${child.pid}/task`)
  .reduce((sum, task) => sum + Number(readFileSync(`/proc/${child.pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]), 0) / 1_000;

async function each(server, does) {
  for (let n = 0; n < 2; n += 1) await does(0);
  const [before, end] = [cpu(server), Date.now() + LONGEST_MS];
  let done = 0;
  await Promise.all(Array.from({ length: IN_FLIGHT }, async (_, lane) => {
    while (Date.now() < end) {
      await does(lane);
      done += 1;
    }
  }));
  return { us: (cpu(server) - before) / done, done };
}

const lanes = Array.from({ length: IN_FLIGHT }, () => undefined);
const http = (server, { method, path, body }, bearer) => (lane) => new Promise((resolve, reject) => {
  // Who is refused too often is read more slowly, by connection.
  const uses = (lanes[lane]?.uses ?? 0) + 1;
  if (lanes[lane] === undefined || uses > 100) {
    lanes[lane]?.agent.destroy();
    lanes[lane] = { agent: new Agent({ keepAlive: true, maxSockets: 1 }), uses: 0 };
  }
  lanes[lane].uses += 1;
  const text = body === undefined ? undefined : JSON.stringify(body);
  const headers = { ...(bearer && { authorization: `Bearer ${bearer}` }), ...(text && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }) };
  request(`${server.url}${path}`, { agent: lanes[lane].agent, method, headers }, (answer) => {
    answer.resume();
    answer.on('end', () => resolve(answer.statusCode));
  }).on('error', reject).end(text);
});

const server = await Appliance.start({ env: noLimits });
await furnish(server);
const own = token({ userId: 7 });
const learner = await server.signedIn({ userId: 7 });
for (const roomId of ['own-0', 'crowd']) await ask(learner, 'chat:join', { roomId });
console.log('| request | cost | over Socket.IO, us | over HTTP, us | answer |\n|---|---|---|---|---|');
const points = costs();
for (const [kind, act] of Object.entries(ACTS)) {
  let [socket, web, said] = [undefined, undefined, ''];
  if (act.event && act.event !== 'no:such') {
    const payload = act.payload === 'own token' ? { token: own } : act.payload;
    const answer = await ask(learner, act.event, payload);
    said = answer.ok ? 'ok' : answer.error?.code;
    // Refusals are counted: a wrong request is asked for slowly, below.
    if (answer.ok) socket = (await each(server, () => ask(learner, act.event, payload))).us;
  }
  if (act.http) {
    const bearer = act.isForged ? token({ userId: 7 }, { key: 'not the secret of this server, but as long' }) : own;
    const trusted = { 'POST /api/v1/broadcast': { userId: 'p', scope: 'broadcast' }, 'POST /api/v1/notifications': { userId: 'p', role: 'admin' }, '/api/v1/admin/…': { userId: 1, role: 'admin' }, 'GET /metrics': { userId: 1, role: 'admin' } }[kind];
    const as = trusted ? token(trusted) : bearer;
    said += ` ${await http(server, act.http, as)(0)}`;
    web = (await each(server, http(server, act.http, as))).us;
  }
  const figure = (us) => (us === undefined ? '' : us.toFixed(0));
  console.log(`| ${kind} | ${points[kind] ?? '?'} | ${figure(socket)} | ${figure(web)} | ${said.trim()} |`);
}
await server.stop().catch((error) => console.error(error.message));
process.exit(0);
