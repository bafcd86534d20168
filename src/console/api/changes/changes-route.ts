/**
 * Changes: `GET /changes`, the log as a timeline that people read, newest first.
 *
 * - It reads pages of the log from a broker, never this node's projection, and yields after each of them. A call reads
 *   a bounded number of events; `next` continues.
 * - Names are those of now: an erased person has none.
 */
import { LogUnreachableError } from "../../../audit/index.ts";
import {
  type Epoch,
  type Link,
  linkOf,
  type Position,
  type Recorded,
  type Stream,
  sameLink,
  type UnixMs,
  userStream,
} from "../../../events/index.ts";
import type { ClusterStatus, Replica } from "../../../replication/index.ts";
import { changesCsv } from "../lists/list-columns.ts";
import type { CsvWriter } from "../lists/list-csv.ts";
import { badRequest, type OperatorApiDeps, type RegisterRoute } from "../operator-route.ts";
import { findUsers } from "../operator-views.ts";
import { checkArchive } from "../past/past-log.ts";
import { createActivity } from "./activity.ts";
import { type BackwardLogDeps, type BackwardPage, linkAt, positionAt, readAbove, readBelow } from "./backward-log.ts";
import { activitySchema, type ChangesPage, type ChangesQuery, changesSchema } from "./change-schemas.ts";
import { type ChangeViewParts, type EnforcedByAll, viewRow } from "./change-view.ts";
import { isChangeType } from "./describe-change.ts";
import { joinRows, type Known, KnownRows, type RowScan } from "./known-rows.ts";
import { createTimeline, type TimelineFilter, type TimelineRow } from "./timeline.ts";

/** Events that one call reads. */
const eventsMax = 20_000;
/** Blocks of the archive that are followed down to where a call begins. */
const blocksMax = 500;
/** The rows of one page of a file. */
const csvPageRows = 200;
/** Calls that read at once; further ones are refused. */
const readsMax = 8;

export function registerChangeReads(route: RegisterRoute, deps: OperatorApiDeps, sendCsv: CsvWriter): void {
  const turn = (): Promise<void> => deps.sleep(0, new AbortController().signal);
  const activity = createActivity({ feed: deps.feed, turn, now: deps.now });
  route("GET /activity", async (request, reply) => {
    const query = activitySchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    await activity.update();
    return activity.answer(query.data.minutes);
  });
  let reading = 0;
  const known = new KnownRows();
  route("GET /changes", async (request, reply, caller) => {
    const query = changesSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    const filter = filterOf(query.data, deps.replica);
    if ("error" in filter) return reply.code(filter.status).send({ error: filter.error });
    if (reading >= readsMax)
      return reply.code(503).header("retry-after", "1").send({ error: "too many changes are read at once; try again" });
    const ending = new AbortController();
    reply.raw.once("close", () => ending.abort());
    reading += 1;
    try {
      if (query.data.format === "csv") {
        const page = async (next: string | null) => {
          const before = next === null ? query.data.before : (Number(next) as Position);
          const asked = { ...query.data, before, limit: csvPageRows };
          const { changes, next: following } = await readChanges(deps, { query: asked, filter, signal: ending.signal });
          return { items: changes, next: following === null ? null : String(following) };
        };
        return await sendCsv({ request, reply, caller }, { ...changesCsv, page });
      }
      return await readChanges(deps, { query: query.data, filter, signal: ending.signal, known });
    } catch (error) {
      if (!(error instanceof LogUnreachableError)) throw error;
      return reply.code(503).header("retry-after", "1").send({ error: error.message });
    } finally {
      reading -= 1;
    }
  });
}

export type ChangesRead = Readonly<{
  query: Pick<ChangesQuery, "before" | "after" | "limit">;
  filter: TimelineFilter;
  signal: AbortSignal;
  /** What earlier readers of the newest page have read; absent: everything is read. */
  known?: KnownRows;
}>;

/** @throws LogUnreachableError, BrokerUnavailableError */
export async function readChanges(deps: OperatorApiDeps, read: ChangesRead): Promise<ChangesPage> {
  const { query, filter, signal } = read;
  const { applied } = deps.replica;
  const { top, base, missing } = await topOf(deps, read);
  const floor = Math.max(query.after ?? 0, 0);
  const scanned: Scan = { deps, filter, floor, limit: query.limit, signal };
  const isNewest = query.before === undefined && query.after === undefined && isUnfiltered(filter);
  const scan =
    read.known !== undefined && top !== null && isNewest
      ? await scanNewest(scanned, top, read.known)
      : await scanBelow(scanned, top, base);
  const status = await deps.databroker.status().catch(() => undefined);
  const parts: ChangeViewParts = {
    replica: deps.replica,
    providerName: (idpId) => deps.providers.nameOf(idpId),
    enforced: enforcedByAll(status),
  };
  return {
    changes: scan.rows.map((row) => viewRow(row, parts)),
    next: scan.next,
    searchedTo: scan.next === null ? Math.max(floor, scan.searchedTo) : scan.next - 1,
    head: applied.position,
    base: scan.base,
    missing: missing ?? scan.missing,
    applied: { epoch: applied.epoch, position: applied.position, hash: applied.hash },
  };
}

/** `top` null: there is nothing, or it cannot be read, for the reason in `missing`. */
type Top = Readonly<{ top: Link | null; base: Position; missing: string | null }>;

/** Where to begin: the newest event that the query allows. */
async function topOf(
  deps: BackwardLogDeps & Pick<OperatorApiDeps, "replica" | "now">,
  { query, filter, signal }: ChangesRead,
): Promise<Top> {
  const { applied } = deps.replica;
  const before = Math.min(applied.position, query.before === undefined ? applied.position : query.before - 1);
  if (before <= 0) return { top: null, base: 0 as Position, missing: null };
  if (before === applied.position && filter.toMs === null) return { top: applied, base: 0 as Position, missing: null };
  const { link, base } = await linkAt(deps, before as Position);
  if (filter.toMs === null || filter.toMs >= deps.now()) return belowBase(deps, { link, base, before }, signal);
  const found = await positionAt(deps, filter.toMs as UnixMs, { base, head: before as Position, signal });
  const at = await linkAt(deps, found);
  return belowBase(deps, { link: at.link, base, before: found }, signal);
}

/**
 * A position that the log has dropped: the archive is followed down from where the log begins, block by block, because
 * a block found by its position alone does not prove that it belongs to this log.
 */
async function belowBase(
  deps: BackwardLogDeps,
  { link, base, before }: Readonly<{ link: Link | null; base: Position; before: number }>,
  signal: AbortSignal,
): Promise<Top> {
  if (link !== null || before > base) return { top: link, base, missing: null };
  let at = (await linkAt(deps, base)).link;
  for (let blocks = 0; at !== null && at.position > before && blocks < blocksMax; blocks++) {
    signal.throwIfAborted();
    const block = deps.archive === undefined ? null : await checkArchive(deps.archive.eventsUpTo(at));
    if (block === null) return { top: null, base, missing: whyMissing(at) };
    const found = block.events.find(({ position }) => position === before);
    at = found === undefined ? block.after : linkOf(found);
  }
  const top = at?.position === before ? at : null;
  return { top, base, missing: top === null ? "older changes are too far back in the archive" : null };
}

type Scan = Readonly<{
  deps: BackwardLogDeps & Pick<OperatorApiDeps, "sleep">;
  filter: TimelineFilter;
  floor: number;
  limit: number;
  signal: AbortSignal;
  /** Gets the first event that is read. */
  onNewest?: (recorded: Recorded) => void;
}>;

const isUnfiltered = ({ types, actors, subjects, fromMs, toMs, folds }: TimelineFilter): boolean =>
  [types, actors, subjects, fromMs, toMs].every((part) => part === null) && folds;

/** The newest page: what is known of it, below the events that have been recorded since. */
async function scanNewest(scan: Scan, top: Link, known: KnownRows): Promise<RowScan> {
  const { limit } = scan;
  const before = known.find(limit, top);
  const joined = before === null ? null : await scanSince(scan, top, before);
  if (joined !== null) {
    known.keep({ top, cause: joined.cause, limit, scan: joined.scan });
    return joined.scan;
  }
  let cause: string | null = null;
  const onNewest = (recorded: Recorded): void => {
    cause = recorded.cause;
  };
  const whole = await scanBelow({ ...scan, onNewest }, top, 0 as Position);
  known.keep({ top, cause, limit, scan: whole });
  return whole;
}

/** Null: what is known is of another history, or the two parts do not join. */
async function scanSince(
  { deps, filter, limit, signal }: Scan,
  top: Link,
  before: Known,
): Promise<Readonly<{ scan: RowScan; cause: string | null }> | null> {
  const { link, base } = await linkAt(deps, before.top.position);
  const isSameLog = link !== null && sameLink(link, before.top) && base === before.scan.base;
  if (!isSameLog || top.position - before.top.position > eventsMax) return null;
  const timeline = createTimeline(filter);
  const rows: TimelineRow[] = [];
  let { cause } = before;
  let oldest: string | null = null;
  let at = top;
  while (at.position > before.top.position) {
    const { events, below } = await readAbove(deps, { top: at, floor: before.top }, signal);
    if (at === top) cause = events[0]?.cause ?? null;
    for (const recorded of events) rows.push(...timeline.push(recorded));
    oldest = events.at(-1)?.cause ?? null;
    at = below;
    await deps.sleep(0, signal).catch(() => undefined);
  }
  if (oldest !== null && oldest === before.cause) return null; // one command on both sides
  return { scan: joinRows([...rows, ...timeline.end()], before.scan, limit), cause };
}

async function scanBelow(scan: Scan, top: Link | null, base: Position): Promise<RowScan> {
  const { deps, filter, floor, limit, signal, onNewest } = scan;
  const { fromMs } = filter;
  const timeline = createTimeline(filter);
  const rows: TimelineRow[] = [];
  let [link, read, lowest] = [top, 0, base];
  while (link !== null) {
    const page: BackwardPage = await readBelow(deps, link, signal);
    const [newest] = page.events;
    if (read === 0 && newest !== undefined) onNewest?.(newest);
    lowest = page.base;
    for (const recorded of page.events) {
      const isOver = recorded.position <= floor || (fromMs !== null && recorded.recordedAt < fromMs);
      if (isOver)
        return {
          rows: [...rows, ...timeline.end()],
          next: null,
          searchedTo: recorded.position,
          base: lowest,
          missing: null,
        };
      rows.push(...timeline.push(recorded));
      if (rows.length >= limit) {
        const openFrom = timeline.openFrom();
        const next = openFrom === null ? recorded.position : openFrom + 1;
        return { rows, next: next <= 1 ? null : next, searchedTo: next - 1, base: lowest, missing: null };
      }
    }
    read += page.events.length;
    if (page.events.length === 0)
      return {
        rows: [...rows, ...timeline.end()],
        next: null,
        searchedTo: link.position,
        base: lowest,
        missing: whyMissing(link),
      };
    link = page.below;
    if (read >= eventsMax && link !== null) {
      const openFrom = timeline.openFrom();
      // A command with more events than one call reads is shown as far as it was read.
      const isTorn = openFrom !== null && rows.length > 0;
      const more = isTorn ? [] : timeline.end();
      const next = isTorn ? openFrom + 1 : link.position + 1;
      return { rows: [...rows, ...more], next, searchedTo: next - 1, base: lowest, missing: null };
    }
    await deps.sleep(0, signal).catch(() => undefined);
  }
  return { rows: [...rows, ...timeline.end()], next: null, searchedTo: 0, base: lowest, missing: null };
}

const whyMissing = ({ position }: Link): string =>
  `retention has dropped the events up to ${position}, and no broker has them in its archive`;

/** The oldest epoch and the oldest position that a node which is not fenced enforces; null: unknown. */
function enforcedByAll(status: ClusterStatus | undefined): EnforcedByAll | null {
  if (status === undefined) return null;
  let [epoch, position]: [Epoch | null, Position | null] = [null, null];
  for (const { enforced, fencedInMs } of status.nodes) {
    if (fencedInMs !== null && fencedInMs <= 0) continue;
    if (enforced === null) return null;
    epoch = epoch === null || enforced.epoch < epoch ? enforced.epoch : epoch;
    position = position === null || enforced.position < position ? enforced.position : position;
  }
  return epoch === null || position === null ? null : { epoch, position };
}

type FilterProblem = Readonly<{ status: 400 | 404; error: string }>;

function filterOf(query: ChangesQuery, replica: Replica): TimelineFilter | FilterProblem {
  const { type, actor, subject, from, to, fold } = query;
  const types = type?.split(",").filter((each) => each !== "") ?? [];
  const unknown = types.find((each) => !isChangeType(each));
  if (unknown !== undefined) return { status: 400, error: `type: there is no type or area ${JSON.stringify(unknown)}` };
  const actors = actor === undefined ? null : actorsNamed(actor, replica);
  const subjects = subject === undefined ? null : subjectsNamed(subject, replica);
  if (actors?.size === 0 || subjects?.length === 0)
    return {
      status: 404,
      error: `no user matches ${JSON.stringify(actors?.size === 0 ? actor : subject)} (user id, subject or e-mail)`,
    };
  return {
    types: types.length === 0 ? null : new Set(types),
    actors,
    subjects,
    fromMs: from === undefined ? null : Date.parse(from),
    toMs: to === undefined ? null : Date.parse(to),
    folds: fold ?? (types.length === 0 && subject === undefined),
  };
}

/** An actor as the log names it, or a person. */
function actorsNamed(name: string, replica: Replica): ReadonlySet<string> {
  if (/^(?:service:|system$|operator:|user:)/.test(name)) {
    const person = /^(?:operator|user):([^#]*)$/.exec(name)?.[1];
    return new Set(person === undefined ? [name] : [`operator:${person}`, `user:${person}`]);
  }
  return new Set(findUsers(replica, name, "any").flatMap((id) => [`operator:${id}`, `user:${id}`]));
}

function subjectsNamed(name: string, replica: Replica): readonly Stream[] {
  if (/^(?:user|group|session|device|service-account|configuration|signal-stream|cluster):./.test(name))
    return [name as Stream];
  return findUsers(replica, name, "any").map(userStream);
}
