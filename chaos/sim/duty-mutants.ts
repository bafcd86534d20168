/** Mutants of what a leader does for the cluster: its duties, snapshots, what the log lets go of (mutants.ts). Pure data. */
import type { Mutant } from "./mutant.ts";

export const dutyMutants: Readonly<Record<string, Mutant>> = {
  "capture-not-kept": {
    meaning: "a snapshot's builder does not keep the values of its position while events go on being folded",
    changes: [
      {
        file: "src/events/projection-capture.ts",
        take: "if (kept !== undefined && !kept.has(id)) kept.set(id, before());",
        put: "void [kept, before];",
      },
    ],
    within: 10,
  },
  "duty-unfenced": {
    meaning: "what a duty asks for after its epoch is carried out",
    changes: [
      { file: "src/broker/leader/duty-holder.ts", take: "if (!this.isCurrent(run)) {", put: "if (run.run < 0) {" },
      {
        file: "src/broker/leader/batch-writer.ts",
        take: "if (onlyIn === null || (onlyIn.epoch === epoch && onlyIn.incarnation === incarnation)) return true;",
        put: "if (onlyIn === null || epoch >= 0 || incarnation !== onlyIn.incarnation) return true;",
      },
    ],
    within: 20,
    holds: "it is looked at when it is asked for, and again when its batch is made",
  },
};
