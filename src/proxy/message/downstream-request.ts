/**
 * Downstream: one request of a caller and the response to it, whatever the protocol.
 *
 * - http1/downstream.ts and http2/downstream.ts implement it. Everything above a listener knows only this.
 * - The head is known from the start. The body is read when a reader asks for it. No more of it is buffered than one
 *   read of the socket brought.
 * - The response is written head first. `needsDrain` reports a caller that reads slowly.
 */

import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { RequestHead } from "./canonical-request.ts";
import type { CutReason } from "./close-codes.ts";
import type { ExchangeHandle, PendingCut } from "./deliveries.ts";
import type { HeaderLines } from "./header-lines.ts";
import type { PresentedCertificate } from "./peer.ts";

/** Receives the body of a request as it arrives. */
export type BodyReader = Readonly<{
  /** @returns false: pause until `resumeBody` */
  onChunk(chunk: Buffer): boolean;
  /** Complete. @param trailers names and values in turn */
  onBodyEnd(trailers: readonly string[]): void;
  /** The rest will not arrive. */
  onAbort(): void;
  /**
   * The body takes longer than the listener waits, and no response has begun. The reader writes one. Absent: the
   * connection refuses the request by itself, and silence is not what it bounds.
   */
  onTimeout?(waitsFor: "caller" | "upstream"): void;
}>;

/** What a request asks to be upgraded to. */
export type UpgradeKind = "websocket" | "other" | "connect" | "connect-udp";

/** A stream of an HTTP/2 connection, as bytes in both directions. */
export type StreamOfTunnel = Duplex & { setTimeout: (ms: number, onIdle?: () => void) => unknown };

/** Bytes in both directions after the response head that accepted the tunnel. */
export type DownstreamTunnel = Readonly<{
  stream: Socket | StreamOfTunnel;
  /** What has already arrived after the request's head. */
  head: Buffer;
}>;

/** The caller's connection after an upgrade: the socket of HTTP/1, or one stream of HTTP/2 (RFC 8441). */
export type UpgradedConnection =
  | Readonly<{
      type: "socket";
      socket: Socket;
      /** What has already arrived after the request's head. */
      head: Buffer;
    }>
  | Readonly<{ type: "stream"; stream: UpgradedStream }>;

/** One stream of an HTTP/2 connection after its extended CONNECT was accepted. Each direction ends by itself. */
export type UpgradedStream = Pick<
  Downstream,
  | "hasBody"
  | "readBody"
  | "resumeBody"
  | "write"
  | "end"
  | "ended"
  | "closed"
  | "destroy"
  | "cut"
  | "onDrain"
  | "onClose"
  | "bindExchange"
> &
  Readonly<{
    /** Bytes were written that have not left the queue of the stream. */
    hasUnsent: boolean;
    /**
     * The permit has ended: what is written from now on belongs to the cut.
     * @returns settles when no byte that was written before can leave; undefined: none can
     */
    beginCut(): PendingCut | undefined;
    /** Everything was received. */
    onTunnelRead(): void;
    /** No byte is read or written any more. */
    onTunnelOver(): void;
  }>;

/** The exchange that permits a response. */
export type BoundExchange = Pick<ExchangeHandle, "mayFlush" | "setOutlet">;

export interface Downstream {
  readonly head: RequestHead;
  /** The connection's peer: an address without port. */
  readonly peer: string;
  /** What the caller presented in its handshake. The route decides whether it counts. */
  readonly certificate: PresentedCertificate | null;
  readonly upgrade: UpgradeKind | null;

  // --- the request's body

  readonly hasBody: boolean;
  /** The whole request was read. */
  readonly bodyComplete: boolean;
  /** Starts passing the body to the reader: at most once. Does nothing when there is no body. */
  readBody(reader: BodyReader): void;
  resumeBody(): void;
  /** The rest is not needed. It is read and discarded as far as the protocol requires that. */
  discardBody(): void;

  // --- the response

  /** The final status that was sent; 0: none yet. */
  readonly status: number;
  /** `end` was called. */
  readonly ended: boolean;
  /** The response has left, or the caller has: nothing more can be written. */
  readonly closed: boolean;
  /** What was written waits for a caller that does not read. */
  readonly needsDrain: boolean;
  /** Sends 100 Continue, if the caller waits for it. */
  writeContinue(): void;
  /** Sends 103 Early Hints. @param links values of `Link` */
  writeEarlyHints(links: readonly string[]): void;
  /**
   * Binds the response to its permit, from the head on: what is held back checks `mayFlush` when it leaves. The
   * exchange learns which connection carries the response.
   */
  bindExchange(exchange: BoundExchange): void;
  /**
   * The final head. It leaves with what follows it in the same turn.
   * @param lines without those that frame the message, which are added here
   * @param requestId sent as `X-Request-Id`; null: not sent, or among the lines. Always a value that can be sent
   */
  writeHead(status: number, lines: HeaderLines, requestId: string | null): void;
  /**
   * @param chunk text: latin1
   * @returns false when the caller should wait for `onDrain`
   */
  write(chunk: Buffer | string): boolean;
  /** @param trailers names and values in turn; sent only where the protocol and the caller take them */
  end(chunk?: Buffer | string, trailers?: readonly string[]): void;
  /** No further byte leaves. A response that has begun is aborted, so that no caller takes half of it for the whole. */
  destroy(): void;
  /**
   * As `destroy`, with the protocol's code for the reason.
   * @returns settles when no further byte can leave; void: none can
   */
  cut(reason: CutReason): void | Promise<void>;
  onDrain(listener: () => void): void;
  /** Called once, after the last byte or when the connection closes; at once if that has happened. */
  onClose(listener: () => void): void;

  // --- for upgrades and tunnels, which take the connection

  /** Accepts an upgrade to this protocol with these lines. Everything after it belongs to the protocol. */
  takeUpgrade(protocol: string, lines: readonly string[]): UpgradedConnection;
  /** Accepts a CONNECT or CONNECT-UDP with this head. Everything after it belongs to the tunnel. */
  takeTunnel(status: number, lines: readonly string[]): DownstreamTunnel;
  /**
   * This exchange as objects of `node:http`, for handlers written against those. The response then goes through them.
   */
  asNode(): Readonly<{ req: IncomingMessage; res: ServerResponse }>;
}
