/**
 * Quality monitors: availability, and the sizes of all state (38).
 *
 * A protocol that denies everything is useless, not safe. No data structure may grow without bound.
 */
import type { SimFactOf, SimMs } from "../facts.ts";
import { denialFor } from "./decision-monitors.ts";
import type { GroundTruth } from "./ground-truth.ts";
import type { Monitor } from "./monitor.ts";

/** Time after a fault in which failures count as its consequences: a takeover, a catch-up. */
const recoverMs = 10_000;
/** A request without a verdict within this time counts as not permitted. */
const patienceMs = 3_000;
/** Time before its expiry up to which a session counts as live by any clock. */
const expiryMarginMs = 10_000;
/** A run with fewer requests is not significant. */
const sampleMin = 30;

export type Availability = { rightful: number; permitted: number };

export function watchAvailability(truth: GroundTruth, counts: Availability): Monitor {
  const { findings, options } = truth;
  const open = new Map<number, SimFactOf<"request-began">>();
  let refused: SimFactOf<"decided"> | null = null;

  function isQuiet(from: SimMs): boolean {
    return truth.faults.size === 0 && truth.quietSince + recoverMs < from;
  }

  /**
   * True if no node has a reason to refuse the request: it is permitted at every point from its token to the
   * acknowledged head.
   */
  function isRightful(fact: SimFactOf<"request-began">): boolean {
    const node = truth.nodes.get(fact.to);
    const request = truth.requests.get(fact.request);
    if (node === undefined || request === undefined || !node.up || truth.paused.has(fact.to)) return false;
    const created = truth.rights.created(fact.session, truth.head);
    if (created === undefined || created.expiresAt - options.wallStart - fact.at < expiryMarginMs) return false;
    const closesAt = node.routes.get(request.began.route)?.closesAtMs ?? null;
    if (closesAt !== null && closesAt - fact.at < expiryMarginMs) return false;
    const server = truth.primary === null ? undefined : truth.serverHead(truth.primary);
    return (
      denialFor(truth, request, node, truth.head) === null &&
      denialFor(truth, request, node, server ?? truth.head) === null
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
          if (truth.requests.has(id)) count(began, null);
        }
        if (isQuiet(fact.at) && isRightful(fact)) open.set(fact.request, fact);
      },
    },
  };
}

/** 38: no data structure exceeds its bound. */
export function watchSizes(truth: GroundTruth): Monitor {
  return {
    invariants: [38],
    before: {
      sized: (fact) => {
        truth.observations.add("size-reported");
        if (fact.size > fact.sizeMax)
          truth.findings.add(38, `${fact.process} holds ${fact.size} ${fact.what}, of ${fact.sizeMax} at most`, [fact]);
      },
    },
  };
}
