/**
 * Lost lessees: names the nodes behind a row that stands for a lost history, as far as this broker has heard of them. Pure.
 *
 * The names only explain: the row itself counts for every node, named or not, until its window has passed.
 */
import type { NodeId } from "../../events/index.ts";
import { isLostHistory, type LesseeStatus } from "../../replication/index.ts";

/** A receipt with all of ten thousand names would explain less. */
const namesMax = 100;

/** @returns the standings, and one for each node heard of that has none, until the window of the lost history has passed */
export function nameLostLessees(
  standings: readonly LesseeStatus[],
  knownNodes: Iterable<NodeId>,
): readonly LesseeStatus[] {
  const lost = standings.filter((standing) => isLostHistory(standing) && standing.fencedInMs > 0);
  const longestFenced = lost.reduce<LesseeStatus | undefined>(
    (longest, each) => (longest !== undefined && longest.fencedInMs >= each.fencedInMs ? longest : each),
    undefined,
  );
  if (longestFenced === undefined) return standings;
  const namedNodes = new Set(standings.map(({ node }) => node));
  const names = [...knownNodes].filter((node) => !namedNodes.has(node)).slice(0, namesMax);
  return [...standings, ...names.sort().map((node) => ({ ...longestFenced, node }))];
}
