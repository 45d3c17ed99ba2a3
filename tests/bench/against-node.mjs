// academy-rt beside the Node server of node-server.mjs, in one run: the same load on fresh servers in turn, and the ratio of the
// medians for what each message costs. It fails where a ratio is over its bound (rows.mjs).
//
//   TESTED_BINARY=... node against-node.mjs [--rounds 3] [--seconds 2] [ROW]...
//
// A row that is over a bound is measured for as many rounds again, and judged by the median of all.
import { parseArgs } from 'node:util';
import { academyRt, measure, node, tested } from './servers.mjs';
import { chosen, judge, line, offered, shown, titled } from './rows.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '3' }, seconds: { type: 'string', default: '2' } },
});
const rounds = Number(values.rounds);
const rows = chosen(positionals);
const found = new Map(rows.map((row) => [row, { own: [], other: [] }]));

async function round(row, isFirstOwn) {
  const own = async () => found.get(row).own.push(await measure(academyRt(tested()), offered(row, values.seconds)));
  const other = async () => found.get(row).other.push(await measure(node, offered(row, values.seconds)));
  for (const one of isFirstOwn ? [own, other] : [other, own]) await one();
}
const verdicts = (row) => row.figures.map((figure) => ({ figure, ...judge(figure, found.get(row).own, found.get(row).other) }));

for (let n = 0; n < rounds; n += 1) {
  for (const row of rows) await round(row, n % 2 === 0);
}
for (const row of rows) {
  if (verdicts(row).every(({ isGood }) => isGood)) continue;
  for (let n = 0; n < rounds; n += 1) await round(row, n % 2 === 1);
}

let [passed, failed] = [0, 0];
for (const row of rows) {
  line(`${row.name} (${found.get(row).own.length} rounds)`, 'Node', 'academy-rt', 'ratio', 'bound');
  const said = verdicts(row);
  for (const { figure, own, other, ratio } of said) {
    line(titled(figure), shown(other, figure), shown(own, figure), shown(ratio, { digits: 2 }), figure.bound.toFixed(2));
  }
  for (const { figure, ratio, isGood } of said) {
    if (isGood) passed += 1;
    else failed += 1;
    const words = `${row.name}: ${figure.name}, ${shown(ratio, { digits: 2 })} of Node's, at most ${figure.bound}`;
    if (!isGood) console.log(`not ok - ${words}`);
  }
}
console.log(`bench: ${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
