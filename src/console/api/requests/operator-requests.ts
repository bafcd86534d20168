/**
 * Operator API for access requests: who wants access, as operators see it, and by the approvers that a route names.
 *
 * - An operator sees the requests for the routes of the role's scope. An approver without a role sees those for the
 *   routes that name them, and nothing else; what they may not see does not exist for them.
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
import { submitChange } from "../operator-changes.ts";
import { badRequest, type Operator, type OperatorApiDeps, type RegisterRoute, tryParse } from "../operator-route.ts";
import { profileOfUser } from "../operator-views.ts";
import { isInScope, scopeFor } from "../roles/operator-roles.ts";
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
/** Requests between two turns of the event loop: about 2 ms. */
const scannedAtOnce = 100;

type Decider = Readonly<{ by: AccessDecider; actor: string }>;

export function registerAccessRequests(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("GET /access-requests", async (request, reply, caller): Promise<unknown> => {
    const query = requestsSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    return listRequests(deps, caller, query.data);
  });

  route("GET /access-requests/:request", async (request, reply, caller): Promise<unknown> => {
    const found = findRequest(deps, caller, request);
    if (found === undefined) return unknownRequest(reply);
    const opens = (deps.routePolicies?.() ?? []).filter(({ policy }) => policy.reads.groups.includes(found.groupId));
    return {
      ...viewRequest(deps, caller, found),
      opens: opens.slice(0, opensShown).map(({ id, from, name = "" }) => ({ id, name, from })),
      openCount: opens.length,
      applied: appliedBy(deps),
    } satisfies RequestDetail;
  });

  route("POST /access-requests/:request/approve", async (request, reply, caller) => {
    const body = approveSchema.safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const { until, durationMs, note, ...wait } = body.data;
    const found = findRequest(deps, caller, request);
    if (found === undefined) return unknownRequest(reply);
    if (until !== undefined && durationMs !== undefined)
      return reply.code(400).send({ error: "give either until or durationMs" });
    const now = deps.now();
    const end = (until === undefined ? now + (durationMs ?? found.durationMs) : Date.parse(until)) as UnixMs;
    const decider = deciderOf(deps, caller, found);
    if (decider === null) return refuseDecider(reply);
    const problem = refuseEnd(deps, decider, found, end - now);
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
    const found = findRequest(deps, caller, request);
    if (found === undefined) return unknownRequest(reply);
    const decider = deciderOf(deps, caller, found);
    if (decider === null) return refuseDecider(reply);
    const { by, actor } = decider;
    const decision = { decision: "denied", until: null, note } as const;
    const command = { type: "decideAccessRequest", requestId: found.requestId, by, ...decision } as const;
    return submitChange(deps, request, reply, actor, command, { ...wait, confined: true });
  });

  route("POST /access-requests/:request/end", async (request, reply, caller) => {
    const body = denySchema.omit({ note: true }).safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const found = findRequest(deps, caller, request);
    if (found === undefined) return unknownRequest(reply);
    const decider = deciderOf(deps, caller, found);
    if (decider === null) return refuseDecider(reply);
    const { by, actor } = decider;
    const command = { type: "endAccessRequest", requestId: found.requestId, by } as const;
    return submitChange(deps, request, reply, actor, command, { ...body.data, confined: true });
  });
}

// --- reads

async function listRequests(
  deps: OperatorApiDeps,
  caller: Operator,
  { status, q = "", after, limit }: RequestsQuery,
): Promise<RequestList> {
  const { accessRequests } = deps.replica.projection;
  const all = [...accessRequests.open(), ...accessRequests.ended()].filter((each) => isVisible(deps, caller, each));
  const pending = all.filter((each) => each.status === "pending").length;
  all.sort((a, b) => b.requestedAt - a.requestedAt || (a.requestId < b.requestId ? -1 : 1));
  const start = after === undefined ? 0 : all.findIndex(({ requestId }) => requestId === after) + 1;
  const words = q
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== "");
  const requests: RequestView[] = [];
  let scanned = 0;
  for (const each of all.slice(start)) {
    if (!isOfStatus(each, status)) continue;
    const view = viewRequest(deps, caller, each);
    if (!words.every((word) => textOf(view).includes(word))) continue;
    if (requests.length === limit)
      return { requests, next: requests.at(-1)?.id ?? null, pending, applied: appliedBy(deps) };
    requests.push(view);
    scanned += 1;
    if (scanned % scannedAtOnce === 0) await deps.sleep(0, new AbortController().signal);
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

function findRequest(deps: OperatorApiDeps, caller: Operator, { params }: FastifyRequest): AccessRequest | undefined {
  const requestId = tryParse(parseCommandId, (params as Readonly<{ request: string }>).request);
  const found = requestId === undefined ? undefined : deps.replica.projection.accessRequests.get(requestId);
  return found !== undefined && isVisible(deps, caller, found) ? found : undefined;
}

const routeOf = (deps: OperatorApiDeps, id: string) => deps.routePolicies?.().find((each) => each.id === id);

function isVisible(deps: OperatorApiDeps, { scope, approves }: Operator, { routeId }: AccessRequest): boolean {
  if (scope === null || approves?.has(routeId) === true) return true;
  const route = routeOf(deps, routeId);
  return route !== undefined && isInScope(scope, route.routeGroups);
}

function viewRequest(deps: OperatorApiDeps, caller: Operator, request: AccessRequest): RequestView {
  const { requestId, userId, routeId, groupId, durationMs, refusal, status, decidedBy, endedBy } = request;
  const { replica } = deps;
  const route = routeOf(deps, routeId);
  const profile = profileOfUser(replica, userId);
  const wordsOf = (sealed: AccessRequest["note"]): string | null =>
    sealed === null ? null : (replica.openRequestWords(sealed, { requestId, userId }) ?? null);
  const actorOf = (actor: string | null): RequestView["decidedBy"] => {
    if (actor === null) return null;
    const { id, name } = describeActor(actor, replica);
    return { id, name };
  };
  const decides = caller.person?.userId !== userId && deciderOf(deps, caller, request) !== null;
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
function deciderOf(deps: OperatorApiDeps, caller: Operator, { routeId }: AccessRequest): Decider | null {
  const { grants, actor, approves, person } = caller;
  const scope = scopeFor(grants, "operator");
  const route = routeOf(deps, routeId);
  if (scope === null || (scope !== undefined && route !== undefined && isInScope(scope, route.routeGroups)))
    return { by: { type: "operator", userId: person?.userId ?? null }, actor };
  const by = approves?.get(routeId);
  return by === undefined || person === undefined ? null : { by, actor: `user:${person.userId}` };
}

/** An approver is limited to what the route's configuration says now. An operator can add to any group anyway. */
function refuseEnd(
  deps: OperatorApiDeps,
  { by }: Decider,
  { routeId, groupId }: AccessRequest,
  forMs: number,
): Readonly<{ status: 400 | 409; error: string }> | undefined {
  const access = routeOf(deps, routeId)?.requestAccess;
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
