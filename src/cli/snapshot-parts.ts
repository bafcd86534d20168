/** The snapshots of a process: a broker's shelf or a node's own copy, in `snapshots` of the data folder, kept fresh. */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import { createSnapshotOffice, type SnapshotOffice } from "../broker/index.ts";
import type { Config } from "../config/index.ts";
import { type NodeId, parseCommandId } from "../events/index.ts";
import {
  createBrokerOpener,
  createNodeSnapshots,
  type EventLog,
  type Logger,
  type NodeSnapshots,
  SnapshotFolder,
  type SnapshotSupply,
} from "../replication/index.ts";

/** How often the leader looks whether there is something to do. */
const lookMs = 5_000;

/** @param secret of the cluster; the folder believes its brokers alone */
export function snapshotFolderOf(config: Pick<Config, "dataDir" | "sharedSecret" | "sharedSecretPrevious" | "broker">) {
  const previous = config.sharedSecretPrevious;
  const secrets = [config.sharedSecret, ...(previous === null ? [] : [previous])];
  const open = createBrokerOpener({ cluster: config.broker.clusterName, secrets });
  return new SnapshotFolder({ path: join(config.dataDir, "snapshots"), open });
}

/** Null for a log in memory: a snapshot would outlive it. */
export function snapshotOfficeOf(
  config: Config,
  parts: Readonly<{ log: EventLog; others: SnapshotSupply | null; logger: Logger }>,
): SnapshotOffice | null {
  if (parts.log.kind === "memory") return null;
  const { broker } = config;
  return createSnapshotOffice({
    ...parts,
    cluster: broker.clusterName,
    folder: snapshotFolderOf(config),
    everyEvents: broker.snapshotEvery,
    retentionMs: broker.retentionMs,
    hold: broker.legalHold ? "everything" : "nothing",
    lookMs,
    commandId: () => parseCommandId(randomUUID()),
    turn: async () => void (await turn()),
  });
}

/** @param parts.ownFolder false where a broker of this process has snapshots there */
export function nodeSnapshotsOf(
  config: Config,
  parts: Readonly<{ node: NodeId; supply: SnapshotSupply; folder: "own" | "none"; logger: Logger }>,
): NodeSnapshots {
  const folder = snapshotFolderOf(config);
  return createNodeSnapshots({
    supply: parts.supply,
    open: folder.open,
    logger: parts.logger,
    folder: parts.folder === "own" ? folder : null,
    deniedFile: join(config.dataDir, `denied-${encodeURIComponent(parts.node)}`),
  });
}

/** Keeps a copy of the newest snapshot; not all processes of a cluster at once. @returns ends it */
export function keepFresh(
  refresh: (signal: AbortSignal) => Promise<boolean>,
  { everyMs, logger }: Readonly<{ everyMs: number; logger: Logger }>,
): () => Promise<void> {
  const ending = new AbortController();
  const { signal } = ending;
  async function loop(): Promise<void> {
    for (;;) {
      await delay(everyMs * (0.5 + Math.random()), undefined, { signal, ref: false });
      try {
        if (await refresh(signal)) logger.info({}, "a newer snapshot is on this disk");
      } catch (error) {
        if (!signal.aborted) logger.warn({ err: error }, "no newer snapshot could be had; looking again later");
      }
    }
  }
  const looping = loop().catch(() => {});
  return async () => {
    ending.abort();
    await looping;
  };
}
