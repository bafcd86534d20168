/**
 * SQLite calls: the messages between the file log (sqlite/log.ts) and its thread (sqlite/log-worker.ts). Each call has
 * one answer, in the order of the calls.
 */
import type { Link } from "../../../events/index.ts";
import type { SqliteStore } from "./store.ts";

export type SqliteOperation = {
  [Name in keyof SqliteStore]: SqliteStore[Name] extends (...args: never[]) => unknown ? Name : never;
}[keyof SqliteStore];

export type SqliteCall = Readonly<{ id: number; operation: SqliteOperation; args: readonly unknown[] }>;

export type SqliteAnswer = Readonly<{
  id: number;
  value?: unknown;
  /** `after`: the last intact link of a damaged log. */
  error?: Readonly<{ code: string; message: string; cause?: unknown; after?: Link }>;
}>;

/** The answer with this id reports the result of opening the file; it precedes all others. */
export const openingId = 0;
