/** Provisioned people, and what happens when they sign in before, after, or under another key. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Visitor } from "../../support/visitor.ts";
import { waitFor } from "../../support/wait-for.ts";
import { echoOf, follow, type Installation, shared, startInstallation } from "../identity/installation.ts";
import { operate, patchOf, raiseLevel, type ScimClient, scimClient } from "./scim-client.ts";

const installation = shared(async (t) => {
  const at = await startInstallation(t, ({ url, upstream }) => ({
    scim_clients: { okta: { match: "subject" }, hr: { match: "email" } },
    administrators: ["sub:root"],
    routes: [{ from: url("app", ""), to: upstream, allow_any_authenticated_user: true, pass_identity_headers: true }],
    jwt_claims_headers: ["groups"],
  }));
  await raiseLevel(at);
  return at;
});

async function signIn(
  at: Installation,
  name: string,
  claims: Readonly<Record<string, unknown>> = {},
): Promise<Visitor> {
  const visitor = at.visitor();
  at.provider.person.name = name;
  at.provider.person.claims = claims;
  const { end } = await follow(visitor, at.url("app"));
  assert.equal(end.status, 200, end.body.slice(0, 300));
  return visitor;
}

async function isRefused(
  at: Installation,
  name: string,
  claims: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  const visitor = at.visitor();
  at.provider.person.name = name;
  at.provider.person.claims = claims;
  const { end } = await follow(visitor, at.url("app"));
  assert.equal(end.status, 403, `${name}: ${end.status}`);
}

const statusOf = async (at: Installation, visitor: Visitor): Promise<number> =>
  (await visitor.request(at.url("app"), { headers: { accept: "application/json" } })).status;

async function groupsSeen(at: Installation, visitor: Visitor): Promise<string> {
  const answer = await visitor.request(at.url("app"));
  return String(echoOf(answer).headers["x-pomerium-claim-groups"] ?? "");
}

const userOf = (name: string, more: object = {}): object => ({
  userName: `${name}@example.com`,
  externalId: name,
  active: true,
  ...more,
});

async function made(client: ScimClient, path: string, body: object): Promise<string> {
  const answer = await client.request("POST", path, body);
  assert.equal(answer.status, 201, JSON.stringify(answer.body));
  return String(answer.body["id"]);
}

test("a person who signed in before the client knew them loses the session with the first word that they have left", async () => {
  const at = installation();
  const okta = await scimClient(at, "okta");
  const visitor = await signIn(at, "early");
  assert.equal(await statusOf(at, visitor), 200);
  const answer = await okta.request("POST", "/Users", userOf("early", { active: false }), { prefer: "wait=20" });
  assert.equal(answer.status, 201);
  assert.ok(Number(answer.header("cardea-position")) > 0);
  assert.equal(answer.header("preference-applied"), "wait");
  assert.equal(answer.header("cardea-receipt"), "complete");
  assert.equal(await statusOf(at, visitor), 401, "a complete receipt means that no node permits it");
  await isRefused(at, "early");
});

test("a client that removes `active` of a person who has left lets them in no more than before", async () => {
  const at = installation();
  const okta = await scimClient(at, "okta");
  const id = await made(okta, "/Users", userOf("retired", { active: false }));
  for (const operation of [
    { op: "remove", path: "active" },
    { op: "replace", path: "active", value: null },
    { op: "replace", path: "title", value: "x" },
  ]) {
    assert.equal((await okta.request("PATCH", `/Users/${id}`, patchOf(operation))).status, 200);
    await isRefused(at, "retired");
  }
  const back = patchOf({ op: "replace", path: "active", value: "True" });
  assert.equal((await okta.request("PATCH", `/Users/${id}`, back)).status, 200);
  await signIn(at, "retired");
});

test("a person who signed in before is in the client's groups at once, without another sign-in", async () => {
  const at = installation();
  const okta = await scimClient(at, "okta");
  const visitor = await signIn(at, "dora");
  const id = await made(okta, "/Users", userOf("dora"));
  const group = await made(okta, "/Groups", { displayName: "drivers", members: [{ value: id }] });
  assert.equal(await groupsSeen(at, visitor), "drivers");
  const removed = await okta.request(
    "PATCH",
    `/Groups/${group}`,
    patchOf({ op: "remove", path: `members[value eq "${id}"]` }),
  );
  assert.equal(removed.status, 204);
  assert.equal(await groupsSeen(at, visitor), "");
});

test("with two clients, each can deny, and both give groups", async () => {
  const at = installation();
  const [okta, hr] = [await scimClient(at, "okta"), await scimClient(at, "hr")];
  const inOkta = await made(okta, "/Users", userOf("twice"));
  const inHr = await made(hr, "/Users", userOf("twice"));
  await made(okta, "/Groups", { displayName: "one", members: [{ value: inOkta }] });
  await made(hr, "/Groups", { displayName: "two", members: [{ value: inHr }] });
  const taken = await hr.request("POST", "/Groups", { displayName: "one" });
  assert.equal(taken.status, 409, "a group has one owner");
  assert.equal((await hr.request("GET", `/Users/${inOkta}`)).status, 404, "clients do not see each other's people");
  const visitor = await signIn(at, "twice");
  assert.equal(await groupsSeen(at, visitor), "one,two");
  await hr.request("PATCH", `/Users/${inHr}`, patchOf({ op: "replace", value: { active: false } }));
  assert.equal(await statusOf(at, visitor), 401);
  await okta.request("PATCH", `/Users/${inOkta}`, patchOf({ op: "replace", value: { active: true } }));
  await isRefused(at, "twice");
  await hr.request("PATCH", `/Users/${inHr}`, patchOf({ op: "replace", value: { active: true } }));
  assert.equal(await groupsSeen(at, await signIn(at, "twice")), "one,two");
});

test("a person whose e-mail the client changes is denied under the old one, too", async () => {
  const at = installation();
  const hr = await scimClient(at, "hr");
  const id = await made(
    hr,
    "/Users",
    userOf("old-name", { emails: [{ value: "old-name@example.com", primary: true }] }),
  );
  await made(hr, "/Groups", { displayName: "renamed", members: [{ value: id }] });
  const visitor = await signIn(at, "old-name");
  const email = { op: "replace", path: "emails[primary eq true].value", value: "new-name@example.com" };
  const changed = await hr.request("PATCH", `/Users/${id}`, patchOf(email));
  assert.equal(changed.status, 200, JSON.stringify(changed.body));
  assert.equal(changed.body["id"], id);
  assert.equal(await groupsSeen(at, visitor), "renamed", "the provider still states the old e-mail");
  const renamed = await signIn(at, "old-name", { email: "new-name@example.com" });
  assert.equal(await groupsSeen(at, renamed), "renamed");
  await hr.request("PATCH", `/Users/${id}`, patchOf({ op: "replace", path: "active", value: "False" }));
  assert.equal(await statusOf(at, visitor), 401);
  await isRefused(at, "old-name");
  await isRefused(at, "old-name", { email: "new-name@example.com" });
});

test("an e-mail that the provider has not verified correlates with no one", async () => {
  const at = installation();
  const hr = await scimClient(at, "hr");
  const id = await made(hr, "/Users", userOf("boss"));
  await made(hr, "/Groups", { displayName: "bosses", members: [{ value: id }] });
  const visitor = await signIn(at, "mallory", { email: "boss@example.com", email_verified: false });
  assert.equal(await groupsSeen(at, visitor), "");
});

test("an operator's suspension outlasts what the client says", async () => {
  const at = installation();
  const okta = await scimClient(at, "okta");
  const id = await made(okta, "/Users", userOf("lost"));
  await signIn(at, "lost");
  assert.equal((await operate(at, "/users/lost/suspend", { wait: "all" })).status, 200);
  await okta.request("PATCH", `/Users/${id}`, patchOf({ op: "replace", value: { active: false } }));
  await okta.request("PATCH", `/Users/${id}`, patchOf({ op: "replace", value: { active: true } }));
  await isRefused(at, "lost");
});

test("erasing a person erases what clients say of them, permanently", async () => {
  const at = installation();
  const okta = await scimClient(at, "okta");
  const id = await made(okta, "/Users", userOf("gone"));
  await signIn(at, "gone");
  const erased = await operate(at, "/users/gone/erase", { wait: "all" });
  assert.equal(erased.status, 200, JSON.stringify(erased.body));
  assert.equal((await okta.request("GET", `/Users/${id}`)).status, 404);
  assert.equal((await okta.request("POST", "/Users", userOf("gone"))).status, 409);
  await isRefused(at, "gone");
});

test("names of operators' commands and the list of users leave out what clients provision", async () => {
  const at = installation();
  const okta = await scimClient(at, "okta");
  await made(okta, "/Users", userOf("quiet"));
  assert.equal((await operate(at, "/users/quiet@example.com/suspend", {})).status, 404);
  const { users } = (await operate(at, "/users")).body as { users: readonly { email: string }[] };
  assert.ok(!users.some(({ email }) => email === "quiet@example.com"));
});

test("changes of one group at the same time all arrive, and the record of a change names the token", async () => {
  const at = installation();
  const okta = await scimClient(at, "okta");
  const ids = await Promise.all(Array.from({ length: 20 }, (_, n) => made(okta, "/Users", userOf(`many-${n}`))));
  const group = await made(okta, "/Groups", { displayName: "many" });
  const statuses = await Promise.all(
    ids.map(async (id) => {
      const add = { op: "add", path: "members", value: [{ value: id }] };
      return (await okta.request("PATCH", `/Groups/${group}`, patchOf(add))).status;
    }),
  );
  assert.deepEqual(new Set(statuses), new Set([204]));
  const { members } = (await okta.request("GET", `/Groups/${group}`)).body as { members: readonly object[] };
  assert.equal(members.length, ids.length);
  assert.ok(at.logged.some(({ fields }) => fields["actor"] === `service:scim/okta#${okta.tokenId}`));
});

test("a new configuration and a new start of the index know all that was provisioned", async () => {
  const at = installation();
  const okta = await scimClient(at, "okta");
  const id = await made(okta, "/Users", userOf("stays"));
  await at.activate({ scim_clients: { okta: { match: "subject" }, hr: { match: "email" }, third: {} } });
  await waitFor("the user after the reload", async () => (await okta.request("GET", `/Users/${id}`)).status === 200);
  assert.equal((await okta.request("POST", "/Users", userOf("stays"))).status, 409);
});
