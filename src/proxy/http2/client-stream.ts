/**
 * HTTP/2 client stream: one request on a connection to an upstream, and the response to it.
 *
 * - Nothing of the request is encoded before its permit was checked at the end of the turn; until then it can be taken
 *   back. What waits for a window is checked again when it leaves.
 * - The response ends when its reader has all of it. A request that is not complete by then is cancelled.
 */
import type { BodyReader } from "../message/downstream-request.ts";
import type { RawLines } from "../message/header-lines.ts";
import type { Http2ClientSession } from "./client-session.ts";
import type { FrameBatch } from "./frame-batch.ts";
import { errorCode, type Http2ErrorCode } from "./frame-types.ts";
import type { FieldList } from "./hpack/encoder.ts";
import { type BodyFault, RequestBody } from "./request-body.ts";
import type { ResponseFields } from "./response-fields.ts";
import type { StreamOutput } from "./stream-output.ts";
import type { StreamTableEntry } from "./stream-table.ts";

/** A writer waits when this much of its request does. */
const queuedBytesMax = 65_536;
/** The rest that waits when the writer is called again. */
const refillBytes = 16_384;

/** Why a stream ended without a whole response. */
export type StreamFailure = Readonly<{
  /** Of the RST_STREAM that either side sent; undefined: the connection ended. */
  code: number | undefined;
  /** Malformed, silent, or why the connection ended; undefined: the upstream has reset the stream. */
  error: Error | undefined;
  /** The upstream has stated that it did not process the request, or nothing of it was sent. */
  unprocessed: boolean;
}>;

/** Callbacks to the call. None follows `onEnd` and `onFailed`. */
export type StreamHandler = Readonly<{
  /** Called right before bytes are written. @returns false: they are not, and the stream ends without a callback */
  mayWrite(): boolean;
  /** The head has left, or more of the body may be written. */
  onWritable(): void;
  onInformational(status: number, lines: RawLines): void;
  onHead(status: number, lines: RawLines, endStream: boolean): void;
  /** @returns false: pause until `resume` */
  onData(chunk: Buffer): boolean;
  onEnd(trailers: RawLines): void;
  onFailed(failure: StreamFailure): void;
}>;

/** One request, for its call. */
export interface UpstreamStream {
  /** 0: nothing was sent. */
  readonly id: number;
  /** Sends the head when its permit was checked. */
  begin(): void;
  /** @returns false: wait for `onWritable` */
  write(chunk: Buffer): boolean;
  /** The request is complete. */
  end(trailers: FieldList | undefined): void;
  resume(): void;
  /** Ends the stream; no callback follows. */
  cancel(): void;
}

export type StreamRequest = Readonly<{
  fields: FieldList;
  method: string;
  hasBody: boolean;
  /** Without a byte in either direction; Infinity: no limit. */
  idleMsMax: number;
}>;

const noTrailers: RawLines = [];

export class Http2ClientStream implements UpstreamStream, BodyReader, StreamTableEntry<Http2ClientStream> {
  readonly request: StreamRequest;
  readonly #session: Http2ClientSession;
  readonly #handler: StreamHandler;
  id = 0;
  /** Is in the session's list of streams with something to send. */
  isListed = false;
  isOver = false;
  nextInBucket: Http2ClientStream | undefined;
  /** Bytes have moved since the last check. */
  hasMoved = true;
  /** Time of the last check at which they had, ms. */
  movedAt = 0;
  #output: StreamOutput | undefined;
  #body: RequestBody | undefined;
  #waitsForDrain = false;

  constructor(session: Http2ClientSession, request: StreamRequest, handler: StreamHandler) {
    this.#session = session;
    this.request = request;
    this.#handler = handler;
  }

  // --- for the call

  begin(): void {
    this.#session.open(this);
  }

  write(chunk: Buffer): boolean {
    const output = this.#output;
    if (this.isOver || output === undefined || output.isEnded) return true;
    output.add(chunk);
    this.#session.schedule(this);
    if (output.queuedBytes < queuedBytesMax) return true;
    this.#waitsForDrain = true;
    return false;
  }

  end(trailers: FieldList | undefined): void {
    if (this.isOver || this.#output === undefined || this.#output.isEnded) return;
    this.#output.end(trailers);
    this.#session.schedule(this);
  }

  resume(): void {
    this.hasMoved = true;
    this.#body?.resume();
  }

  cancel(): void {
    this.#end(errorCode.cancel);
  }

  // --- for the session

  /** Prepares the head for writing. @returns false: the request must not be sent */
  open(id: number, output: StreamOutput): boolean {
    if (this.isOver || !this.#mayWrite()) return false;
    this.id = id;
    this.#output = output;
    output.setHead({ status: null, fields: this.request.fields });
    if (this.request.hasBody) this.#handler.onWritable();
    else output.end(undefined);
    return !this.isOver;
  }

  #mayWrite(): boolean {
    if (this.#handler.mayWrite()) return true;
    this.#end(errorCode.cancel);
    return false;
  }

  get isSendable(): boolean {
    return !this.isOver && this.#output?.isSendable === true;
  }

  /** @returns false: the window is larger than any may be */
  widen(bytes: number): boolean {
    return this.#output?.widen(bytes) !== false;
  }

  /** Writes what was not written when the stream was opened. */
  writeMoreTo(batch: FrameBatch): void {
    if (this.isSendable && this.#mayWrite()) this.writeTo(batch);
  }

  /** Called right after the permit was checked. */
  writeTo(batch: FrameBatch): void {
    const output = this.#output;
    if (this.isOver || output === undefined) return;
    const before = batch.bytes;
    output.writeTo(batch);
    if (batch.bytes > before) this.hasMoved = true;
  }

  /** Called after a write. */
  onWritten(): void {
    const output = this.#output;
    if (!this.#waitsForDrain || this.isOver || output === undefined || output.queuedBytes > refillBytes) return;
    this.#waitsForDrain = false;
    this.#handler.onWritable();
  }

  /** A header block has arrived. @returns why the stream is malformed */
  onFields(fields: ResponseFields, endStream: boolean): string | undefined {
    this.hasMoved = true;
    const { status } = fields;
    if (fields.fault !== undefined) return fields.fault;
    if (this.#body !== undefined) {
      if (status !== 0 || !endStream) return "trailers";
      return this.#onBodyEnd(fields.takeLines());
    }
    if (status < 200) {
      if (status < 100 || status === 101 || endStream) return "status";
      this.#handler.onInformational(status, fields.takeLines());
      return undefined;
    }
    const { method } = this.request;
    const isBodiless = method === "HEAD" || status === 204 || status === 304;
    const hooks = {
      onConsumed: (bytes: number) => this.#session.onConsumed(bytes),
      onWindow: (bytes: number) => this.#session.openWindow(this, bytes),
    };
    this.#body = new RequestBody(hooks, isBodiless ? 0 : fields.contentLength, this.#session.windowBytes);
    this.#handler.onHead(status, fields.takeLines(), endStream);
    if (this.isOver) return undefined;
    this.#body.read(this);
    return endStream ? this.#onBodyEnd(noTrailers) : undefined;
  }

  /** @returns why the stream is malformed */
  onFrame(
    frame: Parameters<RequestBody["onData"]>[1] & Readonly<{ bytes: Buffer; endStream: boolean }>,
  ): string | undefined {
    this.hasMoved = true;
    const body = this.#body;
    const fault = body === undefined ? "no-head" : body.onData(frame.bytes, frame);
    if (fault !== undefined) {
      this.#session.onConsumed(frame.counted); // they have no reader
      return fault;
    }
    return frame.endStream && !this.isOver ? this.#onBodyEnd(noTrailers) : undefined;
  }

  /** END_STREAM has arrived. */
  get hasArrived(): boolean {
    return this.#body?.hasArrived === true;
  }

  /** The upstream accepts nothing more of the request; its response is complete and goes on to its reader. */
  stopSending(): void {
    this.#output?.discard();
  }

  /** The response waits for its reader. */
  get isPaused(): boolean {
    return this.#body?.isPaused === true;
  }

  #onBodyEnd(trailers: RawLines): BodyFault | undefined {
    return this.#body?.onEnd(trailers);
  }

  onChunk(chunk: Buffer): boolean {
    return this.#handler.onData(chunk);
  }

  /** The reader has the whole response. */
  onBodyEnd(trailers: readonly string[]): void {
    if (this.#end(errorCode.cancel)) this.#handler.onEnd(trailers as RawLines);
  }

  onAbort(): void {}

  fail(failure: StreamFailure): void {
    if (this.#end(undefined)) this.#handler.onFailed(failure);
  }

  /** Malformed or silent: the upstream learns of it. */
  refuse(code: Http2ErrorCode, error: Error): void {
    if (this.#end(code)) this.#handler.onFailed({ code, error, unprocessed: false });
  }

  /** @param code sent if the stream is open in a direction; undefined: nothing is sent */
  #end(code: Http2ErrorCode | undefined): boolean {
    if (this.isOver) return false;
    this.isOver = true;
    const isSent = this.#output?.isEnded === true;
    this.#output?.discard();
    this.#body?.discard();
    const isWhole = isSent && this.#body?.hasArrived === true;
    this.#session.onOver(this, isWhole ? undefined : code);
    return true;
  }
}
