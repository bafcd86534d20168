/** Mutants of regions: what a regional broker keeps, grants, holds back and says of itself (mutants.ts). Pure data. */
import type { Change, Mutant } from "./mutant.ts";

const leases = "src/broker/region/region-leases.ts";
const core = "src/broker/region/region-core.ts";
const granter = "src/replication/lease/regional-granter.ts";
const holder = "src/replication/lease/lease-holder.ts";

/** Safe by itself: then everything rests on what the region's broker does. */
export const alwaysByAge: Change = {
  file: leases,
  take: "if (!leaderAnswers() || this.#forwarded.size",
  put: 'if (message.type === "renew" || !leaderAnswers() || this.#forwarded.size',
};
const leaderWaits =
  "while the leader answers, a region's nodes have their leases from the leader, which waits for them itself";

export const regionMutants: Readonly<Record<string, Mutant>> = {
  "mark-ignored": {
    meaning: "a boot names the one that it replaces though that one's leases by age may count",
    changes: [{ file: core, take: 'mark === "on the disk" ? "none" : "last boot"', put: '"last boot"' }],
    beside: [alwaysByAge],
    within: 30,
    where: "regional",
    holds: leaderWaits,
  },
  "mark-late": {
    meaning: "a regional broker grants by age before the age mark is on its disk",
    changes: [
      {
        file: leases,
        take: 'this.#unmarked.set(id, renew);\n    if (this.#mark === "asked for") return;',
        put: 'this.#grantByAge(id, renew);\n    if (this.#mark === "asked for") return;',
      },
    ],
    within: 10,
    where: "regional",
  },
  "mark-removed-early": {
    meaning: "a regional broker removes the age mark while leases by age count",
    changes: [
      { file: leases, take: "this.leased(now) === 0 && this.#context.own.lease", put: "this.#context.own.lease" },
    ],
    within: 10,
    where: "regional",
  },
  "mark-removed-unleased": {
    meaning: "a boot removes the age mark of the boot before it, though the leader has granted it no lease",
    changes: [
      { file: leases, take: "&& this.#context.own.lease !== null && this.#unmarked", put: "&& this.#unmarked" },
    ],
    within: 40,
    where: "regional",
  },
  "foreign-confirmation-counts": {
    meaning: "a node's confirmation counts at its region whatever its history",
    changes: [
      {
        file: granter,
        take: "if (node.claimed === null || !onChain(node.claimed)) return;",
        put: "if (node.claimed === null) return;",
      },
    ],
    beside: [alwaysByAge],
    within: 60,
    where: "regional",
    holds: leaderWaits,
  },
  "head-of-node": {
    meaning: "a grant by age names the node's own position, not all that the region has applied",
    changes: [{ file: granter, take: "const head = copy.applied;", put: "const head = renew.applied;" }],
    within: 40,
    where: "regional",
  },
  "confirmation-not-awaited": {
    meaning: "a region's change counts as enforced before its nodes with leases by age have confirmed it",
    changes: [
      {
        file: leases,
        take: "if (until !== null) {\n        this.#context",
        put: "if (until !== null && until < 0) {\n        this.#context",
      },
    ],
    beside: [alwaysByAge],
    within: 20,
    where: "regional",
    holds: leaderWaits,
  },
  "silence-not-awaited": {
    meaning: "a region's change counts as enforced three seconds before the leases by age of silent nodes have expired",
    changes: [
      {
        file: granter,
        take: "if (fencedAt === null || fencedAt <= view.at) continue;",
        put: "if (fencedAt === null || fencedAt <= view.at + 3_000) continue;",
      },
    ],
    beside: [alwaysByAge],
    within: 40,
    where: "regional",
    holds: leaderWaits,
  },
  "age-not-reported": {
    meaning: "a grant by age says that the region's own lease is new",
    changes: [
      { file: granter, take: "const ageMs = Math.max(0, at.monotonic - lease.freshSinceMs);", put: "const ageMs = 0;" },
    ],
    within: 10,
    where: "regional",
  },
  "age-ignores-drift": {
    meaning: "a lease by age is as old as the region's clock says, however much slower that may run than the node's",
    changes: [{ file: holder, take: "(ageMs * (1 + drift)) / (1 - drift)", put: "ageMs" }],
    within: 20,
    where: "regional",
  },
};
