/**
 * Timeline: groups the events of the log, newest first, into the rows that an operator reads. Pure.
 *
 * - The events of one command are one row, named by the event with the highest rank.
 * - Frequent events that no one decided are counted in one row between two others, for each day.
 */
import type { Recorded, Stream } from "../../../events/index.ts";
import { type DescribedChange, describeChange, type FoldedKind, isAbout } from "./describe-change.ts";

export type TimelineRow =
  | Readonly<{
      type: "change";
      /** The event that names the row. */
      main: Recorded;
      described: DescribedChange;
      /** Events of the same kind in the same command, newest first, the first ones. */
      same: readonly Readonly<{ recorded: Recorded; described: DescribedChange }>[];
      count: number;
      first: number;
      last: number;
    }>
  | Readonly<{
      type: "folded";
      counts: Readonly<Partial<Record<FoldedKind, number>>>;
      newest: Recorded;
      first: number;
    }>;

export type TimelineFilter = Readonly<{
  /** Event types and areas; null: all. */
  types: ReadonlySet<string> | null;
  /** Null: all. */
  actors: ReadonlySet<string> | null;
  subjects: readonly Stream[] | null;
  fromMs: number | null;
  toMs: number | null;
  folds: boolean;
}>;

export type Timeline = Readonly<{
  /** Adds the event below the last one. @returns the rows that this completes */
  push(recorded: Recorded): readonly TimelineRow[];
  /** The rows that are not complete yet, where nothing older is read. */
  end(): readonly TimelineRow[];
  /** The position below which to continue, so that no row is torn. Null: no row is open. */
  openFrom(): number | null;
}>;

/** Events of one row whose people are remembered. */
const sameMax = 1_000;
const dayMs = 86_400_000;

type Open = {
  cause: string;
  events: { recorded: Recorded; described: DescribedChange }[];
  counts: Map<string, number>;
  last: number;
  first: number;
};
type Fold = { counts: Partial<Record<FoldedKind, number>>; newest: Recorded; first: number };

export function createTimeline(filter: TimelineFilter): Timeline {
  let open: Open | null = null;
  let fold: Fold | null = null;

  function push(recorded: Recorded): readonly TimelineRow[] {
    const described = describeChange(recorded);
    if (open !== null && recorded.cause === open.cause) {
      add(open, recorded, described);
      return [];
    }
    const rows = closeOpen();
    const began: Open = {
      cause: recorded.cause ?? "",
      events: [],
      counts: new Map(),
      last: recorded.position,
      first: recorded.position,
    };
    add(began, recorded, described);
    open = began;
    return recorded.cause === null ? [...rows, ...closeOpen()] : rows;
  }

  function closeOpen(): TimelineRow[] {
    if (open === null) return [];
    const { events, counts, first, last } = open;
    open = null;
    const matching = events.filter(({ recorded, described }) => matches(filter, recorded, described));
    const [main] = [...matching].sort((a, b) => b.described.rank - a.described.rank);
    if (main === undefined) return [];
    const { described, recorded } = main;
    const count = counts.get(described.key) ?? 1;
    if (filter.folds && described.folds !== null) return addToFold(recorded, described.folds, { count, first });
    const same = matching.filter((each) => each.described.key === described.key);
    return [...closeFold(), { type: "change", main: recorded, described, same, count, first, last }];
  }

  function addToFold(
    recorded: Recorded,
    kind: FoldedKind,
    of: Readonly<{ count: number; first: number }>,
  ): TimelineRow[] {
    const isSameDay = fold !== null && dayOf(fold.newest) === dayOf(recorded);
    const rows = isSameDay ? [] : closeFold();
    fold ??= { counts: {}, newest: recorded, first: of.first };
    fold.counts[kind] = (fold.counts[kind] ?? 0) + of.count;
    fold.first = of.first;
    return rows;
  }

  function closeFold(): TimelineRow[] {
    if (fold === null) return [];
    const row: TimelineRow = { type: "folded", ...fold };
    fold = null;
    return [row];
  }

  return {
    push,
    end: () => [...closeOpen(), ...closeFold()],
    openFrom: () => open?.last ?? null,
  };
}

export const dayOf = ({ recordedAt }: Recorded): number => Math.floor(recordedAt / dayMs);

function add(open: Open, recorded: Recorded, described: DescribedChange): void {
  open.first = recorded.position;
  open.counts.set(described.key, (open.counts.get(described.key) ?? 0) + 1);
  if (open.events.length < sameMax) open.events.push({ recorded, described });
}

function matches(filter: TimelineFilter, recorded: Recorded, described: DescribedChange): boolean {
  const { types, actors, subjects, fromMs, toMs } = filter;
  if (fromMs !== null && recorded.recordedAt < fromMs) return false;
  if (toMs !== null && recorded.recordedAt > toMs) return false;
  if (types !== null && !types.has(recorded.type) && !types.has(described.area)) return false;
  if (actors !== null && !actors.has(recorded.actor)) return false;
  return subjects === null || subjects.some((subject) => isAbout(recorded, described, subject));
}
