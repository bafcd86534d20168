/** Previews of changes, which write nothing, and the list of receipts. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { compilePolicies } from "../../../src/auth/index.ts";
import type { GroupId, UserId } from "../../../src/events/index.ts";
import { signIn, subjectId } from "../../auth/authenticate/support.ts";
import { run } from "../../cli/support.ts";
import { base, config } from "../../config/support.ts";
import { json, startOperatorWorld } from "./operator-support.ts";

const { routes: configured } = config(`${base}routes:
  - { from: https://eng.example.com, to: http://up, policy: { allow: { or: [{ groups: { has: eng } }] } } }
  - { from: https://all.example.com, to: http://up, allow_any_authenticated_user: true }
  - { from: https://open.example.com, to: http://up, allow_public_unauthenticated_access: true }
`);
const compiled = compilePolicies(configured);
assert.ok(compiled.ok, JSON.stringify(compiled));
const routes = configured.flatMap(({ id, from, routeGroups }) => {
  const policy = compiled.policies.get(id);
  return policy === undefined ? [] : [{ id, from: from.href, policy, routeGroups }];
});
const [eng, all] = ["https://eng.example.com/", "https://all.example.com/"];

// biome-ignore lint/suspicious/noExplicitAny: as the answers of the tests
const routesIn = (counts: any): unknown[] => counts.routes.map(({ route, people }: any) => [route, people]);

test("a preview says what a change concerns, and writes nothing", async (t) => {
  const at = await startOperatorWorld(t, { routes });
  const { world } = at;
  await signIn(world, world.visitor(), "alice");
  await signIn(world, world.visitor(), "alice");
  await signIn(world, world.visitor(), "bob");
  const [alice, bob] = [subjectId(world, "alice"), subjectId(world, "bob")];
  const { position } = world.replica.applied;
  const preview = async (command: object, status = 200) => {
    const answer = await at.post("/preview", { command });
    assert.equal(answer.status, status, answer.body);
    return json(answer);
  };

  const revoke = await preview({ type: "revokeUserSessions", user: alice });
  assert.deepEqual(
    [revoke.people, revoke.sessions, revoke.liveSessions, revoke.final, revoke.role],
    [1, 2, 2, true, "operator"],
  );
  assert.deepEqual(routesIn(revoke.routes.cut), [
    [all, 1],
    [eng, 1],
  ]);
  assert.deepEqual([routesIn(revoke.routes.lost), revoke.self, revoke.refusal, revoke.may], [[], "none", null, true]);
  assert.deepEqual(revoke.confirm, { level: 2, typed: null });
  assert.equal(revoke.cli, `cardea sessions revoke --user ${alice} --wait`);
  assert.deepEqual(revoke.named, [{ userId: alice, email: "alice@example.com", name: "Alice Archer" }]);

  const { sessions } = json(await at.get(`/sessions?user=${alice}`));
  const one = await preview({ type: "revokeSessions", sessionIds: [sessions[0].id, randomUUID()] });
  assert.deepEqual([one.people, one.sessions, one.liveSessions], [1, 1, 2]);
  const everyone = await preview({ type: "revokeSessions", filter: { all: true } });
  assert.deepEqual([everyone.sessions, everyone.confirm], [3, { level: 3, typed: "3" }]);

  const suspend = await preview({ type: "suspendUser", user: alice, forMs: 3_600_000, reason: "it's lost" });
  assert.deepEqual(routesIn(suspend.routes.lost), [
    [all, 1],
    [eng, 1],
  ]);
  assert.equal(suspend.cli, `cardea users suspend ${alice} --until 60m --reason 'it'\\''s lost' --wait`);
  assert.equal((await preview({ type: "restoreUser", user: alice })).changes, false, "she is not suspended");

  const remove = await preview({ type: "changeGroupMembers", group: "eng", remove: [alice] });
  assert.deepEqual([routesIn(remove.routes.lost), remove.sessions, remove.final], [[[eng, 1]], 0, false]);
  const add = await preview({ type: "changeGroupMembers", group: "eng", add: [bob] });
  assert.deepEqual([routesIn(add.routes.gained), add.people, add.confirm.level], [[[eng, 1]], 1, 1]);
  const gone = await preview({ type: "removeGroup", group: "eng" });
  assert.deepEqual(
    [routesIn(gone.routes.lost), gone.role, gone.confirm],
    [[[eng, 1]], "administrator", { level: 3, typed: "eng" }],
  );
  const erase = await preview({ type: "eraseUser", user: alice });
  assert.deepEqual(
    [erase.final, erase.confirm, erase.role],
    [true, { level: 3, typed: "alice@example.com" }, "administrator"],
  );

  await preview({ type: "revokeUserSessions", user: "unknown" }, 404);
  await preview({ type: "removeGroup", group: "unknown group" }, 200);
  for (const wrong of [
    { type: "finalizeUpgrade" },
    { type: "revokeSessions" },
    { type: "suspendUser", user: alice, until: "soon" },
  ])
    await preview(wrong, 400);
  assert.equal(world.replica.applied.position, position, "nothing was written");

  const viewer = await at.token({ role: "viewer" });
  const headers = { authorization: `Bearer ${viewer}`, "content-type": "application/json" };
  const seen = await at.post("/preview", { command: { type: "removeGroup", group: "eng" } }, { headers });
  assert.deepEqual([seen.status, json(seen).may], [200, false]);
  assert.equal((await at.post("/groups/eng/remove", {}, { headers })).status, 403);
  assert.ok(
    at.accesses.some(({ command }) => command === "POST /preview"),
    "the read is recorded",
  );
});

test("a preview tells an operator that it ends their own access", async (t) => {
  const at = await startOperatorWorld(t, { routes });
  const { world } = at;
  const mine = world.visitor();
  await signIn(world, mine, "alice");
  await signIn(world, world.visitor(), "alice");
  const alice = subjectId(world, "alice");
  const origin = new URL(world.url("authenticate")).origin;
  const self = async (command: object) => {
    const answer = await mine.request(at.url("/preview"), {
      method: "POST",
      body: JSON.stringify({ command }),
      headers: { origin, "content-type": "application/json" },
    });
    assert.equal(answer.status, 200, answer.body);
    return json(answer).self;
  };
  assert.equal(await self({ type: "revokeUserSessions", user: alice }), "session");
  assert.equal(await self({ type: "suspendUser", user: alice }), "access");
  assert.equal(await self({ type: "changeGroupMembers", group: "admins", remove: [alice] }), "access");
  assert.equal(await self({ type: "changeGroupMembers", group: "eng", remove: [alice] }), "none");
});

test("receipts are listed with who did what and how long it took, and one alone says when it was recorded", async (t) => {
  const at = await startOperatorWorld(t, { routes });
  const { world } = at;
  await signIn(world, world.visitor(), "alice");
  await signIn(world, world.visitor(), "bob");
  const [alice, bob] = [subjectId(world, "alice"), subjectId(world, "bob")];
  assert.deepEqual(json(await at.get("/receipts")).receipts, []);
  const commandId = randomUUID();
  assert.equal((await at.post(`/users/${alice}/sessions/revoke`, { commandId, wait: "all" })).status, 200);
  await at.post("/groups/eng/members", { add: [bob], wait: "all" });
  const page = json(await at.get("/receipts?limit=1"));
  const looked = at.accesses.filter(({ command }) => command === "GET /receipts");
  assert.equal(looked.length, 1, "the list has names of people, so who reads it is recorded");
  assert.equal(page.receipts.length, 1);
  const rest = json(await at.get(`/receipts?before=${page.next}`));
  const revoked = rest.receipts.find((each: { commandId: string }) => each.commandId === commandId);
  assert.equal(revoked.status, "complete");
  assert.match(revoked.text, /Alice Archer/);
  assert.deepEqual([revoked.applied, revoked.fenced, revoked.unconfirmed], [1, 0, 0]);
  assert.ok(revoked.enforcedMs >= 0 && revoked.enforcedMs < 10_000);
  const alone = json(await at.get(`/receipts/command:${commandId}`));
  assert.equal(alone.recordedAt, revoked.at);
  assert.equal(json(await at.get(`/receipts?since=${new Date(Date.now() + 60_000).toISOString()}`)).receipts.length, 0);

  const env = { CARDEA_URL: world.url("authenticate"), CARDEA_TOKEN: await at.token() };
  assert.match((await run(["receipts", "list"], env)).out, /Alice Archer.*complete +1 applied/);
  const dry = await run(["users", "suspend", bob, "--dry-run"], env);
  assert.match(dry.out, /1 person, 1 live session; 1 session would end\n.*\n.*eng\.example\.com.*1 person lose it/s);
  assert.match((await run(["sessions", "revoke", "--user", bob, "--dry-run"], env)).out, /until they sign in again/);
  assert.equal(world.replica.projection.user(bob as UserId)?.status, "active");
  assert.match((await run(["users", "list", "--search", "ALICE", "--sort=-name"], env)).out, /alice@example.com/);
  assert.match((await run(["groups", "members", "eng"], env)).out, /bob@example.com.*operator/);
  assert.equal((await run(["users", "list", "--limit", "0"], env)).code, 2);
  assert.ok(world.replica.projection.membersOf("eng" as GroupId).has(bob as UserId));
});
