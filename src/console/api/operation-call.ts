/**
 * Operation call: asks the operator API from within the process, for a page or for a search.
 *
 * - The request goes through the same router, hooks and handlers as one from outside, with the credentials of the
 *   page's own request: the API checks the caller and the role, and records the access, as for any other.
 * - A document that a person opened is a read of this installation's own page, also if the link was on another site: no
 *   other site can read the document, and it changes nothing. All else keeps the `Sec-Fetch-Site` of its request.
 */
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { z } from "zod";
import type { Fact } from "../../events/index.ts";
import type { OperationName, operatorOperations } from "./operator-operations.ts";

export const operatorApiPrefix = "/.pomerium/admin/api/v1";

type AnswerOf<Name extends OperationName> = (typeof operatorOperations)[Name] extends { answer: infer Schema }
  ? Schema extends z.ZodType
    ? z.infer<Schema>
    : unknown
  : unknown;

export type CallParts = Readonly<{
  params?: Readonly<Record<string, string>>;
  query?: Readonly<Record<string, string | number | boolean | undefined>>;
  body?: object;
}>;

/** What the API answered. `code` as in its errors; null: it has none. */
export type CallAnswer<Body> =
  | Fact<"answered", { status: number; body: Body }>
  | Fact<"failed", { status: number; error: string; code: string | null }>;

/** Asks an operation of the operator API with the credentials of the page's request. */
export type CallOperation = <Name extends OperationName>(
  operation: Name,
  parts?: CallParts,
) => Promise<CallAnswer<AnswerOf<Name>>>;

const copied = ["cookie", "authorization", "origin", "sec-fetch-site", "sec-fetch-mode", "user-agent", "host"] as const;

export function createOperationCall(app: FastifyInstance, request: FastifyRequest): CallOperation {
  const headers = callHeaders(request);
  return async (operation, parts = {}) => {
    const [method = "GET", pattern = ""] = operation.split(" ");
    const answer = await app.inject({
      method: method as "GET" | "POST",
      url: `${operatorApiPrefix}${pathOf(pattern, parts)}`,
      headers,
      ...(parts.body === undefined ? {} : { payload: parts.body }),
    });
    const body: unknown = parseJson(answer.body);
    if (answer.statusCode < 300) return { type: "answered", status: answer.statusCode, body: body as never };
    return { type: "failed", status: answer.statusCode, ...errorOf(body) };
  };
}

/** The headers that a request from the page itself would have. */
export function callHeaders({ headers, method }: Pick<FastifyRequest, "headers" | "method">): Record<string, string> {
  const own: Record<string, string> = { accept: "application/json" };
  for (const name of copied) {
    const value = headers[name];
    if (typeof value === "string") own[name] = value;
  }
  const reads = method === "GET" || method === "HEAD";
  if (reads && headers["sec-fetch-mode"] === "navigate" && headers["sec-fetch-dest"] === "document")
    own["sec-fetch-site"] = "same-origin";
  return own;
}

function pathOf(pattern: string, { params = {}, query = {} }: CallParts): string {
  const path = pattern.replace(/:(\w+)/g, (_all, name: string) => segmentOf(params[name] ?? ""));
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, String(value));
  return search.size === 0 ? path : `${path}?${search}`;
}

/** As a client writes a name in a path: an escaped slash would not pass proxies. */
function segmentOf(value: string): string {
  const wellFormed = value.toWellFormed();
  return /^[\w.:@-]*$/.test(wellFormed) && !/^\.{1,2}$/.test(wellFormed)
    ? encodeURIComponent(wellFormed)
    : `base64url:${Buffer.from(wellFormed).toString("base64url")}`;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function errorOf(body: unknown): Readonly<{ error: string; code: string | null }> {
  const { error, code } = (typeof body === "object" && body !== null ? body : {}) as Record<string, unknown>;
  return {
    error: typeof error === "string" ? error : "the operator API did not answer",
    code: typeof code === "string" ? code : null,
  };
}
