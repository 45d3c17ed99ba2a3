// Types of academy-rt-client/testing.
import type { AcademySocket, Answer, ChatMessage, ClientEvents, ConnectOptions, GetToken, Id, RequestFailure, Role, TokenRefusal } from './academy-rt.js';
import type { ClientOptions } from './index.js';

/** Who somebody is: what a token says of them. */
export interface FakeUser {
  userId: Id;
  name?: string;
  role?: Role;
  /** Seconds since the Unix epoch. */
  exp?: number;
}
type Target = { user: Id } | { users: Id[] } | { role: Role } | { all: true };

/** A server in memory. The client that talks to it is the real one. */
export class FakeAcademy {
  /** The clock of the server. */
  now: () => number;
  /** Whether Socket.IO is on; without it the client goes on by HTTP. */
  realtime: boolean;
  /** `io`, `fetch` and `url` for a client of your own. */
  readonly options: Required<Pick<ConnectOptions, 'io' | 'fetch' | 'url'>>;

  /** The client of a user, connected. */
  connect<Own extends object = {}>(user: Id | FakeUser, options?: Partial<ClientOptions> & { getToken?: GetToken }): AcademySocket<Own>;
  token(user: FakeUser): string;
  /** Ends all clients that `connect` has made. */
  close(): void;
  room(roomId: Id, options?: { isPrivate?: boolean; members?: Id[]; moderators?: Id[] }): void;
  say(roomId: Id, sender: Id | FakeUser, content: string): { id: number; seq: number; timestamp: number };
  /** Does a request as a user, without a connection. */
  as<E extends keyof ClientEvents>(user: Id | FakeUser, event: E, payload?: ClientEvents[E]['payload']): Answer<ClientEvents[E]['answer']>;
  /** Stores a notification, and gives its id. */
  notify(target: Target, notification: { title: string; message: string; type?: string; titleFr?: string; messageFr?: string; link?: string; metadata?: any }): number;
  /** An event of your own back end, for who is connected. */
  broadcast(target: Target, event: string, payload: unknown): void;
  /** Refuses the next request with this event, or so many. */
  refuse(event: keyof ClientEvents, failure: Partial<RequestFailure> & Pick<RequestFailure, 'code'>, times?: number): void;
  /** Refuses the tokens of a user from now on, and ends their connections; with null it takes them again. */
  refuseTokens(user: Id, code?: TokenRefusal | null): void;
  goOffline(): void;
  goOnline(): void;
  /** The messages of a room, as they are stored. */
  messages(roomId: Id): ChatMessage[];
}
