/**
 * Formats: in which shapes events are written, from which feature level on, and how old shapes are lifted to new ones. Pure.
 *
 * A cluster has one *level*, 1 at first, raised by an `UpgradeFinalized` event and never lowered. A build reads every shape of every
 * level up to its own (`readsLevel`), and writes only those of the cluster's level, whatever newer ones it knows: so builds of two
 * versions can run side by side, and the newer can be taken back, until somebody finalizes the upgrade. In memory an event always has
 * its newest shape: it is lifted when it is read, after its hash has been checked, and lowered when it is written.
 *
 * What was written once is in logs for ever. A format is never changed: a new shape is a new version behind the others, with an `up`,
 * and its bytes join test/events/golden. Why levels: docs/adr/0014-feature-levels.md
 */
import { catalog, type EventBody, type Format } from "./catalog.ts";

/**
 * What this build can read: everything of this level and below. Grows by one with each release that writes something new, or folds what was
 * written before in another way.
 */
export const readsLevel = 2;

/** From this level on sessions that the log never knew, and that are revoked, have an expiry (state.ts): those revoked before, too. */
export const unknownExpireFrom = 2;

/** The versions of each type, oldest first: version 1, 2, 3 … */
export type Formats = Readonly<Record<string, readonly Format[]>>;

export const formats: Formats = Object.fromEntries(
  Object.entries(catalog).map(([type, entry]) => [type, entry.formats]),
);

/** True when this build can read a type in a version. */
export function isReadable(type: string, version: number, all: Formats = formats): boolean {
  return Object.hasOwn(all, type) && version >= 1 && version <= (all[type]?.length ?? 0);
}

/** A body in its newest shape, from the version that it was written in; readable (`isReadable`). */
export function lift(type: string, version: number, body: EventBody, all: Formats = formats): EventBody {
  const versions = all[type] ?? [];
  if (version === versions.length) return body; // nearly always
  let lifted = body;
  for (const { up } of versions.slice(version)) lifted = up?.(lifted) ?? lifted;
  return lifted;
}

/** What may be written of an event at a level. */
export type LoweredBody =
  | Readonly<{ version: number; body: EventBody }>
  /** It says what only a later level can say. */
  | Readonly<{ needsLevel: number }>;

/** The newest version of a body that the cluster's level allows. */
export function lower(type: string, body: EventBody, level: number, all: Formats = formats): LoweredBody {
  const versions = all[type] ?? [];
  let lowered = body;
  for (let version = versions.length; version >= 1; version--) {
    const format = versions[version - 1];
    if (format === undefined || format.level <= level) return { version, body: lowered };
    const before = version > 1 ? (format.down?.(lowered) ?? null) : null;
    if (before === null) return { needsLevel: format.level };
    lowered = before;
  }
  return { needsLevel: Number.POSITIVE_INFINITY };
}
