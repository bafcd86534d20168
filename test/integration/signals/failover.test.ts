/**
 * A cluster on Postgres whose leader is killed while it delivers: every revocation reaches the push receiver and the
 * poll receiver, with one identity however often.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { request } from "undici";
import { readsLevel } from "../../../src/events/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Session, startCluster } from "../cluster/cluster.ts";
import { type ReceivedEvent, startPushReceiver, verifyEvent } from "./receiver.ts";
import { hashOf, type JsonValue } from "./signal-client.ts";

const audienceOf = (name: string): string => `https://${name}.example.com`;
const sessionsMax = 40;

const sessionIn = ({ subject }: ReceivedEvent): string => String((subject["session"] as JsonValue)?.id);

test("a leader that is killed while it delivers loses no revocation, and every token keeps its identity", {
  timeout: 400_000,
}, async (t) => {
  let jwks: JsonValue;
  let issuer = "";
  const receiver = await startPushReceiver(t, async () => ({ jwks, issuer, audience: audienceOf("push") }));
  receiver.behave(() => new Promise((resolve) => setTimeout(resolve, 40)));
  const of = (name: string, more: object = {}) => ({
    [name]: { audience: audienceOf(name), token_sha256: hashOf(`token-of-${name}`), ...more },
  });
  const cluster = await startCluster({
    timing: "short",
    regions: ["north"],
    settings: {
      certificate_authority: Buffer.from(receiver.ca).toString("base64"),
      signal_receivers: { ...of("push", { push_urls: [new URL(receiver.url).origin] }), ...of("poll") },
    },
  });
  t.after(() => cluster.stop());
  issuer = `http://${cluster.host("authenticate")}`;
  const call = async (name: string, method: string, path: string, body?: object): Promise<JsonValue> => {
    const answer = await request(`http://127.0.0.1:${cluster.authenticate.ports.address}${path}`, {
      method: method as "GET",
      headers: {
        host: cluster.host("authenticate"),
        authorization: `Bearer token-of-${name}`,
        "content-type": "application/json",
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.body.text();
    assert.ok(answer.statusCode < 300, `${answer.statusCode} ${text}`);
    return JSON.parse(text);
  };
  await waitFor("the level", async () => {
    const { status } = await cluster.operator.post("/cluster/finalize", { level: readsLevel });
    return status === 200;
  });
  jwks = await call("push", "GET", "/ssf/v1/jwks.json");
  const push = { method: "urn:ietf:rfc:8935", endpoint_url: receiver.url };
  await waitFor("the push stream", () => call("push", "POST", "/ssf/v1/streams", { delivery: push }));
  const polled = await waitFor("the poll stream", () => call("poll", "POST", "/ssf/v1/streams", {}));
  const pollPath = new URL(polled.delivery.endpoint_url).pathname;

  const sessions: Session[] = [];
  for (let n = 0; n < sessionsMax; n++) sessions.push(await cluster.session(`user-${n}`));
  const revoked = new Set<string>();
  const leader = await cluster.leader();
  for (const [nth, session] of sessions.entries()) {
    await cluster.operator.revoke(session, { wait: "none" });
    revoked.add(session.id);
    if (nth === sessionsMax / 2) {
      await waitFor("some tokens to arrive", () => receiver.accepted.length > 3);
      await leader.kill();
    }
  }
  const pushedSessions = (): ReadonlySet<string> => new Set(receiver.accepted.map(sessionIn));
  await waitFor("every revocation to be pushed", () => [...revoked].every((id) => pushedSessions().has(id)), {
    withinMs: 60_000,
  });

  const polledEvents: ReceivedEvent[] = [];
  await waitFor(
    "every revocation to be polled",
    async () => {
      const ack = polledEvents.map(({ jti }) => jti).slice(-20);
      const answer = await call("poll", "POST", pollPath, { maxEvents: 7, returnImmediately: true, ack });
      for (const token of Object.values<string>(answer.sets))
        polledEvents.push(await verifyEvent(token, { jwks, issuer, audience: audienceOf("poll") }));
      const seen = new Set(polledEvents.map(sessionIn));
      return [...revoked].every((id) => seen.has(id));
    },
    { withinMs: 60_000 },
  );
  for (const events of [receiver.accepted, polledEvents])
    for (const [id, ofSession] of Map.groupBy(events, sessionIn))
      assert.equal(new Set(ofSession.map(({ jti }) => jti)).size, 1, id);
  t.diagnostic(`${receiver.accepted.length} pushes and ${polledEvents.length} polled tokens of ${revoked.size}`);
});
