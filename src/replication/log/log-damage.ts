/**
 * Log damage: finds where the content of a store stops being what was written to it. Pure.
 *
 * A reader receives only intact events. A page ends before the first event that is missing or changed; a reader that
 * continues from there gets an error.
 */
import { chainHash, type Link, previousPosition } from "../../events/index.ts";
import { LogDamagedError } from "./log.ts";
import { pageBytesMax } from "./log-rules.ts";

export type StoredEvent = Readonly<{ link: Link; bytes: Uint8Array }>;

/**
 * Takes events in order while they chain, up to one page.
 * @returns `damage`: why no further event was taken; undefined when no damage was found
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

/**
 * The error for a missing event at a position that a reader has, at or below the horizon and not dropped by retention.
 */
export function placeIsMissing(store: string, place: Link): LogDamagedError {
  return new LogDamagedError(store, { ...place, position: previousPosition(place.position) }, "missing");
}
