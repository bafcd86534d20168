/**
 * Path parameters: `/area;a=b/admin` is `/area/admin` to Tomcat, Jetty and Spring. A path that matches another route or
 * another rule once a server has removed `;…` is refused, by the proxy and by every decision API alike. Encoded slashes
 * follow the same rule on a route with `allow_encoded_slashes`, and are refused on any other.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import type { IncomingMessage, ServerResponse } from "node:http";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import type { RouteConfig } from "../../../src/config/index.ts";
import type { DecisionServer } from "../../../src/proxy/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import type { EnvoyClient } from "../../support/envoy-client.ts";
import { about, Started, statusOf } from "../decision-api/ext-authz-support.ts";
import {
  engOnly,
  publicAccess,
  type Rig,
  routeTo,
  sendRequest,
  startRig,
  startUpstream,
  type Upstream,
} from "../support.ts";

/** Answers npm as a registry does, and echoes the target of any other request. */
function answer({ url }: IncomingMessage, res: ServerResponse): void {
  const tool = { name: "@acme/tool", "dist-tags": { latest: "1.2.3" } };
  const versions = { "1.2.3": { name: tool.name, version: "1.2.3", dist: { tarball: "http://localhost/tool.tgz" } } };
  res.setHeader("content-type", "application/json");
  res.end(JSON.stringify(url?.startsWith("/@acme") ? { ...tool, versions } : { url }));
}

const key = "a-key-of-at-least-32-characters-0123456789";
let rig: Rig;
let upstream: Upstream;
const started = new Started();
let decisionPort: DecisionServer;
let envoyClient: EnvoyClient;

before(async () => {
  upstream = await startUpstream(answer);
  rig = await startRig([
    routeTo(upstream.port, { ...engOnly, match: { kind: "prefix", value: "/area/admin" } }),
    routeTo(upstream.port, {
      ...{ id: "open", allowAnyAuthenticatedUser: false },
      policy: {
        ppl: { allow: { and: [{ accept: true }] }, deny: { or: [{ http_path: { starts_with: "/private/" } }] } },
        location: { file: "cardea.yaml", line: 1, column: 1 },
      },
    }),
    routeTo(upstream.port, { ...publicAccess, host: "other.localhost" }),
    ...slashRoutes(upstream.port),
  ]);
  decisionPort = await started.serve(() => rig.deps, { address: { host: "127.0.0.1", port: 0 }, keys: { wiki: key } });
  envoyClient = started.clientOf(decisionPort);
});
after(async () => {
  await started.end();
  await rig.close();
  await upstream.close();
});

const slashes = { host: "slash.localhost", allowEncodedSlashes: true } as const;
const deny = (path: object): RouteConfig["policy"] => ({
  ppl: { allow: { and: [{ accept: true }] }, deny: { or: [{ http_path: path }] } },
  location: { file: "cardea.yaml", line: 1, column: 1 },
});

/** A host with encoded slashes on some routes, and a package registry on `localhost`. */
function slashRoutes(port: number): readonly RouteConfig[] {
  const to = (id: string, parts: Partial<RouteConfig>): RouteConfig =>
    routeTo(port, { ...publicAccess, ...slashes, id, ...parts });
  const prefix = (value: string): Pick<RouteConfig, "match"> => ({ match: { kind: "prefix", value } });
  return [
    to("api", {
      ...prefix("/api/v4/"),
      ...{ allowPublicUnauthenticatedAccess: false, policy: deny({ starts_with: "/api/v4/projects/secret/" }) },
    }),
    to("regex", { match: { kind: "regex", value: "/one/[^/]+" } }),
    to("rewritten", { ...prefix("/old"), prefixRewrite: "/" }),
    to("admin", { ...prefix("/public/admin"), ...engOnly, allowPublicUnauthenticatedAccess: false }),
    to("public", prefix("/public")),
    to("strict", { ...prefix("/strict/"), allowEncodedSlashes: false }),
    to("registry", { host: "localhost" }),
    to("wildcard", { host: "*.localhost" }),
  ];
}

/** The statuses for one path from the proxy, forward-auth, Envoy's HTTP and gRPC forms, and AuthZEN. */
async function statuses(path: string, host = "app.localhost"): Promise<readonly unknown[]> {
  const port = decisionPort.address?.port ?? 0;
  const facts = { "x-forwarded-proto": "http", "x-forwarded-for": "203.0.113.9" };
  const described = { "x-forwarded-method": "GET", "x-forwarded-host": host, "x-forwarded-uri": path };
  const proxied = await sendRequest(rig.port, { path, host });
  const forwardAuth = await sendRequest(port, { path: "/forward-auth", host, headers: { ...facts, ...described } });
  const envoy = await sendRequest(port, { path: `/ext-authz${path}`, host, headers: facts });
  const grpc = statusOf(await envoyClient.check(about({ path, host })));
  const authzen = await sendRequest(port, {
    ...{ path: "/access/v1/evaluation", method: "POST" },
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({
      subject: { type: "anonymous", id: "-" },
      action: { name: "GET" },
      resource: { type: "route", id: `${host}${path}` },
    }),
  });
  const decision = authzen.status === 200 ? JSON.parse(authzen.body).decision : authzen.status;
  return [proxied.status, forwardAuth.status, envoy.status, grpc, decision];
}

test("path parameters that hide a stricter route are refused, and reach no upstream", async () => {
  for (const path of ["/area;a=b/admin/x", "/area;/admin", "/area%3Ba/admin", "/area;a%3Bb/admin"]) {
    const seen = upstream.seen.length;
    const [proxied, forwardAuth, envoy, grpc, authzen] = await statuses(path);
    assert.deepEqual([proxied, forwardAuth, envoy, grpc], [400, 403, 400, 400], path);
    assert.notEqual(authzen, true, path);
    assert.equal(upstream.seen.length, seen, path);
    assert.deepEqual(rig.records.at(-1)?.reasons, ["path-parameters"]);
  }
  const { result, reasons } = rig.records.find(({ occasion }) => occasion === "request") ?? {};
  assert.deepEqual([result, reasons], ["bad_request", ["path-parameters"]]);
  assert.match(await rig.metrics(), /reason="path-parameters"/);
});

test("path parameters that hide a path from a rule are refused too", async () => {
  const seen = upstream.seen.length;
  const [proxied, forwardAuth, envoy, grpc, authzen] = await statuses("/private;x/y");
  assert.deepEqual([proxied, forwardAuth, envoy, grpc], [400, 403, 400, 400]);
  assert.notEqual(authzen, true);
  assert.equal(upstream.seen.length, seen);
});

test("path parameters that change nothing reach the upstream unchanged", async () => {
  for (const path of ["/cars;color=red/tires;v=2", "/x;jsessionid=1", "/other;a/area/admin"]) {
    assert.deepEqual(await statuses(path), [200, 200, 200, 200, true], path);
    assert.equal(upstream.seen.at(-1)?.url, path);
  }
  assert.equal((await sendRequest(rig.port, { path: "/area/admin;x" })).status, 302, "still the stricter route");
});

test("encoded slashes reach the upstream byte for byte on a route that allows them", async () => {
  for (const path of [
    "/api/v4/projects/group%2Fproject",
    "/api/v4/projects/group%2fproject/repository/files/lib%2Fclass%2Erb/raw",
    "/api/v4/%70rojects/a%2Fb%20c%7Ed",
    "/api/v4/100%25/a%2Fb",
    "/public/a%2Fb",
  ]) {
    assert.deepEqual(await statuses(path, slashes.host), [200, 200, 200, 200, true], path);
    assert.equal(upstream.seen.at(-1)?.url, path);
    assert.equal(rig.records.findLast(({ occasion }) => occasion === "request")?.path, path);
  }
  const { body } = await sendRequest(rig.port, { host: slashes.host, path: "/public/a%2fb?c=%2F" });
  assert.equal(JSON.parse(body).url, "/public/a%2fb?c=%2F");
});

test("encoded slashes are refused where they could lead elsewhere, and reach no upstream", async () => {
  const paths = [
    ...["/strict/a%2Fb", "/nowhere%2Fx", "/public%2Fadmin", "/public%2Fadmin%2Fx", "/one/a%2Fb", "/api%2Fv4/x"],
    ...["/.pomerium%2Fuser", "/.pomerium/a%2Fb", "/%2Fpublic", "/public/%2Fadmin", "/public%2F%2Fx", "/public//a%2Fb"],
    ...["/public/x%2F..%2Fadmin", "/public/..%2Fadmin", "/public/a%2F%2E%2e%2fb", "/public/.%2Fadmin", "/old..%2Fx"],
    ...["/public%252Fadmin", "/public/a%252fb", "/public/a%2Fb%255Cc", "/public/a%2F%252E%252E", "/public/a%5Cb%2Fc"],
    ...["/public;x%2Fadmin", "/public/a%2Fb;v=1", "/public/a%2Fb%3Bc", "/public/a%2F%C0%AF", "/old%2Fx"],
  ];
  const before = upstream.seen.length;
  for (const path of paths) {
    assert.equal((await sendRequest(rig.port, { host: slashes.host, path })).status, 400, path);
    assert.equal(upstream.seen.length, before, path);
  }
  assert.equal((await sendRequest(rig.port, { host: "any.localhost", path: "/a%2Fb" })).status, 200);
  const signInHost = await sendRequest(rig.port, { host: "authenticate.localhost", path: "/a%2Fb" });
  assert.equal(signInHost.status, 400, "a wildcard route never serves the sign-in host");
});

test("encoded slashes hide no path from a rule, in any API", async () => {
  const seen = upstream.seen.length;
  for (const path of ["/api/v4/projects/secret%2Fx", "/public%2Fadmin", "/strict/a%2Fb"]) {
    const [proxied, forwardAuth, envoy, grpc, authzen] = await statuses(path, slashes.host);
    assert.deepEqual([proxied, forwardAuth, envoy, grpc], [400, 403, 400, 400], path);
    assert.notEqual(authzen, true, path);
  }
  assert.equal(upstream.seen.length, seen);
  assert.deepEqual(rig.records.at(-1)?.reasons, ["encoded-separator"]);
  assert.equal((await statuses("/api/v4/projects/secret/x", slashes.host))[0], 403, "denied by the rule itself");
});

test("npm reads a scoped package through a route that allows encoded slashes", async () => {
  using home = new TemporaryFolder("npm");
  const registry = `http://localhost:${rig.port}/`;
  const npm = promisify(execFile)("npm", ["view", "@acme/tool", "version", "--registry", registry], {
    cwd: home.path,
    env: { PATH: process.env["PATH"], HOME: home.path, npm_config_update_notifier: "false" },
  });
  assert.equal((await npm).stdout.trim(), "1.2.3");
  assert.equal(upstream.seen.at(-1)?.url, "/@acme%2ftool");
});
