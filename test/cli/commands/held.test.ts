/** Held mass changes on the command line: previewed, shown with their blast radius, released, dropped and allowed. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { compilePolicies } from "../../../src/auth/index.ts";
import { operatorOperations } from "../../../src/console/api/operator-operations.ts";
import type { BlastRadius } from "../../../src/console/index.ts";
import {
  type Command,
  type CommandId,
  type CommandResult,
  type GroupId,
  readsLevel,
  type UnixMs,
  type UserId,
  userIdOf,
} from "../../../src/events/index.ts";
import { base, parse } from "../../config/support.ts";
import { json, type OperatorWorld, startOperatorWorld } from "../../console/api/operator-support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { run } from "../support.ts";

const eng = "eng" as GroupId;
const issuer = "https://other.example";

/** Thirty people in a group, in a cluster of the newest level. */
async function startWithGroup(at: OperatorWorld): Promise<readonly UserId[]> {
  const { replica, deps } = at.world;
  const submit = async (command: Command): Promise<CommandResult> => {
    const commandId = randomUUID() as CommandId;
    const result = await deps.databroker.submit({ commandId, actor: "service:test", command });
    if (result.type === "done") await replica.waitFor(result.link, 2_000);
    return result;
  };
  await waitFor("the level", async () => (await at.post("/cluster/finalize", { level: readsLevel })).status === 200);
  const now = Date.now();
  const people: UserId[] = [];
  for (let n = 0; n < 30; n++) {
    const subject = `person-${n}`;
    const email = `${subject}@example.com`;
    const userId = userIdOf(issuer, subject);
    const session = await submit({
      type: "createSession",
      sessionId: randomUUID() as never,
      userId,
      idpId: "demo",
      issuedAt: now as UnixMs,
      expiresAt: (now + 3_600_000) as UnixMs,
      profile: { issuer, subject, email, emailVerified: true, name: "", claims: {} },
      tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
      groupIds: null,
      maxSessionsPerUser: 10,
    });
    assert.equal(session.type, "done");
    people.push(userId);
  }
  const added = await at.post(`/groups/${eng}/members`, { add: people, wait: "all" });
  assert.equal(added.status, 200, added.body);
  await waitFor("the members", () => replica.projection.membersOf(eng).size === 30);
  return people;
}

test("a mass change is previewed, held with its blast radius, dropped, and released when looked at again", async (t) => {
  const at = await startOperatorWorld(t);
  const people = await startWithGroup(at);
  const env = { CARDEA_URL: at.world.url("authenticate"), CARDEA_TOKEN: await at.token() };
  const cardea = (...args: readonly string[]) => run(args, env);
  const members = () => at.world.replica.projection.groupsOf(people[29] as UserId, Date.now() as UnixMs).has(eng);
  assert.equal((await cardea("held", "list")).out, "no held changes\n");

  const preview = await cardea("groups", "delete", "eng", "--dry-run");
  assert.equal(preview.code, 0, preview.err);
  assert.match(preview.out, /^30 people lose a group: eng\n {2}person-\d+@example\.com\n/);
  assert.match(
    preview.out,
    /and 10 more\nno policy of this server's routes names these groups\nit would be held: 30 people are more than 20\n$/,
  );
  assert.ok(members());
  const few = await cardea("groups", "remove", "eng", "person-1@example.com", "--dry-run", "--json");
  assert.deepEqual([JSON.parse(few.out).people, JSON.parse(few.out).held], [1, false]);

  const refused = await cardea("groups", "delete", "eng");
  assert.equal(refused.code, 3);
  const heldId = /held as ([0-9a-f-]{36}) and not made/.exec(refused.err)?.[1] ?? assert.fail(refused.err);
  assert.match(refused.err, /30 people lose a group: eng\n/);
  assert.match(refused.err, new RegExp(`cardea held release ${heldId} --reason TEXT`));
  await waitFor("the held change", async () => (await cardea("held", "list")).out.includes(heldId));
  const list = await cardea("held", "list");
  assert.match(list.out, /held +operator:tester +delete group:eng +30 /);
  operatorOperations["GET /held/:held"].answer.parse(json(await at.get(`/held/${heldId}`)));
  operatorOperations["GET /held"].answer.parse(json(await at.get("/held")));
  const shown = await cardea("held", "show", heldId);
  assert.match(shown.out, /version 1, held since 20.*\nsource operator:tester, about delete group:eng\n30 people/s);

  assert.equal((await cardea("held", "drop", heldId)).code, 2, "a reason is required");
  assert.equal((await cardea("held", "drop", heldId, "--reason", "no", "--version", "7")).code, 3);
  const dropped = await cardea("held", "drop", heldId, "--reason", "not today");
  assert.match(dropped.out, new RegExp(`held change ${heldId} dropped`));
  await waitFor("the drop", async () => (await cardea("held", "show", heldId)).out.includes("dropped since"));
  assert.match((await cardea("groups", "delete", "eng")).err, /an operator has dropped this change/);
  assert.ok(members());

  const released = await cardea("held", "release", heldId, "--reason", "the team has left", "--wait");
  assert.equal(released.code, 0, released.err);
  assert.match(released.out, new RegExp(`30 people lose a group: eng\n.*held change ${heldId} released`, "s"));
  await waitFor("the release", () => !members());
  assert.equal((await cardea("held", "release", heldId, "--reason", "again")).code, 3);
});

test("the radius says who would lose which routes, who keeps one by another group, and what depends on the request", async (t) => {
  const policies: Readonly<Record<string, string>> = {
    eng: "{allow: {and: [{groups: {has: eng}}]}}",
    either: "{allow: {or: [{groups: {has: eng}}, {groups: {has: ops}}]}}",
    night: "{allow: {or: [{groups: {has: eng}}, {http_method: {is: GET}}]}}",
    other: "{allow: {and: [{groups: {has: ops}}]}}",
  };
  const routes = Object.entries(policies).map(
    ([name, policy]) => `  - {from: "https://${name}.example.com", to: "http://127.0.0.1:1", policy: [${policy}]}`,
  );
  const parsed = parse(`${base}routes:\n${routes.join("\n")}\n`);
  if (!parsed.ok) return assert.fail(JSON.stringify(parsed.problems));
  const { config } = parsed;
  const compiled = compilePolicies(config.routes);
  assert.ok(compiled.ok, JSON.stringify(compiled));
  const at = await startOperatorWorld(t, {
    routes: config.routes.flatMap(({ id, from, routeGroups }) => {
      const policy = compiled.policies.get(id);
      return policy === undefined ? [] : [{ id, from: from.href, policy, routeGroups }];
    }),
  });
  const people = await startWithGroup(at);
  assert.equal((await at.post("/groups/ops/members", { add: people.slice(0, 5), wait: "all" })).status, 200);
  const env = { CARDEA_URL: at.world.url("authenticate"), CARDEA_TOKEN: await at.token() };
  const preview = await run(["groups", "delete", "eng", "--dry-run", "--json"], env);
  const { lost } = JSON.parse(preview.out) as BlastRadius;
  assert.deepEqual(lost.routes, [
    { route: "https://eng.example.com/", people: 30, conditional: 0 },
    { route: "https://either.example.com/", people: 25, conditional: 0 },
    { route: "https://night.example.com/", people: 0, conditional: 30 },
  ]);
  assert.deepEqual([lost.people.length, lost.morePeople, lost.moreRoutes, lost.unchecked], [30, 0, 0, 0]);
  const shown = await run(["groups", "delete", "eng", "--dry-run"], env);
  assert.match(shown.out, /^https:\/\/eng\.example\.com\/: 30 people lose it$/m);
  assert.match(shown.out, /^https:\/\/night\..*: 0 people lose it, and 30 more keep it only under conditions/m);
  assert.match(shown.out, /^ {2}person-\d+@example\.com loses https:\/\/eng\.example\.com\/, /m);
  assert.match(shown.out, /^ {2}and 10 more people$/m);
  const one = await run(["groups", "remove", "ops", people[0] ?? "", "--dry-run", "--json"], env);
  assert.deepEqual(
    (JSON.parse(one.out) as BlastRadius).lost.routes.map(({ route, people: count }) => [route, count]),
    [["https://other.example.com/", 1]],
  );
});

test("mass changes of a source are allowed for a while, and that is withdrawn", async (t) => {
  const at = await startOperatorWorld(t);
  await waitFor("the level", async () => (await at.post("/cluster/finalize", { level: readsLevel })).status === 200);
  const env = { CARDEA_URL: at.world.url("authenticate"), CARDEA_TOKEN: await at.token() };
  const cardea = (...args: readonly string[]) => run(["held", ...args], env);
  const allow = (...more: readonly string[]) => cardea("allow", "service:scim/okta", ...more, "--reason", "merger");
  assert.equal((await allow()).code, 2);
  assert.equal((await allow("--for", "soon")).code, 2);
  assert.equal((await allow("--for", "25h")).code, 3);
  assert.match((await allow("--for", "2h")).out, /mass changes of service:scim\/okta are allowed/);
  await waitFor("it", async () => /service:scim\/okta are allowed until 20/.test((await cardea("list")).out));
  assert.match((await allow("--for", "0h")).out, /are held again/);
  await waitFor("its end", async () => (await cardea("list")).out === "no held changes\n");
});

test("below level 5 the command names the remedy", async (t) => {
  const at = await startOperatorWorld(t);
  await waitFor("a leader", async () => (await at.post("/cluster/finalize", { level: 4 })).status === 200);
  const env = { CARDEA_URL: at.world.url("authenticate"), CARDEA_TOKEN: await at.token() };
  const refused = await run(["held", "allow", "service:scim/okta", "--for", "1h", "--reason", "x"], env);
  assert.match(
    refused.err,
    /the cluster is at level 4, and mass changes are held from level 5 on: .*cardea cluster finalize/,
  );
});
