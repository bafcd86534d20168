/** Operator changes of people: revoke their sessions, suspend, restore, erase. */
import { type Command, type Link, parseCommandId, type UserId } from "../../events/index.ts";
import { confirmErasure, type ErasureReport, reportErasure } from "./erasure-report.ts";
import {
  type ChangeAnswer,
  isChange,
  sendFailure,
  sendRefusal,
  submitChange,
  submitCommand,
} from "./operator-changes.ts";
import {
  badRequest,
  nameIn,
  type OperatorApiDeps,
  type RegisterRoute,
  requireOperator,
  tryParse,
} from "./operator-route.ts";
import { suspendSchema, timeBoxEnd, waitSchema } from "./operator-schemas.ts";
import { findAtHead, oneUser, sendNameProblem } from "./person-names.ts";
import { authorizeCommand } from "./roles/authorize-command.ts";

/** `recordLinks`: the erasures of what SCIM clients had recorded. */
export type EraseAnswer = ChangeAnswer & Readonly<{ erasure: ErasureReport; recordLinks: readonly Link[] }>;

type UserVerb = "sessions/revoke" | "restore" | "refresh";

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
  onUser("refresh", "any", (userId) => ({ type: "requestRefresh", userId }));
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
  route("GET /users/:user/erasure", async (request, reply) => {
    const name = nameIn((request.params as { user: string }).user);
    const found = oneUser(deps.replica, name, "verified");
    if (typeof found !== "string") return sendNameProblem(reply, found);
    return reportErasure(deps, found);
  });

  route("POST /users/:user/erase", async (request, reply, { actor }) => {
    const name = nameIn((request.params as { user: string }).user);
    const found = await findAtHead(deps, () => oneUser(deps.replica, name, "verified"));
    if (typeof found !== "string") return sendNameProblem(reply, found);
    const body = waitSchema.safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const caller = await requireOperator(deps, request, reply);
    if (caller === undefined) return reply;
    const refusal = authorizeCommand(deps, caller, { type: "eraseUser", userId: found }, body.data);
    if (refusal !== undefined) return sendRefusal(reply, refusal);
    // The report and the records of SCIM clients go first: without the person's profile they could not be found again.
    const report = await reportErasure(deps, found);
    const links: Link[] = [];
    for (const { userId, kind } of report.people) {
      if (kind === "person") continue;
      const commandId = tryParse(parseCommandId, deps.uuid());
      if (commandId === undefined || (await requireOperator(deps, request, reply)) === undefined) return reply;
      const result = await submitCommand(deps, { commandId, actor, command: { type: "eraseUser", userId } });
      if (result.type !== "done") return sendFailure(reply, result);
      if (result.changed) links.push(result.link);
    }
    const answer = await submitChange(deps, request, reply, actor, { type: "eraseUser", userId: found });
    if (!isChange(answer)) return answer;
    return { ...answer, erasure: confirmErasure(report), recordLinks: links } satisfies EraseAnswer;
  });
}
