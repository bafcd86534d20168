/**
 * Command monitors: invariants 3, 9 and 10.
 *
 * - 3: the log keeps every acknowledged command.
 * - 9: a command is carried out once, and all its answers agree.
 * - 10: commands keep the order in which clients submitted them.
 */
import type { SimFactOf } from "../facts.ts";
import type { LogPoint } from "./chains.ts";
import type { GroundTruth } from "./ground-truth.ts";
import { formatLink } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";

type Done = Readonly<{ fact: SimFactOf<"command-answered">; point: LogPoint }>;

/** Acknowledged commands that promotions without proof have lost. The report counts them; they are no violation. */
export type Losses = { acknowledged: number };

export function watchCommands(truth: GroundTruth, losses: Losses): Monitor {
  const { chains, findings } = truth;
  const made = new Map<string, { point: LogPoint; fact: SimFactOf<"wrote"> }[]>();
  const done = new Map<string, Done>();
  /** By command: its first submission, and the newest acknowledged answer at that time. */
  const requested = new Map<string, Readonly<{ fact: SimFactOf<"command-invoked">; after: Done | null }>>();
  let newest: Done | null = null;
  /** First position of the log on the server that has truncated most. */
  let first = 1;

  /** 9: a command id occurs at most once in a lineage. */
  function checkWritten(fact: SimFactOf<"wrote">): void {
    for (const { commandId, first, count } of fact.commands) {
      if (count === 0) continue;
      const entry = fact.entries.find(({ recorded }) => recorded.position === first + count - 1);
      const point = entry && truth.find(entry.recorded);
      if (point === undefined) continue;
      const list = made.get(commandId) ?? [];
      made.set(commandId, list);
      if (list.some((each) => each.point === point)) continue;
      const before = list.find((each) => chains.contains(point, each.point));
      if (before !== undefined) {
        const what = `command ${commandId} is carried out at ${point.link.position}, and was at ${before.point.link.position}`;
        findings.add(9, what, [before.fact, fact]);
      }
      list.push({ point, fact });
    }
  }

  function checkAnswer(fact: SimFactOf<"command-answered">): void {
    const { result, commandId } = fact;
    if (result.type !== "done") return;
    const point = truth.find(result.link);
    if (point === undefined || !chains.isAcknowledged(point)) {
      findings.add(3, `command ${commandId} is answered with ${formatLink(result.link)}, which is not acknowledged`, [
        fact,
      ]);
      return;
    }
    const before = done.get(commandId);
    const own = { fact, point };
    if (before !== undefined) truth.observations.add("command-repeated");
    checkOrder(own, commandId);
    if (isCover(own, commandId)) {
      done.set(commandId, before ?? own);
      return;
    }
    const differs =
      before !== undefined && before.point !== point && result.changed && isChange(before) && isKept(before);
    // While an old primary acknowledges next to the new one, each history may carry out the command.
    if (differs && truth.zombies.size === 0)
      findings.add(9, `command ${commandId} is answered in two ways`, [before.fact, fact]);
    if (result.changed && !(made.get(commandId) ?? []).some((each) => each.point === point))
      findings.add(9, `command ${commandId} is answered with ${formatLink(result.link)}, which it did not make`, [
        fact,
      ]);
    done.set(commandId, own);
    if (result.changed && chains.contains(truth.head, point)) {
      if (newest === null || !isKept(newest) || point.link.position > newest.point.link.position) newest = own;
    }
  }

  /**
   * True if the answer covers a truncated event. The log no longer holds the command's own event there, so the answer
   * may name any later point.
   */
  function isCover({ point }: Done, commandId: string): boolean {
    const there = (made.get(commandId) ?? []).find((each) => chains.contains(point, each.point));
    return there !== undefined && there.point !== point && there.point.link.position < first;
  }

  /** 10: if x was acknowledged before a client submitted y, then y follows x in the log. */
  function checkOrder({ fact, point }: Done, commandId: string): void {
    const invoked = requested.get(commandId);
    const x = invoked?.after;
    if (invoked === undefined || !x || !isKept(x) || !chains.contains(truth.head, point)) return;
    truth.observations.add("command-order-checked");
    if (point.link.position >= x.point.link.position) return;
    const what = `command ${commandId} stands at ${point.link.position}, and was asked after ${x.point.link.position} was acknowledged`;
    findings.add(10, what, [x.fact, invoked.fact, fact]);
  }

  function isChange({ fact }: Done): boolean {
    return fact.result.type === "done" && fact.result.changed;
  }
  function isKept({ point }: Done): boolean {
    return chains.contains(truth.head, point);
  }

  function checkEnd(): void {
    for (const each of done.values()) {
      if (!isChange(each)) continue;
      truth.observations.add("command-kept");
      if (isKept(each)) continue;
      const excused = truth.lost.some((tip) => chains.contains(tip, each.point));
      if (excused) losses.acknowledged += 1;
      else findings.add(3, `${formatLink(each.point.link)} was acknowledged and is not in the log`, [each.fact]);
    }
  }

  return {
    invariants: [3, 9, 10],
    before: { "run-over": checkEnd },
    after: {
      wrote: checkWritten,
      truncated: (fact) => {
        first = Math.max(first, fact.first);
      },
      "command-invoked": (fact) => {
        if (!requested.has(fact.commandId)) requested.set(fact.commandId, { fact, after: newest });
      },
      "command-answered": checkAnswer,
    },
  };
}

/** 11: a process forwards and builds on acknowledged events only, and its pages have no gap. */
export function watchHorizon(truth: GroundTruth): Monitor {
  const { chains, findings, observations } = truth;
  type Served = SimFactOf<
    | "append-sent"
    | "published"
    | "page-served"
    | "snapshot-built"
    | "grant-sent"
    | "receipt-answered"
    | "applied"
    | "rebuilt"
  >;

  function check(link: Served extends never ? never : LogPoint["link"], fact: Served, what: string): void {
    const point = truth.find(link);
    const server = truth.primary === null ? undefined : truth.serverHead(truth.primary);
    if (server !== undefined && server.link.position > truth.head.link.position) observations.add("served-near-head");
    if (point !== undefined && chains.isAcknowledged(point)) return;
    const why = point === undefined ? "no server ever wrote it" : "no commit behind it was clean";
    findings.add(11, `${fact.process} ${what} ${formatLink(link)}: ${why}`, [fact]);
  }

  function checkPage(fact: SimFactOf<"page-served">): void {
    if (fact.outcome !== "page") return;
    if (fact.count > 0) check(fact.last, fact, "hands out");
    if (fact.count > 1) observations.add("page-of-many");
    const [after, last] = [truth.find(fact.after), truth.find(fact.last)];
    if (after === undefined || last === undefined) return; // the caller made up the link, or it was reported above
    if (!chains.contains(last, after) || last.link.position - after.link.position !== fact.count)
      findings.add(
        1,
        `${fact.process} hands out ${fact.count} events from ${formatLink(fact.after)} to ${formatLink(fact.last)}`,
        [fact],
      );
  }

  return {
    invariants: [11, 1],
    before: {
      "append-sent": (fact) => check(fact.previous, fact, "has an append stand behind"),
      published: (fact) => check(fact.last, fact, "publishes"),
      "page-served": checkPage,
      "snapshot-built": (fact) => check(fact.link, fact, "saves"),
      "grant-sent": (fact) => check(fact.head, fact, "grants on"),
      applied: (fact) => check(fact.to, fact, "applies"),
      rebuilt: (fact) => check(fact.to, fact, "is rebuilt to"),
      "receipt-answered": (fact) => {
        if (fact.answer.link !== null && fact.answer.status !== "lost")
          check(fact.answer.link, fact, "gives a receipt for");
      },
    },
  };
}
