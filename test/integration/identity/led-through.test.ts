/** Hosts that depend on each other, and one trace for a sign-in. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { startOtlpReceiver } from "../../support/otlp-receiver.ts";
import { waitFor } from "../../support/wait-for.ts";
import { echoOf, follow, type Installation, startInstallation } from "./installation.ts";

const everyone = { allow_any_authenticated_user: true, pass_identity_headers: true };
const second = { idp_client_id: "second", idp_client_secret: "the secret of second and nobody else" };

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

test("whoever signs in to a route is led through the hosts that it depends on, and is known there", async (t) => {
  const at = await start(t);
  const visitor = at.visitor();
  const { hops, end } = await follow(visitor, at.url("front", "/page?a=1"));
  assert.equal(echoOf(end).url, "/page?a=1");
  const callbacks = hops.filter(({ pathname }) => pathname === "/.pomerium/callback/").map(({ hostname }) => hostname);
  assert.deepEqual(callbacks, ["front.localhost", "api.localhost", "own.localhost"]);
  for (const host of ["front", "api", "own"]) echoOf(await visitor.request(at.url(host)));
  // Each host has a handle of its own: what one lets slip opens no other.
  const cookie = visitor.cookieHeader(new URL(at.url("front")));
  assert.equal((await at.visitor().request(at.url("api"), { headers: { cookie } })).status, 302);
  // Another host, that nobody depends on, knows nobody yet.
  assert.equal((await visitor.request(at.url("app"))).status, 302);
});

test("nobody is led through hosts by a link that this installation has not signed, nor to a host of no route", async (t) => {
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
  // A callback that was made for one browser signs in no other.
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
  const ours = hops.filter(({ pathname }) => /^\/\.pomerium\/(?:sign_in|callback\/)$/.test(pathname));
  assert.ok(ours.length >= 7);
  for (const { searchParams, href } of ours) assert.equal(searchParams.get("pomerium_traceparent"), traceparent, href);
  // Nothing that only looks like one is carried on.
  const odd = await at.visitor().request(at.url("front"), { headers: { traceparent: "00-nonsense" } });
  assert.equal(odd.location?.searchParams.has("pomerium_traceparent"), false);
});

test("with a collector, every request of a sign-in is a span of one trace, below the one that sent the browser there", async (t) => {
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
  const led = hops.filter(({ hostname }) => hostname !== "idp.localhost").slice(0, -1);
  /** From the root, each below the one before. */
  const chain = (): readonly string[] => {
    const found: string[] = [];
    for (let parent = ""; ; ) {
      const next = collector.spans.find(
        ({ traceId, parentSpanId }) => (parentSpanId ?? "") === parent && (parent !== "" || traceId === rootTrace()),
      );
      if (next === undefined) return found;
      found.push(String(next.attributes["url.path"]));
      parent = next.spanId;
    }
  };
  /** Of the trace that passed through the authenticate host. */
  const rootTrace = (): string | undefined =>
    collector.spans.find(({ attributes }) => attributes["url.path"] === "/oauth2/callback")?.traceId;
  const expected = led.map(({ pathname }) => pathname);
  await waitFor("one chain of spans", () => JSON.stringify(chain()) === JSON.stringify(expected));
});
