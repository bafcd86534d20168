/**
 * Service: the operations of a test on a server that it started, as a local process or in a container.
 *
 * Address and data survive every operation except `stop`.
 */
export type Service = Readonly<{
  /** Ends the server permanently and deletes its data. Safe to call twice, and on a killed or paused server. */
  stop(): Promise<void>;
  /** Ends the server as a crash would. Its data stays, and `start` starts it again. */
  kill(): Promise<void>;
  /** Starts the server again after `kill`. Resolves when it serves. */
  start(): Promise<void>;
  /** An orderly stop and start. */
  restart(): Promise<void>;
  /** Freezes the server: connections stay open and get no response. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** The output so far. */
  log(): Promise<string>;
  [Symbol.asyncDispose](): Promise<void>;
}>;

export type PostgresServer = Service &
  Readonly<{
    host: string;
    port: number;
    /** The superuser's connection string for a database; absent: `postgres`. */
    connectionString(database?: string): string;
    /** Creates an empty database with a unique name, so one server serves many tests. */
    newDatabase(): Promise<string>;
    /**
     * Replaces its data by a copy of another server's, whose standby it is from then on. Absent in a container.
     * @param source connection settings of the other server, as in `primary_conninfo`
     */
    copyFrom?(source: string): Promise<void>;
  }>;

export type PostgresOptions = Readonly<{
  /** Lines of postgresql.conf: `{ synchronous_commit: "remote_apply" }`. `fsync` is off unless set here. */
  settings?: Readonly<Record<string, string>>;
}>;

export type NatsNode = Service & Readonly<{ name: string; host: string; port: number; url: string }>;

/** One server, or a JetStream cluster of three. A method of the cluster acts on all its servers. */
export type NatsCluster = Service &
  Readonly<{
    nodes: readonly NatsNode[];
    node(index: number): NatsNode;
    /** Client addresses of all servers: `["nats://127.0.0.1:20001"]`. */
    urls: readonly string[];
  }>;

export type NatsOptions = Readonly<{
  size?: 1 | 3;
  /** The first part of the servers' names; absent: `nats`. Servers that know each other need different names. */
  name?: string;
  /** The JetStream domain, for servers of a separate region. */
  domain?: string;
  /** Appended to each server's configuration file, in NATS' own syntax. */
  config?: string;
}>;
