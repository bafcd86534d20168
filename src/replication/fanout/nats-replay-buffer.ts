/**
 * NATS replay buffer: a JetStream stream that captures what is published on the log's subject, for brokers with a gap.
 *
 * Only brokers make it, in the background, and make it again when a server has forgotten it. Nobody publishes to it or
 * waits for it, and nothing is concluded from what it holds: what it gives back is verified and linked like any
 * delivery.
 *
 * In a region that is not the leader's it is a mirror of the leader's, so that it goes on from where it was when the
 * link between them heals. A mirror follows sequence numbers: of an origin that was made anew it would wait for ones
 * that never come (nats-server #3724, #7530), so one that is ahead of its origin is made anew too.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { JetStreamManager, StreamConfig } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import { jittered } from "../runtime/jitter.ts";
import type { Logger } from "../runtime/logger.ts";
import { ReplayFilter } from "./delivery-guard.ts";
import { deliveryOf } from "./nats-delivery.ts";
import { natsJetstream, natsTransport } from "./nats-modules.ts";

const lookEveryMs = 5_000;
const retryMs = 1_000;
const apiMsMax = 5_000;
const ageMsMax = 24 * 60 * 60 * 1_000;
/** The server's code for "no such stream". */
const streamNotFound = 10_059;
const fetchMs = 1_000;
const fetchMessages = 100;
/** Of one reading: a reader that missed more reads pages from a broker. */
const replayBytesMax = 32 * 1024 * 1024;

/** The stream of the leader's region, that this one mirrors. */
export type MirrorOf = Readonly<{
  origin: string;
  /** The JetStream domain that it is in; null: ours. */
  domain: string | null;
  /** The NATS cluster that keeps the mirror; null: whichever. */
  placementCluster: string | null;
}>;

export type ReplayBufferOptions = Readonly<{
  stream: string;
  subject: string;
  /** Null: it captures what is published. */
  mirrorOf: MirrorOf | null;
  /** Told at every look how far a mirror is behind; null: it is not known. */
  onLag: (lag: number | null) => void;
  /** How many servers the configuration names; the cluster may tell of more. */
  serversKnown: number;
  bytesMax: number;
  signal: AbortSignal;
  logger: Logger;
  randomBytes: (size: number) => Uint8Array;
}>;

/** Sees to it that the stream is there, until the signal ends it. Never throws. */
export async function keepReplayBuffer(connection: NatsConnection, options: ReplayBufferOptions): Promise<void> {
  const { signal, logger, stream } = options;
  let lastProblem = "";
  signal.addEventListener("abort", () => options.onLag(null), { once: true });
  while (!signal.aborted) {
    let problem = "";
    try {
      const done = await ensureStream(connection, options);
      if (done !== "unchanged") logger.info({ stream }, `replay buffer ${done}`);
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error);
      if (problem !== lastProblem && !signal.aborted)
        logger.warn({ err: error, stream }, "no replay buffer; going on without");
    }
    lastProblem = problem;
    const pauseMs = jittered(problem === "" ? lookEveryMs : retryMs, options.randomBytes);
    await delay(pauseMs, undefined, { signal, ref: false }).catch(() => {});
  }
}

/** Streams of one JetStream domain share their names, so a region's mirror is named for it. */
export function mirrorName(origin: string, region: string): string {
  return `${origin}_${region.toUpperCase().replace(/[^A-Z0-9_-]/g, "-")}`;
}

/**
 * Reads the newest messages, oldest first: at most `limit`, and what arrives within `timeoutMs`.
 *
 * The stream captures what any client of NATS publishes. Each message is checked by size, shape and tag before it is
 * kept, and all that is kept fits `replayBytesMax`.
 */
export async function readReplayBuffer(
  connection: NatsConnection,
  options: Readonly<{
    stream: string;
    sinceMs: number;
    limit: number;
    timeoutMs: number;
    /** Of the tags of our own messages. */
    tagKeys: readonly Uint8Array[];
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
    await consumer.delete().catch(() => false); // or the server forgets it by itself after a while
  }
  return envelopes;
}

async function ensureStream(
  connection: NatsConnection,
  options: ReplayBufferOptions,
): Promise<"created" | "changed" | "unchanged"> {
  const manager = await natsJetstream().jetstreamManager(connection, { timeout: apiMsMax, checkAPI: false });
  const replicas = serverCount(connection, options.serversKnown) >= 3 ? 3 : 1;
  const wanted = { ...settings(options), num_replicas: replicas };
  try {
    const { config, state, mirror } = await manager.streams.info(options.stream);
    if (options.mirrorOf !== null) {
      if (await isBeyond(connection, options.mirrorOf, state.last_seq)) {
        await manager.streams.delete(options.stream);
        await create(manager, { name: options.stream, ...wanted });
        return "created";
      }
      options.onLag(mirror?.lag ?? null);
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
 * True when the origin has been made anew and the mirror stands beyond it. An origin that does not answer is as it was.
 */
async function isBeyond(connection: NatsConnection, of: MirrorOf, mirrored: number): Promise<boolean> {
  try {
    const options = { timeout: apiMsMax, checkAPI: false, ...(of.domain === null ? {} : { domain: of.domain }) };
    const { state } = await (await natsJetstream().jetstreamManager(connection, options)).streams.info(of.origin);
    return state.last_seq < mirrored;
  } catch {
    return false;
  }
}

type Wanted = ReturnType<typeof settings> & Readonly<{ num_replicas: number }>;

/** When the cluster cannot keep three copies now, one will do: the next look asks for more. */
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
    if (error instanceof natsJetstream().JetStreamApiError && onlyReplicas) return "unchanged"; // not enough servers yet
    throw error;
  }
}

function settings({ subject, bytesMax, mirrorOf }: ReplayBufferOptions) {
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
  const external = domain === null ? {} : { external: { api: `$JS.${domain}.API`, deliver: "" } };
  return {
    mirror: { name: origin, ...external },
    ...(placementCluster === null ? {} : { placement: { cluster: placementCluster, tags: [] } }),
  };
}

/** What we set and the server may have otherwise; storage and retention cannot be changed. */
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
  const told = new Set(connection.info?.connect_urls ?? []);
  return Math.max(known, told.size);
}
