/** What operators do at a transmitter of signals: set up a stream, look at it, and check that events arrive. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { mintOperatorToken } from "../../../src/console/index.ts";
import { run } from "../../cli/support.ts";
import {
  clientSecret,
  startTransmitter,
  staticToken,
  type TestTransmitter,
  uris,
} from "../../support/signal-transmitter.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Installation, startInstallation } from "../identity/installation.ts";
import { operate, raiseLevel } from "../scim/scim-client.ts";

const pushToken = "a-token-that-only-the-transmitter-has";

async function start(
  t: TestContext,
  more: (transmitter: TestTransmitter) => object,
): Promise<Readonly<{ at: Installation; transmitter: TestTransmitter }>> {
  const transmitter = await startTransmitter(t);
  const at = await startInstallation(t, ({ url, upstream }) => ({
    signal_transmitters: { okta: { issuer: transmitter.issuer, audience: transmitter.audience, ...more(transmitter) } },
    administrators: ["sub:root"],
    routes: [{ from: url("app", ""), to: upstream, allow_any_authenticated_user: true }],
  }));
  await raiseLevel(at);
  return { at, transmitter };
}

const path = (rest = ""): string => `/signals/transmitters/okta${rest}`;

test("a stream for pushes is created, verified, changed, paused and deleted", async (t) => {
  const { at, transmitter } = await start(t, (peer) => ({
    ...{ push_token: pushToken, client_id: "receiver", client_secret: clientSecret },
    token_url: new URL("/token", peer.issuer).href,
  }));
  const listed = await operate(at, "/signals/transmitters");
  assert.equal(listed.status, 200);
  const [view] = listed.body["transmitters"] as Record<string, unknown>[];
  assert.equal(view?.["pushUrl"], at.url("authenticate", "/ssf/push/okta"));
  assert.equal(view?.["reported"], null);
  assert.doesNotMatch(JSON.stringify(listed.body), new RegExp(`${pushToken}|${clientSecret}`));

  const created = await operate(at, path("/stream"), {});
  assert.equal(created.status, 200, JSON.stringify(created.body));
  const { delivery } = transmitter.state.stream as { delivery: Record<string, string> };
  assert.equal(delivery["authorization_header"], `Bearer ${pushToken}`);
  assert.doesNotMatch(JSON.stringify(created.body), new RegExp(pushToken), "the token is not shown again");
  const requested = transmitter.state.stream?.["events_requested"] as string[];
  assert.ok(requested.includes(uris.sessionRevoked) && !requested.some((uri) => uri.endsWith("session-presented")));
  const again = await operate(at, path("/stream"), {});
  assert.equal(again.status, 502);
  assert.match(String(again.body["error"]), /409.*signals transmitters update/);

  const verified = await operate(at, path("/stream/verify"), { timeoutMs: 20_000 });
  assert.deepEqual(verified.body, { streamId: transmitter.state.stream?.["stream_id"], verified: true });
  const updated = await operate(at, path("/stream/update"), { events: ["account-disabled"] });
  assert.equal(updated.status, 200, JSON.stringify(updated.body));
  assert.deepEqual(transmitter.state.stream?.["events_requested"], [uris.accountDisabled]);
  const paused = await operate(at, path("/stream/status"), { status: "paused", reason: "a window of maintenance" });
  assert.equal(paused.status, 200);
  assert.equal(transmitter.state.status.status, "paused");
  const shown = await operate(at, path());
  const { streams } = shown.body as unknown as { streams: { status: { status: string } }[] };
  assert.equal(streams[0]?.status.status, "paused");
  assert.doesNotMatch(JSON.stringify(shown.body), new RegExp(`${pushToken}|${clientSecret}`));
  const subject = { format: "email", email: "a@example.com" };
  assert.equal((await operate(at, path("/subjects"), { change: "add", subject })).status, 200);
  assert.deepEqual((transmitter.state.subjects[0] as { subject: object }).subject, subject);
  assert.equal((await operate(at, path("/subjects"), { change: "remove", subject })).status, 200);
  assert.equal((await operate(at, path("/subjects"), { change: "add", subject: { format: "email" } })).status, 502);
  assert.equal((await operate(at, path("/stream/delete"), {})).status, 200);
  assert.equal(transmitter.state.stream, null);
  const none = await operate(at, path("/stream/verify"), {});
  assert.equal(none.status, 502);
  assert.match(String(none.body["error"]), /signals transmitters create/);
});

test("a stream that is polled is created without an address, and verified by a poll", async (t) => {
  const { at, transmitter } = await start(t, () => ({ delivery: "poll", access_token: staticToken }));
  assert.equal((await operate(at, path("/stream"), {})).status, 200);
  const { delivery } = transmitter.state.stream as { delivery: Record<string, string> };
  assert.equal(delivery["method"], "urn:ietf:rfc:8936");
  const verified = await operate(at, path("/stream/verify"), { timeoutMs: 30_000 });
  assert.equal(verified.body["verified"], true, JSON.stringify(verified.body));
});

test("a stream that the transmitter pauses by itself is shown, and an older message does not undo a newer", async (t) => {
  const { at, transmitter } = await start(t, () => ({ push_token: pushToken }));
  const subject = { format: "opaque", id: "stream-1" };
  const now = Math.floor(Date.now() / 1_000);
  const push = async (iat: number, status: string): Promise<void> => {
    const token = await transmitter.sign(transmitter.claims(uris.streamUpdated, subject, { iat }, { status }));
    const { host } = new URL(at.url("authenticate"));
    const url = `http://authenticate.localhost:${at.port}/ssf/push/okta`;
    const visitor = at.visitor();
    const answer = await visitor.request(url, {
      ...{ method: "POST", body: token },
      headers: { host, "content-type": "application/secevent+jwt", authorization: `Bearer ${pushToken}` },
    });
    assert.equal(answer.status, 202, answer.body);
  };
  await push(now, "paused");
  await push(now - 60, "enabled");
  await waitFor("the status", async () => {
    const listed = await operate(at, "/signals/transmitters");
    const [view] = listed.body["transmitters"] as { reported: { status: string; streamId: string } | null }[];
    return view?.reported?.status === "paused" && view.reported.streamId === "stream-1";
  });
});

test("a transmitter that is unknown, does not answer, or is another issuer is reported as such", async (t) => {
  const { at, transmitter } = await start(t, () => ({ access_token: staticToken }));
  assert.equal((await operate(at, "/signals/transmitters/unknown")).status, 404);
  assert.equal((await operate(at, path("/stream/status"), { status: "asleep" })).status, 400);
  assert.equal((await operate(at, path("/stream"), { events: ["session-vanished"] })).status, 400);
  transmitter.state.down = true;
  const silent = await operate(at, path());
  assert.equal(silent.status, 502);
  // Its metadata may be known from before, and is used for a day; then the first request to it fails.
  assert.match(String(silent.body["error"]), /metadata|the transmitter refuses to list the streams \(status 503\)/);
});

test("the commands set up a stream, and say in plain words what they found", async (t) => {
  const { at, transmitter } = await start(t, () => ({ push_token: pushToken, access_token: staticToken }));
  const config = at.services.config();
  const token = await mintOperatorToken({
    ...{ secret: config.sharedSecret, cluster: config.broker.clusterName, name: "test", tokenId: "cli" },
    ...{ nowS: Math.floor(Date.now() / 1_000), ttlS: 600 },
  });
  const env = { CARDEA_URL: at.url("authenticate"), CARDEA_TOKEN: token };
  const cardea = (...args: readonly string[]) => run(["signals", "transmitters", ...args], env);
  assert.match((await cardea("list")).out, /okta +push +never/);
  assert.match((await cardea("show", "okta")).out, /no streams; create one/);
  const created = await cardea("create", "okta", "--events", "session-revoked,account-disabled");
  assert.equal(created.code, 0, created.err);
  assert.match(created.out, /created stream [\w-]+\n[\s\S]*session-revoked, account-disabled/);
  const verified = await cardea("verify", "okta", "--timeout", "20s");
  assert.equal(verified.code, 0, verified.err);
  assert.match(verified.out, /^stream [\w-]+ is verified\n$/);
  assert.match((await cardea("list")).out, /okta +push +20\d\d-/);
  assert.match((await cardea("pause", "okta", "--reason", "maintenance")).out, /is paused/);
  assert.match((await cardea("show", "okta")).out, /status +paused: maintenance/);
  assert.equal((await cardea("add-subject", "okta", "--email", "a@example.com")).code, 0);
  assert.equal(transmitter.state.subjects.length, 1);
  assert.equal((await cardea("add-subject", "okta", "--email", "a@example.com", "--id", "x")).code, 2);
  assert.equal((await cardea("verify", "okta", "--timeout", "soon")).code, 2);
  assert.match((await cardea("create", "okta")).err, /signals transmitters update/);
  assert.equal((await cardea("delete", "okta")).code, 0);
  assert.match((await cardea("verify", "okta")).err, /signals transmitters create/);
});
