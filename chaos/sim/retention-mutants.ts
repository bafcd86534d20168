/** Mutants of snapshots and of what the log lets go of because of them (mutants.ts). Pure data. */
import type { Change, Mutant } from "./mutant.ts";

const run = "src/broker/snapshots/snapshot-run.ts";
/** A plan in which nothing is kept from the start and snapshots are frequent. */
const keepsNothing: Change = {
  file: "chaos/sim/cluster-setup.ts",
  take: 'const rules = { everyEvents, retentionMs: 0, hold: "everything" as "everything" | "nothing" };',
  put: 'const rules = { everyEvents: 12, retentionMs: 0, hold: "nothing" as "everything" | "nothing" };',
};
/** And disks that write one chunk in twelve as something else. */
const badDisks: Change = {
  file: "chaos/sim/snapshot-disk.ts",
  take: "const damagedChance = 0.01;",
  put: "const damagedChance = 0.08;",
};

export const retentionMutants: Readonly<Record<string, Mutant>> = {
  "capture-not-kept": {
    meaning: "a snapshot's builder does not keep the values of its position while more events are folded",
    changes: [
      {
        file: "src/events/projection/capture.ts",
        take: "if (kept !== undefined && !kept.has(id)) kept.set(id, before());",
        put: "void [kept, before];",
      },
    ],
    within: 10,
  },
  "one-snapshot-enough": {
    meaning: "events that only the newest snapshot covers are dropped",
    changes: [{ file: run, take: "const [, second] = snapshots;", put: "const [second] = snapshots;" }],
    within: 20,
    where: "operators",
  },
  "older-snapshot-unread": {
    meaning: "events are dropped though the older snapshot was never read back from the disk",
    changes: [
      {
        file: run,
        take: "const ref = nextToRead(run, second, read);",
        put: "const ref = read < 0 ? nextToRead(run, second, read) : undefined;",
      },
      keepsNothing,
      badDisks,
    ],
    within: 20,
  },
  "hold-ignored": {
    meaning: "events are dropped though everything is to be kept",
    changes: [
      {
        file: run,
        take: 'if (run.rules.hold === "everything" || run.cancelled || second === undefined) return end(run);',
        put: "if (run.cancelled || second === undefined) return end(run);",
      },
    ],
    within: 10,
  },
};
