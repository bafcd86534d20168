/**
 * Log at a time: folds the log up to the last event that was recorded by then. It reads pages and yields in between;
 * its functions are arguments, so it does no I/O by itself.
 *
 * - It begins at a snapshot that is old enough, else at the first event.
 * - The first event that was recorded later ends it, whatever follows: the order of the log is the order of time.
 */
import {
  CodedError,
  type ConfigHash,
  decodeEvents,
  FactPositions,
  genesis,
  type Link,
  linkOf,
  type NodeId,
  noPosition,
  type Position,
  Projection,
  type Recorded,
  type UnixMs,
} from "../events/index.ts";
import type { PageOutcome } from "../replication/index.ts";

/** Retention has dropped what the answer needs, or this build cannot read it. */
export class LogUnreachableError extends CodedError<"ERR_AUDIT_LOG_UNREACHABLE"> {
  override readonly code = "ERR_AUDIT_LOG_UNREACHABLE";
}

export type LogAtTime = Readonly<{
  projection: Projection;
  places: FactPositions;
  link: Link;
  /** Position of the snapshot that it began with; 0: the first event. */
  base: Position;
  /** The configuration that each node had announced last, after `base`. */
  configs: ReadonlyMap<NodeId, Readonly<{ configHash: ConfigHash; position: Position }>>;
}>;

export type LogReading = Readonly<{
  /** @throws BrokerUnavailableError */
  read: (after: Link, limit: number) => Promise<PageOutcome>;
  /** A snapshot taken by then; null: none is held. */
  snapshot: () => Promise<Readonly<{ projection: Projection; link: Link }> | null>;
  onProgress: (progress: Readonly<{ position: Position; head: Position; at: UnixMs }>) => void;
  signal: AbortSignal;
}>;

const pageEvents = 1_000;

/** @throws LogUnreachableError */
export async function readLogAt(at: UnixMs, { read, snapshot, onProgress, signal }: LogReading): Promise<LogAtTime> {
  const began = await snapshot();
  const projection = began?.projection ?? new Projection();
  const base = began?.link.position ?? noPosition;
  const places = new FactPositions(base);
  const configs = new Map<NodeId, Readonly<{ configHash: ConfigHash; position: Position }>>();
  let link = began?.link ?? genesis;
  const fold = (recorded: Recorded): void => {
    projection.apply(recorded);
    places.record(recorded);
    link = linkOf(recorded);
    const { event, position } = recorded;
    if (event.type === "ConfigurationActivated") configs.set(event.nodeId, { configHash: event.configHash, position });
    if (event.type === "NodesRetired") for (const { nodeId } of event.nodes) configs.delete(nodeId);
  };
  for (;;) {
    signal.throwIfAborted();
    const outcome = await read(link, pageEvents);
    if (outcome.type === "truncated") throw new LogUnreachableError(truncated(at));
    if (outcome.type !== "page")
      throw new LogUnreachableError(`the log cannot be read from the beginning: ${outcome.type}`);
    const { previous, entries, head } = outcome.page;
    const events = decodeEvents(entries, previous);
    const later = events.findIndex(({ recordedAt }) => recordedAt > at);
    for (const recorded of later < 0 ? events : events.slice(0, later)) fold(recorded);
    if (projection.degraded !== undefined)
      throw new LogUnreachableError(`this build cannot read an event of the log: ${projection.degraded}`);
    const last = events.at(-1);
    if (last !== undefined) onProgress({ position: link.position, head: head.position, at: last.recordedAt });
    if (later >= 0 || events.length === 0) return { projection, places, link, base, configs };
  }
}

function truncated(at: UnixMs): string {
  const when = new Date(at).toISOString();
  return `retention has dropped the events of ${when}, and no snapshot that the brokers still have is older: restore a backup of that time, and ask there`;
}
