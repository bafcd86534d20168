/**
 * Monitor coverage: counts how often each monitor checked a case that could have gone wrong.
 *
 * A monitor without such cases proves nothing, so a run of many seeds must reach a minimum count of each look. Pure.
 */
export type Look = keyof typeof looks;

/**
 * `of`: the invariants that the look serves. `in100`: the minimum count in 100 seeds, a fraction of the observed count.
 * A minimum below 1 requires more seeds.
 */
export const looks = {
  "page-of-many": { of: "1", in100: 4_000, what: "pages of two events or more" },
  "promotion-judged": { of: "2, 3", in100: 20, what: "promotions by the procedure, of a log with acknowledged events" },
  "command-kept": { of: "3", in100: 6_000, what: "acknowledged commands looked for in the last log" },
  "event-hashed": { of: "4, 8", in100: 9_000, what: "events whose hash and version were computed again" },
  "epoch-opened": { of: "5, 6", in100: 100, what: "epochs that began" },
  "write-after-epoch": { of: "7", in100: 10, what: "writes that an open epoch refused" },
  "command-again": { of: "9", in100: 900, what: "commands that were answered a second time" },
  "command-ordered": { of: "10", in100: 10_000, what: "commands asked after the acknowledgement of another" },
  "handed-near-end": {
    of: "11",
    in100: 1_000,
    what: "batches, pages and grants handed on while the servers held more than is acknowledged",
  },
  "digest-compared": { of: "12", in100: 30_000, what: "digests of two processes at one link" },
  "snapshot-compared": { of: "13", in100: 900, what: "digests of a snapshot and of a fold at one link" },
  "rebuild-judged": { of: "14", in100: 20, what: "projections built anew" },
  "move-judged": { of: "15", in100: 30_000, what: "moves of a projection" },
  "unreadable-judged": { of: "16", in100: 5, what: "requests at a node behind an event that it cannot read" },
  "level-judged": { of: "level-kept", in100: 5, what: "requests at a node that cannot read the level it has come to" },
  "finalizing-judged": { of: "level-ready", in100: 5, what: "levels that were finalized" },
  "began-after-receipt": {
    of: "17",
    in100: 10_000,
    what: "requests within ten seconds of a complete receipt that denies them",
  },
  "receipt-past-absent": {
    of: "17",
    in100: 50,
    what: "complete receipts while a running node had not applied the place",
  },
  "tried-while-absent": {
    of: "17",
    in100: 15,
    what: "requests, of those a complete receipt denies, at a node that has not applied it",
  },
  "permit-behind-head": {
    of: "18",
    in100: 80,
    what: "permits at a place behind what had been acknowledged a second before",
  },
  "lease-over": { of: "19", in100: 900, what: "requests, and bytes, at a node whose lease was over" },
  "served-in-grace": { of: "19", in100: 250, what: "permits that only a route's grace allowed" },
  "age-judged": { of: "lease-by-age", in100: 50, what: "leases by age whose beginning was compared with the truth" },
  "mark-judged": { of: "age-marked", in100: 50, what: "grants by age, and removals of the age mark" },
  "region-claim-judged": {
    of: "region-enforced",
    in100: 50,
    what: "words of a regional broker on what it enforces, for each node with a lease by age",
  },
  "paused-look": { of: "19", in100: 60, what: "requests at a node right after a pause" },
  "boot-without-grant": { of: "20", in100: 120, what: "requests at a boot that nobody had granted to" },
  "revoked-tried": { of: "21", in100: 3_000, what: "requests of revoked sessions" },
  "cut-user-tried": { of: "22", in100: 2_000, what: "requests of people whose sessions were cut" },
  "group-tried": { of: "23", in100: 4_000, what: "requests for a group's route by somebody who is not in it" },
  "changed-file": { of: "24", in100: 1_000, what: "decisions by a second configuration" },
  "byte-after-receipt": {
    of: "25",
    in100: 15_000,
    what: "bytes of exchanges that were open when a receipt became complete",
  },
  "enforced-with-open": {
    of: "25",
    in100: 6_000,
    what: "words of a node that it enforces a place, while exchanges were open",
  },
  "outlived-a-file": {
    of: "configuration-enforced",
    in100: 50,
    what: "bytes of exchanges that were open when another configuration was put in force",
  },
  "receipt-in-peace": { of: "26", in100: 250, what: "receipts asked after the faults" },
  "kept-denial-tried": { of: "27", in100: 0.1, what: "requests that only a denial of a lost suffix keeps out" },
  "kept-denial-judged": { of: "kept-exact", in100: 0, what: "requests that only a denial beside the log keeps out" },
  "behind-token": { of: "28", in100: 400, what: "requests at a node behind their token" },
  "lost-token": { of: "29", in100: 10, what: "requests with a token of a lost suffix" },
  "expired-tried": { of: "30", in100: 400, what: "requests of sessions that have expired" },
  "node-in-the-end": { of: "37", in100: 300, what: "nodes judged in the end" },
  "size-told": { of: "38", in100: 3_000, what: "sizes of what could grow" },
  "grant-judged": { of: "lessee-row, grant-complete, grant-origin", in100: 10_000, what: "grants" },
  "grant-of-another": {
    of: "grant-origin",
    in100: 20,
    what: "grants that did not answer a renew of the boot that got them",
  },
  "duty-judged": { of: "duty-fenced", in100: 250, what: "commands of duties that were written" },
  "token-judged": { of: "presented-once, refresh-fenced", in100: 300, what: "presentations of refresh tokens" },
  "dismissal-judged": { of: "refresh-kept", in100: 10, what: "sessions that a refresh ended" },
  "announcement-judged": { of: "snapshot-announced", in100: 300, what: "words of the log on a snapshot" },
  "truncation-judged": { of: "35", in100: 10, what: "times that the log let go of events" },
  "durability-judged": { of: "durability-true", in100: 500, what: "receipts that said synchronous" },
  "promise-outlived": {
    of: "durability-true",
    in100: 10,
    what: "promotions of the furthest standby after a receipt that said synchronous",
  },
  "claim-judged": { of: "enforced-true", in100: 25_000, what: "words of nodes on what they enforce" },
} as const satisfies Readonly<Record<string, Readonly<{ of: string; in100: number; what: string }>>>;

/** The counts of one run. */
export class Looks {
  readonly counts = new Map<Look, number>();

  add(look: Look, count = 1): void {
    this.counts.set(look, (this.counts.get(look) ?? 0) + count);
  }
}

/** Runs with fewer seeds have no minimum. */
const seedsMin = 100;

/** The counts of many runs, and the looks that are below their minimum. */
export class AllLooks {
  readonly counts = new Map<Look, number>();
  seeds = 0;

  add(run: Iterable<readonly [Look, number]>): void {
    this.seeds += 1;
    for (const [look, count] of run) this.counts.set(look, (this.counts.get(look) ?? 0) + count);
  }

  missing(): readonly Look[] {
    if (this.seeds < seedsMin) return [];
    return (Object.keys(looks) as Look[]).filter((look) => {
      const least = Math.floor((looks[look].in100 * this.seeds) / 100);
      return (this.counts.get(look) ?? 0) < least;
    });
  }
}
