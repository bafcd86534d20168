/**
 * The OpenAPI description of the operator API: generated, valid, and equal to what the API serves: paths, parameters,
 * errors.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { z } from "zod";
import { operatorApiFile, operatorApiText } from "../../../scripts/generate-operator-api.ts";
import { errorSchema, refusalStatus } from "../../../src/console/api/operator-errors.ts";
import { type Operation, operatorOperations } from "../../../src/console/api/operator-operations.ts";
import { formatLink, type Position } from "../../../src/events/index.ts";
import { BrokerUnavailableError } from "../../../src/replication/wire/index.ts";
import { signIn, subjectId } from "../../auth/authenticate/support.ts";
import { json, startOperatorWorld } from "./operator-support.ts";

type Parameter = Readonly<{
  name: string;
  in: string;
  deprecated?: boolean;
  schema: Readonly<Record<string, unknown>>;
}>;
type Described = Readonly<{
  parameters: readonly Parameter[];
  requestBody?: Readonly<{
    content: Readonly<Record<string, Readonly<{ schema: Readonly<Record<string, unknown>> }>>>;
  }>;
  responses: Readonly<Record<string, object>>;
}>;
const root = join(import.meta.dirname, "../../..");
const text = readFileSync(join(root, operatorApiFile), "utf8");
const description = JSON.parse(text) as Readonly<{
  paths: Readonly<Record<string, Readonly<Record<string, Described>>>>;
}>;
const described = Object.entries(description.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
);

test(`${operatorApiFile} matches the table of operations (else: npm run docs:operator-api)`, () => {
  assert.equal(text, operatorApiText());
  assert.deepEqual(
    described.map(({ method, path }) => `${method} ${path.replace(/\{(\w+)\}/g, ":$1")}`).sort(),
    Object.keys(operatorOperations).sort(),
  );
});

/** Not a static import: without the package the rest of this file still runs. */
const validatorPackage: string = "@seriousme/openapi-schema-validator";
const isInstalled = existsSync(join(root, "node_modules", validatorPackage));

test("the description is valid OpenAPI 3.1", {
  skip: isInstalled ? false : "run npm ci: the validator is missing",
}, async () => {
  const { Validator } = (await import(validatorPackage)) as {
    Validator: new () => { validate(document: object): Promise<{ valid: boolean; errors?: unknown }>; version: string };
  };
  const validator = new Validator();
  const result = await validator.validate(structuredClone(description));
  assert.equal(result.valid, true, JSON.stringify(result.errors));
  assert.equal(validator.version, "3.1");
  const { paths: _, ...broken } = JSON.parse(text);
  assert.equal((await new Validator().validate({ ...broken, info: {} })).valid, false);
});

test("the API serves every path, checks every parameter and field, and answers with the described errors", async (t) => {
  let brokerAnswers = true;
  const unlessUnavailable = <T>(run: () => Promise<T>): Promise<T> =>
    brokerAnswers ? run() : Promise.reject(new BrokerUnavailableError("no broker answers"));
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      submit: (request) => unlessUnavailable(() => inner.submit(request)),
      receipt: (target, options) => unlessUnavailable(() => inner.receipt(target, options)),
      status: () => unlessUnavailable(() => inner.status()),
      takeSnapshot: async () => 7 as Position, // the broker of these tests stores none
      localReceipt: async () => ({ type: "merged", link: at.world.replica.applied }), // and is no regional one
    }),
  });
  await signIn(at.world, at.world.visitor(), "bob");
  const values: Readonly<Record<string, string>> = {
    ...{ user: "bob", group: "sales", id: "an-unknown-session", hash: "0123456789abcdef", token: "abcdef012345" },
    held: "c0ffee00-0000-4000-8000-000000000002",
    request: "c0ffee00-0000-4000-8000-000000000003",
    directory: "corp",
    receiver: "payroll",
    transmitter: "okta",
    target: `link:${formatLink(at.world.replica.applied)}`,
    commandId: "c0ffee00-0000-4000-8000-000000000001",
    ...{ a: "a".repeat(64), b: "b".repeat(64) },
  };
  const fillPath = (path: string): string =>
    path.replace(/\{(\w+)\}/g, (_, name: string) => values[name] ?? assert.fail(name));
  const parseError = (body: string): z.infer<typeof errorSchema> => errorSchema.strict().parse(JSON.parse(body));

  for (const { method, path, operation } of described) {
    const url = fillPath(path);
    const name = `${method} ${path}`;
    const send = (query: string, body: object): ReturnType<typeof at.get> =>
      method === "GET" ? at.get(`${url}${query}`) : at.post(`${url}${query}`, body);
    for (const status of [401, 403, 500, 503]) assert.ok(status in operation.responses, `${name}: ${status}`);
    const unauthenticated = await at.visitor.request(at.url(url), {
      method,
      headers: { authorization: "Bearer none" },
    });
    assert.equal(unauthenticated.status, 401, name);
    parseError(unauthenticated.body);

    for (const parameter of operation.parameters.filter((each) => each.in === "query" && path !== "/decisions")) {
      if (parameter.schema["type"] === "string" && parameter.schema["enum"] === undefined) continue;
      const wrong = await send(`?${parameter.name}=%C2%A7`, {});
      assert.equal(wrong.status, 400, `${name}?${parameter.name}`);
      assert.match(parseError(wrong.body).error, new RegExp(parameter.name));
    }
    const schema = operation.requestBody?.content["application/json"]?.schema;
    for (const field of Object.keys((schema?.["properties"] as object | undefined) ?? {})) {
      const wrong = await send("", { [field]: { wrong: true } });
      assert.equal(wrong.status, 400, `${name} {${field}}`);
    }
    if (schema === undefined) continue;
    const unknown = await send("", { undescribed: 1 });
    assert.equal(unknown.status, 400, `${name}: a field that is not described`);
    const headers = { authorization: `Bearer ${await at.token()}`, "content-type": "text/csv" };
    const csv = await at.visitor.request(at.url(url), { method, headers, body: "a" });
    assert.deepEqual([csv.status, "415" in operation.responses], [415, true], name);
    const large = await at.post(url, { commandId: "x".repeat(2 * 1024 * 1024) });
    assert.deepEqual([large.status, "413" in operation.responses], [413, true], name);
  }

  const [session] = at.world.replica.projection.sessions();
  const known = { ...values, id: session?.sessionId ?? "" };
  for (const [name, operation] of Object.entries<Operation>(operatorOperations)) {
    const [method, path = ""] = name.split(" ");
    // The tests of held changes, transmitters, configurations and access reports check the answers about one of them.
    const isOfOne = /:(?:hash|held|request|transmitter|a\b)|^\/(?:access|policy)\//.test(path);
    if (method !== "GET" || operation.answer === undefined || isOfOne) continue;
    const answer = await at.get(
      path.replace(/:(target|commandId|user|group|id)\b/, (_, name: keyof typeof known) => known[name] ?? ""),
    );
    assert.equal(answer.status, operation.status, answer.body);
    operation.answer.parse(json(answer));
  }
  const change = json(await at.post("/users/bob/sessions/revoke", { wait: "all", timeoutMs: 5_000 }));
  operatorOperations["POST /users/:user/sessions/revoke"].answer.parse(change);
  const snapshot = await at.post("/snapshots", {});
  assert.equal(snapshot.status, operatorOperations["POST /snapshots"].status, snapshot.body);
  operatorOperations["POST /snapshots"].answer.parse(json(snapshot));

  const bob = subjectId(at.world, "bob");
  assert.equal((await at.get("/configurations/0123456789abcdef")).status, 404);
  assert.equal((await at.post("/users/no-such-user/suspend")).status, 404);
  assert.equal((await at.post(`/users/${bob}/erase`)).status, 200);
  const erased = await at.post(`/users/${bob}/restore`);
  assert.deepEqual([erased.status, parseError(erased.body).code], [refusalStatus.erased, "erased"]);

  brokerAnswers = false;
  const commandId = randomUUID();
  const unavailable = await at.post("/groups/eng/remove", { commandId });
  assert.deepEqual([unavailable.status, parseError(unavailable.body).commandId], [503, commandId]);
  assert.ok(unavailable.headers["retry-after"] !== undefined);
});

test("timeoutMs and its old name timeout mean the same, in queries and in bodies", async (t) => {
  const timeouts: number[] = [];
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      receipt: (target, options) => {
        timeouts.push(options.timeoutMs);
        return inner.receipt(target, { ...options, timeoutMs: 0 });
      },
    }),
  });
  await signIn(at.world, at.world.visitor(), "bob");
  const receipt = `/receipts/link:${formatLink(at.world.replica.applied)}`;
  for (const query of ["", "?timeoutMs=7", "?timeout=8", "?timeoutMs=9&timeout=1"])
    assert.equal((await at.get(`${receipt}${query}`)).status, 200);
  for (const body of [{ timeoutMs: 10 }, { timeout: 11 }, { timeoutMs: 12, timeout: 1 }])
    assert.equal((await at.post("/users/bob/suspend", { wait: "all", ...body })).status, 200);
  assert.deepEqual(timeouts, [10_000, 7, 8, 9, 10, 11, 12]);
});
