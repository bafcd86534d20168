/**
 * The address that an unknown bearer token counts against: the caller's own address, or the one that a trusted proxy
 * reports.
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
): Promise<{ rig: Rig; addresses: string[] }> {
  const addresses: string[] = [];
  const bearerTokens: Rig["deps"]["bearerTokens"] = {
    identify(_token, _rules, of) {
      addresses.push(of.from);
      return { type: "refused" };
    },
    accepts: () => true,
  };
  const rig = await startRig([routeTo(0, { bearer })], {
    config,
    deps: { bearerTokens },
  });
  t.after(() => rig.close());
  return { rig, addresses };
}
const request = (extraLines = ""): string =>
  `GET / HTTP/1.1\r\nHost: app.localhost\r\nAuthorization: Bearer unseen\r\nConnection: close\r\n${extraLines}\r\n`;

test("an unknown token counts against the address of the connection, whatever the caller's headers claim", async (t) => {
  const { rig, addresses } = await start(t, {});
  await sendRaw(rig.port, request("X-Forwarded-For: 192.0.2.9\r\n"), 10_000);
  assert.deepEqual(addresses, ["127.0.0.1"]);
});

test("with the PROXY protocol, it counts against the address that the protocol names", async (t) => {
  const { rig, addresses } = await start(t, { useProxyProtocol: true });
  await sendRaw(rig.port, `PROXY TCP4 192.0.2.9 10.0.0.1 5000 80\r\n${request()}`, 10_000);
  assert.deepEqual(addresses, ["192.0.2.9"]);
});

test("behind a trusted proxy, it counts against the address which that proxy reports, not against an earlier entry", async (t) => {
  const { rig, addresses } = await start(t, { xffNumTrustedHops: 1 });
  await sendRaw(rig.port, request("X-Forwarded-For: 198.51.100.1, 192.0.2.9\r\n"), 10_000);
  assert.deepEqual(addresses, ["192.0.2.9"]);
});

test("in the decision API, it counts against the address that the calling proxy reports", async (t) => {
  const { rig, addresses } = await start(t, {});
  const decider = createRequestDecider(rig.deps, new ReachedHandles());
  const described = {
    ...{ method: "GET", scheme: null, authority: "app.localhost", target: "/", ip: "192.0.2.9" },
    lines: ["Authorization", "Bearer unseen"],
  };
  const verdict = await decider.decide({ described, subject: "credential", requestId: "one" });
  assert.equal(verdict.type, "deny");
  assert.deepEqual(addresses, ["192.0.2.9"]);
});

test("with tokens of issuers, a token beside the session cookie is 400, by the proxy and in the decision API", async (t) => {
  const { rig, addresses } = await start(t, {}, { format: "jwt", issuers: [] });
  assert.match(await sendRaw(rig.port, request("Cookie: a=b; _pomerium=any\r\n"), 10_000), /^HTTP\/1\.1 400 /);
  assert.deepEqual(rig.records.at(-1)?.reasons, ["two-credentials"]);
  const decider = createRequestDecider(rig.deps, new ReachedHandles());
  const described = {
    ...{ method: "GET", scheme: null, authority: "app.localhost", target: "/", ip: "192.0.2.9" },
    lines: ["Authorization", "Bearer unseen", "Cookie", "_pomerium=any"],
  };
  const verdict = await decider.decide({ described, subject: "credential", requestId: "one" });
  assert.deepEqual([verdict.type, "status" in verdict && verdict.status], ["deny", 400]);
  assert.deepEqual(addresses, [], "no provider was called for the token");
  assert.match(await sendRaw(rig.port, request("Cookie: a=b\r\n"), 10_000), /^HTTP\/1\.1 403 /);
});

test("with tokens of the identity provider, the token counts and the session cookie does not, as in Pomerium", async (t) => {
  const { rig, addresses } = await start(t, {});
  assert.match(await sendRaw(rig.port, request("Cookie: _pomerium=any\r\n"), 10_000), /^HTTP\/1\.1 403 /);
  assert.deepEqual(addresses, ["127.0.0.1"]);
});
