// A line between a client and the server: it can be cut, and it can swallow what it carries while both ends think it stands.
import { connect, createServer } from 'node:net';

export class Line {
  #connections = new Set();
  #server;

  // What it does: 'up'; 'down': connections are refused; 'silent': nothing passes, and nobody is told; 'deaf': what the server
  // says does not pass.
  state = 'up';

  /** How many connections were tried. */
  tried = 0;

  static async to(port) {
    const line = new Line();
    line.#server = createServer({ pauseOnConnect: true }, (near) => line.#carry(near, port));
    await new Promise((resolve) => { line.#server.listen(0, '127.0.0.1', resolve); });
    line.port = line.#server.address().port;
    return line;
  }

  #carry(near, port) {
    this.tried += 1;
    if (this.state === 'down') return near.destroy();
    const far = connect(port, '127.0.0.1');
    const end = () => {
      this.#connections.delete(end);
      near.destroy();
      far.destroy();
    };
    this.#connections.add(end);
    const pass = (from, to, states) => {
      from.on('data', (data) => { if (states.includes(this.state)) to.write(data); });
      from.on('close', end);
      from.on('error', end);
    };
    pass(near, far, ['up', 'deaf']);
    pass(far, near, ['up']);
    near.resume();
  }

  #hangUp() {
    for (const end of this.#connections) end();
  }

  cut() {
    this.state = 'down';
    this.#hangUp();
  }

  // What was swallowed is lost: connections that stood meanwhile are cut.
  mend() {
    if (this.state !== 'down') this.#hangUp();
    this.state = 'up';
  }

  close() {
    this.cut();
    return new Promise((resolve) => { this.#server.close(resolve); });
  }
}
