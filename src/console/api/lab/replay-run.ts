/**
 * Replay run: reads recorded decisions and decides them again with another configuration.
 *
 * - It works in slices of a few milliseconds and rests as long between them, so that the requests of this server are
 *   not delayed.
 * - Memory is bounded, whatever the number of decisions: a window of records, and one state of the log.
 */
import {
  type CallerOf,
  callersNow,
  type DecisionEntry,
  decideOtherwise,
  gapSizes,
  type PastConfiguration,
  type ReadRecord,
  type RecordCursor,
  readRecords,
  WhatIfReport,
  type WhatIfSummary,
  whyNot,
} from "../../../audit/index.ts";
import type { DecisionRecord, RoutePolicy } from "../../../auth/index.ts";
import type { UnixMs } from "../../../events/index.ts";
import { startOf } from "../decisions/decision-page.ts";
import type { OperatorApiDeps } from "../operator-route.ts";
import type { PastLog } from "../past/past-log.ts";
import { FactsThen } from "./facts-then.ts";
import { RecordWindow } from "./record-window.ts";

export type ReplayQuestion = Readonly<{
  /** With the edited policy, or the stored configuration. */
  configuration: PastConfiguration;
  /** The configuration in force; null: it is not known. */
  inForce: PastConfiguration | null;
  /** It is the configuration in force but for the policy of one route. */
  isEdit: boolean;
  /** Only decisions about this route; null: about every route. */
  routeId: string | null;
  /** Whether the caller may know decisions about a route; null: about no route. */
  maySee: (routeId: string | null) => boolean;
  facts: "then" | "now";
  sinceMs: number;
  untilMs: number;
  limit: number;
}>;
export type ReplayRun = Readonly<{
  /** Records read, of any kind and time. */
  read: number;
  /** `limit`: more decisions than the limit. `time`: it took too long. Null: all of them were replayed. */
  cut: "limit" | "time" | null;
  summary: WhatIfSummary;
}>;
export type ReplayHow = Readonly<{
  endsAt: UnixMs;
  signal: AbortSignal;
  onProgress: (progress: Readonly<{ read: number; replayed: number }>) => void;
}>;
export type ReplayDeps = Pick<
  OperatorApiDeps,
  "feed" | "history" | "databroker" | "replica" | "archive" | "now" | "sleep"
> &
  Readonly<{
    past: Pick<PastLog, "stateAt">;
    recordReaderOf: NonNullable<OperatorApiDeps["recordReaderOf"]>;
  }>;

const pageBounds = { records: 200, bytes: 512 * 1024 };
export const sliceMs = 4;
const restMsMax = 50;
/** How far the clocks of nodes and the order of records may be apart. */
const lateMs = 60_000;

const gapWhy = "records were lost before they were stored (a gap)";
const missedWhy = "records that are no longer stored, or not yet";

export async function replayDecisions(
  question: ReplayQuestion,
  deps: ReplayDeps,
  { endsAt, signal, onProgress }: ReplayHow,
): Promise<ReplayRun> {
  const { untilMs, limit } = question;
  const report = new WhatIfReport();
  const window = new RecordWindow();
  const progress = { read: 0, taken: 0 };
  const tell = (): void => onProgress({ read: progress.read, replayed: report.replayed });
  const pause = createSlices(deps, signal);
  const decide = createDecider(question, deps, { report, pause, tell, signal });
  const isDue = (): boolean => deps.now() >= endsAt;
  const outcome = (cut: ReplayRun["cut"]): ReplayRun => ({
    read: progress.read,
    cut,
    summary: report.summary(),
  });

  let after: RecordCursor | null = await startOf(deps, { from: { sinceMs: question.sinceMs }, matches: () => true });
  let isOver = after === null;
  let cut: ReplayRun["cut"] = null;
  while (!isOver && after !== null && cut === null) {
    signal.throwIfAborted();
    const page = await readRecords(deps, after, { ...pageBounds, signal });
    after = page.after;
    if (page.missed !== null) report.addNotReplayed(missedWhy, { count: page.missed.count ?? 0 });
    isOver = page.isAtEnd && page.entries.length === 0;
    for (const { record, bytes } of page.entries) {
      progress.read += 1;
      if (record.at > untilMs + lateMs) isOver = true;
      if (record.at < question.sinceMs || record.at > untilMs) continue;
      if (record.kind === "gap") report.addNotReplayed(gapWhy, { count: gapSizes(record).least });
      if (record.kind !== "decision" || !decide.concerns(record)) continue;
      if (progress.taken >= limit) {
        cut = "limit";
        break;
      }
      progress.taken += 1;
      for (const next of window.add(record, bytes)) {
        await decide.again(next);
        if (isDue()) return outcome("time");
      }
      await pause();
    }
    tell();
    await pause();
    if (isDue()) return outcome("time");
  }
  for (const next of window.end()) {
    await decide.again(next);
    if (isDue()) return outcome("time");
  }
  return outcome(cut);
}

/** @returns rests after each few milliseconds of work, and throws when the signal aborts */
export function createSlices(
  { now, sleep }: Pick<OperatorApiDeps, "now" | "sleep">,
  signal: AbortSignal,
): () => Promise<void> {
  let began = now();
  return async () => {
    const workedMs = now() - began;
    if (workedMs < sliceMs) return;
    await sleep(Math.min(workedMs, restMsMax), signal);
    began = now();
  };
}

type Decider = Readonly<{
  concerns: (record: DecisionEntry) => boolean;
  again: (record: DecisionEntry) => Promise<void>;
}>;

function createDecider(
  { configuration, inForce, isEdit, routeId, maySee, facts }: ReplayQuestion,
  deps: ReplayDeps,
  {
    report,
    pause,
    tell,
    signal,
  }: Readonly<{ report: WhatIfReport; pause: () => Promise<void>; tell: () => void; signal: AbortSignal }>,
): Decider {
  const readRecord = readerOf(configuration, deps);
  const readInForce = inForce === null ? null : readerOf(inForce, deps);
  const { replica } = deps;
  const open = replica.open.bind(replica);
  const archive = deps.archive ?? null;
  const readsOf = readsOfRecords(configuration, isEdit);
  const then = new FactsThen({
    ...deps,
    archive,
    open,
    readsOf,
    head: () => replica.applied.position,
    onProgress: tell,
    pause,
    signal,
  });
  const { projection, places } = replica;
  const now = callersNow({ at: deps.now(), link: replica.applied, projection, places, open });
  const callerOf = async (record: DecisionRecord): Promise<CallerOf | string> =>
    facts === "now" ? now : then.callerOf(record);
  const routeOf = (record: DecisionRecord): string | null => {
    // An edited policy changes no route.
    if (isEdit && record.routeId !== null && configuration.routes.has(record.routeId)) return record.routeId;
    const read = readRecord(record);
    return read.type === "read" ? read.routeId : record.routeId;
  };

  return {
    concerns(record) {
      if (record.occasion === "closed") return false;
      const route = routeOf(record);
      if (routeId !== null && record.routeId !== routeId && route !== routeId) return false;
      return maySee(route ?? record.routeId) && maySee(record.routeId ?? route);
    },
    async again(record) {
      await pause();
      const skipped = whyNot(record);
      const caller = skipped ?? (await callerOf(record));
      if (typeof caller === "string") {
        report.addNotReplayed(caller, { at: record.at });
        return;
      }
      const answer = decideOtherwise(record, { callerOf: caller, configuration, readRecord });
      report.add(record, answer, () => {
        if (inForce === null || readInForce === null || answer.type === "not") return false;
        const before = decideOtherwise(record, { callerOf: caller, configuration: inForce, readRecord: readInForce });
        return before.type === "answered" && before.permitted === answer.permitted;
      });
    },
  };
}

function readerOf({ routes }: PastConfiguration, { recordReaderOf }: Pick<ReplayDeps, "recordReaderOf">): ReadRecord {
  return recordReaderOf([...routes.values()].map(({ route }) => route));
}

/** The policy of the record's route. All groups that any policy reads, where the route may be another one. */
function readsOfRecords(
  { routes }: PastConfiguration,
  isEdit: boolean,
): (record: DecisionRecord) => Pick<RoutePolicy, "reads"> {
  let all: Pick<RoutePolicy, "reads"> | undefined;
  return ({ routeId }) => {
    const own = routeId === null || !isEdit ? null : (routes.get(routeId)?.policy ?? null);
    if (own !== null) return own;
    if (all === undefined) {
      const groups = new Set([...routes.values()].flatMap(({ policy }) => policy?.reads.groups ?? []));
      all = { reads: { groups: [...groups], deviceTypes: [], recordTypes: [], boundaries: [] } };
    }
    return all;
  };
}
