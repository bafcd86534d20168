/**
 * Decision stream: decisions as Server-Sent Events, resumable by cursor (`Last-Event-ID`).
 *
 * - The `id` of an event is its cursor. An event `missed` means that this server no longer holds the records in
 *   between.
 * - A watcher gets entries as fast as it reads. One that stops reading is cut off, and can resume.
 * - The caller's right is checked again when a fact about the operator changes, periodically, and at the end of the
 *   token or session. A node without a fresh lease hears of no change, so it sends nothing to a session's watcher.
 */
import type { ServerResponse } from "node:http";
import type { FastifyReply, FastifyRequest } from "fastify";
import { type Feed, type FeedEntry, TooManyWatchersError, type Watcher } from "../audit/index.ts";
import type { UnixMs } from "../events/index.ts";
import type { Replica } from "../replication/index.ts";
import type { OperatorCaller } from "./operator-caller.ts";
import { mayReceive, type Operator } from "./operator-route.ts";

export type DecisionStreamDeps = Readonly<{
  feed: Feed;
  replica: Pick<Replica, "onChange">;
  callerOf: (request: FastifyRequest) => Promise<OperatorCaller>;
  fresh: () => boolean;
  now: () => UnixMs;
  /** Settles after `ms`, or earlier if the signal aborts. */
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
}>;

const batchMax = 200;
const newestMax = 1_000;
/** After this long without an event a comment is sent, which reveals a dead connection. */
const aliveMs = 15_000;
/** A watcher that reads nothing for this long is cut off; it may resume by its cursor. */
const stuckMs = 30_000;

export async function streamDecisions(
  request: FastifyRequest,
  reply: FastifyReply,
  deps: DecisionStreamDeps,
  caller: Operator,
): Promise<FastifyReply> {
  const { raw } = reply;
  let watcher: Watcher;
  try {
    watcher = deps.feed.watch(startOf(request));
  } catch (error) {
    if (!(error instanceof TooManyWatchersError)) throw error;
    return reply.code(503).header("retry-after", "5").send({ error: error.message });
  }
  const gone = new AbortController();
  const end = (): void => {
    gone.abort();
    watcher.close();
  };
  raw.on("error", end);
  raw.once("close", end);
  if (raw.destroyed) end();
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
    await pump(raw, watcher, {
      ...deps,
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

function startOf(request: FastifyRequest): Parameters<Feed["watch"]>[0] {
  const query = request.query as Readonly<Record<string, unknown>>;
  const header = request.headers["last-event-id"];
  const after = typeof header === "string" && header !== "" ? header : query["after"];
  if (typeof after === "string" && after !== "") return { after };
  const newest = Number(query["last"] ?? 0);
  return { newest: Number.isSafeInteger(newest) ? Math.min(newestMax, Math.max(0, newest)) : 0 };
}

async function pump(
  raw: ServerResponse,
  watcher: Watcher,
  options: Pick<DecisionStreamDeps, "now" | "sleep"> &
    Readonly<{
      until: UnixMs | null;
      signal: AbortSignal;
      mayContinue: () => Promise<boolean>;
      mayReceive: () => boolean;
    }>,
): Promise<void> {
  const { signal, until } = options;
  const leftMs = (): number => (until === null ? Number.POSITIVE_INFINITY : until - options.now());
  let askedAt = options.now();
  while (!signal.aborted && leftMs() > 0) {
    if (options.now() - askedAt >= aliveMs) {
      if (!(await options.mayContinue())) return;
      askedAt = options.now();
    }
    const { entries, missed } = watcher.read(batchMax);
    let text = (missed ? "event: missed\ndata: {}\n\n" : "") + entries.map(eventOf).join("");
    if (text === "") {
      const rested = await raceWithTimeout(watcher.waitForMore(), options, Math.min(aliveMs, leftMs()));
      if (rested === "time-up" && leftMs() > 0) text = ": alive\n\n";
      else continue;
    }
    if (raw.destroyed || !options.mayReceive()) return;
    if (!raw.write(text) && (await raceWithTimeout(drained(raw), options, stuckMs)) === "time-up") return;
  }
}

function eventOf({ cursor, record }: FeedEntry): string {
  return `id: ${cursor}\ndata: ${JSON.stringify(record)}\n\n`;
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
