/**
 * Access reports: who could reach a route, and what a person could reach, at a time. Answered as Server-Sent Events:
 * `progress` while the log is read, then `report` or `failed`.
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
  type LogAtTime,
  LogUnreachableError,
  readLogAt,
  whoCan,
} from "../audit/index.ts";
import { AnyRecords, compilePolicies, type DecisionRecord, type FactTrace, type RoutePolicy } from "../auth/index.ts";
import type { RouteConfig } from "../config/index.ts";
import {
  type ConfigHash,
  configTextOf,
  configurationStream,
  decodeEvents,
  type NodeId,
  type Position,
  parseConfigBody,
  type UnixMs,
  type UserId,
} from "../events/index.ts";
import type { ClusterStatus, Databroker } from "../replication/index.ts";
import { BrokerUnavailableError } from "../replication/wire/index.ts";
import { badRequest, type Operator, type OperatorApiDeps, type RegisterRoute } from "./operator-route.ts";
import { accessWhatSchema, accessWhoSchema } from "./operator-schemas.ts";
import { findUsers } from "./operator-views.ts";
import { eventStreamType } from "./receipt-stream.ts";

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
        anyone: AccessAnswer | null;
        people: readonly AccessPerson[];
        /** How many others the policy denies. */
        denied: number;
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
          AccessAnswer)[];
      }>)[];
    facts: readonly AccessFact[];
  }>;
export type AccessProgress = Readonly<{ type: "progress"; position: number; head: number; at: string }>;
export type AccessFailure = Readonly<{ type: "failed"; error: string }>;

const reportMsMax = 600_000;
/** People of a report whose facts are looked up in the log. */
const explainedMax = 100;
const progressEveryMs = 250;

export function registerAccessReports(route: RegisterRoute, deps: OperatorApiDeps): void {
  let running = false;
  const answer = async (
    request: FastifyRequest,
    reply: FastifyReply,
    caller: Operator,
    at: UnixMs | undefined,
    report: (state: ReportState) => Promise<WhoReport | WhatReport>,
  ): Promise<FastifyReply> => {
    if (running)
      return reply.code(503).header("retry-after", "5").send({ error: "another access report runs on this server" });
    running = true;
    try {
      return await stream(deps, { request, reply, caller }, at, report);
    } finally {
      running = false;
    }
  };

  route("GET /access/who", async (request, reply, caller) => {
    const query = accessWhoSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    const { route: name, at, config, limit } = query.data;
    return answer(request, reply, caller, timeOf(at), (state) => reportWho(deps, state, { name, config, limit }));
  });
  route("GET /access/what", async (request, reply, caller) => {
    const query = accessWhatSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    const { user, at, config } = query.data;
    const found = findUsers(deps.replica, user, "any");
    const [userId, another] = found;
    if (userId === undefined) return reply.code(404).send({ error: `no user matches ${JSON.stringify(user)}` });
    if (another !== undefined)
      return reply
        .code(409)
        .send({ error: `${found.length} users match; use a user id: ${found.slice(0, 5).join(", ")}` });
    return answer(request, reply, caller, timeOf(at), (state) => reportWhat(deps, state, { userId, config }));
  });
}

const timeOf = (text: string | undefined): UnixMs | undefined =>
  text === undefined ? undefined : (Date.parse(text) as UnixMs);

type ReportState = Readonly<{
  state: AccessState;
  base: Omit<ReportBase, "type">;
  configurations: readonly RunConfiguration[];
}>;

async function stream(
  deps: OperatorApiDeps,
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
  { databroker, replica, snapshots }: OperatorApiDeps,
  { at, isNow }: Readonly<{ at: UnixMs; isNow: boolean }>,
  how: Readonly<{
    onProgress: (progress: Readonly<{ position: number; head: number; at: UnixMs }>) => void;
    signal: AbortSignal;
  }>,
): Promise<ReportState> {
  const open = replica.open.bind(replica);
  const when = new Date(at).toISOString();
  if (isNow) {
    const { projection, places, applied: link } = replica;
    const configurations = configurationsNow(await databroker.status());
    return { state: { at, link, projection, places, open }, base: { at: when, link, snapshot: null }, configurations };
  }
  const log = await readLogAt(at, {
    ...how,
    read: (after, limit) => databroker.read(after, { limit, waitMs: 0, signal: how.signal }),
    async snapshot() {
      const [newest] = (await databroker.status({ nodes: "omitted" })).leader?.snapshots ?? [];
      if (snapshots === undefined || newest === undefined || newest.takenAt > at) return null;
      const loaded = await snapshots.load({ first: null, signal: how.signal });
      return loaded === null || loaded.link.position !== newest.position ? null : loaded;
    },
  });
  const { link, projection, places, base } = log;
  const state = { at, link, projection, places, open };
  return { state, base: { at: when, link, snapshot: base }, configurations: await configurationsAt(log, databroker) };
}

function chosen(all: readonly RunConfiguration[], config: string | undefined): readonly RunConfiguration[] {
  const named = config === undefined ? all : all.filter(({ configHash }) => configHash.startsWith(config));
  if (named.length > 0) return named.slice(0, configurationsMax);
  throw new LogUnreachableError(
    config === undefined
      ? "the log names no configuration of a node at that time"
      : `no node ran a configuration ${config} at that time`,
  );
}

async function reportWho(
  deps: OperatorApiDeps,
  { state, base, configurations }: ReportState,
  { name, config, limit }: Readonly<{ name: string; config: string | undefined; limit: number }>,
): Promise<WhoReport> {
  const answers: WhoReport["configurations"][number][] = [];
  const nothing = { route: null, anyone: null, people: [], denied: 0, more: false };
  for (const run of chosen(configurations, config)) {
    const routes = await routesOf(run.configHash, deps.databroker);
    const found = routes?.find((each) => isNamed(each, name));
    if (found === undefined || found.policy === null) {
      const problem = routes === undefined ? textMissing : (found?.problem ?? "it has no such route");
      answers.push({ ...run, ...nothing, problem });
      continue;
    }
    const { policy, id, name: named, from } = found;
    const who = await whoCan(policy, state, { limit, pause: () => deps.sleep(0, new AbortController().signal) });
    const people: AccessPerson[] = [];
    for (const [index, person] of who.people.entries())
      people.push(index < explainedMax ? { ...person, facts: await withEvents(deps, state, person) } : person);
    const anyone = evaluateAnonymous(policy, state.at);
    answers.push({ ...run, ...who, people, route: { id, name: named, from }, problem: null, anyone });
  }
  return { type: "report", ...base, configurations: answers };
}

async function reportWhat(
  deps: OperatorApiDeps,
  { state, base, configurations }: ReportState,
  { userId, config }: Readonly<{ userId: UserId; config: string | undefined }>,
): Promise<WhatReport> {
  const user = state.projection.user(userId);
  if (user === undefined) throw new LogUnreachableError("the log did not know this person at that time");
  const described = describePerson(state, user);
  if (described === undefined)
    throw new LogUnreachableError(
      "this is what a SCIM client, a directory or a transmitter of signals has recorded, not a person who signs in",
    );
  const facts = new Map<string, AccessFact>();
  const answers: WhatReport["configurations"][number][] = [];
  for (const run of chosen(configurations, config)) {
    const routes = await routesOf(run.configHash, deps.databroker);
    const answered = (routes ?? []).map(({ id, name, from, policy, problem }) => {
      if (policy === null) return { id, name, from, problem, ...unanswered };
      for (const fact of factsBehind(policy, state, userId)) facts.set(fact.fact, fact);
      return { id, name, from, problem, ...evaluateAccess(policy, described, state.at) };
    });
    answers.push({ ...run, problem: routes === undefined ? textMissing : null, routes: answered });
  }
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

const unanswered: AccessAnswer = { result: "deny", conditions: [], rule: null, note: "the policy cannot be compiled" };
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
  { databroker, now }: OperatorApiDeps,
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
  const explained = await explainDecision(record as unknown as DecisionRecord, (what) => databroker.history(what), {
    mayContinue: () => now() < until,
  });
  return facts.map((fact) => {
    const found = explained.facts.find((each) => each.fact === fact.fact);
    const position = found?.event?.position;
    return { ...fact, event: found?.event ?? null, ...(position === undefined ? {} : { position, exact: true }) };
  });
}

// --- the configurations that nodes ran, and the policies of their routes

/** A configuration and the nodes that had announced it last. */
type RunConfiguration = Readonly<{
  configHash: ConfigHash;
  nodes: readonly NodeId[];
  /** The newest announcement; null: it is the one that they run now. */
  position: Position | null;
}>;

type ReportedRoute = Readonly<{
  id: string;
  name: string;
  from: string;
  policy: RoutePolicy | null;
  problem: string | null;
}>;

/** Configurations of one report: the newest count. */
const configurationsMax = 8;
const searchesMax = 500;
const searchDepth = 10_000;

/** The configurations that nodes run now. */
function configurationsNow({ nodes }: Pick<ClusterStatus, "nodes">): readonly RunConfiguration[] {
  return byHash(
    nodes.flatMap(({ node, configHash }) =>
      configHash === null ? [] : [{ node, configHash: configHash as ConfigHash, position: null }],
    ),
  );
}

/**
 * The configurations that nodes ran at a time. Announcements before a snapshot are searched for the nodes that the
 * cluster knows now. @throws BrokerUnavailableError
 */
async function configurationsAt(
  { configs, base }: Pick<LogAtTime, "configs" | "base">,
  databroker: Pick<Databroker, "history" | "status">,
): Promise<readonly RunConfiguration[]> {
  const found: Announced[] = [...configs].map(([node, { configHash, position }]) => ({ node, configHash, position }));
  if (base > 0) found.push(...(await searchBefore(base, new Set(configs.keys()), databroker)));
  return byHash(found);
}

type Announced = Readonly<{ node: NodeId; configHash: ConfigHash; position: Position | null }>;

async function searchBefore(
  base: Position,
  known: ReadonlySet<NodeId>,
  databroker: Pick<Databroker, "history" | "status">,
): Promise<readonly Announced[]> {
  const { nodes, absent = [] } = await databroker.status();
  const names = [...nodes.map(({ node }) => node), ...absent.map(({ node }) => node)];
  const left = new Set(names.filter((node) => !known.has(node)));
  const found: Announced[] = [];
  let upTo = base;
  for (let searches = 0; left.size > 0 && searches < searchesMax; searches += 1) {
    const streams = [...left].slice(0, 100).map(configurationStream);
    const page = await databroker.history({ streams, upTo, depth: searchDepth });
    for (const { previous, bytes } of page.found.toReversed())
      for (const { event, position } of decodeEvents([bytes], previous)) {
        if (event.type !== "ConfigurationActivated" || !left.delete(event.nodeId)) continue;
        found.push({ node: event.nodeId, configHash: event.configHash, position });
      }
    if (page.damagedAt !== null || page.searchedTo <= page.base) break;
    upTo = page.searchedTo;
  }
  return found;
}

function byHash(announced: readonly Announced[]): readonly RunConfiguration[] {
  const all = new Map<ConfigHash, { nodes: NodeId[]; position: Position | null }>();
  for (const { node, configHash, position } of announced) {
    const known = all.get(configHash) ?? { nodes: [], position };
    known.nodes.push(node);
    if (position !== null && (known.position ?? 0) < position) known.position = position;
    all.set(configHash, known);
  }
  return [...all]
    .map(([configHash, { nodes, position }]) => ({ configHash, nodes: nodes.sort(), position }))
    .sort((a, b) => (b.position ?? 0) - (a.position ?? 0) || (a.configHash < b.configHash ? -1 : 1));
}

/** The routes of a stored configuration, each with its policy. Undefined: its text is not stored. */
async function routesOf(
  configHash: ConfigHash,
  databroker: Pick<Databroker, "configuration">,
): Promise<readonly ReportedRoute[] | undefined> {
  const stored = await databroker.configuration(configHash);
  if (stored === undefined) return undefined;
  parseConfigBody(stored.body, configHash); // the text is that of the hash
  const { routes } = JSON.parse(configTextOf(stored.body)) as Readonly<{ routes: readonly StoredRoute[] }>;
  return routes.map(compileStored);
}

type StoredRoute = Omit<RouteConfig, "policy" | "subPolicies" | "from"> &
  Readonly<{ from: string; policy: unknown; subPolicies?: readonly Readonly<{ policy: unknown }>[] }>;

/** The stored text has the policies as data, without the places in their file. */
function compileStored(stored: StoredRoute): ReportedRoute {
  const { id, name, from } = stored;
  const location = { file: "stored configuration", line: 0, column: 0 };
  const written = (ppl: unknown): RouteConfig["policy"] => (ppl === null ? null : { ppl, location });
  const route = {
    ...stored,
    location,
    policy: written(stored.policy),
    shadowPolicy: null,
    subPolicies: (stored.subPolicies ?? []).map((sub) => ({ ...sub, policy: written(sub.policy) })),
  } as unknown as RouteConfig;
  const compiled = compilePolicies([route], { records: new AnyRecords() });
  if (compiled.ok) return { id, name, from, policy: compiled.policies.get(id) ?? null, problem: null };
  return { id, name, from, policy: null, problem: compiled.problems[0]?.problem ?? "it cannot be compiled" };
}
