/**
 * Monitor coverage: counts how often each monitor checked a case that could have gone wrong.
 *
 * A monitor without such cases proves nothing, so a run of many seeds must reach a minimum count of each observation.
 * Pure.
 */
export type Observation = keyof typeof observations;

/**
 * `of`: the invariants that the observation serves. `in100`: the minimum count in 100 seeds, a fraction of what was
 * observed. A minimum below 1 requires more seeds.
 */
export const observations = {
  "page-of-many": { of: "1", in100: 4_000, what: "pages of two events or more" },
  "promotion-checked": {
    of: "2, 3",
    in100: 20,
    what: "promotions by the procedure, of a log with acknowledged events",
  },
  "command-kept": { of: "3", in100: 6_000, what: "acknowledged commands searched in the final log" },
  "event-hashed": { of: "4, 8", in100: 9_000, what: "events whose hash and version were recomputed" },
  "epoch-opened": { of: "5, 6", in100: 100, what: "epochs that were opened" },
  "write-after-epoch": { of: "7", in100: 10, what: "writes that an open epoch refused" },
  "command-repeated": { of: "9", in100: 900, what: "commands that were answered a second time" },
  "command-order-checked": { of: "10", in100: 10_000, what: "commands invoked after another was acknowledged" },
  "served-near-head": {
    of: "11",
    in100: 1_000,
    what: "batches, pages and grants sent while the servers held unacknowledged events",
  },
  "digest-compared": { of: "12", in100: 30_000, what: "digests of two processes at one link" },
  "snapshot-compared": { of: "13", in100: 900, what: "digests of a snapshot and of a fold at one link" },
  "rebuild-checked": { of: "14", in100: 20, what: "rebuilt projections" },
  "move-checked": { of: "15", in100: 30_000, what: "moves of a projection" },
  "unreadable-checked": { of: "16", in100: 5, what: "requests at a node past an event that it cannot read" },
  "level-checked": {
    of: "level-kept",
    in100: 5,
    what: "requests at a node that cannot read the finalized level that it has reached",
  },
  "finalization-checked": { of: "level-ready", in100: 5, what: "levels that were finalized" },
  "began-after-receipt": {
    of: "17",
    in100: 10_000,
    what: "requests within ten seconds of a complete receipt that denies them",
  },
  "receipt-before-applied": {
    of: "17",
    in100: 50,
    what: "complete receipts while a running node had not applied their link",
  },
  "tried-before-applied": {
    of: "17",
    in100: 15,
    what: "requests that a complete receipt denies, at a node that has not applied its link",
  },
  "permit-behind-head": {
    of: "18",
    in100: 80,
    what: "permits without an event that was acknowledged more than a second before",
  },
  "lease-expired": { of: "19", in100: 900, what: "requests and bytes at a node whose lease had expired" },
  "served-in-grace": { of: "19", in100: 250, what: "permits that only a route's grace allowed" },
  "lease-age-checked": {
    of: "lease-by-age",
    in100: 50,
    what: "leases by age whose start was compared with the true one",
  },
  "age-mark-checked": { of: "age-marked", in100: 50, what: "grants by age, and removals of the age mark" },
  "region-claim-checked": {
    of: "region-enforced",
    in100: 50,
    what: "confirmations of a regional broker, for each node with a lease by age",
  },
  "request-after-pause": { of: "19", in100: 60, what: "requests at a node right after a pause" },
  "boot-without-grant": { of: "20", in100: 120, what: "requests at a boot without a grant" },
  "revoked-tried": { of: "21", in100: 3_000, what: "requests of revoked sessions" },
  "cut-user-tried": { of: "22", in100: 2_000, what: "requests of people whose sessions were all revoked" },
  "group-tried": { of: "23", in100: 4_000, what: "requests for a group's route by a person outside the group" },
  "configuration-changed": { of: "24", in100: 1_000, what: "decisions under a later configuration" },
  "byte-after-receipt": {
    of: "25",
    in100: 15_000,
    what: "bytes of exchanges that were open when a receipt became complete",
  },
  "open-after-receipt": {
    of: "25",
    in100: 0,
    what: "exchanges that a receipt denied while they were open, at a node that enforced its link later or never",
  },
  "enforced-with-open": {
    of: "25",
    in100: 6_000,
    what: "confirmations of a node while exchanges were open",
  },
  "open-across-reload": {
    of: "configuration-enforced",
    in100: 50,
    what: "bytes of exchanges that were open when another configuration took effect",
  },
  "receipt-after-faults": { of: "26", in100: 250, what: "receipts requested after the last fault" },
  "kept-denial-tried": { of: "27", in100: 0.1, what: "requests that only a denial of a lost suffix denies" },
  "kept-denial-checked": { of: "kept-exact", in100: 0, what: "requests that only a denial beside the log denies" },
  "behind-token": { of: "28", in100: 400, what: "requests at a node behind their token" },
  "lost-token": { of: "29", in100: 10, what: "requests with a token of a lost suffix" },
  "expired-tried": { of: "30", in100: 400, what: "requests of sessions that have expired" },
  "final-node-checked": { of: "37", in100: 300, what: "nodes checked at the end of a run" },
  "size-reported": { of: "38", in100: 3_000, what: "sizes of bounded resources" },
  "grant-checked": { of: "lessee-row, grant-complete, grant-origin", in100: 10_000, what: "grants" },
  "foreign-grant": {
    of: "grant-origin",
    in100: 20,
    what: "grants that did not answer a renew of the boot that received them",
  },
  "duty-checked": { of: "duty-fenced", in100: 250, what: "written commands of duties" },
  "token-checked": { of: "presented-once, refresh-fenced", in100: 300, what: "presentations of refresh tokens" },
  "dismissal-checked": { of: "refresh-kept", in100: 10, what: "sessions that a refresh ended" },
  "announcement-checked": { of: "snapshot-announced", in100: 300, what: "snapshots named in the log" },
  "truncation-checked": { of: "35", in100: 10, what: "truncations of the log" },
  "durability-checked": { of: "durability-true", in100: 500, what: "receipts that said synchronous" },
  "durable-across-promotion": {
    of: "durability-true",
    in100: 10,
    what: "promotions of the furthest standby after a receipt that said synchronous",
  },
  "local-answer-checked": { of: "local-stored", in100: 8, what: "answers `local` of regional brokers" },
  "local-receipt-checked": { of: "local-status-true, local-scope", in100: 6, what: "local receipts" },
  "local-receipt-by-expiry": {
    of: "local-status-true",
    in100: 0,
    what: "nodes without the revocation when a local receipt was complete",
  },
  "passed-beside-tightened": {
    of: "lease-tightened",
    in100: 0,
    what: "requests and bytes at a node while a grant waited for local revocations",
  },
  "refused-beside-tightened": {
    of: "lease-tightened",
    in100: 0,
    what: "requests at a node whose only lease waited for local revocations",
  },
  "grant-passed-checked": {
    of: "renew-withheld",
    in100: 100,
    what: "leases of the leader that passed a regional broker which had held a local revocation",
  },
  "began-after-local-receipt": {
    of: "local-receipt-true",
    in100: 20,
    what: "requests and bytes that a complete local receipt denies",
  },
  "local-drop-checked": { of: "local-kept", in100: 15, what: "local revocations that left a disk" },
  "local-end-checked": { of: "local-merged, merged-once", in100: 4, what: "local revocations at the end of a run" },
  "listed-checked": { of: "node-listed", in100: 10_000, what: "nodes that a leader had to show" },
  "listed-silent": {
    of: "node-listed",
    in100: 20,
    what: "of these, nodes that had been down for longer than any window",
  },
  "logout-checked": { of: "logged-out", in100: 300, what: "sessions of logouts that were answered" },
  "name-checked": { of: "one-name", in100: 300, what: "names compared when one was given" },
  "provisioned-sign-in": { of: "deactivated", in100: 300, what: "sign-ins of people who correlate" },
  "deactivation-checked": { of: "deactivated", in100: 200, what: "sessions from before an answered deactivation" },
  "directory-run-checked": { of: "directory-kept", in100: 40, what: "runs of a directory" },
  "removal-checked": { of: "directory-kept", in100: 25, what: "memberships that a run withdrew" },
  "directory-end-checked": { of: "directory-followed", in100: 2, what: "groups of a directory at the end of a run" },
  "signal-acknowledged": { of: "signal-durable", in100: 250, what: "tokens acknowledged to a transmitter" },
  "signal-delivered": { of: "signal-delivered", in100: 250, what: "revocations searched at a receiver of signals" },
  "loss-checked": { of: "mass-held", in100: 60, what: "changes that took a group from people" },
  "held-checked": { of: "held-inert", in100: 20, what: "changes that were held" },
  "held-decision-checked": { of: "held-decided", in100: 15, what: "releases and drops" },
  "request-decision-checked": { of: "request-decided", in100: 15, what: "decisions about access requests" },
  "request-end-checked": { of: "request-access", in100: 15, what: "ends of access requests" },
  "claim-checked": { of: "enforced-true", in100: 25_000, what: "confirmations of nodes" },
} as const satisfies Readonly<Record<string, Readonly<{ of: string; in100: number; what: string }>>>;

/** The counts of one run. */
export class ObservationCounts {
  readonly counts = new Map<Observation, number>();

  add(observation: Observation, count = 1): void {
    this.counts.set(observation, (this.counts.get(observation) ?? 0) + count);
  }
}

/** Runs with fewer seeds have no minimum. */
const seedsMin = 100;

/** The counts of many runs, and the observations that are below their minimum. */
export class TotalObservations {
  readonly counts = new Map<Observation, number>();
  seeds = 0;

  add(run: Iterable<readonly [Observation, number]>): void {
    this.seeds += 1;
    for (const [observation, count] of run) this.counts.set(observation, (this.counts.get(observation) ?? 0) + count);
  }

  missing(): readonly Observation[] {
    if (this.seeds < seedsMin) return [];
    return (Object.keys(observations) as Observation[]).filter((observation) => {
      const least = Math.floor((observations[observation].in100 * this.seeds) / 100);
      return (this.counts.get(observation) ?? 0) < least;
    });
  }
}
