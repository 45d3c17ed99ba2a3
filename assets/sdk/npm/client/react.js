// academy-rt-client/react: hooks for React 18 and newer. What they show is in stores beside React, one for each socket, so that
// StrictMode, which mounts everything twice, changes nothing; and a page that is rendered on a server connects to nothing.

import { createContext, createElement, useContext, useEffect, useMemo, useState, useSyncExternalStore } from 'react';
import { connect } from './index.js';

// As the client compares them.
/** @param {unknown} id */
const idKey = (id) => String(id).normalize('NFC');

const isBrowser = typeof document !== 'undefined';
/** So long somebody counts as typing who has not said that they have stopped. */
const TYPING_MS = 6_000;

/** A value that somebody shows. */
class Store {
  #value;
  #listeners = new Set();

  constructor(value) {
    this.#value = value;
    this.get = () => this.#value;
    this.subscribe = (listener) => {
      this.#listeners.add(listener);
      return () => this.#listeners.delete(listener);
    };
  }

  set(change) {
    this.#value = { ...this.#value, ...change };
    for (const listener of [...this.#listeners]) listener();
  }
}

const OFFLINE = Object.freeze({ connected: false, transport: 'offline', session: null, pending: 0, persistent: false, signedOut: false, error: null });
const NO_ROOM = Object.freeze({ status: 'joining', messages: [], pending: [], typing: [], hasMore: false, readUpTo: 0, error: null });
const NO_PROGRESS = Object.freeze({ items: [], isLoading: true, error: null });
const NO_INBOX = Object.freeze({ items: [], unread: 0, hasMore: false, isLoading: true, error: null });

/** What is known of a room. */
class RoomStore extends Store {
  #hub;
  #roomId;
  #isAsked = false;
  #timers = new Map();

  constructor(hub, roomId, limit) {
    super(NO_ROOM);
    this.#hub = hub;
    this.#roomId = roomId;
    this.actions = {
      send: (content, more) => this.#send(content, more),
      edit: (messageId, newContent) => hub.ask('chat:edit', { roomId, messageId, content: newContent }),
      remove: (messageId) => hub.ask('chat:delete', { roomId, messageId }),
      markRead: (messageId) => this.#markRead(messageId),
      setTyping: (isTyping) => { hub.socket?.emit('chat:typing', { roomId, isTyping }); },
      loadOlder: () => this.#loadOlder(limit),
      retry: () => this.renew(limit),
      leave: () => this.#leave(),
    };
  }

  enter(limit) {
    const { socket } = this.#hub;
    if (this.#isAsked || !socket) return;
    this.#isAsked = true;
    this.set({ status: 'joining', error: null });
    socket.emitWithAck('chat:join', { roomId: this.#roomId, limit }).then((answer) => {
      if (!this.#isAsked) return;
      if (answer.ok) this.#shows(answer);
      else this.refused(answer.error);
    });
  }

  #shows({ messages, hasMore, readUpTo }) {
    this.set({ status: 'joined', error: null, messages, hasMore, readUpTo });
  }

  refused(error) {
    this.#isAsked = false;
    this.set({ status: 'refused', error });
  }

  /** Joins as for the first time. */
  renew(limit) {
    if (this.get().status === 'joining' && !this.#isAsked) return;
    this.#isAsked = false;
    this.set(NO_ROOM);
    this.enter(limit);
  }

  async #leave() {
    this.#isAsked = false;
    await this.#hub.ask('chat:leave', { roomId: this.#roomId });
    this.set(NO_ROOM);
  }

  async #send(content, more = {}) {
    const { socket } = this.#hub;
    const clientId = more.clientId ?? keyOf();
    this.set({ pending: [...this.get().pending, { clientId, content }] });
    const isDone = () => this.set({ pending: this.get().pending.filter((one) => one.clientId !== clientId) });
    try {
      return await socket.request('chat:message', { roomId: this.#roomId, content, ...more, clientId });
    } finally {
      isDone();
    }
  }

  async #markRead(messageId) {
    const answer = await this.#hub.ask('chat:read', { roomId: this.#roomId, messageId });
    this.set({ readUpTo: Math.max(this.get().readUpTo, answer.messageId) });
    return answer;
  }

  async #loadOlder(limit) {
    const [oldest] = this.get().messages;
    if (!oldest || !this.get().hasMore) return;
    const { messages, hasMore } = await this.#hub.ask('chat:history', { roomId: this.#roomId, before: oldest.id, limit });
    const known = new Set(this.get().messages.map(({ id }) => id));
    this.set({ messages: [...messages.filter(({ id }) => !known.has(id)), ...this.get().messages], hasMore });
  }

  take(event, payload) {
    const { messages } = this.get();
    const change = (messageId, more) => this.set({ messages: messages.map((one) => (one.id === messageId ? { ...one, ...more } : one)) });
    switch (event) {
      case 'chat:message': {
        this.#stopsTyping(payload.senderId);
        if (messages.some(({ id }) => id === payload.id)) return;
        const pending = this.get().pending.filter(({ clientId }) => clientId !== payload.clientId);
        return this.set({ messages: [...messages, payload].sort((a, b) => a.seq - b.seq), pending });
      }
      case 'chat:message-edited': return change(payload.messageId, { content: payload.newContent, editedAt: payload.editedAt, ...(payload.editedBy === undefined ? {} : { editedBy: payload.editedBy }) });
      case 'chat:message-deleted': return change(payload.messageId, { content: '', deletedAt: payload.deletedAt, ...(payload.deletedBy === undefined ? {} : { deletedBy: payload.deletedBy }) });
      case 'chat:read':
        if (idKey(payload.userId) === idKey(this.#hub.get().session?.userId)) this.set({ readUpTo: Math.max(this.get().readUpTo, payload.messageId) });
        return;
      case 'chat:typing': return payload.isTyping ? this.#types(payload) : this.#stopsTyping(payload.userId);
      case 'chat:user_left': return this.#stopsTyping(payload.userId);
      case 'resync': return this.#shows(payload);
      default:
    }
  }

  #types({ userId, userName }) {
    this.#stopsTyping(userId);
    this.#timers.set(idKey(userId), setTimeout(() => this.#stopsTyping(userId), TYPING_MS));
    this.set({ typing: [...this.get().typing, { userId, userName }] });
  }

  #stopsTyping(userId) {
    clearTimeout(this.#timers.get(idKey(userId)));
    if (this.#timers.delete(idKey(userId))) this.set({ typing: this.get().typing.filter((one) => idKey(one.userId) !== idKey(userId)) });
  }
}

/** What is known of the user's progress. */
class ProgressStore extends Store {
  #hub;
  #isAsked = false;

  constructor(hub) {
    super(NO_PROGRESS);
    this.#hub = hub;
    this.report = async (lessonId, report) => {
      const { ok, duplicate, merged, ...progress } = await hub.ask('progress:sync', { lessonId, ...report });
      this.take(progress);
      return progress;
    };
  }

  load() {
    if (this.#isAsked || !this.#hub.socket) return;
    this.reload();
  }

  reload() {
    this.#isAsked = true;
    this.#read().catch((error) => {
      this.#isAsked = false;
      this.set({ isLoading: false, error });
    });
  }

  async #read() {
    let since;
    for (let hasMore = true; hasMore;) {
      const page = await this.#hub.ask('progress:get', since === undefined ? {} : { since });
      for (const item of page.items) this.take(item);
      since = page.cursor;
      hasMore = page.hasMore;
    }
    this.set({ isLoading: false, error: null });
  }

  /** A report that is older than what is shown is no news. */
  take(progress) {
    const { items } = this.get();
    const known = items.find(({ lessonId }) => idKey(lessonId) === idKey(progress.lessonId));
    if (known && known.syncVersion >= progress.syncVersion) return;
    this.set({ items: known ? items.map((one) => (one === known ? progress : one)) : [...items, progress] });
  }

  renew() {
    if (!this.#isAsked) return;
    this.set(NO_PROGRESS);
    this.reload();
  }
}

/** What is known of the user's notifications. */
class InboxStore extends Store {
  #hub;
  #isAsked = false;
  /** How often something has been told of it. */
  #changes = 0;

  constructor(hub) {
    super(NO_INBOX);
    this.#hub = hub;
    this.actions = {
      markRead: (ids) => this.#does('notification:read', { ids: [ids].flat() }, { read: true }),
      markAllRead: () => this.#does('notification:read', { all: true }, { read: true }),
      remove: (id) => this.#does('notification:delete', { id }, { deleted: true }),
      loadOlder: () => this.#loadOlder(),
    };
  }

  load() {
    if (this.#isAsked || !this.#hub.socket) return;
    this.reload();
  }

  async reload() {
    this.#isAsked = true;
    const before = this.#changes;
    try {
      const { items, unread, hasMore } = await this.#hub.ask('notification:list', { limit: 50 });
      this.set({ items, unread, hasMore, isLoading: false, error: null });
      // The list may have been read before what was told while it was on its way.
      if (this.#changes !== before) await this.reload();
    } catch (error) {
      this.#isAsked = false;
      this.set({ isLoading: false, error });
    }
  }

  async #loadOlder() {
    const last = this.get().items.at(-1);
    if (!last || !this.get().hasMore) return;
    const { items, hasMore } = await this.#hub.ask('notification:list', { before: last.id, limit: 50 });
    this.set({ items: [...this.get().items, ...items.filter(({ id }) => id < last.id)], hasMore });
  }

  async #does(event, payload, done) {
    // "All" are those that are shown now.
    const seen = this.get().items.map(({ id }) => id);
    const answer = await this.#hub.ask(event, payload.all && seen.length > 0 ? { ...payload, upTo: Math.max(...seen) } : payload);
    this.changed({ ids: payload.all ? seen : answer.ids, unread: answer.unread, ...done });
    return answer;
  }

  take(notification) {
    this.#changes += 1;
    const { items, unread } = this.get();
    if (items.some(({ id }) => id === notification.id)) return;
    this.set({ items: [notification, ...items].sort((a, b) => b.id - a.id), unread: unread + (notification.read ? 0 : 1) });
  }

  changed({ ids, all, upTo = Infinity, read, deleted, unread }) {
    this.#changes += 1;
    const isMeant = ({ id }) => (all ? id <= upTo : ids?.includes(id));
    const { items } = this.get();
    const left = deleted ? items.filter((one) => !isMeant(one)) : items;
    this.set({ items: read ? left.map((one) => (isMeant(one) && !one.read ? { ...one, read: true } : one)) : left, unread });
  }

  renew() {
    if (!this.#isAsked) return;
    this.set(NO_INBOX);
    this.reload();
  }
}

/** Everything that is known of one socket. */
class Hub extends Store {
  #rooms = new Map();
  #users = 0;
  /** Whose rooms, progress and notifications are shown. */
  #user;
  #isOwn;
  #ends;

  constructor(socket, isOwn) {
    super(OFFLINE);
    this.socket = socket;
    this.#isOwn = isOwn;
    this.progress = new ProgressStore(this);
    this.inbox = new InboxStore(this);
    this.open = () => this.#open();
    if (!socket) return;
    if (socket.session) this.#user = idKey(socket.session.userId);
    for (const event of ['connect', 'disconnect', 'transport', 'pending', 'storage']) socket.on(event, () => this.#look());
    socket.on('authenticated', (session) => this.#meets(session));
    socket.on('auth_error', (error) => this.#look({ error }));
    socket.on('signed_out', () => this.#look({ error: null }));
    for (const event of ['chat:message', 'chat:message-edited', 'chat:message-deleted', 'chat:read', 'chat:typing', 'chat:user_left', 'resync']) {
      socket.on(event, (payload) => {
        if (payload.roomId !== undefined) this.#rooms.get(idKey(payload.roomId))?.take(event, payload);
        else this.#loadAnew();
      });
    }
    socket.on('request:error', ({ event, roomId, ...error }) => {
      if (event === 'chat:join' && roomId !== undefined) this.#rooms.get(idKey(roomId))?.refused(error);
    });
    socket.on('progress:updated', (progress) => this.progress.take(progress));
    socket.on('notification:new', (notification) => this.inbox.take(notification));
    socket.on('notification:updated', (change) => this.inbox.changed(change));
    this.#look();
  }

  async ask(event, payload) {
    if (!this.socket) throw new Error('there is no connection where a page is rendered on a server');
    return this.socket.request(event, payload);
  }

  #look(more = {}) {
    const { connected, transport, pending, persistent, signedOut, session = null } = this.socket;
    this.set({ connected, transport, pending, persistent, signedOut, session, ...more });
  }

  #meets(session) {
    const before = this.#user;
    this.#user = idKey(session.userId);
    this.#look({ error: null });
    if (before !== undefined && before !== this.#user) {
      // Nobody is shown what another one had.
      for (const room of this.#rooms.values()) room.actions.retry();
      this.#loadAnew();
    }
    if (this.inbox.get().isLoading) this.inbox.set({ unread: session.unread });
  }

  #loadAnew() {
    this.progress.renew();
    this.inbox.renew();
  }

  room(roomId, limit) {
    const key = idKey(roomId);
    // A server that renders pages remembers no rooms.
    if (!this.socket) return new RoomStore(this, roomId, limit);
    if (!this.#rooms.has(key)) this.#rooms.set(key, new RoomStore(this, roomId, limit));
    return this.#rooms.get(key);
  }

  /** Somebody shows it. It is connected until a moment after the last one has gone: StrictMode comes back at once. */
  #open() {
    if (!this.socket || !this.#isOwn) return () => {};
    this.#users += 1;
    clearTimeout(this.#ends);
    this.socket.connect();
    return () => {
      this.#users -= 1;
      if (this.#users === 0) this.#ends = setTimeout(() => this.socket.disconnect(), 0);
    };
  }
}

const NOWHERE = new Hub(undefined, false);
const hubs = new WeakMap();

function hubOf(socket) {
  if (!hubs.has(socket)) hubs.set(socket, new Hub(socket, false));
  return hubs.get(socket);
}

function keyOf() {
  return globalThis.crypto.randomUUID?.() ?? [...globalThis.crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

const Context = createContext(null);

/**
 * Gives what is below it a socket: one that it makes of `options` and connects while it is shown, or `socket`, which is the page's own.
 * The options are read once.
 */
function AcademyProvider({ socket, options, children }) {
  const [own] = useState(() => (socket || !isBrowser ? NOWHERE : new Hub(connect({ ...options, autoConnect: false }), true)));
  const hub = socket && isBrowser ? hubOf(socket) : own;
  useEffect(hub.open, [hub]);
  return createElement(Context.Provider, { value: hub }, children);
}

function useHub(name) {
  const hub = useContext(Context);
  if (hub === null) throw new Error(`${name} needs an <AcademyProvider> above it`);
  return hub;
}

const useValue = (store, onServer) => useSyncExternalStore(store.subscribe, store.get, () => onServer);

/** The state of the connection, and the socket; null where the page is rendered on a server. */
function useAcademy() {
  const hub = useHub('useAcademy');
  const state = useValue(hub, OFFLINE);
  return useMemo(() => ({ ...state, socket: hub.socket ?? null }), [state, hub]);
}

/** A room: it is joined, and stays joined when nobody shows it any more. */
function useRoom(roomId, { limit = 50 } = {}) {
  const room = useHub('useRoom').room(roomId, limit);
  const state = useValue(room, NO_ROOM);
  useEffect(() => room.enter(limit), [room, limit]);
  return useMemo(() => ({ ...state, ...room.actions }), [state, room]);
}

/** The progress of the user: of one lesson, or of all. */
function useProgress(lessonId) {
  const store = useHub('useProgress').progress;
  const state = useValue(store, NO_PROGRESS);
  useEffect(() => store.load(), [store]);
  return useMemo(() => (lessonId === undefined
    ? { ...state, report: store.report }
    : {
      progress: state.items.find((one) => idKey(one.lessonId) === idKey(lessonId)) ?? null,
      isLoading: state.isLoading,
      error: state.error,
      report: (report) => store.report(lessonId, report),
    }), [state, store, lessonId]);
}

/** The notifications of the user, the latest first. */
function useNotifications() {
  const store = useHub('useNotifications').inbox;
  const state = useValue(store, NO_INBOX);
  useEffect(() => { store.load(); }, [store]);
  return useMemo(() => ({ ...state, ...store.actions }), [state, store]);
}

export { AcademyProvider, useAcademy, useNotifications, useProgress, useRoom };
