/**
 * Log damage: where what a store holds stops being what was written to it. Pure.
 *
 * Whoever reads a log is given intact events alone: the page ends before the first that is missing or changed, and who
 * reads on from there is told.
 */
import { chainHash, type Link, type Position } from "../../events/index.ts";
import { LogDamagedError } from "./log.ts";
import { pageBytesMax } from "./log-rules.ts";

export type StoredEvent = Readonly<{ link: Link; bytes: Uint8Array }>;

/**
 * Takes events in their order for as long as they chain, and for one page at most.
 * @returns `damage`: why nothing was taken; undefined when there was nothing
 */
export function takeIntact(after: Link, stored: Iterable<StoredEvent>) {
  const entries: Uint8Array[] = [];
  let size = 0;
  let last = after;
  for (const { link, bytes } of stored) {
    size += bytes.length;
    if (size > pageBytesMax && entries.length > 0) break;
    const missing = link.position !== last.position + 1;
    if (missing || chainHash(last.hash, bytes) !== link.hash) {
      return { entries, last, damage: missing ? ("missing" as const) : ("changed" as const) };
    }
    entries.push(bytes);
    last = link;
  }
  return { entries, last, damage: undefined };
}

/** The event at a place that a reader has, at or below the horizon and not dropped, is not there. */
export function placeIsMissing(store: string, place: Link): LogDamagedError {
  return new LogDamagedError(store, { ...place, position: (place.position - 1) as Position }, "missing");
}
