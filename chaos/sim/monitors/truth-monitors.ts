/**
 * Truth monitors: receipts, and the node reports on which they rest, are true when they are sent.
 *
 * A false receipt does no harm until a request meets it. These monitors detect it at once, with or without such a
 * request. Invariants 17 and 25 rest on this.
 */
import type { Link } from "../../../src/events/index.ts";
import type { ProcessName, SimFactOf, SimMs } from "../facts.ts";
import type { Place } from "./chains.ts";
import { isSettling } from "./configuration-monitors.ts";
import { barOf } from "./decision-monitors.ts";
import type { LeaseBook } from "./lease-book.ts";
import { told } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import { nodeOf } from "./projection-monitors.ts";
import type { NodeView, Scene } from "./scene.ts";
import { seconds } from "./violation.ts";

/**
 * A complete receipt leaves no node that may still decide without it. Each node that it names did what the receipt
 * says. Whatever it calls lost is absent.
 */
export function watchReceiptTruth(scene: Scene, book: LeaseBook): Monitor {
  const { chains, findings, looks } = scene;
  const asked = new Map<number, SimFactOf<"receipt-asked">>();
  /** By command: the link of its event, according to its answer. */
  const made = new Map<string, Link>();
  /** By boot: the place that it last reported as enforced, and (`leftBy`) its last report in a history that it left. */
  const enforcedBy = new Map<string, Place>();
  const leftBy = new Map<string, Place>();
  const pausedAt = new Map<ProcessName, SimMs>();
  const woke = new Map<ProcessName, Readonly<{ at: SimMs; pausedAt: SimMs }>>();
  /** Time of the last promotion that dropped acknowledged events, or may have. −Infinity: none. */
  let unprovenAt = Number.NEGATIVE_INFINITY;

  /**
   * True for a receipt sent at the moment of waking, if operators undid acknowledged events during the sleep.
   *
   * The process concluded such a receipt before the sleep, so it is as late as a delayed message. Nothing can have
   * reached the process since. It cannot know that nodes moved to another history, and their earlier reports were true.
   *
   * Within one history the receipt is checked anyway, because each condition of a complete receipt establishes
   * something permanent (docs/protocol.md §7, "Each condition establishes something permanent").
   */
  function isFromBefore({ process, at }: SimFactOf<"receipt-answered">): boolean {
    const slept = woke.get(process);
    return slept !== undefined && slept.at === at && unprovenAt > slept.pausedAt;
  }

  function judge(fact: SimFactOf<"receipt-answered">): void {
    const { answer } = fact;
    if (isFromBefore(fact)) return;
    if (answer.status === "lost") judgeLost(fact);
    const place = answer.link === null ? undefined : scene.find(answer.link);
    if (place === undefined || !chains.isAcknowledged(place) || scene.zombies.size > 0) return;
    judgeNamed(fact, place);
    if (!chains.contains(scene.head, place)) {
      if (!scene.proven) return;
      findings.add("receipt-true", `${fact.process} answers for ${told(place.link)}, which the log has lost`, [fact]);
      return;
    }
    if (answer.complete && scene.oneWriter) for (const node of scene.nodes.values()) judgeComplete(fact, node, place);
  }

  /** Applies within one history. While two grow, or shortly after, a node may have left the one that it confirmed. */
  function judgeNamed(fact: SimFactOf<"receipt-answered">, place: Place): void {
    for (const { node, boot, status } of fact.answer.nodes) {
      const enforced = enforcedBy.get(boot);
      if (status !== "applied" || enforced === undefined || chains.contains(enforced, place)) continue;
      const left = leftBy.get(boot);
      if (fact.at < scene.heardOfTwoUntil && left !== undefined && chains.contains(left, place)) continue;
      const what = `${fact.process} says that ${node} has applied ${told(place.link)}, and it enforces ${told(enforced.link)}`;
      findings.add("receipt-true", what, [fact]);
    }
  }

  function judgeComplete(fact: SimFactOf<"receipt-answered">, node: NodeView, place: Place): void {
    const { answer, region } = fact;
    if (!node.up || node.lessee === null || node.leaving !== null) return;
    if (answer.wait === "region" && region !== null && node.region !== region) return;
    if (chains.contains(node.enforced, place)) return;
    if (!chains.contains(node.applied, place)) looks.add("receipt-past-absent");
    const until = book.mayDecideUntil(node.process, place);
    if (until === null || fact.at > until) return;
    const what = `${fact.process} calls the receipt for ${told(place.link)} complete, and ${node.process}, which enforces ${told(node.enforced.link)}, may decide for another ${seconds(until - fact.at)}`;
    findings.add("receipt-true", what, [fact]);
  }

  function judgeLost(fact: SimFactOf<"receipt-answered">): void {
    const target = asked.get(fact.receipt)?.target;
    const link = target?.type === "command" ? made.get(target.commandId) : target?.link;
    const place = link && scene.find(link);
    if (place === undefined || !scene.proven || !chains.isAcknowledged(place) || !chains.contains(scene.head, place))
      return;
    findings.add("receipt-true", `${fact.process} calls ${told(place.link)} lost, and the log holds it`, [fact]);
  }

  return {
    invariants: ["receipt-true"],
    before: {
      "receipt-asked": (fact) => {
        asked.set(fact.receipt, fact);
      },
      paused: ({ process, at }) => {
        if (!pausedAt.has(process)) pausedAt.set(process, at);
      },
      resumed: ({ process, at }) => {
        woke.set(process, { at, pausedAt: pausedAt.get(process) ?? at });
        pausedAt.delete(process);
      },
      promoted: ({ how, at }) => {
        if (how === "unsafe" || how === "restored") unprovenAt = at;
      },
      enforced: (fact) => {
        const place = scene.find(fact.link);
        const before = enforcedBy.get(fact.boot);
        if (place === undefined) return;
        enforcedBy.set(fact.boot, place);
        if (before !== undefined && !chains.contains(place, before)) leftBy.set(fact.boot, before);
      },
      "command-answered": ({ commandId, result }) => {
        if (result.type === "done" && result.changed) made.set(commandId, result.link);
      },
      "receipt-answered": judge,
    },
  };
}

/** A node reports as enforced only what it already enforces, and no exchange that is denied there is still open. */
export function watchEnforced(scene: Scene): Monitor {
  const { chains, findings, looks } = scene;

  function judgeClaim(fact: SimFactOf<"renew-sent" | "confirm-sent">): void {
    const node = nodeOf(scene, fact);
    const place = scene.find(fact.enforced);
    if (node === undefined || place === undefined) return;
    looks.add("claim-judged");
    if (chains.contains(node.enforced, place)) return;
    const what = `${fact.process} says that it enforces ${told(place.link)}, and enforces ${told(node.enforced.link)}`;
    findings.add("enforced-true", what, [fact]);
  }

  function judgeOpen(fact: SimFactOf<"enforced">): void {
    const node = nodeOf(scene, fact);
    const place = scene.find(fact.link);
    if (node === undefined || place === undefined || node.lessee === "authorize") return;
    if (node.degraded !== null) return; // past an unreadable event, the node forwards no byte
    for (const request of scene.requests.values()) {
      const { opened, openedAt } = request;
      if (opened?.process !== fact.process || openedAt === null) continue;
      looks.add("enforced-with-open");
      // An exchange opened after this place was checked with it in force.
      if (openedAt !== place && chains.contains(openedAt, place)) continue;
      // Bytes that a new configuration has just denied may still be in flight. This place is not the cause.
      const bar = isSettling(node, fact.at)
        ? scene.rights.bar(request.began.session, place)
        : barOf(scene, request, node, place);
      if (bar === null) continue;
      const what = `${fact.process} says that it enforces ${told(fact.link)}, and request ${opened.request} is open, though ${bar.why}`;
      findings.add("enforced-true", what, [opened, fact]);
    }
  }

  return {
    invariants: ["enforced-true"],
    before: { "renew-sent": judgeClaim, "confirm-sent": judgeClaim, enforced: judgeOpen },
  };
}
