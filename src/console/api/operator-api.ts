/**
 * Operator API: `/.pomerium/admin/api/v1/…` on the authenticate host, for the console and the command line.
 *
 * - Reads come from this node's projection (operator-reads.ts). Changes are commands to the broker
 *   (operator-changes.ts).
 * - The caller is verified before a body is read, and again after every wait.
 * - Personal data is opened only here, for operators, and never logged. Errors are JSON, too.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { typedActor } from "../../audit/index.ts";
import { BrokerUnavailableError, formatUnavailable } from "../../replication/wire/index.ts";
import { registerChangeReads } from "./changes/changes-route.ts";
import { registerAuditStatus } from "./decisions/audit-status-route.ts";
import { sendDecisionPage } from "./decisions/decision-page.ts";
import { parseDecisionQuery } from "./decisions/decision-query.ts";
import { streamDecisions } from "./decisions/decision-stream.ts";
import { registerHeld } from "./held/operator-held.ts";
import { registerLab } from "./lab/replay-route.ts";
import { createCsvWriter } from "./lists/list-csv.ts";
import { registerLists } from "./lists/list-routes.ts";
import { registerLive } from "./live/live-route.ts";
import { registerLocalReceipts } from "./local-changes.ts";
import { operatorApiPrefix } from "./operation-call.ts";
import { isSensitiveRead, isUnrecordedAct } from "./operator-access.ts";
import { isChange, registerChanges } from "./operator-changes.ts";
import { registerConfigurations } from "./operator-configurations.ts";
import { operatorOperations } from "./operator-operations.ts";
import { registerDirectories, registerScimTokens } from "./operator-provisioning.ts";
import { registerReads } from "./operator-reads.ts";
import {
  badRequest,
  nameIn,
  type Operator,
  type OperatorApiDeps,
  type OperatorApiOptions,
  type RegisterRoute,
  requireOperator,
  sendHomeUnreachable,
} from "./operator-route.ts";
import { registerUserChanges } from "./operator-user-changes.ts";
import { findListedUsers } from "./operator-views.ts";
import { registerAccessReports } from "./past/access-reports.ts";
import { registerExplain, registerRechecks } from "./past/explain-route.ts";
import { createPastLog } from "./past/past-log.ts";
import { registerSeals } from "./past/seals-route.ts";
import { registerPreview } from "./preview/preview-route.ts";
import { registerDirectoryPeople } from "./provisioning/directory-people.ts";
import { eventStreamType } from "./receipt-stream.ts";
import { registerReceiptList } from "./receipts/receipt-list.ts";
import { registerAccessRequests } from "./requests/operator-requests.ts";
import { authorizeOperations } from "./roles/authorize-operation.ts";
import { registerMe, registerSettings } from "./roles/me-route.ts";
import { registerSearch } from "./search/search-route.ts";
import { registerTransmitters } from "./signals/operator-transmitters.ts";
import { signalStatusSchema } from "./signals/signal-schemas.ts";

export function registerOperatorApi(app: FastifyInstance, options: OperatorApiOptions): void {
  const deps = { ...options, callerOf: authorizeOperations(options) };
  void app.register(
    (scope, _options, done) => {
      registerIn(scope, deps);
      done();
    },
    { prefix: operatorApiPrefix },
  );
}

function registerIn(scope: FastifyInstance, deps: OperatorApiDeps): void {
  const callers = new WeakMap<FastifyRequest, Operator>();
  scope.addHook("onRequest", async (request, reply) => {
    reply.header("cache-control", "no-store");
    const ip = deps.callerIp();
    // The pattern, because a path may hold an e-mail. operator-changes.ts logs each change by ids.
    const path = request.routeOptions.url ?? null;
    const operation = `${request.method} ${path?.replace(operatorApiPrefix, "") ?? "unknown"}`;
    const caller = await requireOperator(deps, request, reply, ({ status, userId, actor: known }) => {
      if (status === 503) return;
      const unnamed = userId === undefined ? "anonymous" : `user:${userId}`;
      const actor = known === undefined ? unnamed : typedActor(known);
      deps.access.refused({ operation, actor, status, ip });
    });
    if (caller === undefined) return reply;
    callers.set(request, caller);
    if (isSensitiveRead(operation))
      deps.access.read({ operation, actor: typedActor(caller.actor), targets: readTargets(request, deps.replica), ip });
    deps.log.info({ actor: caller.actor, method: request.method, path }, "operator request");
  });
  scope.addHook("onResponse", async (request, reply) => {
    const caller = callers.get(request);
    const { operation } = request.routeOptions.config;
    if (caller === undefined || operation === undefined || !isUnrecordedAct(operation)) return;
    const targets = readTargets(request, deps.replica);
    const act = { operation, actor: typedActor(caller.actor), targets, status: reply.statusCode };
    deps.access.acted({ ...act, ip: deps.callerIp() });
  });
  scope.removeContentTypeParser("application/x-www-form-urlencoded");
  scope.setErrorHandler(sendError);
  scope.setNotFoundHandler((_request, reply) => reply.code(404).send({ error: "there is no such operation" }));
  const registered = new Set<string>();
  const route: RegisterRoute = (operation, handler, options) => {
    registered.add(operation);
    const [method = "", url = ""] = operation.split(" ");
    scope.route({
      method,
      url,
      config: { operation },
      ...(options === undefined ? {} : { bodyLimit: options.bodyBytesMax }),
      handler: async (request, reply) => {
        const caller = callers.get(request);
        if (caller === undefined) throw new TypeError("an operator's request without its caller");
        if (method === "POST" && (await requireOperator(deps, request, reply)) === undefined) return reply;
        const answer = await handler(request, reply, caller);
        // A caller learns of its own change even if that ended the caller's right.
        if (answer === reply || isChange(answer)) return answer;
        return (await requireOperator(deps, request, reply)) === undefined ? reply : answer;
      },
    });
  };
  registerMe(route, deps);
  registerSettings(route, deps);
  const sendCsv = createCsvWriter(deps);
  registerLists(route, deps, sendCsv);
  registerReads(route, deps);
  registerReceiptList(route, deps);
  registerPreview(route, deps);
  registerChanges(route, deps);
  registerUserChanges(route, deps);
  registerLocalReceipts(route, deps);
  registerScimTokens(route, deps);
  registerHeld(route, deps);
  registerDirectories(route, deps);
  registerDirectoryPeople(route, deps);
  registerTransmitters(route, deps);
  registerSignalStreams(route, deps);
  registerConfigurations(route, deps);
  registerAuditStatus(route, deps);
  registerLive(route, deps);
  registerSearch(route, deps, scope);
  route("GET /decisions", async (request, reply, caller) => {
    const query = parseDecisionQuery(request, deps, caller.scope);
    if ("error" in query) return reply.code(query.status).send({ error: query.error });
    return request.headers.accept?.includes(eventStreamType) === true
      ? streamDecisions(request, reply, deps, { caller, query })
      : sendDecisionPage(reply, deps, query);
  });
  const past = createPastLog(deps);
  registerExplain(route, deps, past);
  registerLab(route, deps, past);
  registerRechecks(route, deps);
  registerSeals(route, deps);
  registerAccessReports(route, deps, past);
  registerChangeReads(route, deps, sendCsv);
  registerAccessRequests(route, deps);
  const missing = Object.keys(operatorOperations).filter((name) => !registered.has(name));
  if (missing.length > 0) throw new TypeError(`operations without a handler: ${missing.join(", ")}`);
}

const readTargetsMax = 20;

/** The people that a read names, by id: the name in the request may be an e-mail. */
function readTargets({ params, query }: FastifyRequest, replica: OperatorApiDeps["replica"]): readonly string[] {
  const named = { ...(params as Readonly<Record<string, unknown>>), ...(query as Readonly<Record<string, unknown>>) };
  const { user, group, route, transmitter, receiver, subject, format } = named;
  const people = (value: unknown): string[] =>
    typeof value === "string" ? findListedUsers(replica, nameIn(value), readTargetsMax).map((id) => `user:${id}`) : [];
  // The subject of a read of changes may also be the stream of something else.
  const about =
    typeof subject === "string" && !/^(?!user:)[\w-]+:/.test(subject) ? subject.replace(/^user:/, "") : null;
  const users = [...people(user), ...people(about)];
  const text = (type: string, value: unknown): string[] =>
    typeof value === "string" && value.length <= 200 ? [`${type}:${nameIn(value)}`] : [];
  const streams = [...text("transmitter", transmitter), ...text("receiver", receiver)];
  // A whole list as a file is another thing than a page of it, and is not taken for a repeated read.
  const file = format === "csv" ? ["format:csv"] : [];
  return [...users, ...text("group", group), ...text("route", route), ...streams, ...file];
}

/** The streams of our signals: what each receiver has, what waits, and who may stop it. */
function registerSignalStreams(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("GET /signals/streams", async () => ({ streams: (await deps.signalStreams?.list()) ?? [] }));

  route("POST /signals/streams/:receiver/status", async (request, reply, { actor }) => {
    const body = signalStatusSchema.safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const { receiver } = request.params as Readonly<{ receiver: string }>;
    const { status, reason = null } = body.data;
    if ((await requireOperator(deps, request, reply)) === undefined) return reply;
    deps.log.info({ actor, receiver, status }, "operator changes the status of a signal stream");
    const stream = await deps.signalStreams?.setStatus(receiver, { status, reason, actor });
    if (stream === undefined)
      return reply.code(404).send({ error: "signal_receivers has no such receiver, or it has no stream" });
    return { stream };
  });
}

function sendError(error: unknown, _request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (error instanceof BrokerUnavailableError) {
    if (formatUnavailable(error).code !== undefined) return sendHomeUnreachable(reply, { error: error.message });
    return reply.code(503).header("retry-after", "1").send({ error: error.message });
  }
  const status =
    typeof error === "object" && error !== null && "statusCode" in error && typeof error.statusCode === "number"
      ? error.statusCode
      : 500;
  if (status >= 400 && status < 500 && error instanceof Error) return reply.code(status).send({ error: error.message });
  return reply.code(500).send({ error: "internal error; the change may or may not have been made" });
}
