/**
 * Log archive: what the brokers keep of the log after retention has dropped events: snapshots, and the events between
 * them. Pure; the source is an argument, and is not trusted.
 *
 * - A snapshot counts for its signature. The events prove themselves: they must follow the link that the reader has
 *   reached.
 * - A broker without the snapshot or the events passes the question to the next.
 */
import { promisify } from "node:util";
import zlib from "node:zlib";
import {
  type Link,
  nextPosition,
  type Position,
  type Projection,
  type Recorded,
  sameLink,
} from "../../events/index.ts";
import type { EnvelopeOpener } from "../wire/broker-opener.ts";
import { blockBytesMax, type EventBlock, EventBlockError, linkInBlock, parseBlock } from "./event-block.ts";
import { loadSnapshot } from "./load-snapshot.ts";
import { openManifest } from "./manifest.ts";
import { checkChunk } from "./snapshot-folder.ts";
import { type ArchiveTarget, isUpTo, packedFrom, type SnapshotSupply } from "./snapshot-supply.ts";

export type LogArchive = Readonly<{
  /** The newest snapshot that is not later than the target; null: no broker has one. */
  snapshotUpTo(
    target: ArchiveTarget,
    signal: AbortSignal,
  ): Promise<Readonly<{ projection: Projection; link: Link }> | null>;
  /** Dropped events from directly after a link, oldest first; null: no broker has them. */
  eventsAfter(after: Link): Promise<readonly Uint8Array[] | null>;
  /** The archived block that holds a position, as a broker has it: its place in the log is not proved. */
  blockAt(position: Position): Promise<EventBlock | null>;
  /** The events of one block that ends at a link or contains it, up to that link; null: no broker has them. */
  eventsUpTo(link: Link): Promise<Readonly<{ events: readonly Recorded[]; after: Link }> | null>;
}>;

const unpack = promisify(zlib.zstdDecompress);

export function createLogArchive({
  supply,
  open,
}: Readonly<{ supply: SnapshotSupply; open: EnvelopeOpener }>): LogArchive {
  async function blockAt(position: Position): Promise<EventBlock | null> {
    const packed = (await supply.eventsAt?.(position)) ?? null;
    if (packed === null) return null;
    try {
      return parseBlock(await unpack(packed, { maxOutputLength: blockBytesMax }));
    } catch (cause) {
      throw cause instanceof EventBlockError ? cause : new EventBlockError("it cannot be unpacked", { cause });
    }
  }

  return {
    blockAt,
    async snapshotUpTo(target, signal) {
      const envelope = (await supply.manifestUpTo?.(target)) ?? null;
      if (envelope === null) return null;
      const { manifest } = openManifest(envelope, open);
      if (!isUpTo(manifest, target)) return null; // an older broker sends its newest
      const projection = await loadSnapshot(manifest, async (ref) => {
        signal.throwIfAborted();
        return (await checkChunk(ref, await packedFrom(supply, ref))).bytes;
      });
      return { projection, link: manifest.link };
    },
    async eventsAfter(after) {
      const block = await blockAt(nextPosition(after.position));
      if (block === null) return null;
      const known = linkInBlock(block, after.position);
      if (known === undefined || !sameLink(known, after)) return null;
      return block.entries.slice(after.position - block.after.position);
    },
    async eventsUpTo(link) {
      const block = await blockAt(link.position);
      if (block === null) return null;
      const known = linkInBlock(block, link.position);
      if (known === undefined || !sameLink(known, link)) return null;
      return { events: block.events.slice(0, link.position - block.after.position), after: block.after };
    },
  };
}
