/**
 * HTTP/2 connection: reads the frames of one caller, and runs its requests as streams (docs/adr/0042).
 *
 * - What a turn of the event loop produces leaves in one write at its end. Each stream checks its permit again then.
 * - While the caller does not read, nothing more is written. Streams wait, each up to a bound, and replies to its
 *   control frames have a bound too.
 * - An error of the connection is stated in a GOAWAY, and nothing is read after it. An error of a stream resets that
 *   stream.
 * - Time is bounded for requests that arrive slowly, for responses that are not read, and for a connection without
 *   requests (`sweep`).
 */
import type { Socket } from "node:net";
import { queuedHere, unackedBytes } from "../enforce/send-queue-socket.ts";
import { DownstreamSocketReader } from "../http1/caller-socket.ts";
import { Flush, type FlushTask, scheduleFlush } from "../http1/flush-scheduler.ts";
import { cutWithinMs, SocketOutlet, StreamCuts } from "../http1/outlet-socket.ts";
import type { ConnectionOwner } from "../message/connection-owner.ts";
import type { HeaderValueCheck } from "../message/header-values.ts";
import type { ConnectionPeer } from "../message/peer.ts";
import { AbuseBudget } from "./abuse-budget.ts";
import type { Http2Downstream } from "./downstream.ts";
import { FrameBatch } from "./frame-batch.ts";
import { FrameInterpreter } from "./frame-interpreter.ts";
import { FrameReader } from "./frame-reader.ts";
import {
  type ConnectionFault,
  errorCode,
  formatGoAway,
  formatPing,
  formatReset,
  formatSettings,
  formatWindowUpdate,
  type Http2ErrorCode,
  initialWindowBytes,
  settingId,
} from "./frame-types.ts";
import { HpackEncoder } from "./hpack/encoder.ts";
import type { ResponseNames } from "./hpack/response-names.ts";
import { streamWindowBytes } from "./request-body.ts";
import { headListBytesMax, RequestFields } from "./request-fields.ts";
import { StreamEvents } from "./stream-events.ts";
import type { SharedOutput } from "./stream-output.ts";

export const streamsMax = 128;
/** For all streams of a connection together. */
const connectionWindowBytes = 1_048_576;
/** Written and not yet in the kernel, before streams wait; one stream's turn may exceed it. */
const unsentBytesMax = 65_536;
/** What waits of all responses, before each of them waits for the caller. */
const queuedBytesMax = 1_048_576;
/** Control frames that wait for a caller that does not read; the largest has 17 bytes. */
const controlBytesMax = 17_408;
/** How long a caller that has received everything may take to end its side, as for HTTP/1 (http1/connection.ts). */
const lingerMs = 5_000;

const greeting =
  formatSettings([
    [settingId.maxConcurrentStreams, streamsMax],
    [settingId.initialWindowSize, streamWindowBytes],
    [settingId.maxHeaderListSize, headListBytesMax],
    [settingId.enableConnectProtocol, 1],
    [settingId.noPriorities, 1],
  ]) + formatWindowUpdate(0, connectionWindowBytes - initialWindowBytes);
const pingPayload = "cutting.";

export class Http2Connection implements FlushTask {
  readonly target = "caller";
  readonly caller: ConnectionPeer;
  readonly socket: Socket;
  readonly outlet: SocketOutlet;
  readonly names: ResponseNames;
  readonly output: SharedOutput;
  readonly #owner: ConnectionOwner;
  readonly #cuts: StreamCuts;
  readonly #budget: AbuseBudget;
  readonly #events: StreamEvents;
  readonly #interpreter: FrameInterpreter<RequestFields>;
  readonly #frames: FrameReader;
  #socketReader: DownstreamSocketReader | undefined;
  /** Frames that concern no response: acknowledgements, windows, resets. */
  #control = greeting;
  /** Requests whose head came with the bytes that are being read. */
  #arrived: Http2Downstream[] = [];
  /** Streams with something to send. */
  #listed: Http2Downstream[] = [];
  /** Streams that are over; the end of the turn reports it. */
  #over: Http2Downstream[] = [];
  /** For each write that the kernel has not taken: the streams whose responses it completes. */
  #ending: (readonly Http2Downstream[])[] = [];
  /** Streams in there: no more are written than may be open, however small their responses are. */
  #endingStreams = 0;
  /** Requests whose end was not reported. */
  #openRequests = 0;
  #isScheduled = false;
  /** Bytes that were written and that the kernel has not taken. */
  #unsentBytes = 0;
  /** Bytes that readers have accepted since the window was last opened. */
  #consumed = 0;
  #isPinging = false;
  #isGoingAway = false;
  /** The last stream that a GOAWAY has named; undefined: none was sent. */
  #lastAccepted: number | undefined;
  /** Nothing more is read. */
  #fault: ConnectionFault | undefined;
  #isFinished = false;
  #idleSince: number;
  /** When a caller that does not end its side is disconnected; Infinity: no deadline. */
  #lingersUntil = Infinity;
  /** Since when a head has had no end; Infinity: there is none. */
  #blockSince = Infinity;
  /** Bytes that the system had not taken at the last sweep, and since when their number is unchanged. */
  #stuck = { bytes: 0, since: 0 };

  constructor(socket: Socket, caller: ConnectionPeer, owner: ConnectionOwner, names: ResponseNames) {
    this.socket = socket;
    this.caller = caller;
    this.names = names;
    this.#owner = owner;
    this.outlet = new SocketOutlet(socket, () => owner.onRefused("undelivered"));
    this.#cuts = StreamCuts.ofDownstream(socket, () => this.#ping());
    this.#budget = new AbuseBudget(owner.now);
    this.output = {
      encoder: new HpackEncoder(),
      window: initialWindowBytes,
      queuedBytes: 0,
      onUsefulFrame: () => this.#budget.onUsefulFrame(),
    };
    this.#events = new StreamEvents(this, {
      owner,
      budget: this.#budget,
      limits: { streamsMax, connectionWindowBytes },
    });
    this.#interpreter = new FrameInterpreter(this.#events, this.#budget, new RequestFields());
    this.#frames = new FrameReader((frame) => this.#interpreter.onFrame(frame), "client");
    this.#idleSince = owner.now();
    socket.on("data", this.#onData);
    socket.on("close", this.#onClose);
    socket.on("error", () => {}); // `close` follows
    socket.once("end", () => socket.destroy()); // a caller that ends its side counts as gone
    socket.resume(); // the preface may have been put back
    this.#schedule();
  }

  now(): number {
    return this.#owner.now();
  }

  httpDate(): string {
    return this.#owner.httpDate();
  }

  get headerValues(): HeaderValueCheck {
    return this.#owner.headerValues;
  }

  // --- reading

  readonly #onData = (bytes: Buffer): void => {
    this.#onRead(bytes);
    if (this.#fault !== undefined || this.socket.destroyed || this.socket.readableLength > 0) return;
    this.#socketReader ??= DownstreamSocketReader.begin(this.socket, this.#onRead, this.#onClose);
  };

  /** @param bytes may be in the buffer that all connections share: nothing may keep them */
  readonly #onRead = (bytes: Buffer): void => {
    if (this.#fault !== undefined || this.#isFinished) return;
    const fault = this.#frames.push(bytes);
    if (fault !== undefined) this.#fail(fault);
    else if (this.#arrived.length > 0) this.#beginRequests();
  };

  /** What a caller cancels or spoils within one read costs nothing but its frames. */
  #beginRequests(): void {
    const arrived = this.#arrived;
    this.#arrived = [];
    for (const stream of arrived) if (!stream.closed && !stream.isReset) this.#begin(stream);
  }

  #begin(stream: Http2Downstream): void {
    this.#openRequests += 1;
    if (!stream.bodyComplete && stream.upgrade === null) stream.receiveUntil = this.#owner.now() + this.#owner.readMs;
    stream.hasBegun = true;
    this.#owner.onRequest(stream);
  }

  /** Ends the connection because of what the caller has sent. */
  #fail(fault: ConnectionFault): void {
    if (this.#fault !== undefined) return;
    this.#fault = fault;
    this.#owner.onRefused(`http2-${fault.reason}`);
    this.#frames.stop();
    if (this.#socketReader === undefined) this.socket.pause();
    else this.#socketReader.pause();
    this.#control = this.#formatGoAway(fault.code);
    this.#arrived = [];
    for (const stream of this.#events.takeAll()) this.#discard(stream);
    this.#schedule();
  }

  readonly #onClose = (): void => {
    this.#frames.stop();
    for (const stream of this.#events.takeAll()) stream.close();
    for (const ended of this.#ending.splice(0)) for (const stream of ended) stream.close();
    this.#closeOver();
  };

  // --- for streams and their events

  /** A request has arrived. It begins when everything of this read was interpreted. */
  addRequest(stream: Http2Downstream): void {
    this.#arrived.push(stream);
  }

  /** A request whose head is too large gets a page (docs/request-parsing.md). */
  onOversizedHead(stream: Http2Downstream): void {
    this.#openRequests += 1;
    stream.hasBegun = true;
    this.#owner.onRefused("http2-too-large");
    stream.writeReply(this.#owner.malformedRequestReply(431));
  }

  /** Called by a stream that has begun: it is over. */
  onRequestClosed(): void {
    this.#openRequests -= 1;
    if (this.#openRequests > 0) return;
    this.#idleSince = this.#owner.now();
    if (this.#isGoingAway) this.#schedule();
  }

  get isGoingAway(): boolean {
    return this.#isGoingAway;
  }

  sendControl(text: string): void {
    if (this.#fault !== undefined || this.#isFinished) return;
    this.#control += text;
    this.#schedule();
    if (this.#control.length > controlBytesMax) this.#fail({ code: errorCode.calm, reason: "unread" });
  }

  /** A reader has accepted bytes of any stream. The window opens in large steps. */
  onConsumed(bytes: number): void {
    this.#consumed += bytes;
    if (this.#consumed < connectionWindowBytes / 2) return;
    this.#events.openWindow(this.#consumed);
    this.sendControl(formatWindowUpdate(0, this.#consumed));
    this.#consumed = 0;
  }

  openWindow(stream: Http2Downstream, bytes: number): void {
    if (!stream.closed) this.sendControl(formatWindowUpdate(stream.id, bytes));
  }

  /** All responses together wait for the caller. */
  get isFull(): boolean {
    return this.output.queuedBytes >= queuedBytesMax;
  }

  /** The stream has something to send. */
  schedule(stream: Http2Downstream): void {
    if (stream.isListed) return;
    stream.isListed = true;
    // While the caller does not read, streams that it resets would stay here.
    if (this.#listed.length > streamsMax) this.#listed = this.#listed.filter(({ closed }) => !closed);
    this.#listed.push(stream);
    this.#schedule();
  }

  /** A window has opened. */
  scheduleAll(): void {
    for (const stream of this.#events.streams) if (stream.output.isSendable) this.schedule(stream);
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    scheduleFlush(this);
  }

  /** Takes back what was not written, and tells the caller. */
  resetStream(stream: Http2Downstream, code: Http2ErrorCode): void {
    if (this.#events.remove(stream)) this.sendControl(formatReset(stream.id, code));
    this.#discard(stream);
  }

  /** Nothing more of the stream is sent. The end of the turn reports that it is over. */
  #discard(stream: Http2Downstream): void {
    stream.onReset();
    this.#over.push(stream);
    this.#schedule();
  }

  /** A tunnel has read the last byte of its caller, or reads and writes nothing more. */
  onTunnelChange(stream: Http2Downstream): void {
    if (!stream.output.isEnded || stream.closed) return;
    if (stream.isTunnel && !stream.body.isComplete) return;
    this.#conclude(stream);
    this.#over.push(stream);
    this.#schedule();
  }

  /** The whole response was written: tells a caller that is still sending to stop (RFC 9113 §8.1). */
  #conclude(stream: Http2Downstream): void {
    const isOpen = this.#events.remove(stream);
    if (isOpen && !stream.body.hasArrived) this.sendControl(formatReset(stream.id, errorCode.none));
  }

  // --- writing

  runFlush(flush: Flush): void {
    this.#isScheduled = false;
    if (this.socket.destroyed) {
      this.#onClose();
      return;
    }
    if (this.#fault !== undefined) this.#writeLast();
    else if (this.#unsentBytes < unsentBytesMax && !this.#isFinished) this.#write(flush);
    this.#closeOver();
    this.#finishIfIdle();
  }

  #closeOver(): void {
    if (this.#over.length > 0) for (const stream of this.#over.splice(0)) stream.close();
  }

  #write(flush: Flush): void {
    const batch = new FrameBatch();
    const control = this.#control;
    this.#control = "";
    batch.addText(control);
    const [written, ended] = this.#writeStreams(batch, flush);
    // Resets of streams that have just ended follow them.
    batch.addText(this.#control);
    this.#control = "";
    const { bytes } = batch;
    if (bytes > 0) {
      this.#unsentBytes += bytes;
      this.#ending.push(ended);
      this.#endingStreams += ended.length;
      batch.send(this.socket, () => this.#onSent(bytes));
    } else this.#over.push(...ended); // nothing is left to write of them
    for (const stream of written) stream.onWritten();
  }

  /** @returns the streams that were written, and those whose response is complete */
  #writeStreams(batch: FrameBatch, flush: Flush): readonly [written: Http2Downstream[], ended: Http2Downstream[]] {
    const written = this.#listed;
    this.#listed = [];
    const again: Http2Downstream[] = [];
    const ended: Http2Downstream[] = [];
    for (const stream of written) {
      stream.isListed = false;
      if (stream.closed) continue;
      const hasTurn =
        this.#unsentBytes + batch.bytes < unsentBytesMax && this.#endingStreams + ended.length < streamsMax;
      if (hasTurn) stream.writeTo(batch, flush);
      if (stream.output.isSendable) {
        stream.isListed = true;
        (hasTurn ? again : this.#listed).push(stream); // those that had no turn are first in the next one
      } else if (stream.isWholeResponseWritten) {
        if (!stream.isTunnel || stream.body.isComplete) {
          this.#conclude(stream);
          ended.push(stream);
        }
      }
    }
    this.#listed.push(...again);
    return [written, ended];
  }

  #onSent(bytes: number): void {
    this.#unsentBytes -= bytes;
    if (this.socket.destroyed) return; // a destroyed socket also calls back for what never left; `close` follows
    const ended = this.#ending.shift() ?? [];
    this.#endingStreams -= ended.length;
    for (const stream of ended) stream.close();
    if (this.#listed.length > 0 || this.#control !== "") this.runFlush(new Flush());
    else this.#finishIfIdle();
  }

  /** States the fault and closes. A caller that reads nothing does not learn of it. */
  #writeLast(): void {
    if (this.#isFinished) return;
    this.#isFinished = true;
    if (this.#unsentBytes >= unsentBytesMax) {
      this.outlet.close();
      return;
    }
    this.socket.write(this.#control, "latin1");
    this.#control = "";
    this.socket.destroySoon();
  }

  #finishIfIdle(): void {
    if (!this.#isGoingAway || this.#isFinished || this.#fault !== undefined) return;
    if (this.#openRequests > 0 || this.#control !== "" || this.#listed.length > 0) return;
    this.#isFinished = true;
    this.socket.end();
  }

  // --- time

  /** This side has ended in order, the caller's has not: a reset would take from it what it has not read. */
  get lingering(): boolean {
    return this.#isFinished && !this.socket.destroyed;
  }

  /** Ends what is slow or idle. */
  sweep(now: number): void {
    if (this.lingering) {
      if (this.#lingersUntil === Infinity) this.#lingersUntil = now + lingerMs;
      else if (this.#lingersUntil <= now) this.socket.destroy();
      return;
    }
    for (const stream of this.#events.streams) this.#sweepStream(stream, now);
    if (!this.#interpreter.isInBlock) this.#blockSince = Infinity;
    else if (this.#blockSince === Infinity) this.#blockSince = now;
    else if (now - this.#blockSince >= this.#owner.readMs) this.#fail({ code: errorCode.calm, reason: "slow-head" });
    this.#sweepUnread(now);
    if (this.#openRequests === 0 && now - this.#idleSince >= this.#owner.idleMs) this.goAway();
  }

  #sweepStream(stream: Http2Downstream, now: number): void {
    const { readLimit, readMs, idleMs } = this.#owner;
    if (stream.unreadMs(now) >= idleMs) stream.destroy();
    if (stream.receiveUntil === Infinity) return;
    // Once a response has begun both sides may send within the route's own bounds.
    if (stream.bodyComplete || stream.status !== 0) stream.receiveUntil = Infinity;
    else if (readLimit === "silence" && stream.body.hasProgress()) stream.receiveUntil = now + readMs;
    else if (stream.receiveUntil <= now) {
      stream.receiveUntil = Infinity;
      if (stream.timeOutBody()) return;
      this.#owner.onRefused("ERR_HTTP_REQUEST_TIMEOUT");
      stream.destroy();
    }
  }

  #sweepUnread(now: number): void {
    const bytes = queuedHere(this.socket);
    if (bytes === 0 || bytes !== this.#stuck.bytes) this.#stuck = { bytes, since: now };
    else if (now - this.#stuck.since >= this.#owner.idleMs) this.socket.destroy();
  }

  // --- cuts and ends

  /** Nothing of any stream is queued here or in the kernel. */
  get hasDeliveredAll(): boolean {
    return this.#unsentBytes === 0 && unackedBytes(this.socket) === 0;
  }

  /**
   * After a stream was cut: what was written of it cannot be taken back. Either the caller's kernel acknowledges all
   * of that shortly, or the connection is reset, and with it the caller's other streams.
   * @returns settles when no byte that was written before can leave this machine
   */
  cutsFinished(): Promise<void> {
    return this.#cuts.finished();
  }

  /** The answer carries the acknowledgement that a cut waits for. */
  #ping(): void {
    if (this.#isPinging || this.socket.destroyed) return;
    this.#isPinging = true;
    this.sendControl(formatPing(pingPayload, 0));
  }

  onPingAck(): void {
    this.#isPinging = false;
  }

  /** Accepts no new stream; ends after the last one. */
  goAway(): void {
    if (this.#isGoingAway || this.#fault !== undefined || this.socket.destroyed) return;
    this.#isGoingAway = true;
    this.sendControl(this.#formatGoAway(errorCode.none));
  }

  /** A later GOAWAY names no higher stream (RFC 9113 §6.8). */
  #formatGoAway(code: Http2ErrorCode): string {
    this.#lastAccepted ??= this.#events.lastStreamId;
    return formatGoAway(this.#lastAccepted, code);
  }

  closeIdle(): void {
    this.goAway();
  }

  destroyUnlessTaken(): void {
    if (!this.#isFinished && this.#fault === undefined && this.#unsentBytes < unsentBytesMax) {
      this.#isFinished = true;
      this.socket.end(this.#control + this.#formatGoAway(errorCode.none), "latin1");
      this.#control = "";
    }
    for (const stream of this.#events.takeAll()) this.#discard(stream);
    // A caller that takes nothing would keep the socket open.
    setTimeout(() => this.outlet.close(), cutWithinMs);
  }
}
