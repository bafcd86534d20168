/**
 * Region core: a regional broker as a state machine, beside the node core that keeps its own copy of the log.
 *
 * It decides what the region's copy keeps, which pages a reading node gets, and when a node's message is answered
 * without the leader. It also decides when the age mark is on the disk, when the region enforces a change, and which
 * revocations the region accepts by itself.
 *
 * Pure: no I/O, clock, timer, randomness or promise. `step` takes one input and returns the effects; the shell
 * (regional-broker.ts, or the simulator) performs them and feeds every result back. The shell passes the region's copy
 * of the log to the core as a store that answers synchronously. The core changes its state in place: after a step, use
 * only the core that the step returned.
 */
import { type Link, type MonotonicMs, unreachable } from "../../events/index.ts";
import { RegionalGranter, type RegionalNodeStatus } from "../../replication/lease/index.ts";
import type { SolePathClaim } from "../../replication/wire/index.ts";
import { HomeWatch } from "./home-watch.ts";
import type { RegionCopy } from "./region-copy.ts";
import { RegionLeases } from "./region-leases.ts";
import type { HomeAnswer, RegionEffect, RegionInput } from "./region-messages.ts";
import { RegionNodes } from "./region-nodes.ts";
import { RegionPages } from "./region-pages.ts";
import { RegionReaders } from "./region-readers.ts";
import { RegionRevocations, type RevocationOptions } from "./region-revocations.ts";
import { RegionStepContext } from "./region-step-context.ts";

export type RegionCoreOptions = Readonly<{
  copy: RegionCopy;
  /** The age mark on the disk, possibly left by an earlier boot. */
  mark: "none" | "on the disk";
  /** The version of this build; nodes of another build may fold to another digest. */
  version: string;
  renewMs: number;
  /** Null or absent: this broker accepts no revocation by itself. */
  revocations?: RevocationOptions | null;
}>;

/** The state of a regional broker. Changed in place by `step`. */
export type RegionCore = Region;

export function newRegionCore(options: RegionCoreOptions): RegionCore {
  return new Region(options);
}

export function step(core: RegionCore, input: RegionInput): readonly [RegionCore, readonly RegionEffect[]] {
  return [core, core.take(input)];
}

class Region {
  /** `none`: an earlier boot may have granted by age, so the leader must wait for its window. */
  readonly replaces: "last boot" | "none";
  readonly #context = new RegionStepContext();
  readonly #copy: RegionCopy;
  readonly #home: HomeWatch;
  readonly #leases: RegionLeases;
  readonly #readers: RegionReaders;
  readonly #pages: RegionPages;
  readonly #revocations: RegionRevocations | null;
  #failures = 0;
  #stopping = false;

  constructor({ copy, mark, version, renewMs, revocations = null }: RegionCoreOptions) {
    this.replaces = mark === "on the disk" ? "none" : "last boot";
    this.#copy = copy;
    this.#home = new HomeWatch(renewMs);
    const granter = new RegionalGranter(revocations?.stored.store ?? null);
    const holds = (link: Link): boolean => copy.holds(link);
    const leaderAnswers = (): boolean => this.#home.leaderAnswers(this.#context.now);
    const isForgotten = (link: Link): boolean => link.position < copy.base.position;
    const isAhead = (link: Link): boolean => link.position > copy.head.position;
    const parts = { nodes: new RegionNodes(granter), leaderAnswers, holds, isForgotten, isAhead };
    this.#revocations = revocations === null ? null : new RegionRevocations(this.#context, revocations, parts);
    this.#leases = new RegionLeases(this.#context, { granter, version, mark, holds, revocations: this.#revocations });
    this.#readers = new RegionReaders(this.#context, copy);
    this.#pages = new RegionPages(this.#context, { copy, readers: this.#readers });
  }

  /** Whether the leader answers at present, so that a request to it makes sense. */
  leaderAnswers(now: MonotonicMs): boolean {
    return this.#home.leaderAnswers(now);
  }
  /** No broker of the home region answers, not even that no broker leads. */
  isHomeOutOfReach(now: MonotonicMs): boolean {
    return this.#home.isOutOfReach(now);
  }
  /** Since the leader's last answer. Null before the first one. */
  homeSilentMs(now: MonotonicMs): number | null {
    return this.#home.leaderSilentMs(now);
  }
  /** The longest window that a node of the region requests; 0: no node has requested one. */
  windowMs(now: MonotonicMs): number {
    return this.#leases.windowMs(now);
  }
  /** When the last lease by age ends that may count now; `now`: none counts. */
  leasedUntil(now: MonotonicMs): number {
    return this.#leases.leasedUntil(now);
  }
  standings(now: MonotonicMs): readonly RegionalNodeStatus[] {
    return this.#leases.standings(now);
  }
  /** Revocations that the region accepted by itself and that the log does not have yet, as far as this broker knows. */
  get localUnmerged(): number {
    return this.#revocations?.unmerged ?? 0;
  }
  /** What this broker's own renew says of the sole path (replication/lease/region-paths.ts). */
  solePathClaim(now: MonotonicMs): Pick<SolePathClaim, "wanted" | "retained"> {
    return this.#revocations?.solePathClaim(now) ?? { wanted: false, retained: false };
  }
  counts(now: MonotonicMs): Readonly<Record<string, number>> {
    return {
      ...this.#pages.counts,
      pagesServed: this.#readers.pagesServed,
      ...this.#leases.counts,
      leasesByAge: this.#leases.leased(now),
      ...this.#revocations?.counts,
      coreFailures: this.#failures,
    };
  }

  take(input: RegionInput): readonly RegionEffect[] {
    this.#context.begin(input);
    const copied = this.#copy.head;
    this.#revocations?.begin();
    this.#home.begin(this.#context.now);
    try {
      this.#dispatch(input);
      if (this.#copy.head !== copied && !this.#stopping) this.#revocations?.logCopied();
    } catch (error) {
      this.#failures += 1;
      this.#context.emit({ type: "broken", error });
    }
    if (!this.#stopping) this.#reportHome();
    return this.#context.end();
  }

  /** One line when the home region goes out of reach, and one when it answers again. */
  #reportHome(): void {
    const { now } = this.#context;
    const change = this.#home.drainChange(now);
    this.#context.wakeBy(this.#home.outOfReachAt);
    if (change === null) return;
    const silentMs = Math.round(change.silentMs);
    const outOfReach = change.state === "out of reach";
    this.#context.emit({
      type: "log",
      level: outOfReach ? "warn" : "info",
      message: outOfReach
        ? "the home region is out of reach; granting leases by age until this broker's own lease ends"
        : "the home region answers again; the leader grants the leases",
      fields: { silentMs },
    });
  }

  #dispatch(input: RegionInput): void {
    switch (input.type) {
      case "woke":
        this.#pages.woke();
        this.#leases.woke();
        this.#readers.serveAll();
        this.#revocations?.woke();
        return;
      case "ownReadAsked":
        this.#pages.readForOwn(input);
        return;
      case "readAsked":
        this.#readers.read(input, () => !this.#home.isOutOfReach(this.#context.now));
        return;
      case "readGivenUp":
        this.#readers.giveUp(input.id);
        return;
      case "nodeMessage":
        this.#leases.nodeMessage(input, () => this.#home.leaderAnswers(this.#context.now));
        this.#revocations?.nodesChanged();
        return;
      case "leaderAnswered":
        this.#home.recordLeaderAnswer(this.#context.now);
        return;
      case "homeBrokerAnswered":
        this.#home.recordBrokerAnswer(this.#context.now);
        return;
      case "homeAnswered":
        this.#homeAnswered(input.id, input.answer);
        return;
      case "changed":
        this.#readers.serveAll();
        this.#leases.changed(input);
        this.#revocations?.logMoved(input);
        return;
      case "delivered":
        this.#pages.keep(input.batch);
        return;
      case "replayed":
        this.#pages.keepSoon(input.batches);
        return;
      case "markKept":
        this.#leases.markKept();
        return;
      case "markNotKept":
        this.#leases.markNotKept(input.reason);
        return;
      case "stopping":
        this.#stopping = true;
        this.#pages.close();
        this.#readers.close();
        this.#revocations?.close();
        this.#stopping = true;
        this.#leave();
        return;
      default:
        if (this.#revocations === null || this.#stopping) refuseWithout(this.#context, input);
        else dispatchRevocations(this.#revocations, input);
    }
  }

  /** A boot that leaves with revocations that the log lacks is not forgotten: its region would get leases past it. */
  #leave(): void {
    const { maySayGoodbye } = this.#leases.close();
    const retainsNone = (this.#revocations?.store.size ?? 0) === 0;
    this.#context.emit({ type: "leave", goodbye: maySayGoodbye && retainsNone ? "say" : "withhold" });
  }

  #homeAnswered(id: number, answer: HomeAnswer): void {
    this.#recordAnswer(answer);
    if (this.#revocations?.homeAnswered(id, answer) === true) return;
    if (!this.#leases.homeAnswered(id, answer)) this.#pages.homeAnswered(id, answer);
  }

  /** Any broker of the home region reads the log; the others need the leader. */
  #recordAnswer(answer: HomeAnswer): void {
    const { now } = this.#context;
    switch (answer.type) {
      case "failed":
        return;
      case "unavailable":
        if (answer.by === "home") this.#home.recordBrokerAnswer(now);
        return;
      case "granted":
      case "taken":
      case "refused":
      case "merged":
        this.#home.recordLeaderAnswer(now);
        return;
      default:
        this.#home.recordBrokerAnswer(now);
    }
  }
}

/** The inputs that are about local revocations. */
type RevocationInput = Extract<
  RegionInput,
  {
    type:
      | "localAsked"
      | "revocationSigned"
      | "revocationsKept"
      | "revocationsNotKept"
      | "peerAsked"
      | "peerAnswered"
      | "denialsAsked"
      | "denialsGivenUp"
      | "revocationBrought"
      | "localReceiptAsked";
  }
>;

function dispatchRevocations(revocations: RegionRevocations, input: RevocationInput): void {
  switch (input.type) {
    case "localAsked":
      revocations.accept(input);
      return;
    case "revocationSigned":
      revocations.signed(input);
      return;
    case "revocationsKept":
      revocations.kept(input);
      return;
    case "revocationsNotKept":
      revocations.notKept(input);
      return;
    case "peerAsked":
      revocations.peerAsked(input);
      return;
    case "peerAnswered":
      revocations.peerAnswered(input);
      return;
    case "denialsAsked":
      revocations.denialsAsked(input);
      return;
    case "denialsGivenUp":
      revocations.denialsGivenUp(input);
      return;
    case "revocationBrought":
      revocations.nodeBrought(input);
      return;
    case "localReceiptAsked":
      revocations.receiptAsked(input);
      return;
    default:
      unreachable(input);
  }
}

/** This broker accepts no revocation by itself. */
function refuseWithout(context: RegionStepContext, input: RevocationInput): void {
  const failed = "accepts no revocation by itself";
  switch (input.type) {
    case "localAsked":
      context.emit({
        type: "answerLocal",
        id: input.id,
        answer: { type: "unavailable", code: "local-off", message: `this broker ${failed}` },
      });
      return;
    case "peerAsked":
      context.emit({ type: "answerPeer", id: input.id, answer: { failed } });
      return;
    case "denialsAsked":
      context.emit({ type: "answerDenials", id: input.id, answer: { failed } });
      return;
    case "localReceiptAsked":
      context.emit({ type: "answerLocalReceipt", id: input.id, answer: { type: "unknown" } });
      return;
    default:
      return;
  }
}
