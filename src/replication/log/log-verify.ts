/**
 * Log verifier: reads a log from end to end and reports where it first becomes inconsistent.
 *
 * - Pure: takes pages and returns a verdict. It relies only on bytes, never on columns or links that the store reports.
 * - Positions are dense, hashes chain, and versions within a stream are 1, 2, 3 ….
 * - Epochs never decrease, and each begins with its own EpochOpened.
 * - The links that the store reports for pages and epoch starts match the bytes.
 *
 * It keeps one number per stream, so a log of more than 16 million streams does not fit (a `Map` ends at 2^24).
 */
import {
  decodeEvent,
  type Fact,
  formatLink,
  genesis,
  type Link,
  linkOf,
  nextPosition,
  type Position,
  type Recorded,
  type Stream,
  sameLink,
} from "../../events/index.ts";
import { type EpochStart, type EventLog, LogDamagedError, type LogPage, LogUnavailableError } from "./log.ts";
import { pageEventsMax } from "./log-rules.ts";

export type LogVerdict =
  /**
   * `start`: the link before the first verified event. It is the genesis unless retention or a restore has cut the log.
   */
  | Fact<"intact", { start: Link; events: number; last: Link; epochs: readonly EpochStart[] }>
  /** `after` is the last intact link; `position` is where the log breaks. */
  | Fact<"broken", { after: Link; position: Position; problem: string }>;

export type VerifyOptions = Readonly<{
  /**
   * The link before the first page. A log cut by retention begins after the link of a snapshot. Default: the genesis.
   */
  start?: Link;
  /** The epochs that the store reports, to be compared with the events. */
  epochs?: readonly EpochStart[];
}>;

/** Verifies pages in order. `createLogVerifier` verifies one page at a time. */
export async function verifyChain(
  pages:
    | AsyncIterable<Pick<LogPage, "previous" | "entries" | "last">>
    | Iterable<Pick<LogPage, "previous" | "entries" | "last">>,
  options: VerifyOptions = {},
): Promise<LogVerdict> {
  const verifier = createLogVerifier(options);
  for await (const page of pages) {
    const verdict = verifier.take(page);
    if (verdict !== undefined) return verdict;
  }
  return verifier.finish();
}

/**
 * Verifies a log by reading it, and narrows a break down to its one event.
 * @param from where to begin; by default where the kept log begins
 * @throws LogUnavailableError when a read fails
 */
export async function verifyLog(log: Pick<EventLog, "read" | "epochs" | "base">, from?: Link): Promise<LogVerdict> {
  const start = from ?? (await log.base());
  const epochs = await log.epochs();
  const verdict = await verifyChain(readPages(log, start, pageEventsMax), { start, epochs }).catch(damageIn);
  if (verdict.type === "intact") return verdict;
  const exact = await verifyChain(readPages(log, verdict.after, 1), { start: verdict.after }).catch(damageIn);
  return exact.type === "broken" && exact.position > verdict.position ? exact : verdict;
}

/** The store itself reports where it is damaged. */
function damageIn(error: unknown): LogVerdict {
  if (!(error instanceof LogDamagedError)) throw error;
  const { after, message } = error;
  return { type: "broken", after, position: nextPosition(after.position), problem: message };
}

async function* readPages(log: Pick<EventLog, "read">, start: Link, limit: number): AsyncGenerator<LogPage> {
  for (let after = start; ; ) {
    const outcome = await log.read(after, limit);
    if (outcome.type !== "page")
      throw new LogUnavailableError(`the log cannot be read from ${formatLink(after)}: ${outcome.type}`);
    if (outcome.page.entries.length === 0) return;
    yield outcome.page;
    after = outcome.page.last;
  }
}

export type LogVerifier = Readonly<{
  /** @returns the first break; undefined while there is none */
  take(page: Pick<LogPage, "previous" | "entries" | "last">): LogVerdict | undefined;
  finish(): LogVerdict;
}>;

export function createLogVerifier(options: VerifyOptions = {}): LogVerifier {
  const start = options.start ?? genesis;
  const wholeLog = start.position === 0;
  const versions = new Map<Stream, number>();
  const opened: EpochStart[] = [];
  let at = start;
  let broken: LogVerdict | undefined;

  function take(page: Pick<LogPage, "previous" | "entries" | "last">): LogVerdict | undefined {
    if (broken !== undefined) return broken;
    if (!sameLink(page.previous, at)) return fail("the page does not begin where the previous one ended");
    for (const bytes of page.entries) {
      let recorded: Recorded;
      try {
        recorded = decodeEvent(bytes, at);
      } catch (error) {
        return fail(error instanceof Error ? error.message : "not an event");
      }
      const problem = problemOf(recorded);
      if (problem !== undefined) return fail(problem);
      at = linkOf(recorded);
    }
    if (!sameLink(page.last, at)) {
      // The bytes chain with each other, so the break is only known to be on this page.
      at = page.previous;
      return fail("the stored hash does not match the events on this page");
    }
    return undefined;
  }

  function problemOf(recorded: Recorded): string | undefined {
    const { event, epoch, stream, version } = recorded;
    if (event.type === "EpochOpened") {
      if (epoch === at.epoch) return `epoch ${epoch} is opened a second time`;
      if (event.epoch !== epoch) return `EpochOpened of epoch ${event.epoch} is written in epoch ${epoch}`;
      opened.push({ epoch, incarnation: event.incarnation, start: recorded.position });
    } else if (epoch !== at.epoch) {
      return `epoch ${epoch} does not begin with EpochOpened`;
    }
    const before = versions.get(stream) ?? (wholeLog ? 0 : undefined);
    versions.set(stream, version);
    return before === undefined || version === before + 1
      ? undefined
      : `version ${version} of stream ${stream} does not follow ${before}`;
  }

  function finish(): LogVerdict {
    if (broken !== undefined) return broken;
    for (const epoch of options.epochs ?? []) {
      if (epoch.start <= start.position || epoch.start > at.position) continue;
      const found = opened.find((o) => o.start === epoch.start);
      if (found?.epoch !== epoch.epoch || found.incarnation !== epoch.incarnation) {
        return failAt(epoch.start, `the epoch table says that epoch ${epoch.epoch} (${epoch.incarnation}) begins here`);
      }
    }
    const missing = options.epochs && opened.find((o) => !options.epochs?.some((e) => e.start === o.start));
    if (missing) return failAt(missing.start, `epoch ${missing.epoch} is not in the epoch table`);
    return { type: "intact", start, events: at.position - start.position, last: at, epochs: opened };
  }

  function fail(problem: string): LogVerdict {
    return failAt(nextPosition(at.position), problem);
  }
  function failAt(position: Position, problem: string): LogVerdict {
    broken = { type: "broken", after: at, position, problem };
    return broken;
  }
  return { take, finish };
}
