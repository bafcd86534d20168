/** The snapshots of a process: a broker's shelf or a node's own copy, in `snapshots` of the data folder, kept fresh. */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Config } from "../../config/index.ts";
import type { NodeId } from "../../events/index.ts";
import {
  createBrokerOpener,
  createNodeSnapshots,
  type Logger,
  type NodeSnapshots,
  type SignedManifest,
  SnapshotFolder,
  type SnapshotSupply,
} from "../../replication/index.ts";

/** @param secret of the cluster; the folder believes its brokers alone */
export function snapshotFolderOf(config: Pick<Config, "dataDir" | "sharedSecret" | "sharedSecretPrevious" | "broker">) {
  const previous = config.sharedSecretPrevious;
  const secrets = [config.sharedSecret, ...(previous === null ? [] : [previous])];
  const open = createBrokerOpener({ cluster: config.broker.clusterName, secrets });
  return new SnapshotFolder({ path: join(config.dataDir, "snapshots"), open });
}

/** Which snapshots nobody believes any more once `shared_secret_previous` has gone; null: there is none. */
export function invalidatedByRotation(
  config: Pick<Config, "sharedSecret" | "sharedSecretPrevious" | "broker">,
): ((snapshot: SignedManifest) => boolean) | null {
  if (config.sharedSecretPrevious === null) return null;
  const open = createBrokerOpener({ cluster: config.broker.clusterName, secrets: [config.sharedSecret] });
  return ({ envelope }) => "refused" in open(envelope);
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
