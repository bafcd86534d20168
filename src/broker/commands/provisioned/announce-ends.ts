/**
 * Announce ends: a SCIM client or a directory says whose access it is about to end in one batch, before it ends the
 * first one. Pure.
 *
 * - The batch is judged whole. Below the limit nothing is recorded, and the sender ends the people one by one, with
 *   commands of their own that are never held.
 * - Above it the announcement is held. A release ends the access of these people at once; the sender's repetition then
 *   finds them ended and brings its records up to date.
 *
 * Why so: docs/adr/0050-mass-changes-are-held.md.
 */
import {
  endsSubject,
  isSuspendedUntil,
  massChangeFrom,
  type Projection,
  parseUserId,
  type UserId,
  userStream,
} from "../../../events/index.ts";
import type { CommandDefinition, CommandOf } from "../definition.ts";
import { integerOf, listIn } from "../fields.ts";
import { nothing, recordChanges } from "../performed.ts";
import { endSessions, isOfSubmitter, notActive, parseClient } from "./write-provisioned-user.ts";

export const announceEnds: CommandDefinition<"announceEnds"> = {
  // `isReleased` is not read: only the release of a held change sets it.
  schema: (fields) => ({
    type: "announceEnds",
    client: parseClient(fields),
    users: listIn(fields, "users").map(parseUserId),
    people: listIn(fields, "people").map(parseUserId),
    losing: integerOf(fields, "losing", { min: 0, max: Number.MAX_SAFE_INTEGER }),
    ...(fields["isWhole"] === true ? { isWhole: true } : {}),
  }),
  permission: ["authenticate", "duty"],
  isPermitted: isOfSubmitter,
  access({ users, people, isReleased }) {
    const streams = [...users, ...people].map(userStream);
    return isReleased === true ? { reads: [], writes: streams } : { reads: streams, writes: [] };
  },
  holdable: {
    subject: () => endsSubject,
    mayTake: () => true,
    isWhole: ({ isWhole }) => isWhole === true,
    announced: ({ losing }) => losing,
    ending: ({ users }, projection) => users.filter((userId) => isActive(projection, userId)),
    people: ({ users, people }) => ({ added: people, removed: users }),
    withPeople: (command, { added, removed }) => ({ ...command, people: added, users: removed }),
    atRelease: (command) => ({ ...command, isReleased: true }),
  },
  perform(projection, command) {
    if (command.isReleased !== true || projection.level < massChangeFrom) return nothing;
    const ended = [...new Set(command.people)].flatMap((userId) => endSessions(projection, userId));
    return recordChanges([...suspensions(projection, command), ...ended], {
      vaultRemoved: ended.flatMap((event) =>
        event.type === "UserSessionsRevoked" ? projection.sessionsOf(event.userId) : [],
      ),
    });
  },
};

/** A person that the log does not know yet may correlate with one who signs in. */
function isActive(projection: Projection, userId: UserId): boolean {
  return (projection.user(userId)?.status ?? "active") === "active";
}

function suspensions(projection: Projection, { users, client }: CommandOf<"announceEnds">) {
  return [...new Set(users)]
    .filter((userId) => {
      const user = projection.user(userId);
      return user !== undefined && user.status !== "erased" && !isSuspendedUntil(user, undefined);
    })
    .map((userId) => ({ type: "UserSuspended", userId, reason: notActive(client) }) as const);
}
