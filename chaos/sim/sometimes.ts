/**
 * Sometimes checks: situations that a run of many seeds must reach. Without them the run proves less than it claims.
 *
 * - They read the same facts as the monitors, right after them, and the monitors' ground truth.
 * - `within` is the number of seeds after which a missing situation is an error. It is a few times the number observed
 *   at the last change of the fault plan.
 */
import type { ProcessName, SimFact, SimFactOf, SimMs } from "./facts.ts";
import type { GroundTruth } from "./monitors/index.ts";
import { OutsideSituations, outsideSituations } from "./outside/outside-situations.ts";
import { RegionSituations, regionSituations } from "./region-situations.ts";

export type Situation = keyof typeof situations;

export const situations = {
  "receipt-by-expiry": { within: 20, what: "a receipt was complete because a lease had expired" },
  "receipt-incomplete": { within: 20, what: "a receipt named a node that had not confirmed" },
  "grant-after-pause": { within: 20, what: "a grant arrived after a pause, for a renew sent before it" },
  "page-across-epochs": { within: 20, what: "a node caught up across the start of an epoch" },
  "node-ahead": { within: 100, what: "a node held events that the surviving log lacks" },
  "two-leaders": { within: 20, what: "two live processes both thought that they led" },
  "snapshot-in-failover": { within: 100, what: "a snapshot was loaded while no broker led" },
  "indeterminate-committed": { within: 50, what: "a write without a clear answer is in the log" },
  "indeterminate-lost": { within: 50, what: "a write without a clear answer is not in the log" },
  "lost-token": { within: 100, what: "a token of a lost suffix was presented and refused" },
  "served-in-grace": { within: 20, what: "a node without a fresh lease served within its grace" },
  "outlived-leader": { within: 50, what: "a cut-off node served in its grace after its leader had been replaced" },
  "forged-refused": { within: 20, what: "a forged message was refused" },
  "replayed-refused": { within: 20, what: "a message that was replayed or sent to another receiver was refused" },
  "consumer-cut": { within: 100, what: "a slow consumer was cut" },
  "buffer-lost": { within: 100, what: "the replay buffer lost its newest entries, or all of them" },
  reasserted: { within: 100, what: "a lost tightening was appended again" },
  "reader-recovered": { within: 1_000, what: "a reader behind retention loaded a snapshot and continued" },
  "drift-refused": { within: 1_500, what: "a node whose clock runs at another rate was refused its lease" },
  "wall-clock-refused": { within: 100, what: "a node whose wall clock was off stopped being fresh" },
  "suspend-noticed": { within: 50, what: "a machine slept, and its node permitted nothing before the next grant" },
  "upgrade-finished": { within: 200, what: "a rolling upgrade was finished, and its level finalized" },
  "finalize-refused": { within: 200, what: "a level was not finalized, because a process could not read it" },
  "left-behind": { within: 200, what: "a node that could not read the finalized level was refused its lease" },
  "unknown-obeyed": { within: 100, what: "a node obeyed a final event of a type that it does not know" },
  "unknown-ended-freshness": { within: 100, what: "an event that a node could not read ended its freshness" },
  "hung-commit": { within: 50, what: "a commit hung for more than a second" },
  "writer-fenced": { within: 50, what: "a deposed leader's write was refused" },
  "old-primary-wrote": { within: 100, what: "an old primary wrote after another had been promoted" },
  "acknowledged-lost": { within: 100, what: "a promotion without proof lost acknowledged events" },
  restored: { within: 100, what: "the log was restored from a backup" },
  "repeated-command": { within: 50, what: "a command that was sent again got its first answer" },
  "sent-ahead": { within: 20, what: "a batch was sent that was prepared while the previous one was in flight" },
  "thrown-away": { within: 50, what: "a batch was discarded because the previous one was not written" },
  "boot-removed": { within: 50, what: "a boot left the lessees by its goodbye, or because another boot replaced it" },
  "stream-cut": { within: 5, what: "a live stream was cut by a revocation" },
  "folded-while-building": { within: 10, what: "a batch was folded while a snapshot was being built" },
  "builder-killed": { within: 50, what: "a broker was killed while it built a snapshot" },
  "builder-deposed": { within: 50, what: "a leader was deposed while it built a snapshot" },
  "snapshot-not-stored": { within: 50, what: "the disk did not store a snapshot" },
  "duty-after-epoch": { within: 50, what: "a duty submitted a command after its epoch had ended, and was refused" },
  "released-early": { within: 100, what: "emptied names released a commit that waited for a standby" },
  "names-without-wait": { within: 100, what: "a commit did not wait, though the names were set" },
  "said-asynchronous": {
    within: 100,
    what: "a receipt said asynchronous of a change that no standby provably held",
  },
  "disk-snapshot": { within: 100, what: "a node started from the snapshot on its disk" },
  ...regionSituations,
  ...outsideSituations,
} as const;

const pauseNoticedMs = 1_300;
const suspendNoticedMs = 300;
const wallOffMsMax = 3_000;

/** The situations reached by one run, with the time of the first occurrence. */
export class Sometimes {
  readonly reached = new Map<Situation, SimMs>();
  readonly #truth: GroundTruth;
  readonly #regions: RegionSituations;
  readonly #outside = new OutsideSituations((situation) => this.#reach(situation));
  readonly #paused = new Map<ProcessName, SimFactOf<"paused">>();
  readonly #resumed = new Map<ProcessName, SimFactOf<"resumed"> & Readonly<{ how: string }>>();
  readonly #renews = new Map<ProcessName, Map<number, SimMs>>();
  readonly #leading = new Map<ProcessName, number>();
  readonly #granted = new Map<ProcessName, SimFactOf<"grant-received">>();
  readonly #forged = new Map<ProcessName, SimFactOf<"forged">>();
  readonly #truncated = new Map<ProcessName, "told" | "loaded">();
  /** Processes that build a snapshot, with the number of batches folded meanwhile. */
  readonly #building = new Map<ProcessName, number>();
  /** Commands of duties whose epoch had ended. */
  readonly #late = new Set<string>();
  readonly #walls = new Map<ProcessName, number>();
  readonly #wrote = new Map<number, SimFactOf<"wrote">>();
  readonly #clean = new Set<number>();
  readonly #unclear: SimFactOf<"log-answered">[] = [];
  /** Number of standbys that the names require. */
  #named = 0;
  /** Ids of open requests whose token links to a lost suffix of the log. */
  readonly #lostTokens = new Set<number>();

  constructor(truth: GroundTruth) {
    this.#truth = truth;
    this.#regions = new RegionSituations(truth, (situation) => this.#reach(situation));
  }

  report(fact: SimFact): void {
    this.#regions.report(fact);
    this.#outside.report(fact);
    switch (fact.type) {
      case "receipt-answered":
        if (fact.answer.complete && fact.answer.nodes.some(({ status }) => status === "fenced"))
          this.#reach("receipt-by-expiry");
        if (fact.answer.nodes.some(({ status }) => status === "unconfirmed")) this.#reach("receipt-incomplete");
        return;
      case "page-served":
        this.#page(fact);
        return;
      case "rebuilding": {
        const lost = this.#truth.find(fact.lost);
        if (lost !== undefined && !this.#truth.chains.contains(this.#truth.head, lost)) this.#reach("node-ahead");
        return;
      }
      case "leading":
        if (fact.leading) this.#leading.set(fact.process, fact.epoch);
        else this.#leading.delete(fact.process);
        if (!fact.leading && this.#building.has(fact.process)) this.#reach("builder-deposed");
        if (this.#leading.size > 1) this.#reach("two-leaders");
        return;
      case "killed":
        this.#leading.delete(fact.process);
        this.#truncated.delete(fact.process);
        if (this.#building.delete(fact.process)) this.#reach("builder-killed");
        this.#resumed.delete(fact.process);
        this.#granted.delete(fact.process);
        return;
      case "snapshot-loaded":
        if (this.#leading.size === 0) this.#reach("snapshot-in-failover");
        if (fact.from === "disk") this.#reach("disk-snapshot");
        if (this.#truncated.has(fact.process)) this.#truncated.set(fact.process, "loaded");
        return;
      case "applied":
        this.#applied(fact);
        return;
      case "request-began":
        this.#began(fact);
        return;
      case "decided":
        this.#decided(fact);
        return;
      case "reasserted":
        if (fact.outcome === "appended") this.#reach("reasserted");
        return;
      case "command-answered":
        if (fact.result.type === "refused" && /is not finalized/.test(fact.result.message))
          this.#reach("finalize-refused");
        return;
      case "made-ahead":
        this.#reach(fact.became === "sent" ? "sent-ahead" : "thrown-away");
        return;
      case "boot-left":
        this.#reach("boot-removed");
        return;
      case "exchange-ended":
        if (fact.how === "cut" && this.#truth.up.get(fact.process)?.role === "node") this.#reach("stream-cut");
        return;
      case "nats-happened":
        if (fact.what === "consumer-cut") this.#reach("consumer-cut");
        if (fact.what === "suffix-lost" || fact.what === "stream-lost") this.#reach("buffer-lost");
        return;
      default:
        this.#duties(fact);
        this.#clocksAndMessages(fact);
        this.#log(fact);
    }
  }

  #duties(fact: SimFact): void {
    switch (fact.type) {
      case "snapshot-begun":
        this.#building.set(fact.process, 0);
        return;
      case "snapshot-built":
        if (fact.id !== null && (this.#building.get(fact.process) ?? 0) > 0) this.#reach("folded-while-building");
        if (fact.id !== null) this.#building.delete(fact.process);
        return;
      case "snapshot-given-up":
        this.#building.delete(fact.process);
        if (/the disk is full/.test(fact.reason)) this.#reach("snapshot-not-stored");
        return;
      case "duty-submitted":
        if (this.#leading.get(fact.process) !== fact.epoch) this.#late.add(fact.commandId);
        return;
      case "duty-answered":
        if (this.#late.delete(fact.commandId) && fact.outcome === "unavailable") this.#reach("duty-after-epoch");
        return;
      default:
    }
  }

  #clocksAndMessages(fact: SimFact): void {
    switch (fact.type) {
      case "paused":
        if (!this.#paused.has(fact.process)) this.#paused.set(fact.process, fact);
        return;
      case "resumed": {
        const how = this.#paused.get(fact.process)?.how ?? "stopped";
        this.#paused.delete(fact.process);
        if (fact.pausedMs > (how === "stopped" ? pauseNoticedMs : suspendNoticedMs))
          this.#resumed.set(fact.process, { ...fact, how });
        return;
      }
      case "clock-set":
        this.#walls.set(fact.process, fact.wallOffsetMs);
        return;
      case "renew-sent": {
        const sent = this.#renews.get(fact.process) ?? new Map<number, SimMs>();
        this.#renews.set(fact.process, sent.set(fact.nonce, fact.at));
        if (sent.size > 64) sent.delete(sent.keys().next().value ?? 0);
        return;
      }
      case "grant-received":
        this.#grant(fact);
        return;
      case "grant-refused":
        if (/clock runs/.test(fact.reason)) this.#reach("drift-refused");
        else if (/has finalized level/.test(fact.reason)) this.#reach("left-behind");
        else this.#refused(fact.process, fact.at);
        return;
      case "forged":
        this.#forged.set(fact.to, fact);
        return;
      case "message-refused":
        this.#refused(fact.process, fact.at);
        return;
      default:
    }
  }

  #log(fact: SimFact): void {
    switch (fact.type) {
      case "wrote":
        this.#wrote.set(fact.txn, fact);
        if (this.#truth.primary !== null && fact.process !== this.#truth.primary) this.#reach("old-primary-wrote");
        return;
      case "committed-cleanly": {
        this.#clean.add(fact.txn);
        const wrote = this.#wrote.get(fact.txn);
        if (wrote !== undefined && fact.at - wrote.at > 1_000) this.#reach("hung-commit");
        if (wrote?.entries.some(({ recorded }) => recorded.type === "UpgradeFinalized") === true)
          this.#reach("upgrade-finished");
        if (this.#named > 0 && this.#truth.synchronous === 0) this.#reach("names-without-wait");
        return;
      }
      case "log-answered":
        if (fact.outcome === "fenced") this.#reach("writer-fenced");
        if (fact.outcome === "duplicate-command") this.#reach("repeated-command");
        if (fact.outcome === "indeterminate" && fact.op === "append") this.#unclear.push(fact);
        return;
      case "names-set":
        this.#named = fact.standbys;
        return;
      case "synchronous-set":
        if ((fact.released ?? 0) > 0) this.#reach("released-early");
        return;
      case "receipt-signed":
        if (this.#named > 0 && fact.durability === "asynchronous") this.#reach("said-asynchronous");
        return;
      case "promoted":
        if (fact.how === "restored") this.#reach("restored");
        if (this.#truth.lost.length > 0) this.#reach("acknowledged-lost");
        return;
      case "run-over":
        for (const { txn } of this.#unclear) {
          const wrote = txn === null ? undefined : this.#wrote.get(txn);
          const point = wrote && this.#truth.find(wrote.head);
          const isThere = point !== undefined && this.#truth.chains.contains(this.#truth.head, point);
          if (isThere) this.#reach("indeterminate-committed");
        }
        // The writer got no clear answer, and no later primary has the record.
        for (const { txn, op, head } of this.#wrote.values()) {
          if (op !== "append" || this.#clean.has(txn)) continue;
          const point = this.#truth.find(head);
          if (point !== undefined && !this.#truth.chains.contains(this.#truth.head, point))
            this.#reach("indeterminate-lost");
        }
        return;
      default:
    }
  }

  #page(fact: SimFactOf<"page-served">): void {
    const { after, last, to, outcome } = fact;
    if (this.#truth.up.get(to)?.role !== "node") return;
    if (outcome === "truncated") this.#truncated.set(to, "told");
    if (outcome === "page" && after.position > 0 && after.epoch < last.epoch) this.#reach("page-across-epochs");
  }

  #applied(fact: SimFactOf<"applied">): void {
    const folded = this.#building.get(fact.process);
    if (folded !== undefined) this.#building.set(fact.process, folded + 1);
    if (this.#truncated.get(fact.process) === "loaded") {
      this.#reach("reader-recovered");
      this.#truncated.delete(fact.process);
    }
    const node = this.#truth.nodes.get(fact.process);
    if (node === undefined || node.unknownTypes.size === 0) return;
    const { chains } = this.#truth;
    const [from, to] = [this.#truth.find(fact.from), this.#truth.find(fact.to)];
    if (from === undefined || to === undefined) return;
    for (const { recorded } of chains.backwards(to, from)) {
      if (recorded === null || !node.unknownTypes.has(recorded.type)) continue;
      if (recorded.effect === "tightens") this.#reach("unknown-obeyed");
      if (recorded.effect === "either") this.#reach("unknown-ended-freshness");
    }
  }

  #decided(fact: SimFactOf<"decided">): void {
    const { process, verdict, overdueMs } = fact;
    if (verdict === "permit") {
      if (overdueMs <= 0) return;
      this.#reach("served-in-grace");
      const granted = this.#granted.get(process);
      const head = this.#truth.head.link;
      if (granted !== undefined && granted.epoch < head.epoch) this.#reach("outlived-leader");
      return;
    }
    if (verdict === "unavailable") {
      const resumed = this.#resumed.get(process);
      if (resumed?.how === "suspended") this.#reach("suspend-noticed");
      if (Math.abs(this.#walls.get(process) ?? 0) > wallOffMsMax) this.#reach("wall-clock-refused");
    }
    if (this.#lostTokens.delete(fact.request)) this.#reach("lost-token");
  }

  #began(fact: SimFactOf<"request-began">): void {
    const point = this.#truth.find(fact.token);
    if (point === undefined || this.#truth.chains.contains(this.#truth.head, point)) return;
    this.#lostTokens.add(fact.request);
  }

  #grant(fact: SimFactOf<"grant-received">): void {
    if (!fact.taken) this.#refused(fact.process, fact.at);
    else this.#granted.set(fact.process, fact);
    const sentAt = this.#renews.get(fact.process)?.get(fact.nonce);
    const resumed = this.#resumed.get(fact.process);
    if (sentAt === undefined || resumed === undefined) return;
    if (sentAt <= resumed.at - resumed.pausedMs) this.#reach("grant-after-pause");
    else if (fact.taken) this.#resumed.delete(fact.process);
  }

  #refused(process: ProcessName, at: SimMs): void {
    const forged = this.#forged.get(process);
    if (forged === undefined || at - forged.at > 1_000) return;
    this.#reach(forged.how === "forged" ? "forged-refused" : "replayed-refused");
    this.#forged.delete(process);
  }

  #reach(situation: Situation): void {
    if (!this.reached.has(situation)) this.reached.set(situation, this.#truth.now);
  }
}

/** The situations reached by many runs together. */
export class Reached {
  readonly counts = new Map<Situation, number>();
  seeds = 0;

  add(run: Iterable<Situation>): void {
    this.seeds += 1;
    for (const situation of run) this.counts.set(situation, (this.counts.get(situation) ?? 0) + 1);
  }

  /** Situations that are due after this number of seeds but never occurred. */
  missing(): readonly Situation[] {
    return (Object.keys(situations) as Situation[]).filter(
      (situation) => this.seeds >= situations[situation].within && !this.counts.has(situation),
    );
  }
}
