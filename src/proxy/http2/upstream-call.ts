/** HTTP/2 upstream call: one request as a stream, whichever connection it gets, and its response. */
import type { SocketDelivery } from "../message/deliveries.ts";
import { type RawLines, UnwritableHeaderError } from "../message/header-lines.ts";
import type { HeaderValueCheck } from "../message/header-values.ts";
import {
  type CallFailure,
  type UpstreamCall,
  UpstreamClosedError,
  type UpstreamHandler,
  UpstreamIdleError,
  UpstreamProtocolError,
  type UpstreamRequest,
} from "../message/upstream-call.ts";
import type { UpstreamSession } from "./client-session.ts";
import type { StreamFailure, StreamHandler, UpstreamStream } from "./client-stream.ts";
import { errorCode } from "./frame-types.ts";
import type { FieldList } from "./hpack/encoder.ts";
import type { ResponseName, ResponseNames } from "./hpack/response-names.ts";
import type { CallStart, Http2UpstreamConnection } from "./upstream-connection.ts";

/** Nothing is known that would allow a retry. */
export const notRetryable: CallFailure = { staleConnection: false, unprocessed: false };

/** What the calls of a pool share. */
export type SentFields = Readonly<{ names: ResponseNames; values: HeaderValueCheck }>;

export class Http2UpstreamCall implements UpstreamCall, StreamHandler {
  readonly request: UpstreamRequest;
  readonly #handler: UpstreamHandler;
  readonly #sent: SentFields;
  readonly #done: () => void;
  #stream: UpstreamStream | undefined;
  #session: UpstreamSession | undefined;
  #failureOf: (failure: StreamFailure) => CallFailure = () => notRetryable;
  /** Something of a response has arrived. */
  #sawResponse = false;
  /** The connection of its stream; undefined: it waits for one with room. */
  connection: Http2UpstreamConnection | undefined;
  isEnded = false;
  /** The call of another pool that replaces it. */
  #moved: UpstreamCall | undefined;
  #start: CallStart = { at: 0, reads: 0 };

  constructor(request: UpstreamRequest, handler: UpstreamHandler, sent: SentFields, done: () => void) {
    this.request = request;
    this.#handler = handler;
    this.#sent = sent;
    this.#done = done;
  }

  get reads(): number {
    return this.#session?.reads ?? Number.NaN;
  }

  /**
   * @param failureOf why a stream ended without a byte of a response
   * @returns undefined: a value cannot be sent, and the call has failed
   */
  createStream(
    session: UpstreamSession,
    scheme: "http" | "https",
    failureOf: (failure: StreamFailure) => CallFailure,
  ): UpstreamStream | undefined {
    const { method, hasBody, idleTimeoutMs } = this.request;
    let fields: FieldList;
    try {
      fields = requestFieldsOf(this.request, scheme, this.#sent);
    } catch (error) {
      this.fail(error as Error, notRetryable);
      return undefined;
    }
    const idleMsMax = idleTimeoutMs > 0 ? idleTimeoutMs : Infinity;
    this.#session = session;
    this.#start = { at: performance.now(), reads: session.reads };
    this.#failureOf = failureOf;
    this.#stream = session.createStream({ fields, method, hasBody, idleMsMax }, this);
    return this.#stream;
  }

  // --- from the stream

  mayWrite(): boolean {
    if (this.isEnded) return false;
    if (this.#handler.maySend(this)) return true;
    this.finish();
    return false;
  }

  onWritable(): void {
    if (!this.isEnded) this.#handler.onWritable();
  }

  onInformational(status: number, lines: RawLines): void {
    this.#sawResponse = true;
    if (!this.isEnded) this.#handler.onInformational(status, lines);
  }

  onHead(status: number, raw: RawLines, endsStream: boolean): void {
    this.#sawResponse = true;
    this.connection?.onResponse();
    if (!this.isEnded) this.#handler.onHead(status, { raw, endsStream });
  }

  onData(chunk: Buffer): boolean {
    return this.isEnded || this.#handler.onData(chunk);
  }

  onEnd(trailers: RawLines): void {
    if (this.finish()) this.#handler.onEnd(trailers);
  }

  onFailed(failure: StreamFailure): void {
    const { code, error } = failure;
    if (error instanceof UpstreamIdleError && !this.#sawResponse) this.connection?.onGivenUp(this.#start);
    this.fail(error ?? resetError(code), this.#sawResponse ? notRetryable : this.#failureOf(failure));
  }

  // --- from the caller

  write(chunk: Buffer): boolean {
    return this.isEnded || this.#stream === undefined ? true : this.#stream.write(chunk);
  }

  end(trailers: readonly string[] = []): void {
    if (!this.isEnded) this.#stream?.end(this.#trailersOf(trailers));
  }

  /** Trailers that cannot be written are left out as a whole: a line must not end more than its own request. */
  #trailersOf(lines: readonly string[]): FieldList | undefined {
    if (lines.length === 0) return undefined;
    const { names, values } = this.#sent;
    const fields: FieldList = { names: [], values: [] };
    for (let i = 0; i < lines.length; i += 2) {
      const name = names.of(lines[i] ?? "");
      const value = lines[i + 1] ?? "";
      if (!name.isWritable || !values.isWritable(value)) return undefined;
      if (isOmitted(name)) continue;
      fields.names.push(name);
      fields.values.push(value);
    }
    return fields.names.length > 0 ? fields : undefined;
  }

  resume(): void {
    if (!this.isEnded) this.#stream?.resume();
  }

  abort(): void {
    if (this.#moved !== undefined) {
      this.#moved.abort();
      return;
    }
    const stream = this.#stream;
    if (!this.finish() || stream === undefined) return;
    stream.cancel();
    if (!this.#sawResponse) this.connection?.onGivenUp(this.#start);
  }

  unsent(): SocketDelivery | undefined {
    return this.#moved === undefined ? this.#sender?.unsent() : this.#moved.unsent();
  }

  discardUnsent(): Promise<void> | undefined {
    return this.#moved === undefined ? this.#sender?.discardUnsent() : this.#moved.discardUnsent();
  }

  /** The connection that was given its head; undefined: none was. */
  get #sender(): Http2UpstreamConnection | undefined {
    return this.#stream === undefined || this.#stream.id === 0 ? undefined : this.connection;
  }

  /** Continues elsewhere. Nothing of it was sent. @param start returns the call that replaces it */
  moveTo(start: (request: UpstreamRequest, handler: UpstreamHandler) => UpstreamCall): void {
    if (this.finish()) this.#moved = start(this.request, this.#handler);
  }

  finish(): boolean {
    if (this.isEnded) return false;
    this.isEnded = true;
    if (this.#stream === undefined) this.connection?.remove(this);
    this.#done();
    return true;
  }

  fail(error: Error, failure: CallFailure): void {
    if (this.finish()) this.#handler.onError(error, failure);
  }
}

function resetError(code: number | undefined): Error {
  const message = `the upstream reset the stream (${code})`;
  const isOrderly = code === undefined || code === errorCode.none || code === errorCode.cancel;
  return isOrderly || code === errorCode.refusedStream
    ? new UpstreamClosedError(message)
    : new UpstreamProtocolError(message);
}

/** Names that belong to one connection, or are implied (RFC 9113 §8.2.2). */
function isOmitted(name: ResponseName): boolean {
  return name.use === "omitted" || name.lower === "host" || name.lower === "te";
}

/** @throws UnwritableHeaderError */
function requestFieldsOf(
  { method, path, headers: { list }, requestId, acceptsTrailers, expectsContinue }: UpstreamRequest,
  scheme: "http" | "https",
  { names, values }: SentFields,
): FieldList {
  const fields: FieldList = { names: [], values: [] };
  const add = (name: ResponseName, value: string): void => {
    if (!values.isWritable(value)) throw new UnwritableHeaderError(name.lower);
    fields.names.push(name);
    fields.values.push(value);
  };
  add(names.of(":method"), method);
  add(names.of(":path"), path);
  add(names.of(":authority"), list[0] === "host" ? (list[1] ?? "") : "");
  add(names.of(":scheme"), scheme);
  let isGrpcCall = false;
  for (let i = 0; i < list.length; i += 2) {
    const name = names.of(list[i] ?? "");
    const value = list[i + 1] ?? "";
    if (isOmitted(name)) continue;
    if (!name.isWritable) throw new UnwritableHeaderError(name.lower);
    if (name.use === "type" && value.startsWith("application/grpc")) isGrpcCall = true;
    add(name, value);
  }
  if (requestId !== null) add(names.of("x-request-id"), requestId);
  if (isGrpcCall || acceptsTrailers === true) add(names.of("te"), "trailers"); // gRPC servers insist on it
  if (expectsContinue === true) add(names.of("expect"), "100-continue");
  return fields;
}

export function isGrpc(headers: readonly string[]): boolean {
  for (let i = 0; i < headers.length; i += 2)
    if (headers[i]?.toLowerCase() === "content-type") return headers[i + 1]?.startsWith("application/grpc") === true;
  return false;
}
