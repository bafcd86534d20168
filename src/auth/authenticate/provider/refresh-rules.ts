/**
 * Refresh rules: the steps of one refresh of one session. Pure; the leader's duty and the simulator use the same
 * rules.
 *
 * - A refresh token is presented only after the intent to present it is in the log, and the log accepts one intent per
 *   token.
 * - It is presented only in an epoch that this intent has proven, checked again right before the request.
 * - An unknown outcome is never resolved by presenting the token again. The session continues for a bounded grace.
 *
 *   record --done, still leading--> present --tokens--> keep
 *     |                               |--provably not used--> release
 *     |--refused--> stop              |--refused--> end, or stop where an earlier presentation explains it
 *     |--too late--> release          |--unknown--> stop
 *     |--unclear--> remember: release once the vault shows that this very intent was recorded
 *
 * Why: docs/adr/0037-refresh-exactly-once.md
 */
import type { Epoch, Fact, Presentation, UnixMs, VaultedTokens } from "../../../events/index.ts";

export type FirstStep =
  /** Write the intent. */
  | Fact<"record", object>
  /** The outcome of an earlier presentation is unknown; the session continues until `until`. */
  | Fact<"rest", { until: UnixMs }>
  | Fact<"end", { why: string }>;
/**
 * `release`: write that the token was not presented. `remember`: the log may have the intent. `stop`: write nothing.
 */
export type StepAfterRecord = "present" | "release" | "remember" | "stop";
export type StepAfterAnswer = "keep" | "release" | "end" | "stop";

/** Outcome of one presentation of a refresh token. */
export type Presented =
  | Fact<"tokens", object>
  /** The request was not sent, or the provider refused it before it checked the token. */
  | Fact<"not-used", object>
  | Fact<"refused", { error: string }>
  | Fact<"unknown", object>;

/** The longest time (ms, monotonic) from submitting an intent to the request that it announces. */
export const startMsMax = 5_000;
/** Longest wait of the leader for the provider's response (ms). */
export const presentationMsMax = 60_000;

export function firstStep(entry: VaultedTokens, at: Readonly<{ now: UnixMs; graceMs: number }>): FirstStep {
  const { presentation, tokens } = entry;
  if (presentation === null) return { type: "record" };
  const graceEnds = presentation.deadline + at.graceMs;
  const until = Math.max(graceEnds, tokens.accessTokenExpiresAt ?? 0) as UnixMs;
  return until > at.now ? { type: "rest", until } : { type: "end", why: "outcome unknown" };
}

/**
 * @param at.waitedMs time since the intent was submitted; a process that was paused may have been deposed without
 * noticing
 */
export function stepAfterRecord(
  result: "done" | "refused" | "unavailable",
  at: Readonly<{ leads: boolean; waitedMs: number }>,
): StepAfterRecord {
  if (result === "refused") return "stop";
  // The next version of the session may be the intent of another leader, which has presented the token.
  if (result === "unavailable") return "remember";
  return at.leads && at.waitedMs <= startMsMax ? "present" : "release";
}

/** An intent with an unknown outcome, for which no request was sent. */
export type UnsentIntent = Pick<Presentation, "epoch" | "deadline">;

/**
 * True when the vault entry holds this very intent: epoch and deadline distinguish it from the intents of other
 * leaders.
 */
export function isUnsent({ presentation }: Pick<VaultedTokens, "presentation">, unsent: UnsentIntent): boolean {
  return presentation !== null && presentation.epoch === unsent.epoch && presentation.deadline === unsent.deadline;
}

/** Errors that mean the provider no longer vouches for the person. */
const finalErrors: ReadonlySet<string> = new Set([
  "invalid_grant",
  "access_denied",
  "interaction_required",
  "login_required",
  "consent_required",
  "account_selection_required",
  "subject_changed",
]);

export function stepAfterAnswer(
  outcome: Presented,
  entry: Pick<VaultedTokens, "obtainedIn">,
  epoch: Epoch,
): StepAfterAnswer {
  switch (outcome.type) {
    case "tokens":
      return "keep";
    case "not-used":
      return "release";
    case "unknown":
      return "stop";
    case "refused":
      if (!finalErrors.has(outcome.error)) return "stop";
      return outcome.error === "invalid_grant" && mayBeUsedByAnotherLeader(entry, epoch) ? "stop" : "end";
  }
}

/**
 * True when a presentation that this epoch does not know may have used up the token: by a leader whose last writes the
 * log lost, or by an older build, which records no intents.
 */
function mayBeUsedByAnotherLeader({ obtainedIn }: Pick<VaultedTokens, "obtainedIn">, epoch: Epoch): boolean {
  return obtainedIn !== epoch;
}

/** Refreshes in progress at once. */
export const workersMin = 8;
const workersMax = 64;
/** A run with this many refreshes for each worker has more to do than it can do in time. */
const busyRefreshes = 5;

/**
 * How many refreshes the next run has in progress at once. More while many are due, because a provider that is far away
 * takes long for each; few after a run in which the provider refused the request itself, or did not answer.
 */
export function workersAfter(run: Readonly<{ workers: number; refreshes: number; wasHeldBack: boolean }>): number {
  if (run.wasHeldBack) return workersMin;
  if (run.refreshes >= run.workers * busyRefreshes) return Math.min(workersMax, run.workers * 2);
  return Math.max(workersMin, run.workers / 2);
}
