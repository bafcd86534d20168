/**
 * Check regions: what must hold while regions are cut off from each other.
 *
 * Pure. A region that no lease can reach permits nothing after its window. Faults of other regions do not disturb the
 * home region. Where the home region moves, both count only while it is known which region that is (homes.ts).
 */
import type { TrafficOptions } from "./check-traffic.ts";
import { type FaultEntry, type History, type Ns, nsPerMs, type RequestEntry } from "./history.ts";
import { homesOf } from "./homes.ts";
import type { Losses } from "./losses.ts";
import { boundFactor, loadOf } from "./machine-load.ts";
import type { Operation } from "./promises.ts";
import { entitlementOf, rightsOf } from "./rights.ts";
import type { Findings } from "./violation.ts";

type RegionsCheck = Readonly<{ options: TrafficOptions; losses: Losses; found: Findings }>;

export function checkRegions(history: History, operations: readonly Operation[], regionsCheck: RegionsCheck): void {
  checkIsolation(history, regionsCheck);
  if (boundFactor(loadOf(history.load)) > loadMax) return;
  const share = homeShareOf(history, operations, regionsCheck);
  if (share.requested < requestsMin || share.permitted / share.requested >= permittedShareMin) return;
  const percent = ((100 * share.permitted) / share.requested).toFixed(1);
  const what = `while only other regions were broken, the home region permitted ${percent} % of ${share.requested} requests with a right`;
  regionsCheck.found.add({ check: "home-disturbed", at: share.at, what, about: {} });
}

/**
 * No lease from before the fault lasts longer than the window of its route. A move of the home region ends what a fault
 * promises: the leader may be where the region can reach it.
 */
function checkIsolation(history: History, { options, found }: RegionsCheck): void {
  const homes = homesOf(history, options.home);
  const arrived = new Map(history.arrived.map((entry) => [entry.id, entry.at]));
  const byRegion = Map.groupBy(history.request, ({ node }) => options.regionOf(node));
  for (const { what, target, isolates, inForce } of history.fault) {
    if (inForce === null || homes.during(inForce.from, inForce.from) === null) continue;
    const until = Math.min(inForce.until, homes.nextMove(inForce.from));
    for (const request of isolates.flatMap((region) => byRegion.get(region) ?? [])) {
      const { id, node, route, begin, stamps } = request;
      if (begin <= inForce.from + options.windowMsOf(route) * nsPerMs) continue;
      const arrivedAt = arrived.get(id) ?? stamps?.arrivedAt ?? null;
      if (arrivedAt === null || arrivedAt >= until) continue;
      const afterMs = ((begin - inForce.from) / nsPerMs).toFixed(0);
      found.add({
        check: "permitted-in-isolated-region",
        at: begin,
        what: `${node} let a ${request.kind} request through to ${route}, begun ${afterMs} ms after ${what} ${target}`,
        about: { node, route, id, session: request.session },
      });
    }
  }
}

/** On a busy machine a lease may be lost without any fault. */
const permittedShareMin = 0.95;
/** On a machine where bounds are longer than this, no share is demanded: leases of two seconds cannot be kept there. */
const loadMax = 1.5;
/** A shorter stall of the harness takes no lease. */
const stallMsMin = 250;
const requestsMin = 200;
/** How long after a fault its region may still lose leases that it could not renew. */
const settleMs = 3_000;

export type HomeShare = Readonly<{ permitted: number; requested: number; at: Ns }>;

/** Requests with a right in the home region, while faults of other regions were in force and none of its own was. */
export function homeShareOf(
  history: History,
  operations: readonly Operation[],
  { options, losses }: Pick<RegionsCheck, "options" | "losses">,
): HomeShare {
  const homes = homesOf(history, options.home);
  const isOwn = ({ regions }: FaultEntry, home: string): boolean => regions.length === 0 || regions.includes(home);
  const spansIn = (home: string) => ({
    own: history.fault
      .filter((fault) => isOwn(fault, home))
      .map(({ begin, clear }) => ({ from: begin, until: clear + settleMs * nsPerMs })),
    others: history.fault.filter((fault) => !isOwn(fault, home)).map(({ begin, end }) => ({ from: begin, until: end })),
  });
  const spansOf = new Map<string, ReturnType<typeof spansIn>>();
  const stalls = history.stall
    .filter(({ begin, end }) => end - begin >= stallMsMin * nsPerMs)
    .map(({ begin, end }) => ({ from: begin, until: end + settleMs * nsPerMs }));
  const isEntitled = entitlementOf(history, rightsOf(history, operations, losses), options);
  const overlaps = ({ begin, end }: RequestEntry, spans: readonly Readonly<{ from: Ns; until: Ns }>[]): boolean =>
    spans.some(({ from, until }) => begin < until && end > from);
  const counted = history.request.filter((request) => {
    const home = homes.during(request.begin - settleMs * nsPerMs, request.end);
    if (home === null || options.regionOf(request.node) !== home) return false;
    const spans = spansOf.get(home) ?? spansIn(home);
    spansOf.set(home, spans);
    return (
      overlaps(request, spans.others) &&
      !overlaps(request, spans.own) &&
      !overlaps(request, stalls) &&
      isEntitled(request)
    );
  });
  const refused = counted.filter(({ stamps }) => stamps === null);
  return {
    permitted: counted.length - refused.length,
    requested: counted.length,
    at: refused[0]?.begin ?? 0,
  };
}
