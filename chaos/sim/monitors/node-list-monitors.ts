/**
 * Node list monitor: operators learn of every node that is missing (docs/adr/0040).
 *
 * A node to which a leader has granted a lease is shown by that leader and by each later one, whatever broker it is,
 * until the node says goodbye or an operator retires it. Silence never removes it.
 *
 * Exceptions: a node counts as heard from for Δ after its last grant, after the opening of an epoch, and after a renew
 * that is not refused. A promotion that may lose commits may lose rows; then a node counts from its next grant.
 */
import type { SimFactOf, SimMs } from "../facts.ts";
import type { GroundTruth } from "./ground-truth.ts";
import type { Monitor } from "./monitor.ts";
import { seconds } from "./violation.ts";

export function watchNodeList(truth: GroundTruth): Monitor {
  const { findings, observations, options } = truth;
  /** The newest grant of a leader, by node. */
  const admitted = new Map<string, SimFactOf<"grant-sent">>();
  /** Boots that have sent a goodbye. A grant that is on its way to one of them counts for nothing. */
  const left = new Set<string>();
  /** By node and boot: the last renew, and its time; null: it was refused, as late renews of an earlier boot are. */
  const renewed = new Map<string, Map<string, Readonly<{ nonce: number; at: SimMs | null }>>>();
  /** By boot: when it started. */
  const startedAt = new Map<string, SimMs>();
  /** By broker: since when it leads. */
  const leadsSince = new Map<string, SimMs>();
  /** By node: since when its process has been down. */
  const downSince = new Map<string, SimMs>();

  function isProven(): boolean {
    if (!truth.proven) admitted.clear();
    return truth.proven;
  }

  function granted(grant: SimFactOf<"grant-sent">): void {
    if (grant.own || grant.agedMs !== null || left.has(grant.boot) || !isProven()) return;
    const before = admitted.get(grant.node);
    if (before === undefined || before.epoch <= grant.epoch) admitted.set(grant.node, grant);
  }

  function check(fact: SimFactOf<"nodes-listed">): void {
    if (!isProven()) return;
    const shown = new Set(fact.nodes);
    for (const [node, grant] of admitted) {
      if (grant.epoch > fact.epoch) continue; // another broker leads already
      observations.add("listed-checked");
      const down = downSince.get(node);
      if (down !== undefined && fact.at - down > truth.real(options.windowMaxMs)) observations.add("listed-silent");
      const renews = [...(renewed.get(node)?.values() ?? [])].map(({ at }) => at ?? 0);
      const heardAt = Math.max(grant.at, leadsSince.get(fact.process) ?? 0, ...renews);
      if (shown.has(node) || fact.at - heardAt <= truth.real(options.deltaMs)) continue;
      const what = `${fact.process} leads epoch ${fact.epoch} and does not show ${node}, which was granted a lease ${seconds(fact.at - grant.at)} before and has not said goodbye`;
      findings.add("node-listed", what, [grant, fact]);
    }
  }

  return {
    invariants: ["node-listed"],
    before: {
      promoted: ({ how }) => {
        if (how === "unsafe" || how === "restored" || truth.synchronous === 0) admitted.clear();
      },
      leading: ({ process, leading, at }) => {
        if (leading) leadsSince.set(process, at);
      },
      started: ({ process, boot, at }) => {
        downSince.delete(process);
        if (boot !== null) startedAt.set(boot, at);
      },
      killed: ({ process, at }) => {
        downSince.set(process, at);
      },
      "renew-arrived": ({ node, boot, nonce, at }) => {
        const boots = renewed.get(node) ?? new Map();
        if (nonce > (boots.get(boot)?.nonce ?? -1)) renewed.set(node, boots.set(boot, { nonce, at }));
      },
      "grant-refused": ({ node, boot, reason }) => {
        const last = renewed.get(node)?.get(boot);
        if (last === undefined || reason === "repeated") return; // the same renew may still get a grant
        renewed.get(node)?.set(boot, { ...last, at: null });
      },
      "grant-sent": granted,
      "goodbye-sent": ({ node, boot }) => {
        left.add(boot);
        const grant = admitted.get(node);
        // A later boot speaks for the node too, even if it was never granted a lease: it is too old, say.
        if (grant?.boot === boot || (startedAt.get(boot) ?? -1) >= (grant?.at ?? 0)) admitted.delete(node);
      },
      wrote: ({ entries }) => {
        for (const { recorded } of entries)
          if (recorded.event.type === "NodesRetired")
            for (const { nodeId } of recorded.event.nodes) admitted.delete(nodeId);
      },
      "nodes-listed": check,
    },
  };
}
