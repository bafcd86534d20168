/**
 * Command monitors: invariants 3, 9 and 10.
 *
 * - 3: the log keeps every acknowledged command.
 * - 9: a command is carried out once, and all its answers agree.
 * - 10: commands keep the order in which clients submitted them.
 */
import type { SimFactOf } from "../facts.ts";
import type { Place } from "./chains.ts";
import { told } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import type { Scene } from "./scene.ts";

type Done = Readonly<{ fact: SimFactOf<"command-answered">; place: Place }>;

/** Acknowledged commands that promotions without proof have lost. The report counts them; they are no violation. */
export type Losses = { acknowledged: number };

export function watchCommands(scene: Scene, losses: Losses): Monitor {
  const { chains, findings } = scene;
  const made = new Map<string, { place: Place; fact: SimFactOf<"wrote"> }[]>();
  const done = new Map<string, Done>();
  /** By command: its first submission, and the newest acknowledged answer at that time. */
  const asked = new Map<string, Readonly<{ fact: SimFactOf<"command-invoked">; after: Done | null }>>();
  let newest: Done | null = null;
  /** First position of the log on the server that has truncated most. */
  let first = 1;

  /** 9: a command id occurs at most once in a lineage. */
  function judgeWritten(fact: SimFactOf<"wrote">): void {
    for (const { commandId, first, count } of fact.commands) {
      if (count === 0) continue;
      const entry = fact.entries.find(({ recorded }) => recorded.position === first + count - 1);
      const place = entry && scene.find(entry.recorded);
      if (place === undefined) continue;
      const list = made.get(commandId) ?? [];
      made.set(commandId, list);
      if (list.some((each) => each.place === place)) continue;
      const before = list.find((each) => chains.contains(place, each.place));
      if (before !== undefined) {
        const what = `command ${commandId} is carried out at ${place.link.position}, and was at ${before.place.link.position}`;
        findings.add(9, what, [before.fact, fact]);
      }
      list.push({ place, fact });
    }
  }

  function judgeAnswer(fact: SimFactOf<"command-answered">): void {
    const { result, commandId } = fact;
    if (result.type !== "done") return;
    const place = scene.find(result.link);
    if (place === undefined || !chains.isAcknowledged(place)) {
      findings.add(3, `command ${commandId} is answered with ${told(result.link)}, which is not acknowledged`, [fact]);
      return;
    }
    const before = done.get(commandId);
    const own = { fact, place };
    if (before !== undefined) scene.looks.add("command-again");
    judgeOrder(own, commandId);
    if (isCover(own, commandId)) {
      done.set(commandId, before ?? own);
      return;
    }
    const differs =
      before !== undefined && before.place !== place && result.changed && isChange(before) && isKept(before);
    // While an old primary acknowledges next to the new one, each history may carry out the command.
    if (differs && scene.zombies.size === 0)
      findings.add(9, `command ${commandId} is answered in two ways`, [before.fact, fact]);
    if (result.changed && !(made.get(commandId) ?? []).some((each) => each.place === place))
      findings.add(9, `command ${commandId} is answered with ${told(result.link)}, which it did not make`, [fact]);
    done.set(commandId, own);
    if (result.changed && chains.contains(scene.head, place)) {
      if (newest === null || !isKept(newest) || place.link.position > newest.place.link.position) newest = own;
    }
  }

  /**
   * True if the answer covers a truncated event. The log no longer holds the command's own event there, so the answer
   * may name any later place.
   */
  function isCover({ place }: Done, commandId: string): boolean {
    const there = (made.get(commandId) ?? []).find((each) => chains.contains(place, each.place));
    return there !== undefined && there.place !== place && there.place.link.position < first;
  }

  /** 10: if x was acknowledged before a client submitted y, then y follows x in the log. */
  function judgeOrder({ fact, place }: Done, commandId: string): void {
    const question = asked.get(commandId);
    const x = question?.after;
    if (question === undefined || !x || !isKept(x) || !chains.contains(scene.head, place)) return;
    scene.looks.add("command-ordered");
    if (place.link.position >= x.place.link.position) return;
    const what = `command ${commandId} stands at ${place.link.position}, and was asked after ${x.place.link.position} was acknowledged`;
    findings.add(10, what, [x.fact, question.fact, fact]);
  }

  function isChange({ fact }: Done): boolean {
    return fact.result.type === "done" && fact.result.changed;
  }
  function isKept({ place }: Done): boolean {
    return chains.contains(scene.head, place);
  }

  function judgeEnd(): void {
    for (const each of done.values()) {
      if (!isChange(each)) continue;
      scene.looks.add("command-kept");
      if (isKept(each)) continue;
      const excused = scene.lost.some((tip) => chains.contains(tip, each.place));
      if (excused) losses.acknowledged += 1;
      else findings.add(3, `${told(each.place.link)} was acknowledged and is not in the log`, [each.fact]);
    }
  }

  return {
    invariants: [3, 9, 10],
    before: { "run-over": judgeEnd },
    after: {
      wrote: judgeWritten,
      truncated: (fact) => {
        first = Math.max(first, fact.first);
      },
      "command-invoked": (fact) => {
        if (!asked.has(fact.commandId)) asked.set(fact.commandId, { fact, after: newest });
      },
      "command-answered": judgeAnswer,
    },
  };
}

/** 11: a process forwards and builds on acknowledged events only, and its pages have no gap. */
export function watchHorizon(scene: Scene): Monitor {
  const { chains, findings, looks } = scene;
  type Handed = SimFactOf<
    | "append-sent"
    | "published"
    | "page-served"
    | "snapshot-built"
    | "grant-sent"
    | "receipt-answered"
    | "applied"
    | "rebuilt"
  >;

  function judge(link: Handed extends never ? never : Place["link"], fact: Handed, what: string): void {
    const place = scene.find(link);
    const server = scene.primary === null ? undefined : scene.serverHead(scene.primary);
    if (server !== undefined && server.link.position > scene.head.link.position) looks.add("handed-near-end");
    if (place !== undefined && chains.isAcknowledged(place)) return;
    const why = place === undefined ? "no server ever wrote it" : "no commit behind it was clean";
    findings.add(11, `${fact.process} ${what} ${told(link)}: ${why}`, [fact]);
  }

  function judgePage(fact: SimFactOf<"page-served">): void {
    if (fact.outcome !== "page") return;
    if (fact.count > 0) judge(fact.last, fact, "hands out");
    if (fact.count > 1) looks.add("page-of-many");
    const [after, last] = [scene.find(fact.after), scene.find(fact.last)];
    if (after === undefined || last === undefined) return; // the caller made up the link, or it was reported above
    if (!chains.contains(last, after) || last.link.position - after.link.position !== fact.count)
      findings.add(1, `${fact.process} hands out ${fact.count} events from ${told(fact.after)} to ${told(fact.last)}`, [
        fact,
      ]);
  }

  return {
    invariants: [11, 1],
    before: {
      "append-sent": (fact) => judge(fact.previous, fact, "has an append stand behind"),
      published: (fact) => judge(fact.last, fact, "publishes"),
      "page-served": judgePage,
      "snapshot-built": (fact) => judge(fact.link, fact, "saves"),
      "grant-sent": (fact) => judge(fact.head, fact, "grants on"),
      applied: (fact) => judge(fact.to, fact, "applies"),
      rebuilt: (fact) => judge(fact.to, fact, "is rebuilt to"),
      "receipt-answered": (fact) => {
        if (fact.answer.link !== null && fact.answer.status !== "lost")
          judge(fact.answer.link, fact, "gives a receipt for");
      },
    },
  };
}
