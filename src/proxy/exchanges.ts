/**
 * Exchanges: everything that is open on this node, by the facts its decision read.
 *
 * An exchange is registered in the same turn in which it was permitted, before its first upstream byte, and leaves after
 * its last downstream byte: ordinary answers, WebSockets and tunnels alike. A change of facts re-decides exactly the exchanges that
 * read them; what is denied now is destroyed, and the promise that `onChange` returns settles only then: it is what
 * `enforced` waits for.
 *
 * The lease, the expiry and the lifetime are comparisons, made on every read (`mayCarry`; docs/adr/0028). `sweep` makes the same
 * comparisons for streams on which nothing moves; nothing depends on it for safety.
 *
 * Pure but for the sockets behind `cut`: clocks and decisions come as arguments.
 */
import type { FactKey } from "../auth/index.ts";
import { type Fact, type MonotonicMs, type UnixMs, unreachable } from "../events/index.ts";
import type { Change, Clock, Freshness } from "../replication/index.ts";
import { FactIndex, type Readings } from "./fact-index.ts";
import { type Linked, LinkedList } from "./linked-list.ts";
import type { Flush } from "./turn-end-timer.ts";

/**
 * session-ended: the session is gone, revoked or expired · not-permitted: it stands, and policy says no now · route-removed: the
 * configuration in force has no such route · stale: no lease within the route's grace · lifetime: `max_stream_lifetime` ·
 * draining: this node is going away
 */
export const cutReasons = ["session-ended", "not-permitted", "route-removed", "stale", "lifetime", "draining"] as const;
export type CutReason = (typeof cutReasons)[number];

/** How long what was looked at may wait before it leaves: much less than the 50 ms that W has for it (reliability.md §4.4). */
const waitMsMax = 10;

/** What a renewed look at an open exchange found; `terms`, where they are others than before. */
export type Verdict =
  | Fact<"permitted", { reads: readonly FactKey[]; until: UnixMs | null; terms?: ExchangeTerms }>
  | Fact<"refused", { reason: CutReason }>;

/** tcp and udp are tunnels: bytes and datagrams that are nobody's HTTP. */
export type ExchangeKind = "http" | "websocket" | "tcp" | "udp";
export type KindCounts = Readonly<Record<ExchangeKind, number>>;

/** What a route grants an exchange, beside its policy. */
export type ExchangeTerms = Readonly<{
  /** How long past the lease its route may go on. */
  graceMs: number;
  /** Since it was opened; 0: no limit. */
  lifetimeMs: number;
}>;

export type ExchangeOptions = ExchangeTerms &
  Readonly<{
    kind: ExchangeKind;
    reads: readonly FactKey[];
    until: UnixMs | null;
    openedAt: MonotonicMs;
    /** Decides again from the projection and the configuration as they are now, and records that. */
    redecide: () => Verdict;
  }>;

/** Ends the exchange for good. A promise settles when no further byte can leave. Called at most once. */
export type Cut = (reason: CutReason) => void | Promise<void>;

/** An exchange that is denied could not be destroyed, so nobody may be told that it was. */
export class CutFailedError extends Error {
  readonly code = "ERR_PROXY_CUT_FAILED";
  constructor(count: number, options?: ErrorOptions) {
    super(`${count} open exchanges could not be cut`, options);
    this.name = "CutFailedError";
  }
}

const none: Readings<Exchange> = [];

export class Exchange implements Linked<Exchange> {
  readonly kind: ExchangeKind;
  /** For its registry. */
  before: Exchange | undefined;
  after: Exchange | undefined;
  readings: Readings<Exchange> = none;
  /** Why it was cut; set before anything of it is destroyed. */
  cutReason: CutReason | undefined;
  /** When it was asked last whether it may go on, or was opened. */
  lookedAt: MonotonicMs;
  #reads: readonly FactKey[];
  #until: UnixMs | null;
  #cut: Cut | undefined;
  #open = true;
  readonly #redecide: () => Verdict;
  readonly #registry: Exchanges;
  readonly #openedAt: number;
  #graceMs = 0;
  #endsAt = Infinity;

  constructor(registry: Exchanges, options: ExchangeOptions) {
    this.kind = options.kind;
    this.#registry = registry;
    this.#redecide = options.redecide;
    this.#reads = options.reads;
    this.#until = options.until;
    this.#openedAt = options.openedAt;
    this.lookedAt = options.openedAt;
    this.#grant(options);
  }

  #grant({ graceMs, lifetimeMs }: ExchangeTerms): void {
    this.#graceMs = graceMs;
    this.#endsAt = lifetimeMs > 0 ? this.#openedAt + lifetimeMs : Infinity;
  }

  get reads(): readonly FactKey[] {
    return this.#reads;
  }

  /** Says how it is ended. Before this, a cut only keeps it from beginning. */
  attach(cut: Cut): void {
    this.#cut = cut;
    if (this.cutReason !== undefined) this.#destroy(this.cutReason);
  }

  /**
   * Asked right before the first upstream byte and for every read in either direction.
   * @returns false when it may not go on; it is being cut then
   */
  mayCarry(): boolean {
    if (this.cutReason !== undefined) return false;
    const { clock, freshness } = this.#registry;
    const now = clock.monotonic();
    const wall = clock.wall();
    this.lookedAt = now;
    if (freshness.overdueMs(now, wall) > this.#graceMs) return this.#refuse("stale");
    if (now >= this.#endsAt) return this.#refuse("lifetime");
    return this.#until === null || wall < this.#until || this.redecide();
  }

  /**
   * Asked where what `mayCarry` let pass leaves behind other work, as at the end of a turn: where that took long, or the process was
   * stopped meanwhile, it is looked at again.
   * @returns as `mayCarry`
   */
  mayLeave(flush: Flush): boolean {
    if (this.cutReason !== undefined) return false;
    return flush.now - this.lookedAt <= waitMsMax || this.mayCarry();
  }

  /** @returns whether it goes on */
  redecide(): boolean {
    if (this.cutReason !== undefined || !this.#open) return false;
    const verdict = this.#decideAgain();
    switch (verdict.type) {
      case "permitted": {
        const before = this.#reads;
        this.#reads = verdict.reads;
        this.#until = verdict.until;
        if (verdict.terms !== undefined) this.#grant(verdict.terms);
        this.#registry.moved(this, before);
        return true;
      }
      case "refused":
        return this.#refuse(verdict.reason);
      default:
        return unreachable(verdict);
    }
  }

  /** A decision that cannot be made is a refusal. */
  #decideAgain(): Verdict {
    try {
      return this.#redecide();
    } catch {
      return { type: "refused", reason: "not-permitted" };
    }
  }

  #refuse(reason: CutReason): false {
    this.cut(reason);
    return false;
  }

  cut(reason: CutReason): void {
    if (this.cutReason !== undefined || !this.#open) return;
    this.cutReason = reason;
    this.#registry.counted(reason);
    this.#destroy(reason);
  }

  #destroy(reason: CutReason): void {
    if (this.#cut === undefined) return;
    const cut = this.#cut;
    this.#cut = undefined;
    const cutting = cut(reason);
    if (cutting !== undefined) this.#registry.cutting(cutting);
  }

  /** After its last byte. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#registry.closed(this);
  }
}

export class Exchanges {
  readonly clock: Clock;
  readonly freshness: Freshness;
  readonly #all = new LinkedList<Exchange>();
  readonly #byFact = new FactIndex<Exchange>();
  readonly #onCut: (reason: CutReason) => void;
  readonly #onClosed: () => void;
  /** Cuts that have begun and not ended. */
  readonly #cutting = new Set<Promise<void>>();
  readonly #counts = { http: 0, websocket: 0, tcp: 0, udp: 0 };

  constructor(
    options: Readonly<{
      clock: Clock;
      freshness: Freshness;
      onCut: (reason: CutReason) => void;
      /** After an exchange has left. */
      onClosed?: () => void;
    }>,
  ) {
    this.clock = options.clock;
    this.freshness = options.freshness;
    this.#onCut = options.onCut;
    this.#onClosed = options.onClosed ?? (() => {});
  }

  get counts(): KindCounts {
    return this.#counts;
  }

  /** Call in the turn of the decision: a change that comes later then finds it. */
  open(options: ExchangeOptions): Exchange {
    const exchange = new Exchange(this, options);
    this.#all.push(exchange);
    this.#counts[options.kind]++;
    exchange.readings = this.#byFact.add(exchange, options.reads);
    return exchange;
  }

  /**
   * Re-decides what a change touched, all when the projection was rebuilt.
   * @returns settles when everything that is denied now is destroyed; undefined when it already is
   */
  onChange(change: Change): Promise<void> | undefined {
    return this.#redecide(change.rebuilt ? this.#all.items() : this.#byFact.readersOf(change.touched));
  }

  /** Re-decides what read one of these. @returns as `onChange` */
  touch(facts: ReadonlySet<FactKey>): Promise<void> | undefined {
    return this.#redecide(this.#byFact.readersOf(facts));
  }

  redecideAll(): Promise<void> | undefined {
    return this.#redecide(this.#all.items());
  }

  #redecide(exchanges: readonly Exchange[]): Promise<void> | undefined {
    const failed: unknown[] = [];
    for (const exchange of exchanges) {
      try {
        exchange.redecide();
      } catch (error) {
        failed.push(error); // the others must be cut all the same
      }
    }
    if (failed.length > 0) return Promise.reject(new CutFailedError(failed.length, { cause: failed[0] }));
    return this.#cutting.size === 0 ? undefined : this.#settled();
  }

  /** Also cuts of earlier changes: `enforced` never passes one that is still under way. */
  async #settled(): Promise<void> {
    await Promise.all(this.#cutting);
  }

  /** The comparisons of `mayCarry` for streams that are silent. */
  sweep(): void {
    for (const exchange of this.#all.items()) exchange.mayCarry();
    this.#byFact.tidy();
  }

  /** Cuts everything that is left. */
  async cutAll(reason: CutReason): Promise<void> {
    for (const exchange of this.#all.items()) exchange.cut(reason);
    await this.#settled();
  }

  // --- for Exchange

  moved(exchange: Exchange, before: readonly FactKey[]): void {
    if (sameFacts(before, exchange.reads)) return;
    this.#byFact.remove(exchange.readings);
    exchange.readings = this.#byFact.add(exchange, exchange.reads);
  }

  closed(exchange: Exchange): void {
    this.#all.remove(exchange);
    this.#counts[exchange.kind]--;
    this.#byFact.remove(exchange.readings);
    exchange.readings = none;
    this.#onClosed();
  }

  counted(reason: CutReason): void {
    this.#onCut(reason);
  }

  cutting(cut: Promise<void>): void {
    this.#cutting.add(cut);
    const done = (): void => void this.#cutting.delete(cut);
    cut.then(done, done);
  }
}

function sameFacts(a: readonly FactKey[], b: readonly FactKey[]): boolean {
  return a.length === b.length && a.every((fact, i) => fact === b[i]);
}
