/**
 * Durability monitor: checks each receipt that says `synchronous` against the servers' disks and against later
 * failovers.
 *
 * It uses only what each server has flushed and the standby names in force. It ignores everything that a server or a
 * session reports about itself.
 */
import type { Receipt } from "../../../src/replication/index.ts";
import type { ProcessName, SimFact, SimFactOf } from "../facts.ts";
import type { LogPoint } from "./chains.ts";
import type { GroundTruth } from "./ground-truth.ts";
import { formatLink } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";

type ConcludedReceipt = {
  readonly fact: SimFactOf<"receipt-answered">;
  readonly point: LogPoint;
  /**
   * Number of standbys that the names required when, after the receipt was concluded, that many first held the point.
   * Null: there was no such moment.
   */
  heldBy: number | null;
};
type DurablePromise = Readonly<{ fact: SimFactOf<"receipt-signed">; point: LogPoint; standbys: number }>;

/** Bounds the receipts that wait for a signature: a killed broker never signs its receipts. */
const concludedMax = 1_000;

export function watchDurability(truth: GroundTruth): Monitor {
  const { chains, findings, observations } = truth;
  const disks = new Map<ProcessName, LogPoint>();
  const concluded = new Map<Receipt, ConcludedReceipt>();
  let promised: DurablePromise[] = [];
  /** Standbys that the current names require. A session learns of a change with its next statement. */
  let named = 0;

  function holders(point: LogPoint): number {
    let count = 0;
    for (const disk of disks.values()) if (chains.contains(disk, point)) count += 1;
    return count;
  }

  function recheck(each: ConcludedReceipt): void {
    if (each.heldBy === null && named > 0 && holders(each.point) > named) each.heldBy = named;
  }

  function recheckAll(): void {
    for (const each of concluded.values()) recheck(each);
  }

  function diskChanged(fact: SimFact, point: LogPoint | undefined): void {
    if (point === undefined || disks.get(fact.process) === point) return;
    disks.set(fact.process, point);
    recheckAll();
  }

  function conclude(fact: SimFactOf<"receipt-answered">): void {
    const point = fact.answer.link === null ? undefined : truth.find(fact.answer.link);
    if (point === undefined) return;
    const each: ConcludedReceipt = { fact, point, heldBy: null };
    concluded.set(fact.answer, each);
    recheck(each);
    const [oldest] = concluded.keys();
    if (concluded.size > concludedMax && oldest !== undefined) concluded.delete(oldest);
  }

  function check(fact: SimFactOf<"receipt-signed">): void {
    const each = concluded.get(fact.answer);
    concluded.delete(fact.answer);
    if (fact.durability !== "synchronous") return;
    observations.add("durability-checked");
    if (each === undefined) {
      findings.add("durability-true", `${fact.process} calls synchronous what was never written`, [fact]);
      return;
    }
    const { point, heldBy } = each;
    if (heldBy === null) {
      const what = `${fact.process} calls ${formatLink(point.link)} synchronous; ${holders(point)} servers hold it, and the names ask for ${named} standbys`;
      findings.add("durability-true", what, [each.fact, fact]);
      return;
    }
    const primary = truth.primary === null ? undefined : disks.get(truth.primary);
    if (primary !== undefined && chains.contains(primary, point)) promised.push({ fact, point, standbys: heldBy });
  }

  /** The furthest of any n − k + 1 stopped standbys holds what k of n held. A forced promotion may lose it. */
  function promote(fact: SimFactOf<"promoted">): void {
    if (fact.how === "initial" || fact.how === "restarted") return;
    const head = truth.find(fact.head) ?? chains.genesis;
    const { stopped } = fact;
    if (stopped !== undefined && promised.length > 0) observations.add("durable-across-promotion");
    promised = promised.filter((each) => {
      if (chains.contains(head, each.point)) return true;
      if (stopped !== undefined && stopped.count > stopped.of - each.standbys) {
        const what = `${fact.process}, the furthest of ${stopped.count} standbys, lacks ${formatLink(each.point.link)}, which ${each.fact.process} called synchronous`;
        findings.add("durability-true", what, [each.fact, fact]);
      }
      return false;
    });
  }

  return {
    invariants: ["durability-true"],
    before: { promoted: promote },
    after: {
      wrote: (fact) => diskChanged(fact, truth.serverHead(fact.process)),
      "standby-flushed": (fact) => diskChanged(fact, truth.find(fact.head)),
      promoted: (fact) => diskChanged(fact, truth.find(fact.head)),
      "names-set": (fact) => {
        named = fact.standbys;
        recheckAll();
      },
      "receipt-answered": conclude,
      "receipt-signed": check,
    },
  };
}
