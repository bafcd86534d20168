/**
 * Upstream call: one request to an upstream and its response, whatever the protocol.
 *
 * http1/upstream-pool.ts and http2/upstream-pool.ts implement it. The head is written in the turn in which `maySend`
 * returned true. No more of a response is buffered than one read of the socket brought.
 */

import { CodedError } from "../../events/index.ts";
import type { SocketDelivery } from "./deliveries.ts";
import type { HeaderLines, RawLines } from "./header-lines.ts";

/** The header lines of an upstream's response. */
export type ResponseLines = Readonly<{
  raw: readonly string[];
  /** HTTP/2: the head carried END_STREAM, so neither a body nor trailers follow. */
  endsStream: boolean;
}>;

export type UpstreamRequest = Readonly<{
  method: string;
  /** Path and query as sent. */
  path: string;
  /** `host` first. The pool adds the lines that frame the message, except a known `content-length`. */
  headers: HeaderLines;
  /** Sent as `x-request-id`; null: not sent. Always a value that can be sent. */
  requestId: string | null;
  /** Without a `content-length` its end is marked by framing. */
  hasBody: boolean;
  /** Milliseconds without a byte in either direction; 0: no limit. */
  idleTimeoutMs: number;
  /** The caller accepts trailers of the response (`TE: trailers`). */
  acceptsTrailers?: boolean;
  /** The caller waits for 100 Continue, and so does this request: `Expect: 100-continue` is sent. */
  expectsContinue?: boolean;
}>;

export type UpstreamHandler = Readonly<{
  /** Called right before the first byte. @returns false: nothing is sent, and no other callback is called */
  maySend(call: UpstreamCall): boolean;
  /**
   * The head has been sent: the body may follow. Also called when writing may continue after `write` returned false.
   */
  onWritable(): void;
  /** 1xx. */
  onInformational(status: number, lines: RawLines): void;
  onHead(status: number, lines: ResponseLines): void;
  /**
   * @param chunk text: latin1, and the whole body
   * @returns false: pause until `resume`
   */
  onData(chunk: Buffer | string): boolean;
  onEnd(trailers: RawLines): void;
  /** At most once, and no callback after it. */
  onError(error: Error, of: CallFailure): void;
}>;

export type CallFailure = Readonly<{
  /**
   * A connection that had carried a response before broke without a byte of this one: the request may not have been
   * read.
   */
  staleConnection: boolean;
  /** The upstream has stated that it did not process the request, so it had no effect. */
  unprocessed: boolean;
}>;

export interface UpstreamCall {
  /** Changes with each read of the upstream's socket; NaN: unknown. */
  readonly reads: number;
  /** @returns false: wait for `onWritable` */
  write(chunk: Buffer): boolean;
  /** @param trailers names and values in turn; sent only where the framing of the message allows them */
  end(trailers?: readonly string[]): void;
  /** Resumes the response. */
  resume(): void;
  /** Cancels the call. No callback is called after it. */
  abort(): void;
  /** @returns what may still leave this machine of the request, also after the call's end; undefined: nothing */
  unsent(): SocketDelivery | undefined;
  /**
   * Called after the call was aborted by a cut.
   * @returns settles when no further byte of the request can leave; undefined: none can
   */
  discardUnsent(): Promise<void> | undefined;
}

export interface UpstreamPool {
  /** Calls that are in progress or wait for a connection. */
  readonly busy: number;
  /** Calls that wait because the limit of connections is reached. */
  readonly waiting: number;
  /** The next call would have to wait. */
  readonly isFull: boolean;
  /** The protocol lets an upstream state that it did not process a request: a call may fail as `unprocessed`. */
  readonly reportsUnprocessed: boolean;
  /** @param failed the call that this one retries: it gets another connection, over HTTP/1.1 a new one */
  call(request: UpstreamRequest, handler: UpstreamHandler, failed?: UpstreamCall): UpstreamCall;
  close(): void;
}

export class UpstreamClosedError extends CodedError<"ERR_PROXY_UPSTREAM_CLOSED"> {
  override readonly code = "ERR_PROXY_UPSTREAM_CLOSED";
}
/** Silent for longer than the route allows. */
export class UpstreamIdleError extends CodedError<"ERR_PROXY_UPSTREAM_IDLE"> {
  override readonly code = "ERR_PROXY_UPSTREAM_IDLE";
}
/** Its response cannot be parsed, or does not belong to the request. */
export class UpstreamProtocolError extends CodedError<"ERR_PROXY_UPSTREAM_PROTOCOL"> {
  override readonly code = "ERR_PROXY_UPSTREAM_PROTOCOL";
}
export class UpstreamConnectTimeoutError extends CodedError<"ERR_PROXY_UPSTREAM_CONNECT_TIMEOUT"> {
  override readonly code = "ERR_PROXY_UPSTREAM_CONNECT_TIMEOUT";
}
/** It closed a new connection before the first byte of a response: during the TLS handshake or after it. */
export class UpstreamHandshakeError extends CodedError<"ERR_PROXY_UPSTREAM_HANDSHAKE"> {
  override readonly code = "ERR_PROXY_UPSTREAM_HANDSHAKE";
}

/** @param error why a new connection ended */
export function handshakeError(error: Error): Error {
  if (!isConnectionError(error)) return error;
  return new UpstreamHandshakeError("the upstream closed a new connection", { cause: error });
}

/** Whether the connection was closed, reset or refused a write. False for errors in the bytes that it carried. */
export function isConnectionError(error: Error): boolean {
  const code = "code" in error ? error.code : undefined;
  return code === "ERR_PROXY_UPSTREAM_CLOSED" || code === "ECONNRESET" || code === "EPIPE";
}
