/** A role that is limited to groups of routes: what it sees and does, and what it cannot learn. */
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { test } from "node:test";
import { compilePolicies } from "../../../src/auth/index.ts";
import type { RouteConfig } from "../../../src/config/index.ts";
import type { AccessFailure, WhatReport, WhoReport } from "../../../src/console/index.ts";
import {
  type Command,
  type CommandId,
  type ConfigHash,
  type NodeId,
  packConfigBody,
} from "../../../src/events/index.ts";
import { signIn, subjectId } from "../../auth/authenticate/support.ts";
import { base, parse } from "../../config/support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { json, type OperatorWorld, startOperatorWorld } from "./operator-support.ts";

const policyOf = (group: string): string => `{allow: {and: [{groups: {has: ${group}}}]}}`;

function routesOf(): readonly RouteConfig[] {
  const route = (name: string, group: string, groups: string): string =>
    `  - {id: ${name}, from: "https://${name}.example.com", to: "http://127.0.0.1:1", route_groups: [${groups}], policy: [${policyOf(group)}]}`;
  const lines = [
    route("payroll", "hr-people", "hr"),
    route("wiki", "staff", "hr"),
    route("crm", "staff", "sales"),
    route("mine", "keys", "hr"),
    route("vault", "sales", "sales"),
  ];
  const parsed = parse(`${base}routes:\n${lines.join("\n")}\n`);
  return parsed.ok ? parsed.config.routes : assert.fail(JSON.stringify(parsed.problems));
}

async function start(t: Parameters<typeof startOperatorWorld>[0]) {
  const routes = routesOf();
  const compiled = compilePolicies(routes);
  assert.ok(compiled.ok);
  const at = await startOperatorWorld(t, {
    routes: routes.flatMap(({ id, from, routeGroups }) => {
      const policy = compiled.policies.get(id);
      return policy === undefined ? [] : [{ id, from: from.href, policy, routeGroups }];
    }),
  });
  at.roles.administrators.splice(0, 1, "group:admins");
  at.roles.viewers.push("group:keys");
  const authorization = `Bearer ${await at.token({ role: "operator", routeGroups: ["hr"] })}`;
  const headers = { authorization, accept: "application/json", "content-type": "application/json" };
  return {
    at,
    get: (path: string) => at.get(path, { headers }),
    post: (path: string, body: object) => at.post(path, body, { headers }),
  };
}

async function activate({ world }: OperatorWorld, routes: readonly RouteConfig[]): Promise<ConfigHash> {
  const stored = routes.map(({ policy, ...route }) => ({
    ...{ id: route.id, name: route.name, from: route.from.href, host: route.host, requiresClientCertificate: false },
    ...{ allowPublicUnauthenticatedAccess: false, corsAllowPreflight: false, allowAnyAuthenticatedUser: false },
    ...{ allowedDomains: [], allowedIdpClaims: {}, allowedUsers: [], clientCa: null },
    policy: policy?.ppl ?? null,
  }));
  const text = JSON.stringify({ cookieName: "secret-of-the-file", routes: stored });
  const configHash = createHash("sha256").update(text).digest("hex") as ConfigHash;
  const nodeId = "node-1" as NodeId;
  const command: Command = { type: "activateConfiguration", nodeId, configHash, body: packConfigBody(text) };
  const result = await world.deps.databroker.submit({
    commandId: randomUUID() as CommandId,
    actor: "service:t",
    command,
  });
  assert.equal(result.type, "done");
  return configHash;
}

test("a limited operator changes groups that open only routes of their own, and learns nothing of people by trying others", async (t) => {
  const { at, get, post } = await start(t);
  await signIn(at.world, at.world.visitor(), "bob");
  const status = async (group: string, body: object): Promise<unknown> => {
    const answer = await post(`/groups/${group}/members`, body);
    return [answer.status, json(answer).code];
  };
  assert.deepEqual(await status("hr-people", { add: ["bob"] }), [200, undefined]);
  const refused = [403, "out-of-scope"];
  const encoded = Buffer.from("staff").toString("base64url");
  for (const [group, why] of [
    ["staff", "it opens a route of others, too"],
    [`base64url:${encoded}`, "by another spelling"],
    ["sales", "routes of others"],
    ["no-such-group", "no route names it"],
    ["admins", "it gives a role"],
    ["keys", "it opens a route of their own, and gives a role"],
  ] as const) {
    assert.deepEqual(await status(group, { add: ["bob"] }), refused, why);
    assert.deepEqual(await status(group, { add: ["no-such-person"] }), refused, "the same for every name");
    assert.deepEqual(await status(group, { remove: ["bob"], dryRun: true }), refused, "nor a preview");
  }
  const dryRuns = () => at.accesses.filter(({ command }) => command === "POST /groups/:group/members");
  assert.equal(dryRuns().length, 0, "what is refused, or is a command, has other records");
  assert.deepEqual(await status("hr-people", { remove: ["bob"], dryRun: true }), [200, undefined]);
  assert.deepEqual(
    dryRuns().map(({ targets, outcome }) => [targets, outcome]),
    [[["group:hr-people"], "done"]],
    "a preview names people, so who saw it is recorded",
  );
  assert.equal((await get("/groups/hr-people")).status, 200);
  const [hidden, missing] = [await get("/groups/sales"), await get("/groups/none-of-this-name")];
  assert.deepEqual([hidden.status, hidden.body], [missing.status, missing.body], "a group of others is no group");
  for (const path of ["/users/bob/suspend", "/users/bob/sessions/revoke", "/sessions/revoke"]) {
    const answer = await post(path, {});
    assert.deepEqual([answer.status, json(answer).code], refused, path);
    assert.ok(!answer.body.includes("sales"), "no route or group of others is named");
  }
  for (const path of ["/users", "/users/bob", "/sessions", "/nodes"]) assert.equal((await get(path)).status, 403, path);
  assert.equal((await get("/held")).status, 200);
});

test("the list of groups has those of the limit alone: in pages, searches, counts and members", async (t) => {
  const { at, get } = await start(t);
  const bob = at.world.visitor();
  await signIn(at.world, bob, "bob");
  for (const group of ["hr-people", "staff", "vault", "none", "keys"])
    await at.post(`/groups/${group}/members`, { add: ["bob"] });
  const whole = json(await at.get("/groups?members=count"));
  assert.ok(whole.total.count >= 6, "others are there");
  for (const query of ["", "?members=count", "?q=r", "?limit=1", "?sort=-name&limit=1"]) {
    const page = json(await get(`/groups${query}`));
    assert.deepEqual(
      [page.groups.map(({ id }: { id: string }) => id), page.total, page.next],
      [["hr-people"], { count: 1, exact: true }, null],
      query,
    );
  }
  const none = json(await get("/groups?q=staff"));
  assert.deepEqual([none.groups, none.total.count, none.next], [[], 0, null]);
  // A place of a caller who sees all: nothing outside the limit follows it.
  const { next } = json(await at.get("/groups?members=count&limit=1"));
  const after = json(await get(`/groups?members=count&limit=1&after=${encodeURIComponent(next)}`));
  assert.ok(after.groups.every(({ id }: { id: string }) => id === "hr-people"));
  const { members } = json(await get("/groups/hr-people/members"));
  assert.deepEqual(
    members.map(({ userId, by, byName, since }: Record<string, unknown>) => [userId, by, byName, since]),
    [[subjectId(at.world, "bob"), null, null, null]],
    "no acts of operators",
  );
  const [hidden, missing] = [await get("/groups/staff/members"), await get("/groups/no-such-group/members")];
  assert.deepEqual([hidden.status, hidden.body], [missing.status, missing.body]);
  assert.ok(
    at.accesses.some(({ command }) => command === "GET /groups"),
    "the read is recorded",
  );
});

test("reports and configurations have the routes of the limit alone, in every question", async (t) => {
  const { at, get } = await start(t);
  const { world } = at;
  await signIn(world, world.visitor(), "alice");
  await signIn(world, world.visitor(), "bob");
  const bob = subjectId(world, "bob");
  await at.post("/groups/hr-people/members", { add: [bob] });
  const hash = await activate(at, routesOf());
  const from = Date.now();
  await waitFor("the clock to move", () => Date.now() > from + 10);
  const time = encodeURIComponent(new Date(from + 5).toISOString());
  const report = async <Report>(path: string): Promise<Report> => {
    const { body } = await get(path);
    const events = body.split("\n\n").flatMap((block) => block.split("\n").filter((line) => line.startsWith("data: ")));
    return JSON.parse(events.at(-1)?.slice(6) ?? "{}") as Report;
  };
  const payroll = await report<WhoReport>(`/access/who?route=payroll&at=${time}`);
  const [mine] = payroll.configurations;
  assert.deepEqual([mine?.people.map(({ userId }) => userId), mine?.denied], [[bob], null], "no count of all people");
  const problemOf = async (route: string): Promise<unknown> =>
    (await report<WhoReport>(`/access/who?route=${encodeURIComponent(route)}&at=${time}`)).configurations[0]?.problem;
  const none = await problemOf("no-such-route");
  for (const route of ["vault", "crm", "https://vault.example.com/", "vault.example.com"])
    assert.equal(await problemOf(route), none, route);
  const what = await report<WhatReport>(`/access/what?user=bob&at=${time}`);
  assert.deepEqual(what.configurations[0]?.routes.map(({ id }) => id).sort(), ["mine", "payroll", "wiki"]);
  assert.ok(!JSON.stringify(what).includes("sales"), "bob's other groups are not shown");
  const [alice, missing] = [
    await report<AccessFailure>(`/access/what?user=alice&at=${time}`),
    await report<AccessFailure>(`/access/what?user=no-such-person&at=${time}`),
  ];
  assert.deepEqual(alice, missing, "a person who reaches none of the routes is as unknown as one who is not there");
  const shown = json(await get(`/configurations/${hash}`));
  assert.deepEqual(Object.keys(shown.configuration), ["routes"]);
  assert.deepEqual(shown.configuration.routes.map(({ id }: { id: string }) => id).sort(), ["mine", "payroll", "wiki"]);
  const whole = json(await at.get(`/configurations/${hash}`));
  assert.equal(whole.configuration.routes.length, 5);
});

test("grants of one person do not mix: a limited operator who sees everything still changes only their own routes", async (t) => {
  const { at } = await start(t);
  at.roles.viewers.push("group:sales");
  at.roles.operators.push({ who: "group:sales", routeGroups: ["hr"] });
  const bob = at.world.visitor();
  await signIn(at.world, bob, "bob");
  const origin = new URL(at.world.url("authenticate")).origin;
  const headers = { origin, "sec-fetch-site": "same-origin", "content-type": "application/json" };
  const post = (path: string) => bob.request(at.url(path), { method: "POST", headers, body: '{"add":["bob"]}' });
  assert.equal((await bob.request(at.url("/users"), { headers })).status, 200);
  assert.equal((await post("/groups/hr-people/members")).status, 200);
  assert.equal((await post("/groups/staff/members")).status, 403);
  const me = json(await bob.request(at.url("/me"), { headers }));
  assert.deepEqual([me.role, me.routeGroups, me.grants.length], ["operator", ["hr"], 2]);
});

test("a limited operator makes no one an approver of other routes", async (t) => {
  const compiled = compilePolicies(routesOf());
  assert.ok(compiled.ok);
  const policyOfRoute = (id: string) => compiled.policies.get(id) ?? assert.fail(id);
  const requestAccess = {
    ...{ group: "vault-people", approvers: ["group:hr-people", "email:a@example.com"] },
    ...{ durations: [3_600_000], reason: "required" },
  };
  const from = "https://x.example.com";
  const routes = [
    { id: "payroll", from, policy: policyOfRoute("payroll"), routeGroups: ["hr"], requestAccess },
    { id: "vault", from, policy: policyOfRoute("vault"), routeGroups: ["sales"], requestAccess },
  ] as never;
  const at = await startOperatorWorld(t, { routes });
  await signIn(at.world, at.world.visitor(), "bob");
  const add = async (routeGroups: readonly string[]): Promise<unknown> => {
    const authorization = `Bearer ${await at.token({ role: "operator", routeGroups })}`;
    const headers = { authorization, "content-type": "application/json" };
    const answer = await at.post("/groups/hr-people/members", { add: ["bob"] }, { headers });
    return [answer.status, json(answer).code];
  };
  assert.deepEqual(await add(["hr"]), [403, "out-of-scope"], "its members approve requests for the vault");
  assert.deepEqual(await add(["hr", "sales"]), [200, undefined]);
});
