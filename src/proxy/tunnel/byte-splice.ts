/**
 * Byte splice: joins the two ends of an upgraded connection, a WebSocket or another protocol.
 *
 * - Bytes are copied as they arrive. A slow end pauses the other. The lease is checked on every chunk.
 * - Only the frame headers towards the caller are parsed, so that a cut can put its close frame between two frames.
 * - A cut always discards what its time limit leaves unsent. It is immediate if the caller has unsent bytes or if the
 *   protocol is not WebSocket; otherwise it follows the caller's close or the time limit.
 */
import type { CutReason, Exchange } from "../enforce/exchanges.ts";
import { cutWithinMs } from "../http1/outlet-socket.ts";
import { closeCodes } from "../message/close-codes.ts";
import type { PendingCut } from "../message/deliveries.ts";
import { type Abort, guardCallback } from "./error-boundary.ts";
import type { CallerEnd, SpliceEnd } from "./splice-end.ts";
import type { SpliceSocket } from "./splice-socket.ts";
import { closeFrame, FrameBoundaries } from "./websocket-frames.ts";

/** From the end of the caller's side of a WebSocket until both sides are closed. */
const leavingMs = 1_000;

type Spliced = Readonly<{
  exchange: Exchange;
  counted: { bytes: number; bytesReceived: number };
  caller: CallerEnd;
  upstream: SpliceSocket;
  isWebSocket: boolean;
}>;

export class ByteSplice {
  readonly #exchange: Exchange;
  readonly #counted: Spliced["counted"];
  readonly #caller: CallerEnd;
  readonly #upstream: SpliceSocket;
  /** Null: the protocol is not WebSocket. */
  readonly #frames: FrameBoundaries | null;
  #idle: NodeJS.Timeout | undefined;
  #leaving: NodeJS.Timeout | undefined;
  /** Why the exchange is being cut; undefined: it is not. */
  #closing: CutReason | undefined;
  /** Completes a cut that waits for the caller. */
  #onCallerClosed: (() => void) | undefined;

  constructor({ exchange, counted, caller, upstream, isWebSocket }: Spliced) {
    this.#exchange = exchange;
    this.#counted = counted;
    this.#caller = caller;
    this.#upstream = upstream;
    this.#frames = isWebSocket ? new FrameBoundaries() : null;
  }

  /** @param job.head what the caller sent after its handshake; undefined: it is read like what follows */
  begin({
    idleTimeoutMs,
    upstreamHead,
    head,
    abort,
  }: Readonly<{ idleTimeoutMs: number; upstreamHead: Buffer; head: Buffer | undefined; abort: Abort }>): void {
    this.#exchange.attach(
      (reason) => this.#cut(reason),
      () => this.#keepUnsent(),
    );
    if (this.#exchange.cutReason !== undefined) return;
    if (idleTimeoutMs > 0) {
      const onIdle = guardCallback(() => this.#caller.destroy(), abort);
      this.#idle = setTimeout(onIdle, idleTimeoutMs).unref();
    }
    if (upstreamHead.length > 0) this.#toCaller(upstreamHead);
    if (head !== undefined && head.length > 0) this.#toUpstream(head);
    this.#caller.begin({
      onBytes: (bytes) => this.#toUpstream(bytes),
      onEnd: () => this.#onCallerEnd(),
      onDrain: () => this.#onDrain(this.#upstream),
      onError: () => this.#upstream.destroy(),
      onClose: () => this.#onCallerClose(),
    });
    this.#upstream.begin({
      onBytes: (bytes) => this.#toCaller(bytes),
      onEnd: () => this.#closing === undefined && this.#caller.end(),
      onDrain: () => this.#onDrain(this.#caller),
      onError: () => this.#caller.destroy(),
      onClose: () => this.#onUpstreamClose(),
    });
  }

  /** What one end was waiting for has left it; the other end is read again. */
  #onDrain(other: SpliceEnd): void {
    this.#idle?.refresh();
    other.resume();
  }

  #toCaller(bytes: Buffer): void {
    if (this.#closing !== undefined || !this.#exchange.mayCarry()) {
      if (this.#frames !== null) this.#finishFrame(this.#frames, bytes);
      return;
    }
    this.#idle?.refresh();
    this.#frames?.take(bytes);
    this.#counted.bytes += bytes.length;
    if (!this.#caller.write(bytes)) this.#upstream.pause();
  }

  #toUpstream(bytes: Buffer): void {
    if (this.#closing !== undefined || !this.#exchange.mayCarry()) return;
    this.#idle?.refresh();
    this.#counted.bytesReceived += bytes.length;
    if (!this.#upstream.write(bytes)) this.#caller.pause();
  }

  #onCallerEnd(): void {
    this.#upstream.end();
    // Both ends close a WebSocket (RFC 6455 §7.1.1). A caller that ends its side has left; the upstream gets a moment
    // to notice.
    if (this.#frames !== null) this.#leaving = setTimeout(() => this.#caller.destroy(), leavingMs);
  }

  #onCallerClose(): void {
    clearTimeout(this.#idle);
    clearTimeout(this.#leaving);
    if (this.#onCallerClosed === undefined) this.#upstream.destroy();
    else this.#onCallerClosed();
  }

  /** The caller's last bytes may still leave for the upstream when the caller has left. */
  #keepUnsent(): void {
    const unsent = this.#closing === undefined ? this.#upstream.unsent() : undefined;
    if (unsent !== undefined) this.#exchange.addUnsent(unsent);
  }

  #onUpstreamClose(): void {
    if (this.#closing === undefined) this.#caller.close();
  }

  /**
   * Sends nothing more upstream, and to the caller only the rest of the frame that has begun. Without a lease it sends
   * not even that: the cluster that fenced this node off does not wait for it.
   */
  #cut(reason: CutReason): ReturnType<CallerEnd["abort"]> {
    this.#closing = reason;
    const caller = this.#caller;
    // A close frame behind unsent bytes would be late, and those bytes must not be sent.
    const waits = caller.isEnded || caller.hasUnsent;
    if (this.#frames === null || waits || (reason === "stale" && !this.#frames.atBoundary)) {
      this.#discardUpstream();
      return caller.abort(reason);
    }
    return this.#cutInOrder(this.#frames, reason);
  }

  #cutInOrder(frames: FrameBoundaries, reason: CutReason): PendingCut {
    const caller = this.#caller;
    const written = caller.beginCut();
    let aborted: ReturnType<CallerEnd["abort"]>;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      aborted = caller.abort(reason);
    }, cutWithinMs);
    this.#onCallerClosed = () => {
      clearTimeout(timer);
      this.#discardUpstream();
      resolve();
    };
    if (caller.isClosed) resolve();
    else if (frames.atBoundary) this.#sendClose();
    else this.#upstream.resume();
    return promise.then(() => written).then(() => aborted);
  }

  #discardUpstream(): void {
    this.#exchange.afterCuts(() => this.#upstream.discard());
  }

  #finishFrame(frames: FrameBoundaries, bytes: Buffer): void {
    if (this.#caller.isEnded || this.#caller.isClosed) return;
    const length = frames.takeToBoundary(bytes);
    this.#caller.write(length === bytes.length ? bytes : bytes.subarray(0, length));
    if (frames.atBoundary) this.#sendClose();
  }

  #sendClose(): void {
    const { code, reason } = closeCodes[this.#closing ?? "draining"];
    this.#discardUpstream();
    // Bytes that still arrive from the caller are discarded, so that no reset overtakes the close frame.
    this.#caller.write(closeFrame(code, reason));
    this.#caller.end();
    this.#caller.resume();
  }
}
