/** Signals that the leader polls (RFC 8936): acknowledged after the log has them, and never lost or done twice. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import {
  clientSecret,
  startTransmitter,
  staticToken,
  type TestTransmitter,
  uris,
} from "../../support/signal-transmitter.ts";
import type { Visitor } from "../../support/visitor.ts";
import { waitFor } from "../../support/wait-for.ts";
import { follow, type Installation, startInstallation } from "../identity/installation.ts";
import { raiseLevel } from "../scim/scim-client.ts";

type Setup = Readonly<{ at: Installation; transmitter: TestTransmitter }>;

async function start(
  t: TestContext,
  more: (transmitter: TestTransmitter) => object,
  form: "whole" | "split" = "whole",
): Promise<Setup> {
  const transmitter = await startTransmitter(t);
  const at = await startInstallation(
    t,
    ({ url, upstream }) => ({
      signal_transmitters: {
        okta: { issuer: transmitter.issuer, audience: transmitter.audience, delivery: "poll", ...more(transmitter) },
      },
      administrators: ["sub:root"],
      routes: [{ from: url("app", ""), to: upstream, allow_any_authenticated_user: true }],
    }),
    form,
  );
  await raiseLevel(at);
  return { at, transmitter };
}

const pollUrlOf = ({ issuer }: TestTransmitter): string => new URL("/poll", issuer).href;
const withToken = (transmitter: TestTransmitter): object => ({
  access_token: staticToken,
  poll_url: pollUrlOf(transmitter),
});

async function signIn(at: Installation, name: string): Promise<Visitor> {
  const visitor = at.visitor();
  at.provider.person.name = name;
  const { end } = await follow(visitor, at.url("app"));
  assert.equal(end.status, 200, end.body.slice(0, 300));
  return visitor;
}
const statusOf = async (at: Installation, visitor: Visitor): Promise<number> =>
  (await visitor.request(at.url("app"), { headers: { accept: "application/json" } })).status;
const issSub = (at: Installation, name: string): object => ({
  format: "iss_sub",
  iss: at.provider.issuer.origin,
  sub: name,
});

async function queue(
  transmitter: TestTransmitter,
  event: string,
  subject: object,
  payload: object = {},
): Promise<string> {
  const claims = transmitter.claims(event, subject, {}, payload);
  const jti = String(claims["jti"]);
  transmitter.queue(await transmitter.sign(claims), jti);
  return jti;
}
const isAcknowledged = ({ state }: TestTransmitter, jti: string): boolean => state.acknowledged.includes(jti);

test("polled events end sessions, of people that a subject or an e-mail names, and are acknowledged", async (t) => {
  const { at, transmitter } = await start(t, (peer) => ({
    ...{ client_id: "receiver", client_secret: clientSecret, token_url: new URL("/token", peer.issuer).href },
    poll_url: pollUrlOf(peer),
  }));
  const [anna, berta] = [await signIn(at, "anna"), await signIn(at, "berta")];
  const first = await queue(transmitter, uris.sessionRevoked, issSub(at, "anna"));
  const second = await queue(transmitter, uris.sessionRevoked, { format: "email", email: "berta@example.com" });
  await waitFor(
    "both to be acknowledged",
    () => isAcknowledged(transmitter, first) && isAcknowledged(transmitter, second),
  );
  await waitFor(
    "the sessions to end",
    async () => (await statusOf(at, anna)) === 401 && (await statusOf(at, berta)) === 401,
  );
  assert.equal(transmitter.state.tokensIssued, 1, "one access token serves all polls");
});

test("a refused event is reported, and the others are acknowledged", async (t) => {
  const { at, transmitter } = await start(t, withToken);
  const wrong = transmitter.claims(uris.sessionRevoked, issSub(at, "x"), { aud: "https://other.example.com" });
  transmitter.queue(await transmitter.sign(wrong), String(wrong["jti"]));
  const swapped = transmitter.claims(uris.sessionRevoked, issSub(at, "x"));
  transmitter.queue(await transmitter.sign(swapped), "another-jti");
  const good = await queue(transmitter, uris.sessionRevoked, issSub(at, "x"));
  await waitFor("the good one", () => isAcknowledged(transmitter, good));
  await waitFor("the reports", () => Object.keys(transmitter.state.errors).length === 2);
  assert.equal(transmitter.state.errors[String(wrong["jti"])]?.err, "invalid_audience");
  assert.equal(transmitter.state.errors["another-jti"]?.err, "invalid_request");
  assert.equal(transmitter.state.pending.length, 0);
});

test("an event whose acknowledgement is lost comes again, and does nothing twice", async (t) => {
  const { at, transmitter } = await start(t, withToken);
  transmitter.state.beforeAck = async () => {
    transmitter.state.beforeAck = async () => {};
    transmitter.state.down = true; // the request with the acknowledgement fails
  };
  const jti = await queue(transmitter, uris.sessionRevoked, issSub(at, "carla"));
  await waitFor("the lost acknowledgement", () => transmitter.state.down);
  const visitor = await signIn(at, "carla");
  transmitter.state.down = false;
  await waitFor("the acknowledgement", () => isAcknowledged(transmitter, jti));
  assert.equal(await statusOf(at, visitor), 200, "the session began after the signal");
});

test("the stream's address is found at the transmitter, which may appear later", async (t) => {
  const { at, transmitter } = await start(t, () => ({ access_token: staticToken }));
  const jti = await queue(transmitter, uris.sessionRevoked, issSub(at, "dora"));
  await waitFor("a failed poll", () => at.logged.some(({ message }) => message.startsWith("could not poll")));
  transmitter.state.stream = {
    ...{ stream_id: "s1", iss: transmitter.issuer, aud: transmitter.audience, events_delivered: [] },
    delivery: { method: "urn:ietf:rfc:8936", endpoint_url: pollUrlOf(transmitter) },
  };
  await waitFor("the acknowledgement", () => isAcknowledged(transmitter, jti));
});

test("a separate broker polls, and the node that serves sign-ins ends the sessions of people named by e-mail", async (t) => {
  const { at, transmitter } = await start(t, withToken, "split");
  const visitor = await signIn(at, "ella");
  const jti = await queue(transmitter, uris.accountDisabled, { format: "email", email: "ella@example.com" });
  await waitFor("the acknowledgement", () => isAcknowledged(transmitter, jti));
  await waitFor("the end of the session", async () => (await statusOf(at, visitor)) === 401);
  at.provider.person.name = "ella";
  assert.equal((await follow(at.visitor(), at.url("app"))).end.status, 403);
});

test("a transmitter that sends again what was acknowledged is not polled without a pause", async (t) => {
  const { at, transmitter } = await start(t, withToken);
  const claims = transmitter.claims(uris.sessionRevoked, issSub(at, "frida"));
  const token = await transmitter.sign(claims);
  const jti = String(claims["jti"]);
  const again = setInterval(() => {
    if (transmitter.state.pending.length === 0) transmitter.queue(token, jti);
  }, 5);
  t.after(() => clearInterval(again));
  await waitFor("the first acknowledgement", () => isAcknowledged(transmitter, jti));
  const before = transmitter.state.polls;
  const until = performance.now() + 2_000;
  await waitFor("two seconds", () => performance.now() > until);
  assert.ok(transmitter.state.polls - before <= 6, `${transmitter.state.polls - before} polls`);
});
