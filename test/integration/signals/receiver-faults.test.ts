/** Faults of a push receiver: what is repeated, what is given up, and that nothing is lost meanwhile. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { JSONWebKeySet } from "jose";
import { waitFor } from "../../support/wait-for.ts";
import { type Installation, shared, startInstallation } from "../identity/installation.ts";
import { operate, raiseLevel } from "../scim/scim-client.ts";
import { distinct, type PushReceiver, type ReceivedEvent, startPushReceiver } from "./receiver.ts";
import { discover, hashOf, type JsonValue, signalClient, signIn } from "./signal-client.ts";

const audience = "https://faulty.example.com";
const token = "a-random-token-of-the-receiver";
let receiver: PushReceiver;
let keys: Readonly<{ jwks: JSONWebKeySet; issuer: string }>;

const installation = shared(async (t) => {
  receiver = await startPushReceiver(t, async () => ({ ...keys, audience }));
  const { origin } = new URL(receiver.url);
  const at = await startInstallation(t, ({ url, upstream }) => ({
    certificate_authority: Buffer.from(receiver.ca).toString("base64"),
    administrators: ["sub:root"],
    signal_receivers: { faulty: { audience, token_sha256: hashOf(token), push_urls: [`${origin}/ssf`] } },
    routes: [{ from: url("app", ""), to: upstream, allow_any_authenticated_user: true }],
  }));
  await raiseLevel(at);
  keys = await discover(at);
  const delivery = { method: "urn:ietf:rfc:8935", endpoint_url: receiver.url };
  const created = await signalClient(at, token).call("POST", "/ssf/v1/streams", { delivery });
  assert.equal(created.status, 201);
  return at;
});

const emailOf = (name: string): string => `${name}@example.com`;

/** Suspends a person. Two tokens follow. */
async function suspend(at: Installation, name: string): Promise<void> {
  await signIn(at, name, { email_verified: true });
  assert.equal((await operate(at, `/users/${emailOf(name)}/suspend`, { wait: "none" })).status, 200);
}

const about = (events: readonly ReceivedEvent[], name: string): readonly ReceivedEvent[] =>
  events.filter(({ subject }) => JSON.stringify(subject).includes(emailOf(name)));

async function streamOf(at: Installation): Promise<JsonValue> {
  const answer = await operate(at, "/signals/streams");
  assert.equal(answer.status, 200);
  return (answer.body["streams"] as JsonValue)[0];
}

const waitMs = { withinMs: 20_000 };

test("a receiver that is down gets everything when it is back, with one identity each", async () => {
  const at = installation();
  await receiver.stop();
  await suspend(at, "ann");
  await suspend(at, "bob");
  await waitFor("the failure to be known", async () => (await streamOf(at)).failure !== null, waitMs);
  const stream = await streamOf(at);
  assert.equal(stream.pending, 4);
  assert.match(stream.failure.reason, /cannot be reached \(ECONNREFUSED\)/);
  await receiver.listen();
  await waitFor("all tokens", () => distinct(receiver.accepted).length === 4, waitMs);
  for (const name of ["ann", "bob"])
    assert.deepEqual(
      about(distinct(receiver.accepted), name).map((event) => event.name),
      ["session-revoked", "account-disabled"],
    );
  await waitFor("the stream to be well", async () => (await streamOf(at)).failure === null, waitMs);
});

test("a token that is refused is a dead letter, and the stream continues", async () => {
  const at = installation();
  receiver.behave((event) =>
    event.name === "account-disabled" && JSON.stringify(event.subject).includes("cid@")
      ? { status: 400, body: { err: "invalid_request", description: "no such \u001b[31maccount" } }
      : undefined,
  );
  await suspend(at, "cid");
  await suspend(at, "dot");
  await waitFor("the others", () => about(receiver.accepted, "dot").length === 2, waitMs);
  assert.deepEqual(
    about(receiver.accepted, "cid").map((event) => event.name),
    ["session-revoked"],
  );
  await waitFor("the dead letter", async () => (await streamOf(at)).refused === 1, waitMs);
  const [letter] = (await streamOf(at)).deadLetters;
  assert.equal(letter.err, "invalid_request");
  assert.equal(letter.description, "no such ?[31maccount", "nothing that a terminal would obey");
  assert.equal(about(receiver.seen, "cid").filter((event) => event.name === "account-disabled").length, 1);
});

test("a receiver that refuses our credential or key loses nothing", async () => {
  const at = installation();
  for (const [name, answer] of [
    ["eli", { status: 401 }],
    ["fay", { status: 400, body: { err: "invalid_key", description: "unknown kid" } }],
    ["gil", { status: 503, headers: { "retry-after": "1" } }],
  ] as const) {
    receiver.behave(() => answer);
    const before = receiver.seen.length;
    await suspend(at, name);
    await waitFor("two attempts", () => receiver.seen.length >= before + 2, waitMs);
    assert.notEqual((await streamOf(at)).pending, 0);
    receiver.behave(null);
    await waitFor("the tokens", () => distinct(about(receiver.accepted, name)).length === 2, waitMs);
  }
  assert.equal((await streamOf(at)).refused, 1, "the one of the test before");
});

test("a redirect is not followed", async () => {
  const at = installation();
  const { origin } = new URL(receiver.url);
  receiver.behave(() => ({ status: 307, headers: { location: `${origin}/ssf/elsewhere` } }));
  const before = receiver.seen.length;
  await suspend(at, "hal");
  await waitFor("two attempts", () => receiver.seen.length >= before + 2, waitMs);
  await waitFor(
    "the failure",
    async () => /redirects \(307\)/.test((await streamOf(at)).failure?.reason ?? ""),
    waitMs,
  );
  receiver.behave(null);
  await waitFor("the tokens", () => distinct(about(receiver.accepted, "hal")).length === 2, waitMs);
});

test("a slow receiver holds up no other person, and operators can stop and continue the stream", async () => {
  const at = installation();
  const held = Promise.withResolvers<void>();
  receiver.behave((event) => (JSON.stringify(event.subject).includes("ida@") ? held.promise : undefined));
  await suspend(at, "ida");
  await suspend(at, "jon");
  await waitFor("the others", () => about(receiver.accepted, "jon").length === 2, waitMs);
  assert.deepEqual(about(receiver.accepted, "ida"), []);
  held.resolve();
  await waitFor("the slow one", () => about(receiver.accepted, "ida").length >= 2, waitMs);
  receiver.behave(null);

  const paused = await operate(at, "/signals/streams/faulty/status", { status: "paused", reason: "maintenance" });
  assert.equal(paused.status, 200, JSON.stringify(paused.body));
  await waitFor("the receiver to be notified", () =>
    receiver.accepted.some(({ name, payload }) => name === "stream-updated" && payload["status"] === "paused"),
  );
  await suspend(at, "kit");
  const client = signalClient(at, token);
  const { stream_id: id } = (await client.call("GET", "/ssf/v1/streams")).body[0];
  const enabled = await client.call("POST", "/ssf/v1/status", { stream_id: id, status: "enabled" });
  assert.equal(enabled.status, 403, "an operator has paused it");
  assert.deepEqual(about(receiver.accepted, "kit"), []);
  assert.equal((await operate(at, "/signals/streams/faulty/status", { status: "enabled" })).status, 200);
  await waitFor("what was held", () => about(receiver.accepted, "kit").length === 2, waitMs);
  assert.equal((await operate(at, "/signals/streams/unknown/status", { status: "enabled" })).status, 404);
});
