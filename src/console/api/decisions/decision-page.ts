/**
 * Decision page: decisions as JSON, from a cursor on, for programs that pull. `next` is the cursor for the next call,
 * also when nothing matched, so that no call reads again what an earlier one has passed.
 */
import type { FastifyReply } from "fastify";
import {
  type FeedEntry,
  formatCursor,
  type Missed,
  newestCursor,
  type RecordCursor,
  type RecordPage,
  RecordsUnreadableError,
  readRecords,
  recordsChanged,
  TooManyWatchersError,
} from "../../../audit/index.ts";
import type { OperatorApiDeps } from "../operator-route.ts";
import type { RecordQuery } from "./decision-query.ts";
import { labelPeople } from "./person-labels.ts";

export type DecisionSources = Pick<OperatorApiDeps, "feed" | "history" | "replica" | "now" | "sleep">;

/** What one call reads, whatever matches. */
const readRecordsMax = 20_000;
const readBytesMax = 32 * 1024 * 1024;
/** Bounds of one step of it, and of the records in an answer, as lines. */
const stepBytesMax = 4 * 1024 * 1024;
const stepRecordsMax = 1_000;
export const answerBytesMax = 4 * 1024 * 1024;
const labelsMax = 2_000;
/** Records of several nodes are stored in this disorder at most. */
export const disorderMs = 60_000;

export async function sendDecisionPage(
  reply: FastifyReply,
  sources: DecisionSources,
  query: RecordQuery,
): Promise<object> {
  const gone = new AbortController();
  const leave = (): void => gone.abort();
  reply.raw.once("close", leave);
  let free: (() => void) | undefined;
  try {
    free = sources.feed.addWatcher();
    const start = await startOf(sources, query);
    if (start === null) return unreadable(reply);
    const page = await readMatching(sources, { ...query, start }, gone.signal);
    if (page.missed?.reason === "cursor_unknown") return cursorUnknown(reply, page);
    const records = page.entries.map(({ record }) => record);
    const labels = query.names ? labelPeople(sources.replica, records, { seen: new Set(), seenMax: labelsMax }) : null;
    return {
      decisions: page.entries.map(({ cursor, record }) => ({ cursor: formatCursor(cursor), record })),
      next: formatCursor(page.after),
      more: !page.isAtEnd,
      missed: page.missed,
      ...(labels === null ? {} : { names: labels }),
    };
  } catch (error) {
    if (error instanceof TooManyWatchersError)
      return reply.code(503).header("retry-after", "5").send({ error: error.message });
    if (error instanceof RecordsUnreadableError) return unreadable(reply);
    throw error;
  } finally {
    free?.();
    reply.raw.off("close", leave);
  }
}

/** @returns null: not known yet @throws RecordsUnreadableError */
export async function startOf(
  sources: Pick<DecisionSources, "feed" | "history">,
  { from, matches }: Pick<RecordQuery, "from" | "matches">,
): Promise<RecordCursor | null> {
  const { feed, history } = sources;
  if ("after" in from) return from.after;
  if ("sinceMs" in from) return history === null ? feed.start() : await history.cursorAt(from.sinceMs);
  if (from.newest === 0) return newestCursor(sources);
  return feed.cursorBefore(from.newest, matches) ?? newestCursor(sources);
}

/** Reads until something matches, the wait is over, or this call has read enough. */
async function readMatching(
  sources: DecisionSources,
  query: RecordQuery & Readonly<{ start: RecordCursor }>,
  signal: AbortSignal,
): Promise<RecordPage> {
  const until = sources.now() + query.waitMs;
  const entries: FeedEntry[] = [];
  let [after, missed, bytes, read, readBytes] = [query.start, null as Missed | null, 0, 0, 0];
  const begin = query.start;
  for (;;) {
    const changed = recordsChanged(sources);
    const bounds = { records: stepRecordsMax, bytes: stepBytesMax, signal };
    const page = await readRecords(sources, after, bounds);
    if (page.missed !== null && entries.length > 0) return { entries, begin, after, missed, isAtEnd: false };
    if (page.missed?.reason === "cursor_unknown") return { ...page, entries };
    missed ??= page.missed;
    after = page.entries.length === 0 ? page.after : after;
    for (const entry of page.entries) {
      if (query.untilMs !== null && entry.record.at > query.untilMs + disorderMs)
        return { entries, begin, after, missed, isAtEnd: true };
      read += 1;
      readBytes += entry.bytes;
      if (query.matches(entry.record)) {
        bytes += entry.bytes;
        if (entries.length >= query.limit || (entries.length > 0 && bytes > answerBytesMax))
          return { entries, begin, after, missed, isAtEnd: false };
        entries.push(entry);
      }
      after = entry.cursor;
    }
    if (page.entries.length > 0) after = page.after;
    const isEnough = read >= readRecordsMax || readBytes >= readBytesMax || entries.length >= query.limit;
    if (isEnough || signal.aborted) return { entries, begin, after, missed, isAtEnd: page.isAtEnd };
    if (!page.isAtEnd) {
      await sources.sleep(0, signal).catch(() => undefined); // many records that do not match must not delay requests
      continue;
    }
    const leftMs = until - sources.now();
    if (entries.length > 0 || missed !== null || leftMs <= 0) return { entries, begin, after, missed, isAtEnd: true };
    const over = new AbortController();
    const timer = sources.sleep(leftMs, AbortSignal.any([over.signal, signal])).catch(() => undefined);
    await Promise.race([changed, timer]);
    over.abort();
  }
}

function unreadable(reply: FastifyReply): FastifyReply {
  return reply
    .code(503)
    .header("retry-after", "2")
    .send({ error: "the stored decisions cannot be read now; try again" });
}

function cursorUnknown(reply: FastifyReply, { begin, missed }: RecordPage): FastifyReply {
  const error =
    "this server does not have the decisions after that cursor: they were removed, or the cursor is of another server; continue after `next`, and count what is between as missed";
  return reply.code(410).send({ error, code: "cursor_unknown", missed, next: formatCursor(begin) });
}
