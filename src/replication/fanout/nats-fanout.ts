/**
 * NATS fan-out: batches over NATS core on `<cluster>.log`, with the JetStream replay buffer beside it.
 *
 * - It starts while NATS is down and never stops trying: the client reconnects, and a supervisor handles the cases in
 *   which the client gives up.
 * - A message published without a connection, or while too much is unsent, is dropped and counted. The log has it, and
 *   readers find the gap by its link.
 * - `publish` never waits, not even for JetStream.
 */

import { setTimeout as delay } from "node:timers/promises";
import type { Msg, NatsConnection } from "@nats-io/transport-node";
import { CodedError } from "../../events/index.ts";
import { addJitter } from "../runtime/jitter.ts";
import type { Logger } from "../runtime/logger.ts";
import { DeliveryGuard, deliveryBytesMax, type GuardMoment } from "./delivery-guard.ts";
import { createDeliveryTag, deliveryTagHeader, deliveryTagKey } from "./delivery-tag.ts";
import type { DeliveryListener, Fanout } from "./fanout.ts";
import { credentialsIn } from "./nats-credentials-file.ts";
import { deliveryOf } from "./nats-delivery.ts";
import { natsTransport } from "./nats-modules.ts";
import { keepReplayBuffer, type MirrorOf, mirrorName, originName, readReplayBuffer } from "./nats-replay-buffer.ts";

export type NatsFanoutOptions = Readonly<{
  servers: readonly string[];
  /** Letters, digits, `-` and `_`. */
  cluster: string;
  /** Shown in the server's monitoring. */
  name: string;
  /** The shared secret, then the previous one while it is being replaced. Their tags mark messages of this cluster. */
  secrets: readonly Uint8Array[];
  credentialsFile?: string | null;
  user?: string | null;
  password?: string | null;
  /** PEM of the certificate authority. With it, or with a `tls://` server, only TLS is used. */
  tlsCa?: string | null;
  logger: Logger;
  randomBytes: (size: number) => Uint8Array;
  /** Brokers only: creates the stream, and creates it again whenever it is gone. */
  keepReplayBuffer?: boolean;
  replayBufferBytesMax?: number;
  /** In a region without the leader: the replay buffer there is a mirror of the one in the home region. */
  mirror?: Readonly<{
    region: string;
    /** Evaluated at every check, because the home region may move. Undefined: not known yet; the mirror stays. */
    homeDomain: () => string | null | undefined;
    placementCluster: string | null;
  }> | null;
  /** Streams of another part that this broker had: deleted when found. Evaluated at every check. */
  retiredStreams?: () => readonly string[];
}>;

export class InvalidClusterNameError extends CodedError<"ERR_REPLICATION_INVALID_CLUSTER_NAME"> {
  override readonly code = "ERR_REPLICATION_INVALID_CLUSTER_NAME";
  constructor() {
    super("a cluster name may have at most 64 letters, digits, '-' and '_'");
  }
}

const connectMsMax = 3_000;
const pingMs = 2_000;
const reconnectMs = 500;
const supervisorMsMax = 5_000;
const closeMsMax = 1_000;
/** Bound of published data that is not yet known to have left the machine, in bytes. */
const unsentBytesMax = 16 * 1024 * 1024;
/** Pause after a flood, ms. It doubles each time that the flood continues. */
const floodPauseMs = { first: 10_000, max: 120_000 };

/** Returns at once; `status` and `onConnected` report the connection. */
export function connectNatsFanout(options: NatsFanoutOptions): Fanout {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(options.cluster)) throw new InvalidClusterNameError();
  const { connect, credsAuthenticator, headers: newHeaders } = natsTransport();
  const { logger } = options;
  const subject = `${options.cluster}.log`;
  const origin = originName(options.cluster);
  const stream = options.mirror ? mirrorName(origin, options.mirror.region) : origin;
  function mirrorOf(): MirrorOf | null | undefined {
    if (!options.mirror) return null;
    const domain = options.mirror.homeDomain();
    return domain === undefined ? undefined : { origin, domain, placementCluster: options.mirror.placementCluster };
  }
  let mirrorLag: number | null = null;
  const listeners = new Set<DeliveryListener>();
  const tagKeys = options.secrets.map(deliveryTagKey);
  const guard = new DeliveryGuard(tagKeys);
  const logRefusals = createRefusalLog({ logger, subject, refused: () => guard.refused });
  const connectedListeners = new Set<() => void>();
  const counts = { published: 0, dropped: 0, delivered: 0, interruptions: 0 };
  const closing = new AbortController();
  let connection: NatsConnection | undefined;
  let healthy = false;
  let detail = "not connected yet";
  let unsentBytes = 0;
  let flushing = false;
  /** False while a flood stops this process from listening. It still publishes. */
  let listening = true;
  let floods = 0;
  let pauseMs: number = floodPauseMs.first;

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
          logger.warn({ err: error, servers: options.servers.length }, "no connection to NATS; continuing without it");
      }
      const pauseMs = addJitter(
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
      pingInterval: pingMs, // three missed pings reveal a half-open socket
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

  /** @returns when the connection is permanently closed */
  async function serve(opened: NatsConnection): Promise<void> {
    if (closing.signal.aborted) return opened.close();
    connection = opened;
    const ended = new AbortController();
    void listen(opened);
    await connected(opened);
    if (options.keepReplayBuffer === true) {
      void keepReplayBuffer(opened, {
        stream,
        subject,
        mirrorOf,
        retiredStreams: options.retiredStreams ?? (() => []),
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
    watch(opened).catch((error: unknown) =>
      logger.error({ err: error }, "NATS no longer reports its connection state"),
    );
    await opened.closed();
    ended.abort();
    disconnected("connection closed");
    connection = undefined;
  }

  /** Subscribes, and subscribes again when the pause after a flood ends. @returns when the connection is closed */
  async function listen(opened: NatsConnection): Promise<void> {
    while (!opened.isClosed()) {
      const startedAtMs = performance.now();
      const subscription = opened.subscribe(subject, {
        callback: (error, message) => {
          if (error !== null) logger.error({ err: error }, `the subscription to ${subject} failed`);
          else deliver(message);
          if (guard.isFlood) subscription.unsubscribe();
        },
      });
      if (!listening) {
        listening = true;
        await connected(opened);
      }
      await subscription.closed.catch(() => {});
      // A dead subscription on a live connection would receive nothing.
      if (!guard.isFlood) return opened.close();
      await pauseAfterFlood(performance.now() - startedAtMs);
    }
  }

  async function pauseAfterFlood(listenedMs: number): Promise<void> {
    listening = false;
    floods += 1;
    pauseMs = listenedMs > floodPauseMs.max ? floodPauseMs.first : pauseMs;
    detail = "flooded with messages from outside the cluster; reading events from brokers meanwhile";
    logger.error(
      { subject, pauseMs },
      "NATS is flooded with messages from outside the cluster; reading events from brokers instead",
    );
    await delay(pauseMs, undefined, { signal: closing.signal, ref: false }).catch(() => {});
    pauseMs = Math.min(floodPauseMs.max, pauseMs * 2);
    guard.forgetFlood();
  }

  async function watch(opened: NatsConnection): Promise<void> {
    for await (const status of opened.status()) {
      if (status.type === "disconnect" || status.type === "staleConnection") disconnected(`lost ${opened.getServer()}`);
      else if (status.type === "reconnect") await connected(opened);
      else if (status.type === "ldm")
        void opened.reconnect(); // the server is shutting down: choose another one now
      else if (status.type === "error") logger.warn({ err: status.error }, "NATS answered with an error");
    }
  }

  /** Waits for an answer to a message sent after the subscription: by then the server has the subscription. */
  async function connected(opened: NatsConnection): Promise<void> {
    try {
      await opened.flush();
    } catch {
      return; // lost again; the next status reports it
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

  function deliver(message: Msg): void {
    const delivery = deliveryOf(message);
    const now = moment();
    const refusal = guard.refuse(delivery, now);
    if (refusal !== undefined) {
      logRefusals(now.monotonicMs);
      return;
    }
    counts.delivered += 1;
    const own = new Uint8Array(delivery.data); // a copy, not a view of the socket's buffer
    let forged = false;
    const reportForgery = (): void => {
      if (!forged) guard.reportForgery(own.length, now);
      forged = true;
    };
    for (const listener of [...listeners]) call(() => listener(own, reportForgery));
    if (forged) logRefusals(now.monotonicMs);
  }

  /** Catches the errors of a listener: in the client they would end reading permanently. */
  function call(listener: () => void): void {
    try {
      listener();
    } catch (error) {
      logger.error({ err: error }, "a listener of the NATS fan-out failed");
    }
  }

  /** Determines which data has left the machine: asks the server for an answer after it, one request at a time. */
  function countSent(opened: NatsConnection): void {
    if (flushing) return;
    flushing = true;
    const flushedBytes = unsentBytes;
    opened.flush().then(
      () => {
        unsentBytes = Math.max(0, unsentBytes - flushedBytes);
        flushing = false;
        if (unsentBytes > 0) countSent(opened);
      },
      () => {
        unsentBytes = 0; // the client has discarded it with the connection
        flushing = false;
      },
    );
  }

  function headersOf(envelope: Uint8Array) {
    const [key] = tagKeys;
    const headers = newHeaders();
    if (key !== undefined) headers.set(deliveryTagHeader, createDeliveryTag(envelope, key, Date.now()));
    return headers;
  }

  const supervised = supervise();

  return {
    publish(envelope) {
      const room = unsentBytes + envelope.length <= unsentBytesMax;
      const fits = envelope.length <= Math.min(connection?.info?.max_payload ?? deliveryBytesMax, deliveryBytesMax);
      if (connection === undefined || !healthy || !room || !fits) {
        counts.dropped += 1;
        if (!fits)
          logger.warn({ bytes: envelope.length }, "a batch is too large for NATS; nodes read it from a broker");
        return;
      }
      try {
        connection.publish(subject, envelope, { headers: headersOf(envelope) });
        counts.published += 1;
        unsentBytes += envelope.length;
        countSent(connection);
      } catch (error) {
        counts.dropped += 1;
        logger.debug({ err: error }, "a batch was not published");
      }
    },
    subscribe(listener) {
      const own: DeliveryListener = (envelope, reportForgery) => listener(envelope, reportForgery);
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
      return readReplayBuffer(connection, { stream, sinceMs, limit, timeoutMs, tagKeys });
    },
    status: () => ({
      healthy: healthy && listening,
      detail,
      ...counts,
      floods,
      refused: guard.refused,
      mirrorLag: healthy ? mirrorLag : null,
    }),
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

function moment(): GuardMoment {
  return { monotonicMs: performance.now(), wallMs: Date.now() };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const refusalsLoggedEveryMs = 60_000;

/**
 * Logs the first refused message, then at most one line a minute with the counts so far.
 * @returns a function to call after each refusal
 */
function createRefusalLog(
  of: Readonly<{ logger: Logger; subject: string; refused: () => Readonly<Record<string, number>> }>,
): (monotonicMs: number) => void {
  let loggedAtMs = Number.NEGATIVE_INFINITY;
  return (monotonicMs) => {
    if (monotonicMs - loggedAtMs < refusalsLoggedEveryMs) return;
    loggedAtMs = monotonicMs;
    const { subject } = of;
    of.logger.warn(
      { subject, refused: of.refused() },
      "messages on NATS were refused: not from a member of the cluster",
    );
  };
}
