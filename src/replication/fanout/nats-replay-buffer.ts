/**
 * NATS replay buffer: a JetStream stream that captures the messages on the subject of the log, for brokers with a gap.
 *
 * - Only brokers create it, in the background, and create it again when a server has lost it.
 * - No process publishes to it or waits for it, and its content proves nothing. Its messages are verified and linked
 *   like any delivery.
 * - In a region without the leader it is a mirror of the stream in the home region. It resumes at its position when the
 *   link between the regions heals.
 * - A mirror follows sequence numbers. After its origin is recreated, it would wait for numbers that never arrive
 *   (nats-server #3724, #7530). A mirror that is ahead of its origin is therefore recreated too.
 */
import type { KeyObject } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { JetStreamManager, StreamConfig } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import { addJitter } from "../runtime/jitter.ts";
import type { Logger } from "../runtime/logger.ts";
import { ReplayFilter } from "./delivery-guard.ts";
import { deliveryOf } from "./nats-delivery.ts";
import { natsJetstream, natsTransport } from "./nats-modules.ts";

const lookEveryMs = 5_000;
const retryMs = 1_000;
const apiMsMax = 5_000;
const ageMsMax = 24 * 60 * 60 * 1_000;
/** The error code of the server for "no such stream". */
const streamNotFound = 10_059;
const fetchMs = 1_000;
const fetchMessages = 100;
/** Bound of one reading, in bytes. A reader that missed more reads pages from a broker. */
const replayBytesMax = 32 * 1024 * 1024;

/** The stream in the home region that this one mirrors. */
export type MirrorOf = Readonly<{
  origin: string;
  /** The JetStream domain of the origin; null: the same domain. */
  domain: string | null;
  /** The NATS cluster that keeps the mirror; null: any. */
  placementCluster: string | null;
}>;

export type ReplayBufferOptions = Readonly<{
  stream: string;
  subject: string;
  /** Null: the stream itself captures published messages. Undefined: not known yet; nothing is created or changed. */
  mirrorOf: () => MirrorOf | null | undefined;
  /** Streams that are deleted when found. */
  retiredStreams: () => readonly string[];
  /** Called after every check with the lag of a mirror, in messages; null: unknown. */
  onLag: (lag: number | null) => void;
  /** Number of servers in the configuration; the cluster may announce more. */
  serversKnown: number;
  bytesMax: number;
  signal: AbortSignal;
  logger: Logger;
  randomBytes: (size: number) => Uint8Array;
}>;

/** Keeps the stream in existence until the signal aborts. Never throws. */
export async function keepReplayBuffer(connection: NatsConnection, options: ReplayBufferOptions): Promise<void> {
  const { signal, logger, stream } = options;
  let lastProblem = "";
  signal.addEventListener("abort", () => options.onLag(null), { once: true });
  while (!signal.aborted) {
    let problem = "";
    try {
      // First, because a stream reserves the space of its limit: both may not fit.
      for (const name of options.retiredStreams())
        if (await removeStream(connection, name))
          logger.info({ stream: name }, "removed a replay buffer of a former home");
      const mirrorOf = options.mirrorOf();
      if (mirrorOf === undefined) options.onLag(null);
      else {
        const done = await ensureStream(connection, { ...options, mirrorOf });
        if (done !== "unchanged") logger.info({ stream }, `replay buffer ${done}`);
      }
    } catch (error) {
      options.onLag(null);
      problem = error instanceof Error ? error.message : String(error);
      if (problem !== lastProblem && !signal.aborted)
        logger.warn({ err: error, stream }, "no replay buffer; continuing without it");
    }
    lastProblem = problem;
    const pauseMs = addJitter(problem === "" ? lookEveryMs : retryMs, options.randomBytes);
    await delay(pauseMs, undefined, { signal, ref: false }).catch(() => {});
  }
}

/** The name of the stream in the home region. */
export function originName(cluster: string): string {
  return `${cluster.toUpperCase()}_LOG`;
}

/**
 * The name of the mirror of a region. Streams of one JetStream domain share a namespace, so the name contains the
 * region.
 */
export function mirrorName(origin: string, region: string): string {
  return `${origin}_${region.toUpperCase().replace(/[^A-Z0-9_-]/g, "-")}`;
}

/**
 * Reads the newest messages, oldest first: at most `limit`, and only those that arrive within `timeoutMs`.
 *
 * The stream captures the messages of any NATS client. Each message is checked by size, shape and tag before it is
 * kept, and all kept messages fit in `replayBytesMax`.
 */
export async function readReplayBuffer(
  connection: NatsConnection,
  options: Readonly<{
    stream: string;
    sinceMs: number;
    limit: number;
    timeoutMs: number;
    /** The keys of tags made by members of the cluster. */
    tagKeys: readonly KeyObject[];
  }>,
): Promise<Uint8Array[]> {
  const giveUpAt = performance.now() + options.timeoutMs;
  const consumer = await natsJetstream()
    .jetstream(connection, { timeout: options.timeoutMs })
    .consumers.get(options.stream, {
      deliver_policy: natsJetstream().DeliverPolicy.StartTime,
      opt_start_time: new Date(Date.now() - options.sinceMs).toISOString(),
    });
  const envelopes: Uint8Array[] = [];
  const filter = new ReplayFilter(options.tagKeys);
  let keptBytes = 0;
  try {
    let left = Math.min(options.limit, (await consumer.info()).num_pending);
    while (left > 0 && keptBytes < replayBytesMax && performance.now() < giveUpAt) {
      const messages = await consumer.fetch({ max_messages: Math.min(left, fetchMessages), expires: fetchMs });
      let brought = 0;
      for await (const message of messages) {
        brought += 1;
        if (!filter.accepts(deliveryOf(message)) || keptBytes + message.data.length > replayBytesMax) continue;
        keptBytes += message.data.length;
        envelopes.push(Uint8Array.from(message.data));
      }
      if (brought === 0) break;
      left -= brought;
    }
  } finally {
    await consumer.delete().catch(() => false); // otherwise the server deletes it after a while
  }
  return envelopes;
}

type Wanting = Omit<ReplayBufferOptions, "mirrorOf"> & Readonly<{ mirrorOf: MirrorOf | null }>;

/** @returns whether there was one */
async function removeStream(connection: NatsConnection, name: string): Promise<boolean> {
  const manager = await natsJetstream().jetstreamManager(connection, { timeout: apiMsMax, checkAPI: false });
  try {
    return await manager.streams.delete(name);
  } catch (error) {
    if (error instanceof natsJetstream().JetStreamApiError && error.code === streamNotFound) return false;
    throw error;
  }
}

async function ensureStream(
  connection: NatsConnection,
  options: Wanting,
): Promise<"created" | "changed" | "unchanged"> {
  const manager = await natsJetstream().jetstreamManager(connection, { timeout: apiMsMax, checkAPI: false });
  const replicas = serverCount(connection, options.serversKnown) >= 3 ? 3 : 1;
  const wanted = { ...settings(options), num_replicas: replicas };
  try {
    const { config, state } = await manager.streams.info(options.stream);
    if (options.mirrorOf !== null) {
      const lag = await lagBehind(connection, options.mirrorOf, state.last_seq);
      // The origin of a mirror cannot be changed.
      if (differsInOrigin(config, options.mirrorOf) || (lag !== null && lag < 0)) {
        await manager.streams.delete(options.stream);
        await create(manager, { name: options.stream, ...wanted });
        return "created";
      }
      options.onLag(lag);
    }
    const more = { ...wanted, num_replicas: Math.max(replicas, config.num_replicas) };
    return differs(config, more) ? await change(manager, options.stream, more, config) : "unchanged";
  } catch (error) {
    if (!(error instanceof natsJetstream().JetStreamApiError) || error.code !== streamNotFound) throw error;
  }
  await create(manager, { name: options.stream, ...wanted });
  return "created";
}

/**
 * How many messages a mirror lags. Negative: the origin was recreated, and the mirror is ahead of it. Null: the origin
 * does not answer, as while the link to its region is cut. The server then still shows the lag of its last contact.
 */
async function lagBehind(connection: NatsConnection, of: MirrorOf, mirrored: number): Promise<number | null> {
  try {
    const options = { timeout: apiMsMax, checkAPI: false, ...(of.domain === null ? {} : { domain: of.domain }) };
    const { state } = await (await natsJetstream().jetstreamManager(connection, options)).streams.info(of.origin);
    return state.last_seq - mirrored;
  } catch {
    return null; // counted as unknown; nothing is concluded from it
  }
}

type Wanted = ReturnType<typeof settings> & Readonly<{ num_replicas: number }>;

/** Creates the stream with one copy if the cluster cannot keep three now. The next check requests more. */
async function create(manager: JetStreamManager, config: Wanted & Readonly<{ name: string }>): Promise<void> {
  try {
    await manager.streams.add(config);
  } catch (error) {
    if (!(error instanceof natsJetstream().JetStreamApiError) || config.num_replicas === 1) throw error;
    await manager.streams.add({ ...config, num_replicas: 1 });
  }
}

async function change(
  manager: JetStreamManager,
  stream: string,
  wanted: Wanted,
  is: StreamConfig,
): Promise<"changed" | "unchanged"> {
  try {
    await manager.streams.update(stream, wanted);
    return "changed";
  } catch (error) {
    const onlyReplicas = !differs(is, { ...wanted, num_replicas: is.num_replicas });
    // There are not enough servers yet.
    if (error instanceof natsJetstream().JetStreamApiError && onlyReplicas) return "unchanged";
    throw error;
  }
}

function settings({ subject, bytesMax, mirrorOf }: Wanting) {
  return {
    ...(mirrorOf === null ? { subjects: [subject] } : mirroring(mirrorOf)),
    storage: natsJetstream().StorageType.File,
    retention: natsJetstream().RetentionPolicy.Limits,
    discard: natsJetstream().DiscardPolicy.Old,
    max_age: natsTransport().nanos(ageMsMax),
    max_bytes: bytesMax,
  };
}

function mirroring({ origin, domain, placementCluster }: MirrorOf) {
  const external = domain === null ? {} : { external: { api: apiOf(domain), deliver: "" } };
  return {
    mirror: { name: origin, ...external },
    ...(placementCluster === null ? {} : { placement: { cluster: placementCluster, tags: [] } }),
  };
}

function differsInOrigin({ mirror }: StreamConfig, { origin, domain }: MirrorOf): boolean {
  return mirror?.name !== origin || (mirror.external?.api ?? null) !== (domain === null ? null : apiOf(domain));
}

/** The prefix of the JetStream API of another domain. */
function apiOf(domain: string): string {
  return `$JS.${domain}.API`;
}

/** True when a setting of the stream differs from the wanted one. Storage and retention cannot be changed. */
function differs(is: StreamConfig, wanted: Wanted): boolean {
  return (
    ("subjects" in wanted
      ? (is.subjects ?? []).join() !== wanted.subjects.join()
      : is.mirror?.name !== wanted.mirror.name) ||
    is.discard !== wanted.discard ||
    is.max_age !== wanted.max_age ||
    is.max_bytes !== wanted.max_bytes ||
    is.num_replicas !== wanted.num_replicas
  );
}

function serverCount(connection: NatsConnection, known: number): number {
  const urls = new Set(connection.info?.connect_urls ?? []);
  return Math.max(known, urls.size);
}
