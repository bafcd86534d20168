/**
 * Connect attempt: the first phase of every upgrade and tunnel, from the permit until the upstream has accepted.
 *
 * - An attempt ends once: accepted, failed, cut, left by the caller, or out of time. Later events change nothing.
 * - While it lasts, nothing has been sent to the caller, so a failure is answered by the job's `onFailed`.
 * - A throw in one of its events ends this exchange and no other (error-boundary.ts).
 * - Once it has ended it holds no reference to the job: ten thousand of them stay with their open connections.
 */
import type { Exchange } from "../enforce/exchanges.ts";
import type { ForwardFailure } from "../forward/forward-job.ts";
import type { Downstream } from "../message/downstream-request.ts";
import type { UpstreamTarget } from "../upstream/upstream-choice.ts";
import { type Abort, abortOnError, guardCallback } from "./error-boundary.ts";

/** What an upgrade or a tunnel needs until its upstream has accepted. */
export type ConnectJob = Readonly<{
  downstream: Downstream;
  exchange: Exchange;
  target: UpstreamTarget;
  /** Nothing has been sent to the caller: the receiver of the failure sends the response. */
  onFailed: (failure: ForwardFailure) => void;
  /** Our own code threw; the exchange ends. */
  onFault: (error: unknown) => void;
}>;

/** What the attempt does to the connection that it waits for. */
export type Connecting = Readonly<{
  /** Ends the connection before it was accepted. */
  abandon: () => void;
  /** Ends everything at once, in whatever state; for a throw in our own code. */
  destroy: () => void;
}>;

export type ConnectDeadline = Readonly<{ timeoutMs: number; lateError: () => Error }>;

/** The part of an attempt that is dropped when it ends. */
type Pending = Readonly<{ job: ConnectJob; abandon: () => void; timer: NodeJS.Timeout }>;

/**
 * Occupies one of the target's streams for as long as the caller's request is open.
 *
 * @returns false when the request has been answered instead: the target is busy, or the exchange may not carry any more
 */
export function occupyStream({ downstream, exchange, target, onFailed }: Omit<ConnectJob, "onFault">): boolean {
  const { upgrades, limits } = target;
  if (upgrades.busy >= limits.streams) {
    onFailed({ type: "busy" });
    return false;
  }
  upgrades.busy++;
  downstream.onClose(() => {
    upgrades.busy--;
    exchange.close();
  });
  if (exchange.mayCarry()) return true;
  onFailed({ type: "cut", reason: exchange.cutReason ?? "stale" });
  return false;
}

export class ConnectAttempt {
  #pending: Pending | undefined;
  /** Ends the exchange after a throw; for `guardEmitter` and `guarded`. */
  readonly abort: Abort;

  /** @param lateError the failure when `timeoutMs` passes first */
  constructor(job: ConnectJob, connecting: Connecting, { timeoutMs, lateError }: ConnectDeadline) {
    this.abort = abortOnError(job.onFault, failing(this), connecting.destroy);
    const timer = setTimeout(guardCallback(lateness(this, lateError), this.abort), timeoutMs);
    this.#pending = { job, abandon: connecting.abandon, timer };
    // Each listener is made by a function of its own, so that it keeps the attempt alone.
    job.exchange.attach(cutting(this));
    job.downstream.onClose(leaving(this));
  }

  get isPending(): boolean {
    return this.#pending !== undefined;
  }

  /**
   * The upstream has accepted. @returns false when the attempt had ended before, or ends now because it may not carry
   */
  accept(): boolean {
    return this.#pending?.job.exchange.mayCarry() === true && this.settle();
  }

  /** @returns false when the attempt had ended before */
  settle(): boolean {
    return this.#end() !== undefined;
  }

  /** @returns false when the attempt had ended before */
  fail(failure: ForwardFailure): boolean {
    const pending = this.#end();
    if (pending === undefined) return false;
    pending.abandon();
    if (failure.type === "error") pending.job.target.report?.({ type: "local" });
    pending.job.onFailed(failure);
    return true;
  }

  /** The caller has left: no response is needed. */
  leave(): void {
    this.#end()?.abandon();
  }

  #end(): Pending | undefined {
    const pending = this.#pending;
    this.#pending = undefined;
    clearTimeout(pending?.timer);
    return pending;
  }
}

function failing(attempt: ConnectAttempt): (failure: ForwardFailure) => boolean {
  return (failure) => attempt.fail(failure);
}

function lateness(attempt: ConnectAttempt, lateError: ConnectDeadline["lateError"]): () => void {
  return () => void attempt.fail({ type: "error", error: lateError() });
}

function cutting(attempt: ConnectAttempt): Parameters<Exchange["attach"]>[0] {
  return (reason) => void attempt.fail({ type: "cut", reason });
}

function leaving(attempt: ConnectAttempt): () => void {
  return () => attempt.leave();
}
