/**
 * Mutants of leases and receipts: who may decide, for how long, and what a receipt may say of them (mutants.ts). Pure
 * data.
 */
import type { Change, Mutant } from "./mutant.ts";

const holder = "src/replication/lease/lease-holder.ts";
const granter = "src/replication/lease/lease-granter.ts";
const lesseeRecord = "src/replication/lease/lessee-record.ts";
const leaseSide = "src/replication/node/node-lease.ts";
const leader = "src/broker/leader/leader.ts";
/** What a deposed leader hears of a later epoch does not end it. */
const ignoresNewerEpoch: Change = {
  file: leader,
  take: "if (seen <= this.opened.epoch) return;",
  put: "if (seen >= 0) return;",
};
/**
 * Nothing but a plan: of all that happens to commits, what lets the one of a deposed leader be answered when another
 * has written.
 */
const lateAnswers: Change = {
  file: "chaos/sim/swarm.ts",
  take: 'commits: ["cancel-wait", "lose-answer", "lose-statement", "late-answers", "slow-disk", "lock-row"],',
  put: 'commits: ["late-answers"],',
};

export const leaseMutants: Readonly<Record<string, Mutant>> = {
  "pin-ignored": {
    meaning: "a holder of the enrolment secret speaks for another node's boot with its own key",
    changes: [
      {
        file: "src/replication/wire/node-key.ts",
        take: "return !commitsToKey(holder.boot) || bootIdOf(holder) === holder.boot;",
        put: "return commitsToKey(holder.boot) || bootIdOf(holder) === holder.boot;",
      },
    ],
    within: 60,
  },
  "replacement-unproven": {
    meaning: "a node names another boot as replaced without that boot's own signature",
    changes: [
      {
        file: "src/broker/leader/lease-messages.ts",
        take: "if (replaced === null || !commitsToKey(replaced)) return true;",
        put: 'if (replaced === null || cluster !== "") return true;',
      },
    ],
    within: 60,
  },
  "fresh-at-receipt": {
    meaning: "a lease counts from the arrival of its grant, not from the sending of its renew",
    changes: [
      {
        file: holder,
        take: "[...state.awaitingHead, pendingGrantOf(grant, sent)]",
        put: "[...state.awaitingHead, pendingGrantOf(grant, { ...sent, at })]",
      },
    ],
    within: 10,
  },
  "leader-does-not-wait": {
    meaning: "a new leader does not wait for the nodes to which the previous one had granted",
    changes: [
      {
        file: granter,
        take: "for (const row of options.lessees) {",
        put: "for (const row of options.lessees.slice(options.lessees.length)) {",
      },
    ],
    within: 20,
  },
  "window-too-small": {
    meaning: "a silent node counts as fenced after 0.7 of its window",
    changes: [
      {
        file: lesseeRecord,
        take: "return (windowMs * (1 + drift)) / (1 - drift) + 50;",
        put: "return windowMs * (0.7 + 0 * drift);",
      },
    ],
    within: 20,
  },
  "grace-not-in-window": {
    meaning: "a silent node counts as fenced when Δ has passed, though it may serve for its grace",
    changes: [
      {
        file: granter,
        take: "at.monotonic + fenceAfterMs(queued.windowMs, drift)",
        put: "at.monotonic + fenceAfterMs(deltaMs, drift)",
      },
    ],
    within: 30,
  },
  "window-not-dictated": {
    meaning: "a node decides for as long as its own file says, not for the window in its grant",
    changes: [
      {
        file: holder,
        take: "return elapsed > windowMs ? Number.POSITIVE_INFINITY : elapsed - state.limits.deltaMs;",
        put: "return windowMs < 0 ? Number.POSITIVE_INFINITY : elapsed - state.limits.deltaMs;",
      },
    ],
    within: 100,
    where: "operators",
  },
  "no-row": {
    meaning: "a node is granted a lease before the next leader could know of it",
    changes: [
      {
        file: granter,
        take: "return queued.exclusive || (this.#lessees.get(queued.key)?.durableWindowMs ?? 0) >= queued.windowMs;",
        put: "return true;",
      },
    ],
    within: 5,
  },
  "write-begun-before": {
    meaning: "a renew is answered by a write that had begun before it arrived",
    changes: [
      {
        file: granter,
        take: "for (const ticket of round.tickets) {\n      const queued",
        put: "for (const ticket of [...this.#queued.keys()]) {\n      const queued",
      },
      ignoresNewerEpoch,
      lateAnswers,
    ],
    within: 20,
    where: "commits",
    holds: "a deposed leader steps down when it hears of a later epoch",
  },
  "pause-unnoticed": {
    meaning: "a node that did not run keeps the lease and the renews from before",
    changes: [{ file: holder, take: "if (sinceTick > tickMs + lateMsMax) return sinceTick;", put: "" }],
    within: 40,
    where: "pauses",
  },
  "sleep-unnoticed": {
    meaning: "a machine that slept with its monotonic clock keeps the lease from before",
    changes: [
      {
        file: holder,
        take: "return Math.abs(stepped) > stepMsMax ? sinceTick + Math.max(0, stepped) : null;",
        put: "return null;",
      },
    ],
    within: 20,
    where: "sleeps",
  },
  "clock-unchecked": {
    meaning: "a node decides however far its wall clock is from the leader's",
    changes: [
      {
        file: holder,
        take: "if (answered.skewMs > skewMsMax) {",
        put: "if (answered.skewMs === Number.NEGATIVE_INFINITY) {",
      },
    ],
    within: 20,
  },
  "head-not-reached": {
    meaning: "a grant counts though the projection has not reached the head that it names",
    changes: [
      {
        file: holder,
        take: 'if (waits) awaitingHead.push(each);\n    if (waits || location !== "onChain") continue;',
        put: "",
      },
    ],
    within: 20,
  },
  "age-not-counted": {
    meaning: "a lease by age counts from the sending of its renew, however old the region's own is",
    changes: [
      {
        file: holder,
        take: "sent.at.monotonic - (ageMs * (1 + drift)) / (1 - drift)",
        put: "sent.at.monotonic - 0 * ageMs * drift",
      },
    ],
    within: 10,
    where: "regional",
  },
  "foreign-boot": {
    meaning: "a node accepts the grant of another node, or of its own previous boot",
    changes: [
      { file: leaseSide, take: "if (grant.node !== node || grant.boot !== boot) return;", put: "void [node, boot];" },
      {
        file: holder,
        take: "const ours = grant.node === state.node && grant.boot === state.boot && !state.left;",
        put: "const ours = !state.left;",
      },
    ],
    within: 30,
    holds: "the node's messaging and its lease both check",
  },
  "confirm-before-enforced": {
    meaning: "a node confirms what it has applied, before what that denies is closed",
    changes: [
      {
        file: leaseSide,
        take: "const { projection, enforced } = this.#options.copy();",
        put: "const { projection } = this.#options.copy();\n    const enforced = projection.applied;",
      },
    ],
    within: 20,
  },
  "receipt-by-position": {
    meaning: "a confirmation counts by its position, whatever its history",
    changes: [{ file: lesseeRecord, take: "if (!view.onChain(enforced)) return false;", put: "void view;" }],
    within: 60,
    where: "unproven",
  },
};
