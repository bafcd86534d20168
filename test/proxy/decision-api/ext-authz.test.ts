/** Envoy's `ext_authz` over gRPC, asked by a gRPC client as Envoy asks. */
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
import { type Asked, about, Started, statusOf } from "./ext-authz-support.ts";

const started = new Started();
let authority: Authority;
let other: Authority;
let server: Issued;
let rig: Rig;
/** Plain, and trusting loopback. */
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

const asked = (parts: Asked = {}): Promise<Checked> => envoy.check(about(parts));
test("a permit says who asks, and takes away whatever else could be taken for it", async () => {
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
  const permitted = await asked({
    path: "/a?pomerium_session=s9&b=c",
    headers: { ...spoofed, cookie: `theirs=1; ${cookieOf(1)}; more=2` },
  });
  assert.equal(statusOf(permitted), 200);
  const set = written(permitted.okResponse?.headers);
  assert.match(set["x-pomerium-jwt-assertion"] ?? "", /^ey/);
  assert.equal(set["x-pomerium-claim-email"], "user1@example.com");
  assert.equal(set["cookie"], "theirs=1; more=2", "our cookie stays here");
  const removed = new Set(permitted.okResponse?.headersToRemove);
  for (const name of Object.keys(spoofed)) {
    const envoys = name === "x-forwarded-for" || name === "x-request-id" || name === "accept";
    assert.equal(removed.has(name) || name in set, !envoys, name);
  }
  for (const name of removed) assert.ok(!(name in set), "Envoy removes after it has set");
  assert.deepEqual(permitted.okResponse?.queryParametersToRemove, ["pomerium_session"]);
  const { requestId, result, ip, sessionId: who, path } = rig.records.at(-1) ?? assert.fail("it is recorded");
  assert.deepEqual([requestId, result, ip, who, path], ["given-by-envoy", "permit", "203.0.113.9", sessionId(1), "/a"]);
  const { fields } = permitted.dynamicMetadata ?? assert.fail("Envoy can log it");
  assert.equal(fields["route"]?.stringValue, "app.localhost/");
  assert.equal(fields["configuration"]?.stringValue, "test-config");

  const untold = await asked({ path: "/eng", session: 1, headers: spoofed });
  assert.equal(statusOf(untold), 200);
  assert.deepEqual(written(untold.okResponse?.headers), {});
  for (const name of ["x-pomerium-jwt-assertion", "x-pomerium-claim-email", "x-pomerium-claim-groups", "cookie"])
    assert.ok(untold.okResponse?.headersToRemove?.includes(name), name);
  const credential = await asked({ path: "/eng", headers: { authorization: "Pomerium s1" } });
  assert.ok(credential.okResponse?.headersToRemove?.includes("authorization"));
  const theirs = await asked({ path: "/public", headers: { authorization: "Basic dGhlaXJz" } });
  assert.ok(!theirs.okResponse?.headersToRemove?.includes("authorization"), "the upstream's own credential is its own");
});

test("each denial has the status, headers and body that the proxy would have answered with", async () => {
  const browser = { "sec-fetch-mode": "navigate", accept: "text/html" };
  const visit = await asked({ path: "/a?b=c", headers: browser });
  assert.equal(visit.status.code, status.UNAUTHENTICATED);
  assert.equal(statusOf(visit), 302);
  assert.equal(
    written(visit.deniedResponse?.headers)["location"],
    `http://app.localhost/.pomerium/sign_in?pomerium_redirect_uri=${encodeURIComponent("http://app.localhost/a?b=c")}`,
  );
  const script = await asked({ headers: { "sec-fetch-mode": "cors" } });
  assert.equal(statusOf(script), 401);
  assert.equal(written(script.deniedResponse?.headers)["www-authenticate"], signInChallenge);

  const refused = await asked({ path: "/eng", session: 2, headers: { accept: "application/json" } });
  assert.deepEqual([statusOf(refused), refused.status.code], [403, status.PERMISSION_DENIED]);
  assert.equal(written(refused.deniedResponse?.headers)["content-type"], "application/json");
  assert.ok(JSON.parse(refused.deniedResponse?.body ?? ""));
  assert.ok(rig.records.at(-1)?.trace, "why is kept");
  const page = await asked({ path: "/eng", session: 2, headers: browser });
  assert.match(page.deniedResponse?.body ?? "", /^<html>/);
  assert.equal(statusOf(await asked({ host: "other.localhost", session: 1 })), 404);
  assert.equal(statusOf(await asked({ path: "/certified" })), 495);

  const call = await asked({
    path: "/eng/Service/Call",
    method: "POST",
    session: 2,
    headers: { "content-type": "application/grpc" },
  });
  assert.equal(statusOf(call), 403);
  const { "grpc-status": code, "content-type": type } = written(call.deniedResponse?.headers);
  assert.deepEqual([code, type, call.deniedResponse?.body], ["7", "application/grpc", ""]);

  rig.lease.overdueMs = 10;
  const stale = await asked({ path: "/eng", session: 1 });
  assert.deepEqual([statusOf(stale), stale.status.code], [503, status.UNAVAILABLE]);
  assert.equal(written(stale.deniedResponse?.headers)["retry-after"], "1");
  assert.equal(statusOf(await asked({ session: 1 })), 200, "within the grace of its route");
  rig.lease.overdueMs = -1_000;
  await rig.apply(sessionRevoked(3));
  assert.equal(statusOf(await asked({ session: 3, headers: { "sec-fetch-mode": "cors" } })), 401);
});

test("what is not said, or not in one way only, is no permit", async () => {
  for (const missing of ["method", "path", "host", "scheme"] as const)
    assert.equal(statusOf(await asked({ path: "/public", [missing]: "" })), 400, missing);
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
  const twoWays: Asked[] = [
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
    assert.equal(statusOf(await asked({ path: "/public", ...parts })), 400, JSON.stringify(parts));
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
  for (const path of odd) assert.equal(statusOf(await asked({ path, session: 1 })), 400, path);
  assert.equal(statusOf(await asked({ path: "/public?a=%" })), 200, "a query is kept as it came");
});

test("headers as they came count as headers that Envoy has joined do; both at once are refused, and so are two of what stands once", async () => {
  const line = (name: string, value: string) => ({ key: name, rawValue: Buffer.from(value, "latin1") });
  const raw = (path: string, ...headers: ReturnType<typeof line>[]): Asked => ({ path, headerMap: { headers } });
  const cookie = line("cookie", cookieOf(1));
  assert.equal(statusOf(await asked(raw("/eng", line(":path", "/eng"), cookie))), 200);
  assert.equal(statusOf(await asked(raw("/eng", line("cookie", cookieOf(2))))), 403);
  assert.equal(statusOf(await asked(raw("/eng", line(":path", "/public"), cookie))), 400);
  assert.equal(
    statusOf(await asked(raw("/eng", { key: "cookie", rawValue: Buffer.from("a"), value: "b" } as never))),
    400,
  );
  assert.equal(statusOf(await asked(raw("/eng", line("authorization", "Pomerium s1")))), 200);
  const twice = raw("/eng", line("authorization", "Pomerium s2"), line("authorization", "Pomerium s1"));
  assert.equal(statusOf(await asked(twice)), 400);
  const hosts = raw("/public", line("host", "app.localhost"), line("host", "other.localhost"));
  assert.equal(statusOf(await asked(hosts)), 400);
  const both = about({ path: "/public" });
  const http = { ...both.request?.http, headerMap: { headers: [cookie] } };
  assert.equal(statusOf(await envoy.check({ ...both, request: { http } })), 400);
});

test("the caller is whoever is connected to Envoy, or whom a trusted proxy in front of it names", async () => {
  const near = async (ip: string, forwarded?: string) =>
    statusOf(
      await asked({ path: "/near", ip, headers: forwarded === undefined ? {} : { "x-forwarded-for": forwarded } }),
    );
  assert.equal(await near("203.0.113.7"), 200);
  assert.equal(
    await near("198.51.100.1", "203.0.113.7"),
    403,
    "what a stranger says of its address counts for nothing",
  );
  assert.equal(await near("10.9.1.1", "203.0.113.7"), 200);
  assert.equal(await near("10.9.1.1", "198.51.100.1, 203.0.113.7, 10.9.1.1"), 200);
  assert.equal(await near("10.9.1.1", "203.0.113.7, 198.51.100.1"), 403);
  assert.equal(await near("10.9.1.1", "203.0.113.7, nonsense"), 400);
  assert.equal(await near("10.9.1.1"), 403);
});

test("a certificate that the caller showed to Envoy counts by the authority of the route", async () => {
  const alice = await authority.issue({ usage: "client", name: "alice" });
  const stranger = await other.issue({ usage: "client", name: "alice" });
  const shown = async (certificate: string | undefined) => {
    const answer = await asked({ path: "/certified", ...(certificate === undefined ? {} : { certificate }) });
    return [statusOf(answer), rig.records.at(-1)?.reasons];
  };
  assert.equal((await shown(alice.cert))[0], 200);
  assert.deepEqual(await shown(stranger.cert), [495, ["invalid-client-certificate"]]);
  assert.deepEqual(await shown(server.cert), [495, ["invalid-client-certificate"]], "for servers only");
  assert.deepEqual(await shown(undefined), [495, ["client-certificate-required"]]);
});

test("a question that nobody waits for any more is given up, and leaves no record", async () => {
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
    called: (call) => void waitFor("the question to wait", async () => waiting.length === 1).then(() => call.cancel()),
  });
  await assert.rejects(cancelled, { code: status.CANCELLED });
  const late = client.check(about({ session: 1 }), { options: { deadline: Date.now() + 500 } });
  await assert.rejects(late, { code: status.DEADLINE_EXCEEDED });
  isReached = true;
  // On the same connection, so that what was given up before is known to be when this is answered.
  assert.equal(statusOf(await client.check(about({ session: 1 }))), 200);
  for (const goOn of waiting) goOn();
  assert.equal(await client.health(), 1);
  assert.deepEqual(
    slow.records.map(({ result }) => result),
    ["permit"],
  );
});

test("a message that is too long is refused, and a long one is not", async () => {
  const long = await asked({
    path: "/public",
    body: "x".repeat(500_000),
    headers: { cookie: `a=${"x".repeat(60_000)}` },
  });
  assert.equal(statusOf(long), 200);
  await assert.rejects(asked({ path: "/public", body: "x".repeat(1_100_000) }), { code: status.RESOURCE_EXHAUSTED });
});

test("health says whether there is any route that this node may decide about", async () => {
  assert.equal(await envoy.health(), 1);
  rig.lease.overdueMs = Number.POSITIVE_INFINITY;
  assert.equal(await envoy.health(), 2);
  rig.lease.overdueMs = -1_000;
});
