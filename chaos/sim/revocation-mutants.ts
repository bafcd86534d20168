/**
 * Mutants of local revocations: what is on the disks of a region before it answers, which leases wait for it, and when
 * it leaves the disks (mutants.ts). Pure data.
 */
import type { Mutant } from "./mutant.ts";

const revocations = "src/broker/region/region-revocations.ts";
const peers = "src/broker/region/region-peers.ts";
const merges = "src/broker/region/revocation-merges.ts";
const leases = "src/broker/region/region-leases.ts";
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
    within: 40,
    where: "regional",
  },
  "peer-before-disk": {
    meaning: "a regional broker acknowledges a revocation to another one before its disk has it",
    changes: [
      { file: peers, take: "if (!this.#store.isKept) return;", put: "" },
      {
        file: revocations,
        take: "stored: [...this.store.entries].filter(({ kept }) => kept).map(",
        put: "stored: [...this.store.entries].map(",
      },
    ],
    within: 60,
    where: "regional",
  },
  "dropped-before-merge": {
    meaning: "a regional broker drops a local revocation when the leader has it, not when its own copy of the log does",
    changes: [
      {
        file: merges,
        take: "if (merged === null || Math.max(merged.position, basis.position) > own.applied.position) continue;",
        put: "if (merged === null) continue;",
      },
      { file: merges, take: "if (this.#links.isAhead(merged)) {", put: "if (false) {" },
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
  "tightened-ignored": {
    meaning: "a lease by age counts before the local revocations that it names are in force at the node",
    changes: [{ file: holder, take: "!isInForce(each.tightenedTo, state.tightened)", put: "false" }],
    within: 100,
    where: "revocations",
  },
  "forwarded-early": {
    meaning: "a regional broker forwards the renew of a node that lacks a local revocation to the leader",
    changes: [
      {
        file: leases,
        take: "this.#revocations.withholds(this.#granter.confirmedBy(message.renew));",
        put: "false;",
      },
    ],
    within: 100,
    where: "revocations",
  },
  "merged-twice": {
    meaning: "a regional broker merges what another broker of its region gave it under another command id",
    changes: [
      {
        file: revocations,
        take: "import type { BootId, SessionId, UserId } from",
        put: "import { type BootId, commandIdOfEnvelope, type SessionId, type UserId } from",
      },
      {
        file: revocations,
        take: "this.store.add(each, this.store.takeSeq());",
        put: "this.store.add(each, this.store.takeSeq()).mergeId = commandIdOfEnvelope(each.envelope);",
      },
    ],
    within: 60,
    where: "regional",
  },
};
