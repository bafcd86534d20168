/** Violations: what must never happen, and what was seen of it. Pure. */
import type { Ns } from "./history.ts";

export const checks = {
  "permitted-after-receipt": "a request that began after a complete receipt was let through",
  "carried-after-receipt": "bytes passed after a complete receipt",
  "permitted-beyond-window": "a request was let through after every node's lease from before the revocation was over",
  "carried-beyond-window": "bytes passed after every node's lease from before the revocation was over",
  "permitted-after-expiry": "a request was let through after its session had expired",
  "carried-after-expiry": "bytes passed after their session had expired",
  "permitted-without-right": "somebody was let through whom nobody had put into the group",
  "told-to-sign-in": "a live session was told to sign in",
  "refused-a-member": "a live session of a member was refused with 403",
  "acknowledged-event-lost": "an acknowledged command is not in the log where it was said to be",
  "repeated-command-differs": "a command that was sent again was answered differently, or happened twice",
  "order-reversed": "a command that began after another was acknowledged stands before it in the log",
  "ended-by-itself": "a process ended that nobody had ended",
  "log-broken": "log verify fails",
  "digests-differ": "nodes at the end do not hold what the leader holds",
  "not-ready-in-time": "the cluster did not become whole again after the last fault",
} as const;
export type Check = keyof typeof checks;

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
