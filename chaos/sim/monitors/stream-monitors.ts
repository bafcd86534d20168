/**
 * Stream monitors: no byte of a stream or an answer passes after a receipt that denies it, or after the node's own
 * report that it enforces the denial (25).
 */
import type { SimFactOf } from "../facts.ts";
import type { LogPoint } from "./chains.ts";
import { denialFor } from "./decision-monitors.ts";
import type { GroundTruth, NodeView, RequestView } from "./ground-truth.ts";
import { formatLink } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import { nodeOf } from "./projection-monitors.ts";
import type { Denial } from "./rights.ts";
import { seconds } from "./violation.ts";

export function watchStreamsClosed(truth: GroundTruth): Monitor {
  const { chains, findings, observations } = truth;

  function check(fact: SimFactOf<"exchange-opened" | "relayed">): void {
    const request = truth.requests.get(fact.request);
    const node = nodeOf(truth, fact);
    // A node that only authorizes requests for another proxy forwards no bytes itself.
    if (request === undefined || node === undefined || node.lessee === "authorize") return;
    const floor = truth.oneWriter ? truth.floorBefore(fact.at, node.region) : undefined;
    const floorPoint = floor?.point ?? null;
    if (request.seenFloor === floorPoint && request.seenEnforced === node.enforced) return;
    request.seenFloor = floorPoint;
    request.seenEnforced = node.enforced;
    if (floor !== undefined) observations.add("byte-after-receipt");
    const denial = floor === undefined ? null : denialByReceipt(request, node, floor.point);
    if (floor !== undefined && denial !== null) {
      const what = `${fact.process} carries a byte of request ${fact.request} ${seconds(fact.at - floor.at)} after the complete receipt for ${formatLink(floor.point.link)}, which denies it: ${denial.why}`;
      findings.add(25, what, [floor.fact, request.began, fact]);
    }
    const enforced = node.enforcedFact;
    if (enforced === null || !hasBegunBefore(request, node.enforced)) return;
    const own = hasLeft(request, node, enforced)
      ? keptDenial(request, node.enforced)
      : denialFor(truth, request, node, node.enforced);
    if (own === null) return;
    const what = `${fact.process} carries a byte of request ${fact.request}, though it enforces ${formatLink(enforced.link)}: ${own.why}`;
    findings.add(25, what, [enforced, request.began, fact]);
  }

  /** The denial that a complete receipt promises of this exchange, at a node that does not enforce it yet. */
  function denialByReceipt(request: RequestView, node: NodeView, floor: LogPoint): Denial | null {
    if (chains.contains(node.enforced, floor) || !hasBegunBefore(request, floor)) return null;
    return denialFor(truth, request, node, floor);
  }

  /** Counts exchanges that a receipt denied while they were open, at a node that has not enforced its link since. */
  function noteEnd(fact: SimFactOf<"exchange-ended">): void {
    const request = truth.requests.get(fact.request);
    const node = nodeOf(truth, fact);
    if (request === undefined || node === undefined || node.lessee === "authorize") return;
    const floor = truth.oneWriter ? truth.floorBefore(fact.at, node.region) : undefined;
    if (floor !== undefined && denialByReceipt(request, node, floor.point) !== null)
      observations.add("open-after-receipt");
  }

  /** True if the exchange opened at or before this point. A later exchange was checked with the point in force. */
  function hasBegunBefore({ openedAt }: RequestView, point: LogPoint): boolean {
    return openedAt !== null && (openedAt === point || !chains.contains(openedAt, point));
  }

  /** True if, when the exchange opened, the node had left the history to which its report belongs. */
  function hasLeft(
    { openedAt, opened }: RequestView,
    { enforced }: NodeView,
    formatLink: SimFactOf<"enforced">,
  ): boolean {
    if (openedAt === null || opened === null || opened.at < formatLink.at) return false;
    return !chains.contains(openedAt, enforced) && !chains.contains(enforced, openedAt);
  }

  /**
   * The denial that remains from a history that the node has left. A permanent denial there stays in force unless an
   * operator decided otherwise in the current history (27).
   */
  function keptDenial({ began: { session }, openedAt }: RequestView, left: LogPoint): Denial | null {
    const { rights } = truth;
    const denial = rights.denialOf(session, left);
    if (denial?.point?.recorded?.effect === "tightens") return denial;
    const user = rights.creationOf(session)?.user;
    const person = user === undefined ? null : rights.userDenial(user, left);
    if (user === undefined || openedAt === null || person?.point?.recorded?.effect !== "tightens") return null;
    return rights.isRestoredAfter(user, chains.common(left, openedAt), openedAt) ? null : person;
  }

  return {
    invariants: [25],
    before: { "exchange-ended": noteEnd },
    after: { "exchange-opened": check, relayed: check },
  };
}
