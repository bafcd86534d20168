/**
 * Activity: decisions per minute, counted from the records that this process holds in memory: in a cluster those of all
 * nodes, else its own.
 *
 * - Counting takes place when someone asks: each call reads what has arrived since the last one. So it costs nothing
 *   while no one looks.
 * - Minutes whose records left the memory before they were counted are incomplete, and the answer says so.
 */
import type { AuditRecord, Feed, FeedEntry, RecordCursor } from "../../../audit/index.ts";
import type { ActivityAnswer } from "./change-schemas.ts";

export const activityKinds = ["permit", "deny", "signIn", "unavailable"] as const;
export type ActivityKind = (typeof activityKinds)[number];
type Minute = Record<ActivityKind, number>;

export type Activity = Readonly<{
  /** Counts what is new. One call at a time counts; the others wait for it. */
  update(): Promise<void>;
  answer(minutes: number): ActivityAnswer;
}>;

const minuteMs = 60_000;
const minutesMax = 1_440;
/** The clock of a node may be ahead by this much. */
const aheadMinutes = 10;
/** Records that are parsed in one turn. */
const recordsAtOnce = 200;
const bytesAtOnce = 1024 * 1024;
/** Records that one call counts; the next one continues. */
const recordsPerCall = 50_000;

export function createActivity({
  feed,
  turn,
  now,
}: Readonly<{
  feed: Pick<Feed, "start" | "end" | "covers" | "read">;
  /** Lets other work have its turn. */
  turn: () => Promise<void>;
  now: () => number;
}>): Activity {
  const minutes = new Map<number, Minute>();
  let cursor: RecordCursor | null = null;
  /** Minutes of which records are certainly missing, from and to. */
  let lostFrom: number | null = null;
  let newest = 0;
  let countedFrom: number | null = null;
  let isBehind = false;
  const gaps = new Set<number>();
  let running: Promise<void> | null = null;

  async function count(): Promise<void> {
    const current = Math.floor(now() / minuteMs);
    forget(current);
    for (let read = 0; read < recordsPerCall; ) {
      if (cursor === null || !feed.covers(cursor)) {
        if (cursor !== null) lostFrom = newest;
        cursor = feed.start();
        if (cursor === null) return;
      }
      const entries = feed.read(cursor, { records: recordsAtOnce, bytes: bytesAtOnce });
      const last = entries.at(-1);
      if (last === undefined) {
        isBehind = false;
        return;
      }
      for (const entry of entries) add(entry, current);
      cursor = last.cursor;
      read += entries.length;
      await turn();
    }
    isBehind = true;
  }

  function add({ record }: FeedEntry, current: number): void {
    const minute = Math.floor(record.at / minuteMs);
    // A node whose clock is wrong by hours counts nowhere.
    if (!(minute > current - minutesMax && minute <= current + aheadMinutes)) return;
    if (lostFrom !== null) {
      for (let lost = Math.max(lostFrom, current - minutesMax); lost <= minute; lost++) gaps.add(lost);
      lostFrom = null;
    }
    newest = Math.max(newest, minute);
    countedFrom ??= minute;
    if (record.kind === "gap") gaps.add(minute);
    const kind = kindOf(record);
    if (kind === null) return;
    const counts = minutes.get(minute) ?? { permit: 0, deny: 0, signIn: 0, unavailable: 0 };
    counts[kind] += 1;
    minutes.set(minute, counts);
  }

  function forget(current: number): void {
    for (const minute of minutes.keys()) if (minute <= current - minutesMax) minutes.delete(minute);
    for (const minute of gaps) if (minute <= current - minutesMax) gaps.delete(minute);
  }

  return {
    update() {
      running ??= count().finally(() => {
        running = null;
      });
      return running;
    },
    answer(length) {
      const last = Math.floor(now() / minuteMs);
      const first = last - length + 1;
      const at = (index: number): number => first + index;
      const series = (kind: ActivityKind): number[] =>
        Array.from({ length }, (_, index) => minutes.get(at(index))?.[kind] ?? 0);
      const unknown: string[] = [];
      // The first minute that was counted may have begun before it.
      if (countedFrom === null || countedFrom >= first) unknown.push("the server holds no records of the whole time");
      if (isBehind) unknown.push("not all records are counted yet");
      if (Array.from({ length }, (_, index) => at(index)).some((minute) => gaps.has(minute)))
        unknown.push("records of some minutes were lost, or left the memory before they were counted");
      return {
        from: new Date(first * minuteMs).toISOString(),
        bucketS: 60,
        permit: series("permit"),
        deny: series("deny"),
        signIn: series("signIn"),
        unavailable: series("unavailable"),
        complete: unknown.length === 0,
        unknown,
      };
    },
  };
}

function kindOf(record: AuditRecord): ActivityKind | null {
  if (record.kind !== "decision" || record.occasion === "closed") return null;
  switch (record.result) {
    case "permit":
      return "permit";
    case "signin":
      return "signIn";
    case "unavailable":
      return "unavailable";
    default:
      return "deny";
  }
}
