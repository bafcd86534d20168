/**
 * Access reports: who could reach a route, and what a person could reach, at a time. Answered as Server-Sent Events:
 * `progress` while the log is read, then `report` or `failed`; or as JSON, for reports that are ready soon.
 *
 * - A report of the past folds the log into a projection of its own, so one runs at a time in each process. It yields
 *   after each page, and ends when the caller leaves, loses the right, or after ten minutes.
 * - It opens personal data, as every read of the operator API does.
 */
import type { FastifyReply, FastifyRequest } from "fastify";
import {
  type AccessAnswer,
  type AccessFact,
  type AccessPerson,
  type AccessState,
  describePerson,
  evaluateAccess,
  evaluateAnonymous,
  explainDecision,
  factsBehind,
  LogUnreachableError,
  whoCan,
} from "../../../audit/index.ts";
import type { DecisionRecord, FactTrace, RoutePolicy } from "../../../auth/index.ts";
import type { ConfigHash, UnixMs, UserId } from "../../../events/index.ts";
import { BrokerUnavailableError } from "../../../replication/wire/index.ts";
import { describeRule } from "../../text/texts.ts";
import { badRequest, type Operator, type OperatorApiDeps, type RegisterRoute } from "../operator-route.ts";
import { accessWhatSchema, accessWhoSchema } from "../operator-schemas.ts";
import { findUsers } from "../operator-views.ts";
import { eventStreamType } from "../receipt-stream.ts";
import { routesInScope } from "../roles/scope-of-groups.ts";
import { configurationsAt, configurationsNow, type RunConfiguration } from "./past-configurations.ts";
import type { PastLog } from "./past-log.ts";

/** As an answer has it: what a condition requires is in words. */
type InWords<Answer extends AccessAnswer> = Omit<Answer, "conditions"> & Readonly<{ conditions: readonly string[] }>;

type ReportBase = Readonly<{
  type: "report";
  at: string;
  /** The position of that time, and its link. */
  link: AccessState["link"];
  /** Null: this server's own copy of the log answered. */
  snapshot: number | null;
}>;
export type WhoReport = ReportBase &
  Readonly<{
    configurations: readonly (RunConfiguration &
      Readonly<{
        /** Null: the configuration has no such route, or its text is not stored; `problem` says which. */
        route: Readonly<{ id: string; name: string; from: string }> | null;
        problem: string | null;
        /** The answer to a caller who has not signed in. */
        anyone: InWords<AccessAnswer> | null;
        people: readonly InWords<AccessPerson>[];
        /** How many others the policy denies; null: the caller's role is limited to some routes. */
        denied: number | null;
        more: boolean;
      }>)[];
  }>;
export type WhatReport = ReportBase &
  Readonly<{
    userId: UserId;
    email: string;
    /** What the log had of the person; null: an active person. */
    note: string | null;
    configurations: readonly (RunConfiguration &
      Readonly<{
        problem: string | null;
        routes: readonly (Readonly<{ id: string; name: string; from: string; problem: string | null }> &
          InWords<AccessAnswer>)[];
      }>)[];
    facts: readonly AccessFact[];
  }>;
export type AccessProgress = Readonly<{ type: "progress"; position: number; head: number; at: string }>;
export type AccessFailure = Readonly<{ type: "failed"; error: string }>;

const reportMsMax = 600_000;
const jsonMsMax = 30_000;
/** People of a report whose facts are looked up in the log. */
const explainedMax = 100;
const progressEveryMs = 250;

export function registerAccessReports(route: RegisterRoute, deps: OperatorApiDeps, past: PastLog): void {
  const answer = async (
    request: FastifyRequest,
    reply: FastifyReply,
    caller: Operator,
    { at, as }: Readonly<{ at: UnixMs | undefined; as: "json" | "stream" }>,
    report: (state: ReportState) => Promise<WhoReport | WhatReport>,
  ): Promise<WhoReport | WhatReport | FastifyReply> => {
    const send = as === "json" ? sendJson : stream;
    const answered = past.alone("report", () => send({ ...deps, past }, { request, reply, caller }, at, report));
    if (answered !== undefined) return answered;
    const error = "another report of the past runs on this server";
    return reply.code(503).header("retry-after", "5").send({ error });
  };

  route("GET /access/who", async (request, reply, caller) => {
    const query = accessWhoSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    const { route: name, at, as, config, limit } = query.data;
    const shown = routesInScope(deps, caller.scope);
    return answer(request, reply, caller, { at: timeOf(at), as }, (state) =>
      reportWho({ ...deps, past }, state, { name, config, limit, shown }),
    );
  });
  route("GET /access/what", async (request, reply, caller) => {
    const query = accessWhatSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    const { user, at, as, config } = query.data;
    const found = findUsers(deps.replica, user, "any");
    const [userId, another] = found;
    const shown = routesInScope(deps, caller.scope);
    // Whether a person exists is nothing that a caller learns who sees some routes alone.
    if (shown !== null)
      return answer(request, reply, caller, { at: timeOf(at), as }, (state) =>
        reportWhat({ ...deps, past }, state, { userId: found.length === 1 ? userId : undefined, config, shown }),
      );
    if (userId === undefined) return reply.code(404).send({ error: `no user matches ${JSON.stringify(user)}` });
    if (another !== undefined)
      return reply
        .code(409)
        .send({ error: `${found.length} users match; use a user id: ${found.slice(0, 5).join(", ")}` });
    return answer(request, reply, caller, { at: timeOf(at), as }, (state) =>
      reportWhat({ ...deps, past }, state, { userId, config, shown }),
    );
  });
}

const timeOf = (text: string | undefined): UnixMs | undefined =>
  text === undefined ? undefined : (Date.parse(text) as UnixMs);

type ReportState = Readonly<{
  state: AccessState;
  base: Omit<ReportBase, "type">;
  configurations: readonly RunConfiguration[];
}>;

type ReportDeps = OperatorApiDeps & Readonly<{ past: PastLog }>;

/** A report without progress. One that takes longer is refused; the event stream has ten minutes. */
async function sendJson(
  deps: ReportDeps,
  { reply, caller }: Readonly<{ request: FastifyRequest; reply: FastifyReply; caller: Operator }>,
  at: UnixMs | undefined,
  report: (state: ReportState) => Promise<WhoReport | WhatReport>,
): Promise<WhoReport | WhatReport | FastifyReply> {
  const ending = new AbortController();
  reply.raw.once("close", () => ending.abort());
  const began = deps.now();
  const endsAt = Math.min(began + jsonMsMax, caller.until);
  const onProgress = (): void => {
    if (deps.now() >= endsAt)
      ending.abort(new LogUnreachableError("the report takes longer than 30 seconds; ask for it as an event stream"));
  };
  try {
    const time = { at: at ?? began, isNow: at === undefined || at >= began };
    return await report(await stateAt(deps, time, { onProgress, signal: ending.signal }));
  } catch (error) {
    if (!isExpected(error)) throw error;
    return reply.code(503).header("retry-after", "5").send({ error: error.message });
  }
}

async function stream(
  deps: ReportDeps,
  { request, reply, caller }: Readonly<{ request: FastifyRequest; reply: FastifyReply; caller: Operator }>,
  at: UnixMs | undefined,
  report: (state: ReportState) => Promise<WhoReport | WhatReport>,
): Promise<FastifyReply> {
  const ending = new AbortController();
  const { raw } = reply;
  raw.once("close", () => ending.abort());
  const began = deps.now();
  const endsAt = Math.min(began + reportMsMax, caller.until);
  reply.hijack();
  raw.writeHead(200, { "content-type": eventStreamType, "cache-control": "no-store", "x-accel-buffering": "no" });
  const write = (data: WhoReport | WhatReport | AccessProgress | AccessFailure): void => {
    if (!raw.destroyed) raw.write(`event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`);
  };
  let shownAt = 0;
  const onProgress = (progress: Readonly<{ position: number; head: number; at: UnixMs }>): void => {
    const now = deps.now();
    if (now >= endsAt) ending.abort(new LogUnreachableError("the report took longer than ten minutes"));
    if (now - shownAt < progressEveryMs) return;
    shownAt = now;
    write({ type: "progress", ...progress, at: new Date(progress.at).toISOString() });
  };
  try {
    const state = await stateAt(
      deps,
      { at: at ?? began, isNow: at === undefined || at >= began },
      { onProgress, signal: ending.signal },
    );
    const made = await report(state);
    // The right is checked once more: the report may have taken long.
    const still = await deps.callerOf(request).catch(() => undefined);
    if (still?.type === "operator") write(made);
  } catch (error) {
    write({ type: "failed", error: problemOf(error) });
    if (!isExpected(error)) deps.log.info({ err: error }, "an access report failed");
  } finally {
    ending.abort();
    raw.end();
  }
  return reply;
}

const isExpected = (error: unknown): error is Error =>
  error instanceof LogUnreachableError || error instanceof BrokerUnavailableError;
const problemOf = (error: unknown): string => (isExpected(error) ? error.message : "internal error; repeat the report");

/** The log at a time: of now or later, this node's own copy; of the past, a fold of its own. */
async function stateAt(
  { databroker, replica, past, archive }: ReportDeps,
  { at, isNow }: Readonly<{ at: UnixMs; isNow: boolean }>,
  how: Parameters<PastLog["stateAt"]>[1],
): Promise<ReportState> {
  const open = replica.open.bind(replica);
  const when = new Date(at).toISOString();
  if (isNow) {
    const { projection, places, applied: link } = replica;
    const configurations = configurationsNow(await databroker.status());
    return { state: { at, link, projection, places, open }, base: { at: when, link, snapshot: null }, configurations };
  }
  const log = await past.stateAt({ at }, how);
  const { link, projection, places, began } = log;
  const configurations = await configurationsAt(log, { databroker, ...(archive === undefined ? {} : { archive }) });
  const state = { at, link, projection, places, open };
  return { state, base: { at: when, link, snapshot: began.position }, configurations };
}

function chosen(all: readonly RunConfiguration[], config: string | undefined): readonly RunConfiguration[] {
  const named = config === undefined ? all : all.filter(({ configHash }) => configHash.startsWith(config));
  if (named.length > 0) return named.slice(0, configurationsMax);
  throw new LogUnreachableError(
    config === undefined
      ? "neither the log nor its archive names the configuration of a node at that time; a longer `broker.archive` would have kept it"
      : `no node ran a configuration ${config} at that time`,
  );
}

async function reportWho(
  deps: ReportDeps,
  { state, base, configurations }: ReportState,
  {
    name,
    config,
    limit,
    shown,
  }: Readonly<{ name: string; config: string | undefined; limit: number; shown: ReadonlySet<string> | null }>,
): Promise<WhoReport> {
  const answers: WhoReport["configurations"][number][] = [];
  const nothing = { route: null, anyone: null, people: [], denied: 0, more: false };
  for (const run of chosen(configurations, config)) {
    const routes = await routesOf(run.configHash, deps.past);
    const found = routes?.find((each) => isNamed(each, name) && shown?.has(each.id) !== false);
    if (found === undefined || found.policy === null) {
      const problem = routes === undefined ? textMissing : (found?.problem ?? "it has no such route");
      answers.push({ ...run, ...nothing, problem });
      continue;
    }
    const { policy, id, name: named, from } = found;
    const who = await whoCan(policy, state, { limit, pause: () => deps.sleep(0, new AbortController().signal) });
    const people: InWords<AccessPerson>[] = [];
    for (const [index, person] of who.people.entries())
      people.push(inWords(index < explainedMax ? { ...person, facts: await withEvents(deps, state, person) } : person));
    const anyone = inWords(evaluateAnonymous(policy, state.at));
    const denied = shown === null ? who.denied : null;
    answers.push({ ...run, ...who, denied, people, route: { id, name: named, from }, problem: null, anyone });
  }
  return { type: "report", ...base, configurations: answers };
}

async function reportWhat(
  deps: ReportDeps,
  { state, base, configurations }: ReportState,
  {
    userId,
    config,
    shown,
  }: Readonly<{ userId: UserId | undefined; config: string | undefined; shown: ReadonlySet<string> | null }>,
): Promise<WhatReport> {
  const user = userId === undefined ? undefined : state.projection.user(userId);
  const unknown = (): LogUnreachableError =>
    new LogUnreachableError(
      shown === null
        ? "the log did not know this person at that time"
        : "no one person of this name could reach a route of your groups of routes at that time",
    );
  if (userId === undefined || user === undefined) throw unknown();
  const described = describePerson(state, user);
  if (described === undefined && shown !== null) throw unknown();
  if (described === undefined)
    throw new LogUnreachableError(
      "this is what a SCIM client, a directory or a transmitter of signals has recorded, not a person who signs in",
    );
  const facts = new Map<string, AccessFact>();
  const answers: WhatReport["configurations"][number][] = [];
  for (const run of chosen(configurations, config)) {
    const routes = await routesOf(run.configHash, deps.past);
    const answered = (routes ?? [])
      .filter(({ id }) => shown?.has(id) !== false)
      .map(({ id, name, from, policy, problem }) => {
        if (policy === null) return { id, name, from, problem, ...unanswered };
        for (const fact of factsBehind(policy, state, userId)) facts.set(fact.fact, fact);
        return { id, name, from, problem, ...inWords(evaluateAccess(policy, described, state.at)) };
      });
    answers.push({ ...run, problem: routes === undefined ? textMissing : null, routes: answered });
  }
  const mayReach = answers.some(({ routes }) => routes.some(({ result }) => result !== "deny"));
  if (shown !== null && !mayReach) throw unknown();
  const behind = [...facts.values()].slice(0, explainedMax);
  const { profile, note } = described;
  return {
    type: "report",
    ...base,
    userId,
    email: profile?.email ?? "",
    note,
    configurations: answers,
    facts: await withEvents(deps, state, { userId, facts: behind }),
  };
}

function inWords<Answer extends AccessAnswer>(answer: Answer): InWords<Answer> {
  return {
    ...answer,
    conditions: answer.conditions.map(({ rule, requirement }) => `${rule}: ${describeRule(requirement)}`),
  };
}

const unanswered: InWords<AccessAnswer> = {
  result: "deny",
  conditions: [],
  rule: null,
  note: "the policy cannot be compiled",
};
const textMissing = "the text of the configuration is not stored";

/** A route by its id, its name, or its address. */
function isNamed({ id, name: own, from }: ReportedRoute, name: string): boolean {
  return (
    id === name ||
    own === name ||
    from === name ||
    from.replace(/\/$/, "") === name.replace(/\/$/, "") ||
    hostOf(from) === name
  );
}

function hostOf(from: string): string | undefined {
  return URL.canParse(from) ? new URL(from).host : undefined;
}

/** Looks up the events that set the facts, as the explanation of a decision does. */
async function withEvents(
  { past, now }: ReportDeps,
  { link }: AccessState,
  { userId, facts }: Readonly<{ userId: UserId; facts: readonly AccessFact[] }>,
): Promise<readonly AccessFact[]> {
  const traced = facts.map(
    ({ fact, position, exact, member }): FactTrace => ({
      fact,
      criteria: [],
      position,
      exact,
      ...(member === undefined ? {} : { member }),
    }),
  );
  const record = { applied: link, userId, sessionId: null, node: "", configHash: "", trace: { facts: traced } };
  const until = now() + 20_000;
  const explained = await explainDecision(record as unknown as DecisionRecord, past.history, {
    mayContinue: () => now() < until,
  });
  return facts.map((fact) => {
    const found = explained.facts.find((each) => each.fact === fact.fact);
    const position = found?.event?.position;
    return { ...fact, event: found?.event ?? null, ...(position === undefined ? {} : { position, exact: true }) };
  });
}

// --- the policies of routes

type ReportedRoute = Readonly<{
  id: string;
  name: string;
  from: string;
  policy: RoutePolicy | null;
  problem: string | null;
}>;

/** Configurations of one report: the newest count. */
const configurationsMax = 8;

/** The routes of a stored configuration, each with its policy. Undefined: its text is not stored. */
async function routesOf(
  configHash: ConfigHash,
  past: Pick<PastLog, "configuration">,
): Promise<readonly ReportedRoute[] | undefined> {
  const stored = await past.configuration(configHash);
  if (stored === undefined) return undefined;
  return [...stored.routes.values()].map(({ route: { id, name, from }, policy, problem }) => ({
    id,
    name,
    from: String(from),
    policy,
    problem,
  }));
}
