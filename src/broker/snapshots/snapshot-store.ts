/**
 * Snapshot store: the snapshots on one broker's disk: those it took as the leader, and copies of others.
 *
 * A snapshot on the disk is signed, but may be of a history that was lost in a failover or undone by a restore. Only a
 * snapshot of this log counts: only such a one is served, loaded, or lets events be dropped. Pure; disk, log and other
 * brokers are arguments.
 */
import { noPosition, type Position, parsePosition, sameLink } from "../../events/index.ts";
import type { Logger, SnapshotPlace } from "../../replication/index.ts";
import { type EventLog, LogUnavailableError } from "../../replication/log/index.ts";
import type { LoadedSnapshot } from "../../replication/node/index.ts";
import {
  fetchSnapshot,
  loadSnapshot,
  type SignedManifest,
  type SnapshotFolder,
  type SnapshotManifest,
  type SnapshotSupply,
  supplyFrom,
} from "../../replication/snapshot/index.ts";
import { createKeptPast, type KeptPast, type StoreArchive } from "./kept-past.ts";
import { snapshotsKept } from "./snapshot-run.ts";

export type SnapshotStore = Readonly<{
  /** The snapshots of the log as it is now, newest first. @throws LogUnavailableError */
  inLog(): Promise<readonly SignedManifest[]>;
  /** The snapshots as last listed, newest first. */
  places(): readonly SnapshotPlace[];
  /** For nodes and other brokers. */
  supply: SnapshotSupply;
  /**
   * The snapshot from which to read a log that begins at `first`: from this disk, else from another broker.
   * @returns null: there is none @throws LogUnavailableError, SnapshotRefusedError, SnapshotCorruptError
   */
  load(first: Position): Promise<LoadedSnapshot | null>;
  /** Copies the newest snapshot of another broker, unless it is here. @returns whether there was a newer one */
  refresh(signal: AbortSignal): Promise<boolean>;
}> &
  KeptPast["store"];

/** The most damaged snapshots that are remembered as logged. */
const reportedMax = 1_000;

export function createSnapshotStore(
  of: Readonly<{
    folder: SnapshotFolder;
    log: Pick<EventLog, "base" | "linkAt" | "read" | "keysAfter">;
    /** Whether the snapshot's position is on the chain of the broker's own state. */
    isKnown: (manifest: SnapshotManifest) => boolean;
    /** Null: there are no other brokers. */
    others: SnapshotSupply | null;
    archive: StoreArchive | null;
    logger: Logger;
  }>,
): SnapshotStore {
  const { folder, log, others, logger } = of;
  let places: readonly SnapshotPlace[] = [];
  const reported = new Set<string>();

  async function onDisk(): Promise<readonly SignedManifest[]> {
    const { snapshots, bad } = await folder.list();
    for (const each of bad) logOnce(each.file, each, "snapshot failed verification; ignoring it");
    places = snapshots.slice(0, snapshotsKept).map(snapshotPlaceOf);
    return snapshots;
  }

  function logOnce(about: string, fields: object, message: string): void {
    if (reported.has(about)) return;
    if (reported.size >= reportedMax) reported.clear();
    reported.add(about);
    logger.error(fields, message);
  }

  async function isInLog({ manifest }: SignedManifest): Promise<boolean> {
    const at = await log.linkAt(manifest.link.position);
    return at !== undefined && sameLink(at, manifest.link);
  }

  /** Those that are needed, newest first: the older ones serve the past alone. */
  async function inLog(): Promise<readonly SignedManifest[]> {
    const found: SignedManifest[] = [];
    for (const signed of await onDisk()) {
      if (found.length === snapshotsKept) break;
      if (await isInLog(signed)) found.push(signed);
      else await reportLost(signed);
    }
    return found;
  }

  async function reportLost({ id, manifest }: SignedManifest): Promise<void> {
    const { position } = manifest.link;
    if (position > (await log.base()).position)
      logOnce(id, { position }, "a snapshot on this disk belongs to another history of the log; ignoring it");
  }

  const past = createKeptPast({
    ...of,
    onDisk,
    inLog,
    async isInLog(signed) {
      const isOfThis = await isInLog(signed);
      if (!isOfThis) await reportLost(signed);
      return isOfThis;
    },
  });

  /** A broker without its store continues to serve snapshots that it knows to be true. */
  async function toServe(): Promise<readonly SignedManifest[]> {
    try {
      return await inLog();
    } catch (error) {
      if (!(error instanceof LogUnavailableError)) throw error;
      return (await onDisk()).filter(({ manifest }) => of.isKnown(manifest));
    }
  }

  async function loadWhole(signed: SignedManifest): Promise<LoadedSnapshot> {
    const { manifest } = signed;
    const projection = await loadSnapshot(manifest, (ref) => folder.chunk(ref));
    return { projection, link: manifest.link, epochs: manifest.epochs, keys: [], retained: [] };
  }

  async function loadFromDisk(first: Position): Promise<LoadedSnapshot | null> {
    for (const signed of await inLog()) {
      const { position } = signed.manifest.link;
      if (position < first - 1) return null;
      try {
        return await loadWhole(signed);
      } catch (error) {
        logOnce(`${signed.id} damaged`, { err: error, position }, "a snapshot on this disk is damaged; ignoring it");
      }
    }
    return null;
  }

  async function refresh(signal: AbortSignal): Promise<boolean> {
    const [newest] = await inLog();
    return fetchNewerThan(newest?.manifest.link.position ?? noPosition, { signal });
  }

  /** Fetches the chunks that are missing here; a damaged one was removed when it was read. */
  async function fetchNewerThan(newerThan: Position, how: Readonly<{ signal?: AbortSignal }> = {}): Promise<boolean> {
    if (others === null) return false;
    return folder.alone(async () => {
      const into = { folder, newerThan, ...how };
      if ((await fetchSnapshot(others, into)) === null) return false;
      await past.store.tidy();
      return true;
    });
  }

  const disk = supplyFrom(folder, (user, limit) => log.keysAfter(user, limit));
  return {
    inLog,
    places: () => places,
    supply: {
      ...disk,
      async manifest(newerThan) {
        const [newest] = await toServe();
        return newest !== undefined && newest.manifest.link.position > newerThan ? newest.envelope : null;
      },
      ...past.supply,
    },
    async load(first) {
      const own = await loadFromDisk(first);
      if (own !== null) return own;
      // The snapshot that another broker has may be the very one that is damaged here.
      const leadsThere = parsePosition(Math.max(0, first - 2));
      return (await fetchNewerThan(leadsThere)) ? loadFromDisk(first) : null;
    },
    refresh,
    ...past.store,
  };
}

/** A snapshot as the status shows it. */
export function snapshotPlaceOf({ id, manifest, signer }: SignedManifest): SnapshotPlace {
  const { link, takenAt, counts, chunks } = manifest;
  return {
    id,
    position: link.position,
    takenAt,
    by: signer.brokerId,
    sessions: counts.sessions,
    chunks: chunks.length,
  };
}
