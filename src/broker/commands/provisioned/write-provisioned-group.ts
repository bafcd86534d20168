/**
 * Write provisioned group: a SCIM client or a directory creates, changes, renames or deletes a group, or changes its
 * members. Pure.
 *
 * - A group of a client has one owner. Members of other sources, and exclusions by operators, stay as they are.
 * - Only real changes are recorded, so that a change of one member costs one membership, whatever the group's size.
 */
import { isDeepStrictEqual } from "node:util";
import {
  type CardeaEvent,
  deletionSubject,
  evolveMembership,
  type GroupId,
  groupStream,
  levelOfClient,
  type Projection,
  parseGroupId,
  parseUnixMs,
  parseUserId,
  type ScimGroup,
  sourceOfClient,
  type UserId,
  userStream,
} from "../../../events/index.ts";
import type { CommandDefinition, CommandOf } from "../definition.ts";
import { fieldsOf, integerOf, listIn, MalformedCommandError, parseNeededLink, textOf } from "../fields.ts";
import { omitGonePeople } from "../group/change-group-members.ts";
import { recordChanges, refuseCommand, refuseLostBasis } from "../performed.ts";
import type { ProvisionedSource } from "./provisioned-parts.ts";
import { belowLevel, isOfSubmitter, parseClient } from "./write-provisioned-user.ts";

/** Of one event: folding it holds up decisions for less than a millisecond. */
const membersPerEventMax = 250;
const versionMax = Number.MAX_SAFE_INTEGER;

export const writeProvisionedGroup: CommandDefinition<"writeProvisionedGroup"> = {
  schema(fields) {
    const scim = fields["scim"] === null ? null : parseScimGroup(fields["scim"]);
    const client = parseClient(fields);
    if (scim !== null && scim.client !== client) throw new MalformedCommandError("the group is of another client");
    return {
      type: "writeProvisionedGroup",
      groupId: parseGroupId(fields["groupId"]),
      scim,
      client,
      expected: integerOf(fields, "expected", { min: 0, max: versionMax }),
      added: listIn(fields, "added").map(parseUserId),
      removed: listIn(fields, "removed").map(parseUserId),
      renamedFrom: fields["renamedFrom"] === null ? null : parseGroupId(fields["renamedFrom"]),
      ...(fields["isWhole"] === true ? { isWhole: true } : {}),
      ...(fields["losing"] === undefined ? {} : { losing: integerOf(fields, "losing", { min: 0, max: versionMax }) }),
      ...(fields["basisLink"] === undefined ? {} : { basisLink: parseNeededLink(fields["basisLink"]) }),
    };
  },
  permission: ["authenticate", "duty"],
  isPermitted: isOfSubmitter,
  access: ({ groupId, renamedFrom, added, removed }) => ({
    reads: [],
    writes: [
      ...[groupId, ...(renamedFrom === null ? [] : [renamedFrom])].map(groupStream),
      // A sign-in that correlates with one of these people must see the change, or be seen by it.
      ...[...added, ...removed].map(userStream),
    ],
  }),
  holdable: {
    subject: ({ groupId, renamedFrom, scim }) =>
      scim === null
        ? deletionOf(groupId)
        : renamedFrom === null
          ? groupStream(groupId)
          : `rename ${JSON.stringify([renamedFrom, groupId])}`,
    // A client that changes a group, or renames it back, no longer wants it deleted.
    replaces: ({ groupId, scim }) => (scim === null ? [groupStream(groupId)] : [deletionOf(groupId)]),
    mayTake: ({ removed, renamedFrom, scim }) => scim === null || renamedFrom !== null || removed.length > 0,
    announced: ({ losing }) => losing ?? 0,
    isWhole: ({ isWhole, scim }) => isWhole === true || scim === null,
    people: ({ added, removed }) => ({ added, removed }),
    withPeople: (command, people) => ({ ...command, ...people }),
    atRelease: (command, projection) => ({ ...atHead(command, projection), ...omitGonePeople(command, projection) }),
  },
  perform(projection, command, tools) {
    if (projection.level < levelOfClient(command.client)) return belowLevel(projection.level, command.client);
    const ofLost = refuseLostBasis(command.basisLink, tools);
    if (ofLost !== undefined) return ofLost;
    const { groupId, renamedFrom, scim, expected } = command;
    const owned = projection.group(renamedFrom ?? groupId)?.scim;
    const isOwn = owned?.client === command.client && (scim === null || owned.id === scim.id);
    if (expected === 0 ? owned !== undefined : !isOwn || owned.version !== expected)
      return refuseCommand("conflict", "the resource has changed");
    if (renamedFrom !== null && projection.group(groupId)?.scim !== undefined)
      return refuseCommand("conflict", "a SCIM client or a directory has a group of this name");
    for (const userId of command.added)
      if (projection.user(userId) === undefined) return refuseCommand("not-found", `there is no user ${userId}`);
    return recordChanges(
      scim === null ? removalOf(projection, groupId, command.client) : changesOf(projection, command, scim),
    );
  },
};

const deletionOf = (groupId: GroupId): string => deletionSubject(groupStream(groupId));

/** For the version that the group has now; what else the client has said of it since stays. */
function atHead(
  command: CommandOf<"writeProvisionedGroup">,
  projection: Projection,
): CommandOf<"writeProvisionedGroup"> {
  const now = projection.group(command.renamedFrom ?? command.groupId)?.scim;
  if (now === undefined) return command;
  const { scim } = command;
  const next = scim && { ...now, version: now.version + 1, changedAt: scim.changedAt };
  return { ...command, expected: now.version, scim: next };
}

function parseScimGroup(value: unknown): ScimGroup {
  const fields = fieldsOf(value, "scim");
  return {
    client: textOf(fields, "client"),
    id: textOf(fields, "id"),
    externalId: fields["externalId"] === null ? null : textOf(fields, "externalId"),
    version: integerOf(fields, "version", { min: 1, max: versionMax }),
    createdAt: parseUnixMs(fields["createdAt"]),
    changedAt: parseUnixMs(fields["changedAt"]),
  };
}

function changesOf(
  projection: Projection,
  { groupId, renamedFrom, ...change }: CommandOf<"writeProvisionedGroup">,
  scim: ScimGroup,
): CardeaEvent[] {
  const added = new Set(change.added.filter((id) => projection.user(id)?.status !== "erased"));
  const removed = new Set(change.removed.filter((id) => !added.has(id)));
  const source = sourceOfClient(scim.client);
  if (renamedFrom !== null)
    for (const id of membersFrom(source, projection, renamedFrom)) if (!removed.has(id)) added.add(id);
  const named = projection.group(groupId);
  const upsert: CardeaEvent = { type: "GroupUpserted", groupId, name: groupId, scim };
  return [
    ...(isDeepStrictEqual(named?.scim, scim) ? [] : [upsert]),
    ...membershipEvents(projection, groupId, { source, added, removed }),
    ...(renamedFrom === null ? [] : removalOf(projection, renamedFrom, scim.client)),
  ];
}

/** Without a member of another source or an exclusion the group itself goes; a large one empty. */
function removalOf(projection: Projection, groupId: GroupId, client: string): CardeaEvent[] {
  const source = sourceOfClient(client);
  const members = membersFrom(source, projection, groupId);
  const others = [...projection.membersOf(groupId)].some((userId) => {
    const membership = projection.membership(userId, groupId);
    return membership?.excluded === true || membership?.sources.some((each) => each !== source) === true;
  });
  if (!others && members.length <= membersPerEventMax) return [{ type: "GroupRemoved", groupId }];
  return [
    ...membershipEvents(projection, groupId, { source, added: new Set(), removed: new Set(members) }),
    others ? { type: "GroupUpserted", groupId, name: groupId } : { type: "GroupRemoved", groupId },
  ];
}

function membersFrom(source: ProvisionedSource, projection: Projection, groupId: GroupId): readonly UserId[] {
  return [...projection.membersOf(groupId)].filter(
    (userId) => projection.membership(userId, groupId)?.sources.includes(source) === true,
  );
}

function membershipEvents(
  projection: Projection,
  groupId: GroupId,
  change: Readonly<{ source: ProvisionedSource; added: ReadonlySet<UserId>; removed: ReadonlySet<UserId> }>,
): CardeaEvent[] {
  const changes = (userId: UserId, kind: "added" | "removed"): boolean => {
    const before = projection.membership(userId, groupId);
    return !isDeepStrictEqual(before, evolveMembership(before, kind, change.source));
  };
  const added = [...change.added].filter((userId) => changes(userId, "added"));
  const removed = [...change.removed].filter((userId) => changes(userId, "removed"));
  const events: CardeaEvent[] = [];
  for (let from = 0; from < Math.max(added.length, removed.length); from += membersPerEventMax) {
    const part = (all: readonly UserId[]): readonly UserId[] => all.slice(from, from + membersPerEventMax);
    const { source } = change;
    events.push({ type: "GroupMembersChanged", groupId, source, added: part(added), removed: part(removed) });
  }
  return events;
}
