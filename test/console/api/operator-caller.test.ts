/** The callers of the operator API: which tokens and sessions are accepted. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeJwt, SignJWT, UnsecuredJWT } from "jose";
import type { Principal } from "../../../src/auth/index.ts";
import { operatorOperations } from "../../../src/console/api/operator-operations.ts";
import { isAdministrator, mintOperatorToken, verifyOperatorToken } from "../../../src/console/index.ts";
import type { GroupId, UnixMs } from "../../../src/events/index.ts";
import type { HomeOutOfReach } from "../../../src/replication/index.ts";
import { deriveKey, serviceTokenKey } from "../../../src/replication/wire/index.ts";
import { secret, signIn } from "../../auth/authenticate/support.ts";
import { json, nowS, startOperatorWorld } from "./operator-support.ts";

test("only a recent token of this cluster and for this purpose is accepted", async (t) => {
  const at = await startOperatorWorld(t);
  const claims = { iss: "tester", jti: "t1", iat: nowS(), exp: nowS() + 60, aud: "cardea-operator:test" };
  const signed = (key: Uint8Array, more: object = {}, alg = "HS256"): Promise<string> =>
    new SignJWT({ ...claims, ...more }).setProtectedHeader({ alg, typ: "JWT" }).sign(key);
  const key = deriveKey(secret, "operator token");
  const cases: readonly (readonly [name: string, authorization: string, status: number])[] = [
    ["a good token", `Bearer ${await at.token()}`, 200],
    ["the scheme in lowercase", `bearer ${await at.token()}`, 200],
    ["no token", "", 401],
    ["an expired token", `Bearer ${await at.token({ nowS: nowS() - 120 })}`, 401],
    ["another cluster's token", `Bearer ${await at.token({ cluster: "other" })}`, 401],
    ["a token under another secret", `Bearer ${await at.token({ secret: new Uint8Array(32).fill(9) })}`, 401],
    ["a service token of the operator's role", `Bearer ${await signed(serviceTokenKey(secret, "operator"))}`, 401],
    ["a token signed with the shared secret itself", `Bearer ${await signed(secret)}`, 401],
    ["a token without exp", `Bearer ${await signed(key, { exp: undefined })}`, 401],
    ["a token without jti", `Bearer ${await signed(key, { jti: undefined })}`, 401],
    ["a token without iss", `Bearer ${await signed(key, { iss: undefined })}`, 401],
    ["a token whose name would forge a log line", `Bearer ${await signed(key, { iss: "a b\noperator" })}`, 401],
    ["another algorithm", `Bearer ${await signed(new Uint8Array(64), {}, "HS512")}`, 401],
    ["alg none", `Bearer ${new UnsecuredJWT(claims).encode()}`, 401],
    ["another scheme", `Basic ${Buffer.from("tester:x").toString("base64")}`, 401],
    ["rubbish", "Bearer rubbish", 401],
  ];
  for (const [name, authorization, status] of cases) {
    const headers: Record<string, string> = authorization === "" ? {} : { authorization };
    const answer = await at.get("/sessions", { headers });
    assert.equal(answer.status, status, name);
    if (status !== 200) assert.ok(json(answer).error, name);
    assert.equal(answer.headers["cache-control"], "no-store");
  }
});

test("only an administrator's session is accepted, from the proxy's own pages; every other is refused", async (t) => {
  const at = await startOperatorWorld(t);
  const { world } = at;
  const origin = new URL(world.url("authenticate")).origin;
  const [alice, bob] = [world.visitor(), world.visitor()];
  await signIn(world, alice, "alice");
  await signIn(world, bob, "bob");
  const own = { "sec-fetch-site": "same-origin", accept: "application/json" };
  const reads: readonly (readonly [name: string, headers: Record<string, string>, status: number])[] = [
    ["a fetch of our own page", own, 200],
    ["typed into the address bar", { "sec-fetch-site": "none" }, 200],
    ["the proxy's own Origin", { origin }, 200],
    ["no Origin and no Sec-Fetch-Site", {}, 403],
    ["a page of another site", { "sec-fetch-site": "cross-site" }, 403],
    ["a page of a sibling domain", { "sec-fetch-site": "same-site" }, 403],
    ["a foreign Origin", { origin: "https://evil.example" }, 403],
    ["a foreign Origin that claims to be same-origin", { origin: "https://evil.example", ...own }, 403],
    ["an opaque Origin", { origin: "null", "sec-fetch-site": "cross-site" }, 403],
    ["a bad token beside a good cookie", { ...own, authorization: "Bearer rubbish" }, 401],
  ];
  for (const [name, headers, status] of reads) {
    const answer = await alice.request(at.url("/sessions"), { headers });
    assert.equal(answer.status, status, name);
  }
  assert.equal(
    (await bob.request(at.url("/sessions"), { headers: own })).status,
    403,
    "a session of a user who is not an administrator",
  );
  assert.equal((await world.visitor().request(at.url("/sessions"), { headers: own })).status, 401, "no session");

  const path = "/users/bob/sessions/revoke";
  const json = { "content-type": "application/json" };
  const changes: readonly (readonly [name: string, headers: Record<string, string>, status: number])[] = [
    ["typed into the address bar", { "sec-fetch-site": "none", ...json }, 403],
    ["a page of another site", { "sec-fetch-site": "cross-site", origin: "https://evil.example", ...json }, 403],
    ["no Origin and no Sec-Fetch-Site", json, 403],
    ["a form", { origin, "content-type": "application/x-www-form-urlencoded" }, 403],
    ["plain text, which a form can send", { origin, "content-type": "text/plain" }, 403],
    ["a content type that only starts like JSON", { origin, "content-type": "application/jsonp" }, 403],
    ["no content type", { origin }, 403],
    ["our own page", { origin, "sec-fetch-site": "same-origin", ...json }, 200],
  ];
  for (const [name, headers, status] of changes) {
    const answer = await alice.request(at.url(path), { method: "POST", body: "{}", headers });
    assert.equal(answer.status, status, name);
  }
  const [session] = [...world.replica.projection.sessions()];
  assert.equal(session?.userId !== undefined, true);
});

test("an administrator loses access when the session is revoked or the person leaves the group", async (t) => {
  const at = await startOperatorWorld(t);
  const { world } = at;
  const alice = world.visitor();
  await signIn(world, alice, "alice");
  const requestStatus = async (): Promise<number> =>
    (await alice.request(at.url("/users"), { headers: { "sec-fetch-site": "same-origin" } })).status;
  assert.equal(await requestStatus(), 200);
  await at.post("/groups/admins/members", { remove: ["alice"] });
  assert.equal(await requestStatus(), 403);
  await at.post("/groups/admins/members", { add: ["alice"] });
  assert.equal(await requestStatus(), 200);
  await at.post("/users/alice/sessions/revoke");
  assert.equal(await requestStatus(), 401);
});

const pathValues: Readonly<Record<string, string>> = {
  ...{ id: "s1", user: "alice", group: "eng", hash: "a".repeat(64), token: "abcdef012345" },
  ...{ held: "33333333-3333-4333-8333-333333333333", directory: "corp", receiver: "payroll", transmitter: "okta" },
  ...{ commandId: "22222222-2222-4222-8222-222222222222", target: `link:1.1.${"a".repeat(64)}` },
  ...{ a: "a".repeat(64), b: "b".repeat(64), request: "44444444-4444-4444-8444-444444444444" },
};

test("while the home region is out of reach, an administrator hears that and until when, with a code of its own; a token is accepted", async (t) => {
  let home: HomeOutOfReach | null = null;
  const at = await startOperatorWorld(t, {
    world: { deps: (deps) => ({ ...deps, catchUp: async () => "behind" }) },
    homeOutOfReach: () => home,
  });
  const alice = at.world.visitor();
  await signIn(at.world, alice, "alice");
  const headers = { "sec-fetch-site": "same-origin" };
  const overdue = t.mock.method(at.world.deps.replica, "overdueMs", () => 1);
  const behind = json(await alice.request(at.url("/users"), { headers }));
  assert.deepEqual([behind.code, behind.error], [undefined, "this node has not read your session from the log yet"]);
  const leasesUntil = Date.UTC(2026, 10, 29, 4, 0, 5) as UnixMs;
  home = { region: "ap", silentMs: 9_000, leasesUntil, lastKnown: null };
  const answer = await alice.request(at.url("/users"), { headers });
  assert.equal(answer.status, 503);
  assert.equal(json(answer).code, "home-unreachable");
  assert.equal(answer.headers["retry-after"], "5");
  const heard = /home region is out of reach \(leases by age until 2026-11-29T04:00:05Z\)/;
  for (const operation of Object.keys(operatorOperations)) {
    const [method = "", path = ""] = operation.split(" ");
    const named = path.replaceAll(/:(\w+)/g, (_, name: string) => pathValues[name] ?? assert.fail(name));
    const refused = await alice.request(at.url(named), { method, headers });
    assert.deepEqual([refused.status, json(refused).code], [503, "home-unreachable"], operation);
    assert.match(json(refused).error, heard, operation);
  }
  assert.equal((await at.get("/users")).status, 200, "with a token");
  overdue.mock.restore();
});

test("a node that is behind answers an administrator with 503 and not with a denial", async (t) => {
  let isBehind = false;
  const at = await startOperatorWorld(t, {
    world: { deps: (deps) => ({ ...deps, catchUp: async (link) => (isBehind ? "behind" : deps.catchUp(link)) }) },
  });
  const alice = at.world.visitor();
  await signIn(at.world, alice, "alice");
  isBehind = true;
  const answer = await alice.request(at.url("/users"), { headers: { "sec-fetch-site": "same-origin" } });
  assert.equal(answer.status, 503);
  assert.equal(answer.headers["retry-after"], "1");
});

test("administrators are named by group, by subject, or by an e-mail that the provider calls verified", () => {
  const principal = (parts: Partial<Principal["profile"]>, groups: readonly string[] = []): Principal =>
    ({
      groups: new Set(groups as GroupId[]),
      profile: {
        issuer: "i",
        subject: "s1",
        email: "a@example.com",
        emailVerified: true,
        name: "A",
        claims: {},
        ...parts,
      },
    }) as unknown as Principal;
  const isAdmin = (names: readonly string[], who: Principal): boolean => isAdministrator(who, names);
  assert.ok(isAdmin(["a@example.com"], principal({})));
  assert.ok(
    !isAdmin(["a@example.com"], principal({ emailVerified: false })),
    "an unverified e-mail can be claimed freely",
  );
  assert.ok(isAdmin(["s1"], principal({ emailVerified: false })));
  assert.ok(isAdmin(["admins"], principal({}, ["admins"])));
  assert.ok(!isAdmin([], principal({}, ["admins"])));
  const everyKind = principal({ subject: "s1", email: "a@example.com" }, ["admins"]);
  for (const entry of ["group:admins", "email:a@example.com", "sub:s1"]) assert.ok(isAdmin([entry], everyKind), entry);
  for (const entry of [
    "group:s1",
    "group:a@example.com",
    "email:s1",
    "email:admins",
    "sub:admins",
    "sub:a@example.com",
  ])
    assert.ok(!isAdmin([entry], everyKind), entry);
  const namesake = principal({ subject: "other", email: "group@example.com", emailVerified: true }, ["s1"]);
  assert.ok(!isAdmin(["sub:s1"], namesake), "a group named like a person does not make its members that person");
  assert.ok(!isAdmin(["email:a@example.com"], principal({ emailVerified: false })));
  for (const entry of ["group:", "email:", "sub:"])
    assert.ok(!isAdmin([entry], principal({ email: "", subject: "" }, [""])), "a kind without a name matches no user");
  assert.ok(!isAdmin([""], principal({ email: "", subject: "" })), "an empty name matches no user");
  assert.ok(!isAdmin(["A"], principal({})), "a display name matches no user");
  assert.ok(!isAdmin(["admins"], { groups: new Set(), profile: undefined } as unknown as Principal));
});

test("a token carries its name, id and expiry; invalid names are refused", async () => {
  const options = { secret, cluster: "c", name: "ci@host.example", tokenId: "id-1", nowS: 1_000, ttlS: 60 };
  const token = await mintOperatorToken(options);
  assert.equal(decodeJwt(token).exp, 1_060);
  const verify = (at: number, secrets = [secret]) => verifyOperatorToken(token, { secrets, cluster: "c", nowS: at });
  assert.deepEqual(await verify(1_059), {
    ...{ name: "ci@host.example", tokenId: "id-1", expiresAt: 1_060_000 },
    ...{ role: "administrator", routeGroups: null },
  });
  assert.equal(await verify(1_060), undefined);
  const other = new Uint8Array(32).fill(8);
  assert.ok(await verify(1_000, [other, secret]), "during a rotation of the secret");
  assert.equal(await verify(1_000, [other]), undefined);
  for (const name of ["", "two words", "a#b", "x".repeat(101)])
    await assert.rejects(mintOperatorToken({ ...options, name }), TypeError);
});
