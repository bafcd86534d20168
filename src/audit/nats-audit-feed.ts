/**
 * NATS audit feed: copies the audit stream of all nodes into a feed, starting a few minutes in the past.
 *
 * - A watchdog checks the ordered consumer of the library. If it ends, fails or stalls while the stream grows, it is
 *   recreated at the next sequence number; if the stream was recreated, at the stream's beginning.
 * - Only records signed by their node are pushed (record-proof.ts), each once: numbers grow within each node's boot.
 */
import type { JsMsg } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import { natsJetstream } from "../replication/fanout/index.ts";
import { auditStreamName, ensureAuditStream } from "./nats-audit-sink.ts";
import { receivedRecordsOf, sequenceOf } from "./nats-received.ts";
import type { Feed } from "./pull/index.ts";
import { createRecordVerifier, type RecordRefusal, type RecordVerifierCounts } from "./record-proof.ts";
import type { Sleep } from "./spool/index.ts";

export type AuditStreamFollower = Readonly<{
  /** Also closes the connection. */
  stop(): Promise<void>;
  counts(): RecordVerifierCounts;
}>;

const startAgoMs = 5 * 60_000;
const pauseMs = 1_000;
const checkEveryMs = 2_000;
const apiMsMax = 5_000;
const pullExpiresMs = 5_000;
const stopMsMax = 2_000;
/** Messages in flight; each may be a megabyte. */
const messagesMax = 16;

export function followAuditStream(options: {
  connection: NatsConnection;
  cluster: string;
  /** The shared secret, and the previous one during a rotation. Record signatures derive from them. */
  secrets: readonly Uint8Array[];
  replicas: number;
  streamBytesMax: number;
  feed: Pick<Feed, "push">;
  now: () => number;
  sleep: Sleep;
  onFailure: (error: unknown) => void;
  /** Called for each refused message. */
  onRefused?: (reason: RecordRefusal) => void;
}): AuditStreamFollower {
  const { connection, feed, sleep } = options;
  const name = auditStreamName(options.cluster);
  const stopped = new AbortController();
  /** The creation time of the stream, which tells streams apart, and the next sequence number. */
  let position: Readonly<{ created: string; next: number }> | undefined;
  const verifier = createRecordVerifier({
    cluster: options.cluster,
    secrets: options.secrets,
    fromMs: options.now() - startAgoMs,
  });

  function pushRecords(message: JsMsg, created: string): void {
    const opened = verifier.open(receivedRecordsOf(message));
    if ("refused" in opened) {
      options.onRefused?.(opened.refused);
      return;
    }
    const at = { sequence: sequenceOf({ created }), number: message.seq };
    feed.push(opened.records.map(({ index, ...entry }) => ({ ...entry, cursor: { ...at, index } })));
  }

  async function consume(): Promise<void> {
    const { created, state } = await ensureAuditStream(connection, options);
    const anew = position !== undefined && position.created !== created;
    // A stream that lost its newest messages uses their numbers again.
    const isCut = position !== undefined && state.last_seq < position.next - 1;
    if (position === undefined || anew || isCut) position = { created, next: 0 };
    const start =
      position.next > 0
        ? { deliver_policy: natsJetstream().DeliverPolicy.StartSequence, opt_start_seq: position.next }
        : anew
          ? { deliver_policy: natsJetstream().DeliverPolicy.All }
          : {
              deliver_policy: natsJetstream().DeliverPolicy.StartTime,
              opt_start_time: new Date(options.now() - startAgoMs).toISOString(),
            };
    const consumer = await natsJetstream().jetstream(connection, { timeout: apiMsMax }).consumers.get(name, start);
    const messages = await consumer.consume({
      expires: pullExpiresMs,
      max_messages: messagesMax,
      abort_on_missing_resource: true,
    });
    const over = new AbortController();
    const close = (): void => void messages.close();
    stopped.signal.addEventListener("abort", close, { once: true });
    const watching = watch(created, over.signal).then(close);
    try {
      for await (const message of messages) {
        pushRecords(message, created);
        position = { created, next: message.seq + 1 };
      }
    } finally {
      stopped.signal.removeEventListener("abort", close);
      over.abort();
      await watching;
      await consumer.delete().catch(() => false); // if this fails, the server removes it after a while
    }
  }

  /** Resolves when the consumer has to be recreated. */
  async function watch(created: string, signal: AbortSignal): Promise<void> {
    const manager = await natsJetstream().jetstreamManager(connection, { timeout: apiMsMax, checkAPI: false });
    let before = -1;
    while (!signal.aborted) {
      await sleep(checkEveryMs, signal).catch(() => {});
      if (signal.aborted) return;
      try {
        const info = await manager.streams.info(name);
        const next = position?.next ?? 0;
        const behind = next > 0 && info.state.last_seq >= next;
        const isCut = info.state.last_seq < next - 1;
        if (info.created !== created || isCut || (behind && next === before)) return;
        before = next;
      } catch {
        return; // the stream was deleted, or the server does not respond
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
    counts: verifier.counts,
    async stop() {
      stopped.abort();
      const done = new AbortController();
      await Promise.race([running, sleep(stopMsMax, done.signal).catch(() => {})]);
      done.abort();
      await connection.close();
    },
  };
}
