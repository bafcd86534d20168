/**
 * Truth monitors: receipts, and the node reports on which they rest, are true when they are sent.
 *
 * A false receipt does no harm until a request meets it. These monitors detect it at once, with or without such a
 * request. Invariants 17 and 25 rest on this.
 */
import type { Link } from "../../../src/events/index.ts";
import type { ProcessName, SimFactOf, SimMs } from "../facts.ts";
import type { LogPoint } from "./chains.ts";
import { isSettling } from "./configuration-monitors.ts";
import { denialFor } from "./decision-monitors.ts";
import type { GroundTruth, NodeView } from "./ground-truth.ts";
import type { LeaseTracker } from "./lease-tracker.ts";
import { formatLink } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import { nodeOf } from "./projection-monitors.ts";
import { seconds } from "./violation.ts";

/**
 * A complete receipt leaves no node that may still decide without it. Each node that it names did what the receipt
 * says. Whatever it calls lost is absent.
 */
export function watchReceiptTruth(truth: GroundTruth, leaseTracker: LeaseTracker): Monitor {
  const { chains, findings, observations } = truth;
  const requested = new Map<number, SimFactOf<"receipt-asked">>();
  /** By command: the link of its event, according to its answer. */
  const made = new Map<string, Link>();
  /** By boot: the point that it last reported as enforced, and (`leftBy`) its last report in a history that it left. */
  const enforcedBy = new Map<string, LogPoint>();
  const leftBy = new Map<string, LogPoint>();
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

  function check(fact: SimFactOf<"receipt-answered">): void {
    const { answer } = fact;
    if (isFromBefore(fact)) return;
    if (answer.status === "lost") checkLost(fact);
    const point = answer.link === null ? undefined : truth.find(answer.link);
    if (point === undefined || !chains.isAcknowledged(point) || truth.zombies.size > 0) return;
    checkNamed(fact, point);
    if (!chains.contains(truth.head, point)) {
      if (!truth.proven) return;
      findings.add("receipt-true", `${fact.process} answers for ${formatLink(point.link)}, which the log has lost`, [
        fact,
      ]);
      return;
    }
    if (answer.complete && truth.oneWriter) for (const node of truth.nodes.values()) checkComplete(fact, node, point);
  }

  /** Applies within one history. While two grow, or shortly after, a node may have left the one that it confirmed. */
  function checkNamed(fact: SimFactOf<"receipt-answered">, point: LogPoint): void {
    for (const { node, boot, status } of fact.answer.nodes) {
      const enforced = enforcedBy.get(boot);
      if (status !== "applied" || enforced === undefined || chains.contains(enforced, point)) continue;
      const left = leftBy.get(boot);
      if (fact.at < truth.heardOfTwoUntil && left !== undefined && chains.contains(left, point)) continue;
      const what = `${fact.process} says that ${node} has applied ${formatLink(point.link)}, and it enforces ${formatLink(enforced.link)}`;
      findings.add("receipt-true", what, [fact]);
    }
  }

  function checkComplete(fact: SimFactOf<"receipt-answered">, node: NodeView, point: LogPoint): void {
    const { answer, region } = fact;
    if (!node.up || node.lessee === null || node.leaving !== null) return;
    if (answer.wait === "region" && region !== null && node.region !== region) return;
    if (chains.contains(node.enforced, point)) return;
    if (!chains.contains(node.applied, point)) observations.add("receipt-before-applied");
    const until = leaseTracker.mayDecideUntil(node.process, point);
    if (until === null || fact.at > until) return;
    const what = `${fact.process} calls the receipt for ${formatLink(point.link)} complete, and ${node.process}, which enforces ${formatLink(node.enforced.link)}, may decide for another ${seconds(until - fact.at)}`;
    findings.add("receipt-true", what, [fact]);
  }

  function checkLost(fact: SimFactOf<"receipt-answered">): void {
    const target = requested.get(fact.receipt)?.target;
    const link = target?.type === "command" ? made.get(target.commandId) : target?.link;
    const point = link && truth.find(link);
    if (point === undefined || !truth.proven || !chains.isAcknowledged(point) || !chains.contains(truth.head, point))
      return;
    findings.add("receipt-true", `${fact.process} calls ${formatLink(point.link)} lost, and the log holds it`, [fact]);
  }

  return {
    invariants: ["receipt-true"],
    before: {
      "receipt-asked": (fact) => {
        requested.set(fact.receipt, fact);
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
        const point = truth.find(fact.link);
        const before = enforcedBy.get(fact.boot);
        if (point === undefined) return;
        enforcedBy.set(fact.boot, point);
        if (before !== undefined && !chains.contains(point, before)) leftBy.set(fact.boot, before);
      },
      "command-answered": ({ commandId, result }) => {
        if (result.type === "done" && result.changed) made.set(commandId, result.link);
      },
      "receipt-answered": check,
    },
  };
}

/** A node reports as enforced only what it already enforces, and no exchange that is denied there is still open. */
export function watchEnforced(truth: GroundTruth): Monitor {
  const { chains, findings, observations } = truth;

  function checkClaim(fact: SimFactOf<"renew-sent" | "confirm-sent">): void {
    const node = nodeOf(truth, fact);
    const point = truth.find(fact.enforced);
    if (node === undefined || point === undefined) return;
    observations.add("claim-checked");
    if (chains.contains(node.enforced, point)) return;
    const what = `${fact.process} says that it enforces ${formatLink(point.link)}, and enforces ${formatLink(node.enforced.link)}`;
    findings.add("enforced-true", what, [fact]);
  }

  function checkOpen(fact: SimFactOf<"enforced">): void {
    const node = nodeOf(truth, fact);
    const point = truth.find(fact.link);
    if (node === undefined || point === undefined || node.lessee === "authorize") return;
    if (node.degraded !== null) return; // past an unreadable event, the node forwards no byte
    for (const request of truth.requests.values()) {
      const { opened, openedAt } = request;
      if (opened?.process !== fact.process || openedAt === null) continue;
      observations.add("enforced-with-open");
      // An exchange opened after this point was checked with it in force.
      if (openedAt !== point && chains.contains(openedAt, point)) continue;
      // Bytes that a new configuration has just denied may still be in flight. This point is not the cause.
      const denial = isSettling(node, fact.at)
        ? truth.rights.denialOf(request.began.session, point)
        : denialFor(truth, request, node, point);
      if (denial === null) continue;
      const what = `${fact.process} says that it enforces ${formatLink(fact.link)}, and request ${opened.request} is open, though ${denial.why}`;
      findings.add("enforced-true", what, [opened, fact]);
    }
  }

  return {
    invariants: ["enforced-true"],
    before: { "renew-sent": checkClaim, "confirm-sent": checkClaim, enforced: checkOpen },
  };
}
