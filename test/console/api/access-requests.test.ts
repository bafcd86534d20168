/** Access requests in the operator API and on the command line: who sees which, and what a decision does. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { operatorOperations } from "../../../src/console/api/operator-operations.ts";
import type { GroupId, UnixMs } from "../../../src/events/index.ts";
import { readsLevel } from "../../../src/events/index.ts";
import { signIn, subjectId } from "../../auth/authenticate/support.ts";
import { run } from "../../cli/support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { json, type OperatorWorld, startOperatorWorld } from "./operator-support.ts";
import { ask, requestRoutes } from "./request-support.ts";

async function asBrowser(at: OperatorWorld, name: string) {
  const visitor = at.world.visitor();
  await signIn(at.world, visitor, name);
  const origin = new URL(at.world.url("authenticate")).origin;
  const headers = { origin, "sec-fetch-site": "same-origin", "content-type": "application/json" };
  return {
    userId: subjectId(at.world, name),
    get: (path: string) => visitor.request(at.url(path), { headers }),
    post: (path: string, body: object = {}, more: Readonly<Record<string, string>> = {}) =>
      visitor.request(at.url(path), { method: "POST", headers: { ...headers, ...more }, body: JSON.stringify(body) }),
  };
}

test("operators see and decide requests in their scope, approvers those of their routes, and others none", async (t) => {
  const at = await startOperatorWorld(t, { routes: requestRoutes() });
  const alice = await asBrowser(at, "alice");
  const bob = await asBrowser(at, "bob");
  const carol = await asBrowser(at, "carol");
  await waitFor("the level", async () => (await at.post("/cluster/finalize", { level: readsLevel })).status === 200);
  at.administrators.splice(0);
  const { replica } = at.world;
  const payroll = await ask(at, alice.userId, "payroll", "hr");
  const wiki = await ask(at, alice.userId, "wiki", "docs");
  const admin = await ask(at, carol.userId, "admin", "admins");
  const isIn = (group: string, userId = alice.userId): boolean =>
    replica.projection.groupsOf(userId, Date.now() as UnixMs).has(group as GroupId);

  // Bob has no role; payroll and admin name his group.
  const list = await bob.get("/access-requests");
  const answer = operatorOperations["GET /access-requests"].answer.parse(json(list));
  assert.deepEqual(answer.requests.map(({ id }) => id).sort(), [payroll, admin].sort());
  const [first] = answer.requests.filter(({ id }) => id === payroll);
  assert.deepEqual(
    [first?.reason, first?.route.name, first?.person.email, first?.may, first?.durations, answer.pending],
    ["quarter close", "Payroll", "alice@example.com", { decide: true, end: false }, [3_600_000, 14_400_000], 2],
  );
  const detail = operatorOperations["GET /access-requests/:request"].answer.parse(
    json(await bob.get(`/access-requests/${payroll}`)),
  );
  assert.deepEqual(
    detail.opens.map(({ name }) => name),
    ["Payroll", "Wiki"],
    "everything that the group opens",
  );
  assert.equal((await bob.get(`/access-requests/${wiki}`)).status, 404, "of a route that does not name him");
  assert.equal((await bob.post(`/access-requests/${wiki}/approve`)).status, 404);
  assert.equal((await bob.post(`/access-requests/${randomUUID()}/approve`)).status, 404);
  for (const path of ["/users", "/sessions", "/groups", "/changes", "/nodes", "/held"])
    assert.deepEqual([(await bob.get(path)).status, path], [403, path], "an approver sees requests alone");
  assert.equal((await bob.post("/groups/hr/members", { add: [alice.userId] })).status, 403);
  assert.equal((await alice.get("/access-requests")).status, 403, "neither operator nor approver");

  // Forged by another site, too long, past, twice, or of a group that gives a role.
  const approve = `/access-requests/${payroll}/approve`;
  assert.equal(
    (await bob.post(approve, {}, { origin: "https://evil.example", "sec-fetch-site": "cross-site" })).status,
    403,
  );
  const long = await bob.post(approve, { durationMs: 5 * 3_600_000 });
  assert.deepEqual([long.status, json(long).error], [400, "the route gives access for at most 240 minutes"]);
  assert.equal((await bob.post(approve, { until: "2001-01-01T00:00:00Z" })).status, 400);
  assert.equal((await bob.post(approve, { note: "x".repeat(301) })).status, 400);
  at.administrators.push("group:admins");
  const gives = await bob.post(`/access-requests/${admin}/approve`);
  assert.deepEqual([gives.status, json(gives).code], [403, "role-required"], "no approver makes an administrator");
  assert.equal((await carol.get(`/access-requests/${admin}`)).status, 200);
  assert.deepEqual(json(await carol.get(`/access-requests/${admin}`)).may, { decide: false, end: false }, "her own");
  assert.equal((await carol.post(`/access-requests/${admin}/deny`)).status, 403, "the leader refuses her own");

  const approved = await bob.post(approve, { durationMs: 14_400_000, note: "until six", wait: "all" });
  assert.equal(approved.status, 200, approved.body);
  assert.equal(json(approved).receipt.complete, true, "the receipt says that every node enforces it");
  assert.ok(isIn("hr"));
  const again = await carol.post(`/access-requests/${payroll}/deny`, { note: "no" });
  assert.deepEqual([again.status, json(again).code], [409, "conflict"], "two approvers at once");
  const shown = json(await carol.get(`/access-requests/${payroll}`));
  assert.deepEqual(
    [shown.status, shown.note, shown.decidedBy.name, shown.may.end],
    ["approved", "until six", "Bob Baker", true],
  );
  assert.ok(
    !at.logged.join().includes("until six") && !at.logged.join().includes("quarter close"),
    "words are not logged",
  );
  const group = json(await at.get("/groups/hr"));
  assert.deepEqual(
    [group.group.members[0].sources, group.group.members[0].grant.reason],
    [["request"], `access request ${payroll}`],
  );

  // A role that is limited to groups of routes.
  const limited = { authorization: `Bearer ${await at.token({ role: "operator", routeGroups: ["hr"] })}` };
  const scoped = json(
    await at.get("/access-requests?status=all", { headers: { ...limited, accept: "application/json" } }),
  );
  assert.deepEqual(
    scoped.requests.map(({ id }: { id: string }) => id),
    [payroll],
  );
  const viewer = { authorization: `Bearer ${await at.token({ role: "viewer" })}`, "content-type": "application/json" };
  assert.equal((await at.post(`/access-requests/${wiki}/deny`, {}, { headers: viewer })).status, 403);

  // The command line, with an operator's token.
  const env = { CARDEA_URL: at.world.url("authenticate"), CARDEA_TOKEN: await at.token() };
  const cardea = (...args: readonly string[]) => run(["requests", ...args], env);
  const table = await cardea("list");
  assert.match(table.out, new RegExp(`${payroll} +approved +alice@example.com +Payroll +1h +20`));
  assert.match(
    (await cardea("show", payroll)).out,
    /reason: quarter close\ndecided by Bob Baker .*\nnote: until six\nhr opens Payroll, Wiki\n/s,
  );
  assert.equal((await cardea("list", "--status", "none")).code, 2);
  const denied = await cardea("deny", wiki, "--note", "ask docs");
  assert.equal(denied.code, 0, denied.err);
  await waitFor("the denial", async () => (await cardea("show", wiki)).out.includes("denied"));
  const ended = await cardea("end", payroll, "--wait");
  assert.equal(ended.code, 0, ended.err);
  await waitFor("the end", () => !isIn("hr"));
  assert.match((await cardea("list", "--status", "over", "--query", "payroll")).out, /ended/);
  const forAdmin = await cardea("approve", admin, "--until", "2h", "--note", "on call");
  assert.equal(forAdmin.code, 0, forAdmin.err);
  await waitFor("the membership", () => isIn("admins", carol.userId));
  assert.deepEqual(
    JSON.parse((await cardea("list", "--json", "--limit", "1", "--status", "all")).out).requests.length,
    1,
  );
  const next = JSON.parse((await cardea("list", "--json", "--limit", "2", "--status", "all")).out).next;
  assert.equal(JSON.parse((await cardea("list", "--json", "--after", next, "--status", "all")).out).requests.length, 1);
});

test("an approver who has left the group since, or whose route names another group now, decides nothing", async (t) => {
  const routes = requestRoutes();
  const at = await startOperatorWorld(t, { routes });
  const alice = await asBrowser(at, "alice");
  const bob = await asBrowser(at, "bob");
  await waitFor("the level", async () => (await at.post("/cluster/finalize", { level: readsLevel })).status === 200);
  const id = await ask(at, alice.userId, "payroll", "another");
  const other = await bob.post(`/access-requests/${id}/approve`);
  assert.deepEqual(
    [other.status, json(other).error],
    [409, "the route now gives access by hr, and this request was made for another: deny it"],
  );
  const removed = await at.post("/groups/sales/members", { remove: ["bob@example.com"], wait: "all" });
  assert.equal(removed.status, 200, removed.body);
  assert.equal((await bob.post(`/access-requests/${id}/deny`)).status, 403);
  assert.equal(json(await at.get(`/access-requests/${id}`)).status, "pending");
});

test("a role for some routes approves only what it could add by hand, and learns of no other route by a request", async (t) => {
  const routes = requestRoutes();
  const looks = { all: 0 };
  const counted = new Proxy(routes, {
    get(target, name, self) {
      if (name === "find" || name === "map") looks.all += 1;
      return Reflect.get(target, name, self);
    },
  });
  const at = await startOperatorWorld(t, { routes: counted });
  const alice = await asBrowser(at, "alice");
  const bob = await asBrowser(at, "bob");
  const carol = await asBrowser(at, "carol");
  await waitFor("the level", async () => (await at.post("/cluster/finalize", { level: readsLevel })).status === 200);
  at.administrators.splice(0);
  const id = await ask(at, alice.userId, "payroll", "hr");
  const other = await ask(at, carol.userId, "payroll", "staff");
  const limited = async (routeGroups: readonly string[]) => {
    const authorization = `Bearer ${await at.token({ role: "operator", routeGroups })}`;
    return { authorization, accept: "application/json", "content-type": "application/json" };
  };
  const headers = await limited(["hr"]);
  const approve = (request: string, body: object = {}) =>
    at.post(`/access-requests/${request}/approve`, body, { headers });
  const refused = [403, "out-of-scope"];
  const members = await at.post("/groups/hr/members", { add: [alice.userId] }, { headers });
  assert.deepEqual([members.status, json(members).code], refused, "hr opens the wiki, which is not theirs");
  for (const [request, why] of [
    [id, "what the group opens is not theirs alone"],
    [other, "no route names this group"],
  ] as const) {
    const answer = await approve(request, { durationMs: 80 * 24 * 3_600_000 });
    assert.deepEqual([answer.status, json(answer).code], refused, why);
    assert.ok(!/wiki/i.test(answer.body));
  }
  const shown = json(await at.get(`/access-requests/${id}`, { headers }));
  assert.deepEqual([shown.opens.map(({ name }: { name: string }) => name), shown.openCount], [["Payroll"], 1]);
  assert.equal(
    (await at.post(`/access-requests/${other}/deny`, {}, { headers })).status,
    200,
    "a denial gives nothing",
  );

  // The same limit, by a session that the route names as an approver: by that right, and within its times.
  at.roles.operators.push({ who: "group:sales", routeGroups: ["hr"] });
  const all = json(await bob.get(`/access-requests/${id}`));
  assert.deepEqual(all.openCount, 2, "an approver sees all that the group opens");
  const long = await bob.post(`/access-requests/${id}/approve`, { durationMs: 5 * 3_600_000 });
  assert.deepEqual([long.status, json(long).error], [400, "the route gives access for at most 240 minutes"]);
  assert.equal((await bob.post(`/access-requests/${id}/approve`)).status, 200);

  looks.all = 0;
  assert.equal(json(await at.get("/access-requests?status=all&q=nothing", { headers })).requests.length, 0);
  assert.ok(looks.all <= 1, `the routes are read once for a list, not ${looks.all} times`);
});
