/** Logouts that an identity provider reports: over the back channel, in a frame, and after a sign-out here. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { type AuthDeps, createLocalFetch, createOidcClient } from "../../../src/auth/index.ts";
import {
  type Command,
  type CommandId,
  Projection,
  providerSessionId,
  type SessionId,
  userIdOf,
} from "../../../src/events/index.ts";
import { createSession } from "../../broker/support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { signIn, signInUpToCallback, startWorld, subjectId, type WorldOptions } from "./support.ts";

const event = "http://schemas.openid.net/event/backchannel-logout";
const path = "/.pomerium/backchannel_logout";
const sid = "0123456789abcdef-at-the-provider";

/** An issuer whose key the test has, and a world whose sessions are of it. */
async function startLogoutWorld(t: TestContext, options: WorldOptions & Readonly<{ level?: number }> = {}) {
  const { privateKey, publicKey } = await generateKeyPair("RS256");
  const jwk = { ...(await exportJWK(publicKey)), kid: "k1", alg: "RS256", use: "sig" };
  const state = { down: false };
  const server = createServer((req, res) => {
    if (state.down) return void res.writeHead(500).end();
    const body = req.url === "/jwks" ? { keys: [jwk] } : { issuer, jwks_uri: `${issuer}/jwks` };
    res.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const local = createLocalFetch({ timeoutMs: 2_000 });
  t.after(async () => {
    server.closeAllConnections();
    server.close();
    await local.close();
  });
  const settings = { scopes: [], requestParams: {}, redirectUri: new URL("http://authenticate.localhost/cb") };
  const client = createOidcClient(
    { ...settings, issuer: new URL(issuer), clientId: "cardea", clientSecret: "secret" },
    local,
    () => Date.now(),
  );
  const results: string[] = [];
  const world = await startWorld(t, {
    ...options,
    deps: (deps, of) => ({
      ...(options.deps?.(deps, of) ?? deps),
      providerOf: (idpId) => (idpId === "demo" ? client : undefined),
      onLogout: (channel, result) => void results.push(`${channel} ${result}`),
    }),
  });
  const { level = 5 } = options;
  const finalized = await world.submit({ type: "finalizeUpgrade", level });
  assert.equal(finalized.type, "done", JSON.stringify(finalized));
  await waitFor("the level", () => world.replica.projection.level === level);
  const visitor = world.visitor();
  let tokens = 0;
  return {
    ...{ world, issuer, state, results, providerSession: providerSessionId(issuer, sid) },
    sign: (claims: JWTPayload) => {
      tokens += 1;
      const content = { iss: issuer, aud: "cardea", jti: `token-${tokens}`, events: { [event]: {} }, ...claims };
      const token = new SignJWT(content).setProtectedHeader({ alg: "RS256", kid: "k1", typ: "logout+jwt" });
      return token.setIssuedAt().setExpirationTime("2m").sign(privateKey);
    },
    post: (token: string, { body, type }: Readonly<{ body?: string; type?: string }> = {}) =>
      visitor.request(world.url("authenticate", path), {
        method: "POST",
        headers: { "content-type": type ?? "application/x-www-form-urlencoded" },
        body: body ?? new URLSearchParams({ logout_token: token }).toString(),
      }),
  };
}
type LogoutWorld = Awaited<ReturnType<typeof startLogoutWorld>>;

/** As the authenticate host does at a sign-in. */
async function begin(
  of: LogoutWorld,
  id: string,
  subject = "alice",
  providerSession: SessionId | null = of.providerSession,
) {
  const command: Command = createSession(id, userIdOf(of.issuer, subject), {
    idpId: "demo",
    ...(providerSession === null ? {} : { providerSession }),
  });
  const commandId = crypto.randomUUID() as string as CommandId;
  return of.world.broker.databroker("authenticate").submit({ commandId, actor: "service:authenticate", command });
}
const statusOf = ({ world }: LogoutWorld, id: string): string =>
  world.replica.projection.sessionStatus(id as SessionId).status;

test("a logout token ends the session that it names before it is answered, and the answer has the position", async (t) => {
  const of = await startLogoutWorld(t);
  await begin(of, "s1");
  await begin(of, "s2", "alice", providerSessionId(of.issuer, "another-session-there"));
  const answer = await of.post(await of.sign({ sid, sub: "alice" }));
  assert.deepEqual([answer.status, answer.body], [200, ""]);
  assert.equal(answer.headers["cache-control"], "no-store");
  const position = Number(answer.headers["cardea-position"]);
  assert.ok(position > 0);
  await waitFor("the position", () => of.world.replica.applied.position >= position);
  assert.deepEqual([statusOf(of, "s1"), statusOf(of, "s2")], ["revoked", "active"]);
  assert.deepEqual(of.results, ["back recorded"]);
});

test("a logout by sub alone ends all sessions of the person, and no other's", async (t) => {
  const of = await startLogoutWorld(t);
  await begin(of, "s1");
  await begin(of, "s2", "alice", null);
  await begin(of, "s3", "bob");
  assert.equal((await of.post(await of.sign({ sub: "alice" }))).status, 200);
  await waitFor("the end", () => statusOf(of, "s1") === "revoked");
  assert.deepEqual([statusOf(of, "s2"), statusOf(of, "s3")], ["revoked", "active"]);
});

test("a repeated token is answered the same way, and ends nothing that began since", async (t) => {
  const of = await startLogoutWorld(t);
  const token = await of.sign({ sub: "alice" });
  const first = await of.post(token);
  of.world.clockMs = 5_000;
  const { replica } = of.world;
  await waitFor("the position", () => replica.applied.position >= Number(first.headers["cardea-position"]));
  const command = createSession("s1", userIdOf(of.issuer, "alice"), { begunAt: replica.applied.position });
  const commandId = crypto.randomUUID() as string as CommandId;
  const begun = await of.world.broker.databroker("authenticate").submit({ commandId, actor: "system", command });
  assert.equal(begun.type, "done", JSON.stringify(begun));
  const again = await of.post(token);
  assert.deepEqual([again.status, again.headers["cardea-position"]], [200, first.headers["cardea-position"]]);
  await waitFor("the session", () => statusOf(of, "s1") === "active");
});

test("a logout of an unknown sid is accepted, and a sign-in that comes later with it is refused", async (t) => {
  const of = await startLogoutWorld(t);
  assert.equal((await of.post(await of.sign({ sid }))).status, 200);
  const late = await begin(of, "s1");
  assert.equal(late.type === "refused" && late.code, "logged-out");
});

test("what is no form with one token of an allowed size is refused before anything is verified", async (t) => {
  const of = await startLogoutWorld(t);
  const token = await of.sign({ sid });
  const twice = `logout_token=${token}&logout_token=${token}`;
  const statuses = await Promise.all([
    of.post(token, { body: JSON.stringify({ logout_token: token }), type: "application/json" }),
    of.post(token, { type: "text/plain" }),
    of.post(token, { body: token, type: "application/jwt" }),
    of.post(token, { body: twice }),
    of.post(token, { body: "" }),
    of.post(token, { body: "token=x" }),
    of.post("x".repeat(16_385)),
    of.post("x".repeat(40_000)),
  ]);
  assert.deepEqual(
    statuses.map(({ status }) => status),
    [400, 400, 415, 400, 400, 400, 400, 413],
  );
  for (const { headers } of statuses) assert.equal(headers["cache-control"], "no-store");
  const got = await of.world.visitor().request(of.world.url("authenticate", path));
  assert.equal(got.status, 405);
  assert.deepEqual([...of.world.replica.projection.sessions()], []);
});

test("a token of another issuer, for another client, or changed on its way is refused with 400 and a reason", async (t) => {
  const of = await startLogoutWorld(t);
  await begin(of, "s1");
  const good = await of.sign({ sid });
  const [header, claims] = good.split(".");
  for (const token of [
    await of.sign({ sid, iss: "https://evil.example" }),
    await of.sign({ sid, aud: "another" }),
    await of.sign({ sid, nonce: "n" } as JWTPayload),
    `${header}.${claims}.${"A".repeat(342)}`,
    `${Buffer.from(JSON.stringify({ alg: "none" })).toString("base64url")}.${claims}.`,
    "not a token",
  ]) {
    const { status, body, headers } = await of.post(token);
    assert.equal(status, 400);
    assert.equal((JSON.parse(body) as { error: string }).error, "invalid_request");
    assert.equal(headers["cache-control"], "no-store");
  }
  assert.equal(statusOf(of, "s1"), "active");
  assert.ok(of.results.every((result) => result === "back refused"));
});

test("503 with Retry-After while the provider's keys cannot be read", async (t) => {
  const of = await startLogoutWorld(t);
  await begin(of, "s1");
  of.state.down = true;
  const unread = await of.post(await of.sign({ sid }));
  assert.deepEqual([unread.status, unread.headers["retry-after"]], [503, "30"]);
  assert.equal(statusOf(of, "s1"), "active");
});

test("503 with Retry-After while the log does not answer", async (t) => {
  const down = { log: false };
  const of = await startLogoutWorld(t, {
    deps: (deps) => ({
      ...deps,
      sleep: async () => {},
      databroker: {
        ...deps.databroker,
        submit: async (request) =>
          down.log
            ? { type: "unavailable", commandId: request.commandId, message: "", retryAfterMs: 9_000 }
            : deps.databroker.submit(request),
      },
    }),
  });
  await begin(of, "s1");
  down.log = true;
  const unsaved = await of.post(await of.sign({ sid }));
  assert.deepEqual([unsaved.status, unsaved.headers["retry-after"]], [503, "9"]);
  assert.equal(statusOf(of, "s1"), "active");
  down.log = false;
  assert.equal((await of.post(await of.sign({ sid }))).status, 200);
});

test("below level 5 the answer is 503 and names the remedy", async (t) => {
  const of = await startLogoutWorld(t, { level: 4 });
  const { status, body } = await of.post(await of.sign({ sid }));
  assert.equal(status, 503);
  assert.match(body, /cardea cluster finalize/);
});

const frame = (of: LogoutWorld, query: Readonly<Record<string, string>>, host = "authenticate"): string =>
  of.world.url(host, `/.pomerium/sign_out?${new URLSearchParams(query)}`);
const framed = { headers: { "sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe" } };

test("a frame of the provider ends the sessions of its sid, without a cookie", async (t) => {
  const of = await startLogoutWorld(t);
  await begin(of, "s1");
  await waitFor("the session", () => statusOf(of, "s1") === "active");
  const answer = await of.world.visitor().request(frame(of, { iss: of.issuer, sid }), framed);
  assert.equal(answer.status, 200);
  assert.match(String(answer.headers["cache-control"]), /no-store/);
  assert.equal(answer.headers["x-frame-options"], undefined);
  await waitFor("the end", () => statusOf(of, "s1") === "revoked");
  await begin(of, "s2");
  await waitFor("a session with the sid, since a frame is not remembered", () => statusOf(of, "s2") === "active");
  const onRoute = await of.world.visitor().navigate(frame(of, { iss: of.issuer, sid }, "app"), framed);
  assert.equal(onRoute.status, 200);
  await waitFor("the end, asked for at a route", () => statusOf(of, "s2") === "revoked");
});

test("a frame with an unknown or short sid, or of an unknown issuer, ends nothing and records nothing", async (t) => {
  const of = await startLogoutWorld(t);
  await begin(of, "s1");
  await begin(of, "s2", "alice", providerSessionId(of.issuer, "short"));
  await waitFor("the sessions", () => statusOf(of, "s2") === "active");
  const { position } = of.world.replica.applied;
  const request = async (query: Readonly<Record<string, string>>) =>
    (await of.world.visitor().request(frame(of, query), framed)).status;
  assert.equal(await request({ iss: of.issuer, sid: "another-session-of-the-provider" }), 200);
  assert.equal(await request({ iss: of.issuer, sid: "short" }), 200, "without the cookie of its session");
  assert.equal(await request({ iss: "https://evil.example", sid }), 400);
  assert.equal(
    await request({ iss: of.issuer, sid: "s".repeat(2_000) }),
    302,
    "an ordinary sign-out without a session",
  );
  assert.deepEqual([statusOf(of, "s1"), statusOf(of, "s2")], ["active", "active"]);
  assert.equal(of.world.replica.applied.position, position);
});

test("a frame ends a session that this node has not applied yet, and a flood of unknown sids is bounded", async (t) => {
  const stale = new Projection();
  let behind = true;
  const of = await startLogoutWorld(t, {
    deps: (deps) => {
      const projection = { get: () => (behind ? stale : Reflect.get(deps.replica, "projection")) };
      return { ...deps, replica: Object.create(deps.replica, { projection }) as AuthDeps["replica"] };
    },
  });
  await begin(of, "s1");
  await waitFor("the session", () => statusOf(of, "s1") === "active");
  const request = async (provided: string) => {
    const answer = await of.world.visitor().request(frame(of, { iss: of.issuer, sid: provided }), framed);
    return answer.status;
  };
  assert.equal(await request(sid), 200);
  await waitFor("the end", () => statusOf(of, "s1") === "revoked");
  assert.deepEqual(of.results, ["front recorded"]);
  behind = false;
  const { position } = of.world.replica.applied;
  const unknown = await Promise.all(Array.from({ length: 60 }, (_, n) => request(`an-unknown-session-${n}`)));
  assert.ok(unknown.every((status) => status === 200 || status === 503));
  assert.equal(of.world.replica.applied.position, position);
});

test("a person who signs in with a provider's session is signed out by its sid", async (t) => {
  const world = await startWorld(t);
  await world.submit({ type: "finalizeUpgrade", level: 5 });
  await waitFor("the level", () => world.replica.projection.level === 5);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  const [session] = [...world.replica.projection.sessions()];
  const tokens = await world.deps.databroker.tokens(session?.sessionId ?? assert.fail());
  const claims = JSON.parse(Buffer.from((tokens?.idToken ?? "").split(".")[1] ?? "", "base64url").toString());
  assert.equal(typeof claims.sid, "undefined", "the demo provider names no session, so none is recorded");
  assert.equal(session?.status === "active" && session.providerSession, undefined);
});

test("a sign-in that began before a logout of the person is refused at its callback, and can be repeated", async (t) => {
  const world = await startWorld(t);
  await world.submit({ type: "finalizeUpgrade", level: 5 });
  await waitFor("the level", () => world.replica.projection.level === 5);
  const visitor = world.visitor();
  const callback = await signInUpToCallback(world, visitor, "alice");
  const logout: Command = {
    type: "recordLogout",
    providerSession: null,
    userId: subjectId(world, "alice"),
    remembered: true,
  };
  const commandId = crypto.randomUUID() as string as CommandId;
  const recorded = await world.broker
    .databroker("authenticate")
    .submit({ commandId, actor: "system", command: logout });
  assert.ok(recorded.type === "done");
  const refused = await visitor.request(callback);
  assert.equal(refused.status, 400);
  assert.match(refused.body, /You were signed out/);
  await waitFor("the logout", () => world.replica.applied.position >= recorded.link.position);
  assert.match((await signIn(world, visitor, "alice")).body, /hello alice/);
});
