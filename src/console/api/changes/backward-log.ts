/**
 * Backward log: the events of the log from a position downwards, newest first, in pages that chain to a known link.
 *
 * - A page is read forwards from the link below it, as every reader reads. Its last event must have the link that is
 *   known at its top, so no page of another history is shown.
 * - Below the position where the log begins, the archive of the brokers continues, as far as it goes.
 */
import { LogUnreachableError } from "../../../audit/index.ts";
import {
  decodeEvents,
  formatLink,
  genesis,
  type Link,
  linkOf,
  type Position,
  type Recorded,
  sameLink,
  type UnixMs,
} from "../../../events/index.ts";
import type { Databroker } from "../../../replication/index.ts";
import type { LogArchive } from "../../../replication/snapshot/index.ts";
import { checkArchive } from "../past/past-log.ts";

export type BackwardLogDeps = Readonly<{ databroker: Pick<Databroker, "history" | "read">; archive?: LogArchive }>;

/** One page, newest first. `below`: the link of the event before it; null: nothing older can be read. */
export type BackwardPage = Readonly<{ events: readonly Recorded[]; below: Link | null; base: Position }>;

/** Decoding a page takes about a millisecond. */
const pageEvents = 250;

/** The link at a position; null: it is above the head, or was dropped. @throws BrokerUnavailableError */
export async function linkAt(
  { databroker }: Pick<BackwardLogDeps, "databroker">,
  upTo: Position,
): Promise<Readonly<{ link: Link | null; base: Position }>> {
  const { at, base } = await databroker.history({ streams: [], upTo, depth: 1 });
  if (upTo < base) return { link: null, base };
  return { link: upTo === 0 ? genesis : at, base };
}

/** The events up to a link, at least one of them unless the log ends there. @throws LogUnreachableError */
export async function readBelow(deps: BackwardLogDeps, top: Link, signal: AbortSignal): Promise<BackwardPage> {
  if (top.position === 0) return { events: [], below: null, base: 0 as Position };
  const from = Math.max(0, top.position - pageEvents) as Position;
  const { link: floor, base } = await linkAt(deps, from);
  if (floor === null) return readAtBase(deps, { top, base }, signal);
  return { events: await readBetween(deps, floor, top, signal), below: floor.position === 0 ? null : floor, base };
}

/** The newest events above a link, up to another one. @throws LogUnreachableError */
export async function readAbove(
  deps: BackwardLogDeps,
  { top, floor }: Readonly<{ top: Link; floor: Link }>,
  signal: AbortSignal,
): Promise<Readonly<{ events: readonly Recorded[]; below: Link }>> {
  const from = Math.max(floor.position, top.position - pageEvents) as Position;
  const below = from === floor.position ? floor : (await linkAt(deps, from)).link;
  if (below === null) throw new LogUnreachableError(`the log dropped events up to ${from} meanwhile; ask again`);
  return { events: await readBetween(deps, below, top, signal), below };
}

/** The page at which the log begins, or one of the archive below it. */
async function readAtBase(
  deps: BackwardLogDeps,
  { top, base }: Readonly<{ top: Link; base: Position }>,
  signal: AbortSignal,
): Promise<BackwardPage> {
  if (top.position > base) {
    const { link: floor } = await linkAt(deps, base);
    if (floor === null) throw new LogUnreachableError(`the log dropped events up to ${base} meanwhile; ask again`);
    return { events: await readBetween(deps, floor, top, signal), below: floor, base };
  }
  const block = deps.archive === undefined ? null : await checkArchive(deps.archive.eventsUpTo(top));
  if (block === null) return { events: [], below: null, base };
  const { events, after } = block;
  return { events: events.toReversed(), below: after.position === 0 ? null : after, base };
}

async function readBetween(
  { databroker }: BackwardLogDeps,
  floor: Link,
  top: Link,
  signal: AbortSignal,
): Promise<readonly Recorded[]> {
  const events: Recorded[] = [];
  let last = floor;
  while (last.position < top.position) {
    signal.throwIfAborted();
    const outcome = await databroker.read(last, { limit: top.position - last.position, waitMs: 0, signal });
    if (outcome.type !== "page" || outcome.page.entries.length === 0) break;
    for (const recorded of decodeEvents(outcome.page.entries, last)) {
      if (recorded.position > top.position) break;
      events.push(recorded);
      last = linkOf(recorded);
    }
  }
  if (!sameLink(last, top))
    throw new LogUnreachableError(
      `the log has ${formatLink(last)} where this server has read ${formatLink(top)}: its history has changed; ask again`,
    );
  return events.reverse();
}

/**
 * The newest position that was recorded by a time, between two positions, by bisection. Positions are in the order of
 * the leader's clock. @throws BrokerUnavailableError
 */
export async function positionAt(
  deps: BackwardLogDeps,
  at: UnixMs,
  { base, head, signal }: Readonly<{ base: Position; head: Position; signal: AbortSignal }>,
): Promise<Position> {
  let [low, high] = [base as number, head as number];
  while (low < high) {
    signal.throwIfAborted();
    const middle = Math.floor((low + high) / 2) as Position;
    const next = await eventAfter(deps, middle, signal);
    if (next !== undefined && next.recordedAt <= at) low = middle + 1;
    else high = middle;
  }
  return low as Position;
}

async function eventAfter(
  deps: Pick<BackwardLogDeps, "databroker">,
  position: Position,
  signal: AbortSignal,
): Promise<Recorded | undefined> {
  const { link } = await linkAt(deps, position);
  if (link === null) return undefined;
  const outcome = await deps.databroker.read(link, { limit: 1, waitMs: 0, signal });
  if (outcome.type !== "page") return undefined;
  const [first] = outcome.page.entries;
  return first === undefined ? undefined : decodeEvents([first], link)[0];
}
