// Types of broadcast-service.js: the broadcast service of academy-rt for back ends on Node.js 18 or newer.

export type Id = string | number;
/** One of the four roles, or a word that `auth.role_map` maps to one of them. */
export type Role = 'admin' | 'hr' | 'coach' | 'learner' | (string & {});

/** Who gets it: exactly one of these. */
export type NotificationTarget = { user: Id } | { users: Id[] } | { role: Role } | { all: true };

export interface NotificationContent {
  title: string;
  message: string;
  /** A word for the kind. The default is `info`. */
  type?: string;
  titleFr?: string;
  messageFr?: string;
  link?: string;
  metadata?: unknown;
}

export interface BroadcastAnswer {
  ok: true;
  /** How many sockets it was addressed to. */
  sockets: number;
  /** The id of what was stored, if something was. */
  id?: number;
  /** This is the first answer to the same idempotency key again. */
  duplicate?: true;
}

export interface CallOptions {
  /** 1 to 64 characters; it holds for 24 hours. The default is a new one for each call. */
  idempotencyKey?: string;
  /** Gives the call up. */
  signal?: AbortSignal;
}

export interface BroadcastService {
  toUser(userId: Id, event: string, payload?: unknown, options?: CallOptions): Promise<BroadcastAnswer>;
  /** At most 1,000 users. */
  toUsers(userIds: Id[], event: string, payload?: unknown, options?: CallOptions): Promise<BroadcastAnswer>;
  toRole(role: Role, event: string, payload?: unknown, options?: CallOptions): Promise<BroadcastAnswer>;
  /** `room` is a full room name such as `chat:room-123`. */
  toRoom(room: string, event: string, payload?: unknown, options?: CallOptions): Promise<BroadcastAnswer>;
  toAll(event: string, payload?: unknown, options?: CallOptions): Promise<BroadcastAnswer>;
  /** A stored notification. */
  notify(target: NotificationTarget, notification: NotificationContent, options?: CallOptions): Promise<BroadcastAnswer>;
}

interface CommonOptions {
  /** The address of the server, for example `https://rt.example.org`. */
  url: string;
  fetch?: typeof globalThis.fetch;
  /** How long one attempt may take. The default is 10,000. */
  timeoutMs?: number;
  /** How often a call is tried again after a failed connection, 408, 429 or 5xx. The default is 4. */
  retries?: number;
  /** It is told of each call that has failed. With it a call need not be awaited. */
  onError?: (error: BroadcastError) => void;
}

export type BroadcastOptions = CommonOptions & (
  | { token: string; getToken?: undefined }
  /** It is asked before each attempt. `reason` is `token_expired` if the server has refused the token for that. */
  | { token?: undefined; getToken: (reason: 'first' | 'token_expired') => string | Promise<string> }
);

/** Why a broadcast was not acknowledged. It never holds the token. */
export class BroadcastError extends Error {
  /** A code of the server, or one of this module: `unreachable`, `unavailable`, `aborted`, `unexpected_answer`, `token_missing` (getToken
   * failed), `token_malformed`, `invalid_payload`. */
  readonly code: string;
  /** The HTTP status; undefined if there was no answer. */
  readonly status: number | undefined;
  readonly field: string | undefined;
  /** Whether the same call may work later. Give it the same key then: it may have been done. */
  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;
  readonly idempotencyKey: string | undefined;

  constructor(
    code: string,
    message: string,
    details?: { status?: number; field?: string; retryable?: boolean; retryAfterMs?: number; idempotencyKey?: string },
  );
}

export function createBroadcastService(options: BroadcastOptions): BroadcastService;

/** The service that `BROADCAST_SERVICE_URL` and `BROADCAST_SERVICE_TOKEN` describe. Failures are written to standard error, too. */
export const broadcastService: BroadcastService;
