/**
 * Brings the audit stream of all nodes into a feed: an ordered consumer that begins with the last few minutes.
 *
 * Watched from outside the library: when it ends, errs or stands still although the stream moves, it is made again from the
 * next sequence; when the stream itself was made anew, from that one's beginning. What comes twice is passed on once: the
 * numbers of each node's boot only grow.
 */
import type { NatsConnection } from "@nats-io/transport-node";
import { LRUCache } from "lru-cache";
import { natsJetstream } from "../replication/index.ts";
import { parseLine } from "./audit-record.ts";
import type { Feed } from "./feed.ts";
import { auditStreamName, ensureAuditStream } from "./nats-audit-sink.ts";
import type { Sleep } from "./recorder.ts";

export type AuditStreamFollower = Readonly<{
  /** Also closes the connection. */
  stop(): Promise<void>;
}>;

const startAgoMs = 5 * 60_000;
const pauseMs = 1_000;
const lookEveryMs = 2_000;
const apiMsMax = 5_000;
const pullExpiresMs = 5_000;
const stopMsMax = 2_000;

export function followAuditStream(options: {
  connection: NatsConnection;
  cluster: string;
  replicas: number;
  feed: Feed;
  now: () => number;
  sleep: Sleep;
  onFailure: (error: unknown) => void;
}): AuditStreamFollower {
  const { connection, feed, sleep } = options;
  const name = auditStreamName(options.cluster);
  const stopped = new AbortController();
  /** The stream that the sequence counts in, by when it was made; and the next sequence wanted. */
  let place: Readonly<{ created: string; next: number }> | undefined;
  const passedOn = new LRUCache<string, number>({ max: 10_000 });

  function take(lines: string, sequence: number, created: string): void {
    for (const [index, line] of lines.split("\n").entries()) {
      const record = line === "" ? undefined : parseLine(line);
      if (record === undefined || record.seq <= (passedOn.get(record.boot) ?? 0)) continue;
      passedOn.set(record.boot, record.seq);
      feed.push(record, `${Date.parse(created).toString(36)}.${sequence}.${index}`);
    }
  }

  async function consume(): Promise<void> {
    const { created } = await ensureAuditStream(connection, options.cluster, options.replicas);
    const anew = place !== undefined && place.created !== created;
    if (place === undefined || anew) place = { created, next: 0 };
    const start =
      place.next > 0
        ? { deliver_policy: natsJetstream().DeliverPolicy.StartSequence, opt_start_seq: place.next }
        : anew
          ? { deliver_policy: natsJetstream().DeliverPolicy.All }
          : {
              deliver_policy: natsJetstream().DeliverPolicy.StartTime,
              opt_start_time: new Date(options.now() - startAgoMs).toISOString(),
            };
    const consumer = await natsJetstream().jetstream(connection, { timeout: apiMsMax }).consumers.get(name, start);
    const messages = await consumer.consume({
      expires: pullExpiresMs,
      max_messages: 100,
      abort_on_missing_resource: true,
    });
    const over = new AbortController();
    const close = (): void => void messages.close();
    stopped.signal.addEventListener("abort", close, { once: true });
    const watching = watch(created, over.signal).then(close);
    try {
      for await (const message of messages) {
        take(message.string(), message.seq, created);
        place = { created, next: message.seq + 1 };
      }
    } finally {
      stopped.signal.removeEventListener("abort", close);
      over.abort();
      await watching;
      await consumer.delete().catch(() => false); // or the server forgets it by itself after a while
    }
  }

  /** Settles when the consumer is to be made again. */
  async function watch(created: string, signal: AbortSignal): Promise<void> {
    const manager = await natsJetstream().jetstreamManager(connection, { timeout: apiMsMax, checkAPI: false });
    let before = -1;
    while (!signal.aborted) {
      await sleep(lookEveryMs, signal).catch(() => {});
      if (signal.aborted) return;
      try {
        const info = await manager.streams.info(name);
        const next = place?.next ?? 0;
        const behind = next > 0 && info.state.last_seq >= next;
        if (info.created !== created || (behind && next === before)) return;
        before = next;
      } catch {
        return; // deleted, or nobody answers
      }
    }
  }

  const running = (async () => {
    while (!stopped.signal.aborted) {
      try {
        await consume();
      } catch (error) {
        if (!stopped.signal.aborted) options.onFailure(error);
      }
      await sleep(pauseMs, stopped.signal).catch(() => {});
    }
  })();

  return {
    async stop() {
      stopped.abort();
      const done = new AbortController();
      await Promise.race([running, sleep(stopMsMax, done.signal).catch(() => {})]);
      done.abort();
      await connection.close();
    },
  };
}
