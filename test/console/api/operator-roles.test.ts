/** Roles of operators: what each role may do, by token and by session, and within which groups of routes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeJwt, SignJWT } from "jose";
import { type Operation, operatorOperations } from "../../../src/console/api/operator-operations.ts";
import {
  grantsOf,
  isInScope,
  isStillWithin,
  type OperatorRole,
  operatorRoles,
  scopeFor,
} from "../../../src/console/api/roles/operator-roles.ts";
import { verifyOperatorToken } from "../../../src/console/index.ts";
import { deriveKey } from "../../../src/replication/wire/index.ts";
import { secret, signIn } from "../../auth/authenticate/support.ts";
import { json, nowS, type OperatorWorld, startOperatorWorld } from "./operator-support.ts";

const pathValues: Readonly<Record<string, string>> = {
  ...{ id: "s1", user: "no-such-person", group: "eng", hash: "a".repeat(64), token: "abcdef012345" },
  ...{ request: "44444444-4444-4444-8444-444444444444" },
  ...{ held: "33333333-3333-4333-8333-333333333333", directory: "corp", receiver: "payroll", transmitter: "okta" },
  ...{ commandId: "22222222-2222-4222-8222-222222222222", target: `link:1.1.${"a".repeat(64)}` },
  ...{ a: "a".repeat(64), b: "b".repeat(64) },
};
const operations = Object.entries<Operation>(operatorOperations).map(([name, operation]) => {
  const [method = "", path = ""] = name.split(" ");
  const url = path.replaceAll(/:(\w+)/g, (_, param: string) => pathValues[param] ?? assert.fail(param));
  return { name, method, url, operation };
});
const isEnough = (role: OperatorRole, needed: OperatorRole): boolean =>
  operatorRoles.indexOf(role) >= operatorRoles.indexOf(needed);
/** Written for this test, so that a role that is changed by mistake is noticed. */
const changesOfOperators: readonly string[] = [
  ...["POST /sessions/:id/revoke", "POST /sessions/revoke", "POST /users/:user/sessions/revoke"],
  ...["POST /users/:user/suspend", "POST /users/:user/restore", "POST /users/:user/refresh", "POST /users/:user/ask"],
  ...["POST /access-requests/:request/approve", "POST /access-requests/:request/deny"],
  ...["POST /access-requests/:request/end"],
  ...["POST /groups/:group/members", "POST /held/:held/drop", "POST /directories/:directory/sync"],
  "POST /policy/replay",
];
const final: readonly string[] = [
  ...["POST /users/:user/erase", "POST /groups/:group/remove", "POST /held/:held/release", "POST /held/allow"],
  ...["POST /cluster/finalize", "POST /cluster/retire", "POST /snapshots"],
  ...["POST /scim/tokens", "POST /scim/tokens/:token/revoke", "POST /signals/streams/:receiver/status"],
];

test("reads need a viewer, changes of people and sessions an operator, and what is final an administrator", () => {
  for (const { name, method, operation } of operations) {
    if (method === "GET") assert.equal(operation.role, "viewer", name);
    if (changesOfOperators.includes(name)) assert.equal(operation.role, "operator", name);
    if (final.includes(name)) assert.equal(operation.role, "administrator", name);
  }
});

test("every operation, with every role: a role that does not suffice is refused before the body is read, and told what it needs", async (t) => {
  const at = await startOperatorWorld(t);
  for (const role of operatorRoles) {
    const headers = { authorization: `Bearer ${await at.token({ role })}` };
    for (const { name, method, url, operation } of operations) {
      if (isEnough(role, operation.role)) continue;
      const answer = await at.visitor.request(at.url(url), {
        method,
        headers: { ...headers, "content-type": "application/json" },
        body: '{"not": json',
      });
      const { code, role: needed, error } = json(answer);
      assert.deepEqual([answer.status, code, needed], [403, "role-required", operation.role], `${role}: ${name}`);
      assert.match(error, new RegExp(`needs the role ${operation.role}; yours is ${role}`));
    }
  }
  // What suffices is not refused for its role. Streams are left out: they would stay open.
  for (const role of operatorRoles) {
    const headers = { authorization: `Bearer ${await at.token({ role })}`, accept: "application/json" };
    for (const { name, method, url, operation } of operations) {
      if (!isEnough(role, operation.role) || (method === "GET" && operation.answer === undefined)) continue;
      const answer = await at.visitor.request(at.url(url), {
        method,
        headers: { ...headers, "content-type": "application/json" },
        ...(method === "POST" ? { body: '{"not": json' } : {}),
      });
      assert.notEqual(answer.status, 401, `${role}: ${name}`);
      assert.notEqual(answer.status, 403, `${role}: ${name}`);
    }
  }
});

async function asBrowser(at: OperatorWorld, name: string) {
  const visitor = at.world.visitor();
  await signIn(at.world, visitor, name);
  const origin = new URL(at.world.url("authenticate")).origin;
  const headers = { origin, "sec-fetch-site": "same-origin", "content-type": "application/json" };
  return {
    get: (path: string) => visitor.request(at.url(path), { headers }),
    post: (path: string, body: object = {}) =>
      visitor.request(at.url(path), { method: "POST", headers, body: JSON.stringify(body) }),
  };
}

test("a session has the roles of its entries now: a viewer changes nothing, and a role that is taken away ends with the next request", async (t) => {
  const at = await startOperatorWorld(t);
  at.roles.viewers.push("group:sales");
  const bob = await asBrowser(at, "bob");
  assert.equal((await bob.get("/users")).status, 200);
  const refused = await bob.post("/users/alice/suspend");
  assert.deepEqual([refused.status, json(refused).role], [403, "operator"]);
  at.roles.operators.push("group:sales");
  assert.equal((await bob.post("/users/alice/sessions/revoke")).status, 404, "an operator; no person is called alice");
  const erase = await bob.post("/users/bob/erase");
  assert.deepEqual([erase.status, json(erase).role], [403, "administrator"]);
  at.roles.operators.pop();
  assert.equal((await bob.post("/users/alice/sessions/revoke")).status, 403);
  at.roles.viewers.pop();
  const none = await bob.get("/users");
  assert.deepEqual([none.status, json(none).code, json(none).role], [403, "role-required", "viewer"]);
  assert.deepEqual(
    at.accesses
      .filter(({ outcome }) => outcome === "refused")
      .map(({ actor, command }) => [actor.slice(0, 5), command]),
    [
      ["user:", "POST /users/:user/suspend"],
      ["user:", "POST /users/:user/erase"],
      ["user:", "POST /users/:user/sessions/revoke"],
      ["user:", "GET /users"],
    ],
    "each refusal is recorded with the person",
  );
});

test("a role that is lost while a change waits changes nothing", async (t) => {
  let inName = (): void => undefined;
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      status: async (options) => {
        inName();
        return inner.status(options);
      },
    }),
  });
  at.roles.operators.push("group:sales");
  const bob = await asBrowser(at, "bob");
  inName = () => void at.roles.operators.splice(0);
  const answer = await bob.post("/users/bob/sessions/revoke", { region: "here" });
  assert.equal(answer.status, 403, answer.body);
  at.roles.viewers.push("group:sales");
  assert.equal((await bob.get("/users")).status, 200, "the session was not revoked");
});

test("a token has the role of its claim; a claim that is not signed, not known or under the wrong audience gives none", async (t) => {
  const at = await startOperatorWorld(t);
  const status = async (token: string): Promise<number> =>
    (await at.get("/nodes", { headers: { authorization: `Bearer ${token}` } })).status;
  assert.equal(await status(await at.token({ role: "viewer" })), 200);
  const key = deriveKey(secret, "operator token");
  const claims = { iss: "tester", jti: "t1", iat: nowS(), exp: nowS() + 60 };
  const signed = (more: object, by = key): Promise<string> =>
    new SignJWT({ ...claims, ...more }).setProtectedHeader({ alg: "HS256", typ: "JWT" }).sign(by);
  const [full, limited] = ["cardea-operator:test", "cardea-operator-role:test"];
  const cases: readonly (readonly [name: string, token: string, status: number])[] = [
    ["no role", await signed({ aud: full }), 200],
    ["a role", await signed({ aud: limited, role: "viewer" }), 200],
    ["an unknown role", await signed({ aud: limited, role: "root" }), 401],
    ["several roles", await signed({ aud: limited, role: ["viewer", "administrator"] }), 401],
    ["no role under the audience of limited tokens", await signed({ aud: limited }), 401],
    ["both audiences", await signed({ aud: [full, limited] }), 401],
    ["no groups", await signed({ aud: limited, role: "viewer", route_groups: [] }), 401],
    ["groups that are no list", await signed({ aud: limited, role: "viewer", route_groups: "hr" }), 401],
    ["a role by another key", await signed({ aud: limited, role: "administrator" }, secret), 401],
  ];
  for (const [name, token, expected] of cases) assert.equal(await status(token), expected, name);
  const lowered = { authorization: `Bearer ${await signed({ aud: full, role: "viewer" })}` };
  const byLowered = await at.post("/snapshots", {}, { headers: { ...lowered, "content-type": "application/json" } });
  assert.equal(byLowered.status, 403, "a role counts under any audience");
  const [header, payload, signature] = (await at.token({ role: "viewer" })).split(".");
  const forged = JSON.parse(Buffer.from(payload ?? "", "base64url").toString());
  const claimed = Buffer.from(JSON.stringify({ ...forged, role: "administrator" })).toString("base64url");
  assert.equal(await status(`${header}.${claimed}.${signature}`), 401, "a role that was changed after signing");
  const token = await at.token({ role: "operator", routeGroups: ["hr"] });
  assert.deepEqual(decodeJwt(token)["route_groups"], ["hr"]);
  const verified = await verifyOperatorToken(token, { secrets: [secret], cluster: "test", nowS: nowS() });
  assert.deepEqual([verified?.role, verified?.routeGroups], ["operator", ["hr"]]);
  for (const routeGroups of [[], ["a b"], [".."], Array.from({ length: 21 }, (_, i) => `g${i}`)])
    await assert.rejects(at.token({ role: "viewer", routeGroups }), TypeError);
});

test("grants add up, and a limited one never counts for more than its groups of routes", () => {
  const person = { groups: new Set(["hr", "staff"]), profile: undefined } as unknown as Parameters<typeof grantsOf>[0];
  const grants = grantsOf(person, {
    administrators: [{ who: "group:hr", routeGroups: ["payroll"] }],
    operators: [{ who: "group:staff", routeGroups: ["wiki"] }, "group:others"],
    viewers: ["group:staff"],
  });
  assert.deepEqual(scopeFor(grants, "administrator"), new Set(["payroll"]));
  assert.deepEqual(scopeFor(grants, "operator"), new Set(["payroll", "wiki"]));
  assert.equal(scopeFor(grants, "viewer"), null);
  assert.equal(scopeFor([], "viewer"), undefined);
  assert.ok(isInScope(null, []) && isInScope(new Set(["wiki"]), ["wiki", "x"]));
  assert.ok(!isInScope(new Set(["wiki"]), []) && !isInScope(new Set(), ["wiki"]));
  assert.ok(isStillWithin(new Set(["a"]), null) && isStillWithin(new Set(["a"]), new Set(["a", "b"])));
  assert.ok(!isStillWithin(null, new Set(["a"])) && !isStillWithin(new Set(["a", "b"]), new Set(["a"])));
});

test("an operation that does not apply the limit to groups of routes refuses a limited role", async (t) => {
  const at = await startOperatorWorld(t);
  const headers = {
    authorization: `Bearer ${await at.token({ role: "administrator", routeGroups: ["hr"] })}`,
    "content-type": "application/json",
  };
  for (const { name, method, url, operation } of operations) {
    if (operation.scoped === true) continue;
    const body = method === "POST" ? { body: '{"not": json' } : {};
    const answer = await at.visitor.request(at.url(url), { method, headers, ...body });
    assert.deepEqual([answer.status, json(answer).code], [403, "out-of-scope"], name);
    assert.match(json(answer).error, /limited to the groups of routes hr/);
  }
});

test("open streams end with a role that the configuration takes away", async (t) => {
  const at = await startOperatorWorld(t, { sleepMsMax: 20 });
  at.roles.viewers.push("group:sales");
  const bob = at.world.visitor();
  await signIn(at.world, bob, "bob");
  const headers = { "sec-fetch-site": "same-origin", accept: "text/event-stream" };
  const target = "command:22222222-2222-4222-8222-222222222222";
  const paths = ["/decisions", "/live?topics=status", `/receipts/${target}?timeoutMs=60000`];
  const ended = paths.map((path) => bob.request(at.url(path), { headers }).catch(() => "cut"));
  await new Promise((resolve) => void setTimeout(resolve, 200));
  at.roles.viewers.pop();
  await Promise.all(ended);
  assert.equal((await bob.request(at.url("/decisions"), { headers })).status, 403);
});
