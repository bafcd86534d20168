/**
 * Snapshot check: builds a snapshot again from the log alone and compares the two, chunk by chunk. Pure.
 *
 * It starts from an older snapshot or from the beginning of the log, and folds the events up to the same position.
 * Nothing of the other broker's memory is in it: two that differ mean that one of them folded something else.
 */
import { decodeEvents, Projection } from "../../events/index.ts";
import type { EventLog } from "../../replication/log/index.ts";
import type { LoadedSnapshot } from "../../replication/node/index.ts";
import { hashOfChunk, projectorVersion, type SnapshotManifest, sameContent } from "../../replication/snapshot/index.ts";
import { buildSnapshot } from "./build-snapshot.ts";

export type SnapshotComparison = "same" | "different" | "not-in-the-log" | "log-begins-later";

const pageEvents = 2_000;

/**
 * @param deps.from an older snapshot from which the log can be read; null: the beginning of the log
 * @throws LogUnavailableError
 */
export async function compareWithLog(
  manifest: SnapshotManifest,
  deps: Readonly<{
    log: Pick<EventLog, "read">;
    from: Pick<LoadedSnapshot, "projection"> | null;
    turn: () => Promise<void>;
    signal: AbortSignal;
  }>,
): Promise<SnapshotComparison> {
  const projection = deps.from?.projection ?? new Projection();
  const target = manifest.link.position;
  while (projection.applied.position < target) {
    deps.signal.throwIfAborted();
    const outcome = await deps.log.read(projection.applied, Math.min(pageEvents, target - projection.applied.position));
    if (outcome.type === "truncated") return "log-begins-later";
    if (outcome.type === "forked" || outcome.page.entries.length === 0) return "not-in-the-log";
    for (const recorded of decodeEvents(outcome.page.entries, outcome.page.previous)) projection.apply(recorded);
    await deps.turn();
  }
  if (projection.applied.hash !== manifest.link.hash) return "not-in-the-log";
  const built = await buildSnapshot(
    { projection: projection, signal: deps.signal, epochs: () => [] },
    { folder: { putChunk: async (bytes) => ({ hash: hashOfChunk(bytes), bytes: bytes.length }) }, turn: deps.turn },
  );
  const own = { ...manifest, ...built, epochs: manifest.epochs, projectorVersion };
  return sameContent(own, manifest) ? "same" : "different";
}
