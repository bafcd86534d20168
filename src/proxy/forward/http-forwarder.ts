/**
 * HTTP forwarder: sends one permitted request to its upstream and streams the response back to the caller.
 *
 * - It requires a `Permit`. It checks the exchange again right before the first upstream byte and on every read of
 *   either side.
 * - Backpressure: a slow side slows the other. Nothing is buffered beyond a socket's own high-water mark.
 * - When one side leaves, the other is ended at once.
 * - A request that may have had an effect is never sent twice. There is one second try at most, in one of three cases:
 *   - nothing of the request was sent: at another upstream;
 *   - the request is idempotent and has no body, and a reused connection closed before the first byte of a response;
 *   - the upstream says that it did not process the request. For this case the first bytes of a body are kept until the
 *     head of the response.
 */

import type { Permit } from "../../auth/index.ts";
import type { CutReason } from "../enforce/exchanges.ts";
import { downstreamLines, type RawHeaders, trailerPairs } from "../headers/downstream-headers.ts";
import type { BodyReader } from "../message/downstream-request.ts";
import type { HeaderLines } from "../message/header-lines.ts";
import {
  type CallFailure,
  type ResponseLines,
  type UpstreamCall,
  type UpstreamHandler,
  UpstreamIdleError,
  type UpstreamPool,
} from "../message/upstream-call.ts";
import { exceededBoundOf } from "../upstream/connection-pools.ts";
import type { UpstreamTarget } from "../upstream/upstream-choice.ts";
import { Deadline } from "./deadline-timer.ts";
import { type ForwardJob, ForwardTimeoutError } from "./forward-job.ts";

/** 103 responses forwarded for one request; browsers use the first. */
const hintsMax = 16;
/** How long an upstream may take to answer `Expect: 100-continue`; some never do (RFC 9110 §10.1.1). */
const continueMs = 1_000;
/** Bytes of a request body kept for a second try. Most gRPC calls are smaller. */
const keptBytesMax = 16_384;
/** Idempotent methods (RFC 9110 §9.2.2). */
const repeatable: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "PUT", "DELETE"]);

/** The response leaves through `downstream`; when that closes, the exchange has ended. */
export function forwardRequest(_permit: Permit, job: ForwardJob): void {
  const bound = exceededBoundOf(job.target, poolOf(job, job.target));
  if (bound !== undefined) {
    job.onOverflow(bound);
    job.onFailed({ type: "busy" });
    return;
  }
  new Forwarding(job).begin();
}

function poolOf({ isGrpc }: ForwardJob, target: UpstreamTarget): UpstreamPool {
  return isGrpc ? target.grpcPool : target.pool;
}

class Forwarding implements UpstreamHandler, BodyReader {
  readonly #job: ForwardJob;
  #target: UpstreamTarget;
  #headers: HeaderLines;
  #call: UpstreamCall | undefined;
  #timer: Deadline | undefined;
  #stalled: NodeJS.Timeout | undefined;
  /** The upstream's response has ended, or one side has left. */
  #over = false;
  #responding = false;
  #readingBody = false;
  /** True while the upstream's send buffer is full; its next drain clears it. */
  #isUpstreamFull = false;
  /** Some of the request was sent. */
  #begun = false;
  #hints = 0;
  /** Runs while the upstream has not said whether it wants the body. */
  #continueTimer: Deadline | undefined;
  /** The read of the upstream's socket at which the clocks were last checked. */
  #lookedAtRead = Number.NaN;
  /** The upstream of the second try; undefined: there was none. */
  #repeating: UpstreamTarget | undefined;
  /** The second try has no response yet. */
  #repeatCounts = false;
  /** The request body read so far, while it may have to be sent again. Null: none is kept. */
  #kept: RetryBody | null = null;
  /** Trailers to forward; set once the body was read in full. */
  #trailers: readonly string[] | undefined;
  /** The second try does not accept the body yet. */
  #catchingUp = false;

  constructor(job: ForwardJob) {
    this.#job = job;
    this.#target = job.target;
    this.#headers = job.headers;
  }

  begin(): void {
    const { exchange, downstream, timeoutFrom } = this.#job;
    downstream.onClose(() => this.#onDownstreamClosed());
    downstream.onDrain(() => this.#onDrain());
    if (timeoutFrom === "permit" || !downstream.hasBody) this.#startTimer();
    exchange.attach(
      (reason) => this.#onCut(reason),
      () => this.#giveUp(),
    );
    if (exchange.cutReason === undefined) this.#dispatch();
  }

  #startTimer(): void {
    const { timeoutMs } = this.#job;
    if (timeoutMs > 0) this.#timer = new Deadline(timeoutMs, () => this.#onTimeUp(timeoutMs));
  }

  #onTimeUp(timeoutMs: number): void {
    if (this.#waitsForCaller) this.#refuseBody("too-slow");
    else this.#fail(new ForwardTimeoutError(timeoutMs));
  }

  /** The upstream could accept more of the request, but the caller has not sent it. */
  get #waitsForCaller(): boolean {
    return this.#readingBody && !this.#job.downstream.bodyComplete && !this.#isUpstreamFull && !this.#responding;
  }

  #dispatch(refused?: UpstreamCall): void {
    const { method, path, idleTimeoutMs, downstream, sendsRequestId, requestId } = this.#job;
    const { acceptsTrailers, expectsContinue } = this.#job;
    const pool = poolOf(this.#job, this.#target);
    // A second try starts it again when its head has left: no part of the body may precede that.
    this.#continueTimer?.clear();
    this.#continueTimer = undefined;
    if (this.#repeating === undefined && downstream.hasBody && pool.reportsUnprocessed) this.#kept = new RetryBody();
    const call = pool.call(
      {
        method,
        path,
        headers: this.#headers,
        requestId: sendsRequestId ? requestId : null,
        hasBody: downstream.hasBody,
        idleTimeoutMs,
        acceptsTrailers,
        expectsContinue: expectsContinue && downstream.hasBody && !this.#readingBody,
      },
      this,
      refused,
    );
    this.#call = call;
    if (this.#over) call.abort();
  }

  // --- the upstream's side

  maySend(call: UpstreamCall): boolean {
    this.#call = call;
    const { exchange, counts } = this.#job;
    if (this.#over || !exchange.mayCarry()) return false;
    if (!this.#begun) counts.sentAt = exchange.checkedAt;
    this.#begun = true;
    return true;
  }

  onInformational(status: number, lines: RawHeaders): void {
    if (this.#over || !this.#job.exchange.mayCarry()) return;
    if (status === 100 && this.#continueTimer !== undefined) this.#continue();
    if (status !== 103) return; // others concern one connection only
    // Hints are optional: dropping them keeps the queue bounded for a slow caller or an upstream that sends many.
    if (this.#job.downstream.needsDrain || ++this.#hints > hintsMax) return;
    const links: string[] = [];
    for (let i = 0; i < lines.length; i += 2) {
      if (lines[i]?.toLowerCase() === "link") links.push(lines[i + 1] ?? "");
    }
    if (links.length > 0) this.#job.downstream.writeEarlyHints(links);
  }

  onHead(status: number, lines: ResponseLines): void {
    const { downstream, rules, requestId, exchange, counts } = this.#job;
    if (this.#over || !exchange.mayCarry()) return;
    this.#lookedAtRead = this.#call?.reads ?? Number.NaN;
    this.#kept = null;
    this.#repeatEnds();
    this.#target.report?.({ type: "answered", status });
    counts.answeredAt = exchange.checkedAt;
    downstream.bindExchange(exchange);
    try {
      downstream.writeHead(status, downstreamLines(rules, lines, this.#job), requestId);
    } catch (error) {
      this.#fail(error); // no answer ends more than its own request
      return;
    }
    this.#responding = true;
  }

  onData(chunk: Buffer | string): boolean {
    const { downstream, counts } = this.#job;
    if (this.#over || !this.#mayPassOn()) return true;
    counts.bytes += chunk.length;
    if (downstream.write(chunk)) return true;
    this.#awaitReader();
    return false;
  }

  onEnd(trailers: RawHeaders): void {
    const { downstream, rules } = this.#job;
    if (this.#over || !this.#mayPassOn()) return;
    this.#over = true;
    if (downstream.hasBody) this.#keepUnsent();
    downstream.end(undefined, trailers.length > 0 ? trailerPairs(rules, trailers).flat() : undefined);
    if (!downstream.bodyComplete) downstream.discardBody(); // it was answered without being read
    if (!downstream.closed && downstream.needsDrain) this.#awaitReader();
  }

  /**
   * Checks the clocks once for each read of the upstream's socket, however many chunks it brings. A cut takes effect
   * at once (docs/adr/0028).
   */
  #mayPassOn(): boolean {
    const { exchange } = this.#job;
    const reads = this.#call?.reads ?? Number.NaN;
    if (reads === this.#lookedAtRead) return exchange.cutReason === undefined;
    if (!exchange.mayCarry()) return false;
    this.#lookedAtRead = reads;
    return true;
  }

  /** A caller that does not read counts as idle, even if bytes wait for it. */
  #awaitReader(): void {
    const { downstream, idleTimeoutMs } = this.#job;
    if (idleTimeoutMs > 0) this.#stalled ??= setTimeout(() => downstream.destroy(), idleTimeoutMs);
  }

  #onDrain(): void {
    clearTimeout(this.#stalled);
    this.#stalled = undefined;
    this.#call?.resume();
  }

  onError(error: Error, { staleConnection, unprocessed }: CallFailure): void {
    if (this.#over) return;
    const { hasBody } = this.#job.downstream;
    if (error instanceof UpstreamIdleError && this.#waitsForCaller) this.#refuseBody("too-slow");
    else if (this.#repeating !== undefined) this.#fail(error);
    else if (!this.#begun && !unprocessed) this.#tryAnother(error);
    else if (unprocessed && (!hasBody || this.#kept !== null || !this.#readingBody)) {
      const refused = this.#call;
      this.#keepUnsent();
      this.#takeAnother(); // an upstream that refuses may be shutting down
      this.#catchingUp = this.#readingBody;
      // GOAWAY concerns all requests of a connection at once.
      if (staleConnection) this.#resend(refused);
      else this.#repeat(error, refused);
    } else if (staleConnection && !hasBody && repeatable.has(this.#job.method)) this.#resend(this.#call);
    else this.#fail(error);
  }

  /**
   * Resends the request after the upstream closed a kept connection, or announced that it will. Such a close says
   * nothing about the upstream's health, and an upstream closes many at a time, so neither the bound on retries nor
   * their count applies. A request is resent once at most, and never after a byte of a response.
   */
  #resend(refused: UpstreamCall | undefined): void {
    this.#repeating = this.#target;
    this.#job.onResend();
    this.#dispatch(refused);
  }

  #tryAnother(error: Error): void {
    const failed = this.#target;
    if (!this.#takeAnother()) {
      this.#fail(error);
      return;
    }
    failed.report?.({ type: "local" });
    this.#repeat(error);
  }

  /** @returns false if there is no other upstream */
  #takeAnother(): boolean {
    const next = this.#job.nextTarget(this.#target);
    if (next === undefined) return false;
    this.#target = next.target;
    this.#headers = next.headers;
    return true;
  }

  #repeat(error: Error, refused?: UpstreamCall): void {
    const { limits, retries } = this.#target;
    if (retries.busy >= limits.retries) {
      this.#job.onOverflow("retries");
      this.#fail(error);
      return;
    }
    retries.busy++;
    this.#repeatCounts = true;
    this.#repeating = this.#target;
    this.#job.onRetry();
    this.#dispatch(refused);
  }

  /**
   * Ends the count of this second try: the bound prevents retry storms, and a try with a response is not part of one.
   */
  #repeatEnds(): void {
    if (!this.#repeatCounts || this.#repeating === undefined) return;
    this.#repeatCounts = false;
    this.#repeating.retries.busy--;
  }

  // --- the request body

  onWritable(): void {
    const { downstream, expectsContinue } = this.#job;
    if (this.#over) return;
    this.#isUpstreamFull = false;
    if (this.#catchingUp) {
      this.#catchUp();
      return;
    }
    if (this.#readingBody) {
      downstream.resumeBody();
      return;
    }
    if (!expectsContinue) this.#readBody();
    else if (this.#continueTimer === undefined) {
      this.#continueTimer = new Deadline(continueMs, () => this.#continue());
    }
  }

  /** The upstream accepts the body, or has not said that it does not. */
  #continue(): void {
    this.#continueTimer?.clear();
    if (this.#over || this.#readingBody || !this.#job.exchange.mayCarry()) return;
    this.#job.downstream.writeContinue(); // unless a response has begun
    this.#readBody();
  }

  #readBody(): void {
    this.#readingBody = true;
    this.#job.downstream.readBody(this);
  }

  /** Sends the part of the body that was read so far to the second try. */
  #catchUp(): void {
    const kept = this.#kept;
    this.#catchingUp = false;
    this.#kept = null;
    const takesMore = kept === null || kept.length === 0 || this.#call?.write(kept.bytes) === true;
    if (this.#trailers !== undefined) this.#call?.end(this.#trailers);
    else if (takesMore) this.#job.downstream.resumeBody();
  }

  onChunk(chunk: Buffer): boolean {
    if (this.#over || !this.#job.exchange.mayCarry()) return true;
    const { counts, bodyBytesMax } = this.#job;
    counts.bytesReceived += chunk.length;
    if (bodyBytesMax > 0 && counts.bytesReceived > bodyBytesMax) {
      this.#refuseBody("too-large");
      return true;
    }
    if (this.#catchingUp) {
      this.#kept?.add(chunk); // no more than was on its way already
      return false;
    }
    if (this.#kept !== null) {
      if (this.#kept.length + chunk.length <= keptBytesMax) this.#kept.add(chunk);
      else this.#kept = null;
    }
    if (this.#call?.write(chunk) !== false) return true;
    this.#isUpstreamFull = true;
    return false;
  }

  onBodyEnd(trailers: readonly string[]): void {
    if (this.#over || !this.#job.exchange.mayCarry()) return;
    this.#trailers = trailers.length === 0 ? trailers : this.#job.trailersOf(trailers);
    if (!this.#catchingUp) this.#call?.end(this.#trailers);
    if (this.#timer === undefined) this.#startTimer();
  }

  /** The caller has left, or has sent a malformed body. */
  onAbort(): void {
    this.#giveUp();
  }

  onTimeout(waitsFor: "caller" | "upstream"): void {
    if (this.#over) return;
    if (waitsFor === "caller") this.#refuseBody("too-slow");
    else this.#fail(new UpstreamIdleError("the upstream stopped reading the request's body"));
  }

  // --- ends

  #fail(error: unknown): void {
    if (this.#over) return;
    this.#giveUp();
    if (!this.#responding) this.#target.report?.({ type: "local" });
    if (this.#responding) {
      this.#job.counts.failure ??= "upstream-broke";
      this.#job.downstream.destroy();
    } else this.#job.onFailed({ type: "error", error });
  }

  /** Ends the upstream request without counting a failure: the upstream did nothing wrong. */
  #refuseBody(type: "too-large" | "too-slow"): void {
    this.#giveUp();
    if (this.#responding) this.#job.downstream.destroy();
    else this.#job.onFailed({ type });
  }

  #onCut(reason: CutReason): void | Promise<void> {
    const { downstream } = this.#job;
    if (this.#over && downstream.ended && !downstream.closed) {
      // The response is complete in this process, but not all of it has left.
      return downstream.cut(reason);
    }
    if (this.#responding) {
      this.#job.exchange.afterCuts(() => this.#giveUp());
      return downstream.cut(reason);
    }
    this.#giveUp();
    this.#job.onFailed({ type: "cut", reason });
  }

  /** The caller has the whole response, or has left. */
  #onDownstreamClosed(): void {
    this.#timer?.clear();
    this.#continueTimer?.clear();
    clearTimeout(this.#stalled);
    this.#giveUp();
    this.#repeatEnds();
    this.#job.exchange.close();
  }

  /**
   * Gives up the upstream request. After a cut, a receipt waits until no further byte of it can leave for the upstream.
   * Otherwise other requests may share the connection, and it is reset only if a later change cuts this one.
   */
  #giveUp(): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer?.clear();
    this.#continueTimer?.clear();
    const { exchange } = this.#job;
    this.#call?.abort();
    if (exchange.cutReason === undefined) {
      this.#keepUnsent();
      return;
    }
    const discarding = this.#call?.discardUnsent();
    if (discarding !== undefined) exchange.awaitDiscard(discarding);
  }

  /** Registers unsent request bytes: a call may end before the upstream was sent the whole request. */
  #keepUnsent(): void {
    const unsent = this.#call?.unsent();
    if (unsent !== undefined) this.#job.exchange.addUnsent(unsent);
  }
}

/** The beginning of a request body, kept in one buffer for a second try. */
class RetryBody {
  #bytes: Buffer = Buffer.alloc(0);
  length = 0;

  /** Copies the chunk, so that a part of a larger buffer does not keep all of it. */
  add(chunk: Buffer): void {
    const length = this.length + chunk.length;
    if (length > this.#bytes.length) {
      const wider = Buffer.alloc(this.length === 0 ? length : 2 * length);
      this.#bytes.copy(wider, 0, 0, this.length);
      this.#bytes = wider;
    }
    chunk.copy(this.#bytes, this.length);
    this.length = length;
  }

  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.length);
  }
}
