/**
 * HTTP/2 downstream: one stream of an HTTP/2 connection, as a request and the response to it.
 *
 * - The connection (http2/connection.ts) reads frames and decides when this may write. What is written leaves at the
 *   end of the turn, after the permit was checked again; until then a cut takes it back.
 * - The head has the same form as that of an HTTP/1 request, so the same code reads, decides and forwards both.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { CutReason } from "../message/close-codes.ts";
import type { FlushTime, PendingCut } from "../message/deliveries.ts";
import type {
  BodyReader,
  BoundExchange,
  Downstream,
  DownstreamTunnel,
  UpgradedConnection,
  UpgradedStream,
  UpgradeKind,
} from "../message/downstream-request.ts";
import { HeaderLines, UnwritableHeaderError } from "../message/header-lines.ts";
import type { PresentedCertificate } from "../message/peer.ts";
import type { Http2Connection } from "./connection.ts";
import type { FrameBatch } from "./frame-batch.ts";
import { errorCode, type Http2ErrorCode } from "./frame-types.ts";
import { grpcStatusOfCut } from "./grpc-status.ts";
import type { FieldList } from "./hpack/encoder.ts";
import { createNodeObjects, type NodeObjects } from "./node-objects.ts";
import { type BodyFault, RequestBody } from "./request-body.ts";
import type { Http2Head } from "./request-fields.ts";
import { StreamOutput } from "./stream-output.ts";
import type { StreamTableEntry } from "./stream-table.ts";
import { TunnelStream } from "./tunnel-stream.ts";

/** A response waits for a caller that does not read when this much of it does. */
const queuedBytesMax = 65_536;
/** The rest of a response that waits when its writer is called again. */
const refillBytes = 16_384;

const emptyBody = new RequestBody({ onConsumed: () => {}, onWindow: () => {} }, undefined);
emptyBody.finishEmpty();

export type StreamStart = Readonly<{
  id: number;
  head: Http2Head;
  endStream: boolean;
  contentLength: number | undefined;
  /** The caller sent `TE: trailers`. */
  acceptsTrailers: boolean;
  /** Bytes that the caller accepts at first. */
  window: number;
}>;

export class Http2Downstream implements Downstream, UpgradedStream, StreamTableEntry<Http2Downstream> {
  readonly id: number;
  readonly head: Http2Head;
  readonly hasBody: boolean;
  readonly body: RequestBody;
  readonly output: StreamOutput;
  status = 0;
  ended = false;
  closed = false;
  /** The connection counts it among its open requests. */
  hasBegun = false;
  /** Is in the connection's list of streams with something to send. */
  isListed = false;
  nextInBucket: Http2Downstream | undefined;
  /** When the caller has to have sent the whole request; Infinity: no deadline. */
  receiveUntil = Infinity;
  readonly #connection: Http2Connection;
  readonly #wantsTrailers: boolean;
  #exchange: BoundExchange | undefined;
  #acceptsTrailers = false;
  #hasNoBody = false;
  #isGrpc = false;
  /** The stream belongs to a tunnel: each direction ends by itself. */
  isTunnel = false;
  isReset = false;
  #waitsForDrain = false;
  /** Bytes that waited at the last sweep, and since when their number is unchanged, or the response is complete. */
  #unreadBytes = 0;
  #unreadSince = Infinity;
  #onDrain: (() => void) | undefined;
  #onClose: (() => void)[] = [];
  #nodeObjects: NodeObjects | undefined;

  constructor(connection: Http2Connection, start: StreamStart) {
    this.#connection = connection;
    this.id = start.id;
    this.head = start.head;
    this.hasBody = !start.endStream;
    this.#wantsTrailers = start.acceptsTrailers;
    this.output = new StreamOutput(start.id, start.window, connection.output);
    this.body = start.endStream
      ? emptyBody
      : new RequestBody(
          {
            onConsumed: (bytes) => connection.onConsumed(bytes),
            onWindow: (bytes) => connection.openWindow(this, bytes),
          },
          start.contentLength,
        );
  }

  get peer(): string {
    return this.#connection.caller.address;
  }
  get certificate(): PresentedCertificate | null {
    return this.#connection.caller.certificate;
  }
  get upgrade(): UpgradeKind | null {
    const { method, protocol } = this.head;
    if (protocol !== undefined) return protocol === "websocket" || protocol === "connect-udp" ? protocol : "other";
    return method === "CONNECT" ? "connect" : null;
  }
  get bodyComplete(): boolean {
    return this.body.hasArrived || this.isTunnel;
  }
  get #isUnwritable(): boolean {
    return this.closed || this.isReset || this.ended;
  }
  get needsDrain(): boolean {
    return this.output.queuedBytes >= queuedBytesMax || this.#connection.isFull;
  }

  // --- the request's body

  readBody(reader: BodyReader): void {
    if (this.hasBody) this.body.read(reader);
  }

  resumeBody(): void {
    if (this.hasBody) this.body.resume();
  }

  discardBody(): void {
    if (this.hasBody) this.body.discard();
  }

  /** The body takes too long. @returns false when nothing here can respond to that */
  timeOutBody(): boolean {
    return this.status === 0 && this.body.timeOut();
  }

  /** Called by the connection: END_STREAM has arrived. */
  onBodyEnd(trailers: readonly string[]): BodyFault | undefined {
    const fault = this.body.onEnd(trailers);
    if (fault === undefined) this.receiveUntil = Infinity;
    return fault;
  }

  // --- the response

  writeContinue(): void {
    this.#writeInterim(100, []);
  }

  writeEarlyHints(links: readonly string[]): void {
    this.#writeInterim(103, links);
  }

  #writeInterim(status: number, links: readonly string[]): void {
    if (this.status !== 0 || this.#isUnwritable) return;
    const names = this.#connection.names;
    const fields = {
      names: links.map(() => names.of("link")),
      values: links.map((link) => this.#requireWritable("link", link)),
    };
    this.output.addInterim({ status, fields });
    this.#connection.schedule(this);
  }

  bindExchange(exchange: BoundExchange): void {
    this.#exchange = exchange;
    exchange.setOutlet(this.#connection.outlet);
  }

  writeHead(given: number, { list, endsStream }: HeaderLines, requestId: string | null): void {
    if (this.status !== 0 || this.#isUnwritable) return;
    // A status beyond 5xx counts as one (RFC 9110 §15); no protocol library accepts it.
    const status = given > 599 ? 500 : given;
    const withoutContent = status === 204 || status === 205 || status === 304;
    const fields: FieldList = { names: [], values: [] };
    let hasDate = false;
    let isEmpty = endsStream;
    for (let i = 0; i < list.length; i += 2) {
      const value = list[i + 1] ?? "";
      const name = this.#connection.names.of(list[i] ?? "");
      if (name.use === "omitted") continue;
      if (name.use === "length") {
        // A length without a body makes the stream malformed (RFC 9113 §8.1.1).
        if (withoutContent && status !== 304) continue;
        if (value === "0") isEmpty = true;
      } else if (name.use === "date") hasDate = true;
      else if (name.use === "type") this.#isGrpc = value.startsWith("application/grpc");
      if (!name.isWritable) throw new UnwritableHeaderError(name.lower);
      fields.names.push(name);
      fields.values.push(this.#requireWritable(name.lower, value));
    }
    if (requestId !== null) this.#addField(fields, "x-request-id", requestId);
    if (!hasDate) this.#addField(fields, "date", this.#connection.httpDate());
    // A response with an empty body ends with its head. gRPC's Trailers-Only responses require that.
    this.#hasNoBody = this.head.method === "HEAD" || withoutContent || isEmpty;
    this.#acceptsTrailers = !this.#hasNoBody && (this.#isGrpc || this.#wantsTrailers);
    this.status = status;
    this.output.setHead({ status, fields });
    if (this.#hasNoBody) this.output.end(undefined);
    this.#connection.schedule(this);
  }

  /** @param text a whole response of HTTP/1.1 */
  writeReply(text: string): void {
    const end = text.indexOf("\r\n\r\n");
    const [first = "", ...lines] = text.slice(0, end).split("\r\n");
    const fields = lines.flatMap((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]);
    this.writeHead(Number(first.split(" ")[1]), new HeaderLines(fields), null);
    this.end(Buffer.from(text.slice(end + 4), "latin1"));
  }

  #addField({ names, values }: FieldList, name: string, value: string): void {
    names.push(this.#connection.names.of(name));
    values.push(value);
  }

  #requireWritable(name: string, value: string): string {
    if (!this.#connection.headerValues.isWritable(value)) throw new UnwritableHeaderError(name);
    return value;
  }

  write(chunk: Buffer | string): boolean {
    if (this.#isUnwritable) return false;
    if (this.#hasNoBody || chunk.length === 0) return true;
    this.output.add(chunk);
    this.#connection.schedule(this);
    if (!this.needsDrain) return true;
    this.#waitsForDrain = true;
    return false;
  }

  end(chunk?: Buffer | string, trailers?: readonly string[]): void {
    if (this.#isUnwritable) return;
    if (chunk !== undefined) this.write(typeof chunk === "string" ? Buffer.from(chunk, "utf8") : chunk);
    this.ended = true;
    if (this.output.queuedBytes > 0) this.#waitsForDrain = true;
    if (!this.#hasNoBody) this.output.end(this.#trailerFields(trailers));
    this.#connection.schedule(this);
  }

  /** Trailers that cannot be written are left out as a whole. */
  #trailerFields(lines: readonly string[] | undefined): FieldList | undefined {
    if (lines === undefined || lines.length === 0 || !this.#acceptsTrailers) return undefined;
    const { names, headerValues } = this.#connection;
    const fields: FieldList = { names: [], values: [] };
    for (let i = 0; i < lines.length; i += 2) {
      const name = names.of(lines[i] ?? "");
      const value = lines[i + 1] ?? "";
      if (!name.isWritable || !headerValues.isWritable(value)) return undefined;
      if (name.use === "omitted") continue;
      fields.names.push(name);
      fields.values.push(value);
    }
    return fields.names.length > 0 ? fields : undefined;
  }

  /** Called by the connection when it writes. */
  writeTo(batch: FrameBatch, flush: FlushTime): void {
    if (this.#exchange?.mayFlush(flush) === false) {
      this.#reset(errorCode.cancel);
      return;
    }
    this.output.writeTo(batch);
  }

  get isWholeResponseWritten(): boolean {
    return this.ended && this.output.isEnded;
  }

  /** Called by the connection after it has written. */
  onWritten(): void {
    if (!this.#waitsForDrain || this.output.queuedBytes > refillBytes) return;
    this.#waitsForDrain = false;
    this.#onDrain?.();
  }

  cut(reason: CutReason): void | Promise<void> {
    if (this.closed) return;
    const isDelivered = this.#connection.hasDeliveredAll;
    if (this.#isGrpc && this.#acceptsTrailers && !this.ended && this.output.isEmpty) {
      this.#exchange = undefined; // which permits nothing any more
      this.end(undefined, ["grpc-status", String(grpcStatusOfCut[reason]), "grpc-message", reason]);
    } else this.#reset(errorCode.cancel);
    if (!isDelivered) return this.#connection.cutsFinished();
  }

  destroy(): void {
    this.#reset(errorCode.internal);
  }

  #reset(code: Http2ErrorCode): void {
    if (!this.closed) this.#connection.resetStream(this, code);
  }

  /**
   * Called by each sweep. A caller that reads nothing is idle, however much is queued for it. While an upstream's
   * response or a tunnel is not complete, its route's bound applies instead.
   * @returns for how long the response has been complete on this side, or has waited without any progress
   */
  unreadMs(now: number): number {
    const bytes = this.#nodeObjects === undefined ? 0 : this.output.queuedBytes;
    const isComplete = this.ended && !this.isTunnel;
    if (!isComplete && bytes !== this.#unreadBytes) this.#unreadSince = now;
    else if (isComplete || bytes > 0) this.#unreadSince = Math.min(this.#unreadSince, now);
    else this.#unreadSince = Infinity;
    this.#unreadBytes = bytes;
    return now - this.#unreadSince;
  }

  /** Called by the connection: nothing more of the stream is sent or received. */
  onReset(): void {
    this.isReset = true;
    this.output.discard();
  }

  onDrain(listener: () => void): void {
    this.#onDrain = listener;
  }

  onClose(listener: () => void): void {
    if (this.closed) listener();
    else this.#onClose.push(listener);
  }

  /** Called by the connection: the last byte has left, or the stream was reset, or the connection is gone. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.output.discard();
    if (this.hasBody) this.body.abort();
    const listeners = this.#onClose;
    this.#onClose = [];
    for (const listener of listeners) listener();
    if (this.hasBegun) this.#connection.onRequestClosed();
  }

  // --- for upgrades, tunnels and handlers written for `node:http`

  takeUpgrade(_protocol: string, lines: readonly string[]): UpgradedConnection {
    this.#openTunnel(200, lines);
    return { type: "stream", stream: this };
  }

  takeTunnel(status: number, lines: readonly string[]): DownstreamTunnel {
    this.#openTunnel(status, lines);
    return { stream: new TunnelStream(this), head: Buffer.alloc(0) };
  }

  #openTunnel(status: number, lines: readonly string[]): void {
    this.isTunnel = true;
    this.receiveUntil = Infinity;
    const fields: FieldList = { names: [], values: [] };
    // Only some clients send a key, against RFC 8441 §5, and want its proof.
    const wantsProof = this.head.rawHeaders.includes("sec-websocket-key");
    for (let i = 0; i < lines.length; i += 2) {
      const name = this.#connection.names.of(lines[i] ?? "");
      if (name.use === "omitted" || name.use === "length" || name.use === "date") continue;
      if (name.lower === "sec-websocket-accept" && !wantsProof) continue;
      fields.names.push(name);
      fields.values.push(this.#requireWritable(name.lower, lines[i + 1] ?? ""));
    }
    this.#addField(fields, "date", this.#connection.httpDate());
    this.status = status;
    this.output.setHead({ status, fields });
    this.#connection.schedule(this);
  }

  get hasUnsent(): boolean {
    return !this.output.isEmpty;
  }

  beginCut(): PendingCut | undefined {
    this.#exchange = undefined; // which permits nothing any more
    return this.#connection.hasDeliveredAll ? undefined : this.#connection.cutsFinished();
  }

  onTunnelRead(): void {
    this.#connection.onTunnelChange(this);
  }

  onTunnelOver(): void {
    this.isTunnel = false;
    this.discardBody();
    this.#connection.onTunnelChange(this);
  }

  asNode(): Readonly<{ req: IncomingMessage; res: ServerResponse }> {
    this.#nodeObjects ??= createNodeObjects(this, this.#connection.socket);
    return this.#nodeObjects;
  }
}
