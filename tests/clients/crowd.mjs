// People who write to each other while something else goes on, and how long each message took until it was acknowledged.
import assert from 'node:assert/strict';
import { ask } from './harness.mjs';

// Each writes so often: within what a person may, and 160 messages a second of twenty people together.
const PAUSE_MS = 125;

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export const at = (took, share) => {
  const sorted = took.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
};

// People write, in four rooms of that name, until it is over.
async function conversation(people, room, isOver) {
  const took = [];
  await Promise.all(people.map(async (person, i) => {
    await pause((i * PAUSE_MS) / people.length);
    while (!isOver()) {
      const began = performance.now();
      const answer = await ask(person, 'chat:message', { roomId: `${room}-${i % 4}`, content: 'as if nothing were' });
      assert.equal(answer.ok, true, JSON.stringify(answer));
      took.push(performance.now() - began);
      await pause(PAUSE_MS);
    }
  }));
  return took;
}

// How long messages took while something went on, and what it came to.
export async function during(people, room, work) {
  let isOver = false;
  const ended = work.finally(() => { isOver = true; });
  const took = await conversation(people, room, () => isOver);
  return { took, ended: await ended };
}
