/**
 * HTTP/2 client session: the streams of one connection to an upstream, as frames (docs/adr/0078).
 *
 * - What a turn of the event loop produces leaves in one write at its end: heads, bodies, windows and resets.
 * - While the upstream does not read, nothing more is written. Streams wait, each up to a bound, and so do replies to
 *   control frames.
 * - An error of the connection is stated in a GOAWAY and ends it. An error of a stream resets that stream.
 * - The upstream's frames are held to the rules and budgets that hold for callers (frame-interpreter.ts).
 */
import type { Socket } from "node:net";
import { type FlushTask, scheduleFlush } from "../http1/flush-scheduler.ts";
import { UpstreamClosedError, UpstreamIdleError, UpstreamProtocolError } from "../message/upstream-call.ts";
import { AbuseBudget } from "./abuse-budget.ts";
import { Http2ClientStream, type StreamHandler, type StreamRequest, type UpstreamStream } from "./client-stream.ts";
import { FrameBatch } from "./frame-batch.ts";
import { calmFault, type DataFrame, type FrameEvents, FrameInterpreter, protocolFault } from "./frame-interpreter.ts";
import { FrameReader, prefaceText } from "./frame-reader.ts";
import {
  type ConnectionFault,
  errorCode,
  formatGoAway,
  formatPing,
  formatReset,
  formatSettings,
  formatWindowUpdate,
  frameFlag,
  type Http2ErrorCode,
  initialWindowBytes,
  settingId,
  settingsAck,
  windowBytesMax,
} from "./frame-types.ts";
import { HpackEncoder } from "./hpack/encoder.ts";
import { ResponseFields, responseBytesMax } from "./response-fields.ts";
import { ResetStreams } from "./stream-events.ts";
import { type SharedOutput, StreamOutput } from "./stream-output.ts";
import { StreamTable } from "./stream-table.ts";

/** Written and not yet in the kernel, before streams wait. */
const unsentBytesMax = 65_536;
/** Control frames that wait for an upstream that does not read. */
const controlBytesMax = 17_408;
/** Time-outs are exceeded by at most two of these. */
const checkEveryMs = 100;

type Outcome = ConnectionFault | undefined;

/** A response is over when its END_STREAM has arrived, even if its reader does not have all of it. */
const closedFault: ConnectionFault = { code: errorCode.streamClosed, reason: "stream-closed" };

export type SessionHooks = Readonly<{
  /** A SETTINGS frame was applied. @param streamsMax undefined: the upstream has not stated any */
  onSettings(streamsMax: number | undefined): void;
  /** No stream above `lastStreamId` is processed; those have failed already. */
  onGoAway(): void;
  onPong(): void;
  /** A stream is over, whether it was sent or not. */
  onStreamOver(): void;
  /** Called before the streams fail. */
  onFault(error: Error): void;
}>;

/** What the upstream may send before readers accept it: on one stream, and on all of them. */
export type SessionWindows = Readonly<{ windowBytes: number; connectionWindowBytes: number }>;

/** One connection to an upstream, for the streams of its calls. */
export interface UpstreamSession {
  /** Changes with each read; NaN: unknown. */
  readonly reads: number;
  /** It takes no stream any more. */
  readonly isClosing: boolean;
  /** The socket is connected. */
  begin(): void;
  createStream(request: StreamRequest, handler: StreamHandler): UpstreamStream;
  /** @param payload eight bytes, as latin1 text */
  ping(payload: string): void;
  /** No stream is left. What was written before still leaves. */
  close(): void;
  /** The socket is closed. @param error why */
  onSocketClosed(error: Error): void;
}

export class Http2ClientSession implements UpstreamSession, FlushTask, FrameEvents<ResponseFields> {
  readonly target = "upstream";
  readonly enablePushMax = 0;
  readonly windowBytes: number;
  reads = 0;
  readonly #socket: Socket;
  readonly #hooks: SessionHooks;
  readonly #connectionWindowBytes: number;
  readonly #budget = new AbuseBudget(() => performance.now());
  readonly #output: SharedOutput = {
    encoder: new HpackEncoder(),
    window: initialWindowBytes,
    queuedBytes: 0,
    onUsefulFrame: () => this.#budget.onUsefulFrame(),
  };
  readonly #interpreter = new FrameInterpreter<ResponseFields>(this, this.#budget, new ResponseFields());
  readonly #frames = new FrameReader((frame) => this.#interpreter.onFrame(frame), "server");
  readonly #streams = new StreamTable<Http2ClientStream>();
  readonly #reset = new ResetStreams();
  /** Streams whose head leaves at the end of the turn. */
  #opening: Http2ClientStream[] = [];
  /** Streams with something to send. */
  #listed: Http2ClientStream[] = [];
  #control = "";
  #nextId = 1;
  #initialWindow = initialWindowBytes;
  #streamsMax: number | undefined;
  #window: number;
  /** Bytes that readers have accepted since the window was last opened. */
  #consumed = 0;
  /** Bytes that were written and that the kernel has not taken. */
  #unsentBytes = 0;
  #isScheduled = false;
  #isWritable = false;
  #fault: ConnectionFault | undefined;
  #isFinished = false;
  #checkTimer: NodeJS.Timeout | undefined;

  constructor(socket: Socket, { windowBytes, connectionWindowBytes }: SessionWindows, hooks: SessionHooks) {
    this.#socket = socket;
    this.#hooks = hooks;
    this.windowBytes = windowBytes;
    this.#connectionWindowBytes = connectionWindowBytes;
    this.#window = connectionWindowBytes;
  }

  begin(): void {
    const settings = formatSettings([
      [settingId.enablePush, 0],
      [settingId.initialWindowSize, this.windowBytes],
      [settingId.maxHeaderListSize, responseBytesMax],
    ]);
    this.#isWritable = true;
    this.#control =
      prefaceText + settings + formatWindowUpdate(0, this.#connectionWindowBytes - initialWindowBytes) + this.#control;
    this.#socket.on("data", (bytes: Buffer) => this.#onRead(bytes));
    this.#schedule();
  }

  /** The head leaves at the end of this turn. */
  open(stream: Http2ClientStream): void {
    this.#opening.push(stream);
    if (stream.request.idleMsMax < Infinity)
      this.#checkTimer ??= setInterval(() => this.#check(), checkEveryMs).unref();
    this.#schedule();
  }

  createStream(request: StreamRequest, handler: StreamHandler): Http2ClientStream {
    return new Http2ClientStream(this, request, handler);
  }

  ping(payload: string): void {
    this.sendControl(formatPing(payload, 0));
  }

  get isClosing(): boolean {
    return this.#isFinished || this.#fault !== undefined;
  }

  close(): void {
    if (this.isClosing) return; // a fault has ended it
    this.#isFinished = true;
    this.#socket.end(this.#control + formatGoAway(0, errorCode.none), "latin1");
  }

  onSocketClosed(error: Error): void {
    this.#isFinished = true;
    this.#frames.stop();
    clearInterval(this.#checkTimer);
    this.#failAll(error, undefined);
  }

  // --- for streams

  schedule(stream: Http2ClientStream): void {
    if (stream.isListed) return;
    stream.isListed = true;
    this.#listed.push(stream);
    this.#schedule();
  }

  /** A reader has accepted bytes of any stream. The window opens in large steps. */
  onConsumed(bytes: number): void {
    this.#consumed += bytes;
    if (this.#consumed < this.#connectionWindowBytes / 2) return;
    this.#window += this.#consumed;
    this.sendControl(formatWindowUpdate(0, this.#consumed));
    this.#consumed = 0;
  }

  openWindow(stream: Http2ClientStream, bytes: number): void {
    if (!stream.isOver) this.sendControl(formatWindowUpdate(stream.id, bytes));
  }

  /** Called once for each stream. @param code sent in a RST_STREAM if the stream was sent; undefined: none */
  onOver(stream: Http2ClientStream, code: Http2ErrorCode | undefined): void {
    const wasOpen = this.#streams.delete(stream);
    // While the upstream does not read, the lists would keep it.
    if (stream.isListed) this.#listed = this.#listed.filter((each) => each !== stream);
    if (!wasOpen) this.#opening = this.#opening.filter((each) => each !== stream);
    else if (code !== undefined) {
      this.#reset.add(stream.id);
      this.sendControl(formatReset(stream.id, code));
    }
    this.#hooks.onStreamOver();
  }

  sendControl(text: string): void {
    if (this.#fault !== undefined || this.#isFinished) return;
    this.#control += text;
    this.#schedule();
    if (this.#control.length > controlBytesMax && this.#isWritable)
      this.#fail({ code: errorCode.calm, reason: "unread" });
  }

  #schedule(): void {
    if (this.#isScheduled || !this.#isWritable) return;
    this.#isScheduled = true;
    scheduleFlush(this);
  }

  // --- reading

  #onRead(bytes: Buffer): void {
    if (this.#fault !== undefined || this.#isFinished) return;
    this.reads += 1;
    const fault = this.#frames.push(bytes);
    if (fault !== undefined) this.#fail(fault);
  }

  /** Ends the connection because of what the upstream has sent. */
  #fail(fault: ConnectionFault): void {
    if (this.#fault !== undefined) return;
    this.#fault = fault;
    this.#frames.stop();
    this.#socket.pause();
    if (this.#unsentBytes < unsentBytesMax && !this.#socket.destroyed)
      this.#socket.write(formatGoAway(0, fault.code), "latin1");
    this.#socket.destroySoon();
    const error = new UpstreamProtocolError(`the upstream broke the rules of HTTP/2: ${fault.reason}`);
    this.#hooks.onFault(error);
    this.#failAll(error, fault.code);
  }

  /** A response that is complete goes on to its reader. Of streams that were not opened, nothing was sent. */
  #failAll(error: Error, code: number | undefined): void {
    const opening = this.#opening.splice(0);
    for (const stream of this.#streams.all()) {
      if (stream.hasArrived) stream.stopSending();
      else stream.fail({ code, error, unprocessed: false });
    }
    for (const stream of opening) stream.fail({ code, error, unprocessed: true });
  }

  isOpen(streamId: number): boolean {
    return this.#streams.has(streamId);
  }

  isIdle(streamId: number): boolean {
    return streamId >= this.#nextId || streamId % 2 === 0;
  }

  onHeaders(streamId: number, fields: ResponseFields, endStream: boolean): Outcome {
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return this.#onClosedStream(streamId);
    if (stream.hasArrived) return closedFault;
    const fault = stream.onFields(fields, endStream);
    if (fault !== undefined) return this.onStreamError(streamId, errorCode.protocol, fault);
    const isInformational = fields.status > 0 && fields.status < 200;
    return isInformational && !this.#budget.spendOverhead(1) ? calmFault : undefined;
  }

  onOversizedBlock(streamId: number): Outcome {
    if (!this.#streams.has(streamId)) return this.#onClosedStream(streamId);
    return this.onStreamError(streamId, errorCode.calm, "too-large");
  }

  onData(frame: DataFrame): Outcome {
    const { streamId, counted } = frame;
    this.#window -= counted;
    if (this.#window < 0) return { code: errorCode.flowControl, reason: "flow-control" };
    const stream = this.#streams.get(streamId);
    if (stream === undefined) {
      this.onConsumed(counted);
      return this.#reset.has(streamId) ? undefined : this.#onClosedStream(streamId);
    }
    if (stream.hasArrived) return closedFault;
    const fault = stream.onFrame(frame);
    if (fault === undefined) return undefined;
    return this.onStreamError(streamId, fault === "flow-control" ? errorCode.flowControl : errorCode.protocol, fault);
  }

  /** A frame of a stream that is not open: one that this side has reset may still get some (RFC 9113 §5.4.2). */
  #onClosedStream(streamId: number): Outcome {
    if (this.isIdle(streamId)) return protocolFault("idle-stream");
    if (!this.#reset.has(streamId)) return closedFault;
    return this.#budget.spendOverhead(1) ? undefined : calmFault;
  }

  onReset(streamId: number, code: number): Outcome {
    if (this.isIdle(streamId)) return protocolFault("idle-stream");
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return this.#budget.spendOverhead(1) ? undefined : calmFault;
    // A response that is complete stays so (RFC 9113 §8.1); its reader may not have all of it.
    if (stream.hasArrived) stream.stopSending();
    else stream.fail({ code, error: undefined, unprocessed: code === errorCode.refusedStream });
    return undefined;
  }

  onStreamError(streamId: number, code: Http2ErrorCode, reason: string): Outcome {
    const error = new UpstreamProtocolError(`the upstream sent an invalid response over HTTP/2: ${reason}`);
    this.#streams.get(streamId)?.refuse(code, error);
    return this.#budget.spendOverhead(1) ? undefined : calmFault;
  }

  onHeaderTableSize(bytes: number): void {
    this.#output.encoder.resize(bytes);
  }

  onStreamsMax(streams: number): void {
    this.#streamsMax = streams;
  }

  onSettings(initialWindow: number): Outcome {
    const change = initialWindow - this.#initialWindow;
    this.#initialWindow = initialWindow;
    if (change !== 0)
      for (const stream of this.#streams.all())
        if (!stream.widen(change)) return { code: errorCode.flowControl, reason: "settings" };
    if (change > 0) this.#scheduleAll();
    this.sendControl(settingsAck);
    this.#hooks.onSettings(this.#streamsMax);
    return undefined;
  }

  onWindowUpdate(streamId: number, bytes: number): Outcome {
    if (streamId === 0) {
      const output = this.#output;
      const wasClosed = output.window <= 0;
      output.window += bytes;
      if (output.window > windowBytesMax) return { code: errorCode.flowControl, reason: "flow-control" };
      if (wasClosed) this.#scheduleAll();
      return undefined;
    }
    if (this.isIdle(streamId)) return protocolFault("idle-stream");
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return undefined;
    if (!stream.widen(bytes)) return this.onStreamError(streamId, errorCode.flowControl, "flow-control");
    if (stream.isSendable) this.schedule(stream);
    return undefined;
  }

  onPing(payload: string): Outcome {
    this.sendControl(formatPing(payload, frameFlag.ack));
    return undefined;
  }

  onPingAck(): void {
    this.#hooks.onPong();
  }

  onGoAway(lastStreamId: number, code: number): Outcome {
    const error = code === errorCode.none ? undefined : new UpstreamClosedError(`the upstream sent GOAWAY (${code})`);
    const opening = this.#opening.splice(0);
    for (const stream of this.#streams.all())
      if (stream.id > lastStreamId) stream.fail({ code, error, unprocessed: true });
    for (const stream of opening) stream.fail({ code, error, unprocessed: true });
    this.#hooks.onGoAway();
    return undefined;
  }

  #scheduleAll(): void {
    for (const stream of this.#streams.all()) if (stream.isSendable) this.schedule(stream);
  }

  // --- writing

  runFlush(): void {
    this.#isScheduled = false;
    if (this.#socket.destroyed || this.#isFinished || this.#fault !== undefined) return;
    if (this.#unsentBytes < unsentBytesMax) this.#write();
  }

  #write(): void {
    const batch = new FrameBatch();
    this.#addControl(batch);
    const listed = this.#listed;
    this.#listed = [];
    for (const stream of listed) {
      stream.isListed = false;
      if (this.#hasRoom(batch)) stream.writeMoreTo(batch);
    }
    const opened = this.#openInto(batch);
    this.#addControl(batch); // resets of streams that were just cancelled follow them
    const { bytes } = batch;
    if (bytes > 0) {
      this.#unsentBytes += bytes;
      batch.send(this.#socket, () => this.#onSent(bytes));
    }
    for (const streams of [listed, opened])
      for (const stream of streams) {
        if (stream.isSendable) this.schedule(stream);
        stream.onWritten();
      }
  }

  #hasRoom(batch: FrameBatch): boolean {
    return this.#unsentBytes + batch.bytes < unsentBytesMax;
  }

  #addControl(batch: FrameBatch): void {
    batch.addText(this.#control);
    this.#control = "";
  }

  /** Heads leave in the order of their numbers. @returns the streams that were opened */
  #openInto(batch: FrameBatch): Http2ClientStream[] {
    const opening = this.#opening;
    if (opening.length === 0) return opening;
    this.#opening = [];
    const opened: Http2ClientStream[] = [];
    let at = 0;
    for (; at < opening.length && this.#hasRoom(batch); at++) {
      const stream = opening[at];
      const id = this.#nextId;
      if (stream === undefined) continue;
      stream.isListed = true; // what it writes meanwhile leaves now
      const isOpen = stream.open(id, new StreamOutput(id, this.#initialWindow, this.#output));
      stream.isListed = false;
      if (!isOpen) continue;
      this.#nextId += 2;
      this.#streams.add(stream);
      stream.writeTo(batch);
      opened.push(stream);
    }
    const waiting = opening.slice(at).filter(({ isOver }) => !isOver);
    this.#opening = waiting.concat(this.#opening);
    return opened;
  }

  #onSent(bytes: number): void {
    this.#unsentBytes -= bytes;
    if (this.#listed.length > 0 || this.#opening.length > 0 || this.#control !== "") this.#schedule();
  }

  // --- time

  #check(): void {
    const now = performance.now();
    for (const stream of this.#streams.all().concat(this.#opening)) {
      if (stream.hasMoved || stream.isPaused) {
        stream.hasMoved = false;
        stream.movedAt = now;
      } else if (now - stream.movedAt > stream.request.idleMsMax)
        stream.refuse(errorCode.cancel, new UpstreamIdleError("the upstream fell silent"));
    }
  }
}
