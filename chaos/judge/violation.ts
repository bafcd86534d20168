/** Violations: what must never happen, and what was seen of it. Pure. */
import type { Ns } from "./history.ts";

export const checks = {
  "permitted-after-receipt": "a request that began after a complete receipt was permitted",
  "carried-after-receipt": "bytes passed after a complete receipt",
  "permitted-beyond-window": "a request was permitted after every lease from before the revocation had expired",
  "carried-beyond-window": "bytes passed after every lease from before the revocation had expired",
  "permitted-after-expiry": "a request was permitted after its session had expired",
  "carried-after-expiry": "bytes passed after their session had expired",
  "permitted-without-right": "a person was permitted who was never added to the group",
  "told-to-sign-in": "a live session was told to sign in",
  "refused-a-member": "a live session of a member was refused with 403",
  "acknowledged-event-lost": "an acknowledged command is not at the position in the log that its answer named",
  "local-revocation-lost": "the log does not have a revocation at the end that a cut-off region had accepted by itself",
  "repeated-command-differs": "a command that was sent again was answered differently, or happened twice",
  "order-reversed": "a command that began after another was acknowledged precedes it in the log",
  "ended-by-itself": "a process ended that the harness had not ended",
  "log-broken": "log verify fails",
  "digests-differ": "at the end a node's state differs from the leader's",
  "not-ready-in-time": "the cluster did not recover after the last fault",
  "permitted-in-isolated-region": "a region that no lease can reach permitted a request after its window",
  "home-disturbed": "faults of other regions took requests of the home region with them",
  "promise-broken": "a promise of a scenario was not kept within its bound",
  "audit-missing": "something that was answered has neither a record nor a place in a declared gap",
  "audit-differs": "a record says something else than was answered, or than another copy of it",
  "audit-strict-lost": "a permit of a strict route has no record",
  "audit-unexplained": "a gap was declared that no fault explains",
  "audit-unproven": "a record of an audit file is not what the node has sealed into the log",
  "audit-late": "the audit sinks did not have everything in time",
} as const;
export type Check = keyof typeof checks;

/** The checks that say how soon something was over. A machine that is busy with other work may fail them. */
const timed: ReadonlySet<Check> = new Set(["not-ready-in-time", "home-disturbed", "audit-late"]);

export type Violation = Readonly<{
  check: Check;
  /** When it became certain; the report shows the time around it. */
  at: Ns;
  what: string;
  /** Its subject: session, node, route or operation. */
  about: Readonly<Record<string, string>>;
  /** How often it was seen for the same subject. */
  times: number;
}>;

/** Violations, one per subject. */
export class Findings {
  readonly #found = new Map<string, Violation>();

  add(violation: Omit<Violation, "times">): void {
    const key = JSON.stringify([violation.check, violation.about]);
    const known = this.#found.get(key);
    this.#found.set(key, known === undefined ? { ...violation, times: 1 } : { ...known, times: known.times + 1 });
  }

  all(): readonly Violation[] {
    return [...this.#found.values()].sort((a, b) => a.at - b.at);
  }
}

/** Whether nothing worse happened than that something took too long. */
export function areOnlyLate(violations: readonly Violation[]): boolean {
  return violations.every(({ check }) => timed.has(check));
}
