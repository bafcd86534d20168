/**
 * AuthZEN searches: the actions that a subject may perform, the resources on which it may perform one, and the subjects
 * that may perform one.
 *
 * - Pure except for the decider. The search is recorded, with the people and routes of its answer: not each decision,
 *   because no client acts on one.
 * - Each response examines a bounded part, and its token says where to continue.
 * - If this node cannot decide, the whole search fails.
 * - People are listed in the order of their ids, which is the same on every node.
 */
import type { DecisionApiConfig, RouteConfig } from "../../config/index.ts";
import { type UserId, userIdOf } from "../../events/index.ts";
import type { ApiDecision } from "./api-decision.ts";
import { parseSearchPage, type SearchPage } from "./authzen-page-token.ts";
import {
  AuthzenError,
  type AuthzenRequest,
  actionOf,
  contextOf,
  entityOf,
  type Json,
  objectOf,
  textOf,
} from "./authzen-parser.ts";
import type { DecisionApiDeps, RequestDecider } from "./request-decider.ts";
import { actionsOf, isKnownType } from "./resource-request.ts";
import type { Found, RecordSearch, Searcher } from "./search-record.ts";

export type SearchResult = Readonly<{
  page: Readonly<{ next_token: string; count: number; total?: number }>;
  results: readonly Json[];
}>;

export type AuthzenSearch = Readonly<{
  /** Names of permitted actions. @throws AuthzenError */
  actions(body: unknown, by: Searcher): Promise<SearchResult>;
  /**
   * Routes whose first address permits the action. Null: resources of this type cannot be listed.
   * @throws AuthzenError
   */
  resources(body: unknown, by: Searcher): Promise<SearchResult | null>;
  /** People who may perform the action. @throws AuthzenError */
  subjects(body: unknown, by: Searcher): Promise<SearchResult>;
}>;

/** People that one response examines. */
const examinedMax = 1_000;
/** People scanned between two pauses, in which other requests run. */
const scannedAtOnce = 10_000;
export const decidedAtOnce = 50;

export function createAuthzenSearch(
  replica: Pick<DecisionApiDeps["replica"], "projection">,
  parts: Readonly<{
    api: Pick<DecisionApiConfig, "resources" | "subjectIssuer">;
    decider: Pick<RequestDecider, "routes">;
    /** Null: no decision is possible about the request. */
    decide: (asked: AuthzenRequest) => Promise<ApiDecision | null>;
    decideFor: (userId: UserId, asked: Omit<AuthzenRequest, "subject">) => Promise<ApiDecision | null>;
    recorded: RecordSearch;
    pause: () => Promise<void>;
  }>,
): AuthzenSearch {
  const { decider, decide, decideFor, recorded, pause } = parts;
  const { resources: words, subjectIssuer: issuer } = parts.api;

  async function actions(body: unknown, found: Found): Promise<SearchResult> {
    const given = objectOf(body, "the body");
    const page = parseSearchPage(given);
    const query = { ...inputs(given), resource: entityOf(given["resource"], "resource"), context: contextOf(given) };
    const permitted: Json[] = [];
    for (const name of actionsOf(query.resource.type, words)) {
      const verdict = await decide({ ...query, action: { name, properties: {} } });
      if (verdict?.type !== "permit") continue;
      permitted.push({ name });
      found(verdict);
    }
    return pageOf(permitted, page);
  }

  async function resources(body: unknown, found: Found): Promise<SearchResult | null> {
    const given = objectOf(body, "the body");
    const page = parseSearchPage(given);
    const query = { ...inputs(given), action: actionOf(given["action"]), context: contextOf(given) };
    const type = textOf(objectOf(given["resource"], "resource")["type"], "resource.type");
    if (!isKnownType(type, words)) return pageOf([], page);
    if (type !== "route" || Object.hasOwn(words, "route")) return null;
    const permitted: Json[] = [];
    for (const [i, route] of decider.routes.entries()) {
      if (i % decidedAtOnce === decidedAtOnce - 1) await pause();
      const id = beginningOf(route);
      if (id === undefined) continue;
      const verdict = await decide({ ...query, resource: { type: "route", id, properties: {} } });
      if (verdict?.type !== "permit" || verdict.route.id !== route.id) continue;
      permitted.push({ type: "route", id });
      found(verdict);
    }
    return pageOf(permitted, page);
  }

  async function subjects(body: unknown, found: Found): Promise<SearchResult> {
    const given = objectOf(body, "the body");
    const page = parseSearchPage(given);
    const type = textOf(objectOf(given["subject"], "subject")["type"], "subject.type");
    const action = actionOf(given["action"]);
    const query = { action, resource: entityOf(given["resource"], "resource"), context: contextOf(given) };
    if (type !== "user" && !(type === "identity" && issuer !== null)) return pageOf([], page);
    const people = await nextPeople(page.from);
    const results: Json[] = [];
    let last = page.from;
    for (const [i, userId] of people.entries()) {
      if (results.length >= page.limit) break;
      if (i % decidedAtOnce === decidedAtOnce - 1) await pause();
      const id = await nameOfPermitted(userId, query, found);
      if (id !== undefined) results.push({ type, id });
      last = userId;
    }
    const isWhole = last === people.at(-1) || people.length === 0;
    const next = isWhole && people.length < examinedMax ? "" : page.tokenFor(last);
    return { page: { next_token: next, count: results.length }, results };
  }

  /** The next people after an id, in order, up to `examinedMax`. */
  async function nextPeople(after: string): Promise<readonly UserId[]> {
    let chosen: UserId[] = [];
    let scanned = 0;
    const keepFirst = (): void => {
      chosen = chosen.sort((a, b) => (a < b ? -1 : 1)).slice(0, examinedMax);
    };
    for (const { userId } of replica.projection.users()) {
      if (++scanned % scannedAtOnce === 0) await pause();
      if (userId > after) chosen.push(userId);
      if (chosen.length >= examinedMax * 8) keepFirst();
    }
    keepFirst();
    return chosen;
  }

  /** The id by which queries name the person; undefined: not permitted, or queries cannot name them. */
  async function nameOfPermitted(
    userId: UserId,
    asked: Omit<AuthzenRequest, "subject">,
    found: Found,
  ): Promise<string | undefined> {
    const verdict = await decideFor(userId, asked);
    if (verdict?.type !== "permit" || verdict.principal === null) return undefined;
    const subject = issuer === null ? userId : verdict.principal.profile?.subject;
    if (subject === undefined || (issuer !== null && userIdOf(issuer, subject) !== userId)) return undefined;
    found(verdict);
    return subject;
  }

  return {
    actions: (body, by) => recorded("searchActions", by, (found) => actions(body, found)),
    resources: (body, by) => recorded("searchResources", by, (found) => resources(body, found)),
    subjects: (body, by) => recorded("searchSubjects", by, (found) => subjects(body, found)),
  };
}

function inputs(given: Json): Pick<AuthzenRequest, "subject"> {
  return { subject: entityOf(given["subject"], "subject") };
}

/** The first address of a route; undefined: it has no single one. */
function beginningOf(route: RouteConfig): string | undefined {
  if (route.tunnel !== null || route.host.includes("*") || route.match.kind === "regex") return undefined;
  return `${route.from.origin}${route.match.value === "" ? "/" : route.match.value}`;
}

function pageOf(all: readonly Json[], { from, limit, tokenFor }: SearchPage): SearchResult {
  if (!/^\d{0,9}$/.test(from)) throw new AuthzenError("page.token is not valid");
  const begin = Number(from);
  const results = all.slice(begin, begin + limit);
  const end = begin + results.length;
  const next = end < all.length ? tokenFor(String(end)) : "";
  return { page: { next_token: next, count: results.length, total: all.length }, results };
}
