/** Change view: a row of the timeline as an operator sees it, with names, its sentence, and what would undo it. */
import type { GroupId, Link, Stream, UnixMs, UserId } from "../../../events/index.ts";
import { parseStream } from "../../../events/index.ts";
import type { Replica } from "../../../replication/index.ts";
import { actorNames, type ChangeValues, changeSentences, finalTexts, undoTexts } from "../../text/console/changes.ts";
import { profileOfUser } from "../operator-views.ts";
import type { ChangeView, FoldedView } from "./change-schemas.ts";
import type { TimelineRow } from "./timeline.ts";

export type ChangeViewParts = Readonly<{
  replica: Replica;
  /** The name of an identity provider; null: none of this configuration. */
  providerName: (idpId: string) => string | null;
  /** What every node enforces; null: not known. */
  enforced: EnforcedByAll | null;
}>;
/** A node of an earlier epoch may be at a later position, of events that a failover has lost. */
export type EnforcedByAll = Pick<Link, "epoch" | "position">;

const subjectsShown = 20;
const textCharsMax = 500;
const iso = (at: UnixMs | number): string => new Date(at).toISOString();

export function viewRow(row: TimelineRow, parts: ChangeViewParts): ChangeView | FoldedView {
  if (row.type === "folded") {
    const { counts, newest, first } = row;
    return { folded: counts, position: newest.position, first, at: iso(newest.recordedAt) };
  }
  const { main, same, first, last, count } = row;
  const { replica, enforced } = parts;
  const actor = describeActor(main.actor, replica);
  const people = [...new Set(same.flatMap(({ described }) => described.people))];
  const subjects = subjectsOf(row, people, replica);
  const values = valuesOf(row, { people, actor: actor.name, parts });
  const undo = undoOf(row, { people, replica });
  const isAct = main.actor.startsWith("operator:");
  return {
    position: last,
    first,
    epoch: main.epoch,
    hash: main.hash,
    at: iso(main.recordedAt),
    type: main.type,
    effect: main.effect,
    actor,
    subjects: subjects.slice(0, subjectsShown),
    subjectCount: subjects.length,
    cause: main.cause,
    sentence: { key: row.described.key, values },
    text: changeSentences[row.described.key](values),
    count,
    undo: "does" in undo ? undo : null,
    final: "does" in undo || !isAct ? null : undo.final,
    receipt: main.cause === null || enforced === null ? null : isEnforced(row, enforced) ? "complete" : "incomplete",
  };
}

const isEnforced = ({ main, last }: ChangeRow, { epoch, position }: EnforcedByAll): boolean =>
  epoch >= main.epoch && position >= last;

/** An actor of the log: `user:ID`, `operator:ID`, `operator:NAME#TOKEN`, `service:…` or `system`. */
export function describeActor(actor: string, replica: Replica): ChangeView["actor"] {
  const [, kind = "", id = ""] = /^([^:]*):(.*)$/s.exec(actor) ?? [];
  if (kind === "user" || kind === "operator") {
    const token = id.lastIndexOf("#");
    if (kind === "operator" && token >= 0) return { kind: "token", id: id.slice(token + 1), name: id.slice(0, token) };
    return { kind: "person", id, name: nameOfPerson(id as UserId, replica) };
  }
  if (kind !== "service") return { kind: "system", id: actor, name: actorNames.system };
  const [, of = "", named = ""] = /^(\w+)\/([^#]*)/s.exec(id) ?? [];
  const name = of === "directory" || of === "scim" || of === "signals" ? actorNames[of](named) : actorNames.system;
  return { kind: "service", id, name };
}

export function nameOfPerson(userId: UserId, replica: Replica): string {
  const user = replica.projection.user(userId);
  if (user?.status === "erased") return actorNames.erased(userId.slice(0, 4));
  const profile = profileOfUser(replica, userId);
  return profile?.name || profile?.email || actorNames.person(userId.slice(0, 8));
}

const nameOfGroup = (groupId: GroupId, replica: Replica): string => replica.projection.group(groupId)?.name || groupId;

function subjectsOf(
  { main, described }: ChangeRow,
  people: readonly UserId[],
  replica: Replica,
): ChangeView["subjects"] {
  const subjects: ChangeView["subjects"] = people.map((id) => ({ kind: "user", id, name: nameOfPerson(id, replica) }));
  if (described.group !== null)
    subjects.push({ kind: "group", id: described.group, name: nameOfGroup(described.group, replica) });
  const { kind, id } = parseStream(main.stream as Stream);
  const isNamed = kind === "user" || kind === "group" || kind === "cluster";
  return isNamed ? subjects : [...subjects, { kind, id, name: id }];
}

type ChangeRow = Extract<TimelineRow, { type: "change" }>;

function valuesOf(
  { described, count, same }: ChangeRow,
  { people, actor, parts }: Readonly<{ people: readonly UserId[]; actor: string; parts: ChangeViewParts }>,
): ChangeValues {
  const { replica, providerName } = parts;
  const { values, group } = described;
  const [person] = people;
  return {
    actor,
    person: people.length === 1 && person !== undefined ? nameOfPerson(person, replica) : "",
    peopleCount: people.length,
    count: described.key === "expired" || described.key === "seen" ? sizeOf(same) : count,
    group: group === null ? "" : nameOfGroup(group, replica),
    addedCount: values.addedCount ?? 0,
    removedCount: values.removedCount ?? 0,
    provider: values.idpId === undefined ? "" : (providerName(values.idpId) ?? ""),
    node: values.node ?? "",
    reason: (values.reason ?? "").slice(0, textCharsMax),
    until: values.until === undefined ? "" : iso(values.until),
    name: (values.name ?? "").slice(0, textCharsMax),
    number: values.number ?? 0,
  };
}

function sizeOf(same: ChangeRow["same"]): number {
  return same.reduce((sum, { recorded: { event } }) => sum + ("sessionIds" in event ? event.sessionIds.length : 0), 0);
}

type Undo = NonNullable<ChangeView["undo"]>;

/** What would undo an operator's act as things are now, or why nothing does. */
function undoOf(
  row: ChangeRow,
  { people, replica }: Readonly<{ people: readonly UserId[]; replica: Replica }>,
): Undo | Readonly<{ final: string | null }> {
  const { main, described, count } = row;
  if (described.final !== null) return { final: finalTexts[described.final] };
  if (!main.actor.startsWith("operator:") || count !== 1) return { final: null };
  const { event } = main;
  if (event.type === "UserSuspended") return undoSuspension(event.userId, replica);
  if (event.type !== "GroupMembersChanged" || event.source !== "operator") return { final: null };
  const [person] = people;
  if (people.length !== 1 || person === undefined) return { final: null };
  const { groupId, added } = event;
  const membership = replica.projection.membership(person, groupId);
  const isAddition = added.length === 1;
  const stands = isAddition ? membership?.sources.includes("operator") : membership?.excluded;
  if (stands !== true || replica.projection.user(person)?.status === "erased") return { final: finalTexts.superseded };
  const names = { person: nameOfPerson(person, replica), group: nameOfGroup(groupId, replica) };
  const verb = isAddition ? "remove" : "add";
  return {
    operation: `POST /groups/${inPath(groupId)}/members`,
    body: { [verb]: [person] },
    command: `cardea groups ${verb} ${quoted(groupId)} ${quoted(person)}`,
    does: undoTexts[verb](names),
  };
}

function undoSuspension(userId: UserId, replica: Replica): Undo | Readonly<{ final: string }> {
  if (replica.projection.user(userId)?.status !== "suspended") return { final: finalTexts.superseded };
  return {
    operation: `POST /users/${inPath(userId)}/restore`,
    body: {},
    command: `cardea users restore ${quoted(userId)}`,
    does: undoTexts.restore({ person: nameOfPerson(userId, replica) }),
  };
}

/** As `nameIn` reads it. */
const inPath = (name: string): string =>
  /^[A-Za-z0-9@._-]+$/.test(name) ? name : `base64url:${Buffer.from(name, "utf8").toString("base64url")}`;

/** For a shell. */
const quoted = (text: string): string =>
  /^[A-Za-z0-9@._:/-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
