// Types of academy-rt.js: the client of academy-rt.

export type Id = string | number;
export type Role = 'admin' | 'hr' | 'coach' | 'learner';
export type ProgressStatus = 'not_started' | 'in_progress' | 'completed';
export type Transport = 'websocket' | 'polling' | 'http' | 'offline';

/** What the server says of a token that it refuses. */
export type TokenRefusal =
  | 'token_missing' | 'token_malformed' | 'token_invalid' | 'token_expired' | 'token_not_yet_valid' | 'token_revoked' | 'user_blocked';

/** The codes of the server. */
export type ServerErrorCode =
  | 'invalid_payload' | 'not_joined' | 'forbidden' | 'not_found' | 'too_large' | 'rate_limited' | 'conflict' | 'resync' | 'unavailable' | 'internal'
  | TokenRefusal | 'realtime_disabled' | 'method_not_allowed';

/**
 * The codes of this client: `offline` (not sent: typing, volatile), `outbox_full`, `outbox_expired` (may have been stored more than a day
 * ago), `not_persisted` (the storage took no more), `sent_elsewhere` (another tab has sent the edit), `user_changed`, `server_changed`.
 */
export type ClientErrorCode = 'offline' | 'outbox_full' | 'outbox_expired' | 'not_persisted' | 'sent_elsewhere' | 'user_changed' | 'server_changed';

export type ErrorCode = ServerErrorCode | ClientErrorCode;

/** Why a request was refused. */
export interface RequestFailure {
  code: ErrorCode;
  message: string;
  field?: string;
  retryAfterMs?: number;
}

export type Answer<T = unknown> = ({ ok: true } & T) | { ok: false; error: RequestFailure };

export interface Session {
  userId: Id;
  name: string;
  role: Role | null;
  roles: Role[];
  rooms: string[];
  /** Milliseconds since the Unix epoch, as all times. */
  expiresAt: number | null;
  serverTime: number;
  unread: number;
  /** The id of the server's data. What waits for this server is not sent to another one at its address. */
  storeId?: string;
}

export interface ChatMessage {
  /** Unique over all rooms; rises. */
  id: number;
  /** 1, 2, 3, ... within the room. */
  seq: number;
  roomId: Id;
  senderId: Id;
  senderName: string;
  content: string;
  type: 'text' | 'image' | 'file' | 'system';
  replyToId: number | null;
  clientId?: string;
  timestamp: number;
  /** Rises with each edit of the message. */
  editedAt?: number;
  deletedAt?: number;
  /** Who last changed it, if that was not the sender; `erased` if that user was erased since. */
  editedBy?: Id;
  /** Who deleted it, if that was not the sender. */
  deletedBy?: Id;
  /** Only for admins that ask for them: the earlier contents of a message that was changed under a legal hold, oldest first. */
  versions?: WithheldVersion[];
}

export interface WithheldVersion {
  content: string;
  /** When this content was replaced or deleted. */
  until: number;
  /** Who replaced or deleted it. */
  by: Id;
  change: 'edited' | 'deleted';
}

export interface MessagePage {
  roomId: Id;
  messages: ChatMessage[];
  hasMore: boolean;
  lastId: number;
  lastSeq: number;
}

/** Who may write in a room, and how often. Moderators and administrators write as they like. */
export interface RoomState {
  /** Others only read. */
  locked: boolean;
  /** Others write once in so many seconds; 0: as often as they like. */
  slowModeSeconds: number;
}

/** What a user is in a room. */
export type Membership = 'guest' | 'member' | 'moderator';

export interface JoinedRoom extends MessagePage, RoomState {
  members: number;
  readUpTo: number;
  /** `null` in a room that nobody has written in yet. */
  membership: Membership | null;
  /** Until when the user is muted in the room. */
  mutedUntil: number | null;
}

/** What a moderator sees of a report. */
export interface Report {
  reportId: number;
  roomId: Id;
  messageId: number;
  senderId: Id;
  /** What the message said when it was reported. */
  content: string;
  type: ChatMessage['type'];
  /** When the message was written. */
  timestamp: number;
  reportedBy: Id;
  reportedAt: number;
  reason: string;
  resolvedAt: number | null;
  resolvedBy: Id | null;
  note: string | null;
}

/** A mute that was set, or lifted. */
export interface Mute {
  userId: Id;
  roomId: Id | null;
  until: number;
  by: string;
  since: number;
  /** Whether it stands now. */
  muted: boolean;
}

export interface Progress {
  lessonId: Id;
  progress: number;
  timeSpent: number;
  status: ProgressStatus;
  syncVersion: number;
  courseId?: Id;
  moduleId?: Id;
  updatedAt: number;
  completedAt: number | null;
}

export interface Notification {
  id: number;
  type: string;
  title: string;
  message: string;
  titleFr?: string;
  translations?: { en: { title: string; message: string }; fr: { title: string; message: string } };
  messageFr?: string;
  link?: string;
  metadata?: any;
  createdAt: number;
  read: boolean;
}

export interface ProgressReport {
  lessonId: Id;
  /** 0 to 100. */
  progress: number;
  /** Seconds since the last report. */
  timeSpent?: number;
  courseId?: Id;
  moduleId?: Id;
  status?: ProgressStatus;
  /** 1 to 64 characters; given by the client where it is absent. */
  syncId?: string;
  baseVersion?: number;
  /** The user whose progress it is; this needs the scope `progress`. The user of the token is the default. */
  userId?: Id;
}

export interface RoomSummary extends RoomState {
  roomId: Id;
  name: string | null;
  lastId: number;
  readUpTo: number;
  /** How many messages behind `readUpTo` can be read. Deleted messages and those from before the first join do not count. */
  unread: number;
  membership: Membership;
}

export interface Guest {
  roomId: Id;
  userId: Id;
  userName: string;
  timestamp: number;
}

type SyncAnswer = Progress & { duplicate?: true; merged?: true };
type RoomRef = { roomId: Id };

/** What the page may emit: the payload, and the answer to it. */
export interface ClientEvents {
  'chat:join': { payload: { roomId: Id; after?: number; limit?: number } | Id; answer: JoinedRoom };
  /** When the last connection of a user has left a room, `chat:rooms` does not list it any more. */
  'chat:leave': { payload: RoomRef | Id; answer: RoomRef };
  'chat:message': {
    /** Posting needs no join. The client adds a `clientId` where it is absent. The same `clientId` with another content is a `conflict`. */
    payload: { roomId: Id; content: string; type?: 'text' | 'image' | 'file'; replyToId?: number; clientId?: string };
    answer: { id: number; seq: number; timestamp: number; duplicate?: true };
  };
  'chat:edit': { payload: { roomId: Id; messageId: number; content: string }; answer: { messageId: number; editedAt: number } };
  'chat:delete': { payload: { roomId: Id; messageId: number }; answer: { messageId: number; deletedAt?: number; duplicate?: true } };
  /** This is sent now or not at all. */
  'chat:typing': { payload: { roomId: Id; isTyping: boolean }; answer: {} };
  'chat:read': { payload: { roomId: Id; messageId: number }; answer: { roomId: Id; messageId: number } };
  /** With `after` and `before`, the page has what is between them, from `after` on. */
  'chat:history': { payload: { roomId: Id; before?: number; after?: number; limit?: number; versions?: boolean }; answer: MessagePage };
  /** The newest messages first. With `hasMore`, go on with `next` as `before`. Without `isComplete`, some may be missing yet. */
  'chat:search': {
    payload: { q: string; roomId?: Id; before?: number; limit?: number };
    answer: { messages: ChatMessage[]; hasMore: boolean; next?: number; isComplete: boolean; upTo: number };
  };
  /** With `hasMore`, go on with the `cursor` as `after`. */
  'chat:rooms': { payload: { after?: string; limit?: number }; answer: { rooms: RoomSummary[]; hasMore: boolean; cursor?: string } };
  /** For moderators and administrators, as the next three: somebody reads and does not write, for so many seconds or until a moment. */
  'chat:mute': { payload: { roomId: Id; userId: Id; reason?: string } & ({ seconds: number } | { until: number }); answer: Mute };
  'chat:unmute': { payload: { roomId: Id; userId: Id; reason?: string }; answer: Mute };
  'chat:lock': { payload: { roomId: Id; locked: boolean; reason?: string }; answer: RoomRef & RoomState };
  /** 1 to 3,600 seconds; 0 ends it. */
  'chat:slow': { payload: { roomId: Id; seconds: number; reason?: string }; answer: RoomRef & RoomState };
  /** What the message says now is kept for the moderators. A second report of the same message changes nothing. */
  'chat:report': { payload: { roomId: Id; messageId: number; reason: string }; answer: { reportId: number; reportedAt: number; duplicate?: true } };
  /** For moderators and administrators. With `next`, go on with it as `before`. */
  'chat:reports': { payload: { roomId: Id; before?: number; limit?: number; all?: boolean }; answer: { items: Report[]; next: number | null } };
  /** For moderators and administrators. The first word stands; `duplicate` says that it was another one. */
  'chat:resolve': { payload: { roomId: Id; reportId: number; note?: string }; answer: Report & { duplicate?: true } };
  'progress:sync': { payload: ProgressReport | ProgressReport[]; answer: SyncAnswer & { results?: SyncAnswer[] } };
  /** With `hasMore`, go on with the `cursor` as `since`. */
  'progress:get': {
    payload: { lessonId?: Id; courseId?: Id; since?: string; limit?: number; userId?: Id };
    answer: { items: Progress[]; cursor: string; hasMore: boolean };
  };
  'progress:history': { payload: { lessonId: Id; userId?: Id }; answer: { versions: Progress[]; hasMore: boolean } };
  'notification:list': {
    payload: { before?: number; limit?: number; unreadOnly?: boolean };
    answer: { items: Notification[]; unread: number; hasMore: boolean };
  };
  'notification:read': {
    /**
     * With `all` and without `upTo`, the client adds the latest notification that it has received or listed: what comes later stays unread. The
     * `ids` of the answer are those that have changed; with `all` the list is empty.
     */
    payload: { id: number } | { ids: number[] } | { all: true; upTo?: number };
    answer: { ids: number[]; unread: number };
  };
  'notification:delete': { payload: { id: number }; answer: { ids: number[]; unread: number } };
  /** With `hasMore`, go on with the last `userId` as `after`. */
  'presence:list': {
    payload: { roomId: Id; after?: Id; limit?: number } | Id;
    answer: { users: { userId: Id; name: string; online: boolean; lastSeen: number }[]; total: number; hasMore: boolean };
  };
  'auth:refresh': { payload: { token: string }; answer: { expiresAt?: number | null } };
}

/** What the server emits, for the stock client: `Socket<ServerToClientEvents, ClientToServerEvents>`. */
export interface ServerToClientEvents {
  authenticated: (session: Session) => void;
  /** The token is of no use, and the client has stopped: sign in, then call `connect()`. What waits in the outbox is kept. */
  auth_error: (error: RequestFailure) => void;
  'auth:expiring': (notice: { expiresAt: number }) => void;
  'request:error': (failure: RequestFailure & { event: string; roomId?: Id; payload?: any }) => void;
  'server:draining': (hint: { retryAfterMs?: number }) => void;
  'chat:message': (message: ChatMessage) => void;
  /** `id` is that of the change. It rises with each change, whatever the clock does. */
  'chat:message-edited': (change: { id: number; roomId: Id; messageId: number; newContent: string; editedAt: number; editedBy?: Id }) => void;
  'chat:message-deleted': (change: { id: number; roomId: Id; messageId: number; deletedAt: number; deletedBy?: Id }) => void;
  'chat:user_joined': (guest: Guest) => void;
  'chat:user_left': (guest: Guest) => void;
  'chat:typing': (typing: { roomId: Id; userId: Id; userName: string; isTyping: boolean }) => void;
  'chat:read': (mark: { roomId: Id; userId: Id; messageId: number }) => void;
  /** A room is locked, or is not any more, or its slow mode is another one. `id` rises with each change. */
  'chat:state': (state: RoomRef & RoomState & { id: number }) => void;
  /** The user is muted, in a room or (with `null`) everywhere, or is not any more. */
  'chat:muted': (mute: { roomId: Id | null; userId: Id; until: number | null }) => void;
  /** For moderators of the room and administrators: a message was reported, or a report was resolved. */
  'chat:reported': (report: { id: number; reportId: number; roomId: Id; messageId: number; reportedAt: number; resolvedAt: number | null }) => void;
  'progress:updated': (progress: Progress) => void;
  'notification:new': (notification: Notification) => void;
  'notification:gone': (gone: { id: number; reason: 'ended' | 'recalled' }) => void;
  'notification:updated': (change: { ids?: number[]; all?: true; upTo?: number; read?: true; deleted?: true; unread: number }) => void;
  'presence:changed': (presence: { userId: Id; online: boolean; lastSeen: number }) => void;
}

/**
 * What the server takes, for the stock client: `Socket<ServerToClientEvents, ClientToServerEvents>`. Each request has an answer, so
 * `emit` takes a callback for it, and `emitWithAck` gives it. `chat:typing` alone is said in passing.
 */
export type ClientToServerEvents = {
  [E in Exclude<keyof ClientEvents, 'chat:typing'>]: (payload: ClientEvents[E]['payload'], ack: (answer: Answer<ClientEvents[E]['answer']>) => void) => void;
} & { 'chat:typing': (payload: ClientEvents['chat:typing']['payload']) => void };

/** What the page may listen to, besides the events of your own back end. */
export interface ServerEvents extends ServerToClientEvents {
  /** There is a way to the server. */
  connect: () => void;
  /** There is no way to the server any more. The client looks for one, except after `disconnect()` and a final `auth_error`. */
  disconnect: (reason: string) => void;
  /** Neither Socket.IO nor HTTP works. The client tries again. */
  connect_error: (error: Error) => void;
  /** The transport has changed. */
  transport: (change: { transport: Transport; reason: string }) => void;
  /**
   * The server's data were replaced, for example by a backup, so what the page shows is not valid any more. With a room, replace
   * what is shown of it by `messages`. Without one, load progress and notifications again.
   */
  resync: (news: (JoinedRoom & { code?: undefined }) | { code: 'resync'; message: string; roomId?: undefined }) => void;
  /** `getToken` has answered `null`: nobody is signed in. What waits in the outbox is kept; `connect()` asks again. */
  signed_out: () => void;
  /** Whether what waits outlives this page has changed. */
  storage: (state: StorageState) => void;
  /** Another number of requests waits for its acknowledgement. */
  pending: (state: { pending: number }) => void;
  /** Everything that waited is answered. */
  outbox: (state: { pending: 0 }) => void;
}

/** The events of your own back end, by name: `connect<{ 'lesson:unlocked': (payload: { lessonId: number }) => void }>(...)`. */
type Name<Own> = (keyof ServerEvents | keyof Own) & string;
type Listener<E, Own> = E extends keyof Own ? Own[E] : E extends keyof ServerEvents ? ServerEvents[E] : never;
type Payload<E extends keyof ClientEvents> = ClientEvents[E]['payload'];
type Data<E extends keyof ClientEvents> = ClientEvents[E]['answer'];
type AnswerTo<E extends keyof ClientEvents> = Answer<Data<E>>;
/** The payload may be left out where nothing of it is needed. */
type Given<E extends keyof ClientEvents> = {} extends Payload<E> ? [payload?: Payload<E>] : [payload: Payload<E>];

/** What `request` throws: a refusal. */
export class RequestError extends Error {
  readonly event: string;
  readonly code: ErrorCode;
  readonly field: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(event: string, failure: RequestFailure);
}

/** A part of the Web Storage API: `localStorage`, or anything that is like it. */
export interface OutboxStorage {
  readonly length: number;
  key(index: number): string | null;
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** Whether requests that wait are kept in the storage; if not, why. They are sent all the same. */
export interface StorageState {
  persistent: boolean;
  /** `missing`: there is none; `refused`: it fails; `full`: it takes no more. */
  reason?: 'missing' | 'refused' | 'full';
}

interface CommonOptions {
  /** `io` of socket.io-client 4. */
  io: (url: string, options: any) => any;
  /** The address of the server; it may have a path. The default is the origin of the page. */
  url?: string;
  /** The path of Socket.IO below `url`. By default the server is asked where it is not `/ws`. */
  path?: string;
  /** The path of the HTTP API below `url`. By default the server is asked where it is not `/api/v1`. */
  apiPath?: string;
  /** The default is `['websocket', 'polling']`. */
  transports?: ('websocket' | 'polling')[];
  /** Further options of socket.io-client. */
  ioOptions?: object;
  fetch?: typeof globalThis.fetch;
  /** Keeps the outbox over a reload of the page, for the user that the token names: `() => localStorage`. */
  storage?: OutboxStorage | (() => OutboxStorage | null | undefined) | null;
  /** What the names of its entries begin with. The default is `academy-rt`. */
  storagePrefix?: string;
  /** The most requests that wait. The default is 5,000. A request beyond it is answered with `outbox_full`. */
  outboxLimit?: number;
  /** The most characters of these requests. The default is 4 Mi. */
  outboxBytes?: number;
  /** With `false`, only `connect()` connects. */
  autoConnect?: boolean;
  /** How long a connection attempt or an HTTP request may take. The default is 8,000. */
  connectTimeoutMs?: number;
  /** A connection that acknowledges nothing for this long counts as broken. The default is 10,000. */
  ackTimeoutMs?: number;
  /** The first pause before another try, with jitter. The default is 1,000. */
  retryMinMs?: number;
  /** The longest pause. The default is 30,000. */
  retryMaxMs?: number;
  /** How long a poll waits where there is no Socket.IO, 0 to 30. The default is 25. */
  pollWaitSeconds?: number;
}

export type ConnectOptions = CommonOptions & (
  | { token: string; getToken?: GetToken; cookie?: false }
  | { token?: string; getToken: GetToken; cookie?: false }
  /** The browser sends a cookie that speaks for the user (`auth.cookie_name`). */
  | { cookie: true; token?: undefined; getToken?: undefined }
);

/**
 * Gives a token that is valid for a while, or `null` if nobody is signed in. It is called before the first connection, before a token
 * ends, and once when the server has refused one.
 */
export type GetToken = (why: { reason: 'connect' | 'http' | 'expiring' | TokenRefusal }) => string | null | Promise<string | null>;

export interface AcademySocket<Own extends object = {}> {
  /** Whether there is a way to the server now, by whichever transport. */
  readonly connected: boolean;
  readonly disconnected: boolean;
  /** Whether it is connected or tries to be. */
  readonly active: boolean;
  /** The Socket.IO id; undefined over HTTP. */
  readonly id: string | undefined;
  readonly transport: Transport;
  /** What the server has said of the user, last; undefined before, and where nobody is signed in. */
  readonly session: Session | undefined;
  /** How many requests wait for their acknowledgement. */
  readonly pending: number;
  /** Whether what waits outlives this page: there is a `storage`, and it takes it. */
  readonly persistent: boolean;
  /** Whether `getToken` has said that nobody is signed in. */
  readonly signedOut: boolean;
  /** The next `emit` is sent now or not at all. */
  readonly volatile: this;

  on<E extends Name<Own>>(event: E, listener: Listener<E, Own>): this;
  once<E extends Name<Own>>(event: E, listener: Listener<E, Own>): this;
  off<E extends Name<Own>>(event?: E, listener?: Listener<E, Own>): this;
  addListener<E extends Name<Own>>(event: E, listener: Listener<E, Own>): this;
  removeListener<E extends Name<Own>>(event?: E, listener?: Listener<E, Own>): this;
  removeAllListeners(event?: Name<Own>): this;
  addEventListener<E extends Name<Own>>(event: E, listener: Listener<E, Own>): this;
  removeEventListener<E extends Name<Own>>(event?: E, listener?: Listener<E, Own>): this;
  onAny(listener: (event: string, ...args: any[]) => void): this;
  prependAny(listener: (event: string, ...args: any[]) => void): this;
  offAny(listener?: (event: string, ...args: any[]) => void): this;
  listeners<E extends Name<Own>>(event: E): Listener<E, Own>[];
  listenersAny(): ((event: string, ...args: any[]) => void)[];
  hasListeners(event: Name<Own>): boolean;

  emit<E extends keyof ClientEvents>(event: E, ...args: [...Given<E>, ack?: (answer: AnswerTo<E>) => void]): this;
  /** A refusal is an answer, too: `{ ok: false, error }`. */
  emitWithAck<E extends keyof ClientEvents>(event: E, ...args: Given<E>): Promise<AnswerTo<E>>;
  /** What `emitWithAck` answers where it is granted; a refusal is thrown as a `RequestError`. */
  request<E extends keyof ClientEvents>(event: E, ...args: Given<E>): Promise<Data<E>>;
  /** Limits how long the next request waits for its answer; then there is an error in its place. The request stays in the outbox. */
  timeout(ms: number): {
    emit<E extends keyof ClientEvents>(event: E, payload: Payload<E>, ack: (error: Error | null, answer: AnswerTo<E>) => void): AcademySocket<Own>;
    emitWithAck<E extends keyof ClientEvents>(event: E, ...args: Given<E>): Promise<AnswerTo<E>>;
    request<E extends keyof ClientEvents>(event: E, ...args: Given<E>): Promise<Data<E>>;
  };
  send(payload?: any): this;
  connect(): this;
  open(): this;
  /** What waits in the outbox stays there until `connect()`. */
  disconnect(): this;
  close(): this;
}

export function connect<Own extends object = {}>(options: ConnectOptions): AcademySocket<Own>;
