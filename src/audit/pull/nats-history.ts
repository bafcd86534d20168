/**
 * NATS history: reads the audit stream of all nodes from a cursor, for readers behind the feed's memory. Any process
 * with the stream can continue where another one stopped.
 *
 * - Shows only records that a node of the cluster signed (record-proof.ts). The cursor passes the others.
 * - A page has its own verifier, so a message that was stored twice may be shown twice, with the same record ids.
 */
import type { JetStreamManager, JsMsg, StreamInfo } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import { natsJetstream } from "../../replication/fanout/index.ts";
import { auditStreamName } from "../nats-audit-sink.ts";
import { receivedRecordsOf, sequenceOf } from "../nats-received.ts";
import { createRecordVerifier, type RecordVerifier } from "../record-proof.ts";
import { isAfter, type RecordCursor, wholeMessage } from "./record-cursor.ts";
import {
  type FeedEntry,
  type Missed,
  type PageBounds,
  type RecordHistory,
  type RecordPage,
  RecordsUnreadableError,
} from "./record-history.ts";

const apiMsMax = 5_000;
/** Silence while more is stored: the stream was truncated or deleted. */
const silentMsMax = 5_000;
/** Messages of one page, in bytes; one message has at most a megabyte. The client fetches at most 100 of them. */
const pageBytesMax = 4 * 1024 * 1024;
/** Pages that are read at once; other readers wait. */
const pagesAtOnceMax = 4;

export type NatsHistoryOptions = Readonly<{
  /** Resolves once there is a connection. */
  connection: () => Promise<NatsConnection>;
  cluster: string;
  secrets: readonly Uint8Array[];
}>;

export function createNatsHistory(options: NatsHistoryOptions): RecordHistory {
  const turns = createTurns(pagesAtOnceMax);
  const unlessUnreadable = <T>(read: () => Promise<T>): Promise<T> =>
    turns(read).catch((cause: unknown) => {
      throw new RecordsUnreadableError({ cause });
    });
  return {
    read: (after, bounds) => unlessUnreadable(() => readPage(options, after, bounds)),
    cursorAt: (atMs) => unlessUnreadable(() => cursorAt(options, atMs)),
    end: () => unlessUnreadable(async () => endOf((await streamOf(options)).info)),
  };
}

async function streamOf({
  connection,
  cluster,
}: NatsHistoryOptions): Promise<Readonly<{ manager: JetStreamManager; info: StreamInfo; client: NatsConnection }>> {
  const client = await connection();
  const manager = await natsJetstream().jetstreamManager(client, { timeout: apiMsMax, checkAPI: false });
  return { manager, client, info: await manager.streams.info(auditStreamName(cluster)) };
}

function endOf(info: StreamInfo): RecordCursor {
  return { sequence: sequenceOf(info), number: info.state.last_seq, index: wholeMessage };
}

async function cursorAt(options: NatsHistoryOptions, atMs: number): Promise<RecordCursor> {
  const { client, info } = await streamOf(options);
  const { DeliverPolicy } = natsJetstream();
  const opened = { deliver_policy: DeliverPolicy.StartTime, opt_start_time: new Date(atMs).toISOString() };
  let first: number | undefined;
  const isFound = (message: JsMsg): boolean => {
    first = message.seq;
    return false;
  };
  await consume(client, { name: auditStreamName(options.cluster), opened, size: { max_messages: 1 } }, isFound);
  return first === undefined ? endOf(info) : { sequence: sequenceOf(info), number: first - 1, index: wholeMessage };
}

async function readPage(options: NatsHistoryOptions, after: RecordCursor, bounds: PageBounds): Promise<RecordPage> {
  const { client, info } = await streamOf(options);
  const { begin, missed } = startIn(info, after);
  if (begin.number >= info.state.last_seq && begin.index >= wholeMessage)
    return { entries: [], begin, after: begin, missed, isAtEnd: true };
  const verifier = createRecordVerifier({ cluster: options.cluster, secrets: options.secrets, fromMs: 0 });
  const page = createPage(begin, verifier, bounds);
  const opened = {
    deliver_policy: natsJetstream().DeliverPolicy.StartSequence,
    opt_start_seq: Math.max(1, begin.index >= wholeMessage ? begin.number + 1 : begin.number),
  };
  const read = (message: JsMsg): boolean => {
    const isLast = message.seq >= info.state.last_seq || message.info.pending === 0;
    return page.add(message, sequenceOf(info)) && !isLast && !bounds.signal.aborted;
  };
  const what = { name: auditStreamName(options.cluster), opened, size: { max_bytes: pageBytesMax } };
  if ((await consume(client, what, read)) === "nothing")
    return { entries: [], begin, after: endOf(info), missed, isAtEnd: true };
  const { entries, cursor } = page;
  const isAtEnd = cursor().number >= info.state.last_seq && cursor().index >= wholeMessage;
  return { entries, begin, after: cursor(), missed, isAtEnd };
}

/** Where to read, and what is gone before. A cursor beyond the end is of a stream that lost its newest messages. */
function startIn(info: StreamInfo, after: RecordCursor): Readonly<{ begin: RecordCursor; missed: Missed | null }> {
  const { first_seq: first, last_seq: last } = info.state;
  const oldest = { sequence: sequenceOf(info), number: Math.max(0, first - 1), index: wholeMessage };
  if (after.sequence !== oldest.sequence || after.number > last)
    return { begin: oldest, missed: { reason: "cursor_unknown", count: null } };
  if (!isAfter(oldest, after)) return { begin: after, missed: null };
  // Of the message that the cursor names there may be lines left that it has not passed; they are gone, too.
  const count = oldest.number - after.number;
  const isWhole = count === 0 && after.index >= wholeMessage;
  return { begin: oldest, missed: isWhole ? null : { reason: "removed", count: Math.max(1, count) } };
}

function createPage(begin: RecordCursor, verifier: RecordVerifier, bounds: PageBounds) {
  const entries: FeedEntry[] = [];
  let cursor = begin;
  let size = 0;
  return {
    entries,
    cursor: () => cursor,
    /** @returns false: the page is full */
    add(message: JsMsg, sequence: string): boolean {
      const opened = verifier.open(receivedRecordsOf(message));
      const records = "refused" in opened ? [] : opened.records;
      for (const { record, index, bytes } of records) {
        const at = { sequence, number: message.seq, index };
        if (!isAfter(at, begin)) continue;
        size += bytes;
        if (entries.length >= bounds.records || (entries.length > 0 && size > bounds.bytes)) return false;
        entries.push({ cursor: at, record, bytes });
        cursor = at;
      }
      cursor = { sequence, number: message.seq, index: wholeMessage };
      return true;
    },
  };
}

/**
 * Fetches at most one page of messages with a consumer of its own.
 * @param use returns false when it needs no more
 * @returns `nothing`: the stream has no message there
 */
async function consume(
  client: NatsConnection,
  {
    name,
    opened,
    size,
  }: Readonly<{ name: string; opened: object; size: { max_messages: number } | { max_bytes: number } }>,
  use: (message: JsMsg) => boolean,
): Promise<"read" | "nothing"> {
  const consumer = await natsJetstream().jetstream(client, { timeout: apiMsMax }).consumers.get(name, opened);
  try {
    if ((await consumer.info()).num_pending === 0) return "nothing";
    const messages = await consumer.fetch({ ...size, expires: silentMsMax });
    let count = 0;
    try {
      for await (const message of messages) {
        count += 1;
        if (!use(message)) break;
      }
    } catch (error) {
      // The server also ends a page this way, when it is full. If it is more than that, the next page fails at once.
      if (count === 0) throw error;
    } finally {
      void messages.close(); // the promise settles only for an iterator that is read to its end
    }
    if (count === 0) throw new Error(`the audit stream ${name} stopped before its end`);
    return "read";
  } finally {
    await consumer.delete().catch(() => false); // if this fails, the server removes it after a while
  }
}

/** At most so many calls at once; the others wait in their order. */
function createTurns(max: number): <T>(call: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (call) => {
    if (running >= max) await new Promise<void>((resolve) => void waiting.push(resolve));
    else running += 1;
    try {
      return await call();
    } finally {
      const next = waiting.shift();
      if (next === undefined) running -= 1;
      else next();
    }
  };
}
