/**
 * Log calls: performs the core's log calls on a real log. It never throws: a write that throws is `indeterminate`,
 * since it may be committed or still become so; a read that throws is `failed`.
 */
import { type Link, unreachable } from "../events/index.ts";
import type { EventLog } from "../replication/log/index.ts";
import type { LogAnswer, LogCall } from "./core/messages.ts";
import { firstEventOf } from "./leader/epoch.ts";
import type { EpochSigners } from "./peers/epoch-signers.ts";

export async function performLogCall(log: EventLog, call: LogCall, signers: EpochSigners): Promise<LogAnswer> {
  try {
    return await callLog(log, call, signers);
  } catch (cause) {
    const write = call.op === "openEpoch" || call.op === "append" || call.op === "beat";
    return { type: write ? "indeterminate" : "failed", cause };
  }
}

async function callLog(log: EventLog, call: LogCall, signers: EpochSigners): Promise<LogAnswer> {
  switch (call.op) {
    case "openEpoch": {
      const { keySeed, eventId: _, recordedAt: __, ...request } = call.request;
      const publicKey = signers.generate(request.incarnation, keySeed);
      let previous: Link | undefined;
      const outcome = await log.openEpoch({
        ...request,
        firstEvent(at) {
          previous = at.previous;
          return firstEventOf(call.request, publicKey, at);
        },
      });
      if (outcome.type !== "opened") return outcome;
      if (previous === undefined) return { type: "indeterminate", cause: "the log made no first event" };
      return { ...outcome, previous };
    }
    case "append":
      return log.append(call.batch);
    case "beat":
      return log.beat(call.request);
    case "observe":
      return { type: "observed", seen: await log.observe() };
    case "read":
      return log.read(call.after, call.limit);
    case "linkAt":
      return { type: "link", link: await log.linkAt(call.position) };
    case "findCommand":
      return { type: "command", found: await log.findCommand(call.commandId) };
    case "streamVersions":
      return { type: "versions", versions: await log.streamVersions(call.streams) };
    case "keys":
      return { type: "keys", keys: await log.keys(call.users) };
    case "sweepCommands":
      return { type: "swept", count: await log.sweepCommands() };
    default:
      return unreachable(call);
  }
}
