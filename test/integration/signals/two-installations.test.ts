/**
 * Two installations over real HTTP: one tells the other of its revocations, by push and by poll, and the other ends its
 * sessions. Each has its own identity provider; the e-mail is what they have in common.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { Authority } from "../../support/pki.ts";
import { waitFor } from "../../support/wait-for.ts";
import { openSocket } from "../cluster/client.ts";
import { startUpstream } from "../cluster/upstream.ts";
import { type Installation, startInstallation } from "../identity/installation.ts";
import { operate, raiseLevel } from "../scim/scim-client.ts";
import { hashOf, signalClient, signIn } from "./signal-client.ts";

const pushToken = "what-the-first-sends-to-the-second";
const tokenOf = (name: string): string => `the-token-of-${name}`;
const audienceOf = (name: string): string => `https://${name}.example.com/ssf`;
const verified = { email_verified: true };
const emailOf = (name: string): string => `${name}@example.com`;

/** Ends TLS before an authenticate host, as an operator's load balancer does. */
async function startTlsFront(t: TestContext, authority: Authority) {
  const state = { to: { port: 0, host: "" }, answers: [] as number[] };
  const { cert, key } = await authority.issue({ hosts: ["second.localhost"], addresses: ["127.0.0.1"] });
  const server = createTlsServer({ cert, key }, (req, res) => {
    const { port, host } = state.to;
    const headers = { ...req.headers, host };
    const onward = httpRequest({ host: "127.0.0.1", port, path: req.url, method: req.method, headers }, (answer) => {
      state.answers.push(answer.statusCode ?? 0);
      res.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(res);
    });
    onward.on("error", () => res.writeHead(502).end());
    req.pipe(onward);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { state, origin: `https://second.localhost:${(server.address() as AddressInfo).port}` };
}

async function startBoth(t: TestContext) {
  const authority = await Authority.root();
  const front = await startTlsFront(t, authority);
  const live = await startUpstream();
  t.after(() => live.close());
  const first = await startInstallation(t, ({ url, upstream }) => ({
    administrators: ["sub:root"],
    certificate_authority: Buffer.from(authority.pem).toString("base64"),
    signal_receivers: Object.fromEntries(
      ["push", "poll"].map((name) => [
        name,
        {
          ...{ audience: audienceOf(name), token_sha256: hashOf(tokenOf(name)), min_verification_interval: "1s" },
          events: ["session-revoked", "account-disabled", "account-enabled"],
          ...(name === "push" ? { push_urls: [front.origin] } : {}),
        },
      ]),
    ),
    routes: [{ from: url("app", ""), to: upstream, allow_any_authenticated_user: true }],
  }));
  await raiseLevel(first);
  const issuer = new URL(first.url("authenticate")).origin;
  const of = (name: string): object => ({ issuer, audience: audienceOf(name), access_token: tokenOf(name) });
  const second = await startInstallation(t, ({ url, upstream }) => ({
    administrators: ["sub:root"],
    signal_transmitters: {
      pusher: { ...of("push"), push_token: pushToken },
      polled: { ...of("poll"), delivery: "poll", match: ["email"] },
    },
    routes: [
      { from: url("app", ""), to: upstream, allow_any_authenticated_user: true },
      {
        from: url("live", ""),
        to: `http://127.0.0.1:${live.port}`,
        ...{ allow_any_authenticated_user: true, allow_websockets: true },
      },
    ],
  }));
  await raiseLevel(second);
  front.state.to = { port: second.port, host: new URL(second.url("authenticate")).host };
  return { first, second, front };
}

async function socketOf(second: Installation, name: string) {
  const visitor = await signIn(second, name, verified);
  assert.equal((await visitor.navigate(second.url("live"))).status, 200);
  const { host } = new URL(second.url("live"));
  const cookie = visitor.cookieHeader(new URL(second.url("live")));
  return { visitor, socket: await openSocket({ port: second.port, host, cookie }) };
}
const statusOf = async (second: Installation, visitor: Awaited<ReturnType<typeof signIn>>): Promise<number> =>
  (await visitor.request(second.url("app"), { headers: { accept: "application/json" } })).status;

test("one installation tells another of its revocations, by push and by poll, and open WebSockets there are cut", {
  timeout: 300_000,
}, async (t) => {
  const { first, second, front } = await startBoth(t);
  const push = signalClient(first, tokenOf("push"));
  const created = await push.call("POST", "/ssf/v1/streams", {
    delivery: {
      method: "urn:ietf:rfc:8935",
      endpoint_url: `${front.origin}/ssf/push/pusher`,
      authorization_header: `Bearer ${pushToken}`,
    },
  });
  assert.equal(created.status, 201, JSON.stringify(created.body));
  const made = await operate(second, "/signals/transmitters/polled/stream", {});
  assert.equal(made.status, 200, JSON.stringify(made.body));
  for (const name of ["pusher", "polled"]) {
    const checked = await operate(second, `/signals/transmitters/${name}/stream/verify`, { timeoutMs: 30_000 });
    assert.deepEqual(
      [checked.status, checked.body["verified"]],
      [200, true],
      `${name} ${JSON.stringify(checked.body)}`,
    );
  }

  // By push alone: the stream that is polled is paused.
  const pause = (status: string) => operate(second, "/signals/transmitters/polled/stream/status", { status });
  assert.equal((await pause("paused")).status, 200);
  const ada = await socketOf(second, "ada");
  const eve = await socketOf(second, "eve");
  await signIn(first, "ada", verified);
  assert.equal((await operate(first, `/users/${emailOf("ada")}/sessions/revoke`, {})).status, 200);
  assert.equal((await ada.socket.closed).code, 4401);
  assert.equal(await statusOf(second, ada.visitor), 401);
  assert.ok(eve.socket.isOpen(), "another person keeps the connection");
  assert.ok(
    front.state.answers.every((status) => status === 202),
    String(front.state.answers),
  );
  assert.equal((await pause("enabled")).status, 200);

  // By poll alone: the push stream is disabled. The person is barred until the first installation restores them.
  const disabled = await push.call("POST", "/ssf/v1/status", { stream_id: created.body.stream_id, status: "disabled" });
  assert.equal(disabled.status, 200, JSON.stringify(disabled.body));
  await signIn(first, "eve", verified);
  assert.equal((await operate(first, `/users/${emailOf("eve")}/suspend`, { reason: "left" })).status, 200);
  assert.equal((await eve.socket.closed).code, 4401);
  await assert.rejects(signIn(second, "eve", verified), /403|suspended/i);
  assert.equal((await operate(first, `/users/${emailOf("eve")}/restore`, {})).status, 200);
  await waitFor("a sign-in after the account is enabled", async () => {
    await signIn(second, "eve", verified);
    return true;
  });
  await signIn(second, "ada", verified);
});
