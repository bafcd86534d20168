/**
 * Stream events: what the frames of a caller mean for the streams of its connection (RFC 9113 §5.1).
 *
 * It owns the table of open streams. Streams that are over are not remembered, except those that this side has reset.
 */
import type { ConnectionOwner } from "../message/connection-owner.ts";
import type { AbuseBudget } from "./abuse-budget.ts";
import type { Http2Connection } from "./connection.ts";
import { Http2Downstream } from "./downstream.ts";
import { calmFault, type DataFrame, type FrameEvents, protocolFault } from "./frame-interpreter.ts";
import {
  type ConnectionFault,
  errorCode,
  formatPing,
  formatReset,
  frameFlag,
  type Http2ErrorCode,
  initialWindowBytes,
  settingsAck,
  windowBytesMax,
} from "./frame-types.ts";
import type { Http2Head, RequestFields } from "./request-fields.ts";
import { StreamTable } from "./stream-table.ts";

type Outcome = ConnectionFault | undefined;

const closedFault: ConnectionFault = { code: errorCode.streamClosed, reason: "stream-closed" };
const flowFault: ConnectionFault = { code: errorCode.flowControl, reason: "flow-control" };

export type StreamLimits = Readonly<{ streamsMax: number; connectionWindowBytes: number }>;

export class StreamEvents implements FrameEvents<RequestFields> {
  readonly enablePushMax = 1;
  /** The highest stream that was accepted or refused. */
  lastStreamId = 0;
  readonly #connection: Http2Connection;
  readonly #owner: ConnectionOwner;
  readonly #budget: AbuseBudget;
  readonly #limits: StreamLimits;
  readonly #streams = new StreamTable<Http2Downstream>();
  readonly #reset = new ResetStreams();
  /** What new streams may be sent. */
  #initialWindow = initialWindowBytes;
  /** What the caller may send, on all streams together. */
  #window: number;

  constructor(
    connection: Http2Connection,
    { owner, budget, limits }: Readonly<{ owner: ConnectionOwner; budget: AbuseBudget; limits: StreamLimits }>,
  ) {
    this.#connection = connection;
    this.#owner = owner;
    this.#budget = budget;
    this.#limits = limits;
    this.#window = limits.connectionWindowBytes;
  }

  get streams(): readonly Http2Downstream[] {
    return this.#streams.all();
  }

  /** Empties the table. */
  takeAll(): readonly Http2Downstream[] {
    return this.#streams.takeAll();
  }

  /** The stream is over on this side. @returns false: it was already */
  remove(stream: Http2Downstream): boolean {
    if (!this.#streams.delete(stream)) return false;
    if (!stream.body.hasArrived) this.#reset.add(stream.id);
    return true;
  }

  openWindow(bytes: number): void {
    this.#window += bytes;
  }

  isOpen(streamId: number): boolean {
    return this.#streams.has(streamId);
  }

  isIdle(streamId: number): boolean {
    return streamId > this.lastStreamId || streamId % 2 === 0;
  }

  // --- requests

  onHeaders(streamId: number, fields: RequestFields, endStream: boolean): Outcome {
    const open = this.#streams.get(streamId);
    if (open !== undefined) return this.#onTrailers(open, fields, endStream);
    if (streamId <= this.lastStreamId) return this.#reset.has(streamId) ? this.#ignore() : closedFault;
    this.lastStreamId = streamId;
    if (this.#connection.isGoingAway) return this.#refuse(streamId, errorCode.refusedStream, undefined);
    if (this.#streams.size >= this.#limits.streamsMax)
      return this.#refuse(streamId, errorCode.refusedStream, "http2-streams");
    const head = fields.takeHead();
    const { fault, contentLength, acceptsTrailers } = fields;
    if (head === undefined && fault !== "too-large")
      return this.#refuse(streamId, errorCode.protocol, `http2-${fault ?? "fields"}`);
    if (endStream && contentLength !== undefined && contentLength > 0)
      return this.#refuse(streamId, errorCode.protocol, "http2-content-length");
    const window = this.#initialWindow;
    const start = { id: streamId, head: head ?? noHead, endStream, contentLength, acceptsTrailers, window };
    const stream = new Http2Downstream(this.#connection, start);
    this.#streams.add(stream);
    if (head === undefined) this.#connection.onOversizedHead(stream);
    else this.#connection.addRequest(stream);
    return undefined;
  }

  onOversizedBlock(streamId: number): Outcome {
    if (this.#streams.has(streamId)) return this.onStreamError(streamId, errorCode.calm, "too-large");
    if (streamId <= this.lastStreamId) return this.#reset.has(streamId) ? undefined : closedFault;
    this.lastStreamId = streamId;
    return this.#refuse(streamId, errorCode.calm, "http2-too-large");
  }

  /** Nothing of the request was processed. */
  #refuse(streamId: number, code: Http2ErrorCode, reason: string | undefined): Outcome {
    if (reason !== undefined) this.#owner.onRefused(reason);
    this.#reset.add(streamId);
    this.#connection.sendControl(formatReset(streamId, code));
    return this.#budget.spendReset() ? undefined : calmFault;
  }

  /** A frame of a stream that is over. */
  #ignore(): Outcome {
    return this.#budget.spendOverhead(1) ? undefined : calmFault;
  }

  #onTrailers(stream: Http2Downstream, fields: RequestFields, endStream: boolean): Outcome {
    if (stream.body.hasArrived) return this.onStreamError(stream.id, errorCode.streamClosed, "stream-closed");
    const trailers = fields.takeTrailers();
    if (!endStream || trailers === undefined)
      return this.onStreamError(stream.id, errorCode.protocol, fields.fault ?? "trailers");
    return this.#endBody(stream, trailers);
  }

  onData(frame: DataFrame): Outcome {
    const { streamId, counted } = frame;
    this.#window -= counted;
    if (this.#window < 0) return flowFault;
    const stream = this.#streams.get(streamId);
    if (stream === undefined) {
      if (streamId > this.lastStreamId) return protocolFault("idle-stream");
      this.#connection.onConsumed(counted);
      return this.#reset.has(streamId) ? undefined : closedFault;
    }
    if (stream.body.hasArrived) {
      this.#connection.onConsumed(counted);
      return this.onStreamError(streamId, errorCode.streamClosed, "stream-closed");
    }
    const fault = stream.body.onData(frame.bytes, frame);
    if (fault !== undefined) this.#connection.onConsumed(counted); // they have no reader
    if (fault === "flow-control") return this.onStreamError(streamId, errorCode.flowControl, fault);
    if (fault === "length") return this.onStreamError(streamId, errorCode.protocol, "content-length");
    return frame.endStream ? this.#endBody(stream, noTrailers) : undefined;
  }

  #endBody(stream: Http2Downstream, trailers: readonly string[]): Outcome {
    if (stream.onBodyEnd(trailers) === undefined) return undefined;
    return this.onStreamError(stream.id, errorCode.protocol, "content-length");
  }

  onReset(streamId: number): Outcome {
    if (streamId > this.lastStreamId) return protocolFault("idle-stream");
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return this.#ignore();
    this.#streams.delete(stream);
    stream.onReset();
    stream.close();
    return this.#budget.spendReset() ? undefined : calmFault;
  }

  onStreamError(streamId: number, code: Http2ErrorCode, reason: string): Outcome {
    this.#owner.onRefused(`http2-${reason}`);
    const stream = this.#streams.get(streamId);
    if (stream !== undefined) this.#connection.resetStream(stream, code);
    return this.#budget.spendReset() ? undefined : calmFault;
  }

  // --- settings, windows and the rest

  onHeaderTableSize(bytes: number): void {
    this.#connection.output.encoder.resize(bytes);
  }

  onSettings(initialWindow: number): Outcome {
    const change = initialWindow - this.#initialWindow;
    this.#initialWindow = initialWindow;
    if (change !== 0) for (const stream of this.#streams.all()) if (!stream.output.widen(change)) return flowFault;
    if (change > 0) this.#connection.scheduleAll();
    this.#connection.sendControl(settingsAck);
    return undefined;
  }

  onWindowUpdate(streamId: number, bytes: number): Outcome {
    if (streamId === 0) {
      const { output } = this.#connection;
      const wasClosed = output.window <= 0;
      output.window += bytes;
      if (output.window > windowBytesMax) return flowFault;
      if (wasClosed) this.#connection.scheduleAll();
      return undefined;
    }
    if (this.isIdle(streamId)) return protocolFault("idle-stream");
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return undefined;
    if (!stream.output.widen(bytes)) return this.onStreamError(streamId, errorCode.flowControl, "flow-control");
    if (stream.output.isSendable) this.#connection.schedule(stream);
    return undefined;
  }

  onPing(payload: string): Outcome {
    this.#connection.sendControl(formatPing(payload, frameFlag.ack));
    return undefined;
  }

  onPingAck(): void {
    this.#connection.onPingAck();
  }

  /** The caller opens no more streams, or none that matter. */
  onGoAway(): Outcome {
    this.#connection.goAway();
    return undefined;
  }

  /** It concerns what this side would start. */
  onStreamsMax(): void {}
}

const noTrailers: readonly string[] = [];
/** Of a request whose head is too large to be read. */
const noHead: Http2Head = { method: "GET", url: "/", httpVersion: "2", rawHeaders: [] };

/** How many streams are remembered one by one. */
const idsMax = 256;

/**
 * The streams that this side has reset before their caller had ended them. What the caller sent before it learned of
 * that still arrives, and is ignored (RFC 9113 §5.4.2). Of very many streams the oldest are remembered by their bound
 * alone.
 */
export class ResetStreams {
  readonly #ids = new Set<number>();
  #forgottenUpTo = 0;

  add(id: number): void {
    this.#ids.add(id);
    if (this.#ids.size <= idsMax) return;
    const [oldest = 0] = this.#ids;
    this.#ids.delete(oldest);
    this.#forgottenUpTo = Math.max(this.#forgottenUpTo, oldest);
  }

  has(id: number): boolean {
    return id <= this.#forgottenUpTo || this.#ids.has(id);
  }
}
