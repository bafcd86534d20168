/** Epoch: how an epoch of this process ends, and the first event in it. Pure. */
import { clusterStream, noEpoch, WrittenEvent } from "../../events/index.ts";
import type { LogEntry, OpenEpochRequest } from "../../replication/log/index.ts";
import type { LeaderEnd } from "../core/internal-messages.ts";
import type { OpenEpochCall } from "../core/messages.ts";

export const reopen = (reason: string): LeaderEnd => ({ type: "reopen", atLeast: noEpoch, reason });

/**
 * Makes an epoch's first event. @param publicKey raw Ed25519, base64url: verifies what the leader of this epoch signs
 */
export function firstEventOf(
  call: OpenEpochCall,
  publicKey: string,
  at: Parameters<OpenEpochRequest["firstEvent"]>[0],
): LogEntry {
  const { incarnation, brokerId, eventId } = call;
  const entry = {
    epoch: at.epoch,
    eventId,
    stream: clusterStream,
    version: at.streamVersion,
    recordedAt: call.recordedAt,
    actor: "system",
    cause: null,
    event: { type: "EpochOpened", epoch: at.epoch, incarnation, brokerId, publicKey } as const,
  };
  return WrittenEvent.write(entry, call.level, at.previous);
}
