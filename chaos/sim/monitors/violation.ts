/**
 * Violations: the invariants of the system (docs/protocol.md §8) and the evidence that one was broken. Pure.
 *
 * Invariants 1–30, 35, 37 and 38 have the numbers of that page. The named invariants are rules of the contract
 * (docs/architecture.md §5, §6) on which the numbered ones rest. A broken named rule reveals the harm earlier.
 */
import type { SimFact, SimMs } from "../facts.ts";

export const invariants = {
  1: "the log is dense: each position up to the head has exactly one event",
  2: "an acknowledged event never changes",
  3: "an acknowledged command is never lost",
  4: "each hash is that of the previous hash and the event's bytes",
  5: "epochs only grow along the log, and each begins with its own EpochOpened",
  6: "the events of an epoch come from the one process that opened it",
  7: "after an epoch opens, no write of an older epoch commits",
  8: "the versions of a stream are 1, 2, 3 …",
  9: "one command id has one set of events and one answer",
  10: "a command that begins after another was acknowledged follows it in the log",
  11: "nothing above the acknowledged end of the log reaches a reader",
  12: "projections at one link have one digest",
  13: "a snapshot equals the fold up to its link",
  14: "a projection never moves back, except by an announced rebuild that has a cause",
  15: "events are applied once, in order, without a gap",
  16: "an event that a node cannot read is never skipped silently",
  17: "after a complete receipt no request is permitted that it denies",
  18: "a permit has seen everything acknowledged before its window",
  19: "without a fresh lease nothing is permitted beyond the grace of the route",
  20: "a boot without a grant permits nothing",
  21: "a revoked session stays revoked",
  22: "a cut of all sessions of a user holds for each of them",
  23: "a route admits only people whose groups and claims its policy allows",
  24: "a decision is made at one link with one configuration",
  25: "after a complete receipt no stream that it denies carries another byte",
  26: "a receipt becomes complete within W",
  27: "denials of a lost suffix stay in force, and return to the log",
  28: "no request is decided behind its own token",
  29: "a token of a lost suffix is never accepted",
  30: "nothing is permitted after the session's expiry",
  35: "retention never drops an event that a node with a lease must still read",
  37: "after the last fault all processes converge",
  38: "everything that can grow has a bound",
  "lessee-row": "no grant is sent before the next leader could know of it",
  "grant-complete": "a grant names a head that holds everything acknowledged before its renew was sent",
  "grant-origin": "a grant that a node accepts was made for this boot and this renew",
  "lease-by-age": "a lease by age is no younger than the lease that it rests on",
  "age-marked": "a lease by age counts only while the age mark is on the regional broker's disk",
  "region-enforced": "a regional broker confirms only what each node with a lease by age from it enforces",
  "left-alive": "only a boot that has ended is removed from the lessees",
  "receipt-true": "each status in a receipt is true: applied, fenced, lost",
  "durability-true":
    "what a receipt calls synchronous is on as many standbys as the rule requires, and survives what the rule allows",
  "enforced-true": "a node confirms only what it enforces",
  "kept-exact": "a denial that a node keeps beside the log denies only what some history denied",
  "level-kept": "a build that cannot read a finalized level permits nothing behind it, and does not lead",
  "level-ready": "a level is finalized only while every node with a lease can read it",
  "configuration-enforced": "a configuration that takes effect cuts what it denies",
  "duty-fenced": "what a duty submits is written in its own epoch, or not at all",
  "presented-once": "a refresh token reaches the provider once, unless the log lost the intent",
  "refresh-fenced": "a refresh token is sent only by the process that leads the epoch of its recorded intent",
  "refresh-kept": "a refresh ends no session because the cluster itself presented its token twice",
  "snapshot-announced": "a snapshot that the log names was saved, and is of the log's own history",
  "retention-held":
    "retention drops only what two snapshots hold, the older of them checked whole, and no operator wants kept",
  "local-receipt-true": "after a complete local receipt its region lets nothing pass that the revocation denies",
  "local-status-true": "each status in a local receipt is true: applied, fenced",
  "lease-tightened": "a lease by age that waits for local revocations counts only once they are in force at the node",
  "renew-withheld":
    "a regional broker passes no lease of the leader on to a node that does not enforce a local revocation that it holds",
  "local-scope": "a local receipt names processes of its own region alone",
  "local-stored": "`local` is answered once the disk of every broker of the region holds the revocation",
  "local-kept": "a local revocation leaves a disk only once the log denies what it denies",
  "merged-once": "a local revocation is recorded in the log at most once",
  "local-merged": "a local revocation that a disk holds is eventually in the log, and then leaves the disks",
  "node-listed": "a node that was granted a lease is shown by each later leader until it says goodbye or is retired",
  "logged-out":
    "no session of a provider's session, or person, that was logged out is live at the answer or begins later",
  "one-name": "no two people of a SCIM client have one user name",
  deactivated:
    "no sign-in succeeds while a provisioned person denies it, and earlier sessions have ended at the answer",
  "directory-kept":
    "a run of a directory that did not read all of it withdraws no membership, and none withdraws a true one",
  "directory-followed":
    "after the last run the log has the directory's memberships, and the people that it denies have no session",
  "signal-durable": "a security event that is acknowledged to its transmitter is in the log",
  "signal-delivered": "each revocation reaches each receiver of signals, always with the same identity",
  "mass-held": "no change takes a group from more people than the limit without an operator",
  "held-inert": "a held change has no effect, and only mass changes are held",
  "held-decided": "a held change is released once or dropped, and a released one has its effect in the same batch",
  "request-decided": "an access request is decided once, while it waits, by another person than the one who asked",
  "request-access": "access by a request comes with its approval, and is gone when the log says that it has ended",
  availability: "half of the rightful requests in quiet times are permitted",
} as const;

export type Invariant = keyof typeof invariants;

export type Violation = Readonly<{
  invariant: Invariant;
  at: SimMs;
  /** One sentence that names processes, log links and times. */
  what: string;
  /** The contradicting facts, oldest first. */
  facts: readonly SimFact[];
}>;

const keptMax = 32;

/** Findings: the first violations of a run, and the count of each. */
export class Findings {
  readonly kept: Violation[] = [];
  readonly counts = new Map<Invariant, number>();

  get none(): boolean {
    return this.counts.size === 0;
  }

  add(invariant: Invariant, what: string, facts: readonly [SimFact, ...SimFact[]]): void {
    const count = (this.counts.get(invariant) ?? 0) + 1;
    this.counts.set(invariant, count);
    if (this.kept.length >= keptMax || count > 4) return;
    const at = Math.max(...facts.map((fact) => fact.at));
    this.kept.push({ invariant, at, what, facts: facts.toSorted((a, b) => a.at - b.at) });
  }
}

export function describe({ invariant, at, what, facts }: Violation): string {
  const factLines = facts.map((fact) => `    ${seconds(fact.at)} ${JSON.stringify(fact, shorten)}`);
  return [`invariant ${invariant} (${invariants[invariant]}), at ${seconds(at)}: ${what}`, ...factLines].join("\n");
}

export function seconds(at: SimMs): string {
  return `${(at / 1_000).toFixed(3)} s`;
}

function shorten(key: string, value: unknown): unknown {
  if (key === "hash" && typeof value === "string") return value.slice(0, 8);
  if (key === "bytes" || key === "profile" || key === "publicKey") return undefined;
  if (key === "at" && typeof value === "number") return Math.round(value * 1_000) / 1_000;
  if (Array.isArray(value) && value.length > 12) return [...value.slice(0, 12), `… ${value.length}`];
  return value;
}
