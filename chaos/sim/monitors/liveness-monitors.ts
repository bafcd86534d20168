/**
 * Liveness monitors: after the last fault the system converges, and every call has an answer (26, 37). They check at
 * the end of a run.
 */
import type { SimFactOf, SimMs } from "../facts.ts";
import type { GroundTruth, NodeView } from "./ground-truth.ts";
import type { LeaseTracker } from "./lease-tracker.ts";
import { formatLink } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import { seconds } from "./violation.ts";

/** Time from the last fault to convergence: a takeover, an epoch, a rebuild, two renews. */
export const convergeWithinMs = 15_000;
/** Time for a commit and the delivery of its answer. */
const commitMs = 4_000;
/** A leader measures a clock's rate over two minutes. For that time it may refuse a node whose clock was off. */
const rateRememberedMs = 125_000;
const rateOff = 0.004;
/** A shorter sleep looks like a wrong clock rate. A longer one counts as a clock step, and the leader forgets it. */
const shortSleepMs = 1_500;
/** An event acknowledged within this time before the end may still be in flight. */
const onItsWayMs = 2_000;

/** 37: at the end, brokers and nodes are at the head, nodes are fresh, one process leads, and no command is open. */
export function watchConvergence(truth: GroundTruth, leaseTracker: LeaseTracker): Monitor {
  const { chains, findings, options } = truth;
  const open = new Map<string, SimFactOf<"command-invoked">>();
  /** Answered commands. A repeated submission needs no second answer. */
  const settled = new Set<string>();
  const leading = new Map<string, SimFactOf<"leading">>();
  /** By process: the time until which its clock ran at a wrong rate. Infinity: it still does. */
  const rateOffUntil = new Map<string, SimMs>();
  const asleep = new Set<string>();

  function checkEnd(fact: SimFactOf<"run-over">): void {
    const over = truth.faultsOver;
    if (over === null || fact.at - over.at < convergeWithinMs) return;
    for (const node of truth.nodes.values()) {
      if (!truth.up.has(node.process) || truth.paused.has(node.process)) continue;
      if (fact.at - node.startedAt < convergeWithinMs || node.leaving !== null) continue;
      truth.observations.add("final-node-checked");
      checkNode(node, over, fact);
    }
    const leaders = [...leading.values()];
    const [leader] = leaders;
    if (leaders.length !== 1 || leader === undefined || leader.epoch !== truth.head.link.epoch) {
      const who = leaders.map(({ process, epoch }) => `${process} in epoch ${epoch}`).join(", ") || "no broker";
      findings.add(37, `at the end ${who} leads, and the log is in epoch ${truth.head.link.epoch}`, [
        over,
        ...leaders,
        fact,
      ]);
    }
    for (const command of open.values()) {
      if (fact.at - command.at < convergeWithinMs) continue;
      findings.add(37, `command ${command.commandId} has no outcome`, [command, over, fact]);
    }
  }

  function checkNode(node: NodeView, over: SimFactOf<"faults-over">, fact: SimFactOf<"run-over">): void {
    const due = truth.acknowledgedBefore(fact.at - onItsWayMs)?.point ?? chains.genesis;
    if (!chains.contains(node.applied, due) || node.rebuilding !== null) {
      const how = node.rebuilding === null ? "stands" : "builds anew, and stands";
      findings.add(
        37,
        `${node.process} ${how} at ${formatLink(node.applied.link)} at the end; the log is at ${formatLink(truth.head.link)}`,
        [over, fact],
      );
    }
    if (truth.up.get(node.process)?.role !== "node") return; // a broker decides nothing
    if (remembersRate(node.process, fact.at)) return;
    const fresh = leaseTracker.freshAsOf(node.process, node.applied);
    if (leaseTracker.awaitsHead(node.process, fact.at - onItsWayMs)) return;
    if (node.degraded === null && (fresh === null || fact.at - fresh.sentAt > options.deltaMs))
      findings.add(
        37,
        `${node.process} has no fresh lease at the end`,
        fresh === null ? [over, fact] : [over, fresh.fact, fact],
      );
  }

  /** True if a leader may remember a wrong rate of the node's own clock, or of the clock of a possible leader. */
  function remembersRate(node: string, at: SimMs): boolean {
    for (const [process, until] of rateOffUntil) {
      if (at - until >= rateRememberedMs) continue;
      if (process === node || truth.up.get(process)?.role === "broker") return true;
    }
    return false;
  }

  return {
    invariants: [37],
    before: {
      paused: (fact) => {
        if (fact.how === "suspended") asleep.add(fact.process);
      },
      resumed: ({ process, pausedMs, at }) => {
        if (!asleep.delete(process) || pausedMs >= shortSleepMs) return;
        rateOffUntil.set(process, Math.max(at, rateOffUntil.get(process) ?? at));
      },
      "clock-set": ({ process, rate, at }) => {
        if (Math.abs(rate - 1) > rateOff) rateOffUntil.set(process, Number.POSITIVE_INFINITY);
        else if (rateOffUntil.get(process) === Number.POSITIVE_INFINITY) rateOffUntil.set(process, at);
      },
      "command-invoked": (fact) => {
        if (!open.has(fact.commandId) && !settled.has(fact.commandId)) open.set(fact.commandId, fact);
      },
      "command-answered": (fact) => {
        if (fact.result.type === "unavailable") return;
        open.delete(fact.commandId);
        settled.add(fact.commandId);
      },
      "command-abandoned": (fact) => {
        open.delete(fact.commandId);
      },
      leading: (fact) => {
        if (fact.leading) leading.set(fact.process, fact);
        else leading.delete(fact.process);
      },
      killed: (fact) => {
        leading.delete(fact.process);
      },
      "run-over": checkEnd,
    },
  };
}

type Requested = { readonly fact: SimFactOf<"receipt-asked">; completeAt: SimMs | null };

/**
 * 26: a receipt requested long enough after the last fault is complete within W plus one commit.
 *
 * Excluded: a sender without a key that repeats the renew of a dead boot to a leader that does not know of the death.
 * That delays receipts by one more W. In the product, the guard of broker calls prevents it
 * (src/broker/api/call-guard.ts).
 */
export function watchReceipts(truth: GroundTruth): Monitor {
  const { findings, options } = truth;
  const requested = new Map<number, Requested>();
  const replayed: SimMs[] = [];
  const withinMs = (options.windowMaxMs * (1 + options.drift)) / (1 - options.drift) + 50 + commitMs;

  function checkEnd(end: SimFactOf<"run-over">): void {
    for (const { fact, completeAt } of requested.values()) {
      const dueAt = fact.at + withinMs;
      if (fact.wait === "none" || dueAt > end.at || fact.timeoutMs < withinMs) continue;
      truth.observations.add("receipt-after-faults");
      if (completeAt !== null && completeAt <= dueAt) continue;
      if (replayed.some((at) => at > fact.at - withinMs && at < dueAt)) continue;
      const how =
        completeAt === null ? "is not complete at the end" : `was complete after ${seconds(completeAt - fact.at)}`;
      findings.add(26, `receipt ${fact.receipt}, asked ${seconds(fact.at)} after the start, ${how}`, [fact, end]);
    }
  }

  return {
    invariants: [26],
    before: {
      forged: (fact) => {
        if (fact.kind === "renew" && fact.how === "replayed") replayed.push(fact.at);
      },
      "receipt-asked": (fact) => {
        // Earlier, the system may still be converging.
        if (truth.faultsOver !== null && fact.at - truth.faultsOver.at >= convergeWithinMs)
          requested.set(fact.receipt, { fact, completeAt: null });
      },
      "receipt-answered": (fact) => {
        const invoked = requested.get(fact.receipt);
        // A receipt that reports its event as lost is an answer, too.
        if (invoked !== undefined && (fact.answer.complete || fact.answer.status === "lost"))
          invoked.completeAt ??= fact.at;
      },
      "run-over": checkEnd,
    },
  };
}
