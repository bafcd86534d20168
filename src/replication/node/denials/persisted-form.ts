/**
 * Persisted form: the on-disk format of a node's persisted denials. Many denials share one history, so its epochs are
 * written once, and each denial finds them by the epoch in which it was written. An older build reads the fields it
 * knows and skips the rest. Pure.
 */

import type { Stream } from "../../../events/index.ts";
import type { EpochMark } from "../../lease/chain-history.ts";
import type { DenialsOnDisk, PersistedDenial } from "./persisted-denials.ts";

export type DenialsFile = Readonly<{
  /** `DenialsOnDisk.retained`. */
  sticky: readonly Stream[];
  denials: readonly Omit<PersistedDenial, "chain">[];
  /** The epochs of the denials' histories. Absent: an older build wrote the file. */
  chains?: readonly (readonly EpochMark[])[];
}>;

/**
 * The number of newest chains written. A chain has up to 1,024 epochs, and each restore of the log leaves one chain.
 */
const chainsMax = 16;

export function formatDenials({ retained, denials }: DenialsOnDisk): DenialsFile {
  const chains: (readonly EpochMark[])[] = [];
  for (const { chain } of denials.toReversed())
    if (chain !== undefined && chains.length < chainsMax && !chains.some((longer) => isBeginning(chain, longer)))
      chains.push(chain);
  return { sticky: retained, denials: denials.map(({ chain: _, ...denial }) => denial), chains };
}

export function parseDenials({ sticky, denials, chains = [] }: DenialsFile): DenialsOnDisk {
  return { retained: sticky, denials: denials.map((denial) => ({ ...denial, ...chainOf(denial.since, chains) })) };
}

function chainOf(since: EpochMark | null, chains: readonly (readonly EpochMark[])[]): Pick<PersistedDenial, "chain"> {
  if (since === null) return {};
  for (const chain of chains) {
    const at = chain.findIndex((mark) => isSame(mark, since));
    if (at !== -1) return { chain: chain.slice(0, at + 1) };
  }
  return {};
}

/** An incarnation is random, so two chains that share an epoch share everything before it. */
function isBeginning(chain: readonly EpochMark[], longer: readonly EpochMark[]): boolean {
  const last = chain.at(-1);
  return last !== undefined && longer.some((mark) => isSame(mark, last));
}

function isSame(a: EpochMark, b: EpochMark): boolean {
  return a.epoch === b.epoch && a.start === b.start && a.incarnation !== null && a.incarnation === b.incarnation;
}
