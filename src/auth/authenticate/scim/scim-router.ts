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
  type ListQuery,
  listAll,
  listGroups,
  listQueryOf,
  listUsers,
  shapeOf,
  showsMembers,
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
      return withConditions(request, await resourceAnswer(deps, caller, { request, id, handlers: users }));
    case "groups":
      return withConditions(request, await resourceAnswer(deps, caller, { request, id, handlers: groups }));
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

type Change = Readonly<{ id: string; body: unknown; ifMatch: string | undefined }>;
/** What the operations on users and on groups have in common. */
type ResourceHandlers = Readonly<{
  kind: "users" | "groups";
  list: (deps: ScimDeps, caller: ScimCaller, query: ListQuery) => Promise<ScimAnswer>;
  create: (deps: ScimDeps, caller: ScimCaller, body: unknown) => Promise<ScimAnswer>;
  read: (
    deps: ScimDeps,
    caller: ScimCaller,
    read: Readonly<{ id: string; shape: AttributeChoice }>,
  ) => Promise<ScimAnswer>;
  replace: (deps: ScimDeps, caller: ScimCaller, change: Change) => Promise<ScimAnswer>;
  patch: (deps: ScimDeps, caller: ScimCaller, change: Change) => Promise<ScimAnswer>;
  delete: (deps: ScimDeps, caller: ScimCaller, change: Omit<Change, "body">) => Promise<ScimAnswer>;
  /** Whether the answer to a PATCH has a body. */
  showsPatched: (shape: AttributeChoice) => boolean;
}>;

const users: ResourceHandlers = {
  kind: "users",
  list: listUsers,
  create: createUser,
  read: (deps, caller, { id }) => readUser(deps, caller, id),
  replace: replaceUser,
  patch: patchUser,
  delete: deleteUser,
  showsPatched: () => true,
};
const groups: ResourceHandlers = {
  kind: "groups",
  list: listGroups,
  create: createGroup,
  read: (deps, caller, { id, shape }) => readGroup(deps, caller, { id, withMembers: showsMembers(shape) }),
  replace: replaceGroup,
  patch: patchGroup,
  delete: deleteGroup,
  // 204 without a body: its cost does not grow with the group. A caller that names attributes gets them.
  showsPatched: ({ only }) => only !== null,
};

async function resourceAnswer(
  deps: ScimDeps,
  caller: ScimCaller,
  { request, id, handlers }: Readonly<{ request: ScimRequest; id: string | null; handlers: ResourceHandlers }>,
): Promise<ScimAnswer> {
  const { method, query, body, ifMatch } = request;
  const { isSearch, shape } = prepare(caller, request, { kind: handlers.kind, id });
  if (isSearch) return handlers.list(deps, caller, listQueryOf(method === "POST" ? searchOf(body) : query));
  /** A change with the resource as a read shows it; without, if another request has deleted it since. */
  const shown = async ({ status, link }: ScimAnswer, of: string): Promise<ScimAnswer> => {
    const changed: ScimAnswer = { status, ...(link === undefined ? {} : { link }) };
    try {
      return chosenAnswer({ ...(await handlers.read(deps, caller, { id: of, shape })), ...changed }, shape);
    } catch (error) {
      if (error instanceof ScimError && error.status === 404) return changed;
      throw error;
    }
  };
  if (id === null) {
    const created = await handlers.create(deps, caller, body);
    return shown(created, String(created.body?.["id"]));
  }
  switch (method) {
    case "GET":
      return chosenAnswer(await handlers.read(deps, caller, { id, shape }), shape);
    case "PUT":
      return shown(await handlers.replace(deps, caller, { id, body, ifMatch }), id);
    case "PATCH": {
      const answer = await handlers.patch(deps, caller, { id, body, ifMatch });
      if (handlers.showsPatched(shape)) return shown(answer, id);
      const { body: _, ...rest } = answer;
      return { ...rest, status: 204 };
    }
    case "DELETE":
      return handlers.delete(deps, caller, { id, ifMatch });
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
