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
import { LeaseBook } from "./lease-book.ts";
import { keepBook, watchGrants, watchLeases } from "./lease-monitors.ts";
import { watchLevels } from "./level-monitors.ts";
import { watchConvergence, watchReceipts } from "./liveness-monitors.ts";
import { watchChain, watchPrefix, watchStreams, watchWriters } from "./log-monitors.ts";
import type { Handlers, Monitor } from "./monitor.ts";
import type { Look } from "./monitor-coverage.ts";
import { watchDigests, watchMoves, watchUnknown } from "./projection-monitors.ts";
import { type Availability, watchAvailability, watchSizes } from "./quality-monitors.ts";
import { watchRefreshes } from "./refresh-monitors.ts";
import { LeasesByAge, watchAgeMarks, watchLeasesByAge, watchRegionClaims } from "./region-monitors.ts";
import { Scene, type SceneOptions } from "./scene.ts";
import { watchStreamsClosed } from "./stream-monitors.ts";
import { watchEnforced, watchReceiptTruth } from "./truth-monitors.ts";
import type { Invariant, Violation } from "./violation.ts";

export { convergeWithinMs } from "./liveness-monitors.ts";
export { AllLooks, type Look, looks } from "./monitor-coverage.ts";
export { Scene, type SceneOptions } from "./scene.ts";
export { describe, type Invariant, invariants, type Violation } from "./violation.ts";

export type Judgement = Readonly<{
  /** The first violations, in the order of their discovery. */
  violations: readonly Violation[];
  counts: ReadonlyMap<Invariant, number>;
  availability: Readonly<Availability>;
  /** Acknowledged commands that promotions without proof have lost. */
  lostAcknowledged: number;
  /** The final position of the log, and the number of facts checked. */
  head: number;
  facts: number;
  looks: ReadonlyMap<Look, number>;
}>;

export type Watch = Readonly<{
  report: Report;
  /** The scene as of the last fact, for other readers such as the sometimes-assertions. */
  scene: Scene;
  /** True after the first violation; the runner may stop then. */
  found: () => boolean;
  judgement: () => Judgement;
}>;

type Handler = (fact: SimFact) => void;

/** Checks one run. Call `judgement` after the last fact, `run-over`. */
export function watch(options: SceneOptions): Watch {
  const scene = new Scene(options);
  const availability: Availability = { rightful: 0, permitted: 0 };
  const losses: Losses = { acknowledged: 0 };
  const monitors = monitorsOf(scene, { availability, losses });
  const before = dispatchOf(monitors.map((monitor) => monitor.before ?? {}));
  const after = dispatchOf(monitors.map((monitor) => monitor.after ?? {}));
  let facts = 0;
  return {
    scene,
    report(fact) {
      facts += 1;
      scene.now = fact.at;
      for (const handler of before.get(fact.type) ?? none) handler(fact);
      scene.observe(fact);
      for (const handler of after.get(fact.type) ?? none) handler(fact);
    },
    found: () => !scene.findings.none,
    judgement: () => ({
      violations: scene.findings.kept,
      counts: scene.findings.counts,
      availability,
      lostAcknowledged: losses.acknowledged,
      head: scene.head.link.position,
      facts,
      looks: scene.looks.counts,
    }),
  };
}

const none: readonly Handler[] = [];

/** The lease book runs first, so that every monitor reads it as of the same fact. */
export function monitorsOf(
  scene: Scene,
  counts: Readonly<{ availability: Availability; losses: Losses }>,
): readonly Monitor[] {
  const book = new LeaseBook(scene);
  const byAge = new LeasesByAge(scene, book);
  return [
    keepBook(book),
    byAge.monitor(),
    watchChain(scene),
    watchWriters(scene),
    watchPrefix(scene),
    watchStreams(scene),
    watchCommands(scene, counts.losses),
    watchHorizon(scene),
    watchDigests(scene),
    watchMoves(scene),
    watchUnknown(scene),
    watchLevels(scene),
    watchGrants(scene, book),
    watchLeases(scene, book),
    watchLeasesByAge(scene, book),
    watchAgeMarks(scene, byAge),
    watchRegionClaims(scene, book, byAge),
    watchPromises(scene),
    watchRights(scene),
    watchTokens(scene),
    watchExpiry(scene),
    watchReceiptTruth(scene, book),
    watchDurability(scene),
    watchEnforced(scene),
    watchStreamsClosed(scene),
    watchConfigurations(scene),
    watchForks(scene),
    watchKept(scene),
    watchDuties(scene),
    watchRefreshes(scene),
    watchAnnounced(scene),
    watchRetention(scene),
    watchTruncation(scene, book),
    watchConvergence(scene, book),
    watchReceipts(scene),
    watchAvailability(scene, counts.availability),
    watchSizes(scene),
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
