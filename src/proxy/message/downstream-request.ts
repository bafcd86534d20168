/**
 * Downstream: one request of a caller and the answer to it, whatever the protocol underneath.
 *
 * HTTP/1.1 and HTTP/2 each bring one (http1/downstream.ts, http2/downstream.ts); everything above a listener knows only this. Of the
 * request, the head is there from the start and the body is read when somebody wants it; nothing of it is buffered beyond what
 * one read of the socket brought. The answer is written head first; what is slow says so.
 */

import type { IncomingMessage, ServerResponse } from "node:http";
import type { ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { CutReason, Exchange } from "../enforce/exchanges.ts";
import type { PresentedCertificate } from "../tls/presented-certificate.ts";
import type { RequestHead } from "./canonical-request.ts";
import type { HeaderLines } from "./header-lines.ts";

/** Takes the body of a request as it comes. */
export type BodyReader = Readonly<{
  /** @returns false: no more, until `resumeBody` */
  onChunk(chunk: Buffer): boolean;
  /** Complete. @param trailers names and values in turn */
  onBodyEnd(trailers: readonly string[]): void;
  /** The rest will never come. */
  onAbort(): void;
  /**
   * The body takes longer than the listener waits, and no response has begun. The reader writes one. Absent: the connection refuses the
   * request by itself, and silence is not what it bounds.
   */
  onTimeout?(waitsFor: "caller" | "upstream"): void;
}>;

/** What an ordinary request asks to become. */
export type UpgradeKind = "websocket" | "other" | "connect" | "connect-udp";

/** Bytes both ways, behind the head of the answer that accepted them. */
export type DownstreamTunnel = Readonly<{
  stream: Socket | ServerHttp2Stream;
  /** What has come behind the request's head already. */
  head: Buffer;
}>;

/** What an answer rests on. */
export type BoundExchange = Pick<Exchange, "mayFlush" | "setOutlet">;

export interface Downstream {
  readonly head: RequestHead;
  /** The connection's peer: an address without port. */
  readonly peer: string;
  /** What the caller showed in its handshake; whether it counts is the matter of its route. */
  readonly certificate: PresentedCertificate | null;
  readonly upgrade: UpgradeKind | null;

  // --- the request's body

  readonly hasBody: boolean;
  /** All of the request was read, whoever read it. */
  readonly bodyComplete: boolean;
  /** Begins to hand the body over: at most once. Does nothing when there is none. */
  readBody(reader: BodyReader): void;
  resumeBody(): void;
  /** Nobody wants the rest: it is read and thrown away, as far as the protocol needs that. */
  discardBody(): void;

  // --- the answer

  /** The final status that was sent; 0 before. */
  readonly status: number;
  /** Everything was handed over by whoever answers. */
  readonly ended: boolean;
  /** The answer has left, or the caller has: nothing can be written any more. */
  readonly closed: boolean;
  /** What was written waits for a caller that does not read. */
  readonly needsDrain: boolean;
  /** 100 Continue, when the caller waits for it. */
  writeContinue(): void;
  /** 103. @param links values of `Link` */
  writeEarlyHints(links: readonly string[]): void;
  /**
   * The answer rests on a permit, from its head on: what is held back of it asks this again when it leaves. The exchange learns which
   * connection carries the answer.
   */
  bindExchange(exchange: BoundExchange): void;
  /**
   * The final head. It leaves with what follows it in the same turn.
   * @param lines without what frames the message: that is added here
   * @param requestId is told as `X-Request-Id`; null: it is not, or is among the lines. No value but one that can be sent
   */
  writeHead(status: number, lines: HeaderLines, requestId: string | null): void;
  /**
   * @param chunk text: latin1
   * @returns false when the caller should wait for `onDrain`
   */
  write(chunk: Buffer | string): boolean;
  /** @param trailers names and values in turn; sent only where the protocol and the caller take them */
  end(chunk?: Buffer | string, trailers?: readonly string[]): void;
  /** No further byte leaves. An answer that has begun is broken off, so that nobody takes half of it for the whole. */
  destroy(): void;
  /** As `destroy`, in the protocol's own words for why. @returns settles when no further byte can leave; nothing: none can */
  cut(reason: CutReason): void | Promise<void>;
  onDrain(listener: () => void): void;
  /** Once, behind its last byte or with the connection. Called at once when that has been. */
  onClose(listener: () => void): void;

  // --- for what takes the connection itself

  /** The connection, from which nobody else reads any more, and what has come behind the head. Only of an upgrade. */
  takeSocket(): Readonly<{ socket: Socket; head: Buffer }>;
  /** Accepts a CONNECT or CONNECT-UDP with this head. Everything behind it is the tunnel's, from which nobody else reads any more. */
  takeTunnel(status: number, lines: readonly string[]): DownstreamTunnel;
  /** This exchange as `node:http` knows it, for handlers that are written against that. The answer goes through it then. */
  asNode(): Readonly<{ req: IncomingMessage; res: ServerResponse }>;
}
