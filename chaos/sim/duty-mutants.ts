/** Mutants of what a leader does for the cluster: its duties (mutants.ts). Pure data. */
import type { Mutant } from "./mutant.ts";

export const dutyMutants: Readonly<Record<string, Mutant>> = {
  "duty-unfenced": {
    meaning: "a duty's command is executed after its epoch",
    changes: [
      { file: "src/broker/leader/duty-holder.ts", take: "if (!this.isCurrent(run)) {", put: "if (run.run < 0) {" },
      {
        file: "src/broker/leader/batch-writer.ts",
        take: "if (onlyIn === null || (onlyIn.epoch === epoch && onlyIn.incarnation === incarnation)) return true;",
        put: "if (onlyIn === null || epoch >= 0 || incarnation !== onlyIn.incarnation) return true;",
      },
    ],
    within: 20,
    holds: "it is checked when submitted, and again when its batch is made",
  },
  "membership-end-ignored": {
    meaning: "a node goes on permitting by a membership that has ended by itself",
    // The sweep would hide it: the end does not need the leader.
    beside: [
      {
        file: "src/broker/leader/duty-holder.ts",
        take: 'if (sweep === "ends") return nextEnds(projection, now);',
        put: 'if (sweep === "ends") return now < 0 ? nextEnds(projection, now) : null;',
      },
    ],
    changes: [
      {
        file: "src/events/projection/state.ts",
        take: "return sources.length > withEnd || (requested !== undefined && now < requested.until);",
        put: "return sources.length > 0 || withEnd < 0;",
      },
    ],
    within: 30,
  },
  "suspension-ended-early": {
    meaning: "a sign-in ends a suspension before its end",
    changes: [
      {
        file: "src/events/projection/state.ts",
        take: 'return user?.status === "suspended" && user.suspension !== undefined && user.suspension.until <= now;',
        put: 'return user?.status === "suspended" && user.suspension !== undefined && now > 0;',
      },
    ],
    within: 12,
  },
  "intent-after-call": {
    meaning: "a refresh token is presented before the log has the intent",
    changes: [
      {
        file: "chaos/sim/sim-refreshes.ts",
        take: "const submittedAt = process.clock.monotonic();",
        put: "const submittedAt = process.clock.monotonic();\n    this.#present(refresh, intent.commandId);\n    if (submittedAt >= 0) return;",
      },
    ],
    within: 10,
  },
  "epoch-unchecked-before-call": {
    meaning: "a refresh token is presented without a check that the epoch of its intent still leads",
    changes: [
      {
        file: "src/auth/authenticate/provider/refresh-rules.ts",
        take: 'return at.leads && at.waitedMs <= startMsMax ? "present" : "release";',
        put: 'return at.leads || at.waitedMs >= 0 ? "present" : "release";',
      },
    ],
    within: 60,
  },
  "unknown-presented-again": {
    meaning: "a refresh token whose outcome is unknown is presented again",
    changes: [
      {
        file: "src/auth/authenticate/provider/refresh-rules.ts",
        take: 'if (presentation === null) return { type: "record" };',
        put: 'if (presentation === null || presentation.deadline > 0) return { type: "record" };',
      },
    ],
    within: 80,
  },
  "every-refusal-ends": {
    meaning: "invalid_grant ends a session though a presentation that this epoch does not know may be the reason",
    changes: [
      {
        file: "src/auth/authenticate/provider/refresh-rules.ts",
        take: 'return outcome.error === "invalid_grant" && mayBeUsedByAnotherLeader(entry, epoch) ? "stop" : "end";',
        put: 'return outcome.error === "" && mayBeUsedByAnotherLeader(entry, epoch) ? "stop" : "end";',
      },
    ],
    beside: [
      {
        file: "chaos/sim/sim-refreshes.ts",
        take: "const olderBuilds = 0;",
        put: "const olderBuilds = 0.5;",
      },
      {
        file: "chaos/sim/sim-refreshes.ts",
        take: "const olderTimeoutMs = 5_000;",
        put: "const olderTimeoutMs = 100;",
      },
    ],
    within: 40,
  },
};
