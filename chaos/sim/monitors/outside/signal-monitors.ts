/**
 * Signal monitors: no signal is lost, in either direction.
 *
 * - What the cluster acknowledges to a transmitter is in the log, acknowledged.
 * - Each revocation behind the beginning of a stream reaches its receiver, always with the same identity (`jti`).
 *
 * Operators who promote a server without proof may lose what the cluster has acknowledged, and a stream then has a gap
 * of which its receiver is notified.
 */
import { jtiOf, parseRecord } from "../../../../src/auth/authenticate/transmitter/stream-record.ts";
import type { SimFactOf } from "../../facts.ts";
import type { LogPoint } from "../chains.ts";
import type { GroundTruth } from "../ground-truth.ts";
import { formatLink } from "../log-monitors.ts";
import type { Monitor } from "../monitor.ts";
import { listIn } from "./logout-monitors.ts";
import { WrittenCommands } from "./written-commands.ts";

/** A revocation is delivered in this time (ms) once nothing fails any more. */
const deliveredMs = 12_000;
const revocations = new Set(["SessionRevoked", "UserSessionsRevoked", "UserSuspended", "UserErased"]);

/** What another transmitter has said is no person. */
function isOfRecord(event: object): boolean {
  return "userId" in event && typeof event.userId === "string" && event.userId.startsWith("signal:");
}

type Opened = Readonly<{ streamId: string; after: LogPoint; point: LogPoint }>;

export function watchSignals(truth: GroundTruth): Monitor {
  const { chains, findings, observations } = truth;
  const written = new WrittenCommands(truth);
  const points = new Map<string, LogPoint[]>();
  const writtenAt = new Map<LogPoint, number>();
  const issued = new Map<string, SimFactOf<"signal-issued">>();
  const accepted = new Map<string, SimFactOf<"signal-accepted">>();
  /** By what a token says: its identity. */
  const identities = new Map<string, SimFactOf<"signal-accepted">>();
  let opened: Opened | null = null;

  const { before, after } = written.handlers(({ commandId, command, last, points: own }, fact) => {
    listIn(points, commandId).push(last);
    for (const point of own) writtenAt.set(point, fact.at);
    if (command?.type !== "writeSignalStream" || command.expected !== 0) return;
    const stream = parseRecord(command.record).stream;
    const from = stream && truth.find(stream.cursor.after);
    if (stream !== null && from) opened = { streamId: stream.streamId, after: from, point: last };
  });

  function checkAcknowledged(fact: SimFactOf<"signal-acknowledged">): void {
    const signal = issued.get(fact.jti);
    if (signal === undefined) return;
    observations.add("signal-acknowledged");
    for (const commandId of signal.commandIds) {
      if ((points.get(commandId) ?? []).some((point) => chains.isAcknowledged(point))) continue;
      const what = `token ${fact.jti} is acknowledged, and its command ${commandId} is not in the log`;
      findings.add("signal-durable", what, [signal, fact]);
    }
  }

  function checkAccepted(fact: SimFactOf<"signal-accepted">): void {
    accepted.set(fact.jti, fact);
    if (!/session-revoked|account-disabled/.test(fact.content)) return;
    const earlier = identities.get(fact.content);
    if (earlier === undefined) identities.set(fact.content, fact);
    else if (earlier.jti !== fact.jti)
      findings.add("signal-delivered", `one event reaches the receiver as ${earlier.jti} and as ${fact.jti}`, [
        earlier,
        fact,
      ]);
  }

  function checkEnd(fact: SimFactOf<"run-over">): void {
    if (opened === null || truth.lost.length > 0 || truth.faultsOver === null) return;
    const { streamId, after: from, point: created } = opened;
    if (!chains.contains(truth.head, created)) return;
    for (const point of chains.backwards(truth.head, from)) {
      const { recorded } = point;
      if (recorded === null || !revocations.has(recorded.event.type) || isOfRecord(recorded.event)) continue;
      if ((writtenAt.get(point) ?? truth.now) > truth.now - deliveredMs) continue;
      observations.add("signal-delivered");
      const jti = jtiOf(streamId, recorded.hash, 0);
      if (accepted.has(jti)) continue;
      const what = `the receiver never got ${recorded.event.type} at ${formatLink(point.link)}`;
      findings.add("signal-delivered", what, [fact]);
    }
  }

  return {
    invariants: ["signal-durable", "signal-delivered"],
    before: {
      ...before,
      "signal-issued": (fact) => {
        issued.set(fact.jti, fact);
      },
      "signal-acknowledged": checkAcknowledged,
      "signal-accepted": checkAccepted,
      "run-over": checkEnd,
    },
    after,
  };
}
