/** Sign-in across hosts that depend on each other, and one trace for each sign-in. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { startOtlpReceiver } from "../../support/otlp-receiver.ts";
import { waitFor } from "../../support/wait-for.ts";
import { echoOf, follow, type Installation, startInstallation } from "./installation.ts";

const everyone = { allow_any_authenticated_user: true, pass_identity_headers: true };
const second = { idp_client_id: "second", idp_client_secret: "the client secret of second" };

const start = (t: TestContext): Promise<Installation> =>
  startInstallation(t, ({ url, upstream }) => ({
    routes: [
      { from: url("app"), to: upstream, ...everyone },
      { from: url("own"), to: upstream, ...everyone, ...second },
      {
        from: url("front"),
        to: upstream,
        ...everyone,
        depends_on: [url("api"), `own.localhost:${new URL(url("x")).port}`],
      },
      { from: url("api"), to: upstream, ...everyone },
    ],
  }));

test("a sign-in to a route passes through the hosts it depends on, and signs in there too", async (t) => {
  const at = await start(t);
  const visitor = at.visitor();
  const { hops, end } = await follow(visitor, at.url("front", "/page?a=1"));
  assert.equal(echoOf(end).url, "/page?a=1");
  const callbacks = hops.filter(({ pathname }) => pathname === "/.pomerium/callback/").map(({ hostname }) => hostname);
  assert.deepEqual(callbacks, ["front.localhost", "api.localhost", "own.localhost"]);
  for (const host of ["front", "api", "own"]) echoOf(await visitor.request(at.url(host)));
  // Each host has its own handle: the cookie of one host is not valid on another.
  const cookie = visitor.cookieHeader(new URL(at.url("front")));
  assert.equal((await at.visitor().request(at.url("api"), { headers: { cookie } })).status, 302);
  // A host that no route depends on is not signed in.
  assert.equal((await visitor.request(at.url("app"))).status, 302);
});

test("a sign-in link through other hosts is refused unless this installation signed it and its target is a route", async (t) => {
  const at = await start(t);
  const to = encodeURIComponent(at.url("front"));
  const hosts = encodeURIComponent(new URL(at.url("api")).host);
  const link = at.url("api", `/.pomerium/sign_in?pomerium_redirect_uri=${to}&pomerium_additional_hosts=${hosts}`);
  assert.equal((await at.visitor().request(link)).status, 400);

  const visitor = at.visitor();
  const { hops } = await follow(visitor, at.url("front"));
  const through = hops.find(
    ({ hostname, pathname }) => hostname === "api.localhost" && pathname === "/.pomerium/sign_in",
  );
  assert.ok(through !== undefined);
  const elsewhere = new URL(through);
  elsewhere.searchParams.set("pomerium_redirect_uri", "https://evil.example.com/");
  assert.equal((await visitor.request(elsewhere)).status, 400);
  // A callback made for one browser does not sign in another.
  const callback = hops.find(
    ({ hostname, pathname }) => hostname === "api.localhost" && pathname === "/.pomerium/callback/",
  );
  assert.ok(callback !== undefined);
  const other = at.visitor();
  assert.equal((await other.request(callback)).status, 400);
  assert.equal((await other.request(at.url("api"))).status, 302);
});

test("a sign-in is one trace, from the first redirect to the last", async (t) => {
  const at = await start(t);
  const visitor = at.visitor();
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const first = await visitor.request(at.url("front"), { headers: { traceparent, tracestate: "vendor=1" } });
  assert.equal(first.location?.searchParams.get("pomerium_traceparent"), traceparent);
  assert.equal(first.location?.searchParams.get("pomerium_tracestate"), "vendor=1");
  const { hops } = await follow(visitor, String(first.location));
  const atProvider = hops.find(({ hostname, pathname }) => hostname === "idp.localhost" && pathname === "/auth");
  assert.ok(atProvider?.searchParams.get("state")?.endsWith(`~${traceparent}`));
  const ownSteps = hops.filter(({ pathname }) => /^\/\.pomerium\/(?:sign_in|callback\/)$/.test(pathname));
  assert.ok(ownSteps.length >= 7);
  for (const { searchParams, href } of ownSteps)
    assert.equal(searchParams.get("pomerium_traceparent"), traceparent, href);
  // A malformed trace context is not forwarded.
  const malformed = await at.visitor().request(at.url("front"), { headers: { traceparent: "00-nonsense" } });
  assert.equal(malformed.location?.searchParams.has("pomerium_traceparent"), false);
});

test("with a collector, every request of a sign-in is a span of one trace, a child of the request that redirected there", async (t) => {
  await using collector = await startOtlpReceiver();
  const at = await startInstallation(t, ({ url, upstream }) => ({
    otel_traces_exporter: "otlp",
    otel_exporter_otlp_endpoint: collector.url,
    otel_exporter_otlp_protocol: "http/json",
    otel_bsp_schedule_delay: 50,
    routes: [{ from: url("front"), to: upstream, ...everyone }],
  }));
  const { hops, end } = await follow(at.visitor(), at.url("front"));
  assert.equal(end.status, 200);
  const requests = hops.filter(({ hostname }) => hostname !== "idp.localhost").slice(0, -1);
  /** The paths of the spans from the root, each span a child of the one before. */
  const chain = (): readonly string[] => {
    const paths: string[] = [];
    for (let parent = ""; ; ) {
      const next = collector.spans.find(
        ({ traceId, parentSpanId }) => (parentSpanId ?? "") === parent && (parent !== "" || traceId === rootTrace()),
      );
      if (next === undefined) return paths;
      paths.push(String(next.attributes["url.path"]));
      parent = next.spanId;
    }
  };
  /** The trace id of the sign-in, by its request to the authenticate host. */
  const rootTrace = (): string | undefined =>
    collector.spans.find(({ attributes }) => attributes["url.path"] === "/oauth2/callback")?.traceId;
  const expected = requests.map(({ pathname }) => pathname);
  await waitFor("one chain of spans", () => JSON.stringify(chain()) === JSON.stringify(expected));
});
