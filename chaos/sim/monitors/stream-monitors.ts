/**
 * Stream monitors: no byte of a stream or an answer passes after a receipt that denies it, or after the node's own
 * report that it enforces the denial (25).
 */
import type { SimFactOf } from "../facts.ts";
import type { Place } from "./chains.ts";
import { barOf } from "./decision-monitors.ts";
import { told } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import { nodeOf } from "./projection-monitors.ts";
import type { Bar } from "./rights.ts";
import type { NodeView, RequestView, Scene } from "./scene.ts";
import { seconds } from "./violation.ts";

export function watchStreamsClosed(scene: Scene): Monitor {
  const { chains, findings, looks } = scene;

  function judge(fact: SimFactOf<"exchange-opened" | "relayed">): void {
    const request = scene.requests.get(fact.request);
    const node = nodeOf(scene, fact);
    // A node that only authorizes requests for another proxy forwards no bytes itself.
    if (request === undefined || node === undefined || node.lessee === "authorize") return;
    const floor = scene.oneWriter ? scene.floorBefore(fact.at, node.region) : undefined;
    const floorPlace = floor?.place ?? null;
    if (request.seenFloor === floorPlace && request.seenEnforced === node.enforced) return;
    request.seenFloor = floorPlace;
    request.seenEnforced = node.enforced;
    if (floor !== undefined) looks.add("byte-after-receipt");
    const isUnder = floor !== undefined && !chains.contains(node.enforced, floor.place);
    if (floor !== undefined && isUnder && hasBegunBefore(request, floor.place)) {
      const bar = barOf(scene, request, node, floor.place);
      if (bar !== null) {
        const what = `${fact.process} carries a byte of request ${fact.request} ${seconds(fact.at - floor.at)} after the complete receipt for ${told(floor.place.link)}, which denies it: ${bar.why}`;
        findings.add(25, what, [floor.fact, request.began, fact]);
      }
    }
    const enforced = node.enforcedTold;
    if (enforced === null || !hasBegunBefore(request, node.enforced)) return;
    const own = hasLeft(request, node, enforced)
      ? keptBar(request, node.enforced)
      : barOf(scene, request, node, node.enforced);
    if (own === null) return;
    const what = `${fact.process} carries a byte of request ${fact.request}, though it enforces ${told(enforced.link)}: ${own.why}`;
    findings.add(25, what, [enforced, request.began, fact]);
  }

  /** True if the exchange opened at or before this place. A later exchange was checked with the place in force. */
  function hasBegunBefore({ openedAt }: RequestView, place: Place): boolean {
    return openedAt !== null && (openedAt === place || !chains.contains(openedAt, place));
  }

  /** True if, when the exchange opened, the node had left the history to which its report belongs. */
  function hasLeft({ openedAt, opened }: RequestView, { enforced }: NodeView, told: SimFactOf<"enforced">): boolean {
    if (openedAt === null || opened === null || opened.at < told.at) return false;
    return !chains.contains(openedAt, enforced) && !chains.contains(enforced, openedAt);
  }

  /**
   * The bar that remains from a history that the node has left. A permanent denial there stays in force unless an
   * operator decided otherwise in the current history (27).
   */
  function keptBar({ began: { session }, openedAt }: RequestView, left: Place): Bar | null {
    const { rights } = scene;
    const bar = rights.bar(session, left);
    if (bar?.place?.recorded?.effect === "tightens") return bar;
    const user = rights.creationOf(session)?.user;
    const person = user === undefined ? null : rights.userBar(user, left);
    if (user === undefined || openedAt === null || person?.place?.recorded?.effect !== "tightens") return null;
    return rights.restoredBehind(user, chains.common(left, openedAt), openedAt) ? null : person;
  }

  return { invariants: [25], after: { "exchange-opened": judge, relayed: judge } };
}
