// A class that is in one room and leaves it all at once, in a process of its own: `node leavers.mjs PORT MANY`. Prints `here` when all
// of them have joined, waits for the end of the standard input, leaves (each second one by `chat:leave`, the others by the end of their
// connection), and prints `gone`.
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { token } from './harness.mjs';

const [port, many] = process.argv.slice(2).map(Number);
const exp = Math.floor(Date.now() / 1000) + 7_200;

async function joined(n) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws/?EIO=4&transport=websocket`, { perMessageDeflate: false, localAddress: `127.3.${n >> 8}.${n % 256}` });
  await new Promise((resolve, reject) => {
    socket.on('error', reject);
    socket.on('message', (data) => {
      const text = String(data);
      if (text[0] === '0') socket.send(`40${JSON.stringify({ token: token({ userId: 10_000 + n, exp }) })}`);
      else if (text === '2') socket.send('3');
      else if (text.startsWith('42["authenticated"')) socket.send('421["chat:join",{"roomId":"class","limit":1}]');
      else if (text.startsWith('431')) resolve();
      else if (text.startsWith('432')) socket.emit('left');
    });
  });
  return socket;
}

const sockets = [];
while (sockets.length < many) sockets.push(...await Promise.all(Array.from({ length: Math.min(200, many - sockets.length) }, (_, n) => joined(sockets.length + n))));
console.log('here');
process.stdin.resume();
await once(process.stdin, 'end');
await Promise.all(sockets.map((socket, n) => {
  const left = once(socket, n % 2 ? 'left' : 'close');
  if (n % 2) socket.send('422["chat:leave",{"roomId":"class"}]');
  else socket.terminate();
  return left;
}));
console.log('gone');
process.exit(0);
