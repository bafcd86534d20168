/**
 * Routes and staleness, on a real proxy that is cut off: `deny` routes end with the lease, `serve` routes after their
 * own grace, and a route without a setting follows the default.
 *
 * Every denial is temporary, and the routes recover with the next grant.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { hammer, openSocket } from "./client.ts";
import { type Cluster, startCluster } from "./cluster.ts";

let cluster: Cluster;
/** In the order in which they start to deny; the last one has a grace of a minute. */
const routes = ["strict", "instant", "app", "longer", "plain"] as const;

before(
  async () => {
    cluster = await startCluster({
      timing: "short", // lease 2 s; `app` has a grace of 2 s
      regions: ["north", "south"],
      relayed: "proxy-2",
      moreRoutes: {
        instant: { on_stale: "serve", stale_grace: "0s" },
        longer: { on_stale: "serve", stale_grace: "8s" },
        plain: {},
      },
    });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

test("without brokers each route serves for its own grace and then closes its streams; all routes recover with the next grant", {
  timeout: 240_000,
}, async (t) => {
  const proxy = cluster.proxy(2);
  const { relays } = cluster;
  const session = await cluster.session("alice");
  const at = (route: string) => ({ port: proxy.ports.address, host: cluster.host(route), cookie: session.cookie });
  const hammering = hammer(
    routes.map((name) => ({ name, target: at(name) })),
    { callers: 1 },
  );
  t.after(() => hammering.stop());
  const count = (name: string, since: number, which: "permitted" | "denied"): number =>
    hammering.shots.filter(
      (shot) => shot.name === name && shot.sentAt >= since && shot.permitted === (which === "permitted"),
    ).length;
  await waitFor("all routes to permit", () => routes.every((name) => count(name, 0, "permitted") > 5), {
    withinMs: 20_000,
  });
  const sockets = await Promise.all(routes.map(async (name) => [name, await openSocket(at(name))] as const));

  const cutAt = performance.now();
  for (const relay of [...relays.brokers, relays.nats]) relay.freeze();
  const [last, ...endingRoutes] = routes.toReversed();
  await waitFor(
    "all routes but the one with the longest grace to deny",
    () => endingRoutes.every((name) => count(name, cutAt, "denied") > 3),
    {
      withinMs: 30_000,
    },
  );
  const deniedFrom = routes.slice(0, -1).map((name) => {
    const denied = hammering.shots.filter((shot) => shot.name === name && shot.sentAt >= cutAt && !shot.permitted);
    assert.deepEqual(
      [...new Set(denied.map(({ status }) => status))],
      [503],
      `${name}: every denial is a temporary 503`,
    );
    const first = Math.min(...denied.map(({ sentAt }) => sentAt));
    const lastPermitted = Math.max(
      ...hammering.shots.filter((shot) => shot.name === name && shot.permitted).map(({ sentAt }) => sentAt),
    );
    assert.ok(lastPermitted <= first, `${name}: permitted after a denial`);
    t.diagnostic(`${name}: denied from ${Math.round(first - cutAt)} ms after the cut`);
    return first;
  });
  const [strict = 0, instant = 0, app = 0, longer = 0] = deniedFrom;
  assert.ok(app > Math.max(strict, instant) && longer > app, "the routes deny in the order of their graces");
  for (const [name, socket] of sockets) {
    if (name === last) assert.equal(socket.isOpen(), true, "a stream stays open within the grace of its route");
    else assert.equal((await socket.closed).code, 4503, name);
  }
  const [any, all] = await Promise.all([proxy.readiness(), proxy.readiness("?routes=all")]);
  assert.deepEqual([any.status, all.status], [200, 503], "ready, but not for all routes");
  assert.ok(any.routes.served >= 1 && any.routes.served < any.routes.total, JSON.stringify(any.routes));
  const countedFrom = performance.now();
  await waitFor("the route with the longest grace to permit", () => count(String(last), countedFrom, "permitted") > 10);
  assert.equal(count(String(last), cutAt, "denied"), 0);

  for (const relay of [...relays.brokers, relays.nats]) relay.thaw();
  await proxy.ready();
  await waitFor(
    "the proxy to be ready for all routes",
    async () => (await proxy.readiness("?routes=all")).status === 200,
  );
  assert.equal((await proxy.readiness()).routes.share, 1);
  const backAt = performance.now();
  await waitFor("all routes to permit again", () => routes.every((name) => count(name, backAt, "permitted") > 5), {
    withinMs: 20_000,
  });
  await hammering.stop();
});
