/** Mutants of the list of admitted nodes: which nodes a leader shows to operators (mutants.ts). Pure data. */
import type { Change, Mutant } from "./mutant.ts";

/** Safe by itself: a run is too short for a leader to forget a lessee a minute after its window. */
const lesseesForgottenSoon: Change = {
  file: "src/replication/lease/lessee-record.ts",
  take: "const forgetAfterMs = 60_000;",
  put: "const forgetAfterMs = 1_000;",
};

export const absenceMutants: Readonly<Record<string, Mutant>> = {
  "nodes-not-taken-over": {
    meaning: "a new leader does not read the list of admitted nodes that the one before it has written",
    changes: [{ file: "src/broker/leader/leader.ts", take: "rows: opened.admitted, before", put: "rows: [], before" }],
    beside: [lesseesForgottenSoon],
    within: 20,
    where: "absences",
    holds:
      "a broker that leads again remembers its own list, and a leader shows a silent node as a lessee for a minute after its window",
  },
};
