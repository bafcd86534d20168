/**
 * Upstream call: one request to an upstream and its answer, whatever the protocol underneath. Only types.
 *
 * HTTP/1.1 brings it in http1/upstream-pool.ts. The head is written in the turn in which `maySend` said yes; nothing of an answer is
 * buffered beyond what one read of the socket brought.
 */

import { CodedError } from "../../events/index.ts";
import type { Delivery } from "./deliveries.ts";
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
  /** `host` first; what frames the message is added here, but for a known `content-length`. */
  headers: HeaderLines;
  /** Is told as `x-request-id`; null: it is not. No value but one that can be sent. */
  requestId: string | null;
  /** Without a `content-length` among the headers its end is told by framing. */
  hasBody: boolean;
  /** Without a byte in either direction; 0: no limit. */
  idleTimeoutMs: number;
}>;

export type UpstreamHandler = Readonly<{
  /** Asked right before the first byte. @returns false: nothing is sent, and nothing else is called */
  maySend(call: UpstreamCall): boolean;
  /** The head has been sent: the body may follow. Called also whenever more may be written after `write` said to wait. */
  onWritable(): void;
  /** 1xx. */
  onInformational(status: number, lines: RawLines): void;
  onHead(status: number, lines: ResponseLines): void;
  /**
   * @param chunk text: latin1, and the whole body
   * @returns false: no more, until `resume`
   */
  onData(chunk: Buffer | string): boolean;
  onEnd(trailers: RawLines): void;
  /** At most once, and nothing after it. */
  onError(error: Error, of: CallFailure): void;
}>;

export type CallFailure = Readonly<{
  /** A connection that had carried an answer before broke without a byte of this one: the request may never have been read. */
  staleConnection: boolean;
  /** The upstream has said that nothing looked at this request: it had no effect, whatever it asks for. */
  unprocessed: boolean;
}>;

export interface UpstreamCall {
  /** Changes with each read of the upstream's socket; NaN: that is not known. */
  readonly reads: number;
  /** @returns false: wait for `onWritable` */
  write(chunk: Buffer): boolean;
  /** @param trailers names and values in turn; sent only where the message's framing has a place for them */
  end(trailers?: readonly string[]): void;
  /** More of the answer. */
  resume(): void;
  /**
   * Nothing of it is wanted any more, and nothing is called.
   * @returns settles when no further byte of it can leave; undefined: none can
   */
  abort(): void | Promise<void>;
  /** @returns what of the request of an answered call may still leave this machine; undefined: nothing */
  unsent(): Delivery | undefined;
}

export interface UpstreamPool {
  /** Calls that are under way or wait for a connection. */
  readonly busy: number;
  /** Calls that wait for a connection, because there may be no more of them. */
  readonly waiting: number;
  /** The next call would have to wait. */
  readonly isFull: boolean;
  /** Its protocol lets an upstream say that it has not looked at a request: a call may fail as `unprocessed`. */
  readonly reportsUnprocessed: boolean;
  /** @param failed the call that this one repeats: it gets another connection, over HTTP/1.1 a fresh one */
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
/** Its answer cannot be read, or answers something else. */
export class UpstreamProtocolError extends CodedError<"ERR_PROXY_UPSTREAM_PROTOCOL"> {
  override readonly code = "ERR_PROXY_UPSTREAM_PROTOCOL";
}
export class UpstreamConnectTimeoutError extends CodedError<"ERR_PROXY_UPSTREAM_CONNECT_TIMEOUT"> {
  override readonly code = "ERR_PROXY_UPSTREAM_CONNECT_TIMEOUT";
}
/** It closed a new connection before a byte of its first answer: in the middle of a TLS handshake, or behind it. */
export class UpstreamHandshakeError extends CodedError<"ERR_PROXY_UPSTREAM_HANDSHAKE"> {
  override readonly code = "ERR_PROXY_UPSTREAM_HANDSHAKE";
}

/** @param error why a new connection ended */
export function handshakeError(error: Error): Error {
  if (!isConnectionError(error)) return error;
  return new UpstreamHandshakeError("the upstream closed a new connection", { cause: error });
}

/** Whether the connection was closed, reset or refused a write. False for what is wrong with the bytes that it carried. */
export function isConnectionError(error: Error): boolean {
  const code = "code" in error ? error.code : undefined;
  return code === "ERR_PROXY_UPSTREAM_CLOSED" || code === "ECONNRESET" || code === "EPIPE";
}
