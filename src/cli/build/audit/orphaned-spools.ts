/**
 * Orphaned spools: reports the spools of other nodes that no process uses and that hold records which no sink got,
 * because a node was renamed, removed, has fewer workers, or runs other services.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Gauge, type Registry } from "prom-client";
import { listSpoolFolders, type SpoolFolder, spoolFolderOf } from "../../../audit/index.ts";
import type { Config } from "../../../config/index.ts";
import type { NodeId } from "../../../events/index.ts";
import type { Logger } from "../../../replication/index.ts";

/** Nodes that start at the same time are not mistaken for orphans. */
const firstMs = 30_000;
const everyMs = 300_000;

type Watched = Readonly<{
  /** The node whose spool this process uses; null: it uses none. */
  node: NodeId | null;
  registry: Registry;
  logger: Logger;
  firstMs?: number;
  everyMs?: number;
}>;

/** @returns stops it */
export function watchOrphanedSpools({ audit }: Pick<Config, "audit">, options: Watched): () => Promise<void> {
  const { node, registry, logger } = options;
  const own = new Set(node === null ? [] : [spoolFolderOf(audit.spoolDir, node)]);
  let orphans: readonly SpoolFolder[] = [];
  const reported = new Set<string>();
  const gauge = (name: string, help: string, measured: () => number): void => {
    const made: Gauge = new Gauge({ name, help, registers: [registry], collect: () => made.set(measured()) });
  };
  gauge(
    "cardea_audit_orphaned_spools",
    "Spools of other nodes that no process uses and that hold records which no sink got",
    () => orphans.length,
  );
  gauge("cardea_audit_orphaned_records", "Decision records in these spools", () =>
    orphans.reduce((sum, { records }) => sum + (records ?? 0), 0),
  );

  async function look(): Promise<void> {
    const found = await listSpoolFolders(audit.spoolDir, own);
    orphans = found.filter(({ state }) => state === "undelivered" || state === "unreadable");
    const waiting = new Set(found.flatMap(({ path, state }) => (state === "delivered" ? [] : [path])));
    for (const path of reported) if (!waiting.has(path)) reported.delete(path);
    for (const { node: of, path, records, bytes, why } of orphans) {
      if (reported.has(path)) continue;
      reported.add(path);
      logger.warn(
        { node: of, path, records, bytes, ...(why === null ? {} : { error: why }) },
        "no process uses this audit spool, and no sink got its records; deliver them with cardea audit spool --deliver, or start the node again",
      );
    }
  }

  const stopped = new AbortController();
  const running = (async () => {
    for (let waitMs = options.firstMs ?? firstMs; ; waitMs = options.everyMs ?? everyMs) {
      await sleep(waitMs, undefined, { signal: stopped.signal, ref: false }).catch(() => undefined);
      if (stopped.signal.aborted) return;
      await look().catch((error: unknown) => logger.warn({ error: String(error) }, "cannot look for orphaned spools"));
    }
  })();
  return () => {
    stopped.abort();
    return running;
  };
}
