/**
 * NATS fan-out: batches over NATS core on `<cluster>.log`, and the JetStream replay buffer beside it.
 *
 * It starts with NATS down and never stops trying: the client's own reconnects, and a supervisor above it for the cases in
 * which the client gives up. Whatever is published without a connection, or while too much is unsent, is dropped and
 * counted: the log has it, and readers find the gap by its link. `publish` never waits, for JetStream least of all.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { NatsConnection } from "@nats-io/transport-node";
import { jittered } from "../jitter.ts";
import type { Logger } from "../logger.ts";
import type { Fanout } from "./fanout.ts";
import { credentialsIn } from "./nats-credentials-file.ts";
import { natsTransport } from "./nats-modules.ts";
import { keepReplayBuffer, type MirrorOf, mirrorName, readReplayBuffer } from "./nats-replay-buffer.ts";

export type NatsFanoutOptions = Readonly<{
  servers: readonly string[];
  /** Letters, digits, `-` and `_`. */
  cluster: string;
  /** Shown in the server's monitoring. */
  name: string;
  credentialsFile?: string | null;
  user?: string | null;
  password?: string | null;
  /** PEM; with it, or with a `tls://` server, only TLS is spoken. */
  tlsCa?: string | null;
  logger: Logger;
  randomBytes: (size: number) => Uint8Array;
  /** Brokers only: create the stream, and again whenever it is gone. */
  keepReplayBuffer?: boolean;
  replayBufferBytesMax?: number;
  /** In a region that is not the leader's: the replay buffer there is a mirror of the leader's. */
  mirror?: Readonly<{ region: string; homeDomain: string | null; placementCluster: string | null }> | null;
}>;

export class InvalidClusterNameError extends Error {
  readonly code = "ERR_REPLICATION_INVALID_CLUSTER_NAME";
  constructor() {
    super("a cluster name for NATS has letters, digits, '-' and '_', at most 64");
    this.name = "InvalidClusterNameError";
  }
}

const connectMsMax = 3_000;
const pingMs = 2_000;
const reconnectMs = 500;
const supervisorMsMax = 5_000;
const closeMsMax = 1_000;
/** Published and not yet known to have left the machine. */
const unsentBytesMax = 16 * 1024 * 1024;
const payloadBytesDefault = 1024 * 1024;

/** Returns at once; whether there is a connection is told by `status` and `onConnected`. */
export function connectNatsFanout(options: NatsFanoutOptions): Fanout {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(options.cluster)) throw new InvalidClusterNameError();
  const { connect, credsAuthenticator } = natsTransport();
  const { logger } = options;
  const subject = `${options.cluster}.log`;
  const origin = `${options.cluster.toUpperCase()}_LOG`;
  const stream = options.mirror ? mirrorName(origin, options.mirror.region) : origin;
  const mirrorOf: MirrorOf | null = options.mirror
    ? { origin, domain: options.mirror.homeDomain, placementCluster: options.mirror.placementCluster }
    : null;
  let mirrorLag: number | null = null;
  const listeners = new Set<(envelope: Uint8Array) => void>();
  const connectedListeners = new Set<() => void>();
  const counts = { published: 0, dropped: 0, delivered: 0, interruptions: 0 };
  const closing = new AbortController();
  let connection: NatsConnection | undefined;
  let healthy = false;
  let detail = "not connected yet";
  let unsentBytes = 0;
  let flushing = false;

  async function supervise(): Promise<void> {
    for (let failures = 0; !closing.signal.aborted; failures++) {
      try {
        const opened = await open();
        failures = 0;
        await serve(opened);
        detail = "connection closed";
      } catch (error) {
        detail = `not connected: ${messageOf(error)}`;
        if (failures === 0)
          logger.warn({ err: error, servers: options.servers.length }, "no connection to NATS; going on without");
      }
      const pauseMs = jittered(
        Math.min(supervisorMsMax, reconnectMs * 2 ** Math.min(failures, 10)),
        options.randomBytes,
      );
      await delay(pauseMs, undefined, { signal: closing.signal, ref: false }).catch(() => {});
    }
  }

  async function open(): Promise<NatsConnection> {
    const tls = options.tlsCa
      ? { ca: options.tlsCa }
      : options.servers.some((each) => each.startsWith("tls:"))
        ? {}
        : undefined;
    const authenticator = options.credentialsFile
      ? credsAuthenticator(credentialsIn(options.credentialsFile))
      : undefined;
    return connect({
      servers: [...options.servers],
      name: options.name,
      timeout: connectMsMax,
      pingInterval: pingMs, // a half-open socket is noticed within three of them
      maxPingOut: 2,
      maxReconnectAttempts: -1,
      waitOnFirstConnect: false,
      reconnectTimeWait: reconnectMs,
      reconnectJitter: reconnectMs,
      reconnectJitterTLS: reconnectMs,
      ignoreAuthErrorAbort: true,
      noAsyncTraces: true,
      ...(tls !== undefined && { tls }),
      ...(authenticator !== undefined && { authenticator }),
      ...(options.user && { user: options.user }),
      ...(options.password && { pass: options.password }),
    });
  }

  /** @returns when the connection is closed for good */
  async function serve(opened: NatsConnection): Promise<void> {
    if (closing.signal.aborted) return opened.close();
    connection = opened;
    const ended = new AbortController();
    opened
      .subscribe(subject, {
        callback: (error, message) => {
          if (error !== null) logger.error({ err: error }, `the subscription to ${subject} failed`);
          else deliver(message.data);
        },
      })
      .closed.then(
        () => opened.close(),
        () => opened.close(),
      ); // a dead subscription on a live connection would be deaf
    await connected(opened);
    if (options.keepReplayBuffer === true) {
      void keepReplayBuffer(opened, {
        stream,
        subject,
        mirrorOf,
        onLag: (lag) => {
          mirrorLag = lag;
        },
        serversKnown: options.servers.length,
        bytesMax: options.replayBufferBytesMax ?? 256 * 1024 * 1024,
        signal: ended.signal,
        logger,
        randomBytes: options.randomBytes,
      });
    }
    watch(opened).catch((error: unknown) => logger.error({ err: error }, "NATS does not tell its state any more"));
    await opened.closed();
    ended.abort();
    disconnected("connection closed");
    connection = undefined;
  }

  async function watch(opened: NatsConnection): Promise<void> {
    for await (const status of opened.status()) {
      if (status.type === "disconnect" || status.type === "staleConnection") disconnected(`lost ${opened.getServer()}`);
      else if (status.type === "reconnect") await connected(opened);
      else if (status.type === "ldm")
        void opened.reconnect(); // the server is about to go: choose another one now
      else if (status.type === "error") logger.warn({ err: status.error }, "NATS answered with an error");
    }
  }

  /** The server has our subscription once it has answered what was sent behind it. */
  async function connected(opened: NatsConnection): Promise<void> {
    try {
      await opened.flush();
    } catch {
      return; // lost again; the next status says so
    }
    healthy = true;
    unsentBytes = 0;
    detail = `connected to ${opened.getServer()}`;
    logger.info({ server: opened.getServer() }, "connected to NATS");
    for (const listener of [...connectedListeners]) call(listener);
  }

  function disconnected(why: string): void {
    if (!healthy) return;
    healthy = false;
    counts.interruptions += 1;
    detail = why;
    if (!closing.signal.aborted) logger.warn({ why }, "disconnected from NATS");
  }

  function deliver(data: Uint8Array): void {
    counts.delivered += 1;
    const own = Uint8Array.from(data); // not a window onto the socket's buffer
    for (const listener of [...listeners]) call(() => listener(own));
  }

  /** What a listener throws must not reach the client: it would stop reading for good. */
  function call(listener: () => void): void {
    try {
      listener();
    } catch (error) {
      logger.error({ err: error }, "a listener of the NATS fan-out failed");
    }
  }

  /** Learns what has left by asking the server for an answer behind it, one question at a time. */
  function countSent(opened: NatsConnection): void {
    if (flushing) return;
    flushing = true;
    const asked = unsentBytes;
    opened.flush().then(
      () => {
        unsentBytes = Math.max(0, unsentBytes - asked);
        flushing = false;
        if (unsentBytes > 0) countSent(opened);
      },
      () => {
        unsentBytes = 0; // the client has thrown it away with the connection
        flushing = false;
      },
    );
  }

  const supervised = supervise();

  return {
    publish(envelope) {
      const room = unsentBytes + envelope.length <= unsentBytesMax;
      const fits = envelope.length <= (connection?.info?.max_payload ?? payloadBytesDefault);
      if (connection === undefined || !healthy || !room || !fits) {
        counts.dropped += 1;
        if (!fits)
          logger.error({ bytes: envelope.length }, "a batch is bigger than NATS takes; nodes read it from a broker");
        return;
      }
      try {
        connection.publish(subject, envelope);
        counts.published += 1;
        unsentBytes += envelope.length;
        countSent(connection);
      } catch (error) {
        counts.dropped += 1;
        logger.debug({ err: error }, "a batch was not published");
      }
    },
    subscribe(listener) {
      const own = (envelope: Uint8Array): void => listener(envelope);
      listeners.add(own);
      return () => listeners.delete(own);
    },
    onConnected(listener) {
      const own = (): void => listener();
      connectedListeners.add(own);
      return () => connectedListeners.delete(own);
    },
    async replay({ sinceMs, limit = 10_000, timeoutMs = 5_000 }) {
      if (connection === undefined || !healthy) return [];
      return readReplayBuffer(connection, { stream, sinceMs, limit, timeoutMs });
    },
    status: () => ({ healthy, detail, ...counts, mirrorLag: healthy ? mirrorLag : null }),
    async close() {
      if (closing.signal.aborted) return;
      closing.abort();
      listeners.clear();
      connectedListeners.clear();
      const last = connection;
      if (last !== undefined) {
        const flushed = last.flush().catch(() => {});
        await Promise.race([flushed, delay(closeMsMax, undefined, { ref: false })]);
        await last.close();
      }
      await Promise.race([supervised, delay(closeMsMax, undefined, { ref: false })]);
    },
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
