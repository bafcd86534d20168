/**
 * What each route says of staleness, on a real proxy that is cut off from everything: `deny` at the end of the lease,
 * `serve` for its own grace and not a neighbour's, and the default for who says nothing. None of it lets a revoked
 * session in once a receipt is complete.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { hammer, openSocket } from "./client.ts";
import { type Cluster, startCluster } from "./cluster.ts";

let cluster: Cluster;
/** In the order in which they end; the last one's grace is a minute. */
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

test("a proxy without brokers: each route goes on for as long as it says, and closes its streams then; all of them come back with a grant", {
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
  const [last, ...ending] = routes.toReversed();
  await waitFor("all but the longest to deny", () => ending.every((name) => count(name, cutAt, "denied") > 3), {
    withinMs: 30_000,
  });
  const ends = routes.slice(0, -1).map((name) => {
    const denied = hammering.shots.filter((shot) => shot.name === name && shot.sentAt >= cutAt && !shot.permitted);
    assert.deepEqual(
      [...new Set(denied.map(({ status }) => status))],
      [503],
      `${name}: and it says that it is for now`,
    );
    const first = Math.min(...denied.map(({ sentAt }) => sentAt));
    const lastPermitted = Math.max(
      ...hammering.shots.filter((shot) => shot.name === name && shot.permitted).map(({ sentAt }) => sentAt),
    );
    assert.ok(lastPermitted <= first, `${name}: nothing is permitted again`);
    t.diagnostic(`${name}: denied from ${Math.round(first - cutAt)} ms after the cut on`);
    return first;
  });
  const [strict = 0, instant = 0, app = 0, longer = 0] = ends;
  assert.ok(app > Math.max(strict, instant) && longer > app, "each in its turn");
  for (const [name, socket] of sockets) {
    if (name === last) assert.equal(socket.isOpen(), true, "a stream within its grace is left alone");
    else assert.equal((await socket.closed).code, 4503, name);
  }
  const [any, all] = await Promise.all([proxy.readiness(), proxy.readiness("?routes=all")]);
  assert.deepEqual([any.status, all.status], [200, 503], "ready, but not for all routes");
  assert.ok(any.routes.served >= 1 && any.routes.served < any.routes.total, JSON.stringify(any.routes));
  const stillAt = performance.now();
  await waitFor("the longest to go on", () => count(String(last), stillAt, "permitted") > 10);
  assert.equal(count(String(last), cutAt, "denied"), 0);

  for (const relay of [...relays.brokers, relays.nats]) relay.thaw();
  await proxy.ready();
  await waitFor("it to be ready for all routes", async () => (await proxy.readiness("?routes=all")).status === 200);
  assert.equal((await proxy.readiness()).routes.share, 1);
  const backAt = performance.now();
  await waitFor("all routes to permit again", () => routes.every((name) => count(name, backAt, "permitted") > 5), {
    withinMs: 20_000,
  });
  await hammering.stop();
});
