/**
 * Exchange registry: every open exchange of this node, indexed by the facts that its decision read. A pure core
 * (docs/adr/0015): the proxy and the simulator run this file.
 *
 * - An exchange is registered in the turn that permits it, before its first upstream byte. It leaves after its last
 *   downstream byte. Ordinary responses, WebSockets and tunnels are alike in this.
 * - A change of facts re-decides exactly the exchanges that read them, and cuts those that are now denied. `settled` is
 *   called when every cut that has begun is done; `enforced` waits for that.
 * - A response that is complete in this process may still be in the kernel's send queue. Until the caller's kernel has
 *   acknowledged it, its exchange counts as closed but stays registered. It is re-decided and cut like an open one
 *   (`Delivery`).
 * - The next response on the connection may represent an undelivered one (`standInFor`). The hot path then makes no
 *   system call, and a connection keeps few exchanges registered.
 * - The callers of a change are cut one after another, and everything that no caller waits for follows in the same turn
 *   (`afterCuts`): the upstreams' connections, and the records. `settled` waits for that too.
 * - A cut is an effect. Its performer destroys the sockets, and reports when no further byte can leave (`PendingCut`).
 * - The lease, the expiry and the lifetime are comparisons, made on every read (`mayCarry`; docs/adr/0028). `sweep`
 *   makes the same comparisons for silent streams; no safety depends on it.
 */
import type { FactKey, UsedSession } from "../../auth/index.ts";
import { CodedError, type Fact, type Link, type MonotonicMs, type UnixMs, unreachable } from "../../events/index.ts";
import type { Change, Clock, Freshness } from "../../replication/index.ts";
import type { CutReason } from "../message/close-codes.ts";
import {
  combineDeliveries,
  type ExchangeHandle,
  type FlushTime,
  type Outlet,
  type PendingCut,
  resetAfterWait,
  type SocketDelivery,
} from "../message/deliveries.ts";
import type { ExchangeKind } from "../message/exchange-kind.ts";
import { FactIndex, type Readings } from "./fact-index.ts";
import { type Linked, LinkedList } from "./intrusive-list.ts";

export { type CutReason, cutReasons } from "../message/close-codes.ts";
export type { Outlet } from "../message/deliveries.ts";
export type { ExchangeKind } from "../message/exchange-kind.ts";

/**
 * How long (ms) checked bytes may wait before they leave. Much less than the 50 ms that W allows for it
 * (docs/protocol.md §7).
 */
const waitMsMax = 10;

/** Result of re-deciding an open exchange. `limits` is present if they have changed. */
export type ReauthorizeOutcome =
  | Fact<"permitted", { reads: readonly FactKey[]; until: UnixMs | null; limits?: ExchangeLimits }>
  | Fact<"refused", { reason: CutReason }>;

export type KindCounts = Readonly<Record<ExchangeKind, number>>;

/** Limits that the route sets for an exchange, in addition to its policy. */
export type ExchangeLimits = Readonly<{
  /** How long the exchange may continue after the lease has expired. */
  graceMs: number;
  /** Longest time since it was opened; 0: no limit. */
  lifetimeMs: number;
}>;

export type ExchangeOptions = ExchangeLimits &
  Readonly<{
    kind: ExchangeKind;
    /** For the log. */
    requestId: string;
    reads: readonly FactKey[];
    until: UnixMs | null;
    openedAt: MonotonicMs;
    /** The session whose use its bytes are; undefined or absent: there is none. */
    session?: UsedSession | undefined;
    /** Decides again from the current projection and configuration, and records the decision. */
    redecide: () => ReauthorizeOutcome;
  }>;

/**
 * The end of the batch of changes that cut an exchange, and the time from the commit of the oldest of them to the cut,
 * by the clocks of two machines. Null: no change of the log caused it, or its time is unknown.
 */
export type CutCause = Readonly<{ link: Link | null; cutMs: number | null }>;

/** Ends the exchange permanently. Undefined: no further byte can leave. Called at most once. */
// biome-ignore lint/suspicious/noConfusingVoidType: most performers destroy a socket and return nothing.
export type Cut = (reason: CutReason) => void | PendingCut;

/** Called once, when every cut that had begun is done. Null: none has failed. */
export type Settled = (failure: CutFailedError | null) => void;

/** A denied exchange could not be destroyed, so the node must not report the change as enforced. */
export class CutFailedError extends CodedError<"ERR_PROXY_CUT_FAILED"> {
  override readonly code = "ERR_PROXY_CUT_FAILED";
  constructor(count: number, options?: ErrorOptions) {
    super(`${count} open exchanges could not be cut`, options);
  }
}

/** The bytes of an exchange count as use of its session at most this often (ms). */
const usedEveryMs = 1_000;

const none: Readings<Exchange> = [];
const nothing: readonly SocketDelivery[] = [];

export class Exchange implements Linked<Exchange>, ExchangeHandle {
  readonly kind: ExchangeKind;
  readonly requestId: string;
  /** Links and index entries; only the registry uses them. */
  before: Exchange | undefined;
  after: Exchange | undefined;
  readings: Readings<Exchange> = none;
  /** Why it was cut; set before its sockets are destroyed. */
  cutReason: CutReason | undefined;
  cutCause: CutCause | undefined;
  /** When `mayCarry` last read the clocks, or when the exchange was opened. */
  checkedAt: MonotonicMs;
  #reads: readonly FactKey[];
  #until: UnixMs | null;
  readonly #session: UsedSession | undefined;
  #usedAt: number;
  #cut: Cut | undefined;
  #giveUp: (() => void) | undefined;
  /** "delivering": complete in this process, but possibly not in the caller's kernel. */
  #state: "open" | "delivering" | "left" = "open";
  #outlet: Outlet | undefined;
  #delivery: SocketDelivery | undefined;
  /** Number of changes that are being enforced on it while it is delivered. */
  #redeciding = 0;
  /** Unsent request bytes of upstream calls that have ended. */
  #unsent = nothing;
  readonly #redecide: () => ReauthorizeOutcome;
  readonly #registry: Exchanges;
  readonly #openedAt: number;
  #graceMs = 0;
  #endsAt = Infinity;

  constructor(registry: Exchanges, options: ExchangeOptions) {
    this.kind = options.kind;
    this.requestId = options.requestId;
    this.#registry = registry;
    this.#redecide = options.redecide;
    this.#reads = options.reads;
    this.#until = options.until;
    this.#session = options.session;
    this.#openedAt = options.openedAt;
    this.#usedAt = options.openedAt;
    this.checkedAt = options.openedAt;
    this.#grant(options);
  }

  #grant({ graceMs, lifetimeMs }: ExchangeLimits): void {
    this.#graceMs = graceMs;
    this.#endsAt = lifetimeMs > 0 ? this.#openedAt + lifetimeMs : Infinity;
  }

  get reads(): readonly FactKey[] {
    return this.#reads;
  }

  /**
   * Sets how the exchange is ended. An earlier cut takes effect here.
   * @param giveUp called when the exchange closes: the last moment for `addUnsent`
   */
  attach(cut: Cut, giveUp?: () => void): void {
    this.#cut = cut;
    this.#giveUp = giveUp;
    if (this.cutReason !== undefined) this.#destroy(this.cutReason);
  }

  /** Sets the connection that carries the response. */
  setOutlet(outlet: Outlet): void {
    this.#outlet = outlet;
  }

  /** Adds request bytes that an upstream connection still holds. The exchange stays registered until they have left. */
  addUnsent(unsent: SocketDelivery): void {
    this.#unsent = [...this.#unsent, unsent];
  }

  /** Its cut discards bytes. Changes count as enforced only after that. */
  awaitDiscard(discarding: PendingCut): void {
    this.#registry.trackCut(discarding);
  }

  /** Performs a part of its cut that its caller does not wait for (`Exchanges.afterCuts`). */
  afterCuts(work: () => void): void {
    this.#registry.afterCuts(work);
  }

  /**
   * Called right before the first upstream byte and for every read in either direction.
   * @returns false if the exchange may not continue; its cut has begun then
   */
  mayCarry(): boolean {
    if (!this.mayContinue()) return false;
    if (this.#session !== undefined && this.checkedAt - this.#usedAt >= usedEveryMs) {
      this.#usedAt = this.checkedAt;
      this.#registry.onUse(this.#session);
    }
    return true;
  }

  /** The comparisons of `mayCarry`, without a byte. */
  mayContinue(): boolean {
    if (this.cutReason !== undefined) return false;
    const { clock, freshness } = this.#registry;
    const now = clock.monotonic();
    const wall = clock.wall();
    this.checkedAt = now;
    if (freshness.overdueMs(now, wall) > this.#graceMs) return this.#refuse("stale");
    if (now >= this.#endsAt) return this.#refuse("lifetime");
    return this.#until === null || wall < this.#until || this.redecide();
  }

  /**
   * Called when bytes that `mayCarry` permitted leave after other work, such as at the end of a turn. Checks again if
   * that work took long, or if the process was stopped meanwhile.
   * @returns as `mayCarry`
   */
  mayFlush(flush: FlushTime): boolean {
    if (this.cutReason !== undefined) return false;
    return flush.now - this.checkedAt <= waitMsMax || this.mayCarry();
  }

  /** @returns whether the exchange continues */
  redecide(): boolean {
    if (this.cutReason !== undefined || this.leaveIfDelivered()) return false;
    if (this.#delivery === undefined) return this.#redecideNow();
    this.#registry.trackCut(this.#redecideUndelivered(this.#delivery));
    return true;
  }

  /** Waits briefly first: most responses are delivered by then and need no decision. */
  #redecideUndelivered(delivery: SocketDelivery): PendingCut {
    const redecide = (): void => {
      this.#redeciding -= 1;
      if (this.cutReason !== undefined || this.leaveIfDelivered()) return;
      // The older exchange is gone and cannot be re-decided, so its undelivered bytes are discarded.
      if (this.#redecideNow() && delivery.hasUndeliveredOlder()) this.cut("not-permitted");
    };
    this.#redeciding += 1;
    const then: PendingCut["then"] = (done, failed) =>
      delivery.waitBriefly().then(() => {
        try {
          redecide();
        } catch (error) {
          failed(error);
          return;
        }
        done();
      }, failed);
    return { then };
  }

  #redecideNow(): boolean {
    const verdict = this.#decideAgain();
    switch (verdict.type) {
      case "permitted": {
        const before = this.#reads;
        this.#reads = verdict.reads;
        this.#until = verdict.until;
        if (verdict.limits !== undefined) this.#grant(verdict.limits);
        this.#registry.reindex(this, before);
        return true;
      }
      case "refused":
        return this.#refuse(verdict.reason);
      default:
        return unreachable(verdict);
    }
  }

  /** A decision that throws is a refusal. */
  #decideAgain(): ReauthorizeOutcome {
    try {
      return this.#redecide();
    } catch (error) {
      this.#registry.redecisionFailed(this, error);
      return { type: "refused", reason: "not-permitted" };
    }
  }

  #refuse(reason: CutReason): false {
    this.cut(reason);
    return false;
  }

  cut(reason: CutReason): void {
    if (this.cutReason !== undefined || this.leaveIfDelivered()) return;
    this.cutReason = reason;
    this.cutCause = this.#registry.causeOfCut();
    this.#registry.countCut(reason);
    this.#destroy(reason);
    for (const unsent of this.#unsent) if (!unsent.isDone()) this.#registry.trackCut(resetAfterWait(unsent));
    this.#unsent = nothing;
  }

  #destroy(reason: CutReason): void {
    if (this.#cut === undefined) return;
    const cut = this.#cut;
    this.#cut = undefined;
    const cutting = cut(reason);
    if (cutting !== undefined) this.#registry.trackCut(cutting);
  }

  /** Called after its last byte has left this process. */
  close(): void {
    if (this.#state !== "open") return;
    this.#giveUp?.();
    this.#giveUp = undefined;
    const delivery = this.cutReason === undefined ? this.#deliver() : undefined;
    this.#outlet = undefined;
    this.#unsent = nothing;
    this.#delivery = delivery;
    if (delivery === undefined) this.#state = "left";
    else {
      this.#state = "delivering";
      // A response that was complete when the lease ended is usually acknowledged within milliseconds.
      this.#cut = (reason) => (reason === "stale" ? resetAfterWait(delivery) : delivery.reset());
    }
    this.#registry.onExchangeClosed(this, this.#state);
  }

  /**
   * Makes this response represent an older one on the same connection, which may then leave the registry undelivered.
   * A change of the older one's facts finds this one, and resets the connection if this one is denied or if the older
   * one is still undelivered.
   * @returns false if it cannot represent the older one
   */
  standInFor(older: Exchange): boolean {
    if (older.#redeciding > 0 || older.cutReason !== undefined || !sameFacts(older.#reads, this.#reads)) return false;
    this.#graceMs = Math.min(this.#graceMs, older.#graceMs);
    this.#endsAt = Math.min(this.#endsAt, older.#endsAt);
    if (older.#until !== null) this.#until = Math.min(this.#until ?? Infinity, older.#until) as UnixMs;
    return true;
  }

  #deliver(): SocketDelivery | undefined {
    const answer = this.#outlet?.deliver(this);
    if (this.#unsent === nothing) return answer;
    const left = this.#unsent.filter((unsent) => !unsent.isDone());
    if (answer !== undefined) left.push(answer);
    return left.length > 1 ? combineDeliveries(left) : left[0];
  }

  /** @returns whether the exchange has left the registry */
  leaveIfDelivered(): boolean {
    if (this.#state === "delivering" && this.#delivery?.isDone() !== false) {
      this.#state = "left";
      this.#registry.onDelivered(this);
    }
    return this.#state === "left";
  }
}

/** A cut that has begun and is not done. Numbers increase with each cut. */
class Cutting implements Linked<Cutting> {
  before: Cutting | undefined;
  after: Cutting | undefined;
  readonly number: number;

  constructor(number: number) {
    this.number = number;
  }
}

/** A callback that waits for every cut up to a number. */
type Waiter = { readonly upTo: number; readonly settled: Settled; failed: number; cause: unknown };

export class Exchanges {
  #enforcing: Pick<Change, "link" | "committedAt"> | null = null;
  readonly clock: Clock;
  readonly freshness: Freshness;
  readonly #all = new LinkedList<Exchange>();
  readonly #delivering = new LinkedList<Exchange>();
  readonly #byFact = new FactIndex<Exchange>();
  readonly #onCut: (reason: CutReason) => void;
  readonly #onRedecisionFailed: (error: unknown, requestId: string) => void;
  readonly #onClosed: () => void;
  readonly #onCallersCut: () => void;
  /** Bytes of a session were permitted. */
  readonly onUse: (session: UsedSession) => void;
  readonly #cutting = new LinkedList<Cutting>();
  /** Ordered by `upTo`. At most one for each change that is being enforced. */
  readonly #waiters: Waiter[] = [];
  #cuts = 0;
  /** At most two for each exchange that is cut in this turn; null: no exchanges are being cut together. */
  #afterCuts: (() => void)[] | null = null;
  #undelivered = 0;
  readonly #counts = { http: 0, websocket: 0, tcp: 0, udp: 0 };

  constructor(
    options: Readonly<{
      clock: Clock;
      freshness: Freshness;
      onCut: (reason: CutReason) => void;
      /** Re-deciding an exchange threw; it is cut as not permitted. */
      onRedecisionFailed: (error: unknown, requestId: string) => void;
      /** Called when the callers of a change were cut, and before the rest of these cuts: their last bytes leave. */
      onCallersCut?: () => void;
      /** Called after an exchange is no longer open. */
      onClosed?: () => void;
      /** Bytes of a session were permitted; called about once a second for each exchange. */
      onUse?: (session: UsedSession) => void;
    }>,
  ) {
    this.clock = options.clock;
    this.freshness = options.freshness;
    this.#onCut = options.onCut;
    this.#onRedecisionFailed = options.onRedecisionFailed;
    this.#onClosed = options.onClosed ?? (() => {});
    this.#onCallersCut = options.onCallersCut ?? (() => {});
    this.onUse = options.onUse ?? (() => {});
  }

  get counts(): KindCounts {
    return this.#counts;
  }

  /** Number of responses that are complete in this process but not known to be in their callers' kernels. */
  get undelivered(): number {
    return this.#undelivered;
  }

  /** Registers an exchange. Must be called in the turn of the decision, so that a later change finds it. */
  open(options: ExchangeOptions): Exchange {
    const exchange = new Exchange(this, options);
    this.#all.push(exchange);
    this.#counts[options.kind]++;
    exchange.readings = this.#byFact.add(exchange, options.reads);
    return exchange;
  }

  /**
   * Re-decides the exchanges that read a changed fact, or all of them if the projection was rebuilt.
   * @param settled called when every denied exchange is destroyed; before this method returns if no cut is pending
   */
  onChange(change: Change, settled: Settled): void {
    this.#enforcing = change;
    try {
      if (change.rebuilt) this.redecideAll(settled);
      else this.#redecide(this.#byFact.readersOf(change.touched), settled);
    } finally {
      this.#enforcing = null;
    }
  }

  /** Commit time of the change that this turn enforces. Null: there is none, or its time is unknown. */
  get enforcing(): UnixMs | null {
    return this.#enforcing?.committedAt ?? null;
  }

  /** What a cut of this turn is recorded with. */
  causeOfCut(): CutCause {
    const { link = null, committedAt = null } = this.#enforcing ?? {};
    return { link, cutMs: committedAt === null ? null : Math.max(0, this.clock.wall() - committedAt) };
  }

  /** Re-decides the exchanges that read one of these facts. */
  redecideReaders(facts: ReadonlySet<FactKey>, settled: Settled): void {
    this.#redecide(this.#byFact.readersOf(facts), settled);
  }

  redecideAll(settled: Settled): void {
    this.#redecide([...this.#all.items(), ...this.#delivering.items()], settled);
  }

  #redecide(exchanges: readonly Exchange[], settled: Settled): void {
    this.#forEach(exchanges, (exchange) => exchange.redecide(), settled);
  }

  /** Cuts every open exchange. */
  cutAll(reason: CutReason, settled: Settled): void {
    this.#forEach(this.#all.items(), (exchange) => exchange.cut(reason), settled);
  }

  /** If `each` throws, the remaining exchanges are still handled, and `settled` gets an error. */
  #forEach(exchanges: readonly Exchange[], each: (exchange: Exchange) => void, settled: Settled): void {
    const failed: unknown[] = [];
    const attempt = (work: () => void): void => {
      try {
        work();
      } catch (error) {
        failed.push(error);
      }
    };
    const outer = this.#afterCuts;
    const later: (() => void)[] = [];
    this.#afterCuts = later;
    for (const exchange of exchanges) attempt(() => each(exchange));
    this.#afterCuts = outer;
    if (later.length > 0) attempt(this.#onCallersCut);
    for (const work of later) attempt(work);
    if (failed.length > 0) settled(new CutFailedError(failed.length, { cause: failed[0] }));
    else this.#whenCut(settled);
  }

  /**
   * Performs work of a cut that no caller waits for: after the callers of all exchanges that are cut with it, in the
   * same turn.
   */
  afterCuts(work: () => void): void {
    if (this.#afterCuts === null) work();
    else this.#afterCuts.push(work);
  }

  /** Also waits for the cuts of earlier changes, so `enforced` never passes a pending cut. */
  #whenCut(settled: Settled): void {
    if (this.#cutting.first === undefined) settled(null);
    else this.#waiters.push({ upTo: this.#cuts, settled, failed: 0, cause: undefined });
  }

  /** Makes the comparisons of `mayCarry` for silent streams. */
  sweep(): void {
    for (const exchange of this.#all.items()) exchange.mayContinue();
    for (const exchange of this.#delivering.items()) if (!exchange.leaveIfDelivered()) exchange.mayContinue();
    this.#byFact.tidy();
  }

  // --- for Exchange

  reindex(exchange: Exchange, before: readonly FactKey[]): void {
    if (sameFacts(before, exchange.reads)) return;
    this.#byFact.remove(exchange.readings);
    exchange.readings = this.#byFact.add(exchange, exchange.reads);
  }

  onExchangeClosed(exchange: Exchange, state: "delivering" | "left"): void {
    this.#all.remove(exchange);
    this.#counts[exchange.kind]--;
    if (state === "delivering") {
      this.#delivering.push(exchange);
      this.#undelivered++;
    } else this.#forget(exchange);
    this.#onClosed();
  }

  onDelivered(exchange: Exchange): void {
    this.#delivering.remove(exchange);
    this.#undelivered--;
    this.#forget(exchange);
  }

  #forget(exchange: Exchange): void {
    this.#byFact.remove(exchange.readings);
    exchange.readings = none;
  }

  countCut(reason: CutReason): void {
    this.#onCut(reason);
  }

  redecisionFailed({ requestId }: Exchange, error: unknown): void {
    this.#onRedecisionFailed(error, requestId);
  }

  trackCut(cut: PendingCut): void {
    this.#cuts += 1;
    const cutting = new Cutting(this.#cuts);
    this.#cutting.push(cutting);
    cut.then(
      () => this.#cutDone(cutting),
      (error) => {
        for (const waiter of this.#waiters) {
          if (waiter.upTo < cutting.number) continue;
          waiter.failed += 1;
          waiter.cause ??= error;
        }
        this.#cutDone(cutting);
      },
    );
  }

  #cutDone(cutting: Cutting): void {
    this.#cutting.remove(cutting);
    const oldest = this.#cutting.first?.number ?? Infinity;
    while (this.#waiters[0] !== undefined && this.#waiters[0].upTo < oldest) {
      const waiter = this.#waiters.shift();
      if (waiter === undefined) return;
      const { settled, failed, cause } = waiter;
      settled(failed === 0 ? null : new CutFailedError(failed, { cause }));
    }
  }
}

function sameFacts(a: readonly FactKey[], b: readonly FactKey[]): boolean {
  return a.length === b.length && a.every((fact, i) => fact === b[i]);
}
