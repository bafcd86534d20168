/** Operator changes of people: revoke their sessions, suspend, restore, erase. */
import { type Command, parseCommandId, parseProvisioned, type UserId } from "../events/index.ts";
import { sendFailure, submitChange, submitCommand } from "./operator-changes.ts";
import {
  badRequest,
  nameIn,
  type OperatorApiDeps,
  type RegisterRoute,
  requireOperator,
  tryParse,
} from "./operator-route.ts";
import { suspendSchema, timeBoxEnd } from "./operator-schemas.ts";
import { profileOfUser } from "./operator-views.ts";
import { findAtHead, oneUser, sendNameProblem } from "./person-names.ts";

type UserVerb = "sessions/revoke" | "restore";

export function registerUserChanges(route: RegisterRoute, deps: OperatorApiDeps): void {
  const onUser = (verb: UserVerb, emails: "any" | "verified", command: (userId: UserId) => Command): void => {
    route(`POST /users/:user/${verb}`, async (request, reply, { actor }) => {
      const name = nameIn((request.params as { user: string }).user);
      const found = await findAtHead(deps, () => oneUser(deps.replica, name, emails));
      if (typeof found !== "string") return sendNameProblem(reply, found);
      return submitChange(deps, request, reply, actor, command(found));
    });
  };
  onUser("sessions/revoke", "any", (userId) => ({ type: "revokeUserSessions", userId, reason: "operator" }));
  onUser("restore", "verified", (userId) => ({ type: "restoreUser", userId }));
  route("POST /users/:user/suspend", async (request, reply, { actor }) => {
    const name = nameIn((request.params as { user: string }).user);
    const found = await findAtHead(deps, () => oneUser(deps.replica, name, "any"));
    if (typeof found !== "string") return sendNameProblem(reply, found);
    const body = suspendSchema.safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const { reason = "operator", until, forMs, ...wait } = body.data;
    const end = timeBoxEnd({ until, forMs }, deps.now());
    if (typeof end === "string") return reply.code(400).send({ error: end });
    return submitChange(deps, request, reply, actor, { type: "suspendUser", userId: found, reason, ...end }, wait);
  });
  registerErase(route, deps);
}

function registerErase(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("POST /users/:user/erase", async (request, reply, { actor }) => {
    const name = nameIn((request.params as { user: string }).user);
    const found = await findAtHead(deps, () => oneUser(deps.replica, name, "verified"));
    if (typeof found !== "string") return sendNameProblem(reply, found);
    // What SCIM clients say about the person goes first: without the person's profile it could not be found again.
    for (const userId of provisionedOf(deps, found)) {
      const commandId = tryParse(parseCommandId, deps.uuid());
      if (commandId === undefined || (await requireOperator(deps, request, reply)) === undefined) return reply;
      const result = await submitCommand(deps, { commandId, actor, command: { type: "eraseUser", userId } });
      if (result.type !== "done") return sendFailure(reply, result);
    }
    return submitChange(deps, request, reply, actor, { type: "eraseUser", userId: found });
  });
}

/** The provisioned people that correlate with a person who signs in, those that a record has moved to included. */
function provisionedOf({ replica, provisionedFor }: OperatorApiDeps, userId: UserId): readonly UserId[] {
  const profile = profileOfUser(replica, userId);
  const found = new Set(profile === undefined ? [] : provisionedFor?.(profile));
  for (const each of found) {
    const movedTo = parseProvisioned(profileOfUser(replica, each))?.record.movedTo;
    if (movedTo !== undefined && movedTo !== null) found.add(movedTo);
  }
  return [...found].filter((each) => replica.projection.user(each) !== undefined);
}
