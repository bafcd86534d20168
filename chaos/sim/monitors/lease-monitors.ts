/**
 * Lease monitors: which node may decide, and until when (19, 20).
 *
 * They also check what a lease rests on: rows before grants, whole heads, true origins.
 */
import type { SimFactOf, SimMs } from "../facts.ts";
import type { LogPoint } from "./chains.ts";
import type { GroundTruth } from "./ground-truth.ts";
import { answerKey, grantKey, type LeaseTracker } from "./lease-tracker.ts";
import { formatLink } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import { nodeOf } from "./projection-monitors.ts";
import { seconds } from "./violation.ts";

/** Updates the lease tracker. It runs before every monitor that reads it. */
export function trackLeases(leaseTracker: LeaseTracker): Monitor {
  return {
    invariants: [],
    before: {
      started: (fact) => leaseTracker.started(fact),
      "clock-set": (fact) => leaseTracker.clockSet(fact),
      "grant-sent": (fact) => leaseTracker.grantSent(fact),
      paused: (fact) => leaseTracker.paused(fact),
      resumed: (fact) => leaseTracker.resumed(fact),
      rebuilding: (fact) => leaseTracker.rebuilding(fact),
      "renew-sent": (fact) => leaseTracker.renewSent(fact),
    },
  };
}

/** 19, 20: checked at each step of a request: the decision, its first byte, every chunk. */
export function watchLeases(truth: GroundTruth, leaseTracker: LeaseTracker): Monitor {
  const { findings, observations, options } = truth;
  type Passage = SimFactOf<"decided" | "exchange-opened" | "relayed">;

  function check(fact: Passage, route: string, point: LogPoint): void {
    const node = nodeOf(truth, fact);
    if (node === undefined) return;
    const fresh = leaseTracker.freshAsOf(fact.process, point);
    if (node.leaving !== null) {
      findings.add(19, `${fact.process} lets something pass after its goodbye`, [node.leaving, fact]);
      return;
    }
    const grace = node.routes.get(route);
    const graceMs = grace?.onStale === "serve" ? grace.staleGraceMs : 0;
    const windowMs = leaseTracker.newest(fact.process)?.windowMs ?? options.deltaMs;
    const allowedMs = Math.min(options.deltaMs + graceMs, Math.max(windowMs, options.deltaMs));
    const waits = leaseTracker.awaitsDenials(fact.process, point);
    const isAllowed = (sentAt: SimMs): boolean => fact.at - sentAt <= truth.real(allowedMs);
    if (waits !== null) observations.add("passed-beside-tightened");
    if (waits !== null && (fresh === null || !isAllowed(fresh.sentAt)) && isAllowed(waits.sentAt)) {
      const what = `${fact.process} lets something pass on ${route} by a grant that waits for local revocations, which never reached it`;
      findings.add("lease-tightened", what, [waits.fact, fact]);
      return;
    }
    if (fresh === null) {
      const voided = leaseTracker.voidedBy(fact.process);
      const why = voided === null ? "no grant of this boot counts" : `nothing was granted since it was ${voided.type}`;
      const facts: readonly [Passage, ...SimFactOf<"resumed" | "rebuilding">[]] =
        voided === null ? [fact] : [fact, voided];
      findings.add(
        voided === null ? 20 : 19,
        `${fact.process} lets a request pass at ${formatLink(point.link)}: ${why}`,
        facts,
      );
      return;
    }
    const age = fact.at - fresh.sentAt;
    if (age > truth.real(options.deltaMs)) observations.add("served-in-grace");
    if (isAllowed(fresh.sentAt)) return;
    const what = `${fact.process} lets something pass on ${route} ${seconds(age)} after the renew it is fresh by left, where ${seconds(allowedMs)} are allowed`;
    findings.add(19, what, [fresh.fact, fact]);
  }

  /** Counts refusals for lack of a lease, by the mistake that would have permitted them. */
  function note(fact: SimFactOf<"decided">, point: LogPoint): void {
    const fresh = leaseTracker.freshAsOf(fact.process, point);
    const voided = leaseTracker.voidedBy(fact.process);
    const waits = leaseTracker.awaitsDenials(fact.process, point);
    const isYoung = ({ sentAt }: Readonly<{ sentAt: SimMs }>): boolean => fact.at - sentAt <= options.deltaMs;
    if (waits !== null && isYoung(waits) && (fresh === null || !isYoung(fresh)))
      observations.add("refused-beside-tightened");
    if (fresh !== null && fact.at - fresh.sentAt > options.deltaMs) observations.add("lease-expired");
    else if (fresh === null && voided?.type === "resumed") observations.add("request-after-pause");
    else if (fresh === null && voided === null) observations.add("boot-without-grant");
  }

  function checkExchange(fact: SimFactOf<"exchange-opened" | "relayed">): void {
    const request = truth.requests.get(fact.request);
    const node = nodeOf(truth, fact);
    if (request !== undefined && node !== undefined) check(fact, request.began.route, node.applied);
  }

  return {
    invariants: [19, 20, "lease-tightened"],
    before: {
      decided: (fact) => {
        const point = truth.find(fact.link);
        if (point === undefined) return;
        if (fact.verdict === "permit") check(fact, fact.route, point);
        else if (fact.verdict === "unavailable") note(fact, point);
      },
      "exchange-opened": checkExchange,
      relayed: checkExchange,
    },
  };
}

/** Checks the preconditions of each grant. */
export function watchGrants(truth: GroundTruth, leaseTracker: LeaseTracker): Monitor {
  const { chains, findings, observations } = truth;
  const windows = new Map<string, Readonly<{ windowMs: number; fact: SimFactOf<"wrote"> }>[]>();
  const sent = new Map<string, SimFactOf<"grant-sent">>();
  /**
   * Grants by age, separate from `sent`: the leader may answer the same renew too late for the regional broker that
   * answered in its stead.
   */
  const aged = new Map<string, SimFactOf<"grant-sent">>();
  const renews = new Map<string, Readonly<{ fact: SimFactOf<"renew-sent">; head: LogPoint }>>();

  function noteRows(fact: SimFactOf<"wrote">): void {
    for (const { node, boot, windowMs } of fact.lessees) {
      const key = keyOf(node, boot);
      const rows = windows.get(key) ?? [];
      windows.set(key, rows);
      if (rows.at(-1)?.windowMs !== windowMs) rows.push({ windowMs, fact });
    }
  }

  function checkSent(fact: SimFactOf<"grant-sent">): void {
    observations.add("grant-checked");
    const known = fact.agedMs === null ? sent : aged;
    known.set(grantKey(fact), fact);
    if (known.size > 4_096) known.delete(known.keys().next().value ?? "");
    if (!fact.own && fact.agedMs === null) {
      const rows = windows.get(keyOf(fact.node, fact.boot)) ?? [];
      if (!rows.some(({ windowMs }) => windowMs >= fact.windowMs))
        findings.add(
          "lessee-row",
          `${fact.process} grants ${fact.windowMs} ms to ${fact.node}, but no row records that`,
          [fact],
        );
    }
    const renew = renews.get(answerKey(fact));
    const head = truth.find(fact.head);
    if (renew === undefined || head === undefined || !truth.proven || fact.agedMs !== null) return;
    if (chains.contains(head, renew.head) || !chains.contains(truth.head, renew.head)) return;
    const what = `${fact.process} grants to ${fact.node} on ${formatLink(fact.head)}, though ${formatLink(renew.head.link)} was acknowledged before the renew left`;
    findings.add("grant-complete", what, [renew.fact, fact]);
  }

  function checkReceived(fact: SimFactOf<"grant-received">): void {
    if (!fact.taken) {
      observations.add("foreign-grant");
      return;
    }
    const renew = leaseTracker.taken(fact);
    const grant = ((fact.agedMs ?? null) === null ? sent : aged).get(grantKey(fact));
    if (renew === undefined || grant === undefined) {
      const why = renew === undefined ? "which this boot did not send" : "which no broker answered so";
      findings.add("grant-origin", `${fact.process} takes a grant for renew ${fact.nonce}, ${why}`, [fact]);
    }
  }

  function checkLeft(fact: SimFactOf<"boot-left">): void {
    for (const node of truth.nodes.values()) {
      if (node.node !== fact.node || node.boot !== fact.boot || !node.up || node.leaving !== null) continue;
      findings.add("left-alive", `${fact.process} removes ${fact.node} (${fact.how}), which is running`, [fact]);
    }
  }

  return {
    invariants: ["lessee-row", "grant-complete", "grant-origin", "left-alive"],
    before: {
      wrote: noteRows,
      "renew-sent": (fact) => {
        renews.set(answerKey(fact), { fact, head: truth.head });
        if (renews.size > 4_096) renews.delete(renews.keys().next().value ?? "");
      },
      "grant-sent": checkSent,
      "grant-received": checkReceived,
      "boot-left": checkLeft,
    },
  };
}

function keyOf(node: string, boot: string): string {
  return `${node} ${boot}`;
}
