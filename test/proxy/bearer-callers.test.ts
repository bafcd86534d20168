/**
 * Whose bearer token it is that nobody has seen: of the caller's address, as far as those in front of the proxy are
 * believed.
 */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { BearerRules } from "../../src/auth/index.ts";
import type { Config } from "../../src/config/index.ts";
import { createRequestDecider } from "../../src/proxy/decision-api/request-decider.ts";
import { ReachedHandles } from "../../src/proxy/request/identify-caller.ts";
import { type Rig, routeTo, sendRaw, startRig } from "./support.ts";

async function start(
  t: TestContext,
  config: Partial<Config>,
  bearer: BearerRules = { format: "idp_identity_token" },
): Promise<{ rig: Rig; from: string[] }> {
  const from: string[] = [];
  const bearerTokens: Rig["deps"]["bearerTokens"] = {
    identify(_token, _rules, of) {
      from.push(of.from);
      return { type: "refused" };
    },
    accepts: () => true,
  };
  const rig = await startRig([routeTo(0, { bearer })], {
    config,
    deps: { bearerTokens },
  });
  t.after(() => rig.close());
  return { rig, from };
}
const request = (more = ""): string =>
  `GET / HTTP/1.1\r\nHost: app.localhost\r\nAuthorization: Bearer unseen\r\nConnection: close\r\n${more}\r\n`;

test("is that of the connection, whatever it says of itself", async (t) => {
  const { rig, from } = await start(t, {});
  await sendRaw(rig.port, request("X-Forwarded-For: 192.0.2.9\r\n"), 10_000);
  assert.deepEqual(from, ["127.0.0.1"]);
});

test("is what the PROXY protocol says, where that is spoken", async (t) => {
  const { rig, from } = await start(t, { useProxyProtocol: true });
  await sendRaw(rig.port, `PROXY TCP4 192.0.2.9 10.0.0.1 5000 80\r\n${request()}`, 10_000);
  assert.deepEqual(from, ["192.0.2.9"]);
});

test("is what the outermost trusted proxy says, and not what stands before it", async (t) => {
  const { rig, from } = await start(t, { xffNumTrustedHops: 1 });
  await sendRaw(rig.port, request("X-Forwarded-For: 198.51.100.1, 192.0.2.9\r\n"), 10_000);
  assert.deepEqual(from, ["192.0.2.9"]);
});

test("is what whoever carries the request says, of a decision for others", async (t) => {
  const { rig, from } = await start(t, {});
  const decider = createRequestDecider(rig.deps, new ReachedHandles());
  const described = {
    ...{ method: "GET", scheme: null, authority: "app.localhost", target: "/", ip: "192.0.2.9" },
    lines: ["Authorization", "Bearer unseen"],
  };
  const verdict = await decider.decide({ described, subject: "credential", requestId: "one" });
  assert.equal(verdict.type, "deny");
  assert.deepEqual(from, ["192.0.2.9"]);
});

test("is no question beside the session cookie where tokens of issuers are taken: 400, by the proxy and at the decision API", async (t) => {
  const { rig, from } = await start(t, {}, { format: "jwt", issuers: [] });
  assert.match(await sendRaw(rig.port, request("Cookie: a=b; _pomerium=any\r\n"), 10_000), /^HTTP\/1\.1 400 /);
  assert.deepEqual(rig.records.at(-1)?.reasons, ["two-credentials"]);
  const decider = createRequestDecider(rig.deps, new ReachedHandles());
  const described = {
    ...{ method: "GET", scheme: null, authority: "app.localhost", target: "/", ip: "192.0.2.9" },
    lines: ["Authorization", "Bearer unseen", "Cookie", "_pomerium=any"],
  };
  const verdict = await decider.decide({ described, subject: "credential", requestId: "one" });
  assert.deepEqual([verdict.type, "status" in verdict && verdict.status], ["deny", 400]);
  assert.deepEqual(from, [], "nobody was asked about the token");
  assert.match(await sendRaw(rig.port, request("Cookie: a=b\r\n"), 10_000), /^HTTP\/1\.1 403 /);
});

test("counts alone beside the session cookie where tokens of the identity provider are taken, as in Pomerium", async (t) => {
  const { rig, from } = await start(t, {});
  assert.match(await sendRaw(rig.port, request("Cookie: _pomerium=any\r\n"), 10_000), /^HTTP\/1\.1 403 /);
  assert.deepEqual(from, ["127.0.0.1"]);
});
