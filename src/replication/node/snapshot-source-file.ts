/**
 * Snapshot source: the snapshots from which a node starts, or restarts when the log no longer reaches back to its
 * position.
 *
 * - It keeps copies of the newest snapshots on its own disk, so that a restart does not fetch them again.
 * - It verifies data from the disk like data from a broker. It reports an invalid snapshot and uses the next older one.
 * - A file beside them holds the newest final denials that this node knows. They are in force with any snapshot.
 */

import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  decode,
  encode,
  noPosition,
  type Projection,
  parsePosition,
  type Stream,
  type WrappedKey,
} from "../../events/index.ts";
import { LogUnavailableError } from "../log/log.ts";
import type { Logger } from "../runtime/logger.ts";
import type { ChunkRef } from "../snapshot/builder.ts";
import { loadSnapshot } from "../snapshot/load-snapshot.ts";
import { hashOfChunk, openManifest, type SignedManifest, SnapshotRefusedError } from "../snapshot/manifest.ts";
import {
  type CheckedChunk,
  checkChunk,
  SnapshotCorruptError,
  type SnapshotFolder,
  SnapshotNotSavedError,
} from "../snapshot/snapshot-folder.ts";
import { allKeys, fetchSnapshot, packedFrom, type SnapshotSupply } from "../snapshot/snapshot-supply.ts";
import type { EnvelopeOpener } from "../wire/broker-opener.ts";
import { BrokerUnavailableError } from "../wire/broker-unavailable-error.ts";
import type { DenialsOnDisk } from "./denials/persisted-denials.ts";
import { type DenialsFile, formatDenials, parseDenials } from "./denials/persisted-form.ts";
import type { LoadedSnapshot } from "./messages.ts";
import type { DenialsToPersist, SnapshotSource } from "./snapshot-source.ts";

type Keep = (chunk: CheckedChunk) => Promise<void>;

export type NodeSnapshots = SnapshotSource &
  Readonly<{
    /** Checks for a newer snapshot and keeps a copy. @returns whether there was one */
    refresh(signal?: AbortSignal): Promise<boolean>;
  }>;

/** The number of snapshots kept on a node: the newest, and the one before in case the newest is bad. */
const keptOnANode = 2;
/** The number of chunks being written to the disk at once. */
const writingMax = 4;
const keysAgainMs = 1_000;
const writePauseMs = 50;
const nothingKept: DenialsOnDisk = { retained: [], denials: [] };

export function createNodeSnapshots(
  options: Readonly<{
    supply: SnapshotSupply;
    open: EnvelopeOpener;
    logger: Logger;
    /** Null: no copy is kept, and every start fetches; also null if a broker in this process keeps its own. */
    folder: SnapshotFolder | null;
    /**
     * The file of the final denials, so that a restart does not depend on the log for them; null: none.
     */
    deniedFile: string | null;
  }>,
): NodeSnapshots {
  const { supply, logger } = options;
  const { folder, deniedFile } = options;
  let writing: Promise<void> | null = null;
  let written: Readonly<{ retained: ReadonlySet<Stream>; tightened: number }> | null = null;
  let wanted: DenialsToPersist | null = null;

  /** Waits until a broker has the keys of all people: without a person's key the node cannot decide about them. */
  async function keysOfAll(signal: AbortSignal | undefined): Promise<WrappedKey[]> {
    for (let attempts = 0; ; attempts++) {
      try {
        return await allKeys(supply, signal);
      } catch (error) {
        if (!(error instanceof BrokerUnavailableError || error instanceof LogUnavailableError)) throw error;
        signal?.throwIfAborted();
        if (Number.isInteger(Math.log2(attempts + 1)))
          logger.warn({ err: error }, "no broker returned the keys of a snapshot; trying again");
        await delay(keysAgainMs, undefined, { ref: false, ...(signal === undefined ? {} : { signal }) });
      }
    }
  }

  function whole({ manifest }: SignedManifest, projection: Projection, keys: readonly WrappedKey[]): LoadedSnapshot {
    return { projection, link: manifest.link, epochs: manifest.epochs, keys, retained: [] };
  }

  /**
   * Reads a valid chunk from this disk, else from a broker. It keeps a fetched chunk, so that an interrupted fetch can
   * continue later.
   */
  async function chunkOf(ref: ChunkRef, { signal, keep }: Readonly<{ signal: AbortSignal; keep: Keep }>) {
    signal.throwIfAborted();
    if (folder !== null && (await folder.hasChunk(ref.hash))) {
      try {
        return await folder.chunk(ref);
      } catch (error) {
        if (!(error instanceof SnapshotCorruptError)) throw error;
        logger.error({ err: error }, "a snapshot chunk on this disk is damaged; fetching it again");
      }
    }
    const chunk = await checkChunk(ref, await packedFrom(supply, ref));
    await keep(chunk);
    return chunk.bytes;
  }

  /** Reports a failed write and continues: the node serves without a copy on disk. */
  async function kept(put: () => Promise<void> | undefined): Promise<void> {
    try {
      await put();
    } catch (error) {
      if (!(error instanceof SnapshotNotSavedError)) throw error;
      logger.error({ err: error }, "could not save the snapshot to disk; the next start has to fetch it again");
    }
  }

  /** Null: the snapshot is unusable and has been reported. */
  async function fromDisk(signed: SignedManifest, from: SnapshotFolder): Promise<Projection | null> {
    try {
      return await loadSnapshot(signed.manifest, (ref) => from.chunk(ref));
    } catch (error) {
      logger.error(
        { err: error, position: signed.manifest.link.position },
        "a snapshot on this disk is unusable; ignoring it",
      );
      return null;
    }
  }

  /**
   * Fetches without waiting for the disk, unless too many chunks are in memory for writing.
   */
  async function fetchInto(signed: SignedManifest, signal: AbortSignal, into: SnapshotFolder) {
    const writing = new Set<Promise<void>>();
    const keep = async (chunk: CheckedChunk): Promise<void> => {
      while (writing.size >= writingMax) await Promise.race(writing);
      const write = kept(() => into.putChecked(chunk)).finally(() => writing.delete(write));
      write.catch(() => {}); // awaited at the end
      writing.add(write);
    };
    try {
      return await loadSnapshot(signed.manifest, (ref) => chunkOf(ref, { signal, keep }));
    } finally {
      await Promise.all(writing);
    }
  }

  return {
    async local(signal) {
      if (folder === null) return null;
      await folder.tidy();
      const { snapshots, bad } = await folder.list();
      for (const each of bad) logger.error(each, "snapshot failed verification; ignoring it");
      if (snapshots.length === 0) return null;
      const over = new AbortController();
      // Requested in parallel with the snapshot: both are slow.
      const keys = keysOfAll(AbortSignal.any([over.signal, ...(signal === undefined ? [] : [signal])]));
      keys.catch(() => {}); // awaited later
      try {
        for (const signed of snapshots) {
          const projection = await fromDisk(signed, folder);
          if (projection !== null) return whole(signed, projection, await keys);
        }
        return null;
      } finally {
        over.abort();
      }
    },

    async load({ first, signal }) {
      const behind = first === null ? noPosition : parsePosition(Math.max(0, first - 2));
      const envelope = await supply.manifest(behind);
      if (envelope === null) {
        if (first === null) return null;
        throw new SnapshotRefusedError(`no broker has one that reaches ${first}, where the log begins`);
      }
      const signed = openManifest(envelope, options.open);
      const { position } = signed.manifest.link;
      if (first !== null && position < first - 1)
        throw new SnapshotRefusedError(`it ends at ${position}, and the log begins at ${first}`);
      const keys = allKeys(supply, signal);
      keys.catch(() => {}); // awaited later
      const fetching = async (into: SnapshotFolder) => {
        const projection = await fetchInto(signed, signal, into);
        await kept(async () => {
          for (const ref of signed.manifest.chunks) if (!(await into.hasChunk(ref.hash))) return;
          await into.putManifest(signed);
          await into.keep((await into.list()).snapshots.slice(0, keptOnANode));
        });
        return projection;
      };
      const keep = async () => {};
      try {
        const projection = await (folder === null
          ? loadSnapshot(signed.manifest, (ref) => chunkOf(ref, { signal, keep }))
          : folder.alone(() => fetching(folder)));
        return whole(signed, projection, await keys);
      } finally {
        await Promise.allSettled([keys]); // no request outlives this call
      }
    },

    async refresh(signal) {
      if (folder === null) return false;
      return folder.alone(async () => {
        const [newest] = (await folder.list()).snapshots;
        const newerThan = newest?.manifest.link.position ?? noPosition;
        const into = { folder, newerThan, ...(signal === undefined ? {} : { signal }) };
        if ((await fetchSnapshot(supply, into)) === null) return false;
        await folder.keep((await folder.list()).snapshots.slice(0, keptOnANode));
        return true;
      });
    },

    async persistedDenials() {
      return deniedFile === null ? nothingKept : readKept(deniedFile, logger);
    },

    persistDenials(denials) {
      if (deniedFile === null) return;
      const { retained, tightened } = denials;
      const asWritten = written !== null && written.tightened === tightened && sameStreams(retained, written.retained);
      if (asWritten || (written === null && tightened === 0 && retained.size === 0)) return;
      written = { retained: new Set(retained), tightened };
      wanted = denials;
      writing ??= writeWanted(deniedFile);
    },

    async denialsPersisted() {
      await writing;
    },
  };

  /** Writes only the newest denials, with a pause between writes: many revocations at once cause one write. */
  async function writeWanted(path: string): Promise<void> {
    for (let next = wanted; next !== null; next = wanted) {
      wanted = null;
      try {
        await writeKept(path, encode(formatDenials({ retained: [...next.retained].sort(), denials: next.newest() })));
      } catch (error) {
        written = null; // written again with the next change
        logger.error({ err: error }, "could not save this node's denials to disk; will retry with the next change");
      }
      await delay(writePauseMs);
    }
    writing = null;
  }
}

function sameStreams(a: ReadonlySet<Stream>, b: ReadonlySet<Stream>): boolean {
  return a.size === b.size && [...a].every((one) => b.has(one));
}

async function writeKept(path: string, body: Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeFile(`${path}.part`, encode([hashOfChunk(body), body]), { mode: 0o600, flush: true });
  await rename(`${path}.part`, path);
}

/**
 * Without the file, the node misses only denials that the log has lost and that no node has handed back. So a damaged
 * file is reported and does not stop the node.
 */
async function readKept(path: string, logger: Logger): Promise<DenialsOnDisk> {
  try {
    const [hash, body] = decode(await readFile(path)) as [string, Uint8Array];
    if (hashOfChunk(body) !== hash) throw new Error("its hash does not match its bytes");
    const kept = decode(body) as DenialsFile | Stream[];
    return Array.isArray(kept) ? { retained: kept, denials: [] } : parseDenials(kept); // an older build
  } catch (error) {
    const missing = error instanceof Error && "code" in error && error.code === "ENOENT";
    if (!missing)
      logger.error(
        { err: error, path },
        "could not read the denials saved on this disk; continuing without them. If the log was restored or failed over while this node was down, repeat the revocations made since",
      );
    return nothingKept;
  }
}
