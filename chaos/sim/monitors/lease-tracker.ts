/**
 * Lease tracker: for each boot and point, the real time as of which the boot may count itself fresh there.
 *
 * - The tracker is built from sent renews and received grants, in real time.
 * - A grant is worth the send time of its renew, once the node has applied the granted head, and holds the local
 *   revocations for which the grant waits.
 * - The tracker uses none of the product's calculations.
 * - After a boot was stopped, or found its projection to belong to another history, only renews sent afterwards count.
 */
import type { StorePosition } from "../../../src/replication/wire/index.ts";
import type { ProcessName, SimFactOf, SimMs } from "../facts.ts";
import type { LogPoint } from "./chains.ts";
import type { GroundTruth } from "./ground-truth.ts";

type AcceptedGrant = Readonly<{ sentAt: SimMs; head: LogPoint; fact: SimFactOf<"grant-received"> }>;
type Sent = Readonly<{ fact: SimFactOf<"renew-sent">; wall: number }>;
type BootLeases = {
  boot: string;
  readonly sent: Map<number, Sent>;
  waiting: AcceptedGrant[];
  /** The grant with the newest send time that waits for nothing any more. Null: none. */
  best: AcceptedGrant | null;
  /** Like `best`, of the grants that wait for no local revocation. */
  bestUntightened: AcceptedGrant | null;
  /** The grant for the newest answered renew; its terms are in force. Null: none. */
  newest: SimFactOf<"grant-received"> | null;
  /** Renews sent before this time count for nothing; `voidedBy` is the cause. */
  voidBefore: SimMs;
  voidedBy: SimFactOf<"resumed" | "rebuilding"> | null;
};

/**
 * Shortest pauses (ms, by any clock) that the node must have noticed (docs/protocol.md §5.5: its own 250 ms tick is
 * over 1 s late).
 */
const noticedMs = { stopped: 1_300, suspended: 300 };
const sentMax = 1_024;
/**
 * A node whose wall clock is more than 2 s off its leader's is not fresh (docs/protocol.md §5.5). The tracker allows
 * 300 ms more.
 */
const skewMsMax = 2_000 + 300;

export class LeaseTracker {
  readonly #truth: GroundTruth;
  readonly #isTightened: (process: ProcessName, to: StorePosition) => boolean;
  readonly #boots = new Map<ProcessName, BootLeases>();
  readonly #paused = new Map<ProcessName, SimFactOf<"paused">>();
  readonly #clocks = new Map<ProcessName, SimFactOf<"clock-set">>();
  /** By process: the last time when its wall clock was set by so much that the node must have noticed. */
  readonly #steps = new Map<ProcessName, SimMs>();
  /** By `grantKey`: the granter's wall clock when it sent the grant. */
  readonly #granted = new Map<string, number>();
  /** By `grantKey`, for grants by age: the send time of the renew behind the granter's own lease. */
  readonly #aged = new Map<string, SimMs>();

  /** @param isTightened whether the local revocations up to a position of a store may be in force at a process */
  constructor(truth: GroundTruth, isTightened: (process: ProcessName, to: StorePosition) => boolean) {
    this.#truth = truth;
    this.#isTightened = isTightened;
  }

  clockSet(fact: SimFactOf<"clock-set">): void {
    const stepMs = fact.at + fact.wallOffsetMs - this.#wall(fact.process, fact.at);
    if (Math.abs(stepMs) > noticedMs.suspended) this.#steps.set(fact.process, fact.at);
    this.#clocks.set(fact.process, fact);
  }

  grantSent(fact: SimFactOf<"grant-sent">): void {
    this.#granted.set(grantKey(fact), this.#wall(fact.process, fact.at));
    if (this.#granted.size > 4_096) this.#granted.delete(this.#granted.keys().next().value ?? "");
    if (fact.agedMs === null) return;
    // A regional broker grants from its own lease, which is as old as the renew behind the best grant that it received.
    const granter = this.#truth.nodes.get(fact.process);
    const own = granter === undefined ? null : this.freshAsOf(fact.process, granter.applied);
    this.#aged.set(grantKey(fact), own?.sentAt ?? Number.NEGATIVE_INFINITY);
    if (this.#aged.size > 4_096) this.#aged.delete(this.#aged.keys().next().value ?? "");
  }

  /** The wall clock of a process on the scale of simulation time: true time plus the clock's error. */
  #wall(process: ProcessName, at: SimMs): number {
    const clock = this.#clocks.get(process);
    return clock === undefined ? at : at + clock.wallOffsetMs + (clock.rate - 1) * (at - clock.at);
  }

  started({ process, boot }: SimFactOf<"started">): void {
    this.#paused.delete(process);
    this.#boots.set(process, {
      boot: boot ?? "",
      sent: new Map(),
      waiting: [],
      best: null,
      bestUntightened: null,
      newest: null,
      voidBefore: Number.NEGATIVE_INFINITY,
      voidedBy: null,
    });
  }

  paused(fact: SimFactOf<"paused">): void {
    if (!this.#paused.has(fact.process)) this.#paused.set(fact.process, fact);
  }

  resumed(fact: SimFactOf<"resumed">): void {
    const how = this.#paused.get(fact.process)?.how ?? "stopped";
    this.#paused.delete(fact.process);
    const bootLeases = this.#boots.get(fact.process);
    if (bootLeases !== undefined && this.#truth.real(noticedMs[how]) < fact.pausedMs) this.#void(bootLeases, fact);
  }

  /**
   * Grants that counted in the old history count for nothing in the new one. The boot may still reach a waiting head.
   */
  rebuilding(fact: SimFactOf<"rebuilding">): void {
    const bootLeases = this.#leasesOf(fact);
    const node = this.#truth.nodes.get(fact.process);
    if (bootLeases === undefined || node === undefined) return;
    this.freshAsOf(fact.process, node.applied);
    bootLeases.best = null;
    bootLeases.bestUntightened = null;
    bootLeases.voidedBy = fact;
  }

  renewSent(fact: SimFactOf<"renew-sent">): void {
    const bootLeases = this.#leasesOf(fact);
    if (bootLeases === undefined) return;
    bootLeases.sent.set(fact.nonce, { fact, wall: this.#wall(fact.process, fact.at) });
    if (bootLeases.sent.size > sentMax) bootLeases.sent.delete(bootLeases.sent.keys().next().value ?? 0);
  }

  /** @returns the renew that the grant answers; undefined: this boot sent no renew with this nonce */
  taken(fact: SimFactOf<"grant-received">): SimFactOf<"renew-sent"> | undefined {
    const bootLeases = this.#leasesOf(fact);
    const sent = bootLeases?.sent.get(fact.nonce);
    if (bootLeases === undefined || sent === undefined) return undefined;
    const { fact: renew } = sent;
    const sentAt = this.#asOf(fact, renew);
    const head = this.#truth.find(fact.head);
    if (renew.at >= bootLeases.voidBefore && fact.epoch >= (bootLeases.newest?.epoch ?? 0) && this.#isOff(fact, sent)) {
      // The clock was set after the renew. The offset belongs to the earlier clock and says nothing about later renews.
      if ((this.#steps.get(fact.process) ?? 0) > renew.at) return renew;
      // The node is no longer fresh. It may use the rest of its grace.
      const { deltaMs } = this.#truth.options;
      const node = this.#truth.nodes.get(fact.process);
      if (node !== undefined) this.freshAsOf(fact.process, node.applied); // applies grants that count up to now
      if (fact.nonce > (bootLeases.newest?.nonce ?? 0)) bootLeases.newest = fact;
      const overBy = this.#truth.real(deltaMs);
      if (bootLeases.best !== null)
        bootLeases.best = { ...bootLeases.best, sentAt: Math.min(bootLeases.best.sentAt, fact.at - overBy) };
      bootLeases.bestUntightened = null;
      // After a pause or a clock step, the grace restarts with the renews sent since.
      bootLeases.waiting = head === undefined ? [] : [{ sentAt: Math.min(sentAt, renew.at - overBy), head, fact }];
      return renew;
    }
    if (bootLeases.newest === null || fact.nonce > bootLeases.newest.nonce) bootLeases.newest = fact;
    if (head !== undefined && renew.at >= bootLeases.voidBefore) bootLeases.waiting.push({ sentAt, head, fact });
    if (bootLeases.waiting.length > sentMax) bootLeases.waiting.shift();
    return renew;
  }

  /** A grant by age is worth the send time of the regional broker's own renew. */
  #asOf(fact: SimFactOf<"grant-received">, renew: SimFactOf<"renew-sent">): SimMs {
    const aged = (fact.agedMs ?? null) === null ? undefined : this.#aged.get(grantKey(fact));
    return Math.min(renew.at, aged ?? renew.at);
  }

  /**
   * Send time of the renew behind the lease from which a grant by age was made. Undefined: the leader itself granted.
   */
  restsOn(fact: SimFactOf<"grant-received">): SimMs | undefined {
    return (fact.agedMs ?? null) === null ? undefined : this.#aged.get(grantKey(fact));
  }

  /** The grant as of whose `sentAt` the boot is fresh at this point. Null: it is not fresh. */
  freshAsOf(process: ProcessName, point: LogPoint): AcceptedGrant | null {
    const bootLeases = this.#boots.get(process);
    if (bootLeases === undefined) return null;
    if (bootLeases.waiting.length > 0) {
      const still: AcceptedGrant[] = [];
      for (const taken of bootLeases.waiting) {
        const to = taken.fact.tightenedTo ?? null;
        if (!this.#truth.chains.contains(point, taken.head) || (to !== null && !this.#isTightened(process, to))) {
          still.push(taken);
          continue;
        }
        if (bootLeases.best === null || taken.sentAt > bootLeases.best.sentAt) bootLeases.best = taken;
        const { bestUntightened } = bootLeases;
        if (to === null && (bestUntightened === null || taken.sentAt > bestUntightened.sentAt))
          bootLeases.bestUntightened = taken;
      }
      bootLeases.waiting = still;
    }
    return bootLeases.best;
  }

  /** The newest grant that waits for nothing but local revocations. Null: none does. */
  awaitsDenials(process: ProcessName, point: LogPoint): AcceptedGrant | null {
    let newest: AcceptedGrant | null = null;
    for (const taken of this.#boots.get(process)?.waiting ?? []) {
      if (!this.#truth.chains.contains(point, taken.head)) continue;
      if (newest === null || taken.sentAt > newest.sentAt) newest = taken;
    }
    return newest;
  }

  /** True if a grant received since then names a head that the boot has not applied. */
  awaitsHead(process: ProcessName, since: SimMs): boolean {
    return this.#boots.get(process)?.waiting.some(({ fact }) => fact.at >= since) === true;
  }

  /**
   * Latest time at which the boot may count itself within its window by a grant that waits for no local revocation and
   * whose head it has applied. Null: never.
   */
  mayDecideUntightenedUntil(process: ProcessName): SimMs | null {
    const node = this.#truth.nodes.get(process);
    const bootLeases = this.#boots.get(process);
    if (node === undefined || bootLeases === undefined) return null;
    this.freshAsOf(process, node.applied);
    const { bestUntightened, newest } = bootLeases;
    if (bestUntightened === null) return null;
    const windowMs = Math.max(newest?.windowMs ?? 0, this.#truth.options.deltaMs);
    const { fact, sentAt } = bestUntightened;
    const own = (fact.agedMs ?? null) === null ? windowMs : Math.min(windowMs, fact.windowMs);
    return sentAt + own * (1 - this.#truth.options.drift);
  }

  /**
   * Latest time at which the boot may count itself within its window without this point, from the grants it has
   * received. Null: never.
   */
  mayDecideUntil(process: ProcessName, without: LogPoint): SimMs | null {
    const node = this.#truth.nodes.get(process);
    const bootLeases = this.#boots.get(process);
    if (node === undefined || bootLeases === undefined) return null;
    const windowMs = Math.max(bootLeases.newest?.windowMs ?? 0, this.#truth.options.deltaMs);
    let until = Number.NEGATIVE_INFINITY;
    const count = ({ sentAt, fact }: AcceptedGrant): void => {
      const own = (fact.agedMs ?? null) === null ? windowMs : Math.min(windowMs, fact.windowMs);
      until = Math.max(until, sentAt + this.#truth.real(own));
    };
    const fresh = this.freshAsOf(process, node.applied);
    if (fresh !== null) count(fresh);
    for (const taken of bootLeases.waiting) if (!this.#truth.chains.contains(taken.head, without)) count(taken);
    return until === Number.NEGATIVE_INFINITY ? null : until;
  }

  newest(process: ProcessName): SimFactOf<"grant-received"> | null {
    return this.#boots.get(process)?.newest ?? null;
  }
  voidedBy(process: ProcessName): SimFactOf<"resumed" | "rebuilding"> | null {
    return this.#boots.get(process)?.voidedBy ?? null;
  }

  #isOff(fact: SimFactOf<"grant-received">, { wall }: Sent): boolean {
    const granted = this.#granted.get(grantKey(fact));
    if (granted === undefined) return false;
    return Math.max(wall - granted, granted - this.#wall(fact.process, fact.at)) > skewMsMax;
  }

  #void(bootLeases: BootLeases, fact: SimFactOf<"resumed">): void {
    bootLeases.best = null;
    bootLeases.bestUntightened = null;
    bootLeases.waiting = [];
    bootLeases.voidBefore = fact.at;
    bootLeases.voidedBy = fact;
  }

  #leasesOf({ process, boot }: Readonly<{ process: ProcessName; boot: string }>): BootLeases | undefined {
    const bootLeases = this.#boots.get(process);
    return bootLeases?.boot === boot ? bootLeases : undefined;
  }
}

export function answerKey({ node, boot, nonce }: Readonly<{ node: string; boot: string; nonce: number }>): string {
  return `${node} ${boot} ${nonce}`;
}

/** The key includes the granter, because two leaders or two regional brokers may each answer the same renew. */
export function grantKey(fact: SimFactOf<"grant-sent" | "grant-received">): string {
  const granter = fact.type === "grant-sent" ? fact.process : fact.by;
  return `${answerKey(fact)} ${granter} ${fact.head.hash}`;
}
