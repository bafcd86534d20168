/**
 * Postgres bench: what a script of the fidelity tests may do to a primary and its standby, be they the simulator's
 * model or real.
 */
import type { EventLog } from "../../../src/replication/index.ts";

export type ServerName = "primary" | "standby";

export type LogTerms = Readonly<{ writeTimeoutMs?: number; servers?: readonly ServerName[] }>;

export type PostgresBench = Readonly<{
  /** A way into the log; by default it knows both servers, the primary first. */
  open: (terms?: LogTerms) => Promise<EventLog>;
  /** Where the log ends for any session of that server: more than readers of the log are told. */
  visibleHead: (server: ServerName) => Promise<number>;
  /** The standby receives nothing any more: as if it were away. */
  standbyAway: () => Promise<void>;
  /** It receives again; answered when commits can be acknowledged. */
  standbyBack: () => Promise<void>;
  /** Until a commit of the primary waits for the standby. */
  commitWaits: () => Promise<void>;
  /** pg_cancel_backend on it. */
  cancelWait: () => Promise<void>;
  /** How many standbys a commit waits for, from now on. */
  setSynchronous: (standbys: 0 | 1) => Promise<void>;
  kill: (server: ServerName) => Promise<void>;
  start: (server: ServerName) => Promise<void>;
  /** Waits for no standby of its own from then on. */
  promoteStandby: () => Promise<void>;
  /** Until it is so: the model's time goes on meanwhile. */
  until: (what: string, isSo: () => Promise<boolean>) => Promise<void>;
  dispose: () => Promise<void>;
}>;

export type StartPostgresBench = () => Promise<PostgresBench>;
