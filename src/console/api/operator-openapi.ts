/**
 * Operator OpenAPI: the description of the operator API (OpenAPI 3.1), generated from its table of operations and
 * schemas. Pure.
 */
import * as z from "zod";
import { errorSchema } from "./operator-errors.ts";
import { type Operation, operatorOperations, pathParameters } from "./operator-operations.ts";

type Json = Readonly<Record<string, unknown>>;

const commonErrors: Readonly<Record<number, string>> = {
  401: "No operator token, or one that is not valid or has expired.",
  403: "The caller's role does not suffice (`role-required`, with `role`), is limited to other routes (`out-of-scope`) or has changed (`role-changed`); not from this installation's own pages; or refused by the log.",
  500: "A server error; it is unknown whether the change was made.",
  503: "The server is behind the log, no broker leads, or the home region is out of reach (`home-unreachable`). `Retry-After` says when to try again.",
};
const bodyErrors: Readonly<Record<number, string>> = {
  413: "The body is too large.",
  415: "The body is not JSON.",
};
const errors: Readonly<Record<number, string>> = {
  400: "A parameter or the body is not valid; `error` says what would be.",
  404: "What the path or the body names does not exist.",
  409: "The name matches several users, or the state of the log does not permit the change.",
  410: "The user is erased; with `cursor_unknown`, what follows the cursor is gone.",
  502: "The transmitter refused the request, or did not answer; `error` says why.",
};

export function operatorOpenApi(prefix: string): Json {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const [name, operation] of Object.entries<Operation>(operatorOperations)) {
    const [method = "", path = ""] = name.split(" ");
    const at = path.replace(/:(\w+)/g, "{$1}");
    paths[at] = { ...paths[at], [method.toLowerCase()]: operationOf(method, path, operation) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Cardea operator API",
      version: "1",
      description:
        "Served on the authenticate host. Callers send an operator token, or the session of a person with a role from the installation's own pages. `x-cardea-role` is the lowest role that may use an operation.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [
      {
        url: `https://{host}${prefix}`,
        variables: { host: { default: "authenticate.example.com", description: "The authenticate host." } },
      },
    ],
    security: [{ operatorToken: [] }],
    paths,
    components: {
      securitySchemes: { operatorToken: { type: "http", scheme: "bearer", bearerFormat: "JWT" } },
      schemas: { Error: schemaOf(errorSchema, "output") },
    },
  };
}

function operationOf(method: string, path: string, operation: Operation): Json {
  const { summary, query, body } = operation;
  const inPath = [...path.matchAll(/:(\w+)/g)].map(([, name = ""]) => ({
    name,
    in: "path",
    required: true,
    description: pathParameters[name] ?? "",
    schema: { type: "string" },
  }));
  const inQuery = query === undefined ? [] : queryParameters(query);
  const inHeader =
    path === "/decisions"
      ? [
          {
            name: "Last-Event-ID",
            in: "header",
            description: "The cursor after which to resume.",
            schema: { type: "string" },
          },
        ]
      : [];
  return {
    operationId: operationIdOf(method, path),
    summary,
    "x-cardea-role": operation.role,
    ...(operation.stepUp === true ? { "x-cardea-step-up": true } : {}),
    parameters: [...inPath, ...inQuery, ...inHeader],
    ...(body === undefined
      ? {}
      : { requestBody: { content: { "application/json": { schema: schemaOf(body, "input") } } } }),
    responses: { [operation.status]: successOf(operation), ...acceptedOf(operation), ...errorsOf(method, operation) },
  };
}

function queryParameters(query: z.ZodObject): readonly Json[] {
  const { properties = {} } = schemaOf(query, "input") as Readonly<{ properties?: Readonly<Record<string, Json>> }>;
  return Object.entries(properties).map(([name, schema]) => {
    const { description, deprecated, ...rest } = schema;
    return {
      name,
      in: "query",
      required: false,
      ...(description === undefined ? {} : { description }),
      ...(deprecated === undefined ? {} : { deprecated }),
      schema: rest,
    };
  });
}

function successOf({ answer, stream, query }: Operation): Json {
  const content = {
    ...(answer === undefined ? {} : { "application/json": { schema: schemaOf(answer, "output") } }),
    ...(query !== undefined && "format" in query.shape ? { "text/csv": { schema: { type: "string" } } } : {}),
    ...(stream === undefined ? {} : { "text/event-stream": { schema: { type: "string", description: stream } } }),
  };
  return { description: "Done.", content };
}

function acceptedOf({ accepted }: Operation): Json {
  if (accepted === undefined) return {};
  const description = "Accepted in the region of this server only, which is cut off from the leader.";
  return { 202: { description, content: { "application/json": { schema: schemaOf(accepted, "output") } } } };
}

function errorsOf(method: string, operation: Operation): Json {
  const own = Object.fromEntries(operation.errors.map((status) => [status, errors[status] ?? ""]));
  const all = { ...commonErrors, ...(method === "POST" ? bodyErrors : {}), ...own };
  const content = { "application/json": { schema: { $ref: "#/components/schemas/Error" } } };
  return Object.fromEntries(Object.entries(all).map(([status, description]) => [status, { description, content }]));
}

function operationIdOf(method: string, path: string): string {
  const words = path.split(/[/:]+/).filter((word) => word !== "");
  return [method.toLowerCase(), ...words]
    .map((word, n) => (n === 0 ? word : `${word[0]?.toUpperCase()}${word.slice(1)}`))
    .join("");
}

/** OpenAPI 3.1 takes JSON Schema 2020-12; only the root of a document names its dialect. */
function schemaOf(schema: z.ZodType, io: "input" | "output"): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { target: "draft-2020-12", io });
  return rest;
}
