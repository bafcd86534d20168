/**
 * Past log: the state of the log at an earlier position or time, for access reports and explanations.
 *
 * It folds the log into a projection of its own, so in each process one report and one explanation at a time read it;
 * others are refused. A report may take ten minutes, and an explanation does not wait for it.
 */
import {
  type LogAtTime,
  type LogTarget,
  LogUnreachableError,
  type PastConfiguration,
  readLogAt,
  readStoredConfiguration,
} from "../../../audit/index.ts";
import { type ConfigHash, noPosition, type Position, previousPosition, type UnixMs } from "../../../events/index.ts";
import type { HistoryPage, HistoryRequest } from "../../../replication/log/index.ts";
import {
  type EventBlock,
  EventBlockError,
  linkInBlock,
  SnapshotCorruptError,
  SnapshotRefusedError,
} from "../../../replication/snapshot/index.ts";
import type { OperatorApiDeps } from "../operator-route.ts";

export type PastProgress = Readonly<{ position: Position; head: Position; at: UnixMs }>;

export type PastJob = "report" | "explanation";

export type PastLog = Readonly<{
  /** Runs a job, alone of its kind; undefined: another one runs. */
  alone<T>(kind: PastJob, job: () => Promise<T>): Promise<T> | undefined;
  /** @throws LogUnreachableError, BrokerUnavailableError */
  stateAt(
    target: LogTarget,
    how: Readonly<{ onProgress: (progress: PastProgress) => void; signal: AbortSignal }>,
  ): Promise<LogAtTime>;
  /**
   * As the databroker answers, continued in the archive below the position where the log begins.
   * @throws LogUnreachableError, BrokerUnavailableError
   */
  history(request: HistoryRequest): Promise<HistoryPage>;
  /** Undefined: its text is not stored. @throws BrokerUnavailableError, MalformedConfigBodyError */
  configuration(configHash: ConfigHash): Promise<PastConfiguration | undefined>;
}>;

export function createPastLog({ databroker, archive }: Pick<OperatorApiDeps, "databroker" | "archive">): PastLog {
  const running: Record<PastJob, boolean> = { report: false, explanation: false };
  return {
    alone(kind, job) {
      if (running[kind]) return undefined;
      running[kind] = true;
      return job().finally(() => {
        running[kind] = false;
      });
    },
    stateAt: (target, how) =>
      readLogAt(target, {
        ...how,
        read: (after, limit) => databroker.read(after, { limit, waitMs: 0, signal: how.signal }),
        archived: async (after) => (archive === undefined ? null : checkArchive(archive.eventsAfter(after))),
        snapshot: async () => (archive === undefined ? null : checkArchive(archive.snapshotUpTo(target, how.signal))),
      }),
    async history(request) {
      const page = await databroker.history(request);
      if (archive === undefined || page.base === 0 || page.damagedAt !== null) return page;
      // Below the beginning of the log each page is one block.
      const isBelow = request.upTo <= page.base;
      const block = await checkArchive(archive.blockAt(isBelow ? request.upTo : page.base));
      if (block === null) return page;
      return isBelow ? pageOf(block, request) : { ...page, base: noPosition };
    },
    async configuration(configHash) {
      const stored = await databroker.configuration(configHash);
      return stored === undefined ? undefined : readStoredConfiguration(stored);
    },
  };
}

function pageOf(block: EventBlock, { streams, upTo, depth }: HistoryRequest): HistoryPage {
  const searchedTo = Math.max(block.after.position, upTo - depth) as Position;
  const wanted = new Set<string>(streams);
  const found = block.events.flatMap(({ stream, position }, i) => {
    const previous = linkInBlock(block, previousPosition(position));
    const bytes = block.entries[i];
    const isAsked = position > searchedTo && position <= upTo && wanted.has(stream);
    return isAsked && previous !== undefined && bytes !== undefined ? [{ previous, bytes }] : [];
  });
  return { at: linkInBlock(block, upTo) ?? null, found, searchedTo, base: noPosition, damagedAt: null };
}

/** What a broker sent is refused as it is: the past cannot be read from it. */
export async function checkArchive<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (cause) {
    const isBad =
      cause instanceof EventBlockError ||
      cause instanceof SnapshotRefusedError ||
      cause instanceof SnapshotCorruptError;
    throw isBad ? new LogUnreachableError(cause.message, { cause }) : cause;
  }
}
