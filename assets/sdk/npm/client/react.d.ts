// Types of academy-rt-client/react.
import type { FunctionComponent, ReactNode } from 'react';
import type {
  AcademySocket, ChatMessage, ClientEvents, Id, Notification, Progress, ProgressReport, RequestError, RequestFailure, Session, Transport,
} from './academy-rt.js';
import type { ClientOptions } from './index.js';

type Data<E extends keyof ClientEvents> = ClientEvents[E]['answer'];

export type AcademyProviderProps = { children?: ReactNode } & (
  /** The provider connects while it is shown. The options are read once. */
  | { options: ClientOptions; socket?: undefined }
  /** The page connects. */
  | { socket: AcademySocket<any>; options?: undefined }
);
/** Gives the hooks below it a socket. */
export const AcademyProvider: FunctionComponent<AcademyProviderProps>;

export interface AcademyState {
  connected: boolean;
  transport: Transport;
  /** Who is signed in; null before the server has answered. */
  session: Session | null;
  pending: number;
  persistent: boolean;
  signedOut: boolean;
  /** Why the client has stopped, if it has: the token is of no use. */
  error: RequestFailure | null;
  /** Null where the page is rendered on a server. */
  socket: AcademySocket<any> | null;
}
export function useAcademy(): AcademyState;

export interface RoomState {
  status: 'joining' | 'joined' | 'refused';
  /** In the order of the room. A deleted message has `deletedAt` and no content. */
  messages: ChatMessage[];
  /** What was sent here and is not acknowledged yet. */
  pending: { clientId: string; content: string }[];
  typing: { userId: Id; userName: string }[];
  /** Whether there are older messages. */
  hasMore: boolean;
  readUpTo: number;
  error: RequestFailure | null;
  send(content: string, more?: { type?: 'text' | 'image' | 'file'; replyToId?: number; clientId?: string }): Promise<Data<'chat:message'>>;
  edit(messageId: number, content: string): Promise<Data<'chat:edit'>>;
  remove(messageId: number): Promise<Data<'chat:delete'>>;
  markRead(messageId: number): Promise<Data<'chat:read'>>;
  setTyping(isTyping: boolean): void;
  loadOlder(): Promise<void>;
  /** Joins again, after a refusal. */
  retry(): void;
  /** The room is off the user's list then. */
  leave(): Promise<void>;
}
/** Joins a room. It stays joined when nothing shows it any more. */
export function useRoom(roomId: Id, options?: { limit?: number }): RoomState;

type Report = Omit<ProgressReport, 'lessonId'>;
interface Loading {
  isLoading: boolean;
  error: RequestError | null;
}
export interface LessonState extends Loading {
  /** Null where nothing was reported yet. */
  progress: Progress | null;
  report(report: Report): Promise<Progress>;
}
export interface ProgressState extends Loading {
  items: Progress[];
  report(lessonId: Id, report: Report): Promise<Progress>;
}
export function useProgress(lessonId: Id): LessonState;
export function useProgress(): ProgressState;

export interface NotificationsState extends Loading {
  /** The latest first. */
  items: Notification[];
  unread: number;
  hasMore: boolean;
  markRead(ids: number | number[]): Promise<Data<'notification:read'>>;
  /** All that are shown; what comes later stays unread. */
  markAllRead(): Promise<Data<'notification:read'>>;
  remove(id: number): Promise<Data<'notification:delete'>>;
  loadOlder(): Promise<void>;
}
export function useNotifications(): NotificationsState;
