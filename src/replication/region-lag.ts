/**
 * Region lag: how far each region lags, computed from what the leader or a regional broker knows of its nodes. Pure.
 */
import type { NodeStatus } from "./databroker.ts";
import { isLostHistory } from "./log/continuity.ts";

export type RegionLag = Readonly<{
  region: string;
  /** Regional brokers and enforcement nodes that may hold a lease. */
  brokers: number;
  nodes: number;
  /** Number of those whose lease has certainly expired. */
  fenced: number;
  /** Positions that the slowest node has not reported yet; null: no node has reported any. */
  lag: number | null;
  /**
   * Time in ms since the last grant of the node that has been without one for longest; null: no node was granted a
   * lease in this epoch.
   */
  silentMs: number | null;
}>;

type Seen = Pick<NodeStatus, "boot" | "region" | "role" | "lag" | "lastGrantAgoMs" | "fencedInMs">;

/** Sorted by region name. */
export function regionLags(nodes: readonly Seen[]): readonly RegionLag[] {
  const byRegion = Map.groupBy(
    nodes.filter((node) => !isLostHistory(node)),
    ({ region }) => region,
  );
  return [...byRegion]
    .map(([region, all]) => {
      const there = all.filter(({ fencedInMs }) => fencedInMs === null || fencedInMs > 0);
      const brokers = there.filter(({ role }) => role === "broker").length;
      return {
        region,
        brokers,
        nodes: there.length - brokers,
        fenced: all.length - there.length,
        lag: greatest(there.map(({ lag }) => lag)),
        silentMs: greatest(there.map(({ lastGrantAgoMs }) => lastGrantAgoMs)),
      };
    })
    .sort((a, b) => (a.region < b.region ? -1 : 1));
}

function greatest(numbers: readonly (number | null)[]): number | null {
  const known = numbers.filter((each) => each !== null);
  return known.length === 0 ? null : Math.max(...known);
}
