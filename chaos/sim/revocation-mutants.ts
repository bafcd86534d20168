/**
 * Mutants of local revocations: what is on the disks of a region before it answers, which leases count meanwhile, and
 * what the log gets in the end (mutants.ts). Pure data.
 */
import type { Mutant } from "./mutant.ts";

const revocations = "src/broker/region/region-revocations.ts";
const peers = "src/broker/region/region-peers.ts";
const leases = "src/broker/region/region-leases.ts";
const merges = "src/broker/region/revocation-merges.ts";
const holder = "src/replication/lease/lease-holder.ts";

export const revocationMutants: Readonly<Record<string, Mutant>> = {
  "local-before-disk": {
    meaning: "a regional broker answers `local` before its own disk has the revocation",
    changes: [
      {
        file: revocations,
        take: "if (entry === undefined || !entry.kept) return null;",
        put: "if (entry === undefined) return null;",
      },
      { file: peers, take: "if (!entry.kept || entry.merged !== null", put: "if (entry.merged !== null" },
    ],
    within: 20,
    where: "regional",
  },
  "peer-before-disk": {
    meaning: "a regional broker acknowledges a revocation to another one before its disk has it",
    changes: [
      { file: peers, take: "if (this.#store.keptHead < this.#store.head) return;", put: "" },
      {
        file: revocations,
        take: "stored: [...this.store.entries].filter(({ kept }) => kept).map(",
        put: "stored: [...this.store.entries].map(",
      },
    ],
    within: 60,
    where: "regional",
  },
  "tightening-ignored": {
    meaning: "a lease by age counts though the local revocations that it names are not in force at the node",
    changes: [
      {
        file: holder,
        take: '|| (location === "onChain" && !isInForce(each.tightenedTo, state.tightened));',
        put: ";",
      },
    ],
    within: 40,
    where: "revocations",
  },
  "renew-not-withheld": {
    meaning: "a regional broker forwards the renew of a node that lacks a local revocation, and passes the lease on",
    changes: [
      {
        file: leases,
        take: "this.#revocations.withholds(this.#granter.confirmedBy(message.renew));",
        put: "this.#revocations.withholds(Number.POSITIVE_INFINITY);",
      },
      {
        file: leases,
        take: "this.#revocations.store.head > head && this",
        put: "this.#revocations.store.head > Number.POSITIVE_INFINITY && this",
      },
    ],
    within: 40,
    where: "revocations",
  },
  "dropped-before-merge": {
    meaning: "a regional broker drops a local revocation when the leader has it, not when its own copy of the log does",
    changes: [
      {
        file: merges,
        take: "if (merged === null || Math.max(merged.position, basis.position) > own.applied.position) continue;",
        put: "if (merged === null) continue;",
      },
      { file: merges, take: "const isOnChain = this.#links.holds(merged)", put: "const isOnChain = true" },
      {
        file: merges,
        take: 'if (isOnChain && sessionIds.every((id) => own.projection.sessionStatus(id).status !== "active")) {',
        put: "if (isOnChain) {",
      },
    ],
    within: 40,
    where: "regional",
  },
  "merged-under-another-id": {
    meaning: "a regional broker repeats an unanswered merge under another command id",
    changes: [
      {
        file: merges,
        take: "entry.mergeAt = this.#context.now + backoff;",
        put: "entry.mergeAt = this.#context.now + backoff;\n    entry.mergeId = commandIdOfEnvelope(sealed.envelope);",
      },
    ],
    within: 60,
    where: "regional",
  },
};
