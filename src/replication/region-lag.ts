/**
 * Region lag: how far each region lags, computed from what the leader or a regional broker knows of its nodes. Pure.
 *
 * Nodes that are absent count until they are retired, so an alert on a region that is cut off does not end by itself
 * (docs/adr/0040).
 */
import type { AbsentNode, CutOffRegion, NodeStatus, RegionLag } from "./databroker.ts";
import { isLostHistory } from "./log/continuity.ts";

type Seen = Pick<NodeStatus, "node" | "boot" | "region" | "role" | "lag" | "lastGrantAgoMs" | "fencedInMs">;

/** What only a leader knows of its regions. */
export type RegionAbsences = Readonly<{
  absent: readonly AbsentNode[];
  cutOff: readonly CutOffRegion[];
  /** The position of the leader's head. */
  head: number;
}>;

const noAbsences: RegionAbsences = { absent: [], cutOff: [], head: 0 };

/** Sorted by region name. */
export function regionLags(
  nodes: readonly Seen[],
  { absent, cutOff, head }: RegionAbsences = noAbsences,
): readonly RegionLag[] {
  const seen = nodes.filter((node) => !isLostHistory(node));
  const regions = new Set([...seen, ...absent].map(({ region }) => region));
  const absentNames = new Set(absent.map(nameOf));
  const cutOffNames = new Set(cutOff.map(({ region }) => region));
  return [...regions].sort().map((region) => {
    const all = seen.filter((node) => node.region === region);
    const there = all.filter(({ fencedInMs }) => fencedInMs === null || fencedInMs > 0);
    const expired = all.filter((node) => !there.includes(node) && !absentNames.has(nameOf(node)));
    const missing = absent.filter((node) => node.region === region);
    const brokers = there.filter(({ role }) => role === "broker").length;
    return {
      region,
      brokers,
      nodes: there.length - brokers,
      fenced: expired.length + missing.length,
      absent: missing.length,
      cutOff: cutOffNames.has(region),
      lag: greatest([...there.map(({ lag }) => lag), ...missing.map(({ applied }) => Math.max(0, head - applied))]),
      silentMs: greatest([
        ...there.map(({ lastGrantAgoMs }) => lastGrantAgoMs),
        ...missing.map(({ silentMs }) => silentMs),
      ]),
    };
  });
}

function nameOf({ node, role }: Pick<Seen, "node" | "role">): string {
  return JSON.stringify([node, role]);
}

function greatest(numbers: readonly (number | null)[]): number | null {
  const known = numbers.filter((each) => each !== null);
  return known.length === 0 ? null : Math.max(...known);
}
