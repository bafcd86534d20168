/**
 * Truth: what receipts, and the words of nodes that they rest on, say is so when it is said.
 *
 * A false receipt harms nobody until a request meets it; here it is seen at once, and whether or not somebody comes (it
 * is what 17 and 25 rest on).
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
 * A complete receipt leaves nobody who may still decide without it; who is named in it has done what it says; what is
 * called lost is not there.
 */
export function watchReceiptTruth(scene: Scene, book: LeaseBook): Monitor {
  const { chains, findings, looks } = scene;
  const asked = new Map<number, SimFactOf<"receipt-asked">>();
  /** What a command has made, by its answer. */
  const made = new Map<string, Link>();
  /** The last that a boot said it enforces, and what it had said before it went to another history. */
  const enforcedBy = new Map<string, Place>();
  const leftBy = new Map<string, Place>();
  const pausedAt = new Map<ProcessName, SimMs>();
  const woke = new Map<ProcessName, Readonly<{ at: SimMs; pausedAt: SimMs }>>();
  /** When somebody last let go of what was acknowledged, or may have. */
  let unprovenAt = Number.NEGATIVE_INFINITY;

  /**
   * What is said in the very moment of waking was concluded before the sleep, and is late as a message on its way is:
   * nothing can have reached the process since. In one history it is judged all the same, for what made a receipt
   * complete stays so (docs/protocol.md §7, "Each condition establishes something permanent"). It does not stay so
   * where operators undid meanwhile what was acknowledged: that the nodes have gone to another history is not to be
   * known, and what they had said before was so.
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

  /** Of one history; where two grow at once, or did just now, a node may have left the one that it has confirmed. */
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

/**
 * What a node says that it enforces, it does: it has said so to nobody before, and nothing that is denied there is
 * still open.
 */
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
    if (node.degraded !== null) return; // it has passed what it cannot read, and not a byte passes it
    for (const request of scene.requests.values()) {
      const { opened, openedAt } = request;
      if (opened?.process !== fact.process || openedAt === null) continue;
      looks.add("enforced-with-open");
      // What was looked at behind this place was looked at with it in force.
      if (openedAt !== place && chains.contains(openedAt, place)) continue;
      // What a configuration has just denied may still be on its way out: this place is not to blame for that.
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
