/**
 * The size limit of identity headers, with real upstreams: what an upstream receives about a person with thousands of
 * groups, from the proxy and through decisions for other proxies.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { decodeJwt } from "jose";
import { Registry } from "prom-client";
import type { CardeaEvent } from "../../src/events/index.ts";
import { encode } from "../../src/events/index.ts";
import { type DecisionServer, startDecisionServer } from "../../src/proxy/index.ts";
import {
  decisionApiConfig,
  groupChanged,
  type Rig,
  routeTo,
  sendRequest,
  signedIn,
  startRig,
  startUpstream,
  type Upstream,
  valuesOf,
} from "./support.ts";

const groups = Array.from({ length: 5_000 }, (_, i) => `department-${i}`);
const policyGroup = "department-42";

/** Session `n` of a person whose identity provider sends these claims. */
function claiming(n: number, claims: Readonly<Record<string, readonly string[]>>): CardeaEvent {
  const created = signedIn(n) as Extract<CardeaEvent, { type: "SessionCreated" }>;
  const email = `user${n}@example.com`;
  const profile = { issuer: "idp", subject: `subject-${n}`, email, emailVerified: true, name: `User ${n}`, claims };
  return { ...created, profile: encode(profile) };
}

let rig: Rig;
let upstream: Upstream;
let server: DecisionServer;

before(async () => {
  upstream = await startUpstream();
  const location = { file: "cardea.yaml", line: 1, column: 1 };
  rig = await startRig([
    routeTo(upstream.port, {
      match: { kind: "prefix", value: "/filtered" },
      jwtGroupsFilter: groups,
      passIdentityHeaders: true,
    }),
    routeTo(upstream.port, {
      allowAnyAuthenticatedUser: false,
      passIdentityHeaders: true,
      setRequestHeaders: { "X-Assertion-Copy": `Bearer \${pomerium.jwt}` },
      policy: { ppl: { allow: { or: [{ "claim/groups": "department-42" }, { groups: "eng" }] } }, location },
    }),
  ]);
  await rig.apply(
    claiming(1, { groups }),
    signedIn(2),
    groupChanged({ added: [2] }),
    claiming(3, { groups, nickname: ["n".repeat(20_000)] }),
  );
  server = await startDecisionServer({
    listen: decisionApiConfig({ address: { host: "127.0.0.1", port: 0 }, trustedProxies: ["127.0.0.1"] }),
    deps: () => rig.deps,
    registry: new Registry(),
    requestId: randomUUID,
  });
});
after(async () => {
  await server.close();
  await rig.close();
  await upstream.close();
});

const forwardAuth = (uri: string, session: number) =>
  sendRequest(server.address?.port ?? 0, {
    path: "/forward-auth",
    session,
    headers: {
      accept: "application/json",
      "x-forwarded-method": "GET",
      "x-forwarded-proto": "http",
      "x-forwarded-host": "app.localhost",
      "x-forwarded-uri": uri,
      "x-forwarded-for": "203.0.113.9",
    },
  });

test("the upstream of a person with 5,000 groups gets the groups of the route's policy within 16 KB", async () => {
  assert.equal((await rig.request({ path: "/", session: 1 })).status, 200);
  const { rawHeaders } = upstream.seen.at(-1) ?? assert.fail("the upstream was not reached");
  const [assertion = ""] = valuesOf(rawHeaders, "x-pomerium-jwt-assertion");
  assert.deepEqual(valuesOf(rawHeaders, "x-pomerium-claim-groups"), [policyGroup]);
  assert.deepEqual(valuesOf(rawHeaders, "x-assertion-copy"), [`Bearer ${assertion}`]);
  const claims = decodeJwt(assertion);
  assert.deepEqual([claims["groups"], claims["groups_omitted"]], [[policyGroup], 4_999]);
  assert.ok(rawHeaders.join("").length < 16_384);
});

test("a person with few groups gets the usual headers, without the claim that lists omissions", async () => {
  assert.equal((await rig.request({ path: "/", session: 2 })).status, 200);
  const { rawHeaders } = upstream.seen.at(-1) ?? assert.fail("the upstream was not reached");
  const claims = decodeJwt(valuesOf(rawHeaders, "x-pomerium-jwt-assertion")[0] ?? "");
  assert.deepEqual([claims["groups"], claims["groups_omitted"]], [["eng"], undefined]);
});

test("an identity that exceeds the limit anyway is denied with its reason, and nothing reaches the upstream", async () => {
  const seen = upstream.seen.length;
  for (const [path, session] of [
    ["/filtered", 1],
    ["/", 3],
  ] as const) {
    const page = await rig.request({ path, session, headers: { accept: "text/html", "sec-fetch-mode": "navigate" } });
    assert.equal(page.status, 403);
    assert.match(page.body, /Too many groups/);
    assert.match(page.body, /ERR_AUTH_IDENTITY_TOO_LARGE/);
    const { result, status, reasons } = rig.records.at(-1) ?? assert.fail("there is no decision record");
    assert.deepEqual([result, status, reasons], ["deny", 403, ["identity-too-large"]]);
  }
  assert.equal(upstream.seen.length, seen);
});

test("decisions for another proxy obey the same limit", async () => {
  const permitted = await forwardAuth("/", 1);
  assert.equal(permitted.status, 200);
  assert.equal(permitted.headers["x-pomerium-claim-groups"], policyGroup);
  assert.equal(decodeJwt(String(permitted.headers["x-pomerium-jwt-assertion"]))["groups_omitted"], 4_999);
  for (const [path, session] of [
    ["/filtered", 1],
    ["/", 3],
  ] as const) {
    const refused = await forwardAuth(path, session);
    assert.equal(refused.status, 403);
    assert.equal(refused.headers["x-pomerium-jwt-assertion"], undefined);
    assert.match(refused.body, /Too many groups/);
    const { result, reasons } = rig.records.at(-1) ?? assert.fail("there is no decision record");
    assert.deepEqual([result, reasons], ["deny", ["identity-too-large"]]);
  }
});
