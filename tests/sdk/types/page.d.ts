// What the short examples of docs/sdk.md take from the page around them.
import type { io as stock } from 'socket.io-client';
import type { AcademySocket, ChatMessage, Id, Notification, Progress, connect as made } from '../../../assets/sdk/academy-rt.js';

declare global {
  const io: typeof stock;
  const connect: typeof made;
  const socket: AcademySocket<{ 'lesson:unlocked': (payload: { lessonId: number }) => void }>;
  const session: { token(): Promise<string>; renew(): Promise<string> };
  const oldestShown: number;
  function showState(text: string): void;
  function showError(text: string): void;
  function showRoom(roomId: Id, messages: ChatMessage[]): void;
  function showOlder(messages: ChatMessage[], hasMore: boolean): void;
  function showProgress(items: Progress[]): void;
  function showInbox(items: Notification[], unread: number): void;
}
