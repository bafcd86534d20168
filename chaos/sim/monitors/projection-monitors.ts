/**
 * Projection monitors: projections are equal everywhere, never move backwards, and apply each event exactly once
 * (12–16).
 */
import type { ProcessName, SimFactOf } from "../facts.ts";
import type { Place } from "./chains.ts";
import { told } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import type { NodeView, Scene } from "./scene.ts";

type WithDigest = SimFactOf<"applied" | "snapshot-loaded" | "rebuilt" | "renew-sent" | "snapshot-built">;

/** 12, 13: all builds that can read every event before a link have the same digest there. */
export function watchDigests(scene: Scene): Monitor {
  const { findings, looks } = scene;
  const known = new Map<string, Readonly<{ digest: string; fact: WithDigest }>>();

  function judge(hash: string, digest: string | null, fact: WithDigest): void {
    if (digest === null || (scene.nodes.get(fact.process)?.unknownTypes.size ?? 0) > 0) return;
    const first = known.get(hash);
    if (first === undefined) {
      known.set(hash, { digest, fact });
      return;
    }
    const isSnapshot = (each: WithDigest): boolean => each.type === "snapshot-loaded" || each.type === "snapshot-built";
    const invariant = isSnapshot(fact) || isSnapshot(first.fact) ? 13 : 12;
    if (invariant === 13) looks.add("snapshot-compared");
    else if (first.fact.process !== fact.process) looks.add("digest-compared");
    if (first.digest === digest) return;
    const what = `${fact.process} has another digest than ${first.fact.process} at ${hash.slice(0, 6)}`;
    findings.add(invariant, what, [first.fact, fact]);
  }

  return {
    invariants: [12, 13],
    before: {
      applied: (fact) => judge(fact.to.hash, fact.digest, fact),
      rebuilt: (fact) => judge(fact.to.hash, fact.digest, fact),
      "snapshot-loaded": (fact) => judge(fact.link.hash, fact.digest, fact),
      "snapshot-built": (fact) => judge(fact.link.hash, fact.digest, fact),
      "renew-sent": (fact) => judge(fact.applied.hash, fact.digest, fact),
    },
  };
}

/** 14, 15: every move continues from the projection's current place. */
export function watchMoves(scene: Scene): Monitor {
  const { chains, findings, looks } = scene;

  function judgeApplied(fact: SimFactOf<"applied">): void {
    const node = nodeOf(scene, fact);
    if (node === undefined) return;
    looks.add("move-judged");
    const [from, to] = [scene.find(fact.from), scene.find(fact.to)];
    if (to === undefined) {
      findings.add(15, `${fact.process} applied ${told(fact.to)}, which no server ever wrote`, [fact]);
      return;
    }
    if (from !== node.applied || !chains.contains(to, node.applied) || to === node.applied) {
      const what = `${fact.process} is at ${told(node.applied.link)} and applied from ${told(fact.from)} to ${told(fact.to)}`;
      findings.add(15, what, [fact]);
    }
  }

  function judgeSnapshot(fact: SimFactOf<"snapshot-loaded">): void {
    const node = nodeOf(scene, fact);
    const place = scene.find(fact.link);
    if (place === undefined || !chains.isAcknowledged(place))
      findings.add(13, `${fact.process} loaded a snapshot of ${told(fact.link)}, which is not acknowledged`, [fact]);
    else if (node !== undefined && node.rebuilding === null && !chains.contains(place, node.applied))
      findings.add(14, `${fact.process} went from ${told(node.applied.link)} to a snapshot of ${told(fact.link)}`, [
        fact,
      ]);
  }

  function judgeRebuilding(fact: SimFactOf<"rebuilding">): void {
    const lost = scene.find(fact.lost);
    looks.add("rebuild-judged");
    // An empty projection has nothing to lose.
    if (lost === undefined || lost === chains.genesis || !chains.contains(scene.head, lost)) return;
    if (!scene.proven) return; // two histories grow or grew, and the node may have read either
    findings.add(14, `${fact.process} builds anew, though the log holds its ${told(fact.lost)}`, [fact]);
  }

  return {
    invariants: [14, 15],
    before: {
      applied: judgeApplied,
      "snapshot-loaded": judgeSnapshot,
      rebuilding: judgeRebuilding,
      rebuilt: (fact) => {
        const node = nodeOf(scene, fact);
        if (node !== undefined && node.rebuilding === null)
          findings.add(14, `${fact.process} was rebuilt without having said that it would be`, [fact]);
      },
      enforced: (fact) => {
        const node = nodeOf(scene, fact);
        const place = scene.find(fact.link);
        if (node === undefined || place === undefined || chains.contains(node.applied, place)) return;
        if (node.rebuilding === null)
          findings.add(15, `${fact.process} enforces ${told(fact.link)}, and has applied ${told(node.applied.link)}`, [
            fact,
          ]);
      },
    },
  };
}

/** 16: a node permits nothing from an event on that it cannot read and that may change decisions. */
export function watchUnknown(scene: Scene): Monitor {
  const { chains, findings } = scene;
  /** Events of types that some build does not know. There are few. */
  const strange: Place[] = [];
  const unknownToSome = new Set<string>();

  function judgeMove(fact: SimFactOf<"applied" | "rebuilt">): void {
    const node = nodeOf(scene, fact);
    const to = scene.find(fact.to);
    if (node === undefined || to === undefined || strange.length === 0) return;
    const isNew = fact.type === "rebuilt";
    // A broker makes the snapshot, and it can read every event.
    const from = isNew ? (scene.find(fact.base) ?? chains.genesis) : node.applied;
    const missed = strange.find(
      (place) => isUnreadable(node, place) && chains.contains(to, place) && !chains.contains(from, place),
    );
    node.degraded = missed ?? (isNew ? null : node.degraded);
  }

  function isUnreadable(node: NodeView, { recorded }: Place): boolean {
    if (recorded?.effect !== "either") return false;
    return recorded.event.type === "Unknown" || node.unknownTypes.has(recorded.type);
  }

  return {
    invariants: [16],
    before: {
      applied: judgeMove,
      rebuilt: judgeMove,
      // Another process folded it and could read every event, or it was saved along with its unreadable events.
      "snapshot-loaded": (fact) => {
        const node = nodeOf(scene, fact);
        if (node !== undefined) node.degraded = null;
      },
      started: (fact) => {
        for (const type of fact.unknownTypes) unknownToSome.add(type);
      },
      decided: (fact) => {
        const missed = nodeOf(scene, fact)?.degraded;
        if (missed) scene.looks.add("unreadable-judged");
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
          const place = scene.find(recorded);
          if (place !== undefined && !strange.includes(place)) strange.push(place);
        }
      },
    },
  };
}

/** The view of the boot that the fact names. Undefined: the fact belongs to an older boot and no longer counts. */
export function nodeOf(scene: Scene, fact: Readonly<{ process: ProcessName; boot: string }>): NodeView | undefined {
  const node = scene.nodes.get(fact.process);
  return node?.boot === fact.boot ? node : undefined;
}
