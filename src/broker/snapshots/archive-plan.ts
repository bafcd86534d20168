/**
 * Archive plan: which snapshots and archived events a broker keeps, so that it can answer for any time within
 * `archiveMs` (docs/adr/0060). Pure.
 *
 * - The newest snapshots are always kept, for nodes and for retention.
 * - Besides, the first snapshot of each day, as a place to begin reading. All that is older than the newest snapshot
 *   from before the archived time goes.
 * - Above the bound in bytes the oldest goes first, a snapshot with the events up to the next one. What is left has no
 *   hole.
 */
import { noPosition, type Position, type UnixMs } from "../../events/index.ts";
import type { SignedManifest, StoredBlock } from "../../replication/snapshot/index.ts";

export type ArchiveRules = Readonly<{
  /** 0: nothing is archived. */
  archiveMs: number;
  /** Of the events as packed, and of the chunks of older snapshots as not packed. */
  bytesMax: number;
}>;

export type ArchivePlan = Readonly<{
  keep: readonly SignedManifest[];
  drop: readonly StoredBlock[];
  /** The oldest position from which the events can be read; 0: from the first. */
  from: Position;
  bytes: number;
}>;

const dayMs = 86_400_000;

/** @param of.snapshots newest first, of this log; `newestKept`: how many stay in any case */
export function planArchive(
  of: Readonly<{
    snapshots: readonly SignedManifest[];
    blocks: readonly StoredBlock[];
    newestKept: number;
    rules: ArchiveRules;
    now: UnixMs;
  }>,
): ArchivePlan {
  const { snapshots, blocks, rules, now } = of;
  const newest = snapshots.slice(0, of.newestKept);
  if (rules.archiveMs === 0) return { keep: newest, drop: blocks, from: noPosition, bytes: 0 };
  const older = firstOfEachDay(snapshots.slice(of.newestKept));
  const starts = [...older, ...newest.toReversed()];
  const since = now - rules.archiveMs;
  const begins = starts.findLastIndex(({ manifest }) => manifest.takenAt <= since);
  for (let first = begins; ; first++) {
    const from = starts[first]?.manifest.link.position ?? noPosition;
    const keptOlder = older.filter(({ manifest }) => manifest.link.position >= from);
    const kept = blocks.filter(({ last }) => last.position > from);
    const bytes = bytesOf(keptOlder, newest) + kept.reduce((sum, block) => sum + block.bytes, 0);
    if (bytes <= rules.bytesMax || first + 1 >= starts.length)
      return {
        keep: [...newest, ...keptOlder.toReversed()],
        drop: blocks.filter((block) => !kept.includes(block)),
        from,
        bytes,
      };
  }
}

/** Oldest first. */
function firstOfEachDay(newestFirst: readonly SignedManifest[]): readonly SignedManifest[] {
  const days = new Map<number, SignedManifest>();
  for (const signed of newestFirst) days.set(Math.floor(signed.manifest.takenAt / dayMs), signed);
  return [...days.values()].sort((a, b) => a.manifest.link.position - b.manifest.link.position);
}

/** Chunks that the newest snapshots need anyway do not count. */
function bytesOf(older: readonly SignedManifest[], newest: readonly SignedManifest[]): number {
  const counted = new Set<string>(newest.flatMap(({ manifest }) => manifest.chunks.map(({ hash }) => hash)));
  let bytes = 0;
  for (const { manifest } of older)
    for (const chunk of manifest.chunks) {
      if (counted.has(chunk.hash)) continue;
      counted.add(chunk.hash);
      bytes += chunk.bytes;
    }
  return bytes;
}
