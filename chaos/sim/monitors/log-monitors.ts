/**
 * Log monitors: invariants 1, 2 and 4–8.
 *
 * The log is dense, chained and ordered by epochs. One process writes it at a time, and no acknowledged event changes.
 */
import { createHash } from "node:crypto";
import type { Link } from "../../../src/events/index.ts";
import type { SimFactOf } from "../facts.ts";
import type { LogPoint } from "./chains.ts";
import type { GroundTruth } from "./ground-truth.ts";
import type { Monitor } from "./monitor.ts";

/** 1, 4, 5: each event directly follows the server's head and carries the hash of its bytes. */
export function watchChain(truth: GroundTruth): Monitor {
  const { chains, findings, observations } = truth;

  function check(fact: SimFactOf<"wrote">): void {
    const head = truth.serverHead(fact.process) ?? chains.genesis;
    if (truth.find(fact.previous) !== head) {
      const what = `${fact.process} wrote behind ${formatLink(fact.previous)}, but its log ends at ${formatLink(head.link)}`;
      findings.add(1, what, [fact]);
    }
    let previous: Link = head.link;
    observations.add("event-hashed", fact.entries.length);
    for (const { recorded, bytes } of fact.entries) {
      if (recorded.position !== previous.position + 1)
        findings.add(1, `position ${recorded.position} is written right behind ${previous.position}`, [fact]);
      const hash = createHash("sha256").update(previous.hash, "hex").update(bytes).digest("hex");
      if (hash !== recorded.hash) findings.add(4, `the hash at ${recorded.position} does not match its bytes`, [fact]);
      if (recorded.epoch < previous.epoch || recorded.epoch !== fact.epoch)
        findings.add(5, `an event of epoch ${recorded.epoch} stands behind one of epoch ${previous.epoch}`, [fact]);
      const opens = recorded.event.type === "EpochOpened";
      if (opens) observations.add("epoch-opened");
      if (opens !== recorded.epoch > previous.epoch) {
        const how = opens ? "is opened inside of itself" : "begins without its first event";
        findings.add(5, `epoch ${recorded.epoch} ${how}, at ${recorded.position}`, [fact]);
      }
      previous = recorded;
    }
    if (fact.head.hash !== previous.hash)
      findings.add(1, `the head is reported as ${formatLink(fact.head)}, and is ${formatLink(previous)}`, [fact]);
  }
  return { invariants: [1, 4, 5], before: { wrote: check } };
}

/** 6, 7: an epoch has one writer and ends once the next epoch is opened. */
export function watchWriters(truth: GroundTruth): Monitor {
  const { chains, findings } = truth;
  const openers = new Map<string, SimFactOf<"wrote">>();
  /** Pending writes, with the newest epoch that had been opened cleanly at the time of the write. */
  const waiting = new Map<
    number,
    Readonly<{ wrote: SimFactOf<"wrote">; after: SimFactOf<"committed-cleanly"> | null }>
  >();
  let opened: SimFactOf<"committed-cleanly"> | null = null;

  function check(fact: SimFactOf<"wrote">): void {
    waiting.set(fact.txn, { wrote: fact, after: opened });
    if (fact.op === "open-epoch") {
      openers.set(fact.incarnation, fact);
      return;
    }
    const opening = (truth.serverHead(fact.process) ?? chains.genesis).opening;
    if (opening === null || opening.epoch !== fact.epoch || opening.incarnation !== fact.incarnation) {
      const newer = opening === null ? undefined : openers.get(opening.incarnation);
      const what = `${fact.writer} wrote in epoch ${fact.epoch} on ${fact.process}, where epoch ${opening?.epoch ?? 0} is open`;
      findings.add(7, what, newer === undefined ? [fact] : [newer, fact]);
    }
    const opener = openers.get(fact.incarnation);
    if (opener !== undefined && opener.writer !== fact.writer)
      findings.add(6, `${fact.writer} wrote in epoch ${fact.epoch}, which ${opener.writer} opened`, [opener, fact]);
  }

  function checkClean(fact: SimFactOf<"committed-cleanly">): void {
    const known = waiting.get(fact.txn);
    waiting.delete(fact.txn);
    if (known === undefined || fact.process !== truth.primary) return;
    const { wrote, after } = known;
    if (after !== null && wrote.epoch < after.epoch) {
      const what = `${wrote.writer} got a clean commit in epoch ${wrote.epoch}, written after epoch ${after.epoch} was open`;
      findings.add(7, what, [after, wrote, fact]);
    }
    if (wrote.op === "open-epoch" && (opened === null || fact.epoch > opened.epoch)) opened = fact;
  }

  return {
    invariants: [6, 7],
    before: {
      wrote: check,
      "committed-cleanly": checkClean,
      "log-answered": (fact) => {
        if (fact.outcome === "fenced") truth.observations.add("write-after-epoch");
      },
      promoted: (fact) => {
        if (fact.how === "unsafe" || fact.how === "restored") opened = null; // its log may lack that epoch
      },
    },
  };
}

/** 2: every later primary holds all events that were acknowledged before. */
export function watchPrefix(truth: GroundTruth): Monitor {
  const { chains, findings } = truth;

  function check(point: LogPoint | undefined, fact: SimFactOf<"promoted"> | SimFactOf<"committed-cleanly">): void {
    if (point === undefined) {
      findings.add(2, `${fact.process} speaks of ${formatLink(fact.head)}, which was never written`, [fact]);
      return;
    }
    const before = truth.acknowledged.at(-1);
    if (before === undefined || chains.contains(point, truth.head)) return;
    const shared = chains.common(point, truth.head);
    // An old acknowledgement may be reported late. A point before the head is no contradiction.
    if (fact.type === "committed-cleanly" && shared === point) return;
    const what = `${fact.process} has ${formatLink(point.link)}, without ${formatLink(before.point.link)}: they part behind ${shared.link.position}`;
    findings.add(2, what, [before.fact, fact]);
  }

  return {
    invariants: [2],
    before: {
      promoted: (fact) => {
        if (fact.how === "procedure" && truth.acknowledged.length > 0) truth.observations.add("promotion-checked");
        const mustHoldAll = fact.how === "procedure" || (fact.how === "restarted" && fact.process === truth.primary);
        if (mustHoldAll) check(truth.find(fact.head), fact);
      },
      "committed-cleanly": (fact) => {
        if (fact.process === truth.primary) check(truth.find(fact.head), fact);
        else if (truth.synchronous > 0 && truth.proven) check(truth.find(fact.head), fact);
      },
    },
  };
}

/** 8: the versions of each stream. */
export function watchStreams(truth: GroundTruth): Monitor {
  const { chains, findings } = truth;
  const versions = new Map<string, LogPoint[]>();

  function check(fact: SimFactOf<"wrote">): void {
    const seen = new Set<LogPoint>();
    for (const { recorded } of fact.entries) {
      const point = truth.find(recorded);
      if (point === undefined) continue;
      const { stream, version, position } = recorded;
      const list = versions.get(stream) ?? [];
      versions.set(stream, list);
      if (list.includes(point) || seen.has(point)) continue; // another server wrote the same event
      const last = list.findLast((each) => chains.contains(point, each));
      const expected = (last?.recorded?.version ?? 0) + 1;
      if (version !== expected)
        findings.add(8, `${stream} has version ${version} at ${position}, where ${expected} was due`, [fact]);
      list.push(point);
      seen.add(point);
    }
  }
  return { invariants: [8], after: { wrote: check } };
}

export function formatLink(link: Link): string {
  return `${link.epoch}.${link.position}.${link.hash.slice(0, 6)}`;
}
