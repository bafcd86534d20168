/**
 * Kept past: what one broker keeps of the log after retention: archived events, and older snapshots of this log. Pure;
 * disk, log, time and turns are arguments.
 */
import { noPosition, type Position, type UnixMs } from "../../events/index.ts";
import {
  type EventArchiveFolder,
  isUpTo,
  type SignedManifest,
  type SnapshotFolder,
  type SnapshotSupply,
} from "../../replication/snapshot/index.ts";
import { type ArchivePlan, type ArchiveRules, planArchive } from "./archive-plan.ts";
import { type ArchiveDisk, type ArchivedLog, archiveEvents, isArchived } from "./event-archiver.ts";
import { snapshotsKept } from "./snapshot-run.ts";

/** Null: the broker keeps nothing of what retention drops. */
export type StoreArchive = Readonly<{
  disk: ArchiveDisk & Pick<EventArchiveFolder, "packedAt">;
  rules: ArchiveRules;
  turn: () => Promise<void>;
  now: () => UnixMs;
}>;

export type KeptPast = Readonly<{
  supply: Required<Pick<SnapshotSupply, "manifestUpTo" | "eventsAt">>;
  store: Readonly<{
    /**
     * Archives the events that are in the newest snapshot but one.
     * @returns how far; null: nothing is archived @throws LogUnavailableError; the error of the disk
     */
    archive(): Promise<Position | null>;
    /** Deletes the snapshots and archived events that the broker need not keep. */
    tidy(): Promise<void>;
    /** What is archived, as last tidied; null: nothing is archived. */
    archived(): Readonly<{ from: Position; upTo: Position; bytes: number }> | null;
  }>;
}>;

/** The most snapshots that are remembered as of this log. */
const rememberedMax = 1_000;

export function createKeptPast(
  of: Readonly<{
    archive: StoreArchive | null;
    folder: Pick<SnapshotFolder, "keep">;
    log: ArchivedLog;
    /** The snapshots on the disk, newest first. */
    onDisk: () => Promise<readonly SignedManifest[]>;
    /** The newest of this log. */
    inLog: () => Promise<readonly SignedManifest[]>;
    /** Whether a snapshot, not older than the log, is of this log. */
    isInLog: (signed: SignedManifest) => Promise<boolean>;
  }>,
): KeptPast {
  const { archive, folder, log, onDisk, inLog } = of;
  let upTo: Position = noPosition;
  /** The snapshot up to which the events are archived. */
  let archivedFor: string | null = null;
  let isTidied = false;
  let planned: Pick<ArchivePlan, "from" | "bytes"> = { from: noPosition, bytes: 0 };
  /** Snapshots that are older than the log, and known to be of it. */
  const older = new Set<string>();

  /** Also those that are older than the log, and that its archive contains. */
  async function inPast({ disk }: StoreArchive): Promise<readonly SignedManifest[]> {
    const blocks = await disk.list();
    const { position: base } = await log.base();
    const found: SignedManifest[] = [];
    for (const signed of await onDisk()) {
      const { link } = signed.manifest;
      if (link.position >= base) {
        if (await of.isInLog(signed)) found.push(signed);
      } else if (older.has(signed.id) || (await isArchived(link, blocks, disk))) {
        if (older.size >= rememberedMax) older.clear();
        older.add(signed.id);
        found.push(signed);
      }
    }
    return found;
  }

  const store: KeptPast["store"] = {
    async archive() {
      if (archive === null || archive.rules.archiveMs === 0) return null;
      const [, second] = await inLog();
      if (second === undefined || second.id === archivedFor) return upTo;
      if (!isTidied) await archive.disk.tidy();
      isTidied = true;
      const { position } = second.manifest.link;
      upTo = (await archiveEvents(position, { ...archive, log })).position;
      if (upTo >= position) archivedFor = second.id;
      return upTo;
    },
    async tidy() {
      if (archive === null) {
        await folder.keep(await inLog());
        return;
      }
      const { rules, disk } = archive;
      const [snapshots, blocks] = [await inPast(archive), await disk.list()];
      const plan = planArchive({ snapshots, blocks, newestKept: snapshotsKept, rules, now: archive.now() });
      planned = { from: plan.from, bytes: plan.bytes };
      await folder.keep(plan.keep);
      await disk.remove(plan.drop);
    },
    archived: () => (archive === null ? null : { ...planned, upTo }),
  };
  const supply: KeptPast["supply"] = {
    async manifestUpTo(target) {
      const known = archive === null ? await inLog() : await inPast(archive);
      return known.find(({ manifest }) => isUpTo(manifest, target))?.envelope ?? null;
    },
    eventsAt: async (position) => (await archive?.disk.packedAt(position)) ?? null,
  };
  return { supply, store };
}
