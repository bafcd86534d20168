/** Observability of requests: metrics of each route, the access log, and the request id that connects them. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";
import { after, describe, test } from "node:test";
import type { AccessLogField, Config, RouteConfig } from "../../src/config/index.ts";
import { durationBounds, RouteMeters } from "../../src/proxy/observe/route-meters.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  cookieOf,
  engOnly,
  groupChanged,
  publicAccess,
  type Rig,
  routeTo,
  signedIn,
  startRig,
  startUpstream,
  type Upstream,
  valuesOf,
} from "./support.ts";

const cleanUps: (() => Promise<unknown>)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

type Started = Readonly<{ rig: Rig; upstream: Upstream; lines: Record<string, unknown>[]; texts: string[] }>;

async function start(
  parts: Readonly<{
    fields?: readonly AccessLogField[];
    handler?: Parameters<typeof startUpstream>[0];
    routes?: (port: number) => readonly RouteConfig[];
    config?: Partial<Config>;
  }> = {},
): Promise<Started> {
  const upstream = await startUpstream(parts.handler);
  const texts: string[] = [];
  const lines: Record<string, unknown>[] = [];
  const write = (line: string): boolean => {
    texts.push(line);
    lines.push(JSON.parse(line));
    return true;
  };
  const rig = await startRig(parts.routes?.(upstream.port) ?? [routeTo(upstream.port, { name: "the app" })], {
    config: { accessLogFields: parts.fields ?? everyField, ...parts.config },
    deps: { accessLog: { write, probes: false } },
  });
  await rig.apply(signedIn(1), signedIn(2), groupChanged({ added: [1] }));
  cleanUps.push(upstream.close, () => rig.close());
  return { rig, upstream, lines, texts };
}

const everyField: readonly AccessLogField[] = [
  ...(["upstream-cluster", "cluster-stat-name", "method", "authority", "path", "query", "user-agent"] as const),
  ...(["referer", "forwarded-for", "ip", "request-id", "duration", "size", "received", "response-code"] as const),
  ...(["response-code-details", "failure", "kind", "route-id", "upstream-duration", "headers"] as const),
];

const valueIn = (metrics: string, line: string): string | undefined =>
  new RegExp(`^${line.replace(/[.{}+/|]/g, "\\$&")} (\\S+)$`, "m").exec(metrics)?.[1];

describe("the metrics of a route", () => {
  test("count responses, failures, time, bytes and requests in flight, with bounded labels", async () => {
    const { rig } = await start({
      handler: (req, res) => {
        req.resume();
        req.on("end", () => res.end("twelve bytes"));
      },
    });
    await rig.request({ session: 1, path: "/a", method: "POST", body: "hello" });
    await rig.request({ session: 1, path: "/b" });
    await rig.request({ path: "/c" });
    await rig.request({ host: "unknown.localhost" });
    await rig.sendRaw("GET /%2f HTTP/1.1\r\nHost: x\r\n\r\n");
    const metrics = await rig.metrics();
    const app = (name: string, more = "") => valueIn(metrics, `cardea_proxy_${name}{route="app.localhost/"${more}}`);
    assert.equal(app("requests_total", ',status="2xx"'), "2");
    assert.equal(app("requests_total", ',status="3xx"'), "1");
    assert.equal(valueIn(metrics, 'cardea_proxy_requests_total{route="none",status="4xx"}'), "2");
    assert.equal(valueIn(metrics, 'cardea_proxy_refused_requests_total{reason="encoded-separator"}'), "1");
    assert.equal(app("request_failures_total", ',reason="no-session"'), "1");
    assert.equal(valueIn(metrics, 'cardea_proxy_request_failures_total{route="none",reason="no-route"}'), "1");
    assert.equal(valueIn(metrics, 'cardea_proxy_request_failures_total{route="none",reason="bad-request"}'), "1");
    assert.equal(app("requests_in_flight"), "0");
    assert.equal(app("request_duration_seconds_count"), "3");
    assert.equal(app("request_duration_seconds_bucket", ',le="+Inf"'), "3");
    assert.equal(app("upstream_duration_seconds_count"), "2");
    assert.ok(Number(app("upstream_duration_seconds_sum")) > 0);
    assert.equal(app("received_bytes_total"), "5");
    assert.ok(Number(app("sent_bytes_total")) >= 24);
    assert.equal(valueIn(metrics, "cardea_proxy_lease_overdue_seconds"), "-1");
  });

  test("show a request in flight, and why a request got no response from its upstream", async () => {
    const { rig, upstream } = await start({ handler: (req, res) => req.url === "/ok" && res.end("ok") });
    const inFlight = async (): Promise<string | undefined> =>
      valueIn(await rig.metrics(), 'cardea_proxy_requests_in_flight{route="app.localhost/"}');
    const socket = connect(rig.port, "127.0.0.1");
    socket.on("error", () => {});
    socket.write(`GET /hangs HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\n\r\n`);
    await waitFor("the request to arrive at the upstream", () => upstream.seen.length === 1);
    assert.equal(await inFlight(), "1");
    socket.destroy();
    await waitFor("the request to end", async () => (await inFlight()) === "0");
    await upstream.close();
    assert.equal((await rig.request({ session: 1 })).status, 503);
    const metrics = await rig.metrics();
    const failed = (reason: string) =>
      valueIn(metrics, `cardea_proxy_request_failures_total{route="app.localhost/",reason="${reason}"}`);
    assert.equal(failed("client-left"), "1");
    assert.equal(failed("upstream-unreachable"), "1");
    assert.equal(valueIn(metrics, 'cardea_proxy_requests_total{route="app.localhost/",status="0xx"}'), "1");
  });

  test("a response that is cut counts as cut; one that the upstream breaks off counts as the upstream's failure", async () => {
    const { rig } = await start({
      routes: (port) => [routeTo(port, engOnly)],
      handler: (req, res) => {
        res.writeHead(200, { "content-length": "100" });
        res.write("begun", () => req.url === "/breaks" && res.destroy());
      },
    });
    const begin = (path: string): Socket => {
      const socket = connect(rig.port, "127.0.0.1");
      socket.on("error", () => {});
      socket.write(`GET ${path} HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\n\r\n`);
      return socket;
    };
    begin("/breaks").resume();
    const going = begin("/goes-on");
    let received = "";
    going.on("data", (chunk) => {
      received += chunk;
    });
    const failed = async (reason: string) =>
      valueIn(await rig.metrics(), `cardea_proxy_request_failures_total{route="app.localhost/",reason="${reason}"}`);
    await waitFor("the upstream's failure", async () => (await failed("upstream-broke")) === "1");
    await waitFor("the response to begin", () => received.endsWith("begun"));
    await rig.apply(groupChanged({ removed: [1] }));
    await waitFor("the cut", async () => (await failed("cut")) === "1");
  });

  test("responses of the proxy's own handlers are no failures, over HTTP/1.1 and HTTP/2", async () => {
    const { rig } = await start();
    await rig.request({ path: "/.pomerium/user" });
    const session = connectHttp2(`http://127.0.0.1:${rig.port}`);
    const stream = session.request({ ":path": "/.pomerium/user", ":authority": "app.localhost" });
    stream.resume();
    await once(stream, "close");
    session.close();
    const value = async (line: string) => valueIn(await rig.metrics(), line);
    await waitFor(
      "both requests",
      async () => (await value('cardea_proxy_requests_total{route="none",status="2xx"}')) === "2",
    );
    assert.doesNotMatch(await rig.metrics(), /request_failures_total\{/);
  });

  test("have cumulative buckets, and count the routes beyond the limit as one", () => {
    const meters = new RouteMeters();
    const meter = meters.of('odd"\\\n');
    for (const seconds of [0.0005, 0.001, 0.0011, 29, 31]) meter.observeDuration(seconds * 1_000);
    const text = [...meters.text()].join("");
    const name = 'cardea_proxy_request_duration_seconds_bucket{route="odd\\"\\\\\\n",le=';
    const counts = [...durationBounds, "+Inf"].map((bound) => text.split(`${name}"${bound}"} `)[1]?.split("\n")[0]);
    assert.deepEqual([counts[0], counts[1], counts.at(-2), counts.at(-1)], ["2", "3", "4", "5"]);
    assert.match(text, /_duration_seconds_sum\{route="odd\\"\\\\\\n"\} 60\.0026/);
    for (let i = 0; i < 20_010; i++) meters.of(`route-${i}`).answered(200);
    assert.equal(meters.of("one more"), meters.of("other"));
    assert.match([...meters.text()].join(""), /requests_total\{route="other",status="2xx"\} 1\d\n/);
  });
});

describe("the access log", () => {
  test("has one line per request, with the configured fields", async () => {
    const { rig, lines } = await start();
    const headers = { "user-agent": "test", referer: "http://app.localhost/from?pomerium_session=s1", "x-own": "1" };
    const answer = await rig.request({ session: 1, path: "/a%20b?x=1&pomerium_session=s1", headers });
    await waitFor("the line", () => lines.length === 1);
    const { time, duration, size, headers: shown, "upstream-duration": upstreamDuration, ...rest } = lines[0] ?? {};
    assert.ok(Math.abs(Date.parse(String(time)) - Date.now()) < 60_000);
    assert.ok(Number(duration) > 0 && Number(upstreamDuration) > 0 && Number(size) === answer.body.length);
    assert.deepEqual(shown, {
      host: "app.localhost",
      "user-agent": "test",
      referer: "http://app.localhost/from",
      "x-own": "1",
      accept: "text/html",
      connection: "close",
    });
    assert.deepEqual(rest, {
      ...{ level: "info", service: "envoy", message: "http-request" },
      ...{ "upstream-cluster": "route-app.localhost/", "cluster-stat-name": "the app", "route-id": "app.localhost/" },
      ...{
        method: "GET",
        authority: "app.localhost",
        path: "/a%20b",
        query: "x=1",
        "user-agent": "test",
        kind: "http",
      },
      ...{ referer: "http://app.localhost/from", "forwarded-for": "127.0.0.1", ip: "127.0.0.1", received: 0 },
      ...{
        "request-id": answer.headers["x-request-id"],
        "response-code": 200,
        "response-code-details": "via_upstream",
      },
    });
  });

  test("never contains a credential, in any field", async () => {
    const { rig, texts } = await start({
      fields: [...everyField, "headers.Cookie", "headers.Authorization", "headers.X-Own"],
    });
    await rig.request({
      session: 1,
      path: "/?pomerium%5fsession=secret&a=1",
      headers: {
        authorization: "Basic secret",
        "x-pomerium-authorization": "secret",
        referer: "http://x/?token=secret",
        "x-own": 'quoted " and\ttabbed',
        "sec-websocket-protocol": "base64url.bearer.authorization.k8s.io.secret, v4.channel.k8s.io",
        ...{ "private-token": "secret", "x-api-key": "secret", "x-csrf-value": "secret" },
      },
    });
    await waitFor("the line", () => texts.length === 1);
    await rig.request({ path: "/.pomerium/callback/?code=secret&pomerium_signature=secret" });
    await waitFor("the second line", () => texts.length === 2);
    assert.match(texts[1] ?? "", /"query":""/);
    assert.doesNotMatch(texts.join(""), /secret|_pomerium|s1/);
    assert.equal(JSON.parse(texts[0] ?? "")["headers.X-Own"], 'quoted " and\ttabbed');
  });

  test("names the reason when no upstream answered", async () => {
    const { rig, lines } = await start({
      fields: ["path", "response-code", "response-code-details", "failure", "size"],
      routes: (port) => [
        routeTo(1, { host: "gone.localhost", ...publicAccess }),
        routeTo(port, { host: "fixed.localhost", ...publicAccess, response: { status: 200, body: "fixed" } }),
        routeTo(port),
      ],
    });
    const loggedAs = async (options: Parameters<Rig["request"]>[0]) => {
      const before = lines.length;
      await rig.request(options);
      await waitFor("the line", () => lines.length > before);
      const line = lines.at(-1) ?? {};
      assert.ok(Number(line["size"]) > 0 || line["response-code"] === 302);
      return [line["response-code"], line["response-code-details"], line["failure"]];
    };
    assert.deepEqual(await loggedAs({}), [302, "ext_authz_denied", "no-session"]);
    assert.deepEqual(await loggedAs({ host: "none.localhost" }), [404, "route_not_found", "no-route"]);
    assert.deepEqual(await loggedAs({ host: "fixed.localhost" }), [200, "direct_response", undefined]);
    const unreachable = "upstream_reset_before_response_started{connection_failure}";
    assert.deepEqual(await loggedAs({ host: "gone.localhost" }), [503, unreachable, "upstream-unreachable"]);
    rig.lease.overdueMs = 1e9;
    assert.deepEqual(await loggedAs({ session: 1 }), [503, "ext_authz_error", "lease"]);
  });

  test("leaves out probes, unless it is configured to have them", async () => {
    const { rig, lines } = await start();
    await rig.request({ path: "/healthz" });
    await rig.request({ path: "/a", session: 1 });
    await waitFor("the line", () => lines.length > 0);
    assert.deepEqual(
      lines.map((line) => line["path"]),
      ["/a"],
    );
  });

  test("is not written without fields; a line that does not fit into the buffer is counted", async () => {
    const none = await start({ fields: [] });
    await none.rig.request({ session: 1 });
    const full = await startRig([routeTo(none.upstream.port)], {
      config: { accessLogFields: ["path"] },
      deps: { accessLog: { write: () => false, probes: false } },
    });
    cleanUps.push(() => full.close());
    await full.request({});
    await waitFor("the count of dropped lines", async () => /access_log_dropped_total 1/.test(await full.metrics()));
    assert.equal(none.lines.length, 0);
  });
});

describe("the request id", () => {
  test("is the same in the response, at the upstream, in the decision record and in the log", async () => {
    const { rig, upstream, lines } = await start();
    const answer = await rig.request({ session: 1 });
    const id = answer.headers["x-request-id"];
    await waitFor("the line", () => lines.length === 1);
    assert.match(String(id), /^[0-9a-f-]{36}$/);
    assert.deepEqual(valuesOf(upstream.seen[0]?.rawHeaders ?? [], "x-request-id"), [id]);
    assert.deepEqual([lines[0]?.["request-id"], rig.records.at(-1)?.requestId], [id, id]);
    const denied = await rig.request({ headers: { accept: "application/json" } });
    assert.equal(JSON.parse(denied.body)["request_id"], denied.headers["x-request-id"]);
  });

  test("is taken from the caller only if a proxy in front is trusted", async () => {
    const callerId = { "x-request-id": "given-by-the-caller" };
    const plain = await start();
    assert.notEqual(
      (await plain.rig.request({ session: 1, headers: callerId })).headers["x-request-id"],
      callerId["x-request-id"],
    );
    const trusting = await start({ config: { xffNumTrustedHops: 1 } });
    const answer = await trusting.rig.request({ session: 1, headers: callerId });
    assert.equal(answer.headers["x-request-id"], callerId["x-request-id"]);
    assert.deepEqual(valuesOf(trusting.upstream.seen[0]?.rawHeaders ?? [], "x-request-id"), [callerId["x-request-id"]]);
    assert.equal(trusting.rig.records.at(-1)?.requestId, callerId["x-request-id"]);
    const invalid = await trusting.rig.request({ session: 1, headers: { "x-request-id": 'a"b c' } });
    assert.match(String(invalid.headers["x-request-id"]), /^[0-9a-f-]{36}$/);
  });
});
