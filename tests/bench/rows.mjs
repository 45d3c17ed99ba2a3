// The rows of the bench: what is offered to a server, what is looked at, and how much of Node's it may be (see README.md).

const us = { digits: 1, unit: 'us' };
const ms = { digits: 2, unit: 'ms' };

// What is counted of each message of a scenario. `of` reads an answer of `academy-rt bench`.
const message = (bounds) => [
  { name: 'CPU a message', ...us, of: (found) => found.cpuUsPerMessage, bound: bounds.cpu },
  { name: 'written to the disk a message', digits: 1, unit: 'kB', of: (found) => found.writtenBytesPerMessage / 1e3, bound: bounds.written },
  { name: 'read and write calls a message', digits: 2, unit: '', of: (found) => found.readAndWriteCallsPerMessage, bound: bounds.calls },
  { name: 'acknowledged, 50 %', ...ms, of: (found) => found.ack.p50Ms, bound: bounds.p50 },
  { name: 'acknowledged, 99 %', ...ms, of: (found) => found.ack.p99Ms, bound: bounds.p99 },
];
const delivery = (bounds) => [
  { name: 'CPU a delivery', ...us, digits: 2, of: (found) => found.cpuUsPerDelivery, bound: bounds.cpu },
  ...message(bounds).slice(1),
];

export const ROWS = [
  {
    name: 'chat: 100 rooms of 10, 500 messages a second', args: ['chat', '--rate', '500'], least: 3,
    figures: message({ cpu: 1.3, written: 6, calls: 1.5, p50: 5, p99: 12 }),
  },
  {
    name: 'chat: 100 rooms of 10, 1,000 messages a second', args: ['chat', '--rate', '1000'], least: 3,
    figures: message({ cpu: 1.3, written: 5, calls: 1.2, p50: 5, p99: 12 }),
  },
  {
    name: 'fan-out: 500 receivers, 40 messages a second', args: ['fanout', '--rate', '40'],
    figures: delivery({ cpu: 0.75, written: 8, calls: 0.06, p50: 2, p99: 4 }),
  },
  {
    name: 'fan-out: 500 receivers, 8 messages in flight', args: ['fanout', '--in-flight', '8'],
    figures: delivery({ cpu: 0.65, written: 25, calls: 0.06, p50: 1, p99: 2 }),
  },
  {
    name: 'progress: 200 users, 1,000 reports a second', args: ['progress', '--rate', '1000'],
    figures: message({ cpu: 1.1, written: 6, calls: 2, p50: 6, p99: 8 }),
  },
  {
    name: 'idle: 2,000 WebSockets', args: ['idle', '--clients', '2000'], most: 1,
    figures: [
      { name: 'CPU a connect', ...us, of: (found) => found.cpuUsPerConnect, bound: 0.65 },
      { name: 'memory a WebSocket', digits: 1, unit: 'KiB', of: (found) => found.bytesPerConnection / 1024, bound: 1.2 },
    ],
  },
];

export function median(list) {
  const sorted = list.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 ? sorted[Math.floor(middle)] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The command line of a row's load. */
export const offered = (row, seconds) => [...row.args, '--seconds', String(Math.min(Math.max(Number(seconds), row.least ?? 1), row.most ?? Infinity))];

/** The rows whose name contains one of the words; all without one. */
export function chosen(words) {
  const rows = ROWS.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)));
  if (rows.length === 0) throw new Error(`no row is called ${words.join(' or ')}: there are\n${ROWS.map(({ name }) => `  ${name}`).join('\n')}`);
  return rows;
}

/** How a figure compares: the medians of the rounds, their ratio, and whether it is within its bound. What was not measured is not. */
export function judge(figure, tested, peer) {
  const [own, other] = [tested, peer].map((found) => median(found.map(figure.of)));
  const ratio = own / other;
  const isKnown = Number.isFinite(own) && Number.isFinite(other) && other > 0 && own >= 0;
  return { own, other, ratio, isGood: isKnown && ratio <= figure.bound };
}

/** The ratios between which the median of all is with at least 95 %, by the sign test; undefined for fewer than six. */
export function interval(ratios) {
  const sorted = ratios.toSorted((one, other) => one - other);
  const n = sorted.length;
  let [left, outside, ways] = [-1, 0, 1];
  // `outside`: how likely it is that fewer than `k` of `n` lie on one side of the median.
  for (let k = 0; k < n / 2; k += 1) {
    outside += ways / 2 ** n;
    if (2 * outside > 0.05) break;
    left = k;
    ways = (ways * (n - k)) / (k + 1);
  }
  return left < 0 ? undefined : [sorted[left], sorted[n - 1 - left]];
}

const cell = (text, width = 12) => String(text).padStart(width);
export const shown = (value, { digits }) => (Number.isFinite(value) ? value.toFixed(digits) : '?');
export const line = (title, ...cells) => console.log(title.padEnd(52) + cells.map((text) => cell(text)).join(''));
export const titled = ({ name, unit }) => `  ${name}${unit && `, ${unit}`}`;
