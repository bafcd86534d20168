/**
 * Duty monitors for the leader's background work.
 *
 * - A duty writes nothing in another epoch.
 * - What the log says about a snapshot is true.
 * - No event is truncated too early (35).
 */
import type { SimFactOf } from "../facts.ts";
import type { GroundTruth, NodeView } from "./ground-truth.ts";
import type { LeaseTracker } from "./lease-tracker.ts";
import { formatLink } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";

/** A duty's command is written only in the epoch of its run, and only by the leader that ran it. */
export function watchDuties(truth: GroundTruth): Monitor {
  const { findings, observations } = truth;
  const submitted = new Map<string, SimFactOf<"duty-submitted">>();
  return {
    invariants: ["duty-fenced"],
    before: {
      "duty-submitted": (fact) => {
        submitted.set(fact.commandId, fact);
      },
      wrote: (fact) => {
        for (const { commandId } of fact.commands) {
          const duty = submitted.get(commandId);
          if (duty === undefined) continue;
          observations.add("duty-checked");
          if (duty.epoch === fact.epoch && duty.incarnation === fact.incarnation) continue;
          const what = `${duty.process} had a duty in epoch ${duty.epoch} (${duty.duty}), and what it asked for is written in epoch ${fact.epoch}`;
          findings.add("duty-fenced", what, [duty, fact]);
        }
      },
    },
  };
}

/**
 * Each announced snapshot was saved at that position. Invariant 13 compares its contents with the fold when it is
 * saved.
 */
export function watchAnnounced(truth: GroundTruth): Monitor {
  const { chains, findings, observations } = truth;
  const saved = new Map<string, SimFactOf<"snapshot-built">>();
  return {
    invariants: ["snapshot-announced"],
    before: {
      "snapshot-built": (fact) => {
        if (fact.id !== null) saved.set(fact.id, fact);
      },
    },
    after: {
      wrote: (fact) => {
        for (const { recorded } of fact.entries) {
          if (recorded.event.type !== "SnapshotTaken") continue;
          observations.add("announcement-checked");
          const { position, manifestHash } = recorded.event;
          const snapshot = saved.get(manifestHash);
          const [at, of] = [truth.find(recorded), snapshot && truth.find(snapshot.link)];
          const isSo = of !== undefined && at !== undefined && of.link.position === position && chains.contains(at, of);
          if (isSo) continue;
          const is = snapshot === undefined ? "no broker has saved" : `is of ${formatLink(snapshot.link)}`;
          const what = `the log says at ${formatLink(recorded)} that a snapshot was taken at ${position}, which ${is}`;
          findings.add("snapshot-announced", what, snapshot === undefined ? [fact] : [snapshot, fact]);
        }
      },
    },
  };
}

/**
 * A process may truncate only events that two snapshots on its own disk contain.
 *
 * - The older snapshot, or an earlier one, is intact and belongs to the history of the truncating server. The log can
 *   thus be started without the newest snapshot.
 * - The disk counts as it was when the process requested the truncation.
 */
export function watchRetention(truth: GroundTruth): Monitor {
  const { chains, findings } = truth;
  type Requested = SimFactOf<"retain-asked">;
  const requested = new Map<string, Requested[]>();

  function check(fact: SimFactOf<"truncated">): void {
    const head = truth.serverHead(fact.process);
    const wide = (requested.get(fact.writer) ?? []).filter(({ first }) => first >= fact.first);
    const [newest] = wide.toReversed();
    if (head === undefined) return;
    const goes = `${fact.process} lets go of all before ${fact.first} for ${fact.writer}, which`;
    if (newest === undefined) {
      findings.add("retention-held", `${goes} asked for nothing of the kind`, [fact]);
      return;
    }
    const isSafe = ({ saves }: Requested): boolean =>
      saves.slice(1).some(({ link, whole }) => {
        const point = truth.find(link);
        return whole && link.position >= fact.first - 1 && point !== undefined && chains.contains(head, point);
      });
    const why = newest.held
      ? "was to keep everything"
      : `has ${newest.saves.map(({ link, whole }) => `${formatLink(link)}${whole ? "" : " (not whole)"}`).join(", ") || "nothing"} on its disk`;
    if (!wide.some((each) => !each.held && isSafe(each)))
      findings.add("retention-held", `${goes} ${why}`, [newest, fact]);
  }

  return {
    invariants: ["retention-held"],
    before: {
      "retain-asked": (fact) => {
        requested.set(fact.process, [...(requested.get(fact.process) ?? []), fact]);
      },
      truncated: check,
    },
  };
}

/**
 * 35: the log keeps every event that a node with a lease from the leader has yet to read. A node with a lease from its
 * region reads the region's copy.
 */
export function watchTruncation(truth: GroundTruth, leaseTracker: LeaseTracker): Monitor {
  const { chains, findings, observations } = truth;

  function check(node: NodeView, fact: SimFactOf<"truncated">): void {
    if (!node.up || node.rebuilding !== null || node.applied.link.position >= fact.first - 1) return;
    const fresh = leaseTracker.freshAsOf(node.process, node.applied);
    const newest = leaseTracker.newest(node.process);
    if (fresh === null || newest === null || (newest.agedMs ?? null) !== null) return;
    const until = fresh.sentAt + newest.windowMs;
    if (truth.now >= until || !chains.contains(truth.head, node.applied)) return;
    const what = `the log begins at ${fact.first}, and ${node.process}, whose lease holds, is at ${formatLink(node.applied.link)}`;
    findings.add(35, what, [fresh.fact, fact]);
  }

  return {
    invariants: [35],
    before: {
      truncated: (fact) => {
        if (fact.process !== truth.primary || !truth.proven) return;
        observations.add("truncation-checked");
        for (const node of truth.nodes.values()) check(node, fact);
      },
    },
  };
}
