/** The operator API over a real broker: what operators read and change. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { operatorApiPrefix } from "../../../src/console/index.ts";
import { type CommandId, formatLink, type Profile, type UnixMs, userIdOf } from "../../../src/events/index.ts";
import { BrokerUnavailableError } from "../../../src/replication/wire/index.ts";
import { signIn, subjectId, type World } from "../../auth/authenticate/support.ts";
import { json, startOperatorWorld } from "./operator-support.ts";

/** Signs a person in at another node. */
async function createPerson(world: World, profile: Partial<Profile> & Pick<Profile, "subject">): Promise<string> {
  const now = Date.now();
  const full = { issuer: "https://other.example", email: "", emailVerified: true, name: "", claims: {}, ...profile };
  const userId = userIdOf(full.issuer, full.subject);
  const result = await world.deps.databroker.submit({
    commandId: randomUUID() as CommandId,
    actor: "service:authenticate",
    command: {
      type: "createSession",
      sessionId: randomUUID() as never,
      userId,
      idpId: "demo",
      issuedAt: now as UnixMs,
      expiresAt: (now + 3_600_000) as UnixMs,
      profile: full,
      tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
      groupIds: null,
      maxSessionsPerUser: 10,
    },
  });
  assert.equal(result.type, "done");
  if (result.type === "done") await world.replica.waitFor(result.link, 2_000);
  return userId;
}

test("sessions, users, groups and nodes are listed with people's names", async (t) => {
  const at = await startOperatorWorld(t);
  const { world } = at;
  await signIn(world, world.visitor(), "alice");
  await signIn(world, world.visitor(), "alice");
  await signIn(world, world.visitor(), "bob");
  const alice = subjectId(world, "alice");

  const all = json(await at.get("/sessions"));
  assert.equal(all.sessions.length, 3);
  assert.equal(all.more, false);
  assert.deepEqual(all.applied, world.replica.applied);
  const [first] = all.sessions;
  assert.deepEqual(Object.keys(first), [
    ...["id", "kind", "status", "reason", "userId", "email", "name", "idpId", "provider", "issuedAt"],
    ...["refreshedAt", "expiresAt", "lastSeenAt", "lastSeenBy", "idleAt"],
  ]);
  assert.equal(first.email, "alice@example.com");
  for (const name of ["alice", "alice@example.com", alice])
    assert.equal(json(await at.get(`/sessions?user=${name}`)).sessions.length, 2, name);
  assert.equal(json(await at.get("/sessions?user=unknown")).sessions.length, 0);
  const limited = json(await at.get("/sessions?limit=2"));
  assert.equal(limited.sessions.length, 2);
  assert.equal(limited.more, true);
  assert.equal(json(await at.get("/sessions?limit=3")).more, false);

  const { users } = json(await at.get("/users"));
  const described = users.find((user: { id: string }) => user.id === alice);
  const { providers, lastSession, ...own } = described;
  const newest = all.sessions.find(({ id }: { id: string }) => id === lastSession.id);
  assert.deepEqual(lastSession, {
    ...{ id: newest.id, expiresAt: newest.expiresAt },
    ...{ lastSeenAt: null, lastSeenBy: null, idleAt: null }, // no idle lifetime: use is not tracked
  });
  assert.deepEqual(providers, [
    {
      ...{ idpId: "demo", name: null, sessions: 2, dueBy: null, groups: ["admins", "eng"] },
      confirmedAt: providers[0]?.confirmedAt,
    },
  ]);
  assert.ok(Math.abs(Date.parse(providers[0]?.confirmedAt ?? "") - Date.now()) < 600_000);
  assert.deepEqual(own, {
    id: alice,
    status: "active",
    subject: "alice",
    email: "alice@example.com",
    emailVerified: true,
    name: "Alice Archer",
    groups: ["admins", "eng"],
    sessions: 2,
    suspension: null,
    grants: [],
  });
  const { groups } = json(await at.get("/groups"));
  const eng = groups.find((group: { id: string }) => group.id === "eng");
  const member = { userId: alice, email: "alice@example.com", name: "Alice Archer", member: true };
  assert.deepEqual(eng.members, [{ ...member, sources: ["idp"], excluded: false, grant: null }]);
  assert.deepEqual([eng.memberCount, eng.excludedCount], [1, 0]);
  const [inGroup] = json(await at.get("/groups/eng/members")).members;
  assert.match(inGroup.since, /^2/);
  assert.equal(inGroup.by, "service:authenticate");
  assert.equal(json(await at.get(`/sessions/${first.id}`)).session.email, "alice@example.com");
  assert.equal((await at.get("/sessions/unknown")).status, 404);
  const next = json(await at.get(`/sessions?limit=2&after=${limited.next}`));
  assert.equal(new Set([...limited.sessions, ...next.sessions].map(({ id }) => id)).size, 3);
  assert.equal((await at.get(`/users?after=${limited.next}`)).status, 400);
  const { nodes, leader } = json(await at.get("/nodes"));
  assert.equal(leader.brokerId, "broker-1");
  assert.equal(nodes[0].node, "node-1");
});

test("a malformed request is answered with its error", async (t) => {
  const at = await startOperatorWorld(t);
  for (const path of [
    "/sessions?status=odd",
    "/sessions?limit=0",
    "/sessions?limit=99999",
    "/users?limit=x",
    "/receipts/nonsense",
    "/receipts/command:1",
    "/receipts/link:1.2",
    `/receipts/command:${randomUUID()}?wait=maybe`,
    `/receipts/command:${randomUUID()}?timeout=-1`,
  ]) {
    const answer = await at.get(path);
    assert.equal(answer.status, 400, path);
    assert.ok(json(answer).error.length > 0);
  }
  assert.equal((await at.get("/nothing")).status, 404);
  assert.ok(json(await at.get("/nothing")).error);
  assert.equal((await at.post("/sessions/a%20b/revoke")).status, 400);
  assert.equal((await at.post(`/sessions/${randomUUID()}/revoke`)).status, 404);
  assert.equal((await at.post("/users/unknown/suspend")).status, 404);
  assert.equal((await at.post("/groups/eng/members", {})).status, 400);
  assert.equal((await at.post("/groups/eng/members", { add: "alice" })).status, 400);
  assert.equal((await at.post("/groups/eng/members", { add: [], extra: 1 })).status, 400);
  assert.equal((await at.post("/users/x/suspend", { wait: "sometimes" })).status, 404);
  const token = `Bearer ${await at.token()}`;
  const bad = { authorization: token, "content-type": "application/json" };
  const notJson = await at.visitor.request(at.url("/users/x/suspend"), { method: "POST", body: "{", headers: bad });
  assert.equal(notJson.status, 400);
  assert.ok(json(notJson).error);
  const form = { authorization: token, "content-type": "application/x-www-form-urlencoded" };
  const asForm = await at.visitor.request(at.url("/users/x/suspend"), {
    method: "POST",
    body: "wait=all",
    headers: form,
  });
  assert.equal(asForm.status, 415, "a form is refused even with a token");
  assert.equal(
    (await at.visitor.request(at.url("/users"), { method: "DELETE", headers: bad, body: "{}" })).status,
    404,
  );
});

test("a revoked session is refused at once, and the receipt names the node", async (t) => {
  const at = await startOperatorWorld(t);
  const { world } = at;
  const [one, other] = [world.visitor(), world.visitor()];
  await signIn(world, one, "alice");
  const [session] = [...world.replica.projection.sessions()];
  await signIn(world, other, "alice");
  const answer = json(await at.post(`/sessions/${session?.sessionId}/revoke`, { wait: "all" }));
  assert.equal(answer.changed, true);
  assert.equal(answer.receipt.complete, true);
  assert.deepEqual(
    answer.receipt.nodes.map((node: { node: string; status: string }) => `${node.node} ${node.status}`),
    ["node-1 applied"],
  );
  assert.equal((await one.request(world.url("app"))).status, 302);
  assert.equal((await other.request(world.url("app"))).status, 200);
  const again = json(await at.post(`/sessions/${session?.sessionId}/revoke`));
  assert.equal(again.changed, false);
  assert.equal(again.receipt, null);
  const revoked = json(await at.get("/sessions?status=revoked")).sessions;
  assert.equal(revoked.length, 1);
  assert.equal(revoked[0].reason, "operator");
  for (const target of [`command:${answer.commandId}`, `link:${formatLink(answer.link)}`]) {
    const receipt = json(await at.get(`/receipts/${target}`));
    assert.equal(receipt.status, "complete", target);
  }
});

test("an operator revokes a person's sessions, suspends, restores and erases the person", async (t) => {
  const at = await startOperatorWorld(t);
  const { world } = at;
  const visitor = world.visitor();
  await signIn(world, visitor, "bob");
  assert.equal(json(await at.post("/users/bob/sessions/revoke")).changed, true);
  assert.equal((await visitor.request(world.url("app"))).status, 302);
  await signIn(world, visitor, "bob");
  assert.equal(json(await at.post("/users/bob@example.com/suspend", { wait: "all" })).changed, true);
  assert.equal((await visitor.request(world.url("app"))).status, 302);
  assert.equal((await signIn(world, visitor, "bob")).status, 403);
  assert.equal(json(await at.post("/users/bob/restore")).changed, true);
  assert.equal((await signIn(world, visitor, "bob")).status, 200);
  const id = subjectId(world, "bob");
  assert.equal(json(await at.post(`/users/${id}/erase`, { wait: "all" })).changed, true);
  assert.equal((await visitor.request(world.url("app"))).status, 302);
  const erased = json(await at.get("/users")).users.find((user: { id: string }) => user.id === id);
  assert.equal(erased.email, "");
  assert.equal(erased.status, "erased");
  assert.equal((await at.post(`/users/${id}/restore`)).status, 410);
});

test("a repeated command id gets the first answer and changes nothing again", async (t) => {
  const at = await startOperatorWorld(t);
  await signIn(at.world, at.world.visitor(), "bob");
  const commandId = randomUUID();
  const first = json(await at.post("/users/bob/suspend", { commandId }));
  const { position } = at.world.replica.applied;
  const second = json(await at.post("/users/bob/suspend", { commandId }));
  assert.deepEqual(second, first);
  assert.equal(at.world.replica.applied.position, position);
  assert.equal((await at.post("/users/bob/suspend", { commandId: "not-a-uuid" })).status, 400);
});

test("group members are added and removed by any unambiguous name", async (t) => {
  const at = await startOperatorWorld(t);
  const { world } = at;
  const visitor = world.visitor();
  await signIn(world, visitor, "bob");
  const answer = json(await at.post("/groups/eng/members", { add: ["bob@example.com"], wait: "all" }));
  assert.equal(answer.receipt.complete, true);
  assert.match((await visitor.request(world.url("app"))).body, /^hello bob of eng,sales/);
  json(await at.post("/groups/sales/members", { remove: ["bob"], wait: "all" }));
  assert.match((await visitor.request(world.url("app"))).body, /^hello bob of eng at/);
  const slash = Buffer.from("/teams/red").toString("base64url");
  json(await at.post(`/groups/base64url:${slash}/members`, { add: ["bob"], wait: "all" }));
  assert.match((await visitor.request(world.url("app"))).body, /^hello bob of \/teams\/red,eng at/);
  assert.equal((await at.post("/groups/eng/members", { add: ["bob", "unknown"] })).status, 404);
  assert.equal((await at.post("/groups/eng/members", { add: ["bob"], remove: ["bob"] })).status, 400);
});

test("a person that this node does not know yet is looked up again at the head of the log", async (t) => {
  let signsIn: () => Promise<unknown> = async () => undefined;
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      async status() {
        await signsIn(); // between the first lookup and the next
        return inner.status();
      },
    }),
  });
  signsIn = () => createPerson(at.world, { subject: "zoe", email: "zoe@example.com" });
  assert.equal((await at.post("/users/zoe@example.com/suspend")).status, 200);
  signsIn = async () => undefined;
  assert.equal((await at.post("/users/unknown/suspend")).status, 404, "at the head no user has that name");
});

test("a name is not reported as unknown while the node is behind the log: 503", async (t) => {
  let head: "unknown" | "ahead" = "unknown";
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      async status() {
        if (head === "unknown") throw new BrokerUnavailableError("no broker answers");
        const status = await inner.status();
        const leader = status.leader ?? assert.fail();
        const nextPosition = (leader.head.position + 1) as typeof leader.head.position;
        return { ...status, leader: { ...leader, head: { ...leader.head, position: nextPosition } } };
      },
    }),
  });
  for (head of ["unknown", "ahead"] as const)
    for (const answer of [
      await at.post("/users/unknown/suspend"),
      await at.post("/groups/eng/members", { add: ["unknown"] }),
    ]) {
      assert.deepEqual([answer.status, answer.headers["retry-after"]], [503, "1"], head);
      assert.match(json(answer).error, /no user matches "unknown".*behind the log/);
    }
});

test("an ambiguous name changes nothing, and the answer lists the people", async (t) => {
  const at = await startOperatorWorld(t);
  const one = await createPerson(at.world, { subject: "eve-1", email: "eve@example.com" });
  const two = await createPerson(at.world, { subject: "eve-2", email: "eve@example.com" });
  const { position } = at.world.replica.applied;
  const answer = await at.post("/users/eve@example.com/suspend");
  assert.equal(answer.status, 409);
  assert.match(json(answer).error, /2 users/);
  for (const id of [one, two]) assert.ok(json(answer).error.includes(id));
  assert.equal((await at.post("/groups/eng/members", { add: ["eve@example.com"] })).status, 409);
  assert.equal(at.world.replica.applied.position, position);
  assert.equal((await at.post(`/users/${two}/suspend`)).status, 200);
});

test("a user id always names its own user, whatever names other users have", async (t) => {
  const at = await startOperatorWorld(t);
  const target = await createPerson(at.world, { subject: "target" });
  await createPerson(at.world, { subject: target, email: target });
  const answer = json(await at.post(`/users/${target}/suspend`));
  assert.equal(answer.changed, true);
  assert.equal(at.world.replica.projection.user(target as never)?.status, "suspended");
});

test("an unverified e-mail address identifies a user if rights are removed, and not if they are granted", async (t) => {
  const at = await startOperatorWorld(t);
  const impostor = await createPerson(at.world, {
    subject: "impostor",
    email: "carol@example.com",
    emailVerified: false,
  });
  const added = await at.post("/groups/eng/members", { add: ["carol@example.com"] });
  assert.equal(added.status, 404);
  assert.match(json(added).error, /verified/);
  assert.equal((await at.post("/users/carol@example.com/restore")).status, 404);
  assert.equal((await at.post("/users/carol@example.com/suspend")).status, 200);
  assert.equal(at.world.replica.projection.user(impostor as never)?.status, "suspended");
});

test("every call is logged with its caller and operation, and without personal data", async (t) => {
  const at = await startOperatorWorld(t);
  await signIn(at.world, at.world.visitor(), "bob");
  await at.get("/users");
  await at.post("/users/bob@example.com/suspend");
  assert.ok(at.logged.some((line) => line.includes("operator:tester#t1") && line.includes("/users/:user/suspend")));
  const userId = subjectId(at.world, "bob");
  assert.ok(
    at.logged.some(
      (line) => line.includes("operator:tester#t1") && line.includes("suspendUser") && line.includes(userId),
    ),
  );
  assert.ok(at.logged.some((line) => line.includes('"GET"') && line.includes(`${operatorApiPrefix}/users`)));
  assert.ok(!at.logged.join().includes("bob@example.com"));
  const secretHash = "ab".repeat(32);
  await at.post("/scim/tokens", { client: "okta", tokenId: "0123456789abcdef", secretHash, scopes: ["users:read"] });
  const created = at.logged.find((line) => line.includes("createScimToken"));
  assert.ok(created?.includes("0123456789abcdef"));
  assert.ok(created?.includes("secretHash") === false, "nor what could check a guess of a secret");
});

test("an unreachable broker causes a clear 503, and a change that was made is never answered as a failure", async (t) => {
  let unavailable: "submit" | "receipt" | "status" | null = null;
  const at = await startOperatorWorld(t, {
    operator: (inner) => {
      const unlessUnavailable = <T>(operation: typeof unavailable, job: () => Promise<T>): Promise<T> =>
        unavailable === operation ? Promise.reject(new BrokerUnavailableError("no broker leads")) : job();
      return {
        ...inner,
        submit: (request) => unlessUnavailable("submit", () => inner.submit(request)),
        receipt: (target, options) => unlessUnavailable("receipt", () => inner.receipt(target, options)),
        status: () => unlessUnavailable("status", () => inner.status()),
      };
    },
  });
  await signIn(at.world, at.world.visitor(), "bob");
  unavailable = "submit";
  const refused = await at.post("/users/bob/suspend");
  assert.equal(refused.status, 503);
  assert.equal(refused.headers["retry-after"], "1");
  assert.ok(json(refused).commandId, "the command id for a retry");
  unavailable = "status";
  assert.equal((await at.get("/nodes")).status, 503);
  unavailable = "receipt";
  const done = await at.post("/users/bob/suspend", { wait: "all" });
  assert.equal(done.status, 200);
  assert.equal(json(done).changed, true);
  assert.equal(json(done).receipt, null);
  assert.equal((await at.get(`/receipts/command:${json(done).commandId}`)).status, 503);
});

test("an internal failure reveals no internals", async (t) => {
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({ ...inner, status: () => Promise.reject(new TypeError("secret insides")) }),
  });
  const answer = await at.get("/nodes");
  assert.equal(answer.status, 500);
  assert.ok(!answer.body.includes("insides"));
});

test("an erasure reports what it destroys, also before it is made, and once more when it is repeated", async (t) => {
  const at = await startOperatorWorld(t);
  const { world } = at;
  await signIn(world, world.visitor(), "alice");
  await signIn(world, world.visitor(), "alice");
  const alice = subjectId(world, "alice");
  const dry = json(await at.get("/users/alice/erasure"));
  const expected = { userId: alice, kind: "person", client: null, sessions: 2, memberships: 2 };
  assert.deepEqual(dry.people, [{ ...expected, key: "to-be-destroyed" }]);
  const ofRecords = dry.kept.find(({ place }: { place: string }) => place === "decision-records");
  for (const each of ["user agents", "reasons", "audit_query", "audit_headers"])
    assert.ok(ofRecords.holds.includes(each));
  assert.ok(dry.kept.some(({ holds }: { holds: string }) => holds.includes("hashes of the subject or the e-mail")));
  assert.equal(world.replica.projection.user(alice)?.status, "active", "nothing is destroyed");
  assert.equal((await at.get("/users/unknown/erasure")).status, 404);

  // A request has made this node open the profile, and keep it.
  const [session] = world.replica.projection.sessionsOf(alice);
  assert.ok(session !== undefined);
  const before = world.replica.projection.sessionStatus(session);
  const erased = json(await at.post("/users/alice@example.com/erase", { wait: "all" }));
  assert.equal(erased.changed, true);
  assert.deepEqual(erased.erasure.people, [{ ...expected, key: "destroyed" }]);
  assert.match(erased.promise, /each applied node has dropped the key of the person/);
  assert.equal(erased.receipt.complete, true);
  const after = world.replica.projection.sessionStatus(session);
  assert.ok("session" in before && "session" in after);
  assert.notEqual(after.session, before.session, "what was kept for the session object is gone with it");
  const again = json(await at.post(`/users/${alice}/erase`));
  assert.equal(again.changed, false);
  assert.equal(again.erasure.people[0].key, "destroyed-before");
});
