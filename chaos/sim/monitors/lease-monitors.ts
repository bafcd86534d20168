/**
 * Lease monitors: which node may decide, and until when (19, 20).
 *
 * They also check what a lease rests on: rows before grants, whole heads, true origins.
 */
import type { SimFactOf } from "../facts.ts";
import type { Place } from "./chains.ts";
import { answerKey, grantKey, type LeaseBook } from "./lease-book.ts";
import { told } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import { nodeOf } from "./projection-monitors.ts";
import type { Scene } from "./scene.ts";
import { seconds } from "./violation.ts";

/** Updates the lease book. It runs before every monitor that reads the book. */
export function keepBook(book: LeaseBook): Monitor {
  return {
    invariants: [],
    before: {
      started: (fact) => book.started(fact),
      "clock-set": (fact) => book.clockSet(fact),
      "grant-sent": (fact) => book.grantSent(fact),
      paused: (fact) => book.paused(fact),
      resumed: (fact) => book.resumed(fact),
      rebuilding: (fact) => book.rebuilding(fact),
      "renew-sent": (fact) => book.renewSent(fact),
    },
  };
}

/** 19, 20: checked at each step of a request: the decision, its first byte, every chunk. */
export function watchLeases(scene: Scene, book: LeaseBook): Monitor {
  const { findings, looks, options } = scene;
  type Look = SimFactOf<"decided" | "exchange-opened" | "relayed">;

  function judge(fact: Look, route: string, place: Place): void {
    const node = nodeOf(scene, fact);
    if (node === undefined) return;
    const fresh = book.freshAsOf(fact.process, place);
    if (node.leaving !== null) {
      findings.add(19, `${fact.process} lets something pass after its goodbye`, [node.leaving, fact]);
      return;
    }
    if (fresh === null) {
      const voided = book.voidedBy(fact.process);
      const why = voided === null ? "no grant of this boot counts" : `nothing was granted since it was ${voided.type}`;
      const facts: readonly [Look, ...SimFactOf<"resumed" | "rebuilding">[]] =
        voided === null ? [fact] : [fact, voided];
      findings.add(
        voided === null ? 20 : 19,
        `${fact.process} lets something pass at ${told(place.link)}: ${why}`,
        facts,
      );
      return;
    }
    const grace = node.routes.get(route);
    const graceMs = grace?.onStale === "serve" ? grace.staleGraceMs : 0;
    const windowMs = book.newest(fact.process)?.windowMs ?? options.deltaMs;
    const allowedMs = Math.min(options.deltaMs + graceMs, Math.max(windowMs, options.deltaMs));
    const age = fact.at - fresh.sentAt;
    if (age > scene.real(options.deltaMs)) looks.add("served-in-grace");
    if (age <= scene.real(allowedMs)) return;
    const what = `${fact.process} lets something pass on ${route} ${seconds(age)} after the renew it is fresh by left, where ${seconds(allowedMs)} are allowed`;
    findings.add(19, what, [fresh.fact, fact]);
  }

  /** Counts refusals for lack of a lease, by the mistake that would have permitted them. */
  function note(fact: SimFactOf<"decided">, place: Place): void {
    const fresh = book.freshAsOf(fact.process, place);
    const voided = book.voidedBy(fact.process);
    if (fresh !== null && fact.at - fresh.sentAt > options.deltaMs) looks.add("lease-over");
    else if (fresh === null && voided?.type === "resumed") looks.add("paused-look");
    else if (fresh === null && voided === null) looks.add("boot-without-grant");
  }

  function judgeExchange(fact: SimFactOf<"exchange-opened" | "relayed">): void {
    const request = scene.requests.get(fact.request);
    const node = nodeOf(scene, fact);
    if (request !== undefined && node !== undefined) judge(fact, request.began.route, node.applied);
  }

  return {
    invariants: [19, 20],
    before: {
      decided: (fact) => {
        const place = scene.find(fact.place);
        if (place === undefined) return;
        if (fact.verdict === "permit") judge(fact, fact.route, place);
        else if (fact.verdict === "unavailable") note(fact, place);
      },
      "exchange-opened": judgeExchange,
      relayed: judgeExchange,
    },
  };
}

/** Checks the preconditions of each grant. */
export function watchGrants(scene: Scene, book: LeaseBook): Monitor {
  const { chains, findings, looks } = scene;
  const windows = new Map<string, Readonly<{ windowMs: number; fact: SimFactOf<"wrote"> }>[]>();
  const sent = new Map<string, SimFactOf<"grant-sent">>();
  /**
   * Grants by age, separate from `sent`: the leader may answer the same renew too late for the regional broker that
   * answered in its stead.
   */
  const aged = new Map<string, SimFactOf<"grant-sent">>();
  const renews = new Map<string, Readonly<{ fact: SimFactOf<"renew-sent">; head: Place }>>();

  function noteRows(fact: SimFactOf<"wrote">): void {
    for (const { node, boot, windowMs } of fact.lessees) {
      const key = keyOf(node, boot);
      const rows = windows.get(key) ?? [];
      windows.set(key, rows);
      if (rows.at(-1)?.windowMs !== windowMs) rows.push({ windowMs, fact });
    }
  }

  function judgeSent(fact: SimFactOf<"grant-sent">): void {
    looks.add("grant-judged");
    const known = fact.agedMs === null ? sent : aged;
    known.set(grantKey(fact), fact);
    if (known.size > 4_096) known.delete(known.keys().next().value ?? "");
    if (!fact.own && fact.agedMs === null) {
      const rows = windows.get(keyOf(fact.node, fact.boot)) ?? [];
      if (!rows.some(({ windowMs }) => windowMs >= fact.windowMs))
        findings.add(
          "lessee-row",
          `${fact.process} grants ${fact.windowMs} ms to ${fact.node}, of whom no row says so`,
          [fact],
        );
    }
    const renew = renews.get(answerKey(fact));
    const head = scene.find(fact.head);
    if (renew === undefined || head === undefined || !scene.proven || fact.agedMs !== null) return;
    if (chains.contains(head, renew.head) || !chains.contains(scene.head, renew.head)) return;
    const what = `${fact.process} grants to ${fact.node} on ${told(fact.head)}, though ${told(renew.head.link)} was acknowledged before the renew left`;
    findings.add("grant-complete", what, [renew.fact, fact]);
  }

  function judgeReceived(fact: SimFactOf<"grant-received">): void {
    if (!fact.taken) {
      looks.add("grant-of-another");
      return;
    }
    const renew = book.taken(fact);
    const grant = ((fact.agedMs ?? null) === null ? sent : aged).get(grantKey(fact));
    if (renew === undefined || grant === undefined) {
      const why = renew === undefined ? "which this boot did not send" : "which nobody answered so";
      findings.add("grant-origin", `${fact.process} takes a grant for renew ${fact.nonce}, ${why}`, [fact]);
    }
  }

  function judgeLeft(fact: SimFactOf<"boot-left">): void {
    for (const node of scene.nodes.values()) {
      if (node.node !== fact.node || node.boot !== fact.boot || !node.up || node.leaving !== null) continue;
      findings.add("left-alive", `${fact.process} lets go of ${fact.node} (${fact.how}), which is running`, [fact]);
    }
  }

  return {
    invariants: ["lessee-row", "grant-complete", "grant-origin", "left-alive"],
    before: {
      wrote: noteRows,
      "renew-sent": (fact) => {
        renews.set(answerKey(fact), { fact, head: scene.head });
        if (renews.size > 4_096) renews.delete(renews.keys().next().value ?? "");
      },
      "grant-sent": judgeSent,
      "grant-received": judgeReceived,
      "boot-left": judgeLeft,
    },
  };
}

function keyOf(node: string, boot: string): string {
  return `${node} ${boot}`;
}
