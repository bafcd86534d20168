/**
 * Log at a time: folds the log up to a position, or to the last event that was recorded by a time. It reads pages and
 * yields in between; its functions are arguments, so it does no I/O by itself.
 *
 * - It begins at a snapshot that is old enough, else at the first event.
 * - Events that retention has dropped come from the archive of the brokers. They must follow the link that was reached,
 *   as events of the log must.
 * - The first event that was recorded later ends it, whatever follows: the order of the log is the order of time.
 */
import {
  CodedError,
  type ConfigHash,
  decodeEvents,
  FactPositions,
  formatLink,
  genesis,
  type Link,
  linkOf,
  type NodeId,
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
  /** The snapshot that it began with; the genesis: it began with the first event. */
  began: Link;
  /** The configuration that each node had announced last, after `began`. */
  configs: ReadonlyMap<NodeId, Readonly<{ configHash: ConfigHash; position: Position }>>;
}>;

/** How far to read: up to a position, or to what was recorded by a time. */
export type LogTarget = Readonly<{ position: Position } | { at: UnixMs }>;

export type LogReading = Readonly<{
  /** @throws BrokerUnavailableError */
  read: (after: Link, limit: number) => Promise<PageOutcome>;
  /** Events that retention has dropped, from directly after a link; null: no broker has them. */
  archived: (after: Link) => Promise<readonly Uint8Array[] | null>;
  /** The newest snapshot that is not later than the target; null: none is held. */
  snapshot: () => Promise<Readonly<{ projection: Projection; link: Link }> | null>;
  onProgress: (progress: Readonly<{ position: Position; head: Position; at: UnixMs }>) => void;
  signal: AbortSignal;
}>;

const pageEvents = 1_000;

/** @throws LogUnreachableError */
export async function readLogAt(
  target: LogTarget,
  { read, archived, snapshot, onProgress, signal }: LogReading,
): Promise<LogAtTime> {
  const began = await snapshot();
  const projection = began?.projection ?? new Projection();
  const first = began?.link ?? genesis;
  const places = new FactPositions(first.position);
  const configs = new Map<NodeId, Readonly<{ configHash: ConfigHash; position: Position }>>();
  let link = first;
  const isLater = ({ recordedAt, position }: Recorded): boolean =>
    "at" in target ? recordedAt > target.at : position > target.position;
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
    if ("position" in target && link.position === target.position)
      return { projection, places, link, began: first, configs };
    const { events, head } = await readEventsAfter(link, { read, archived }, pageEvents);
    const later = events.findIndex(isLater);
    for (const recorded of later < 0 ? events : events.slice(0, later)) fold(recorded);
    if (projection.degraded !== undefined)
      throw new LogUnreachableError(`this build cannot read an event of the log: ${projection.degraded}`);
    const last = events.at(-1);
    if (last !== undefined) onProgress({ position: link.position, head, at: last.recordedAt });
    if (later >= 0 || events.length === 0) return { projection, places, link, began: first, configs };
  }
}

/**
 * The events after a link, from the log or from the archive; none: it is the end. An archive answers with a whole
 * block, whatever the limit. @throws LogUnreachableError
 */
export async function readEventsAfter(
  after: Link,
  { read, archived }: Pick<LogReading, "read" | "archived">,
  limit: number,
): Promise<Readonly<{ events: readonly Recorded[]; head: Position }>> {
  const outcome = await read(after, limit);
  if (outcome.type === "page") {
    const { previous, entries, head } = outcome.page;
    return { events: decodeEvents(entries, previous), head: head.position };
  }
  if (outcome.type !== "truncated")
    throw new LogUnreachableError(`the log cannot be read from ${formatLink(after)}: ${outcome.type}`);
  const entries = await archived(after);
  if (entries === null || entries.length === 0) throw new LogUnreachableError(missing(after, outcome.first));
  return { events: decodeEvents(entries, after), head: outcome.first };
}

function missing(after: Link, first: Position): string {
  const events = `${after.position + 1} to ${first - 1}`;
  const from =
    after.position === 0 ? "no snapshot that the brokers still have is older" : `they follow ${formatLink(after)}`;
  return (
    `retention has dropped the events ${events}, and no broker has them in its archive (${from}). A longer \`broker.archive\`, ` +
    "or more `broker.archive_max_bytes`, would have kept them: restore a backup of that time, and ask there"
  );
}
