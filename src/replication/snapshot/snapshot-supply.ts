/**
 * Snapshot supply: the source of snapshots and of the wrapped keys beside them, either a broker in this process or one
 * over the network.
 *
 * - The source is not trusted: manifests are signed, and chunks must match their hash.
 * - Keys are wrapped under the secret of the cluster. They are never part of a snapshot, so that the key of an erased
 *   person exists nowhere outside the key table.
 */
import type { Hash, Link, Position, UnixMs, UserId, WrappedKey } from "../../events/index.ts";
import { BrokerUnavailableError } from "../wire/broker-unavailable-error.ts";
import type { ChunkRef } from "./builder.ts";
import { openManifest, type SignedManifest } from "./manifest.ts";
import type { SnapshotFolder } from "./snapshot-folder.ts";

/** A moment of the log: a position, or what was recorded by a time. */
export type ArchiveTarget = Readonly<{ position: Position } | { at: UnixMs }>;

export type SnapshotSupply = Readonly<{
  /**
   * The newest signed manifest of a snapshot after a position; null when there is none.
   * @throws BrokerUnavailableError
   */
  manifest(newerThan: Position): Promise<Uint8Array | null>;
  /** The packed bytes; undefined when the chunk is not there (any more). @throws BrokerUnavailableError */
  chunk(hash: Hash): Promise<Uint8Array | undefined>;
  /** Wrapped keys ordered by user id. Fewer than `limit`: this page is the last. @throws BrokerUnavailableError */
  keysAfter(user: UserId | null, limit: number): Promise<readonly WrappedKey[]>;
  /**
   * The newest signed manifest that is not later than the target; null when there is none. Absent, like the next one:
   * the source keeps nothing of the past. @throws BrokerUnavailableError
   */
  manifestUpTo?(target: ArchiveTarget): Promise<Uint8Array | null>;
  /**
   * The packed block of archived events that holds a position; null when there is none.
   * @throws BrokerUnavailableError
   */
  eventsAt?(position: Position): Promise<Uint8Array | null>;
}>;

export function isUpTo({ link, takenAt }: Readonly<{ link: Link; takenAt: UnixMs }>, target: ArchiveTarget): boolean {
  return "at" in target ? takenAt <= target.at : link.position <= target.position;
}

export const keysPage = 5_000;
/** Number of chunks fetched at once. */
const fetchedAtOnce = 4;

/** The supply of a broker in its own process. @param keysAfter the method of its log */
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
 * Fetches a snapshot to this disk unless it is there: first every chunk, each verified, then the manifest.
 * @returns the snapshot that is now here; null: there is none after the position
 * @throws SnapshotRefusedError, SnapshotCorruptError, BrokerUnavailableError; a partial fetch does not count
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
