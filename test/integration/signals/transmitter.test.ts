/**
 * The transmitter of Shared Signals, with real receivers: what is sent to which receiver, and how a receiver manages
 * its stream.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { JSONWebKeySet } from "jose";
import { waitFor } from "../../support/wait-for.ts";
import { type Installation, shared, startInstallation } from "../identity/installation.ts";
import { operate, raiseLevel } from "../scim/scim-client.ts";
import { distinct, eventUri, type PushReceiver, type ReceivedEvent, startPushReceiver } from "./receiver.ts";
import { discover, hashOf, type JsonValue, poll, signalClient, signIn } from "./signal-client.ts";

const audience = (name: string): string => `https://${name}.example.com/ssf`;
const tokenOf = (name: string): string => `the random token of ${name}`.replaceAll(" ", "-");

let receiver: PushReceiver;
let keys: Readonly<{ jwks: JSONWebKeySet; issuer: string }>;

const installation = shared(async (t) => {
  receiver = await startPushReceiver(t, async () => ({ ...keys, audience: audience("push") }));
  const everything = [
    ...["session-revoked", "token-claims-change", "credential-change"],
    ...["account-disabled", "account-enabled", "account-purged"],
  ];
  const of = (name: string, more: object = {}) => ({
    [name]: { audience: audience(name), token_sha256: hashOf(tokenOf(name)), ...more },
  });
  const at = await startInstallation(t, ({ url, upstream }) => ({
    certificate_authority: Buffer.from(receiver.ca).toString("base64"),
    administrators: ["sub:root"],
    scim_clients: { hr: { match: "email" } },
    signal_receivers: {
      ...of("push", {
        events: everything,
        push_urls: [new URL(receiver.url).origin],
        min_verification_interval: "1s",
      }),
      ...of("poll", { events: everything, subject_format: "iss_sub" }),
      ...of("opaque", { subject_format: "opaque" }),
      ...of("other"),
      ...of("few", { subjects: "none" }),
      ...of("claims", { events: ["token-claims-change"], claims: ["role", "team"] }),
      ...of("quiet", { inactivity_timeout: "2s" }),
      oauth: {
        audience: audience("oauth"),
        client_id: "payroll",
        client_secret_sha256: hashOf("a client secret"),
      },
    },
    routes: [{ from: url("app", ""), to: upstream, allow_any_authenticated_user: true, pass_identity_headers: true }],
  }));
  await raiseLevel(at);
  keys = await discover(at);
  return at;
});

const emailOf = (name: string): string => `${name}@example.com`;
const verified = { email_verified: true };

async function createStream(at: Installation, name: string, body: object = {}): Promise<JsonValue> {
  const client = signalClient(at, tokenOf(name));
  const answer = await client.call("POST", "/ssf/v1/streams", body);
  assert.equal(answer.status, 201, JSON.stringify(answer.body));
  return answer.body;
}

const pushDelivery = (url = receiver.url) => ({ method: "urn:ietf:rfc:8935", endpoint_url: url });

/** The event about a person that arrived by push. */
async function arrives(name: string, email: string): Promise<ReceivedEvent> {
  let found: ReceivedEvent | undefined;
  await waitFor(`${name} of ${email} to arrive`, () => {
    found = receiver.accepted.find((event) => event.name === name && JSON.stringify(event.subject).includes(email));
    return found !== undefined;
  });
  return found ?? assert.fail();
}

test("the metadata says what the CAEP interoperability profile demands, and the keys are RSA of 2048 bits", async () => {
  const { metadata, jwks } = await discover(installation());
  assert.equal(metadata.spec_version, "1_0");
  assert.deepEqual(metadata.delivery_methods_supported, ["urn:ietf:rfc:8935", "urn:ietf:rfc:8936"]);
  for (const name of ["jwks_uri", "configuration_endpoint", "status_endpoint", "verification_endpoint"])
    assert.ok(metadata[name].startsWith(`${metadata.issuer}/`), name);
  assert.ok(metadata.authorization_schemes.some((each: JsonValue) => each.spec_urn === "urn:ietf:rfc:6749"));
  for (const key of jwks.keys) {
    assert.equal(key.kty, "RSA");
    assert.equal(Buffer.from(String(key.n), "base64url").length * 8, 2_048);
    assert.deepEqual(Object.keys(key).sort(), ["alg", "e", "kid", "kty", "n", "use"], "no part of the private key");
  }
});

test("a change of the claims that a receiver gets is reported with their values, and no others", async () => {
  const at = installation();
  const { endpoint_url: endpoint } = (await createStream(at, "claims")).delivery;
  const client = signalClient(at, tokenOf("claims"));
  const arriving = async (): Promise<ReceivedEvent> => {
    const rules = { ...keys, audience: audience("claims") };
    let found: readonly ReceivedEvent[] = [];
    await waitFor("a change of claims", async () => {
      ({ events: found } = await poll(client, endpoint, rules));
      return found.length > 0;
    });
    await poll(client, endpoint, rules, { ack: found.map(({ jti }) => jti) });
    assert.equal(found.length, 1);
    return found[0] ?? assert.fail();
  };
  await signIn(at, "nora", { ...verified, role: "user", phone: "123" });
  await signIn(at, "nora", { ...verified, role: "user", phone: "123" });
  await signIn(at, "nora", { ...verified, role: ["admin", "root"], phone: "456" });
  const changed = await arriving();
  assert.equal(changed.name, "token-claims-change");
  assert.deepEqual(changed.subject, { format: "email", email: emailOf("nora") });
  assert.deepEqual(changed.payload["claims"], { role: ["admin", "root"], team: null });
  assert.equal(changed.payload["initiating_entity"], "system");
  assert.doesNotMatch(JSON.stringify(changed.claims), /123|456/);
  await signIn(at, "nora", verified);
  assert.deepEqual((await arriving()).payload["claims"], { role: null, team: null });
});

test("a push stream reports each way in which a session or an account ends, in order for each person", async () => {
  const at = installation();
  const stream = await createStream(at, "push", {
    delivery: { ...pushDelivery(), authorization_header: "Bearer for-the-receiver" },
    description: "the payroll",
  });
  assert.equal(stream.aud, audience("push"));
  assert.equal(stream.delivery.authorization_header, "Bearer for-the-receiver");

  // An operator ends a session, then suspends, restores and erases a person.
  await signIn(at, "bob", verified);
  const sessions = await operate(at, `/sessions?user=${encodeURIComponent(emailOf("bob"))}`);
  assert.equal(sessions.status, 200);
  for (const change of ["sessions/revoke", "suspend", "restore"])
    assert.equal((await operate(at, `/users/${emailOf("bob")}/${change}`, { wait: "none" })).status, 200, change);
  await arrives("account-enabled", emailOf("bob"));
  const ofBob = receiver.accepted.filter((event) => JSON.stringify(event.subject).includes(emailOf("bob")));
  assert.deepEqual(
    ofBob.map(({ name }) => name),
    ["session-revoked", "session-revoked", "account-disabled", "account-enabled"],
  );
  for (const { subject, payload, claims } of ofBob) {
    assert.deepEqual(subject, { format: "email", email: emailOf("bob") });
    assert.equal(payload["initiating_entity"], "admin");
    assert.equal(typeof payload["event_timestamp"], "number");
    assert.equal(typeof claims["txn"], "string");
  }
  const [, second, third] = ofBob;
  assert.equal(second?.claims["txn"], third?.claims["txn"], "one suspension caused both");
  assert.ok(receiver.authorizations.every((each) => each === "Bearer for-the-receiver"));

  // Groups.
  const groups = { add: [emailOf("bob")], remove: [], wait: "none" };
  assert.equal((await operate(at, "/groups/ops/members", groups)).status, 200);
  const changed = await arrives("token-claims-change", emailOf("bob"));
  assert.deepEqual((changed.payload["claims"] as JsonValue).groups, ["ops"]);

  // Erasure: nothing names the person any more but the id that every earlier token had.
  assert.equal((await operate(at, `/users/${emailOf("bob")}/erase`, { wait: "none" })).status, 200);
  await waitFor("the erasure to arrive", () => receiver.accepted.some(({ name }) => name === "account-purged"));
  const purged = receiver.accepted.find(({ name }) => name === "account-purged");
  assert.equal(purged?.subject["format"], "opaque");
  assert.equal(purged?.subject["id"], ofBob[0]?.claims["cardea_subject"]);
  assert.ok(!JSON.stringify(purged?.claims).includes("bob"));
});

test("the end of one session names the session as the assertion does, and the person", async () => {
  const at = installation();
  const visitor = await signIn(at, "cora", verified);
  const { body } = await visitor.request(at.url("app"));
  const assertion = String(JSON.parse(body).headers["x-pomerium-jwt-assertion"]).split(".")[1] ?? "";
  const { sid } = JSON.parse(Buffer.from(assertion, "base64url").toString());
  assert.equal((await operate(at, `/sessions/${sid}/revoke`, { wait: "none" })).status, 200);
  const event = await arrives("session-revoked", emailOf("cora"));
  assert.deepEqual(event.subject, {
    format: "complex",
    user: { format: "email", email: emailOf("cora") },
    session: { format: "opaque", id: sid },
  });
});

test("an e-mail that the provider has not verified names no one: issuer and subject do", async () => {
  const at = installation();
  await signIn(at, "dan", { email_verified: false });
  assert.equal((await operate(at, `/users/${emailOf("dan")}/suspend`, { wait: "none" })).status, 200);
  const event = await arrives("account-disabled", "dan");
  assert.equal(event.subject["format"], "iss_sub");
});

test("a verification event brings the state back, and requests that follow too soon are refused", async () => {
  const at = installation();
  const client = signalClient(at, tokenOf("push"));
  const [stream] = (await client.call("GET", "/ssf/v1/streams")).body;
  const ask = (state: string) => client.call("POST", "/ssf/v1/verification", { stream_id: stream.stream_id, state });
  assert.equal((await ask("first")).status, 204);
  const soon = await ask("second");
  assert.equal(soon.status, 429);
  assert.ok(Number(soon.header("retry-after")) >= 1);
  await waitFor("the verification", () => receiver.accepted.some(({ name }) => name === "verification"));
  const event = receiver.accepted.find(({ name }) => name === "verification");
  assert.deepEqual(event?.payload, { state: "first" });
  assert.deepEqual(event?.subject, { format: "opaque", id: stream.stream_id });
});

test("a poll stream gives each token until it is acknowledged, and a refused one no more", async () => {
  const at = installation();
  const client = signalClient(at, tokenOf("poll"));
  const rules = { ...keys, audience: audience("poll") };
  const stream = await createStream(at, "poll");
  const url = stream.delivery.endpoint_url;
  assert.equal(stream.delivery.method, "urn:ietf:rfc:8936");
  assert.deepEqual((await poll(client, url, rules)).events, []);
  for (const name of ["eve", "fay", "gus"]) {
    await signIn(at, name, verified);
    assert.equal((await operate(at, `/users/${emailOf(name)}/suspend`, { wait: "none" })).status, 200);
  }
  let found: readonly ReceivedEvent[] = [];
  await waitFor("six tokens", async () => {
    found = (await poll(client, url, rules)).events;
    return found.length === 6;
  });
  assert.ok(found.every(({ subject }) => subject["format"] === "iss_sub"));
  const again = (await poll(client, url, rules)).events;
  assert.deepEqual(
    again.map(({ token }) => token),
    found.map(({ token }) => token),
    "the same bytes",
  );
  const [first, second, third, ...rest] = found.map(({ jti }) => jti);
  const two = await poll(client, url, rules, { maxEvents: 2, ack: [first ?? "", "unknown"] });
  assert.deepEqual([two.events.map(({ jti }) => jti), two.more], [[second, third], true]);
  const refused = { [third ?? ""]: { err: "invalid_request", description: "not for\u001b[2J us" } };
  const left = await poll(client, url, rules, { setErrs: refused, ack: [second ?? ""] });
  assert.deepEqual(
    left.events.map(({ jti }) => jti),
    rest,
  );
  // Out of order: what is acknowledged is gone, and the others stay.
  const only = await poll(client, url, rules, { ack: rest.slice(1) });
  assert.deepEqual(
    only.events.map(({ jti }) => jti),
    rest.slice(0, 1),
  );
  const none = await poll(client, url, rules, { maxEvents: 0, ack: rest });
  assert.deepEqual([none.events.length, none.more], [0, false]);
});

test("a poll waits for the next signal, and huge or malformed lists are refused", async () => {
  const at = installation();
  const client = signalClient(at, tokenOf("poll"));
  const rules = { ...keys, audience: audience("poll") };
  const [stream] = (await client.call("GET", "/ssf/v1/streams")).body;
  const url = stream.delivery.endpoint_url;
  await signIn(at, "hal", verified);
  const waiting = poll(client, url, rules, { returnImmediately: false });
  assert.equal((await operate(at, `/users/${emailOf("hal")}/sessions/revoke`, { wait: "none" })).status, 200);
  const { events } = await waiting;
  assert.equal(events[0]?.name, "session-revoked");
  await poll(client, url, rules, { maxEvents: 0, ack: events.map(({ jti }) => jti) });
  for (const body of [
    { ack: Array.from({ length: 1_001 }, (_, n) => `jti-${n}`) },
    { ack: "all" },
    { maxEvents: -1 },
    { setErrs: [] },
    "[1]",
    "{",
  ])
    assert.equal((await client.call("POST", url, body)).status, 400, JSON.stringify(body).slice(0, 60));
  const huge = { ack: Array.from({ length: 400_000 }, (_, n) => `${n}`) };
  assert.equal((await client.call("POST", url, huge)).status, 413);
});

test("two receivers cannot compare what they get, and a session's end by time is not reported", async () => {
  const at = installation();
  const stream = await createStream(at, "opaque");
  const client = signalClient(at, tokenOf("opaque"));
  const rules = { ...keys, audience: audience("opaque") };
  await signIn(at, "ivy", verified);
  assert.equal((await operate(at, `/users/${emailOf("ivy")}/suspend`, { wait: "none" })).status, 200);
  let events: readonly ReceivedEvent[] = [];
  await waitFor("two tokens", async () => {
    events = (await poll(client, stream.delivery.endpoint_url, rules)).events;
    return events.length === 2;
  });
  const pushed = await arrives("account-disabled", emailOf("ivy"));
  const opaque = events.find(({ name }) => name === "account-disabled");
  assert.equal(opaque?.subject["format"], "opaque");
  const ids = (event: ReceivedEvent | undefined) =>
    ["jti", "txn", "cardea_subject"].map((claim) => event?.claims[claim]);
  for (const [nth, id] of ids(opaque).entries()) assert.notEqual(id, ids(pushed)[nth]);
  assert.ok(!JSON.stringify(opaque?.claims).includes("ivy"));
});

test("a receiver reaches its own stream alone", async () => {
  const at = installation();
  const other = signalClient(at, tokenOf("other"));
  const [foreign] = (await signalClient(at, tokenOf("poll")).call("GET", "/ssf/v1/streams")).body;
  const id = foreign.stream_id;
  assert.deepEqual((await other.call("GET", "/ssf/v1/streams")).body, []);
  await createStream(at, "other");
  const attempts: readonly (readonly [string, string, object?])[] = [
    ["GET", `/ssf/v1/streams?stream_id=${id}`],
    ["GET", `/ssf/v1/status?stream_id=${id}`],
    ["POST", "/ssf/v1/status", { stream_id: id, status: "disabled" }],
    ["PATCH", "/ssf/v1/streams", { stream_id: id, description: "mine now" }],
    ["PUT", "/ssf/v1/streams", { stream_id: id }],
    ["DELETE", `/ssf/v1/streams?stream_id=${id}`],
    ["POST", "/ssf/v1/verification", { stream_id: id }],
    ["POST", "/ssf/v1/subjects/add", { stream_id: id, subject: { format: "email", email: "a@example.com" } }],
    ["POST", "/ssf/v1/subjects/remove", { stream_id: id, subject: { format: "email", email: "a@example.com" } }],
    ["POST", foreign.delivery.endpoint_url, {}],
  ];
  for (const [method, path, body] of attempts)
    assert.equal((await other.call(method, path, body)).status, 404, `${method} ${path}`);
  for (const token of [null, "wrong", tokenOf("nobody")])
    for (const [method, path, body] of attempts) {
      const answer = await signalClient(at, token).call(method, path, body);
      assert.equal(answer.status, 401, `${method} ${path}`);
      assert.match(String(answer.header("www-authenticate")), /^Bearer /);
    }
  const inQuery = await signalClient(at, null).call("GET", `/ssf/v1/streams?access_token=${tokenOf("other")}`);
  assert.equal(inQuery.status, 401);
});

test("client credentials give a token with scopes, and its scope bounds what it may do", async () => {
  const at = installation();
  const ask = (form: Readonly<Record<string, string>>, authorization?: string) =>
    signalClient(at, null).call("POST", "/ssf/v1/token", new URLSearchParams(form).toString(), {
      "content-type": "application/x-www-form-urlencoded",
      ...(authorization === undefined ? {} : { authorization }),
    });
  const basic = `Basic ${Buffer.from("payroll:a+client+secret").toString("base64")}`;
  const whole = await ask({ grant_type: "client_credentials" }, basic);
  assert.equal(whole.status, 200, JSON.stringify(whole.body));
  assert.equal(whole.body.token_type, "Bearer");
  assert.ok(whole.body.expires_in <= 3_600);
  const reading = await ask({
    grant_type: "client_credentials",
    scope: "ssf.read",
    client_id: "payroll",
    client_secret: "a client secret",
  });
  const reader = signalClient(at, reading.body.access_token);
  assert.equal((await reader.call("GET", "/ssf/v1/streams")).status, 200);
  const refused = await reader.call("POST", "/ssf/v1/streams", {});
  assert.equal(refused.status, 403);
  assert.match(String(refused.header("www-authenticate")), /insufficient_scope/);
  assert.equal((await signalClient(at, whole.body.access_token).call("POST", "/ssf/v1/streams", {})).status, 201);
  const wrong = { grant_type: "client_credentials", client_id: "payroll", client_secret: "another" };
  assert.equal((await ask(wrong)).status, 401);
  assert.equal((await ask({ ...wrong, client_id: "unknown" })).status, 401);
  assert.equal((await ask({ grant_type: "password" }, basic)).body.error, "unsupported_grant_type");
  assert.equal((await ask({ grant_type: "client_credentials", scope: "all" }, basic)).body.error, "invalid_scope");
  const tampered = `${String(whole.body.access_token).slice(0, -6)}AAAAAA`;
  assert.equal((await signalClient(at, tampered).call("GET", "/ssf/v1/streams")).status, 401);
});

test("only listed addresses over TLS can be the end point of a push stream", async () => {
  const at = installation();
  const client = signalClient(at, tokenOf("push"));
  const [stream] = (await client.call("GET", "/ssf/v1/streams")).body;
  const { origin, port } = new URL(receiver.url);
  const hostile = [
    "http://169.254.169.254/latest/meta-data",
    "https://169.254.169.254/",
    `http://receiver.localhost:${port}/`,
    `https://receiver.localhost:${Number(port) + 1}/`,
    `https://receiver.localhost.evil.example:${port}/`,
    `https://user:password@receiver.localhost:${port}/`,
    `${origin}@evil.example/`,
    `${origin}/#fragment`,
    "https://localhost/",
    "file:///etc/passwd",
    "not a url",
  ];
  for (const url of hostile) {
    const patched = await client.call("PATCH", "/ssf/v1/streams", {
      stream_id: stream.stream_id,
      delivery: pushDelivery(url),
    });
    assert.ok([400, 403].includes(patched.status), `${url}: ${patched.status}`);
  }
  for (const value of ["a\r\nx-evil: 1", "", " lead", "ü"]) {
    const delivery = { ...pushDelivery(), authorization_header: value };
    const patched = await client.call("PATCH", "/ssf/v1/streams", { stream_id: stream.stream_id, delivery });
    assert.equal(patched.status, 400, JSON.stringify(value));
  }
  assert.equal((await client.call("POST", "/ssf/v1/streams", {})).status, 409, "one stream per receiver");
});

test("a receiver changes, replaces and pauses its stream, and what was held comes in order when it is enabled", async () => {
  const at = installation();
  const client = signalClient(at, tokenOf("push"));
  const [stream] = (await client.call("GET", "/ssf/v1/streams")).body;
  const id = stream.stream_id;
  const patched = await client.call("PATCH", "/ssf/v1/streams", {
    ...stream,
    events_requested: [eventUri("session-revoked"), eventUri("account-disabled"), "urn:example:unknown"],
  });
  assert.equal(patched.status, 200, JSON.stringify(patched.body));
  assert.deepEqual(patched.body.events_delivered, [eventUri("session-revoked"), eventUri("account-disabled")]);
  assert.equal(patched.body.description, "the payroll");
  const wrong = await client.call("PATCH", "/ssf/v1/streams", { stream_id: id, aud: "https://else.example.com" });
  assert.equal(wrong.status, 400);

  const paused = await client.call("POST", "/ssf/v1/status", {
    stream_id: id,
    status: "paused",
    reason: "maintenance",
  });
  assert.deepEqual(paused.body, { stream_id: id, status: "paused", reason: "maintenance" });
  await signIn(at, "jan", verified);
  for (const change of ["suspend", "restore"])
    assert.equal((await operate(at, `/users/${emailOf("jan")}/${change}`, { wait: "none" })).status, 200);
  await signIn(at, "jan", verified);
  assert.equal((await operate(at, `/users/${emailOf("jan")}/sessions/revoke`, { wait: "none" })).status, 200);
  const ofJan = () => receiver.accepted.filter((event) => JSON.stringify(event.subject).includes(emailOf("jan")));
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  assert.deepEqual(ofJan(), [], "a paused stream sends nothing");
  assert.equal((await client.call("POST", "/ssf/v1/status", { stream_id: id, status: "enabled" })).status, 200);
  await waitFor("three tokens", () => ofJan().length >= 3);
  assert.deepEqual(
    ofJan().map(({ name }) => name),
    ["session-revoked", "account-disabled", "session-revoked"],
    "account-enabled was not requested",
  );

  const replaced = await client.call("PUT", "/ssf/v1/streams", { stream_id: id, delivery: pushDelivery() });
  assert.equal(replaced.body.description, undefined);
  assert.equal(replaced.body.delivery.authorization_header, undefined);
  assert.equal(replaced.body.events_delivered.length, 6);
});

test("a receiver leaves out a person and takes them in again; elsewhere only named people are included", async () => {
  const at = installation();
  const client = signalClient(at, tokenOf("few"));
  const stream = await createStream(at, "few");
  const id = stream.stream_id;
  const url = stream.delivery.endpoint_url;
  const rules = { ...keys, audience: audience("few") };
  const named = { stream_id: id, subject: { format: "email", email: emailOf("KIM") } };
  const added = await client.call("POST", "/ssf/v1/subjects/add", { ...named, verified: true });
  assert.deepEqual([added.status, added.body], [200, undefined]);
  for (const name of ["kim", "lea"]) {
    await signIn(at, name, verified);
    assert.equal((await operate(at, `/users/${emailOf(name)}/sessions/revoke`, { wait: "none" })).status, 200);
  }
  let events: readonly ReceivedEvent[] = [];
  await waitFor("the token", async () => {
    events = (await poll(client, url, rules)).events;
    return events.length > 0;
  });
  await arrives("session-revoked", emailOf("lea"));
  events = (await poll(client, url, rules)).events;
  assert.deepEqual(
    events.map(({ subject }) => subject),
    [{ format: "email", email: emailOf("kim") }],
  );
  assert.equal((await client.call("POST", "/ssf/v1/subjects/remove", named)).status, 204);
  await signIn(at, "kim", verified);
  assert.equal((await operate(at, `/users/${emailOf("kim")}/sessions/revoke`, { wait: "none" })).status, 200);
  const after = await poll(client, url, rules, { ack: events.map(({ jti }) => jti) });
  assert.deepEqual(after.events, []);

  const push = signalClient(at, tokenOf("push"));
  const [pushed] = (await push.call("GET", "/ssf/v1/streams")).body;
  const lea = { stream_id: pushed.stream_id, subject: { format: "email", email: emailOf("lea") } };
  assert.equal((await push.call("POST", "/ssf/v1/subjects/remove", lea)).status, 204);
  const countOfLea = () => receiver.accepted.filter((event) => JSON.stringify(event.subject).includes("lea@")).length;
  const before = countOfLea();
  await signIn(at, "lea", verified);
  assert.equal((await operate(at, `/users/${emailOf("lea")}/suspend`, { wait: "none" })).status, 200);
  await signIn(at, "moe", verified);
  assert.equal((await operate(at, `/users/${emailOf("moe")}/suspend`, { wait: "none" })).status, 200);
  await arrives("account-disabled", emailOf("moe"));
  assert.equal(countOfLea(), before);
  assert.equal((await push.call("POST", "/ssf/v1/subjects/add", lea)).status, 200);
  for (const subject of [
    { format: "complex", tenant: { format: "opaque", id: "t" } },
    { format: "email" },
    "lea",
    null,
  ])
    assert.equal((await push.call("POST", "/ssf/v1/subjects/add", { ...lea, subject })).status, 400);
});

test("a stream whose receiver is silent is paused, and the receiver is notified", async () => {
  const at = installation();
  const client = signalClient(at, tokenOf("quiet"));
  const stream = await createStream(at, "quiet");
  assert.equal(stream.inactivity_timeout, 2);
  const rules = { ...keys, audience: audience("quiet") };
  await new Promise((resolve) => setTimeout(resolve, 3_500));
  const { events } = await poll(client, stream.delivery.endpoint_url, rules);
  assert.equal(events[0]?.name, "stream-updated");
  assert.equal(events[0]?.payload["status"], "paused");
  const status = await client.call("GET", `/ssf/v1/status?stream_id=${stream.stream_id}`);
  assert.equal(status.body.status, "paused");
  const enabled = await client.call("POST", "/ssf/v1/status", { stream_id: stream.stream_id, status: "enabled" });
  assert.equal(enabled.status, 200);
});

test("every token arrived with one identity, however often", () => {
  const byJti = Map.groupBy(receiver.accepted, ({ jti }) => jti);
  for (const [jti, events] of byJti) assert.equal(new Set(events.map(({ name }) => name)).size, 1, jti);
  assert.ok(distinct(receiver.accepted).length > 10);
});
