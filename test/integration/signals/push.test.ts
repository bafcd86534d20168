/** Signals that a transmitter pushes (RFC 8935): what they do, what is refused, and what is answered when. */
import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { request as httpRequest } from "node:http";
import { test } from "node:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { startTransmitter, type TestTransmitter, uris } from "../../support/signal-transmitter.ts";
import type { Visitor } from "../../support/visitor.ts";
import { waitFor } from "../../support/wait-for.ts";
import { follow, type Installation, shared, startInstallation } from "../identity/installation.ts";
import { raiseLevel } from "../scim/scim-client.ts";

const pushToken = "a-token-that-only-the-transmitter-has";
let transmitter: TestTransmitter;
let plain: TestTransmitter;

const installation = shared(async (t) => {
  transmitter = await startTransmitter(t);
  plain = await startTransmitter(t);
  plain.state.criticalMembers = ["tenant"];
  const at = await startInstallation(t, ({ url, upstream }) => ({
    signal_transmitters: {
      okta: { issuer: transmitter.issuer, audience: transmitter.audience, push_token: pushToken },
      plain: {
        ...{ issuer: plain.issuer, audience: plain.audience },
        actions: { "session-revoked": "record", "token-claims-change": "replace-claims" },
      },
    },
    groups_from_claim: "groups",
    administrators: ["sub:root"],
    routes: [
      { from: url("app", ""), to: upstream, allow_any_authenticated_user: true, allow_websockets: true },
      { from: url("roles", ""), to: upstream, policy: [{ allow: { and: [{ "claim/role": "admin" }] } }] },
      { from: url("team", ""), to: upstream, policy: [{ allow: { and: [{ groups: { has: "engineers" } }] } }] },
    ],
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

const address = (at: Installation, name = "okta"): string => `http://127.0.0.1:${at.port}/ssf/push/${name}`;
/** Connects to loopback, under the name of the authenticate host. */
async function push(
  at: Installation,
  token: string,
  headers: Readonly<Record<string, string>> = {},
  name = "okta",
): Promise<Readonly<{ status: number; headers: Record<string, unknown>; body: string }>> {
  const { host } = new URL(at.url("authenticate"));
  return new Promise((resolve, reject) => {
    const req = httpRequest(
      address(at, name),
      {
        method: "POST",
        headers: { host, "content-type": "application/secevent+jwt", authorization: `Bearer ${pushToken}`, ...headers },
      },
      (res) => {
        let body = "";
        res.on("data", (chunk: Buffer) => {
          body += String(chunk);
        });
        res.on("end", () => resolve({ status: res.statusCode ?? 0, headers: res.headers, body }));
      },
    );
    req.on("error", reject);
    req.end(token);
  });
}
const errOf = (body: string): string => String((JSON.parse(body) as { err: string }).err);
const email = (name: string): object => ({ format: "email", email: `${name}@example.com` });
const issSub = (at: Installation, name: string): object => ({
  format: "iss_sub",
  iss: at.provider.issuer.origin,
  sub: name,
});
const signed = (event: string, subject: object, more: object = {}, payload: object = {}): Promise<string> =>
  transmitter.sign(transmitter.claims(event, subject, more, payload));

test("a revoked session of a person that issuer and subject name ends before the answer", async () => {
  const at = installation();
  const visitor = await signIn(at, "anna");
  const token = await signed(uris.sessionRevoked, issSub(at, "anna"));
  const answer = await push(at, token, { prefer: "wait=20" });
  assert.equal(answer.status, 202, answer.body);
  assert.equal(answer.body, "");
  assert.ok(Number(answer.headers["cardea-position"]) > 0);
  assert.equal(answer.headers["cardea-receipt"], "complete");
  assert.equal(await statusOf(at, visitor), 401);
  assert.equal(await statusOf(at, await signIn(at, "anna")), 200, "a new sign-in is not denied");
});

test("a person that a verified e-mail names, in another case, loses the session; an unverified one names no one", async () => {
  const at = installation();
  const visitor = await signIn(at, "berta");
  const other = await signIn(at, "mallory", { email: "berta@example.com", email_verified: false });
  const token = await signed(uris.sessionRevoked, { format: "email", email: "Berta@Example.com" });
  const answer = await push(at, token, { prefer: "wait=20" });
  assert.equal(answer.status, 202);
  assert.equal(await statusOf(at, visitor), 401);
  assert.equal(await statusOf(at, other), 200);
});

test("a token from last week ends no session that began since, whatever its subject names", async () => {
  const at = installation();
  const visitor = await signIn(at, "rita");
  const lastWeek = { iat: Math.floor(Date.now() / 1_000) - 7 * 86_400 };
  for (const subject of [issSub(at, "rita"), email("rita")])
    for (const event of [uris.sessionRevoked, uris.credentialChange]) {
      const token = await signed(event, subject, lastWeek, { change_type: "update" });
      const answer = await push(at, token, { prefer: "wait=20" });
      assert.equal(answer.status, 202, answer.body);
      assert.equal(await statusOf(at, visitor), 200, event);
    }
  const tooOld = await push(at, await signed(uris.sessionRevoked, email("rita"), { iat: lastWeek.iat - 24 * 86_400 }));
  assert.deepEqual([tooOld.status, errOf(tooOld.body)], [400, "invalid_request"]);
  assert.equal((await push(at, await signed(uris.sessionRevoked, email("rita")))).status, 202);
  assert.equal(await statusOf(at, visitor), 401, "one from now does");
});

test("claims that a transmitter replaces are decided again, on open requests too, and a new sign-in states them anew", async () => {
  const at = installation();
  const claims = { role: "admin", groups: ["engineers"] };
  const visitor = await signIn(at, "klara", claims);
  const get = async (host: string) => (await visitor.navigate(at.url(host))).status;
  assert.deepEqual([await get("roles"), await get("team")], [200, 200]);
  const change = async (changed: object) => {
    const token = await plain.sign(plain.claims(uris.claimsChange, issSub(at, "klara"), {}, { claims: changed }));
    const answer = await push(at, token, { prefer: "wait=20" }, "plain");
    assert.equal(answer.status, 202, answer.body);
    assert.equal(answer.headers["cardea-receipt"], "complete");
  };
  const held = visitor.request(at.url("roles", "/held"));
  const ended = assert.rejects(held, "an open request ends");
  await change({ role: "user" });
  await ended;
  assert.deepEqual([await get("roles"), await get("team")], [403, 200]);
  await change({ groups: [] });
  assert.equal(await get("team"), 403);
  assert.equal(await statusOf(at, visitor), 200, "the session goes on");
  await change({ role: "admin", groups: ["engineers"] });
  assert.deepEqual([await get("roles"), await get("team")], [200, 200]);
  await change({ role: null });
  assert.equal(await get("roles"), 403);
  await change({ sub: "root" });
  assert.equal(await statusOf(at, visitor), 401, "who a person is, only a new sign-in states");
});

test("a repeated token is accepted, and does nothing more", async () => {
  const at = installation();
  const token = await signed(uris.sessionRevoked, issSub(at, "carla"));
  assert.equal((await push(at, token)).status, 202);
  const visitor = await signIn(at, "carla");
  const [a, b] = await Promise.all([push(at, token), push(at, token)]);
  assert.deepEqual([a.status, b.status], [202, 202]);
  assert.equal(await statusOf(at, visitor), 200);
});

test("a disabled account is refused until it is enabled, by e-mail and before the first sign-in", async () => {
  const at = installation();
  const iat = Math.floor(Date.now() / 1_000);
  const disabled = await signed(uris.accountDisabled, email("dora"), { iat }, { reason: "hijacking" });
  assert.equal((await push(at, disabled)).status, 202);
  await isRefused(at, "dora");
  const enabled = await signed(uris.accountEnabled, email("dora"), { iat: iat + 1 });
  assert.equal((await push(at, enabled)).status, 202);
  const visitor = await signIn(at, "dora");
  assert.equal((await push(at, disabled)).status, 202, "a repetition");
  assert.equal(await statusOf(at, visitor), 200);
});

test("an open response of the person is cut", async () => {
  const at = installation();
  const visitor = await signIn(at, "ella");
  const held = visitor.request(at.url("app", "/held"));
  const ended = assert.rejects(held);
  await waitFor("the held request", async () => true);
  const token = await signed(uris.accountPurged, issSub(at, "ella"));
  assert.equal((await push(at, token, { prefer: "wait=20" })).status, 202);
  await ended;
  await isRefused(at, "ella");
});

test("an unknown subject, an unknown event and an unknown form are accepted and recorded", async () => {
  const at = installation();
  const events: readonly (readonly [string, object])[] = [
    [uris.sessionRevoked, issSub(at, "no-one-here")],
    [uris.sessionRevoked, { format: "phone_number", phone_number: "+12065550100" }],
    [uris.sessionRevoked, { format: "catalog_item", id: "1" }],
    [uris.sessionRevoked, { format: "iss_sub", iss: "https://another.example.com", sub: "anna" }],
    ["urn:example:event", email("anna")],
  ];
  for (const [event, subject] of events) {
    const answer = await push(at, await signed(event, subject));
    assert.equal(answer.status, 202, JSON.stringify([event, subject]));
    assert.ok(Number(answer.headers["cardea-position"]) > 0);
  }
});

test("complex subjects are matched by their user; a critical member that cannot be processed discards the event", async () => {
  const at = installation();
  const visitor = await signIn(at, "frida");
  const subject = { format: "complex", user: email("frida"), tenant: { format: "opaque", id: "t1" } };
  const discarded = await plain.sign(plain.claims(uris.accountDisabled, subject));
  assert.equal((await push(at, discarded, {}, "plain")).status, 202);
  assert.equal(await statusOf(at, visitor), 200);
  const device = { format: "complex", user: email("frida"), device: { format: "opaque", id: "d1" } };
  const compliant = await signed(uris.deviceChange, device, {}, { current_status: "compliant", previous_status: "x" });
  assert.equal((await push(at, compliant)).status, 202);
  assert.equal(await statusOf(at, visitor), 200);
  const lost = await signed(uris.deviceChange, device, {}, { current_status: "not-compliant", previous_status: "x" });
  assert.equal((await push(at, lost)).status, 202);
  assert.equal(await statusOf(at, visitor), 401);
});

test("the operator's table decides what an event does", async () => {
  const at = installation();
  const visitor = await signIn(at, "greta");
  const recorded = await plain.sign(plain.claims(uris.sessionRevoked, email("greta")));
  assert.equal((await push(at, recorded, {}, "plain")).status, 202);
  assert.equal(await statusOf(at, visitor), 200);
  const created = await signed(
    uris.credentialChange,
    issSub(at, "greta"),
    {},
    { change_type: "create", credential_type: "pin" },
  );
  assert.equal((await push(at, created)).status, 202);
  assert.equal(await statusOf(at, visitor), 200);
  const revoked = await signed(
    uris.credentialChange,
    issSub(at, "greta"),
    {},
    { change_type: "revoke", credential_type: "pin" },
  );
  assert.equal((await push(at, revoked)).status, 202);
  assert.equal(await statusOf(at, visitor), 401);
});

test("each defect of a token has the registered error, and none does anything", async () => {
  const at = installation();
  const visitor = await signIn(at, "hanna");
  const subject = issSub(at, "hanna");
  const claims = (more: object = {}) => transmitter.claims(uris.sessionRevoked, subject, more);
  const now = Math.floor(Date.now() / 1_000);
  const stranger = await generateKeyPair("RS256");
  const b64 = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const good = await transmitter.sign(claims());
  const [header = "", , signature = ""] = good.split(".");
  const jwks = (await (await fetch(new URL("/jwks", transmitter.issuer))).json()) as { keys: { n: string }[] };
  const confused = `${b64({ alg: "HS256", kid: "t1", typ: "secevent+jwt" })}.${b64(claims())}`;
  const mac = createHmac("sha256", JSON.stringify(jwks.keys[0])).update(confused).digest("base64url");
  const own = await generateKeyPair("RS256", { extractable: true });
  const embedded = { alg: "RS256", typ: "secevent+jwt", jwk: await exportJWK(own.publicKey) };
  const vectors: Readonly<Record<string, readonly [string, string]>> = {
    "alg none": [`${b64({ alg: "none", typ: "secevent+jwt" })}.${b64(claims())}.AA`, "invalid_key"],
    "alg none without a signature": [
      `${b64({ alg: "none", typ: "secevent+jwt" })}.${b64(claims())}.`,
      "invalid_request",
    ],
    "HS256 with the public key": [`${confused}.${mac}`, "invalid_key"],
    "a key of someone else": [
      await new SignJWT(claims())
        .setProtectedHeader({ alg: "RS256", kid: "t1", typ: "secevent+jwt" })
        .sign(stranger.privateKey),
      "invalid_key",
    ],
    "a key in its own header": [
      await new SignJWT(claims()).setProtectedHeader(embedded).sign(own.privateKey),
      "invalid_key",
    ],
    "changed claims": [`${header}.${b64(claims({ jti: "other" }))}.${signature}`, "invalid_key"],
    "another type": [await transmitter.sign(claims(), { typ: "JWT" }), "invalid_request"],
    "no type": [await transmitter.sign(claims(), { typ: undefined }), "invalid_request"],
    "a logout token": [await transmitter.sign(claims(), { typ: "logout+jwt" }), "invalid_request"],
    "another issuer": [await transmitter.sign(claims({ iss: "https://evil.example.com" })), "invalid_issuer"],
    "the token of another transmitter": [
      await plain.sign(plain.claims(uris.sessionRevoked, subject)),
      "invalid_issuer",
    ],
    "another audience": [await transmitter.sign(claims({ aud: "https://other.example.com" })), "invalid_audience"],
    "the future": [await transmitter.sign(claims({ iat: now + 3_600 })), "invalid_request"],
    "no time": [await transmitter.sign(claims({ iat: undefined })), "invalid_request"],
    exp: [await transmitter.sign(claims({ exp: now + 60 })), "invalid_request"],
    "exp in the past": [await transmitter.sign(claims({ exp: now - 60 })), "invalid_request"],
    sub: [await transmitter.sign(claims({ sub: "hanna" })), "invalid_request"],
    "no jti": [await transmitter.sign(claims({ jti: undefined })), "invalid_request"],
    "two events": [
      await transmitter.sign(claims({ events: { [uris.sessionRevoked]: {}, [uris.accountDisabled]: {} } })),
      "invalid_request",
    ],
    "no event": [await transmitter.sign(claims({ events: {} })), "invalid_request"],
    "no subject": [await transmitter.sign(claims({ sub_id: undefined })), "invalid_request"],
    "a wrong state": [
      await transmitter.sign(
        transmitter.claims(uris.verification, { format: "opaque", id: "s" }, {}, { state: "guess" }),
      ),
      "invalid_state",
    ],
    "no token": ["hello", "invalid_request"],
    nothing: ["", "invalid_request"],
    "five parts": [`${good}.a.b`, "invalid_request"],
  };
  for (const [name, [token, expected]] of Object.entries(vectors)) {
    const answer = await push(at, token);
    assert.equal(answer.status, 400, `${name}: ${answer.status} ${answer.body}`);
    assert.equal(errOf(answer.body), expected, name);
    assert.match(String(answer.headers["content-type"]), /^application\/json/);
    assert.doesNotMatch(answer.body, /hanna/, "an error repeats nothing");
  }
  assert.equal(await statusOf(at, visitor), 200);
  assert.equal((await push(at, good)).status, 202);
  assert.equal(await statusOf(at, visitor), 401);
});

test("the address, the token of the transmitter, the type and the size are checked first", async () => {
  const at = installation();
  const token = await signed(uris.sessionRevoked, issSub(at, "ina"));
  const wrong = await push(at, token, { authorization: "Bearer something-else-altogether" });
  assert.equal(wrong.status, 401);
  assert.equal(errOf(wrong.body), "authentication_failed");
  assert.match(String(wrong.headers["www-authenticate"]), /^Bearer/);
  assert.equal((await push(at, token, { authorization: "" })).status, 401);
  assert.equal((await push(at, token, {}, "nobody")).status, 404);
  assert.equal((await push(at, token, {}, "__proto__")).status, 404);
  const json = await push(at, token, { "content-type": "application/json" });
  assert.equal(json.status, 400);
  assert.equal(errOf(json.body), "invalid_request");
  const large = await push(at, "x".repeat(70_000));
  assert.equal(large.status, 413);
  const form = await push(at, "SET=x", { "content-type": "application/x-www-form-urlencoded" });
  assert.equal(form.status, 400);
});

test("unknown keys cause few requests to the transmitter, and a rotated key is found", async () => {
  const at = installation();
  const before = plain.state.jwksReads;
  for (let n = 0; n < 50; n++) {
    const token = await plain.sign(plain.claims(uris.sessionRevoked, email("x")), { kid: `unknown-${n}` });
    const answer = await push(at, token, {}, "plain");
    assert.ok(answer.status === 503 || answer.status === 400, String(answer.status));
  }
  assert.ok(plain.state.jwksReads - before <= 2, `${plain.state.jwksReads - before} reads`);
  await plain.rotate();
  const rotated = await plain.sign(plain.claims(uris.sessionRevoked, email("x")));
  const answer = await push(at, rotated, {}, "plain");
  assert.equal(answer.status, 503, "not refused: the keys were read a moment ago, and the transmitter sends it again");
  assert.ok(Number(answer.headers["retry-after"]) > 0);
});

test("what is logged and counted names no token and no person", async () => {
  const at = installation();
  const token = await signed(uris.sessionRevoked, email("jana"), { jti: randomUUID() });
  await push(at, token);
  const lines = at.logged.filter(({ message }) => /signal/.test(message)).map((line) => JSON.stringify(line));
  assert.ok(lines.length > 0);
  for (const line of lines) {
    assert.doesNotMatch(line, /jana|example\.com/);
    assert.ok(!line.includes(token.slice(-40)));
    assert.ok(!line.includes(pushToken));
  }
  const metrics = await at.services.registry.metrics();
  assert.match(
    metrics,
    /cardea_signals_received_total\{transmitter="okta",event="session-revoked",result="accepted"\} \d+/,
  );
  assert.match(metrics, /result="invalid_audience"/);
});
