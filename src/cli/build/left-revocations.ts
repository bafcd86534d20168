/**
 * Left revocations: what a broker accepted while it served another region, and the log does not have yet. A broker of
 * the home region that finds such a file submits what is in it until each is recorded, and then removes the file.
 */
import { existsSync, rmSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { openRevocationsFile } from "../../broker/index.ts";
import type { NodeId } from "../../events/index.ts";
import type { Databroker, Logger } from "../../replication/index.ts";
import { mergeIdsOf, type SealedRevocation } from "../../replication/wire/index.ts";
import { revocationsPath } from "./region-revocations.ts";

const againMs = 5_000;

/** @returns stops it; what is not recorded stays in the file */
export function startLeftRevocations(
  databroker: Databroker,
  { dataDir, node, logger }: Readonly<{ dataDir: string; node: NodeId; logger: Logger }>,
): () => Promise<void> {
  const path = revocationsPath(dataDir, node);
  if (!existsSync(path)) return async () => {};
  const { stored } = openRevocationsFile({ path, initial: { store: "", windowMs: 0, drift: 0 } });
  const over = new AbortController();

  async function submitAll(): Promise<void> {
    let left = stored.entries.map(({ sealed }) => sealed);
    while (left.length > 0 && !over.signal.aborted) {
      const still: SealedRevocation[] = [];
      for (const sealed of left) if (!(await isRecorded(databroker, sealed, logger))) still.push(sealed);
      left = still;
      if (left.length > 0) await delay(againMs, undefined, { signal: over.signal, ref: false }).catch(() => {});
    }
    if (left.length === 0) rmSync(path, { force: true });
  }

  const done = submitAll().catch((error: unknown) => {
    logger.error({ err: error, path }, "could not record what this broker had revoked for another region; restart it");
  });
  return async () => {
    over.abort();
    await done;
  };
}

async function isRecorded(databroker: Databroker, sealed: SealedRevocation, logger: Logger): Promise<boolean> {
  const { envelope, revocation } = sealed;
  const { actor } = revocation;
  const command = { type: "mergeRevocation", envelope } as const;
  for (const commandId of mergeIdsOf(sealed)) {
    const result = await databroker.submit({ commandId, actor, command });
    if (result.type === "done") return true;
    if (result.type === "unavailable") return false;
    if (result.code === "conflict") continue; // its command id means another change
    const fields = { commandId, reason: result.message };
    logger.error(fields, "the leader does not record a revocation of a cut-off region; an operator must decide");
    return false;
  }
  return false;
}
