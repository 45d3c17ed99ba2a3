// A thread with a few connections of its own, which do nothing: they see when a server sends them away, however busy the thread
// is that has the crowd. Tells its parent when they are signed in, and then when each of them has been closed.
import { parentPort, workerData } from 'node:worker_threads';
import { WebSocket } from 'ws';

const { url, ca, bearers } = workerData;

const watchers = bearers.map((bearer) => {
  const socket = new WebSocket(url, { perMessageDeflate: false, ca });
  const signedIn = new Promise((resolve, reject) => {
    socket.on('error', reject);
    socket.on('message', (data) => {
      const text = String(data);
      if (text[0] === '0') socket.send(`40${JSON.stringify({ token: bearer })}`);
      else if (text === '2') socket.send('3');
      else if (text.startsWith('42["authenticated"')) resolve();
    });
  });
  return { signedIn, closedAt: new Promise((resolve) => socket.once('close', () => resolve(Date.now()))) };
});
await Promise.all(watchers.map(({ signedIn }) => signedIn));
parentPort.postMessage('signed in');
parentPort.postMessage(await Promise.all(watchers.map(({ closedAt }) => closedAt)));
