/**
 * SCIM bulk: several operations in one request (RFC 7644 §3.7).
 *
 * - Operations run in order, one after the other, except that neighbouring creations of users run together.
 * - An operation that uses a `bulkId` waits for the one that creates its resource. Those that wait for each other get
 *   409.
 * - The token is checked before each operation: a revocation ends a request that is in progress.
 * - A request that would take access or a group from too many people is held whole, before its first operation.
 */
import { isObject, type JsonObject } from "./scim-attributes.ts";
import { announceBulk, type BulkOperation } from "./scim-bulk-total.ts";
import type { ScimAnswer, ScimCaller, ScimDeps, ScimRequest } from "./scim-context.ts";
import type { ServerLimits } from "./scim-discovery.ts";
import { errorBody, ScimError } from "./scim-error.ts";
import { answerScim } from "./scim-router.ts";

const requestSchema = "urn:ietf:params:scim:api:messages:2.0:BulkRequest";
const responseSchema = "urn:ietf:params:scim:api:messages:2.0:BulkResponse";
export const bulkOperationsMax = 1_000;
/** More would load users faster, and keep decisions of the same process waiting for longer (bench/scim.ts). */
const togetherMax = 16;
const bulkIdPattern = /bulkId:([\w.-]{1,200})/g;
const levelsMax = 16;

type Operation = BulkOperation & Readonly<{ bulkId: string | undefined }>;
type Done = Readonly<{ answer: ScimAnswer | null; entry: JsonObject; failed: boolean }>;

/** @throws ScimError */
export async function answerBulk(
  deps: ScimDeps,
  caller: ScimCaller,
  body: unknown,
  limits: ServerLimits,
): Promise<ScimAnswer> {
  const { operations, failOnErrors } = parseBulk(body);
  const counted = await announceBulk(deps, caller, operations);
  const order = new BulkOrder(operations);
  const ids = new Map<string, string>();
  const done: Done[] = [];
  let errors = 0;
  for (let some = order.next(); some.length > 0 && errors < failOnErrors; some = order.next()) {
    const ran = await Promise.all(some.map((operation) => run(deps, counted, { operation, ids, limits })));
    for (const [n, each] of ran.entries()) {
      done.push(each);
      if (each.failed) errors += 1;
      const bulkId = some[n]?.bulkId;
      const id = each.answer?.body?.["id"];
      if (bulkId !== undefined && typeof id === "string") ids.set(bulkId, id);
    }
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

/** The order of the operations: as sent, but one that uses a `bulkId` waits for the one that creates its resource. */
class BulkOrder {
  #waiting: readonly Readonly<{ operation: Operation; needs: ReadonlySet<string> }>[];
  /** The `bulkId`s of the creations that have not been passed out. */
  readonly #open: Set<string>;

  constructor(operations: readonly Operation[]) {
    this.#waiting = operations.map((operation) => ({ operation, needs: bulkIdsIn(operation) }));
    this.#open = new Set(operations.map(creates).filter((bulkId) => bulkId !== undefined));
  }

  /** The next operation, with the neighbouring creations of users that may run at the same time; none: the end. */
  next(): readonly Operation[] {
    // Operations that wait for each other run as they are, and are refused.
    const from = Math.max(
      0,
      this.#waiting.findIndex((each) => this.#isReady(each)),
    );
    const rest = this.#waiting.slice(from, from + togetherMax);
    const other = rest.findIndex(({ operation, needs }) => !isUserCreation(operation) || needs.size > 0);
    const taken = rest.slice(0, other === -1 ? rest.length : Math.max(1, other)).map(({ operation }) => operation);
    this.#waiting = [...this.#waiting.slice(0, from), ...this.#waiting.slice(from + taken.length)];
    for (const operation of taken) this.#open.delete(creates(operation) ?? "");
    return taken;
  }

  #isReady({ operation, needs }: Readonly<{ operation: Operation; needs: ReadonlySet<string> }>): boolean {
    for (const bulkId of needs) if (this.#open.has(bulkId) && bulkId !== creates(operation)) return false;
    return true;
  }
}

const creates = ({ method, bulkId }: Operation): string | undefined => (method === "POST" ? bulkId : undefined);
const isUserCreation = ({ method, path }: Operation): boolean => method === "POST" && /^\/users$/i.test(path);

function bulkIdsIn({ path, data }: Operation): ReadonlySet<string> {
  const text = `${path} ${JSON.stringify(data ?? null)}`;
  return new Set([...text.matchAll(bulkIdPattern)].map(([, bulkId = ""]) => bulkId));
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
    caller.recheck();
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
    return value.replace(bulkIdPattern, (_whole, bulkId: string) => {
      const id = ids.get(bulkId);
      if (id === undefined) throw new ScimError(409, `no operation has created ${bulkId}`, "invalidValue");
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
