/**
 * Violations: the invariants of the system (docs/protocol.md §8) and the evidence that one was broken. Pure.
 *
 * Invariants 1–30, 35, 37 and 38 have the numbers of that page. The named invariants are rules of the contract
 * (docs/architecture.md §5, §6) on which the numbered ones rest. A broken named rule reveals the harm earlier.
 */
import type { SimFact, SimMs } from "../facts.ts";

export const invariants = {
  1: "the log is dense",
  2: "what is acknowledged never changes",
  3: "an acknowledged command is never lost",
  4: "each hash is that of the one before and the event's bytes",
  5: "epochs only grow along the log, and each begins with its own first event",
  6: "the events of an epoch come from the one process that opened it",
  7: "after an epoch is opened, nothing of an older one is written",
  8: "the versions of a stream are 1, 2, 3 …",
  9: "one command id has one set of events and one answer",
  10: "what was asked after an acknowledgement stands behind it",
  11: "nothing above the acknowledged end of the log is handed to anybody",
  12: "projections at one link are equal",
  13: "a snapshot equals the fold up to its link",
  14: "a projection never moves back, but by an announced rebuild that has a cause",
  15: "events are applied once, in order, without a gap",
  16: "an event that a node cannot read is never passed over in silence",
  17: "after a complete receipt no request is permitted that it denies",
  18: "a permit has seen everything that was acknowledged before its window",
  19: "without a fresh lease nothing is permitted, but what a route's grace allows",
  20: "a boot without a grant permits nothing",
  21: "a revoked session stays revoked",
  22: "a cut of a user's sessions holds for each of them",
  23: "a route lets in only those whom its policy allows, by their groups and claims",
  24: "a decision is made at one place with one configuration",
  25: "after a complete receipt no byte passes that it denies",
  26: "a receipt becomes complete within W",
  27: "the denials of a lost suffix stay in force, and come back into the log",
  28: "no request is decided behind its own token",
  29: "a token of a lost suffix is never accepted",
  30: "nothing is permitted after the session's expiry",
  35: "what somebody with a lease has still to read is not dropped",
  37: "after the last fault all come together again",
  38: "everything that could grow has a bound",
  "lessee-row": "nobody is granted to before the next leader would know of them",
  "grant-complete": "a grant names a head that holds all that was acknowledged before its renew was sent",
  "grant-origin": "a grant that is taken was made for this boot and this renew",
  "lease-by-age": "a lease by age is no younger than the lease that it rests on",
  "age-marked": "a lease by age counts only while the age mark is on the regional broker's disk",
  "region-enforced": "a regional broker says that it enforces only what its nodes with leases by age enforce",
  "left-alive": "only a boot that has ended is let go",
  "receipt-true": "a receipt says what is so: who has applied it, who can decide no more, what is not in the log",
  "durability-true":
    "what is called synchronous is on as many standbys as the rule asks for, and outlives what the rule allows",
  "enforced-true": "a node says that it enforces only what it does",
  "kept-exact": "a denial that a node keeps beside the log denies only what some history denied",
  "level-kept": "who cannot read a finalized level permits nothing behind it, and leads nothing",
  "level-ready": "a level is finalized while nobody has a lease who could not read it",
  "configuration-enforced": "what a configuration denies is cut when it is put in force",
  "duty-fenced": "what a duty asks for is written in the epoch that it runs in, or not at all",
  "presented-once": "a refresh token is presented to the provider once, as far as the log kept the intents",
  "refresh-fenced": "a refresh token is sent only by a process that leads the epoch in which its intent was written",
  "refresh-kept": "a refresh ends no session because of the cluster's own presentations",
  "snapshot-announced": "a snapshot that the log speaks of was saved, and is of the log's own history",
  "retention-held":
    "the log lets go only of what two snapshots hold, one older than the newest whole, and nobody wants kept",
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
  const told = facts.map((fact) => `    ${seconds(fact.at)} ${JSON.stringify(fact, shorten)}`);
  return [`invariant ${invariant} (${invariants[invariant]}), at ${seconds(at)}: ${what}`, ...told].join("\n");
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
