/**
 * SCIM router: the operations of the server, for single requests and for those of a bulk request.
 *
 * A scope is needed for each: reading and writing, of users and of groups.
 */
import type { ScimScope } from "../../../events/index.ts";
import { isObject, type JsonObject } from "./scim-attributes.ts";
import { isNamed, type ScimAnswer, type ScimCaller, type ScimDeps, type ScimRequest } from "./scim-context.ts";
import { describeSchemas, resourceTypes, type ServerLimits, serviceProviderConfig } from "./scim-discovery.ts";
import { badValue, notFound, ScimError } from "./scim-error.ts";
import { createGroup, deleteGroup, patchGroup, readGroup, replaceGroup } from "./scim-groups.ts";
import {
  type AttributeChoice,
  chooseAttributes,
  listAll,
  listGroups,
  listQueryOf,
  listUsers,
  shapeOf,
} from "./scim-list.ts";
import { createUser, deleteUser, patchUser, readUser, replaceUser } from "./scim-users.ts";

const searchSchema = "urn:ietf:params:scim:api:messages:2.0:SearchRequest";

/** @throws ScimError */
export async function answerScim(
  deps: ScimDeps,
  caller: ScimCaller,
  request: ScimRequest,
  limits: ServerLimits,
): Promise<ScimAnswer> {
  const [kind, id, ...more] = partsOf(request.path);
  if (more.length > 0 || typeof kind !== "string" || id === undefined) throw notFound();
  switch (kind.toLowerCase()) {
    case "":
    case ".search":
      return rootAnswer(deps, caller, request, kind === "" ? "GET" : "POST");
    case "users":
      return withConditions(request, await usersAnswer(deps, caller, request, id));
    case "groups":
      return withConditions(request, await groupsAnswer(deps, caller, request, id));
    case "serviceproviderconfig":
      return discovery(request, serviceProviderConfig(deps.base, limits));
    case "resourcetypes":
      return discovery(request, resourceTypes(deps.base, id));
    case "schemas":
      return discovery(request, describeSchemas(deps.base, id, caller.client));
    case "me":
      throw new ScimError(501, "a client has no resource of its own");
    default:
      throw notFound();
  }
}

/** The kind and the id; null: no id. */
function partsOf(path: string): readonly (string | null | undefined)[] {
  const [kind = "", ...rest] = path.split("/").slice(1).map(decoded);
  return rest.length === 0 ? [kind, null] : [kind, ...rest];
}

/** Undefined: the escapes are not UTF-8, so it names nothing. */
function decoded(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}

function discovery(request: ScimRequest, body: JsonObject): ScimAnswer {
  if (request.method !== "GET") throw wrongMethod();
  // RFC 7644 §4: a filter here is refused, so that no client takes the whole list for its result.
  if (request.query.has("filter")) throw new ScimError(403, "filters are not supported here");
  return { status: 200, body };
}

/** A query of users and groups together. */
async function rootAnswer(
  deps: ScimDeps,
  caller: ScimCaller,
  { method, query, body }: ScimRequest,
  allowed: "GET" | "POST",
): Promise<ScimAnswer> {
  if (method !== allowed) throw wrongMethod();
  requireScope(caller, "users:read");
  requireScope(caller, "groups:read");
  return listAll(deps, caller, listQueryOf(method === "POST" ? searchOf(body) : query));
}

async function usersAnswer(
  deps: ScimDeps,
  caller: ScimCaller,
  request: ScimRequest,
  id: string | null,
): Promise<ScimAnswer> {
  const { method, query, body, ifMatch } = request;
  const { isSearch, shape } = prepare(caller, request, { kind: "users", id });
  if (isSearch) return listUsers(deps, caller, listQueryOf(method === "POST" ? searchOf(body) : query));
  if (id === null) return chosenAnswer(await createUser(deps, caller, body), shape);
  switch (method) {
    case "GET":
      return chosenAnswer(await readUser(deps, caller, id), shape);
    case "PUT":
      return chosenAnswer(await replaceUser(deps, caller, { id, body, ifMatch }), shape);
    case "PATCH":
      return chosenAnswer(await patchUser(deps, caller, { id, body, ifMatch }), shape);
    case "DELETE":
      return deleteUser(deps, caller, { id, ifMatch });
    default:
      throw wrongMethod();
  }
}

async function groupsAnswer(
  deps: ScimDeps,
  caller: ScimCaller,
  request: ScimRequest,
  id: string | null,
): Promise<ScimAnswer> {
  const { method, query, body, ifMatch } = request;
  const { isSearch, shape } = prepare(caller, request, { kind: "groups", id });
  if (isSearch) return listGroups(deps, caller, listQueryOf(method === "POST" ? searchOf(body) : query));
  const named = (names: AttributeChoice["only"]): boolean => names?.some((name) => /members/i.test(name)) === true;
  const withMembers = named(shape.only) || (shape.only === null && !named(shape.without));
  const shown = async (answer: ScimAnswer, written: string): Promise<ScimAnswer> => {
    const whole = await readGroup(deps, caller, { id: written, withMembers });
    return chosenAnswer({ ...answer, ...(whole.body === undefined ? {} : { body: whole.body }) }, shape);
  };
  if (id === null) {
    const created = await createGroup(deps, caller, body);
    return shown(created, String(created.body?.["id"]));
  }
  switch (method) {
    case "GET":
      return chosenAnswer(await readGroup(deps, caller, { id, withMembers }), shape);
    case "PUT":
      return shown(await replaceGroup(deps, caller, { id, body, ifMatch }), id);
    case "PATCH": {
      const answer = await patchGroup(deps, caller, { id, body, ifMatch });
      // 204 without a body: its cost does not grow with the group. A caller that names attributes gets them.
      if (shape.only !== null) return shown(answer, id);
      const { body: _, ...rest } = answer;
      return { ...rest, status: 204 };
    }
    case "DELETE":
      return deleteGroup(deps, caller, { id, ifMatch });
    default:
      throw wrongMethod();
  }
}

/** Checks the method and the scope. */
function prepare(
  caller: ScimCaller,
  { method, query }: ScimRequest,
  { kind, id }: Readonly<{ kind: "users" | "groups"; id: string | null }>,
): Readonly<{ isSearch: boolean; shape: AttributeChoice }> {
  const isSearch = (id === null && method === "GET") || (id === ".search" && method === "POST");
  if (!isSearch && id === null && method !== "POST") throw wrongMethod();
  if (id === "") throw notFound();
  requireScope(caller, `${kind}:${isSearch || method === "GET" ? "read" : "write"}`);
  return { isSearch, shape: shapeOf(query) };
}

/** @throws ScimError 403 */
function requireScope({ scopes }: ScimCaller, needed: ScimScope): void {
  if (!scopes.has(needed)) throw new ScimError(403, `the token lacks the scope ${needed}`);
}

/** A search in a body (RFC 7644 §3.4.3), as a query. */
function searchOf(body: unknown): URLSearchParams {
  if (!isObject(body)) throw new ScimError(400, "the body is not a JSON object", "invalidSyntax");
  const named = body["schemas"];
  if (!Array.isArray(named) || !named.includes(searchSchema))
    throw new ScimError(400, `schemas must name ${searchSchema}`, "invalidSyntax");
  const query = new URLSearchParams();
  for (const name of ["filter", "startIndex", "count", "sortBy", "sortOrder", "attributes", "excludedAttributes"]) {
    const value = body[name];
    if (value === undefined || value === null) continue;
    if (typeof value === "object" && !Array.isArray(value)) throw badValue(`${name} is an object`);
    query.set(name, Array.isArray(value) ? value.map(String).join(",") : String(value));
  }
  return query;
}

function chosenAnswer(answer: ScimAnswer, shape: AttributeChoice): ScimAnswer {
  const { body } = answer;
  if (body === undefined) return answer;
  const meta = isObject(body["meta"]) ? body["meta"] : {};
  const location = typeof meta["location"] === "string" ? meta["location"] : undefined;
  return { ...answer, body: chooseAttributes(body, shape), ...(location === undefined ? {} : { location }) };
}

/** Entra ID and Okta send no conditions, but others may: an unchanged resource is not sent again. */
function withConditions({ method, ifNoneMatch }: ScimRequest, answer: ScimAnswer): ScimAnswer {
  if (method !== "GET" || ifNoneMatch === undefined || answer.etag === undefined) return answer;
  if (!isNamed(ifNoneMatch, answer.etag)) return answer;
  const { body: _, ...rest } = answer;
  return { ...rest, status: 304 };
}

function wrongMethod(): ScimError {
  return new ScimError(405, "this resource has no such method");
}
