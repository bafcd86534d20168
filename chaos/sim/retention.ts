/**
 * Retention: lets go of the oldest events as the product's snapshot duty does (src/broker/snapshots/snapshot-duty.ts), when an
 * operator has it do so: nothing that the second newest snapshot of this log's history does not hold, or that somebody with a
 * lease may still want. A snapshot of a history that was lost counts for nothing.
 *
 * How old events must be is left to the fault plan: an operator who keeps none is the worst case.
 */
import { type Link, type Position, sameLink } from "../../src/events/index.ts";
import type { RetainRequest } from "../../src/replication/index.ts";
import type { SimLog } from "./sim-log.ts";

export type LettingGo = Readonly<{
  log: SimLog;
  leadership: Pick<RetainRequest, "epoch" | "incarnation">;
  snapshots: readonly Readonly<{ link: Link }>[];
  neededAfter: Position;
  /** From 0 to 1: what share of what nobody needs. */
  much: number;
  /** Up to there all is done. */
  doneUpTo: number;
  done: (upTo: number) => void;
}>;

const askedMax = 40;

/** @returns a word on it; undefined: there is nothing that nobody needs */
export function letGo(of: LettingGo): string | undefined {
  const { log, leadership, snapshots, neededAfter, much } = of;
  const links = snapshots.map(({ link }) => link).toSorted((a, b) => b.position - a.position);
  const upTo = ({ position }: Link): number => Math.floor(Math.min(position, neededAfter) * (0.5 + much / 2));
  if (links[1] === undefined || upTo(links[1]) <= of.doneUpTo) return undefined;
  let asked = 0;
  const drop = (first: Position, holding: Link): void => {
    asked += 1;
    log.retain({ ...leadership, first, holding }, (outcome) => {
      if (outcome.type !== "retained") return;
      if (outcome.more && asked < askedMax) drop(first, holding);
      else of.done(first - 1);
    });
  };
  const find = (index: number, newer: number): void => {
    const link = links[index];
    if (link === undefined) return;
    log.linkAt(link.position, (at) => {
      if (at instanceof Error) return;
      const stands = at !== undefined && sameLink(at, link);
      if (stands && newer === 1) drop((upTo(link) + 1) as Position, link);
      else find(index + 1, stands ? newer + 1 : newer);
    });
  };
  find(0, 0);
  return `events up to ${upTo(links[1])} may go, as far as what holds them is of this history`;
}
