/**
 * Preview: the people, sessions and routes that a change would concern, computed from this node's copy of the log. It
 * makes no change and writes nothing to the log.
 */
import { parseGroupId, parseStream, type UserId } from "../../../events/index.ts";
import type { RouteChanges, RouteLosses } from "../held/route-losses.ts";
import { findRouteChanges } from "../held/route-losses.ts";
import { startTurns } from "../lists/turns.ts";
import { badRequest, type Operator, type OperatorApiDeps, type RegisterRoute, tryParse } from "../operator-route.ts";
import { timeBoxEnd } from "../operator-schemas.ts";
import { profileOfUser } from "../operator-views.ts";
import { eachUser, findAtHead, type NameProblem, oneUser, sendNameProblem } from "../person-names.ts";
import { authorizeCommand, confirmationFor } from "../roles/authorize-command.ts";
import { groupsIn, scopeFor } from "../roles/operator-roles.ts";
import { sessionsMatching, sessionsNamed } from "../session-choice.ts";
import { type Affected, affectedBy, type Planned, type PreviewedCommand } from "./planned-change.ts";
import { commandLine, confirmationOf, isFinal, roleOf } from "./preview-facts.ts";
import { type Preview, type PreviewCommand, previewSchema } from "./preview-schemas.ts";

const namedMax = 100;
const bodyBytesMax = 1024 * 1024;
const nothing: RouteLosses = { routes: [], moreRoutes: 0, people: [], morePeople: 0, unchecked: 0 };

type Problem = NameProblem | Readonly<{ status: 400; error: string }>;

export function registerPreview(route: RegisterRoute, deps: OperatorApiDeps): void {
  route(
    "POST /preview",
    async (request, reply, caller) => {
      const body = previewSchema.safeParse(request.body ?? {});
      if (!body.success) return badRequest(reply, body.error);
      const planned = await plan(deps, body.data.command);
      if ("status" in planned)
        return planned.status === 400
          ? reply.code(400).send({ error: planned.error })
          : sendNameProblem(reply, planned as NameProblem);
      return await previewOf(deps, caller, planned);
    },
    { bodyBytesMax },
  );
}

/** The change with its people and sessions found. */
async function plan(deps: OperatorApiDeps, given: PreviewCommand): Promise<Planned | Problem> {
  switch (given.type) {
    case "revokeSessions": {
      if ((given.sessionIds === undefined) === (given.filter === undefined))
        return { status: 400, error: "give either sessionIds or a filter" };
      const chosen =
        given.sessionIds === undefined ? sessionsMatching(deps, given.filter ?? {}) : sessionsNamed(given.sessionIds);
      if ("error" in chosen) return { status: 400, error: chosen.error };
      const { sessionIds, more } = chosen;
      return { given, more, command: { type: "revokeSessions", sessionIds, reason: "operator" } };
    }
    case "changeGroupMembers": {
      const { group, add, remove, until, forMs, reason } = given;
      const groupId = tryParse(parseGroupId, group);
      const end = timeBoxEnd({ until, forMs }, deps.now());
      if (groupId === undefined) return { status: 400, error: "not a group id" };
      if (typeof end === "string") return { status: 400, error: end };
      const added = await findAtHead(deps, () => eachUser(deps.replica, add, "verified"));
      if ("error" in added) return added;
      const removed = await findAtHead(deps, () => eachUser(deps.replica, remove, "any"));
      if ("error" in removed) return removed;
      const people = { added: added.userIds, removed: removed.userIds };
      const why = reason === undefined ? {} : { reason };
      const command = { type: "changeGroupMembers", groupId, source: "operator", ...people, ...end, ...why } as const;
      return { given, more: false, command };
    }
    case "removeGroup": {
      const groupId = tryParse(parseGroupId, given.group);
      if (groupId === undefined) return { status: 400, error: "not a group id" };
      return { given, more: false, command: { type: "removeGroup", groupId } };
    }
    default:
      return await planOfUser(deps, given);
  }
}

async function planOfUser(
  deps: OperatorApiDeps,
  given: Exclude<PreviewCommand, { type: "revokeSessions" | "changeGroupMembers" | "removeGroup" }>,
): Promise<Planned | Problem> {
  const emails = given.type === "restoreUser" || given.type === "eraseUser" ? "verified" : "any";
  const userId = await findAtHead(deps, () => oneUser(deps.replica, given.user, emails));
  if (typeof userId !== "string") return userId;
  switch (given.type) {
    case "revokeUserSessions":
      return { given, more: false, command: { type: "revokeUserSessions", userId, reason: "operator" } };
    case "suspendUser": {
      const { until, forMs } = given;
      const end = timeBoxEnd({ until, forMs }, deps.now());
      if (typeof end === "string") return { status: 400, error: end };
      const reason = given.reason ?? "operator";
      return { given, more: false, command: { type: "suspendUser", userId, reason, ...end } };
    }
    case "restoreUser":
      return { given, more: false, command: { type: "restoreUser", userId } };
    case "eraseUser":
      return { given, more: false, command: { type: "eraseUser", userId } };
  }
}

async function previewOf(deps: OperatorApiDeps, caller: Operator, planned: Planned): Promise<Preview> {
  const basis = deps.replica.applied;
  const turns = startTurns(deps);
  const affected = await affectedBy(deps, caller, planned, turns);
  const { sessions, liveSessions, effect, people } = affected;
  const changes: RouteChanges = await findRouteChanges(deps, affected.access);
  const isCut = planned.command.type === "revokeSessions" || planned.command.type === "revokeUserSessions";
  const routes = isCut ? { lost: nothing, gained: nothing, cut: changes.lost } : { ...changes, cut: nothing };
  const all = planned.given.type === "revokeSessions" && planned.given.filter?.all === true;
  const typed = confirmationFor(deps, caller, planned.command, { all })?.expected ?? null;
  const refused = authorizeCommand(deps, caller, planned.command, {
    all,
    ...(typed === null ? {} : { confirm: typed }),
  });
  const role = refused?.role ?? roleOf(planned.command);
  return {
    people: people.length,
    named: people.slice(0, namedMax).map((userId) => namedPerson(deps, userId)),
    sessions,
    liveSessions,
    more: planned.more,
    routes: routes as Preview["routes"],
    self: selfEffect(deps, caller, planned.command, affected),
    final: isFinal(planned.command),
    refusal: effect.refusal,
    changes: effect.changes,
    held: effect.held,
    role,
    may: refused === undefined && scopeFor(caller.grants, role) === null,
    confirm:
      typed === null ? confirmationOf(planned, { sessions, name: nameOfTarget(deps, planned) }) : { level: 3, typed },
    cli: commandLine(planned.given),
    basis,
  };
}

function namedPerson({ replica }: OperatorApiDeps, userId: UserId): Preview["named"][number] {
  const profile = profileOfUser(replica, userId);
  return { userId, email: profile?.email ?? "", name: profile?.name ?? "" };
}

/** What a person types to confirm: a name that the page shows. */
function nameOfTarget({ replica }: OperatorApiDeps, { command }: Planned): string {
  if (command.type === "removeGroup") return command.groupId;
  if (command.type !== "eraseUser") return "";
  const profile = profileOfUser(replica, command.userId);
  return profile?.email || command.userId;
}

/** Whether a change ends the caller's own session or role. */
function selfEffect(
  { roles }: Pick<OperatorApiDeps, "roles">,
  { person, reads }: Operator,
  { type }: PreviewedCommand,
  { access, endedSessions }: Affected,
): Preview["self"] {
  if (person === undefined) return "none"; // a token depends on no person
  const { userId } = person;
  const isBarred = type === "suspendUser" || type === "eraseUser";
  if (isBarred && access.ended.includes(userId)) return "access";
  const named = new Set(groupsIn(roles()));
  if ((access.groups.get(userId) ?? []).some((group) => named.has(group))) return "access";
  const own = reads.map(parseStream).find(({ kind }) => kind === "session");
  return own?.kind === "session" && endedSessions.has(own.id) ? "session" : "none";
}
