/**
 * Write and end provisioned user: a SCIM client or a directory creates, changes, deactivates or deletes a person. Pure.
 *
 * - Each change names the version of the record that it replaces. A change of another version is refused.
 * - The end of a person's access also ends the sessions of everybody who correlates. It leaves their own status alone,
 *   so that a restore by the client never lifts a suspension by an operator.
 * - A record whose correlating key changes moves to another user, with its memberships. The earlier user points to it
 *   and shares its state.
 */
import { hash as digestOf } from "node:crypto";
import {
  type CardeaEvent,
  directoryOf,
  encode,
  endsSubject,
  type GroupId,
  groupStream,
  isDirectoryClient,
  isDirectoryName,
  isScimClientName,
  isSuspendedUntil,
  levelOfClient,
  noPosition,
  type Profile,
  type Projection,
  parsePosition,
  parseProvisioned,
  parseUserId,
  type Stream,
  sourceOfClient,
  type UserId,
  userStream,
} from "../../../events/index.ts";
import type { Access } from "../access.ts";
import type { CommandDefinition, CommandOf, Submitter } from "../definition.ts";
import {
  type Fields,
  fieldsOf,
  integerOf,
  linkAt,
  listIn,
  MalformedCommandError,
  parseProfileFields,
  textOf,
} from "../fields.ts";
import {
  type NewKey,
  nothing,
  type Performed,
  recordChanges,
  refuseCommand,
  refuseLostBasis,
  type Tools,
} from "../performed.ts";
import { openProfile, sameProfile, sealerFor } from "../profile-seal.ts";
import { groupsFrom, replaceGroups } from "../session/session-parts.ts";
import { erasedUser } from "../user/refusals.ts";
import { groupsFromAll } from "./provisioned-parts.ts";

type Write = Omit<CommandOf<"writeProvisionedUser">, "type">;

/** Both say what the client or directory wants of the person now, so an end that waits is about something else. */
const answers = ({ userId }: Write) => ({ subject: endsSubject, users: [userId] });

export const writeProvisionedUser: CommandDefinition<"writeProvisionedUser"> = {
  schema: (fields) => ({ type: "writeProvisionedUser", ...parseWrite(fields) }),
  permission: ["authenticate", "duty"],
  isPermitted: isOfSubmitter,
  access: accessOfWrite,
  answers,
  person: ({ userId }) => userId,
  perform: (projection, command, tools) => performWrite(projection, command, { tools, isActive: true }),
};

export const endProvisionedUser: CommandDefinition<"endProvisionedUser"> = {
  schema: (fields) => ({ type: "endProvisionedUser", ...parseWrite(fields) }),
  permission: ["authenticate", "duty"],
  isPermitted: isOfSubmitter,
  tightens: true,
  access: accessOfWrite,
  answers,
  person: ({ userId }) => userId,
  perform: (projection, command, tools) => performWrite(projection, command, { tools, isActive: false }),
};

const versionMax = Number.MAX_SAFE_INTEGER;
const versionOf = (fields: Fields): number => integerOf(fields, "expected", { min: 0, max: versionMax });

function parseWrite(fields: Fields): Write {
  const movedFrom = fields["movedFrom"] === null ? null : fieldsOf(fields["movedFrom"], "movedFrom");
  return {
    userId: parseUserId(fields["userId"]),
    client: parseClient(fields),
    expected: versionOf(fields),
    profile: parseRecordProfile(fields),
    people: listIn(fields, "people").map(parseUserId),
    aliases: listIn(fields, "aliases").map(parseUserId),
    movedFrom: movedFrom && {
      userId: parseUserId(movedFrom["userId"]),
      expected: versionOf(movedFrom),
      profile: parseRecordProfile(movedFrom),
    },
    ...(fields["basis"] === undefined ? {} : { basis: parsePosition(fields["basis"]) }),
    ...(fields["basisLink"] === undefined ? {} : { basisLink: linkAt(fields["basisLink"], fields["basis"]) }),
  };
}

export function parseClient(fields: Fields): string {
  const client = textOf(fields, "client");
  const isKnown = isDirectoryClient(client) ? isDirectoryName(directoryOf(client)) : isScimClientName(client);
  if (!isKnown) throw new MalformedCommandError("not the name of a SCIM client or a directory");
  return client;
}

/** The duty of the leader writes for directories, and for nothing else. */
export function isOfSubmitter(role: Submitter, { client }: Readonly<{ client: string }>): boolean {
  return isDirectoryClient(client) === (role === "duty");
}

function parseRecordProfile(fields: Fields): Write["profile"] {
  const profile = parseProfileFields(fields["profile"]);
  if (parseProvisioned(profile)?.client !== fields["client"] && fields["client"] !== undefined)
    throw new MalformedCommandError("the profile has no record of the client");
  if (parseProvisioned(profile) === undefined) throw new MalformedCommandError("the profile has no record");
  return profile;
}

/** The stream of a user name of a client, which ignores case. Null: the record has no name. */
export function nameStreamOf(client: string, profile: Profile): Stream | null {
  const name = parseProvisioned(profile)?.record.resource?.["userName"];
  if (typeof name !== "string") return null;
  const digest = digestOf("sha256", encode(["cardea user name", client, name.toLowerCase()]), "hex");
  return `cluster:name:${digest}`;
}

function accessOfWrite(
  { userId, client, profile, people, aliases, movedFrom, basis }: Write,
  projection: Projection,
): Access {
  const moved = movedFrom === null ? [] : [movedFrom.userId];
  const users = [userId, ...people, ...aliases, ...moved];
  const groups = users.flatMap((id): Stream[] => groupsFromAll(projection, id).map(groupStream));
  const name = basis === undefined ? null : nameStreamOf(client, profile);
  return { reads: groups, writes: [...users.map(userStream), ...(name === null ? [] : [name])] };
}

function performWrite(
  projection: Projection,
  command: Write,
  { tools, isActive }: Readonly<{ tools: Tools; isActive: boolean }>,
): Performed {
  if (projection.level < levelOfClient(command.client)) return belowLevel(projection.level, command.client);
  const { userId, movedFrom, profile } = command;
  const source = sourceOfClient(command.client);
  if (projection.user(userId)?.status === "erased") return erasedUser;
  const own = versionNow(projection, userId, { client: command.client, tools });
  const before = movedFrom && versionNow(projection, movedFrom.userId, { client: command.client, tools });
  const isCurrent = own === command.expected && (movedFrom === null || before === movedFrom.expected);
  if (!isCurrent) return refuseCommand("conflict", "the resource has changed");
  const ofLost = refuseLostBasis(command.basisLink, tools);
  if (ofLost !== undefined) return ofLost;
  const name = command.basis === undefined ? null : nameStreamOf(command.client, profile);
  if (name !== null && tools.isNameClaimed?.(name, { userId, basis: command.basis ?? noPosition }) === true)
    return refuseCommand("conflict", "the user name may have been given to another person meanwhile");
  const isDeleted = parseProvisioned(profile)?.record.resource === null;
  const newKeys: NewKey[] = [];
  const events: CardeaEvent[] = [
    ...recordEvents(projection, command, { tools, newKeys }),
    ...moveEvents(projection, command, { tools, newKeys }),
    ...stateEvents(projection, command, isActive),
    ...(isDeleted ? [userId, ...command.people].flatMap((id) => replaceGroups(projection, id, [], source)) : []),
  ];
  if (events.length === 0) return nothing;
  const ended = events.filter((event) => event.type === "UserSessionsRevoked");
  return recordChanges(events, {
    newKeys,
    vaultRemoved: ended.flatMap((event) => projection.sessionsOf(event.userId)),
  });
}

type Sealing = Readonly<{ tools: Tools; newKeys: NewKey[] }>;

function recordEvents(
  projection: Projection,
  { userId, profile }: Pick<Write, "userId" | "profile">,
  { tools, newKeys }: Sealing,
): CardeaEvent[] {
  const sealer = sealerFor(userId, tools);
  const known = openProfile(projection.user(userId)?.profile, sealer.person);
  if (sameProfile(known, profile)) return [];
  newKeys.push(...sealer.newKeys);
  return [{ type: "UserUpserted", userId, profile: sealer.seal(profile) }];
}

function moveEvents(projection: Projection, { userId, movedFrom, client }: Write, sealing: Sealing): CardeaEvent[] {
  if (movedFrom === null) return [];
  const source = sourceOfClient(client);
  const held: readonly GroupId[] = groupsFrom(source, projection, movedFrom.userId);
  return [
    ...recordEvents(projection, movedFrom, sealing),
    ...replaceGroups(projection, userId, held, source),
    ...replaceGroups(projection, movedFrom.userId, [], source),
  ];
}

/** The state of the record's users, and the sessions of the people who correlate. */
function stateEvents(projection: Projection, command: Write, isActive: boolean): CardeaEvent[] {
  const { userId, aliases, movedFrom, people, client } = command;
  const users = new Set([userId, ...aliases, ...(movedFrom === null ? [] : [movedFrom.userId])]);
  const events: CardeaEvent[] = [];
  for (const id of users) {
    const user = projection.user(id);
    const status = user?.status ?? "active";
    // An operator's suspension with an end does not say that the client or directory has deactivated the person.
    if (!isActive && status !== "erased" && !isSuspendedUntil(user, undefined))
      events.push({ type: "UserSuspended", userId: id, reason: notActive(client) });
    if (isActive && status === "suspended") events.push({ type: "UserRestored", userId: id });
  }
  if (isActive) return events;
  for (const id of new Set(people)) events.push(...endSessions(projection, id));
  return events;
}

export function notActive(client: string): string {
  return isDirectoryClient(client)
    ? `not active in directory ${directoryOf(client)}`
    : `not active at SCIM client ${client}`;
}

/** Ends the sessions of a person, if there are any. */
export function endSessions(projection: Projection, userId: UserId): CardeaEvent[] {
  const live = projection.sessionsOf(userId).some((id) => projection.sessionStatus(id).status === "active");
  return live ? [{ type: "UserSessionsRevoked", userId, upTo: null, reason: "identity-provider" }] : [];
}

/** The version of a record at the head; 0: none. A record that cannot be read matches no expectation. */
function versionNow(
  projection: Projection,
  userId: UserId,
  { client, tools }: Readonly<{ client: string; tools: Tools }>,
): number {
  const sealed = projection.user(userId)?.profile;
  if (sealed === undefined || sealed === null) return 0;
  const person = tools.personKeyOf(userId);
  const known = person && parseProvisioned(openProfile(sealed, person));
  return known?.client === client ? known.record.version : -1;
}

export function belowLevel(level: number, client: string): Performed {
  const remedy = "upgrade every broker and node, then run `cardea cluster finalize`";
  const what = isDirectoryClient(client) ? "directory sync" : "SCIM";
  return refuseCommand(
    "conflict",
    `the cluster is at level ${level}, and ${what} needs level ${levelOfClient(client)}: ${remedy}`,
  );
}
