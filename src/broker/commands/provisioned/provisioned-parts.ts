/**
 * Provisioned parts: how a person who signs in gets what SCIM clients and directories say about the person. Pure.
 *
 * The leader looks at the provisioned people at its head, so a deactivation that it has recorded denies every later
 * sign-in, whatever the sender knows.
 */
import {
  type CardeaEvent,
  directoriesFrom,
  type GroupId,
  groupStream,
  type Projection,
  parseProvisioned,
  parseUserId,
  provisionedFrom,
  type Stream,
  type UserId,
  userStream,
} from "../../../events/index.ts";
import { type Fields, listIn, MalformedCommandError } from "../fields.ts";
import { type Performed, refuseCommand, type Tools } from "../performed.ts";
import { openProfile } from "../profile-seal.ts";
import { groupsFrom, replaceGroups } from "../session/session-parts.ts";

/** One per SCIM client and key that correlates. */
const correlatedMax = 64;
/** A record moves each time its key changes. */
const movesMax = 64;

export type Directory = Readonly<{
  /** The refusal of a sign-in; undefined: none. */
  barred: Performed | undefined;
  /** The groups for the person, by source; null: nothing that gives such groups is configured. */
  groups: Readonly<Record<ProvisionedSource, readonly GroupId[] | null>>;
}>;

export const provisionedSources = ["scim", "directory"] as const;
export type ProvisionedSource = (typeof provisionedSources)[number];

export function parseProvisionedIds(fields: Fields): Readonly<{ provisioned?: readonly UserId[] }> {
  if (fields["provisioned"] === undefined) return {};
  const provisioned = listIn(fields, "provisioned").map(parseUserId);
  if (provisioned.length > correlatedMax) throw new MalformedCommandError("too many provisioned people");
  return { provisioned };
}

/** The streams that `findProvisioned` reads, and the groups that a person may leave. */
export function provisionedReads(
  provisioned: readonly UserId[] | undefined,
  userId: UserId,
  projection: Projection,
): readonly Stream[] {
  if (provisioned === undefined) return [];
  const groups = [userId, ...provisioned].flatMap((id) => groupsFromAll(projection, id));
  return [...provisioned.map(userStream), ...groups.map(groupStream)];
}

export function findProvisioned(
  projection: Projection,
  provisioned: readonly UserId[] | undefined,
  tools: Pick<Tools, "personKeyOf">,
): Directory {
  if (provisioned === undefined || projection.level < provisionedFrom)
    return { barred: undefined, groups: { scim: null, directory: null } };
  const groups = { scim: new Set<GroupId>(), directory: new Set<GroupId>() };
  let barred: Performed | undefined;
  for (const userId of withMoves(projection, provisioned, tools)) {
    const status = projection.user(userId)?.status;
    if (status === "suspended") barred ??= refuseCommand("suspended", "the directory says that the user is not active");
    if (status === "erased") barred ??= refuseCommand("erased", "the user is erased");
    for (const source of provisionedSources)
      for (const groupId of groupsFrom(source, projection, userId)) groups[source].add(groupId);
  }
  const directory = projection.level < directoriesFrom ? null : [...groups.directory];
  return { barred, groups: { scim: [...groups.scim], directory } };
}

/** The groups of a person from SCIM clients and directories. */
export function groupsFromAll(projection: Projection, userId: UserId): readonly GroupId[] {
  return provisionedSources.flatMap((source) => groupsFrom(source, projection, userId));
}

/** The groups that provisioned people give replace those that they gave before, if they differ. */
export function replaceProvisionedGroups(
  projection: Projection,
  userId: UserId,
  groups: Directory["groups"],
): CardeaEvent[] {
  return provisionedSources.flatMap((source) => replaceGroups(projection, userId, groups[source], source));
}

/** The provisioned people and, where a record has moved, the users that have it now. */
function withMoves(
  projection: Projection,
  provisioned: readonly UserId[],
  tools: Pick<Tools, "personKeyOf">,
): ReadonlySet<UserId> {
  const found = new Set(provisioned);
  for (const userId of found) {
    const sealed = projection.user(userId)?.profile;
    if (sealed === undefined || sealed === null || found.size > correlatedMax + movesMax) continue;
    const person = tools.personKeyOf(userId);
    const movedTo = person && parseProvisioned(openProfile(sealed, person))?.record.movedTo;
    if (movedTo !== undefined && movedTo !== null) found.add(movedTo);
  }
  return found;
}
