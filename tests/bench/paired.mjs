// Compares two builds of academy-rt, for by hand: the same load on fresh servers of both in turn, in alternating order, made by one
// program for both. Of each figure it prints the medians, the median of the ratios of the pairs, and the interval that holds the true
// median with at least 95 % (by the order of the ratios: it needs six pairs, and supposes nothing of how they are spread).
//
//   node paired.mjs BINARY_A BINARY_B [--rounds 10] [--seconds 5] [ROW]...
//
// Two builds of one commit should have intervals around 1: try that first on the machine.
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { academyRt, measure } from './servers.mjs';
import { chosen, interval, line, median, offered, shown, titled } from './rows.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '10' }, seconds: { type: 'string', default: '5' } },
});
const [a, b, ...words] = positionals;
if (!b) {
  console.error('usage: node paired.mjs BINARY_A BINARY_B [--rounds 10] [--seconds 5] [ROW]...');
  process.exit(2);
}
process.env.LOAD_BINARY ??= resolve(b);

const kinds = [academyRt(resolve(a), 'A'), academyRt(resolve(b), 'B')];
for (const row of chosen(words)) {
  const pairs = [];
  for (let n = 0; n < Number(values.rounds); n += 1) {
    const pair = [];
    for (const at of n % 2 === 0 ? [0, 1] : [1, 0]) pair[at] = await measure(kinds[at], offered(row, values.seconds));
    pairs.push(pair);
  }
  line(`${row.name} (${pairs.length} pairs)`, 'A', 'B', 'B / A', '95 %');
  for (const figure of row.figures) {
    const ratios = pairs.map(([one, other]) => figure.of(other) / figure.of(one));
    const ends = interval(ratios)?.map((end) => shown(end, { digits: 2 })).join('-') ?? 'too few';
    const medians = [0, 1].map((at) => shown(median(pairs.map((pair) => figure.of(pair[at]))), figure));
    line(titled(figure), ...medians, shown(median(ratios), { digits: 2 }), ends);
  }
}
