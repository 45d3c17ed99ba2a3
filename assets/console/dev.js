// The page of `serve --dev`: two people with the stock client, and everything that they send and hear.
import { io } from './socket.io.js';

const body = document.body;
const { origin } = location;
const { path, apiPath } = body.dataset;
const ROOM = 'dev';
const MOST = 200;
const TYPING_MS = 3_000;

const events = document.getElementById('events');
const filter = document.getElementById('filter');
const pause = document.getElementById('pause');

function element(name, text, properties = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  return Object.assign(made, properties);
}

function fits(row) {
  return row.textContent.toLowerCase().includes(filter.value.toLowerCase());
}

/** One line of the inspector: who, which way, the event, and what it says. */
function inspect(who, way, event, said) {
  if (pause.checked) return;
  const row = document.createElement('li');
  const details = document.createElement('details');
  const time = new Date().toLocaleTimeString(document.documentElement.lang);
  details.append(element('summary', `${time} ${who} ${events.dataset[way]} ${event}`), element('pre', JSON.stringify(said, null, 2) ?? '', { tabIndex: 0 }));
  row.append(details);
  row.hidden = !fits(row);
  events.prepend(row);
  while (events.children.length > MOST) events.lastElementChild.remove();
}

async function tokenOf(claims) {
  const answer = await fetch(`/dev/token?${new URLSearchParams(claims)}`);
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error.message);
  return said.token;
}

function person(section) {
  const { user, name, role } = section.dataset;
  const part = (selector) => section.querySelector(selector);
  const [state, list, typing, form, hangUp] = ['.state', '.messages', '.typing', 'form', '.hang-up'].map(part);
  const socket = io(origin, { path, autoConnect: false, auth: (give) => tokenOf({ user, name, role }).then((token) => give({ token }), () => give({})) });
  const rows = new Map();
  let last = 0;
  let typed = 0;
  let progress = 0;

  const ask = async (event, said) => {
    inspect(name, 'sent', event, said);
    const answer = await socket.emitWithAck(event, said);
    inspect(name, 'answered', event, answer);
    return answer;
  };
  const show = ({ id, senderName, content, deletedAt }) => {
    if (rows.has(id)) return;
    last = Math.max(last, id);
    rows.set(id, list.appendChild(element('li', deletedAt ? '…' : `${senderName}: ${content}`)));
    list.scrollTop = list.scrollHeight;
  };
  const shown = () => {
    state.textContent = socket.connected ? `${state.dataset.connected} (${socket.io.engine.transport.name})` : state.dataset.away;
    hangUp.textContent = socket.connected || socket.active ? hangUp.dataset.leave : hangUp.dataset.return;
  };
  socket.onAny((event, said) => inspect(name, 'told', event, said));
  socket.on('authenticated', async () => {
    shown();
    socket.io.engine.on('upgrade', shown);
    const joined = await ask('chat:join', { roomId: ROOM, ...(last > 0 && { after: last }) });
    joined.messages?.forEach(show);
  });
  socket.on('disconnect', (reason) => {
    inspect(name, 'told', 'disconnect', reason);
    shown();
  });
  socket.on('connect_error', (error) => {
    inspect(name, 'told', 'connect_error', error.message);
    shown();
  });
  socket.on('chat:message', show);
  socket.on('chat:message-edited', ({ messageId, newContent }) => rows.get(messageId)?.append(` → ${newContent}`));
  socket.on('chat:message-deleted', ({ messageId }) => rows.get(messageId)?.replaceChildren('…'));
  socket.on('chat:typing', ({ userName, isTyping }) => {
    typing.textContent = isTyping ? typing.dataset.typing.replace('{name}', userName) : '';
  });
  const ends = () => {
    clearTimeout(typed);
    typed = 0;
    if (socket.connected) socket.emit('chat:typing', { roomId: ROOM, isTyping: false });
  };
  form.addEventListener('input', () => {
    if (typed === 0 && socket.connected) socket.emit('chat:typing', { roomId: ROOM, isTyping: true });
    clearTimeout(typed);
    typed = setTimeout(ends, TYPING_MS);
  });
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const { content } = form.elements;
    const said = content.value;
    content.value = '';
    ends();
    const answer = await ask('chat:message', { roomId: ROOM, content: said, clientId: crypto.randomUUID() });
    if (!answer.ok) content.value = said;
  });
  hangUp.addEventListener('click', () => {
    if (socket.connected || socket.active) socket.disconnect();
    else socket.connect();
    shown();
  });
  part('.progress').addEventListener('click', () => {
    progress = Math.min(100, progress + 10);
    ask('progress:sync', { lessonId: 1, progress, timeSpent: 30, syncId: crypto.randomUUID() });
  });
  part('.notify').addEventListener('click', async () => {
    const token = await tokenOf({ user: 'platform', scope: 'notify' });
    const said = { target: { user: Number(user) }, title: `${name}!`, message: 'POST /api/v1/notifications' };
    inspect('platform', 'sent', 'POST notifications', said);
    const answer = await fetch(`${apiPath}/notifications`, {
      method: 'POST', headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' }, body: JSON.stringify(said),
    });
    inspect('platform', 'answered', 'POST notifications', await answer.json());
  });
  socket.connect();
}

for (const section of document.querySelectorAll('.person')) person(section);
filter.addEventListener('input', () => { for (const row of events.children) row.hidden = !fits(row); });
document.getElementById('clear').addEventListener('click', () => events.replaceChildren());
document.getElementById('example').textContent = `import { io } from 'socket.io-client';

const answer = await fetch('${origin}/dev/token?user=7&name=Ann&role=learner');
const { token } = await answer.json();
const socket = io('${origin}', { path: '${path}', auth: { token } });
socket.onAny((event, payload) => console.log(event, payload));
console.log(await socket.emitWithAck('chat:join', { roomId: '${ROOM}' }));`;
