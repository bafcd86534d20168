/**
 * Snapshot supply: where snapshots and the keys beside them come from: a broker in this process, or one over the
 * network.
 *
 * What it gives is not believed for coming from there: manifests are signed, chunks are what their hash says. Keys are
 * wrapped under the cluster's secret; they are never part of a snapshot, so that an erased person's is nowhere but in
 * the key table.
 */
import type { Hash, Position, UserId, WrappedKey } from "../../events/index.ts";
import { BrokerUnavailableError } from "../databroker.ts";
import { type ChunkRef, openManifest, type SignedManifest } from "./manifest.ts";
import type { SnapshotFolder } from "./snapshot-folder.ts";

export type SnapshotSupply = Readonly<{
  /**
   * The newest signed manifest of a snapshot beyond a position; null when there is none.
   * @throws BrokerUnavailableError
   */
  manifest(newerThan: Position): Promise<Uint8Array | null>;
  /** As it is packed; undefined when it is not there (any more). @throws BrokerUnavailableError */
  chunk(hash: Hash): Promise<Uint8Array | undefined>;
  /** In the order of their user ids. Fewer than `limit`: the last. @throws BrokerUnavailableError */
  keysAfter(user: UserId | null, limit: number): Promise<readonly WrappedKey[]>;
}>;

export const keysPage = 5_000;
/** Chunks that are fetched at once. */
const fetchedAtOnce = 4;

/** Of a broker's own process. @param keysAfter of its log */
export function supplyFrom(folder: SnapshotFolder, keysAfter: SnapshotSupply["keysAfter"]): SnapshotSupply {
  return {
    async manifest(newerThan) {
      const [newest] = (await folder.list()).snapshots;
      return newest !== undefined && newest.manifest.link.position > newerThan ? newest.envelope : null;
    },
    chunk: (hash) => folder.intactChunk(hash),
    keysAfter,
  };
}

/** @throws BrokerUnavailableError */
export async function allKeys(supply: SnapshotSupply, signal?: AbortSignal): Promise<WrappedKey[]> {
  const keys: WrappedKey[] = [];
  for (let after: UserId | null = null; ; ) {
    signal?.throwIfAborted();
    const page: readonly WrappedKey[] = await supply.keysAfter(after, keysPage);
    keys.push(...page);
    const last = page.at(-1);
    if (last === undefined || page.length < keysPage) return keys;
    after = last.userId;
  }
}

/**
 * Brings a snapshot to this disk, unless it is there: first every chunk, each checked, then the manifest.
 * @returns what is now here; null: there is none beyond the position
 * @throws SnapshotRefusedError, SnapshotCorruptError, BrokerUnavailableError; nothing half fetched counts
 */
export async function fetchSnapshot(
  supply: SnapshotSupply,
  into: Readonly<{ folder: SnapshotFolder; newerThan: Position; signal?: AbortSignal }>,
): Promise<SignedManifest | null> {
  const envelope = await supply.manifest(into.newerThan);
  if (envelope === null) return null;
  const signed = openManifest(envelope, into.folder.open);
  const missing = [...signed.manifest.chunks];
  const fetchOne = async (ref: ChunkRef): Promise<void> => {
    if (await into.folder.hasChunk(ref.hash)) return;
    await into.folder.putPacked(ref, await packedFrom(supply, ref));
  };
  const worker = async (): Promise<void> => {
    for (let ref = missing.shift(); ref !== undefined; ref = missing.shift()) {
      into.signal?.throwIfAborted();
      await fetchOne(ref);
    }
  };
  await Promise.all(Array.from({ length: fetchedAtOnce }, worker));
  await into.folder.putManifest(signed);
  return signed;
}

/** @throws BrokerUnavailableError */
export async function packedFrom(supply: SnapshotSupply, { hash }: ChunkRef): Promise<Uint8Array> {
  const packed = await supply.chunk(hash);
  if (packed === undefined) throw new BrokerUnavailableError(`no broker has chunk ${hash} of the snapshot any more`);
  return packed;
}
