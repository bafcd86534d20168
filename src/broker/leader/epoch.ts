/**
 * Epoch: what an epoch of ours is opened with, and how it ends. Types, and the first event that stands in it. Pure.
 */
import type { Epoch, Fact, Incarnation, Link, MonotonicMs } from "../../events/index.ts";
import type { Lessee, LogEntry, OpenEpochRequest } from "../../replication/index.ts";
import type { OpenEpochCall } from "../core/messages.ts";
import { entryAt } from "./batch.ts";

export type OpenedEpoch = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation;
  previous: Link;
  head: Link;
  entry: LogEntry;
  lessees: readonly Lessee[];
  /** When the opening was acknowledged. */
  openedAt: MonotonicMs;
}>;

export type LeaderEnd =
  /** Somebody else leads. */
  | Fact<"fenced", unknown>
  /** The epoch must be opened again, at least this one. */
  | Fact<"reopen", { atLeast: Epoch; reason: string }>
  | Fact<"stopped", unknown>;

export const reopen = (reason: string): LeaderEnd => ({ type: "reopen", atLeast: 0 as Epoch, reason });

/** Makes an epoch's first event at its place. @param publicKey raw Ed25519, base64url: what the leader of this epoch signs with */
export function firstEventOf(
  call: OpenEpochCall,
  publicKey: string,
  at: Parameters<OpenEpochRequest["firstEvent"]>[0],
): LogEntry {
  const { incarnation, brokerId, eventId } = call;
  return entryAt(at.previous, {
    epoch: at.epoch,
    event: { type: "EpochOpened", epoch: at.epoch, incarnation, brokerId, publicKey },
    version: at.streamVersion,
    now: call.recordedAt,
    level: call.level,
    eventId,
    actor: "system",
    cause: null,
  });
}
