/**
 * Simulated log calls: perform a broker core's log calls on the Postgres model.
 *
 * They give the same answers as src/broker/perform-log-call.ts with a real log, by callback. A malformed batch throws,
 * as it is a bug of the core.
 */

import type { LogAnswer, LogCall } from "../../src/broker/core/messages.ts";
import { firstEventOf } from "../../src/broker/leader/epoch.ts";
import { type Incarnation, type Link, unreachable } from "../../src/events/index.ts";
import { LogUnavailableError } from "../../src/replication/log/log.ts";
import type { SimLog } from "./sim-log.ts";

/** @param publicKeyOf returns the leader's key that an epoch's first event names */
export function callSimLog(
  log: SimLog,
  call: LogCall,
  publicKeyOf: (incarnation: Incarnation, keySeed: Uint8Array) => string,
  answered: (answer: LogAnswer) => void,
): void {
  const read =
    <T>(found: (value: T) => LogAnswer) =>
    (answer: T | LogUnavailableError): void =>
      answered(answer instanceof LogUnavailableError ? { type: "failed", cause: answer } : found(answer));
  switch (call.op) {
    case "openEpoch": {
      const { keySeed, eventId: _, recordedAt: __, ...request } = call.request;
      const publicKey = publicKeyOf(request.incarnation, keySeed);
      let previous: Link | undefined;
      log.openEpoch(
        {
          ...request,
          firstEvent(at) {
            previous = at.previous;
            return firstEventOf(call.request, publicKey, at);
          },
        },
        (outcome) => {
          if (outcome.type !== "opened") answered(outcome);
          else if (previous === undefined) answered({ type: "indeterminate", cause: "the log made no first event" });
          else answered({ ...outcome, previous });
        },
      );
      return;
    }
    case "append":
      log.append(call.batch, answered);
      return;
    case "beat":
      log.beat(call.request, answered);
      return;
    case "observe":
      log.observe(read((seen) => ({ type: "observed", seen })));
      return;
    case "read":
      log.read(
        call.after,
        call.limit,
        read((outcome) => outcome),
      );
      return;
    case "linkAt":
      log.linkAt(
        call.position,
        read((link) => ({ type: "link", link })),
      );
      return;
    case "findCommand":
      log.findCommand(
        call.commandId,
        read((found) => ({ type: "command", found })),
      );
      return;
    case "streamVersions":
      log.streamVersions(
        call.streams,
        read((versions) => ({ type: "versions", versions })),
      );
      return;
    case "keys":
      log.keys(
        call.users,
        read((keys) => ({ type: "keys", keys })),
      );
      return;
    case "sweepCommands":
      log.sweepCommands(read((count) => ({ type: "swept", count })));
      return;
    default:
      unreachable(call);
  }
}
