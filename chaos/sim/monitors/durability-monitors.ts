/**
 * Durability monitor: checks each receipt that says `synchronous` against the servers' disks and against later
 * failovers.
 *
 * It uses only what each server has flushed and the standby names in force. It ignores everything that a server or a
 * session reports about itself.
 */
import type { Receipt } from "../../../src/replication/index.ts";
import type { ProcessName, SimFact, SimFactOf } from "../facts.ts";
import type { Place } from "./chains.ts";
import { told } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import type { Scene } from "./scene.ts";

type Concluded = {
  readonly fact: SimFactOf<"receipt-answered">;
  readonly place: Place;
  /**
   * Number of standbys that the names required when, after the receipt was concluded, that many first held the place.
   * Null: there was no such moment.
   */
  heldBy: number | null;
};
type Promised = Readonly<{ fact: SimFactOf<"receipt-signed">; place: Place; standbys: number }>;

/** Bounds the receipts that wait for a signature: a killed broker never signs its receipts. */
const concludedMax = 1_000;

export function watchDurability(scene: Scene): Monitor {
  const { chains, findings, looks } = scene;
  const disks = new Map<ProcessName, Place>();
  const concluded = new Map<Receipt, Concluded>();
  let promised: Promised[] = [];
  /** Standbys that the current names require. A session learns of a change with its next statement. */
  let named = 0;

  function holders(place: Place): number {
    let count = 0;
    for (const disk of disks.values()) if (chains.contains(disk, place)) count += 1;
    return count;
  }

  function lookAt(each: Concluded): void {
    if (each.heldBy === null && named > 0 && holders(each.place) > named) each.heldBy = named;
  }

  function lookAtAll(): void {
    for (const each of concluded.values()) lookAt(each);
  }

  function moved(fact: SimFact, place: Place | undefined): void {
    if (place === undefined || disks.get(fact.process) === place) return;
    disks.set(fact.process, place);
    lookAtAll();
  }

  function conclude(fact: SimFactOf<"receipt-answered">): void {
    const place = fact.answer.link === null ? undefined : scene.find(fact.answer.link);
    if (place === undefined) return;
    const each: Concluded = { fact, place, heldBy: null };
    concluded.set(fact.answer, each);
    lookAt(each);
    const [oldest] = concluded.keys();
    if (concluded.size > concludedMax && oldest !== undefined) concluded.delete(oldest);
  }

  function judge(fact: SimFactOf<"receipt-signed">): void {
    const each = concluded.get(fact.answer);
    concluded.delete(fact.answer);
    if (fact.durability !== "synchronous") return;
    looks.add("durability-judged");
    if (each === undefined) {
      findings.add("durability-true", `${fact.process} calls synchronous what was never written`, [fact]);
      return;
    }
    const { place, heldBy } = each;
    if (heldBy === null) {
      const what = `${fact.process} calls ${told(place.link)} synchronous; ${holders(place)} servers hold it, and the names ask for ${named} standbys`;
      findings.add("durability-true", what, [each.fact, fact]);
      return;
    }
    const primary = scene.primary === null ? undefined : disks.get(scene.primary);
    if (primary !== undefined && chains.contains(primary, place)) promised.push({ fact, place, standbys: heldBy });
  }

  /** The furthest of any n − k + 1 stopped standbys holds what k of n held. A forced promotion may lose it. */
  function promote(fact: SimFactOf<"promoted">): void {
    if (fact.how === "initial" || fact.how === "restarted") return;
    const head = scene.find(fact.head) ?? chains.genesis;
    const { stopped } = fact;
    if (stopped !== undefined && promised.length > 0) looks.add("promise-outlived");
    promised = promised.filter((each) => {
      if (chains.contains(head, each.place)) return true;
      if (stopped !== undefined && stopped.count > stopped.of - each.standbys) {
        const what = `${fact.process}, the furthest of ${stopped.count} standbys, lacks ${told(each.place.link)}, which ${each.fact.process} called synchronous`;
        findings.add("durability-true", what, [each.fact, fact]);
      }
      return false;
    });
  }

  return {
    invariants: ["durability-true"],
    before: { promoted: promote },
    after: {
      wrote: (fact) => moved(fact, scene.serverHead(fact.process)),
      "standby-flushed": (fact) => moved(fact, scene.find(fact.head)),
      promoted: (fact) => moved(fact, scene.find(fact.head)),
      "names-set": (fact) => {
        named = fact.standbys;
        lookAtAll();
      },
      "receipt-answered": conclude,
      "receipt-signed": judge,
    },
  };
}
