/**
 * Mutants of the log and of those who follow it: what is written, believed, kept and enforced (mutants.ts). Pure data.
 */
import type { Change, Mutant } from "./mutant.ts";
import { alwaysByAge } from "./region-mutants.ts";

const follower = "src/replication/node/follower.ts";
const logRules = "src/replication/log/log-rules.ts";
const projection = "src/events/projection/projection.ts";
const leader = "src/broker/leader/leader.ts";
const simLog = "chaos/sim/sim-log-reads.ts";
const writer = "src/broker/leader/batch-writer.ts";
const conclusions = "src/broker/leader/pending-conclusions.ts";
/** A beat of a deposed leader does not end it. */
const ignoresFencing = {
  file: leader,
  take: 'case "fenced":\n        this.finish({ type: "fenced" });',
  put: 'case "fenced":',
};
/** Nor does what it hears of a later epoch. */
const ignoresNewerEpoch: Change = {
  file: leader,
  take: "if (seen <= this.opened.epoch) return;",
  put: "if (seen >= 0) return;",
};
/** Nor does anything else. */
const neverDeposed: readonly Change[] = [
  ignoresFencing,
  {
    file: writer,
    take: 'pendingCommands.requeue(commands);\n        return { type: "fenced" };',
    put: "pendingCommands.requeue(commands);\n        return null;",
  },
  ignoresNewerEpoch,
];
const stepsDown = "a deposed leader steps down when one of its writes is fenced, and when it hears of a later epoch";

export const logMutants: Readonly<Record<string, Mutant>> = {
  "no-gap-detection": {
    meaning: "a delivery is applied though it does not follow the applied head",
    changes: [
      {
        file: follower,
        take: "if (batch.previous.position > applied.position) return requestRead(bufferDelivery(state, batch), batch.last.position);",
        put: "",
      },
      {
        file: follower,
        take: "if (skipped < 0 || skipped >= stretch.events.length || !sameLink(meetingPoint(stretch, applied), applied))",
        put: "if (skipped >= stretch.events.length)",
      },
      {
        file: projection,
        take: "if (recorded.position !== this.#applied.position + 1) {",
        put: "if (recorded.position < 0) {",
      },
    ],
    within: 10,
    holds: "the follower checks twice, and the projection throws",
  },
  "no-epoch-check": {
    meaning: "a deposed leader's writes are accepted",
    changes: [
      {
        file: logRules,
        take: 'if (log.epoch !== writer.epoch || log.incarnation !== writer.incarnation) return { type: "fenced", epoch: log.epoch };',
        put: "",
      },
      {
        file: logRules,
        take: 'return sameLink(log.head, writer.head) ? undefined : { type: "head-moved", head: log.head };',
        put: "return undefined;",
      },
    ],
    within: 30,
    holds: "every epoch begins with an event, so a deposed leader's head is never the log's",
  },
  "above-horizon": {
    meaning: "readers see what is visible, durable or not",
    changes: [
      {
        file: simLog,
        take: "const horizon = still && clean.position > durable.position ? clean : durable;",
        put: "const horizon = still && clean.position > durable.position ? clean : state.head;\n      void durable;",
      },
    ],
    within: 40,
  },
  "horizon-by-appends-only": {
    meaning: "a beat does not report how far the log is durable",
    changes: [
      {
        file: "chaos/sim/sim-log.ts",
        take: 'write: { op: "beat", request, durable }',
        put: 'write: { op: "beat", request, durable: { ...durable, ...genesis } }',
      },
    ],
    within: 10,
  },
  "epoch-not-compared": {
    meaning: "an epoch is opened whatever epoch the row holds by then",
    changes: [
      { file: "chaos/sim/sim-log.ts", take: "if (rowEpoch !== request.expected) {", put: "if (rowEpoch < 0) {" },
    ],
    within: 30,
  },
  "lease-kept-in-rebuild": {
    meaning: "a node whose history was lost keeps its lease while it rebuilds",
    changes: [{ file: "src/replication/node/node-core.ts", take: 'this.#lease.block("rebuilding");', put: "" }],
    within: 60,
    where: "unproven",
  },
  "sticky-off": {
    meaning: "denials of a lost suffix are dropped with it",
    changes: [
      {
        file: "src/replication/node/local-projection.ts",
        take: "for (const stream of lost.denied) this.#retained.add(stream);\n    this.#releaseDenied(next);",
        put: "this.#releaseDenied(next);",
      },
      {
        file: "src/replication/node/local-projection.ts",
        take: "for (const stream of lost.denied) this.#retained.add(stream);\n    this.#releaseDenied(this.#visible);",
        put: "this.#releaseDenied(this.#visible);",
      },
    ],
    within: 60,
    where: "unproven",
  },
  "lost-not-reported": {
    meaning: "denials of a lost suffix stay with the node and never return to the log",
    changes: [
      {
        file: "src/replication/node/node-core.ts",
        take: "onLost: (events, now) => this.#reassertions.add(events, now),",
        put: "onLost: () => undefined,",
      },
      {
        file: "src/broker/state/broker-state-sync.ts",
        take: 'this.#context.post({ type: "denialsLost", events });',
        put: "void events;",
      },
    ],
    within: 60,
    where: "unproven",
    holds: "a broker that has read them returns them too",
  },
  "ended-not-reasserted": {
    meaning: "a session that was lost together with its end may be created again",
    changes: [
      {
        file: "src/replication/node/denials/tightenings.ts",
        take: "!sessions.has(stream))\n          sessions.set",
        put: "sessions.has(stream))\n          sessions.set",
      },
      {
        file: "src/replication/node/denials/persisted-denials.ts",
        take: "for (const each of sessionDenials(denial)) this.#restoreOne(each);",
        put: "",
      },
    ],
    within: 200,
    where: "unproven",
  },
  "no-epoch-end-check": {
    meaning: "a node ahead of the log does not notice from what it hears of a new epoch",
    changes: [
      {
        file: follower,
        take: "const ahead = applied.epoch < epoch && applied.position >= start;",
        put: "const ahead = start < 0;",
      },
      { file: follower, take: 'locateLink(state.history, head) === "otherChain"', put: "epoch < 0" },
      {
        file: follower,
        take: "return batch.last.epoch > applied.epoch ? rebuild(state, batch.epoch) : [state, []];",
        put: "return [state, []];",
      },
      {
        file: follower,
        take: "return meetingPoint(batch, applied).epoch > applied.epoch\n",
        put: "return batch.epoch < 0\n",
      },
      {
        file: follower,
        take: "const proven = input.head.epoch > state.history.applied.epoch;",
        put: "const proven = false;",
      },
    ],
    within: 20,
    where: "unproven",
    holds: "the hash of the granted head, a delivery of the new epoch, and the answer to a read",
  },
  "command-twice": {
    meaning: "an executed command is executed again",
    changes: [
      {
        file: logRules,
        take: 'if (made !== undefined) return { type: "duplicate-command", commandId, first: made.first, count: made.count };',
        put: "void made;",
      },
    ],
    within: 30,
  },
  "unclear-is-success": {
    meaning: "a write without a clear answer is reported as done",
    changes: [
      {
        file: writer,
        take: 'if (outcome.type === "appended" && sameLink(outcome.last, batch.last)) {',
        put: 'if ((outcome.type === "appended" && sameLink(outcome.last, batch.last)) || outcome.type === "indeterminate") {',
      },
    ],
    within: 60,
  },
  "grant-without-commit": {
    meaning: "renews are granted when a beat begins, and not when it has committed",
    changes: [
      {
        file: leader,
        take: "const { lessees, left } = ticket.round;",
        put: "if (ticket.round.lessees.length === 0) this.leaseRequests.grantAfterCommit(ticket.round, this.#parts.state.applied);\n    const { lessees, left } = ticket.round;",
      },
      ignoresFencing,
      ignoresNewerEpoch,
    ],
    within: 60,
    holds: "a deposed leader steps down at the next beat, and when it hears of a later epoch",
  },
  "lost-without-proof": {
    meaning: "a broker that may no longer lead calls a position lost",
    changes: [
      {
        file: "src/broker/leader/receipt-tracker.ts",
        take: "if (request.proven) this.#awaitNodes(request, null);\n    else request.stage",
        put: "if (request.deadline > 0) this.#awaitNodes(request, null);\n    else request.stage",
      },
      ...neverDeposed,
    ],
    within: 20,
    holds: stepsDown,
  },
  "unchanged-without-proof": {
    meaning: "a broker that may no longer lead answers that a command changes nothing or is refused",
    changes: [
      {
        file: conclusions,
        take: 'const proof = write === null ? "clean" : "awaited";',
        put: 'const proof = "clean" as "clean" | "awaited";',
      },
      ...neverDeposed,
    ],
    within: 20,
    holds: stepsDown,
  },
  "region-confirms-early": {
    meaning: "a regional broker confirms what a node with a lease by age does not enforce yet",
    changes: [
      {
        file: "src/replication/lease/regional-granter.ts",
        take: "if (enforced === null || enforced.position < link.position) until",
        put: "if (enforced === null && link.position < 0) until",
      },
    ],
    beside: [alwaysByAge],
    within: 20,
    where: "regional",
    holds: "while the leader answers, a region's nodes have their leases from the leader, which waits for them itself",
  },
  "finalize-unchecked": {
    meaning: "a level is finalized without a check for nodes that cannot read it",
    changes: [
      {
        file: "src/broker/leader/level-readiness.ts",
        take: "  return reasons;\n",
        put: "  reasons.length = 0;\n  return reasons;\n",
      },
    ],
    within: 60,
    where: "operators",
  },
  "too-old-permits": {
    meaning: "a node that cannot read the finalized level keeps deciding, and gets grants",
    changes: [
      { file: "src/replication/node/node-core.ts", take: 'this.#lease.block("too-old");', put: "" },
      {
        file: "src/broker/leader/lease-request-handler.ts",
        take: "if (renew.reads < finalized) {",
        put: "if (renew.reads < 0) {",
      },
    ],
    within: 60,
    where: "operators",
    holds: "it stops by itself, and the leader grants it nothing",
  },
  "publish-before-commit": {
    meaning: "a batch is published before it has committed",
    changes: [
      {
        file: leader,
        take: 'this.#batches.appending(this.#begin("append"));',
        put: 'this.#parts.publisher.publish(append);\n    this.#batches.appending(this.#begin("append"));',
      },
    ],
    within: 10,
  },
  "sent-after-failure": {
    meaning: "a batch made behind one that was not written is sent all the same",
    changes: [{ file: writer, take: "this.discard(); // the batch before it", put: "// the batch before it" }],
    within: 60,
  },
  "sent-unanswered": {
    meaning: "the batch behind one in flight is sent before that one is answered",
    changes: [
      {
        file: leader,
        take: "this.#extendDraft();\n      return;",
        put: "this.#extendDraft();\n      return this.#batches.ready ? this.#append() : undefined;",
      },
    ],
    within: 20,
  },
  "outcome-before-commit": {
    meaning: "a batch's outcome is reported and published when the batch behind it is made, not when it has committed",
    changes: [
      {
        file: writer,
        take: "const room = batchEventsMax - (this.#next?.commands.length ?? 0);",
        put: "const room = batchEventsMax - (this.#next?.commands.length ?? 0);\n    if (this.#inFlight !== null) this.#parts.publisher.publish(this.#inFlight.batch);",
      },
    ],
    within: 20,
  },
  "ahead-without-check": {
    meaning: "a batch is executed behind one in flight without a check of what that one changes",
    changes: [
      { file: writer, take: "used: inFlight?.used ?? null }", put: "used: null }" },
      {
        file: logRules,
        take: "return conflicts.length === 0 ? undefined",
        put: "return conflicts.length >= 0 ? undefined",
      },
    ],
    within: 40,
    holds: "the log compares the version of each stream that is written",
  },
  "foreign-goodbye": {
    meaning: "a broker releases a boot because another node said goodbye in its name",
    changes: [
      {
        file: "src/broker/leader/lease-request-handler.ts",
        take: "if (!isOwn(message, message.goodbye)) {",
        put: "if (id < 0) {",
      },
    ],
    within: 30,
  },
  "forged-accepted": {
    meaning: "a message counts as its sender's, no matter who sealed it",
    changes: [
      {
        file: "chaos/sim/envelopes.ts",
        take: "return this.#sealed.has(envelope) && envelope.from.cluster === cluster && mayUseBoot(envelope.from);",
        put: "return envelope.from.cluster === cluster;",
      },
    ],
    within: 30,
  },
  "unknown-final-ignored": {
    meaning: "a final event of an unknown type is skipped",
    changes: [{ file: projection, take: "return this.#deny(recorded.stream, recorded);", put: "return [];" }],
    within: 20,
  },
  "unknown-skipped": {
    meaning: "an event of an unknown type that could change decisions is skipped",
    changes: [{ file: projection, take: "this.#degraded = recorded.type;", put: "" }],
    within: 60,
  },
  "lost-token-accepted": {
    meaning: "a token of a lost suffix is as valid as any",
    changes: [
      {
        file: "src/replication/node/link-waiters.ts",
        take: 'return ours !== undefined && link.epoch > ours ? undefined : "lost";',
        put: 'return ours !== undefined && link.epoch > ours ? undefined : "reached";',
      },
    ],
    within: 80,
    where: "unproven",
  },
  "token-ignored": {
    meaning: "a request does not wait for the position that its session needs",
    changes: [
      {
        file: "src/replication/node/link-waiters.ts",
        take: "const verdict = outcomeFor(history, request.link);",
        put: 'const verdict = "reached" as LinkWaitOutcome | undefined;',
      },
    ],
    within: 10,
  },
};
