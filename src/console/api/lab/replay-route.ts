/**
 * Replay of recorded decisions: `POST /policy/replay`, answered as Server-Sent Events: `progress`, then `result` or
 * `failed`.
 *
 * - One at a time in each process: it holds a state of the log of its own. It ends with the connection, the caller's
 *   right, or after ten minutes.
 * - It changes nothing, and what it proves is limited (docs/adr/0069-a-replay-decides-recorded-requests-again.md).
 */
import { createHash } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import {
  digestOf,
  LogUnreachableError,
  type PastConfiguration,
  RecordsUnreadableError,
  type WhatIfSummary,
  withRoutePolicy,
} from "../../../audit/index.ts";
import type { RoutePolicy } from "../../../auth/index.ts";
import type { GroupId } from "../../../events/index.ts";
import { BrokerUnavailableError } from "../../../replication/wire/index.ts";
import { badRequest, type Operator, type OperatorApiDeps, type RegisterRoute } from "../operator-route.ts";
import { profileOfUser } from "../operator-views.ts";
import type { PastLog } from "../past/past-log.ts";
import { eventStreamType } from "../receipt-stream.ts";
import { outOfScope } from "../roles/authorize-operation.ts";
import { scopeOfGroups } from "../roles/scope-of-groups.ts";
import { registerConfigurationDiff } from "./configuration-diff.ts";
import { registerConfigurationHistory } from "./configuration-history.ts";
import { findBase, findRoute, visibleRoutes } from "./lab-base.ts";
import { type ReplayBody, replaySchema } from "./lab-schemas.ts";
import { registerPolicyBase } from "./policy-base-route.ts";
import { labBodyBytesMax, registerPolicyTexts, runLab } from "./policy-text-routes.ts";
import { replayMarkdown } from "./replay-markdown.ts";
import type { ReplayBasis, ReplayFailure, ReplayProgress, ReplayResult } from "./replay-result.ts";
import { type ReplayQuestion, replayDecisions } from "./replay-run.ts";

const replayMsMax = 600_000;
const progressEveryMs = 250;
const callerEveryMs = 5_000;

/** The operations of the lab, and of what is known of configurations. */
export function registerLab(route: RegisterRoute, deps: OperatorApiDeps, past: PastLog): void {
  registerConfigurationHistory(route, deps);
  registerConfigurationDiff(route, deps);
  registerPolicyBase(route, deps);
  registerPolicyTexts(route, deps);
  registerReplay(route, deps, past);
}

function registerReplay(route: RegisterRoute, deps: OperatorApiDeps, past: PastLog): void {
  let isRunning = false;
  route(
    "POST /policy/replay",
    async (request, reply, caller) => {
      const body = replaySchema.safeParse(request.body);
      if (!body.success) return badRequest(reply, body.error);
      const { recordReaderOf } = deps;
      if (recordReaderOf === undefined)
        return reply.code(404).send({ error: "this server does not read recorded requests" });
      const busy = (): FastifyReply =>
        reply.code(503).header("retry-after", "5").send({
          error: "another replay runs on this server: wait for its end, or ask another server",
          code: "replay-busy",
        });
      if (isRunning) return busy();
      const prepared = await prepare(deps, reply, body.data, caller);
      if (!("question" in prepared)) return prepared;
      if (isRunning) return busy();
      isRunning = true;
      try {
        return await stream({ ...deps, recordReaderOf, past }, { request, reply, caller }, prepared);
      } finally {
        isRunning = false;
      }
    },
    { bodyBytesMax: labBodyBytesMax },
  );
}

type Prepared = Readonly<{ question: ReplayQuestion; basis: ReplayBasis }>;

async function prepare(
  deps: OperatorApiDeps,
  reply: FastifyReply,
  body: ReplayBody,
  caller: Operator,
): Promise<Prepared | FastifyReply> {
  const maySee: ReplayQuestion["maySee"] = visibleRoutes(deps, caller);
  const nowMs = deps.now();
  const sinceMs = body.since === undefined ? nowMs - body.sinceMs : Date.parse(body.since);
  const untilMs = Math.min(body.until === undefined ? nowMs : Date.parse(body.until), nowMs);
  if (sinceMs >= untilMs) return reply.code(400).send({ error: "since is not before until, nor before now" });
  const { facts, limit, text, configHash } = body;
  const common = { facts, sinceMs, untilMs, limit, maySee } as const;
  const time = (ms: number): string => new Date(ms).toISOString();
  const times = { facts, since: time(sinceMs), until: time(untilMs), limit };
  const found = await findBase(deps, configHash ?? body.base);
  if ("error" in found) return reply.code(found.status).send({ error: found.error });
  const route = body.route === undefined ? null : findRoute(found, body.route, maySee);
  if (route !== null && "error" in route) return reply.code(route.status).send({ error: route.error });
  const routeId = route?.id ?? null;
  if (text === undefined) {
    const inForce = deps.ownConfiguration?.() ?? null;
    const basis = { base: null, policy: null, configHash: found.configHash, route: routeId, ...times };
    return { question: { ...common, configuration: found, inForce, isEdit: false, routeId }, basis };
  }
  const checked = await runLab(deps, reply, (lab) => lab.check({ text, route }));
  if (!("ok" in checked)) return checked;
  const problems = checked.problems.filter(({ severity }) => severity === "error");
  const [first] = problems;
  if (!checked.ok || routeId === null) {
    const what = first === undefined ? "" : ` (line ${first.line}: ${first.key}: ${first.problem})`;
    return reply.code(400).send({ error: `the policy is not valid${what}`, code: "policy-invalid", problems });
  }
  const edited = withRoutePolicy(found, routeId, checked.ppl);
  const problem = edited.routes.get(routeId)?.problem ?? null;
  if (problem !== null) return reply.code(400).send({ error: `the policy cannot be evaluated: ${problem}` });
  const { scope } = caller;
  if (scope !== null && !isConfined(deps, scope, { routeId, found, edited }))
    return reply.code(403).send({ error: `${asksBeyond}; ${outOfScope(scope)}`, code: "out-of-scope" });
  const policy = createHash("sha256").update(text).digest("hex");
  return {
    question: { ...common, configuration: edited, inForce: found, isEdit: true, routeId },
    basis: { base: found.configHash, policy, configHash: null, route: routeId, ...times },
  };
}

const asksBeyond = "the policy asks for groups or claims of people that the policy of the route does not read";

/**
 * Whether the answer to a policy of the caller's own tells only of facts that the caller may know: groups that the
 * caller may see or that the route's policy names, and claims that it reads.
 */
function isConfined(
  deps: OperatorApiDeps,
  scope: ReadonlySet<string>,
  { routeId, found, edited }: Readonly<{ routeId: string; found: PastConfiguration; edited: PastConfiguration }>,
): boolean {
  const [own, asked] = [found, edited].map(({ routes }) => routes.get(routeId)?.policy);
  if (!own || !asked) return false;
  const mayAsk = scopeOfGroups(deps, scope);
  const claims = new Set(claimsIn(own));
  return (
    asked.groupsNamed.every((group) => own.groupsNamed.includes(group) || mayAsk(group as GroupId)) &&
    claimsIn(asked).every((name) => claims.has(name))
  );
}

/** `claim/groups` has the groups, each of which is looked at by itself. */
function claimsIn({ conditionals }: RoutePolicy): readonly string[] {
  return conditionals
    .flatMap(({ criteria }) => criteria)
    .flatMap(({ name, anyOf }) =>
      /^claim\b/.test(name) && !(name === "claim/groups" && anyOf !== undefined) ? [name] : [],
    );
}

type StreamDeps = OperatorApiDeps &
  Readonly<{ past: PastLog; recordReaderOf: NonNullable<OperatorApiDeps["recordReaderOf"]> }>;

async function stream(
  deps: StreamDeps,
  { request, reply, caller }: Readonly<{ request: FastifyRequest; reply: FastifyReply; caller: Operator }>,
  { question, basis }: Prepared,
): Promise<FastifyReply> {
  const ending = new AbortController();
  const { raw } = reply;
  raw.once("close", () => ending.abort());
  if (raw.destroyed) ending.abort();
  const endsAt = Math.min(deps.now() + replayMsMax, caller.until) as typeof caller.until;
  reply.hijack();
  raw.writeHead(200, { "content-type": eventStreamType, "cache-control": "no-store", "x-accel-buffering": "no" });
  const write = (data: ReplayResult | ReplayProgress | ReplayFailure): void => {
    if (!raw.destroyed) raw.write(`event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`);
  };
  const isStillOperator = async (): Promise<boolean> =>
    (await deps.callerOf(request).catch(() => undefined))?.type === "operator";
  let [shownAt, askedAt] = [0, deps.now()];
  const onProgress = (progress: Readonly<{ read: number; replayed: number }>): void => {
    const now = deps.now();
    if (now - askedAt >= callerEveryMs) {
      askedAt = now;
      void isStillOperator().then((isOperator) => {
        if (!isOperator) ending.abort();
      });
    }
    if (now - shownAt < progressEveryMs) return;
    shownAt = now;
    write({ type: "progress", ...progress });
  };
  try {
    const { read, cut, summary } = await replayDecisions(question, deps, { endsAt, signal: ending.signal, onProgress });
    const names = namesIn(summary, { configuration: question.configuration, deps });
    const digest = digestOf(basis, summary);
    const result = { type: "result", basis, read, cut, ...summary, names, digest } as const;
    if (await isStillOperator()) write({ ...result, markdown: replayMarkdown(result) });
  } catch (error) {
    const isStopped = ending.signal.aborted;
    write({ type: "failed", error: isStopped ? "the replay was stopped" : problemOf(error) });
    if (!isExpected(error) && !isStopped) deps.log.info({ err: error }, "a replay failed");
  } finally {
    ending.abort();
    raw.end();
  }
  return reply;
}

function namesIn(
  { differences }: WhatIfSummary,
  { configuration, deps }: Readonly<{ configuration: PastConfiguration; deps: OperatorApiDeps }>,
): ReplayResult["names"] {
  const routes = new Map<string, string>();
  const people = new Map<string, string>();
  for (const { route, person } of differences) {
    const name = route === null ? undefined : configuration.routes.get(route)?.route.name;
    if (route !== null && name !== undefined && name !== "") routes.set(route, name);
    if (person === null || people.has(person)) continue;
    const profile = profileOfUser(deps.replica, person);
    const label = profile === undefined ? "" : profile.email === "" ? profile.name : profile.email;
    if (label !== "") people.set(person, label);
  }
  return { routes: Object.fromEntries(routes), people: Object.fromEntries(people) };
}

const isExpected = (error: unknown): error is Error =>
  error instanceof LogUnreachableError ||
  error instanceof BrokerUnavailableError ||
  error instanceof RecordsUnreadableError;
const problemOf = (error: unknown): string => (isExpected(error) ? error.message : "internal error; repeat the replay");
