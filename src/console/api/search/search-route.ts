/**
 * Search: `GET /search`, for the palette of the console and `cardea search`.
 *
 * Each kind of hit comes from the operation of the API that lists it, asked with the caller's own rights. What the
 * caller may not list is not found, and every read of personal data is recorded as any other.
 */
import type { FastifyInstance } from "fastify";
import { parseLink, parseSessionId } from "../../../events/index.ts";
import { type CallOperation, createOperationCall } from "../operation-call.ts";
import { badRequest, type Operator, type OperatorApiDeps, type RegisterRoute, tryParse } from "../operator-route.ts";
import { isInScope } from "../roles/operator-roles.ts";
import { hitsMax, type SearchHit, searchSchema } from "./search-operations.ts";

const consolePath = "/.pomerium/admin";
/** Of each kind, so that one does not hide the others. */
const perKindMax = 6;

export function registerSearch(route: RegisterRoute, deps: OperatorApiDeps, app: FastifyInstance): void {
  route("GET /search", async (request, reply, caller) => {
    const query = searchSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    const { q } = query.data;
    if (q === "") return { hits: [], applied: deps.replica.applied };
    const call = createOperationCall(app, request);
    const found = await Promise.all([
      exactHits(q, deps, { call, caller }),
      peopleNamed(q, call),
      groupsNamed(q, call),
      routesNamed(q, deps, caller),
    ]);
    const hits = new Map(found.flat().map((hit) => [hit.href, hit]));
    return { hits: [...hits.values()].slice(0, hitsMax), applied: deps.replica.applied };
  });
}

const fold = (text: string): string => text.normalize("NFKC").toLowerCase();
const has = (q: string, ...texts: readonly string[]): boolean => texts.some((text) => fold(text).includes(fold(q)));

async function peopleNamed(q: string, call: CallOperation): Promise<readonly SearchHit[]> {
  const answer = await call("GET /users", { query: { q, limit: perKindMax } });
  if (answer.type === "failed") return [];
  return answer.body.users
    .filter(({ id, name, email, subject }) => id === q || has(q, name, email, subject))
    .map(personHit);
}

function personHit({ id, name, email }: Readonly<{ id: string; name: string; email: string }>): SearchHit {
  const shown = name || email || id;
  return {
    kind: "person",
    id,
    name: shown,
    detail: shown === email ? "" : email,
    href: `${consolePath}/people/${encodeURIComponent(id)}`,
  };
}

async function groupsNamed(q: string, call: CallOperation): Promise<readonly SearchHit[]> {
  const answer = await call("GET /groups", { query: { q, limit: perKindMax } });
  if (answer.type === "failed") return [];
  return answer.body.groups
    .filter(({ id, name }) => has(q, id, name))
    .map(({ id, name }) => ({
      kind: "group",
      id,
      name: name || id,
      detail: name === id ? "" : id,
      href: `${consolePath}/groups/${segmentOf(id)}`,
    }));
}

/** A group's id in an address: it may hold a slash, which proxies would not pass. */
function segmentOf(id: string): string {
  return /^[A-Za-z0-9@._-]+$/.test(id) ? id : `base64url:${Buffer.from(id).toString("base64url")}`;
}

function routesNamed(q: string, { routePolicies }: OperatorApiDeps, { scope }: Operator): readonly SearchHit[] {
  const hits: SearchHit[] = [];
  for (const { id, from, routeGroups } of routePolicies?.() ?? []) {
    if (!has(q, id, from) || !isInScope(scope, routeGroups)) continue;
    const href = `${consolePath}/access?${new URLSearchParams({ route: id })}`;
    hits.push({ kind: "route", id, name: from, detail: from === id ? "" : id, href });
    if (hits.length >= perKindMax) break;
  }
  return hits;
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

async function exactHits(
  q: string,
  { replica }: OperatorApiDeps,
  { call, caller }: Readonly<{ call: CallOperation; caller: Operator }>,
): Promise<readonly SearchHit[]> {
  const text = q.toLowerCase();
  if (/^\d{1,15}$/.test(text)) {
    const position = Number(text);
    return position === 0 || position > replica.applied.position
      ? []
      : [{ kind: "change", id: text, name: text, detail: "", href: `${consolePath}/changes/${position}` }];
  }
  if (tryParse(parseLink, q) !== undefined) return receiptHits(`link:${q}`, call);
  if (/^[0-9a-f]{8,64}$/.test(text)) return configurationHits(text, call);
  if (!uuid.test(text)) return [];
  const receipts = await receiptHits(`command:${text}`, call);
  const sessionId = tryParse(parseSessionId, text);
  const session = sessionId === undefined || caller.scope !== null ? undefined : replica.projection.session(sessionId);
  const person =
    session === undefined || session.userId === null
      ? null
      : await call("GET /users/:user", { params: { user: session.userId } });
  const owner = person?.type === "answered" ? person.body.users[0] : undefined;
  const sessions: readonly SearchHit[] =
    session === undefined
      ? []
      : [
          {
            kind: "session",
            id: text,
            name: owner?.name || owner?.email || text,
            detail: text,
            href: `${consolePath}/sessions/${text}`,
          },
        ];
  const asked: SearchHit = {
    kind: "request",
    id: text,
    name: text,
    detail: "",
    href: `${consolePath}/decisions/${text}`,
  };
  return [...receipts, ...sessions, asked];
}

async function receiptHits(target: string, call: CallOperation): Promise<readonly SearchHit[]> {
  const answer = await call("GET /receipts/:target", { params: { target }, query: { wait: "none" } });
  if (answer.type === "failed" || answer.body["status"] === "lost") return [];
  const id = target.slice(target.indexOf(":") + 1);
  return [{ kind: "command", id, name: id, detail: "", href: `${consolePath}/receipts/${encodeURIComponent(target)}` }];
}

async function configurationHits(hash: string, call: CallOperation): Promise<readonly SearchHit[]> {
  const answer = await call("GET /configurations/:hash", { params: { hash } });
  if (answer.type === "failed") return [];
  return [{ kind: "configuration", id: hash, name: hash, detail: "", href: `${consolePath}/configurations/${hash}` }];
}
