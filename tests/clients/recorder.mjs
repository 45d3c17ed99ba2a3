// Keeps what goes over the wire in the tests, each shape of it once, where RECORDED_TRAFFIC names a directory: the suite
// `contract` compares it with the machine-readable contract.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const directory = process.env.RECORDED_TRAFFIC;
/** So many different ones of a process at most, and none that is longer. */
const MOST = 2_000;
const LONGEST = 200_000;
const kept = new Map();

/** What two values share that are alike but for what they say: fields, types, and short words. */
function shape(value, depth = 4) {
  if (Array.isArray(value)) return depth === 0 ? '[]' : `[${[...new Set(value.slice(0, 20).map((one) => shape(one, depth - 1)))].sort().join()}]`;
  if (value === null || typeof value !== 'object') return value === null ? 'null' : typeof value;
  if (depth === 0) return '{}';
  return `{${Object.keys(value).sort().slice(0, 60).map((key) => `${key}:${shape(value[key], depth - 1)}`).join()}}`;
}

export function note(what) {
  if (!directory && !note.always) return;
  const alike = [what.kind, what.name, what.path?.split('/').length, what.status, shape(what.sent), shape(what.answer)].join(' ');
  if (kept.size >= MOST || kept.has(alike)) return;
  const text = JSON.stringify(what);
  if (text.length <= LONGEST) kept.set(alike, text);
}

/** Of this process, so far. */
export function seen() {
  return [...kept.values()].map((text) => JSON.parse(text));
}

export function noteAnswer({ method, url, sent, status, type, json }) {
  if (!type?.startsWith('application/json') || method === 'HEAD') return;
  note({ kind: 'http', method, path: url.split('?')[0], sent: parsed(sent), status, answer: json });
}

function parsed(sent) {
  try {
    return typeof sent === 'string' ? JSON.parse(sent) : sent;
  } catch {
    return undefined;
  }
}

/** Everything that a socket is told, and what it is answered, by the library's own ways. */
export function watch(socket) {
  const { packet, onevent, onack } = socket;
  const asked = new Map();
  socket.packet = (sent) => {
    if (sent.id !== undefined && Array.isArray(sent.data)) asked.set(sent.id, sent.data.slice(0, 2));
    return packet.call(socket, sent);
  };
  socket.onevent = (told) => {
    const [name, payload] = told.data ?? [];
    note({ kind: 'event', name, answer: payload });
    return onevent.call(socket, told);
  };
  socket.onack = (answered) => {
    const [name, sent] = asked.get(answered.id) ?? [];
    asked.delete(answered.id);
    if (name !== undefined) note({ kind: 'ack', name, sent, answer: answered.data?.[0] });
    return onack.call(socket, answered);
  };
}

if (directory) {
  process.on('exit', () => {
    if (kept.size === 0) return;
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, `${process.pid}-${Date.now()}.jsonl`), [...kept.values(), ''].join('\n'));
  });
}
