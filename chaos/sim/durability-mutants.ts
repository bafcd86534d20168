/**
 * Mutants of durability: what may call an event synchronous without a look at where the standbys have flushed
 * (mutants.ts). Pure data.
 */
import type { Change, Mutant } from "./mutant.ts";

const simLog = "chaos/sim/sim-log.ts";
const reads = "chaos/sim/sim-log-reads.ts";

/** Each append and beat looks at the names before it writes. @param then what it does with that, in terms of `set` */
function namesBeforeWriting(then: string): Change {
  return {
    file: simLog,
    take: "(at, reply) => at.write(how, decide, reply),",
    put: `(at, reply) =>
            at.look(genesis, (seen) => {
              const set = seen.type === "rows" && seen.value.names !== "";
              ${then}
              at.write(how, decide, reply);
            }),`,
  };
}
const creditedIsSynchronous: Change = {
  file: reads,
  take: "    let open = true;\n    const end = (durability: Durability): void => {",
  put: '    if (this.credited !== undefined) return answer(link.position <= this.credited ? "synchronous" : "asynchronous");\n    let open = true;\n    const end = (durability: Durability): void => {',
};
const appended = "this.clean = { epoch: batch.epoch, incarnation: batch.incarnation, link: batch.last };";

export const durabilityMutants: Readonly<Record<string, Mutant>> = {
  "synchronous-before-commit": {
    meaning: "a commit counts as synchronous because its own statement saw the names set, before it waited",
    changes: [
      namesBeforeWriting("this.set = set;"),
      { file: simLog, take: appended, put: `${appended}\n        if (this.set) this.credited = batch.last.position;` },
      creditedIsSynchronous,
    ],
    within: 60,
    where: "unproven",
  },
  "synchronous-by-later-statement": {
    meaning:
      "a commit counts as synchronous because a later statement on the same session sees the names set again, or still",
    changes: [
      namesBeforeWriting("if (set) this.credited = this.written ?? this.credited;\n              this.set = set;"),
      { file: simLog, take: appended, put: `${appended}\n        if (this.set) this.written = batch.last.position;` },
      creditedIsSynchronous,
    ],
    within: 60,
    where: "unproven",
  },
  "synchronous-by-setting": {
    meaning: "a receipt says synchronous because the names are set when it is signed",
    changes: [
      {
        file: "src/replication/log/durability.ts",
        take: "flushed.filter((position) => position >= end).length >= wanted.count",
        put: "flushed.length >= 0",
      },
    ],
    within: 60,
    where: "unproven",
  },
};
