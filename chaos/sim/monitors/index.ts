/**
 * Monitors: checks a simulation run against the invariants of docs/protocol.md §8 on log, projections, revocation and
 * leases.
 *
 * - The monitors never change the simulation.
 * - They share no reasoning with the product.
 */
import type { Report, SimFact } from "../facts.ts";
import { type Losses, watchCommands, watchHorizon } from "./command-monitors.ts";
import { watchConfigurations } from "./configuration-monitors.ts";
import { watchExpiry, watchPromises, watchRights, watchTokens } from "./decision-monitors.ts";
import { watchDurability } from "./durability-monitors.ts";
import { watchAnnounced, watchDuties, watchRetention, watchTruncation } from "./duty-monitors.ts";
import { watchForks, watchKept } from "./fork-monitors.ts";
import { GroundTruth, type GroundTruthOptions } from "./ground-truth.ts";
import { trackLeases, watchGrants, watchLeases } from "./lease-monitors.ts";
import { LeaseTracker } from "./lease-tracker.ts";
import { watchLevels } from "./level-monitors.ts";
import { watchConvergence, watchReceipts } from "./liveness-monitors.ts";
import { watchChain, watchPrefix, watchStreams, watchWriters } from "./log-monitors.ts";
import type { Handlers, Monitor } from "./monitor.ts";
import type { Observation } from "./monitor-coverage.ts";
import { watchNodeList } from "./node-list-monitors.ts";
import { watchAccessRequests } from "./outside/access-request-monitors.ts";
import { watchDirectory } from "./outside/directory-monitors.ts";
import { watchLogouts } from "./outside/logout-monitors.ts";
import { watchMassChanges } from "./outside/mass-change-monitors.ts";
import { watchProvisioning } from "./outside/provisioning-monitors.ts";
import { watchSignals } from "./outside/signal-monitors.ts";
import { watchDigests, watchMoves, watchUnknown } from "./projection-monitors.ts";
import { type Availability, watchAvailability, watchSizes } from "./quality-monitors.ts";
import { watchRefreshes } from "./refresh-monitors.ts";
import { LeasesByAge, watchAgeMarks, watchLeasesByAge, watchRegionClaims } from "./region-monitors.ts";
import { RevocationLedger } from "./revocation-ledger.ts";
import { watchLocalPromises, watchLocalReceipts, watchLocalStores, watchWithheld } from "./revocation-monitors.ts";
import { watchStreamsClosed } from "./stream-monitors.ts";
import { watchEnforced, watchReceiptTruth } from "./truth-monitors.ts";
import type { Invariant, Violation } from "./violation.ts";

export { GroundTruth, type GroundTruthOptions, type NodeView } from "./ground-truth.ts";
export { convergeWithinMs } from "./liveness-monitors.ts";
export { type Observation, observations, TotalObservations } from "./monitor-coverage.ts";
export { describe, type Invariant, invariants, type Violation } from "./violation.ts";

export type MonitorResult = Readonly<{
  /** The first violations, in the order of their discovery. */
  violations: readonly Violation[];
  counts: ReadonlyMap<Invariant, number>;
  availability: Readonly<Availability>;
  /** Acknowledged commands that promotions without proof have lost. */
  lostAcknowledged: number;
  /** The final position of the log, and the number of facts checked. */
  head: number;
  facts: number;
  observations: ReadonlyMap<Observation, number>;
}>;

export type Watch = Readonly<{
  report: Report;
  /** The ground truth as of the last fact, for other readers such as the sometimes-assertions. */
  truth: GroundTruth;
  /** True after the first violation; the runner may stop then. */
  found: () => boolean;
  monitorResult: () => MonitorResult;
}>;

type Handler = (fact: SimFact) => void;

/** Checks one run. Call `monitorResult` after the last fact, `run-over`. */
export function watch(options: GroundTruthOptions): Watch {
  const truth = new GroundTruth(options);
  const availability: Availability = { rightful: 0, permitted: 0 };
  const losses: Losses = { acknowledged: 0 };
  const monitors = monitorsOf(truth, { availability, losses });
  const before = dispatchOf(monitors.map((monitor) => monitor.before ?? {}));
  const after = dispatchOf(monitors.map((monitor) => monitor.after ?? {}));
  let facts = 0;
  return {
    truth,
    report(fact) {
      facts += 1;
      truth.now = fact.at;
      for (const handler of before.get(fact.type) ?? none) handler(fact);
      truth.observe(fact);
      for (const handler of after.get(fact.type) ?? none) handler(fact);
    },
    found: () => !truth.findings.none,
    monitorResult: () => ({
      violations: truth.findings.kept,
      counts: truth.findings.counts,
      availability,
      lostAcknowledged: losses.acknowledged,
      head: truth.head.link.position,
      facts,
      observations: truth.observations.counts,
    }),
  };
}

const none: readonly Handler[] = [];

/** The lease tracker runs first, so that every monitor reads it as of the same fact. */
export function monitorsOf(
  truth: GroundTruth,
  counts: Readonly<{ availability: Availability; losses: Losses }>,
): readonly Monitor[] {
  const ledger = new RevocationLedger(truth);
  const leaseTracker = new LeaseTracker(truth, (process, to) => ledger.isTightened(process, to));
  const byAge = new LeasesByAge(truth, leaseTracker);
  return [
    ledger.monitor(),
    trackLeases(leaseTracker),
    byAge.monitor(),
    watchChain(truth),
    watchWriters(truth),
    watchPrefix(truth),
    watchStreams(truth),
    watchCommands(truth, counts.losses),
    watchHorizon(truth),
    watchDigests(truth),
    watchMoves(truth),
    watchUnknown(truth),
    watchLevels(truth),
    watchGrants(truth, leaseTracker),
    watchLeases(truth, leaseTracker),
    watchLeasesByAge(truth, leaseTracker),
    watchAgeMarks(truth, byAge),
    watchRegionClaims(truth, leaseTracker, byAge),
    watchLocalPromises(truth, ledger),
    watchLocalReceipts(truth, leaseTracker, ledger),
    watchLocalStores(truth, ledger),
    watchWithheld(truth, ledger),
    watchPromises(truth),
    watchRights(truth),
    watchTokens(truth),
    watchExpiry(truth),
    watchReceiptTruth(truth, leaseTracker),
    watchDurability(truth),
    watchEnforced(truth),
    watchStreamsClosed(truth),
    watchConfigurations(truth),
    watchForks(truth),
    watchKept(truth, ledger),
    watchDuties(truth),
    watchRefreshes(truth),
    watchNodeList(truth),
    watchLogouts(truth),
    watchProvisioning(truth),
    watchDirectory(truth, truth.options.massChanges ?? null),
    watchSignals(truth),
    watchMassChanges(truth, truth.options.massChanges ?? null),
    watchAccessRequests(truth),
    watchAnnounced(truth),
    watchRetention(truth),
    watchTruncation(truth, leaseTracker),
    watchConvergence(truth, leaseTracker),
    watchReceipts(truth),
    watchAvailability(truth, counts.availability),
    watchSizes(truth),
  ];
}

function dispatchOf(all: readonly Handlers[]): ReadonlyMap<string, readonly Handler[]> {
  const byType = new Map<string, Handler[]>();
  for (const handlers of all) {
    for (const [type, handler] of Object.entries(handlers)) {
      const list = byType.get(type) ?? [];
      list.push(handler as Handler);
      byType.set(type, list);
    }
  }
  return byType;
}
