/** Connection owner: what a connection of either protocol is given by its listener, as a contract. */
import type { Config } from "../../config/index.ts";
import type { Downstream } from "./downstream-request.ts";
import type { HeaderValueCheck } from "./header-values.ts";

export type ConnectionOwner = Readonly<{
  /** Begins with a request whose turn it is. */
  onRequest(downstream: Downstream): void;
  /** Something was refused before anybody looked at it. */
  onRefused(code: string): void;
  malformedRequestReply(status: number): string;
  /** Milliseconds, as `deadline` counts. */
  now(): number;
  /** For `Date`. */
  httpDate(): string;
  /** Some route takes upgrades to this protocol; of those alone it is asked. */
  mayUpgradeTo(protocol: string): boolean;
  /** Connections end behind their next answer. */
  isDraining(): boolean;
  /** Of answers. */
  headerValues: HeaderValueCheck;
  readMs: number;
  /** What `readMs` bounds behind a head: head and body together, or the time without a byte of a forwarded body. */
  readLimit: Config["timeouts"]["readLimit"];
  idleMs: number;
}>;
