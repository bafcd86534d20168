/** Mutants of what a leader does for the cluster: its duties (mutants.ts). Pure data. */
import type { Mutant } from "./mutant.ts";

export const dutyMutants: Readonly<Record<string, Mutant>> = {
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
