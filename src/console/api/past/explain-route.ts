/**
 * Explanation of a decision: `POST /explain` with the id of a decision that this node still holds, or with a stored
 * record.
 *
 * - It shows ids, kinds, times and actors of events, never personal data.
 * - It decides the request again, from the facts at the link of the record and the configuration that the record names.
 *   A different answer is a contradiction, like an event that the log does not have.
 */
import {
  type DecisionEntry,
  type Explained,
  explainDecision,
  LogUnreachableError,
  type PastConfiguration,
  RecordsUnreadableError,
  type Rederivation,
  recordIdOf,
  rederiveDecision,
} from "../../../audit/index.ts";
import type { DecisionRecord } from "../../../auth/index.ts";
import { type ConfigHash, formatLink, MalformedConfigBodyError, sameLink, type UserId } from "../../../events/index.ts";
import { BrokerUnavailableError } from "../../../replication/wire/index.ts";
import { scopeOfRecords } from "../decisions/decision-scope.ts";
import { createDecisionFinder, type FoundDecisions } from "../decisions/find-decision.ts";
import { badRequest, type OperatorApiDeps, type RegisterRoute } from "../operator-route.ts";
import { explainSchema } from "../operator-schemas.ts";
import { profileOfUser } from "../operator-views.ts";
import { outOfScope } from "../roles/authorize-operation.ts";
import { routesInScope } from "../roles/scope-of-groups.ts";
import { configurationNow, type DecidedNow, decideNow } from "./explain-now.ts";
import type { PastLog } from "./past-log.ts";
import { type RuleText, ruleTextOf } from "./rule-text.ts";

const explainMs = 20_000;
/** Reading the log up to the decision may take long. */
const rederiveMs = 90_000;
const recordBytesMax = 256 * 1024;

/** The decision, made again. `open`: why it could not be made again. */
export type Reproduction = Rederivation | Readonly<{ type: "open"; why: string }>;
export type ReproductionSource = Readonly<{
  /** The snapshot that the reading began with; 0: the first event. */
  snapshot: number;
  /** The person was erased since: what the policy reads of the profile is unknown. */
  erased: boolean;
}>;

export type ExplainedRoute = Readonly<{
  id: string;
  name: string;
  from: string;
  /** Its policy as the record's configuration has it. */
  policy: RuleText;
}>;

/** `others`: ids of other decisions about the same request. */
export type ExplainAnswer = Explained &
  Readonly<{
    others: readonly string[];
    again: Reproduction;
    source: ReproductionSource | null;
    now: DecidedNow;
    /** Null: the request belonged to no route, or the text of its configuration is not stored. */
    route: ExplainedRoute | null;
    /** Names of the people in the record and behind the events, by user id. An erased person has none. */
    names: Readonly<Record<string, string>>;
  }>;

export function registerExplain(route: RegisterRoute, deps: OperatorApiDeps, past: PastLog): void {
  const find = createDecisionFinder(deps);
  route(
    "POST /explain",
    async (request, reply, { scope }): Promise<unknown> => {
      const parsedBody = explainSchema.safeParse(request.body);
      if (!parsedBody.success) return badRequest(reply, parsedBody.error);
      const ending = new AbortController();
      reply.raw.once("close", () => ending.abort());
      if (!("id" in parsedBody.data)) {
        // What a caller brings along names facts of its own choice.
        if (scope !== null) return reply.code(403).send({ error: outOfScope(scope), code: "out-of-scope" });
        return explainRecord(parsedBody.data.record as unknown as DecisionRecord, [], {
          deps,
          past,
          ending,
          shown: null,
        });
      }
      let named: FoundDecisions | "busy";
      try {
        named = await find(parsedBody.data.id, ending.signal);
      } catch (error) {
        if (!(error instanceof RecordsUnreadableError)) throw error;
        return reply
          .code(503)
          .header("retry-after", "2")
          .send({ error: `${error.message}; try again` });
      }
      if (named === "busy") {
        const error = "another search of the stored decisions runs on this server; try again";
        return reply.code(503).header("retry-after", "5").send({ error });
      }
      const isInScope = scopeOfRecords(deps, scope);
      const [newest, ...others] = named.found.filter(isInScope);
      if (newest === undefined)
        return reply.code(404).send({ error: scope === null ? noDecision(named) : noDecisionInScope });
      return explainRecord(newest, others, { deps, past, ending, shown: routesInScope(deps, scope) });
    },
    { bodyBytesMax: recordBytesMax },
  );
}

/** How far the search went would tell that there is such a decision on another route. */
const noDecisionInScope = "no such decision on the routes of your role is known, as far as this server searched";

const noDecision = ({ searchedFrom }: FoundDecisions): string =>
  searchedFrom === null
    ? "no such decision is among the newest ones that this server holds"
    : `no such decision is among the records since ${new Date(searchedFrom).toISOString()}, as far as this server searched; name its file or store with \`cardea audit explain\``;

type ExplainParts = Readonly<{
  deps: OperatorApiDeps;
  past: PastLog;
  ending: AbortController;
  /** The routes that the caller may know of; null: all. */
  shown: ReadonlySet<string> | null;
}>;

async function explainRecord(
  record: DecisionRecord,
  others: readonly DecisionEntry[],
  { deps, past, ending, shown }: ExplainParts,
): Promise<ExplainAnswer> {
  const until = deps.now() + explainMs;
  const explained = await explainDecision(record, past.history, { mayContinue: () => deps.now() < until });
  const then = await readText(record.configHash, { deps, past });
  const made =
    explained.broken.length > 0
      ? { again: open("the record contradicts the log"), source: null }
      : await decideAgain(record, { deps, past, ending, shown, then });
  const status = await deps.databroker.status().catch(() => undefined);
  const hashNow = status === undefined ? null : configurationNow(status, record.node);
  const nowInForce =
    hashNow === record.configHash ? then : hashNow === null ? null : await readText(hashNow, { deps, past });
  const isWhole = record.occasion !== "closed" && missingIn(record) === undefined;
  return {
    ...explained,
    others: others.map(recordIdOf),
    ...made,
    now: isWhole ? decideNow(record, { deps, configuration: textIn(nowInForce), shown }) : nothingNow(deps),
    route: isWhole ? routeOf(record, textIn(then)) : null,
    names: namesOf(explained, deps),
  };
}

/** A route that the caller may not know of has no name in the answer. */
function withoutHidden(again: Rederivation, shown: ReadonlySet<string> | null): Rederivation {
  if (again.type !== "different" || shown === null) return again;
  const differences = again.differences.map((each) =>
    each.field === "route" && !shown.has(each.derived) ? { ...each, derived: "another" } : each,
  );
  return { ...again, differences };
}

const nothingNow = ({ replica }: OperatorApiDeps): DecidedNow => ({
  type: "open",
  why: "the record is not that of a whole request",
  link: replica.applied,
  configHash: null,
});

/** The text of a configuration, or why it cannot be read. */
type StoredText = PastConfiguration | Readonly<{ why: string }>;
const textIn = (stored: StoredText | null): PastConfiguration | undefined =>
  stored === null || "why" in stored ? undefined : stored;

async function readText(
  configHash: ConfigHash,
  { deps, past }: Readonly<{ deps: OperatorApiDeps; past: PastLog }>,
): Promise<StoredText> {
  try {
    const stored = await past.configuration(configHash);
    return stored ?? { why: `the text of configuration ${configHash} is not stored (docs/operations.md)` };
  } catch (error) {
    if (error instanceof BrokerUnavailableError || error instanceof MalformedConfigBodyError)
      return { why: error.message };
    deps.log.info({ err: error, configHash }, "a stored configuration could not be read");
    return { why: "internal error; the log of this server has it" };
  }
}

function routeOf({ routeId, trace, rule }: DecisionRecord, configuration: PastConfiguration | undefined) {
  const route = routeId === null ? undefined : configuration?.routes.get(routeId)?.route;
  if (route === undefined) return null;
  const { id, name, from } = route;
  // Where no rule allows the request, the first one that could have is shown.
  const asked: readonly Readonly<{ rule: unknown }>[] = Array.isArray(trace?.rules) ? trace.rules : [];
  const unmet = asked.find((each) => String(each.rule).includes(".allow."))?.rule;
  const shown = [trace?.rule, rule, unmet].find((each) => typeof each === "string") ?? null;
  return { id, name, from: String(from), policy: ruleTextOf(route, shown) };
}

/** Names of the people in the record and behind its events. */
function namesOf({ record, facts }: Explained, { replica }: OperatorApiDeps): Readonly<Record<string, string>> {
  const actors = facts.flatMap(({ event }) => /^(?:user|operator):([^#]+)$/.exec(event?.actor ?? "")?.[1] ?? []);
  const names: Record<string, string> = {};
  for (const id of [record.userId, ...actors]) {
    const profile = typeof id === "string" ? profileOfUser(replica, id as UserId) : undefined;
    const name = profile?.name || profile?.email;
    if (typeof id === "string" && name !== undefined && name !== "") names[id] = name;
  }
  return names;
}

/** The checks of other nodes' decisions, and the newest differences. */
export function registerRechecks(route: RegisterRoute, { rechecks }: Pick<OperatorApiDeps, "rechecks">): void {
  const nothing = { same: 0, different: 0, waiting: 0, skipped: {}, newest: [] };
  route("GET /rechecks", async () => ({ checking: rechecks !== undefined, ...(rechecks?.() ?? nothing) }));
}

type Made = Readonly<{ again: Reproduction; source: ReproductionSource | null }>;

async function decideAgain(
  record: DecisionRecord,
  { deps, past, ending, shown, then }: ExplainParts & Readonly<{ then: StoredText }>,
): Promise<Made> {
  const failed = (why: string): Made => ({ again: open(why), source: null });
  const { recordReaderOf } = deps;
  if (recordReaderOf === undefined) return failed("this server does not read recorded requests");
  if (record.occasion === "closed") return failed("the end of a stream decides nothing");
  const lacks = missingIn(record);
  if (lacks !== undefined) return failed(`the record has no \`${lacks}\`, so it is not whole`);
  const endsAt = deps.now() + rederiveMs;
  const onProgress = (): void => {
    if (deps.now() >= endsAt) ending.abort(new LogUnreachableError("reading the log took longer than 90 seconds"));
  };
  const job = async (): Promise<Made> => {
    if ("why" in then) return failed(then.why);
    const configuration = then;
    const { applied } = record;
    const { projection, link, began } = await past.stateAt(
      { position: applied.position },
      { onProgress, signal: ending.signal },
    );
    if (!sameLink(link, applied))
      return failed(
        link.position < applied.position
          ? `the log ends at ${formatLink(link)}, before the decision`
          : `the decision was made at ${formatLink(applied)}, and the log has ${formatLink(link)} there: its history was lost in a failover or a restore`,
      );
    const open: OperatorApiDeps["replica"]["open"] = (sealed, userId) => deps.replica.open(sealed, userId);
    const readRecord = recordReaderOf([...configuration.routes.values()].map(({ route }) => route));
    const again = rederiveDecision(record, { facts: { projection, open }, configuration, readRecord });
    const erased = record.userId !== null && deps.replica.projection.user(record.userId)?.status === "erased";
    return { again: withoutHidden(again, shown), source: { snapshot: began.position, erased } };
  };
  try {
    return await (past.alone("explanation", job) ?? failed("another explanation runs on this server; ask again"));
  } catch (error) {
    if (error instanceof LogUnreachableError || error instanceof BrokerUnavailableError) return failed(error.message);
    if (error instanceof MalformedConfigBodyError) return failed(error.message);
    deps.log.info({ err: error, record: recordIdOf(record as never) }, "a decision could not be made again");
    return failed("internal error; the log of this server has it");
  }
}

/** A field of the request or of its answer that a record from a file does not have. */
function missingIn(record: DecisionRecord): string | undefined {
  const { routeId, reasons, status } = record;
  const text = (["occasion", "method", "host", "path", "ip"] as const).find((name) => typeof record[name] !== "string");
  if (text !== undefined) return text;
  if (routeId !== null && typeof routeId !== "string") return "routeId";
  if (typeof status !== "number") return "status";
  return Array.isArray(reasons) ? undefined : "reasons";
}

function open(why: string): Reproduction {
  return { type: "open", why };
}
