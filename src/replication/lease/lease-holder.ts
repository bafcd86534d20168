/**
 * Lease holder: a node's time-limited right to decide.
 *
 * - Pure. Each input carries its moment by both of the node's clocks. Nothing here is a timer: `overdueMs` is a
 *   comparison, and a process that was not running cannot miss it.
 * - The lease counts from the node's own monotonic time of sending a renew. It counts only once the projection has
 *   reached the head that the grant names, on the same chain (docs/protocol.md §5.1, §7).
 * - A lease by age that names local revocations counts only once they are in force here.
 * - A grant counts only for an unanswered renew of this boot, and never for an epoch older than the newest one seen.
 * - The lease never exceeds the limits of the newest grant. A lease by age never exceeds the limits of its own grant
 *   either.
 * - After a pause of this process, or a suspend that the monotonic clock did not count, every renew sent before it is
 *   dropped. A grant that has waited in a socket buffer proves nothing about the time that was slept through.
 * - The same applies when the leader's clock has advanced more than the local one between two grants: all local clocks
 *   were frozen.
 */
import {
  type BootId,
  type Epoch,
  type Fact,
  type Link,
  type MonotonicMs,
  type NodeId,
  noEpoch,
  type UnixMs,
  unreachable,
} from "../../events/index.ts";
import type { Grant, StorePosition } from "../wire/messages.ts";
import { type ChainHistory, locateLink } from "./chain-history.ts";
import { driftMax, type Moment, newOwnClocks, type OwnClocks, observeOwnClocks, ownStepMs } from "./drift-watch.ts";

export type { Moment } from "./drift-watch.ts";

/** Why the node permits nothing until it is unblocked. */
export type BlockReason =
  | "rebuilding"
  | "quarantined"
  | "degraded"
  | "too-old"
  | "clock-drift"
  | "enforcement-failed"
  | "stopped";

type SentRenew = Readonly<{ nonce: number; at: Moment }>;

/** The epoch that a grant comes from, and where that epoch begins. */
export type GrantingEpoch = Readonly<Pick<Grant, "epoch" | "incarnation" | "start">>;

/**
 * A grant and the local moment it counts from. `windowMs`: its own limit; Infinity: the newest limits alone apply.
 * `tightenedTo`: the local revocations that must be in force first; null: none.
 */
type PendingGrant = Readonly<{
  freshSince: number;
  windowMs: number;
  grantedBy: GrantingEpoch;
  head: Link;
  tightenedTo: StorePosition | null;
}>;

export type LeaseHolder = Readonly<{
  node: NodeId;
  boot: BootId;
  /** The newest nonce used. Renews, confirmations and the goodbye share one sequence. */
  nonce: number;
  /** Renews without an answer. */
  unansweredRenews: readonly SentRenew[];
  /** Grants whose head the projection has not reached yet, or whose local revocations are not in force yet. */
  awaitingHead: readonly PendingGrant[];
  /** The local revocations that are in force here, by the stores of the regional brokers. */
  tightened: readonly StorePosition[];
  /** σ*: monotonic send time (ms) of the renew behind the lease. -Infinity: no lease. */
  freshSince: number;
  /** The window (ms) of the grant behind the lease; it applies beside `limits`. */
  grantWindowMs: number;
  /** The epoch that granted the lease; null: no lease. */
  grantedBy: GrantingEpoch | null;
  /** The limits of this boot's newest grant, whether or not its head is reached. */
  limits: Readonly<{ nonce: number; deltaMs: number; drift: number; windowMs: number }> | null;
  epoch: Epoch;
  /** From the newest grant: the difference (ms) between our wall clock and the leader's beyond the travel time. */
  skewMs: number;
  /** From the newest grant of a leader: its wall clock then, and our monotonic send time of the renew. */
  leaderClock: Readonly<{ epoch: Epoch; wall: UnixMs; sentAt: MonotonicMs }> | null;
  lastTick: Moment;
  /** Whether our own two clocks run at one rate. */
  ownClocks: OwnClocks;
  /** How long (ms) the process did not run. Null: no pause, or a grant has counted since. */
  pausedMs: number | null;
  blockedBy: readonly BlockReason[];
  left: boolean;
}>;

export type LeaseInput =
  /** A renew is sent right after this, numbered by the new `nonce`. */
  | Fact<"renewDue", { at: Moment }>
  /** A confirmation or goodbye takes the next number. */
  | Fact<"nonceTaken", { at: Moment }>
  /** An authenticated grant, parsed, with the chain of the projection that decisions are made from. */
  | Fact<"granted", { grant: Grant; history: ChainHistory; at: Moment }>
  /** The projection moved. */
  | Fact<"projectionMoved", { history: ChainHistory; at: Moment }>
  /** More local revocations are in force here. */
  | Fact<"tightened", { tightened: readonly StorePosition[]; history: ChainHistory; at: Moment }>
  /** An authenticated message spoke of this epoch. */
  | Fact<"epochSeen", { epoch: Epoch; at: Moment }>
  | Fact<"tick", { at: Moment }>
  | Fact<"blocked", { reason: BlockReason; at: Moment }>
  | Fact<"unblocked", { reason: BlockReason; at: Moment }>
  /** Permanent: this boot permits nothing more. */
  | Fact<"goodbye", { at: Moment }>;

export const tickMs = 250;
/** A tick that comes this much late means that the process did not run. */
const lateMsMax = 1_000;
/** A step of wall against monotonic time by this much in one tick means a suspend, or a clock that was set. */
const stepMsMax = 250;
const skewMsMax = 2_000;
/** Tolerated excess of the leader's clock over ours between two grants: its own steps, and drift. */
const frozenMsMax = 500;
const unansweredRenewsMax = 64;
const awaitingHeadMax = 64;

export function newLeaseHolder(options: Readonly<{ node: NodeId; boot: BootId; at: Moment }>): LeaseHolder {
  return {
    node: options.node,
    boot: options.boot,
    nonce: 0,
    unansweredRenews: [],
    awaitingHead: [],
    tightened: [],
    freshSince: Number.NEGATIVE_INFINITY,
    grantWindowMs: Number.POSITIVE_INFINITY,
    grantedBy: null,
    limits: null,
    epoch: noEpoch,
    skewMs: 0,
    leaderClock: null,
    lastTick: options.at,
    ownClocks: newOwnClocks(options.at),
    pausedMs: null,
    blockedBy: [],
    left: false,
  };
}

export function step(before: LeaseHolder, input: LeaseInput): LeaseHolder {
  const state = noticePause(before, input.at);
  switch (input.type) {
    case "renewDue": {
      const sent: SentRenew = { nonce: state.nonce + 1, at: input.at };
      return {
        ...state,
        nonce: sent.nonce,
        unansweredRenews: [...state.unansweredRenews, sent].slice(-unansweredRenewsMax),
      };
    }
    case "nonceTaken":
      return { ...state, nonce: state.nonce + 1 };
    case "granted":
      return onGrant(state, input);
    case "projectionMoved":
      return state.awaitingHead.length === 0 ? state : activateGrants(state, input.history);
    case "tightened":
      return activateGrants({ ...state, tightened: input.tightened }, input.history);
    case "epochSeen":
      return input.epoch > state.epoch ? { ...state, epoch: input.epoch } : state;
    case "tick":
      return watchClocks(state, input.at);
    case "blocked":
      return state.blockedBy.includes(input.reason)
        ? state
        : { ...state, blockedBy: [...state.blockedBy, input.reason], freshSince: Number.NEGATIVE_INFINITY };
    case "unblocked":
      return { ...state, blockedBy: state.blockedBy.filter((reason) => reason !== input.reason) };
    case "goodbye":
      return { ...state, left: true, freshSince: Number.NEGATIVE_INFINITY, unansweredRenews: [], awaitingHead: [] };
    default:
      return unreachable(input);
  }
}

/**
 * How long ago the lease expired, in ms: ≤ 0 while fresh, +Infinity when no route may permit anything.
 *
 * It checks the last tick itself, so that a process that has just resumed permits nothing even before its late tick has
 * run.
 */
export function overdueMs(state: LeaseHolder, at: Moment): number {
  if (state.limits === null || state.left || state.blockedBy.length > 0 || pauseMsAt(state, at) !== null) {
    return Number.POSITIVE_INFINITY;
  }
  const elapsed = at.monotonic - state.freshSince + suspendedMsSince(state.lastTick, at);
  const windowMs = Math.min(state.limits.windowMs, state.grantWindowMs);
  return elapsed > windowMs ? Number.POSITIVE_INFINITY : elapsed - state.limits.deltaMs;
}

/** A lease that a regional broker grants from. `freshSinceMs`: by the local monotonic clock. */
export type HeldLease = GrantingEpoch &
  Readonly<{
    freshSinceMs: number;
    deltaMs: number;
    drift: number;
    windowMs: number;
    /** The leader's wall clock now, as its newest grant and this process's monotonic clock show it. */
    leaderWallMs?: UnixMs;
    /** The brokers of the region, if every lease of its nodes came through them; absent or null: it may not have. */
    solePath?: readonly string[] | null;
  }>;

/** Null while no route may permit anything: see `overdueMs`. */
export function leaseHeldAt(state: LeaseHolder, at: Moment): HeldLease | null {
  if (overdueMs(state, at) === Number.POSITIVE_INFINITY || state.limits === null || state.grantedBy === null)
    return null;
  const { deltaMs, drift } = state.limits;
  const windowMs = Math.min(state.limits.windowMs, state.grantWindowMs);
  const freshSinceMs = state.freshSince - suspendedMsSince(state.lastTick, at);
  const held = { ...state.grantedBy, freshSinceMs, deltaMs, drift, windowMs };
  if (state.leaderClock === null) return held;
  const { wall, sentAt } = state.leaderClock;
  return { ...held, leaderWallMs: (wall + Math.round(at.monotonic - sentAt)) as UnixMs };
}

/** Why the node does not hold a fresh lease, in plain words; empty while it does. */
export function leaseReasons(state: LeaseHolder, at: Moment): string[] {
  const reasons: string[] = state.blockedBy.map((reason) => blockTexts[reason]);
  if (state.left) reasons.push("returned its lease");
  const paused = pauseMsAt(state, at) ?? state.pausedMs;
  if (paused !== null) reasons.push(`did not run for ${Math.round(paused)} ms; waiting for a newer grant`);
  if (state.skewMs > skewMsMax) reasons.push(`the clock is ${Math.round(state.skewMs)} ms off the leader's`);
  if (reasons.length > 0) return reasons;
  if (state.awaitingHead.length > 0 && state.freshSince === Number.NEGATIVE_INFINITY)
    return ["granted, but not yet at the granted head"];
  if (state.freshSince === Number.NEGATIVE_INFINITY) return ["no grant yet"];
  const overdue = overdueMs(state, at);
  return overdue <= 0 ? [] : [`no grant for ${Math.round(at.monotonic - state.freshSince)} ms`];
}

const blockTexts: Readonly<Record<BlockReason, string>> = {
  rebuilding: "rebuilding: the log does not have the events that this node had applied",
  quarantined: "quarantined: the projection differs from the leader's at the same position",
  "clock-drift": "the wall clock and the monotonic clock of this machine run at different rates",
  degraded: "an event that could change decisions is unknown to this build",
  "too-old": "the cluster has finalized a level that this build cannot read: start a newer one",
  "enforcement-failed": "a change could not be enforced",
  stopped: "stopped",
};

type GrantInput = Extract<LeaseInput, { type: "granted" }>;

function onGrant(state: LeaseHolder, { grant, history, at }: GrantInput): LeaseHolder {
  const sent = state.unansweredRenews.find((each) => each.nonce === grant.nonce);
  const ours = grant.node === state.node && grant.boot === state.boot && !state.left;
  if (!ours || sent === undefined || grant.epoch < state.epoch) return state;
  const limits = limitsAfter(state.limits, grant);
  const frozenMs = frozenMsOf(state.leaderClock, { grant, at });
  const answered: LeaseHolder = {
    ...(frozenMs > 0 ? resetAfterPause(state, at, frozenMs) : state),
    leaderClock: leaderClockAfter(state.leaderClock, { grant, sent }),
    epoch: grant.epoch,
    limits,
    unansweredRenews: frozenMs > 0 ? [] : state.unansweredRenews.filter((each) => each.nonce !== grant.nonce),
    skewMs: skewOf(grant, sent, at),
  };
  if (answered.skewMs > skewMsMax) {
    // The lease is no longer fresh. The grace within its window still runs, from no later than it would have. After a
    // pause it restarts once, from a renew sent since.
    const pending = pendingGrantOf(grant, sent);
    const overdue: PendingGrant = {
      ...pending,
      freshSince: Math.min(pending.freshSince, sent.at.monotonic - limits.deltaMs - 1),
    };
    const awaitingHead = answered.pausedMs === null || frozenMs > 0 ? [] : [overdue];
    const freshSince = Math.min(answered.freshSince, at.monotonic - limits.deltaMs - 1);
    return activateGrants({ ...answered, awaitingHead, freshSince }, history);
  }
  if (frozenMs > 0) return answered;
  return activateGrants(
    { ...answered, awaitingHead: [...state.awaitingHead, pendingGrantOf(grant, sent)].slice(-awaitingHeadMax) },
    history,
  );
}

type LeaseLimits = NonNullable<LeaseHolder["limits"]>;

/** A grant by age counts from an earlier moment than its renew, so it never lengthens the limits of other grants. */
function limitsAfter(before: LeaseLimits | null, { nonce, deltaMs, drift, windowMs, ageMs }: Grant): LeaseLimits {
  if (before === null) return { nonce: ageMs === undefined ? nonce : 0, deltaMs, drift, windowMs };
  if (nonce <= before.nonce) return before;
  if (ageMs === undefined) return { nonce, deltaMs, drift, windowMs };
  return {
    nonce: before.nonce,
    deltaMs: Math.min(before.deltaMs, deltaMs),
    drift: Math.max(before.drift, drift),
    windowMs: Math.min(before.windowMs, windowMs),
  };
}

/** A grant by age counts from `ageMs` before the renew, assuming a slow granter clock and a fast local one. */
function pendingGrantOf(
  { ageMs, drift, windowMs, head, epoch, incarnation, start, tightenedTo }: Grant,
  sent: SentRenew,
): PendingGrant {
  const grantedBy = { epoch, incarnation, start };
  if (ageMs === undefined)
    return { freshSince: sent.at.monotonic, windowMs: Number.POSITIVE_INFINITY, grantedBy, head, tightenedTo: null };
  const freshSince = sent.at.monotonic - (ageMs * (1 + drift)) / (1 - drift);
  return { freshSince, windowMs, grantedBy, head, tightenedTo: tightenedTo ?? null };
}

/**
 * Activates the grants whose head the projection has reached and whose local revocations are in force, and drops those
 * of another chain.
 */
function activateGrants(state: LeaseHolder, history: ChainHistory): LeaseHolder {
  if (state.blockedBy.length > 0) return state; // checked again at the first move after the unblock
  let { freshSince, grantWindowMs, grantedBy, pausedMs } = state;
  const awaitingHead: PendingGrant[] = [];
  for (const each of state.awaitingHead) {
    const location = locateLink(history, each.head);
    const waits = location === "ahead" || (location === "onChain" && !isInForce(each.tightenedTo, state.tightened));
    if (waits) awaitingHead.push(each);
    if (waits || location !== "onChain") continue;
    if (each.freshSince > freshSince) ({ freshSince, windowMs: grantWindowMs, grantedBy } = each);
    pausedMs = null;
  }
  return { ...state, freshSince, grantWindowMs, grantedBy, awaitingHead, pausedMs };
}

/** Whether everything up to a position in the store of a regional broker is in force here. */
export function isInForce(to: StorePosition | null, tightened: readonly StorePosition[]): boolean {
  return to === null || tightened.some(({ store, seq }) => store === to.store && seq >= to.seq);
}

/** The leader read its clock between our send time and now; the distance from that interval is error. */
function skewOf(grant: Grant, sent: SentRenew, at: Moment): number {
  return Math.max(0, sent.at.wall - grant.wallMs, grant.wallMs - at.wall);
}

/**
 * A hypervisor can freeze a machine with all of its clocks, so only the leader's clock shows the pause.
 * @returns by how much (ms) the leader's clock advanced more than ours since the grant before; 0: within tolerance
 */
function frozenMsOf(before: LeaseHolder["leaderClock"], { grant, at }: Readonly<{ grant: Grant; at: Moment }>): number {
  if (before === null || before.epoch !== grant.epoch || grant.ageMs !== undefined) return 0; // not the same clock
  const oursMax = at.monotonic - before.sentAt;
  const more = grant.wallMs - before.wall - oursMax;
  return more > frozenMsMax + 2 * grant.drift * oursMax ? more : 0;
}

/** Answers may arrive out of order: the newest clock reading of one leader counts. */
function leaderClockAfter(
  before: LeaseHolder["leaderClock"],
  { grant, sent }: Readonly<{ grant: Grant; sent: SentRenew }>,
): LeaseHolder["leaderClock"] {
  if (grant.ageMs !== undefined) return before;
  if (before !== null && before.epoch === grant.epoch && grant.wallMs < before.wall) return before;
  return { epoch: grant.epoch, wall: grant.wallMs, sentAt: sent.at.monotonic };
}

/** How long (ms) the process did not run; null: no pause. */
function pauseMsAt(state: LeaseHolder, at: Moment): number | null {
  const sinceTick = at.monotonic - state.lastTick.monotonic;
  const stepped = at.wall - state.lastTick.wall - sinceTick;
  if (sinceTick > tickMs + lateMsMax) return sinceTick;
  return Math.abs(stepped) > stepMsMax ? sinceTick + Math.max(0, stepped) : null;
}

/**
 * The two local clocks disagree and either may be wrong, so the lease is aged by the larger of the two elapsed times.
 */
function watchClocks(state: LeaseHolder, at: Moment): LeaseHolder {
  const ownClocks = observeOwnClocks(state.ownClocks, at);
  const ticked: LeaseHolder = { ...ageBy(suspendedMsSince(state.lastTick, at), state), lastTick: at, ownClocks };
  const drifting = Math.abs(ownClocks.drift) > driftMax;
  if (drifting === state.blockedBy.includes("clock-drift")) return ticked;
  return drifting
    ? { ...ticked, blockedBy: [...state.blockedBy, "clock-drift"], freshSince: Number.NEGATIVE_INFINITY }
    : { ...ticked, blockedBy: state.blockedBy.filter((reason) => reason !== "clock-drift") };
}

/**
 * The gain (ms) of the wall clock on the monotonic one since the last tick, when too small for a pause. It is a short
 * sleep of the machine, and many of them would add up to more than W allows; or a set clock, which costs the same.
 */
function suspendedMsSince(lastTick: Moment, at: Moment): number {
  const gainedMs = at.wall - lastTick.wall - (at.monotonic - lastTick.monotonic);
  return gainedMs > ownStepMs ? gainedMs : 0;
}

/** Moves the lease and pending grants back by time that the monotonic clock did not count. */
function ageBy(ms: number, state: LeaseHolder): LeaseHolder {
  if (ms === 0) return state;
  const agedRenew = ({ nonce, at }: SentRenew): SentRenew => ({
    nonce,
    at: { ...at, monotonic: (at.monotonic - ms) as MonotonicMs },
  });
  const awaitingHead = state.awaitingHead.map((each) => ({ ...each, freshSince: each.freshSince - ms }));
  return {
    ...state,
    freshSince: state.freshSince - ms,
    awaitingHead,
    unansweredRenews: state.unansweredRenews.map(agedRenew),
  };
}

function noticePause(state: LeaseHolder, at: Moment): LeaseHolder {
  const pausedMs = pauseMsAt(state, at);
  return pausedMs === null ? state : resetAfterPause(state, at, pausedMs);
}

function resetAfterPause(state: LeaseHolder, at: Moment, pausedMs: number): LeaseHolder {
  const ownClocks = newOwnClocks(at);
  const nothing: Pick<LeaseHolder, "freshSince" | "unansweredRenews" | "awaitingHead" | "leaderClock"> = {
    freshSince: Number.NEGATIVE_INFINITY,
    unansweredRenews: [],
    awaitingHead: [],
    leaderClock: null,
  };
  return { ...state, ...nothing, lastTick: at, ownClocks, pausedMs };
}
