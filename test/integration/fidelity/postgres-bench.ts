/** Postgres bench: the operations that fidelity scripts perform on a primary and its standby, simulated or real. */
import type { EventLog } from "../../../src/replication/log/index.ts";

export type ServerName = "primary" | "standby";

export type OpenOptions = Readonly<{ writeTimeoutMs?: number; servers?: readonly ServerName[] }>;

export type PostgresBench = Readonly<{
  /** Opens the log. By default it knows both servers, the primary first. */
  open: (options?: OpenOptions) => Promise<EventLog>;
  /** The end of the log for any session of that server. Readers of the log may see less. */
  visibleHead: (server: ServerName) => Promise<number>;
  /** The standby stops receiving, as if it were unreachable. */
  standbyAway: () => Promise<void>;
  /** The standby receives again. Resolves once commits can be acknowledged. */
  standbyBack: () => Promise<void>;
  /** Resolves once a commit of the primary waits for the standby. */
  commitWaits: () => Promise<void>;
  /** Cancels that wait with pg_cancel_backend. */
  cancelWait: () => Promise<void>;
  /** Sets how many standbys a commit waits for. */
  setSynchronous: (standbys: 0 | 1) => Promise<void>;
  kill: (server: ServerName) => Promise<void>;
  start: (server: ServerName) => Promise<void>;
  /** Promotes the standby. Its commits wait for no further standby. */
  promoteStandby: () => Promise<void>;
  /** Waits for a condition; on the model, time passes meanwhile. */
  until: (what: string, isSo: () => Promise<boolean>) => Promise<void>;
  dispose: () => Promise<void>;
}>;

export type StartPostgresBench = () => Promise<PostgresBench>;
