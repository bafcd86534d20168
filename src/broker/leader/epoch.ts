/**
 * Epoch: what an epoch of ours is opened with, and how it ends. Types, and the first event that stands in it. Pure.
 */
import type { Epoch } from "../../events/index.ts";
import type { LogEntry, OpenEpochRequest } from "../../replication/index.ts";
import type { LeaderEnd } from "../core/internal-messages.ts";
import type { OpenEpochCall } from "../core/messages.ts";
import { entryAt } from "./batch.ts";

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
