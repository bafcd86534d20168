/**
 * Operator API for access requests: who wants access, as operators see it, and by the approvers that a route names.
 *
 * - An operator sees the requests for the routes of the role's scope. An approver without a role sees those for the
 *   routes that name them, and nothing else; what they may not see does not exist for them.
 * - A role that is limited to groups of routes approves what it could add by hand: a group that opens only routes of
 *   its own. What opens others, too, is for the approvers that the route names, and for operators of all routes.
 * - The leader checks the decider's right again, at the head.
 */
import type { FastifyReply, FastifyRequest } from "fastify";
import {
  type AccessDecider,
  type AccessRequest,
  isOpenRequest,
  type Link,
  parseCommandId,
  type UnixMs,
} from "../../../events/index.ts";
import { describeActor } from "../changes/change-view.ts";
import { startTurns } from "../lists/turns.ts";
import { sendRefusal, submitChange } from "../operator-changes.ts";
import {
  badRequest,
  type Operator,
  type OperatorApiDeps,
  type PolicyOfRoute,
  type RegisterRoute,
  tryParse,
} from "../operator-route.ts";
import { profileOfUser } from "../operator-views.ts";
import { outOfScope } from "../roles/authorize-operation.ts";
import { isInScope, type RouteScope, scopeFor } from "../roles/operator-roles.ts";
import { scopeOfGroups } from "../roles/scope-of-groups.ts";
import {
  approveSchema,
  denySchema,
  type RequestDetail,
  type RequestList,
  type RequestsQuery,
  type RequestView,
  requestsSchema,
} from "./request-schemas.ts";

const opensShown = 50;

type Decider = Readonly<{ by: AccessDecider; actor: string }>;

/** One call: who calls, and the routes, which are read once. */
type Call = Readonly<{ deps: OperatorApiDeps; caller: Operator; routes: ReadonlyMap<string, PolicyOfRoute> }>;

function callOf(deps: OperatorApiDeps, caller: Operator): Call {
  return { deps, caller, routes: new Map((deps.routePolicies?.() ?? []).map((route) => [route.id, route])) };
}

export function registerAccessRequests(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("GET /access-requests", async (request, reply, caller): Promise<unknown> => {
    const query = requestsSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    return listRequests(callOf(deps, caller), query.data);
  });

  route("GET /access-requests/:request", async (request, reply, caller): Promise<unknown> => {
    const call = callOf(deps, caller);
    const found = findRequest(call, request);
    if (found === undefined) return unknownRequest(reply);
    const opens = [...call.routes.values()].filter(
      (each) => each.policy.reads.groups.includes(found.groupId) && maySeeOpened(caller, found, each),
    );
    return {
      ...viewRequest(call, found),
      opens: opens.slice(0, opensShown).map(({ id, from, name = "" }) => ({ id, name, from })),
      openCount: opens.length,
      applied: appliedBy(deps),
    } satisfies RequestDetail;
  });

  route("POST /access-requests/:request/approve", async (request, reply, caller) => {
    const body = approveSchema.safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const { until, durationMs, note, ...wait } = body.data;
    const call = callOf(deps, caller);
    const found = findRequest(call, request);
    if (found === undefined) return unknownRequest(reply);
    if (until !== undefined && durationMs !== undefined)
      return reply.code(400).send({ error: "give either until or durationMs" });
    const now = deps.now();
    const end = (until === undefined ? now + (durationMs ?? found.durationMs) : Date.parse(until)) as UnixMs;
    const decider = approverFor(call, found);
    if (decider === null) return refuseDecider(reply);
    if ("beyond" in decider)
      return sendRefusal(reply, { status: 403, error: outOfScope(decider.beyond), code: "out-of-scope" });
    const problem = refuseEnd(call, decider, found, end - now);
    if (problem !== undefined) return reply.code(problem.status).send({ error: problem.error });
    const { by, actor } = decider;
    const decision = { decision: "approved", until: end, note } as const;
    const command = { type: "decideAccessRequest", requestId: found.requestId, by, ...decision } as const;
    return submitChange(deps, request, reply, actor, command, { ...wait, confined: true });
  });

  route("POST /access-requests/:request/deny", async (request, reply, caller) => {
    const body = denySchema.safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const { note, ...wait } = body.data;
    const call = callOf(deps, caller);
    const found = findRequest(call, request);
    if (found === undefined) return unknownRequest(reply);
    const decider = deciderOf(call, found);
    if (decider === null) return refuseDecider(reply);
    const { by, actor } = decider;
    const decision = { decision: "denied", until: null, note } as const;
    const command = { type: "decideAccessRequest", requestId: found.requestId, by, ...decision } as const;
    return submitChange(deps, request, reply, actor, command, { ...wait, confined: true });
  });

  route("POST /access-requests/:request/end", async (request, reply, caller) => {
    const body = denySchema.omit({ note: true }).safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const call = callOf(deps, caller);
    const found = findRequest(call, request);
    if (found === undefined) return unknownRequest(reply);
    const decider = deciderOf(call, found);
    if (decider === null) return refuseDecider(reply);
    const { by, actor } = decider;
    const command = { type: "endAccessRequest", requestId: found.requestId, by } as const;
    return submitChange(deps, request, reply, actor, command, { ...body.data, confined: true });
  });
}

// --- reads

async function listRequests(call: Call, { status, q = "", after, limit }: RequestsQuery): Promise<RequestList> {
  const { deps } = call;
  const { accessRequests } = deps.replica.projection;
  const all = [...accessRequests.open(), ...accessRequests.ended()].filter((each) => isVisible(call, each));
  const pending = all.filter((each) => each.status === "pending").length;
  all.sort((a, b) => b.requestedAt - a.requestedAt || (a.requestId < b.requestId ? -1 : 1));
  const start = after === undefined ? 0 : all.findIndex(({ requestId }) => requestId === after) + 1;
  const words = q
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== "");
  const requests: RequestView[] = [];
  const turns = startTurns(deps);
  for (const each of all.slice(start)) {
    if (!isOfStatus(each, status)) continue;
    await turns.step();
    const view = viewRequest(call, each);
    if (!words.every((word) => textOf(view).includes(word))) continue;
    if (requests.length === limit)
      return { requests, next: requests.at(-1)?.id ?? null, pending, applied: appliedBy(deps) };
    requests.push(view);
  }
  return { requests, next: null, pending, applied: appliedBy(deps) };
}

const textOf = ({ person, route, group }: RequestView): string =>
  [person.name, person.email, route.name, route.from, route.id, group].join("\n").toLowerCase();

function isOfStatus(request: AccessRequest, status: RequestsQuery["status"]): boolean {
  if (status === "all") return true;
  if (status === "open") return isOpenRequest(request);
  return status === "over" ? !isOpenRequest(request) : request.status === status;
}

function appliedBy({ replica }: OperatorApiDeps): Link {
  const { epoch, position, hash } = replica.applied;
  return { epoch, position, hash };
}

function findRequest(call: Call, { params }: FastifyRequest): AccessRequest | undefined {
  const requestId = tryParse(parseCommandId, (params as Readonly<{ request: string }>).request);
  const found = requestId === undefined ? undefined : call.deps.replica.projection.accessRequests.get(requestId);
  return found !== undefined && isVisible(call, found) ? found : undefined;
}

function isVisible({ caller: { scope, approves }, routes }: Call, { routeId }: AccessRequest): boolean {
  if (scope === null || approves?.has(routeId) === true) return true;
  const route = routes.get(routeId);
  return route !== undefined && isInScope(scope, route.routeGroups);
}

/** An approver of the request sees all that it opens, wherever that is. */
function maySeeOpened(
  { scope, approves }: Operator,
  { routeId }: AccessRequest,
  { routeGroups }: PolicyOfRoute,
): boolean {
  return approves?.has(routeId) === true || isInScope(scope, routeGroups);
}

function viewRequest(call: Call, request: AccessRequest): RequestView {
  const { deps, caller, routes } = call;
  const { requestId, userId, routeId, groupId, durationMs, refusal, status, decidedBy, endedBy } = request;
  const { replica } = deps;
  const route = routes.get(routeId);
  const profile = profileOfUser(replica, userId);
  const wordsOf = (sealed: AccessRequest["note"]): string | null =>
    sealed === null ? null : (replica.openRequestWords(sealed, { requestId, userId }) ?? null);
  const actorOf = (actor: string | null): RequestView["decidedBy"] => {
    if (actor === null) return null;
    const { id, name } = describeActor(actor, replica);
    return { id, name };
  };
  const decides = caller.person?.userId !== userId && deciderOf(call, request) !== null;
  return {
    id: requestId,
    status,
    person: { id: userId, name: profile?.name ?? "", email: profile?.email ?? "" },
    route: { id: routeId, name: route?.name ?? "", from: route?.from ?? "" },
    group: groupId,
    durationMs,
    reason: wordsOf(request.reason),
    refusal,
    requestedAt: iso(request.requestedAt),
    expiresAt: iso(request.expiresAt),
    decidedBy: actorOf(decidedBy),
    decidedAt: isoOrNull(request.decidedAt),
    note: wordsOf(request.note),
    until: isoOrNull(request.until),
    endedBy: actorOf(endedBy),
    endedAt: isoOrNull(request.endedAt),
    may: { decide: decides && status === "pending", end: decides && status === "approved" },
    durations: [...(route?.requestAccess?.durations ?? [durationMs])],
  };
}

// --- decisions

/** The right by which the caller decides about a request; null: they may only see it. */
function deciderOf(call: Call, request: AccessRequest): Decider | null {
  return operatorOf(call, request) ?? approverOf(call, request);
}

/** As `deciderOf`, for an approval. `beyond`: the limit of a role that does not suffice for what the group opens. */
function approverFor(call: Call, request: AccessRequest): Decider | Readonly<{ beyond: ReadonlySet<string> }> | null {
  const operator = operatorOf(call, request);
  const scope: RouteScope = scopeFor(call.caller.grants, "operator") ?? null;
  if (operator === null || scope === null || scopeOfGroups(call.deps, scope)(request.groupId))
    return operator ?? approverOf(call, request);
  return approverOf(call, request) ?? { beyond: scope };
}

function operatorOf({ caller: { grants, actor, person }, routes }: Call, { routeId }: AccessRequest): Decider | null {
  const scope = scopeFor(grants, "operator");
  const route = routes.get(routeId);
  const isTheirs =
    scope === null || (scope !== undefined && route !== undefined && isInScope(scope, route.routeGroups));
  return isTheirs ? { by: { type: "operator", userId: person?.userId ?? null }, actor } : null;
}

function approverOf({ caller: { approves, person } }: Call, { routeId }: AccessRequest): Decider | null {
  const by = approves?.get(routeId);
  return by === undefined || person === undefined ? null : { by, actor: `user:${person.userId}` };
}

/** An approver is limited to what the route's configuration says now. An operator can add to the group anyway. */
function refuseEnd(
  { routes }: Call,
  { by }: Decider,
  { routeId, groupId }: AccessRequest,
  forMs: number,
): Readonly<{ status: 400 | 409; error: string }> | undefined {
  const access = routes.get(routeId)?.requestAccess;
  if (by.type === "operator" || access === undefined || access === null) return undefined;
  if (access.group !== groupId)
    return {
      status: 409,
      error: `the route now gives access by ${access.group}, and this request was made for ${groupId}: deny it`,
    };
  const longest = access.durations.at(-1) ?? 0;
  if (forMs <= longest + clockSlackMs) return undefined;
  return { status: 400, error: `the route gives access for at most ${Math.round(longest / 60_000)} minutes` };
}

/** The approver's clock chose the end. */
const clockSlackMs = 60_000;

function refuseDecider(reply: FastifyReply): FastifyReply {
  return reply.code(403).send({ error: "you may see this request, and not decide about it", code: "role-required" });
}

function unknownRequest(reply: FastifyReply): FastifyReply {
  return reply.code(404).send({ error: "there is no such access request" });
}

const iso = (at: UnixMs): string => new Date(at).toISOString();
const isoOrNull = (at: UnixMs | null): string | null => (at === null ? null : iso(at));
