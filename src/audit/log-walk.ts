/**
 * Log walk: the state of the log at positions that only grow, so that decisions in their order are answered from the
 * facts of their time. It folds the log forward once, page by page; its functions are arguments.
 */
import { type Link, linkOf, type Position, type Recorded } from "../events/index.ts";
import { type LogAtTime, type LogReading, LogUnreachableError, readEventsAfter } from "./log-at-time.ts";

export type LogWalk = Readonly<{
  projection: LogAtTime["projection"];
  places: LogAtTime["places"];
  link(): Link;
  /** Folds up to the position, or to the end of the log. @throws LogUnreachableError, BrokerUnavailableError */
  advanceTo(position: Position): Promise<void>;
}>;

export type LogWalkDeps = Pick<LogReading, "read" | "archived" | "signal"> &
  Readonly<{
    /** Lets others run; called often. */
    pause: () => Promise<void>;
  }>;

const pageEvents = 250;
const eventsPerPause = 25;

export function createLogWalk(
  { projection, places, link: first }: Pick<LogAtTime, "projection" | "places" | "link">,
  { read, archived, signal, pause }: LogWalkDeps,
): LogWalk {
  let link = first;
  /** Events that were read and are not folded yet, in their order. */
  let ahead: readonly Recorded[] = [];
  let next = 0;

  async function hasNext(): Promise<boolean> {
    if (next < ahead.length) return true;
    signal.throwIfAborted();
    ({ events: ahead } = await readEventsAfter(link, { read, archived }, pageEvents));
    next = 0;
    return ahead.length > 0;
  }

  return {
    projection,
    places,
    link: () => link,
    async advanceTo(position) {
      for (let folded = 0; link.position < position && (await hasNext()); folded += 1) {
        if (folded % eventsPerPause === 0) await pause();
        const recorded = ahead[next] as Recorded;
        next += 1;
        projection.apply(recorded);
        places.record(recorded);
        link = linkOf(recorded);
        if (projection.degraded !== undefined)
          throw new LogUnreachableError(`this build cannot read an event of the log: ${projection.degraded}`);
      }
    },
  };
}
