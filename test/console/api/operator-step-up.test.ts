/** Dangerous acts by a browser's session: a fresh sign-in, a typed confirmation, and no way to a greater role. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { OperatorEntry } from "../../../src/config/index.ts";
import { isFreshSignIn, signInTimesOf } from "../../../src/console/api/roles/step-up.ts";
import { type Profile, readsLevel, type UnixMs } from "../../../src/events/index.ts";
import { signIn, subjectId } from "../../auth/authenticate/support.ts";
import type { Visitor } from "../../support/visitor.ts";
import { waitFor } from "../../support/wait-for.ts";
import { json, type OperatorWorld, startOperatorWorld } from "./operator-support.ts";

type Browser = Readonly<{
  visitor: Visitor;
  post(path: string, body?: object): ReturnType<Visitor["request"]>;
  get(path: string): ReturnType<Visitor["request"]>;
}>;

function browserOf(at: OperatorWorld): Browser {
  const visitor = at.world.visitor();
  const origin = new URL(at.world.url("authenticate")).origin;
  const headers = { origin, "sec-fetch-site": "same-origin", "content-type": "application/json" };
  return {
    visitor,
    get: (path) => visitor.request(at.url(path), { headers }),
    post: (path, body = {}) => visitor.request(at.url(path), { method: "POST", headers, body: JSON.stringify(body) }),
  };
}

async function signInAgain(at: OperatorWorld, { visitor }: Browser, path: string, user: string): Promise<URL> {
  const form = await visitor.navigate(at.world.url("authenticate", path));
  assert.equal(form.url.origin, at.world.idpUrl.origin, "the provider asks again, although it knows the browser");
  return (await visitor.navigate(form.url, { form: { user, password: "x" } })).url;
}

test("an administrator's browser erases only after a fresh sign-in, which is that of its own session", async (t) => {
  const at = await startOperatorWorld(t);
  const [alice, other, bob] = [browserOf(at), browserOf(at), browserOf(at)];
  await signIn(at.world, bob.visitor, "bob");
  await signIn(at.world, alice.visitor, "alice");
  await signIn(at.world, other.visitor, "alice");
  const refused = json(await alice.post("/users/bob/erase", { confirm: "bob@example.com" }));
  assert.equal(refused.code, "sign-in-again");
  assert.match(refused.signInUrl, /^\/\.pomerium\/sign_in_again\?to=/);
  const back = "/.pomerium/user?from=erase";
  const landed = await signInAgain(at, alice, `/.pomerium/sign_in_again?to=${encodeURIComponent(back)}`, "alice");
  assert.equal(landed.pathname + landed.search, back);
  const stillStale = json(await other.post("/users/bob/erase", { confirm: "bob@example.com" }));
  assert.equal(stillStale.code, "sign-in-again", "the sign-in of another session of the same person does not count");
  assert.ok(json(await alice.get("/me")).freshUntil !== null);
  assert.equal(json(await other.get("/me")).freshUntil, null);
  at.stepUp.maxAgeMs = 1;
  assert.equal(json(await alice.post("/users/bob/erase")).code, "sign-in-again", "too old by now");
  at.stepUp.maxAgeMs = 600_000;
  const unconfirmed = json(await alice.post("/users/bob/erase"));
  assert.deepEqual([unconfirmed.code, unconfirmed.confirm], ["confirm-required", "bob@example.com"]);
  assert.equal(json(await alice.post("/users/bob/erase", { confirm: "bob" })).code, "confirm-required");
  const erased = await alice.post("/users/bob/erase", { confirm: "bob@example.com" });
  assert.equal(erased.status, 200, erased.body);
});

test("each of the most dangerous operations needs it; a token does not, and other changes do not", async (t) => {
  const at = await startOperatorWorld(t);
  const alice = browserOf(at);
  await signIn(at.world, alice.visitor, "alice");
  const held = "33333333-3333-4333-8333-333333333333";
  const paths = [
    "/users/x/erase",
    "/cluster/finalize",
    "/cluster/retire",
    `/held/${held}/release`,
    "/held/allow",
    "/scim/tokens",
  ];
  for (const path of paths) {
    const answer = await alice.post(path);
    assert.deepEqual([answer.status, json(answer).code], [403, "sign-in-again"], path);
    assert.notEqual((await at.post(path)).status, 403, path);
  }
  assert.equal((await alice.post("/groups/eng/remove", { confirm: "eng" })).status, 200);
});

test("the time of a sign-in is the provider's signed word, never later than the session, and unknown is too old", () => {
  const now = 1_000_000_000_000 as UnixMs;
  const timesOf = (claims: Profile["claims"], issuedAt = now): ReturnType<typeof signInTimesOf> =>
    signInTimesOf({ session: { issuedAt }, profile: { claims } } as unknown as Parameters<typeof signInTimesOf>[0]);
  const rule = { maxAgeMs: 600_000, authTime: "required" } as const;
  const s = now / 1_000;
  const fresh = (claims: Profile["claims"], issuedAt = now, stepUp: Parameters<typeof isFreshSignIn>[1] = rule) =>
    isFreshSignIn(timesOf(claims, issuedAt as UnixMs), stepUp, now);
  assert.ok(fresh({ auth_time: [s - 10] }));
  assert.ok(!fresh({ auth_time: [s - 601] }));
  assert.ok(!fresh({ auth_time: [s] }, (now - 3_600_000) as UnixMs), "a refresh cannot make an old session fresh");
  assert.ok(!fresh({ auth_time: [s + 9_999_999] }, (now - 3_600_000) as UnixMs), "a time in the future");
  for (const claims of [
    {},
    { auth_time: [] },
    { auth_time: [s, s] },
    { auth_time: [String(s)] },
    { auth_time: [true] },
  ])
    assert.ok(!fresh(claims), JSON.stringify(claims));
  for (const wrong of [0, -1, 1e12, Number.NaN, Number.POSITIVE_INFINITY]) assert.ok(!fresh({ auth_time: [wrong] }));
  assert.ok(fresh({}, now, { maxAgeMs: 600_000, authTime: "if_sent" }));
  assert.ok(!fresh({ auth_time: [s - 601] }, now, { maxAgeMs: 600_000, authTime: "if_sent" }), "what is sent counts");
  assert.ok(fresh({}, (now - 3_600_000) as UnixMs, { maxAgeMs: 0, authTime: "required" }), "switched off");
});

test("the way to the provider leads back to pages of this host alone, and no other site can send a person there", async (t) => {
  const at = await startOperatorWorld(t);
  const { visitor } = browserOf(at);
  const there = async (to: string, headers: Record<string, string> = {}) => {
    const url = at.world.url("authenticate", `/.pomerium/sign_in_again?to=${encodeURIComponent(to)}`);
    const answer = await visitor.request(url, { headers });
    assert.equal(answer.status, 302);
    return new URL(answer.headers["location"] as string);
  };
  const target = async (to: string): Promise<string | null> =>
    (await there(to)).searchParams.get("pomerium_redirect_uri");
  const home = at.world.url("authenticate", "/.pomerium/admin/");
  assert.equal(await target("/.pomerium/admin/x?y=1#z"), at.world.url("authenticate", "/.pomerium/admin/x?y=1#z"));
  for (const to of [
    ...["https://evil.example/", "//evil.example/.pomerium/", "/\\evil.example/.pomerium/", "javascript:alert(1)", ""],
    ...["/app", "/.pomerium/../app", "http://u:p@authenticate.localhost/.pomerium/", `/.pomerium/${"x".repeat(2_000)}`],
    ...["/.pomerium/sign_in_again?to=/.pomerium/", "/.pomerium/sign_in?pomerium_redirect_uri=x"],
  ])
    assert.equal(await target(to), home, to);
  const elsewhere = await there("/.pomerium/admin/x", { "sec-fetch-site": "cross-site" });
  assert.equal(elsewhere.href, at.world.url("authenticate", "/.pomerium/admin/x"), "no sign-in begins");
});

test("what ends many sessions, a group or the caller's own access is confirmed; a token is not asked", async (t) => {
  const at = await startOperatorWorld(t);
  at.roles.administrators.splice(0, 1, "group:admins");
  const alice = browserOf(at);
  await signIn(at.world, alice.visitor, "alice");
  const carol = browserOf(at);
  await signIn(at.world, carol.visitor, "carol");
  const all = json(await alice.post("/sessions/revoke", { filter: { all: true } }));
  assert.deepEqual([all.code, all.confirm], ["confirm-required", "2"]);
  const named = Array.from({ length: 26 }, (_, n) => `00000000-0000-4000-8000-0000000000${String(n).padStart(2, "0")}`);
  assert.equal(json(await alice.post("/sessions/revoke", { sessionIds: named })).confirm, "26");
  assert.equal(
    json(await alice.post("/sessions/revoke", { sessionIds: named, confirm: "25" })).code,
    "confirm-required",
  );
  assert.equal(
    (await alice.post("/sessions/revoke", { sessionIds: named, confirm: "26" })).status,
    404,
    "they are unknown",
  );
  assert.equal((await alice.post("/sessions/revoke", { sessionIds: named.slice(1) })).status, 404, "25 need none");
  assert.equal((await at.post("/sessions/revoke", { sessionIds: named })).status, 404, "a token");
  const self = json(await alice.post("/users/alice/suspend"));
  assert.deepEqual([self.code, self.confirm], ["confirm-required", "alice@example.com"]);
  assert.match(self.error, /ends your own access\. You are the last administrator/);
  const leave = json(await alice.post("/groups/admins/members", { remove: ["alice"] }));
  assert.deepEqual([leave.code, leave.confirm], ["confirm-required", "alice@example.com"]);
  assert.equal((await alice.post("/groups/eng/members", { remove: ["carol"] })).status, 200, "another person's group");
  const group = json(await alice.post("/groups/admins/remove"));
  assert.deepEqual([group.code, group.confirm], ["confirm-required", "admins"]);
  assert.match(group.error, /gives the role administrator/);
  assert.equal((await alice.post("/groups/admins/members", { add: ["carol"] })).status, 200);
  const notLast = json(await alice.post("/users/alice/suspend"));
  assert.ok(!/last administrator/.test(notLast.error));
  assert.equal((await alice.post("/users/alice/suspend", { confirm: "alice@example.com" })).status, 200);
  assert.equal((await alice.get("/me")).status, 401);
});

test("an operator makes no one greater than an operator, and acts on no one with a higher role", async (t) => {
  const at = await startOperatorWorld(t);
  const entries: OperatorEntry[] = ["group:sales"];
  at.roles.operators.push(...entries);
  at.roles.administrators.splice(0, 1, "group:admins");
  const [alice, bob] = [browserOf(at), browserOf(at)];
  await signIn(at.world, alice.visitor, "alice");
  await signIn(at.world, bob.visitor, "bob");
  const refusedFor = async (path: string, body: object = {}): Promise<unknown> => {
    const answer = await bob.post(path, body);
    return [answer.status, json(answer).role];
  };
  const administrator = [403, "administrator"];
  assert.deepEqual(await refusedFor("/groups/admins/members", { add: ["bob"] }), administrator);
  assert.deepEqual(await refusedFor("/groups/base64url:YWRtaW5z/members", { add: ["bob"] }), administrator);
  assert.deepEqual(await refusedFor("/groups/admins/members", { remove: ["alice"] }), administrator);
  assert.deepEqual(await refusedFor("/users/alice/suspend"), administrator);
  assert.deepEqual(await refusedFor(`/users/${subjectId(at.world, "alice")}/restore`), administrator);
  assert.equal((await bob.post("/groups/sales/members", { add: ["alice"] })).status, 200, "their own role");
  assert.equal((await bob.post("/users/alice/sessions/revoke")).status, 200, "ends sessions, and takes no role");
  const limited = await at.token({ role: "operator" });
  const headers = { authorization: `Bearer ${limited}`, "content-type": "application/json" };
  assert.equal(
    (await at.post("/groups/admins/members", { add: ["bob"] }, { headers })).status,
    403,
    "nor does a token",
  );
  at.roles.administrators.push(`email:bob@example.com`);
  assert.equal((await bob.post("/groups/admins/members", { add: ["bob"] })).status, 200);
});

test("an act that no command records leaves a record of its own, with actor and target", async (t) => {
  const at = await startOperatorWorld(t);
  await at.post("/signals/transmitters/okta/stream/delete");
  await at.post("/snapshots");
  const acts = at.accesses.filter(({ command }) => command.startsWith("POST "));
  assert.deepEqual(
    acts.map(({ actor, command, targets, outcome }) => [actor, command, targets, outcome]),
    [
      ["token:t1", "POST /signals/transmitters/:transmitter/stream/delete", ["transmitter:okta"], "refused"],
      ["token:t1", "POST /snapshots", [], acts[1]?.outcome],
    ],
  );
});

test("a directory run with every removal is a release: an administrator's, freshly signed in, by the typed name", async (t) => {
  const at = await startOperatorWorld(t);
  at.roles.administrators.splice(0, 1, "group:admins");
  at.roles.operators.push("group:sales");
  const [alice, bob] = [browserOf(at), browserOf(at)];
  await signIn(at.world, alice.visitor, "alice");
  await signIn(at.world, bob.visitor, "bob");
  const path = "/directories/corp/sync";
  const finalize = async () => (await at.post("/cluster/finalize", { level: readsLevel })).status === 200;
  await waitFor("the level", finalize);
  assert.equal((await bob.post(path)).status, 200, "a run that may be held");
  const refused = await bob.post(path, { removals: true });
  assert.deepEqual([refused.status, json(refused).role], [403, "administrator"]);
  assert.equal(json(await alice.post(path, { removals: true, confirm: "corp" })).code, "sign-in-again");
  await signInAgain(at, alice, "/.pomerium/sign_in_again?to=/.pomerium/user", "alice");
  const unconfirmed = json(await alice.post(path, { removals: true }));
  assert.deepEqual([unconfirmed.code, unconfirmed.confirm], ["confirm-required", "corp"]);
  assert.equal((await alice.post(path, { removals: true, confirm: "corp" })).status, 200);
  assert.equal((await at.post(path, { removals: true })).status, 200, "the command line");
});
