/** Snapshots of a process: a broker's store or a node's copy, in the folder `snapshots` of the data folder. */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Config } from "../../config/index.ts";
import type { NodeId } from "../../events/index.ts";
import type { Logger } from "../../replication/index.ts";
import { createNodeSnapshots, type NodeSnapshots } from "../../replication/node/index.ts";
import {
  createLogArchive,
  type LogArchive,
  type SignedManifest,
  SnapshotFolder,
  type SnapshotSupply,
} from "../../replication/snapshot/index.ts";
import { createBrokerOpener } from "../../replication/wire/index.ts";

/** The folder accepts only snapshots that a broker of this cluster has signed. */
export function snapshotFolderOf(config: Pick<Config, "dataDir" | "sharedSecret" | "sharedSecretPrevious" | "broker">) {
  const previous = config.sharedSecretPrevious;
  const secrets = [config.sharedSecret, ...(previous === null ? [] : [previous])];
  const open = createBrokerOpener({ cluster: config.broker.clusterName, secrets });
  return new SnapshotFolder({ path: join(config.dataDir, "snapshots"), open });
}

/** Whether a snapshot becomes invalid without `shared_secret_previous`; null: there is no such secret. */
export function invalidatedByRotation(
  config: Pick<Config, "sharedSecret" | "sharedSecretPrevious" | "broker">,
): ((snapshot: SignedManifest) => boolean) | null {
  if (config.sharedSecretPrevious === null) return null;
  const open = createBrokerOpener({ cluster: config.broker.clusterName, secrets: [config.sharedSecret] });
  return ({ envelope }) => "refused" in open(envelope);
}

/** @param parts.folder `none` if a broker of this process uses the folder */
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

/** What the brokers keep of the past. */
export function logArchiveOf(config: Config, { supply }: Readonly<{ supply: SnapshotSupply }>): LogArchive {
  return createLogArchive({ supply, open: snapshotFolderOf(config).open });
}

/** Copies the newest snapshot at random intervals around `everyMs`, to spread the processes. @returns stops it */
export function startSnapshotRefresh(
  refresh: (signal: AbortSignal) => Promise<boolean>,
  { everyMs, logger }: Readonly<{ everyMs: number; logger: Logger }>,
): () => Promise<void> {
  const ending = new AbortController();
  const { signal } = ending;
  async function loop(): Promise<void> {
    for (;;) {
      await delay(everyMs * (0.5 + Math.random()), undefined, { signal, ref: false });
      try {
        if (await refresh(signal)) logger.info({}, "copied a newer snapshot to this disk");
      } catch (error) {
        if (!signal.aborted) logger.warn({ err: error }, "cannot copy a newer snapshot; trying again later");
      }
    }
  }
  const looping = loop().catch(() => {});
  return async () => {
    ending.abort();
    await looping;
  };
}
