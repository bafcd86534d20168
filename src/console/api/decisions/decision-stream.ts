/**
 * Decision stream: decisions as Server-Sent Events, resumable by cursor (`Last-Event-ID`).
 *
 * - The `id` of an event is its cursor. An event `missed` says that records are gone. An event `cursor` carries only
 *   the cursor, so that a reader whose filter matches little does not begin far back. `names` has names of people.
 * - A watcher gets records as fast as it reads. One that stops reading is cut off, and can resume.
 * - The caller's right is checked again when a fact about the operator changes, periodically, and at the end of the
 *   token or session. A node without a fresh lease hears of no change, so it sends nothing to a session's watcher.
 */
import type { ServerResponse } from "node:http";
import type { FastifyReply, FastifyRequest } from "fastify";
import {
  type FeedEntry,
  formatCursor,
  type RecordCursor,
  type RecordPage,
  RecordsUnreadableError,
  readRecords,
  recordsChanged,
  TooManyWatchersError,
} from "../../../audit/index.ts";
import type { UnixMs } from "../../../events/index.ts";
import { mayReceive, type Operator, type OperatorApiDeps } from "../operator-route.ts";
import { type DecisionSources, startOf } from "./decision-page.ts";
import type { RecordQuery } from "./decision-query.ts";
import { labelPeople } from "./person-labels.ts";

export type DecisionStreamDeps = DecisionSources &
  Readonly<{
    callerOf: OperatorApiDeps["callerOf"];
    fresh: () => boolean;
  }>;

/** Bounds of one read, matching or not. */
const readRecordsMax = 500;
const readBytesMax = 1024 * 1024;
/** After so many records that do not match, an event carries the cursor. */
const unmatchedMax = 5_000;
/** After this long without an event a comment is sent, which reveals a dead connection. */
const aliveMs = 15_000;
/** A watcher that reads nothing for this long is cut off; it may resume by its cursor. */
const stuckMs = 30_000;
/** The pause while the stored records cannot be read. */
const unreadableMs = 2_000;
const labelsMax = 10_000;

export async function streamDecisions(
  request: FastifyRequest,
  reply: FastifyReply,
  deps: DecisionStreamDeps,
  { caller, query }: Readonly<{ caller: Operator; query: RecordQuery }>,
): Promise<FastifyReply> {
  const { raw } = reply;
  let free: () => void;
  let start: RecordCursor | null;
  try {
    free = deps.feed.addWatcher();
  } catch (error) {
    if (!(error instanceof TooManyWatchersError)) throw error;
    return reply.code(503).header("retry-after", "5").send({ error: error.message });
  }
  const gone = new AbortController();
  const end = (): void => {
    gone.abort();
    free();
  };
  raw.on("error", end);
  raw.once("close", end);
  if (raw.destroyed) end();
  try {
    start = await startOf(deps, query);
  } catch (error) {
    end();
    if (!(error instanceof RecordsUnreadableError)) throw error;
    return reply
      .code(503)
      .header("retry-after", "2")
      .send({ error: `${error.message}; try again` });
  }
  const mayContinue = async (): Promise<boolean> =>
    (await deps.callerOf(request).catch(() => undefined))?.type === "operator";
  const unlisten = deps.replica.onChange(async ({ touched, rebuilt }) => {
    if (!rebuilt && !caller.reads.some((stream) => touched.has(stream))) return;
    if (!(await mayContinue())) raw.destroy();
  });
  reply.hijack();
  try {
    raw.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no" });
    raw.write(": decisions\n\n");
    const mayReceiveNow = (): boolean => mayReceive(deps, caller);
    await pump(raw, deps, {
      query,
      start,
      until: caller.until,
      signal: gone.signal,
      mayContinue,
      mayReceive: mayReceiveNow,
    });
  } finally {
    unlisten();
    end();
    raw.destroy();
  }
  return reply;
}

type Watch = Readonly<{
  query: RecordQuery;
  /** Null: not known before the first record arrives. */
  start: RecordCursor | null;
  until: UnixMs | null;
  signal: AbortSignal;
  mayContinue: () => Promise<boolean>;
  mayReceive: () => boolean;
}>;

async function pump(raw: ServerResponse, deps: DecisionStreamDeps, watch: Watch): Promise<void> {
  const { signal, until } = watch;
  const wait = { sleep: deps.sleep, signal };
  const leftMs = (): number => (until === null ? Number.POSITIVE_INFINITY : until - deps.now());
  const events = createEvents(deps, watch);
  let askedAt = deps.now();
  while (!signal.aborted && leftMs() > 0) {
    if (deps.now() - askedAt >= aliveMs) {
      if (!(await watch.mayContinue())) return;
      askedAt = deps.now();
    }
    const changed = recordsChanged(deps);
    let { text, isAtEnd } = await events.next();
    if (text === "" && isAtEnd) {
      const rested = await raceWithTimeout(changed, wait, Math.min(aliveMs, leftMs()));
      if (rested === "done" || leftMs() <= 0) continue;
      text = `${events.cursorOnly()}: alive\n\n`;
    }
    if (text === "") {
      await deps.sleep(0, signal).catch(() => undefined); // many records that do not match must not delay requests
      continue;
    }
    if (raw.destroyed || !watch.mayReceive()) return;
    if (!raw.write(text) && (await raceWithTimeout(drained(raw), wait, stuckMs)) === "time-up") return;
  }
}

/** The events of a stream, from its start on. */
function createEvents(deps: DecisionStreamDeps, { query, start, signal }: Watch) {
  const labels = { seen: new Set<string>(), seenMax: labelsMax };
  let after = start;
  /** The newest cursor that the watcher has; "": none. */
  let sent = "";
  let unmatched = 0;

  function cursorOnly(): string {
    const cursor = after === null ? "" : formatCursor(after);
    if (cursor === sent) return "";
    sent = cursor;
    unmatched = 0;
    return `id: ${cursor}\nevent: cursor\ndata: {}\n\n`;
  }

  function textOf(entries: readonly FeedEntry[]): string {
    const shown = entries.filter(({ record }) => query.matches(record));
    unmatched = shown.length > 0 ? 0 : unmatched + entries.length;
    const last = shown.at(-1);
    if (last !== undefined) sent = formatCursor(last.cursor);
    const named = query.names
      ? labelPeople(
          deps.replica,
          shown.map(({ record }) => record),
          labels,
        )
      : {};
    const names = Object.keys(named).length === 0 ? "" : `event: names\ndata: ${JSON.stringify(named)}\n\n`;
    return names + shown.map(eventOf).join("");
  }

  return {
    cursorOnly,
    async next(): Promise<Readonly<{ text: string; isAtEnd: boolean }>> {
      after ??= deps.feed.start();
      if (after === null) return { text: "", isAtEnd: true };
      const begins = sent === "" ? cursorOnly() : "";
      let page: RecordPage;
      try {
        page = await readRecords(deps, after, { records: readRecordsMax, bytes: readBytesMax, signal });
      } catch (error) {
        if (!(error instanceof RecordsUnreadableError)) throw error;
        await deps.sleep(unreadableMs, signal).catch(() => undefined);
        return { text: begins, isAtEnd: false };
      }
      after = page.after;
      const missed = page.missed === null ? "" : `event: missed\ndata: ${JSON.stringify(page.missed)}\n\n`;
      const text = begins + missed + textOf(page.entries);
      const isLate = unmatched >= unmatchedMax || (page.missed !== null && page.entries.length === 0);
      return { text: isLate ? text + cursorOnly() : text, isAtEnd: page.isAtEnd && page.entries.length === 0 };
    },
  };
}

function eventOf({ cursor, record }: FeedEntry): string {
  return `id: ${formatCursor(cursor)}\ndata: ${JSON.stringify(record)}\n\n`;
}

/** A caller that disconnects aborts the signal instead. */
function drained(raw: ServerResponse): Promise<void> {
  return new Promise((resolve) => void raw.once("drain", resolve));
}

/** Waits for the promise, at most `ms`. */
async function raceWithTimeout(
  something: Promise<void>,
  options: Pick<DecisionStreamDeps, "sleep"> & Readonly<{ signal: AbortSignal }>,
  ms: number,
): Promise<"done" | "time-up"> {
  const over = new AbortController();
  const timeUp = options
    .sleep(ms, AbortSignal.any([over.signal, options.signal]))
    .then(() => "time-up" as const)
    .catch(() => "done" as const);
  try {
    return await Promise.race([something.then(() => "done" as const), timeUp]);
  } finally {
    over.abort();
  }
}
