/** Audit: the sinks that a configuration names, and the feed for operators. */

import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { NatsConnection } from "@nats-io/transport-node";
import {
  type AuditSink,
  createFeed,
  createNatsAuditSink,
  createNatsHistory,
  createRecorder,
  type Feed,
  followAuditStream,
  type HeardStatus,
  openPullStore,
  openSpoolFolder,
  type Recheck,
  type Recorder,
  type RecordHistory,
  type RecordVerifierCounts,
  type SealPort,
  spoolFolderOf,
} from "../../audit/index.ts";
import type { Config } from "../../config/index.ts";
import type { BootId, NodeId } from "../../events/index.ts";
import { credentialsIn, natsJetstream, natsTransport } from "../../replication/fanout/index.ts";
import type { Logger } from "../../replication/index.ts";
import type { Output } from "../terminal/output.ts";
import { createSinks } from "./audit/audit-sinks.ts";
import { startAuditStatus } from "./audit/audit-status.ts";
import { quietSleep } from "./audit/quiet-sleep.ts";

const feedKeep = 20_000;
const feedKeepBytes = 16 * 1024 * 1024;
const watchersMax = 100;

export type AuditParts = Readonly<{
  recorder: Recorder;
  /** Whether records are stored: the process records, and a sink is configured. */
  hasSpool: boolean;
  feed: Feed;
  /** The stored records behind the feed; null: none are stored. */
  history: RecordHistory | null;
  /** What the sinks of this process and of others do not have. */
  status(): readonly HeardStatus[];
  /** Counts of the stream of all nodes; null: this process does not follow it. */
  verified(): RecordVerifierCounts | null;
  close(timeoutMs: number): Promise<void>;
}>;

type AuditContext = Readonly<{
  node: NodeId;
  boot: BootId;
  logger: Logger;
  output: Pick<Output, "writeAll">;
  /** Signs decision records with the key that this node enrolled. */
  seal: (payload: Uint8Array) => Uint8Array;
}>;

export async function startAudit(
  config: Config,
  context: AuditContext &
    Readonly<{
      /** Seals the roots of the records into the log. */
      sealPort: SealPort;
      /** Gets each record of the stream of all nodes; null: this process checks none. */
      recheck: Pick<Recheck, "offer"> | null;
    }>,
): Promise<AuditParts> {
  const { nats } = config;
  const viaNats = config.audit.nats && nats !== null;
  const bounds = { entriesMax: feedKeep, bytesMax: feedKeepBytes, watchersMax };
  // In a cluster operators watch every node through the stream; in one process they watch the records themselves.
  const feed = createFeed(viaNats ? bounds : { ...bounds, start: { sequence: context.boot, number: 0, index: 0 } });
  const records = (["proxy", "authorize", "authenticate"] as const).some((service) => config.services.has(service));
  const sinks = [...(records ? await sinksOf(config, context) : [])];
  // A broker alone records nothing, so its sinks need no spool.
  const spoolFolder = spoolFolderOf(config.audit.spoolDir, context.node);
  const disk = records && sinks.length > 0 ? openSpoolFolder(spoolFolder) : null;
  const pulls = disk === null || viaNats ? null : await openPulls(config, spoolFolder, context);
  if (pulls !== null) sinks.push(pulls.store);
  const everyMs = config.audit.sealMs;
  const sealing = everyMs === 0 ? {} : { seal: { port: context.sealPort, everyMs } };
  const recorder = await createRecorder({
    node: context.node,
    boot: context.boot,
    spool: disk === null ? null : { disk, bytesMax: config.audit.spoolMaxBytes, sinks, ...sealing },
    ...(viaNats ? {} : { tap: (batch) => feed.pushBatch(batch) }),
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    sleep: quietSleep,
    onFailure: (what, error) =>
      context.logger.warn(
        { what, error: error instanceof Error ? error.message : String(error), code: codeOf(error) },
        what === "spool"
          ? "the audit spool is failing; records wait in memory, and strict routes answer 503"
          : what === "spool files"
            ? "files of the audit spool cannot be removed; it grows to its bound"
            : what === "seal"
              ? "the roots of audit records are not sealed into the log now"
              : "an audit sink is failing; its records wait in the spool",
      ),
    onDamage: (place) =>
      context.logger.warn(
        place,
        place.torn
          ? "the end of an audit segment was not written completely; cut it off"
          : "an audit segment is damaged; skipped the place, and a gap record declares what was there",
      ),
  });
  const replicas = nats === null ? 1 : replicasOf(nats);
  const following =
    viaNats && config.services.has("authenticate")
      ? followInBackground(config, nats, { feed: offeringTo(context.recheck, feed), replicas, ...context })
      : undefined;
  const history = viaNats && config.services.has("authenticate") ? streamHistoryOf(config, nats, context.node) : null;
  const secrets = secretsOf(config);
  const signer = { seal: context.seal, secret: config.sharedSecret };
  const connection = viaNats && records ? connectOnce(nats, `${context.node} audit status`) : null;
  const status = startAuditStatus(config, { ...context, recorder, signer, secrets, connection });
  return {
    recorder,
    hasSpool: disk !== null,
    feed,
    status: status.list,
    history: history ?? pulls?.store ?? null,
    verified: () => following?.verified() ?? null,
    async close(timeoutMs) {
      await status.stop();
      await recorder.close(timeoutMs);
      pulls?.release();
      disk?.release();
      await following?.stop();
      await history?.close();
      await connection?.close();
    },
  };
}

/** The feed, with each of its records offered for a check. */
function offeringTo(recheck: Pick<Recheck, "offer"> | null, feed: Feed): Pick<Feed, "push"> {
  if (recheck === null) return feed;
  return {
    push(entries) {
      feed.push(entries);
      for (const { record, bytes } of entries) recheck.offer(record, bytes);
    },
  };
}

/** The sinks of a node, the stream in NATS included. */
export async function sinksOf(config: Config, context: AuditContext): Promise<readonly AuditSink[]> {
  const { nats } = config;
  const sinks = await createSinks(config, context);
  if (nats === null || !config.audit.nats) return sinks;
  natsJetstream(); // fails at the start if a package is missing, not at the first record
  const stream = lazySink("nats", async () =>
    createNatsAuditSink({
      connection: await connectNats(nats, `${context.node} audit`),
      cluster: config.broker.clusterName,
      region: config.region,
      node: context.node,
      boot: context.boot,
      signer: { seal: context.seal, secret: config.sharedSecret },
      replicas: replicasOf(nats),
      streamBytesMax: config.audit.streamBytesMax,
    }),
  );
  return [...sinks, stream];
}

function replicasOf({ servers }: Nats): number {
  return servers.length >= 3 ? 3 : 1;
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error ? String(error.code) : undefined;
}

/** The shared secret, then the previous one while it is being replaced. */
export function secretsOf(config: Pick<Config, "sharedSecret" | "sharedSecretPrevious">): readonly Uint8Array[] {
  return [config.sharedSecret, ...(config.sharedSecretPrevious === null ? [] : [config.sharedSecretPrevious])];
}

const refusalsLogMs = 60_000;

/** Logs the first refused message, then at most one line a minute. */
function refusedRecordsLog(logger: Logger, refused: () => Readonly<Record<string, number>>): () => void {
  let loggedAtMs = Number.NEGATIVE_INFINITY;
  return () => {
    if (performance.now() - loggedAtMs < refusalsLogMs) return;
    loggedAtMs = performance.now();
    logger.warn({ refused: refused() }, "decision records in the audit stream were refused; they are not shown");
  };
}

type Nats = NonNullable<Config["nats"]>;

/** @param options.reconnects false: a lost connection fails waiting calls */
export function connectNats(
  nats: Nats,
  name: string,
  { reconnects }: Readonly<{ reconnects: boolean }> = { reconnects: true },
): Promise<NatsConnection> {
  const { connect, credsAuthenticator } = natsTransport();
  return connect({
    servers: [...nats.servers],
    name,
    reconnect: reconnects,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 500,
    pingInterval: 5_000,
    timeout: 3_000,
    ...(nats.user === null ? {} : { user: nats.user }),
    ...(nats.password === null ? {} : { pass: nats.password }),
    ...(nats.credentialsFile === null
      ? {}
      : { authenticator: credsAuthenticator(credentialsIn(nats.credentialsFile)) }),
    ...(nats.tlsCa === null ? {} : { tls: { ca: nats.tlsCa } }),
  });
}

/** What this process keeps for callers that pull; null: it serves no operators, or keeps nothing. */
async function openPulls(
  config: Config,
  spoolFolder: string,
  { boot, logger }: Pick<AuditContext, "boot" | "logger">,
): Promise<Readonly<{ store: AuditSink & RecordHistory; release(): void }> | null> {
  const { pullMaxBytes: bytesMax } = config.audit;
  if (!config.services.has("authenticate") || bytesMax === 0) return null;
  try {
    const disk = openSpoolFolder(join(spoolFolder, "pull"));
    const store = await openPullStore({ disk, boot, bytesMax, monotonicMs: () => performance.now() });
    return { store, release: () => disk.release() };
  } catch (error) {
    logger.warn(
      { error: String(error) },
      "cannot open the records kept for callers that pull; they get those in memory",
    );
    return null;
  }
}

/** A connection that is made at its first use, and again after a failure to make it. */
function connectOnce(nats: Nats, name: string): (() => Promise<NatsConnection>) & Readonly<{ close(): Promise<void> }> {
  let made: Promise<NatsConnection> | undefined;
  const connect = (): Promise<NatsConnection> => {
    made ??= connectNats(nats, name).catch((error: unknown) => {
      made = undefined;
      throw error;
    });
    return made;
  };
  const close = async (): Promise<void> => {
    await (await made?.catch(() => undefined))?.close();
  };
  return Object.assign(connect, { close });
}

/** The stream of all nodes as history, through a connection that is made at the first read. */
function streamHistoryOf(
  config: Config,
  nats: Nats,
  node: NodeId,
): RecordHistory & Readonly<{ close(): Promise<void> }> {
  const connection = connectOnce(nats, `${node} audit history`);
  const history = createNatsHistory({ connection, cluster: config.broker.clusterName, secrets: secretsOf(config) });
  return {
    ...history,
    async close() {
      await connection.close();
    },
  };
}

/** A sink that is created at its first write, and again after a failed creation. */
function lazySink(name: string, make: () => Promise<AuditSink>): AuditSink {
  let made: Promise<AuditSink> | undefined;
  return {
    name,
    async write(records) {
      made ??= make();
      try {
        await (await made).write(records);
      } catch (error) {
        if (
          await made.then(
            () => false,
            () => true,
          )
        )
          made = undefined;
        throw error;
      }
    },
    async close() {
      await (await made?.catch(() => undefined))?.close();
    },
  };
}

function followInBackground(
  config: Config,
  nats: Nats,
  options: Readonly<{ feed: Pick<Feed, "push">; replicas: number; logger: Logger; node: NodeId }>,
): Readonly<{ verified(): RecordVerifierCounts | null; stop(): Promise<void> }> {
  const stopped = new AbortController();
  let follower: ReturnType<typeof followAuditStream> | undefined;
  const started = (async () => {
    while (!stopped.signal.aborted && follower === undefined) {
      try {
        const connection = await connectNats(nats, `${options.node} audit feed`);
        follower = followAuditStream({
          connection,
          cluster: config.broker.clusterName,
          secrets: secretsOf(config),
          replicas: options.replicas,
          streamBytesMax: config.audit.streamBytesMax,
          feed: options.feed,
          now: () => Date.now(),
          sleep: (ms, signal) => sleep(ms, undefined, signal === undefined ? {} : { signal }),
          onFailure: (error) =>
            options.logger.warn({ error: String(error) }, "the audit feed was interrupted; resuming it"),
          onRefused: refusedRecordsLog(options.logger, () => follower?.counts().refused ?? {}),
        });
      } catch (error) {
        options.logger.warn({ error: String(error) }, "the audit feed cannot connect; trying again");
        await sleep(2_000, undefined, { signal: stopped.signal }).catch(() => undefined);
      }
    }
  })();
  return {
    verified: () => follower?.counts() ?? null,
    async stop() {
      stopped.abort();
      await started;
      await follower?.stop();
    },
  };
}
