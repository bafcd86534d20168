/**
 * Event archiver: copies events from the log to a broker's own disk before retention drops them. Pure; the disk, the
 * log and the turns are arguments.
 *
 * - Each broker archives by itself, whether it leads or not, so a change of the leader loses nothing.
 * - It copies only what a snapshot holds that is not the newest: such events are no longer lost in a failover, unless
 *   the store itself lost them. Blocks of a lost history are found by their last link, and removed.
 * - A hole, of a broker that was away for longer than events are kept, stays a hole: the reader says so.
 */
import { decodeEvents, type Link, type Position, previousPosition, sameLink, type UnixMs } from "../../events/index.ts";
import type { EventLog } from "../../replication/log/index.ts";
import type { EventArchiveFolder, StoredBlock } from "../../replication/snapshot/index.ts";

export type ArchivedLog = Pick<EventLog, "base" | "linkAt" | "read">;
export type ArchiveDisk = Pick<EventArchiveFolder, "list" | "put" | "read" | "remove" | "tidy">;

/** Of one call. The next continues, so that a large log does not keep snapshots waiting. */
const limitsOfCall = { blockEvents: 10_000, blocks: 50 };

/**
 * Archives the events up to a position, or as many as one call may.
 * @returns the last link that is archived @throws LogUnavailableError; the error of the disk
 */
export async function archiveEvents(
  upTo: Position,
  { log, disk, turn }: Readonly<{ log: ArchivedLog; disk: ArchiveDisk; turn: () => Promise<void> }>,
  { blockEvents, blocks } = limitsOfCall,
): Promise<Link> {
  const base = await log.base();
  let from = await endInLog(await disk.list(), { log, disk, base });
  for (let made = 0; made < blocks && from.position < upTo; made++) {
    const outcome = await log.read(from, Math.min(blockEvents, upTo - from.position));
    if (outcome.type !== "page" || outcome.page.entries.length === 0) break; // dropped, or lost, in the meantime
    const { entries, last } = outcome.page;
    const lastAt = await recordedAt(last, entries.at(-1), log);
    if (lastAt === undefined) break; // dropped in the meantime
    await disk.put({ after: from, entries, last, lastAt });
    from = last;
    await turn();
  }
  return from;
}

/** When the last event of a page was recorded. The log has verified the page, so the others need not be decoded. */
async function recordedAt(last: Link, bytes: Uint8Array | undefined, log: ArchivedLog): Promise<UnixMs | undefined> {
  const previous = await log.linkAt(previousPosition(last.position));
  if (previous === undefined || bytes === undefined) return undefined;
  return decodeEvents([bytes], previous)[0]?.recordedAt;
}

/** The end of the archive, without blocks of a history that the log does not have. */
async function endInLog(
  blocks: readonly StoredBlock[],
  { log, disk, base }: Readonly<{ log: ArchivedLog; disk: ArchiveDisk; base: Link }>,
): Promise<Link> {
  for (const block of blocks.toReversed()) {
    const { last } = block;
    if (last.position < base.position) return base; // a hole
    const known = last.position === base.position ? base : await log.linkAt(last.position);
    if (known !== undefined && sameLink(known, last)) return last;
    await disk.remove([block]);
  }
  return base;
}

/** Whether the archive holds this link. */
export async function isArchived(link: Link, blocks: readonly StoredBlock[], disk: ArchiveDisk): Promise<boolean> {
  const { position } = link;
  for (const name of blocks) {
    if (name.last.position === position) return sameLink(name.last, link);
    if (name.first > position || name.last.position < position) continue;
    const block = await disk.read(name);
    const recorded = block?.events[position - name.first];
    return recorded !== undefined && recorded.hash === link.hash && recorded.epoch === link.epoch;
  }
  return false;
}
