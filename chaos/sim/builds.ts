/** Builds: the versions of the product that run in a world, and the event level that each can read. Pure. */
import { readsLevel } from "../../src/events/index.ts";
import type { Identity } from "./process.ts";
import type { SimOptions } from "./swarm.ts";

/** A build that predates some event types, the usual build, and the build that a rollout upgrades to. */
export const builds = { ancient: "0", old: "1", new: "2" } as const;

/** The highest event level that a build can read (src/events/formats.ts). */
export function readsOf(build: string): number {
  return build === builds.new ? readsLevel : 1;
}

/** The build that a node runs before its upgrade, with the event types that this build cannot read. */
export function firstBuildOf(
  { startsNew, unknown }: Pick<SimOptions, "startsNew" | "unknown">,
  node: number,
): Pick<Identity, "build" | "unknownTypes"> {
  return startsNew ? { build: builds.new, unknownTypes: [] } : firstBuild(unknown[node] ?? []);
}

/** The build of a node with the event types that it cannot read. */
function firstBuild(unknownTypes: readonly string[]): Pick<Identity, "build" | "unknownTypes"> {
  return { build: unknownTypes.length > 0 ? builds.ancient : builds.old, unknownTypes };
}
