/** Builds: the versions of the product that run in a world, and what each can read. Pure. */
import type { Identity } from "./process.ts";

/** One of before there were some events, the usual one, and the one that everybody is upgraded to. */
export const builds = { ancient: "0", old: "1", new: "2" } as const;

/** Up to which level a build can read events (src/events/formats.ts). */
export function readsOf(build: string): number {
  return build === builds.new ? 2 : 1;
}

/** What a node runs until it is upgraded, and what that cannot read. */
export function firstBuild(unknownTypes: readonly string[]): Pick<Identity, "build" | "unknownTypes"> {
  return { build: unknownTypes.length > 0 ? builds.ancient : builds.old, unknownTypes };
}
