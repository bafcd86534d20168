/**
 * Availability and sizes: a protocol that denies everything is not safe, it is useless; and nothing grows for ever
 * (38).
 */
import type { SimFactOf, SimMs } from "../facts.ts";
import { barOf } from "./decision-monitors.ts";
import type { Monitor } from "./monitor.ts";
import type { Scene } from "./scene.ts";

/** So long after a fault its consequences count as its own: a takeover, a catch-up. */
const recoverMs = 10_000;
/** A request without a verdict by then was not permitted. */
const patienceMs = 3_000;
/** So long before its expiry a session counts as live by any clock. */
const expiryMarginMs = 10_000;
/** A run with fewer says nothing. */
const sampleMin = 30;

export type Availability = { rightful: number; permitted: number };

export function watchAvailability(scene: Scene, counts: Availability): Monitor {
  const { findings, options } = scene;
  const open = new Map<number, SimFactOf<"request-began">>();
  let refused: SimFactOf<"decided"> | null = null;

  function isQuiet(from: SimMs): boolean {
    return scene.faults.size === 0 && scene.quietSince + recoverMs < from;
  }

  /**
   * Nobody could have a reason to refuse it: it was right at every place between its token and what is acknowledged.
   */
  function isRightful(fact: SimFactOf<"request-began">): boolean {
    const node = scene.nodes.get(fact.to);
    const request = scene.requests.get(fact.request);
    if (node === undefined || request === undefined || !node.up || scene.paused.has(fact.to)) return false;
    const created = scene.rights.created(fact.session, scene.head);
    if (created === undefined || created.expiresAt - options.wallStart - fact.at < expiryMarginMs) return false;
    const closesAt = node.routes.get(request.began.route)?.closesAtMs ?? null;
    if (closesAt !== null && closesAt - fact.at < expiryMarginMs) return false;
    const server = scene.primary === null ? undefined : scene.serverHead(scene.primary);
    return (
      barOf(scene, request, node, scene.head) === null && barOf(scene, request, node, server ?? scene.head) === null
    );
  }

  function count(fact: SimFactOf<"request-began">, verdict: SimFactOf<"decided"> | null): void {
    if (!isQuiet(fact.at)) return;
    counts.rightful += 1;
    if (verdict?.verdict === "permit") counts.permitted += 1;
    else refused = verdict ?? refused;
  }

  return {
    invariants: ["availability"],
    before: {
      decided: (fact) => {
        const began = open.get(fact.request);
        open.delete(fact.request);
        if (began !== undefined && isRightful(began)) count(began, fact);
      },
      "run-over": (fact) => {
        if (counts.rightful < sampleMin || counts.permitted * 2 >= counts.rightful) return;
        const what = `${counts.permitted} of ${counts.rightful} rightful requests were permitted`;
        findings.add("availability", what, refused === null ? [fact] : [refused, fact]);
      },
    },
    after: {
      "request-began": (fact) => {
        for (const [id, began] of open) {
          if (fact.at - began.at < patienceMs) break; // oldest first
          open.delete(id);
          if (scene.requests.has(id)) count(began, null);
        }
        if (isQuiet(fact.at) && isRightful(fact)) open.set(fact.request, fact);
      },
    },
  };
}

/** 38. */
export function watchSizes(scene: Scene): Monitor {
  return {
    invariants: [38],
    before: {
      sized: (fact) => {
        scene.looks.add("size-told");
        if (fact.size > fact.sizeMax)
          scene.findings.add(38, `${fact.process} holds ${fact.size} ${fact.what}, of ${fact.sizeMax} at most`, [fact]);
      },
    },
  };
}
