// academy-rt beside other servers that can be installed with npm and pip, for by hand: the same load on fresh servers in turn, and
// the medians of what each message costs. All of them store a message before they acknowledge it (see README.md).
//
//   TESTED_BINARY=... node compare.mjs [--rounds 3] [--seconds 5] [--without python] [ROW]...
//
// The Python servers need tests/bench/.venv: python3 -m venv .venv && .venv/bin/pip install -r requirements.txt
import { parseArgs } from 'node:util';
import { academyRt, measure, node, python, tested } from './servers.mjs';
import { chosen, line, median, offered, shown, titled } from './rows.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '5' },
    without: { type: 'string', multiple: true, default: [] },
  },
});
const all = [academyRt(tested()), node, python('aiohttp'), python('uvicorn')];
const kinds = all.filter(({ name }) => !values.without.some((word) => name.toLowerCase().includes(word.toLowerCase())));
for (const row of chosen(positionals)) {
  const found = kinds.map(() => []);
  const failures = new Map();
  for (let n = 0; n < Number(values.rounds); n += 1) {
    for (const [at, kind] of kinds.entries()) {
      // One that does not bear a load is shown without figures there, and the others are measured.
      try {
        found[at].push(await measure(kind, offered(row, values.seconds)));
      } catch (error) {
        failures.set(kind.name, error.message);
      }
    }
  }
  line(`${row.name} (medians of ${values.rounds})`, ...kinds.map(({ name }) => name.replace('Python, ', '')));
  for (const figure of row.figures) {
    line(titled(figure), ...found.map((runs) => (runs.length > 0 ? shown(median(runs.map(figure.of)), figure) : '-')));
  }
  if (row.args[0] !== 'idle') {
    line('  acknowledged of what was offered, %', ...found.map((runs) => (runs.length > 0 ? shown(median(runs.map((run) => (run.acknowledged / run.sent) * 100)), { digits: 1 }) : '-')));
    line('  acknowledged a second', ...found.map((runs) => (runs.length > 0 ? shown(median(runs.map((run) => run.perSecond)), { digits: 0 }) : '-')));
  }
  for (const [name, why] of failures) console.log(`  ${name}: ${why}`);
}
