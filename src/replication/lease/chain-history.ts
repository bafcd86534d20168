/**
 * Chain history: what a copy remembers of its own chain, so that it can locate a link on it.
 *
 * - It remembers the hashes of the newest tens of thousands of events and the start of every epoch.
 * - It never guesses. A link older than its memory is `unknown`, unless its epoch, or the incarnation of that epoch,
 *   shows that it belongs to another chain.
 * - Immutable and pure. Hashes are held in two generations, so that extending costs the same for a chain of any length.
 */
import {
  type Epoch,
  genesis,
  type Hash,
  type Incarnation,
  type Link,
  linkOf,
  type NeededLink,
  type Position,
  type Recorded,
  tagOf,
} from "../../events/index.ts";

export type EpochMark = Readonly<{ epoch: Epoch; start: Position; incarnation: Incarnation | null }>;

/** Newest first: each run of hashes points to the one before. */
type HashRun = Readonly<{ first: number; hashes: readonly Hash[]; before: HashRun | null }>;

export type ChainHistory = Readonly<{
  applied: Link;
  /** Oldest first; the last is the epoch of `applied`. */
  epochs: readonly EpochMark[];
  young: HashRun | null;
  youngCount: number;
  old: HashRun | null;
}>;

/** Between one and two generations of hashes are remembered, about 3 MB at most. */
const generationMax = 16_384;
const epochsMax = 1_024;

export const emptyHistory: ChainHistory = { applied: genesis, epochs: [], young: null, youngCount: 0, old: null };

/** A history that begins at a link. Before that link, only the epochs are known. */
export function historyFrom(applied: Link, epochs: readonly EpochMark[]): ChainHistory {
  return { applied, epochs: epochs.slice(-epochsMax), young: null, youngCount: 0, old: null };
}

/**
 * Whether a chain with these epochs contains a link of another chain, decided by their epochs alone. An epoch has one
 * writer, and only a newer epoch that opens at or before the cut can cut off what it wrote.
 */
export function sharesLink(
  epochs: readonly EpochMark[],
  place: Readonly<{ epoch: Epoch; position: Position }>,
  theirs: readonly EpochMark[],
): boolean {
  if (place.position === 0) return true;
  const mark = epochs.findLast(({ start }) => start <= place.position);
  const their = theirs.find(({ epoch }) => epoch === place.epoch);
  if (mark === undefined || their === undefined || mark.epoch !== place.epoch) return false;
  return mark.start === their.start && mark.incarnation !== null && mark.incarnation === their.incarnation;
}

/** Appends events that directly follow `applied`. The caller has checked that they do. */
export function extendHistory(history: ChainHistory, events: readonly Recorded[]): ChainHistory {
  const last = events.at(-1);
  const first = events[0];
  if (last === undefined || first === undefined) return history;
  const full = history.youngCount + events.length > generationMax && history.youngCount > 0;
  const run: HashRun = {
    first: first.position,
    hashes: events.map((e) => e.hash),
    before: full ? null : history.young,
  };
  return {
    applied: linkOf(last),
    epochs: last.epoch === history.epochs.at(-1)?.epoch ? history.epochs : withEpochs(history.epochs, events),
    young: run,
    youngCount: (full ? 0 : history.youngCount) + events.length,
    old: full ? history.young : history.old,
  };
}

/** Where a link lies relative to this chain. */
export type LinkLocation =
  /** The chain contains it. */
  | "onChain"
  /** Beyond `applied`: not known yet. */
  | "ahead"
  /** The chain has another event at this position. */
  | "otherChain"
  /** Older than the remembered hashes, and as far as is known of the epoch that the chain had at this position. */
  | "unknown";

export function locateLink(history: ChainHistory, link: NeededLink): LinkLocation {
  // Beyond `applied`, but its epoch had ended before: a newer epoch has written this position.
  if (link.position > history.applied.position) return link.epoch < history.applied.epoch ? "otherChain" : "ahead";
  if (link.position === 0) return link.hash === genesis.hash ? "onChain" : "otherChain";
  if (link.position === history.applied.position) return same(link, history.applied.epoch, history.applied.hash);
  const hash = hashAt(history.young, link.position) ?? hashAt(history.old, link.position);
  const mark = markAt(history, link.position);
  if (hash !== undefined) return same(link, mark?.epoch ?? link.epoch, hash);
  return mark === undefined || isOfEpoch(link, mark) ? "unknown" : "otherChain";
}

/** Whether the chain has the link, as far as it can tell. A link ahead of it, or of an unknown epoch, it has not. */
export function mayHold(history: ChainHistory, link: NeededLink): boolean {
  const location = locateLink(history, link);
  return location === "onChain" || (location === "unknown" && epochAt(history, link.position) === link.epoch);
}

/** The epoch that wrote the event at a position. Undefined: older than the remembered epochs. */
export function epochAt(history: ChainHistory, position: Position): Epoch | undefined {
  return markAt(history, position)?.epoch;
}

/** The incarnation of the epoch of a link. Undefined: not known, or the link is on another chain. */
export function incarnationOf(history: ChainHistory, link: Link): Incarnation | undefined {
  if (locateLink(history, link) === "otherChain") return undefined;
  return history.epochs.findLast(({ epoch }) => epoch === link.epoch)?.incarnation ?? undefined;
}

function markAt({ epochs }: ChainHistory, position: Position): EpochMark | undefined {
  return epochs.findLast((mark) => mark.start <= position);
}

/** Two epochs of one number are told apart by their incarnations, as far as both are known. */
function isOfEpoch({ epoch, incarnation }: NeededLink, mark: EpochMark): boolean {
  if (epoch !== mark.epoch) return false;
  return incarnation === undefined || mark.incarnation === null || incarnation === tagOf(mark.incarnation);
}

function same(link: Link, epoch: Epoch, hash: Hash): LinkLocation {
  return link.hash === hash && link.epoch === epoch ? "onChain" : "otherChain";
}

function hashAt(newest: HashRun | null, position: Position): Hash | undefined {
  let run = newest;
  while (run !== null && run.first > position) run = run.before;
  return run?.hashes[position - run.first];
}

function withEpochs(epochs: readonly EpochMark[], events: readonly Recorded[]): readonly EpochMark[] {
  return events.reduce(withEpoch, epochs);
}

/** The epochs of a chain after its next event. Returns the same list while the epoch does not change. */
export function withEpoch(epochs: readonly EpochMark[], { epoch, position, event }: Recorded): readonly EpochMark[] {
  if (epoch === epochs.at(-1)?.epoch) return epochs;
  const incarnation = event.type === "EpochOpened" ? event.incarnation : null;
  return [...epochs, { epoch, start: position, incarnation }].slice(-epochsMax);
}
