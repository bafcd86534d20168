/**
 * Access request endpoints on a route's host: the page on which a person asks, its form, and the same for programs.
 *
 * - A person asks, sees and withdraws for themself alone, with their own session.
 * - Only pages of the same host send the form, and programs JSON, so no other site can ask in a person's name. An
 *   application on the same host could: what it gains is a request that an approver reads.
 * - A form that is sent twice is one request: it carries the id of its command.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import {
  type AccessRequest,
  type CommandResult,
  isOpenRequest,
  neededLink,
  parseCommandId,
  type RequestAccess,
  requestWordsMax,
} from "../../../events/index.ts";
import type { RequestableRoute } from "../../access-requests.ts";
import type { AccessRequestPage, RequestProblem } from "../../reply/page.ts";
import {
  type AuthDeps,
  externalUrl,
  headersOf,
  type PageCall,
  type RequestContexts,
  type ReservedContext,
  sendBehind,
  sendPage,
  sendProblem,
} from "../context.ts";
import { NetworkBudget } from "../credentials/network-budget.ts";
import { isFromElsewhere } from "../same-origin.ts";
import { submitWithRetry } from "../sign-in/begin-session.ts";
import { readOnly } from "../sign-in/common-endpoints.ts";
import { readRouteSignInStatus, type SignInStatus, withFreshLease } from "../sign-in/signed-in.ts";
import {
  accessPath,
  approverNames,
  findRequestable,
  isOnHost,
  newestRequest,
  refusalProof,
  requestStatusAt,
} from "./requestable-routes.ts";

export const accessApiPath = "/.pomerium/api/v1/access-requests";

type SignedIn = Extract<SignInStatus, { type: "signed-in" }>;
type Call = PageCall & Readonly<{ deps: AuthDeps }>;
type SendUnauthenticated = (
  deps: AuthDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  context: ReservedContext,
) => FastifyReply;
/** What a person wants, as a form or a program says it. */
type Wish = Readonly<{
  route: RequestableRoute;
  id: string;
  durationMs: number;
  reason: string;
  refusal: string | null;
}>;

export function registerAccessRequestPage(
  app: FastifyInstance,
  deps: AuthDeps,
  parts: Readonly<{ contexts: RequestContexts; sendUnauthenticated: SendUnauthenticated }>,
): void {
  if (deps.requestable === undefined) return;
  const budget = new NetworkBudget(deps.clock.monotonic);
  const callOf = (request: FastifyRequest, reply: FastifyReply): Call => {
    reply.header("cache-control", "no-store");
    return { deps, request, reply, context: parts.contexts.of(request) };
  };
  /** The person who asks, or the reply that says why not. */
  async function signedIn(call: Call): Promise<SignedIn | undefined> {
    const { request, reply, context } = call;
    const asking = await withFreshLease(deps, () => readRouteSignInStatus(deps, request, context));
    if (asking.type === "behind") sendBehind(deps, request, reply, context);
    else if (asking.type === "anonymous") parts.sendUnauthenticated(deps, request, reply, context);
    else if (!budget.spend(asking.principal.session.sessionId)) sendBusy(call);
    else return asking;
    return undefined;
  }

  readOnly(app, accessPath, async (request, reply) => {
    const call = callOf(request, reply);
    const asking = await signedIn(call);
    return asking === undefined ? reply : showPage(call, asking, externalUrl(request, call.context).searchParams, null);
  });

  app.post(accessPath, async (request, reply) => {
    const call = callOf(request, reply);
    if (isFromElsewhere(headersOf(request), call.context.origin)) return refuseForm(call);
    const asking = await signedIn(call);
    if (asking === undefined) return reply;
    const form = new URLSearchParams((request.body ?? {}) as Record<string, string>);
    const problem = await performForm(call, asking, form);
    if (problem === "unknown") return reply.callNotFound();
    if (problem !== null) return showPage(call, asking, form, problem);
    const back = new URLSearchParams([...form].filter(([name]) => ["route", "proof", "refusal", "to"].includes(name)));
    return reply.redirect(`${accessPath}?${back}`, 303);
  });

  readOnly(app, accessApiPath, async (request, reply) => {
    const call = callOf(request, reply);
    const asking = await signedIn(call);
    if (asking === undefined) return reply;
    const only = externalUrl(request, call.context).searchParams.get("route");
    const all = [...deps.replica.projection.accessRequests.of(asking.principal.userId)]
      .filter(({ routeId }) => only === null || routeId === only)
      .sort((a, b) => b.requestedAt - a.requestedAt);
    return reply.send({
      requests: all.map((each) => describeOwn(call, each)),
      permitted: only !== null && all.length > 0 && isPermitted(call, asking, deps.requestable?.find(only)),
    });
  });

  app.post(accessApiPath, async (request, reply) => {
    const call = callOf(request, reply);
    const { asking, body } = await programOf(call);
    if (asking === undefined) return reply;
    const found = findRequestable(deps, asking.principal, {
      routeId: text(body, "routeId"),
      proof: text(body, "proof"),
    });
    if (found === undefined) return reply.code(404).send({ error: "there is no such route that you can ask for" });
    const wish: Wish = {
      route: found,
      id: body["id"] === undefined ? deps.random.uuid() : text(body, "id"),
      durationMs: typeof body["durationMs"] === "number" ? body["durationMs"] : Number.NaN,
      reason: text(body, "reason"),
      refusal: body["requestId"] === undefined ? null : text(body, "requestId"),
    };
    const problem = await ask(call, asking, wish);
    if (problem !== null) return sendJsonProblem(reply, problem);
    const made = newestRequest(deps, asking.principal, found.id);
    return reply.send({ request: made === undefined ? null : describeOwn(call, made) });
  });

  app.post(`${accessApiPath}/:id/withdraw`, async (request, reply) => {
    const call = callOf(request, reply);
    const { asking } = await programOf(call);
    if (asking === undefined) return reply;
    const { id } = request.params as Readonly<{ id: string }>;
    const problem = await withdraw(call, asking, id);
    return problem === null ? reply.send({ withdrawn: true }) : sendJsonProblem(reply, problem);
  });

  /** A request of a program: JSON from the same host. */
  async function programOf(call: Call): Promise<{ asking: SignedIn | undefined; body: Record<string, unknown> }> {
    const { request, reply, context } = call;
    const { body } = request;
    const isJson = /^application\/json(?:\s*;|$)/i.test(request.headers["content-type"] ?? "");
    if (!isJson || typeof body !== "object" || body === null || Array.isArray(body))
      reply.code(400).send({ error: "send a JSON object as application/json" });
    else if (isFromElsewhere(headersOf(request), context.origin))
      reply.code(403).send({ error: "the request did not come from this host" });
    else return { asking: await signedIn(call), body: body as Record<string, unknown> };
    return { asking: undefined, body: {} };
  }
}

const text = (body: Readonly<Record<string, unknown>>, name: string): string =>
  typeof body[name] === "string" ? body[name] : "";

// --- the page

function showPage(call: Call, asking: SignedIn, query: URLSearchParams, problem: RequestProblem | null): FastifyReply {
  const { deps, reply, context } = call;
  const { principal } = asking;
  const [routeId, proof, refusal, to] = ["route", "proof", "refusal", "to"].map((name) => query.get(name) ?? "");
  const route = findRequestable(deps, principal, { routeId: routeId ?? "", proof: proof ?? "" });
  if (route === undefined) {
    reply.callNotFound();
    return reply;
  }
  const request = newestRequest(deps, principal, route.id);
  const isIn = isPermitted(call, asking, route);
  const fresh = route.discoverable ? "" : refusalProof(deps, { routeId: route.id, userId: principal.userId });
  const back = pathOn(context, to ?? "") ?? (isOnHost(route, context.hostname) ? "/" : null);
  const fields: Readonly<Record<string, string>> = {
    route: route.id,
    ...(fresh === "" ? {} : { proof: fresh }),
    ...(refusal === "" ? {} : { refusal: refusal ?? "" }),
    ...(back === null ? {} : { to: back }),
  };
  const { durations, reason } = route.requestAccess;
  const isWaiting = request?.status === "pending";
  const page: AccessRequestPage = {
    type: "access-request",
    app: route.name,
    owner: route.owner === "" ? null : route.owner,
    approvers: approverNames(deps, route.requestAccess),
    user: principal.profile === undefined ? null : { name: principal.profile.name, email: principal.profile.email },
    at: deps.clock.wall(),
    isPermitted: isIn,
    request: request === undefined ? null : stateOf(call, request),
    problem,
    action: accessPath,
    form:
      isWaiting || isIn
        ? null
        : {
            fields: { ...fields, action: "request", id: query.get("id") ?? deps.random.uuid() },
            durations,
            isReasonRequired: reason === "required",
            reason: query.get("reason") ?? "",
            reasonMax: requestWordsMax,
          },
    withdraw: isWaiting ? { ...fields, action: "withdraw", id: request.requestId } : null,
    openUrl: back ?? route.from.href,
    checkUrl: `${accessPath}?${new URLSearchParams(fields)}`,
    pollPath: accessApiPath,
    routeId: route.id,
  };
  return sendPage(call, problem === null ? 200 : 400, page);
}

function stateOf(call: Call, request: AccessRequest): NonNullable<AccessRequestPage["request"]> {
  const { until, requestedAt, expiresAt, durationMs, decidedAt, endedAt } = request;
  const { reason, note } = wordsOf(call, request);
  return {
    status: requestStatusAt(request, call.deps.clock.wall()),
    until,
    requestedAt,
    expiresAt,
    durationMs,
    decidedAt,
    endedAt,
    reason,
    note,
  };
}

/** Only the pages of the route's own host show what was written. */
function wordsOf(
  { deps, context }: Call,
  { requestId, userId, routeId, reason, note }: AccessRequest,
): Readonly<{ reason: string | null; note: string | null }> {
  const route = deps.requestable?.find(routeId);
  if (route === undefined || !isOnHost(route, context.hostname)) return { reason: null, note: null };
  const open = (sealed: AccessRequest["note"]): string | null =>
    sealed === null ? null : (deps.replica.openRequestWords(sealed, { requestId, userId }) ?? null);
  return { reason: open(reason), note: open(note) };
}

function describeOwn(call: Call, request: AccessRequest): object {
  const { requestId, routeId, durationMs, requestedAt, expiresAt, decidedAt, until, endedAt } = request;
  const iso = (at: number | null): string | null => (at === null ? null : new Date(at).toISOString());
  return {
    id: requestId,
    routeId,
    status: requestStatusAt(request, call.deps.clock.wall()),
    durationMs,
    ...wordsOf(call, request),
    requestedAt: iso(requestedAt),
    expiresAt: iso(expiresAt),
    decidedAt: iso(decidedAt),
    until: iso(until),
    endedAt: iso(endedAt),
  };
}

function isPermitted({ deps, request, context }: Call, { principal }: SignedIn, route: RequestableRoute | undefined) {
  if (route === undefined || deps.requestable === undefined) return false;
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(headersOf(request))) if (value !== undefined) headers[name] = value;
  const about = { principal, headers, ip: context.ip, now: deps.clock.wall(), origin: new URL(context.origin) };
  return deps.requestable.probe(about)(route).type === "permit";
}

/** A path of this host, without anything that a browser could read as another one. */
function pathOn({ origin }: ReservedContext, to: string): string | null {
  if (!to.startsWith("/") || to.length > 2_000 || !URL.canParse(to, origin)) return null;
  const url = new URL(to, origin);
  return url.origin === origin && !url.pathname.startsWith("//") ? `${url.pathname}${url.search}` : null;
}

// --- what a person does

async function performForm(
  call: Call,
  asking: SignedIn,
  form: URLSearchParams,
): Promise<RequestProblem | "unknown" | null> {
  const at = { routeId: form.get("route") ?? "", proof: form.get("proof") ?? "" };
  const route = findRequestable(call.deps, asking.principal, at);
  if (route === undefined) return "unknown";
  const id = form.get("id") ?? "";
  if (form.get("action") === "withdraw") return withdraw(call, asking, id);
  const refusal = form.get("refusal");
  return ask(call, asking, {
    route,
    id,
    refusal,
    durationMs: Number(form.get("duration") ?? Number.NaN),
    reason: (form.get("reason") ?? "").replace(/\s+/g, " ").trim(),
  });
}

async function ask(
  { deps }: Call,
  { principal }: SignedIn,
  { route, id, durationMs, reason, refusal }: Wish,
): Promise<RequestProblem | null> {
  const { userId, session } = principal;
  const access = route.requestAccess;
  const requestId = commandIdIn(id);
  if (requestId === undefined) return "out-of-date";
  if (!access.durations.includes(durationMs)) return "duration";
  if (access.reason === "required" && reason.trim() === "") return "reason-missing";
  if (reason.length > requestWordsMax) return "reason-long";
  const wish: RequestAccess = {
    type: "requestAccess",
    requestId,
    userId,
    sessionId: session.sessionId,
    routeId: route.id,
    groupId: access.group,
    durationMs,
    reason,
    refusal: refusal !== null && /^[\x21-\x7e]{1,100}$/.test(refusal) ? refusal : null,
  };
  const request = { commandId: requestId, actor: `user:${userId}`, command: wish };
  return settle(deps, await submitWithRetry(deps, request));
}

async function withdraw({ deps }: Call, { principal }: SignedIn, id: string): Promise<RequestProblem | null> {
  const { userId, session } = principal;
  const requestId = commandIdIn(id);
  const known = requestId === undefined ? undefined : deps.replica.projection.accessRequests.get(requestId);
  if (known === undefined || known.userId !== userId) return "out-of-date";
  if (!isOpenRequest(known)) return null;
  const by = { type: "requester", userId, sessionId: session.sessionId } as const;
  const command = { type: "endAccessRequest", requestId: known.requestId, by } as const;
  const commandId = parseCommandId(deps.random.uuid());
  return settle(deps, await submitWithRetry(deps, { commandId, actor: `user:${userId}`, command }));
}

/** The page that follows shows the change. */
async function settle(deps: AuthDeps, result: CommandResult): Promise<RequestProblem | null> {
  if (result.type === "unavailable") return "unavailable";
  if (result.type === "done") {
    await deps.catchUp(neededLink(result));
    return null;
  }
  if (result.code === "forbidden") return "out-of-date";
  return /within a day/.test(result.message) ? "too-many-today" : "too-many";
}

function commandIdIn(id: string): ReturnType<typeof parseCommandId> | undefined {
  try {
    return parseCommandId(id);
  } catch {
    return undefined;
  }
}

const problems: Readonly<Record<RequestProblem, readonly [status: number, error: string]>> = {
  "out-of-date": [409, "the session, the form or the request is out of date"],
  duration: [400, "durationMs is not one of those that the route offers"],
  "reason-missing": [400, "the route needs a reason"],
  "reason-long": [400, `reason is longer than ${requestWordsMax} characters`],
  "too-many": [409, "too many requests wait for a decision"],
  "too-many-today": [409, "too many requests within a day"],
  unavailable: [503, "not known whether the request was recorded: send it again with the same id"],
};

function sendJsonProblem(reply: FastifyReply, problem: RequestProblem): FastifyReply {
  const [status, error] = problems[problem];
  if (status === 503) reply.header("retry-after", "1");
  return reply.code(status).send({ error, code: problem });
}

function refuseForm({ deps, request, reply, context }: Call): FastifyReply {
  return sendProblem(deps, request, reply, context, {
    status: 400,
    condition: "account-form",
    title: "Page out of date",
    description: "The form did not come from a page of this host. Nothing was changed.",
    retryUrl: accessPath,
  });
}

function sendBusy({ deps, request, reply, context }: Call): FastifyReply {
  return sendProblem(deps, request, reply, context, {
    status: 503,
    condition: "busy",
    title: "Too many requests",
    description: "Too many requests for access are being made in this session. Please try again in a moment.",
    retryUrl: accessPath,
  });
}
