/**
 * Log history: the events of some streams, read backwards from a position. Serves explanations that people request.
 *
 * There is no index over streams, because every append would have to write it. Each request scans a bounded range
 * instead. The scanned events must chain; an event that does not chain ends the scan and is reported by position.
 */

import * as z from "zod";
import { decodeEvents, type Link, linkOf, nextPosition, type Position, type Stream } from "../../events/index.ts";
import { type EventLog, LogDamagedError } from "./log.ts";

export type HistoryRequest = Readonly<{
  streams: readonly Stream[];
  upTo: Position;
  /** How many positions to scan, including `upTo`; at most `historyDepthMax`. */
  depth: number;
}>;
export type HistoryPage = Readonly<{
  /** The link at `upTo`. Null: above the durable horizon, or dropped by retention. */
  at: Link | null;
  /** Oldest first, each with the link of the event before it. */
  found: readonly Readonly<{ previous: Link; bytes: Uint8Array }>[];
  /** Everything above this position was scanned; to continue, request with it as `upTo`. Not below `base`. */
  searchedTo: Position;
  /** The log holds the events after this position. 0: the log is whole. */
  base: Position;
  /** The first position at which the log is damaged. Null: no damage in the scanned range. */
  damagedAt: Position | null;
}>;

export const historyDepthMax = 10_000;
export const historyStreamsMax = 100;
const streamTextMax = 300;

const historyRequestSchema = z.strictObject({
  streams: z.array(z.string().max(streamTextMax)).max(historyStreamsMax),
  upTo: z.int().min(0),
  depth: z.int().min(1).max(historyDepthMax),
});

/** @returns undefined when the value is not a valid request */
export function parseHistoryRequest(value: unknown): HistoryRequest | undefined {
  const { data } = historyRequestSchema.safeParse(value);
  return data === undefined ? undefined : { ...data, streams: data.streams as Stream[], upTo: data.upTo as Position };
}

/** Scanning these takes one to two milliseconds. */
const scannedAtOnce = 250;

/** @param turn lets other work run between two parts of the scan; absent: it goes through at once */
export async function readHistory(
  log: Pick<EventLog, "base" | "linkAt" | "read">,
  { streams, upTo, depth }: HistoryRequest,
  turn: () => Promise<void> = async () => {},
): Promise<HistoryPage> {
  const { position: base } = await log.base();
  const at = await log.linkAt(upTo);
  const from = Math.max(base, upTo - Math.min(depth, historyDepthMax)) as Position;
  const nothing: HistoryPage = { at: at ?? null, found: [], searchedTo: from, base, damagedAt: null };
  const wanted = new Set(streams);
  const kinds = [...new Set(streams.map((stream) => stream.slice(0, stream.indexOf(":") + 1)))];
  let after = wanted.size === 0 || at === undefined ? undefined : await log.linkAt(from);
  const found: HistoryPage["found"][number][] = [];
  try {
    while (after !== undefined && after.position < upTo) {
      const outcome = await log.read(after, Math.min(scannedAtOnce, upTo - after.position));
      if (outcome.type !== "page" || outcome.page.entries.length === 0) break; // dropped during the scan
      const { entries } = outcome.page;
      // Most pages have nothing of the wanted kinds; the log has checked that they chain.
      if (entries.some((bytes) => kinds.some((kind) => mentions(bytes, kind)))) {
        let previous: Link = after;
        for (const [index, recorded] of decodeEvents(entries, after).entries()) {
          const bytes = entries[index];
          if (bytes !== undefined && wanted.has(recorded.stream)) found.push({ previous, bytes });
          previous = linkOf(recorded);
        }
      }
      after = outcome.page.last;
      await turn();
    }
  } catch (error) {
    if (!(error instanceof LogDamagedError)) throw error;
    return { ...nothing, found, damagedAt: nextPosition(error.after.position) };
  }
  return { ...nothing, found };
}

/** Whether the bytes of an event have a text anywhere. */
function mentions({ buffer, byteOffset, byteLength }: Uint8Array, text: string): boolean {
  return Buffer.from(buffer, byteOffset, byteLength).includes(text);
}
