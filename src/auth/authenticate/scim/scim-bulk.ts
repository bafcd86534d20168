/**
 * SCIM bulk: several operations in one request (RFC 7644 §3.7).
 *
 * Operations run in order, one after the other, except that neighbouring creations of users run together. A `bulkId`
 * may be used by the operations after the one that creates its resource.
 */
import { isObject, type JsonObject } from "./scim-attributes.ts";
import type { ScimAnswer, ScimCaller, ScimDeps, ScimRequest } from "./scim-context.ts";
import type { ServerLimits } from "./scim-discovery.ts";
import { errorBody, ScimError } from "./scim-error.ts";
import { answerScim } from "./scim-router.ts";

const requestSchema = "urn:ietf:params:scim:api:messages:2.0:BulkRequest";
const responseSchema = "urn:ietf:params:scim:api:messages:2.0:BulkResponse";
export const bulkOperationsMax = 1_000;
/** More would load users faster, and keep decisions of the same process waiting for longer (bench/scim.ts). */
const togetherMax = 16;
const levelsMax = 16;

type Operation = Readonly<{
  method: string;
  path: string;
  bulkId: string | undefined;
  version: string | undefined;
  data: unknown;
}>;
type Done = Readonly<{ answer: ScimAnswer | null; entry: JsonObject; failed: boolean }>;

/** @throws ScimError */
export async function answerBulk(
  deps: ScimDeps,
  caller: ScimCaller,
  body: unknown,
  limits: ServerLimits,
): Promise<ScimAnswer> {
  const { operations, failOnErrors } = parseBulk(body);
  const ids = new Map<string, string>();
  const done: Done[] = [];
  let errors = 0;
  for (let at = 0; at < operations.length && errors < failOnErrors; ) {
    const group = together(operations.slice(at, at + togetherMax));
    const some = await Promise.all(group.map((operation) => run(deps, caller, { operation, ids, limits })));
    for (const [n, each] of some.entries()) {
      done.push(each);
      if (each.failed) errors += 1;
      const bulkId = group[n]?.bulkId;
      const id = each.answer?.body?.["id"];
      if (bulkId !== undefined && typeof id === "string") ids.set(bulkId, id);
    }
    at += group.length;
  }
  const links = done.map(({ answer }) => answer?.link).filter((link) => link !== undefined);
  const newest = links.reduce<(typeof links)[number] | undefined>(
    (last, link) => (last === undefined || link.position > last.position ? link : last),
    undefined,
  );
  return {
    status: 200,
    body: { schemas: [responseSchema], Operations: done.map(({ entry }) => entry) },
    ...(newest === undefined ? {} : { link: newest }),
  };
}

/** The operations at the start that may run at the same time: none depends on another. */
function together(operations: readonly Operation[]): readonly Operation[] {
  const isCreation = ({ method, path, data }: Operation): boolean =>
    method === "POST" && /^\/users$/i.test(path) && !JSON.stringify(data ?? null).includes("bulkId:");
  const other = operations.findIndex((operation) => !isCreation(operation));
  return operations.slice(0, other === -1 ? operations.length : Math.max(1, other));
}

async function run(
  deps: ScimDeps,
  caller: ScimCaller,
  {
    operation,
    ids,
    limits,
  }: Readonly<{ operation: Operation; ids: ReadonlyMap<string, string>; limits: ServerLimits }>,
): Promise<Done> {
  const { method, path, bulkId, version } = operation;
  const named = { method, ...(bulkId === undefined ? {} : { bulkId }) };
  try {
    const request: ScimRequest = {
      method,
      path: String(resolved(path, ids, 0)),
      query: new URLSearchParams(),
      body: resolved(operation.data, ids, 0),
      ifMatch: version,
      ifNoneMatch: undefined,
    };
    const answer = await answerScim(deps, caller, request, limits);
    const location = answer.location ?? `${deps.base}${request.path}`;
    const entry = {
      ...named,
      location,
      ...(answer.etag === undefined ? {} : { version: answer.etag }),
      status: String(answer.status),
    };
    return { answer, entry, failed: false };
  } catch (error) {
    if (!(error instanceof ScimError)) throw error;
    return {
      answer: null,
      entry: { ...named, status: String(error.status), response: errorBody(error) },
      failed: true,
    };
  }
}

/** @throws ScimError for a bulkId that no operation before has created */
function resolved(value: unknown, ids: ReadonlyMap<string, string>, level: number): unknown {
  if (level > levelsMax) throw new ScimError(400, "the data has too many levels", "invalidSyntax");
  if (typeof value === "string") {
    return value.replace(/bulkId:([\w.-]{1,200})/g, (_whole, bulkId: string) => {
      const id = ids.get(bulkId);
      if (id === undefined) throw new ScimError(409, `no operation before this one created ${bulkId}`, "invalidValue");
      return id;
    });
  }
  if (Array.isArray(value)) return value.map((each) => resolved(each, ids, level + 1));
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, resolved(each, ids, level + 1)]));
}

function parseBulk(body: unknown): Readonly<{ operations: readonly Operation[]; failOnErrors: number }> {
  const refuse = (detail: string): ScimError => new ScimError(400, detail, "invalidSyntax");
  if (!isObject(body)) throw refuse("the body is not a JSON object");
  const { schemas, Operations: listed, failOnErrors } = body;
  if (!Array.isArray(schemas) || !schemas.includes(requestSchema)) throw refuse(`schemas must name ${requestSchema}`);
  if (!Array.isArray(listed)) throw refuse("Operations is not a list");
  if (listed.length > bulkOperationsMax)
    throw new ScimError(413, `a request has at most ${bulkOperationsMax} operations`, "tooMany");
  if (failOnErrors !== undefined && !(Number.isSafeInteger(failOnErrors) && Number(failOnErrors) > 0))
    throw refuse("failOnErrors is not a number above 0");
  const operations = listed.map((each): Operation => {
    if (!isObject(each)) throw refuse("an operation is not a JSON object");
    const { method, path, bulkId, version, data } = each;
    if (typeof method !== "string" || !/^(?:POST|PUT|PATCH|DELETE)$/i.test(method))
      throw refuse("a method is not POST, PUT, PATCH or DELETE");
    if (typeof path !== "string" || !/^\/(?:Users|Groups)(?:\/[^/?#]+)?$/i.test(path))
      throw refuse("a path is not that of users, groups, or one of them");
    if (method.toUpperCase() === "POST" && (typeof bulkId !== "string" || bulkId === "" || bulkId.length > 200))
      throw refuse("an operation with POST needs a bulkId");
    return {
      method: method.toUpperCase(),
      path,
      data,
      bulkId: typeof bulkId === "string" ? bulkId : undefined,
      version: typeof version === "string" ? version : undefined,
    };
  });
  return { operations, failOnErrors: failOnErrors === undefined ? Number.POSITIVE_INFINITY : Number(failOnErrors) };
}
