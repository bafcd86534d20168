/** Connection owner: what a listener provides to its connections of either protocol. Only types. */
import type { Socket } from "node:net";
import type { Config } from "../../config/index.ts";
import type { Downstream } from "./downstream-request.ts";
import type { HeaderValueCheck } from "./header-values.ts";

/** A connection from which nothing is read for now, so that the end of the caller's side goes unnoticed. */
export type PausedConnection = Readonly<{
  readPaused: boolean;
  destroyIfPeerEnded(ended: (socket: Socket) => boolean): void;
}>;

export type ConnectionOwner = Readonly<{
  /** The request is next on its connection. */
  onRequest(downstream: Downstream): void;
  /** A request was refused before it reached the pipeline. */
  onRefused(code: string): void;
  malformedRequestReply(status: number): string;
  /** Called when reading pauses. */
  onReadPaused(connection: PausedConnection): void;
  /** Milliseconds, as `deadline` counts. */
  now(): number;
  /** The value of `Date`. */
  httpDate(): string;
  /** Whether any route accepts upgrades to this protocol. Called only for upgrade requests. */
  mayUpgradeTo(protocol: string): boolean;
  /** Connections end after their next response. */
  isDraining(): boolean;
  /** For response headers. */
  headerValues: HeaderValueCheck;
  readMs: number;
  /** What `readMs` bounds after a head: head and body together, or the time without a byte of a forwarded body. */
  readLimit: Config["timeouts"]["readLimit"];
  idleMs: number;
}>;
