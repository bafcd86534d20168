/** Envoy's `ext_authz` over gRPC, called by a gRPC client as Envoy calls it. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { status } from "@grpc/grpc-js";
import { signInChallenge } from "../../../src/auth/index.ts";
import type { DownstreamMtls } from "../../../src/config/index.ts";
import type { Epoch, Hash, Link, Position } from "../../../src/events/index.ts";
import type { DecisionApiDeps } from "../../../src/proxy/index.ts";
import { sessionId } from "../../events/support.ts";
import { type Attributes, type Checked, type EnvoyClient, written } from "../../support/envoy-client.ts";
import { Authority, type Issued } from "../../support/pki.ts";
import { waitFor } from "../../support/wait-for.ts";
import {
  cookieOf,
  engOnly,
  groupChanged,
  publicAccess,
  type Rig,
  routeTo,
  sessionRevoked,
  signedIn,
  startRig,
} from "../support.ts";
import { about, type CheckRequest, Started, statusOf } from "./ext-authz-support.ts";

const started = new Started();
let authority: Authority;
let other: Authority;
let server: Issued;
let rig: Rig;
/** In plaintext, from a trusted loopback address. */
let envoy: EnvoyClient;

const policy = (ppl: unknown) => ({
  allowAnyAuthenticatedUser: false,
  policy: { ppl, location: { file: "cardea.yaml", line: 1, column: 1 } },
});

before(async () => {
  [authority, other] = [await Authority.root("one"), await Authority.root("two")];
  server = await authority.issue({ hosts: ["localhost"], addresses: ["127.0.0.1"] });
  const downstreamMtls: DownstreamMtls = {
    ...{ ca: null, crl: null, enforcement: "policy", matchSubjectAltNames: [], maxVerifyDepth: 1 },
  };
  rig = await startRig(
    [
      routeTo(1, { ...publicAccess, match: { kind: "prefix", value: "/public" }, passIdentityHeaders: true }),
      routeTo(1, { ...engOnly, match: { kind: "prefix", value: "/eng" }, staleGraceMs: 0 }),
      routeTo(1, {
        ...policy({ allow: { and: [{ source_ip: "203.0.113.0/24" }] } }),
        match: { kind: "prefix", value: "/near" },
      }),
      routeTo(1, {
        ...policy([{ allow: { and: [{ accept: true }] } }, { deny: { or: [{ invalid_client_certificate: true }] } }]),
        match: { kind: "prefix", value: "/certified" },
        clientCa: authority.pem,
      }),
      routeTo(1, { passIdentityHeaders: true }),
    ],
    { config: { downstreamMtls } },
  );
  await rig.apply(signedIn(1), signedIn(2), signedIn(3), groupChanged({ added: [1] }));
  envoy = started.clientOf(await started.serve(() => rig.deps));
});
after(async () => {
  await started.end();
  await rig.close();
});

const check = (parts: CheckRequest = {}): Promise<Checked> => envoy.check(about(parts));
test("a permit carries the identity, and removes every header that could be mistaken for it", async () => {
  const spoofed = {
    "x-pomerium-jwt-assertion": "forged",
    "x-pomerium-claim-email": "mallory@example.com",
    "x.pomerium.claim.email": "mallory@example.com",
    "x-pomerium-jwt-assertion-for": "forged",
    "x-nick": "mallory",
    "remote-user": "mallory",
    "impersonate-user": "mallory",
    "x-forwarded-for": "203.0.113.9",
    "x-request-id": "given-by-envoy",
    accept: "text/html",
  };
  const permitted = await check({
    path: "/a?pomerium_session=s9&b=c",
    headers: { ...spoofed, cookie: `theirs=1; ${cookieOf(1)}; more=2` },
  });
  assert.equal(statusOf(permitted), 200);
  const set = written(permitted.okResponse?.headers);
  assert.match(set["x-pomerium-jwt-assertion"] ?? "", /^ey/);
  assert.equal(set["x-pomerium-claim-email"], "user1@example.com");
  assert.equal(set["cookie"], "theirs=1; more=2", "the session cookie is removed");
  const removed = new Set(permitted.okResponse?.headersToRemove);
  for (const name of Object.keys(spoofed)) {
    const isEnvoysOwn = name === "x-forwarded-for" || name === "x-request-id" || name === "accept";
    assert.equal(removed.has(name) || name in set, !isEnvoysOwn, name);
  }
  for (const name of removed) assert.ok(!(name in set), "Envoy removes headers after it has set others");
  assert.deepEqual(permitted.okResponse?.queryParametersToRemove, ["pomerium_session"]);
  const {
    requestId,
    result,
    ip,
    sessionId: recordedSession,
    path,
  } = rig.records.at(-1) ?? assert.fail("there is no decision record");
  assert.deepEqual(
    [requestId, result, ip, recordedSession, path],
    ["given-by-envoy", "permit", "203.0.113.9", sessionId(1), "/a"],
  );
  const { fields } = permitted.dynamicMetadata ?? assert.fail("there is no metadata for Envoy's log");
  assert.equal(fields["route"]?.stringValue, "app.localhost/");
  assert.equal(fields["configuration"]?.stringValue, "test-config");

  const withoutIdentity = await check({ path: "/eng", session: 1, headers: spoofed });
  assert.equal(statusOf(withoutIdentity), 200);
  assert.deepEqual(written(withoutIdentity.okResponse?.headers), {});
  for (const name of ["x-pomerium-jwt-assertion", "x-pomerium-claim-email", "x-pomerium-claim-groups", "cookie"])
    assert.ok(withoutIdentity.okResponse?.headersToRemove?.includes(name), name);
  const credential = await check({ path: "/eng", headers: { authorization: "Pomerium s1" } });
  assert.ok(credential.okResponse?.headersToRemove?.includes("authorization"));
  const ownCredential = await check({ path: "/public", headers: { authorization: "Basic dGhlaXJz" } });
  assert.ok(
    !ownCredential.okResponse?.headersToRemove?.includes("authorization"),
    "the upstream's own credential is not removed",
  );
});

test("each denial has the status, headers and body of the proxy's own response", async () => {
  const browser = { "sec-fetch-mode": "navigate", accept: "text/html" };
  const visit = await check({ path: "/a?b=c", headers: browser });
  assert.equal(visit.status.code, status.UNAUTHENTICATED);
  assert.equal(statusOf(visit), 302);
  assert.equal(
    written(visit.deniedResponse?.headers)["location"],
    `http://app.localhost/.pomerium/sign_in?pomerium_redirect_uri=${encodeURIComponent("http://app.localhost/a?b=c")}`,
  );
  const script = await check({ headers: { "sec-fetch-mode": "cors" } });
  assert.equal(statusOf(script), 401);
  assert.equal(written(script.deniedResponse?.headers)["www-authenticate"], signInChallenge);

  const refused = await check({ path: "/eng", session: 2, headers: { accept: "application/json" } });
  assert.deepEqual([statusOf(refused), refused.status.code], [403, status.PERMISSION_DENIED]);
  assert.equal(written(refused.deniedResponse?.headers)["content-type"], "application/json");
  assert.ok(JSON.parse(refused.deniedResponse?.body ?? ""));
  assert.ok(rig.records.at(-1)?.trace, "the trace is recorded");
  const page = await check({ path: "/eng", session: 2, headers: browser });
  assert.match(page.deniedResponse?.body ?? "", /^<html>/);
  assert.equal(statusOf(await check({ host: "other.localhost", session: 1 })), 404);
  assert.equal(statusOf(await check({ path: "/certified" })), 495);

  const call = await check({
    path: "/eng/Service/Call",
    method: "POST",
    session: 2,
    headers: { "content-type": "application/grpc" },
  });
  assert.equal(statusOf(call), 403);
  const { "grpc-status": code, "content-type": type } = written(call.deniedResponse?.headers);
  assert.deepEqual([code, type, call.deniedResponse?.body], ["7", "application/grpc", ""]);

  rig.lease.overdueMs = 10;
  const stale = await check({ path: "/eng", session: 1 });
  assert.deepEqual([statusOf(stale), stale.status.code], [503, status.UNAVAILABLE]);
  assert.equal(written(stale.deniedResponse?.headers)["retry-after"], "1");
  assert.equal(statusOf(await check({ session: 1 })), 200, "within the grace of its route");
  rig.lease.overdueMs = -1_000;
  await rig.apply(sessionRevoked(3));
  assert.equal(statusOf(await check({ session: 3, headers: { "sec-fetch-mode": "cors" } })), 401);
});

test("a request with a missing or contradictory part is not permitted", async () => {
  const before = rig.records.length;
  for (const missing of ["method", "path", "host", "scheme"] as const)
    assert.equal(statusOf(await check({ path: "/public", [missing]: "" })), 400, missing);
  assert.deepEqual(
    rig.records.slice(before).map(({ result, status, reasons }) => [result, status, reasons[0]]),
    [":method", ":path", ":authority", ":scheme"].map((reason) => ["bad_request", 400, reason]),
  );
  const known = about({ path: "/public" });
  for (const attributes of [
    null,
    {},
    { source: known.source },
    { request: known.request },
    { ...known, source: { address: { pipe: { path: "/tmp/socket" } } } },
    { ...known, source: { address: { socketAddress: { address: "nonsense" } } } },
    { ...known, source: { ...known.source, certificate: "nonsense" } },
  ])
    assert.equal(statusOf(await envoy.check(attributes as Attributes | null)), 400, JSON.stringify(attributes));
  const twoWays: CheckRequest[] = [
    { headers: { ":path": "/" } },
    { headers: { ":method": "POST" } },
    { headers: { ":authority": "other.localhost" } },
    { headers: { host: "other.localhost" } },
    { headers: { ":scheme": "https" } },
    { query: "a=b" },
    { fragment: "x" },
    { headers: { "x-a": "1\r\nx-b: 2" } },
    { headers: { "x a": "1" } },
    { scheme: "https" },
    { method: "CONNECT" },
  ];
  for (const parts of twoWays)
    assert.equal(statusOf(await check({ path: "/public", ...parts })), 400, JSON.stringify(parts));
  const odd = [
    "//public",
    "/public/../eng",
    "/public/%2e%2e/eng",
    "/%70ublic",
    "/public\\x",
    "/.pomerium/user",
    "public",
    "/public#x",
  ];
  for (const path of odd) assert.equal(statusOf(await check({ path, session: 1 })), 400, path);
  assert.equal(statusOf(await check({ path: "/public?a=%" })), 200, "a query is not normalized");
});

test("headers listed separately count like joined ones; both forms together are refused, and so is a repeated single-value header", async () => {
  const line = (name: string, value: string) => ({ key: name, rawValue: Buffer.from(value, "latin1") });
  const raw = (path: string, ...headers: ReturnType<typeof line>[]): CheckRequest => ({ path, headerMap: { headers } });
  const cookie = line("cookie", cookieOf(1));
  assert.equal(statusOf(await check(raw("/eng", line(":path", "/eng"), cookie))), 200);
  assert.equal(statusOf(await check(raw("/eng", line("cookie", cookieOf(2))))), 403);
  assert.equal(statusOf(await check(raw("/eng", line(":path", "/public"), cookie))), 400);
  assert.equal(
    statusOf(await check(raw("/eng", { key: "cookie", rawValue: Buffer.from("a"), value: "b" } as never))),
    400,
  );
  assert.equal(statusOf(await check(raw("/eng", line("authorization", "Pomerium s1")))), 200);
  const twice = raw("/eng", line("authorization", "Pomerium s2"), line("authorization", "Pomerium s1"));
  assert.equal(statusOf(await check(twice)), 400);
  const hosts = raw("/public", line("host", "app.localhost"), line("host", "other.localhost"));
  assert.equal(statusOf(await check(hosts)), 400);
  const both = about({ path: "/public" });
  const http = { ...both.request?.http, headerMap: { headers: [cookie] } };
  assert.equal(statusOf(await envoy.check({ ...both, request: { http } })), 400);
});

test("the caller's address is the peer of Envoy, or the address that a trusted proxy in front of it reports", async () => {
  const decideNear = async (ip: string, forwarded?: string) =>
    statusOf(
      await check({ path: "/near", ip, headers: forwarded === undefined ? {} : { "x-forwarded-for": forwarded } }),
    );
  assert.equal(await decideNear("203.0.113.7"), 200);
  assert.equal(await decideNear("198.51.100.1", "203.0.113.7"), 403, "the claim of an untrusted peer is ignored");
  assert.equal(await decideNear("10.9.1.1", "203.0.113.7"), 200);
  assert.equal(await decideNear("10.9.1.1", "198.51.100.1, 203.0.113.7, 10.9.1.1"), 200);
  assert.equal(await decideNear("10.9.1.1", "203.0.113.7, 198.51.100.1"), 403);
  assert.equal(await decideNear("10.9.1.1", "203.0.113.7, nonsense"), 400);
  assert.equal(await decideNear("10.9.1.1"), 403);
});

test("a client certificate that Envoy verified counts if the authority of the route issued it", async () => {
  const alice = await authority.issue({ usage: "client", name: "alice" });
  const stranger = await other.issue({ usage: "client", name: "alice" });
  const decisionFor = async (certificate: string | undefined) => {
    const answer = await check({ path: "/certified", ...(certificate === undefined ? {} : { certificate }) });
    return [statusOf(answer), rig.records.at(-1)?.reasons];
  };
  assert.equal((await decisionFor(alice.cert))[0], 200);
  assert.deepEqual(await decisionFor(stranger.cert), [495, ["invalid-client-certificate"]]);
  assert.deepEqual(
    await decisionFor(server.cert),
    [495, ["invalid-client-certificate"]],
    "a certificate for servers only",
  );
  assert.deepEqual(await decisionFor(undefined), [495, ["client-certificate-required"]]);
});

test("a check that its caller cancels is dropped, and leaves no record", async () => {
  const link: Link = { epoch: 1 as Epoch, position: 99 as Position, hash: "0".repeat(64) as Hash };
  const waiting: (() => void)[] = [];
  let isReached = false;
  const catchUp: DecisionApiDeps["catchUp"] = () =>
    new Promise((resolve) => {
      if (isReached) resolve("reached");
      else waiting.push(() => resolve("reached"));
    });
  const slow = await startRig([routeTo(1)], { needs: link, deps: { catchUp } });
  started.onEnd(() => slow.close());
  await slow.apply(signedIn(1));
  const client = started.clientOf(await started.serve(() => slow.deps));
  const cancelled = client.check(about({ session: 1 }), {
    called: (call) => void waitFor("the check to wait", async () => waiting.length === 1).then(() => call.cancel()),
  });
  await assert.rejects(cancelled, { code: status.CANCELLED });
  const late = client.check(about({ session: 1 }), { options: { deadline: Date.now() + 500 } });
  await assert.rejects(late, { code: status.DEADLINE_EXCEEDED });
  isReached = true;
  // On the same connection, so once this call is answered, the dropped ones have been processed.
  assert.equal(statusOf(await client.check(about({ session: 1 }))), 200);
  for (const release of waiting) release();
  assert.equal(await client.health(), 1);
  assert.deepEqual(
    slow.records.map(({ result }) => result),
    ["permit"],
  );
});

test("a message above the limit is refused, and a long one below it is not", async () => {
  const long = await check({
    path: "/public",
    body: "x".repeat(500_000),
    headers: { cookie: `a=${"x".repeat(60_000)}` },
  });
  assert.equal(statusOf(long), 200);
  await assert.rejects(check({ path: "/public", body: "x".repeat(1_100_000) }), { code: status.RESOURCE_EXHAUSTED });
});

test("health is SERVING if this node may decide about any route", async () => {
  assert.equal(await envoy.health(), 1);
  rig.lease.overdueMs = Number.POSITIVE_INFINITY;
  assert.equal(await envoy.health(), 2);
  rig.lease.overdueMs = -1_000;
});
