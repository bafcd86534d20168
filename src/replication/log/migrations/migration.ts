/**
 * Migration: one step of a store's schema. Steps are only ever added, and one that has been released is never edited.
 *
 * A build knows the steps up to a version. On a store that is newer it goes on as long as every step beyond what it
 * knows says that it still works with it: so a release that brings a step is upgraded to process by process, and taken
 * back, like any other. What older builds use is not taken away by the step that replaces it, but by one of a later
 * release; what is added has a default, and our statements name the columns that they fill. Pure.
 */
export type Migration = Readonly<{
  sql: string;
  /**
   * The oldest version that a build may know and still work with the store behind this step; the step's own number:
   * none that is older.
   */
  worksWith: number;
}>;

/** What a store says of itself. */
export type StoreVersion = Readonly<{ version: number; worksWith: number }>;

/** True when a build that knows the steps up to `known` must leave the store alone. */
export function isTooNew({ version, worksWith }: StoreVersion, known: number): boolean {
  return version > known && worksWith > known;
}
