/**
 * Service: what a test may do to a server that it started, wherever that server runs (a local process or a container).
 *
 * Address and data survive everything but `stop`.
 */
export type Service = Readonly<{
  /** Ends it for good and deletes its data. Safe to call twice, and on one that is killed or paused. */
  stop(): Promise<void>;
  /** Ends it as a crash would. Its data stays; `start` brings it back. */
  kill(): Promise<void>;
  /** Starts it again after `kill`, and returns when it serves. */
  start(): Promise<void>;
  /** An orderly stop and start. */
  restart(): Promise<void>;
  /** Freezes it: connections stay open and nothing answers. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** What it has printed. */
  log(): Promise<string>;
  [Symbol.asyncDispose](): Promise<void>;
}>;

export type PostgresServer = Service &
  Readonly<{
    host: string;
    port: number;
    /** Of the superuser, for the database `postgres` or the one named. */
    connectionString(database?: string): string;
    /** Makes an empty database with a name of its own, so that one server serves many tests. */
    newDatabase(): Promise<string>;
  }>;

export type PostgresOptions = Readonly<{
  /** Lines of postgresql.conf: `{ synchronous_commit: "remote_apply" }`. `fsync` is off unless named here. */
  settings?: Readonly<Record<string, string>>;
}>;

export type NatsNode = Service & Readonly<{ name: string; host: string; port: number; url: string }>;

/** One server, or a JetStream cluster of three. The verbs of a whole cluster treat all of its servers alike. */
export type NatsCluster = Service &
  Readonly<{
    nodes: readonly NatsNode[];
    node(index: number): NatsNode;
    /** Client addresses of all servers: `["nats://127.0.0.1:20001"]`. */
    urls: readonly string[];
  }>;

export type NatsOptions = Readonly<{
  size?: 1 | 3;
  /** The JetStream domain, for servers of a region of its own. */
  domain?: string;
  /** Appended to each server's configuration file, in NATS' own syntax. */
  config?: string;
}>;
