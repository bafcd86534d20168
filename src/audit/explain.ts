/**
 * Explain: the reason for a past decision: its record, and the events of the log that set the facts it depended on.
 *
 * - The record names the link at which it was decided. The log must contain that link, and every event that is shown
 *   must have its original hash.
 * - A contradiction between record and log is listed in `broken`; the explanation then proves nothing. What can no
 *   longer be found out is listed in `open`.
 * - Pure, apart from the function that reads the log.
 */
import type { DecisionRecord, FactTrace } from "../auth/index.ts";
import {
  type CommandId,
  configurationStream,
  decodeEvent,
  describeEvent,
  type Epoch,
  formatLink,
  type Hash,
  type Link,
  MalformedEventError,
  type Position,
  parseStream,
  type Recorded,
  type Stream,
  sameLink,
  sessionStream,
  type UnixMs,
  userStream,
} from "../events/index.ts";
import { type HistoryPage, type HistoryRequest, historyDepthMax } from "../replication/log/index.ts";

/** The event that set a fact, with its actor, time and command. */
export type ExplainedEvent = Readonly<{
  epoch: Epoch;
  position: Position;
  hash: Hash;
  type: string;
  at: UnixMs;
  actor: string;
  cause: CommandId | null;
  /** A description in plain words, without personal data. */
  says: string;
}>;
export type ExplainedFact = FactTrace & Readonly<{ event: ExplainedEvent | null }>;
export type Explained = Readonly<{
  record: DecisionRecord;
  facts: readonly ExplainedFact[];
  /** Contradictions between the record and the log. */
  broken: readonly string[];
  /** What could not be determined, and why. */
  open: readonly string[];
}>;

export type ReadHistory = (request: HistoryRequest) => Promise<HistoryPage>;
/** Pages of history that are searched for events of unknown position. */
const stretchesMax = 1_000;

export async function explainDecision(
  record: DecisionRecord,
  readHistory: ReadHistory,
  options: Readonly<{ mayContinue: () => boolean }>,
): Promise<Explained> {
  const broken: string[] = [];
  const open: string[] = [];
  const { applied } = record;
  const known = record.trace?.facts ?? basicFactsOf(record);
  const userId = known.map(({ fact }) => fact).find((fact) => fact.startsWith("user:")) ?? null;
  const at = await readHistory({ streams: [], upTo: applied.position, depth: 1 });
  if (at.at !== null && !sameLink(at.at, applied))
    broken.push(
      `the decision was made at ${formatLink(applied)}, but the log has ${formatLink(at.at)} at that position`,
    );
  else if (at.at === null && applied.position > at.base)
    broken.push(`the decision was made at ${formatLink(applied)}, which is not in the log`);
  else if (at.at === null) open.push(`the log begins after ${at.base}: retention removed the position of the decision`);

  const facts: ExplainedFact[] = [];
  const sought: FactTrace[] = [];
  for (const fact of known) {
    if (fact.fact.startsWith("record:") || (fact.exact && fact.position === 0)) facts.push({ ...fact, event: null });
    else if (fact.exact && fact.position !== null) facts.push(await explainAt(fact, fact.position as Position));
    else sought.push(fact);
  }
  if (broken.length === 0) facts.push(...(await search(sought)));
  else facts.push(...sought.map((fact) => ({ ...fact, event: null })));
  const order = new Map(known.map(({ fact }, index) => [fact, index]));
  facts.sort((a, b) => (order.get(a.fact) ?? 0) - (order.get(b.fact) ?? 0));
  const activated = facts.find(({ fact }) => fact === configurationStream(record.node))?.event;
  if (activated !== undefined && activated !== null && !activated.says.includes(record.configHash))
    open.push("the node had last announced another configuration; this one was in force but not announced yet");
  return { record, facts, broken, open };

  /** Looks up the event that the record names. */
  async function explainAt(fact: FactTrace, position: Position): Promise<ExplainedFact> {
    const page = await readHistory({ streams: streamsOf(fact.fact, userId), upTo: position, depth: 1 });
    const event = readIntact(page).find((one) => isSetBy(one, fact.fact, userId));
    if (event !== undefined) return { ...fact, event: describe(event, fact.fact, userId) };
    if (position <= page.base) open.push(`${fact.fact}: retention removed event ${position}`);
    else if (page.damagedAt === null) broken.push(`${fact.fact}: event ${position} does not set it`);
    return { ...fact, event: null };
  }

  /** Searches the history backwards for facts whose exact position is unknown. */
  async function search(facts: readonly FactTrace[]): Promise<readonly ExplainedFact[]> {
    const left = new Map(facts.map((fact) => [fact.fact, fact]));
    const done: ExplainedFact[] = [];
    let upTo = applied.position;
    for (let stretch = 0; left.size > 0; stretch++) {
      const streams = [...new Set([...left.keys()].flatMap((fact) => streamsOf(fact, userId)))].slice(0, 100);
      const page = await readHistory({ streams, upTo, depth: historyDepthMax });
      const events = readIntact(page).toReversed();
      for (const fact of [...left.values()]) {
        const event = events.find((one) => isSetBy(one, fact.fact, userId));
        if (event === undefined) continue;
        done.push({ ...fact, position: event.position, exact: true, event: describe(event, fact.fact, userId) });
        left.delete(fact.fact);
      }
      upTo = page.searchedTo;
      if (page.damagedAt !== null) break;
      if (upTo <= page.base) {
        for (const fact of left.values()) done.push(explainNotFound(fact, page.base));
        return done;
      }
      if (stretch + 1 >= stretchesMax || !options.mayContinue()) break;
    }
    for (const fact of left.values()) {
      open.push(`${fact.fact}: not found down to event ${upTo}, where the search stopped`);
      done.push({ ...fact, event: null });
    }
    return done;
  }

  function explainNotFound(fact: FactTrace, base: Position): ExplainedFact {
    if (base === 0) return { ...fact, position: 0, exact: true, event: null };
    open.push(`${fact.fact}: set at or before event ${base}, which retention removed`);
    return { ...fact, position: base, exact: false, event: null };
  }

  /** The events of a page whose bytes are intact, oldest first. */
  function readIntact({ found, damagedAt }: HistoryPage): readonly Recorded[] {
    if (damagedAt !== null) broken.push(`the log is damaged at event ${damagedAt}`);
    return found.flatMap(({ previous, bytes }) => {
      const recorded = decodeIntact(previous, bytes);
      if (recorded === undefined) broken.push(`event ${previous.position + 1} cannot be read`);
      return recorded === undefined ? [] : [recorded];
    });
  }
}

function decodeIntact(previous: Link, bytes: Uint8Array): Recorded | undefined {
  try {
    return decodeEvent(bytes, previous);
  } catch (error) {
    if (error instanceof MalformedEventError) return undefined;
    throw error;
  }
}

/** The facts that every decision depends on, for a record without a trace. */
function basicFactsOf({ sessionId, userId, node }: DecisionRecord): readonly FactTrace[] {
  const rest = { criteria: [], position: null, exact: false };
  return [
    ...(sessionId === null ? [] : [{ fact: sessionStream(sessionId), ...rest }]),
    ...(userId === null ? [] : [{ fact: userStream(userId), ...rest }]),
    { fact: configurationStream(node), ...rest },
  ];
}

/** The streams of events about a fact; a membership has two. @param user the person's stream */
function streamsOf(fact: string, user: string | null): readonly Stream[] {
  const own = fact as Stream;
  return fact.startsWith("group:") && user !== null ? [own, user as Stream] : [own];
}

/** Whether an event sets the fact when a projection folds it. */
function isSetBy({ event, stream }: Recorded, fact: string, user: string | null): boolean {
  const { kind } = parseStream(fact as Stream);
  if (kind === "group") return isMembershipSetBy(event, fact, user);
  return stream === fact && event.type !== "UserGroupsReplaced";
}

function isMembershipSetBy(event: Recorded["event"], group: string, user: string | null): boolean {
  switch (event.type) {
    case "GroupMembersChanged": {
      const people = [...event.added, ...event.removed].map(userStream);
      return `group:${event.groupId}` === group && people.some((one) => one === user);
    }
    case "MembershipsExpired":
      return `group:${event.groupId}` === group && event.userIds.map(userStream).some((one) => one === user);
    case "UserGroupsReplaced":
      return userStream(event.userId) === user;
    case "GroupRemoved":
      return `group:${event.groupId}` === group;
    default:
      return false;
  }
}

function describe(recorded: Recorded, fact: string, user: string | null): ExplainedEvent {
  const { epoch, position, hash, type, recordedAt, actor, cause, event } = recorded;
  const says =
    event.type === "Unknown"
      ? "an event of a type that this build does not know"
      : describeEvent(event, { fact, user });
  return { epoch, position, hash, type, at: recordedAt, actor, cause, says };
}
