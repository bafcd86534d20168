/**
 * Level monitors: older builds may be unable to read a finalized level.
 *
 * - A process that cannot read a level permits nothing after it and leads nothing.
 * - No process raises the log's level while a process with a lease cannot read the new level.
 */
import { builds, readsOf } from "../builds.ts";
import type { SimFactOf } from "../facts.ts";
import type { Place } from "./chains.ts";
import { told } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import { nodeOf } from "./projection-monitors.ts";
import type { Scene } from "./scene.ts";

type Raised = Readonly<{ place: Place; level: number; fact: SimFactOf<"wrote"> }>;

export function watchLevels(scene: Scene): Monitor {
  const { chains, findings, looks } = scene;
  /** Every place at which a server has written a new level. There are few. */
  const raised: Raised[] = [];
  /** The newest grant from each granter to each boot. */
  const grants = new Map<string, SimFactOf<"grant-sent">>();

  function readsHere(process: string): number {
    return readsOf(scene.up.get(process)?.build ?? builds.old);
  }

  /** A level in the history up to a place that this process cannot read. Undefined: it can read all of them. */
  function unreadable(process: string, at: Place): Raised | undefined {
    if (raised.length === 0) return undefined;
    const reads = readsHere(process);
    return raised.find(({ place, level }) => level > reads && chains.contains(at, place));
  }

  function judgeUse(fact: SimFactOf<"decided" | "exchange-opened" | "relayed">): void {
    if (raised.length === 0) return;
    const node = nodeOf(scene, fact);
    const level = node && unreadable(fact.process, node.applied);
    if (level === undefined) return;
    looks.add("level-judged");
    if (fact.type === "decided" && fact.verdict !== "permit") return;
    const what = `${fact.process} lets something pass behind ${told(level.place.link)}, which raised the level to ${level.level}: it reads ${readsHere(fact.process)}`;
    findings.add("level-kept", what, [level.fact, fact]);
  }

  function judgeLeading(fact: SimFactOf<"leading">): void {
    if (!fact.leading || !scene.proven) return;
    const level = unreadable(fact.process, scene.head);
    if (level === undefined || level.place.link.epoch >= fact.epoch) return;
    const what = `${fact.process} leads epoch ${fact.epoch} behind ${told(level.place.link)}, which raised the level to ${level.level}: it reads ${readsHere(fact.process)}`;
    findings.add("level-kept", what, [level.fact, fact]);
  }

  function judgeFinalizing(fact: SimFactOf<"finalizing">): void {
    looks.add("finalizing-judged");
    if (!scene.oneWriter) return;
    for (const node of scene.nodes.values()) {
      if (!node.up || node.leaving !== null || readsHere(node.process) >= fact.level) continue;
      const grant = grants.get(keyOf(fact.process, node));
      if (grant === undefined || grant.at + grant.windowMs <= fact.at) continue;
      const what = `${fact.process} finalizes level ${fact.level}, and ${node.process}, which cannot read it, has a lease`;
      findings.add("level-ready", what, [grant, fact]);
    }
  }

  return {
    invariants: ["level-kept", "level-ready"],
    before: {
      decided: judgeUse,
      "exchange-opened": judgeUse,
      relayed: judgeUse,
      leading: judgeLeading,
      finalizing: judgeFinalizing,
      "grant-sent": (fact) => grants.set(keyOf(fact.process, fact), fact),
    },
    after: {
      wrote: (fact) => {
        for (const { recorded } of fact.entries) {
          if (recorded.event.type !== "UpgradeFinalized") continue;
          const place = scene.find(recorded);
          if (place !== undefined && !raised.some((each) => each.place === place))
            raised.push({ place, level: recorded.event.level, fact });
        }
      },
    },
  };
}

function keyOf(granter: string, { node, boot }: Readonly<{ node: string; boot: string }>): string {
  return `${granter} ${node} ${boot}`;
}
