/**
 * Formats: the versions of event bodies, the cluster level from which each is written, and the conversions between
 * them. Pure.
 *
 * - A cluster has one *level*: 1 at first, raised by an `UpgradeFinalized` event, never lowered. The first leader of a
 *   new log raises it at once.
 * - A build reads every version of every level up to its own (`readsLevel`). It writes only those of the cluster's
 *   level. So two builds can run side by side, and the newer one can be rolled back until an operator finalizes the
 *   upgrade.
 * - In memory an event always has its newest shape. It is lifted on reading, after its hash was checked, and lowered on
 *   writing.
 * - A format never changes, because its bytes stay in logs forever. A new shape is a new version with an `up`, appended
 *   to the entry in catalog.ts, and its bytes join test/events/golden.
 *
 * Why levels: docs/adr/0014-feature-levels.md
 */
import { catalog } from "./catalog.ts";
import type { EventBody, Format } from "./event-format.ts";

/**
 * This build reads everything of this level and below. Grows by one with each release that writes something new or
 * folds old events differently.
 */
export const readsLevel = 7;

/** The level before any upgrade was finalized. */
export const firstLevel = 1;

/**
 * From this level on, revoked sessions that the log never knew have an expiry (state.ts), also those revoked before.
 */
export const unknownExpireFrom = 2;

/** From this level on, logouts at identity providers are recorded, and sessions name the provider's own session. */
export const logoutsFrom = 5;
/** From this level on, the log records when sessions were last used. */
export const activityFrom = 5;
/** From this level on, memberships and suspensions may have an end. */
export const timeBoxedFrom = 5;

/** From this level on, the roots of audit records are sealed into the log. */
export const auditSealsFrom = 6;

/** From this level on, seals of audit records have a code that names each altered record. */
export const auditSealCodesFrom = 7;

/** The versions of each type, oldest first: 1, 2, 3 … */
export type Formats = Readonly<Record<string, readonly Format[]>>;

export const formats: Formats = Object.fromEntries(
  Object.entries(catalog).map(([type, entry]) => [type, entry.formats]),
);

/** Whether this build can read this version of a type. */
export function isReadable(type: string, version: number, all: Formats = formats): boolean {
  return Object.hasOwn(all, type) && version >= 1 && version <= (all[type]?.length ?? 0);
}

/** Converts a body to its newest shape. @param version the one it was written in, which `isReadable` */
export function lift(type: string, version: number, body: EventBody, all: Formats = formats): EventBody {
  const versions = all[type] ?? [];
  if (version === versions.length) return body; // almost always
  let lifted = body;
  for (const { up } of versions.slice(version)) lifted = up?.(lifted) ?? lifted;
  return lifted;
}

/** The newest version of a type, if the level allows it; undefined: the level allows at most an older one. */
export function newestVersionAt(type: string, level: number, all: Formats = formats): number | undefined {
  const versions = all[type];
  const newest = versions?.at(-1);
  return versions === undefined || newest === undefined || newest.level > level ? undefined : versions.length;
}

/** A body in the newest version that a level allows. */
export type LoweredBody =
  | Readonly<{ version: number; body: EventBody }>
  /** Only a later level can express it. */
  | Readonly<{ needsLevel: number }>;

/** Converts a body to the newest version that the level allows. */
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
