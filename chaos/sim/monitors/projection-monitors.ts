/**
 * Projection monitors: projections are equal everywhere, never move backwards, and apply each event exactly once
 * (12–16).
 */
import type { ProcessName, SimFactOf } from "../facts.ts";
import type { LogPoint } from "./chains.ts";
import type { GroundTruth, NodeView } from "./ground-truth.ts";
import { formatLink } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";

type WithDigest = SimFactOf<"applied" | "snapshot-loaded" | "rebuilt" | "renew-sent" | "snapshot-built">;

/** 12, 13: all builds that can read every event before a link have the same digest there. */
export function watchDigests(truth: GroundTruth): Monitor {
  const { findings, observations } = truth;
  const known = new Map<string, Readonly<{ digest: string; fact: WithDigest }>>();

  function check(hash: string, digest: string | null, fact: WithDigest): void {
    if (digest === null || (truth.nodes.get(fact.process)?.unknownTypes.size ?? 0) > 0) return;
    const first = known.get(hash);
    if (first === undefined) {
      known.set(hash, { digest, fact });
      return;
    }
    const isSnapshot = (each: WithDigest): boolean => each.type === "snapshot-loaded" || each.type === "snapshot-built";
    const invariant = isSnapshot(fact) || isSnapshot(first.fact) ? 13 : 12;
    if (invariant === 13) observations.add("snapshot-compared");
    else if (first.fact.process !== fact.process) observations.add("digest-compared");
    if (first.digest === digest) return;
    const what = `${fact.process} has another digest than ${first.fact.process} at ${hash.slice(0, 6)}`;
    findings.add(invariant, what, [first.fact, fact]);
  }

  return {
    invariants: [12, 13],
    before: {
      applied: (fact) => check(fact.to.hash, fact.digest, fact),
      rebuilt: (fact) => check(fact.to.hash, fact.digest, fact),
      "snapshot-loaded": (fact) => check(fact.link.hash, fact.digest, fact),
      "snapshot-built": (fact) => check(fact.link.hash, fact.digest, fact),
      "renew-sent": (fact) => check(fact.applied.hash, fact.digest, fact),
    },
  };
}

/** 14, 15: every move continues from the projection's current point. */
export function watchMoves(truth: GroundTruth): Monitor {
  const { chains, findings, observations } = truth;

  function checkApplied(fact: SimFactOf<"applied">): void {
    const node = nodeOf(truth, fact);
    if (node === undefined) return;
    observations.add("move-checked");
    const [from, to] = [truth.find(fact.from), truth.find(fact.to)];
    if (to === undefined) {
      findings.add(15, `${fact.process} applied ${formatLink(fact.to)}, which no server ever wrote`, [fact]);
      return;
    }
    if (from !== node.applied || !chains.contains(to, node.applied) || to === node.applied) {
      const what = `${fact.process} is at ${formatLink(node.applied.link)} and applied from ${formatLink(fact.from)} to ${formatLink(fact.to)}`;
      findings.add(15, what, [fact]);
    }
  }

  function checkSnapshot(fact: SimFactOf<"snapshot-loaded">): void {
    const node = nodeOf(truth, fact);
    const point = truth.find(fact.link);
    if (point === undefined || !chains.isAcknowledged(point))
      findings.add(13, `${fact.process} loaded a snapshot of ${formatLink(fact.link)}, which is not acknowledged`, [
        fact,
      ]);
    else if (node !== undefined && node.rebuilding === null && !chains.contains(point, node.applied))
      findings.add(
        14,
        `${fact.process} went from ${formatLink(node.applied.link)} to a snapshot of ${formatLink(fact.link)}`,
        [fact],
      );
  }

  function checkRebuilding(fact: SimFactOf<"rebuilding">): void {
    const lost = truth.find(fact.lost);
    observations.add("rebuild-checked");
    // An empty projection has nothing to lose.
    if (lost === undefined || lost === chains.genesis || !chains.contains(truth.head, lost)) return;
    if (!truth.proven) return; // two histories grow or grew, and the node may have read either
    findings.add(14, `${fact.process} builds anew, though the log holds its ${formatLink(fact.lost)}`, [fact]);
  }

  return {
    invariants: [14, 15],
    before: {
      applied: checkApplied,
      "snapshot-loaded": checkSnapshot,
      rebuilding: checkRebuilding,
      rebuilt: (fact) => {
        const node = nodeOf(truth, fact);
        if (node !== undefined && node.rebuilding === null)
          findings.add(14, `${fact.process} was rebuilt without having said that it would be`, [fact]);
      },
      enforced: (fact) => {
        const node = nodeOf(truth, fact);
        const point = truth.find(fact.link);
        if (node === undefined || point === undefined || chains.contains(node.applied, point)) return;
        if (node.rebuilding === null)
          findings.add(
            15,
            `${fact.process} enforces ${formatLink(fact.link)}, and has applied ${formatLink(node.applied.link)}`,
            [fact],
          );
      },
    },
  };
}

/** 16: a node permits nothing from an event on that it cannot read and that may change decisions. */
export function watchUnknown(truth: GroundTruth): Monitor {
  const { chains, findings } = truth;
  /** Events of types that some build does not know. There are few. */
  const strange: LogPoint[] = [];
  const unknownToSome = new Set<string>();

  function checkMove(fact: SimFactOf<"applied" | "rebuilt">): void {
    const node = nodeOf(truth, fact);
    const to = truth.find(fact.to);
    if (node === undefined || to === undefined || strange.length === 0) return;
    const isNew = fact.type === "rebuilt";
    // A broker makes the snapshot, and it can read every event.
    const from = isNew ? (truth.find(fact.base) ?? chains.genesis) : node.applied;
    const missed = strange.find(
      (point) => isUnreadable(node, point) && chains.contains(to, point) && !chains.contains(from, point),
    );
    node.degraded = missed ?? (isNew ? null : node.degraded);
  }

  function isUnreadable(node: NodeView, { recorded }: LogPoint): boolean {
    if (recorded?.effect !== "either") return false;
    return recorded.event.type === "Unknown" || node.unknownTypes.has(recorded.type);
  }

  return {
    invariants: [16],
    before: {
      applied: checkMove,
      rebuilt: checkMove,
      // Another process folded it and could read every event, or it was saved along with its unreadable events.
      "snapshot-loaded": (fact) => {
        const node = nodeOf(truth, fact);
        if (node !== undefined) node.degraded = null;
      },
      started: (fact) => {
        for (const type of fact.unknownTypes) unknownToSome.add(type);
      },
      decided: (fact) => {
        const missed = nodeOf(truth, fact)?.degraded;
        if (missed) truth.observations.add("unreadable-checked");
        if (!missed || fact.verdict !== "permit") return;
        const { recorded } = missed;
        const what = `${fact.process} permits after ${recorded?.type} at ${missed.link.position}, which it cannot read`;
        findings.add(16, what, [fact]);
      },
    },
    after: {
      wrote: (fact) => {
        for (const { recorded } of fact.entries) {
          if (recorded.event.type !== "Unknown" && !unknownToSome.has(recorded.type)) continue;
          const point = truth.find(recorded);
          if (point !== undefined && !strange.includes(point)) strange.push(point);
        }
      },
    },
  };
}

/** The view of the boot that the fact names. Undefined: the fact belongs to an older boot and no longer counts. */
export function nodeOf(
  truth: GroundTruth,
  fact: Readonly<{ process: ProcessName; boot: string }>,
): NodeView | undefined {
  const node = truth.nodes.get(fact.process);
  return node?.boot === fact.boot ? node : undefined;
}
