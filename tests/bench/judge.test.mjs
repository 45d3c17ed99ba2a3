// What the bench says of figures: a bound that is passed is told, and so is a figure that is not there.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROWS, interval, judge, median } from './rows.mjs';

const answer = (factor, { delivered = 10 } = {}) => ({
  cpuUsPerMessage: 400 * factor, cpuUsPerDelivery: (400 * factor) / delivered, writtenBytesPerMessage: 20_000 * factor,
  readAndWriteCallsPerMessage: 15 * factor, ack: { p50Ms: 2 * factor, p99Ms: 9 * factor },
  cpuUsPerConnect: 700 * factor, bytesPerConnection: 25_000 * factor,
});

test('each figure of each row fails above its bound, and only there', () => {
  let figures = 0;
  for (const row of ROWS) {
    for (const figure of row.figures) {
      figures += 1;
      assert.ok(figure.bound > 0, `${row.name}: ${figure.name} has a bound`);
      const peer = [answer(1), answer(1), answer(1)];
      const of = (factor) => judge(figure, [answer(factor), answer(factor), answer(factor)], peer).isGood;
      assert.deepEqual([of(figure.bound * 0.99), of(figure.bound * 1.01)], [true, false], `${row.name}: ${figure.name}`);
    }
  }
  assert.equal(figures, 27);
});

test('one bad round of three does not decide, and two do', () => {
  const figure = ROWS[0].figures[0];
  const bad = answer(figure.bound * 2);
  const good = answer(figure.bound / 2);
  const peer = [answer(1), answer(1), answer(1)];
  assert.equal(judge(figure, [bad, good, good], peer).isGood, true);
  assert.equal(judge(figure, [bad, bad, good], peer).isGood, false);
});

test('what was not measured is not good', () => {
  for (const { figures } of ROWS) {
    for (const figure of figures) {
      const nothing = { ack: {} };
      assert.equal(judge(figure, [nothing], [answer(1)]).isGood, false, figure.name);
      assert.equal(judge(figure, [answer(1)], [nothing]).isGood, false, figure.name);
      assert.equal(judge(figure, [answer(1)], [answer(0)]).isGood, false, `${figure.name}: a peer that has done nothing`);
    }
  }
});

test('a median is of all, and an interval of as many pairs as it needs', () => {
  assert.deepEqual([median([3, 1, 2]), median([4, 1, 2, 3])], [2, 2.5]);
  assert.equal(interval([1, 2, 3, 4, 5]), undefined);
  assert.deepEqual(interval([6, 5, 4, 3, 2, 1]), [1, 6]);
  // 2 (1 + 10) / 1,024 is below 0.05, and 2 (1 + 10 + 45) / 1,024 is not.
  assert.deepEqual(interval([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), [2, 9]);
});
