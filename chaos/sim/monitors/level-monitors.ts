/**
 * Level monitors: older builds may be unable to read a finalized level.
 *
 * - A process that cannot read a level permits nothing after it and leads nothing.
 * - No process raises the log's level while a process with a lease cannot read the new level.
 */
import { builds, readsOf } from "../builds.ts";
import type { SimFactOf } from "../facts.ts";
import type { LogPoint } from "./chains.ts";
import type { GroundTruth } from "./ground-truth.ts";
import { formatLink } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import { nodeOf } from "./projection-monitors.ts";

type Raised = Readonly<{ point: LogPoint; level: number; fact: SimFactOf<"wrote"> }>;

export function watchLevels(truth: GroundTruth): Monitor {
  const { chains, findings, observations } = truth;
  /** Every point at which a server has written a new level. There are few. */
  const raised: Raised[] = [];
  /** The newest grant from each granter to each boot. */
  const grants = new Map<string, SimFactOf<"grant-sent">>();

  function levelReadBy(process: string): number {
    return readsOf(truth.up.get(process)?.build ?? builds.old);
  }

  /** A level in the history up to a point that this process cannot read. Undefined: it can read all of them. */
  function unreadable(process: string, at: LogPoint): Raised | undefined {
    if (raised.length === 0) return undefined;
    const reads = levelReadBy(process);
    return raised.find(({ point, level }) => level > reads && chains.contains(at, point));
  }

  function checkUse(fact: SimFactOf<"decided" | "exchange-opened" | "relayed">): void {
    if (raised.length === 0) return;
    const node = nodeOf(truth, fact);
    const level = node && unreadable(fact.process, node.applied);
    if (level === undefined) return;
    observations.add("level-checked");
    if (fact.type === "decided" && fact.verdict !== "permit") return;
    const what = `${fact.process} lets something pass behind ${formatLink(level.point.link)}, which raised the level to ${level.level}: it reads ${levelReadBy(fact.process)}`;
    findings.add("level-kept", what, [level.fact, fact]);
  }

  function checkLeading(fact: SimFactOf<"leading">): void {
    if (!fact.leading || !truth.proven) return;
    const level = unreadable(fact.process, truth.head);
    if (level === undefined || level.point.link.epoch >= fact.epoch) return;
    const what = `${fact.process} leads epoch ${fact.epoch} behind ${formatLink(level.point.link)}, which raised the level to ${level.level}: it reads ${levelReadBy(fact.process)}`;
    findings.add("level-kept", what, [level.fact, fact]);
  }

  function checkFinalizing(fact: SimFactOf<"finalizing">): void {
    observations.add("finalization-checked");
    if (!truth.oneWriter) return;
    for (const node of truth.nodes.values()) {
      if (!node.up || node.leaving !== null || levelReadBy(node.process) >= fact.level) continue;
      const grant = grants.get(keyOf(fact.process, node));
      if (grant === undefined || grant.at + grant.windowMs <= fact.at) continue;
      const what = `${fact.process} finalizes level ${fact.level}, and ${node.process}, which cannot read it, has a lease`;
      findings.add("level-ready", what, [grant, fact]);
    }
  }

  return {
    invariants: ["level-kept", "level-ready"],
    before: {
      decided: checkUse,
      "exchange-opened": checkUse,
      relayed: checkUse,
      leading: checkLeading,
      finalizing: checkFinalizing,
      "grant-sent": (fact) => grants.set(keyOf(fact.process, fact), fact),
    },
    after: {
      wrote: (fact) => {
        for (const { recorded } of fact.entries) {
          if (recorded.event.type !== "UpgradeFinalized") continue;
          const point = truth.find(recorded);
          if (point !== undefined && !raised.some((each) => each.point === point))
            raised.push({ point, level: recorded.event.level, fact });
        }
      },
    },
  };
}

function keyOf(granter: string, { node, boot }: Readonly<{ node: string; boot: string }>): string {
  return `${granter} ${node} ${boot}`;
}
